package condvar_test

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"testing"
	"testing/synctest"
	"time"
	"weak"

	"github.com/stretchr/testify/require"

	"example.com/condvar"
)

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
		require.Len(t, told, 2, "the failed calls are not told")
	})
}

// A foreignPermit is a permit of another package, which calls hooks itself.
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

// Row 119. A Permit that is dropped is not given back, and can be found.
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

// tell returns hooks that write to log under a name, and fail where fails says.
func tell(log *[]string, name, fails string, fail func()) *condvar.Hooks {
	told := func(what string) {
		*log = append(*log, name+" "+what)
		if what == fails {
			fail()
		}
	}
	return &condvar.Hooks{
		WaitStart: func(context.Context, int64) context.Context { told("WaitStart"); return nil },
		WaitDone: func(_ context.Context, _ int64, _ time.Duration, err error) {
			*log = append(*log, fmt.Sprintf("%s %v", name, err))
			told("WaitDone")
		},
		Acquired: func(context.Context, int64, *condvar.Hold) { told("Acquired") },
		Released: func(int64, *condvar.Hold, time.Duration) { told("Released") },
		Resized:  func(int64, int64) { told("Resized") },
	}
}

// ends runs f on a goroutine that may panic or end, and waits for it.
func ends(f func()) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		defer func() { _ = recover() }()
		f()
	}()
	<-done
}

func TestHooks_WhoWasToldOfTheBeginningIsToldOfTheEnd(t *testing.T) {
	const panicked = "condvar: the call panicked or called runtime.Goexit"
	for how, fail := range map[string]func(){"panic": func() { panic("hook") }, "Goexit": runtime.Goexit} {
		for fails, want := range map[string][]string{
			"WaitStart": {"a WaitStart", "b WaitStart", "a " + panicked, "a WaitDone", "b " + panicked, "b WaitDone"},
			"WaitDone": {
				"a WaitStart", "b WaitStart", "c WaitStart",
				"a condvar: resource is closed", "a WaitDone", "b condvar: resource is closed", "b WaitDone", "c condvar: resource is closed", "c WaitDone",
			},
			"Acquired": {"a Acquired", "b Acquired", "a Released", "b Released"},
			"Released": {"a Acquired", "b Acquired", "c Acquired", "a Released", "b Released", "c Released"},
			"Resized":  {"a Resized", "b Resized", "c Resized"},
		} {
			t.Run(fails+"/"+how, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					var log []string
					r := condvar.NewCapacityResource(1,
						condvar.WithHooks(tell(&log, "a", "", nil)),
						condvar.WithHooks(tell(&log, "b", fails, fail)),
						condvar.WithHooks(tell(&log, "c", "", nil)))
					switch fails {
					case "Resized":
						ends(func() { r.Resize(5) })
						require.EqualValues(t, 5, r.Stats().Capacity)
					case "Acquired", "Released":
						ends(func() { _ = r.Do(t.Context(), func(context.Context) error { return nil }) })
					default:
						ends(func() { r.TryAcquire() })
						log = nil
						go ends(func() { _ = r.Acquire(t.Context()) })
						synctest.Wait()
						require.NoError(t, r.Close())
						synctest.Wait()
						r.Release()
						log = log[:len(log)-3] // Released, of the set-up
					}
					require.Equal(t, want, log)
					require.Zero(t, r.Stats().InUse)
				})
			})
		}
	}
}

