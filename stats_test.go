package condvar_test

import (
	"context"
	"math"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"example.com/condvar"
)

// Rows 68, 120.
func TestCapacityResource_StringShowsUseCapacityAndWaiters(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := resNew(t, 5, 0)
		require.Equal(t, "0/5 in use, 0 waiting", r.String())
		require.True(t, r.TryAcquireN(3))
		a, b := resPark(t, r, 3), resPark(t, r, 5)
		require.Equal(t, "3/5 in use, 2 waiting", r.String())
		r.Resize(0)
		require.Equal(t, "3/0 in use, 2 waiting, paused", r.String())
		a.cancel()
		b.cancel()
		synctest.Wait()
		require.Equal(t, "3/0 in use, 0 waiting, paused", r.String())
		require.NoError(t, r.Close())
		require.Equal(t, "3/0 in use, 0 waiting, closed", r.String())
		r.Resize(5)
		require.Equal(t, "3/5 in use, 0 waiting, closed", r.String())
	})
}

// Rows 76, 103, 121, 127. Bug R10. F12.
func TestCapacityResource_AFailedCallChangesNothing(t *testing.T) {
	resBothModes(t, func(t *testing.T, opts ...condvar.Option) {
		live, dead := context.Background(), resDead()
		r := resNew(t, 3, 2, opts...)
		w := resPark(t, r, 3)
		time.Sleep(resThreshold)
		before := r.Stats()
		unused := func(context.Context) error { panic("called") }

		require.Error(t, r.Acquire(dead))
		require.Error(t, r.AcquireN(dead, 0))
		require.Error(t, r.Do(dead, unused))
		require.Error(t, r.AcquireN(live, 4))
		require.Error(t, r.DoN(live, 4, unused))
		require.False(t, r.TryAcquireN(2))
		require.False(t, r.TryAcquireN(4))
		require.False(t, r.TryAcquireN(math.MaxInt64))
		for _, n := range []int64{-1, -2, math.MinInt64} {
			require.Panics(t, func() { _ = r.AcquireN(live, n) })
			require.Panics(t, func() { _ = r.DoN(live, n, unused) })
			require.Panics(t, func() { r.TryAcquireN(n) })
			require.Panics(t, func() { r.ReleaseN(n) })
			require.PanicsWithValue(t, "condvar: negative capacity", func() { r.Resize(n) })
		}
		for _, n := range []int64{3, 4, math.MaxInt64} {
			require.PanicsWithValue(t, resOverRelease, func() { r.ReleaseN(n) })
		}
		synctest.Wait()
		w.requireParked(t)
		require.Equal(t, before, r.Stats())

		r.ReleaseN(2)
		synctest.Wait()
		w.requireDone(t, nil)
		r.ReleaseN(3)
		resRequireExact(t, r, 3)

		require.NoError(t, r.Close())
		before = r.Stats()
		require.Error(t, r.Acquire(live))
		require.Error(t, r.Do(live, unused))
		require.False(t, r.TryAcquire())
		require.PanicsWithValue(t, resOverRelease, r.Release)
		require.Equal(t, before, r.Stats())
	})
}

// Rows 76, 104, 121. Bug R9.
func TestCapacityResource_ARecoveredOverReleaseLeavesTheAccountingExact(t *testing.T) {
	for _, capacity := range []int64{0, 1, 2, 5, 1<<31 - 1, 1 << 31, math.MaxInt64} {
		r := resNew(t, capacity, 0)
		require.PanicsWithValue(t, resOverRelease, r.Release)
		require.PanicsWithValue(t, resOverRelease, func() { r.ReleaseN(math.MaxInt64) })
		require.Zero(t, r.Stats().InUse)
		require.True(t, r.TryAcquireN(capacity))
		require.False(t, r.TryAcquire())
		if capacity < math.MaxInt64 {
			require.PanicsWithValue(t, resOverRelease, func() { r.ReleaseN(capacity + 1) })
		}
		require.Equal(t, capacity, r.Stats().InUse)
		r.ReleaseN(capacity)
		require.PanicsWithValue(t, resOverRelease, r.Release)
		require.Equal(t, condvar.Stats{Capacity: capacity}, r.Stats())
	}
}

