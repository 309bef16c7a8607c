package condvar_test

import (
	"context"
	"errors"
	"reflect"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"example.com/condvar"
)

// What must happen at one moment, what must take no lock or allocate nothing,
// and what must hold although a goroutine has been overtaken at the worst
// place: promises that the other tests do not touch.

// requireReturns checks that f returns, although its caller holds a lock.
func requireReturns(t *testing.T, name string, f func()) {
	t.Helper()
	done := make(chan struct{})
	go func() { defer close(done); f() }()
	select {
	case <-done:
	case <-time.After(condTimeout):
		require.Fail(t, name+" wants the lock")
	}
}

func TestASetEventIsFoundSetWithoutALock(t *testing.T) {
	var e condvar.Event
	e.Set()
	e.Mu().Lock()
	defer e.Mu().Unlock()
	requireReturns(t, "IsSet", func() { e.IsSet() })
	requireReturns(t, "Wait", func() { _ = e.Wait(context.Background()) })
}

// Row 106. Who takes no lock has nothing to be put to sleep by.
func TestWhoNeedNotWaitTakesNoLock(t *testing.T) {
	for _, opts := range [][]condvar.Option{nil, {condvar.FIFO()}} {
		r := condvar.NewCapacityResource(2, opts...)
		r.Mu().Lock()
		requireReturns(t, "Acquire", func() { _ = r.Acquire(context.Background()) })
		requireReturns(t, "TryAcquire", func() { r.TryAcquire() })
		requireReturns(t, "TryAcquire on a full resource", func() { r.TryAcquire() })
		requireReturns(t, "Release", func() { r.ReleaseN(2) })
		r.Mu().Unlock()
		require.Zero(t, r.Stats().InUse)
	}
}

// The line of the resource does not keep a newcomer who may overtake it from
// the fast path.
func TestWhoMayOvertakeTakesNoLock(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := resNew(t, 3, 1)
		head := resPark(t, r, 3)
		requireUnderLock := func(f func() bool) {
			r.Mu().Lock()
			defer r.Mu().Unlock()
			require.True(t, f())
		}
		requireUnderLock(r.TryAcquire)
		requireUnderLock(func() bool { return r.Acquire(context.Background()) == nil })
		r.ReleaseN(3)
		synctest.Wait()
		head.requireDone(t, nil)
	})
}

func TestNotifyAllIsOneMoment(t *testing.T) {
	const n = 1000
	for range 50 {
		c := condvar.NewCond(new(sync.Mutex))
		for range n {
			c.Listen()
		}
		var wg sync.WaitGroup
		wg.Go(func() { c.NotifyAll() })
		for w := n; w == n; {
			w = c.Waiters()
			require.Contains(t, []int{0, n}, w)
		}
		late := c.Listen()
		wg.Wait()
		require.Empty(t, late.C)
	}
}

// Bug C10. Whoever was woken may cancel others at once. These were woken before,
// as NotifyAll and Set are one moment.
func TestNotifyAllReachesThoseThatItsFirstWaiterCancels(t *testing.T) {
	const n, rounds = 500, 20
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	var failed atomic.Int32
	crowd := func(waiting func() int, wait func(ctx context.Context) error) {
		ctx, cancel = context.WithCancel(context.Background())
		for i := range n {
			own := ctx
			if i == 0 {
				own = context.Background()
			}
			wg.Go(func() {
				if wait(own) != nil {
					failed.Add(1)
				}
				cancel()
			})
			spin(t, waiting, i+1)
		}
	}
	c := condvar.NewCond(new(sync.Mutex))
	var e condvar.Event
	for range rounds {
		crowd(c.Waiters, func(ctx context.Context) error {
			c.L.Lock()
			defer c.L.Unlock()
			return c.Wait(ctx)
		})
		require.Equal(t, n, c.NotifyAll())
		wg.Wait()
		crowd(e.Waiters, e.Wait)
		e.Set()
		e.Clear()
		wg.Wait()
	}
	require.Zero(t, failed.Load())
}

func TestStatsAreASnapshotWhileTheResourceIsResized(t *testing.T) {
	r := condvar.NewCapacityResource(1)
	var over atomic.Bool
	var wg sync.WaitGroup
	wg.Go(func() {
		for !over.Load() {
			r.Resize(2)
			r.TryAcquireN(2)
			r.ReleaseN(2)
			r.Resize(1)
		}
	})
	most := int64(0)
	for range 300_000 {
		s := r.Stats()
		most = max(most, s.InUse-s.Capacity)
	}
	over.Store(true)
	wg.Wait()
	require.Zero(t, most, "more in use than there are")
}