// Whoever was told of an acquisition is told of its release, in each way to
// acquire, and none of them is told of what it was not told of before.
func TestHooks_AnAcquisitionIsUndoneForThoseWhoWereToldOfIt(t *testing.T) {
	for how, fail := range map[string]func(){"panic": func() { panic("hook") }, "Goexit": runtime.Goexit} {
		for name, acquire := range map[string]func(t *testing.T, r *condvar.CapacityResource){
			"Acquire":          func(t *testing.T, r *condvar.CapacityResource) { _ = r.Acquire(t.Context()) },
			"TryAcquire":       func(_ *testing.T, r *condvar.CapacityResource) { r.TryAcquire() },
			"AcquirePermit":    func(t *testing.T, r *condvar.CapacityResource) { _, _ = r.AcquirePermit(t.Context(), 1) },
			"TryAcquirePermit": func(_ *testing.T, r *condvar.CapacityResource) { r.TryAcquirePermit(1) },
			"Do": func(t *testing.T, r *condvar.CapacityResource) {
				_ = r.Do(t.Context(), func(context.Context) error { panic("fn was called") })
			},
		} {
			t.Run(name+"/"+how, func(t *testing.T) {
				acquired := map[string]*condvar.Hold{}
				var released []string
				observer := func(name string, fail func()) condvar.Option {
					return condvar.WithHooks(&condvar.Hooks{
						Acquired: func(_ context.Context, _ int64, h *condvar.Hold) {
							acquired[name] = h
							if fail != nil {
								fail()
							}
						},
						Released: func(n int64, h *condvar.Hold, _ time.Duration) {
							require.EqualValues(t, 1, n)
							require.Same(t, acquired[name], h)
							released = append(released, name)
						},
					})
				}
				r := condvar.NewCapacityResource(1, observer("a", nil), observer("b", fail), observer("c", nil))
				returned := false
				ends(func() { acquire(t, r); returned = true })
				require.False(t, returned)
				require.Len(t, acquired, 2)
				require.Equal(t, []string{"a", "b"}, released)
				require.Equal(t, acquired["a"], acquired["b"])
				require.Zero(t, r.Stats().InUse)
			})
		}
	}
}

// The same of a call that has waited. The wait has succeeded by then.
func TestHooks_AWaitThatEndsInAPanicOfAcquiredIsTold(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log []string
		fails := false
		observer := func(name string) condvar.Option {
			hooks := tell(&log, name, "Acquired", func() {
				if fails && name == "b" {
					panic("hook")
				}
			})
			hooks.Resized = nil // which runs on another goroutine
			return condvar.WithHooks(hooks)
		}
		r := condvar.NewCapacityResource(1, observer("a"), observer("b"), observer("c"))
		require.NoError(t, r.Acquire(t.Context()))
		fails, log = true, nil
		go ends(func() { _ = r.Acquire(t.Context()) })
		synctest.Wait()
		r.Resize(2)
		synctest.Wait()
		require.Equal(t, []string{
			"a WaitStart", "b WaitStart", "c WaitStart",
			"a <nil>", "a WaitDone", "b <nil>", "b WaitDone", "c <nil>", "c WaitDone",
			"a Acquired", "b Acquired", "a Released", "b Released",
		}, log)
		resRequire(t, r, 1, 0)
	})
}

// A contextThatPanics panics when it is asked for its Done channel the second
// time, which is when the wait is about to begin.
type contextThatPanics struct {
	context.Context
	asked int
}

func (c *contextThatPanics) Done() <-chan struct{} {
	if c.asked++; c.asked == 2 {
		panic("context")
	}
	return c.Context.Done()
}

func TestHooks_AContextThatPanicsEndsTheWaitForThem(t *testing.T) {
	var log []string
	r := condvar.NewCapacityResource(1, condvar.WithHooks(tell(&log, "a", "", nil)))
	require.True(t, r.TryAcquire())
	log = nil
	require.PanicsWithValue(t, "context", func() { _ = r.Acquire(&contextThatPanics{Context: t.Context()}) })
	require.Equal(t, []string{"a WaitStart", "a condvar: the call panicked or called runtime.Goexit", "a WaitDone"}, log)
	require.Zero(t, r.Stats().Waiting)
}

func TestHooks_ACallThatMayNotWaitIsNotToldAsAWait(t *testing.T) {
	var log []string
	r := condvar.NewCapacityResource(1, condvar.MaxWaiting(0), condvar.WithHooks(tell(&log, "a", "", nil)))
	require.True(t, r.TryAcquire())
	log = nil
	require.Equal(t, condvar.ErrOverloaded, r.Acquire(t.Context()))
	require.Empty(t, log)
	require.EqualValues(t, 1, r.Stats().Rejected)
}

