package matrix

import (
	"context"
	"errors"
	"runtime"
	"sync"
	"time"

	"github.com/stretchr/testify/require"

	"example.com/condvar"
)

// An object lives at package level.
type object struct {
	name   string
	waits  []wait
	uses   []use       // in addition to those of waits
	atRest func() bool // whether no call waits and no permit is held

	// touch makes all calls that do not wait, and reports whether their results
	// are correct. It wakes no waiter if no call waits. dead is a context that
	// has ended.
	touch func(dead context.Context) bool
}

// A use of an object starts and ends with the object at rest.
type use struct {
	name string
	run  func(v *visit)
}

// A wait is a call that blocks, after block and until wake.
type wait struct {
	name    string
	call    func(ctx context.Context) error
	waiting func() int // number of waiting calls
	block   func()

	// wake lets n calls return nil, possibly 0, and undoes block. It may be
	// nil.
	wake func(n int)
}

func nothing() {}

// These objects are made outside bubbles, like all package variables. The Cond
// and the Event are package variables themselves, so they cannot be associated
// with a bubble. The resources are on the heap.
var objects = []*object{
	newCond(&packageCond),
	newEvent(&packageEvent),
	newResource("Resource", 3),
	newResource("FIFO", 3, condvar.FIFO()),
	newResource("Large", 1<<31+2), // does without the fast paths
	newMaxWait(),
	newPermit(),
	newKeyed(packageKeyed, 3),
}

var (
	packageCond  condvar.Cond
	packageEvent condvar.Event
)

// The long form has cases of longCase steps. A chain is longer.
const (
	longCase = 4
	maxSteps = 5*5 + 1
)

// Uses of any wait.

func (w wait) released(v *visit) {
	ctx, cancel := context.WithCancel(v.Context())
	defer cancel()
	w.block()
	plain := start(v.n, func() error { return w.call(context.Background()) })
	selecting := start(v.n, func() error { return w.call(ctx) })
	v.settle(func() bool { return w.waiting() == 2*v.n })
	if v.bubble {
		time.Sleep(time.Hour) // the fake clock advances only if all waits are durably blocking
	}
	w.wake(2 * v.n)
	plain.requireAll(v, nil)
	selecting.requireAll(v, nil)
}

func (w wait) canceled(v *visit) {
	ctx, cancel := context.WithCancel(v.Context())
	defer cancel()
	w.block()
	calls := start(v.n, func() error { return w.call(ctx) })
	v.settle(func() bool { return w.waiting() == v.n })
	cancel()
	calls.requireAll(v, context.Canceled)
	w.unblock()
}

func (w wait) timedOut(v *visit) {
	timeout := time.Millisecond
	if v.bubble {
		timeout = time.Hour
	}
	begin := time.Now()
	ctx, cancel := context.WithTimeout(v.Context(), timeout)
	defer cancel()
	w.block()
	start(v.n, func() error { return w.call(ctx) }).requireAll(v, context.DeadlineExceeded)
	if v.bubble {
		require.Equal(v, timeout, time.Since(begin))
	}
	w.unblock()
}

// leaked starts calls that wait forever.
func (w wait) leaked(v *visit) {
	w.block()
	start(v.n, func() error { return w.call(context.Background()) })
	v.settle(func() bool { return w.waiting() == v.n })
}

func (w wait) unblock() {
	if w.wake != nil {
		w.wake(0)
	}
}

// Cond.

var errPlanned = errors.New("a planned panic")

// recovered calls f and returns the value of its panic.
func recovered(f func()) (err error) {
	defer func() { err, _ = recover().(error) }()
	f()
	return nil
}

// A lock is a Mutex whose Unlock can be replaced.
type lock struct {
	sync.Mutex
	instead func() // of the next Unlock; guarded by the lock itself
}

func (l *lock) Unlock() {
	if f := l.instead; f != nil {
		l.instead = nil
		f()
		return
	}
	l.Mutex.Unlock()
}

// A cond is a Cond and its condition, which is guarded by its lock.
type cond struct {
	*condvar.Cond
	lock  lock
	ready bool
}

