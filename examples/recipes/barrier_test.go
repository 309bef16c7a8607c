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

// ErrBroken is the error of Wait if the Barrier was reset or is broken.
var ErrBroken = errors.New("barrier is broken")

// A Barrier lets goroutines, its parties, pass only together. It can be used
// repeatedly.
type Barrier struct {
	changed *condvar.Cond // the state has changed; L guards it and inside
	parties int
	action  func()
	state   string
	inside  int // parties that have arrived and not left yet
}

// The states of a Barrier. A party that arrives while others leave waits until
// it is filling again, so two generations never mix.
const (
	filling   = "filling"   // arrived parties wait for the others
	draining  = "draining"  // all have arrived, and leave
	resetting = "resetting" // the parties inside leave with ErrBroken
	broken    = "broken"    // all parties leave with ErrBroken until Reset
)

// NewBarrier returns a Barrier for a number of parties. The last one to arrive
// calls action, if it is not nil, before any party leaves; action must not use
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

// Wait waits until all parties have arrived. It returns the index of the party,
// counted from 0 in the order in which the parties leave. If ctx is canceled
// first, the party counts as not arrived, and another may arrive in its place.
// If the deadline of ctx passes first, a party has failed to arrive, and the
// Barrier breaks for all.
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
		b.setLocked(broken) // it stays broken if action panics
		b.action()
		b.state = draining // no party has seen broken: that needs L
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

// setLocked changes the state, which is filling or broken if no party is
// inside. It uses NotifyAll because parties inside and parties kept out wait
// for different states.
func (b *Barrier) setLocked(state string) {
	if b.inside == 0 && state != broken {
		state = filling
	}
	b.state = state
	b.changed.NotifyAll()
}

// Reset makes all parties inside leave with ErrBroken, and repairs a broken
// Barrier.
func (b *Barrier) Reset() {
	b.changed.L.Lock()
	defer b.changed.L.Unlock()
	b.setLocked(resetting)
}

// Abort breaks the Barrier: Wait returns ErrBroken until Reset.
func (b *Barrier) Abort() {
	b.changed.L.Lock()
	defer b.changed.L.Unlock()
	b.setLocked(broken)
}

// Waiting returns how many parties have arrived and wait for the others.
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

// A barrier between the rounds of a computation, built on a Cond. It has four
// states, and a context for each wait.
func Example_barrier() {
	cells := []int{1, 2, 3}
	barrier := NewBarrier(len(cells), func() { fmt.Println(cells) })

	g, ctx := errgroup.WithContext(context.Background())
	for i := range cells {
		g.Go(func() error {
			for range 3 {
				cells[i] *= 2
				// If one fails, ctx is canceled, and no party waits for it.
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

	// Here the others do not arrive.
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
