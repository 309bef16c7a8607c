package condvar_test

import (
	"context"
	"errors"
	"io"
	"math"
	"runtime"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"example.com/condvar"
)

// Row 95. Bug R15.
func TestCapacityResource_TheCancelledLeaveNothingBehindAStuckHead(t *testing.T) {
	resBothModes(t, func(t *testing.T, opts ...condvar.Option) {
		const many = 10_000
		r := resNew(t, 2, 1, opts...)
		head := resPark(t, r, 2)
		crowd := func() {
			for range many {
				ctx, cancel := context.WithTimeout(context.Background(), 1)
				require.Error(t, r.AcquireN(ctx, 2))
				cancel()
			}
		}
		crowd()
		before := resHeap()
		crowd()
		// One word kept for each wait would be 80 kB.
		require.Less(t, resHeap()-before, int64(many*8))
		resRequire(t, r, 1, 1)
		r.Release()
		synctest.Wait()
		head.requireDone(t, nil)
	})
}

// Row 137.
func TestCapacityResource_WhatResizeAddsIsAtOnceAvailable(t *testing.T) {
	resBothModes(t, func(t *testing.T, opts ...condvar.Option) {
		r := resNew(t, 1, 1, opts...)
		r.Resize(2)
		require.True(t, r.TryAcquire())
		w := resPark(t, r, 1)
		r.Resize(3)
		synctest.Wait()
		w.requireDone(t, nil)
		resRequire(t, r, 3, 0)
	})
}

// Row 128. Bug R12.
func TestCapacityResource_ResizeGrowsAndShrinks(t *testing.T) {
	resBothModes(t, func(t *testing.T, opts ...condvar.Option) {
		r := resNew(t, 2, 0, opts...)
		for range 5 {
			resAcquire(r, 1)
		}
		resRequire(t, r, 2, 3)
		r.Resize(4)
		synctest.Wait()
		resRequire(t, r, 4, 1)
		r.Resize(1)
		synctest.Wait()
		resRequire(t, r, 4, 1)
		for inUse := range int64(3) {
			r.Release()
			synctest.Wait()
			resRequire(t, r, 3-inUse, 1)
			require.False(t, r.TryAcquire())
		}
		r.Release()
		synctest.Wait()
		resRequire(t, r, 1, 0)
	})
}

// Row 139.
func TestCapacityResource_GrowthLetsTheLineAndALaterArrivalIn(t *testing.T) {
	resBothModes(t, func(t *testing.T, opts ...condvar.Option) {
		r := resNew(t, 1, 1, opts...)
		w := resPark(t, r, 1)
		r.Resize(3)
		require.NoError(t, r.Acquire(context.Background()))
		synctest.Wait()
		w.requireDone(t, nil)
		resRequire(t, r, 3, 0)
	})
}

// Row 144. Bug R11.
func TestCapacityResource_GrowthAfterAShrinkGrantsWhatIsFreeAndNotTheDifference(t *testing.T) {
	resBothModes(t, func(t *testing.T, opts ...condvar.Option) {
		r := resNew(t, 2, 2, opts...)
		a, b := resPark(t, r, 1), resPark(t, r, 1)
		r.Resize(1)
		r.Resize(2)
		synctest.Wait()
		a.requireParked(t)
		b.requireParked(t)
		resRequire(t, r, 2, 2)
		r.ReleaseN(2)
		synctest.Wait()
		a.requireDone(t, nil)
		b.requireDone(t, nil)
		resRequire(t, r, 2, 0)
	})
}

// Rows 130, 131, 132, 133. Bug R12.
func TestCapacityResource_ResizeToZeroPausesUntilTheNextResize(t *testing.T) {
	resBothModes(t, func(t *testing.T, opts ...condvar.Option) {
		r := resNew(t, 3, 0, opts...)
		r.Resize(0) // row 130: of an idle resource
		var five [5]resWaiter
		for i := range five {
			five[i] = resPark(t, r, 1)
		}
		time.Sleep(resThreshold)
		r.Resize(5)
		require.False(t, r.TryAcquire()) // the line gets all of it
		synctest.Wait()
		for _, w := range five {
			w.requireDone(t, nil)
		}
		resRequire(t, r, 5, 0)

		w := resPark(t, r, 1) // row 131
		r.ReleaseN(5)
		synctest.Wait()
		w.requireDone(t, nil)
		r.Release()
		resRequire(t, r, 0, 0)

		r.Resize(0) // row 132
		w = resPark(t, r, 1)
		require.False(t, r.TryAcquire())
		r.Resize(1)
		synctest.Wait()
		w.requireDone(t, nil)

		r.Resize(0) // row 133: with a holder and a waiter
		w = resPark(t, r, 1)
		resRequire(t, r, 1, 1)
		r.Release()
		synctest.Wait()
		w.requireParked(t)
		resRequire(t, r, 0, 1)
		r.Resize(1)
		synctest.Wait()
		w.requireDone(t, nil)
		resRequire(t, r, 1, 0)
	})
}

