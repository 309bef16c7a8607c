package condvar_test

import (
	"context"
	"errors"
	"io"
	"math"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
	"weak"

	"github.com/stretchr/testify/require"

	"example.com/condvar"
)

// Two facts of life in these tests. In the default mode a newcomer may overtake
// the line, so that where a test says who gets a permit it first lets the head
// grow older than resThreshold; in FIFO mode that changes nothing. And what a
// goroutine of the bubble does after a wake-up runs in parallel with the test,
// so only what holds in each order, or at rest, is asserted.

// resThreshold is how long the head of the line may be overtaken.
const resThreshold = time.Millisecond

const resOverRelease = "condvar: released more than held"

var errBoom = errors.New("boom")

// resBothModes runs f as a subtest for each mode, in a bubble of its own.
func resBothModes(t *testing.T, f func(t *testing.T, opts ...condvar.Option)) {
	t.Helper()
	t.Run("default", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) { f(t) })
	})
	t.Run("FIFO", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) { f(t, condvar.FIFO()) })
	})
}

// resNew returns a resource of which some permits are held. If the test fails
// it frees those who wait, for the end of a bubble to show the failure and not
// a deadlock.
func resNew(t *testing.T, capacity, held int64, opts ...condvar.Option) *condvar.CapacityResource {
	t.Helper()
	r := condvar.NewCapacityResource(max(1, capacity), opts...)
	if capacity == 0 {
		r.Resize(0)
	}
	require.True(t, r.TryAcquireN(held))
	t.Cleanup(func() {
		if t.Failed() {
			_ = r.Close()
			r.ReleaseN(r.Stats().InUse)
		}
	})
	return r
}

// A resWaiter is an AcquireN on a goroutine, with a context of its own.
type resWaiter struct {
	*asyncCall
	cancel context.CancelFunc
}

// resAcquire starts r.AcquireN(ctx, n) with a fresh ctx, and settles.
func resAcquire(r *condvar.CapacityResource, n int64) resWaiter {
	ctx, cancel := context.WithCancel(context.Background())
	return resWaiter{startAcquire(ctx, r, n), cancel}
}

// resPark is resAcquire of a call that is expected to wait.
func resPark(t *testing.T, r *condvar.CapacityResource, n int64) resWaiter {
	t.Helper()
	w := resAcquire(r, n)
	w.requireParked(t)
	return w
}

// resRequire checks how many permits are held and how many calls wait.
func resRequire(t *testing.T, r *condvar.CapacityResource, inUse, waiting int64) {
	t.Helper()
	s := r.Stats()
	require.Equal(t, inUse, s.InUse, "in use")
	require.Equal(t, waiting, s.Waiting, "waiting")
}

// resRequireExact checks that exactly free permits can be taken, and no more.
func resRequireExact(t *testing.T, r *condvar.CapacityResource, free int64) {
	t.Helper()
	require.False(t, r.TryAcquireN(free+1), "one more than is free")
	require.True(t, r.TryAcquireN(free), "all that is free")
	require.False(t, r.TryAcquire(), "one more after that")
	r.ReleaseN(free)
}

func resDead() context.Context {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	return ctx
}

// Making one.

// Rows 67, 70. Bug R24.
func TestACapacityBelow1Panics(t *testing.T) {
	const message = "condvar: NewCapacityResource with a capacity below 1 (to start paused, call Resize(0))"
	for _, capacity := range []int64{0, -1, math.MinInt64} {
		require.PanicsWithValue(t, message, func() { condvar.NewCapacityResource(capacity) })
	}
}

// Row 140.
func TestResizeBeforeFirstUseIsHonoured(t *testing.T) {
	resBothModes(t, func(t *testing.T, opts ...condvar.Option) {
		r := resNew(t, 1, 0, opts...)
		r.Resize(3)
		resRequireExact(t, r, 3)
		r.Resize(0)
		require.False(t, r.TryAcquire())
		w := resPark(t, r, 1)
		r.Resize(1)
		synctest.Wait()
		w.requireDone(t, nil)
	})
}

// Row 67.
func TestCapacityZeroPauses(t *testing.T) {
	resBothModes(t, func(t *testing.T, opts ...condvar.Option) {
		r := resNew(t, 0, 0, opts...)
		require.False(t, r.TryAcquire())
		one, huge := resPark(t, r, 1), resPark(t, r, math.MaxInt64)
		one.cancel()
		synctest.Wait()
		one.requireDone(t, context.Canceled)
		huge.requireParked(t)
		r.Resize(math.MaxInt64)
		synctest.Wait()
		huge.requireDone(t, nil)
		resRequire(t, r, math.MaxInt64, 0)
	})
}

// Rows 68, 120.
func TestStringShowsUseCapacityAndWaiters(t *testing.T) {
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

// Without anybody waiting.

// Rows 77, 87, 96, 120.
func TestPermitsAddUp(t *testing.T) {
	ctx := context.Background()
	for _, opts := range [][]condvar.Option{nil, {condvar.FIFO()}} {
		r := condvar.NewCapacityResource(2, opts...)
		require.Equal(t, condvar.Stats{Capacity: 2}, r.Stats())
		require.True(t, r.TryAcquire())
		require.Equal(t, condvar.Stats{Capacity: 2, InUse: 1}, r.Stats())
		require.NoError(t, r.Acquire(ctx))
		require.Equal(t, condvar.Stats{Capacity: 2, InUse: 2}, r.Stats())
		require.False(t, r.TryAcquire())
		r.Release()
		require.True(t, r.TryAcquire())
		r.ReleaseN(2)
		require.NoError(t, r.AcquireN(ctx, 2))
		require.False(t, r.TryAcquire())
		r.Release()
		r.Release()
		require.Equal(t, condvar.Stats{Capacity: 2}, r.Stats())
	}
}

// Rows 88, 93, 142.
func TestPermitsHaveNoOwner(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := resNew(t, 1, 1)
		start(func() error {
			if r.TryAcquire() {
				return errBoom
			}
			r.Release()
			return nil
		}).requireDone(t, nil)
		require.True(t, r.TryAcquire())
	})
}

