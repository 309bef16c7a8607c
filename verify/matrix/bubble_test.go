package matrix

import (
	"context"
	"fmt"
	"math"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"example.com/condvar"
)

// Using a channel in a bubble other than its own, or outside, is a fatal error
// that ends the test binary, or a wait stops the fake clock. So objects that
// keep something for later waits are used in every order of places, each order
// in its own process.

var (
	sharedMutex    sync.Mutex
	sharedCond     = condvar.NewCond(&sharedMutex)
	sharedEvent    condvar.Event
	sharedResource = condvar.NewCapacityResource(3)
	sharedFIFO     = condvar.NewCapacityResource(3, condvar.FIFO())
	sharedDraining = newDraining()

	// The timers of waits on sharedTimed and sharedTimedFIFO never fire, those
	// on sharedLimited do.
	sharedTimed     = condvar.NewCapacityResource(3, condvar.MaxWait(math.MaxInt64))
	sharedTimedFIFO = condvar.NewCapacityResource(3, condvar.MaxWait(math.MaxInt64), condvar.FIFO())
	sharedLimited   = condvar.NewCapacityResource(3, condvar.MaxWait(20*time.Microsecond))
	sharedObserved  = condvar.NewCapacityResource(3, condvar.WithHooks(&condvar.Hooks{
		WaitStart: func(context.Context, int64) context.Context { return nil },
		Released:  func(int64, *condvar.Hold, time.Duration) {},
	}))

	sharedContext = outsideContext{context.Background(), make(chan struct{})}
)

// An outsideContext has a Done channel that is not of a bubble. A later wait
// for it may be in a bubble, even if an earlier one was outside.
type outsideContext struct {
	context.Context
	done chan struct{}
}

func (c outsideContext) Done() <-chan struct{} { return c.done }

// newDraining returns a closed resource with a permit in use.
func newDraining() *condvar.CapacityResource {
	r := condvar.NewCapacityResource(1)
	r.TryAcquire()
	r.Close()
	return r
}

// bubbleUses are uses of each object that can be repeated at any place. Their
// channels and contexts belong to the place of the call.
var bubbleUses = []struct {
	name string
	use  func(t *testing.T)
}{
	{"Cond", func(t *testing.T) { useCond(t, sharedCond) }},
	{"Listener", func(t *testing.T) { useListener(t, sharedCond) }},
	{"Event", func(t *testing.T) { useEvent(t, &sharedEvent) }},
	{"CapacityResource", func(t *testing.T) { useResource(t, sharedResource) }},
	{"FIFO", func(t *testing.T) { useResource(t, sharedFIFO) }},
	{"MaxWait", func(t *testing.T) { useResource(t, sharedTimed) }},
	{"MaxWaitFIFO", func(t *testing.T) { useResource(t, sharedTimedFIFO) }},
	{"MaxWaitEnds", func(t *testing.T) { useLimited(t, sharedLimited) }},
	{"Hooks", func(t *testing.T) { useResource(t, sharedObserved) }},
	{"Drain", func(t *testing.T) { useDrain(t, sharedDraining) }},
}

// bubbleOrders are the orders of places in which an object is used.
var bubbleOrders = []string{
	"outside-inside-outside",
	"inside-outside-inside",
	"inside-inside-outside-outside-inside",
	"outside-future-outside-future",
}

// inPlace calls f outside bubbles, inside a new one, or inside a new one whose
// clock is decades ahead of the real one.
func inPlace(t *testing.T, place string, f func(t *testing.T)) {
	switch place {
	case "outside":
		f(t)
	case "inside":
		synctest.Test(t, f)
	case "future":
		synctest.Test(t, func(t *testing.T) {
			time.Sleep(60 * 365 * 24 * time.Hour)
			f(t)
		})
	default:
		t.Fatalf("no such place: %q", place)
	}
}

