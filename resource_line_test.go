package condvar_test

import (
	"context"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"example.com/condvar"
)

// Rows 89, 101, 118.
func TestCapacityResource_AFullResourceMakesOthersWaitUntilARelease(t *testing.T) {
	resBothModes(t, func(t *testing.T, opts ...condvar.Option) {
		r := resNew(t, 1, 1, opts...)
		inside := 0 // changed only by holders
		var calls [5]*asyncCall
		for i := range calls {
			calls[i] = start(func() error {
				if err := r.Acquire(context.Background()); err != nil {
					return err
				}
				inside++
				r.Release()
				return nil
			})
		}
		resRequire(t, r, 1, 5)
		require.Zero(t, inside)
		r.Release()
		synctest.Wait()
		for _, c := range calls {
			c.requireDone(t, nil)
		}
		require.Equal(t, 5, inside)
		resRequire(t, r, 0, 0)
	})
}

// Rows 82, 138.
func TestCapacityResource_WaitersGetInInTheOrderOfTheirArrival(t *testing.T) {
	resBothModes(t, func(t *testing.T, opts ...condvar.Option) {
		r := resNew(t, 1, 1, opts...)
		ws := []resWaiter{resPark(t, r, 1), resPark(t, r, 1), resPark(t, r, 1)}
		for in := range ws {
			r.Release()
			synctest.Wait()
			for i, w := range ws {
				require.Equal(t, i <= in, w.done.Load(), "waiter %d after %d releases", i, in+1)
			}
			resRequire(t, r, 1, int64(len(ws)-in-1))
		}
	})
}

// resTurns starts workers that take the only permit repeatedly for hold, and
// returns the order in which they had it.
func resTurns(t *testing.T, workers, rounds int, hold time.Duration, opts ...condvar.Option) []int {
	r := resNew(t, 1, 0, opts...)
	var order []int // changed only by holders
	for id := range workers {
		start(func() error {
			for range rounds {
				if err := r.Acquire(context.Background()); err != nil {
					return err
				}
				order = append(order, id)
				time.Sleep(hold)
				r.Release()
			}
			return nil
		})
	}
	time.Sleep(time.Duration(workers*rounds) * hold)
	synctest.Wait()
	resRequire(t, r, 0, 0)
	return order
}

// Rows 78, 117.
func TestCapacityResource_WorkersTakeTurns(t *testing.T) {
	resBothModes(t, func(t *testing.T, opts ...condvar.Option) {
		require.Equal(t, []int{0, 1, 2, 0, 1, 2}, resTurns(t, 3, 2, time.Second, opts...))
		require.Equal(t, []int{0, 1, 2, 0, 1, 2, 0, 1, 2, 0, 1, 2, 0, 1, 2},
			resTurns(t, 3, 5, resThreshold, opts...))
	})
}

// Row 79.
func TestCapacityResource_WhoReleasesAndAcquiresAgainGoesToTheBack(t *testing.T) {
	resBothModes(t, func(t *testing.T, opts ...condvar.Option) {
		r := resNew(t, 1, 1, opts...)
		var order []int // changed only by holders
		for id := range 3 {
			start(func() error {
				return r.Do(context.Background(), func(context.Context) error {
					order = append(order, id)
					return nil
				})
			})
		}
		time.Sleep(resThreshold)
		r.Release()
		require.NoError(t, r.Acquire(context.Background()))
		require.Equal(t, []int{0, 1, 2}, order)
	})
}

// Row 92.
func TestCapacityResource_AcquiringTwiceWaitsForSomebodyElse(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := resNew(t, 1, 0)
		phase := 0
		a := start(func() error {
			for range 2 {
				if err := r.Acquire(context.Background()); err != nil {
					return err
				}
				phase++
			}
			return nil
		})
		a.requireParked(t)
		require.Equal(t, 1, phase)
		r.Release()
		synctest.Wait()
		a.requireDone(t, nil)
		require.Equal(t, 2, phase)
	})
}

