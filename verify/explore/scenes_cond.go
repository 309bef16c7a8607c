//go:build condvar_explore

package explore

import (
	"context"
	"errors"
	"fmt"
	"runtime"

	"example.com/condvar"
	"example.com/condvar/internal/primitives"
)

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
	s.c.Waiters() // the first use, which initializes it
	r.Cleanup(func() { s.c.NotifyAll() })
	return s
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
		defer func() { c.returned = true }() // also after a panic or Goexit
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

// waitBehind adds a thread that waits once, after it has passed a gate. If
// joined is not nil, it is opened before L is unlocked.
func (s *condScene) waitBehind(name string, gate, joined Gate) *call {
	c := &call{name: name}
	s.calls = append(s.calls, c)
	s.Go(name, func() {
		gate.Pass()
		s.l.Lock()
		defer s.l.Unlock()
		if joined != nil {
			joined.Open() // no other thread locks before Wait unlocks
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

// exact checks a scene in which each notification ends one Wait: as many calls
// succeeded as were woken, and the others are in line.
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

// inLine checks that exactly the calls that have not returned are in line.
func (s *condScene) inLine() error {
	parked := len(s.calls) - count(s.calls, func(c *call) bool { return c.returned })
	if n := s.c.Waiters(); n != parked {
		return fmt.Errorf("%d are parked, but %d in line", parked, n)
	}
	return nil
}

// noDataLeft checks that no data is left while a consumer waits.
func (s *condScene) noDataLeft(data int) error {
	for _, c := range s.calls {
		if err := c.explained(); err != nil {
			return err
		}
		if data > 0 && !c.returned {
			return fmt.Errorf("data is left, but %s sleeps", c.name)
		}
	}
	return s.inLine()
}

// leavesWithout sets up a scene where the first in line calls leave once it is
// woken for any reason, and another waiter is in line behind it.
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
			return errors.New("the notification was lost, although a waiter was in line")
		}
		return s.inLine()
	}
}

// A countingLocker counts how often it is unlocked.
type countingLocker struct {
	*Mutex
	unlocks int
}

func (l *countingLocker) Unlock() {
	l.unlocks++
	l.Mutex.Unlock()
}

// A lockPanics panics when the thread with the given name locks it.
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

// broadcastLeavesNothing is a scene in which a thread, "first", waits by the
// given function, gets a notification of NotifyAll, and leaves without using
// it. The second joins the line, and another NotifyAll wakes it. The third
// joins after that.
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
		s.l.Unlock() //nolint:staticcheck // empty on purpose
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

// A brokenLocker panics at the first Unlock after joined is set. It opens
// joined first.
type brokenLocker struct {
	*Mutex
	joined Gate
}

func (l *brokenLocker) Unlock() {
	l.Mutex.Unlock()
	if joined := l.joined; joined != nil {
		l.joined = nil
		joined.Open()
		hooks.Step(primitives.OpStore, l) // a notification can come before the panic
		panic(expected)
	}
}

// unlockPanics is a scene in which L.Unlock panics in wait, with the given
// number of waiters before it in line and one behind it. It sends one
// notification for each of these.
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
		s.l.Unlock() //nolint:staticcheck // empty on purpose
		for range s.calls {
			s.woken += s.one()
		}
	})
	return func() error {
		if all := len(s.calls); s.woken != all || count(s.calls, (*call).succeeded) != all {
			return fmt.Errorf("%d notified, although %d were in line, and %d woke up", s.woken, all, count(s.calls, (*call).succeeded))
		}
		return s.inLine()
	}
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
			Invariant: "two in line, two notifications, the first waiter is canceled: no notification is lost",
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
			Invariant: "two waiters without a context, and a canceled one between them, are woken in order of arrival",
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
			Invariant: "three waiters without a context, two of them late, NotifyN(2) and NotifyAll: as many return nil as were woken",
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
						return errors.New("a waiter that was in line is not woken")
					}
					return s.exact()
				}
			},
		},
		{
			Name:      "CondTwoNotifiersOneWaiter",
			Invariant: "no Notify returns false while a call waits, unless another Notify wakes it",
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
			Invariant: "the first calls of a new Cond may be concurrent",
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
			Invariant: "no data is left while a consumer sleeps, although one is canceled",
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
			Invariant: "if the context of a WaitFor ends while it locks, either it uses the data or the next waiter does",
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
				s.Go("thief", func() { // takes data meant for others
					s.l.Lock()
					data = max(0, data-1)
					s.l.Unlock()
				})
				return func() error { return s.noDataLeft(data) }
			},
		},
		{
			Name:      "CondTwoProducers",
			Invariant: "two items, two notifications, two consumers, one of them canceled: no data is left while a consumer sleeps",
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
			Invariant: "after a futile wake-up, a WaitFor is behind the waiters in line: the next Notify is for the second",
			Bound:     toTheEnd,
			Setup: func(r *Run) func() error {
				s := newCondScene(r)
				ready := false
				s.waitFor("first", nil, func() bool { return ready }, nil)
				second := s.wait("second", nil)
				r.Settle()
				s.c.Notify() // futile, unless the first calls pred late
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
			Invariant: "two wait for different conditions: of two notifications, one wakes the waiter whose condition is true, although the other may be canceled",
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
						return errors.New("the condition of the second is true, but it sleeps")
					}
					return s.inLine()
				}
			},
		},
		{
			Name:      "CondCanceledWaitForTakesNothing",
			Invariant: "a WaitFor that was canceled first does not call pred again, and leaves later data to the next",
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
						return fmt.Errorf("%d woken; after %d calls of pred the canceled one has %w; the next got it: %v", s.woken, looks, gone.err, next.succeeded())
					}
					return s.inLine()
				}
			},
		},
		{
			Name:      "CondWaitForPassesOn",
			Invariant: "if a WaitFor has not consumed its notification when its context ends, the next in line gets it",
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
					// If L has been unlocked three times, the first has joined
					// the line again, and has consumed the notification.
					if spent := l.unlocks == 3; s.woken != 1 || !first.failed() || second.returned == spent {
						return fmt.Errorf("the first has consumed the notification: %v, the second is notified: %v", spent, second.returned)
					}
					return s.inLine()
				}
			},
		},
		{
			Name:      "CondWaiterReusedWhileItsWaitLocks",
			Invariant: "a notification is passed on, although another call already uses the waiter that received it",
			Bound:     toTheEnd,
			Setup: func(r *Run) func() error {
				s := newCondScene(r)
				l := &countingLocker{Mutex: s.l}
				s.c.L = l
				ctx := r.Context()
				first := s.waitFor("first", ctx, func() bool { return false }, nil)
				second := s.wait("second", nil)
				r.Settle()
				s.c.Notify() // the first is awake, and stops before it recycles its waiter
				late := s.wait("late", nil)
				s.Go("canceller", ctx.Cancel)
				return func() error {
					// If L has been unlocked four times, the first has joined
					// the line again, and has consumed the notification.
					if spent := l.unlocks == 4; !first.failed() || second.returned == spent || late.returned {
						return fmt.Errorf("the first has consumed the notification: %v, the second is notified: %v", spent, second.returned)
					}
					return s.inLine()
				}
			},
		},
		{
			Name:      "CondPassedOverAndRecycled",
			Invariant: "if a cancel and a Notify race, the waiter gets the notification or is passed over, and its next wait finds no stale token",
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
			Invariant: "no two waits share a waiter, although two are recycled while others are taken: all three late waits are woken once",
			Bound:     1,
			LongBound: 2,
			Setup: func(r *Run) func() error {
				s := newCondScene(r)
				for i := range 3 {
					s.wait(fmt.Sprintf("early%d", i+1), nil)
				}
				r.Settle()
				s.c.Notify() // the first recycles its waiter
				r.Settle()
				s.c.NotifyN(2) // the other two are about to do so
				for i := range 3 {
					s.wait(fmt.Sprintf("late%d", i+1), nil)
				}
				return func() error {
					if n := s.c.Waiters(); n != 3 {
						return fmt.Errorf("%d in line", n)
					}
					for range 3 {
						if !s.c.Notify() {
							return errors.New("a call waits, but the line is empty")
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
			Invariant: "if L.Lock panics after a NotifyAll, no later waiter gets its notification, although there was another NotifyAll in between",
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
			Invariant: "NotifyAll wakes the waiters in line before it, and none that joins during it",
			Bound:     toTheEnd,
			Setup: func(r *Run) func() error {
				s := newCondScene(r)
				early := s.wait("early", r.Context())
				r.Settle()
				s.wait("late", r.Context())
				s.notify("notifier", false, nothing, s.c.NotifyAll)
				return func() error {
					if !early.succeeded() {
						return errors.New("a waiter that was in line is not woken")
					}
					return s.exact()
				}
			},
		},
		{
			Name:      "CondNotifyAllTwiceAndCancel",
			Invariant: "each Wait is woken once, by one of two broadcasts, or is canceled",
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
			Invariant: "a broadcast wakes both waiters, although the first to run cancels the second",
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
						return fmt.Errorf("%d woken, although w3 was in line", s.woken)
					}
					return s.exact()
				}
			},
		},
		{
			Name:      "CondWaitersRecycled",
			Invariant: "a wait that reuses the waiter of an earlier wait finds no stale notification",
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
			Invariant: "if L.Unlock panics, the wait is not left in line, and a notification that it got goes to the next",
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
			Invariant: "if L.Unlock panics for a wait in the middle of the line, the waiters before and behind it get two notifications",
			Bound:     2,
			LongBound: toTheEnd,
			Setup: func(r *Run) func() error {
				return unlockPanics(r, 1, func(c *condvar.Cond) { _ = c.Wait(context.Background()) })
			},
		},
		{
			Name:      "CondPanickingUnlockRacingNotifyAll",
			Invariant: "if L.Unlock panics, a notification of NotifyAll that it got is dropped: no later waiter gets it",
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
	}
}
