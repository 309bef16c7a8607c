package condvar_test

import (
	"context"
	"errors"
	"math"
	"reflect"
	"runtime"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"example.com/condvar"
)

// Bug R22.
func TestPermit_IsReleasedOnce(t *testing.T) {
	resInBothModes(t, func(t *testing.T, opts ...condvar.Option) {
		r := condvar.NewCapacityResource(5, opts...)
		p, err := r.AcquirePermit(t.Context(), 2)
		require.NoError(t, err)
		require.EqualValues(t, 2, p.N())
		other, ok := r.TryAcquirePermit(3)
		require.True(t, ok)
		require.EqualValues(t, 5, r.Stats().InUse)
		for range 3 {
			p.Release()
			require.EqualValues(t, 3, r.Stats().InUse, "what others hold")
		}
		require.EqualValues(t, 2, p.N())
		other.Release()
		require.Zero(t, r.Stats().InUse)
	})
}

// Bug R22. -race sees whether the release synchronizes before the acquisition.
func TestPermit_OfManyReleasesAtOnceOneCounts(t *testing.T) {
	resInBothModes(t, func(t *testing.T, opts ...condvar.Option) {
		for _, more := range [][]condvar.Option{nil, {condvar.WithHooks(&condvar.Hooks{Acquired: func(context.Context, int64, *condvar.Hold) {}})}} {
			r := condvar.NewCapacityResource(1, append(opts, more...)...)
			var calls sync.WaitGroup
			inside := 0
			for range 8 {
				calls.Go(func() {
					for range 100 {
						p, err := r.AcquirePermit(t.Context(), 1)
						if err != nil {
							panic(err)
						}
						inside++
						if inside > 1 {
							panic("two at a time")
						}
						runtime.Gosched()
						inside--
						for range 3 {
							calls.Go(p.Release)
						}
						p.Release()
					}
				})
			}
			calls.Wait()
			require.Zero(t, r.Stats().InUse)
			resRequireExact(t, r, 1)
		}
	})
}

// Bug R23.
func TestPermit_OfAFailedCallIsNilAndItsReleaseDoesNothing(t *testing.T) {
	var zero condvar.Permit
	zero.Release()
	hooks := condvar.WithHooks(&condvar.Hooks{Acquired: func(context.Context, int64, *condvar.Hold) {}})
	for _, opts := range [][]condvar.Option{nil, {condvar.FIFO()}, {hooks}} {
		r := condvar.NewCapacityResource(2, append(opts, condvar.MaxWaiting(0))...)
		require.True(t, r.TryAcquire())
		fails := func(want error, p *condvar.Permit, err error) {
			t.Helper()
			require.Equal(t, want, err)
			require.Nil(t, p)
			p.Release()
			require.EqualValues(t, 1, r.Stats().InUse)
		}
		p, err := r.AcquirePermit(resDead(), 1)
		fails(context.Canceled, p, err)
		p, err = r.AcquirePermit(t.Context(), 3)
		fails(condvar.ErrTooLarge, p, err)
		p, err = r.AcquirePermit(t.Context(), 2)
		fails(condvar.ErrOverloaded, p, err)
		p, ok := r.TryAcquirePermit(2)
		require.False(t, ok)
		fails(nil, p, nil)
		require.PanicsWithValue(t, "condvar: negative number of permits", func() { _, _ = r.AcquirePermit(resDead(), -1) })
		require.PanicsWithValue(t, "condvar: negative number of permits", func() { r.TryAcquirePermit(-1) })
		require.NoError(t, r.Close())
		p, err = r.AcquirePermit(t.Context(), 1)
		fails(condvar.ErrClosed, p, err)
		_, ok = r.TryAcquirePermit(0)
		require.False(t, ok)
	}
}

func TestPermit_OfNothingIsOne(t *testing.T) {
	r := newPaused()
	p, err := r.AcquirePermit(t.Context(), 0)
	require.NoError(t, err)
	p.Release()
	p, ok := r.TryAcquirePermit(0)
	require.True(t, ok)
	require.Zero(t, p.N())
	p.Release()
}

func TestPermit_WaitsAndWakes(t *testing.T) {
	resBothModes(t, func(t *testing.T, opts ...condvar.Option) {
		r := resNew(t, 2, 0, opts...)
		p, err := r.AcquirePermit(t.Context(), 2)
		require.NoError(t, err)
		var got *condvar.Permit
		waiting := start(func() (err error) { got, err = r.AcquirePermit(t.Context(), 1); return err })
		waiting.requireParked(t)
		p.Release()
		synctest.Wait()
		waiting.requireDone(t, nil)
		resRequire(t, r, 1, 0)
		require.NoError(t, r.Close())
		got.Release()
		require.NoError(t, r.Drain(resDead()))
	})
}

func TestPermit_PanicsIfAnAnonymousReleaseHasFreedItsPermits(t *testing.T) {
	r := condvar.NewCapacityResource(1)
	p, err := r.AcquirePermit(t.Context(), 1)
	require.NoError(t, err)
	r.Release()
	require.PanicsWithValue(t, resOverRelease, p.Release)
	p.Release()
	resRequireExact(t, r, 1)
}

func TestPermit_MakesOneAllocation(t *testing.T) {
	r := condvar.NewCapacityResource(1)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	require.EqualValues(t, 1, testing.AllocsPerRun(100, func() {
		p, _ := r.AcquirePermit(ctx, 1)
		p.Release()
	}))
	require.EqualValues(t, 1, testing.AllocsPerRun(100, func() {
		p, _ := r.TryAcquirePermit(1)
		p.Release()
	}))
}