// Rows 110, 120, 135.
func TestStats_AreExactOnTheFakeClock(t *testing.T) {
	resBothModes(t, func(t *testing.T, opts ...condvar.Option) {
		const ms = time.Millisecond
		r := resNew(t, 4, 4, opts...)
		want := condvar.Stats{Capacity: 4, InUse: 4}
		check := func() {
			t.Helper()
			synctest.Wait()
			require.Equal(t, want, r.Stats())
		}
		check()
		require.False(t, r.TryAcquire()) // none of these is a wait
		require.Error(t, r.Acquire(resDead()))
		require.Error(t, r.AcquireN(context.Background(), 5))
		check()

		a := resPark(t, r, 1) // at 0 ms
		want.Waiting, want.WaitingN = 1, 1
		check()
		time.Sleep(10 * ms)
		b := resPark(t, r, 2) // at 10 ms
		// It ends at 30 ms.
		late, cancel := context.WithTimeout(context.Background(), 20*ms)
		defer cancel()
		c := startAcquire(late, r, 4)
		want.Waiting, want.WaitingN, want.OldestWait = 3, 7, 10*ms
		check()
		time.Sleep(5 * ms)
		want.OldestWait = 15 * ms
		check()

		r.Release() // a in, after 15 ms
		want.Waiting, want.WaitingN, want.OldestWait = 2, 6, 5*ms
		want.WaitCount, want.WaitDuration = 1, 15*ms
		check()
		a.requireDone(t, nil)

		time.Sleep(15*ms + 7) // c gives up after 20 ms
		want.Waiting, want.WaitingN, want.OldestWait = 1, 2, 20*ms+7
		want.WaitCount, want.WaitDuration, want.Canceled = 2, 35*ms, 1
		check()
		c.requireDone(t, context.DeadlineExceeded)

		b.cancel() // after 20 ms and 7 ns
		want.Waiting, want.WaitingN, want.OldestWait = 0, 0, 0
		want.WaitCount, want.WaitDuration, want.Canceled = 3, 55*ms+7, 2
		check()

		resPark(t, r, 4)
		resPark(t, r, 3)
		time.Sleep(ms)
		r.Resize(3) // the first of them is too large
		want.Capacity, want.Waiting, want.WaitingN, want.OldestWait = 3, 1, 3, ms
		want.WaitCount, want.WaitDuration = 4, 56*ms+7
		check()
		time.Sleep(ms)
		require.NoError(t, r.Close())
		want.Closed, want.Waiting, want.WaitingN, want.OldestWait = true, 0, 0, 0
		want.WaitCount, want.WaitDuration = 5, 58*ms+7
		check()
		require.Error(t, r.Acquire(context.Background()))
		r.ReleaseN(4)
		want.InUse = 0
		check()
	})
}

// In the default mode. With FIFO, where no call can starve, the time spent
// waiting for the lock counts.
func TestStats_AWaitIsCountedFromJoiningTheLine(t *testing.T) {
	r := newPaused()
	ctx, cancel := context.WithCancel(context.Background())
	result := make(chan error, 1)
	r.Mu().Lock()
	go func() { result <- r.Acquire(ctx) }()
	stacks := make([]byte, 1<<20)
	spin(t, func() int { // until it is about to lock mu
		return min(1, strings.Count(string(stacks[:runtime.Stack(stacks, true)]), "(*CapacityResource).acquireSlow("))
	}, 1)
	for began := time.Now(); time.Since(began) < 10*time.Millisecond; {
		runtime.Gosched()
	}
	unlocked := time.Now()
	r.Mu().Unlock()
	spin(t, func() int { return int(r.Stats().Waiting) }, 1)
	oldest := r.Stats().OldestWait
	require.LessOrEqual(t, oldest, time.Since(unlocked))
	cancel()
	require.ErrorIs(t, <-result, context.Canceled)
	require.LessOrEqual(t, r.Stats().WaitDuration, time.Since(unlocked))
}

// With FIFO a call reads the clock before it locks mu, so two calls may join in
// the opposite order of their readings.
func TestStats_TheHeadHasWaitedLongestWhateverTheOrderOfTheLocks(t *testing.T) {
	r := newPaused(condvar.FIFO())
	since, now := r.JoinAndLeave(5, 3, time.Hour, 2*time.Hour, 7)
	require.Equal(t, []time.Duration{5, since[1], time.Hour, 2 * time.Hour, since[4]}, since)
	require.Less(t, time.Duration(5), since[1]) // the time at which it joined
	require.Less(t, since[1], now)
	// As if the waiters before it had another clock.
	require.Less(t, since[1], since[4])
	require.LessOrEqual(t, since[4], now)
	resRequire(t, r, 0, 0)
}

