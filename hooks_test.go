package condvar_test

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"example.com/condvar"
)

type hookKey struct{}

// hookLog is a list of the calls of hooks.
type hookLog struct {
	mu    sync.Mutex
	lines []string
}

// hooks returns hooks that write to the log. Those of the same call see the
// context that WaitStart returned.
func (l *hookLog) hooks() *condvar.Hooks {
	told := func(format string, args ...any) {
		l.mu.Lock()
		defer l.mu.Unlock()
		l.lines = append(l.lines, fmt.Sprintf(format, args...))
	}
	return &condvar.Hooks{
		WaitStart: func(ctx context.Context, n int64) context.Context {
			told("WaitStart %v %d", ctx.Value(hookKey{}), n)
			return context.WithValue(ctx, hookKey{}, "started")
		},
		WaitDone: func(ctx context.Context, n int64, waited time.Duration, err error) {
			told("WaitDone %v %d %v %v", ctx.Value(hookKey{}), n, waited, err)
		},
		Acquired: func(ctx context.Context, n int64, _ *condvar.Hold) { told("Acquired %v %d", ctx.Value(hookKey{}), n) },
		Released: func(n int64, _ *condvar.Hold, _ time.Duration) { told("Released %d", n) },
		Resized:  func(from, to int64) { told("Resized %d %d", from, to) },
	}
}

// take returns what has been logged since the last call.
func (l *hookLog) take() []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	lines := l.lines
	l.lines = nil
	return lines
}

func TestHooks_AreToldOfEverything(t *testing.T) {
	resBothModes(t, func(t *testing.T, opts ...condvar.Option) {
		var log hookLog
		r := condvar.NewCapacityResource(4, append(opts, condvar.WithHooks(log.hooks()))...)
		require.Empty(t, log.take(), "of the construction, too")
		ctx, cancel := context.WithCancel(context.WithValue(t.Context(), hookKey{}, "call"))
		defer cancel()

		require.NoError(t, r.AcquireN(ctx, 3))
		require.True(t, r.TryAcquire())
		require.False(t, r.TryAcquire())
		require.Equal(t, []string{"Acquired call 3", "Acquired <nil> 1"}, log.take())

		waiting := startAcquire(ctx, r, 2)
		require.Equal(t, []string{"WaitStart call 2"}, log.take())
		time.Sleep(time.Minute)
		r.ReleaseN(3)
		synctest.Wait()
		waiting.requireDone(t, nil)
		require.ElementsMatch(t, []string{"Released 3", "WaitDone started 2 1m0s <nil>", "Acquired started 2"}, log.take())

		waiting = startAcquire(ctx, r, 4)
		time.Sleep(time.Second)
		cancel()
		synctest.Wait()
		waiting.requireDone(t, context.Canceled)
		require.Equal(t, []string{"WaitStart call 4", "WaitDone started 4 1s context canceled"}, log.take())

		waiting = startAcquire(t.Context(), r, 4)
		r.Resize(3)
		synctest.Wait()
		waiting.requireDone(t, condvar.ErrTooLarge)
		require.ElementsMatch(t, []string{"WaitStart <nil> 4", "Resized 4 3", "WaitDone started 4 0s " + condvar.ErrTooLarge.Error()}, log.take())

		r.ReleaseN(2)
		require.NoError(t, r.DoN(t.Context(), 2, func(context.Context) error { return nil }))
		require.Equal(t, []string{"Released 2", "Acquired <nil> 2", "Released 2"}, log.take())

		require.Panics(t, func() { r.ReleaseN(2) })
		require.Error(t, r.Acquire(ctx))
		require.Error(t, r.AcquireN(t.Context(), 100))
		require.NoError(t, r.Close())
		require.Error(t, r.Acquire(t.Context()))
		require.False(t, r.TryAcquire())
		require.Empty(t, log.take(), "what fails at once is not told")
	})
}

func TestHooks_OfWaitsLeaveTheFastPathsAlone(t *testing.T) {
	nothing := &condvar.Hooks{
		WaitStart: func(context.Context, int64) context.Context { panic("must not wait") },
		WaitDone:  func(context.Context, int64, time.Duration, error) { panic("must not wait") },
		Resized:   func(int64, int64) {},
	}
	r := condvar.NewCapacityResource(1, condvar.WithHooks(nothing))
	r.Mu().Lock() // which fast paths do not take
	defer r.Mu().Unlock()
	require.NoError(t, r.Acquire(t.Context()))
	r.Release()
	require.True(t, r.TryAcquire())
	r.Release()
}

func TestHooks_SeveralHooksAreCalledInOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log hookLog
		first, second := log.hooks(), log.hooks()
		first.Acquired = nil
		// The context stays as it is.
		first.WaitStart = func(context.Context, int64) context.Context { return nil }
		opts := []condvar.Option{
			condvar.WithHooks(first), condvar.WithHooks(nil), condvar.WithHooks(second), condvar.WithHooks(&condvar.Hooks{}),
		}
		second.Resized = nil // is not seen any more
		r := newPaused(opts...)
		waiting := startAcquire(context.WithValue(t.Context(), hookKey{}, "call"), r, 1)
		r.Resize(1)
		synctest.Wait()
		waiting.requireDone(t, nil)
		require.ElementsMatch(t, []string{
			"Resized 1 0", "Resized 1 0", "WaitStart call 1", "Resized 0 1", "Resized 0 1",
			"WaitDone started 1 0s <nil>", "WaitDone started 1 0s <nil>", "Acquired started 1",
		}, log.take())
	})
}

// Hooks of several options are called in the order of the options, and the last
// ones do not hide anything from the first ones.
func TestHooks_AreCalledInTheOrderOfTheOptions(t *testing.T) {
	var told []string
	add := func(name string) condvar.Option {
		return condvar.WithHooks(&condvar.Hooks{Acquired: func(context.Context, int64, *condvar.Hold) { told = append(told, name) }})
	}
	r := condvar.NewCapacityResource(1, add("first"), add("second"), condvar.WithHooks(&condvar.Hooks{}))
	require.NoError(t, r.Acquire(t.Context()))
	require.Equal(t, []string{"first", "second"}, told)
}

func TestHooks_MayUseTheResourceAndRunOnTheGoroutineOfTheCall(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var r *condvar.CapacityResource
		calls := 0
		goroutine := func() string {
			buf := make([]byte, 64)
			return string(buf[:runtime.Stack(buf, false)])[:20]
		}
		caller := ""
		use := func() {
			calls++
			require.Equal(t, caller, goroutine())
			r.Stats()
			if r.AcquireN(t.Context(), 0) == nil && calls < 100 {
				r.ReleaseN(0)
			}
		}
		deep := 0
		// So that the hooks do not report their own calls.
		once := func() {
			if deep++; deep == 1 {
				use()
			}
			deep--
		}
		r = condvar.NewCapacityResource(1, condvar.WithHooks(&condvar.Hooks{
			WaitStart: func(context.Context, int64) context.Context { once(); return nil },
			WaitDone:  func(context.Context, int64, time.Duration, error) { once() },
			Acquired:  func(context.Context, int64, *condvar.Hold) { once() },
			Released:  func(int64, *condvar.Hold, time.Duration) { once() },
			Resized:   func(int64, int64) { once() },
		}))
		caller = goroutine()
		r.Resize(2)
		require.NoError(t, r.AcquireN(t.Context(), 2))
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		require.ErrorIs(t, r.Acquire(ctx), context.DeadlineExceeded)
		r.ReleaseN(2)
		require.Equal(t, 5, calls)
	})
}

func TestHooks_RoomThatComesDuringWaitStartIsTaken(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var r *condvar.CapacityResource
		var log hookLog
		hooks := log.hooks()
		hooks.WaitStart = func(context.Context, int64) context.Context {
			r.Release()
			return nil
		}
		hooks.Released = nil
		r = condvar.NewCapacityResource(1, condvar.WithHooks(hooks))
		require.NoError(t, r.Acquire(t.Context()))
		require.NoError(t, r.Acquire(t.Context()))
		require.Equal(t, []string{"Acquired <nil> 1", "WaitDone <nil> 1 0s <nil>", "Acquired <nil> 1"}, log.take())
		require.Zero(t, r.Stats().WaitCount)
	})
}

func TestHooks_TheWaitObeysTheContextOfTheCall(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		type result struct {
			done   bool
			waited time.Duration
		}
		var told result
		r := newPaused(condvar.WithHooks(&condvar.Hooks{
			WaitStart: func(context.Context, int64) context.Context {
				time.Sleep(time.Hour) // is not part of the wait
				return resDead()
			},
			WaitDone: func(ctx context.Context, _ int64, waited time.Duration, _ error) {
				told = result{ctx.Err() != nil, waited}
			},
		}))
		waiting := startAcquire(t.Context(), r, 1)
		time.Sleep(time.Hour + time.Minute)
		waiting.requireParked(t)
		r.Resize(1)
		synctest.Wait()
		waiting.requireDone(t, nil)
		require.Equal(t, result{true, time.Minute}, told)
	})
}

// A fooled is an error that claims to be every other error.
type fooled struct{}

func (fooled) Error() string { return "fooled" }

func (fooled) Is(error) bool { return true }

func TestHooks_TheCauseOfAContextIsNotAskedWhetherToWait(t *testing.T) {
	ctx, cancel := context.WithCancelCause(t.Context())
	r := newPaused(condvar.WithHooks(&condvar.Hooks{
		WaitStart: func(context.Context, int64) context.Context { panic("need not wait") },
	}))
	require.Error(t, r.Acquire(&lateContext{ctx, func() { cancel(fooled{}) }}))
}