// Row 71.
func TestCapacityResource_ALaterArrivalDoesNotGetWhatWasReleasedForTheLine(t *testing.T) {
	resBothModes(t, func(t *testing.T, opts ...condvar.Option) {
		r := resNew(t, 3, 2, opts...)
		resAcquire(r, 1).requireDone(t, nil)
		c2, c3 := resPark(t, r, 1), resPark(t, r, 1)
		time.Sleep(resThreshold)
		r.Release()
		r.Release()
		require.False(t, r.TryAcquire())
		c4 := resPark(t, r, 1)
		c2.requireDone(t, nil)
		c3.requireDone(t, nil)
		resRequire(t, r, 3, 1)
		c4.cancel()
		synctest.Wait()
	})
}

// Rows 105, 115, 125, 143. Bug R6.
func TestCapacityResource_TryAcquireRightAfterAReleaseDoesNotOvertakeTheLine(t *testing.T) {
	resBothModes(t, func(t *testing.T, opts ...condvar.Option) {
		for range 200 {
			r := resNew(t, 2, 2, opts...)
			w := resPark(t, r, 1)
			time.Sleep(resThreshold)
			r.Release()
			require.False(t, r.TryAcquire())
			require.LessOrEqual(t, r.Stats().InUse, int64(2))
			synctest.Wait()
			w.requireDone(t, nil)
			resRequire(t, r, 2, 0)
		}
	})
}

// Row 81.
func TestCapacityResource_ThreeReleasesLetInAWaiterAndTwoArrivals(t *testing.T) {
	resBothModes(t, func(t *testing.T, opts ...condvar.Option) {
		for range 100 {
			r := resNew(t, 3, 3, opts...)
			w := resPark(t, r, 1)
			r.Release()
			r.Release()
			r.Release()
			s := r.Stats() // the waiter has run or not, and is counted once
			require.EqualValues(t, 1, s.InUse+s.Waiting)
			for arrival := range int64(2) {
				require.NoError(t, r.Acquire(context.Background()))
				s := r.Stats()
				require.Equal(t, 2+arrival, s.InUse+s.Waiting)
				if len(opts) > 0 { // FIFO: no call gets in before the waiter
					require.Zero(t, s.Waiting)
				}
			}
			synctest.Wait()
			w.requireDone(t, nil)
			resRequire(t, r, 3, 0)
		}
	})
}

// Rows 97, 98. Bug R4.
func TestCapacityResource_ABatchOfReleasesLetsAsManyIn(t *testing.T) {
	resBothModes(t, func(t *testing.T, opts ...condvar.Option) {
		for name, release := range map[string]func(*condvar.CapacityResource, int){
			"one by one": func(r *condvar.CapacityResource, n int) {
				for range n {
					r.Release()
				}
			},
			"at once": func(r *condvar.CapacityResource, n int) { r.ReleaseN(int64(n)) },
		} {
			r := resNew(t, 7, 1, opts...)
			var acquired atomic.Int64
			for range 10 {
				start(func() error {
					for range 2 {
						if err := r.Acquire(context.Background()); err != nil {
							return err
						}
						acquired.Add(1)
					}
					return nil
				})
			}
			for _, step := range []struct{ release, acquired int }{{0, 6}, {7, 13}, {6, 19}, {1, 20}} {
				release(r, step.release)
				synctest.Wait()
				require.EqualValues(t, step.acquired, acquired.Load(), name)
				require.False(t, r.TryAcquire(), name)
			}
			resRequire(t, r, 7, 0)
		}
	})
}

// F16.
func TestCapacityResource_ReleaseDoesNotWaitForTheOneItWakes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := resNew(t, 2, 2)
		w := resPark(t, r, 1)
		begin := time.Now()
		a := start(func() error {
			r.Release()
			r.Release() // whether or not the first one's waiter has run
			return nil
		})
		a.requireDone(t, nil)
		w.requireDone(t, nil)
		require.Zero(t, time.Since(begin))
		resRequire(t, r, 1, 0)
	})
}