// bubbleCase is the environment variable that makes the test below run one case
// itself. Its value is the name of a use and an order.
const bubbleCase = "CONDVAR_BUBBLE_CASE"

// Bug C18.
func TestBubble_PackageLevelObjectsWorkInsideOutsideAndAcrossBubbles(t *testing.T) {
	self := t.Name()
	if name := os.Getenv(bubbleCase); name != "" {
		useName, order, _ := strings.Cut(name, "/")
		for _, u := range bubbleUses {
			if u.name == useName {
				for place := range strings.SplitSeq(order, "-") {
					inPlace(t, place, u.use)
				}
				fmt.Println("ran", name)
			}
		}
		return
	}
	exe, err := os.Executable()
	require.NoError(t, err)
	// A case may fail by hanging until its timeout. The first failure ends the
	// others.
	ctx, cancel := context.WithCancel(t.Context())
	t.Cleanup(cancel)
	for _, u := range bubbleUses {
		for _, order := range bubbleOrders {
			name := u.name + "/" + order
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				defer func() {
					if t.Failed() {
						cancel()
					}
				}()
				cmd := exec.CommandContext(ctx, exe, "-test.run=^"+self+"$", "-test.timeout=20s",
					fmt.Sprint("-test.cpu=", runtime.GOMAXPROCS(0)))
				cmd.Env = append(os.Environ(), bubbleCase+"="+name,
					"GORACE=atexit_sleep_ms=0 "+os.Getenv("GORACE")) // otherwise it sleeps for a second
				out, err := cmd.CombinedOutput()
				require.NoError(t, err, "%s", out)
				require.Contains(t, string(out), "ran "+name)
			})
		}
	}
}

// Bug C18.
func TestBubble_ObjectsWorkInsideOutsideAndAcrossBubblesInOneProcess(t *testing.T) {
	for range 2 {
		for _, place := range []string{"inside", "outside", "inside", "future", "outside"} {
			for _, u := range bubbleUses {
				t.Run(u.name+" "+place, func(t *testing.T) { inPlace(t, place, u.use) })
			}
		}
	}
}

// Bug C18. synctest.Wait returns, and the fake clock advances, only if the wait
// is only on channels of the bubble.
func TestBubble_WaitsAreDurablyBlockingInABubble(t *testing.T) {
	held := condvar.NewCapacityResource(1)
	require.True(t, held.TryAcquire())
	timed := condvar.NewCapacityResource(1, condvar.MaxWait(2*time.Hour))
	require.True(t, timed.TryAcquire())
	waits := []struct {
		name string
		wait func(ctx context.Context) error
	}{
		{"Cond.Wait", func(ctx context.Context) error {
			sharedMutex.Lock()
			defer sharedMutex.Unlock()
			return sharedCond.Wait(ctx)
		}},
		{"Cond.WaitFor", func(ctx context.Context) error {
			sharedMutex.Lock()
			defer sharedMutex.Unlock()
			return sharedCond.WaitFor(ctx, func() bool { return false })
		}},
		{"Cond.Listen", func(ctx context.Context) error {
			l := sharedCond.Listen()
			defer l.Stop()
			select {
			case <-l.C:
				return nil
			case <-ctx.Done():
				return ctx.Err()
			}
		}},
		{"Event.Wait", sharedEvent.Wait},
		{"CapacityResource.Acquire", held.Acquire},
		{"CapacityResource.Acquire with MaxWait", func(ctx context.Context) error {
			return timed.Acquire(contextWithoutDeadline{ctx})
		}},
		{"CapacityResource.Drain", sharedDraining.Drain},
	}
	for _, tt := range waits {
		t.Run(tt.name, func(t *testing.T) {
			for _, u := range bubbleUses {
				u.use(t) // leaves waiters to recycle
			}
			synctest.Test(t, func(t *testing.T) {
				begin := time.Now()
				ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
				defer cancel()
				result := make(chan error, 1)
				go func() { result <- tt.wait(ctx) }()
				synctest.Wait()
				require.Empty(t, result)
				require.ErrorIs(t, <-result, context.DeadlineExceeded)
				require.Equal(t, time.Hour, time.Since(begin))
			})
		})
	}
}

