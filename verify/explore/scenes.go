//go:build condvar_explore

package explore

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"time"

	"example.com/condvar"
	"example.com/condvar/internal/primitives"
)

// toTheEnd is the bound of scenes of which every schedule is tried.
const toTheEnd = -1

// A call is a blocking call that a thread of a scene makes.
type call struct {
	name     string
	ctx      *Context // nil if it cannot be canceled
	n        int64    // permits, if it acquires
	returned bool
	err      error
}

// failed reports whether the call returned an error.
func (c *call) failed() bool { return c.returned && c.err != nil }

// succeeded reports whether the call returned nil.
func (c *call) succeeded() bool { return c.returned && c.err == nil }

// explained returns an error if the call returned one that nothing explains, or
// has not returned though its context has ended.
func (c *call) explained() error {
	canceled := c.ctx != nil && c.ctx.Canceled()
	switch {
	case canceled && !c.returned:
		return fmt.Errorf("%s waits on, though its context has ended", c.name)
	case errors.Is(c.err, context.Canceled) && !canceled:
		return fmt.Errorf("%s returned %w, but its context is alive", c.name, c.err)
	}
	return nil
}

// count returns how many of the calls are so.
func count(calls []*call, is func(*call) bool) (n int) {
	for _, c := range calls {
		if is(c) {
			n++
		}
	}
	return n
}

// A condScene is the objects of a scene about a Cond.
type condScene struct {
	*Run
	l     *Mutex
	c     *condvar.Cond
	calls []*call
	woken int // the sum of what the notifiers returned
}

func newCondScene(r *Run) *condScene {
	s := &condScene{Run: r, l: &Mutex{}}
	s.c = condvar.NewCond(s.l)
	s.c.Waiters() // the first use, which prepares it
	r.Cleanup(func() { s.c.NotifyAll() })
	return s
}

// context returns the Context as the library wants it.
func (c *call) context() context.Context {
	if c.ctx == nil {
		return context.Background()
	}
	return c.ctx
}

// wait adds a thread that waits once.
func (s *condScene) wait(name string, ctx *Context) *call {
	c := &call{name: name, ctx: ctx}
	s.calls = append(s.calls, c)
	s.Go(name, func() {
		s.l.Lock()
		defer s.l.Unlock()
		c.err = s.c.Wait(c.context())
		c.returned = true
		if !s.l.locked {
			panic("Wait returned without the lock")
		}
	})
	return c
}

// waitFor adds a thread that waits for pred, and then calls then, if it is not
// nil, before it unlocks.
func (s *condScene) waitFor(name string, ctx *Context, pred func() bool, then func()) *call {
	c := &call{name: name, ctx: ctx}
	s.calls = append(s.calls, c)
	s.Go(name, func() {
		defer func() {
			if p := recover(); p != nil && p != expected {
				panic(p)
			}
		}()
		s.l.Lock()
		defer s.l.Unlock()
		defer func() { c.returned = true }() // by panic or Goexit, too
		c.err = s.c.WaitFor(c.context(), func() bool {
			if !s.l.locked {
				panic("the predicate is called without the lock")
			}
			return pred()
		})
		if c.err == nil && then != nil {
			then()
		}
	})
	return c
}

// expected is what predicates of scenes panic with.
const expected = "expected"

// waitBehind adds a thread that waits once, after it has passed a gate. If joined
// is not nil, it is opened before L is unlocked.
func (s *condScene) waitBehind(name string, gate, joined Gate) *call {
	c := &call{name: name}
	s.calls = append(s.calls, c)
	s.Go(name, func() {
		gate.Pass()
		s.l.Lock()
		defer s.l.Unlock()
		if joined != nil {
			joined.Open() // nobody else locks before Wait unlocks
		}
		c.err = s.c.Wait(context.Background())
		c.returned = true
	})
	return c
}

// notify adds a thread that changes something under the lock and then notifies,
// with the lock held or not.
func (s *condScene) notify(name string, locked bool, change func(), notify func() int) {
	s.Go(name, func() {
		s.l.Lock()
		change()
		if !locked {
			s.l.Unlock()
		}
		woken := notify()
		if locked {
			s.l.Unlock()
		}
		s.Note(s)
		s.woken += woken
	})
}

func (s *condScene) one() int {
	if s.c.Notify() {
		return 1
	}
	return 0
}

func nothing() {}

// exact checks a scene in which each notification ends one Wait: as many calls
// succeeded as were woken, and those who wait on are in line.
func (s *condScene) exact() error {
	for _, c := range s.calls {
		if err := c.explained(); err != nil {
			return err
		}
	}
	if n := count(s.calls, (*call).succeeded); n != s.woken {
		return fmt.Errorf("%d were notified, but %d returned nil", s.woken, n)
	}
	return s.inLine()
}

// inLine checks that those who wait on are in line, and nobody else.
func (s *condScene) inLine() error {
	parked := len(s.calls) - count(s.calls, func(c *call) bool { return c.returned })
	if n := s.c.Waiters(); n != parked {
		return fmt.Errorf("%d are parked, but %d in line", parked, n)
	}
	return nil
}

// noDataLeft checks that there is no data while a consumer waits for some.
func (s *condScene) noDataLeft(data int) error {
	for _, c := range s.calls {
		if err := c.explained(); err != nil {
			return err
		}
		if data > 0 && !c.returned {
			return fmt.Errorf("there is data, but %s sleeps", c.name)
		}
	}
	return s.inLine()
}

// leavesWithout sets up a scene where the first in line, if it is woken for
// whatever reason, leaves by the given way, and another is in line behind it.
func leavesWithout(r *Run, leave func()) func() error {
	s := newCondScene(r)
	ctx, looks := r.Context(), 0
	first := s.waitFor("first", ctx, func() bool {
		if looks++; looks > 1 {
			leave()
		}
		return false
	}, nil)
	second := s.wait("second", nil)
	r.Settle()
	s.Go("notifier", func() { s.woken = s.one() })
	s.Go("canceller", ctx.Cancel)
	return func() error {
		if s.woken != 1 || !first.returned || !second.returned {
			return errors.New("the notification was for nobody, though there was somebody in line")
		}
		return s.inLine()
	}
}

// A countingLocker counts how often waits unlock it.
type countingLocker struct {
	*Mutex
	unlocks int
}

func (l *countingLocker) Unlock() {
	l.unlocks++
	l.Mutex.Unlock()
}

// A lockPanics panics when the thread of that name locks it.
type lockPanics struct {
	*Mutex
	name string
}

func (l *lockPanics) Lock() {
	if hooks.self().name == l.name {
		hooks.Step(primitives.OpStore, l)
		panic(expected)
	}
	l.Mutex.Lock()
}

// broadcastLeavesNothing is a scene in which a thread, "first", waits by the given
// function, gets a notification of NotifyAll, and leaves without using it. The
// second joins the line, and gets another NotifyAll. The third comes after that.
func broadcastLeavesNothing(s *condScene, wait func()) func() error {
	s.Go("first", func() {
		defer func() { _ = recover() }()
		wait()
	})
	s.Settle()
	gate, joined, over := make(Gate, 1), make(Gate, 1), make(Gate, 1)
	s.Go("notifier", func() {
		s.woken = s.c.NotifyAll()
		gate.Open()
		joined.Pass()
		s.l.Lock()   // so that the second is in line
		s.l.Unlock() //nolint:staticcheck // as it says
		s.woken += s.c.NotifyAll()
		over.Open()
	})
	second := s.waitBehind("second", gate, joined)
	third := s.waitBehind("third", over, nil)
	return func() error {
		if !second.succeeded() || third.returned {
			return fmt.Errorf("%d woken; second: %v, third: %v", s.woken, second.returned, third.returned)
		}
		return nil
	}
}

// A brokenLocker panics at the first Unlock, after having opened a gate.
type brokenLocker struct {
	*Mutex
	joined Gate
}

func (l *brokenLocker) Unlock() {
	l.Mutex.Unlock()
	if joined := l.joined; joined != nil {
		l.joined = nil
		joined.Open()
		hooks.Step(primitives.OpStore, l) // so that a notification can come before the panic
		panic(expected)
	}
}

// unlockPanics is a scene in which L.Unlock panics in wait, with some before it in
// line and one behind it. It has as many notifications as these are.
func unlockPanics(r *Run, before int, wait func(c *condvar.Cond)) func() error {
	s := newCondScene(r)
	joined, next := make(Gate, 1), make(Gate, 1)
	l := &brokenLocker{Mutex: s.l}
	s.c.L = l
	for i := range before {
		s.wait(fmt.Sprintf("w%d", i+1), nil)
	}
	r.Settle()
	l.joined = joined
	s.Go("panics", func() {
		defer func() { _ = recover() }()
		s.l.Lock()
		wait(s.c)
	})
	s.waitBehind("last", joined, next)
	s.Go("notifier", func() {
		next.Pass()
		s.l.Lock()   // so that the last is in line
		s.l.Unlock() //nolint:staticcheck // as it says
		for range s.calls {
			s.woken += s.one()
		}
	})
	return func() error {
		if all := len(s.calls); s.woken != all || count(s.calls, (*call).succeeded) != all {
			return fmt.Errorf("%d notified, though %d were in line, and %d woke up", s.woken, all, count(s.calls, (*call).succeeded))
		}
		return s.inLine()
	}
}

// An eventScene is the objects of a scene about an Event.
type eventScene struct {
	*Run
	e     *condvar.Event
	calls []*call
}

func newEventScene(r *Run) *eventScene {
	s := &eventScene{Run: r, e: &condvar.Event{}}
	s.e.Waiters()
	r.Cleanup(s.e.Set)
	return s
}

func (s *eventScene) wait(name string, ctx *Context) *call {
	c := &call{name: name, ctx: ctx}
	s.calls = append(s.calls, c)
	s.Go(name, func() {
		c.err = s.e.Wait(c.context())
		c.returned = true
	})
	return c
}