// Rows 91, 100.
func TestCapacityResource_AnAcquireFailsExactlyAtItsDeadline(t *testing.T) {
	resBothModes(t, func(t *testing.T, opts ...condvar.Option) {
		r := resNew(t, 1, 0, opts...)
		for range 3 {
			require.NoError(t, r.Acquire(context.Background()))
			ctx, cancel := context.WithTimeout(context.Background(), time.Second/2)
			begin := time.Now()
			require.Equal(t, context.DeadlineExceeded, r.Acquire(ctx))
			require.Equal(t, time.Second/2, time.Since(begin))
			cancel()
			r.Release()
		}
	})
}

// Row 94.
func TestCapacityResource_AResourceIsFreeAfterATimeoutAndARelease(t *testing.T) {
	resBothModes(t, func(t *testing.T, opts ...condvar.Option) {
		r := resNew(t, 1, 1, opts...)
		ctx, cancel := context.WithTimeout(context.Background(), time.Second/2)
		defer cancel()
		require.Error(t, r.Acquire(ctx))
		r.Release()
		resRequire(t, r, 0, 0)
		require.True(t, r.TryAcquire())
	})
}

// Bug R2. F8.
func TestCapacityResource_CancellingABigHeadLetsTheSmallOnesBehindItIn(t *testing.T) {
	resBothModes(t, func(t *testing.T, opts ...condvar.Option) {
		r := resNew(t, 5, 2, opts...)
		big := resPark(t, r, 5)
		time.Sleep(resThreshold)
		r.Release() // 4 are free, and kept for the head
		a, b, c := resPark(t, r, 2), resPark(t, r, 2), resPark(t, r, 2)
		big.cancel()
		synctest.Wait()
		big.requireDone(t, context.Canceled)
		a.requireDone(t, nil)
		b.requireDone(t, nil)
		c.requireParked(t)
		resRequire(t, r, 5, 1)
		c.cancel()
		synctest.Wait()
	})
}

// Bug R3.
func TestCapacityResource_AcquireOfNothingIsNotStuckBehindACancelledHead(t *testing.T) {
	resBothModes(t, func(t *testing.T, opts ...condvar.Option) {
		r := resNew(t, 1, 1, opts...)
		head := resPark(t, r, 1)
		startAcquire(context.Background(), r, 0).requireDone(t, nil)
		head.cancel()
		require.NoError(t, r.AcquireN(context.Background(), 0))
		synctest.Wait()
		head.requireDone(t, context.Canceled)
		resRequire(t, r, 1, 0)
	})
}

// F9. The order of the contract, whatever the weights.
func TestCapacityResource_SmallRequestsInLineDoNotOvertakeABigOne(t *testing.T) {
	resBothModes(t, func(t *testing.T, opts ...condvar.Option) {
		r := resNew(t, 4, 4, opts...)
		first, big, small := resPark(t, r, 1), resPark(t, r, 4), resPark(t, r, 1)
		time.Sleep(resThreshold)
		for free := range int64(4) {
			r.Release()
			synctest.Wait()
			first.requireDone(t, nil) // at the first release
			big.requireParked(t)
			small.requireParked(t)
			require.False(t, r.TryAcquire(), "%d are free", free)
		}
		r.Release() // the permit of first
		synctest.Wait()
		big.requireDone(t, nil)
		small.requireParked(t)
		r.Release()
		synctest.Wait()
		small.requireDone(t, nil)
	})
}

func TestCapacityResource_OneReleaseLetsInAllThatFitInOrder(t *testing.T) {
	resBothModes(t, func(t *testing.T, opts ...condvar.Option) {
		r := resNew(t, 10, 10, opts...)
		a, b, c, d := resPark(t, r, 3), resPark(t, r, 2), resPark(t, r, 4), resPark(t, r, 1)
		r.ReleaseN(8)
		synctest.Wait()
		a.requireDone(t, nil)
		b.requireDone(t, nil)
		c.requireParked(t) // 3 are free, which d would fit into
		d.requireParked(t)
		resRequire(t, r, 7, 2)
		r.ReleaseN(7)
		synctest.Wait()
		c.requireDone(t, nil)
		d.requireDone(t, nil)
		resRequire(t, r, 5, 0)
	})
}

