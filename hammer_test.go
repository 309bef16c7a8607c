package condvar_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"
	"weak"

	"github.com/stretchr/testify/require"

	"example.com/condvar"
)

// hammerVariable is the environment variable that says how long each of some
// thirty cases lasts. Before a release they deserve more than the default:
//
//	CONDVAR_HAMMER=1m go test -race -timeout 0 -run Hammer .
const hammerVariable = "CONDVAR_HAMMER"

// hammerTime returns the time for each case that value asks for.
func hammerTime(value string) (time.Duration, error) {
	if value == "" {
		return 100 * time.Millisecond, nil
	}
	d, err := time.ParseDuration(value)
	if err != nil || d <= 0 {
		return 0, fmt.Errorf("%s=%q is not a positive duration such as 500ms or 1m", hammerVariable, value)
	}
	return d, nil
}

func TestHammerTimeIsAPositiveDuration(t *testing.T) {
	for value, want := range map[string]time.Duration{"": 100 * time.Millisecond, "1m30s": 90 * time.Second} {
		d, err := hammerTime(value)
		require.NoError(t, err)
		require.Equal(t, want, d)
	}
	for _, value := range []string{"0", "-1s", "10", "soon"} {
		_, err := hammerTime(value)
		require.ErrorContains(t, err, "CONDVAR_HAMMER")
	}
}

// A hammer is one case that real goroutines run for a while, many short rounds
// long: only at the end of a round is a lost wake-up sure to show.
type hammer struct {
	*testing.T
	*rand.Rand // for the test's goroutine
	length     time.Duration
	end        time.Time
	watchdog   context.Context
}

// hammerTimeout is how long a test waits for what takes moments, unless a
// wake-up is lost.
const hammerTimeout = 30 * time.Second

// hammerSeed begins all the random sequences. What the scheduler makes of them
// is different each time.
const hammerSeed = 20

// hammerAll runs f with various values of GOMAXPROCS: on a single processor
// most races never happen, and with few there are some that are rare.
func hammerAll(t *testing.T, f func(h *hammer)) { hammerAtLeast(t, 0, f) }

// hammerAtLeast is hammerAll for a test that is not to be shorter.
func hammerAtLeast(t *testing.T, least time.Duration, f func(h *hammer)) {
	length, err := hammerTime(os.Getenv(hammerVariable))
	require.NoError(t, err)
	length = max(length, least)
	for _, procs := range []int{1, 2, 8} {
		t.Run(fmt.Sprint("GOMAXPROCS=", procs), func(t *testing.T) {
			t.Log("seed", hammerSeed)
			defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(procs))
			watchdog, cancel := context.WithTimeout(t.Context(), length+hammerTimeout)
			defer cancel()
			f(&hammer{T: t, Rand: hammerRand(0), length: length, end: time.Now().Add(length), watchdog: watchdog})
		})
	}
}

func hammerRand(stream uint64) *rand.Rand { return rand.New(rand.NewPCG(hammerSeed, stream)) }

func (h *hammer) over() bool { return h.Failed() || !time.Now().Before(h.end) }

// wait waits for wg. If that takes for ever it fails, rather than hangs.
func (h *hammer) wait(wg *sync.WaitGroup) {
	h.Helper()
	done := make(chan struct{})
	go func() {
		wg.Wait()
		close(done)
	}()
	select {
	case <-done:
	case <-h.watchdog.Done():
		require.Fail(h, "somebody is asleep for ever: a wake-up was lost")
	}
}

// spin waits until f returns n: outside bubbles nothing else tells that others
// wait in line.
func spin(t testing.TB, f func() int, n int) {
	t.Helper()
	for deadline := time.Now().Add(hammerTimeout); f() != n; runtime.Gosched() {
		require.True(t, time.Now().Before(deadline), "the number is not what it has to be in the end")
	}
}

// hammerContext returns a context for one wait: one that never ends, that could
// be canceled but is not, that ends at some time soon, or that has ended. The
// caller calls cancel after the wait.
func hammerContext(rng *rand.Rand, wg *sync.WaitGroup) (ctx context.Context, cancel func()) {
	kind, delay := rng.IntN(8), rng.IntN(10)
	if kind < 2 {
		return context.Background(), func() {}
	}
	ctx, cancel = context.WithCancel(context.Background())
	switch kind {
	case 2, 3:
	case 4, 5, 6:
		wg.Go(func() {
			for range delay {
				runtime.Gosched()
			}
			cancel()
		})
	case 7:
		cancel()
	}
	return ctx, cancel
}

