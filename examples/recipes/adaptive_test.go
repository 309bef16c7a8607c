package recipes_test

import (
	"context"
	"fmt"
	"sync"
	"time"

	"example.com/condvar"
)

// An adaptive limit grows by one while its backend answers in time, and shrinks
// by a tenth when it does not (additive increase, multiplicative decrease). A
// Released hook reports how long permits were held.
type adaptive struct {
	slots         *condvar.CapacityResource
	smallest, max int64
	target        time.Duration

	mu        sync.Mutex
	limit     int64 // guarded by mu
	succeeded int64 // answers in time since the last change; guarded by mu
}

func newAdaptive(smallest, limit, max int64, target time.Duration) *adaptive {
	a := &adaptive{smallest: smallest, max: max, target: target, limit: limit}
	a.slots = condvar.NewCapacityResource(limit, condvar.WithHooks(&condvar.Hooks{
		Released: func(_ int64, hold *condvar.Hold, held time.Duration) {
			// Acquire and Release report no hold time.
			if hold != nil {
				a.observe(held)
			}
		},
	}))
	return a
}

// observe changes the limit. It calls Resize with mu held, so that the resource
// gets the changes in order. A Resized hook must not call it.
func (a *adaptive) observe(took time.Duration) {
	a.mu.Lock()
	defer a.mu.Unlock()
	switch {
	case took > a.target:
		a.succeeded, a.limit = 0, max(a.smallest, a.limit*9/10)
	case a.succeeded+1 < a.limit: // a whole round in time: grow by one
		a.succeeded++
		return
	default:
		a.succeeded, a.limit = 0, min(a.max, a.limit+1)
	}
	a.slots.Resize(a.limit)
}

// A limit that adapts itself to the capacity of the backend.
func Example_adaptive() {
	a := newAdaptive(1, 10, 100, 50*time.Millisecond)
	do := func() { // a call that the backend answers at once
		_ = a.slots.Do(context.Background(), func(context.Context) error { return nil })
	}
	for range 10 {
		do()
	}
	fmt.Println(a.slots)
	for range 11 {
		do()
	}
	fmt.Println(a.slots)
	for range 3 {
		a.observe(time.Second) // as for a call that took that long
	}
	fmt.Println(a.slots)
	// Output:
	// 0/11 in use, 0 waiting
	// 0/12 in use, 0 waiting
	// 0/8 in use, 0 waiting
}
