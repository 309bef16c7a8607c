package condvardebug_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"runtime/trace"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"example.com/condvar"
	"example.com/condvar/condvardebug"
	"example.com/condvar/keyed"
)

func TestAResourceOfTrackAloneIsShownWithoutItsCallSites(t *testing.T) {
	bubble(t, func(t *testing.T, ctx context.Context) {
		var d condvardebug.Debugger
		r := condvar.NewCapacityResource(3)
		d.Track("pool", r)
		hold(t, r, 3)
		go r.AcquireN(ctx, 2)
		synctest.Wait()
		time.Sleep(1500 * time.Millisecond)
		got := look(t, &d).of(t, "pool")
		require.EqualValues(t, 3, got.Capacity)
		require.EqualValues(t, 3, got.InUse)
		require.EqualValues(t, 1, got.Waiting)
		require.EqualValues(t, 2, got.WaitingPermits)
		require.Equal(t, 1.5, got.OldestWait)
		require.Empty(t, got.WaitingAt)
		require.Contains(t, get(t, &d, "/?format=text").Body.String(), "the resource has no hooks")
		require.Contains(t, get(t, &d, "/").Body.String(), "the resource has no hooks")
		runtime.KeepAlive(r)
	})
}

//go:noinline
func waitHere(ctx context.Context, r *condvar.CapacityResource, n int64) error {
	return r.AcquireN(ctx, n)
}

//go:noinline
func waitThere(ctx context.Context, r *condvar.CapacityResource) error {
	return r.Do(ctx, func(context.Context) error { return nil })
}

func TestWhoWaitsIsKnownByItsCallSite(t *testing.T) {
	bubble(t, func(t *testing.T, ctx context.Context) {
		d, r := newWatched(t, 1, 3)
		hold(t, r, 3)
		go waitThere(ctx, r)
		time.Sleep(2 * time.Second)
		short, cancel := context.WithTimeout(ctx, 10*time.Second)
		defer cancel()
		go waitHere(ctx, r, 2)
		time.Sleep(3 * time.Second)
		go waitHere(short, r, 1)
		time.Sleep(time.Second)

		sites := look(t, d).of(t, "pool").WaitingAt
		require.Len(t, sites, 2)
		require.Equal(t, "waitThere", sites[0].caller(), "the longest first")
		require.Equal(t, 6.0, sites[0].Longest, "exactly")
		require.Equal(t, 1, sites[0].Calls)
		require.Nil(t, sites[0].Deadline)
		require.Equal(t, "waitHere", sites[1].caller())
		require.Equal(t, 4.0, sites[1].Longest)
		require.Equal(t, 2, sites[1].Calls)
		require.EqualValues(t, 3, sites[1].Permits)
		require.NotNil(t, sites[1].Deadline)
		require.Equal(t, 6.0, *sites[1].Deadline)
		require.Len(t, sites[1].Goroutines, 2)

		r.ReleaseN(3)
		synctest.Wait()
		require.Empty(t, look(t, d).of(t, "pool").WaitingAt, "they no longer wait")
	})
}

func TestAWaitIsOverHoweverItEnds(t *testing.T) {
	bubble(t, func(t *testing.T, ctx context.Context) {
		var d condvardebug.Debugger
		r := condvar.NewCapacityResource(3, d.Watch("pool"), condvar.MaxWait(5*time.Second))
		hold(t, r, 2)
		canceled, cancel := context.WithCancel(ctx)
		go waitHere(canceled, r, 2)
		go waitHere(ctx, r, 2)
		go waitHere(ctx, r, 3)
		synctest.Wait()
		require.Equal(t, 3, look(t, &d).of(t, "pool").WaitingAt[0].Calls)
		require.Empty(t, look(t, &d).of(t, "pool").WaitingAt[0].Goroutines, "holders are not recorded")
		cancel()
		synctest.Wait()
		require.Equal(t, 2, look(t, &d).of(t, "pool").WaitingAt[0].Calls)
		r.Resize(2)
		synctest.Wait()
		require.Equal(t, 1, look(t, &d).of(t, "pool").WaitingAt[0].Calls)
		time.Sleep(5 * time.Second)
		require.Empty(t, look(t, &d).of(t, "pool").WaitingAt)
		go waitHere(ctx, r, 2)
		synctest.Wait()
		require.NoError(t, r.Close())
		synctest.Wait()
		require.Empty(t, look(t, &d).of(t, "pool").WaitingAt)
		r.ReleaseN(2)
	})
}

