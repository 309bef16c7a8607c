package condvar_test

import (
	"context"
	"math/rand/v2"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"example.com/condvar"
)

// Bug C20. NotifyAll has woken many waiters, which have not checked yet because
// the test holds L. They are not in line, so a Notify does not visit them.
func TestWaiter_NotifyCostsTheSameHoweverManyAreAwayToLook(t *testing.T) {
	const few, many, notifies = 100, 4000, 2000
	cost := func(away int) time.Duration {
		c := condvar.NewCond(new(sync.Mutex))
		var wg sync.WaitGroup
		over := false
		for range away {
			wg.Go(func() {
				c.L.Lock()
				defer c.L.Unlock()
				require.NoError(t, c.WaitFor(context.Background(), func() bool { return over }))
			})
		}
		spin(t, c.Waiters, away)
		c.L.Lock()
		over = true
		require.Equal(t, away, c.NotifyAll())
		for range notifies {
			c.Listen()
		}
		begin := time.Now()
		for range notifies {
			c.Notify()
		}
		took := time.Since(begin)
		c.L.Unlock()
		wg.Wait()
		require.Zero(t, c.Waiters())
		return took
	}
	var ratios []float64
	for range 5 {
		ratios = append(ratios, float64(cost(many))/float64(cost(few)))
	}
	slices.Sort(ratios)
	require.LessOrEqual(t, ratios[2], 5.0)
}

// Bug C22. A struct with a part that points back to it may never be finalized.
func TestWaiter_AStructThatHasOneOfOursIsFinalized(t *testing.T) {
	type owner struct {
		cond  condvar.Cond
		event condvar.Event
	}
	ctx, cancel := context.WithCancel(t.Context())
	var finalized atomic.Int32
	waits := func(wait func(ctx context.Context) error, waiting func() int, wake func()) {
		for _, ctx := range []context.Context{context.Background(), ctx} {
			var wg sync.WaitGroup
			for range 2 {
				wg.Go(func() { require.NoError(t, wait(ctx)) })
			}
			spin(t, waiting, 2)
			wake()
			wg.Wait()
		}
	}
	use := func() {
		o := &owner{cond: condvar.Cond{L: new(sync.Mutex)}}
		waits(func(ctx context.Context) error {
			o.cond.L.Lock()
			defer o.cond.L.Unlock()
			return o.cond.Wait(ctx)
		}, o.cond.Waiters, func() { o.cond.NotifyAll() })
		waits(o.event.Wait, o.event.Waiters, func() { o.event.Set(); o.event.Clear() })
		runtime.SetFinalizer(o, func(*owner) { finalized.Add(1) })

		r := condvar.NewCapacityResource(2)
		require.True(t, r.TryAcquireN(2))
		waits(r.Acquire, func() int { return int(r.Stats().Waiting) }, func() { r.ReleaseN(2) })
		runtime.SetFinalizer(r, func(*condvar.CapacityResource) { finalized.Add(1) })
	}
	use()
	cancel()
	for i := 0; i < 1000 && finalized.Load() < 2; i++ {
		runtime.GC()
		runtime.Gosched() // to the goroutine that runs finalizers
	}
	require.EqualValues(t, 2, finalized.Load())
}

// A wait makes a waiter only if all existing ones are in use, by calls that
// wait or have not run since they were woken. So in any order of arrivals there
// are as many waiters as were in use at a time, whether or not their contexts
// can end.
func TestWaiter_AWaitAllocatesOnlyIfAllWaitersAreInUse(t *testing.T) {
	const most = 20
	rng := rand.New(rand.NewPCG(1, 2))
	c := condvar.NewCond(new(sync.Mutex))
	returned := make(chan struct{}, most)
	// Of the waiters in line; nil if no context can end one.
	var line []context.CancelFunc
	peak := 0
	for range 3000 {
		gone := 0
		switch n := len(line); {
		case n < rng.IntN(most):
			ctx, cancel := context.Background(), context.CancelFunc(nil)
			if rng.IntN(2) == 0 {
				ctx, cancel = context.WithCancel(ctx)
			}
			line = append(line, cancel)
			go func() {
				c.L.Lock()
				_ = c.Wait(ctx)
				c.L.Unlock()
				returned <- struct{}{}
			}()
			spin(t, c.Waiters, n+1)
			peak = max(peak, n+1)
		case n > 0 && line[n/2] != nil:
			line[n/2]()
			line = slices.Delete(line, n/2, n/2+1)
			gone = 1
		default:
			gone = c.NotifyN(1 + rng.IntN(3))
			for _, cancel := range line[:gone] {
				if cancel != nil {
					cancel()
				}
			}
			line = line[gone:]
		}
		for range gone {
			<-returned
		}
		require.Equal(t, peak, c.WaitersMade())
	}
	require.Greater(t, peak, most/2)
	for range c.NotifyAll() {
		<-returned
	}
}