// Bug R13. F8.
func TestCapacityResource_AWaiterThatNoLongerFitsFailsAndBlocksNobody(t *testing.T) {
	for name, line := range map[string][]int64{
		"at the head":   {4, 3, 1},
		"in the middle": {3, 4, 1},
		"at the end":    {3, 1, 4},
		"more than one": {5, 3, 4, 1, 4},
	} {
		t.Run(name, func(t *testing.T) {
			resBothModes(t, func(t *testing.T, opts ...condvar.Option) {
				r := resNew(t, 5, 1, opts...)
				r.Resize(0) // so that no call gets in before all are in line
				var ws []resWaiter
				for _, n := range line {
					ws = append(ws, resPark(t, r, n))
				}
				r.Resize(3)
				synctest.Wait()
				for i, w := range ws {
					if line[i] > 3 {
						w.requireDone(t, condvar.ErrTooLarge)
					} else {
						w.requireParked(t) // behind the 3, for which 2 are free
					}
				}
				resRequire(t, r, 1, 2)
				r.Resize(5)
				synctest.Wait()
				resRequire(t, r, 5, 0)
			})
		})
	}
}

// Bug R13.
func TestCapacityResource_TheNextGetsInWhenTheHeadNoLongerFits(t *testing.T) {
	resBothModes(t, func(t *testing.T, opts ...condvar.Option) {
		r := resNew(t, 4, 1, opts...)
		r.Resize(0) // so that both are in line before anything is free
		big, small := resPark(t, r, 4), resPark(t, r, 2)
		r.Resize(4)
		synctest.Wait()
		big.requireParked(t)
		small.requireParked(t)
		r.Resize(3)
		synctest.Wait()
		big.requireDone(t, condvar.ErrTooLarge)
		small.requireDone(t, nil)
		resRequire(t, r, 3, 0)
	})
}

func TestCapacityResource_BackToBackResizesStillFailWhoDidNotFitInBetween(t *testing.T) {
	resBothModes(t, func(t *testing.T, opts ...condvar.Option) {
		for range 100 {
			r := resNew(t, 5, 5, opts...)
			w, small := resPark(t, r, 3), resPark(t, r, 1)
			r.Resize(1)
			r.Resize(5)
			synctest.Wait()
			w.requireDone(t, condvar.ErrTooLarge)
			small.requireParked(t)
			r.Release()
			synctest.Wait()
			small.requireDone(t, nil)
			resRequire(t, r, 5, 0)
		}
	})
}

// After a pause the capacity of the next Resize counts.
func TestCapacityResource_APauseFailsNobodyButTheResizeAfterItMay(t *testing.T) {
	resBothModes(t, func(t *testing.T, opts ...condvar.Option) {
		r := resNew(t, 5, 5, opts...)
		big, small := resPark(t, r, 5), resPark(t, r, 2)
		r.Resize(0)
		synctest.Wait()
		big.requireParked(t)
		huge := resPark(t, r, 100)
		r.ReleaseN(5)
		r.Resize(2)
		synctest.Wait()
		big.requireDone(t, condvar.ErrTooLarge)
		huge.requireDone(t, condvar.ErrTooLarge)
		small.requireDone(t, nil)
	})
}

// Bug R14.
func TestCapacityResource_AWaiterCancelledAfterAResizeTakesNothing(t *testing.T) {
	resBothModes(t, func(t *testing.T, opts ...condvar.Option) {
		r := resNew(t, 4, 4, opts...)
		a, b, c := resPark(t, r, 2), resPark(t, r, 3), resPark(t, r, 1)
		r.Resize(6)
		synctest.Wait()
		r.Resize(3)
		a.requireDone(t, nil)
		b.cancel()
		c.cancel()
		synctest.Wait()
		resRequire(t, r, 6, 0)
		r.ReleaseN(6)
		resRequireExact(t, r, 3)
	})
}