// The default order, up to the first release after 1 ms. F17.
func TestCapacityResource_NewcomersOvertakeUntilTheHeadHasWaitedAMillisecond(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := resNew(t, 3, 2)
		big := resPark(t, r, 3) // one is free, so that only overtaking counts
		overtake := func() {
			t.Helper()
			require.True(t, r.TryAcquire())
			r.Release()
			require.NoError(t, r.Acquire(context.Background()))
			r.Release()
		}
		overtake()
		time.Sleep(resThreshold - time.Nanosecond)
		overtake() // with a release 1 ns too early
		time.Sleep(time.Nanosecond)
		require.True(t, r.TryAcquire()) // it is time, but no release has come
		r.Release()
		require.False(t, r.TryAcquire())
		newcomer := resPark(t, r, 1)
		r.Release()
		require.False(t, r.TryAcquire())
		synctest.Wait()
		big.requireParked(t)
		newcomer.requireParked(t)
		r.Release()
		synctest.Wait()
		big.requireDone(t, nil)
		newcomer.requireParked(t)
		r.ReleaseN(3)
		synctest.Wait()
		newcomer.requireDone(t, nil)
	})
}

// F17.
func TestCapacityResource_AHogLosesAtTheFirstReleaseAfterAMillisecond(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := resNew(t, 2, 2)
		w := resPark(t, r, 2)
		begin := time.Now()
		for again := true; again; again = r.TryAcquire() {
			time.Sleep(300 * time.Microsecond)
			r.Release()
		}
		require.Equal(t, 1200*time.Microsecond, time.Since(begin))
		r.Release()
		synctest.Wait()
		w.requireDone(t, nil)
	})
}

func TestCapacityResource_AGrowingResizeEndsOvertakingAsAReleaseDoes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := resNew(t, 3, 2)
		w := resPark(t, r, 3)
		time.Sleep(resThreshold - time.Nanosecond)
		r.Resize(4) // too early
		require.True(t, r.TryAcquireN(2))
		time.Sleep(time.Nanosecond)
		r.Resize(6)
		require.False(t, r.TryAcquire())
		w.cancel()
		synctest.Wait()
	})
}

func TestCapacityResource_APermitFreedEarlyGoesToTheHeadOrToANewcomerButIsNotLost(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for range 300 {
			r := resNew(t, 1, 1)
			w := resPark(t, r, 1)
			r.Release()
			overtook := r.TryAcquire()
			synctest.Wait()
			require.NotEqual(t, overtook, w.done.Load())
			resRequire(t, r, 1, map[bool]int64{true: 1, false: 0}[overtook])
			r.Release()
			synctest.Wait()
			w.requireDone(t, nil)
		}
	})
}

// Bug R8.
func TestCapacityResource_OvertakingResumesWhenAStarvingHeadIsGoneUnlessTheNextIsAsOld(t *testing.T) {
	for _, c := range []struct {
		name string
		// Permits that the next in line wants, which is more than are free.
		next  int64
		leave func(*condvar.CapacityResource, resWaiter)
	}{
		{"canceled", 3, func(_ *condvar.CapacityResource, head resWaiter) { head.cancel() }},
		{"too large", 2, func(r *condvar.CapacityResource, _ resWaiter) {
			r.Resize(2)
			r.Resize(3)
		}},
		{"got in", 3, func(r *condvar.CapacityResource, _ resWaiter) {
			r.Release()
			synctest.Wait()
			r.Release()
		}},
	} {
		for _, next := range []string{"nobody", "young", "old"} {
			t.Run(c.name+", next is "+next, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					r := resNew(t, 4, 3)
					head := resPark(t, r, 3)
					var w resWaiter
					if next == "old" {
						w = resPark(t, r, c.next)
					}
					time.Sleep(resThreshold)
					r.Release()
					require.False(t, r.TryAcquire(), "the head is starving")
					if next == "young" {
						w = resPark(t, r, c.next)
					}
					c.leave(r, head)
					synctest.Wait()
					require.True(t, head.done.Load())
					require.Equal(t, next != "old", r.TryAcquire())
					if next != "nobody" {
						w.requireParked(t)
						w.cancel()
						synctest.Wait()
					}
					// No call waits, so the mode has ended in any case.
					r.Resize(10)
					require.True(t, r.TryAcquire())
				})
			})
		}
	}
}

