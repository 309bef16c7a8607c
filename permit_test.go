package condvar_test

import (
	"context"
	"fmt"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
	"weak"

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
			require.EqualValues(t, 3, r.Stats().InUse, "permits of other holders")
		}
		require.EqualValues(t, 2, p.N())
		other.Release()
		require.Zero(t, r.Stats().InUse)
	})
}

// Bug R22. With -race it checks that the release synchronizes before the
// acquisition.
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

// A Permit that other goroutines release than the one that acquired it.
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
func TestCapacityResource_DoWithHooksReleasesOnceHoweverTheFunctionEnds(t *testing.T) {
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

func TestCapacityResource_DoWithHooksMakesOneAllocation(t *testing.T) {
	r := condvar.NewCapacityResource(1, condvar.WithHooks(&condvar.Hooks{
		Acquired: func(context.Context, int64, *condvar.Hold) {},
		Released: func(int64, *condvar.Hold, time.Duration) {},
	}))
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	fn := func(context.Context) error { return nil }
	require.EqualValues(t, 1, testing.AllocsPerRun(100, func() { _ = r.Do(ctx, fn) }))
}

// Rows 77, 87, 96, 120.
func TestCapacityResource_PermitsAddUp(t *testing.T) {
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
func TestCapacityResource_PermitsHaveNoOwner(t *testing.T) {
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
func TestCapacityResource_OnlyAsManyTriesSucceedAsThereArePermits(t *testing.T) {
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

func TestCapacityResource_NoPermitsAreHadForTheAsking(t *testing.T) {
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
		r.Release() // from here on no call overtakes w, in either mode
		require.False(t, r.TryAcquire())
		zero()
		r.Resize(0)
		zero() // paused, and more held than the capacity
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

// Rows 74, 83, 84, 85, 111, 141. Bug R1. Bug R5.
func TestCapacityResource_APermitIsNotLostToACancelledWaiter(t *testing.T) {
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
func TestCapacityResource_AWaiterCancelledAfterTheReleaseHoldsThePermitOrPassesItOn(t *testing.T) {
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

// A starved head, and with FIFO every waiter, gets its permits from the release
// itself. They are in use at once, by as many waiters as fit, and a context
// that ends after that is too late. (A scene of verify/explore shows that
// better: here the waiters may have run before it ends.) Rows 108, 109.
func TestCapacityResource_PermitsAreHandedOverWhereNobodyMayOvertake(t *testing.T) {
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
		require.Zero(t, r.Stats().InUse, "a waiter that is about to leave gets no permits")
		synctest.Wait()
		last.requireDone(t, context.Canceled)
		resRequireExact(t, r, 5)
	})
}

// Rows 86, 90, 102.
func TestCapacityResource_DoReleasesHoweverTheFunctionEnds(t *testing.T) {
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
func TestCapacityResource_DoLetsTheNextInAfterAnError(t *testing.T) {
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

func TestCapacityResource_DoWaitsForItsPermitsAndGivesUpWithTheErrorOfAcquire(t *testing.T) {
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

func TestHooks_DoAndPermitsHaveAnIdentity(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var told []string
		ids := map[*condvar.Hold]int{}
		id := func(h *condvar.Hold) int {
			if h == nil {
				return 0
			}
			if ids[h] == 0 {
				ids[h] = len(ids) + 1
			}
			return ids[h]
		}
		r := condvar.NewCapacityResource(9, condvar.WithHooks(&condvar.Hooks{
			Acquired: func(_ context.Context, n int64, h *condvar.Hold) {
				told = append(told, fmt.Sprintf("acquired %d as %d", n, id(h)))
			},
			Released: func(n int64, h *condvar.Hold, held time.Duration) {
				told = append(told, fmt.Sprintf("released %d as %d after %v", n, id(h), held))
			},
		}))
		ctx := t.Context()
		first, err := r.AcquirePermit(ctx, 2)
		require.NoError(t, err)
		time.Sleep(time.Second)
		second, ok := r.TryAcquirePermit(3)
		require.True(t, ok)
		require.NoError(t, r.Acquire(ctx))
		time.Sleep(time.Second)
		require.NoError(t, r.DoN(ctx, 0, func(context.Context) error {
			time.Sleep(time.Minute)
			first.Release()
			first.Release()
			return nil
		}))
		r.Release()
		second.Release()
		require.Equal(t, []string{
			"acquired 2 as 1", "acquired 3 as 2", "acquired 1 as 0", "acquired 0 as 3",
			"released 2 as 1 after 1m2s", "released 0 as 3 after 1m0s", "released 1 as 0 after 0s", "released 3 as 2 after 1m1s",
		}, told)

		told = nil
		require.Panics(t, func() { _ = r.Do(ctx, func(context.Context) error { panic("fn") }) })
		_, err = r.AcquirePermit(ctx, 10)
		require.Error(t, err)
		_, ok = r.TryAcquirePermit(10)
		require.False(t, ok)
		require.Len(t, told, 2, "failed calls are not reported")
	})
}

// A foreignPermit is a permit of another package that calls the hooks itself.
type foreignPermit struct {
	name string
	hold condvar.Hold
}

func TestHooks_AnIdentityCanBeMadeElsewhere(t *testing.T) {
	var acquired, released *condvar.Hold
	hooks := &condvar.Hooks{
		Acquired: func(_ context.Context, _ int64, h *condvar.Hold) { acquired = h },
		Released: func(_ int64, h *condvar.Hold, held time.Duration) {
			released = h
			require.Equal(t, time.Second, held)
		},
	}
	a, b := &foreignPermit{name: "a"}, &foreignPermit{name: "b"}
	hooks.Acquired(t.Context(), 1, &a.hold)
	hooks.Released(1, &a.hold, time.Second)
	require.Same(t, acquired, released)
	require.NotSame(t, &b.hold, acquired)
}

// Row 119. A dropped Permit is not released, and can be detected.
func TestHooks_APermitThatWasCollectedIsFoundAndNotKeptAlive(t *testing.T) {
	collected := make(chan int64, 2)
	holds := map[weak.Pointer[condvar.Hold]]int64{}
	r := condvar.NewCapacityResource(9, condvar.WithHooks(&condvar.Hooks{
		Acquired: func(_ context.Context, n int64, h *condvar.Hold) {
			holds[weak.Make(h)] = n
			runtime.AddCleanup(h, func(n int64) { collected <- n }, n)
		},
		Released: func(_ int64, h *condvar.Hold, _ time.Duration) { delete(holds, weak.Make(h)) },
	}))
	kept, err := r.AcquirePermit(t.Context(), 2)
	require.NoError(t, err)
	_, err = r.AcquirePermit(t.Context(), 3)
	require.NoError(t, err)
	runtime.GC()
	require.EqualValues(t, 3, <-collected)
	require.EqualValues(t, 5, r.Stats().InUse)
	kept.Release()
	require.Len(t, holds, 1)
	for h, n := range holds {
		require.Nil(t, h.Value())
		require.EqualValues(t, 3, n)
	}
}