var _ io.Closer = (*condvar.CapacityResource)(nil)

// F14. Bug R17.
func TestCapacityResource_CloseFailsWaitersAndLaterCallsButNotHolders(t *testing.T) {
	resBothModes(t, func(t *testing.T, opts ...condvar.Option) {
		r := resNew(t, 3, 2, opts...)
		a, b := resPark(t, r, 3), resPark(t, r, 2)
		for range 2 { // the second call changes nothing
			require.NoError(t, r.Close())
			synctest.Wait()
			a.requireDone(t, condvar.ErrClosed)
			b.requireDone(t, condvar.ErrClosed)
			resRequire(t, r, 2, 0)
			require.True(t, r.Stats().Closed)
			require.False(t, r.TryAcquire())
			require.False(t, r.TryAcquireN(0))
			require.Equal(t, condvar.ErrClosed, r.Acquire(context.Background()))
		}
		r.Release()
		r.Release()
		resRequire(t, r, 0, 0)
		require.False(t, r.TryAcquire())
		require.Equal(t, condvar.ErrClosed, r.Acquire(context.Background()))
		require.NoError(t, r.Close())
	})
}

func TestCapacityResource_CloseFailsThoseWhoWaitForAPausedResource(t *testing.T) {
	resBothModes(t, func(t *testing.T, opts ...condvar.Option) {
		r := resNew(t, 0, 0, opts...)
		w := resPark(t, r, 1)
		require.NoError(t, r.Close())
		synctest.Wait()
		w.requireDone(t, condvar.ErrClosed)
	})
}

func TestCapacityResource_ResizeAfterCloseOnlyChangesTheNumber(t *testing.T) {
	resBothModes(t, func(t *testing.T, opts ...condvar.Option) {
		r := resNew(t, 2, 1, opts...)
		require.NoError(t, r.Close())
		for _, capacity := range []int64{5, 0, 1, math.MaxInt64} {
			r.Resize(capacity)
			require.Equal(t, condvar.Stats{Capacity: capacity, InUse: 1, Closed: true}, r.Stats())
			require.False(t, r.TryAcquire())
			require.Equal(t, condvar.ErrClosed, r.Acquire(context.Background()))
		}
		r.Release()
	})
}

// The first event ends a wait, even if the waiter has not run by then.
func TestCapacityResource_TheErrorIsThatOfWhatCameFirst(t *testing.T) {
	shrink := func(r *condvar.CapacityResource, _ resWaiter) { r.Resize(1) }
	closing := func(r *condvar.CapacityResource, _ resWaiter) { _ = r.Close() }
	cancel := func(_ *condvar.CapacityResource, w resWaiter) { w.cancel() }
	for _, c := range []struct {
		name          string
		first, second func(*condvar.CapacityResource, resWaiter)
		want          error
	}{
		{"Close then cancel", closing, cancel, condvar.ErrClosed},
		{"cancel then Close", cancel, closing, context.Canceled},
		{"Resize then cancel", shrink, cancel, condvar.ErrTooLarge},
		{"cancel then Resize", cancel, shrink, context.Canceled},
		{"Resize then Close", shrink, closing, condvar.ErrTooLarge},
		{"Close then Resize", closing, shrink, condvar.ErrClosed},
	} {
		t.Run(c.name, func(t *testing.T) {
			resBothModes(t, func(t *testing.T, opts ...condvar.Option) {
				for range 100 {
					r := resNew(t, 2, 1, opts...)
					w := resPark(t, r, 2)
					c.first(r, w)
					c.second(r, w)
					synctest.Wait()
					require.True(t, w.done.Load())
					require.Equal(t, c.want, w.err)
					s := r.Stats()
					require.EqualValues(t, 1, s.InUse)
					require.EqualValues(t, 1, s.WaitCount)
					require.Equal(t, errors.Is(c.want, context.Canceled), s.Canceled == 1)
				}
			})
		})
	}
}