// Bug R8.
func TestCapacityResource_AcquireWorksAfterAllWhoStarvedAreCancelled(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := resNew(t, 2, 2)
		a, b := resPark(t, r, 2), resPark(t, r, 1)
		time.Sleep(time.Second)
		r.Release()
		b.cancel() // first, so that there is no room for it when a has left
		a.cancel()
		synctest.Wait()
		a.requireDone(t, context.Canceled)
		b.requireDone(t, context.Canceled)
		resAcquire(r, 1).requireDone(t, nil)
		r.ReleaseN(2)
		resRequireExact(t, r, 2)
	})
}

// Bug R15. F25. The cost of leaving a line does not depend on its length.
func TestCapacityResource_LeavingTheLineOfAResourceCostsTheSameInALongOne(t *testing.T) {
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
	for range 3 { // the minimum of each, to exclude other load of the machine
		short, long = min(short, cost(200)), min(long, cost(20_000))
	}
	require.Less(t, long, 10*max(short, time.Microsecond), "%v in a short line", short)
}

// A head that was notified and has not run may be overtaken until the first
// release after it has waited 1 ms.
func TestCapacityResource_NobodyOvertakesAWokenHeadThatHasStarved(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := resNew(t, 2, 2)
		head := resPark(t, r, 2)
		send := r.WakeHeadLater()
		r.Release()
		require.True(t, r.TryAcquire(), "new calls may still overtake")
		time.Sleep(resThreshold)
		require.False(t, r.TryAcquire())
		r.Release() // from here on no call may
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

// A release reads the clock before it locks mu. That reading must not decide
// whether a head has starved in the meantime, at another release.
func TestCapacityResource_AReleaseThatWasHeldUpEndsNoOvertakingBan(t *testing.T) {
	spin := func(since time.Time, d time.Duration) {
		for time.Since(since) < d { // the clock itself counts
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
			// It reads the clock when the first has starved and the second has
			// not.
			r.ReleaseN(2)
		})
		<-late
		spin(joined, 1500*time.Microsecond)
		r.Mu().Unlock()
		r.Release() // now the second has starved, too
		for s := r.Stats(); s.InUse != 2 || s.Waiting != 1; s = r.Stats() {
			runtime.Gosched()
		}
		require.False(t, r.TryAcquire())
		r.ReleaseN(2)
		wg.Wait()
		r.ReleaseN(2)
	}
}

// The head has been woken, but has not run, when it starves. That is a
// millisecond after it has joined the line, whenever it was woken, and
// whichever calls have joined since. With one processor it does not run until
// the test lets it.
func TestCapacityResource_AWokenHeadThatHasNotRunStarvesOnTime(t *testing.T) {
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
		for time.Since(joined) < resThreshold/2 { // the head starves
		}
		go func() { in <- r.Acquire(context.Background()) }()
		spin(t, waiting, 2)
		r.Release()
		if r.TryAcquire() {
			for time.Since(joined) < resThreshold { // the head waits longer
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

// If a context ends while the call waits for mu, its Err is called after mu is
// unlocked.
func TestCapacityResource_AContextThatEndsBeforeTheLockMayUseTheResource(t *testing.T) {
	r := condvar.NewCapacityResource(1 << 40) // which has no fast path
	ctx, cancel := context.WithCancel(context.Background())
	seam := &resSeamContext{resNosyContext{ctx, r}, cancel}
	requireReturns(t, "Acquire", func() { require.ErrorIs(t, r.Acquire(seam), context.Canceled) })
}

// A woken waiter waits for its token even if its context ends first. Otherwise
// a later wait would receive the token.
func TestCapacityResource_ACanceledCallThatWasWokenWaitsForItsToken(t *testing.T) {
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