// Another observer may panic as a wait starts or ends.
func TestAWaitIsOverWhenAHookPanics(t *testing.T) {
	bubble(t, func(t *testing.T, ctx context.Context) {
		var d condvardebug.Debugger
		r := condvar.NewCapacityResource(1, d.Watch("pool"), condvar.WithHooks(&condvar.Hooks{
			WaitStart: func(context.Context, int64) context.Context { panic("the hook") },
		}))
		hold(t, r, 1)
		require.PanicsWithValue(t, "the hook", func() { _ = r.Acquire(ctx) })
		require.Empty(t, look(t, &d).of(t, "pool").WaitingAt)
		r.Release()
	})
}

//go:noinline
func waitForKey(ctx context.Context, k *keyed.Resource[string]) error { return k.Acquire(ctx, "a") }

func TestTheStackOfACallOfAKeyBeginsWithItsCaller(t *testing.T) {
	bubble(t, func(t *testing.T, ctx context.Context) {
		var d condvardebug.Debugger
		k := keyed.New[string](1, d.Watch("tenants"))
		require.NoError(t, k.Acquire(ctx, "a"))
		require.NoError(t, k.Acquire(ctx, "b"))
		go waitForKey(ctx, k)
		synctest.Wait()
		got := look(t, &d).of(t, "tenants")
		require.Equal(t, 2, got.Instances)
		require.Equal(t, "waitForKey", got.WaitingAt[0].caller())
		k.Release("a")
		synctest.Wait()
		k.Release("a")
		k.Release("b")
	})
}

func TestResourcesOfOneNameAreOneRow(t *testing.T) {
	bubble(t, func(t *testing.T, ctx context.Context) {
		var d condvardebug.Debugger
		d.SetHolderProfileFraction(1)
		a := condvar.NewCapacityResource(1, d.Watch("pool"))
		b := condvar.NewCapacityResource(2, d.Watch("pool"))
		d.Track("pool", b) // again
		require.NoError(t, holdHere(ctx, a, 1))
		require.NoError(t, holdHere(ctx, b, 2))
		go waitHere(ctx, a, 1)
		time.Sleep(time.Second)
		go waitHere(ctx, b, 1)
		time.Sleep(time.Second)
		v := look(t, &d)
		require.Len(t, v.Resources, 1)
		got := v.Resources[0]
		require.Equal(t, 2, got.Instances)
		require.EqualValues(t, 3, got.Capacity)
		require.EqualValues(t, 3, got.InUse)
		require.EqualValues(t, 2, got.Waiting)
		require.Equal(t, 2.0, got.OldestWait, "of all of them")
		require.Len(t, got.WaitingAt, 1)
		require.Equal(t, 2, got.WaitingAt[0].Calls)
		require.Contains(t, get(t, &d, "/").Body.String(), "2 resources of this name")
		a.Release()
		b.ReleaseN(2)
	})
}

func TestUntrackTakesANameFromThePage(t *testing.T) {
	bubble(t, func(t *testing.T, ctx context.Context) {
		d, r := newWatched(t, 1, 1)
		var told int
		d.OnSlowWait(0, func(condvardebug.SlowWait) { told++ })
		d.Sample()
		d.Untrack("pool")
		d.Untrack("pool")
		d.Untrack("another")
		require.Empty(t, look(t, d).Resources)
		d.Sample()
		require.Zero(t, d.Sizes()[1], "its history is gone")
		hold(t, r, 1)
		short, cancel := context.WithTimeout(ctx, time.Second)
		defer cancel()
		require.Error(t, r.Acquire(short))
		require.Equal(t, 1, told, "its hooks go on")
		d.Track("pool", r)
		require.Len(t, look(t, d).Resources, 1)
	})
}

func TestANilResourceIsRefused(t *testing.T) {
	var d condvardebug.Debugger
	require.PanicsWithValue(t, "condvardebug: nil resource", func() { d.Track("pool", nil) })
	require.PanicsWithValue(t, "condvardebug: nil function", func() { d.TrackShared("pool", nil) })
}