// F15. Bug R17.
func TestCapacityResource_CloseRacingAReleaseAndACancelEndsEachWaitInOneWay(t *testing.T) {
	resBothModes(t, func(t *testing.T, opts ...condvar.Option) {
		for range 300 {
			r := resNew(t, 1, 1, opts...)
			a, b := resPark(t, r, 1), resPark(t, r, 1)
			go func() { _ = r.Close() }()
			go r.Release()
			go a.cancel()
			synctest.Wait()
			in := int64(0)
			for _, w := range []resWaiter{a, b} {
				require.True(t, w.done.Load())
				if w.err == nil {
					in++
				} else if !errors.Is(w.err, context.Canceled) {
					require.Equal(t, condvar.ErrClosed, w.err)
				}
			}
			require.NotEqual(t, context.Canceled, b.err)
			require.LessOrEqual(t, in, int64(1))
			resRequire(t, r, in, 0)
			r.ReleaseN(in)
			require.NoError(t, r.Drain(context.Background()))
		}
	})
}

func TestCapacityResource_NoAcquisitionSucceedsOnceCloseHasReturned(t *testing.T) {
	resBothModes(t, func(t *testing.T, opts ...condvar.Option) {
		for range 300 {
			r := resNew(t, 1, 1, opts...)
			w := resPark(t, r, 1)
			r.Release() // the waiter may get in from here on
			require.NoError(t, r.Close())
			inUse := r.Stats().InUse
			synctest.Wait()
			require.True(t, w.done.Load())
			require.Equal(t, inUse == 1, w.err == nil)
			resRequire(t, r, inUse, 0)
		}
	})
}

func TestCapacityResource_DrainOfAnIdleResourceReturnsAtOnceEvenWithADeadContext(t *testing.T) {
	resBothModes(t, func(t *testing.T, opts ...condvar.Option) {
		require.NoError(t, resNew(t, 2, 0, opts...).Drain(context.Background()))
		r := resNew(t, 2, 0, opts...)
		for range 2 {
			require.NoError(t, r.Drain(resDead()))
			require.True(t, r.Stats().Closed)
		}
		paused := resNew(t, 0, 0, opts...)
		w := resPark(t, paused, 1)
		require.NoError(t, paused.Drain(resDead()))
		synctest.Wait()
		w.requireDone(t, condvar.ErrClosed)
	})
}

func TestCapacityResource_DrainClosesAndWaitsUntilNothingIsHeld(t *testing.T) {
	resBothModes(t, func(t *testing.T, opts ...condvar.Option) {
		r := resNew(t, 3, 3, opts...)
		w := resPark(t, r, 1)
		var drains [3]*asyncCall
		for i := range drains {
			drains[i] = start(func() error { return r.Drain(context.Background()) })
		}
		w.requireDone(t, condvar.ErrClosed)
		require.False(t, r.TryAcquire())
		require.Zero(t, r.Stats().Waiting)
		r.ReleaseN(2)
		r.ReleaseN(0)
		r.Resize(0)
		synctest.Wait()
		for _, d := range drains {
			d.requireParked(t)
		}
		require.Panics(t, func() { r.ReleaseN(2) })
		r.Release()
		synctest.Wait()
		for _, d := range drains {
			d.requireDone(t, nil)
		}
		require.NoError(t, r.Drain(context.Background()))
	})
}

func TestCapacityResource_DrainSucceedsIfTheLastPermitComesBackAfterItsContextHasEnded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(context.Background())
		r := condvar.NewCapacityResource(1)
		require.True(t, r.TryAcquire())
		a := start(func() error { return r.Drain(ctx) })
		a.requireParked(t)
		cancel()
		r.Release()
		synctest.Wait()
		a.requireDone(t, nil)
	})
}

func TestCapacityResource_DrainEndsWithItsContextAndLeavesTheResourceClosed(t *testing.T) {
	resBothModes(t, func(t *testing.T, opts ...condvar.Option) {
		r := resNew(t, 1, 1, opts...)
		err := r.Drain(resDead())
		require.ErrorIs(t, err, context.Canceled)
		require.EqualError(t, err, "condvar: permits still held: 1: context canceled")
		require.True(t, r.Stats().Closed)

		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		other := start(func() error { return r.Drain(context.Background()) })
		begin := time.Now()
		require.ErrorIs(t, r.Drain(ctx), context.DeadlineExceeded)
		require.Equal(t, time.Second, time.Since(begin))
		other.requireParked(t)
		require.Equal(t, condvar.ErrClosed, r.Acquire(context.Background()))
		r.Release()
		synctest.Wait()
		other.requireDone(t, nil)
	})
}

// A lateContext calls a function after its first Err, whose result is then out
// of date.
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