// A lateContext calls a function after the first look at its error, which is
// then out of date.
type lateContext struct {
	context.Context
	afterErr func()
}

func (c *lateContext) Err() error {
	err, f := c.Context.Err(), c.afterErr
	c.afterErr = nil
	call(f)
	return err
}

// Bug R1. The permits come free after the context has ended, wherever the call
// is in between: on the fast path, or on the slow one (capacity 1<<40).
func TestPermitsThatCameFreeAfterTheContextEndedAreNotTaken(t *testing.T) {
	for _, capacity := range []int64{1, 1 << 40} {
		r := condvar.NewCapacityResource(capacity)
		require.True(t, r.TryAcquireN(capacity))
		ctx, cancel := context.WithCancel(context.Background())
		cancelAndRelease := func() { cancel(); r.Release() }
		require.ErrorIs(t, r.Acquire(&lateContext{ctx, cancelAndRelease}), context.Canceled)
		require.Equal(t, capacity-1, r.Stats().InUse)

		require.True(t, r.TryAcquire())
		ctx, cancel = context.WithCancel(context.Background())
		cancelAndRelease = func() { cancel(); r.Release() }
		require.ErrorIs(t, r.Acquire(&resSeamContext{ctx, cancelAndRelease}), context.Canceled)
		require.Equal(t, capacity-1, r.Stats().InUse)
	}
}

// The clock of a bubble is years behind that of a waiter outside.
func TestNoWaitIsNegativeEvenAcrossClocks(t *testing.T) {
	r := condvar.NewCapacityResource(1)
	require.True(t, r.TryAcquire())
	done := make(chan error)
	go func() { done <- r.Acquire(context.Background()) }()
	spin(t, func() int { return int(r.Stats().Waiting) }, 1)
	synctest.Test(t, func(t *testing.T) {
		require.GreaterOrEqual(t, r.Stats().OldestWait, time.Duration(0))
		require.NoError(t, r.Close())
		require.GreaterOrEqual(t, r.Stats().WaitDuration, time.Duration(0))
	})
	require.ErrorIs(t, <-done, condvar.ErrClosed)
}

func TestAWaitInDrainAllocatesOnlyItsError(t *testing.T) {
	r := condvar.NewCapacityResource(1)
	require.True(t, r.TryAcquire())
	const runs = 200
	asked := make(chan *condManualContext, 1)
	go func() {
		for ctx := range asked {
			for range 100 { // let Drain wait, if the scheduler pleases
				runtime.Gosched()
			}
			close(ctx.done)
		}
	}()
	var ctxs []*condManualContext
	for range runs + 1 {
		ctxs = append(ctxs, &condManualContext{context.Background(), make(chan struct{}), context.Canceled})
	}
	drained := 0
	require.EqualValues(t, 1, testing.AllocsPerRun(runs, func() {
		ctx := ctxs[0]
		ctxs = ctxs[1:]
		asked <- ctx
		if r.Drain(ctx) == nil {
			drained++
		}
	}))
	close(asked)
	require.Zero(t, drained)
}

// The steady state has room for a crowd, and no wait needs a goroutine.
func TestACrowdWaitsAgainWithoutAllocationOrGoroutine(t *testing.T) {
	const crowd, runs = 500, 20
	c := condvar.NewCond(new(sync.Mutex))
	r := condvar.NewCapacityResource(1)
	require.True(t, r.TryAcquire())
	for name, test := range map[string]struct {
		wait    func()
		waiting func() int
		wake    func()
		again   func()
	}{
		"Cond": {
			func() { c.L.Lock(); _ = c.Wait(context.Background()); c.L.Unlock() },
			c.Waiters,
			func() { c.NotifyAll() },
			func() {},
		},
		"CapacityResource": {
			func() { _ = r.Acquire(context.Background()); r.Release() },
			func() int { return int(r.Stats().Waiting) },
			r.Release,
			func() { spin(t, func() int { return int(r.Stats().InUse) }, 0); r.TryAcquire() },
		},
	} {
		t.Run(name, func(t *testing.T) {
			base := runtime.NumGoroutine()
			var over atomic.Bool
			var wg sync.WaitGroup
			gate := make(chan struct{})
			for range crowd {
				wg.Go(func() {
					for range gate {
						test.wait()
					}
				})
			}
			round := func() {
				for range crowd {
					gate <- struct{}{}
				}
				spin(t, test.waiting, crowd)
				if n := runtime.NumGoroutine(); n > base+crowd {
					over.Store(true)
				}
				test.wake()
				spin(t, test.waiting, 0)
				test.again()
			}
			round()
			// A wait that allocates would make 500 a run. A stray one, of the
			// runtime's own, does no harm.
			require.Less(t, testing.AllocsPerRun(runs, round), float64(crowd/10))
			close(gate)
			wg.Wait()
			require.False(t, over.Load(), "a wait has a goroutine")
		})
	}
}