// Bug P5.
func TestALongNameIsCut(t *testing.T) {
	require.Equal(t, "pool", condvardebug.Cut("pool"))
	require.Equal(t, strings.Repeat("ü", 100), condvardebug.Cut(strings.Repeat("ü", 100)))
	require.Equal(t, strings.Repeat("ü", 100)+"…", condvardebug.Cut(strings.Repeat("ü", 101)))
	require.Equal(t, "a\uFFFDb", condvardebug.Cut("a\xffb"))
	require.Equal(t, "\uFFFD"+strings.Repeat("b", 99)+"…", condvardebug.Cut("\xff"+strings.Repeat("b", 100)))

	bubble(t, func(t *testing.T, ctx context.Context) {
		var d condvardebug.Debugger
		d.SetHolderProfileFraction(1)
		// More than a megabyte.
		name := strings.Repeat("\u202e\x1b[31mevil", 1<<17)
		var told string
		d.OnSlowWait(0, func(w condvardebug.SlowWait) { told = w.Resource })
		r := condvar.NewCapacityResource(1, d.Watch(name))
		hold(t, r, 1)
		short, cancel := context.WithTimeout(ctx, time.Second)
		defer cancel()
		require.Error(t, r.Acquire(short))
		go r.Acquire(ctx)
		synctest.Wait()
		require.Equal(t, condvardebug.Cut(name), told)
		for _, target := range []string{"/", "/?format=text", "/?format=json"} {
			body := get(t, &d, target).Body.String()
			require.Less(t, len(body), 20_000, target)
			require.NotContains(t, body, "\x1b", target)
			if target != "/?format=json" {
				require.NotContains(t, body, "\u202e", target)
			}
		}
		d.Untrack(name)
		require.Empty(t, look(t, &d).Resources, "the whole name means the same")
		r.Release()
	})
}

// TestADebuggerKeepsNoResource has a resource that is tracked and sampled, has
// hooks and holders, and had waiters.
func TestADebuggerKeepsNoResource(t *testing.T) {
	none := func() bool { runtime.GC(); return profiled() == 0 }
	eventually(t, none) // records of other tests
	d, r := newCollectable(1, 2)
	d.OnSlowWait(0, func(condvardebug.SlowWait) {})
	bubble(t, func(t *testing.T, ctx context.Context) {
		go d.Run(ctx)
		time.Sleep(2500 * time.Millisecond)
		hold(t, r, 1)
		_, err := r.AcquirePermit(ctx, 1)
		require.NoError(t, err)
		canceled, cancel := context.WithCancel(ctx)
		time.AfterFunc(time.Second, cancel)
		require.ErrorIs(t, r.Acquire(canceled), context.Canceled)
	})
	require.Len(t, holders(t, d), 2)
	require.Equal(t, 1, d.Sizes()[1])
	runtime.KeepAlive(r)
	eventually(t, func() bool {
		runtime.GC()
		d.Sample()
		return len(look(t, d).Resources) == 0 && d.Sizes() == [3]int{}
	})
	require.Zero(t, profiled(), "in the profile")
}

func TestACallbackThatKnowsTheResourceKeepsItNoLongerThanTheDebugger(t *testing.T) {
	none := func() bool { runtime.GC(); return profiled() == 0 }
	eventually(t, none) // records of other tests
	func() {
		d, r := newCollectable(1, 1)
		d.OnSlowWait(0, func(condvardebug.SlowWait) { r.Release() })
		d.OnSlowHold(0, func(condvardebug.SlowHold) { r.Release() })
		hold(t, r, 1)
	}()
	require.Equal(t, 1, profiled())
	eventually(t, none)
}

// Bug M2, of the page: a pool that is recreated repeatedly leaves nothing.
func TestNothingIsKeptOfTenThousandResourcesThatAreGone(t *testing.T) {
	var d condvardebug.Debugger
	d.SetHolderProfileFraction(1)
	for i := range 10_000 {
		r := condvar.NewCapacityResource(1, d.Watch(fmt.Sprint("pool ", i%100)))
		require.True(t, r.TryAcquire())
		if i%1000 == 0 {
			d.Sample()
		}
	}
	eventually(t, func() bool {
		runtime.GC()
		d.Sample()
		return d.Sizes() == [3]int{} && len(look(t, &d).Resources) == 0
	})
}