// A crowd is a number of concurrent calls. Unlike asyncCall it also works
// outside bubbles.
type crowd struct {
	n       int
	results chan error
}

func newCrowd() *crowd { return &crowd{results: make(chan error, 100)} }

// add starts n goroutines that call f.
func (c *crowd) add(n int, f func() error) {
	c.n += n
	for range n {
		go func() { c.results <- f() }()
	}
}

// requireAll waits for all calls, and checks their results.
func (c *crowd) requireAll(t *testing.T, want error) {
	t.Helper()
	for ; c.n > 0; c.n-- {
		if err := <-c.results; want == nil {
			require.NoError(t, err)
		} else {
			require.ErrorIs(t, err, want)
		}
	}
}

// giveUp calls wait from several goroutines with contexts that end: some are
// canceled once all calls wait, others have a timeout.
func giveUp(t *testing.T, waiting func() int, wait func(ctx context.Context) error) {
	t.Helper()
	crowd := newCrowd()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	crowd.add(5, func() error { return wait(ctx) })
	spin(t, waiting, 5)
	cancel()
	crowd.requireAll(t, context.Canceled)
	crowd.add(3, func() error {
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Microsecond)
		defer cancel()
		return wait(ctx)
	})
	crowd.requireAll(t, context.DeadlineExceeded)
	require.Zero(t, waiting())
}

// bubbleRounds is the number of rounds of each use: enough to reuse everything
// that is kept for later waits.
const bubbleRounds = 8

func useCond(t *testing.T, c *condvar.Cond) {
	background := context.Background()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	wait := func(ctx context.Context) error {
		c.L.Lock()
		defer c.L.Unlock()
		return c.Wait(ctx)
	}
	for range bubbleRounds {
		crowd := newCrowd()
		ready := false
		waitFor := func(ctx context.Context) error {
			c.L.Lock()
			defer c.L.Unlock()
			return c.WaitFor(ctx, func() bool { return ready })
		}
		crowd.add(2, func() error { return wait(background) })
		crowd.add(2, func() error { return wait(ctx) })
		crowd.add(2, func() error { return wait(sharedContext) })
		crowd.add(2, func() error { return waitFor(background) })
		crowd.add(2, func() error { return waitFor(ctx) })
		spin(t, c.Waiters, 10)
		require.Equal(t, 10, c.NotifyAll())
		spin(t, c.Waiters, 4) // WaitFor is back in line
		c.L.Lock()
		ready = true
		c.L.Unlock()
		require.True(t, c.Notify())
		require.Equal(t, 3, c.NotifyN(5))
		crowd.requireAll(t, nil)

		giveUp(t, c.Waiters, wait)
		ready = false
		giveUp(t, c.Waiters, waitFor)
	}
}

func useListener(t *testing.T, c *condvar.Cond) {
	for range bubbleRounds {
		crowd := newCrowd()
		require.True(t, c.Listen().Stop())
		received, passedOn, left := c.Listen(), c.Listen(), c.Listen()
		crowd.add(1, func() error {
			c.L.Lock()
			defer c.L.Unlock()
			return c.Wait(context.Background())
		})
		spin(t, c.Waiters, 4)
		require.Equal(t, 2, c.NotifyN(2))
		<-received.C
		require.False(t, received.Stop())
		require.True(t, left.Stop())
		require.False(t, passedOn.Stop()) // to the Wait
		crowd.requireAll(t, nil)
		giveUp(t, c.Waiters, func(ctx context.Context) error {
			l := c.Listen()
			defer l.Stop()
			select {
			case <-l.C:
				return nil
			case <-ctx.Done():
				return ctx.Err()
			}
		})
	}
}