// atRest checks that nobody waits for an event that is set, and that errors
// have their reasons.
func (s *eventScene) atRest() error {
	parked := 0
	for _, c := range s.calls {
		if err := c.explained(); err != nil {
			return err
		}
		if !c.returned {
			parked++
		}
	}
	switch {
	case s.e.IsSet() && parked > 0:
		return fmt.Errorf("the event is set, but %d wait for it", parked)
	case s.e.Waiters() != parked:
		return fmt.Errorf("%d are parked, but %d in line", parked, s.e.Waiters())
	}
	return nil
}

// A resourceScene is the objects of a scene about a CapacityResource.
type resourceScene struct {
	*Run
	r       *condvar.CapacityResource
	calls   []*call
	taken   int64 // permits that were taken and not given back, counted by the scene
	tooMany error
}

func newResourceScene(r *Run, capacity int64, opts ...condvar.Option) *resourceScene {
	s := &resourceScene{Run: r, r: condvar.NewCapacityResource(capacity, opts...)}
	s.r.Stats()
	r.Cleanup(func() {
		_ = s.r.Close()
		r.Settle()
		s.r.ReleaseN(s.r.Stats().InUse)
	})
	return s
}

// hold takes n permits in the set-up.
func (s *resourceScene) hold(n int64) {
	if !s.r.TryAcquireN(n) {
		panic("no permits for the set-up")
	}
	s.taken += n
}

// took counts permits that were acquired, and looks whether they are more than
// the capacity, which must be constant in scenes that use it.
func (s *resourceScene) took(n, capacity int64) {
	s.Note(s)
	s.taken += n
	if s.taken > capacity {
		s.tooMany = fmt.Errorf("%d permits are held, of %d", s.taken, capacity)
	}
}

// gives counts permits that are about to be released.
func (s *resourceScene) gives(n int64) {
	s.Note(s)
	s.taken -= n
}

// acquire adds a thread that acquires n permits and keeps them.
func (s *resourceScene) acquire(name string, ctx *Context, n int64) *call {
	c := &call{name: name, ctx: ctx, n: n}
	s.calls = append(s.calls, c)
	s.Go(name, func() {
		c.err = s.r.AcquireN(c.context(), n)
		c.returned = true
		if c.err == nil {
			s.Note(s)
			s.taken += n
		}
	})
	return c
}

// try adds a thread that tries to take n permits and, if it can, keeps them. The
// result is whether it could though ctx, that of the head of the line, was alive.
func (s *resourceScene) try(name string, n int64, ctx *Context) *bool {
	overtook := new(bool)
	s.Go(name, func() {
		if s.r.TryAcquireN(n) {
			s.Note(s)
			s.taken += n
			*overtook = !ctx.Canceled()
		}
	})
	return overtook
}

// drain adds a thread that drains.
func (s *resourceScene) drain(name string, ctx *Context) *call {
	c := &call{name: name, ctx: ctx}
	s.Go(name, func() {
		c.err = s.r.Drain(c.context())
		c.returned = true
		if c.err == nil && s.r.Stats().InUse > 0 {
			panic("Drain returned early")
		}
	})
	return c
}

// release adds a thread that releases n permits which the set-up holds.
func (s *resourceScene) release(name string, n int64) {
	s.Go(name, func() { s.giveBack(n) })
}

func (s *resourceScene) giveBack(n int64) {
	s.Note(s)
	s.taken -= n
	s.r.ReleaseN(n)
}

// atRest checks that Stats agrees with what the scene counted, that those who
// wait on are in line, and that it is not because nobody woke them: some
// request must be too large for what is free, or the resource is paused.
func (s *resourceScene) atRest() error {
	st := s.r.Stats()
	var parked, wanted, largest int64
	for _, c := range s.calls {
		if err := c.explained(); err != nil {
			return err
		}
		if !c.returned {
			parked++
			wanted += c.n
			largest = max(largest, c.n)
		}
	}
	free := st.Capacity - st.InUse
	switch {
	case s.tooMany != nil:
		return s.tooMany
	case st.InUse != s.taken:
		return fmt.Errorf("%d permits are held, but Stats says %d", s.taken, st.InUse)
	case st.Waiting != parked || st.WaitingN != wanted:
		return fmt.Errorf("%d wait for %d permits, but Stats says %d for %d", parked, wanted, st.Waiting, st.WaitingN)
	case st.Closed && parked > 0:
		return fmt.Errorf("the resource is closed, but %d wait", parked)
	case parked > 0 && largest <= free:
		return fmt.Errorf("%d are free, but %d wait for %d", free, parked, wanted)
	}
	return s.usable(free)
}

// usable checks that what is free can be taken by a newcomer, if nobody waits:
// that no flag has outlived its reason.
func (s *resourceScene) usable(free int64) error {
	st := s.r.Stats()
	if st.Waiting > 0 || st.Closed || free <= 0 {
		return nil
	}
	if !s.r.TryAcquireN(free) {
		return fmt.Errorf("nobody waits and %d are free, but they cannot be taken", free)
	}
	s.r.ReleaseN(free)
	return nil
}

// LargerScenes returns scenes that have too many schedules to try them all.
func LargerScenes() []*Scene {
	return []*Scene{
		{
			Name:      "CondCrowd",
			Invariant: "four consumers, three producers, two cancels: no data lies there while a consumer sleeps",
			Sampled:   true,
			Setup: func(r *Run) func() error {
				s := newCondScene(r)
				data := 0
				has, use := func() bool { return data > 0 }, func() { data-- }
				ctx1, ctx2 := r.Context(), r.Context()
				for i, ctx := range []*Context{ctx1, ctx2, r.Context(), r.Context()} {
					s.waitFor(fmt.Sprintf("c%d", i+1), ctx, has, use)
				}
				for i, locked := range []bool{true, false, false} {
					s.notify(fmt.Sprintf("p%d", i+1), locked, func() { data++ }, s.one)
				}
				s.Go("canceller1", ctx1.Cancel)
				s.Go("canceller2", ctx2.Cancel)
				return func() error { return s.noDataLeft(data) }
			},
		},
		{
			Name:      "CondExactCrowd",
			Invariant: "four Waits, NotifyN, NotifyAll and two Notifies, two cancels: as many return nil as were woken",
			Sampled:   true,
			Setup: func(r *Run) func() error {
				s := newCondScene(r)
				ctx1, ctx2 := r.Context(), r.Context()
				for i, ctx := range []*Context{r.Context(), ctx1, ctx2, r.Context()} {
					s.wait(fmt.Sprintf("w%d", i+1), ctx)
				}
				s.notify("one", true, nothing, s.one)
				s.notify("another", false, nothing, s.one)
				s.notify("two", false, nothing, func() int { return s.c.NotifyN(2) })
				s.notify("all", false, nothing, s.c.NotifyAll)
				s.Go("canceller1", ctx1.Cancel)
				s.Go("canceller2", ctx2.Cancel)
				return s.exact
			},
		},
		{
			Name:      "ResourceCrowd",
			Invariant: "five take turns with weights, while the capacity changes and two are canceled: all who are not get in, and the accounts stay exact",
			Sampled:   true,
			Setup:     func(r *Run) func() error { return resourceCrowd(r) },
		},
		{
			Name:      "ResourceCrowdFIFO",
			Invariant: "the same with FIFO",
			Sampled:   true,
			Setup:     func(r *Run) func() error { return resourceCrowd(r, condvar.FIFO()) },
		},
	}
}

func resourceCrowd(r *Run, opts ...condvar.Option) func() error {
	s := newResourceScene(r, 2, opts...)
	ctx1, ctx2 := r.Context(), r.Context()
	var turns []*call
	for i, ctx := range []*Context{ctx1, ctx2, r.Context(), r.Context(), r.Context()} {
		c := &call{name: fmt.Sprintf("a%d", i+1), ctx: ctx}
		n := int64(1 + i%2)
		s.Go(c.name, func() {
			for range 2 {
				if c.err = s.r.AcquireN(c.context(), n); c.err != nil {
					break
				}
				s.took(n, 3)
				s.giveBack(n)
			}
			c.returned = true
		})
		turns = append(turns, c)
	}
	s.Go("resizer", func() {
		s.r.Resize(3)
		s.r.Resize(0)
		s.r.Resize(2)
	})
	s.Go("clock", func() { r.Advance(time.Millisecond) })
	s.Go("canceller1", ctx1.Cancel)
	s.Go("canceller2", ctx2.Cancel)
	return func() error {
		for _, c := range turns {
			if err := c.explained(); err != nil {
				return err
			}
			if !c.returned {
				return fmt.Errorf("%s sleeps, though all have given back", c.name)
			}
			if c.failed() && !errors.Is(c.err, context.Canceled) {
				return fmt.Errorf("%s: %w", c.name, c.err)
			}
		}
		return s.atRest()
	}
}

// Scenes returns the scenes that are explored to the end, or to their bound.
func Scenes() []*Scene {
	return slices.Concat(condScenes(), eventScenes(), resourceScenes(), overloadScenes())
}

