package condvar_test

import (
	"context"
	"math"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"example.com/condvar"
)

// Bug R26.
func TestMaxWaiting_MoreCallsThanThatFailAtOnce(t *testing.T) {
	resBothModes(t, func(t *testing.T, opts ...condvar.Option) {
		r := resNew(t, 1, 1, append(opts, condvar.MaxWaiting(2))...)
		first, second := resPark(t, r, 1), resPark(t, r, 1)
		before := r.Stats()
		require.Equal(t, condvar.ErrOverloaded, r.Acquire(t.Context()))
		require.False(t, r.TryAcquire())
		before.Rejected++ // the only change
		require.Equal(t, before, r.Stats())

		first.cancel()
		synctest.Wait()
		third := resPark(t, r, 1)
		require.Equal(t, condvar.ErrOverloaded, r.Acquire(t.Context()))
		r.ReleaseN(1)
		synctest.Wait()
		second.requireDone(t, nil)
		third.requireParked(t)
		r.Release()
		synctest.Wait()
		third.requireDone(t, nil)
		require.EqualValues(t, 2, r.Stats().Rejected)
	})
}

func TestMaxWaiting_Of0LetsNobodyWait(t *testing.T) {
	resBothModes(t, func(t *testing.T, opts ...condvar.Option) {
		r := resNew(t, 3, 0, append(opts, condvar.MaxWaiting(0))...)
		require.NoError(t, r.AcquireN(t.Context(), 2))
		require.Equal(t, condvar.ErrOverloaded, r.AcquireN(t.Context(), 2))
		require.NoError(t, r.Acquire(t.Context()))
		require.NoError(t, r.AcquireN(t.Context(), 0))
		require.Equal(t, condvar.ErrOverloaded, r.Acquire(t.Context()))
		r.Resize(0)
		require.Equal(t, condvar.ErrOverloaded, r.Acquire(t.Context()))
	})
}

// The token of a woken head is about to be sent. So its goroutine has not left
// the line, though its context has ended.
func TestMaxWaiting_WhoseContextHasEndedCountsUntilItHasRun(t *testing.T) {
	resBothModes(t, func(t *testing.T, opts ...condvar.Option) {
		r := resNew(t, 1, 1, append(opts, condvar.MaxWaiting(1))...)
		w := resPark(t, r, 1)
		send := r.WakeHeadLater()
		w.cancel()
		synctest.Wait()
		w.requireParked(t)
		resRequire(t, r, 1, 1)
		require.Equal(t, condvar.ErrOverloaded, r.Acquire(t.Context()))
		send()
		synctest.Wait()
		w.requireDone(t, context.Canceled)
		resRequire(t, r, 1, 0)
		next := resPark(t, r, 1)
		r.Release()
		synctest.Wait()
		next.requireDone(t, nil)
		require.EqualValues(t, 1, r.Stats().Rejected)
	})
}

func TestMaxWaiting_RejectionsAllocateNothing(t *testing.T) {
	resInBothModes(t, func(t *testing.T, opts ...condvar.Option) {
		r := condvar.NewCapacityResource(1, append(opts, condvar.MaxWaiting(0))...)
		require.True(t, r.TryAcquire())
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		require.Zero(t, testing.AllocsPerRun(100, func() {
			_ = r.Acquire(ctx)
			_, _ = r.AcquirePermit(ctx, 1)
			_, _ = r.TryAcquirePermit(1)
		}))
		require.EqualValues(t, 2*101, r.Stats().Rejected)
	})
}

func TestMaxWaiting_TheLastOptionCounts(t *testing.T) {
	r := condvar.NewCapacityResource(1, condvar.MaxWaiting(5), condvar.MaxWaiting(0))
	require.True(t, r.TryAcquire())
	require.Equal(t, condvar.ErrOverloaded, r.Acquire(t.Context()))
}