// A woken WaitFor that locks L has put its waiter back into the pool. Another
// call that reuses the waiter does not change how the WaitFor was woken.
func TestWaiter_AWaiterThatIsUsedAgainIsNoneOfTheCallThatHadIt(t *testing.T) {
	l := newChanLock()
	c := condvar.NewCond(l)
	ctx, cancel := context.WithCancel(t.Context())
	canceled := make(chan error, 1)
	go func() {
		l.Lock()
		defer l.Unlock()
		canceled <- c.WaitFor(ctx, func() bool { return false })
	}()
	spin(t, c.Waiters, 1)
	l.Lock()
	wantsL := make(chan struct{})
	l.beforeLock = func() { close(wantsL) }
	require.True(t, c.Notify())
	<-wantsL
	l.beforeLock = nil
	cancel()
	next := c.Listen()
	again, cancelAgain := context.WithCancel(t.Context())
	var err error
	go func() {
		err = <-canceled
		cancelAgain()
	}()
	require.ErrorIs(t, c.Wait(again), context.Canceled)
	require.ErrorIs(t, err, context.Canceled)
	l.Unlock()
	require.Equal(t, 1, c.WaitersMade())
	require.Len(t, next.C, 1, "the notification was not passed on")
}

// No more than 1,024 waiters are kept.
func TestWaiter_WaitersOfACrowdThatIsTooLargeAreNotKept(t *testing.T) {
	const kept, crowd = 1024, 1300
	c := condvar.NewCond(new(sync.Mutex))
	for round := range 2 {
		var wg sync.WaitGroup
		for range crowd {
			wg.Go(func() {
				c.L.Lock()
				defer c.L.Unlock()
				require.NoError(t, c.Wait(context.Background()))
			})
		}
		spin(t, c.Waiters, crowd)
		c.NotifyAll()
		wg.Wait()
		require.Equal(t, crowd+round*(crowd-kept), c.WaitersMade())
	}
}

// condKinds are ways to wait in line for a notification.
var condKinds = []func(ctx context.Context, c *condvar.Cond) *asyncCall{
	func(_ context.Context, c *condvar.Cond) *asyncCall { return startWait(condBackground, c) },
	func(ctx context.Context, c *condvar.Cond) *asyncCall { return startWait(ctx, c) },
	func(_ context.Context, c *condvar.Cond) *asyncCall {
		return condStartWaitFor(condBackground, c, condFirstFalse())
	},
}

// Every order in which five waiters of three kinds can come, and every number
// to wake first.
func TestCond_WaitersOfAllKindsFormOneLine(t *testing.T) {
	condBubble(t, func(t *testing.T, c *condvar.Cond, _ *chanLock) {
		ctx, cancel := context.WithCancel(condBackground)
		defer cancel()
		const n = 5
		for order := range 3 * 3 * 3 * 3 * 3 {
			for first := range n + 1 {
				var calls []*asyncCall
				for kinds := order; len(calls) < n; kinds /= 3 {
					calls = append(calls, condKinds[kinds%3](ctx, c))
				}
				want := []int{}
				for i := range first {
					want = append(want, i)
				}
				require.Equal(t, first, c.NotifyN(first))
				require.Equal(t, n-first, c.Waiters())
				require.Equal(t, want, condReturned(calls...), "order %d, %d woken", order, first)
				for len(want) < n-1 {
					want = append(want, len(want))
					require.True(t, c.Notify())
					require.Equal(t, want, condReturned(calls...), "order %d, %d woken", order, first)
				}
				require.Equal(t, n-len(want), c.NotifyAll())
				require.Len(t, condReturned(calls...), n)
				require.False(t, c.Notify())
			}
		}
	})
}

// One waiter is canceled, in the middle of waiters that no context can end.
func TestCond_CancelBetweenWaitsThatNoContextCanEndLeavesTheirOrder(t *testing.T) {
	condBubble(t, func(t *testing.T, c *condvar.Cond, _ *chanLock) {
		ctx, cancel := context.WithCancel(condBackground)
		calls := condStartWaits(condBackground, c, 2)
		calls = append(calls, condStartWaits(ctx, c, 1)...)
		calls = append(calls, condStartWaits(condBackground, c, 2)...)
		cancel()
		require.Equal(t, []int{2}, condReturned(calls...))
		require.Equal(t, 4, c.Waiters())
		for i, want := range [][]int{{0, 2}, {0, 1, 2}, {0, 1, 2, 3}, {0, 1, 2, 3, 4}} {
			require.True(t, c.Notify())
			require.Equal(t, want, condReturned(calls...))
			require.Equal(t, 3-i, c.Waiters())
		}
	})
}

