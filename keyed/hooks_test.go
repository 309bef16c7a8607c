package keyed_test

import (
	"context"
	"math"
	"runtime"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"example.com/condvar"
	"example.com/condvar/keyed"
)

// Options and hooks.

func TestTheBoundsOfTheLineAreOfEachKey(t *testing.T) {
	bothModes(t, func(t *testing.T, opts ...condvar.Option) {
		r := keyed.New[string](1, append(opts, condvar.MaxWaiting(1), condvar.MaxWait(time.Second))...)
		var waiting []*call
		for _, key := range []string{"a", "b"} {
			require.True(t, r.TryAcquire(key))
			waiting = append(waiting, start(func() error { return r.Acquire(context.Background(), key) }))
			require.Equal(t, condvar.ErrOverloaded, r.Acquire(context.Background(), key))
		}
		time.Sleep(time.Second)
		synctest.Wait()
		for i, key := range []string{"a", "b"} {
			waiting[i].requireDone(t, condvar.ErrOverloaded)
			require.EqualValues(t, 2, r.Stats(key).Rejected)
			r.Release(key)
		}
		require.Zero(t, r.Len())
	})
}

func TestHooksAndOptionsMayUseTheResource(t *testing.T) {
	var r *keyed.Resource[string]
	calls := map[string]int{}
	use := func(name string) {
		calls[name]++
		r.Len()
		r.Stats("a")
		r.Stats("b")
		// This calls some of them again.
		if calls[name] == 1 && r.TryAcquire("other") {
			r.Release("other")
		}
	}
	options := 0
	r = keyed.New[string](1, condvar.MaxWait(time.Microsecond),
		func(*condvar.CapacityResource) { options++; r.Len() },
		condvar.Observe(func(*condvar.CapacityResource) *condvar.Hooks {
			use("Observe")
			return &condvar.Hooks{
				WaitStart: func(context.Context, int64) context.Context { use("WaitStart"); return nil },
				WaitDone:  func(context.Context, int64, time.Duration, error) { use("WaitDone") },
				Acquired:  func(context.Context, int64, *condvar.Hold) { use("Acquired") },
				Released:  func(int64, *condvar.Hold, time.Duration) { use("Released") },
				Resized:   func(int64, int64) { use("Resized") },
			}
		}))
	requireReturns(t, func() {
		if r.Acquire(t.Context(), "a") == nil {
			_ = r.Acquire(t.Context(), "a") // waits for a microsecond
			r.Resize(2)
			r.Release("a")
			_ = r.Do(t.Context(), "a", func(context.Context) error { return nil })
		}
	})
	for _, name := range []string{"Observe", "WaitStart", "WaitDone", "Acquired", "Released", "Resized"} {
		require.Positive(t, calls[name], name)
	}
	require.Positive(t, options)
	require.Zero(t, r.Len())
}

func TestAHookThatPanicsLeavesNoKey(t *testing.T) {
	for how, fail := range map[string]func(){"panic": func() { panic(errBoom) }, "Goexit": runtime.Goexit} {
		for _, name := range []string{"option", "Observe", "WaitStart", "WaitDone", "Acquired", "Released"} {
			t.Run(name+"/"+how, func(t *testing.T) {
				broken := false
				may := func(at string) {
					if broken && at == name {
						fail()
					}
				}
				r := keyed.New[string](1, condvar.MaxWait(time.Microsecond),
					func(*condvar.CapacityResource) { may("option") },
					condvar.Observe(func(*condvar.CapacityResource) *condvar.Hooks {
						may("Observe")
						return &condvar.Hooks{
							WaitStart: func(context.Context, int64) context.Context { may("WaitStart"); return nil },
							WaitDone:  func(context.Context, int64, time.Duration, error) { may("WaitDone") },
							Acquired:  func(context.Context, int64, *condvar.Hold) { may("Acquired") },
							Released:  func(int64, *condvar.Hold, time.Duration) { may("Released") },
						}
					}))
				// run runs f, which does not return, and waits for the end of
				// its goroutine.
				run := func(f func()) {
					t.Helper()
					returned := false
					done := make(chan struct{})
					go func() {
						defer close(done)
						defer func() {
							if p := recover(); p != nil && p != errBoom {
								panic(p)
							}
						}()
						f()
						returned = true
					}()
					<-done
					require.False(t, returned)
				}
				nothing := func(context.Context) error { return nil }
				switch name {
				case "WaitStart", "WaitDone":
					require.True(t, r.TryAcquire("a"))
					broken = true
					run(func() { _ = r.Acquire(t.Context(), "a") })
					run(func() { _ = r.Do(t.Context(), "a", nothing) })
					require.Equal(t, 1, r.Len())
					r.Release("a")
				case "Released":
					require.True(t, r.TryAcquire("a"))
					broken = true
					run(func() { r.Release("a") })
					run(func() { _ = r.Do(t.Context(), "a", nothing) })
				default:
					broken = true
					run(func() { _ = r.Acquire(t.Context(), "a") })
					run(func() { r.TryAcquire("a") })
					run(func() { _ = r.Do(t.Context(), "a", nothing) })
				}
				require.Zero(t, r.Len())
				broken = false
				require.True(t, r.TryAcquire("a"))
				require.False(t, r.TryAcquire("a"))
				r.Release("a")
				require.Zero(t, r.Len())
			})
		}
	}
}

func TestAResizedHookThatPanicsKeepsNoKeyFromItsCapacity(t *testing.T) {
	fails := 0
	r := keyed.New[int](1, condvar.Observe(func(*condvar.CapacityResource) *condvar.Hooks {
		return &condvar.Hooks{Resized: func(int64, int64) {
			if fails > 0 {
				fails--
				panic(errBoom)
			}
		}}
	}))
	for key := range 10 {
		require.True(t, r.TryAcquire(key))
	}
	fails = 3
	require.PanicsWithValue(t, errBoom, func() { r.Resize(2) })
	require.Zero(t, fails)
	for key := range 10 {
		require.EqualValues(t, 2, r.Stats(key).Capacity)
		r.Release(key)
	}
	require.Zero(t, r.Len())
	requireReturns(t, func() { r.Resize(3) })
}

func TestAKeyThatCannotBeHashedPanicsAndLeavesTheResourceUsable(t *testing.T) {
	r := keyed.New[any](1)
	key := any([]int{1})
	for name, f := range map[string]func(){
		"Acquire":    func() { _ = r.Acquire(t.Context(), key) },
		"TryAcquire": func() { r.TryAcquire(key) },
		"Do":         func() { _ = r.Do(t.Context(), key, func(context.Context) error { return nil }) },
		"Release":    func() { r.Release(key) },
		"Stats":      func() { r.Stats(key) },
	} {
		for _, keys := range []int{0, 1} {
			if keys == 1 {
				require.True(t, r.TryAcquire("a"))
			}
			require.Panics(t, f, name)
			requireReturns(t, func() { require.Equal(t, keys, r.Len(), name) })
		}
		require.False(t, r.TryAcquire("a"))
		r.Release("a")
		require.Zero(t, r.Len())
	}
}

func TestNewPanicsAsNewCapacityResourceDoes(t *testing.T) {
	const message = "condvar: NewCapacityResource with a capacity below 1 (to start paused, call Resize(0))"
	for _, capacity := range []int64{0, -1, math.MinInt64} {
		require.PanicsWithValue(t, message, func() { keyed.New[int](capacity) })
	}
}