func TestOption_OptionsThatMakeNoSensePanic(t *testing.T) {
	require.PanicsWithValue(t, "condvar: MaxWaiting with a negative number", func() { condvar.MaxWaiting(-1) })
	for _, d := range []time.Duration{0, -1, math.MinInt64} {
		require.PanicsWithValue(t, "condvar: MaxWait with a duration that is not positive", func() { condvar.MaxWait(d) })
	}
}

// resInBothModes is resBothModes outside of bubbles.
func resInBothModes(t *testing.T, f func(t *testing.T, opts ...condvar.Option)) {
	t.Run("default", func(t *testing.T) { f(t) })
	t.Run("FIFO", func(t *testing.T) { f(t, condvar.FIFO()) })
}

func TestOption_WhichAnswerComesFirst(t *testing.T) {
	for name, hooks := range map[string]*condvar.Hooks{
		"no hooks":       nil,
		"hooks of waits": {WaitStart: func(context.Context, int64) context.Context { panic("must not wait") }},
		"hooks that see every call": {
			Acquired:  func(context.Context, int64, *condvar.Hold) {},
			WaitStart: func(context.Context, int64) context.Context { panic("must not wait") },
		},
	} {
		t.Run(name, func(t *testing.T) {
			dead, live := resDead(), t.Context()
			r := condvar.NewCapacityResource(2, condvar.MaxWaiting(0), condvar.WithHooks(hooks))
			require.True(t, r.TryAcquire())
			// All three ways to acquire give the same answer.
			answer := func(ctx context.Context, n int64) error {
				err := r.AcquireN(ctx, n)
				p, errOfPermit := r.AcquirePermit(ctx, n)
				require.Nil(t, p)
				require.Equal(t, err, errOfPermit)
				require.Equal(t, err, r.DoN(ctx, n, func(context.Context) error { panic("fn was called") }))
				return err
			}
			require.Equal(t, context.Canceled, answer(dead, 3))
			require.Equal(t, context.Canceled, answer(dead, 1))
			require.Equal(t, condvar.ErrTooLarge, answer(live, 3))
			require.NoError(t, r.AcquireN(live, 1), "permits that are free")
			require.Equal(t, condvar.ErrOverloaded, answer(live, 2))
			require.EqualValues(t, 3, r.Stats().Rejected)
			require.NoError(t, r.Close())
			require.Equal(t, context.Canceled, answer(dead, 3))
			require.Equal(t, condvar.ErrClosed, answer(live, 3))
			require.Equal(t, condvar.ErrClosed, answer(live, 0))
			const negative = "condvar: negative number of permits"
			require.PanicsWithValue(t, negative, func() { _ = r.AcquireN(dead, -1) })
			require.PanicsWithValue(t, negative, func() { _, _ = r.AcquirePermit(dead, -1) })
			require.PanicsWithValue(t, negative, func() { r.TryAcquireN(-1) })
			require.EqualValues(t, 3, r.Stats().Rejected)
			resRequire(t, r, 2, 0)
		})
	}
}

func TestMaxWait_EndsTheWaitExactlyThen(t *testing.T) {
	resBothModes(t, func(t *testing.T, opts ...condvar.Option) {
		r := resNew(t, 1, 1, append(opts, condvar.MaxWait(time.Second))...)
		begin := time.Now()
		require.Equal(t, condvar.ErrOverloaded, r.Acquire(t.Context()))
		require.Equal(t, time.Second, time.Since(begin))
		require.Equal(t, condvar.Stats{
			Capacity: 1, InUse: 1, WaitCount: 1, WaitDuration: time.Second, Rejected: 1,
		}, r.Stats())

		first := resPark(t, r, 1)
		time.Sleep(time.Second / 2)
		second := resPark(t, r, 1)
		time.Sleep(time.Second/2 - 1)
		first.requireParked(t)
		time.Sleep(time.Nanosecond)
		synctest.Wait()
		first.requireDone(t, condvar.ErrOverloaded)
		second.requireParked(t)
		r.Release()
		synctest.Wait()
		second.requireDone(t, nil)
	})
}