func newCond(value *condvar.Cond) *object {
	c := &cond{Cond: value}
	c.L = &c.lock
	return &object{
		name: "Cond",
		waits: []wait{
			{"Wait", c.wait, c.Waiters, nothing, func(n int) { c.NotifyN(n) }},
			{"WaitFor", c.waitFor, c.Waiters, func() { c.setReady(false) }, func(n int) {
				c.setReady(true)
				c.NotifyN(n)
			}},
			{"Listen", c.listen, c.Waiters, nothing, func(n int) { c.NotifyN(n) }},
		},
		uses: []use{
			{"broadcast", c.broadcast},
			{"futileWakeUps", c.futileWakeUps},
			{"passedOn", c.passedOn},
			{"predicatePanics", c.predicatePanics},
			{"unlockPanics", c.unlockPanics},
		},
		atRest: func() bool { return c.Waiters() == 0 },
		touch: func(dead context.Context) bool {
			c.lock.Lock()
			defer c.lock.Unlock()
			return !c.Notify() && c.NotifyN(2) == 0 && c.NotifyAll() == 0 && c.Waiters() == 0 &&
				c.Wait(dead) != nil && c.WaitFor(dead, func() bool { return true }) == nil
		},
	}
}

func (c *cond) setReady(ready bool) {
	c.lock.Lock()
	defer c.lock.Unlock()
	c.ready = ready
}

func (c *cond) wait(ctx context.Context) error {
	c.lock.Lock()
	defer c.lock.Unlock()
	return c.Wait(ctx)
}

func (c *cond) waitFor(ctx context.Context) error {
	c.lock.Lock()
	defer c.lock.Unlock()
	return c.WaitFor(ctx, func() bool { return c.ready })
}