// A dawdlingLock gives way to others after every other Unlock, to widen the gap
// between joining the line and parking.
type dawdlingLock struct {
	sync.Mutex
	unlocks atomic.Uint32
}

func (l *dawdlingLock) Unlock() {
	l.Mutex.Unlock()
	if l.unlocks.Add(1)%2 == 0 {
		runtime.Gosched()
	}
}

// F5, F19. In each round everybody is in line first. Then come notifications,
// cancels and Stops, all at a time. If there are Listeners, no more are notified
// than there are waiters who stay: so a notification that is passed on always
// finds somebody, and every one has to arrive.
func TestHammerCondNotificationsAreNeitherLostNorInvented(t *testing.T) {
	hammerAll(t, func(h *hammer) {
		c := condvar.NewCond(&dawdlingLock{})
		rounds := 0
		for ; !h.over(); rounds++ {
			condRound(h, c)
		}
		h.Log(rounds, "rounds")
	})
}

func condRound(h *hammer, c *condvar.Cond) {
	// How many ended in each way, and those whose end does not depend on a
	// notification.
	var notified, canceled, stopped, passedOn atomic.Int64
	var all, leavers sync.WaitGroup
	size := 1 + h.IntN(6)
	faithful, fickle, listeners := 1+h.IntN(size), h.IntN(size+1), h.IntN(size)
	total := faithful + fickle + listeners

	wait := func(ctx context.Context) {
		c.L.Lock()
		err := c.Wait(ctx)
		c.L.Unlock()
		if err == nil {
			notified.Add(1)
		} else {
			canceled.Add(1)
		}
	}
	// The storm, in which two goroutines take part.
	var woken atomic.Int64
	var storm []func()
	budget := faithful
	if listeners == 0 {
		budget = h.IntN(total + 2)
	}
	for budget > 0 {
		n := min(1+h.IntN(3), budget)
		budget -= n
		storm = append(storm, func() { woken.Add(int64(c.NotifyN(n))) })
	}
	alive, cancelAlive := context.WithCancel(context.Background())
	defer cancelAlive()
	for i := range faithful {
		ctx := context.Background()
		if i%2 == 1 {
			ctx = alive
		}
		all.Go(func() { wait(ctx) })
	}
	for range fickle {
		ctx, cancel := context.WithCancel(context.Background())
		storm = append(storm, cancel)
		leavers.Go(func() { wait(ctx) })
	}
	h.Shuffle(len(storm), func(i, j int) { storm[i], storm[j] = storm[j], storm[i] })
	begin := make(chan struct{})
	for range listeners {
		l, delay, receives := c.Listen(), h.IntN(5), h.IntN(2) == 0
		leavers.Go(func() {
			<-begin
			for range delay {
				runtime.Gosched()
			}
			received := false
			if receives {
				select {
				case <-l.C:
					received = true
				default:
				}
			}
			switch left := l.Stop(); {
			case received && left:
				h.Error("Stop prevented a notification that had been received")
			case received:
				notified.Add(1)
			case left:
				stopped.Add(1)
			default:
				passedOn.Add(1)
			}
			if len(l.C) != 0 || l.Stop() {
				h.Error("the Listener is not at an end after Stop")
			}
		})
	}
	half := h.IntN(len(storm) + 1)
	var other sync.WaitGroup
	other.Go(func() {
		<-begin
		for _, f := range storm[half:] {
			f()
		}
	})
	spin(h, c.Waiters, total)
	close(begin)
	for _, f := range storm[:half] {
		f()
	}
	h.wait(&other)
	h.wait(&leavers)

	// Who was woken has left the line, be it to pass the notification on.
	left := total - int(woken.Load()+canceled.Load()+stopped.Load()+passedOn.Load())
	require.Equal(h, left, c.Waiters())
	require.Equal(h, left, c.NotifyAll())
	h.wait(&all)
	if listeners > 0 {
		require.EqualValues(h, faithful, woken.Load(), "a notification found nobody")
	}
	require.Equal(h, woken.Load()+int64(left), notified.Load())
	require.EqualValues(h, total, notified.Load()+canceled.Load()+stopped.Load()+passedOn.Load())
	require.Zero(h, c.Waiters())
}