func TestMaxWait_ABigHeadThatLeavesLetsTheSmallOnesIn(t *testing.T) {
	resBothModes(t, func(t *testing.T, opts ...condvar.Option) {
		r := resNew(t, 3, 1, append(opts, condvar.MaxWait(time.Second))...)
		require.True(t, r.TryAcquire())
		big := resPark(t, r, 3)
		time.Sleep(time.Second / 2)
		r.Release() // from now on no call overtakes the head
		small := resPark(t, r, 1)
		time.Sleep(time.Second / 2)
		synctest.Wait()
		big.requireDone(t, condvar.ErrOverloaded)
		small.requireDone(t, nil)
	})
}

func TestMaxWait_EndsAPauseToo(t *testing.T) {
	resBothModes(t, func(t *testing.T, opts ...condvar.Option) {
		r := newPaused(append(opts, condvar.MaxWait(time.Minute))...)
		w := resPark(t, r, 1)
		time.Sleep(time.Minute)
		synctest.Wait()
		w.requireDone(t, condvar.ErrOverloaded)
	})
}

func TestMaxWait_IfTheContextEndsAtTheSameTimeItsErrorCounts(t *testing.T) {
	resBothModes(t, func(t *testing.T, opts ...condvar.Option) {
		r := resNew(t, 1, 1, append(opts, condvar.MaxWait(time.Second))...)
		for range 100 {
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			require.Equal(t, context.DeadlineExceeded, r.Acquire(ctx))
			cancel()
		}
		later, cancel := context.WithTimeout(t.Context(), time.Second+1)
		defer cancel()
		require.Equal(t, condvar.ErrOverloaded, r.Acquire(later))
		earlier, cancel := context.WithTimeout(t.Context(), time.Second-1)
		defer cancel()
		require.Equal(t, context.DeadlineExceeded, r.Acquire(earlier))
		require.EqualValues(t, 1, r.Stats().Rejected)
		require.EqualValues(t, 101, r.Stats().Canceled)
	})
}

// A contextWithoutDeadline ends when its parent does, and has no Deadline.
type contextWithoutDeadline struct{ context.Context }

func (contextWithoutDeadline) Deadline() (time.Time, bool) { return time.Time{}, false }

func TestMaxWait_AContextThatHasEndedCountsWhenTheTimerFires(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := resNew(t, 1, 1, condvar.MaxWait(time.Second))
		w := resPark(t, r, 1)
		w.cancel() // long before the timer fires
		synctest.Wait()
		w.requireDone(t, context.Canceled)

		w = resPark(t, r, 1)
		send := r.WakeHeadLater()
		time.Sleep(time.Second) // its timer fires, but it waits for its token
		synctest.Wait()
		w.cancel()
		r.Release() // too late
		send()
		synctest.Wait()
		w.requireDone(t, context.Canceled)
		resRequire(t, r, 0, 0)
		require.EqualValues(t, 2, r.Stats().Canceled)
		require.Zero(t, r.Stats().Rejected)
	})
}

// Either may come first if the call cannot know that both are at the same time.
// The statistics agree with the error.
func TestMaxWait_OfTheTimerAndTheContextOneCounts(t *testing.T) {
	resBothModes(t, func(t *testing.T, opts ...condvar.Option) {
		r := resNew(t, 1, 1, append(opts, condvar.MaxWait(time.Second))...)
		var canceled, rejected int64
		for range 200 {
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			switch err := r.Acquire(contextWithoutDeadline{ctx}); err {
			case context.DeadlineExceeded:
				canceled++
			case condvar.ErrOverloaded:
				rejected++
			default:
				require.NoError(t, err)
			}
			cancel()
			s := r.Stats()
			require.Equal(t, []int64{canceled, rejected, canceled + rejected}, []int64{s.Canceled, s.Rejected, s.WaitCount})
		}
	})
}