// Row 99.
func TestOnlyAsManyTriesSucceedAsThereArePermits(t *testing.T) {
	r := condvar.NewCapacityResource(4)
	require.True(t, r.TryAcquire())
	var got atomic.Int64
	var wg sync.WaitGroup
	for range 5 {
		wg.Go(func() {
			for range 2 {
				if r.TryAcquire() {
					got.Add(1)
				}
			}
		})
	}
	wg.Wait()
	require.EqualValues(t, 3, got.Load())
	require.False(t, r.TryAcquire())
	r.ReleaseN(4)
	require.Zero(t, r.Stats().InUse)
}

// Row 91.
func TestAnAcquireThatFindsRoomDoesNotWait(t *testing.T) {
	resBothModes(t, func(t *testing.T, opts ...condvar.Option) {
		r := resNew(t, 1, 0, opts...)
		begin := time.Now()
		ctx, cancel := context.WithTimeout(context.Background(), time.Hour)
		defer cancel()
		require.NoError(t, r.Acquire(ctx))
		require.Zero(t, time.Since(begin))
		require.Zero(t, r.Stats().WaitCount)
	})
}

func TestNoPermitsAreHadForTheAsking(t *testing.T) {
	resBothModes(t, func(t *testing.T, opts ...condvar.Option) {
		ctx := context.Background()
		r := resNew(t, 3, 2, opts...)
		zero := func() {
			t.Helper()
			require.NoError(t, r.AcquireN(ctx, 0))
			require.True(t, r.TryAcquireN(0))
			r.ReleaseN(0)
			require.NoError(t, r.DoN(ctx, 0, func(context.Context) error { return nil }))
		}
		zero()
		w := resPark(t, r, 3)
		zero()
		time.Sleep(resThreshold)
		r.Release() // from here on nobody overtakes w, in either mode
		require.False(t, r.TryAcquire())
		zero()
		r.Resize(0)
		zero() // paused, and more held than there is
		require.NoError(t, resNew(t, 0, 0, opts...).AcquireN(ctx, 0))
		resRequire(t, r, 1, 1)
		w.cancel()
		synctest.Wait()
		require.EqualValues(t, 1, r.Stats().WaitCount)

		require.NoError(t, r.Close())
		require.ErrorIs(t, r.AcquireN(ctx, 0), condvar.ErrClosed)
		require.False(t, r.TryAcquireN(0))
		r.ReleaseN(0)
		resRequire(t, r, 1, 0)
	})
}

// Errors and panics.

func TestWhichAnswerComesFirst(t *testing.T) {
	live, dead := context.Background(), resDead()
	open, closed := condvar.NewCapacityResource(2), condvar.NewCapacityResource(2)
	require.NoError(t, closed.Close())
	fn := func(context.Context) error { return nil }
	for _, c := range []struct {
		name string
		ctx  context.Context
		r    *condvar.CapacityResource
		n    int64
		want error // nil: panics
	}{
		{"a negative n before everything", dead, closed, -1, nil},
		{"the smallest n of all", live, open, math.MinInt64, nil},
		{"the context before ErrClosed", dead, closed, 1, context.Canceled},
		{"the context before ErrTooLarge", dead, open, 3, context.Canceled},
		{"the context before both", dead, closed, 3, context.Canceled},
		{"the context before free permits", dead, open, 2, context.Canceled},
		{"the context before n = 0", dead, open, 0, context.Canceled},
		{"ErrClosed before ErrTooLarge", live, closed, 3, condvar.ErrClosed},
		{"ErrClosed before free permits", live, closed, 1, condvar.ErrClosed},
		{"ErrClosed before n = 0", live, closed, 0, condvar.ErrClosed},
		{"ErrTooLarge before waiting", live, open, 3, condvar.ErrTooLarge},
	} {
		t.Run(c.name, func(t *testing.T) {
			before := c.r.Stats()
			if c.want == nil {
				const negative = "condvar: negative number of permits"
				require.PanicsWithValue(t, negative, func() { _ = c.r.AcquireN(c.ctx, c.n) })
				require.PanicsWithValue(t, negative, func() { _ = c.r.DoN(c.ctx, c.n, fn) })
				require.PanicsWithValue(t, negative, func() { c.r.TryAcquireN(c.n) })
				require.PanicsWithValue(t, negative, func() { c.r.ReleaseN(c.n) })
			} else {
				require.Equal(t, c.want, c.r.AcquireN(c.ctx, c.n))
				require.Equal(t, c.want, c.r.DoN(c.ctx, c.n, fn))
			}
			require.Equal(t, before, c.r.Stats())
		})
	}
}