// F19, F23. In each round producers and consumers pass a number of items on
// through a small buffer. Nobody is told to stop: if a wake-up is lost, the
// round does not end.
func TestHammerCondProducersAndConsumersPassOnEveryItem(t *testing.T) {
	hammerAll(t, func(h *hammer) {
		var mu dawdlingLock
		b := &hammerBuffer{notFull: condvar.Cond{L: &mu}, notEmpty: condvar.Cond{L: &mu}}
		rounds := uint64(0)
		for ; !h.over(); rounds++ {
			const workers, quota = 3, 25
			left := h.IntN(3)
			b.mu, b.items, b.size = &mu, 0, left+1+h.IntN(3)
			var produced, consumed atomic.Int64
			var wg sync.WaitGroup
			for i := range uint64(workers) {
				rng := hammerRand(rounds<<8 | i<<1)
				more := quota
				if i == 0 {
					more += left
				}
				wg.Go(func() { b.move(rng, &wg, more, true, &produced) })
				rng2 := hammerRand(rounds<<8 | i<<1 | 1)
				wg.Go(func() { b.move(rng2, &wg, quota, false, &consumed) })
			}
			h.wait(&wg)
			require.EqualValues(h, workers*quota+left, produced.Load())
			require.EqualValues(h, workers*quota, consumed.Load())
			require.Equal(h, left, b.items)
			require.Zero(h, b.notFull.Waiters())
			require.Zero(h, b.notEmpty.Waiters())
		}
		h.Log(rounds, "rounds")
	})
}

// A hammerBuffer counts items, of which it has room for size.
type hammerBuffer struct {
	mu                sync.Locker
	items, size       int
	notFull, notEmpty condvar.Cond
}

// move puts so many items into the buffer, or takes them out.
func (b *hammerBuffer) move(rng *rand.Rand, wg *sync.WaitGroup, quota int, put bool, moved *atomic.Int64) {
	mine, theirs := &b.notEmpty, &b.notFull
	possible := func() int { return b.items }
	if put {
		mine, theirs = theirs, mine
		possible = func() int { return b.size - b.items }
	}
	for quota > 0 {
		ctx, cancel := hammerContext(rng, wg)
		b.mu.Lock()
		err := hammerWait(ctx, rng.IntN(3), mine, func() bool { return possible() > 0 })
		n := 0
		if err == nil {
			n = min(possible(), 1+rng.IntN(2), quota)
			if put {
				b.items += n
			} else {
				b.items -= n
			}
			moved.Add(int64(n))
			quota -= n
		}
		// A Notify is allowed with or without the lock.
		if rng.IntN(2) == 0 {
			theirs.NotifyN(n)
			b.mu.Unlock()
		} else {
			b.mu.Unlock()
			theirs.NotifyN(n)
		}
		cancel()
	}
}

// hammerWait waits for pred in one of the three ways.
func hammerWait(ctx context.Context, way int, c *condvar.Cond, pred func() bool) error {
	switch way {
	case 0:
		return c.WaitFor(ctx, pred)
	case 1:
		for !pred() {
			if err := c.Wait(ctx); err != nil {
				return err
			}
		}
		return nil
	}
	for !pred() {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		l := c.Listen()
		c.L.Unlock()
		select {
		case <-l.C:
		case <-ctx.Done():
		}
		l.Stop()
		c.L.Lock()
	}
	return nil
}