func condScenes() []*Scene {
	return []*Scene{
		{
			Name:      "CondTwoWaitersNotifierCanceller",
			Invariant: "as many Waits return nil as Notify woke, and the others are in line or canceled",
			Bound:     toTheEnd,
			Setup: func(r *Run) func() error {
				s := newCondScene(r)
				ctx := r.Context()
				s.wait("w1", ctx)
				s.wait("w2", r.Context())
				s.notify("notifier", true, nothing, s.one)
				s.Go("canceller", ctx.Cancel)
				return s.exact
			},
		},
		{
			Name:      "CondParkedNotifiersWithoutLock",
			Invariant: "two in line, two notifications, of which none is lost, though the first is canceled",
			Bound:     toTheEnd,
			Setup: func(r *Run) func() error {
				s := newCondScene(r)
				ctx := r.Context()
				w1 := s.wait("w1", ctx)
				w2 := s.wait("w2", nil)
				r.Settle()
				s.notify("n1", false, nothing, s.one)
				s.notify("n2", false, nothing, s.one)
				s.Go("canceller", ctx.Cancel)
				return func() error {
					if !w2.succeeded() || !w1.returned {
						return errors.New("a notification is lost")
					}
					return s.exact()
				}
			},
		},
		{
			Name:      "CondTwoKindsOfWaiters",
			Invariant: "two without a context, and one between them who is canceled, are woken in the order in which they came",
			Bound:     toTheEnd,
			Setup: func(r *Run) func() error {
				s := newCondScene(r)
				ctx := r.Context()
				w1, w2, w3 := s.wait("w1", nil), s.wait("w2", ctx), s.wait("w3", nil)
				r.Settle()
				s.notify("n1", false, nothing, s.one)
				s.notify("n2", true, nothing, s.one)
				s.Go("canceller", ctx.Cancel)
				return func() error {
					if !w1.succeeded() || w3.succeeded() != w2.failed() {
						return fmt.Errorf("the first: %t, the second: %w, the third: %t", w1.returned, w2.err, w3.returned)
					}
					return s.exact()
				}
			},
		},
		{
			Name:      "CondJoinRacingNotifyN",
			Invariant: "three without a context, two of them late, NotifyN(2) and NotifyAll: as many return nil as were woken",
			Bound:     1,
			LongBound: toTheEnd,
			Setup: func(r *Run) func() error {
				s := newCondScene(r)
				w1 := s.wait("w1", nil)
				r.Settle()
				s.wait("w2", nil)
				s.wait("w3", nil)
				s.notify("two", false, nothing, func() int { return s.c.NotifyN(2) })
				s.notify("all", false, nothing, s.c.NotifyAll)
				return func() error {
					if !w1.succeeded() {
						return errors.New("who was in line is not woken")
					}
					return s.exact()
				}
			},
		},
		{
			Name:      "CondTwoNotifiersOneWaiter",
			Invariant: "no Notify returns false while somebody waits, unless another one wakes it",
			Bound:     toTheEnd,
			Setup: func(r *Run) func() error {
				s := newCondScene(r)
				ctx := r.Context()
				s.wait("waiter", ctx)
				r.Settle()
				overlooked := false
				for _, name := range []string{"n1", "n2"} {
					s.Go(name, func() {
						woken := s.one()
						s.Note(s)
						s.woken += woken
						overlooked = overlooked || woken == 0 && !ctx.Canceled()
					})
				}
				s.Go("canceller", ctx.Cancel)
				return func() error {
					if s.woken == 0 && overlooked {
						return errors.New("a Notify overlooked the waiter")
					}
					return s.exact()
				}
			},
		},
		{
			Name:      "CondFirstUse",
			Invariant: "a Cond that nobody has used before works when all use it at once",
			Bound:     toTheEnd,
			Setup: func(r *Run) func() error {
				s := newCondScene(r)
				s.c = condvar.NewCond(s.l)
				ready := false
				s.waitFor("waiter", nil, func() bool { return ready }, nil)
				s.notify("notifier", false, func() { ready = true }, s.one)
				r.Go("reader", func() { s.c.Waiters() })
				return func() error {
					if !s.calls[0].returned {
						return errors.New("it is ready, but the waiter sleeps")
					}
					return s.inLine()
				}
			},
		},
		{
			Name:      "CondQueue",
			Invariant: "never is there data while a consumer sleeps, though one is canceled",
			Bound:     toTheEnd,
			Setup: func(r *Run) func() error {
				s := newCondScene(r)
				ctx, data := r.Context(), 0
				has, use := func() bool { return data > 0 }, func() { data-- }
				s.waitFor("c1", ctx, has, use)
				s.waitFor("c2", r.Context(), has, use)
				s.notify("producer", false, func() { data++ }, s.one)
				s.Go("canceller", ctx.Cancel)
				return func() error { return s.noDataLeft(data) }
			},
		},
		{
			Name:      "CondWaitForCanceledWhileLocking",
			Invariant: "a WaitFor whose context ends while it locks either uses what it was woken for, or the next one does",
			Bound:     toTheEnd,
			Setup: func(r *Run) func() error {
				s := newCondScene(r)
				ctx, data := r.Context(), 0
				has, use := func() bool { return data > 0 }, func() { data-- }
				s.waitFor("c1", ctx, has, use)
				s.waitFor("c2", r.Context(), has, use)
				r.Settle()
				s.notify("producer", true, func() { data++ }, s.one)
				s.Go("canceller", ctx.Cancel)
				s.Go("thief", func() { // takes what was meant for others
					s.l.Lock()
					data = max(0, data-1)
					s.l.Unlock()
				})
				return func() error { return s.noDataLeft(data) }
			},
		},
		{
			Name:      "CondTwoProducers",
			Invariant: "two things, two notifications, two consumers, one of them canceled: nothing lies there while anybody sleeps",
			Bound:     toTheEnd,
			Setup: func(r *Run) func() error {
				s := newCondScene(r)
				ctx, data := r.Context(), 0
				has, use := func() bool { return data > 0 }, func() { data-- }
				s.waitFor("c1", ctx, has, use)
				s.waitFor("c2", nil, has, use)
				s.notify("p1", true, func() { data++ }, s.one)
				s.notify("p2", false, func() { data++ }, s.one)
				s.Go("canceller", ctx.Cancel)
				return func() error { return s.noDataLeft(data) }
			},
		},
		{
			Name:      "CondFutileWakeUpJoinsTheEnd",
			Invariant: "a WaitFor whose wake-up was futile is behind those who were in line: the next Notify is for the second",
			Bound:     toTheEnd,
			Setup: func(r *Run) func() error {
				s := newCondScene(r)
				ready := false
				s.waitFor("first", nil, func() bool { return ready }, nil)
				second := s.wait("second", nil)
				r.Settle()
				s.c.Notify() // is futile, unless the first looks late
				s.wait("third", nil)
				s.notify("notifier", false, func() { ready = true }, s.one)
				return func() error {
					if s.woken != 1 || !second.succeeded() {
						return errors.New("the second was first in line, but it sleeps")
					}
					return s.inLine()
				}
			},
		},
		{
			Name:      "CondNotificationsGoRound",
			Invariant: "two wait for different things: of two notifications one is for the one whose thing has come, though the other may be canceled",
			Bound:     1,
			LongBound: toTheEnd,
			Setup: func(r *Run) func() error {
				s := newCondScene(r)
				ctx, has := r.Context(), false
				s.waitFor("never", ctx, func() bool { return false }, nil)
				second := s.waitFor("second", nil, func() bool { return has }, nil)
				r.Settle()
				has = true
				s.notify("n1", true, nothing, s.one)
				s.notify("n2", false, nothing, s.one)
				s.Go("canceller", ctx.Cancel)
				return func() error {
					if !second.succeeded() {
						return errors.New("the second could go on, but it sleeps")
					}
					return s.inLine()
				}
			},
		},
		{
			Name:      "CondCanceledWaitForTakesNothing",
			Invariant: "a WaitFor that was canceled first does not look again, and leaves what comes then to the next",
			Bound:     toTheEnd,
			Setup: func(r *Run) func() error {
				s := newCondScene(r)
				ctx, data, looks := r.Context(), 0, 0
				use := func() { data-- }
				gone := s.waitFor("gone", ctx, func() bool { looks++; return data > 0 }, use)
				next := s.waitFor("next", nil, func() bool { return data > 0 }, use)
				r.Settle()
				s.Go("cancels", func() {
					ctx.Cancel()
					s.l.Lock()
					data++
					s.woken = s.one()
					s.l.Unlock()
				})
				return func() error {
					if s.woken != 1 || looks != 1 || !gone.failed() || !next.succeeded() {
						return fmt.Errorf("%d woken; after %d looks the canceled one has %w; the next got it: %v", s.woken, looks, gone.err, next.succeeded())
					}
					return s.inLine()
				}
			},
		},
		{
			Name:      "CondWaitForPassesOn",
			Invariant: "a notification that WaitFor has not spent when its context ends goes to the next in line",
			Bound:     toTheEnd,
			Setup: func(r *Run) func() error {
				s := newCondScene(r)
				l := &countingLocker{Mutex: s.l}
				s.c.L = l
				ctx := r.Context()
				first := s.waitFor("first", ctx, func() bool { return false }, nil)
				second := s.wait("second", nil)
				r.Settle()
				s.Go("notifier", func() { s.woken = s.one() })
				s.Go("canceller", ctx.Cancel)
				return func() error {
					// The third time that L is unlocked by a wait, the first has joined
					// the line again, and spent the notification.
					if spent := l.unlocks == 3; s.woken != 1 || !first.failed() || second.returned == spent {
						return fmt.Errorf("the first has spent the notification: %v, the second is notified: %v", spent, second.returned)
					}
					return s.inLine()
				}
			},
		},
		{
			Name:      "CondWaiterReusedWhileItsWaitLocks",
			Invariant: "a notification is passed on though the waiter that brought it is used by another call by then",
			Bound:     toTheEnd,
			Setup: func(r *Run) func() error {
				s := newCondScene(r)
				l := &countingLocker{Mutex: s.l}
				s.c.L = l
				ctx := r.Context()
				first := s.waitFor("first", ctx, func() bool { return false }, nil)
				second := s.wait("second", nil)
				r.Settle()
				s.c.Notify() // the first is awake, and stands before it puts its waiter back
				late := s.wait("late", nil)
				s.Go("canceller", ctx.Cancel)
				return func() error {
					// The fourth time that L is unlocked by a wait, the first has joined
					// the line again, and spent the notification.
					if spent := l.unlocks == 4; !first.failed() || second.returned == spent || late.returned {
						return fmt.Errorf("the first has spent the notification: %v, the second is notified: %v", spent, second.returned)
					}
					return s.inLine()
				}
			},
		},
		{
			Name:      "CondPassedOverAndRecycled",
			Invariant: "who is canceled as a Notify comes gets it or is passed over, and its next wait finds nothing of that",
			Bound:     toTheEnd,
			Setup: func(r *Run) func() error {
				s := newCondScene(r)
				ctx, over := r.Context(), make(Gate, 1)
				var first error
				again := &call{name: "again"}
				s.Go("again", func() {
					s.l.Lock()
					defer s.l.Unlock()
					first = s.c.Wait(ctx)
					s.l.Unlock()
					over.Pass()
					s.l.Lock()
					again.err = s.c.Wait(context.Background())
					again.returned = true
				})
				next := s.wait("next", nil)
				s.calls = append(s.calls, again)
				r.Settle()
				s.Go("notifier", func() {
					s.woken = s.one()
					over.Open()
				})
				s.Go("canceller", ctx.Cancel)
				return func() error {
					if s.woken != 1 || (first == nil) == next.returned || again.returned {
						return fmt.Errorf("the first wait: %w; the next got it: %v; the second wait ended: %v", first, next.returned, again.returned)
					}
					return s.inLine()
				}
			},
		},
		{
			Name:      "CondPoolPushesAndPops",
			Invariant: "no waiter is of two waits at once, though two are put back while others are taken: all three late ones are woken once",
			Bound:     1,
			LongBound: 2,
			Setup: func(r *Run) func() error {
				s := newCondScene(r)
				for i := range 3 {
					s.wait(fmt.Sprintf("early%d", i+1), nil)
				}
				r.Settle()
				s.c.Notify() // the first puts its waiter back
				r.Settle()
				s.c.NotifyN(2) // the other two are about to
				for i := range 3 {
					s.wait(fmt.Sprintf("late%d", i+1), nil)
				}
				return func() error {
					if n := s.c.Waiters(); n != 3 {
						return fmt.Errorf("%d in line", n)
					}
					for range 3 {
						if !s.c.Notify() {
							return errors.New("somebody waits, but nobody is in line")
						}
						r.Settle()
						s.woken++
					}
					if n := count(s.calls, (*call).succeeded); n != 6 {
						return fmt.Errorf("%d have returned", n)
					}
					return s.inLine()
				}
			},
		},
		{
			Name:      "CondBroadcastAndPanickingLock",
			Invariant: "if L.Lock panics after a NotifyAll, nobody who came later gets anything of it, though there was another NotifyAll meanwhile",
			Bound:     toTheEnd,
			Setup: func(r *Run) func() error {
				s := newCondScene(r)
				s.c.L = &lockPanics{Mutex: s.l, name: "first"}
				return broadcastLeavesNothing(s, func() {
					s.l.Lock()
					_ = s.c.Wait(context.Background())
				})
			},
		},
		{
			Name:      "CondBroadcastAndPanickingPredicate",
			Invariant: "the same if a predicate panics",
			Bound:     1,
			LongBound: toTheEnd,
			Setup: func(r *Run) func() error {
				s := newCondScene(r)
				return broadcastLeavesNothing(s, func() {
					s.l.Lock()
					defer s.l.Unlock()
					looks := 0
					_ = s.c.WaitFor(context.Background(), func() bool {
						if looks++; looks > 1 {
							panic(expected)
						}
						return false
					})
				})
			},
		},
		{
			Name:      "CondBroadcastAndCanceledWaitFor",
			Invariant: "the same if the context of a WaitFor ends",
			Bound:     0,
			LongBound: 1,
			Setup: func(r *Run) func() error {
				s := newCondScene(r)
				ctx := r.Context()
				check := broadcastLeavesNothing(s, func() {
					s.l.Lock()
					defer s.l.Unlock()
					_ = s.c.WaitFor(ctx, func() bool { return false })
				})
				s.Go("canceller", ctx.Cancel)
				return check
			},
		},
		{
			Name:      "CondNotifyAllLateArrival",
			Invariant: "NotifyAll wakes those in line before it, and not whoever joins during it",
			Bound:     toTheEnd,
			Setup: func(r *Run) func() error {
				s := newCondScene(r)
				early := s.wait("early", r.Context())
				r.Settle()
				s.wait("late", r.Context())
				s.notify("notifier", false, nothing, s.c.NotifyAll)
				return func() error {
					if !early.succeeded() {
						return errors.New("who was in line is not woken")
					}
					return s.exact()
				}
			},
		},
		{
			Name:      "CondNotifyAllTwiceAndCancel",
			Invariant: "each Wait is woken by one of two broadcasts, once, or canceled",
			Bound:     1,
			LongBound: toTheEnd,
			Setup: func(r *Run) func() error {
				s := newCondScene(r)
				ctx := r.Context()
				s.wait("w1", ctx)
				s.wait("w2", r.Context())
				r.Settle()
				s.wait("w3", nil)
				s.notify("n1", false, nothing, s.c.NotifyAll)
				s.notify("n2", false, nothing, s.c.NotifyAll)
				s.Go("canceller", ctx.Cancel)
				return s.exact
			},
		},
		{
			Name:      "CondFirstWokenCancelsTheSecond",
			Invariant: "a broadcast wakes both who wait, though the first to run cancels the second",
			Bound:     toTheEnd,
			Setup: func(r *Run) func() error {
				s := newCondScene(r)
				ctx := r.Context()
				var first error
				s.Go("first", func() {
					s.l.Lock()
					first = s.c.Wait(context.Background())
					s.l.Unlock()
					ctx.Cancel()
				})
				r.Settle()
				second := s.wait("second", ctx)
				r.Settle()
				woken := 0
				s.Go("notifier", func() { woken = s.c.NotifyAll() })
				return func() error {
					if woken != 2 || first != nil || !second.succeeded() {
						return fmt.Errorf("%d woken, first: %w, second: %w", woken, first, second.err)
					}
					return nil
				}
			},
		},
		{
			Name:      "CondNotifyNAndTwoCancels",
			Invariant: "NotifyN(2) for three in line, two of which are canceled: as many return nil as it woke",
			Bound:     toTheEnd,
			Setup: func(r *Run) func() error {
				s := newCondScene(r)
				ctx1, ctx2 := r.Context(), r.Context()
				s.wait("w1", ctx1)
				s.wait("w2", ctx2)
				w3 := s.wait("w3", r.Context())
				r.Settle()
				s.Go("notifier", func() { s.woken = s.c.NotifyN(2) })
				s.Go("canceller1", ctx1.Cancel)
				s.Go("canceller2", ctx2.Cancel)
				return func() error {
					if s.woken == 0 || s.woken < 2 && !w3.succeeded() {
						return fmt.Errorf("%d woken, though w3 was in line", s.woken)
					}
					return s.exact()
				}
			},
		},
		{
			Name:      "CondWaitersRecycled",
			Invariant: "who waits again, with what is left of an earlier wait, finds no stale notification",
			Bound:     1,
			LongBound: 3,
			Setup: func(r *Run) func() error {
				s := newCondScene(r)
				ctx := r.Context()
				again := r.Context()
				var waits [2]error
				returned := 0
				s.Go("again", func() {
					for i := range waits {
						s.l.Lock()
						waits[i] = s.c.Wait(again)
						if waits[i] == nil {
							returned++
						}
						s.l.Unlock()
					}
				})
				other := s.wait("other", ctx)
				s.notify("n1", false, nothing, s.one)
				s.notify("n2", true, nothing, s.one)
				s.Go("canceller", ctx.Cancel)
				return func() error {
					got := returned
					if other.succeeded() {
						got++
					}
					if got != s.woken {
						return fmt.Errorf("%d were notified, but %d returned nil", s.woken, got)
					}
					return errors.Join(waits[0], waits[1])
				}
			},
		},
		{
			Name:      "CondPanickingPredicate",
			Invariant: "a notification whose waiter panics goes to the next in line",
			Bound:     toTheEnd,
			Setup: func(r *Run) func() error {
				return leavesWithout(r, func() { panic(expected) })
			},
		},
		{
			Name:      "CondGoexitInPredicate",
			Invariant: "a notification whose waiter calls Goexit goes to the next in line",
			Bound:     toTheEnd,
			Setup: func(r *Run) func() error {
				return leavesWithout(r, runtime.Goexit)
			},
		},
		{
			Name:      "CondPanickingUnlock",
			Invariant: "if L.Unlock panics nobody is left in line for it, and a notification that came by then goes to the next",
			Bound:     toTheEnd,
			Setup: func(r *Run) func() error {
				return unlockPanics(r, 0, func(c *condvar.Cond) { _ = c.Wait(context.Background()) })
			},
		},
		{
			Name:      "CondPanickingUnlockWithAContext",
			Invariant: "the same in a Wait with a context",
			Bound:     toTheEnd,
			Setup: func(r *Run) func() error {
				return unlockPanics(r, 0, func(c *condvar.Cond) { _ = c.Wait(r.Context()) })
			},
		},
		{
			Name:      "CondPanickingUnlockOfWaitFor",
			Invariant: "the same in WaitFor",
			Bound:     toTheEnd,
			Setup: func(r *Run) func() error {
				return unlockPanics(r, 0, func(c *condvar.Cond) { _ = c.WaitFor(context.Background(), func() bool { return false }) })
			},
		},
		{
			Name:      "CondPanickingUnlockBetweenOthers",
			Invariant: "if L.Unlock panics for one in the middle of the line, those before and behind it get two notifications",
			Bound:     toTheEnd,
			Setup: func(r *Run) func() error {
				return unlockPanics(r, 1, func(c *condvar.Cond) { _ = c.Wait(context.Background()) })
			},
		},
		{
			Name:      "CondPanickingUnlockRacingNotifyAll",
			Invariant: "if L.Unlock panics, a notification of NotifyAll that came by then is gone: nobody who comes later gets it",
			Bound:     toTheEnd,
			Setup: func(r *Run) func() error {
				s := newCondScene(r)
				joined, over := make(Gate, 1), make(Gate, 1)
				l := &brokenLocker{Mutex: s.l}
				s.c.L = l
				early := s.wait("early", nil)
				r.Settle()
				l.joined = joined
				s.Go("panics", func() {
					defer func() { _ = recover() }()
					s.l.Lock()
					_ = s.c.Wait(context.Background())
				})
				s.Go("notifier", func() {
					joined.Pass()
					s.woken = s.c.NotifyAll()
					over.Open()
				})
				late := s.waitBehind("late", over, nil)
				return func() error {
					if s.woken < 1 || s.woken > 2 || !early.succeeded() || late.returned {
						return fmt.Errorf("%d woken; early: %v, late: %v", s.woken, early.returned, late.returned)
					}
					return s.inLine()
				}
			},
		},
		{
			Name:      "ListenerStopRacingNotify",
			Invariant: "a notification is received, or Stop passes it on; never both, never neither",
			Bound:     toTheEnd,
			Setup: func(r *Run) func() error {
				s := newCondScene(r)
				ctx := r.Context()
				l := s.c.Listen()
				received, stopped := false, false
				s.Go("listener", func() {
					received = r.Receive(ctx, l.C)
					stopped = l.Stop()
				})
				next := s.wait("next", nil)
				r.Settle()
				s.Go("notifier", func() { s.woken = s.one() })
				s.Go("canceller", ctx.Cancel)
				return func() error {
					switch {
					case s.woken != 1:
						return errors.New("two were in line, but nobody was notified")
					case received == next.returned:
						return fmt.Errorf("received: %v, passed on: %v", received, next.returned)
					case received && stopped:
						return errors.New("a Stop says it was in line, but it was notified")
					}
					return s.inLine()
				}
			},
		},
		{
			Name:      "ListenerStoppedTwiceAndReceived",
			Invariant: "of two Stops and a receive, one gets the notification; if a Stop does, it goes to the next in line",
			Bound:     toTheEnd,
			Setup: func(r *Run) func() error {
				s := newCondScene(r)
				ctx := r.Context()
				l := s.c.Listen()
				var stops [2]bool
				received := false
				next := s.wait("next", nil)
				r.Settle()
				s.Go("receiver", func() { received = r.Receive(ctx, l.C) })
				s.Go("stop1", func() { stops[0] = l.Stop() })
				s.Go("stop2", func() { stops[1] = l.Stop() })
				s.Go("notifier", func() { s.woken = s.one() })
				return func() error {
					switch {
					case s.woken != 1:
						return errors.New("somebody was in line, but nobody was notified")
					case received == next.returned:
						return fmt.Errorf("received: %v, passed on: %v", received, next.returned)
					case stops[0] && stops[1]:
						return errors.New("both Stops say that it was in line")
					}
					return s.inLine()
				}
			},
		},
		{
			Name:      "ListenersBroadcast",
			Invariant: "a broadcast reaches a Listener, a Wait and a WaitFor; what a Stop finds of it is not passed on",
			Bound:     toTheEnd,
			Setup: func(r *Run) func() error {
				s := newCondScene(r)
				l := s.c.Listen()
				wait := s.wait("wait", nil)
				ready := false
				s.waitFor("waitFor", nil, func() bool { return ready }, nil)
				r.Settle()
				inLine := false
				s.Go("stop", func() { inLine = l.Stop() })
				s.notify("notifier", true, func() { ready = true }, s.c.NotifyAll)
				late := s.wait("late", nil)
				return func() error {
					if !wait.returned || !s.calls[1].returned {
						return errors.New("who was in line is not woken")
					}
					woken := 2
					if late.returned {
						woken++
					}
					if !inLine {
						woken++
					}
					if s.woken != woken {
						return fmt.Errorf("%d were woken, but NotifyAll says %d", woken, s.woken)
					}
					return s.inLine()
				}
			},
		},
	}
}

