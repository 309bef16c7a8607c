package load

import (
	"context"
	"sync"
	"time"

	"github.com/creachadair/msync/trigger"

	"example.com/condvar"
)

// A cond is a condition variable. Its Wait returns when it is notified, or when
// ctx ends.
type cond interface {
	Wait(ctx context.Context)
	Signal()
	Broadcast()
}

type newCond func(l sync.Locker) cond

func ours(l sync.Locker) cond      { return ourCond{condvar.NewCond(l)} }
func standard(l sync.Locker) cond  { return standardCond{sync.NewCond(l)} }
func afterFunc(l sync.Locker) cond { return afterFuncCond{sync.NewCond(l)} }
func msync(l sync.Locker) cond     { return &triggerCond{l: l} }

type ourCond struct{ *condvar.Cond }

func (c ourCond) Wait(ctx context.Context) { _ = c.Cond.Wait(ctx) }
func (c ourCond) Signal()                  { c.Notify() }
func (c ourCond) Broadcast()               { c.NotifyAll() }

// A standardCond ignores the context.
type standardCond struct{ *sync.Cond }

func (c standardCond) Wait(context.Context) { c.Cond.Wait() }

// An afterFuncCond waits for a context as in the documentation of
// context.AfterFunc.
type afterFuncCond struct{ *sync.Cond }

func (c afterFuncCond) Wait(ctx context.Context) {
	stop := context.AfterFunc(ctx, func() {
		c.L.Lock()
		defer c.L.Unlock()
		c.Broadcast()
	})
	defer stop()
	c.Cond.Wait()
}

// A triggerCond is the condition variable of github.com/creachadair/msync,
// which is a channel that is closed. It can only wake all waiters. They share
// the channel, so its broadcast is the cheapest possible with contexts.
type triggerCond struct {
	trigger.Cond
	l sync.Locker
}

func (c *triggerCond) Wait(ctx context.Context) {
	ready := c.Ready()
	c.l.Unlock()
	defer c.l.Lock()
	select {
	case <-ready:
	case <-ctx.Done():
	}
}

func (c *triggerCond) Broadcast() { c.Signal() }

// A dividedCond is several conds, with at most lineLength waiters in the line
// of each, if there are lines times that many waiters.
type dividedCond struct {
	lines  []cond
	joined int
}

const lineLength = 1000

// divided returns a function that makes a dividedCond. Its conds share the
// lock, so only the length of the lines differs from one cond with as many
// waiters.
func divided(lines int, build newCond) newCond {
	return func(l sync.Locker) cond {
		c := &dividedCond{}
		for range lines {
			c.lines = append(c.lines, build(l))
		}
		return c
	}
}

func (c *dividedCond) Wait(ctx context.Context) {
	line := c.lines[c.joined/lineLength%len(c.lines)]
	c.joined++
	line.Wait(ctx)
}

func (c *dividedCond) Signal() { c.lines[0].Signal() }

func (c *dividedCond) Broadcast() {
	for _, line := range c.lines {
		line.Broadcast()
	}
}

// contexts is the kind of contexts that a goroutine waits with.
type contexts string

const (
	noContext  contexts = "none"   // its waits cannot be canceled
	oneContext contexts = "cancel" // a context that can end, for all of its waits
	newForEach contexts = "new"    // a context that can end, for each wait
)

// newContext returns a context that can end, or one that cannot.
func newContext(cancelable bool) (context.Context, context.CancelFunc) {
	if cancelable {
		return context.WithCancel(context.Background())
	}
	return context.Background(), func() {}
}

// idle notifies without a waiter.
func idle(notify func(c cond), build newCond) Body {
	return func(t Timer, n int) Extra {
		c := build(&sync.Mutex{})
		c.Signal() // the first call on a Cond does more
		t.StartTimer()
		for range n {
			notify(c)
		}
		t.StopTimer()
		return nil
	}
}

// A game is the state that the two goroutines of pingPong share.
type game struct {
	mu    sync.Mutex
	conds [2]cond
	turn  int // whose turn it is
}

// pingPong runs two goroutines that take turns. Each waits on its own cond.
// play takes n turns of one of them. An operation is a turn of both.
func pingPong(play func(g *game, mine, n int), build newCond) Body {
	return func(t Timer, n int) Extra {
		var g game
		g.conds = [2]cond{build(&g.mu), build(&g.mu)}
		wg := gather(1, func() { play(&g, 1, n) })
		t.StartTimer()
		play(&g, 0, n)
		wg.Wait()
		t.StopTimer()
		return nil
	}
}

// inLoop returns a player that waits in a loop.
func inLoop(ctxs contexts) func(g *game, mine, n int) {
	return func(g *game, mine, n int) {
		own, other := g.conds[mine], g.conds[1-mine]
		ctx, cancel := newContext(ctxs == oneContext)
		defer cancel()
		g.mu.Lock()
		defer g.mu.Unlock()
		for range n {
			for g.turn != mine {
				if ctxs == newForEach {
					ctx, cancel := newContext(true)
					own.Wait(ctx)
					cancel()
				} else {
					own.Wait(ctx)
				}
			}
			g.turn = 1 - mine
			other.Signal()
		}
	}
}

// byWaitFor is a player that waits in our WaitFor.
func byWaitFor(g *game, mine, n int) {
	own, other := g.conds[mine].(ourCond), g.conds[1-mine]
	g.mu.Lock()
	defer g.mu.Unlock()
	for range n {
		must(own.WaitFor(context.Background(), func() bool { return g.turn == mine }))
		g.turn = 1 - mine
		other.Signal()
	}
}