// The promise is one atomic load. That the Cond's own mutex is not needed shows
// while another goroutine holds it.
func TestCond_NotifyTakesNoLockWhenNobodyWaits(t *testing.T) {
	for _, n := range condNotifiers {
		t.Run(n.name, func(t *testing.T) {
			c := condvar.NewCond(new(sync.Mutex))
			c.Listen().Stop()
			c.Mu().Lock()
			defer c.Mu().Unlock()
			woken := make(chan int, 1)
			go func() { woken <- n.notify(c) }()
			select {
			case n := <-woken:
				require.Equal(t, 0, n)
			case <-time.After(condTimeout):
				require.Fail(t, "it wants the lock")
			}
		})
	}
}

// F25.
func TestCond_WhatDoesNotParkDoesNotAllocate(t *testing.T) {
	ctx, cancel := context.WithCancel(condBackground)
	cancel()
	var l sync.Mutex
	used, unused := condvar.NewCond(&l), condvar.NewCond(&l)
	used.Listen().Stop()
	for name, f := range map[string]func(){
		"first Notify":          func() { unused.Notify() },
		"Notify":                func() { used.Notify() },
		"NotifyN":               func() { used.NotifyN(3) },
		"NotifyAll":             func() { used.NotifyAll() },
		"Waiters":               func() { used.Waiters() },
		"Wait, dead context":    func() { used.Wait(ctx) },
		"WaitFor, true":         func() { used.WaitFor(condBackground, condAlways) },
		"WaitFor, dead context": func() { used.WaitFor(ctx, condNever) },
	} {
		t.Run(name, func(t *testing.T) {
			l.Lock()
			defer l.Unlock()
			require.Zero(t, testing.AllocsPerRun(100, f))
		})
	}
}

// F25.
func TestListener_ListenAllocatesTwice(t *testing.T) {
	c := condvar.NewCond(new(sync.Mutex))
	require.Equal(t, 2.0, testing.AllocsPerRun(100, func() { c.Listen().Stop() }))
	require.Equal(t, 2.0, testing.AllocsPerRun(100, func() {
		listener := c.Listen()
		c.Notify()
		<-listener.C
	}))
}

// F25. A partner ends each wait. The waiter asks it to while holding L, and the
// partner locks L first. So it finds the waiter in line each time.
func TestCond_WaitsDoNotAllocateInTheSteadyState(t *testing.T) {
	const runs = 100
	cancellable, cancel := context.WithCancel(condBackground)
	defer cancel()
	// AllocsPerRun makes one run more.
	ended := make([]*condManualContext, 1+runs)
	for i := range ended {
		ended[i] = &condManualContext{condBackground, make(chan struct{}), context.Canceled}
	}
	var c *condvar.Cond
	var ready bool
	isReady := func() bool { return ready }
	for _, test := range []struct {
		name string
		end  func(run int)
		wait func(run int) error
		want error
	}{
		{"Wait", func(int) { c.Notify() },
			func(int) error { return c.Wait(condBackground) }, nil},
		{"Wait, context", func(int) { c.Notify() },
			func(int) error { return c.Wait(cancellable) }, nil},
		{"Wait, canceled", func(run int) { close(ended[run].done) },
			func(run int) error { return c.Wait(ended[run]) }, context.Canceled},
		{"WaitFor", func(int) { ready = true; c.Notify() },
			func(int) error { return c.WaitFor(condBackground, isReady) }, nil},
		{"WaitFor, context", func(int) { ready = true; c.NotifyN(1) },
			func(int) error { return c.WaitFor(cancellable, isReady) }, nil},
	} {
		t.Run(test.name, func(t *testing.T) {
			c = condvar.NewCond(new(sync.Mutex))
			asked := make(chan int, 1)
			var wg sync.WaitGroup
			wg.Go(func() {
				for run := range asked {
					c.L.Lock()
					test.end(run)
					c.L.Unlock()
				}
			})
			run, failures := 0, 0
			allocs := testing.AllocsPerRun(runs, func() {
				c.L.Lock()
				ready = false
				asked <- run
				if test.wait(run) != test.want {
					failures++
				}
				c.L.Unlock()
				run++
			})
			close(asked)
			wg.Wait()
			require.Zero(t, allocs)
			require.Zero(t, failures)
		})
	}
}

