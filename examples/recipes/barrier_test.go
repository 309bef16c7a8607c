package recipes_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"example.com/condvar"
)

// ErrBroken is the error of those whose Barrier was reset or is broken.
var ErrBroken = errors.New("barrier is broken")

// A Barrier lets goroutines, its parties, pass only together, again and again.
type Barrier struct {
	changed *condvar.Cond // the state has; L guards it and inside
	parties int
	action  func()
	state   string
	inside  int // those who have arrived and not left yet
}

// The states of a Barrier. Whoever arrives while others leave waits until it
// is filling again; so two generations never mix.
const (
	filling   = "filling"   // those who arrive wait for the others
	draining  = "draining"  // all have arrived, and leave
	resetting = "resetting" // those inside leave with ErrBroken
	broken    = "broken"    // everybody leaves with ErrBroken until Reset
)

// NewBarrier returns a Barrier for a number of parties. The last one to arrive
// calls action, if that is not nil, before anybody leaves; action must not use
// the Barrier.
func NewBarrier(parties int, action func()) *Barrier {
	if parties <= 0 {
		panic("a barrier needs at least one party")
	}
	if action == nil {
		action = func() {}
	}
	return &Barrier{changed: condvar.NewCond(new(sync.Mutex)), parties: parties, action: action, state: filling}
}

// Wait waits until all parties have arrived. Each gets another index, from 0
// on, in the order in which they leave. If ctx is canceled meanwhile, the party
// has not arrived, and another may come in its place; but if the deadline
// passes, somebody has failed to come, and the Barrier breaks for everybody.
func (b *Barrier) Wait(ctx context.Context) (index int, err error) {
	b.changed.L.Lock()
	defer b.changed.L.Unlock()
	err = b.changed.WaitFor(ctx, func() bool { return b.state == filling || b.state == broken })
	switch {
	case err != nil:
		return -1, err
	case b.state == broken:
		return -1, ErrBroken
	}

	b.inside++
	defer func() { // after the index has been computed
		if b.inside--; b.inside == 0 {
			b.setLocked(b.state)
		}
	}()
	if b.inside == b.parties {
		b.setLocked(broken) // it stays so if action panics
		b.action()
		b.state = draining // nobody has seen broken: they need L for that
	}
	err = b.changed.WaitFor(ctx, func() bool { return b.state != filling })
	switch {
	case errors.Is(err, context.DeadlineExceeded):
		b.setLocked(broken)
		return -1, fmt.Errorf("%w: %w", ErrBroken, err)
	case err != nil:
		return -1, err
	case b.state != draining:
		return -1, ErrBroken
	}
	return b.parties - b.inside, nil
}

// setLocked changes the state, which is filling or broken if nobody is inside.
// Those inside and those kept out wait for different states: hence NotifyAll.
func (b *Barrier) setLocked(state string) {
	if b.inside == 0 && state != broken {
		state = filling
	}
	b.state = state
	b.changed.NotifyAll()
}

// Reset sends everybody inside away with ErrBroken, and mends a broken Barrier.
func (b *Barrier) Reset() {
	b.changed.L.Lock()
	defer b.changed.L.Unlock()
	b.setLocked(resetting)
}

// Abort breaks the Barrier: Wait returns ErrBroken until it is Reset.
func (b *Barrier) Abort() {
	b.changed.L.Lock()
	defer b.changed.L.Unlock()
	b.setLocked(broken)
}

// Waiting returns how many have arrived and wait for the others.
func (b *Barrier) Waiting() int {
	b.changed.L.Lock()
	defer b.changed.L.Unlock()
	if b.state != filling {
		return 0
	}
	return b.inside
}

// String describes the Barrier in the form "filling, 2/3".
func (b *Barrier) String() string {
	b.changed.L.Lock()
	defer b.changed.L.Unlock()
	return fmt.Sprintf("%s, %d/%d", b.state, b.inside, b.parties)
}

// A barrier between the rounds of a computation. Cond is what such types are
// made of: this one has four states, and a context for each wait.
func Example_barrier() {
	cells := []int{1, 2, 3}
	barrier := NewBarrier(len(cells), func() { fmt.Println(cells) })

	g, ctx := errgroup.WithContext(context.Background())
	for i := range cells {
		g.Go(func() error {
			for range 3 {
				cells[i] *= 2
				// If one fails, ctx is canceled, and nobody waits for it.
				if _, err := barrier.Wait(ctx); err != nil {
					return fmt.Errorf("cell %d: %w", i, err)
				}
			}
			return nil
		})
	}
	if err := g.Wait(); err != nil {
		fmt.Println(err)
		return
	}

	// Here the others fail to come.
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Millisecond)
	defer cancel()
	_, err := barrier.Wait(ctx)
	fmt.Println(err)
	fmt.Println(barrier)
	barrier.Reset()
	fmt.Println(barrier)

	// Output:
	// [2 4 6]
	// [4 8 12]
	// [8 16 24]
	// barrier is broken: context deadline exceeded
	// broken, 0/3
	// filling, 0/3
}