func TestStats_AreOfOneMoment(t *testing.T) {
	r := condvar.NewCapacityResource(4)
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for r.AcquireN(ctx, 2) == nil {
				runtime.Gosched()
				r.ReleaseN(2)
			}
		})
	}
	for range 3000 {
		// Each call takes, returns or asks for two permits in one step.
		s := r.Stats()
		require.Contains(t, []int64{0, 2, 4}, s.InUse)
		require.Equal(t, 2*s.Waiting, s.WaitingN)
		require.LessOrEqual(t, s.Waiting+s.InUse/2, int64(4))
		if s.Waiting == 0 {
			require.Zero(t, s.OldestWait)
		}
	}
	cancel()
	wg.Wait()
	resRequire(t, r, 0, 0)
}

// Row 106.
func TestStats_WhatDoesNotWaitIsNoWait(t *testing.T) {
	r := condvar.NewCapacityResource(1)
	for range 100 {
		require.NoError(t, r.Acquire(context.Background()))
		require.False(t, r.TryAcquire())
		r.Release()
	}
	require.Equal(t, condvar.Stats{Capacity: 1}, r.Stats())
}

// Bug R16. F13.
func TestCapacityResource_CapacitiesOfAllSizesAreExact(t *testing.T) {
	ctx := context.Background()
	for _, c := range []int64{1, 2, 1<<31 - 2, 1<<31 - 1, 1 << 31, 1<<31 + 1, 1<<32 - 1, 1 << 32,
		1<<32 + 1, 1<<33 + 3, 1 << 62, math.MaxInt64 - 1, math.MaxInt64} {
		resBothModes(t, func(t *testing.T, opts ...condvar.Option) {
			r := resNew(t, c, 0, opts...)
			if c < math.MaxInt64 {
				require.Equal(t, condvar.ErrTooLarge, r.AcquireN(ctx, c+1))
				require.False(t, r.TryAcquireN(c+1))
			}
			require.NoError(t, r.AcquireN(ctx, c))
			require.False(t, r.TryAcquire())
			require.False(t, r.TryAcquireN(c))
			require.Equal(t, condvar.Stats{Capacity: c, InUse: c}, r.Stats())
			w := resPark(t, r, c)
			r.ReleaseN(c - 1)
			synctest.Wait()
			w.requireParked(t)
			require.PanicsWithValue(t, resOverRelease, func() { r.ReleaseN(2) })
			r.Release()
			synctest.Wait()
			w.requireDone(t, nil)
			resRequire(t, r, c, 0)
			r.ReleaseN(c)
			require.PanicsWithValue(t, resOverRelease, r.Release)
			require.True(t, r.TryAcquireN(c-1))
			require.False(t, r.TryAcquireN(2))
			require.True(t, r.TryAcquire())
			require.Equal(t, c, r.Stats().InUse)
		})
	}
}

// Bug R16. F13.
func TestCapacityResource_AcquiringEverythingTwiceDoesNotWrapAround(t *testing.T) {
	resBothModes(t, func(t *testing.T, opts ...condvar.Option) {
		r := resNew(t, math.MaxInt64, 0, opts...)
		resAcquire(r, math.MaxInt64).requireDone(t, nil)
		a := resPark(t, r, math.MaxInt64)
		resRequire(t, r, math.MaxInt64, 1)
		r.ReleaseN(math.MaxInt64)
		synctest.Wait()
		a.requireDone(t, nil)
		require.False(t, r.TryAcquire())
		require.False(t, r.TryAcquireN(math.MaxInt64))
	})
}

// F13.
func TestStats_WaitingNSaturatesAndComesBack(t *testing.T) {
	resBothModes(t, func(t *testing.T, opts ...condvar.Option) {
		r := resNew(t, math.MaxInt64, math.MaxInt64, opts...)
		requireWaitingN := func(n int64) {
			t.Helper()
			synctest.Wait()
			require.Equal(t, n, r.Stats().WaitingN)
		}
		one := resPark(t, r, 1)
		requireWaitingN(1)
		almost := resPark(t, r, math.MaxInt64-1)
		requireWaitingN(math.MaxInt64)
		more := []resWaiter{resPark(t, r, 1)}
		requireWaitingN(math.MaxInt64)
		for range 5 {
			more = append(more, resPark(t, r, math.MaxInt64))
			requireWaitingN(math.MaxInt64)
		}
		for _, w := range more {
			w.cancel()
			requireWaitingN(math.MaxInt64)
		}
		one.cancel()
		requireWaitingN(math.MaxInt64 - 1)
		almost.cancel()
		requireWaitingN(0)
	})
}