// A goroutine that was woken because of free permits, but finds none, must not
// sleep longer than MaxWait in all.
func TestMaxWait_AnAwakeHeadThatFindsNothingLeavesInTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := resNew(t, 1, 1, condvar.MaxWait(time.Second))
		w := resPark(t, r, 1)
		send := r.WakeHeadLater()
		time.Sleep(time.Second) // its timer fires while it is awake
		synctest.Wait()
		w.requireParked(t)
		send()
		synctest.Wait()
		w.requireDone(t, condvar.ErrOverloaded)
		require.EqualValues(t, 1, r.Stats().Rejected)

		w = resPark(t, r, 1)
		time.Sleep(time.Second / 2)
		r.WakeHeadLater()() // in time: it parks again, for the rest of MaxWait
		synctest.Wait()
		w.requireParked(t)
		time.Sleep(time.Second/2 - 1)
		synctest.Wait()
		w.requireParked(t)
		time.Sleep(time.Nanosecond)
		synctest.Wait()
		w.requireDone(t, condvar.ErrOverloaded)
	})
}

func TestMaxWait_AnAwakeHeadThatFitsIsAdmittedThoughItsTimeIsOver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := resNew(t, 1, 1, condvar.MaxWait(time.Second))
		w := resPark(t, r, 1)
		send := r.WakeHeadLater()
		time.Sleep(2 * time.Second)
		r.Release()
		send()
		synctest.Wait()
		w.requireDone(t, nil)
	})
}

func TestMaxWait_CountsFromJoiningTheLine(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := condvar.NewCapacityResource(1, condvar.MaxWait(time.Second), condvar.WithHooks(&condvar.Hooks{
			WaitStart: func(context.Context, int64) context.Context {
				time.Sleep(time.Hour)
				return nil
			},
		}))
		require.True(t, r.TryAcquire())
		begin := time.Now()
		require.Equal(t, condvar.ErrOverloaded, r.Acquire(t.Context()))
		require.Equal(t, time.Hour+time.Second, time.Since(begin))
	})
}

func TestMaxWait_OfAllTimeNeverEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := resNew(t, 1, 1, condvar.MaxWait(math.MaxInt64))
		w := resPark(t, r, 1)
		time.Sleep(100 * 365 * 24 * time.Hour)
		synctest.Wait()
		w.requireParked(t)
		ctx, cancel := context.WithCancel(t.Context())
		limited := startAcquire(ctx, r, 1)
		cancel()
		synctest.Wait()
		limited.requireDone(t, context.Canceled)
		r.Release()
		synctest.Wait()
		w.requireDone(t, nil)
	})
}

// In a bubble the age of a new resource is 0 when the call joins its line, so
// the sum of age and MaxWait does not overflow there.
func TestMaxWait_OfAllTimeNeverEndsOutsideBubblesEither(t *testing.T) {
	r := condvar.NewCapacityResource(1, condvar.MaxWait(math.MaxInt64))
	require.True(t, r.TryAcquire())
	result := make(chan error, 1)
	go func() { result <- r.Acquire(context.Background()) }()
	spin(t, func() int { return int(r.Stats().Waiting + r.Stats().Rejected) }, 1)
	r.Release()
	require.NoError(t, <-result)
}

// Bug R28.
func TestMaxWait_DoesNotCutOffTheWork(t *testing.T) {
	for name, hooks := range map[string]*condvar.Hooks{
		"no hooks": nil,
		"hooks": { // only later hooks get its context
			WaitStart: func(context.Context, int64) context.Context { return resDead() },
			Acquired:  func(context.Context, int64, *condvar.Hold) {},
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := resNew(t, 1, 1, condvar.MaxWait(time.Second), condvar.WithHooks(hooks))
				ctx := context.WithValue(t.Context(), hookKey{}, "call")
				done := start(func() error {
					return r.Do(ctx, func(got context.Context) error {
						require.Equal(t, ctx, got)
						_, hasDeadline := got.Deadline()
						require.False(t, hasDeadline)
						time.Sleep(time.Hour)
						return got.Err()
					})
				})
				time.Sleep(time.Second - 1)
				r.Release()
				time.Sleep(time.Hour)
				synctest.Wait()
				done.requireDone(t, nil)
				require.Zero(t, r.Stats().Rejected)
			})
		})
	}
}

