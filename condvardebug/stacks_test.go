package condvardebug_test

import (
	"context"
	"encoding/json"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"example.com/condvar"
	"example.com/condvar/condvardebug"
)

// objects are the values that goroutines wait for.
type objects struct {
	cond     *condvar.Cond
	isOpen   bool // guarded by cond.L
	event    condvar.Event
	resource *condvar.CapacityResource
}

func newObjects(t *testing.T) *objects {
	t.Helper()
	o := &objects{cond: condvar.NewCond(&sync.Mutex{}), resource: condvar.NewCapacityResource(2)}
	hold(t, o.resource, 2)
	return o
}

// open ends all waits.
func (o *objects) open() {
	o.cond.L.Lock()
	o.isOpen = true
	o.cond.NotifyAll()
	o.cond.L.Unlock()
	o.event.Set()
	o.resource.Close()
	o.resource.ReleaseN(2)
}

func (o *objects) locked(f func()) {
	o.cond.L.Lock()
	defer o.cond.L.Unlock()
	f()
}

type stacksView struct {
	Version    int
	Goroutines int
	TooMany    bool `json:"too_many"`
	Blocked    []struct {
		Method, Stack string
		Count         int
	}
}

// blocked returns the view of all stacks of a new Debugger.
func blocked(t *testing.T) (v stacksView) {
	t.Helper()
	var d condvardebug.Debugger
	require.NoError(t, json.Unmarshal(get(t, &d, "/?view=stacks&format=json").Body.Bytes(), &v))
	return v
}

func TestABlockedGoroutineIsFoundByItsMethod(t *testing.T) {
	nothing := func(context.Context) error { return nil }
	for method, call := range map[string]func(ctx context.Context, o *objects){
		"Cond.Wait": func(ctx context.Context, o *objects) { o.locked(func() { o.cond.Wait(ctx) }) },
		"Cond.WaitFor": func(ctx context.Context, o *objects) {
			o.locked(func() { o.cond.WaitFor(ctx, func() bool { return o.isOpen }) })
		},
		"Event.Wait":                     func(ctx context.Context, o *objects) { o.event.Wait(ctx) },
		"CapacityResource.Acquire":       func(ctx context.Context, o *objects) { o.resource.Acquire(ctx) },
		"CapacityResource.AcquireN":      func(ctx context.Context, o *objects) { o.resource.AcquireN(ctx, 2) },
		"CapacityResource.AcquirePermit": func(ctx context.Context, o *objects) { o.resource.AcquirePermit(ctx, 2) },
		"CapacityResource.Do":            func(ctx context.Context, o *objects) { o.resource.Do(ctx, nothing) },
		"CapacityResource.DoN":           func(ctx context.Context, o *objects) { o.resource.DoN(ctx, 2, nothing) },
		"CapacityResource.Drain":         func(ctx context.Context, o *objects) { o.resource.Drain(ctx) },
	} {
		for _, state := range []string{"with a context", "with one that cannot end"} {
			t.Run(method+"/"+state, func(t *testing.T) {
				bubble(t, func(t *testing.T, ctx context.Context) {
					if state != "with a context" {
						ctx = context.Background()
					}
					o := newObjects(t)
					open := sync.OnceFunc(o.open)
					defer open()
					for range 2 {
						go call(ctx, o)
					}
					synctest.Wait()
					sites := blocked(t).Blocked
					require.Len(t, sites, 1)
					require.Equal(t, method, sites[0].Method)
					require.Equal(t, 2, sites[0].Count)
					require.Regexp(t, `\A([^\n]*/condvardebug_test\.[^\n]*\n\t[^\n]*/stacks_test\.go:\d+\n)+\z`, sites[0].Stack)
					open()
					synctest.Wait()
					require.Empty(t, blocked(t).Blocked)
				})
			})
		}
	}
}

func TestAGoroutineWithoutACallerSaysSo(t *testing.T) {
	bubble(t, func(t *testing.T, ctx context.Context) {
		o := newObjects(t)
		go o.resource.Acquire(ctx)
		synctest.Wait()
		sites := blocked(t).Blocked
		require.Len(t, sites, 1)
		require.Equal(t, "(called by a go statement)\n", sites[0].Stack)
	})
}

