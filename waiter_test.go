package condvar_test

import (
	"context"
	"math/rand/v2"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"example.com/condvar"
)

// Bug C20. Many have been woken by NotifyAll and have not looked yet, as the
// test holds L. Those are out of line, so a Notify does not meet them.
func TestNotifyCostsTheSameHoweverManyAreAwayToLook(t *testing.T) {
	const few, many, notifies = 100, 4000, 2000
	cost := func(away int) time.Duration {
		c := condvar.NewCond(new(sync.Mutex))
		var wg sync.WaitGroup
		over := false
		for range away {
			wg.Go(func() {
				c.L.Lock()
				defer c.L.Unlock()
				require.NoError(t, c.WaitFor(context.Background(), func() bool { return over }))
			})
		}
		spin(t, c.Waiters, away)
		c.L.Lock()
		over = true
		require.Equal(t, away, c.NotifyAll())
		for range notifies {
			c.Listen()
		}
		begin := time.Now()
		for range notifies {
			c.Notify()
		}
		took := time.Since(begin)
		c.L.Unlock()
		wg.Wait()
		require.Zero(t, c.Waiters())
		return took
	}
	var ratios []float64
	for range 5 {
		ratios = append(ratios, float64(cost(many))/float64(cost(few)))
	}
	slices.Sort(ratios)
	require.LessOrEqual(t, ratios[2], 5.0)
}

// Bug C22. A struct that something in it points back to may never be finalized.
func TestAStructThatHasOneOfOursIsFinalized(t *testing.T) {
	type owner struct {
		cond  condvar.Cond
		event condvar.Event
	}
	ctx, cancel := context.WithCancel(t.Context())
	var finalized atomic.Int32
	waits := func(wait func(ctx context.Context) error, waiting func() int, wake func()) {
		for _, ctx := range []context.Context{context.Background(), ctx} {
			var wg sync.WaitGroup
			for range 2 {
				wg.Go(func() { require.NoError(t, wait(ctx)) })
			}
			spin(t, waiting, 2)
			wake()
			wg.Wait()
		}
	}
	use := func() {
		o := &owner{cond: condvar.Cond{L: new(sync.Mutex)}}
		waits(func(ctx context.Context) error {
			o.cond.L.Lock()
			defer o.cond.L.Unlock()
			return o.cond.Wait(ctx)
		}, o.cond.Waiters, func() { o.cond.NotifyAll() })
		waits(o.event.Wait, o.event.Waiters, func() { o.event.Set(); o.event.Clear() })
		runtime.SetFinalizer(o, func(*owner) { finalized.Add(1) })

		r := condvar.NewCapacityResource(2)
		require.True(t, r.TryAcquireN(2))
		waits(r.Acquire, func() int { return int(r.Stats().Waiting) }, func() { r.ReleaseN(2) })
		runtime.SetFinalizer(r, func(*condvar.CapacityResource) { finalized.Add(1) })
	}
	use()
	cancel()
	for i := 0; i < 1000 && finalized.Load() < 2; i++ {
		runtime.GC()
		runtime.Gosched() // to the goroutine that runs finalizers
	}
	require.EqualValues(t, 2, finalized.Load())
}

// A wait makes a waiter only if all that were made before are in use, by calls
// that wait or have not run since they were woken. So in any order of arrivals
// there are as many as were in use at a time, with contexts that can end or not.
func TestAWaitAllocatesOnlyIfAllWaitersAreInUse(t *testing.T) {
	const most = 20
	rng := rand.New(rand.NewPCG(1, 2))
	c := condvar.NewCond(new(sync.Mutex))
	returned := make(chan struct{}, most)
	var line []context.CancelFunc // of those in line; nil if no context can end it
	peak := 0
	for range 3000 {
		gone := 0
		switch n := len(line); {
		case n < rng.IntN(most):
			ctx, cancel := context.Background(), context.CancelFunc(nil)
			if rng.IntN(2) == 0 {
				ctx, cancel = context.WithCancel(ctx)
			}
			line = append(line, cancel)
			go func() {
				c.L.Lock()
				_ = c.Wait(ctx)
				c.L.Unlock()
				returned <- struct{}{}
			}()
			spin(t, c.Waiters, n+1)
			peak = max(peak, n+1)
		case n > 0 && line[n/2] != nil:
			line[n/2]()
			line = slices.Delete(line, n/2, n/2+1)
			gone = 1
		default:
			gone = c.NotifyN(1 + rng.IntN(3))
			for _, cancel := range line[:gone] {
				if cancel != nil {
					cancel()
				}
			}
			line = line[gone:]
		}
		for range gone {
			<-returned
		}
		require.Equal(t, peak, c.WaitersMade())
	}
	require.Greater(t, peak, most/2)
	for range c.NotifyAll() {
		<-returned
	}
}

// A WaitFor that has been woken and wants L has given its waiter back. Another
// call that uses that does not change what the WaitFor was woken by.
func TestAWaiterThatIsUsedAgainIsNoneOfTheCallThatHadIt(t *testing.T) {
	l := newChanLock()
	c := condvar.NewCond(l)
	ctx, cancel := context.WithCancel(t.Context())
	canceled := make(chan error, 1)
	go func() {
		l.Lock()
		defer l.Unlock()
		canceled <- c.WaitFor(ctx, func() bool { return false })
	}()
	spin(t, c.Waiters, 1)
	l.Lock()
	wantsL := make(chan struct{})
	l.beforeLock = func() { close(wantsL) }
	require.True(t, c.Notify())
	<-wantsL
	l.beforeLock = nil
	cancel()
	next := c.Listen()
	again, cancelAgain := context.WithCancel(t.Context())
	var err error
	go func() {
		err = <-canceled
		cancelAgain()
	}()
	require.ErrorIs(t, c.Wait(again), context.Canceled)
	require.ErrorIs(t, err, context.Canceled)
	l.Unlock()
	require.Equal(t, 1, c.WaitersMade())
	require.Len(t, next.C, 1, "the notification was not passed on")
}

// No more than 1,024 waiters are kept.
func TestWaitersOfACrowdThatIsTooLargeAreNotKept(t *testing.T) {
	const kept, crowd = 1024, 1300
	c := condvar.NewCond(new(sync.Mutex))
	for round := range 2 {
		var wg sync.WaitGroup
		for range crowd {
			wg.Go(func() {
				c.L.Lock()
				defer c.L.Unlock()
				require.NoError(t, c.Wait(context.Background()))
			})
		}
		spin(t, c.Waiters, crowd)
		c.NotifyAll()
		wg.Wait()
		require.Equal(t, crowd+round*(crowd-kept), c.WaitersMade())
	}
}