// pingPongChannels is the floor: pingPong with channels only.
func pingPongChannels(ctxs contexts) Body {
	return func(t Timer, n int) Extra {
		ping, pong := make(chan struct{}, 1), make(chan struct{}, 1)
		play := func(own <-chan struct{}, other chan<- struct{}) {
			ctx, cancel := newContext(ctxs == oneContext)
			defer cancel()
			for range n {
				switch ctxs {
				case noContext:
					<-own
				case oneContext:
					select {
					case <-own:
					case <-ctx.Done():
					}
				case newForEach:
					ctx, cancel := newContext(true)
					select {
					case <-own:
					case <-ctx.Done():
					}
					cancel()
				}
				other <- struct{}{}
			}
		}
		wg := gather(1, func() { play(pong, ping) })
		t.StartTimer()
		ping <- struct{}{}
		play(ping, pong)
		wg.Wait()
		t.StopTimer()
		return nil
	}
}

// broadcast runs a crowd, n times, in which the last to arrive wakes all
// others, as in BenchmarkCond32 of package sync.
func broadcast(waiters int, ctxs contexts, build newCond) Body {
	return func(t Timer, n int) Extra {
		var mu sync.Mutex
		c, arrived, generation := build(&mu), 0, 0
		play := func() {
			ctx, cancel := newContext(ctxs == oneContext)
			defer cancel()
			for range n {
				mu.Lock()
				arrived++
				if arrived == waiters+1 {
					arrived = 0
					generation++
					c.Broadcast()
				} else {
					for g := generation; g == generation; {
						c.Wait(ctx)
					}
				}
				mu.Unlock()
			}
		}
		wg := gather(waiters, play)
		t.StartTimer()
		play()
		wg.Wait()
		t.StopTimer()
		return nil
	}
}

// waitOn returns a waitFunc that waits once for c, whose lock is mu.
func waitOn(mu *sync.Mutex, c cond) waitFunc {
	return func(ctx context.Context) {
		mu.Lock()
		defer mu.Unlock()
		c.Wait(ctx)
	}
}

// onCond makes a workload of canceled or storm for conds.
func onCond(f func(Timer, int, int, waitFunc) Extra, waiters int, build newCond) Body {
	return func(t Timer, n int) Extra {
		var mu sync.Mutex
		return f(t, n, waiters, waitOn(&mu, build(&mu)))
	}
}

// onChannels is the floor of onCond: each goroutine only waits for a channel of
// its own and for its context.
func onChannels(f func(Timer, int, int, waitFunc) Extra, waiters int) Body {
	return func(t Timer, n int) Extra {
		return f(t, n, waiters, func(ctx context.Context) {
			select {
			case <-make(chan struct{}, 1):
			case <-ctx.Done():
			}
		})
	}
}

// notifyAllChannel is the floor of notifyAll: a channel is closed.
func notifyAllChannel(waiters int) Body {
	return func(t Timer, n int) Extra {
		for range n {
			gate := make(chan struct{})
			wg := gather(waiters, func() { <-gate })
			t.StartTimer()
			close(gate)
			wg.Wait()
			t.StopTimer()
		}
		return perWaiter(t, n, waiters)
	}
}

// notifyAll wakes a crowd in line. An operation is a crowd.
func notifyAll(waiters int, build newCond) Body {
	return func(t Timer, n int) Extra {
		var mu sync.Mutex
		c := build(&mu)
		wait := waitOn(&mu, c)
		for range n {
			wg := gather(waiters, func() { wait(context.Background()) })
			t.StartTimer()
			c.Broadcast()
			wg.Wait()
			t.StopTimer()
		}
		return perWaiter(t, n, waiters)
	}
}

// notifyBusy runs a crowd in WaitFor, which NotifyAll wakes. Each then calls
// Notify in its predicate and joins the line again, so that the next Notify has
// a waiter to wake. Meanwhile all that have not called the predicate yet are
// busy. Its waits are the times of Notify. Their median counts: the longest are
// of goroutines that lost their processor in Notify. An operation is a crowd.
func notifyBusy(waiters int) Body {
	return func(t Timer, n int) Extra {
		times := make([]time.Duration, 0, n*waiters)
		for range n {
			var mu sync.Mutex
			c, looked := condvar.NewCond(&mu), 0
			wg := gather(waiters, func() {
				looks := 0
				mu.Lock()
				defer mu.Unlock()
				must(c.WaitFor(context.Background(), func() bool {
					looks++
					if looks != 2 { // 1: at the call, 3: woken by a Notify
						return looks == 3
					}
					start := time.Now()
					c.Notify()
					times = append(times, time.Since(start))
					looked++
					if looked < waiters {
						return false
					}
					c.NotifyAll() // no Notify is left for the waiters in line
					return true
				}))
			})
			t.StartTimer()
			c.NotifyAll()
			wg.Wait()
			t.StopTimer()
		}
		return percentiles(times)
	}
}

// lockHeldNotifyAll measures how long NotifyAll holds the lock of a Cond, with
// a crowd in line. An operation is a crowd.
func lockHeldNotifyAll(waiters int) Body {
	return lockHeld(waiters, func() locked {
		var mu sync.Mutex
		c := condvar.NewCond(&mu)
		return locked{lockOf(c, "mu"), waitOn(&mu, ourCond{c}), func() { c.NotifyAll() }, func() { c.Waiters() }}
	})
}
