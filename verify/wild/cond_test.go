package wild

import (
	"context"
	"sync"
	"testing"
	"testing/synctest"

	"github.com/stretchr/testify/require"

	"example.com/condvar"
)

// A signalCond counts its waiters and signals them over a channel of size 1. A
// waiter whose context ends locks and then decrements the count, or receives
// the signal if it was counted already.
type signalCond struct {
	l       sync.Locker
	waiting int
	ch      chan struct{}
}

func (c *signalCond) signal() {
	if c.waiting > 0 {
		c.waiting--
		c.ch <- struct{}{}
	}
}

func (c *signalCond) wait(ctx context.Context) error {
	c.waiting++
	c.l.Unlock()
	select {
	case <-c.ch:
		c.l.Lock()
		return nil
	case <-ctx.Done():
		c.l.Lock()
		if c.waiting == 0 {
			<-c.ch
		} else {
			c.waiting--
		}
		return ctx.Err()
	}
}

// Two waiters are canceled and about to lock. The holder of the lock signals
// twice. The second signal finds the channel full, and blocks with the lock
// held.
func TestOpenTelemetryCollector15700_TwoCanceledWaitersAndTwoSignals(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newChanLock()
		c := &signalCond{l: l, ch: make(chan struct{}, 1)}
		ctx, cancel := context.WithCancel(t.Context())
		wait := func() error {
			l.Lock()
			defer l.Unlock()
			return c.wait(ctx)
		}
		first, second := start(wait), start(wait)
		l.Lock()
		cancel()
		synctest.Wait()
		signals := start(func() error {
			c.signal()
			c.signal()
			l.Unlock()
			return nil
		})
		signals.requireWaits(t) // forever, with the lock held
		first.requireWaits(t)
		second.requireWaits(t)

		<-c.ch // ends the wait for the test
		signals.requireReturned(t, nil)
		first.requireReturned(t, context.Canceled)
		c.ch <- struct{}{}
		second.requireReturned(t, context.Canceled)
	})
	synctest.Test(t, func(t *testing.T) {
		c := condvar.NewCond(newChanLock())
		ctx, cancel := context.WithCancel(t.Context())
		wait := func() error {
			c.L.Lock()
			defer c.L.Unlock()
			return c.Wait(ctx)
		}
		first, second := start(wait), start(wait)
		c.L.Lock()
		cancel()
		synctest.Wait()
		require.False(t, c.Notify())
		require.False(t, c.Notify())
		c.L.Unlock()
		first.requireReturned(t, context.Canceled)
		second.requireReturned(t, context.Canceled)
	})
}

// A paused sender waits to be resumed, and does not check its context: it
// cannot be stopped while it is paused.
func TestTemporal12005_APausedSenderObeysItsContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var resumed sync.Cond
		resumed.L = newChanLock()
		paused := true
		ctx, cancel := context.WithCancel(t.Context())
		send := start(func() error {
			resumed.L.Lock()
			defer resumed.L.Unlock()
			for paused {
				resumed.Wait()
			}
			return ctx.Err()
		})
		cancel()
		send.requireWaits(t)

		resumed.L.Lock() // ends the wait for the test
		paused = false
		resumed.L.Unlock()
		resumed.Broadcast()
		send.requireReturned(t, context.Canceled)
	})
	synctest.Test(t, func(t *testing.T) {
		var running condvar.Event // not set while paused
		ctx, cancel := context.WithCancel(t.Context())
		send := start(func() error { return running.Wait(ctx) })
		cancel()
		send.requireReturned(t, context.Canceled)
		other := start(func() error { return running.Wait(t.Context()) })
		running.Set()
		other.requireReturned(t, nil)
	})
}

// A context.AfterFunc wakes the wait at the end of the context, without the
// lock. The wake-up comes between the check of the context and the wait, so the
// wait sleeps. The next signal wakes it, and it returns an error: the signal is
// lost.
func TestRueidis_ACancelJustBeforeTheWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := sync.NewCond(newChanLock())
		broadcast := make(chan struct{})
		wait := func(ctx context.Context, between func()) error {
			c.L.Lock()
			defer c.L.Unlock()
			if ctx.Err() != nil {
				return ctx.Err()
			}
			defer context.AfterFunc(ctx, func() {
				c.Broadcast()
				close(broadcast)
			})()
			between()
			c.Wait()
			return ctx.Err()
		}
		ctx, cancel := context.WithCancel(t.Context())
		first := start(func() error {
			return wait(ctx, func() {
				cancel()
				<-broadcast
			})
		})
		first.requireWaits(t)
		second := start(func() error { return wait(t.Context(), func() {}) })
		c.Signal()
		first.requireReturned(t, context.Canceled)
		second.requireWaits(t)

		c.Signal() // ends the wait for the test
		second.requireReturned(t, nil)
	})
	synctest.Test(t, func(t *testing.T) {
		c := condvar.NewCond(newChanLock())
		ctx, cancel := context.WithCancel(t.Context())
		first := start(func() error {
			c.L.Lock()
			defer c.L.Unlock()
			return c.Wait(cancelsLater{ctx, cancel})
		})
		first.requireReturned(t, context.Canceled)
		second := start(func() error {
			c.L.Lock()
			defer c.L.Unlock()
			return c.Wait(t.Context())
		})
		require.True(t, c.Notify())
		second.requireReturned(t, nil)
	})
}

