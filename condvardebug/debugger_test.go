package condvardebug_test

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"runtime/trace"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"example.com/condvar"
	"example.com/condvar/condvardebug"
)

func TestTrackShowsWhatThereIs(t *testing.T) {
	bubble(t, func(t *testing.T, ctx context.Context) {
		var d condvardebug.Debugger
		r := condvar.NewCapacityResource(3)
		d.Track("pool", r)
		require.Equal(t, "has room", look(t, &d).Resources[0].State)
		hold(t, r, 3)
		go r.AcquireN(ctx, 2)
		synctest.Wait()
		time.Sleep(1500 * time.Millisecond)

		v := look(t, &d)
		require.Len(t, v.Resources, 1)
		got := v.Resources[0]
		require.Equal(t, "pool", got.Name)
		require.Equal(t, "full", got.State)
		require.True(t, got.Full)
		require.EqualValues(t, 3, got.Capacity)
		require.EqualValues(t, 3, got.InUse)
		require.EqualValues(t, 1, got.Waiting)
		require.EqualValues(t, 2, got.WaitingPermits)
		require.Equal(t, 1.5, got.OldestWait)
		require.Empty(t, got.History.InUse)
	})
}

func TestStatesAreInWords(t *testing.T) {
	bubble(t, func(t *testing.T, ctx context.Context) {
		var d condvardebug.Debugger
		r := condvar.NewCapacityResource(1)
		r.Resize(0)
		d.Track("pool", r)
		requireState := func(state string, full bool) {
			t.Helper()
			got := look(t, &d).Resources[0]
			require.Equal(t, state, got.State)
			require.Equal(t, full, got.Full)
		}
		requireState("paused", false)
		r.Resize(4)
		requireState("has room", false)
		hold(t, r, 3)
		go r.AcquireN(ctx, 2)
		synctest.Wait()
		requireState("too full for the first in line", false)
		hold(t, r, 1)
		requireState("full", true)
		r.Resize(2)
		requireState("over capacity", true)
		r.Close()
		requireState("closed", false)
		runtime.KeepAlive(r)
	})
}

func TestTheSameNameIsShownTwice(t *testing.T) {
	var d condvardebug.Debugger
	a, b := condvar.NewCapacityResource(1), condvar.NewCapacityResource(2)
	d.Track("pool", a)
	d.Track("pool", b)
	v := look(t, &d)
	require.Len(t, v.Resources, 2)
	require.EqualValues(t, 1, v.Resources[0].Capacity)
	require.EqualValues(t, 2, v.Resources[1].Capacity)
	runtime.KeepAlive(a)
	runtime.KeepAlive(b)
}

// TestADebuggerKeepsNoResource has one that is tracked, sampled, hooked, held,
// and was waited for.
func TestADebuggerKeepsNoResource(t *testing.T) {
	before := profiled()
	d, r := newCollectable(1, 1)
	d.OnSlowWait(0, func(condvardebug.SlowWait) {})
	bubble(t, func(t *testing.T, ctx context.Context) {
		go d.Run(ctx)
		time.Sleep(2500 * time.Millisecond)
		hold(t, r, 1)
		canceled, cancel := context.WithCancel(ctx)
		time.AfterFunc(time.Second, cancel)
		require.ErrorIs(t, r.Acquire(canceled), context.Canceled)
	})
	v := look(t, d)
	require.Len(t, v.Resources, 1)
	require.Len(t, v.Resources[0].History.InUse, 3)
	require.Len(t, v.Holders, 1)
	runtime.KeepAlive(r)
	eventually(t, func() bool {
		runtime.GC()
		v := look(t, d)
		return len(v.Resources) == 0 && len(v.Holders) == 0
	})
	require.Equal(t, [3]int{}, d.Sizes(), "nothing at all is left")
	require.Equal(t, before, profiled(), "in the profile")
}

func TestACallbackThatKnowsTheResourceKeepsItNoLongerThanTheDebugger(t *testing.T) {
	before := profiled()
	func() {
		d, r := newCollectable(1, 1)
		d.OnSlowWait(0, func(condvardebug.SlowWait) { r.Release() })
		hold(t, r, 1)
	}()
	require.Equal(t, before+1, profiled())
	eventually(t, func() bool {
		runtime.GC()
		return profiled() == before
	})
}