func TestStats_WaitDurationSaturates(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const century = 100 * 365 * 24 * time.Hour
		r := resNew(t, 1, 1)
		ws := []resWaiter{resPark(t, r, 1), resPark(t, r, 1), resPark(t, r, 1)}
		time.Sleep(century)
		for i, w := range ws {
			w.cancel()
			synctest.Wait()
			require.Equal(t, []time.Duration{century, 2 * century, math.MaxInt64}[i], r.Stats().WaitDuration)
		}
	})
}

// Bug R16. F13.
func TestCapacityResource_ResizeAcrossTheLimitsOfTheFastPathKeepsTheAccounting(t *testing.T) {
	resBothModes(t, func(t *testing.T, opts ...condvar.Option) {
		r := resNew(t, 5, 3, opts...)
		for _, c := range []int64{1<<31 - 1, 1 << 31, 7, math.MaxInt64, 1 << 32, 4, 1<<31 - 1} {
			r.Resize(c)
			require.Equal(t, condvar.Stats{Capacity: c, InUse: 3}, r.Stats())
			resRequireExact(t, r, c-3)
			require.PanicsWithValue(t, resOverRelease, func() { r.ReleaseN(4) })
		}
		r.Resize(math.MaxInt64)
		require.True(t, r.TryAcquireN(math.MaxInt64-3))
		w := resPark(t, r, 2)
		r.Resize(2) // far more is in use than the capacity
		require.False(t, r.TryAcquire())
		r.ReleaseN(math.MaxInt64 - 1)
		synctest.Wait()
		w.requireParked(t) // one is in use, one is free
		r.Release()
		synctest.Wait()
		w.requireDone(t, nil)
		resRequire(t, r, 2, 0)
	})
}

func TestStats_AreASnapshotWhileTheResourceIsResized(t *testing.T) {
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
	require.Zero(t, most, "more in use than the capacity")
}

// The clock in a bubble is years behind that of a waiter outside.
func TestStats_NoWaitIsNegativeEvenAcrossClocks(t *testing.T) {
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

// A metrics goroutine may call Stats of a resource whose waiters are in a
// bubble. Waking one of them from outside, or checking its context, would be
// fatal.
func TestStats_WakesNobody(t *testing.T) {
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
				// Another call may have been woken, or have got a permit.
				lookFromOutside()
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

// Bug C18. Stats, called outside a bubble, does not check the context of a head
// that is awake in the bubble, even if its permits are free.
func TestStats_LooksAtNoContextOfABubble(t *testing.T) {
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

// A waiter outside has another clock. To calls in a bubble that join after it,
// it has neither starved nor just arrived.
func TestCapacityResource_TimesInABubbleAreItsOwnWhoeverWaitsOutside(t *testing.T) {
	for name, opts := range map[string][]condvar.Option{"default": nil, "FIFO": {condvar.FIFO()}} {
		t.Run(name, func(t *testing.T) {
			r := condvar.NewCapacityResource(1, opts...)
			require.True(t, r.TryAcquire())
			ctx, cancel := context.WithCancel(context.Background())
			defer cancel()
			outside := make(chan error, 1)
			go func() { outside <- r.Acquire(ctx) }()
			for r.Stats().Waiting < 1 {
				runtime.Gosched()
			}
			synctest.Test(t, func(t *testing.T) {
				inside := start(func() error { return r.Acquire(context.Background()) })
				cancel()
				for r.Stats().Waiting > 1 {
					runtime.Gosched()
				}
				before := r.Stats().WaitDuration
				time.Sleep(time.Hour)
				require.Equal(t, time.Hour, r.Stats().OldestWait)
				r.Release()
				// The head has waited far too long.
				require.False(t, r.TryAcquire())
				synctest.Wait()
				inside.requireDone(t, nil)
				require.Equal(t, before+time.Hour, r.Stats().WaitDuration)
			})
			require.ErrorIs(t, <-outside, context.Canceled)
			r.Release()
		})
	}
}
