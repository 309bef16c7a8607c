//go:build condvar_explore

package explore

import (
	"context"
	"errors"
	"fmt"

	"example.com/condvar"
)

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

// atRest checks that no call waits for an event that is set, and that each
// error has a reason.
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

func eventScenes() []*Scene {
	return []*Scene{
		{
			Name:      "EventWaitRacingSet",
			Invariant: "no waiter sleeps while the event is set",
			Bound:     toTheEnd,
			Setup: func(r *Run) func() error {
				s := newEventScene(r)
				s.wait("w1", nil)
				s.wait("w2", r.Context())
				s.Go("setter", s.e.Set)
				return func() error {
					if count(s.calls, (*call).succeeded) != 2 {
						return errors.New("a waiter sleeps")
					}
					return s.atRest()
				}
			},
		},
		{
			Name:      "EventFirstUse",
			Invariant: "the first calls of a new Event may be concurrent",
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
			Invariant: "Set and Clear release all waiters that waited before, but one may be canceled first",
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
						return errors.New("a waiter missed the pulse")
					}
					return s.atRest()
				}
			},
		},
		{
			Name:      "EventPulseLateArrival",
			Invariant: "a waiter that arrives during a pulse is released by it or waits for the next",
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
						return errors.New("a waiter from before the pulse missed it")
					}
					return s.atRest()
				}
			},
		},
		{
			Name:      "EventClearAndWaitRacingSet",
			Invariant: "a Wait that begins after a Clear returns only if the event was set after that, and not cleared",
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
			Invariant: "a cancel by a goroutine that has seen the event set is too late",
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
			Invariant: "if a cancel and a pulse race, the waiter is released or passed over, and its next wait finds no stale token",
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
			Invariant: "no waiter sleeps while the event is set, in whatever order Set and Clear are called",
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
