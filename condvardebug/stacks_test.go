package condvardebug_test

import (
	"context"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"example.com/condvar"
	"example.com/condvar/condvardebug"
)

// objects are what goroutines wait for.
type objects struct {
	cond     *condvar.Cond
	isOpen   bool // guarded by cond.L
	event    condvar.Event
	resource *condvar.CapacityResource
}

func newObjects(t *testing.T, d *condvardebug.Debugger) *objects {
	t.Helper()
	o := &objects{
		cond:     condvar.NewCond(&sync.Mutex{}),
		resource: condvar.NewCapacityResource(2, condvar.WithHooks(d.Hooks("pool"))),
	}
	hold(t, o.resource, 2)
	return o
}

// open lets everybody go.
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

func TestABlockedGoroutineIsFoundByItsMethod(t *testing.T) {
	nothing := func(context.Context) error { return nil }
	for method, call := range map[string]func(ctx context.Context, o *objects){
		"Cond.Wait": func(ctx context.Context, o *objects) { o.locked(func() { o.cond.Wait(ctx) }) },
		"Cond.WaitFor": func(ctx context.Context, o *objects) {
			o.locked(func() { o.cond.WaitFor(ctx, func() bool { return o.isOpen }) })
		},
		"Event.Wait":                func(ctx context.Context, o *objects) { o.event.Wait(ctx) },
		"CapacityResource.Acquire":  func(ctx context.Context, o *objects) { o.resource.Acquire(ctx) },
		"CapacityResource.AcquireN": func(ctx context.Context, o *objects) { o.resource.AcquireN(ctx, 2) },
		"CapacityResource.Do":       func(ctx context.Context, o *objects) { o.resource.Do(ctx, nothing) },
		"CapacityResource.DoN":      func(ctx context.Context, o *objects) { o.resource.DoN(ctx, 2, nothing) },
		"CapacityResource.Drain":    func(ctx context.Context, o *objects) { o.resource.Drain(ctx) },
	} {
		for _, state := range []string{"select", "chan receive"} {
			t.Run(method+"/"+state, func(t *testing.T) {
				bubble(t, func(t *testing.T, ctx context.Context) {
					if state != "select" {
						ctx = context.Background() // which cannot end
					}
					var d condvardebug.Debugger
					o := newObjects(t, &d)
					open := sync.OnceFunc(o.open)
					defer open()
					for range 2 {
						go call(ctx, o)
					}
					synctest.Wait()
					sites := look(t, &d).Blocked
					require.Len(t, sites, 1)
					require.Equal(t, method, sites[0].Method)
					require.Equal(t, state, sites[0].State)
					require.Equal(t, 2, sites[0].Count)
					require.Len(t, sites[0].Goroutines, 2)
					require.Regexp(t, `\A([^\n]*/condvardebug_test\.[^\n]*\n\t[^\n]*/stacks_test\.go:\d+\n)+`+
						`created by [^ \n]*/condvardebug_test\.TestABlocked[^ \n]*\n\t[^\n]*/stacks_test\.go:\d+\n\z`, sites[0].Stack)
					open()
					synctest.Wait()
					require.Empty(t, look(t, &d).Blocked)
				})
			})
		}
	}
}

func TestAGoroutineWithoutACallerIsFoundByWhoStartedIt(t *testing.T) {
	bubble(t, func(t *testing.T, ctx context.Context) {
		var d condvardebug.Debugger
		o := newObjects(t, &d)
		go o.resource.Acquire(ctx)
		synctest.Wait()
		sites := look(t, &d).Blocked
		require.Len(t, sites, 1)
		require.Regexp(t, `\Acreated by [^ \n]*/condvardebug_test\.TestAGoroutineWithoutACaller[^ \n]*\n\t[^\n]*:\d+\n\z`, sites[0].Stack)
	})
}