func useEvent(t *testing.T, e *condvar.Event) {
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	for range bubbleRounds {
		crowd := newCrowd()
		crowd.add(4, func() error { return e.Wait(context.Background()) })
		crowd.add(4, func() error { return e.Wait(ctx) })
		spin(t, e.Waiters, 8)
		e.Set()
		crowd.add(1, func() error { return e.Wait(ctx) })
		crowd.requireAll(t, nil)
		e.Clear()
		giveUp(t, e.Waiters, e.Wait)
	}
}

func useResource(t *testing.T, r *condvar.CapacityResource) {
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	waiting := func() int { return int(r.Stats().Waiting) }
	for range bubbleRounds {
		crowd := newCrowd()
		require.NoError(t, r.AcquireN(ctx, 3))
		for n := range int64(3) {
			for _, ctx := range []context.Context{context.Background(), ctx} {
				crowd.add(2, func() error {
					return r.DoN(ctx, n+1, func(context.Context) error { return nil })
				})
			}
		}
		spin(t, waiting, 12)
		r.Resize(0)
		r.Release()
		r.Resize(3)
		r.ReleaseN(2)
		crowd.requireAll(t, nil)

		require.True(t, r.TryAcquireN(2))
		giveUp(t, waiting, func(ctx context.Context) error { return r.AcquireN(ctx, 2) })
		crowd.add(3, func() error { return r.AcquireN(ctx, 3) })
		spin(t, waiting, 3)
		r.Resize(2)
		crowd.requireAll(t, condvar.ErrTooLarge)
		r.Resize(3)
		r.ReleaseN(2)
		require.Zero(t, r.Stats().InUse)
	}
}

// useLimited lets calls wait for MaxWait.
func useLimited(t *testing.T, r *condvar.CapacityResource) {
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	for range bubbleRounds {
		crowd := newCrowd()
		require.True(t, r.TryAcquireN(3))
		rejected := r.Stats().Rejected
		for n := range int64(3) {
			for _, ctx := range []context.Context{context.Background(), ctx} {
				crowd.add(2, func() error { return r.AcquireN(ctx, n+1) })
			}
		}
		crowd.requireAll(t, condvar.ErrOverloaded)
		require.Equal(t, rejected+12, r.Stats().Rejected)
		p, err := r.AcquirePermit(ctx, 1)
		require.Equal(t, condvar.ErrOverloaded, err)
		require.Nil(t, p)
		r.ReleaseN(3)
		require.NoError(t, r.Acquire(ctx))
		r.Release()
	}
}

func useDrain(t *testing.T, r *condvar.CapacityResource) {
	for range bubbleRounds {
		var entered sync.WaitGroup
		ctx, cancel := context.WithCancel(t.Context())
		crowd := newCrowd()
		entered.Add(3)
		crowd.add(3, func() error {
			entered.Done()
			return r.Drain(ctx)
		})
		entered.Wait()
		runtime.Gosched() // the calls probably wait now, which is enough
		cancel()
		crowd.requireAll(t, context.Canceled)
		crowd.add(3, func() error {
			ctx, cancel := context.WithTimeout(t.Context(), 20*time.Microsecond)
			defer cancel()
			return r.Drain(ctx)
		})
		crowd.requireAll(t, context.DeadlineExceeded)
	}
}

// spin waits until f returns n. Outside bubbles there is no other way to know
// that calls are in line.
func spin(t testing.TB, f func() int, n int) {
	t.Helper()
	for deadline := time.Now().Add(spinTimeout); f() != n; runtime.Gosched() {
		require.True(t, time.Now().Before(deadline), "the number did not become the expected one")
	}
}

// spinTimeout is how long a test waits for something that takes moments unless
// a wake-up is lost.
const spinTimeout = 30 * time.Second

// A contextWithoutDeadline ends with its parent, but hides the deadline.
type contextWithoutDeadline struct{ context.Context }

func (contextWithoutDeadline) Deadline() (time.Time, bool) { return time.Time{}, false }