// A Permit that is released by other goroutines than the one that acquired it.
func TestPermit_HasNoOwner(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := resNew(t, 1, 0)
		p, err := r.AcquirePermit(t.Context(), 1)
		require.NoError(t, err)
		w := resPark(t, r, 1)
		start(func() error { p.Release(); return nil }).requireDone(t, nil)
		w.requireDone(t, nil)
		p.Release() // which must not free what w holds
		resRequire(t, r, 1, 0)
	})
}

func TestPermit_OfACanceledWaitIsNil(t *testing.T) {
	hooks := condvar.WithHooks(&condvar.Hooks{Acquired: func(context.Context, int64, *condvar.Hold) {}})
	for name, opt := range map[string]condvar.Option{"no hooks": condvar.WithHooks(nil), "hooks": hooks} {
		t.Run(name, func(t *testing.T) {
			resBothModes(t, func(t *testing.T, opts ...condvar.Option) {
				r := resNew(t, 1, 1, append(opts, opt)...)
				ctx, cancel := context.WithCancelCause(t.Context())
				var p *condvar.Permit
				waiting := start(func() (err error) { p, err = r.AcquirePermit(ctx, 1); return err })
				waiting.requireParked(t)
				cancel(errBoom)
				synctest.Wait()
				waiting.requireDone(t, errBoom)
				waiting.requireDone(t, context.Canceled)
				require.Nil(t, p)
				p.Release()
				resRequire(t, r, 1, 0)
			})
		})
	}
}

// With hooks that see every call, Do has a Permit.
func TestDoWithHooksReleasesOnceHoweverTheFunctionEnds(t *testing.T) {
	for name, end := range map[string]func() error{
		"return": func() error { return nil },
		"error":  func() error { return errBoom },
		"panic":  func() error { panic(errBoom) },
		"Goexit": func() error { runtime.Goexit(); return nil },
	} {
		t.Run(name, func(t *testing.T) {
			resBothModes(t, func(t *testing.T, opts ...condvar.Option) {
				var acquired, released []*condvar.Hold
				r := condvar.NewCapacityResource(4, append(opts, condvar.WithHooks(&condvar.Hooks{
					Acquired: func(_ context.Context, n int64, h *condvar.Hold) {
						require.EqualValues(t, 3, n)
						acquired = append(acquired, h)
					},
					Released: func(n int64, h *condvar.Hold, held time.Duration) {
						require.EqualValues(t, 3, n)
						require.Equal(t, time.Minute, held)
						released = append(released, h)
					},
				}))...)
				var inUse int64
				a := start(func() (err error) {
					defer func() {
						if p := recover(); p != nil {
							err = p.(error)
						}
					}()
					return r.DoN(t.Context(), 3, func(context.Context) error {
						inUse = r.Stats().InUse
						time.Sleep(time.Minute)
						return end()
					})
				})
				time.Sleep(time.Minute)
				synctest.Wait()
				require.EqualValues(t, 3, inUse)
				resRequire(t, r, 0, 0)
				require.Len(t, acquired, 1)
				require.NotNil(t, acquired[0])
				require.Equal(t, acquired, released)
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

func TestDoWithHooksMakesOneAllocation(t *testing.T) {
	r := condvar.NewCapacityResource(1, condvar.WithHooks(&condvar.Hooks{
		Acquired: func(context.Context, int64, *condvar.Hold) {},
		Released: func(int64, *condvar.Hold, time.Duration) {},
	}))
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	fn := func(context.Context) error { return nil }
	require.EqualValues(t, 1, testing.AllocsPerRun(100, func() { _ = r.Do(ctx, fn) }))
}

// The zero value.

// Bug R25.
func TestZero_EveryMethodOfAZeroCapacityResourcePanics(t *testing.T) {
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

// Resize and Drain.

func TestResizeReturnsTheCapacityBefore(t *testing.T) {
	r := condvar.NewCapacityResource(3)
	require.EqualValues(t, 3, r.Resize(5))
	require.EqualValues(t, 5, r.Resize(0))
	require.EqualValues(t, 0, r.Resize(math.MaxInt64))
	require.Equal(t, int64(math.MaxInt64), r.Resize(2))
	require.NoError(t, r.Close())
	require.EqualValues(t, 2, r.Resize(7))
	require.EqualValues(t, 7, r.Stats().Capacity)
}

func TestAPauseEndsWithTheFunctionThatBeganIt(t *testing.T) {
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

// As the documentation of Resize says.
func TestOfTwoPausesThatOverlapTheSecondRestoresThe0OfTheFirst(t *testing.T) {
	r := condvar.NewCapacityResource(2)
	first := r.Resize(0)
	second := r.Resize(0)
	r.Resize(first)
	require.True(t, r.TryAcquire())
	r.Resize(second)
	require.False(t, r.TryAcquire())
	require.Equal(t, "1/0 in use, 0 waiting, paused", r.String())
}

func TestANegativeCapacityPanicsAndChangesNothing(t *testing.T) {
	r := condvar.NewCapacityResource(3)
	for _, capacity := range []int64{-1, math.MinInt64} {
		require.PanicsWithValue(t, "condvar: negative capacity", func() { r.Resize(capacity) })
	}
	require.EqualValues(t, 3, r.Resize(4))
}

// The counts are those of the moment when the context ended, or later.
func TestTheErrorOfADrainThatWaitedSaysWhatIsHeld(t *testing.T) {
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
func TestTheErrorOfDrainSaysWhatIsHeldAndWhyItEnded(t *testing.T) {
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