// F19. Each round is one pulse, which has to release all who are not canceled.
func TestHammerEventPulseReleasesEverybodyInLine(t *testing.T) {
	hammerAll(t, func(h *hammer) {
		var e condvar.Event
		rounds := 0
		for ; !h.over(); rounds++ {
			alive, cancelAlive := context.WithCancel(context.Background())
			fickle, cancel := context.WithCancel(context.Background())
			var wg sync.WaitGroup
			n := 1 + h.IntN(8)
			for i := range n {
				ctx := []context.Context{context.Background(), alive, fickle}[i%3]
				wg.Go(func() {
					if err := e.Wait(ctx); err != nil && (ctx != fickle || err != context.Canceled) {
						h.Errorf("Wait returned %v", err)
					}
				})
			}
			spin(h, e.Waiters, n)
			wg.Go(cancel)
			if h.IntN(2) == 0 {
				runtime.Gosched()
			}
			e.Set()
			require.Zero(h, e.Waiters())
			e.Clear()
			h.wait(&wg)
			cancelAlive()
		}
		h.Log(rounds, "rounds")
	})
}

// F19. Some have parked, some are on their way to that, and some have not begun:
// as Set comes before the cancel, all have to pass.
func TestHammerEventSetReleasesThoseWhoAreJustArriving(t *testing.T) {
	hammerAll(t, func(h *hammer) {
		rounds := 0
		for ; !h.over(); rounds++ {
			var e condvar.Event
			var wg sync.WaitGroup
			begin := make(chan struct{})
			cancellable, cancel := context.WithCancel(context.Background())
			for i := range 6 {
				ctx := context.Background()
				if i > 1 {
					ctx = cancellable
				}
				wg.Go(func() {
					if i%2 == 0 {
						<-begin
					}
					if err := e.Wait(ctx); err != nil {
						h.Errorf("Wait returned %v", err)
					}
				})
			}
			spin(h, e.Waiters, 3)
			close(begin)
			for range h.IntN(3) {
				runtime.Gosched()
			}
			e.Set()
			cancel()
			h.wait(&wg)
		}
		h.Log(rounds, "rounds")
	})
}

// F19, F24.
func TestHammerEventStorm(t *testing.T) {
	hammerAll(t, func(h *hammer) { eventStorm(h.T, h.length, hammerSeed) })
}

// resourceModes are the two kinds of resource.
var resourceModes = []struct {
	name string
	opts []condvar.Option
}{
	{"default", nil},
	{"FIFO", []condvar.Option{condvar.FIFO()}},
}

// F18, F19. The story that this package is for, for a second in each mode.
func TestHammerFiveWorkersNeverUseMoreThanTwoSlots(t *testing.T) {
	for _, mode := range resourceModes {
		t.Run(mode.name, func(t *testing.T) {
			hammerAtLeast(t, time.Second/3, func(h *hammer) {
				const slots = 2
				r := condvar.NewCapacityResource(slots, mode.opts...)
				var inside, turns atomic.Int64
				var full atomic.Bool
				var wg sync.WaitGroup
				for range 5 {
					wg.Go(func() {
						for !h.over() {
							if err := r.Acquire(context.Background()); err != nil {
								h.Errorf("Acquire returned %v", err)
								return
							}
							switch n := inside.Add(1); {
							case n > slots:
								h.Errorf("%d workers use %d slots", n, slots)
							case n == slots:
								full.Store(true)
							}
							runtime.Gosched()
							inside.Add(-1)
							turns.Add(1)
							r.Release()
						}
					})
				}
				h.wait(&wg)
				h.Log(turns.Load(), "turns")
				require.True(h, full.Load(), "the slots were not all in use at any time")
				requireIdle(h, r, slots)
			})
		})
	}
}

// requireIdle checks the accounting of a resource that nobody uses.
func requireIdle(t require.TestingT, r *condvar.CapacityResource, capacity int64) {
	s := r.Stats()
	s.WaitCount, s.WaitDuration, s.Canceled = 0, 0, 0
	require.Equal(t, condvar.Stats{Capacity: capacity}, s)
	require.True(t, r.TryAcquireN(capacity))
	require.False(t, r.TryAcquire())
	r.ReleaseN(capacity)
}