// F25. Bug C14. The waiter that leaves is in the middle of a line that is 100
// times as long the second time. Because of the caches that may cost a bit
// more, but not 10 times as much.
func TestCond_LeavingTheLineCostsTheSameInALongOne(t *testing.T) {
	const leavers, rounds = 200, 3
	for _, test := range []struct {
		name string
		wait func(c *condvar.Cond, ctx context.Context) error
	}{condWaits[0], condWaits[1], {"Stop", nil}} {
		t.Run(test.name, func(t *testing.T) {
			cost := func(length int) time.Duration {
				c := condvar.NewCond(new(sync.Mutex))
				ctx, cancel := context.WithCancel(condBackground)
				ready := make(chan struct{}, leavers)
				var wg sync.WaitGroup
				var listeners []*condvar.Listener
				for range length / 2 {
					c.Listen()
				}
				for range leavers {
					if test.wait == nil {
						listeners = append(listeners, c.Listen())
						continue
					}
					wg.Go(func() {
						c.L.Lock()
						defer c.L.Unlock()
						ready <- struct{}{}
						test.wait(c, ctx)
					})
				}
				if test.wait != nil {
					condWaiting(c, ready, leavers)
				}
				for range length / 2 {
					c.Listen()
				}
				runtime.GC() // not in between
				begin := time.Now()
				cancel()
				for _, listener := range listeners {
					listener.Stop()
				}
				wg.Wait()
				elapsed := time.Since(begin)
				require.Equal(t, length, c.Waiters())
				return elapsed / leavers
			}
			short, long := time.Hour, time.Hour
			// The minimum of each, to exclude other load of the machine.
			for range rounds {
				short, long = min(short, cost(1e3)), min(long, cost(1e5))
			}
			require.Less(t, long, 10*max(short, time.Microsecond), "%v in a short line", short)
		})
	}
}

// resWakeUps returns how often a goroutine has woken up in an AcquireN since
// runtime.SetBlockProfileRate(1).
func resWakeUps() (n int64) {
	var all [4096]runtime.BlockProfileRecord // more than any test binary has
	found, _ := runtime.BlockProfile(all[:])
	for _, record := range all[:found] {
		inAcquire := false
		frames := runtime.CallersFrames(record.Stack())
		for more := true; more; {
			var frame runtime.Frame
			frame, more = frames.Next()
			// Contention is not a wait.
			if strings.Contains(frame.Function, "Mutex") {
				inAcquire = false
				break
			}
			inAcquire = inAcquire || strings.HasSuffix(frame.Function, ".AcquireN")
		}
		if inAcquire {
			n += record.Count
		}
	}
	return n
}

// Bug R20. The block profile counts each time that a goroutine wakes up.
func TestCapacityResource_AReleaseWakesTheHeadAloneAndOnlyIfItFits(t *testing.T) {
	runtime.SetBlockProfileRate(1)
	defer runtime.SetBlockProfileRate(0)
	resBothModes(t, func(t *testing.T, opts ...condvar.Option) {
		r := resNew(t, 2, 2, opts...)
		var ws []resWaiter
		for range 20 {
			ws = append(ws, resPark(t, r, 2))
		}
		time.Sleep(resThreshold)
		for _, w := range ws {
			before := resWakeUps()
			r.Release() // the head wants 2: not enough
			synctest.Wait()
			w.requireParked(t)
			require.Equal(t, before, resWakeUps())
			r.Release()
			synctest.Wait()
			w.requireDone(t, nil)
			require.Equal(t, before+1, resWakeUps())
		}
		resRequire(t, r, 2, 0)
	})
}

// requireReturns checks that f returns, although its caller holds a lock.
func requireReturns(t *testing.T, name string, f func()) {
	t.Helper()
	done := make(chan struct{})
	go func() { defer close(done); f() }()
	select {
	case <-done:
	case <-time.After(condTimeout):
		require.Fail(t, name+" wants the lock")
	}
}