func TestWhoWaitsForTheLockIsBlockedToo(t *testing.T) {
	o := newObjects(t)
	defer o.open()
	var waiting sync.WaitGroup
	waiting.Go(func() { o.locked(func() { o.cond.Wait(t.Context()) }) })
	eventually(t, func() bool { return o.cond.Waiters() == 1 })
	o.locked(func() {
		o.cond.Notify()
		eventually(t, func() bool {
			sites := blocked(t).Blocked
			return len(sites) == 1 && sites[0].Method == "Cond.Wait"
		})
	})
	waiting.Wait()
}

// TestForeignCodeIsNotBlockedInCondvar has goroutines in callbacks of condvar:
// in a function, a predicate and a hook.
func TestForeignCodeIsNotBlockedInCondvar(t *testing.T) {
	bubble(t, func(t *testing.T, ctx context.Context) {
		o := newObjects(t)
		blocking := make(chan struct{})
		hooked := condvar.NewCapacityResource(1, condvar.WithHooks(&condvar.Hooks{
			WaitStart: func(ctx context.Context, _ int64) context.Context { <-blocking; return ctx },
		}))
		hooked.Resize(0)
		o.resource.Release()
		go o.resource.Do(ctx, func(context.Context) error { <-blocking; return nil })
		go o.locked(func() { o.cond.WaitFor(ctx, func() bool { <-blocking; return true }) })
		go hooked.Acquire(ctx)
		synctest.Wait()
		require.Empty(t, blocked(t).Blocked)
		close(blocking)
		hooked.Close()
	})
}

func TestManyGoroutinesAreOneSiteAndTheMostComeFirst(t *testing.T) {
	bubble(t, func(t *testing.T, ctx context.Context) {
		o := newObjects(t)
		for range 10 {
			go waitHere(ctx, o.resource, 1)
		}
		for range 1000 {
			go waitThere(ctx, o.resource)
		}
		synctest.Wait()
		v := blocked(t)
		require.Len(t, v.Blocked, 2)
		require.Equal(t, 1000, v.Blocked[0].Count)
		require.Equal(t, 10, v.Blocked[1].Count)
		require.Greater(t, v.Goroutines, 1010)
		require.False(t, v.TooMany)
	})
}

func TestAVeryDeepStackIsCut(t *testing.T) {
	bubble(t, func(t *testing.T, ctx context.Context) {
		o := newObjects(t)
		go deep(200, func() { o.resource.Acquire(ctx) })
		synctest.Wait()
		sites := blocked(t).Blocked
		require.Len(t, sites, 1)
		require.Contains(t, sites[0].Stack, "condvardebug_test.deep\n")
	})
}

//go:noinline
func deep(n int, f func()) {
	if n == 0 {
		f()
		return
	}
	deep(n-1, f)
}

// Bug P2: stacks are taken only for their own page, once, and at most once a
// second.
func TestStacksAreTakenOnceASecondWhoeverLooks(t *testing.T) {
	bubble(t, func(t *testing.T, _ context.Context) {
		var d condvardebug.Debugger
		for _, target := range []string{"/", "/?format=json", "/?format=text"} {
			get(t, &d, target)
		}
		require.Zero(t, d.StacksTaken())
		var viewers sync.WaitGroup
		for range 10 {
			viewers.Go(func() { get(t, &d, "/?view=stacks") })
		}
		viewers.Wait()
		get(t, &d, "/?view=stacks&format=json")
		time.Sleep(999 * time.Millisecond)
		get(t, &d, "/?view=stacks&format=text")
		require.Equal(t, 1, d.StacksTaken())
		time.Sleep(time.Millisecond)
		get(t, &d, "/?view=stacks")
		require.Equal(t, 2, d.StacksTaken())
	})
}

func TestTooManyGoroutinesAreNotLookedAt(t *testing.T) {
	bubble(t, func(t *testing.T, ctx context.Context) {
		o := newObjects(t)
		for range 100 {
			go waitHere(ctx, o.resource, 1)
		}
		synctest.Wait()
		html, text, n := condvardebug.StacksBeyond(50)
		require.Contains(t, html, "they were not looked at")
		require.Contains(t, text, "they were not looked at")
		require.Zero(t, n)
		html, _, n = condvardebug.StacksBeyond(1000)
		require.NotContains(t, html, "they were not looked at")
		require.Equal(t, 1, n)
	})
}