func (c *cond) listen(ctx context.Context) error {
	l := c.Listen()
	defer l.Stop()
	select {
	case <-l.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (c *cond) settle(v *visit, waiters int) {
	v.Helper()
	v.settle(func() bool { return c.Waiters() == waiters })
}

func (c *cond) broadcast(v *visit) {
	ctx, cancel := context.WithCancel(v.Context())
	defer cancel()
	plain := start(v.n, func() error { return c.wait(context.Background()) })
	selecting := start(v.n, func() error { return c.wait(ctx) })
	listening := start(v.n, func() error { return c.listen(ctx) })
	c.settle(v, 3*v.n)
	require.Equal(v, 3*v.n, c.NotifyAll())
	plain.requireAll(v, nil)
	selecting.requireAll(v, nil)
	listening.requireAll(v, nil)
}

func (c *cond) futileWakeUps(v *visit) {
	ctx, cancel := context.WithCancel(v.Context())
	defer cancel()
	c.setReady(false)
	plain := start(v.n, func() error { return c.waitFor(context.Background()) })
	selecting := start(v.n, func() error { return c.waitFor(ctx) })
	c.settle(v, 2*v.n)
	for range 3 {
		require.True(v, c.Notify())
		c.settle(v, 2*v.n)
		require.Equal(v, 2*v.n, c.NotifyAll())
		c.settle(v, 2*v.n)
	}
	cancel()
	selecting.requireAll(v, context.Canceled)
	c.setReady(true)
	require.Equal(v, v.n, c.NotifyAll())
	plain.requireAll(v, nil)
}

// passedOn stops Listeners that have been notified, but have not received.
func (c *cond) passedOn(v *visit) {
	var listeners []*condvar.Listener
	for range v.n {
		listeners = append(listeners, c.Listen())
	}
	waits := start(v.n, func() error { return c.wait(context.Background()) })
	c.settle(v, 2*v.n)
	require.Equal(v, v.n, c.NotifyN(v.n))
	for _, l := range listeners {
		require.False(v, l.Stop())
	}
	waits.requireAll(v, nil)
	l := c.Listen()
	require.True(v, l.Stop())
}

// predicatePanics sends a notification to a WaitFor whose predicate panics, so
// that it is passed on to the next one.
func (c *cond) predicatePanics(v *visit) {
	panicking := start(v.n, func() error {
		return recovered(func() {
			c.lock.Lock()
			defer c.lock.Unlock()
			looks := 0
			c.WaitFor(context.Background(), func() bool {
				if looks++; looks > 1 {
					panic(errPlanned)
				}
				return false
			})
		})
	})
	c.settle(v, v.n)
	last := start(1, func() error { return c.wait(context.Background()) })
	c.settle(v, v.n+1)
	require.True(v, c.Notify())
	panicking.requireAll(v, errPlanned)
	last.requireAll(v, nil)
}

// unlockPanics makes Unlock panic when the waiter has just been notified and a
// Listener is in line behind it.
func (c *cond) unlockPanics(v *visit) {
	behind := make(chan *condvar.Listener, v.n)
	start(v.n, func() error {
		return recovered(func() {
			c.lock.Lock()
			defer c.lock.Unlock()
			c.lock.instead = func() {
				l := c.Listen()
				c.Notify()
				behind <- l
				panic(errPlanned)
			}
			c.Wait(context.Background())
		})
	}).requireAll(v, errPlanned)
	for range v.n {
		l := <-behind
		<-l.C
		l.Stop()
	}
	// The next waits must not find a token of these.
	next := start(v.n, func() error { return c.wait(context.Background()) })
	c.settle(v, v.n)
	require.Equal(v, v.n, c.NotifyN(v.n))
	next.requireAll(v, nil)
}

// Event.

func newEvent(e *condvar.Event) *object {
	return &object{
		name: "Event",
		waits: []wait{{"Wait", e.Wait, e.Waiters, e.Clear, func(n int) {
			if n > 0 { // otherwise Set would hide what canceled waits leave behind
				e.Set()
			}
		}}},
		uses: []use{{"pulse", func(v *visit) {
			e.Clear()
			waits := start(v.n, func() error { return e.Wait(context.Background()) })
			v.settle(func() bool { return e.Waiters() == v.n })
			e.Set()
			e.Clear()
			waits.requireAll(v, nil)
		}}},
		atRest: func() bool { return e.Waiters() == 0 },
		touch: func(dead context.Context) bool {
			e.Set()
			e.IsSet()
			e.Clear()
			e.Wait(dead) // any result: others set and clear
			return e.Waiters() == 0
		},
	}
}

// CapacityResource.

// A resource is one that all steps use, and similar ones that are used once.
type resource struct {
	*condvar.CapacityResource
	capacity int64

	// All of these are held. Each step waits on the one with its number and all
	// later ones, and then uses up the one with its number.
	stuck             *condvar.CapacityResource
	closing, draining [maxSteps]*condvar.CapacityResource
}

func newResource(name string, capacity int64, opts ...condvar.Option) *object {
	held := func() *condvar.CapacityResource {
		r := condvar.NewCapacityResource(capacity, opts...)
		r.TryAcquireN(capacity)
		return r
	}
	r := &resource{
		CapacityResource: condvar.NewCapacityResource(capacity, opts...),
		capacity:         capacity,
		stuck:            held(),
	}
	for i := range maxSteps {
		r.closing[i], r.draining[i] = held(), held()
	}
	return &object{
		name: name,
		waits: []wait{
			r.acquiring(),
			draining(r.stuck),
		},
		uses: []use{
			{"paused", r.paused},
			{"turnedAway", r.turnedAway},
			{"starvingHead", r.starvingHead},
			{"closed", r.closed},
			{"drained", r.drained},
		},
		atRest: r.atRest,
		touch:  r.touch,
	}
}

// acquiring returns a wait for one permit.
func (r *resource) acquiring() wait {
	return wait{
		"Acquire", func(ctx context.Context) error { return r.Do(ctx, pass) }, r.waiting,
		func() { r.TryAcquireN(r.capacity) }, func(int) { r.ReleaseN(r.capacity) },
	}
}

func (r *resource) atRest() bool {
	s := r.Stats()
	return s.InUse == 0 && s.Waiting == 0 && s.WaitingN == 0 && s.OldestWait == 0
}

func (r *resource) touch(dead context.Context) bool {
	if r.TryAcquire() {
		r.Release()
	}
	r.Resize(r.capacity)
	return r.Stats().Waiting == 0 && r.String() != "" && r.AcquireN(dead, 1) != nil &&
		r.AcquireN(context.Background(), 0) == nil
}

// starvationThreshold is how long new calls may overtake the head of the line.
const starvationThreshold = time.Millisecond

func pass(context.Context) error { return nil }

func (r *resource) waiting() int { return int(r.Stats().Waiting) }

func (r *resource) settle(v *visit, waiting int) {
	v.Helper()
	v.settle(func() bool { return r.waiting() == waiting })
}

// draining returns a wait on r, which must be held. Only its context ends it.
func draining(r *condvar.CapacityResource) wait {
	var mu sync.Mutex
	inside := 0
	add := func(n int) {
		mu.Lock()
		defer mu.Unlock()
		inside += n
	}
	return wait{
		"Drain",
		func(ctx context.Context) error {
			add(1)
			defer add(-1)
			return r.Drain(ctx)
		},
		// The number of waiting calls of Drain is unknown. In a bubble at
		// rest, all that have begun wait. Outside that is probable, which is
		// enough.
		func() int {
			runtime.Gosched()
			mu.Lock()
			defer mu.Unlock()
			return inside
		},
		nothing, nil,
	}
}

func (r *resource) paused(v *visit) {
	r.Resize(0)
	calls := start(v.n, func() error { return r.Do(context.Background(), pass) })
	r.settle(v, v.n)
	r.Resize(r.capacity)
	calls.requireAll(v, nil)
}

func (r *resource) turnedAway(v *visit) {
	require.True(v, r.TryAcquireN(r.capacity))
	calls := start(v.n, func() error { return r.AcquireN(context.Background(), r.capacity) })
	r.settle(v, v.n)
	r.Resize(r.capacity - 1)
	calls.requireAll(v, condvar.ErrTooLarge)
	r.Resize(r.capacity)
	r.ReleaseN(r.capacity)
}

func (r *resource) starvingHead(v *visit) {
	for _, givesUp := range []bool{true, false} {
		ctx, cancel := context.WithCancel(v.Context())
		defer cancel()
		require.True(v, r.TryAcquireN(r.capacity))
		head := start(1, func() error { return r.AcquireN(ctx, r.capacity) })
		r.settle(v, 1)
		others := start(v.n, func() error { return r.Do(context.Background(), pass) })
		r.settle(v, 1+v.n)
		if v.bubble {
			time.Sleep(starvationThreshold)
		}
		for r.Stats().OldestWait < starvationThreshold {
			runtime.Gosched()
		}
		r.Release()
		require.False(v, r.TryAcquire(), "a new call overtakes the starving head")
		if givesUp {
			cancel()
			head.requireAll(v, context.Canceled)
			others.requireAll(v, nil)
			r.ReleaseN(r.capacity - 1)
		} else {
			r.ReleaseN(r.capacity - 1)
			head.requireAll(v, nil)
			r.ReleaseN(r.capacity)
			others.requireAll(v, nil)
		}
	}
}

func (r *resource) closed(v *visit) {
	acquiring := func(c *condvar.CapacityResource) wait {
		waiting := func() int { return int(c.Stats().Waiting) }
		return wait{"Acquire", c.Acquire, waiting, nothing, nil}
	}
	for _, c := range r.closing[v.step:] {
		acquiring(c).canceled(v)
	}
	w := acquiring(r.closing[v.step])
	calls := start(v.n, func() error { return w.call(context.Background()) })
	v.settle(func() bool { return w.waiting() == v.n })
	r.closing[v.step].Close()
	calls.requireAll(v, condvar.ErrClosed)
}

func (r *resource) drained(v *visit) {
	for _, d := range r.draining[v.step:] {
		draining(d).canceled(v)
	}
	w := draining(r.draining[v.step])
	calls := start(v.n, func() error { return w.call(context.Background()) })
	v.settle(func() bool { return w.waiting() == v.n })
	r.draining[v.step].ReleaseN(r.capacity)
	calls.requireAll(v, nil)
}