func TestTheErrorOfACauseSaysBothAndIsOneAllocation(t *testing.T) {
	ctx, cancel := context.WithCancelCause(context.Background())
	cancel(errors.New("boom"))
	c := condvar.NewCond(new(sync.Mutex))
	require.EqualError(t, c.Wait(ctx), "context canceled: boom")
	require.EqualValues(t, 1, testing.AllocsPerRun(100, func() { _ = c.Wait(ctx) }))
}

// A nosyContext looks at a Cond whenever it is asked anything.
type nosyContext struct {
	context.Context
	c *condvar.Cond
}

func (x nosyContext) Done() <-chan struct{} { x.c.Waiters(); return x.Context.Done() }
func (x nosyContext) Err() error            { x.c.Waiters(); return x.Context.Err() }
func (x nosyContext) Value(key any) any     { x.c.Waiters(); return x.Context.Value(key) }

func TestAContextMayUseTheCondItWaitsFor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := condvar.NewCond(newChanLock())
		ctx, cancel := context.WithCancel(context.Background())
		nosy := nosyContext{ctx, c}
		a, b := startWait(nosy, c), startWait(nosy, c)
		f := start(func() error {
			c.L.Lock()
			defer c.L.Unlock()
			return c.WaitFor(nosy, func() bool { return false })
		})
		require.True(t, c.Notify())
		synctest.Wait()
		a.requireDone(t, nil)
		cancel()
		synctest.Wait()
		b.requireDone(t, context.Canceled)
		f.requireDone(t, context.Canceled)
	})
}

// Bug R15. F25. To leave a line costs the same however long it is.
func TestLeavingTheLineOfAResourceCostsTheSameInALongOne(t *testing.T) {
	cost := func(length int) time.Duration {
		const leavers = 200
		r := condvar.NewCapacityResource(1)
		require.True(t, r.TryAcquire())
		stay, end := context.WithCancel(context.Background())
		leave, cancel := context.WithCancel(context.Background())
		var stayers, wg sync.WaitGroup
		waiting := func() int { return int(r.Stats().Waiting) }
		for range length / 2 {
			stayers.Go(func() { _ = r.Acquire(stay) })
		}
		spin(t, waiting, length/2)
		for range leavers {
			wg.Go(func() { _ = r.Acquire(leave) })
		}
		spin(t, waiting, length/2+leavers)
		for range length / 2 {
			stayers.Go(func() { _ = r.Acquire(stay) })
		}
		spin(t, waiting, length+leavers)
		runtime.GC() // not in between
		begin := time.Now()
		cancel()
		wg.Wait()
		elapsed := time.Since(begin)
		require.Equal(t, length, waiting())
		end()
		stayers.Wait()
		return elapsed / leavers
	}
	short, long := time.Hour, time.Hour
	for range 3 { // the best of each, to be rid of what others do here
		short, long = min(short, cost(200)), min(long, cost(20_000))
	}
	require.Less(t, long, 10*max(short, time.Microsecond), "%v in a short line", short)
}

// A metrics goroutine may look at a resource whose waiters are in a bubble: to
// wake one of them from outside, or to look at its context, would be fatal.
func TestStatsWakesNobody(t *testing.T) {
	for _, opts := range [][]condvar.Option{nil, {condvar.FIFO()}} {
		r := condvar.NewCapacityResource(2, opts...)
		look, looked := make(chan struct{}), make(chan struct{})
		go func() {
			for range look {
				_ = r.Stats()
				_ = r.String()
				looked <- struct{}{}
			}
			close(looked)
		}()
		lookFromOutside := func() {
			look <- struct{}{}
			<-looked
		}
		for range 100 {
			synctest.Test(t, func(t *testing.T) {
				require.True(t, r.TryAcquireN(2))
				w1, w2, w3 := resPark(t, r, 2), resPark(t, r, 1), resPark(t, r, 1)
				lookFromOutside()
				time.Sleep(2 * resThreshold)
				lookFromOutside()
				w1.cancel()
				lookFromOutside() // the head may be about to leave
				r.Release()
				lookFromOutside() // another may have been woken, or have got a permit
				w3.cancel()
				r.Release()
				lookFromOutside()
				synctest.Wait()
				lookFromOutside()
				w1.requireDone(t, context.Canceled)
				w2.requireDone(t, nil)
				r.ReleaseN(r.Stats().InUse)
				lookFromOutside()
			})
		}
		close(look)
		<-looked
		resRequire(t, r, 0, 0)
	}
}