func eventScenes() []*Scene {
	return []*Scene{
		{
			Name:      "EventWaitRacingSet",
			Invariant: "nobody sleeps while the event is set",
			Bound:     toTheEnd,
			Setup: func(r *Run) func() error {
				s := newEventScene(r)
				s.wait("w1", nil)
				s.wait("w2", r.Context())
				s.Go("setter", s.e.Set)
				return func() error {
					if count(s.calls, (*call).succeeded) != 2 {
						return errors.New("somebody sleeps")
					}
					return s.atRest()
				}
			},
		},
		{
			Name:      "EventFirstUse",
			Invariant: "an Event that nobody has used before works when all use it at once",
			Bound:     toTheEnd,
			Setup: func(r *Run) func() error {
				s := newEventScene(r)
				s.e = &condvar.Event{}
				s.wait("waiter", nil)
				s.Go("setter", s.e.Set)
				s.Go("reader", func() { s.e.Waiters() })
				return func() error {
					if !s.calls[0].succeeded() {
						return errors.New("the event is set, but the waiter sleeps")
					}
					return s.atRest()
				}
			},
		},
		{
			Name:      "EventPulseWithCancel",
			Invariant: "Set and Clear release everybody who waited before, but one may be canceled first",
			Bound:     toTheEnd,
			Setup: func(r *Run) func() error {
				s := newEventScene(r)
				ctx := r.Context()
				w1, w2 := s.wait("w1", ctx), s.wait("w2", nil)
				r.Settle()
				s.Go("pulse", func() {
					s.e.Set()
					s.e.Clear()
				})
				s.Go("canceller", ctx.Cancel)
				return func() error {
					if !w1.returned || !w2.succeeded() {
						return errors.New("somebody missed the pulse")
					}
					return s.atRest()
				}
			},
		},
		{
			Name:      "EventPulseLateArrival",
			Invariant: "whoever comes during a pulse is released by it or waits for the next",
			Bound:     toTheEnd,
			Setup: func(r *Run) func() error {
				s := newEventScene(r)
				early := s.wait("early", nil)
				r.Settle()
				s.wait("late", nil)
				s.Go("pulse", func() {
					s.e.Set()
					s.e.Clear()
				})
				return func() error {
					if !early.succeeded() {
						return errors.New("who waited before the pulse missed it")
					}
					return s.atRest()
				}
			},
		},
		{
			Name:      "EventClearAndWaitRacingSet",
			Invariant: "a Wait that begins after a Clear returns only if the event was set since, and nobody has cleared it",
			Bound:     toTheEnd,
			Setup: func(r *Run) func() error {
				s := newEventScene(r)
				s.wait("early", nil)
				r.Settle()
				late := &call{name: "late"}
				s.calls = append(s.calls, late)
				s.Go("setter", s.e.Set)
				s.Go("late", func() {
					s.e.Clear()
					late.err = s.e.Wait(context.Background())
					late.returned = true
				})
				return func() error {
					if late.returned && !s.e.IsSet() {
						return errors.New("the late one was released by a Set before its Clear")
					}
					return s.atRest()
				}
			},
		},
		{
			Name:      "EventSetThenCancel",
			Invariant: "Set and then cancel gives nil; cancel and then Set gives the error",
			Bound:     toTheEnd,
			Setup: func(r *Run) func() error {
				s := newEventScene(r)
				ctx1, ctx2 := r.Context(), r.Context()
				w1, w2 := s.wait("w1", ctx1), s.wait("w2", ctx2)
				r.Settle()
				s.Go("both", func() {
					ctx2.Cancel()
					s.e.Set()
					ctx1.Cancel()
				})
				return func() error {
					if !w1.succeeded() || !w2.failed() {
						return fmt.Errorf("set first: %w, canceled first: %w", w1.err, w2.err)
					}
					return s.atRest()
				}
			},
		},
		{
			Name:      "EventSeenSetThenCancel",
			Invariant: "whoever sees the event set, and then cancels a wait, comes too late",
			Bound:     toTheEnd,
			Setup: func(r *Run) func() error {
				s := newEventScene(r)
				ctx := r.Context()
				w := s.wait("w", ctx)
				r.Settle()
				s.Go("setter", s.e.Set)
				s.Go("canceller", func() {
					if s.e.IsSet() {
						ctx.Cancel()
					}
				})
				return func() error {
					if !w.succeeded() {
						return fmt.Errorf("w: %w", w.err)
					}
					return s.atRest()
				}
			},
		},
		{
			Name:      "EventPassedOverAndRecycled",
			Invariant: "who is canceled as a pulse comes is released or passed over, and its next wait finds nothing of that",
			Bound:     toTheEnd,
			Setup: func(r *Run) func() error {
				s := newEventScene(r)
				ctx, over := r.Context(), make(Gate, 1)
				again := &call{name: "again"}
				s.Go("again", func() {
					_ = s.e.Wait(ctx)
					over.Pass()
					again.err = s.e.Wait(context.Background())
					again.returned = true
				})
				other := s.wait("other", r.Context())
				s.calls = append(s.calls, again)
				r.Settle()
				s.Go("pulse", func() {
					s.e.Set()
					s.e.Clear()
					over.Open()
				})
				s.Go("canceller", ctx.Cancel)
				return func() error {
					if !other.succeeded() || again.returned {
						return fmt.Errorf("the other is released: %v, the second wait: %v", other.returned, again.returned)
					}
					return s.atRest()
				}
			},
		},
		{
			Name:      "EventSetAndClearByTwo",
			Invariant: "nobody sleeps while the event is set, whatever order Set and Clear came in",
			Bound:     toTheEnd,
			Setup: func(r *Run) func() error {
				s := newEventScene(r)
				ctx := r.Context()
				s.wait("w1", ctx)
				s.wait("w2", nil)
				s.Go("setter", s.e.Set)
				s.Go("clearer", s.e.Clear)
				s.Go("canceller", ctx.Cancel)
				return s.atRest
			},
		},
	}
}

