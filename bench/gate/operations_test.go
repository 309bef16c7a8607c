//go:build condvar_explore

package gate

import (
	"context"
	"sync"
	"testing"
	"testing/synctest"

	"github.com/stretchr/testify/require"

	"example.com/condvar"
	"example.com/condvar/internal/primitives"
)

// Operations are the cost of a call on any machine. A lock is a Lock of a
// mutex, with its Unlock; a store is any atomic operation that writes.
type operations struct {
	locks, loads, stores, sends int
	// holding is how many mutexes were held when the first token was sent. A
	// woken call may block on them, so a resource sends after it has unlocked.
	// A waiter of a Cond does not need the mutex, and sending with it held is
	// faster.
	holding int
}

// A counter is an Explorer that only counts.
type counter struct {
	mu    sync.Mutex
	count operations
	held  int
	// sentLocked is how many tokens were sent with a mutex held. It is exact if
	// the woken goroutines lock none.
	sentLocked int
	// atSend, if not nil, is called once, before the first send.
	atSend func()
}

func (c *counter) Step(op primitives.Op, _ any) {
	var atSend func()
	defer func() {
		if atSend != nil {
			atSend()
		}
	}()
	c.mu.Lock()
	defer c.mu.Unlock()
	switch op {
	case primitives.OpLock:
		c.count.locks++
		c.held++
	case primitives.OpLoad:
		c.count.loads++
	case primitives.OpStore:
		c.count.stores++
	case primitives.OpSend:
		// Until the first send, only the sender runs.
		if c.count.sends == 0 {
			c.count.holding = c.held
		}
		c.count.sends++
		if c.held > 0 {
			c.sentLocked++
		}
		atSend, c.atSend = c.atSend, nil
	}
}

func (c *counter) Unlocked(any) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.held--
}

func (c *counter) Select(token, done <-chan struct{}) (_, _ <-chan struct{}) { return token, done }

// TimedSelect is part of primitives.Explorer. No timer fires.
func (c *counter) TimedSelect(token, done <-chan struct{}) (_, _ <-chan struct{}, late bool) {
	return token, done, false
}

func (c *counter) Recycling() bool { return true }