// Bug C18. Stats, from outside of a bubble, does not look at the context of a
// head that is awake in it, even if its permits are free.
func TestStatsLooksAtNoContextOfABubble(t *testing.T) {
	for _, opts := range [][]condvar.Option{nil, {condvar.FIFO()}} {
		r := condvar.NewCapacityResource(1, opts...)
		look, looked := make(chan struct{}), make(chan struct{})
		go func() {
			defer close(looked)
			<-look
			_ = r.Stats()
		}()
		synctest.Test(t, func(t *testing.T) {
			require.True(t, r.TryAcquire())
			head := resPark(t, r, 1)
			send := r.WakeHeadLater()
			r.Release()
			close(look)
			<-looked
			send()
			synctest.Wait()
			head.requireDone(t, nil)
			r.Release()
		})
		resRequire(t, r, 0, 0)
	}
}

// Bug R21. Goroutines that compute have all processors, and a release lets
// somebody in who has waited for long. It does not wait for a processor itself.
func TestReleaseDoesNotYieldToGoroutinesThatCompute(t *testing.T) {
	const rounds, computing = 11, 20
	var took []time.Duration
	for range rounds {
		r := condvar.NewCapacityResource(1)
		require.True(t, r.TryAcquire())
		var wg sync.WaitGroup
		wg.Go(func() { require.NoError(t, r.Acquire(context.Background())) })
		spin(t, func() int { return int(r.Stats().Waiting) }, 1)
		joined := time.Now()
		var over atomic.Bool
		for range computing {
			wg.Go(func() {
				for !over.Load() {
				}
			})
		}
		for time.Since(joined) < 3*resThreshold { // without giving the processor away
		}
		begin := time.Now()
		r.Release()
		took = append(took, time.Since(begin))
		over.Store(true)
		wg.Wait()
	}
	slices.Sort(took)
	require.Less(t, took[rounds/2], 10*time.Millisecond)
}

// A head that was woken to look, and has not run, may be overtaken until the
// first release after it has waited 1 ms.
func TestNobodyOvertakesAWokenHeadThatHasStarved(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := resNew(t, 2, 2)
		head := resPark(t, r, 2)
		send := r.WakeHeadLater()
		r.Release()
		require.True(t, r.TryAcquire(), "new calls may still overtake")
		time.Sleep(resThreshold)
		require.False(t, r.TryAcquire())
		r.Release() // from here on nobody may
		require.False(t, r.TryAcquire())
		send()
		synctest.Wait()
		head.requireParked(t)
		r.Release()
		require.False(t, r.TryAcquire())
		synctest.Wait()
		head.requireDone(t, nil)
		r.ReleaseN(2)
	})
}

// A release reads the clock before it has the lock. It must not judge by that
// whether a head has starved in the meantime, at another release.
func TestAReleaseThatWasHeldUpEndsNoOvertakingBan(t *testing.T) {
	spin := func(since time.Time, d time.Duration) {
		for time.Since(since) < d { // the clock itself is what matters
		}
	}
	for range 20 {
		r := condvar.NewCapacityResource(3)
		require.True(t, r.TryAcquireN(3))
		var wg sync.WaitGroup
		acquire := func(waiting int64) {
			wg.Go(func() { require.NoError(t, r.AcquireN(context.Background(), 2)) })
			for r.Stats().Waiting < waiting {
				runtime.Gosched()
			}
		}
		begin := time.Now()
		acquire(1)
		spin(begin, 700*time.Microsecond)
		acquire(2)
		joined := time.Now()
		spin(begin, 1100*time.Microsecond)
		r.Mu().Lock()
		late := make(chan struct{})
		wg.Go(func() {
			close(late)
			r.ReleaseN(2) // looks at the clock when the first has starved and the second has not
		})
		<-late
		spin(joined, 1500*time.Microsecond)
		r.Mu().Unlock()
		r.Release() // now the second has lost it, too
		for s := r.Stats(); s.InUse != 2 || s.Waiting != 1; s = r.Stats() {
			runtime.Gosched()
		}
		require.False(t, r.TryAcquire())
		r.ReleaseN(2)
		wg.Wait()
		r.ReleaseN(2)
	}
}