func TestRunTakesASampleEachSecondAndEndsWithItsContext(t *testing.T) {
	bubble(t, func(t *testing.T, ctx context.Context) {
		var d condvardebug.Debugger
		r := condvar.NewCapacityResource(3)
		d.Track("pool", r)
		runCtx, stop := context.WithCancel(ctx)
		go d.Run(runCtx)
		time.Sleep(1100 * time.Millisecond)
		hold(t, r, 2)
		time.Sleep(time.Second)
		hold(t, r, 1)
		go r.Acquire(ctx)
		time.Sleep(time.Second)
		got := look(t, &d).Resources[0].History
		require.Equal(t, 1.0, got.Interval)
		require.Equal(t, []int64{0, 2, 3}, got.InUse)
		require.Equal(t, []int64{3, 3, 3}, got.Capacity)
		require.Equal(t, []int64{0, 0, 1}, got.Waiting)

		r.ReleaseN(2)
		time.Sleep(condvardebug.MaxSamples * time.Second)
		got = look(t, &d).Resources[0].History
		require.Len(t, got.InUse, condvardebug.MaxSamples, "the old ones are dropped")
		require.EqualValues(t, 2, got.InUse[0])

		stop()
		time.Sleep(10 * time.Second)
		require.Equal(t, got, look(t, &d).Resources[0].History)
		runtime.KeepAlive(r)
	})
}

func TestASlowWaitIsTold(t *testing.T) {
	bubble(t, func(t *testing.T, ctx context.Context) {
		var d condvardebug.Debugger
		var told []condvardebug.SlowWait
		d.OnSlowWait(time.Second, func(w condvardebug.SlowWait) { told = append(told, w) })
		r := condvar.NewCapacityResource(2, condvar.WithHooks(d.Hooks("pool")))
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
		r := condvar.NewCapacityResource(1, condvar.WithHooks(d.Hooks("pool")))
		hold(t, r, 1)
		time.AfterFunc(2*time.Second, r.Release)
		require.NoError(t, r.Acquire(ctx))
		require.Len(t, told, 1)
		require.NoError(t, told[0].Err)
		require.Equal(t, 2*time.Second, told[0].Waited)
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
		require.Empty(t, look(t, d).Holders)
		d.OnSlowWait(0, nil)
		hold(t, r, 1)
		r.Release()
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
	wait.Err = errors.New("too late")
	logger.Info("slow", "wait", wait)
	require.Contains(t, out.String(), `wait.error="too late"`)
}

func TestAWaitIsATraceRegion(t *testing.T) {
	var d, other condvardebug.Debugger
	var out bytes.Buffer
	require.NoError(t, trace.Start(&out)) // not in the bubble, for it starts goroutines
	bubble(t, func(t *testing.T, ctx context.Context) {
		var told []context.Context
		d.OnSlowWait(0, func(w condvardebug.SlowWait) { told = append(told, w.Ctx) })
		other.OnSlowWait(0, func(w condvardebug.SlowWait) { told = append(told, w.Ctx) })
		r := condvar.NewCapacityResource(1, condvar.WithHooks(d.Hooks("first pool")), condvar.WithHooks(other.Hooks("second pool")))
		hold(t, r, 1)
		time.AfterFunc(time.Second, r.Release)
		trace.WithRegion(ctx, "around", func() { require.NoError(t, r.Acquire(ctx)) })
		require.Equal(t, []context.Context{ctx, ctx}, told, "the contexts are those of the call")
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
		`RegionBegin "around"`, `RegionBegin "condvar wait first pool"`, // of two Debuggers: two regions would overlap
		`RegionEnd "condvar wait first pool"`, `RegionEnd "around"`,
	}, regions)
}

func TestWithoutATraceNoContextIsMade(t *testing.T) {
	var d condvardebug.Debugger
	require.Nil(t, d.Hooks("pool").WaitStart(t.Context(), 1))
}

func TestWithoutHoldersACallAllocatesNothing(t *testing.T) {
	var d condvardebug.Debugger
	d.OnSlowWait(time.Hour, func(condvardebug.SlowWait) {})
	r := condvar.NewCapacityResource(1, condvar.WithHooks(d.Hooks("pool")))
	d.Track("pool", r)
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