// Bug R1. The permits are released after the context has ended, wherever the
// call is then: on the fast path, or on the slow one (capacity 1<<40).
func TestCapacityResource_PermitsThatCameFreeAfterTheContextEndedAreNotTaken(t *testing.T) {
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

func TestCapacityResource_AWaitInDrainAllocatesOnlyItsError(t *testing.T) {
	r := condvar.NewCapacityResource(1)
	require.True(t, r.TryAcquire())
	const runs = 200
	asked := make(chan *condManualContext, 1)
	go func() {
		for ctx := range asked {
			for range 100 { // give Drain a chance to wait
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

// A call that is admitted or rejected while asleep does not lock mu again. With
// one processor it usually does not run before the test holds the lock.
func TestCapacityResource_WhoIsAdmittedOrTurnedAwayWhileAsleepTakesNoLock(t *testing.T) {
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

// Bugs C6, R17. Close or Resize removes a head that was notified and has not
// run. The head returns their error once it has its token, even if its permits
// are free, or the error of its context if that ended first.
func TestCapacityResource_AWokenHeadThatIsTurnedAwayFailsAndReceivesItsToken(t *testing.T) {
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

func TestCapacityResource_ResizeReturnsTheCapacityBefore(t *testing.T) {
	r := condvar.NewCapacityResource(3)
	require.EqualValues(t, 3, r.Resize(5))
	require.EqualValues(t, 5, r.Resize(0))
	require.EqualValues(t, 0, r.Resize(math.MaxInt64))
	require.Equal(t, int64(math.MaxInt64), r.Resize(2))
	require.NoError(t, r.Close())
	require.EqualValues(t, 2, r.Resize(7))
	require.EqualValues(t, 7, r.Stats().Capacity)
}

func TestCapacityResource_APauseEndsWithTheFunctionThatBeganIt(t *testing.T) {
	resBothModes(t, func(t *testing.T, opts ...condvar.Option) {
		r := resNew(t, 2, 1, opts...)
		var w resWaiter
		func() {
			defer r.Resize(r.Resize(0))
			w = resPark(t, r, 1)
		}()
		synctest.Wait()
		w.requireDone(t, nil)
		resRequire(t, r, 2, 0)
	})
}

// The pause of the documentation of Resize.
func TestCapacityResource_OfTwoPausesThatOverlapTheSecondRestoresThe0OfTheFirst(t *testing.T) {
	r := condvar.NewCapacityResource(2)
	first := r.Resize(0)
	second := r.Resize(0)
	r.Resize(first)
	require.True(t, r.TryAcquire())
	r.Resize(second)
	require.False(t, r.TryAcquire())
	require.Equal(t, "1/0 in use, 0 waiting, paused", r.String())
}

func TestCapacityResource_ANegativeCapacityPanicsAndChangesNothing(t *testing.T) {
	r := condvar.NewCapacityResource(3)
	for _, capacity := range []int64{-1, math.MinInt64} {
		require.PanicsWithValue(t, "condvar: negative capacity", func() { r.Resize(capacity) })
	}
	require.EqualValues(t, 3, r.Resize(4))
}

// The counts are those when the context ended, or later.
func TestCapacityResource_TheErrorOfADrainThatWaitedSaysWhatIsHeld(t *testing.T) {
	resBothModes(t, func(t *testing.T, opts ...condvar.Option) {
		r := resNew(t, 5, 5, opts...)
		ctx, cancel := context.WithTimeoutCause(t.Context(), time.Second, errBoom)
		defer cancel()
		drain := start(func() error { return r.Drain(ctx) })
		drain.requireParked(t)
		r.ReleaseN(3)
		time.Sleep(time.Second)
		synctest.Wait()
		drain.requireDone(t, context.DeadlineExceeded)
		drain.requireDone(t, errBoom)
		require.EqualError(t, drain.err, "condvar: permits still held: 2: context deadline exceeded: boom")
	})
}

// Bug R30.
func TestCapacityResource_TheErrorOfDrainSaysWhatIsHeldAndWhyItEnded(t *testing.T) {
	r := condvar.NewCapacityResource(9)
	require.True(t, r.TryAcquireN(7))
	boom := errors.New("boom")
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(boom)
	err := r.Drain(ctx)
	require.ErrorIs(t, err, boom)
	require.ErrorIs(t, err, context.Canceled)
	require.EqualError(t, err, "condvar: permits still held: 7: context canceled: boom")
	r.ReleaseN(6)
	require.EqualError(t, r.Drain(resDead()), "condvar: permits still held: 1: context canceled")
	r.Release()
	require.NoError(t, r.Drain(ctx))
}
