//go:build condvar_explore

package explore

import (
	"context"
	"errors"
	"fmt"
	"time"

	"example.com/condvar"
)

// A resourceScene is the objects of a scene about a CapacityResource.
type resourceScene struct {
	*Run
	r       *condvar.CapacityResource
	calls   []*call
	taken   int64 // permits in use, counted by the scene
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

// hold takes n permits in the setup.
func (s *resourceScene) hold(n int64) {
	if !s.r.TryAcquireN(n) {
		panic("no permits for the setup")
	}
	s.taken += n
}

// took counts acquired permits, and checks that they do not exceed the
// capacity, which must be constant in scenes that use it.
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

// try adds a thread that tries to acquire n permits and, on success, keeps
// them. The result is whether it succeeded before ctx ended, the context of the
// head of the line.
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

// drain adds a thread that calls Drain.
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

// release adds a thread that releases n permits that the setup holds.
func (s *resourceScene) release(name string, n int64) {
	s.Go(name, func() { s.giveBack(n) })
}

func (s *resourceScene) giveBack(n int64) {
	s.Note(s)
	s.taken -= n
	s.r.ReleaseN(n)
}

// atRest checks that Stats agrees with the counts of the scene, that all
// waiting calls are in line, and that they wait for a reason: some request must
// be too large for the free permits, or the resource is paused.
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

// usable checks that a new call can acquire the free permits if no call waits,
// so that no flag is stale.
func (s *resourceScene) usable(free int64) error {
	st := s.r.Stats()
	if st.Waiting > 0 || st.Closed || free <= 0 {
		return nil
	}
	if !s.r.TryAcquireN(free) {
		return fmt.Errorf("no call waits and %d are free, but they cannot be acquired", free)
	}
	s.r.ReleaseN(free)
	return nil
}

func resourceScenes() []*Scene {
	return []*Scene{
		{
			Name:      "ResourceMutualExclusion",
			Invariant: "with capacity 1, no two calls hold a permit",
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
						return errors.New("a call sleeps")
					}
					return s.atRest()
				}
			},
		},
		{
			Name:      "ResourceThreeTakeTurns",
			Invariant: "with capacity 2, no three calls hold a permit, and all are admitted",
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
						return errors.New("a call sleeps")
					}
					return s.atRest()
				}
			},
		},
		{
			Name:      "ResourceJoinRacingRelease",
			Invariant: "a release between reading the state and joining the line is not missed",
			Bound:     toTheEnd,
			Setup: func(r *Run) func() error {
				s := newResourceScene(r, 1)
				s.hold(1)
				s.acquire("a", r.Context(), 1)
				s.release("release", 1)
				return func() error {
					if !s.calls[0].succeeded() {
						return errors.New("a permit is free, but a sleeps")
					}
					return s.atRest()
				}
			},
		},
		{
			Name:      "ResourceHeadCanceledWhileReleaseLands",
			Invariant: "the permit goes to the head, or to the next if the head is canceled",
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
			Invariant: "when the first two in line are canceled, the third, which fits, is admitted",
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
						return errors.New("the third fits, but sleeps")
					}
					return s.atRest()
				}
			},
		},
		{
			Name:      "ResourceReleaseOfMany",
			Invariant: "one release of three permits admits three, although one may be canceled",
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
						return errors.New("a call that fits sleeps")
					}
					return s.atRest()
				}
			},
		},
		{
			Name:      "ResourceTwoReleasesTwoInLine",
			Invariant: "two concurrent releases admit two",
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
						return errors.New("a call that fits sleeps")
					}
					return s.atRest()
				}
			},
		},
		{
			Name:      "ResourceBigHead",
			Invariant: "a large request at the head is admitted before the small one behind it, or is canceled",
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
						return fmt.Errorf("big admitted: %v, small admitted: %v", big.succeeded(), small.succeeded())
					}
					return s.atRest()
				}
			},
		},
		{
			Name:      "ResourceTryAcquireAgainstTheLineFIFO",
			Invariant: "with FIFO, TryAcquire fails while a call waits",
			Bound:     toTheEnd,
			Setup: func(r *Run) func() error {
				s := newResourceScene(r, 2, condvar.FIFO())
				s.hold(2)
				ctx := r.Context()
				s.acquire("head", ctx, 2) // the release is not enough for it
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
			Invariant: "with FIFO, a new call is admitted after those in line",
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
						return fmt.Errorf("new call admitted: %v, head admitted: %v", newcomer.succeeded(), head.succeeded())
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
			Invariant: "after a release that finds the head starving, no call overtakes it",
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
			Invariant: "when the starving head is canceled, a new head that is not starving may be overtaken",
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
						return errors.New("a permit is free, and the head is not starving, but the permit cannot be acquired")
					}
					return nil
				}
			},
		},
		{
			Name:      "ResourceStarvingHeadCanceled",
			Invariant: "a canceled head clears the starving flag: a new call is admitted",
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
						return errors.New("a permit is free, but the new call sleeps")
					}
					return s.atRest()
				}
			},
		},
		{
			Name:      "ResourceReleasesWhileTheHeadIsAwake",
			Invariant: "two concurrent releases, one of which may find the head awake and about to leave, admit all that fit",
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
			Invariant: "a woken head that was overtaken does not miss a release while it parks again",
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
			Invariant: "after a release that finds the head starving, awake or not, no call overtakes it",
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
						return errors.New("the head was overtaken after a release that found it starving")
					}
					return s.atRest()
				}
			},
		},
		{
			Name:      "ResourceHeadStarvesDuringARelease",
			Invariant: "a release that read the clock earlier does not undo one that found the head starving",
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
						return errors.New("the head was overtaken after a release that found it starving")
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
						return errors.New("the new call fits, but sleeps")
					}
					return s.atRest()
				}
			},
		},
		{
			Name:      "ResourceCanceledWaiterRecycled",
			Invariant: "a token sent to a finished call does not wake a later call that has its waiter",
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
						return errors.New("no call got the permit")
					}
					return s.atRest()
				}
			},
		},
		{
			Name:      "ResourceAdmittedWaiterRecycledFIFO",
			Invariant: "a call does not return because an earlier call with its waiter was admitted",
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
			Invariant: "no two calls share a waiter: all three are admitted",
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
						return fmt.Errorf("%d admitted", n)
					}
					return s.atRest()
				}
			},
		},
		{
			Name:      "ResourceAwakeHeadTurnedAway",
			Invariant: "a woken head that is too large for the new capacity, or finds the resource closed, fails, and Drain misses no release",
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
			Invariant: "a woken head races with Close, Resize, its context and a release: one takes effect, and the call behind it returns correctly",
			Bound:     1,
			LongBound: 3,
			Setup: func(r *Run) func() error {
				s := newResourceScene(r, 3)
				s.hold(3)
				ctx := r.Context()
				head := s.acquire("head", ctx, 2)
				next := s.acquire("next", nil, 1)
				r.Settle()
				s.giveBack(2) // the head is awake, and stops before it reads the state
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
			Invariant: "a release that finds the woken head starving admits all that fit, once the head has read the state or is canceled, and no new call before",
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
				s.giveBack(1) // the head is awake, and stops before it reads the state
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
						return fmt.Errorf("overtaken: %v; the second admitted: %v, the third: %v", overtaken, second.succeeded(), third.succeeded())
					}
					return s.atRest()
				}
			},
		},
	}
}