// Rows 76, 103, 121, 127. Bug R10. F12.
func TestAFailedCallChangesNothing(t *testing.T) {
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
func TestARecoveredOverReleaseLeavesTheAccountingExact(t *testing.T) {
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

func TestTheErrorOfAContextIsItsOwnAndItsCause(t *testing.T) {
	resBothModes(t, func(t *testing.T, opts ...condvar.Option) {
		r := resNew(t, 1, 1, opts...)
		caused, cancel := context.WithCancelCause(context.Background())
		a := startAcquire(caused, r, 1)
		b := resPark(t, r, 1)
		late, stop := context.WithTimeout(context.Background(), time.Second)
		defer stop()
		c := startAcquire(late, r, 1)
		cancel(errBoom)
		b.cancel()
		time.Sleep(time.Second)
		synctest.Wait()
		a.requireDone(t, context.Canceled)
		a.requireDone(t, errBoom)
		require.Equal(t, context.Canceled, b.err)
		require.Equal(t, context.DeadlineExceeded, c.err)
		err := r.Acquire(caused) // dead at the call
		require.ErrorIs(t, err, context.Canceled)
		require.ErrorIs(t, err, errBoom)
		err = r.Drain(caused)
		require.ErrorIs(t, err, context.Canceled)
		require.ErrorIs(t, err, errBoom)
	})
}

// Waiting in line.

// Rows 89, 101, 118.
func TestAFullResourceMakesOthersWaitUntilARelease(t *testing.T) {
	resBothModes(t, func(t *testing.T, opts ...condvar.Option) {
		r := resNew(t, 1, 1, opts...)
		inside := 0 // changed by holders only
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
func TestWaitersGetInInTheOrderOfTheirArrival(t *testing.T) {
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

// resTurns starts workers who take the only permit again and again for hold,
// and returns the order in which they had it.
func resTurns(t *testing.T, workers, rounds int, hold time.Duration, opts ...condvar.Option) []int {
	r := resNew(t, 1, 0, opts...)
	var order []int // changed by holders only
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
func TestWorkersTakeTurns(t *testing.T) {
	resBothModes(t, func(t *testing.T, opts ...condvar.Option) {
		require.Equal(t, []int{0, 1, 2, 0, 1, 2}, resTurns(t, 3, 2, time.Second, opts...))
		require.Equal(t, []int{0, 1, 2, 0, 1, 2, 0, 1, 2, 0, 1, 2, 0, 1, 2},
			resTurns(t, 3, 5, resThreshold, opts...))
	})
}

// Row 79.
func TestWhoReleasesAndAcquiresAgainGoesToTheBack(t *testing.T) {
	resBothModes(t, func(t *testing.T, opts ...condvar.Option) {
		r := resNew(t, 1, 1, opts...)
		var order []int // changed by holders only
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
func TestAcquiringTwiceWaitsForSomebodyElse(t *testing.T) {
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
func TestALaterArrivalDoesNotGetWhatWasReleasedForTheLine(t *testing.T) {
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
func TestTryAcquireRightAfterAReleaseDoesNotOvertakeTheLine(t *testing.T) {
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
func TestThreeReleasesLetInAWaiterAndTwoArrivals(t *testing.T) {
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
				if len(opts) > 0 { // FIFO: nobody is in before the waiter
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
func TestABatchOfReleasesLetsAsManyIn(t *testing.T) {
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
func TestReleaseDoesNotWaitForTheOneItWakes(t *testing.T) {
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
func TestAnAcquireFailsExactlyAtItsDeadline(t *testing.T) {
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
func TestAResourceIsFreeAfterATimeoutAndARelease(t *testing.T) {
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

// Cancellation.

// Rows 72, 129.
func TestACancelledWaiterLeavesNoTrace(t *testing.T) {
	resBothModes(t, func(t *testing.T, opts ...condvar.Option) {
		r := resNew(t, 3, 3, opts...)
		w := resPark(t, r, 2)
		w.cancel()
		synctest.Wait()
		w.requireDone(t, context.Canceled)
		require.Equal(t, condvar.Stats{Capacity: 3, InUse: 3, WaitCount: 1, Canceled: 1}, r.Stats())
	})
}

// Rows 73, 80.
func TestAReleasePassesOverTheCancelled(t *testing.T) {
	resBothModes(t, func(t *testing.T, opts ...condvar.Option) {
		for range 20 {
			r := resNew(t, 1, 1, opts...)
			w1, w2, w3, w4 := resPark(t, r, 1), resPark(t, r, 1), resPark(t, r, 1), resPark(t, r, 1)
			w1.cancel()
			w2.cancel()
			r.Release()
			synctest.Wait()
			w1.requireDone(t, context.Canceled)
			w2.requireDone(t, context.Canceled)
			w3.requireDone(t, nil)
			w4.requireParked(t)
			resRequire(t, r, 1, 1)
			r.Release()
			synctest.Wait()
			w4.requireDone(t, nil)
			s := r.Stats()
			require.Equal(t, []int64{0, 4, 2}, []int64{s.WaitingN, s.WaitCount, s.Canceled})
		}
	})
}

// Rows 74, 83, 84, 85, 111, 141. Bug R1. Bug R5.
func TestAPermitIsNotLostToACancelledWaiter(t *testing.T) {
	for _, settle := range []bool{false, true} {
		resBothModes(t, func(t *testing.T, opts ...condvar.Option) {
			for range 300 {
				r := resNew(t, 1, 1, opts...)
				w1, w2, w3 := resPark(t, r, 1), resPark(t, r, 1), resPark(t, r, 1)
				w1.cancel()
				if settle {
					synctest.Wait()
				}
				r.Release()
				synctest.Wait()
				w1.requireDone(t, context.Canceled)
				w2.requireDone(t, nil)
				w3.requireParked(t)
				require.False(t, r.TryAcquire())
				resRequire(t, r, 1, 1)
				r.Release()
				synctest.Wait()
				w3.requireDone(t, nil)
				r.Release()
				resRequire(t, r, 0, 0)
			}
		})
	}
}

// Rows 75, 85, 112. Bug R1.
func TestAWaiterCancelledAfterTheReleaseHoldsThePermitOrPassesItOn(t *testing.T) {
	resBothModes(t, func(t *testing.T, opts ...condvar.Option) {
		for range 300 {
			r := resNew(t, 1, 1, opts...)
			w1, w2 := resPark(t, r, 1), resPark(t, r, 1)
			r.Release()
			w1.cancel()
			synctest.Wait()
			require.True(t, w1.done.Load())
			require.NotEqual(t, w1.err == nil, w2.done.Load(), "exactly one is in: %v", w1.err)
			r.Release()
			synctest.Wait()
			if w1.err == nil {
				r.Release()
			} else {
				require.Equal(t, context.Canceled, w1.err)
			}
			synctest.Wait()
			w2.requireDone(t, nil)
			resRequire(t, r, 0, 0)
			require.True(t, r.TryAcquire())
		}
	})
}

// Rows 83, 84. Bug R5.
func TestACancelRacingAReleaseAdmitsExactlyOne(t *testing.T) {
	resBothModes(t, func(t *testing.T, opts ...condvar.Option) {
		for i := range 300 {
			r := resNew(t, 1, 1, opts...)
			w1, w2 := resPark(t, r, 1), resPark(t, r, 1)
			switch i % 3 {
			case 0:
				w1.cancel()
				r.Release()
			case 1:
				r.Release()
				w1.cancel()
			case 2:
				go w1.cancel()
				go r.Release()
			}
			synctest.Wait()
			require.True(t, w1.done.Load())
			require.NotEqual(t, w1.err == nil, w2.done.Load(), "exactly one is in: %v", w1.err)
			resRequire(t, r, 1, map[bool]int64{true: 1, false: 0}[w1.err == nil])
			w2.cancel()
			synctest.Wait()
		}
	})
}

// A head that has starved, and with FIFO everybody, gets permits from the hands of
// who releases them: they are in use at once, by as many as fit, and a context
// that ends after that is too late (which a scene of verify/explore shows better:
// here they may have run before it ends). Rows 108, 109.
func TestPermitsAreHandedOverWhereNobodyMayOvertake(t *testing.T) {
	resBothModes(t, func(t *testing.T, opts ...condvar.Option) {
		r := resNew(t, 5, 5, opts...)
		dead, two, one := resPark(t, r, 1), resPark(t, r, 2), resPark(t, r, 1)
		tooMany, last := resPark(t, r, 3), resPark(t, r, 1)
		time.Sleep(2 * resThreshold)
		dead.cancel()
		synctest.Wait()
		r.ReleaseN(4)
		s := r.Stats() // the same, whether they have run or not
		require.Equal(t, []int64{4, 2, 4}, []int64{s.InUse, s.Waiting, s.WaitingN})
		two.cancel()
		one.cancel()
		synctest.Wait()
		two.requireDone(t, nil)
		one.requireDone(t, nil)
		tooMany.requireParked(t)
		last.requireParked(t)
		r.ReleaseN(2)
		s = r.Stats()
		require.Equal(t, []int64{5, 1, 1}, []int64{s.InUse, s.Waiting, s.WaitingN})
		synctest.Wait()
		tooMany.requireDone(t, nil)
		last.cancel()
		r.ReleaseN(5)
		require.Zero(t, r.Stats().InUse, "nothing is handed to who is about to leave")
		synctest.Wait()
		last.requireDone(t, context.Canceled)
		resRequireExact(t, r, 5)
	})
}

// Rows 108, 109, 113.
func TestTheOnlyWaiterCancelledBeforeTheReleaseNeverAcquires(t *testing.T) {
	for _, settle := range []bool{false, true} {
		resBothModes(t, func(t *testing.T, opts ...condvar.Option) {
			for range 200 {
				r := resNew(t, 1, 1, opts...)
				w := resPark(t, r, 1)
				w.cancel()
				if settle {
					synctest.Wait()
				}
				r.Release()
				require.NoError(t, r.Acquire(context.Background())) // nothing dead is in its way
				r.Release()
				synctest.Wait()
				w.requireDone(t, context.Canceled)
				resRequire(t, r, 0, 0)
				require.True(t, r.TryAcquire())
			}
		})
	}
}

// Row 134.
func TestCancellingEverybodyLeavesAUsableResource(t *testing.T) {
	resBothModes(t, func(t *testing.T, opts ...condvar.Option) {
		r := resNew(t, 0, 0, opts...)
		ws := []resWaiter{resPark(t, r, 3), resPark(t, r, 1), resPark(t, r, 2)}
		for _, w := range ws {
			w.cancel()
		}
		synctest.Wait()
		for _, w := range ws {
			w.requireDone(t, context.Canceled)
		}
		resRequire(t, r, 0, 0)
		r.Resize(2)
		resRequireExact(t, r, 2)
	})
}

// Row 95. Bug R15.
func TestTheCancelledLeaveNothingBehindAStuckHead(t *testing.T) {
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
		// A tombstone of one word each would be 80 kB.
		require.Less(t, resHeap()-before, int64(many*8))
		resRequire(t, r, 1, 1)
		r.Release()
		synctest.Wait()
		head.requireDone(t, nil)
	})
}

// resHeap returns how many bytes the heap holds after a collection.
func resHeap() int64 {
	runtime.GC()
	runtime.GC() // what finalizers and pools kept over the first
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

// Row 95.
func TestAHeldResourceCanBeDropped(t *testing.T) {
	w := resDropped()
	runtime.GC()
	require.Nil(t, w.Value())
}

//go:noinline
func resDropped() weak.Pointer[condvar.CapacityResource] {
	r := condvar.NewCapacityResource(1)
	r.TryAcquire()
	ctx, cancel := context.WithTimeout(context.Background(), time.Microsecond)
	defer cancel()
	_ = r.Acquire(ctx)
	return weak.Make(r)
}

// Weights.

// Bug R2. F8.
func TestCancellingABigHeadLetsTheSmallOnesBehindItIn(t *testing.T) {
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
func TestAcquireOfNothingIsNotStuckBehindACancelledHead(t *testing.T) {
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

// F9. The contract's order whatever the weights.
func TestSmallRequestsInLineDoNotOvertakeABigOne(t *testing.T) {
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

func TestOneReleaseLetsInAllThatFitInOrder(t *testing.T) {
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

// Overtaking.

// The default order up to the first release after 1 ms. F17.
func TestNewcomersOvertakeUntilTheHeadHasWaitedAMillisecond(t *testing.T) {
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
func TestAHogLosesAtTheFirstReleaseAfterAMillisecond(t *testing.T) {
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

func TestAGrowingResizeEndsOvertakingAsAReleaseDoes(t *testing.T) {
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

func TestAPermitFreedEarlyGoesToTheHeadOrToANewcomerButIsNotLost(t *testing.T) {
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

func TestWithFIFONobodyOvertakes(t *testing.T) {
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
		require.True(t, r.TryAcquire()) // nobody waits
		resRequire(t, r, 3, 0)
	})
}

// Bug R8.
func TestOvertakingResumesWhenAStarvingHeadIsGoneUnlessTheNextIsAsOld(t *testing.T) {
	for _, c := range []struct {
		name  string
		next  int64 // permits that the next in line wants: more than are free
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
					// Nobody waits, so the mode is over in any case.
					r.Resize(10)
					require.True(t, r.TryAcquire())
				})
			})
		}
	}
}

// Bug R8.
func TestAcquireWorksAfterAllWhoStarvedAreCancelled(t *testing.T) {
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

// Resize.

// Row 137.
func TestWhatResizeAddsIsAtOnceAvailable(t *testing.T) {
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
func TestResizeGrowsAndShrinks(t *testing.T) {
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
func TestGrowthLetsTheLineAndALaterArrivalIn(t *testing.T) {
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
func TestGrowthAfterAShrinkGrantsWhatIsFreeAndNotTheDifference(t *testing.T) {
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
func TestResizeToZeroPausesUntilTheNextResize(t *testing.T) {
	resBothModes(t, func(t *testing.T, opts ...condvar.Option) {
		r := resNew(t, 3, 0, opts...)
		r.Resize(0) // row 130: of an idle resource
		var five [5]resWaiter
		for i := range five {
			five[i] = resPark(t, r, 1)
		}
		time.Sleep(resThreshold)
		r.Resize(5)
		require.False(t, r.TryAcquire()) // all of it is for the line
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
func TestAWaiterThatNoLongerFitsFailsAndBlocksNobody(t *testing.T) {
	for name, line := range map[string][]int64{
		"at the head":   {4, 3, 1},
		"in the middle": {3, 4, 1},
		"at the end":    {3, 1, 4},
		"more than one": {5, 3, 4, 1, 4},
	} {
		t.Run(name, func(t *testing.T) {
			resBothModes(t, func(t *testing.T, opts ...condvar.Option) {
				r := resNew(t, 5, 1, opts...)
				r.Resize(0) // so that nobody gets in before all are in line
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
func TestTheNextGetsInWhenTheHeadNoLongerFits(t *testing.T) {
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

func TestBackToBackResizesStillFailWhoDidNotFitInBetween(t *testing.T) {
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

// After a pause what counts is the capacity of the next Resize.
func TestAPauseFailsNobodyButTheResizeAfterItMay(t *testing.T) {
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
func TestAWaiterCancelledAfterAResizeTakesNothing(t *testing.T) {
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

// Close and Drain.

var _ io.Closer = (*condvar.CapacityResource)(nil)

// F14. Bug R17.
func TestCloseFailsWaitersAndLaterCallsButNotHolders(t *testing.T) {
	resBothModes(t, func(t *testing.T, opts ...condvar.Option) {
		r := resNew(t, 3, 2, opts...)
		a, b := resPark(t, r, 3), resPark(t, r, 2)
		for range 2 { // the second time changes nothing
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

func TestCloseFailsThoseWhoWaitForAPausedResource(t *testing.T) {
	resBothModes(t, func(t *testing.T, opts ...condvar.Option) {
		r := resNew(t, 0, 0, opts...)
		w := resPark(t, r, 1)
		require.NoError(t, r.Close())
		synctest.Wait()
		w.requireDone(t, condvar.ErrClosed)
	})
}

func TestResizeAfterCloseOnlyChangesTheNumber(t *testing.T) {
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

// What ends a wait is what came first, though the waiter has not run by then.
func TestTheErrorIsThatOfWhatCameFirst(t *testing.T) {
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
func TestCloseRacingAReleaseAndACancelEndsEachWaitInOneWay(t *testing.T) {
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

func TestNoAcquisitionSucceedsOnceCloseHasReturned(t *testing.T) {
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

// Real goroutines on the path that does not wait, against a Close.
func TestNoTryAcquireSucceedsOnceCloseHasReturned(t *testing.T) {
	for range 50 {
		r := condvar.NewCapacityResource(8)
		var closed, late atomic.Bool
		var wg sync.WaitGroup
		for range 4 {
			wg.Go(func() {
				for {
					after := closed.Load()
					if !r.TryAcquire() {
						if after {
							return
						}
						continue
					}
					if after {
						late.Store(true)
					}
					runtime.Gosched()
					r.Release()
				}
			})
		}
		runtime.Gosched()
		require.NoError(t, r.Close())
		closed.Store(true)
		wg.Wait()
		require.False(t, late.Load())
		require.Equal(t, condvar.Stats{Capacity: 8, Closed: true}, r.Stats())
	}
}

func TestDrainOfAnIdleResourceReturnsAtOnceEvenWithADeadContext(t *testing.T) {
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

func TestDrainClosesAndWaitsUntilNothingIsHeld(t *testing.T) {
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

func TestDrainSucceedsIfTheLastPermitComesBackAfterItsContextHasEnded(t *testing.T) {
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

func TestDrainEndsWithItsContextAndLeavesTheResourceClosed(t *testing.T) {
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

// Do.

// Rows 86, 90, 102.
func TestDoReleasesHoweverTheFunctionEnds(t *testing.T) {
	for name, end := range map[string]func() error{
		"return": func() error { return nil },
		"error":  func() error { return errBoom },
		"panic":  func() error { panic(errBoom) },
		"Goexit": func() error { runtime.Goexit(); return nil },
	} {
		t.Run(name, func(t *testing.T) {
			resBothModes(t, func(t *testing.T, opts ...condvar.Option) {
				r := resNew(t, 4, 0, opts...)
				ctx := context.WithValue(context.Background(), errBoom, 1)
				var inside condvar.Stats
				var same, full bool
				body := func(c context.Context) error {
					inside, same, full = r.Stats(), c == ctx, !r.TryAcquire()
					return end()
				}
				a := start(func() (err error) {
					defer func() {
						if p := recover(); p != nil {
							err = p.(error)
						}
					}()
					return r.DoN(ctx, 3, func(c context.Context) error { return r.Do(c, body) })
				})
				require.EqualValues(t, 4, inside.InUse)
				require.True(t, same, "the function gets the context of Do")
				require.True(t, full)
				resRequire(t, r, 0, 0)
				resRequireExact(t, r, 4)
				switch name {
				case "return":
					a.requireDone(t, nil)
				case "Goexit":
					a.requireParked(t) // it did not return
				default:
					a.requireDone(t, errBoom)
				}
			})
		})
	}
}

// Row 90.
func TestDoLetsTheNextInAfterAnError(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := resNew(t, 1, 0)
		var w resWaiter
		err := r.Do(context.Background(), func(context.Context) error {
			w = resPark(t, r, 1)
			return errBoom
		})
		require.Equal(t, errBoom, err)
		synctest.Wait()
		w.requireDone(t, nil)
	})
}

func TestDoWaitsForItsPermitsAndGivesUpWithTheErrorOfAcquire(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := resNew(t, 2, 2)
		called := 0
		fn := func(ctx context.Context) error { called++; return ctx.Err() }
		ctx, cancel := context.WithCancel(context.Background())
		a := start(func() error { return r.DoN(ctx, 2, fn) })
		b := start(func() error { return r.Do(context.Background(), fn) })
		c := start(func() error { return r.DoN(context.Background(), 2, fn) })
		resRequire(t, r, 2, 3)
		cancel()
		synctest.Wait()
		a.requireDone(t, context.Canceled)
		r.Release()
		synctest.Wait()
		b.requireDone(t, nil)
		require.Equal(t, 1, called)
		require.NoError(t, r.Close())
		synctest.Wait()
		c.requireDone(t, condvar.ErrClosed)
		require.Equal(t, 1, called)
		resRequire(t, r, 1, 0)
	})
}

// Stats.

// Rows 110, 120, 135.
func TestStatsAreExactOnTheFakeClock(t *testing.T) {
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
		b := resPark(t, r, 2)                                            // at 10 ms
		late, cancel := context.WithTimeout(context.Background(), 20*ms) // ends at 30 ms
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

// In the default mode. With FIFO, where nobody can starve, the time for
// the lock counts.
func TestAWaitIsCountedFromJoiningTheLine(t *testing.T) {
	r := newPaused()
	ctx, cancel := context.WithCancel(context.Background())
	result := make(chan error, 1)
	r.Mu().Lock()
	go func() { result <- r.Acquire(ctx) }()
	stacks := make([]byte, 1<<20)
	spin(t, func() int { // until it goes for the lock
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

// With FIFO a call reads the clock before it locks mu, so two may join in
// the order opposite to that in which they came.
func TestTheHeadHasWaitedLongestWhateverTheOrderOfTheLocks(t *testing.T) {
	r := newPaused(condvar.FIFO())
	since, now := r.JoinAndLeave(5, 3, time.Hour, 2*time.Hour, 7)
	require.Equal(t, []time.Duration{5, since[1], time.Hour, 2 * time.Hour, since[4]}, since)
	require.Less(t, time.Duration(5), since[1]) // the time when it joined
	require.Less(t, since[1], now)
	require.Less(t, since[1], since[4]) // as if the ones before it had another clock
	require.LessOrEqual(t, since[4], now)
	resRequire(t, r, 0, 0)
}

func TestStatsAreOfOneMoment(t *testing.T) {
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
func TestWhatDoesNotWaitIsNoWait(t *testing.T) {
	r := condvar.NewCapacityResource(1)
	for range 100 {
		require.NoError(t, r.Acquire(context.Background()))
		require.False(t, r.TryAcquire())
		r.Release()
	}
	require.Equal(t, condvar.Stats{Capacity: 1}, r.Stats())
}

// Large numbers.

// Bug R16. F13.
func TestCapacitiesOfAllSizesAreExact(t *testing.T) {
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
func TestAcquiringEverythingTwiceDoesNotWrapAround(t *testing.T) {
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
func TestWaitingNSaturatesAndComesBack(t *testing.T) {
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

func TestWaitDurationSaturates(t *testing.T) {
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
func TestResizeAcrossTheLimitsOfTheFastPathKeepsTheAccounting(t *testing.T) {
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
		r.Resize(2) // far more is in use than there is
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

// Progress.

// Whatever call lets the first in line fit, it gets in. F8.
func TestTheLineMovesWheneverItsHeadFits(t *testing.T) {
	type resource = *condvar.CapacityResource
	for _, c := range []struct {
		name             string
		capacity, held   int64
		wants            []int64 // of those in line
		do               func(r resource, line []resWaiter)
		admitted, failed int
		inUse            int64
	}{
		{"a release", 2, 2, []int64{1, 1},
			func(r resource, _ []resWaiter) { r.Release() }, 1, 0, 2},
		{"two releases", 2, 2, []int64{1, 1, 1},
			func(r resource, _ []resWaiter) { r.Release(); r.Release() }, 2, 0, 2},
		{"a release of many", 3, 3, []int64{1, 2, 1},
			func(r resource, _ []resWaiter) { r.ReleaseN(3) }, 2, 0, 3},
		{"many releases for one", 3, 3, []int64{3, 1},
			func(r resource, _ []resWaiter) { r.Release(); r.Release(); r.Release() }, 1, 0, 3},
		{"growth", 3, 3, []int64{2, 1, 1},
			func(r resource, _ []resWaiter) { r.Resize(6) }, 2, 0, 6},
		{"a pause and its end", 3, 2, []int64{2, 1},
			func(r resource, _ []resWaiter) { r.Resize(0); r.Release(); r.Resize(3) }, 1, 0, 3},
		{"a shrink that the head does not survive", 4, 1, []int64{4, 1, 1, 1},
			func(r resource, _ []resWaiter) { r.Resize(3) }, 2, 1, 3},
		{"the head is canceled", 3, 1, []int64{3, 1, 1, 1},
			func(_ resource, line []resWaiter) { line[0].cancel() }, 2, 1, 3},
		{"another is canceled", 3, 1, []int64{3, 3, 1},
			func(_ resource, line []resWaiter) { line[1].cancel() }, 0, 1, 1},
		{"the first two are canceled", 3, 1, []int64{3, 3, 2},
			func(_ resource, line []resWaiter) { line[1].cancel(); line[0].cancel() }, 1, 2, 3},
		{"the head is canceled, one is released", 4, 3, []int64{3, 2, 1},
			func(r resource, line []resWaiter) { line[0].cancel(); r.Release() }, 1, 1, 4},
		{"all are canceled", 3, 1, []int64{3, 3, 3},
			func(_ resource, line []resWaiter) {
				for _, w := range line {
					w.cancel()
				}
			}, 0, 3, 1},
		{"a release is followed by Close", 1, 1, []int64{1, 1},
			func(r resource, _ []resWaiter) { r.Release(); synctest.Wait(); _ = r.Close() }, 1, 1, 1},
	} {
		t.Run(c.name, func(t *testing.T) {
			resBothModes(t, func(t *testing.T, opts ...condvar.Option) {
				for range 20 {
					r := resNew(t, c.capacity, c.held, opts...)
					r.Resize(0) // so that nobody overtakes while the line forms
					var line []resWaiter
					for _, n := range c.wants {
						line = append(line, resPark(t, r, n))
					}
					r.Resize(c.capacity)
					synctest.Wait()
					resRequire(t, r, c.held, int64(len(line)))
					c.do(r, line)
					synctest.Wait()
					var admitted, failed int
					for _, w := range line {
						if w.done.Load() && w.err == nil {
							admitted++
						} else if w.done.Load() {
							failed++
						}
					}
					require.Equal(t, c.admitted, admitted)
					require.Equal(t, c.failed, failed)
					resRequire(t, r, c.inUse, int64(len(line)-admitted-failed))
					require.NoError(t, r.Close())
					synctest.Wait()
				}
			})
		})
	}
}

// A resSeamContext calls onDone at the first call of Done, which is when an
// Acquire has found no room and prepares to wait.
type resSeamContext struct {
	context.Context
	onDone func()
}

func (c *resSeamContext) Done() <-chan struct{} {
	f := c.onDone
	c.onDone = nil
	call(f)
	return c.Context.Done()
}

// Bug R18.
func TestAReleaseBetweenNoRoomAndJoiningTheLineIsNotLost(t *testing.T) {
	resBothModes(t, func(t *testing.T, opts ...condvar.Option) {
		r := resNew(t, 1, 1, opts...)
		ctx, cancel := context.WithCancel(context.Background())
		defer cancel()
		released := false
		require.NoError(t, r.Acquire(&resSeamContext{ctx, func() {
			r.Release()
			released = true
		}}))
		require.True(t, released)
		resRequire(t, r, 1, 0)
	})
}

// A resNosyContext looks at a resource whenever it is asked anything.
type resNosyContext struct {
	context.Context
	r *condvar.CapacityResource
}

func (c resNosyContext) Done() <-chan struct{} { c.r.Stats(); return c.Context.Done() }
func (c resNosyContext) Err() error            { c.r.Stats(); return c.Context.Err() }
func (c resNosyContext) Value(key any) any     { c.r.Stats(); return c.Context.Value(key) }

// A context's methods are not called with the resource's lock held.
func TestAContextMayUseTheResourceItWaitsFor(t *testing.T) {
	resBothModes(t, func(t *testing.T, opts ...condvar.Option) {
		r := resNew(t, 1, 1, opts...)
		ctx, cancel := context.WithCancel(context.Background())
		nosy := resNosyContext{ctx, r}
		a, b, c := startAcquire(nosy, r, 1), startAcquire(nosy, r, 1), startAcquire(nosy, r, 1)
		r.Release()
		synctest.Wait()
		a.requireDone(t, nil)
		d := start(func() error { return r.Drain(nosy) })
		b.requireDone(t, condvar.ErrClosed)
		c.requireDone(t, condvar.ErrClosed)
		cancel()
		synctest.Wait()
		d.requireDone(t, context.Canceled)
		require.ErrorIs(t, r.Acquire(nosy), context.Canceled)
	})
}

// Bug R18. A release that is lost in the race leaves both asleep.
func TestHandingOnePermitToAndFroLosesNoRelease(t *testing.T) {
	for _, opts := range [][]condvar.Option{nil, {condvar.FIFO()}} {
		r := condvar.NewCapacityResource(1, opts...)
		ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
		errs := make(chan error, 3)
		for range cap(errs) {
			go func() {
				for range 5000 {
					if err := r.Acquire(ctx); err != nil {
						errs <- err
						return
					}
					r.Release()
				}
				errs <- nil
			}()
		}
		for range cap(errs) {
			require.NoError(t, <-errs)
		}
		cancel()
		require.Zero(t, r.Stats().InUse)
	}
}

// Bug R7. Each looper takes its next permit before it returns the last one, as
// long as it may: so if overtaking had no end, there would always be some held.
func TestABigRequestGetsInAmongSixteenLoopers(t *testing.T) {
	const loopers = 16
	r := condvar.NewCapacityResource(2 * loopers)
	var stop atomic.Bool
	var wg sync.WaitGroup
	for range loopers {
		require.True(t, r.TryAcquire())
		wg.Go(func() {
			for !stop.Load() {
				overtook := r.TryAcquire()
				r.Release()
				if !overtook {
					_ = r.Acquire(context.Background())
				}
				runtime.Gosched()
			}
			r.Release()
		})
	}
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	var err error
	for i := 0; i < 10 && err == nil; i++ {
		if err = r.AcquireN(ctx, 2*loopers); err == nil {
			r.ReleaseN(2 * loopers)
		}
	}
	stop.Store(true)
	wg.Wait()
	require.NoError(t, err)
	require.Zero(t, r.Stats().InUse)
}

// Rows 116, 136. The counter is a plain one, so that -race sees whether a
// Release synchronizes before the Acquire that gets its permit.
func TestOneAtATimeIsInside(t *testing.T) {
	for _, opts := range [][]condvar.Option{nil, {condvar.FIFO()}} {
		// The second capacity is beyond the fast path.
		for _, n := range []int64{1, 1 << 40} {
			r := condvar.NewCapacityResource(n, opts...)
			inside, total, most := 0, 0, 0
			body := func(ctx context.Context) error {
				inside++
				most = max(most, inside)
				total++
				runtime.Gosched()
				inside--
				return ctx.Err()
			}
			var wg sync.WaitGroup
			for i := range 5 {
				wg.Go(func() {
					for done := 0; done < 1000; {
						if i%2 == 0 {
							_ = r.DoN(context.Background(), n, body)
						} else if r.TryAcquireN(n) {
							_ = body(context.Background())
							r.ReleaseN(n)
						} else {
							runtime.Gosched()
							continue
						}
						done++
					}
				})
			}
			wg.Wait()
			require.Equal(t, 1, most)
			require.Equal(t, 5000, total)
			require.Zero(t, r.Stats().InUse)
		}
	}
}

// resWakeUps returns how often a goroutine has woken up in an AcquireN since
// runtime.SetBlockProfileRate(1).
func resWakeUps() (n int64) {
	var all [4096]runtime.BlockProfileRecord // more than any test binary has
	found, _ := runtime.BlockProfile(all[:])
	for _, record := range all[:found] {
		inAcquire := false
		frames := runtime.CallersFrames(record.Stack())
		for more := true; more; {
			var frame runtime.Frame
			frame, more = frames.Next()
			if strings.Contains(frame.Function, "Mutex") { // contention is no wait
				inAcquire = false
				break
			}
			inAcquire = inAcquire || strings.HasSuffix(frame.Function, ".AcquireN")
		}
		if inAcquire {
			n += record.Count
		}
	}
	return n
}

// Bug R20. The block profile counts each time that a goroutine wakes up.
func TestAReleaseWakesTheHeadAloneAndOnlyIfItFits(t *testing.T) {
	runtime.SetBlockProfileRate(1)
	defer runtime.SetBlockProfileRate(0)
	resBothModes(t, func(t *testing.T, opts ...condvar.Option) {
		r := resNew(t, 2, 2, opts...)
		var ws []resWaiter
		for range 20 {
			ws = append(ws, resPark(t, r, 2))
		}
		time.Sleep(resThreshold)
		for _, w := range ws {
			before := resWakeUps()
			r.Release() // the head wants 2: no use
			synctest.Wait()
			w.requireParked(t)
			require.Equal(t, before, resWakeUps())
			r.Release()
			synctest.Wait()
			w.requireDone(t, nil)
			require.Equal(t, before+1, resWakeUps())
		}
		resRequire(t, r, 2, 0)
	})
}

// Allocations.

// Row 106.
func TestWhatDoesNotWaitAllocatesNothing(t *testing.T) {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	fn := func(context.Context) error { return nil }
	for _, opts := range [][]condvar.Option{nil, {condvar.FIFO()}} {
		for _, capacity := range []int64{4, 1 << 40} {
			r := condvar.NewCapacityResource(capacity, opts...)
			closed := condvar.NewCapacityResource(capacity, opts...)
			require.NoError(t, closed.Close())
			for name, f := range map[string]func(){
				"Acquire and Release":       func() { _ = r.Acquire(ctx); r.Release() },
				"AcquireN and ReleaseN":     func() { _ = r.AcquireN(ctx, 3); r.ReleaseN(3) },
				"TryAcquire and Release":    func() { r.TryAcquire(); r.Release() },
				"TryAcquireN that fails":    func() { r.TryAcquireN(capacity + 1) },
				"Do":                        func() { _ = r.Do(ctx, fn) },
				"DoN":                       func() { _ = r.DoN(ctx, 2, fn) },
				"Stats":                     func() { r.Stats() },
				"Resize":                    func() { r.Resize(capacity) },
				"Acquire that is too large": func() { _ = r.AcquireN(ctx, capacity+1) },
				"Acquire after Close":       func() { _ = closed.Acquire(ctx) },
				"Drain of nothing":          func() { _ = closed.Drain(ctx) },
			} {
				require.Zero(t, testing.AllocsPerRun(100, f), name)
			}
		}
	}
}

// Outside bubbles, where a resource keeps what a wait needs for the next one.
func TestAWaitAllocatesNothingInTheSteadyState(t *testing.T) {
	const runs = 500
	for _, opts := range [][]condvar.Option{nil, {condvar.FIFO()}} {
		r := condvar.NewCapacityResource(1, opts...)
		require.True(t, r.TryAcquire())
		ends := make(chan func()) // of the next wait
		go func() {
			for end := range ends {
				for r.Stats().Waiting == 0 { // the only way to see it outside a bubble
					runtime.Gosched()
				}
				end()
			}
		}()
		defer close(ends)

		var ctxs []context.Context
		var cancels []context.CancelFunc
		for range runs + 1 {
			ctx, cancel := context.WithCancel(context.Background())
			defer cancel()
			ctx.Done() // which makes its channel
			ctxs, cancels = append(ctxs, ctx), append(cancels, cancel)
		}
		release, failed := r.Release, 0
		require.Zero(t, testing.AllocsPerRun(runs, func() {
			ends <- release
			if r.Acquire(ctxs[0]) != nil {
				failed++
			}
		}), "a wait that succeeds")
		require.Zero(t, failed)
		require.EqualValues(t, runs+1, r.Stats().WaitCount, "each of them waited")

		require.Zero(t, testing.AllocsPerRun(runs, func() {
			ends <- cancels[failed]
			if errors.Is(r.Acquire(ctxs[failed]), context.Canceled) {
				failed++
			}
		}), "a wait that is canceled")
		require.EqualValues(t, runs+1, r.Stats().Canceled)
	}
}

// What is not here, and why:
//
//   - Rows 69, 145: syntax and defaults of Python.
//   - Rows 107, 114, 122, 123, 124, and the second halves of 76 and 142:
//     permits have no holder, so there is nobody to be told apart.
//   - Row 126: there is no unlimited capacity; math.MaxInt64 is tested.
//   - Bug R19 is a matter of speed, and of a benchmark.
//   - That a copied resource is an error: go vet says so.
