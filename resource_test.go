package condvar_test

import (
	"context"
	"errors"
	"math"
	"reflect"
	"runtime"
	"testing"
	"testing/synctest"
	"time"
	"weak"

	"github.com/stretchr/testify/require"

	"example.com/condvar"
)

// Two conventions in these tests. In the default mode a new call may overtake
// the line. So a test that checks which call gets a permit first lets the head
// wait longer than resThreshold; in FIFO mode that changes nothing. A woken
// goroutine of the bubble runs in parallel with the test, so a test asserts
// only what holds in each order, or at rest.

// resThreshold is how long new calls may overtake the head of the line.
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

// resNew returns a resource of which some permits are held. If the test fails,
// it releases the waiters, so that the end of the bubble shows the failure and
// not a deadlock.
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

// A resWaiter is an AcquireN on a goroutine, with its own context.
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

// Rows 67, 70. Bug R24.
func TestCapacityResource_ACapacityBelow1Panics(t *testing.T) {
	const message = "condvar: NewCapacityResource with a capacity below 1 (to start paused, call Resize(0))"
	for _, capacity := range []int64{0, -1, math.MinInt64} {
		require.PanicsWithValue(t, message, func() { condvar.NewCapacityResource(capacity) })
	}
}

// Row 140.
func TestCapacityResource_ResizeBeforeFirstUseIsHonoured(t *testing.T) {
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
func TestCapacityResource_CapacityZeroPauses(t *testing.T) {
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

// Row 91.
func TestCapacityResource_AnAcquireThatFindsRoomDoesNotWait(t *testing.T) {
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

func TestCapacityResource_WhichAnswerComesFirst(t *testing.T) {
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

func TestCapacityResource_TheErrorOfAContextIsItsOwnAndItsCause(t *testing.T) {
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

// Rows 72, 129.
func TestCapacityResource_ACancelledWaiterLeavesNoTrace(t *testing.T) {
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
func TestCapacityResource_AReleasePassesOverTheCancelled(t *testing.T) {
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

// Rows 83, 84. Bug R5.
func TestCapacityResource_ACancelRacingAReleaseAdmitsExactlyOne(t *testing.T) {
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

// Rows 108, 109, 113.
func TestCapacityResource_TheOnlyWaiterCancelledBeforeTheReleaseNeverAcquires(t *testing.T) {
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
				// No canceled call is before it.
				require.NoError(t, r.Acquire(context.Background()))
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
func TestCapacityResource_CancellingEverybodyLeavesAUsableResource(t *testing.T) {
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

// resHeap returns how many bytes the heap holds after a collection.
func resHeap() int64 {
	runtime.GC()
	runtime.GC() // memory that finalizers and pools kept over the first
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

// Row 95.
func TestCapacityResource_AHeldResourceCanBeDropped(t *testing.T) {
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

// The first in line gets in whichever call makes it fit. F8.
func TestCapacityResource_TheLineMovesWheneverItsHeadFits(t *testing.T) {
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
					// So that no call overtakes while the line forms.
					r.Resize(0)
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
// Acquire has found too few permits and prepares to wait.
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
func TestCapacityResource_AReleaseBetweenNoRoomAndJoiningTheLineIsNotLost(t *testing.T) {
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

// A resNosyContext reads a resource in each of its methods.
type resNosyContext struct {
	context.Context
	r *condvar.CapacityResource
}

func (c resNosyContext) Done() <-chan struct{} { c.r.Stats(); return c.Context.Done() }

func (c resNosyContext) Err() error { c.r.Stats(); return c.Context.Err() }

func (c resNosyContext) Value(key any) any { c.r.Stats(); return c.Context.Value(key) }

// A context's methods are not called with the resource's lock held.
func TestCapacityResource_AContextMayUseTheResourceItWaitsFor(t *testing.T) {
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

// Row 106.
func TestCapacityResource_WhatDoesNotWaitAllocatesNothing(t *testing.T) {
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

// Outside bubbles, where a resource keeps waiters for later waits.
func TestCapacityResource_AWaitAllocatesNothingInTheSteadyState(t *testing.T) {
	const runs = 500
	for _, opts := range [][]condvar.Option{nil, {condvar.FIFO()}} {
		r := condvar.NewCapacityResource(1, opts...)
		require.True(t, r.TryAcquire())
		ends := make(chan func()) // of the next wait
		go func() {
			for end := range ends {
				// Outside a bubble there is no other way to know it.
				for r.Stats().Waiting == 0 {
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

// Not tested here:
//
//   - Rows 69, 145: syntax and defaults of Python.
//   - Rows 107, 114, 122, 123, 124, and the second halves of 76 and 142:
//     permits have no holder.
//   - Row 126: there is no unlimited capacity; math.MaxInt64 is tested.
//   - Bug R19 is about speed: a benchmark measures it.
//   - go vet reports a copied resource.

// Row 106. A call that takes no lock cannot block.
func TestCapacityResource_WhoNeedNotWaitTakesNoLock(t *testing.T) {
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

// A new call that may overtake the line takes the fast path.
func TestCapacityResource_WhoMayOvertakeTakesNoLock(t *testing.T) {
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

func TestCapacityResource_WaitingOnACopyOfAResourcePanics(t *testing.T) {
	r := newPaused()
	c := reflect.New(reflect.TypeOf(r).Elem())
	c.Elem().Set(reflect.ValueOf(r).Elem()) // a copy that go vet does not see
	require.PanicsWithValue(t, "condvar: Cond is copied", func() {
		c.Interface().(*condvar.CapacityResource).Acquire(t.Context())
	})
}

// Bug R25.
func TestCapacityResource_EveryMethodOfAZeroCapacityResourcePanics(t *testing.T) {
	const message = "condvar: use of a zero CapacityResource (make one with NewCapacityResource)"
	called := func(context.Context) error { panic("fn was called") }
	calls := map[string][]func(r *condvar.CapacityResource){
		"Acquire": {
			func(r *condvar.CapacityResource) { _ = r.Acquire(t.Context()) },
			func(r *condvar.CapacityResource) { _ = r.Acquire(resDead()) },
		},
		"AcquireN": {
			func(r *condvar.CapacityResource) { _ = r.AcquireN(t.Context(), 0) },
			func(r *condvar.CapacityResource) { _ = r.AcquireN(t.Context(), -1) },
			func(r *condvar.CapacityResource) { _ = r.AcquireN(resDead(), -1) },
		},
		"TryAcquire": {func(r *condvar.CapacityResource) { r.TryAcquire() }},
		"TryAcquireN": {
			func(r *condvar.CapacityResource) { r.TryAcquireN(0) },
			func(r *condvar.CapacityResource) { r.TryAcquireN(-1) },
		},
		"AcquirePermit": {
			func(r *condvar.CapacityResource) { _, _ = r.AcquirePermit(t.Context(), 1) },
			func(r *condvar.CapacityResource) { _, _ = r.AcquirePermit(resDead(), 0) },
		},
		"TryAcquirePermit": {func(r *condvar.CapacityResource) { r.TryAcquirePermit(1) }},
		"Release":          {func(r *condvar.CapacityResource) { r.Release() }},
		"ReleaseN": {
			func(r *condvar.CapacityResource) { r.ReleaseN(0) },
			func(r *condvar.CapacityResource) { r.ReleaseN(-1) },
		},
		"Do":     {func(r *condvar.CapacityResource) { _ = r.Do(t.Context(), called) }},
		"DoN":    {func(r *condvar.CapacityResource) { _ = r.DoN(resDead(), 0, called) }},
		"Resize": {func(r *condvar.CapacityResource) { r.Resize(1) }, func(r *condvar.CapacityResource) { r.Resize(-1) }},
		"Close":  {func(r *condvar.CapacityResource) { _ = r.Close() }},
		"Drain":  {func(r *condvar.CapacityResource) { _ = r.Drain(t.Context()) }},
		"Stats":  {func(r *condvar.CapacityResource) { r.Stats() }},
		"String": {func(r *condvar.CapacityResource) { _ = r.String() }},
	}
	for m := range reflect.TypeFor[*condvar.CapacityResource]().Methods() {
		if m.Name == "Mu" || m.Name == "WakeHeadLater" || m.Name == "JoinAndLeave" {
			continue // of export_test.go
		}
		require.NotEmpty(t, calls[m.Name], m.Name)
		for _, f := range calls[m.Name] {
			require.PanicsWithValue(t, message, func() { f(new(condvar.CapacityResource)) }, m.Name)
		}
	}
}
