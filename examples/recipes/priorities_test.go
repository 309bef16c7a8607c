package recipes_test

import (
	"context"
	"fmt"
	"runtime"
	"sync"

	"example.com/condvar"
)

// A gate admits as many callers as it has free slots, urgent ones before
// others.
type gate struct {
	mu             sync.Mutex
	free           int
	urgent, others condvar.Cond // L of both is mu
	urgentWaiting  int
}

func newGate(slots int) *gate {
	g := &gate{free: slots}
	g.urgent.L, g.others.L = &g.mu, &g.mu
	return g
}

func (g *gate) enter(ctx context.Context, urgent bool) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	if urgent {
		g.urgentWaiting++
		err := g.urgent.WaitFor(ctx, func() bool { return g.free > 0 })
		if g.urgentWaiting--; err != nil {
			g.wake() // the others may have waited only for this call
			return err
		}
	} else if err := g.others.WaitFor(ctx, func() bool { return g.free > 0 && g.urgentWaiting == 0 }); err != nil {
		return err
	}
	g.free--
	g.wake() // there may be another slot
	return nil
}

func (g *gate) leave() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.free++
	g.wake()
}

// wake wakes a caller for a free slot, an urgent one if one waits.
func (g *gate) wake() {
	if g.free > 0 && !g.urgent.Notify() {
		g.others.Notify()
	}
}

// Two priorities, from two Conds with one lock. Other callers starve during a
// stream of urgent callers. To prevent that, count how many were admitted
// before them.
func Example_priorities() {
	ctx := context.Background()
	g := newGate(1)
	_ = g.enter(ctx, false)

	order := make(chan string, 4)
	var calls sync.WaitGroup
	start := func(name string, urgent bool, line *condvar.Cond) {
		before := line.Waiters()
		calls.Go(func() {
			if g.enter(ctx, urgent) == nil {
				order <- name
				g.leave()
			}
		})
		for line.Waiters() == before { // until it is in line, for the output
			runtime.Gosched()
		}
	}
	start("other 1", false, &g.others)
	start("other 2", false, &g.others)
	start("urgent 1", true, &g.urgent)
	start("urgent 2", true, &g.urgent)
	g.leave()
	calls.Wait()
	close(order)
	for name := range order {
		fmt.Println(name)
	}
	// Output:
	// urgent 1
	// urgent 2
	// other 1
	// other 2
}