// A cancelsLater is canceled by Done, after a check of Err.
type cancelsLater struct {
	context.Context
	cancel context.CancelFunc
}

func (c cancelsLater) Done() <-chan struct{} {
	c.cancel()
	return c.Context.Done()
}

// A wait with a context is a goroutine that waits on a sync.Cond, and a select.
// Each canceled wait leaks its goroutine until a signal wakes it. That signal
// is lost.
func TestMinio_AGoroutineForEachCanceledWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := sync.NewCond(newChanLock())
		left := make(chan struct{}, 101)
		wait := func(ctx context.Context) error {
			woken := make(chan struct{}, 1)
			go func() {
				c.L.Lock()
				c.Wait()
				c.L.Unlock()
				woken <- struct{}{}
				left <- struct{}{}
			}()
			select {
			case <-woken:
				return nil
			case <-ctx.Done():
				return ctx.Err()
			}
		}
		ctx, cancel := context.WithCancel(t.Context())
		var waits []task
		for range 100 {
			waits = append(waits, start(func() error { return wait(ctx) }))
		}
		cancel()
		for _, w := range waits {
			w.requireReturned(t, context.Canceled)
		}
		require.Empty(t, left, "100 goroutines are left")

		live := start(func() error { return wait(t.Context()) })
		c.Signal()
		live.requireWaits(t) // the signal woke a canceled wait
		c.Broadcast()        // ends the wait for the test
		live.requireReturned(t, nil)
		require.Len(t, left, 101)
	})
	synctest.Test(t, func(t *testing.T) {
		c := condvar.NewCond(newChanLock())
		wait := func(ctx context.Context) error {
			c.L.Lock()
			defer c.L.Unlock()
			return c.Wait(ctx)
		}
		ctx, cancel := context.WithCancel(t.Context())
		var waits []task
		for range 100 {
			waits = append(waits, start(func() error { return wait(ctx) }))
		}
		cancel()
		for _, w := range waits {
			w.requireReturned(t, context.Canceled)
		}
		require.Zero(t, c.Waiters())
		live := start(func() error { return wait(t.Context()) })
		require.True(t, c.Notify())
		live.requireReturned(t, nil)
		// A bubble that ends with a blocked goroutine panics.
	})
}

// A producer waits while too many records are buffered, and a flush waits until
// none is. With sync.Cond both wait on one Cond, each with a goroutine that
// broadcasts when its context ends, so all other waiters wake up for nothing.
// Here they are two Conds with one lock, and a cancel wakes no other waiter.
func TestFranzGo_ProduceAndFlushWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const most = 2
		l := newChanLock()
		room, empty := condvar.NewCond(l), condvar.NewCond(l)
		buffered, looks := 0, 0
		produce := func(ctx context.Context) error {
			l.Lock()
			defer l.Unlock()
			if err := room.WaitFor(ctx, func() bool { looks++; return buffered < most }); err != nil {
				return err
			}
			buffered++
			return nil
		}
		flush := func(ctx context.Context) error {
			l.Lock()
			defer l.Unlock()
			return empty.WaitFor(ctx, func() bool { looks++; return buffered == 0 })
		}
		sent := func() {
			l.Lock()
			defer l.Unlock()
			if buffered--; buffered == 0 {
				empty.NotifyAll()
			}
			room.Notify()
		}

		require.NoError(t, produce(t.Context()))
		require.NoError(t, produce(t.Context()))
		ctx, cancel := context.WithCancel(t.Context())
		canceled := []task{start(func() error { return produce(ctx) }), start(func() error { return flush(ctx) })}
		waits, flushes := start(func() error { return produce(t.Context()) }), start(func() error { return flush(t.Context()) })
		before := looks
		cancel()
		for _, c := range canceled {
			c.requireReturned(t, context.Canceled)
		}
		require.Equal(t, before, looks, "a waiter woke up for nothing")
		sent()
		waits.requireReturned(t, nil)
		sent()
		flushes.requireWaits(t)
		sent()
		flushes.requireReturned(t, nil)
	})
}