func TestHooks_OfNothingAreToldToo(t *testing.T) {
	var log hookLog
	hooks := log.hooks()
	hooks.Acquired = func(ctx context.Context, n int64, _ *condvar.Hold) {
		require.Zero(t, n)
		log.hooks().Released(n+100, nil, 0)
		if ctx != t.Context() {
			require.Equal(t, context.Background(), ctx)
		}
	}
	r := condvar.NewCapacityResource(1, condvar.WithHooks(hooks))
	require.NoError(t, r.AcquireN(t.Context(), 0))
	require.True(t, r.TryAcquireN(0))
	r.ReleaseN(0)
	r.Resize(1)
	require.Equal(t, []string{"Released 100", "Released 100", "Released 0", "Resized 1 1"}, log.take())
}

func TestHooks_ASlowHookHoldsUpNobodyElse(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		hold := make(chan struct{})
		slow := true
		r := condvar.NewCapacityResource(1, condvar.WithHooks(&condvar.Hooks{
			WaitStart: func(context.Context, int64) context.Context {
				if slow {
					slow = false
					<-hold
				}
				return nil
			},
		}))
		require.True(t, r.TryAcquire())
		first, second := startAcquire(t.Context(), r, 1), startAcquire(t.Context(), r, 1)
		require.Equal(t, int64(1), r.Stats().Waiting, "the first is not in line yet")
		r.Release()
		synctest.Wait()
		second.requireDone(t, nil)
		close(hold)
		synctest.Wait()
		first.requireParked(t)
		r.Release()
		synctest.Wait()
		first.requireDone(t, nil)
	})
}

func TestHooks_AHookThatPanicsLeavesTheAccountingExact(t *testing.T) {
	for how, fail := range map[string]func(){"panic": func() { panic("hook") }, "Goexit": runtime.Goexit} {
		for name, hooks := range map[string]*condvar.Hooks{
			"WaitStart": {WaitStart: func(context.Context, int64) context.Context { fail(); return nil }},
			"WaitDone":  {WaitDone: func(context.Context, int64, time.Duration, error) { fail() }},
			"Acquired":  {Acquired: func(context.Context, int64, *condvar.Hold) { fail() }},
			"Released":  {Released: func(int64, *condvar.Hold, time.Duration) { fail() }},
			"Resized":   {Resized: func(int64, int64) { fail() }},
		} {
			t.Run(name+"/"+how, func(t *testing.T) {
				resBothModes(t, func(t *testing.T, opts ...condvar.Option) {
					hooksFail(t, name, condvar.NewCapacityResource(3, append(opts, condvar.WithHooks(hooks))...))
				})
			})
		}
	}
}

// hooksFail calls every method that calls hooks on r. The hook of the given
// name never returns.
func hooksFail(t *testing.T, name string, r *condvar.CapacityResource) {
	ctx := t.Context()
	// run runs f, which the hook may end, and reports whether f has returned.
	run := func(f func()) *bool {
		returned := new(bool)
		go func() {
			defer func() {
				if p := recover(); p != nil && p != "hook" {
					panic(p)
				}
			}()
			f()
			*returned = true
		}()
		synctest.Wait()
		return returned
	}

	acquired := name != "Acquired"
	require.Equal(t, acquired, *run(func() { r.AcquireN(ctx, 2) }))
	require.Equal(t, acquired, *run(func() { r.TryAcquire() }))
	if !acquired {
		resRequire(t, r, 0, 0)
		return
	}
	resRequire(t, r, 3, 0)

	require.Equal(t, name != "Resized", *run(func() { r.Resize(4) }))
	require.Equal(t, int64(4), r.Stats().Capacity)

	canceled, cancel := context.WithCancel(ctx)
	waited := name != "WaitStart" && name != "WaitDone"
	leaves := run(func() { r.AcquireN(canceled, 2) })
	cancel()
	stays := run(func() { r.AcquireN(ctx, 2) })
	require.Equal(t, waited, *leaves)
	require.Equal(t, name != "Released", *run(func() { r.ReleaseN(3) }))
	require.Equal(t, waited, *stays)
	if waited {
		resRequire(t, r, 2, 0)
		run(func() { r.ReleaseN(2) })
	}
	resRequire(t, r, 0, 0)
}

func TestHooks_AllocateNothing(t *testing.T) {
	calls := 0
	r := condvar.NewCapacityResource(2, condvar.WithHooks(&condvar.Hooks{
		Acquired: func(context.Context, int64, *condvar.Hold) { calls++ },
		Released: func(int64, *condvar.Hold, time.Duration) { calls++ },
	}))
	ctx := t.Context()
	require.Zero(t, testing.AllocsPerRun(100, func() {
		if r.Acquire(ctx) == nil && r.TryAcquire() {
			r.ReleaseN(2)
		}
	}))
	require.Equal(t, 3*101, calls)
}

// tell returns hooks that write to log under a name, and fail in the hook
// named by fails.
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

// For each way to acquire: an observer whose Acquired hook was called gets the
// release, and no other observer does.
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

// The same for a call that has waited. Its wait has succeeded by then.
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

// A contextThatPanics panics at the second call of Done, which is when the wait
// is about to begin.
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

// Other goroutines may call Stats as soon as an observer has the resource. Run
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