func TestRunTakesASampleEachSecondAndEndsWithItsContext(t *testing.T) {
	bubble(t, func(t *testing.T, ctx context.Context) {
		var d condvardebug.Debugger
		r := condvar.NewCapacityResource(3, d.Watch("pool"), condvar.MaxWaiting(1))
		runCtx, stop := context.WithCancel(ctx)
		go d.Run(runCtx)
		time.Sleep(4100 * time.Millisecond) // a bubble begins with a column
		hold(t, r, 2)
		time.Sleep(time.Second) // in the second column
		hold(t, r, 1)
		go r.Acquire(ctx)
		synctest.Wait()
		require.ErrorIs(t, r.Acquire(ctx), condvar.ErrOverloaded)
		time.Sleep(5 * time.Second)
		last := func(values []*float64) (known []float64) {
			require.Len(t, values, 60)
			for _, v := range values {
				if v != nil {
					known = append(known, *v)
				}
			}
			return known
		}
		got := look(t, &d).of(t, "pool").History
		require.Equal(t, 5.0, got.Seconds)
		require.Equal(t, []float64{0, 3, 3}, last(got.InUse))
		require.Equal(t, []float64{3, 3, 3}, last(got.Capacity))
		require.Equal(t, []float64{0, 1, 1}, last(got.Waiting))
		require.Equal(t, []float64{0, 1, 0}, last(got.Rejected))

		stop()
		time.Sleep(4*time.Minute + 52*time.Second)
		got = look(t, &d).of(t, "pool").History
		require.Equal(t, []float64{3, 3}, last(got.InUse), "what is older than five minutes is gone")
		time.Sleep(10 * time.Minute)
		require.Nil(t, look(t, &d).of(t, "pool").History)
		r.ReleaseN(3)
	})
}

func TestASlowWaitIsTold(t *testing.T) {
	bubble(t, func(t *testing.T, ctx context.Context) {
		var d condvardebug.Debugger
		var told []condvardebug.SlowWait
		d.OnSlowWait(time.Second, func(w condvardebug.SlowWait) { told = append(told, w) })
		r := condvar.NewCapacityResource(2, d.Watch("pool"))
		type key struct{}
		ctx = context.WithValue(ctx, key{}, "of the call")
		wait := func(waited time.Duration) error {
			hold(t, r, 2)
			defer r.ReleaseN(2)
			waitCtx, cancel := context.WithTimeout(ctx, waited)
			defer cancel()
			return slowCaller(waitCtx, r)
		}

		require.ErrorIs(t, wait(999*time.Millisecond), context.DeadlineExceeded)
		require.Empty(t, told, "it was not slow")

		require.ErrorIs(t, wait(time.Second), context.DeadlineExceeded)
		require.Len(t, told, 1)
		got := told[0]
		require.Equal(t, "pool", got.Resource)
		require.EqualValues(t, 2, got.N)
		require.Equal(t, time.Second, got.Waited)
		require.ErrorIs(t, got.Err, context.DeadlineExceeded)
		require.Equal(t, "of the call", got.Ctx.Value(key{}))
		require.Zero(t, got.Suppressed)
		require.Regexp(t, `\A[^\n]*/condvardebug_test\.slowCaller\n\t[^\n]*debugger_test\.go:\d+\n`+
			`[^\n]*/condvardebug_test\.TestASlowWaitIsTold\.`, got.Stack)
		require.NotContains(t, got.Stack, "condvar.(", "no frames of condvar")
		require.NotContains(t, got.Stack, "condvardebug.(", "nor of its Debugger")
		require.NotContains(t, got.Stack, "runtime.goexit")

		d.OnSlowWait(0, nil)
		require.Error(t, wait(time.Second))
		require.Len(t, told, 1, "it is off")
	})
}

//go:noinline
func slowCaller(ctx context.Context, r *condvar.CapacityResource) error {
	return r.DoN(ctx, 2, func(context.Context) error { return nil })
}