// TestOperations has a table of exact costs, so that no change of them goes
// unnoticed.
func TestOperations(t *testing.T) {
	for _, test := range []struct {
		name string
		// prepare makes a scene, and returns the function to count. It runs
		// once before the count, for the steady state.
		prepare func(ctx context.Context) func()
		want    operations
	}{
		{
			"Notify, nobody waits",
			func(context.Context) func() {
				c := condvar.NewCond(new(sync.Mutex))
				return func() { c.Notify() }
			},
			operations{loads: 1},
		},
		{
			"NotifyAll, nobody waits",
			func(context.Context) func() {
				c := condvar.NewCond(new(sync.Mutex))
				return func() { c.NotifyAll() }
			},
			operations{loads: 1},
		},
		{
			"Wait with a context that cannot end, Notify",
			func(context.Context) func() {
				c := condvar.NewCond(new(sync.Mutex))
				return func() {
					gather(1, waitOn(context.Background(), c))
					c.Notify()
				}
			},
			operations{locks: 2, loads: 3, stores: 4, sends: 1, holding: 1},
		},
		{
			// Wait takes the lock to join, and Notify takes it. A load and a
			// compare-and-swap take a waiter from the pool, and the same put it
			// back, without the lock.
			"Wait, Notify",
			func(ctx context.Context) func() {
				c := condvar.NewCond(new(sync.Mutex))
				return func() {
					gather(1, waitOn(ctx, c))
					c.Notify()
				}
			},
			operations{locks: 2, loads: 4, stores: 4, sends: 1, holding: 1},
		},
		{
			"three Waits, NotifyAll",
			func(ctx context.Context) func() {
				c := condvar.NewCond(new(sync.Mutex))
				return func() {
					gather(3, waitOn(ctx, c))
					c.NotifyAll()
				}
			},
			operations{locks: 4, loads: 10, stores: 8, sends: 3, holding: 1},
		},
		{
			"Wait, canceled",
			func(context.Context) func() {
				c := condvar.NewCond(new(sync.Mutex))
				return func() {
					ctx, cancel := context.WithCancel(context.Background())
					gather(1, waitOn(ctx, c))
					cancel()
				}
			},
			operations{locks: 2, loads: 2, stores: 4},
		},
		{
			"WaitFor, a futile Notify and another",
			func(ctx context.Context) func() {
				c, looks := condvar.NewCond(new(sync.Mutex)), 0
				return func() {
					gather(1, func() {
						c.L.Lock()
						defer c.L.Unlock()
						_ = c.WaitFor(ctx, func() bool { looks++; return looks%3 == 0 })
					})
					c.Notify()
					synctest.Wait()
					c.Notify()
				}
			},
			operations{locks: 4, loads: 8, stores: 8, sends: 2, holding: 1},
		},
		{
			"Listen, Notify, Stop",
			func(context.Context) func() {
				c := condvar.NewCond(new(sync.Mutex))
				return func() {
					l := c.Listen()
					c.Notify()
					<-l.C
					l.Stop()
				}
			},
			operations{locks: 3, loads: 2, stores: 2, sends: 1, holding: 1},
		},
		{
			"Event.Wait, set",
			func(ctx context.Context) func() {
				var e condvar.Event
				e.Set()
				return func() { _ = e.Wait(ctx) }
			},
			operations{loads: 1},
		},
		{
			"Event.Wait, Set, Clear",
			func(ctx context.Context) func() {
				var e condvar.Event
				return func() {
					gather(1, func() { _ = e.Wait(ctx) })
					e.Set()
					e.Clear()
				}
			},
			operations{locks: 3, loads: 6, stores: 6, sends: 1, holding: 1},
		},
		{
			"Acquire, Release",
			func(ctx context.Context) func() {
				r := condvar.NewCapacityResource(1)
				return func() {
					_ = r.Acquire(ctx)
					r.Release()
				}
			},
			operations{loads: 2, stores: 2},
		},
		{
			"TryAcquireN, ReleaseN",
			func(context.Context) func() {
				r := condvar.NewCapacityResource(3, condvar.FIFO())
				return func() {
					r.TryAcquireN(3)
					r.ReleaseN(3)
				}
			},
			operations{loads: 2, stores: 2},
		},
		{
			// Each takes the lock to join and, once woken, to look again; so
			// does the release that wakes it.
			"one Acquire that waits",
			func(ctx context.Context) func() { return handOver(ctx, 1) },
			operations{locks: 3, loads: 12, stores: 12, sends: 1},
		},
		{
			"three Acquires that wait",
			func(ctx context.Context) func() { return handOver(ctx, 3) },
			operations{locks: 9, loads: 32, stores: 28, sends: 3},
		},
		{
			// The second release comes after the first has woken the head, and
			// before the head has run. It takes the lock, as a call waits, and
			// wakes no call.
			"one Acquire that waits, a Release while it is awake",
			func(ctx context.Context) func() {
				r := condvar.NewCapacityResource(2)
				return func() {
					r.TryAcquireN(2)
					gather(1, func() { _ = r.Acquire(ctx) })
					primitives.Explore.(*counter).atSend = r.Release
					r.Release()
					synctest.Wait()
					r.Release()
				}
			},
			operations{locks: 4, loads: 14, stores: 14, sends: 1},
		},
		{
			// Each takes the lock to join. A release hands it a permit, and it
			// does not take the lock again.
			"three Acquires that wait, FIFO",
			func(ctx context.Context) func() { return handOver(ctx, 3, condvar.FIFO()) },
			operations{locks: 6, loads: 26, stores: 12, sends: 3},
		},
		{
			// One of the loads reads Done, since MaxWait may have ended the
			// wait.
			"Acquire, canceled",
			func(context.Context) func() {
				r := condvar.NewCapacityResource(1)
				r.TryAcquire()
				return func() {
					ctx, cancel := context.WithCancel(context.Background())
					gather(1, func() { _ = r.Acquire(ctx) })
					cancel()
				}
			},
			operations{locks: 2, loads: 7, stores: 8},
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var c counter
				primitives.Explore = &c
				defer func() { primitives.Explore = nil }()
				ctx, cancel := context.WithCancel(context.Background())
				defer cancel()
				run := test.prepare(ctx)
				run()
				synctest.Wait()
				c.count = operations{}
				run()
				synctest.Wait()
				require.Equal(t, test.want, c.count)
			})
		})
	}
}

// A NotifyAll sends with the mutex held, which is faster, but only a limited
// number, so that it does not hold the mutex for long.
func TestNotifyAllOfManyUnlocksAfterTheFirstThousand(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const many, sentLocked = 1100, 1000
		c := condvar.NewCond(new(sync.Mutex))
		gather(many, waitOn(t.Context(), c))
		var count counter
		primitives.Explore = &count
		defer func() { primitives.Explore = nil }()
		require.Equal(t, many, c.NotifyAll())
		synctest.Wait()
		require.Equal(t, many, count.count.sends)
		require.Equal(t, sentLocked, count.sentLocked)
	})
}

// handOver returns a function that takes the one permit, starts waiters for it,
// and releases it. Each waiter passes it on when all others are parked.
func handOver(ctx context.Context, waiters int, opts ...condvar.Option) func() {
	r := condvar.NewCapacityResource(1, opts...)
	return func() {
		r.TryAcquire()
		gather(waiters, func() { _ = r.Acquire(ctx) })
		for range waiters + 1 {
			r.Release()
			synctest.Wait()
		}
	}
}

func waitOn(ctx context.Context, c *condvar.Cond) func() {
	return func() {
		c.L.Lock()
		defer c.L.Unlock()
		_ = c.Wait(ctx)
	}
}

// gather starts goroutines, one after the other, and returns when all of them
// are parked.
func gather(n int, wait func()) {
	for range n {
		go wait()
		synctest.Wait()
	}
}