// The steady state includes many waits at a time, and no wait needs a
// goroutine.
func TestWaiter_ACrowdWaitsAgainWithoutAllocationOrGoroutine(t *testing.T) {
	const crowd, runs = 500, 20
	c := condvar.NewCond(new(sync.Mutex))
	r := condvar.NewCapacityResource(1)
	require.True(t, r.TryAcquire())
	for name, test := range map[string]struct {
		wait    func()
		waiting func() int
		wake    func()
		again   func()
	}{
		"Cond": {
			func() { c.L.Lock(); _ = c.Wait(context.Background()); c.L.Unlock() },
			c.Waiters,
			func() { c.NotifyAll() },
			func() {},
		},
		"CapacityResource": {
			func() { _ = r.Acquire(context.Background()); r.Release() },
			func() int { return int(r.Stats().Waiting) },
			r.Release,
			func() { spin(t, func() int { return int(r.Stats().InUse) }, 0); r.TryAcquire() },
		},
	} {
		t.Run(name, func(t *testing.T) {
			base := runtime.NumGoroutine()
			var over atomic.Bool
			var wg sync.WaitGroup
			gate := make(chan struct{})
			for range crowd {
				wg.Go(func() {
					for range gate {
						test.wait()
					}
				})
			}
			round := func() {
				for range crowd {
					gate <- struct{}{}
				}
				spin(t, test.waiting, crowd)
				if n := runtime.NumGoroutine(); n > base+crowd {
					over.Store(true)
				}
				test.wake()
				spin(t, test.waiting, 0)
				test.again()
			}
			round()
			// A wait that allocates would make 500 allocations a run. A stray
			// one of the runtime does no harm.
			require.Less(t, testing.AllocsPerRun(runs, round), float64(crowd/10))
			close(gate)
			wg.Wait()
			require.False(t, over.Load(), "a wait has a goroutine")
		})
	}
}

// A chanLock is a Locker made of a channel: in a bubble, a goroutine that
// blocks on it is durably blocked, unlike one that blocks on a sync.Mutex. It
// must be made in the bubble that uses it. Its hooks run at fixed points of a
// wait; a nil hook does nothing.
type chanLock struct {
	ch             chan struct{}
	beforeLock     func()
	beforeUnlock   func()
	afterUnlock    func()
	locks, unlocks int // counted with the lock held
}

func newChanLock() *chanLock { return &chanLock{ch: make(chan struct{}, 1)} }

func (l *chanLock) Lock() {
	call(l.beforeLock)
	l.ch <- struct{}{}
	l.locks++
}

func (l *chanLock) Unlock() {
	call(l.beforeUnlock)
	l.unlocks++
	select {
	case <-l.ch:
	default:
		panic("chanLock: unlock of an unlocked lock")
	}
	call(l.afterUnlock)
}

// locked reports whether l is held.
func (l *chanLock) locked() bool { return len(l.ch) == 1 }

func call(f func()) {
	if f != nil {
		f()
	}
}

// An asyncCall is a call on its own goroutine, and what it returned. err may be
// read once done is true.
type asyncCall struct {
	done atomic.Bool
	err  error
}

// start runs f on a goroutine and waits until the bubble is at rest: f has
// returned, or is parked.
func start(f func() error) *asyncCall {
	a := &asyncCall{}
	go func() {
		a.err = f()
		a.done.Store(true)
	}()
	synctest.Wait()
	return a
}

// requireDone checks that a has returned, and what.
func (a *asyncCall) requireDone(t *testing.T, want error) {
	t.Helper()
	require.True(t, a.done.Load(), "the call has not returned")
	if want == nil {
		require.NoError(t, a.err)
	} else {
		require.ErrorIs(t, a.err, want)
	}
}

// requireParked checks that a has not returned.
func (a *asyncCall) requireParked(t *testing.T) {
	t.Helper()
	if a.done.Load() {
		require.Fail(t, "the call has returned", "%v", a.err)
	}
}

// spinTimeout is how long spin waits. Unless a wake-up is lost, it waits only
// moments.
const spinTimeout = 30 * time.Second

// spin waits until f returns n. Outside bubbles there is no other way to know
// that other goroutines wait in line.
func spin(t testing.TB, f func() int, n int) {
	t.Helper()
	for deadline := time.Now().Add(spinTimeout); f() != n; runtime.Gosched() {
		require.True(t, time.Now().Before(deadline), "the number is not what it has to be in the end")
	}
}

// startWait starts c.Wait(ctx) with c.L held, and settles.
func startWait(ctx context.Context, c *condvar.Cond) *asyncCall {
	return start(func() error {
		c.L.Lock()
		defer c.L.Unlock()
		return c.Wait(ctx)
	})
}

// newPaused returns a resource with capacity 0.
func newPaused(opts ...condvar.Option) *condvar.CapacityResource {
	r := condvar.NewCapacityResource(1, opts...)
	r.Resize(0)
	return r
}

// startAcquire starts r.AcquireN(ctx, n), and settles.
func startAcquire(ctx context.Context, r *condvar.CapacityResource, n int64) *asyncCall {
	return start(func() error { return r.AcquireN(ctx, n) })
}