func TestWhoWaitsForTheLockIsBlockedToo(t *testing.T) {
	var d condvardebug.Debugger
	o := newObjects(t, &d)
	defer o.open()
	var waiting sync.WaitGroup
	waiting.Go(func() { o.locked(func() { o.cond.Wait(t.Context()) }) })
	eventually(t, func() bool { return o.cond.Waiters() == 1 })
	o.locked(func() {
		o.cond.Notify()
		eventually(t, func() bool {
			sites := look(t, &d).Blocked
			return len(sites) == 1 && sites[0].Method == "Cond.Wait" && sites[0].State == "sync.Mutex.Lock"
		})
	})
	waiting.Wait()
}

// TestForeignCodeIsNotBlockedInCondvar has goroutines that condvar has called
// back: in a function, a predicate and a hook.
func TestForeignCodeIsNotBlockedInCondvar(t *testing.T) {
	bubble(t, func(t *testing.T, ctx context.Context) {
		var d condvardebug.Debugger
		o := newObjects(t, &d)
		blocked := make(chan struct{})
		hooked := condvar.NewCapacityResource(1, condvar.WithHooks(&condvar.Hooks{
			WaitStart: func(ctx context.Context, _ int64) context.Context { <-blocked; return ctx },
		}))
		hooked.Resize(0)
		o.resource.Release()
		go o.resource.Do(ctx, func(context.Context) error { <-blocked; return nil })
		go o.locked(func() { o.cond.WaitFor(ctx, func() bool { <-blocked; return true }) })
		go hooked.Acquire(ctx)
		synctest.Wait()
		require.Empty(t, look(t, &d).Blocked)
		close(blocked)
		hooked.Close()
	})
}

func TestEveryFormOfADumpIsUnderstood(t *testing.T) {
	frames := strings.ReplaceAll(`sync.runtime_notifyListWait(0xc000012345, 0x0)
	/go/src/runtime/sema.go:617 +0x15d
sync.(*Cond).Wait(0x8a1ed01d6dc0?)
	/go/src/sync/cond.go:71 +0x73
LIBRARY.(*Cond).wait(0xc000012345, 0x0, 0x0)
	/src/condvar/cond.go:212 +0x1d
LIBRARY.(*Cond).Wait(...)
	/src/condvar/cond.go:165
main.(*Server[...]).serve(0xc000012345, {0x1, 0x2})
	/src/main.go:12 +0x1d
created by main.main in goroutine 1
	/src/main.go:7 +0x1b`, "LIBRARY.", condvardebug.CondvarPackage())
	stack := "main.(*Server[...]).serve\n\t/src/main.go:12\ncreated by main.main\n\t/src/main.go:7\n"
	for header, want := range map[string]struct {
		state   string
		minutes float64
	}{
		`goroutine 7 [select]:`:                                                                   {"select", 0},
		`goroutine 7 [chan receive, 3 minutes]:`:                                                  {"chan receive", 3},
		`goroutine 7 [select, 1000 minutes, locked to thread]:`:                                   {"select", 1000},
		`goroutine 7 [select, locked to thread]:`:                                                 {"select", 0},
		`goroutine 7 [select (durable), synctest bubble 2]:`:                                      {"select", 0},
		`goroutine 7 [chan receive (durable), 2 minutes, synctest bubble 2]:`:                     {"chan receive", 2},
		`goroutine 7 [select (scan), 2 minutes]:`:                                                 {"select", 2},
		`goroutine 7 [select (leaked)]:`:                                                          {"select (leaked)", 0},
		`goroutine 7 gp=0xc000002380 m=nil [select, 2 minutes]:`:                                  {"select", 2},
		`goroutine 7 gp=0xc000002380 m=1 mp=0xc000080008 [select, 2 minutes]:`:                    {"select", 2},
		`goroutine 7 [select labels:{"a": "x", "b": "y"}]:`:                                       {"select", 0},
		`goroutine 7 [select, 2 minutes, synctest bubble 2 labels:{"a": "[x, 9 minutes]:"}]:`:     {"select", 2},
		`goroutine 7 [select, 2 minutes, locked to thread labels:{"a": "goroutine 8 [select]"}]:`: {"select", 2},
	} {
		sites := condvardebug.ParseDump("goroutine 1 [running]:\nmain.main()\n\t/src/main.go:9 +0x1\n\n" + header + "\n" + frames + "\n")
		require.Len(t, sites, 1, header)
		require.Equal(t, "Cond.Wait", sites[0].Method, header)
		require.Equal(t, want.state, sites[0].State, header)
		require.Equal(t, want.minutes*60e9, float64(sites[0].Longest), header)
		require.Equal(t, []uint64{7}, sites[0].Goroutines, header)
		require.Equal(t, stack, sites[0].Stack, header)
	}
	for _, header := range []string{"goroutine 7 [running]:", "goroutine 7 [runnable]:", "goroutine 7 [preempted]:", "goroutine 7 [syscall, 2 minutes]:", "goroutine x [select]:", "goroutine", "", "[select]:"} {
		require.Empty(t, condvardebug.ParseDump(header+"\n"+frames), header)
	}
}