// F6, F19.
func TestHammerCapacityResourceNeverExceedsItsCapacityAndStrandsNobody(t *testing.T) {
	for _, mode := range resourceModes {
		for _, resizing := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s,resizing=%v", mode.name, resizing), func(t *testing.T) {
				hammerAll(t, func(h *hammer) {
					const capacity = 5
					u := &resourceUsers{h: h, r: condvar.NewCapacityResource(capacity, mode.opts...), capacity: capacity, resizing: resizing}
					rounds := uint64(0)
					for ; !h.over(); rounds++ {
						var wg sync.WaitGroup
						for i := range uint64(6) {
							wg.Go(func() { u.work(hammerRand(rounds<<8|i), &wg) })
						}
						if resizing {
							wg.Go(func() { u.resize(hammerRand(rounds<<8 | 255)) })
						}
						h.wait(&wg)
						requireIdle(h, u.r, capacity)
					}
					s := u.r.Stats()
					h.Log(rounds, "rounds,", s.WaitCount, "waits,", s.Canceled, "canceled")
					require.LessOrEqual(h, s.Canceled, u.contextErrors.Load())
					require.Positive(h, s.Canceled)
					require.Greater(h, s.WaitCount, s.Canceled)
				})
			})
		}
	}
}

// resourceUsers are the workers of the test above.
type resourceUsers struct {
	h             *hammer
	r             *condvar.CapacityResource
	capacity      int64 // the greatest that it has at any time
	resizing      bool
	inside        atomic.Int64
	contextErrors atomic.Int64
}

// work takes part in one round.
func (u *resourceUsers) work(rng *rand.Rand, wg *sync.WaitGroup) {
	for range 15 {
		n := 1 + rng.Int64N(u.capacity)
		ctx, cancel := hammerContext(rng, wg)
		var err error
		switch rng.IntN(4) {
		case 0:
			if u.r.TryAcquireN(n) {
				u.use(rng, n)
				u.r.ReleaseN(n)
			}
		case 1:
			err = u.r.DoN(ctx, n, func(context.Context) error {
				u.use(rng, n)
				return nil
			})
		default:
			if err = u.r.AcquireN(ctx, n); err == nil {
				u.use(rng, n)
				part := rng.Int64N(n + 1)
				u.r.ReleaseN(part)
				u.r.ReleaseN(n - part)
			}
		}
		switch {
		case err == nil:
		case errors.Is(err, condvar.ErrTooLarge) && u.resizing && n > 1:
		case ctx.Err() != nil && errors.Is(err, ctx.Err()):
			u.contextErrors.Add(1)
		default:
			u.h.Errorf("an acquisition of %d returned %v, and the context is %v", n, err, ctx.Err())
		}
		cancel()
	}
}

// use holds n permits for a moment.
func (u *resourceUsers) use(rng *rand.Rand, n int64) {
	if all := u.inside.Add(n); all > u.capacity {
		u.h.Errorf("%d permits are held", all)
	}
	yield(rng)
	u.inside.Add(-n)
}

// resize changes the capacity, nobody else does, and checks that permits beyond
// it only ever come back.
func (u *resourceUsers) resize(rng *rand.Rand) {
	for range 8 {
		c := rng.Int64N(u.capacity + 1)
		u.r.Resize(c)
		before := u.r.Stats()
		for range 4 {
			yield(rng)
			s := u.r.Stats()
			if s.Capacity != c || s.InUse > max(c, before.InUse) {
				u.h.Errorf("%d permits are held after %d, and the capacity is %d after Resize(%d)", s.InUse, before.InUse, s.Capacity, c)
			}
			before = s
		}
	}
	u.r.Resize(u.capacity)
}

// A kept is an object that could keep something of each wait, and on which
// somebody is first in line and stays there, until release.
type kept struct {
	wait    func(ctx context.Context) error
	waiting func() int
	release func()
	dropped func() bool // whether the object is gone, to which this does not refer
}

func keptCond(wait func(ctx context.Context, c *condvar.Cond) error) *kept {
	c := condvar.NewCond(&sync.Mutex{})
	w := weak.Make(c)
	first := c.Listen()
	return &kept{
		wait: func(ctx context.Context) error {
			c.L.Lock()
			defer c.L.Unlock()
			return wait(ctx, c)
		},
		waiting: c.Waiters,
		release: func() { first.Stop() },
		dropped: func() bool { return w.Value() == nil },
	}
}