func TestMaxWait_ClosingAndShrinkingComeFirstIfTheyDo(t *testing.T) {
	resBothModes(t, func(t *testing.T, opts ...condvar.Option) {
		r := resNew(t, 2, 2, append(opts, condvar.MaxWait(time.Second))...)
		big, small := resPark(t, r, 2), resPark(t, r, 1)
		r.Resize(1)
		synctest.Wait()
		big.requireDone(t, condvar.ErrTooLarge)
		require.NoError(t, r.Close())
		synctest.Wait()
		small.requireDone(t, condvar.ErrClosed)
		time.Sleep(time.Minute)
		require.Zero(t, r.Stats().Rejected)
	})
}

func TestMaxWait_AWaitAllocatesNothingInTheSteadyState(t *testing.T) {
	resInBothModes(t, func(t *testing.T, opts ...condvar.Option) {
		r := condvar.NewCapacityResource(1, append(opts, condvar.MaxWait(50*time.Microsecond))...)
		require.True(t, r.TryAcquire())
		require.Zero(t, testing.AllocsPerRun(100, func() {
			require.Equal(t, condvar.ErrOverloaded, r.Acquire(context.Background()))
		}))
	})
}

// Only a wait has a timer.
func TestMaxWait_WhatDoesNotWaitAllocatesNothing(t *testing.T) {
	resInBothModes(t, func(t *testing.T, opts ...condvar.Option) {
		r := condvar.NewCapacityResource(2, append(opts, condvar.MaxWait(time.Second))...)
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		fn := func(context.Context) error { return nil }
		require.Zero(t, testing.AllocsPerRun(100, func() {
			_ = r.Acquire(ctx)
			r.TryAcquire()
			r.ReleaseN(2)
			_ = r.Do(ctx, fn)
			_ = r.AcquireN(ctx, 3)
		}))
	})
}

func TestMaxWait_IsToldAsTheEndOfAWait(t *testing.T) {
	resBothModes(t, func(t *testing.T, opts ...condvar.Option) {
		var log hookLog
		r := resNew(t, 1, 0, append(opts, condvar.MaxWait(time.Second), condvar.WithHooks(log.hooks()))...)
		require.NoError(t, r.Acquire(t.Context()))
		log.take()
		p, err := r.AcquirePermit(context.WithValue(t.Context(), hookKey{}, "call"), 1)
		require.Equal(t, condvar.ErrOverloaded, err)
		require.Nil(t, p)
		require.Equal(t, []string{"WaitStart call 1", "WaitDone started 1 1s condvar: resource is overloaded"}, log.take())
		require.EqualValues(t, 1, r.Stats().Rejected)
		require.Zero(t, r.Stats().Canceled)
	})
}

func TestMaxWait_AgainstGrantsAtTheSameTime(t *testing.T) {
	resInBothModes(t, func(t *testing.T, opts ...condvar.Option) {
		r := condvar.NewCapacityResource(2, append(opts, condvar.MaxWait(20*time.Microsecond), condvar.AdmitOversized())...)
		var calls sync.WaitGroup
		var inUse, over, rejected atomic.Int64
		for i := range 16 {
			calls.Go(func() {
				n := int64(i%3 + 1)
				for range 300 {
					if err := r.AcquireN(t.Context(), n); err != nil {
						rejected.Add(1)
						continue
					}
					if sum := inUse.Add(n); sum > max(2, n) {
						over.Add(1)
					}
					runtime.Gosched()
					inUse.Add(-n)
					r.ReleaseN(n)
				}
			})
		}
		calls.Wait()
		require.Zero(t, over.Load())
		s := r.Stats()
		require.Equal(t, rejected.Load(), s.Rejected)
		require.Zero(t, s.InUse)
		require.Zero(t, s.Waiting)
		require.True(t, r.TryAcquireN(2))
	})
}