func TestManyGoroutinesAreOneSite(t *testing.T) {
	bubble(t, func(t *testing.T, ctx context.Context) {
		var d condvardebug.Debugger
		o := newObjects(t, &d)
		for range 1000 {
			go func() { o.resource.Acquire(ctx) }()
		}
		synctest.Wait()
		v := look(t, &d)
		require.Len(t, v.Blocked, 1)
		require.Equal(t, 1000, v.Blocked[0].Count)
		require.IsIncreasing(t, v.Blocked[0].Goroutines)
		require.False(t, v.Incomplete)
	})
}

func TestTheLongestComeFirstThenTheMost(t *testing.T) {
	one := func(stack string, goroutine uint64, longest time.Duration) condvardebug.Site {
		return condvardebug.Site{Stack: stack, Count: 1, Goroutines: []uint64{goroutine}, Longest: condvardebug.Seconds(longest)}
	}
	merged := condvardebug.Merge([]condvardebug.Site{
		one("single", 1, 1), one("many", 2, 1), one("short", 3, 0), one("many", 4, 0), one("long", 5, 1), one("long", 6, 2), one("alone", 7, 1),
	})
	var stacks []string
	for _, site := range merged {
		stacks = append(stacks, site.Stack)
	}
	require.Equal(t, []string{"long", "many", "alone", "single", "short"}, stacks)
	require.Equal(t, []uint64{5, 6}, merged[0].Goroutines)
	require.EqualValues(t, 2, merged[0].Longest)
}

func TestADumpMayEndAnywhere(t *testing.T) {
	bubble(t, func(t *testing.T, ctx context.Context) {
		var d condvardebug.Debugger
		o := newObjects(t, &d)
		go o.resource.Acquire(ctx)
		synctest.Wait()
		dump, cut := condvardebug.DumpGoroutines(1 << 24)
		require.False(t, cut)
		require.Len(t, condvardebug.ParseDump(dump), 1)
		for i := range dump {
			require.LessOrEqual(t, len(condvardebug.ParseDump(dump[:i])), 1)
		}
		short, cut := condvardebug.DumpGoroutines(100)
		require.True(t, cut)
		require.Len(t, short, 100)
	})
}

func TestAVeryDeepStackIsCutWhereTheRuntimeCutsIt(t *testing.T) {
	bubble(t, func(t *testing.T, ctx context.Context) {
		var d condvardebug.Debugger
		o := newObjects(t, &d)
		go deep(200, func() { o.resource.Acquire(ctx) })
		synctest.Wait()
		sites := look(t, &d).Blocked
		require.Len(t, sites, 1)
		require.Contains(t, sites[0].Stack, "condvardebug_test.deep\n")
		require.NotContains(t, sites[0].Stack, "elided")
		require.Zero(t, strings.Count(sites[0].Stack, "\n")%2, "of each frame two lines")
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