// keptResource makes one that is dropped with a permit in use.
func keptResource(n int64, opts ...condvar.Option) *kept {
	r := condvar.NewCapacityResource(2, opts...)
	w := weak.Make(r)
	r.TryAcquire()
	ctx, cancel := context.WithCancel(context.Background())
	var first sync.WaitGroup
	first.Go(func() { _ = r.AcquireN(ctx, 2) })
	for r.Stats().Waiting == 0 {
		runtime.Gosched()
	}
	return &kept{
		wait:    func(ctx context.Context) error { return r.AcquireN(ctx, n) },
		waiting: func() int { return int(r.Stats().Waiting) },
		release: func() {
			cancel()
			first.Wait()
		},
		dropped: func() bool { return w.Value() == nil },
	}
}

var keptObjects = []struct {
	name   string
	waits  int // to be canceled
	create func() *kept
}{
	{"Cond.Wait", 100_000, func() *kept {
		return keptCond(func(ctx context.Context, c *condvar.Cond) error { return c.Wait(ctx) })
	}},
	{"Cond.WaitFor", 20_000, func() *kept {
		return keptCond(func(ctx context.Context, c *condvar.Cond) error {
			return c.WaitFor(ctx, func() bool { return false })
		})
	}},
	{"Cond.Listen", 20_000, func() *kept {
		return keptCond(func(ctx context.Context, c *condvar.Cond) error {
			return hammerWait(ctx, 2, c, func() bool { return false })
		})
	}},
	{"CapacityResource", 100_000, func() *kept { return keptResource(2) }},
	{"CapacityResource with FIFO", 20_000, func() *kept { return keptResource(1, condvar.FIFO()) }},
}

// cancelMany has so many waits canceled, in groups of a size.
func (k *kept) cancelMany(t *testing.T, waits, group int) {
	t.Helper()
	for range waits / group {
		ctx, cancel := context.WithCancel(context.Background())
		var wg sync.WaitGroup
		var canceled atomic.Int64
		for range group {
			wg.Go(func() {
				if k.wait(ctx) == context.Canceled {
					canceled.Add(1)
				}
			})
		}
		spin(t, k.waiting, group+1)
		cancel()
		wg.Wait()
		require.EqualValues(t, group, canceled.Load())
		require.Equal(t, 1, k.waiting())
	}
}

// heap returns how many objects there are, and bytes in them.
func heap() (objects, size int64) {
	var m runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&m)
	return int64(m.HeapObjects), int64(m.HeapAlloc)
}

// Row 95. Bug R15.
func TestNothingIsKeptOfManyCanceledWaits(t *testing.T) {
	const group = 100
	for _, tt := range keptObjects {
		t.Run(tt.name, func(t *testing.T) {
			goroutines, waits := runtime.NumGoroutine(), tt.waits
			k := tt.create()
			k.cancelMany(t, 4*group, group) // from here on the steady state
			objects, size := heap()
			k.cancelMany(t, waits, group)
			objects2, size2 := heap()
			require.Less(t, objects2-objects, int64(waits/20), "objects")
			require.Less(t, size2-size, int64(10*waits), "bytes")
			k.release()
			require.Zero(t, k.waiting())
			spin(t, func() int { return max(goroutines, runtime.NumGoroutine()) }, goroutines)
		})
	}
}

// Row 95.
func TestAnObjectThatIsDroppedIsCollected(t *testing.T) {
	for _, tt := range keptObjects {
		t.Run(tt.name, func(t *testing.T) {
			dropped := useAndDrop(t, tt.create(), 100)
			runtime.GC()
			require.True(t, dropped(), "something refers to it still")
		})
	}
}

// Row 95. What is kept for later waits has a bound.
func TestLittleIsKeptOfACrowdThatHasLeft(t *testing.T) {
	const crowd = 4000
	for _, tt := range keptObjects {
		t.Run(tt.name, func(t *testing.T) {
			// What the runtime keeps of goroutines does not count.
			useAndDrop(t, tt.create(), crowd)
			k := tt.create()
			objects, _ := heap()
			k.cancelMany(t, crowd, crowd)
			objects2, _ := heap()
			require.Less(t, objects2-objects, int64(crowd), "an object or more for each that was there")
			k.release()
		})
	}
}

// useAndDrop has a crowd wait for k, and returns k.dropped. It is a function of
// its own so that its variables are gone when it has returned.
//
//go:noinline
func useAndDrop(t *testing.T, k *kept, crowd int) func() bool {
	k.cancelMany(t, crowd, crowd)
	k.release()
	return k.dropped
}