// Bug R29.
func TestAdmitOversized_ARequestForMoreThanTheCapacityIsAdmittedAlone(t *testing.T) {
	resBothModes(t, func(t *testing.T, opts ...condvar.Option) {
		r := resNew(t, 3, 2, append(opts, condvar.AdmitOversized())...)
		huge := resPark(t, r, 10)
		require.False(t, r.TryAcquireN(10))
		r.Release()
		synctest.Wait()
		huge.requireParked(t)
		r.Release()
		synctest.Wait()
		huge.requireDone(t, nil)
		resRequire(t, r, 10, 0)

		require.NoError(t, r.AcquireN(t.Context(), 0))
		require.False(t, r.TryAcquire())
		small, next := resPark(t, r, 1), resPark(t, r, 4)
		r.ReleaseN(7) // three are in use, which is the capacity
		synctest.Wait()
		small.requireParked(t)
		r.Release() // the ordinary rule applies again
		synctest.Wait()
		small.requireDone(t, nil)
		r.ReleaseN(2)
		synctest.Wait()
		next.requireParked(t)
		r.Release()
		synctest.Wait()
		next.requireDone(t, nil)
		resRequire(t, r, 4, 0)
	})
}

func TestAdmitOversized_OnAnIdleResourceNobodyWaits(t *testing.T) {
	resInBothModes(t, func(t *testing.T, opts ...condvar.Option) {
		r := condvar.NewCapacityResource(3, append(opts, condvar.AdmitOversized())...)
		for _, n := range []int64{4, 1 << 31, math.MaxInt64} {
			require.True(t, r.TryAcquireN(n))
			require.False(t, r.TryAcquire())
			r.ReleaseN(n)
			require.NoError(t, r.AcquireN(t.Context(), n))
			require.Equal(t, n, r.Stats().InUse)
			require.PanicsWithValue(t, resOverRelease, func() { r.ReleaseN(math.MaxInt64); r.Release() })
			r.ReleaseN(r.Stats().InUse)
			require.True(t, r.TryAcquireN(3))
			require.False(t, r.TryAcquireN(n))
			r.ReleaseN(3)
		}
	})
}

func TestAdmitOversized_WaitsInItsPlace(t *testing.T) {
	resBothModes(t, func(t *testing.T, opts ...condvar.Option) {
		r := resNew(t, 3, 3, append(opts, condvar.AdmitOversized())...)
		first, huge, last := resPark(t, r, 2), resPark(t, r, 10), resPark(t, r, 1)
		time.Sleep(time.Second) // after which no call overtakes
		r.ReleaseN(3)
		synctest.Wait()
		first.requireDone(t, nil)
		huge.requireParked(t)
		last.requireParked(t)
		require.False(t, r.TryAcquire())
		r.ReleaseN(2)
		synctest.Wait()
		huge.requireDone(t, nil)
		last.requireParked(t)
		r.ReleaseN(10)
		synctest.Wait()
		last.requireDone(t, nil)
	})
}

func TestAdmitOversized_WhatIsTooLargeIsDecidedAtEachResize(t *testing.T) {
	resBothModes(t, func(t *testing.T, opts ...condvar.Option) {
		r := resNew(t, 10, 6, append(opts, condvar.AdmitOversized())...)
		w := resPark(t, r, 5)
		r.Resize(2) // 5 are too many now
		synctest.Wait()
		w.requireParked(t)
		r.ReleaseN(5)
		synctest.Wait()
		w.requireParked(t) // one is held
		r.Resize(6)        // and now 5 are not too many
		synctest.Wait()
		w.requireDone(t, nil)
		resRequire(t, r, 6, 0)
		r.ReleaseN(6)

		require.True(t, r.TryAcquireN(20))
		r.Resize(25)
		require.True(t, r.TryAcquireN(5))
		require.False(t, r.TryAcquire())
	})
}

