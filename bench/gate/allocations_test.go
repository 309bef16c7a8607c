// Package gate checks the promises about speed that can be checked exactly:
// allocations, and the number of operations of a call (in builds with the tag
// condvar_explore). It measures no time, so the machine does not matter.
package gate

import (
	"context"
	"runtime"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"example.com/condvar"
)

// Nothing here allocates in the steady state. Allocations of the runtime do not
// count: testing.AllocsPerRun rounds down.
func TestAllocations(t *testing.T) {
	const runs = 1000
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	for name, ctx := range map[string]context.Context{"none": context.Background(), "cancel": ctx} {
		t.Run("PingPong/ctx="+name, func(t *testing.T) {
			var mu sync.Mutex
			ping, pong, turn := condvar.NewCond(&mu), condvar.NewCond(&mu), 0
			play := func(mine, rounds int, own, other *condvar.Cond) {
				mu.Lock()
				defer mu.Unlock()
				for range rounds {
					for turn != mine {
						_ = own.Wait(ctx)
					}
					turn = 1 - mine
					other.Notify()
				}
			}
			var wg sync.WaitGroup
			// AllocsPerRun has one more run.
			wg.Go(func() { play(1, 1+runs, pong, ping) })
			require.Zero(t, testing.AllocsPerRun(runs, func() { play(0, 1, ping, pong) }))
			wg.Wait()
		})

		t.Run("Broadcast/ctx="+name, func(t *testing.T) {
			const waiters = 32
			var mu sync.Mutex
			c, arrived, generation := condvar.NewCond(&mu), 0, 0
			play := func(rounds int) {
				mu.Lock()
				defer mu.Unlock()
				for range rounds {
					arrived++
					if arrived == waiters+1 {
						arrived = 0
						generation++
						c.NotifyAll()
						continue
					}
					for g := generation; g == generation; {
						_ = c.Wait(ctx)
					}
				}
			}
			var wg sync.WaitGroup
			for range waiters {
				wg.Go(func() { play(1 + runs) })
			}
			require.Zero(t, testing.AllocsPerRun(runs, func() { play(1) }))
			wg.Wait()
		})
	}

	t.Run("WaitFor", func(t *testing.T) {
		var mu sync.Mutex
		c, asked := condvar.NewCond(&mu), make(chan struct{})
		defer close(asked)
		go func() {
			for range asked {
				for range 2 { // of which the first is futile
					for c.Waiters() == 0 {
						runtime.Gosched()
					}
					c.Notify()
				}
			}
		}()
		looks := 0
		pred := func() bool { looks++; return looks%3 == 0 }
		require.Zero(t, testing.AllocsPerRun(runs, func() {
			mu.Lock()
			defer mu.Unlock()
			asked <- struct{}{}
			_ = c.WaitFor(ctx, pred)
		}))
		require.Equal(t, 3*(1+runs), looks)
	})

	t.Run("Listen", func(t *testing.T) {
		c := condvar.NewCond(new(sync.Mutex))
		require.EqualValues(t, 2, testing.AllocsPerRun(runs, func() { c.Listen().Stop() }))
	})

	t.Run("Event", func(t *testing.T) {
		var e condvar.Event
		asked := make(chan struct{})
		defer close(asked)
		go func() {
			for range asked {
				for e.Waiters() == 0 {
					runtime.Gosched()
				}
				e.Set()
				e.Clear()
			}
		}()
		require.Zero(t, testing.AllocsPerRun(runs, func() {
			asked <- struct{}{}
			_ = e.Wait(ctx)
		}))
	})

	for name, opts := range map[string][]condvar.Option{"default": nil, "FIFO": {condvar.FIFO()}} {
		t.Run("Uncontended/"+name, func(t *testing.T) {
			r := condvar.NewCapacityResource(1, opts...)
			require.Zero(t, testing.AllocsPerRun(runs, func() {
				_ = r.Acquire(ctx)
				r.Release()
			}))
		})

		t.Run("Overload/"+name, func(t *testing.T) {
			r := condvar.NewCapacityResource(1, append(opts, condvar.MaxWaiting(1), condvar.MaxWait(20*time.Microsecond))...)
			require.EqualValues(t, 1, testing.AllocsPerRun(runs, func() {
				p, _ := r.AcquirePermit(ctx, 1)
				p.Release()
			}), "the Permit")
			require.True(t, r.TryAcquire())
			require.Zero(t, testing.AllocsPerRun(runs, func() { _ = r.Acquire(ctx) }), "a wait that MaxWait ends")
			none := condvar.NewCapacityResource(1, append(opts, condvar.MaxWaiting(0))...)
			require.True(t, none.TryAcquire())
			require.Zero(t, testing.AllocsPerRun(runs, func() { _ = none.Acquire(ctx) }), "a rejection")
		})

		t.Run("Contended/"+name, func(t *testing.T) {
			r := condvar.NewCapacityResource(1, opts...)
			asked := make(chan struct{})
			defer close(asked)
			require.True(t, r.TryAcquire())
			go func() {
				for range asked {
					for r.Stats().Waiting == 0 {
						runtime.Gosched()
					}
					r.Release()
				}
			}()
			require.Zero(t, testing.AllocsPerRun(runs, func() {
				asked <- struct{}{}
				_ = r.Acquire(ctx)
			}))
			require.EqualValues(t, 1+runs, r.Stats().WaitCount, "each of them waited")
		})
	}
}