func resourceScenes() []*Scene {
	return []*Scene{
		{
			Name:      "ResourceMutualExclusion",
			Invariant: "of capacity 1, never two hold",
			Bound:     toTheEnd,
			Setup: func(r *Run) func() error {
				s := newResourceScene(r, 1)
				for _, name := range []string{"a", "b"} {
					c := &call{name: name}
					s.calls = append(s.calls, c)
					s.Go(name, func() {
						c.err = s.r.Acquire(context.Background())
						c.returned = true
						s.took(1, 1)
						s.gives(1)
						s.r.Release()
					})
				}
				return func() error {
					if count(s.calls, (*call).succeeded) != 2 {
						return errors.New("somebody sleeps")
					}
					return s.atRest()
				}
			},
		},
		{
			Name:      "ResourceThreeTakeTurns",
			Invariant: "of capacity 2, never three hold, and all get their turn",
			Bound:     2,
			LongBound: 3,
			Setup: func(r *Run) func() error {
				s := newResourceScene(r, 2)
				for _, name := range []string{"a", "b", "c"} {
					c := &call{name: name}
					s.calls = append(s.calls, c)
					s.Go(name, func() {
						c.err = s.r.Acquire(context.Background())
						c.returned = true
						s.took(1, 2)
						s.gives(1)
						s.r.Release()
					})
				}
				return func() error {
					if count(s.calls, (*call).succeeded) != 3 {
						return errors.New("somebody sleeps")
					}
					return s.atRest()
				}
			},
		},
		{
			Name:      "ResourceJoinRacingRelease",
			Invariant: "a release between the look at the state and the line is not missed",
			Bound:     toTheEnd,
			Setup: func(r *Run) func() error {
				s := newResourceScene(r, 1)
				s.hold(1)
				s.acquire("a", r.Context(), 1)
				s.release("release", 1)
				return func() error {
					if !s.calls[0].succeeded() {
						return errors.New("it is free, but a sleeps")
					}
					return s.atRest()
				}
			},
		},
		{
			Name:      "ResourceHeadCanceledWhileReleaseLands",
			Invariant: "the permit goes to the head, or, if that is canceled, to the next",
			Bound:     toTheEnd,
			Setup: func(r *Run) func() error {
				s := newResourceScene(r, 1)
				s.hold(1)
				ctx := r.Context()
				head := s.acquire("head", ctx, 1)
				next := s.acquire("next", nil, 1)
				r.Settle()
				s.release("release", 1)
				s.Go("canceller", ctx.Cancel)
				return func() error {
					if head.succeeded() == next.succeeded() {
						return fmt.Errorf("head got it: %v, next got it: %v", head.succeeded(), next.succeeded())
					}
					return s.atRest()
				}
			},
		},
		{
			Name:      "ResourceTwoCancelsAtOnce",
			Invariant: "when the first two in line give up, the third, which fits, gets in",
			Bound:     toTheEnd,
			Setup: func(r *Run) func() error {
				s := newResourceScene(r, 2, condvar.FIFO()) // the third would barge
				s.hold(1)
				ctx1, ctx2 := r.Context(), r.Context()
				s.acquire("first", ctx1, 2)
				s.acquire("second", ctx2, 2)
				third := s.acquire("third", nil, 1)
				r.Settle()
				s.Go("canceller1", ctx1.Cancel)
				s.Go("canceller2", ctx2.Cancel)
				return func() error {
					if !third.succeeded() {
						return errors.New("it fits, but the third sleeps")
					}
					return s.atRest()
				}
			},
		},
		{
			Name:      "ResourceReleaseOfMany",
			Invariant: "one release of three lets three in, though one of them may be canceled",
			Bound:     toTheEnd,
			Setup: func(r *Run) func() error {
				s := newResourceScene(r, 3)
				s.hold(3)
				ctx := r.Context()
				s.acquire("first", nil, 1)
				s.acquire("second", ctx, 1)
				s.acquire("third", nil, 1)
				r.Settle()
				s.release("release", 3)
				s.Go("canceller", ctx.Cancel)
				return func() error {
					if !s.calls[0].succeeded() || !s.calls[2].succeeded() {
						return errors.New("somebody who fits sleeps")
					}
					return s.atRest()
				}
			},
		},
		{
			Name:      "ResourceTwoReleasesTwoInLine",
			Invariant: "two releases at once let two in",
			Bound:     toTheEnd,
			Setup: func(r *Run) func() error {
				s := newResourceScene(r, 2)
				s.hold(2)
				s.acquire("first", nil, 1)
				s.acquire("second", nil, 1)
				r.Settle()
				s.release("release1", 1)
				s.release("release2", 1)
				return func() error {
					if count(s.calls, (*call).succeeded) != 2 {
						return errors.New("somebody who fits sleeps")
					}
					return s.atRest()
				}
			},
		},
		{
			Name:      "ResourceBigHead",
			Invariant: "a large request at the head gets in before the small one behind it, or is canceled",
			Bound:     toTheEnd,
			Setup: func(r *Run) func() error {
				s := newResourceScene(r, 2)
				s.hold(2)
				ctx := r.Context()
				big := s.acquire("big", ctx, 2)
				small := s.acquire("small", nil, 1)
				r.Settle()
				s.Go("releases", func() {
					s.giveBack(1)
					s.giveBack(1)
				})
				s.Go("canceller", ctx.Cancel)
				return func() error {
					if big.succeeded() == small.succeeded() {
						return fmt.Errorf("big got in: %v, small got in: %v", big.succeeded(), small.succeeded())
					}
					return s.atRest()
				}
			},
		},
		{
			Name:      "ResourceTryAcquireAgainstTheLineFIFO",
			Invariant: "with FIFO, TryAcquire gets nothing while somebody waits",
			Bound:     toTheEnd,
			Setup: func(r *Run) func() error {
				s := newResourceScene(r, 2, condvar.FIFO())
				s.hold(2)
				ctx := r.Context()
				s.acquire("head", ctx, 2) // what is released is not enough for it
				r.Settle()
				overtaken := s.try("try", 1, ctx)
				s.release("release", 1)
				s.Go("canceller", ctx.Cancel)
				return func() error {
					if *overtaken {
						return errors.New("TryAcquire overtook the line")
					}
					return s.atRest()
				}
			},
		},
		{
			Name:      "ResourceNewcomerAgainstTheLineFIFO",
			Invariant: "with FIFO, a newcomer is served after those in line",
			Bound:     toTheEnd,
			Setup: func(r *Run) func() error {
				s := newResourceScene(r, 1, condvar.FIFO())
				s.hold(1)
				ctx := r.Context()
				head := s.acquire("head", ctx, 1)
				r.Settle()
				newcomer := s.acquire("newcomer", r.Context(), 1)
				s.release("release", 1)
				s.Go("canceller", ctx.Cancel)
				return func() error {
					if newcomer.succeeded() == head.succeeded() {
						return fmt.Errorf("the newcomer got in: %v, the head got in: %v", newcomer.succeeded(), head.succeeded())
					}
					return s.atRest()
				}
			},
		},
		{
			Name:      "ResourceTryAcquireAgainstTheLine",
			Invariant: "a TryAcquire may overtake the line, which then waits for the next release",
			Bound:     toTheEnd,
			Setup: func(r *Run) func() error {
				s := newResourceScene(r, 1)
				s.hold(1)
				ctx := r.Context()
				s.acquire("head", ctx, 1)
				r.Settle()
				s.Go("try", func() {
					if s.r.TryAcquire() {
						s.took(1, 1)
						s.giveBack(1)
					}
				})
				s.release("release", 1)
				s.Go("canceller", ctx.Cancel)
				return s.atRest
			},
		},
		{
			Name:      "ResourceNobodyOvertakesTheStarving",
			Invariant: "after the release that finds the head old nobody overtakes it",
			Bound:     toTheEnd,
			Setup: func(r *Run) func() error {
				s := newResourceScene(r, 1)
				s.hold(1)
				ctx := r.Context()
				s.acquire("head", ctx, 1)
				r.Settle()
				time.Sleep(time.Millisecond)
				overtaken := false
				s.Go("release", func() {
					s.giveBack(1)
					if s.r.TryAcquire() {
						s.took(1, 1)
						overtaken = !ctx.Canceled()
					}
				})
				s.Go("canceller", ctx.Cancel)
				return func() error {
					if overtaken {
						return errors.New("the starving head was overtaken")
					}
					return s.atRest()
				}
			},
		},
		{
			Name:      "ResourceStarvingEndsWithItsHead",
			Invariant: "when the starving head is canceled, a young one behind it may be overtaken again",
			Bound:     toTheEnd,
			Setup: func(r *Run) func() error {
				s := newResourceScene(r, 2)
				s.hold(2)
				ctx := r.Context()
				s.acquire("head", ctx, 2)
				r.Settle()
				time.Sleep(time.Millisecond)
				s.acquire("young", nil, 2)
				r.Settle()
				s.release("release", 1)
				s.Go("canceller", ctx.Cancel)
				return func() error {
					if err := s.atRest(); err != nil {
						return err
					}
					if !s.r.TryAcquire() {
						return errors.New("one is free, and the head is young, but it cannot be taken")
					}
					return nil
				}
			},
		},
		{
			Name:      "ResourceStarvingHeadCanceled",
			Invariant: "the starving flag goes with the head: a newcomer gets in",
			Bound:     1,
			LongBound: toTheEnd,
			Setup: func(r *Run) func() error {
				s := newResourceScene(r, 2)
				s.hold(2)
				ctx := r.Context()
				s.acquire("head", ctx, 2)
				r.Settle()
				s.Go("clock", func() { r.Advance(time.Millisecond) })
				s.release("release", 1) // not enough for the head
				s.Go("canceller", ctx.Cancel)
				newcomer := s.acquire("newcomer", nil, 1)
				return func() error {
					if !newcomer.succeeded() {
						return errors.New("a permit is free, but the newcomer sleeps")
					}
					return s.atRest()
				}
			},
		},
		{
			Name:      "ResourceGrowRacingRelease",
			Invariant: "two in line, one permit grown and one released: both get in",
			Bound:     toTheEnd,
			Setup: func(r *Run) func() error {
				s := newResourceScene(r, 1)
				s.hold(1)
				s.acquire("first", nil, 1)
				s.acquire("second", nil, 1)
				r.Settle()
				s.release("release", 1)
				s.Go("grow", func() { s.r.Resize(2) })
				return func() error {
					if count(s.calls, (*call).succeeded) != 2 {
						return errors.New("somebody who fits sleeps")
					}
					return s.atRest()
				}
			},
		},
		{
			Name:      "ResourceShrinkRacingAll",
			Invariant: "a shrink lets nobody in until enough has come back, and releases that it races are not taken for too many",
			Bound:     toTheEnd,
			Setup: func(r *Run) func() error {
				s := newResourceScene(r, 2)
				s.hold(2)
				s.acquire("waiter", r.Context(), 1)
				r.Settle()
				s.release("release", 1)
				s.Go("shrink", func() { s.r.Resize(1) })
				s.try("try", 1, r.Context())
				return func() error {
					if st := s.r.Stats(); st.InUse > 2 || st.Capacity != 1 {
						return fmt.Errorf("%+v", st)
					}
					return s.atRest()
				}
			},
		},
		{
			Name:      "ResourceShrinkTurnsTheHeadAway",
			Invariant: "a head that is larger than the new capacity fails, and the next gets in",
			Bound:     toTheEnd,
			Setup: func(r *Run) func() error {
				s := newResourceScene(r, 2)
				s.hold(1)
				head := s.acquire("head", nil, 2)
				next := s.acquire("next", nil, 1)
				r.Settle()
				s.Go("shrink", func() { s.r.Resize(1) })
				s.release("release", 1)
				return func() error {
					// If the release comes first, the head gets in, and stays.
					if !errors.Is(head.err, condvar.ErrTooLarge) && !head.succeeded() || head.succeeded() == next.succeeded() {
						return fmt.Errorf("head: %w; next got in: %v", head.err, next.succeeded())
					}
					return s.atRest()
				}
			},
		},
		{
			Name:      "ResourcePauseRacingRelease",
			Invariant: "a paused resource lets nobody in, however large, and the next Resize lets in who fits",
			Bound:     1,
			LongBound: toTheEnd,
			Setup: func(r *Run) func() error {
				s := newResourceScene(r, 1)
				s.hold(1)
				s.acquire("first", nil, 1)
				r.Settle()
				s.Go("pause", func() {
					s.r.Resize(0)
					s.r.Resize(2)
				})
				s.release("release", 1)
				large := s.acquire("large", r.Context(), 2)
				return func() error {
					if !s.calls[0].succeeded() && !large.succeeded() {
						return errors.New("the first fits, but sleeps")
					}
					// With capacity 1 the large one fails, else it waits.
					if large.failed() && !errors.Is(large.err, condvar.ErrTooLarge) {
						return fmt.Errorf("the large one: %w", large.err)
					}
					return s.atRest()
				}
			},
		},
		{
			Name:      "ResourceCloseRacingAll",
			Invariant: "after Close nothing is acquired and nobody waits",
			Bound:     1,
			LongBound: 2,
			Setup: func(r *Run) func() error {
				s := newResourceScene(r, 1)
				s.hold(1)
				ctx := r.Context()
				s.acquire("waiter", ctx, 1)
				r.Settle()
				s.acquire("newcomer", nil, 1)
				s.release("release", 1)
				s.Go("canceller", ctx.Cancel)
				var late error
				s.Go("close", func() {
					_ = s.r.Close()
					late = s.r.Acquire(context.Background())
				})
				return func() error {
					if !errors.Is(late, condvar.ErrClosed) {
						return fmt.Errorf("after Close: %w", late)
					}
					for _, c := range s.calls {
						if c.failed() && !errors.Is(c.err, context.Canceled) && !errors.Is(c.err, condvar.ErrClosed) {
							return fmt.Errorf("%s: %w", c.name, c.err)
						}
					}
					return s.atRest()
				}
			},
		},
		{
			Name:      "ResourceOverReleaseRecovered",
			Invariant: "of two releases of the one permit, one panics, and the accounts stay exact",
			Bound:     toTheEnd,
			Setup: func(r *Run) func() error {
				s := newResourceScene(r, 2)
				s.hold(1)
				panics := 0
				for _, name := range []string{"release1", "release2"} {
					s.Go(name, func() {
						defer func() {
							if recover() != nil {
								r.Note(s)
								panics++
							}
						}()
						s.r.Release()
						s.gives(1)
					})
				}
				return func() error {
					if panics != 1 {
						return fmt.Errorf("%d panics", panics)
					}
					return s.atRest()
				}
			},
		},
		{
			Name:      "ResourceOverReleaseWithWaiter",
			Invariant: "a release of more than is held panics, and does not let the waiter in",
			Bound:     toTheEnd,
			Setup: func(r *Run) func() error {
				s := newResourceScene(r, 2)
				s.hold(1)
				waiter := s.acquire("waiter", nil, 2)
				r.Settle()
				s.Go("too much", func() {
					defer func() { _ = recover() }()
					s.r.ReleaseN(3)
				})
				s.release("release", 1)
				return func() error {
					if !waiter.succeeded() {
						return errors.New("the waiter sleeps")
					}
					return s.atRest()
				}
			},
		},
		{
			Name:      "ResourceDrain",
			Invariant: "two Drains return when the last permit has come back, and not before",
			Bound:     1,
			LongBound: 2,
			Setup: func(r *Run) func() error {
				s := newResourceScene(r, 1)
				s.hold(1)
				drains := []*call{s.drain("drain1", nil), s.drain("drain2", r.Context())}
				acquirer := s.acquire("acquirer", nil, 1)
				s.release("release", 1)
				return func() error {
					// The acquirer keeps its permit, if it was quicker.
					for _, d := range drains {
						if d.succeeded() == acquirer.succeeded() {
							return fmt.Errorf("%s returned: %v; a permit is held: %v", d.name, d.succeeded(), acquirer.succeeded())
						}
					}
					return s.atRest()
				}
			},
		},
		{
			Name:      "ResourceDrainCanceled",
			Invariant: "a Drain returns nil when nothing is held, or its own error when its context ends first",
			Bound:     toTheEnd,
			Setup: func(r *Run) func() error {
				s := newResourceScene(r, 1)
				s.hold(1)
				ctx := r.Context()
				drain := s.drain("drain", ctx)
				s.release("release", 1)
				s.Go("canceller", ctx.Cancel)
				return func() error {
					if !drain.returned {
						return errors.New("nothing is held, but Drain sleeps")
					}
					if err := drain.explained(); err != nil {
						return err
					}
					return s.atRest()
				}
			},
		},
		{
			Name:      "ResourceReleasesWhileTheHeadIsAwake",
			Invariant: "two releases at once, one of which may find the head awake and about to leave, let in all who fit",
			Bound:     1,
			LongBound: toTheEnd,
			Setup: func(r *Run) func() error {
				s := newResourceScene(r, 2)
				s.hold(2)
				ctx := r.Context()
				s.acquire("first", ctx, 1)
				second := s.acquire("second", nil, 1)
				r.Settle()
				s.release("release1", 1)
				s.release("release2", 1)
				s.Go("canceller", ctx.Cancel)
				return func() error {
					if !second.succeeded() {
						return errors.New("the second fits, but sleeps")
					}
					return s.atRest()
				}
			},
		},
		{
			Name:      "ResourceHeadParksAgainRacingRelease",
			Invariant: "a woken head that was overtaken does not miss the release that comes as it parks again",
			Bound:     toTheEnd,
			Setup: func(r *Run) func() error {
				s := newResourceScene(r, 2)
				s.hold(2)
				head := s.acquire("head", nil, 2)
				r.Settle()
				s.Go("overtakes", func() {
					s.giveBack(2)
					if s.r.TryAcquire() {
						s.took(1, 2)
						s.giveBack(1)
					}
				})
				return func() error {
					if !head.succeeded() {
						return errors.New("the head fits, but sleeps")
					}
					return s.atRest()
				}
			},
		},
		{
			Name:      "ResourceNobodyOvertakesTheAwake",
			Invariant: "after the release that finds the head old, awake or not, nobody overtakes it",
			Bound:     2,
			LongBound: toTheEnd,
			Setup: func(r *Run) func() error {
				s := newResourceScene(r, 1)
				s.hold(1)
				ctx := r.Context()
				s.acquire("head", ctx, 1)
				r.Settle()
				overtaken := false
				s.Go("overtakes", func() {
					s.giveBack(1)
					if !s.r.TryAcquire() {
						return
					}
					s.took(1, 1)
					r.Advance(time.Millisecond)
					s.giveBack(1)
					if s.r.TryAcquire() {
						s.took(1, 1)
						overtaken = !ctx.Canceled()
					}
				})
				s.Go("canceller", ctx.Cancel)
				return func() error {
					if overtaken {
						return errors.New("the head was overtaken after a release that found it old")
					}
					return s.atRest()
				}
			},
		},
		{
			Name:      "ResourceHeadStarvesDuringARelease",
			Invariant: "a release that looked at the clock too early does not undo one that found the head old",
			Bound:     2,
			LongBound: toTheEnd,
			Setup: func(r *Run) func() error {
				s := newResourceScene(r, 3)
				s.hold(3)
				s.acquire("head", nil, 1)
				r.Settle()
				s.Go("early", func() {
					s.giveBack(1)
					s.giveBack(1)
				})
				overtaken := false
				s.Go("late", func() {
					r.Advance(time.Millisecond)
					s.giveBack(1)
					if s.r.TryAcquire() {
						s.took(1, 3)
						overtaken = s.r.Stats().Waiting > 0
					}
				})
				return func() error {
					if overtaken {
						return errors.New("the head was overtaken after a release that found it old")
					}
					return s.atRest()
				}
			},
		},
		{
			Name:      "ResourceNewLineRacingRelease",
			Invariant: "a release that saw the head of the last line awake is not missed by the head of a new one",
			Bound:     1,
			LongBound: 3,
			Setup: func(r *Run) func() error {
				s := newResourceScene(r, 2)
				s.hold(2)
				ctx := r.Context()
				s.acquire("last", ctx, 1)
				r.Settle()
				s.Go("releases", func() {
					s.giveBack(1)
					s.giveBack(1)
				})
				s.Go("canceller", ctx.Cancel)
				next := s.acquire("new", r.Context(), 1)
				return func() error {
					if !next.succeeded() {
						return errors.New("it fits, but the new one sleeps")
					}
					return s.atRest()
				}
			},
		},
		{
			Name:      "ResourceCanceledWaiterRecycled",
			Invariant: "what was sent to a call that is over wakes no later one that has its waiter",
			Bound:     2,
			LongBound: 3,
			Setup: func(r *Run) func() error {
				s := newResourceScene(r, 1)
				s.hold(1)
				ctx := r.Context()
				again := &call{name: "again", ctx: r.Context(), n: 1}
				s.calls = append(s.calls, again)
				s.Go("again", func() {
					if s.r.Acquire(ctx) != nil {
						again.err = s.r.Acquire(again.ctx)
					}
					again.returned = true
					if again.err == nil {
						s.took(1, 1)
						s.giveBack(1)
					}
				})
				next := s.acquire("next", r.Context(), 1)
				r.Settle()
				s.release("release", 1)
				s.Go("canceller", ctx.Cancel)
				return func() error {
					if !again.succeeded() && !next.succeeded() {
						return errors.New("nobody got the permit")
					}
					return s.atRest()
				}
			},
		},
		{
			Name:      "ResourceAdmittedWaiterRecycledFIFO",
			Invariant: "a call is not over because the last one that had its waiter was given permits",
			Bound:     toTheEnd,
			Setup: func(r *Run) func() error {
				s := newResourceScene(r, 1, condvar.FIFO())
				s.hold(1)
				ctx := r.Context()
				again := &call{name: "again", ctx: ctx, n: 1}
				s.Go("again", func() {
					_ = s.r.Acquire(context.Background())
					s.took(1, 1)
					s.giveBack(1)
					again.err = s.r.Acquire(ctx)
					again.returned = true
				})
				s.calls = append(s.calls, again)
				next := s.acquire("next", nil, 1)
				r.Settle()
				s.release("release", 1)
				s.Go("canceller", ctx.Cancel)
				return func() error {
					if !next.succeeded() || !again.failed() {
						return fmt.Errorf("next: %w, again: %w", next.err, again.err)
					}
					return s.atRest()
				}
			},
		},
		{
			Name:      "ResourceWaiterPushedWhileAnotherIsPopped",
			Invariant: "no waiter is of two calls at once: all three who wait get in",
			Bound:     1,
			LongBound: 2,
			Setup: func(r *Run) func() error {
				s := newResourceScene(r, 3)
				s.hold(3)
				ctx, gone := r.Context(), r.Context()
				again := &call{name: "again", n: 1}
				s.Go("again", func() {
					if s.r.Acquire(ctx) != nil {
						again.err = s.r.Acquire(context.Background())
					}
					again.returned = true
					s.took(1, 3)
				})
				s.calls = append(s.calls, again)
				s.acquire("gone", gone, 1) // leaves a waiter in the pool
				r.Settle()
				s.Go("canceller1", gone.Cancel)
				r.Settle()
				s.acquire("b", nil, 1)
				s.acquire("c", nil, 1)
				s.Go("canceller2", ctx.Cancel)
				return func() error {
					s.giveBack(3)
					r.Settle()
					if n := count(s.calls, (*call).succeeded); n != 3 {
						return fmt.Errorf("%d got in", n)
					}
					return s.atRest()
				}
			},
		},
		{
			Name:      "ResourceAwakeHeadTurnedAway",
			Invariant: "a woken head that is too large for the new capacity, or finds it closed, fails, and Drain misses no release",
			Bound:     1,
			LongBound: 2,
			Setup: func(r *Run) func() error {
				s := newResourceScene(r, 3)
				s.hold(3)
				head := s.acquire("head", nil, 2)
				r.Settle()
				s.release("release1", 2)
				s.release("release2", 1)
				s.Go("shrink", func() { s.r.Resize(1) })
				drain := s.drain("drain", nil)
				return func() error {
					if head.failed() && !errors.Is(head.err, condvar.ErrTooLarge) && !errors.Is(head.err, condvar.ErrClosed) {
						return fmt.Errorf("head: %w", head.err)
					}
					if head.succeeded() == drain.succeeded() {
						return fmt.Errorf("the head holds: %v, Drain returned: %v", head.succeeded(), drain.succeeded())
					}
					return s.atRest()
				}
			},
		},
		{
			Name:      "ResourceAwakeHeadAgainstAll",
			Invariant: "a woken head against Close, Resize, its context and a release at once: one counts, and the one behind it gets its answer, too",
			Bound:     1,
			LongBound: 3,
			Setup: func(r *Run) func() error {
				s := newResourceScene(r, 3)
				s.hold(3)
				ctx := r.Context()
				head := s.acquire("head", ctx, 2)
				next := s.acquire("next", nil, 1)
				r.Settle()
				s.giveBack(2) // the head is awake, and stands before it looks
				s.release("release", 1)
				s.Go("shrink", func() { s.r.Resize(1) })
				s.Go("close", func() { _ = s.r.Close() })
				s.Go("canceller", ctx.Cancel)
				return func() error {
					for _, c := range s.calls {
						if c.failed() && !errors.Is(c.err, context.Canceled) && !errors.Is(c.err, condvar.ErrClosed) && !errors.Is(c.err, condvar.ErrTooLarge) {
							return fmt.Errorf("%s: %w", c.name, c.err)
						}
					}
					if errors.Is(next.err, condvar.ErrTooLarge) || !head.returned {
						return fmt.Errorf("head: %w, next: %w", head.err, next.err)
					}
					return s.atRest()
				}
			},
		},
		{
			Name:      "ResourceOldAwakeHeadAndThoseBehind",
			Invariant: "a release that finds the woken head old lets all in who fit, when the head has looked or is canceled, and no newcomer before",
			Bound:     2,
			LongBound: toTheEnd,
			Setup: func(r *Run) func() error {
				s := newResourceScene(r, 3)
				s.hold(3)
				ctx := r.Context()
				s.acquire("head", ctx, 1)
				second := s.acquire("second", nil, 1)
				third := s.acquire("third", nil, 1)
				r.Settle()
				s.giveBack(1) // the head is awake, and stands before it looks
				time.Sleep(time.Millisecond)
				overtaken := false
				s.Go("release", func() {
					s.giveBack(2)
					if s.r.TryAcquire() {
						s.took(1, 3)
						overtaken = !ctx.Canceled()
					}
				})
				s.Go("canceller", ctx.Cancel)
				return func() error {
					if overtaken || !second.succeeded() || !third.succeeded() {
						return fmt.Errorf("overtaken: %v; the second got in: %v, the third: %v", overtaken, second.succeeded(), third.succeeded())
					}
					return s.atRest()
				}
			},
		},
		{
			Name:      "ResourceDrainWithADeadContext",
			Invariant: "a Drain with a dead context returns nil if nothing is held when it begins, and else its error or nil",
			Bound:     toTheEnd,
			Setup: func(r *Run) func() error {
				s := newResourceScene(r, 1)
				s.hold(1)
				ctx := r.Context()
				ctx.Cancel()
				drain, idle := &call{name: "drain", ctx: ctx}, false
				s.Go("drain", func() {
					idle = s.r.Stats().InUse == 0
					drain.err = s.r.Drain(ctx)
					drain.returned = true
				})
				s.release("release", 1)
				return func() error {
					if !drain.returned || idle && drain.err != nil {
						return fmt.Errorf("nothing was held: %v; Drain: %w", idle, drain.err)
					}
					if err := drain.explained(); err != nil {
						return err
					}
					return s.atRest()
				}
			},
		},
		{
			Name:      "ResourceWithHooks",
			Invariant: "a release during WaitStart, before the call is in line, is not missed, and the hooks are told of all",
			Bound:     toTheEnd,
			Setup: func(r *Run) func() error {
				acquired, released, waits := 0, 0, 0
				s := newResourceScene(r, 1, condvar.WithHooks(&condvar.Hooks{
					WaitStart: func(context.Context, int64) context.Context { waits++; return nil },
					WaitDone:  func(context.Context, int64, time.Duration, error) { waits-- },
					Acquired:  func(context.Context, int64, *condvar.Hold) { acquired++ },
					Released:  func(int64, *condvar.Hold, time.Duration) { released++ },
				}))
				s.hold(1)
				waiter := s.acquire("waiter", r.Context(), 1)
				s.release("release", 1)
				return func() error {
					if !waiter.succeeded() || waits != 0 || acquired != 2 || released != 1 {
						return fmt.Errorf("waiter: %w; %d wait, %d acquired, %d released", waiter.err, waits, acquired, released)
					}
					return s.atRest()
				}
			},
		},
		{
			Name:      "ResourceStatsAreOneMoment",
			Invariant: "what Stats says is in use was in use at one moment: of two who move one permit on, it sees one",
			Bound:     toTheEnd,
			Setup: func(r *Run) func() error {
				s := newResourceScene(r, 2)
				s.hold(1)
				s.Go("moves", func() {
					s.took(1, 2)
					if !s.r.TryAcquire() {
						panic("one is free")
					}
					s.giveBack(1)
				})
				s.Go("reader", func() {
					if st := s.r.Stats(); st.InUse < 1 || st.InUse > 2 || st.Waiting != 0 {
						panic(fmt.Sprintf("%+v", st))
					}
				})
				return s.atRest
			},
		},
		{
			Name:      "ResourceBeyondTheState",
			Invariant: "a capacity that the state cannot hold works by the mutex alone",
			Bound:     toTheEnd,
			Setup: func(r *Run) func() error {
				const capacity = 1 << 40
				s := newResourceScene(r, capacity)
				s.hold(capacity)
				ctx := r.Context()
				head := s.acquire("head", ctx, capacity)
				next := s.acquire("next", nil, 1)
				r.Settle()
				s.release("release", capacity)
				s.Go("canceller", ctx.Cancel)
				s.Go("shrink", func() { s.r.Resize(1) })
				return func() error {
					if !head.returned || !head.succeeded() && !next.succeeded() {
						return fmt.Errorf("head: %w, next: %w", head.err, next.err)
					}
					return s.atRest()
				}
			},
		},
	}
}