func TestAdmitOversized_NobodyIsAdmittedWhilePaused(t *testing.T) {
	resBothModes(t, func(t *testing.T, opts ...condvar.Option) {
		r := newPaused(append(opts, condvar.AdmitOversized())...)
		require.False(t, r.TryAcquireN(5))
		w := resPark(t, r, 5)
		r.Resize(1)
		synctest.Wait()
		w.requireDone(t, nil)
		r.Resize(0)
		r.ReleaseN(5)
		require.False(t, r.TryAcquireN(5))
		w = resPark(t, r, 2)
		require.NoError(t, r.Close())
		synctest.Wait()
		w.requireDone(t, condvar.ErrClosed)
		require.Equal(t, condvar.ErrClosed, r.AcquireN(t.Context(), 5))
		require.False(t, r.TryAcquireN(5))
	})
}

func TestAdmitOversized_CanceledInLineLetsTheNextIn(t *testing.T) {
	resBothModes(t, func(t *testing.T, opts ...condvar.Option) {
		r := resNew(t, 3, 1, append(opts, condvar.AdmitOversized())...)
		huge := resPark(t, r, 4)
		time.Sleep(time.Second)
		r.Resize(4) // adds a permit, so no call overtakes from now on
		r.Resize(3)
		small := resPark(t, r, 1)
		huge.cancel()
		synctest.Wait()
		huge.requireDone(t, context.Canceled)
		small.requireDone(t, nil)
	})
}

func TestAdmitOversized_IsBoundedAsOthersAre(t *testing.T) {
	resBothModes(t, func(t *testing.T, opts ...condvar.Option) {
		r := resNew(t, 2, 1, append(opts, condvar.AdmitOversized(), condvar.MaxWaiting(1), condvar.MaxWait(time.Second))...)
		huge := resPark(t, r, 5)
		begin := time.Now()
		require.Equal(t, condvar.ErrOverloaded, r.AcquireN(t.Context(), 5))
		require.Zero(t, time.Since(begin))
		time.Sleep(time.Second)
		synctest.Wait()
		huge.requireDone(t, condvar.ErrOverloaded)
		r.Release()
		require.NoError(t, r.AcquireN(t.Context(), 5))
		require.EqualValues(t, 2, r.Stats().Rejected)
	})
}

func TestAdmitOversized_NobodyIsAdmittedAfterAShrinkUntilItFits(t *testing.T) {
	resBothModes(t, func(t *testing.T, opts ...condvar.Option) {
		r := resNew(t, 5, 4, append(opts, condvar.AdmitOversized())...)
		r.Resize(2)
		require.False(t, r.TryAcquire())
		require.False(t, r.TryAcquireN(9))
		w := resPark(t, r, 1)
		r.ReleaseN(2)
		synctest.Wait()
		w.requireParked(t)
		r.Release()
		synctest.Wait()
		w.requireDone(t, nil)
		resRequire(t, r, 2, 0)
	})
}

func TestCapacityResource_WithFIFONobodyOvertakes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := resNew(t, 3, 2, condvar.FIFO())
		big := resPark(t, r, 3)
		require.False(t, r.TryAcquire()) // though one is free and big is young
		small := resPark(t, r, 1)
		r.Release()
		require.False(t, r.TryAcquire())
		synctest.Wait()
		small.requireParked(t)
		big.cancel()
		synctest.Wait()
		small.requireDone(t, nil)
		require.True(t, r.TryAcquire()) // no call waits
		resRequire(t, r, 3, 0)
	})
}