func TestASlowWaitThatSucceedsIsTold(t *testing.T) {
	bubble(t, func(t *testing.T, ctx context.Context) {
		var d condvardebug.Debugger
		var told []condvardebug.SlowWait
		d.OnSlowWait(time.Second, func(w condvardebug.SlowWait) { told = append(told, w) })
		r := condvar.NewCapacityResource(1, d.Watch("pool"))
		hold(t, r, 1)
		time.AfterFunc(2*time.Second, r.Release)
		require.NoError(t, r.Acquire(ctx))
		require.Len(t, told, 1)
		require.NoError(t, told[0].Err)
		require.Equal(t, 2*time.Second, told[0].Waited)
	})
}

func TestSlowWaitsAreToldAFewTimesASecond(t *testing.T) {
	bubble(t, func(t *testing.T, ctx context.Context) {
		var d condvardebug.Debugger
		var mu sync.Mutex
		var told []int
		d.OnSlowWait(time.Second, func(w condvardebug.SlowWait) {
			mu.Lock()
			defer mu.Unlock()
			told = append(told, w.Suppressed)
		})
		r := condvar.NewCapacityResource(1, d.Watch("pool"))
		hold(t, r, 1)
		short, cancel := context.WithTimeout(ctx, 2*time.Second)
		defer cancel()
		for range 100 {
			go r.Acquire(short)
		}
		time.Sleep(2500 * time.Millisecond)
		synctest.Wait()
		require.Equal(t, []int{0, 0, 0, 0, 0}, told)
		again, cancel := context.WithTimeout(ctx, time.Second)
		defer cancel()
		require.Error(t, r.Acquire(again))
		require.Equal(t, []int{0, 0, 0, 0, 0, 95}, told, "what was left out is counted")
		require.Error(t, waitHere(timeout(ctx, t, time.Second), r, 1))
		require.Equal(t, []int{0, 0, 0, 0, 0, 95, 0}, told, "once")
	})
}

// timeout returns a context that ends after d, or with t.
func timeout(ctx context.Context, t *testing.T, d time.Duration) context.Context {
	short, cancel := context.WithTimeout(ctx, d)
	t.Cleanup(cancel)
	return short
}

func TestASlowHoldIsTold(t *testing.T) {
	bubble(t, func(t *testing.T, ctx context.Context) {
		d, r := newWatched(t, 1, 9)
		var told []condvardebug.SlowHold
		d.OnSlowHold(time.Second, func(h condvardebug.SlowHold) {
			require.Zero(t, r.Stats().InUse, "the permits are back, and no lock is held")
			told = append(told, h)
		})
		work := func(n int64, d time.Duration) {
			require.NoError(t, r.DoN(ctx, n, func(context.Context) error { time.Sleep(d); return nil }))
		}
		work(1, 999*time.Millisecond)
		require.Empty(t, told)
		work(2, time.Second)
		require.Len(t, told, 1)
		require.Equal(t, "pool", told[0].Resource)
		require.EqualValues(t, 2, told[0].N)
		require.Equal(t, time.Second, told[0].Held)
		require.Regexp(t, `\A[^\n]*TestASlowHoldIsTold`, told[0].Stack)

		p, err := r.AcquirePermit(ctx, 3)
		require.NoError(t, err)
		time.Sleep(2 * time.Second)
		p.Release()
		require.Equal(t, 2*time.Second, told[1].Held)

		hold(t, r, 1)
		time.Sleep(2 * time.Second)
		r.Release()
		require.Len(t, told, 2, "how long a pair holds is not known")

		d.SetHolderProfileFraction(0)
		work(1, time.Second)
		require.Empty(t, told[2].Stack, "it was not recorded")
		d.OnSlowHold(0, nil)
		work(1, time.Second)
		require.Len(t, told, 3)
	})
}

func TestSlowHoldsAreToldAFewTimesASecond(t *testing.T) {
	bubble(t, func(t *testing.T, ctx context.Context) {
		d, r := newWatched(t, 1, 9)
		told := 0
		d.OnSlowHold(0, func(condvardebug.SlowHold) { told++ })
		for range 20 {
			require.NoError(t, r.Do(ctx, func(context.Context) error { return nil }))
		}
		require.Equal(t, 5, told)
	})
}