func TestHooks_IfTheLineFillsUpDuringWaitStartTheWaitIsRejected(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log []string
		starting, goOn := true, make(chan struct{})
		hooks := tell(&log, "a", "", nil)
		hooks.WaitStart = func(context.Context, int64) context.Context {
			if starting {
				starting = false
				<-goOn
			}
			return nil
		}
		hooks.Acquired, hooks.Released = nil, nil
		r := condvar.NewCapacityResource(1, condvar.MaxWaiting(1), condvar.WithHooks(hooks))
		require.True(t, r.TryAcquire())
		first := startAcquire(t.Context(), r, 1)
		second := startAcquire(t.Context(), r, 1)
		close(goOn)
		synctest.Wait()
		first.requireDone(t, condvar.ErrOverloaded)
		second.requireParked(t)
		require.Equal(t, []string{"a condvar: resource is overloaded", "a WaitDone"}, log)
		require.EqualValues(t, 1, r.Stats().Rejected)
		r.Release()
		synctest.Wait()
		second.requireDone(t, nil)
	})
}

func TestObserve_IsCalledOnceForEachResourceWhenItCanBeUsed(t *testing.T) {
	var seen []*condvar.CapacityResource
	var log []string
	option := condvar.Observe(func(r *condvar.CapacityResource) *condvar.Hooks {
		seen = append(seen, r)
		require.Equal(t, condvar.Stats{Capacity: 3}, r.Stats())
		require.NoError(t, r.Do(t.Context(), func(context.Context) error { return nil }))
		require.Equal(t, condvar.ErrOverloaded, r.DoN(t.Context(), 3, func(context.Context) error {
			return r.Acquire(t.Context())
		}), "options after it count already")
		return tell(&log, "observer", "", nil)
	})
	first := condvar.NewCapacityResource(3, option, condvar.MaxWaiting(0))
	second := condvar.NewCapacityResource(3, option, condvar.MaxWaiting(0))
	require.Equal(t, []*condvar.CapacityResource{first, second}, seen)
	require.Empty(t, log)
	first.Resize(4)
	require.True(t, second.TryAcquire())
	require.Equal(t, []string{"observer Resized", "observer Acquired"}, log)
}

func TestObserve_HooksOfAllOptionsAddUpInTheirOrder(t *testing.T) {
	var log []string
	r := condvar.NewCapacityResource(3,
		condvar.Observe(func(*condvar.CapacityResource) *condvar.Hooks { return tell(&log, "a", "", nil) }),
		condvar.Observe(func(*condvar.CapacityResource) *condvar.Hooks { return nil }),
		condvar.WithHooks(tell(&log, "b", "", nil)),
		condvar.Observe(func(*condvar.CapacityResource) *condvar.Hooks { return tell(&log, "c", "", nil) }))
	r.Resize(1)
	require.Equal(t, []string{"a Resized", "b Resized", "c Resized"}, log)
}

func TestObserve_WithoutHooksTheFastPathsStayOpen(t *testing.T) {
	r := condvar.NewCapacityResource(1, condvar.Observe(func(*condvar.CapacityResource) *condvar.Hooks { return nil }))
	r.Mu().Lock() // which fast paths do not take
	defer r.Mu().Unlock()
	require.NoError(t, r.Acquire(t.Context()))
	r.Release()
}

// Stats may be asked for by others as soon as an observer has the resource. Run
// with -race.
func TestObserve_AnObserverMayLetOthersAskForStats(t *testing.T) {
	results := make(chan condvar.Stats)
	r := condvar.NewCapacityResource(1,
		condvar.Observe(func(r *condvar.CapacityResource) *condvar.Hooks {
			go func() {
				for range 100 {
					results <- r.Stats()
				}
				close(results)
			}()
			return &condvar.Hooks{Released: func(int64, *condvar.Hold, time.Duration) {}}
		}))
	for s := range results {
		require.EqualValues(t, 1, s.Capacity)
	}
	resRequireExact(t, r, 1)
}

func TestObserve_APanicLeavesNewCapacityResource(t *testing.T) {
	boom := errors.New("boom")
	require.PanicsWithValue(t, boom, func() {
		condvar.NewCapacityResource(1, condvar.Observe(func(*condvar.CapacityResource) *condvar.Hooks { panic(boom) }))
	})
}