func TestWaitingOnACopyOfAResourcePanics(t *testing.T) {
	r := newPaused()
	c := reflect.New(reflect.TypeOf(r).Elem())
	c.Elem().Set(reflect.ValueOf(r).Elem()) // a copy that go vet does not see
	require.PanicsWithValue(t, "condvar: Cond is copied", func() {
		c.Interface().(*condvar.CapacityResource).Acquire(t.Context())
	})
}

// The head has been woken, but has not run, when it starves: a millisecond
// after it has joined the line, whenever it was woken, and whoever has joined
// since. With one processor it does not run until the test lets it.
func TestAWokenHeadThatHasNotRunStarvesOnTime(t *testing.T) {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1))
	overtaken := 0
	for range 100 {
		r := condvar.NewCapacityResource(1)
		require.True(t, r.TryAcquire())
		in := make(chan error, 2)
		waiting := func() int { return int(r.Stats().Waiting) }
		go func() { in <- r.Acquire(context.Background()) }()
		spin(t, waiting, 1)
		joined := time.Now()
		for time.Since(joined) < resThreshold/2 { // the head grows old
		}
		go func() { in <- r.Acquire(context.Background()) }()
		spin(t, waiting, 2)
		r.Release()
		if r.TryAcquire() {
			for time.Since(joined) < resThreshold { // and older
			}
			r.Release()
			require.False(t, r.TryAcquire())
			overtaken++
		}
		require.NoError(t, <-in)
		r.Release()
		require.NoError(t, <-in)
	}
	require.Positive(t, overtaken)
}

// Who is admitted or turned away while asleep takes no lock any more. With one
// processor it does not run, as a rule, before the test holds the lock.
func TestWhoIsAdmittedOrTurnedAwayWhileAsleepTakesNoLock(t *testing.T) {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1))
	for name, end := range map[string]func(*condvar.CapacityResource){
		"admitted":    (*condvar.CapacityResource).Release,
		"turned away": func(r *condvar.CapacityResource) { _ = r.Close() },
	} {
		for range 10 {
			r := condvar.NewCapacityResource(1, condvar.FIFO())
			require.True(t, r.TryAcquire())
			in := make(chan error, 1)
			go func() { in <- r.Acquire(context.Background()) }()
			spin(t, func() int { return int(r.Stats().Waiting) }, 1)
			end(r)
			r.Mu().Lock()
			requireReturns(t, "who was "+name, func() { in <- <-in })
			r.Mu().Unlock()
			require.Equal(t, name == "admitted", <-in == nil)
		}
	}
}

// A context that ends while the call waits for the lock is asked for its error
// after the lock is free.
func TestAContextThatEndsBeforeTheLockMayUseTheResource(t *testing.T) {
	r := condvar.NewCapacityResource(1 << 40) // which has no fast path
	ctx, cancel := context.WithCancel(context.Background())
	seam := &resSeamContext{resNosyContext{ctx, r}, cancel}
	requireReturns(t, "Acquire", func() { require.ErrorIs(t, r.Acquire(seam), context.Canceled) })
}

// Who has been woken waits for the token that is on its way, even if its context
// ends before: else the token would meet a later wait.
func TestACanceledCallThatWasWokenWaitsForItsToken(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := resNew(t, 1, 1)
		w := resPark(t, r, 1)
		send := r.WakeHeadLater()
		w.cancel()
		synctest.Wait()
		w.requireParked(t)
		send()
		synctest.Wait()
		w.requireDone(t, context.Canceled)
	})
}

// Bugs C6, R17. Close or Resize turns away a head that was woken to look and has
// not run. It returns their error once it has its token, even if its permits are
// free, or the error of its context if that ended before.
func TestAWokenHeadThatIsTurnedAwayFailsAndReceivesItsToken(t *testing.T) {
	for _, turnAway := range []struct {
		err  error
		call func(r *condvar.CapacityResource)
	}{
		{condvar.ErrClosed, func(r *condvar.CapacityResource) { _ = r.Close() }},
		{condvar.ErrTooLarge, func(r *condvar.CapacityResource) { r.Resize(1) }},
	} {
		for i := range 40 {
			synctest.Test(t, func(t *testing.T) {
				r := resNew(t, 2, 2)
				head, want := resPark(t, r, 2), turnAway.err
				send := r.WakeHeadLater()
				r.ReleaseN(2)
				if i%2 == 1 {
					head.cancel()
					want = context.Canceled
				}
				turnAway.call(r)
				resRequire(t, r, 0, 0)
				synctest.Wait()
				head.requireParked(t)
				send()
				synctest.Wait()
				head.requireDone(t, want)
				resRequire(t, r, 0, 0)
			})
		}
	}
}