func TestACallbackThatPanicsLosesNoPermits(t *testing.T) {
	bubble(t, func(t *testing.T, ctx context.Context) {
		d, r := newWatched(t, 1, 1)
		d.OnSlowWait(time.Second, func(condvardebug.SlowWait) { panic("the callback") })
		hold(t, r, 1)
		acquired := make(chan any)
		go func() {
			defer func() { acquired <- recover() }()
			r.Acquire(ctx)
		}()
		time.Sleep(2 * time.Second)
		r.Release()
		require.Equal(t, "the callback", <-acquired)
		require.Zero(t, r.Stats().InUse)
		require.Empty(t, holders(t, d))
		d.OnSlowWait(0, nil)
		d.OnSlowHold(0, func(condvardebug.SlowHold) { panic("the other") })
		require.PanicsWithValue(t, "the other", func() {
			_ = r.Do(ctx, func(context.Context) error { return nil })
		})
		require.Zero(t, r.Stats().InUse)
		require.Empty(t, holders(t, d))
	})
}

func TestACallbackMayUseTheDebuggerAndTheResource(t *testing.T) {
	bubble(t, func(t *testing.T, ctx context.Context) {
		d, r := newWatched(t, 1, 2)
		var seen []view
		d.OnSlowWait(time.Second, func(condvardebug.SlowWait) {
			require.True(t, r.TryAcquire())
			seen = append(seen, look(t, d))
			r.Release()
			d.OnSlowWait(0, nil)
		})
		hold(t, r, 2)
		time.AfterFunc(time.Second, func() { r.ReleaseN(2) })
		require.NoError(t, r.Acquire(ctx))
		r.Release()
		require.Len(t, seen, 1)
		require.EqualValues(t, 2, seen[0].Resources[0].InUse)
	})
}

func TestLogValueIsAGroup(t *testing.T) {
	var out bytes.Buffer
	logger := slog.New(slog.NewTextHandler(&out, nil))
	wait := condvardebug.SlowWait{Resource: "pool", N: 2, Waited: time.Second, Stack: "main.main\n", Ctx: t.Context()}
	logger.Info("slow", "wait", wait)
	require.Contains(t, out.String(), `wait.resource=pool wait.n=2 wait.waited=1s wait.stack="main.main\n"`+"\n")
	wait.Err, wait.Suppressed = errors.New("too late"), 1
	logger.Info("slow", "wait", wait)
	require.Contains(t, out.String(), `wait.error="too late" wait.suppressed=1`)
	logger.Info("slow", "hold", condvardebug.SlowHold{Resource: "pool", N: 2, Held: time.Second, Stack: "main.main\n"})
	require.Contains(t, out.String(), `hold.resource=pool hold.n=2 hold.held=1s hold.stack="main.main\n"`+"\n")
}

func TestAWaitIsATraceRegion(t *testing.T) {
	var d, other condvardebug.Debugger
	var out bytes.Buffer
	// Not in the bubble, because it starts goroutines.
	require.NoError(t, trace.Start(&out))
	bubble(t, func(t *testing.T, ctx context.Context) {
		var told []context.Context
		d.OnSlowWait(0, func(w condvardebug.SlowWait) { told = append(told, w.Ctx) })
		other.OnSlowWait(0, func(w condvardebug.SlowWait) { told = append(told, w.Ctx) })
		r := condvar.NewCapacityResource(1, d.Watch("first pool"), other.Watch("second pool"))
		hold(t, r, 1)
		time.AfterFunc(time.Second, r.Release)
		trace.WithRegion(ctx, "around", func() { require.NoError(t, r.Acquire(ctx)) })
		require.Equal(t, []context.Context{ctx, ctx}, told, "the contexts are those of the call")
		require.Empty(t, look(t, &d).Resources[0].WaitingAt)
		require.Empty(t, look(t, &other).Resources[0].WaitingAt)
		r.Release()
	})
	trace.Stop()

	file := filepath.Join(t.TempDir(), "trace")
	require.NoError(t, os.WriteFile(file, out.Bytes(), 0o600))
	events, err := exec.CommandContext(t.Context(), "go", "tool", "trace", "-d=parsed", file).CombinedOutput()
	require.NoError(t, err, "%s", events)
	var regions []string
	for _, event := range regexp.MustCompile(`(Region\w+) .*Type=(".*")`).FindAllStringSubmatch(string(events), -1) {
		regions = append(regions, event[1]+" "+event[2])
	}
	require.Equal(t, []string{
		// Of two Debuggers: two regions would overlap.
		`RegionBegin "around"`, `RegionBegin "condvar wait first pool"`,
		`RegionEnd "condvar wait first pool"`, `RegionEnd "around"`,
	}, regions)
}

func TestTheContextOfLaterHooksIsStillThatOfTheCall(t *testing.T) {
	type key struct{}
	var d condvardebug.Debugger
	ctx, cancel := context.WithCancelCause(context.WithValue(t.Context(), key{}, "of the call"))
	defer cancel(nil)
	hooks := d.Hooks("pool")
	later := hooks.WaitStart(ctx, 1)
	require.Equal(t, "of the call", later.Value(key{}))
	cancel(errors.New("the cause"))
	<-later.Done()
	require.EqualError(t, context.Cause(later), "the cause")
	hooks.WaitDone(later, 1, 0, nil)
}

func TestWithoutHoldersACallAllocatesNothing(t *testing.T) {
	var d condvardebug.Debugger
	d.OnSlowWait(time.Hour, func(condvardebug.SlowWait) {})
	r := condvar.NewCapacityResource(1, d.Watch("pool"))
	ctx := t.Context()
	require.Zero(t, testing.AllocsPerRun(1000, func() {
		if r.Acquire(ctx) == nil {
			r.Release()
		}
	}))
}

func TestWithoutHoldersNothingIsToldOfCallsThatDoNotWait(t *testing.T) {
	var d condvardebug.Debugger
	hooks := d.Hooks("pool")
	require.Nil(t, hooks.Acquired, "it would take the fast path away")
	require.Nil(t, hooks.Released)
	d.SetHolderProfileFraction(1)
	require.Nil(t, hooks.Acquired)
	hooks = d.Hooks("pool")
	require.NotNil(t, hooks.Acquired)
	require.NotNil(t, hooks.Released)
}

// The records are copied later than Stats, so a wait may be over by then.
func TestAWaitThatIsOverDoesNotMeanThatThereAreNoHooks(t *testing.T) {
	bubble(t, func(t *testing.T, ctx context.Context) {
		var d condvardebug.Debugger
		r := condvar.NewCapacityResource(1)
		d.Track("pool", r)
		// They report nothing, as if the wait were over.
		hooks := d.Hooks("pool")
		hold(t, r, 1)
		go r.Acquire(ctx)
		synctest.Wait()
		got := look(t, &d).of(t, "pool")
		require.EqualValues(t, 1, got.Waiting)
		require.Empty(t, got.WaitingAt)
		require.NotContains(t, get(t, &d, "/?format=text").Body.String(), "has no hooks")
		require.NotContains(t, get(t, &d, "/").Body.String(), "has no hooks")
		r.Release()
		runtime.KeepAlive(hooks)
	})
}

// The hooks of another observer may return a context that is not derived from
// theirs.
func TestAWaitIsOverWhenAHookHasReplacedTheContext(t *testing.T) {
	for _, rate := range []int{0, 1} {
		bubble(t, func(t *testing.T, ctx context.Context) {
			var d condvardebug.Debugger
			d.SetHolderProfileFraction(rate)
			var told []condvardebug.SlowWait
			d.OnSlowWait(time.Second, func(w condvardebug.SlowWait) { told = append(told, w) })
			r := condvar.NewCapacityResource(2, d.Watch("pool"), condvar.WithHooks(&condvar.Hooks{
				WaitStart: func(context.Context, int64) context.Context { return context.Background() },
			}))
			hold(t, r, 2)
			go waitThere(ctx, r)
			time.Sleep(time.Second)
			require.Error(t, waitHere(timeout(ctx, t, 3*time.Second), r, 1))
			sites := look(t, &d).of(t, "pool").WaitingAt
			require.Len(t, sites, 1)
			require.Equal(t, "waitThere", sites[0].caller(), "the other one continues")
			require.Len(t, told, 1)
			require.Contains(t, told[0].Stack, "waitHere\n")
			r.ReleaseN(2)
			synctest.Wait()
			require.Empty(t, look(t, &d).of(t, "pool").WaitingAt)
			runtime.KeepAlive(r)
		})
	}
}
