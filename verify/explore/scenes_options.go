//go:build condvar_explore

package explore

import (
	"errors"
	"fmt"
	"time"

	"example.com/condvar"
)

// rejected checks that Stats has counted as many rejections as calls failed
// with ErrOverloaded. It calls atRest too.
func (s *resourceScene) rejected() error {
	overloaded := int64(count(s.calls, func(c *call) bool { return errors.Is(c.err, condvar.ErrOverloaded) }))
	if n := s.r.Stats().Rejected; n != overloaded {
		return fmt.Errorf("%d calls were rejected, but Stats says %d", overloaded, n)
	}
	return s.atRest()
}

// looks adds a thread that checks once, at any time, that at most the given
// number of calls wait.
func (s *resourceScene) looks(most int64) {
	s.Go("looks", func() {
		if n := s.r.Stats().Waiting; n > most {
			s.tooMany = fmt.Errorf("%d wait, of at most %d", n, most)
		}
	})
}

// alone adds a thread that acquires n permits, more than the capacity, checks
// that nothing else is held then, and releases them.
func (s *resourceScene) alone(name string, n int64) {
	c := &call{name: name, n: n}
	s.calls = append(s.calls, c)
	s.Go(name, func() {
		c.err = s.r.AcquireN(c.context(), n)
		c.returned = true
		if c.err == nil {
			s.took(n, n)
			if inUse := s.r.Stats().InUse; inUse != n {
				s.tooMany = fmt.Errorf("%d are held in addition to %d", inUse-n, n)
			}
			s.giveBack(n)
		}
	})
}

// small adds a thread that acquires one permit, and releases it.
func (s *resourceScene) small(name string, capacity int64) {
	c := &call{name: name, n: 1}
	s.calls = append(s.calls, c)
	s.Go(name, func() {
		c.err = s.r.AcquireN(c.context(), 1)
		c.returned = true
		if c.err == nil {
			s.took(1, capacity)
			s.giveBack(1)
		}
	})
}

// waitsAtMost sets up a scene with a call in line under MaxWait, whose timer
// may fire at any time, and returns the call.
func waitsAtMost(r *Run, ctx *Context, opts ...condvar.Option) (*resourceScene, *call) {
	s := newResourceScene(r, 1, append(opts, condvar.MaxWait(time.Hour))...)
	s.hold(1)
	return s, s.acquire("waiter", ctx, 1)
}

// endsAs checks that a call under MaxWait has returned nil or one of the
// errors.
func (s *resourceScene) endsAs(c *call, errs ...error) error {
	if !c.returned {
		return fmt.Errorf("%s still waits, although its time is over", c.name)
	}
	known := c.err == nil
	for _, err := range errs {
		known = known || errors.Is(c.err, err)
	}
	if !known {
		return fmt.Errorf("%s returned %w", c.name, c.err)
	}
	return s.rejected()
}

func optionScenes() []*Scene {
	return []*Scene{
		{
			Name:      "ResourceMaxWaiting",
			Invariant: "never more than MaxWaiting are in line, whichever call is canceled, and a rejected call changes nothing",
			Bound:     toTheEnd,
			Setup: func(r *Run) func() error {
				s := newResourceScene(r, 1, condvar.MaxWaiting(1))
				s.hold(1)
				ctx := r.Context()
				s.acquire("first", ctx, 1)
				r.Settle()
				s.acquire("second", nil, 1)
				s.looks(1)
				s.Go("canceller", ctx.Cancel)
				return s.rejected
			},
		},
		{
			Name:      "ResourceMaxWaitingRacingRelease",
			Invariant: "a new call that may not wait gets the released permit, or is rejected",
			Bound:     toTheEnd,
			Setup: func(r *Run) func() error {
				s := newResourceScene(r, 1, condvar.MaxWaiting(0))
				s.hold(1)
				newcomer := s.acquire("newcomer", nil, 1)
				s.release("release", 1)
				s.looks(0)
				return func() error { return s.endsAs(newcomer, condvar.ErrOverloaded) }
			},
		},
		{
			Name:      "ResourceMaxWaitingRacingResize",
			Invariant: "while a Resize admits calls from the line, new ones join it, but never more than MaxWaiting",
			Bound:     toTheEnd,
			Setup: func(r *Run) func() error {
				s := newResourceScene(r, 1, condvar.MaxWaiting(1))
				s.hold(1)
				s.acquire("first", nil, 1)
				r.Settle()
				s.acquire("second", nil, 1)
				s.Go("grow", func() { s.r.Resize(2) })
				s.looks(1)
				return s.rejected
			},
		},
		{
			Name:      "ResourceMaxWaitAgainstRelease",
			Invariant: "if a release races with the end of MaxWait, one takes effect, and the permit is not lost",
			Bound:     toTheEnd,
			Setup: func(r *Run) func() error {
				s, w := waitsAtMost(r, nil)
				s.release("release", 1)
				return func() error { return s.endsAs(w, condvar.ErrOverloaded) }
			},
		},
		{
			Name:      "ResourceMaxWaitAgainstReleaseFIFO",
			Invariant: "if a handoff races with the end of MaxWait, one takes effect, and the permit is not lost",
			Bound:     toTheEnd,
			Setup: func(r *Run) func() error {
				s, w := waitsAtMost(r, nil, condvar.FIFO())
				s.release("release", 1)
				return func() error { return s.endsAs(w, condvar.ErrOverloaded) }
			},
		},
		{
			Name:      "ResourceMaxWaitOfTheHead",
			Invariant: "when the head gives up, a call that it blocked is admitted",
			Bound:     toTheEnd,
			Setup: func(r *Run) func() error {
				s := newResourceScene(r, 2, condvar.MaxWait(time.Hour), condvar.FIFO())
				s.hold(1)
				big := s.acquire("big", nil, 2)
				small := s.acquire("small", nil, 1)
				return func() error {
					// The big one can never be admitted. The small one can only
					// if it is first or the big one has given up before.
					if !errors.Is(big.err, condvar.ErrOverloaded) {
						return fmt.Errorf("big: %w", big.err)
					}
					return s.endsAs(small, condvar.ErrOverloaded)
				}
			},
		},
		{
			Name:      "ResourceMaxWaitAgainstBarging",
			Invariant: "a woken head that finds the permit taken and its MaxWait over returns",
			Bound:     toTheEnd,
			Setup: func(r *Run) func() error {
				s, w := waitsAtMost(r, nil)
				s.release("release", 1)
				s.try("try", 1, r.Context())
				return func() error { return s.endsAs(w, condvar.ErrOverloaded) }
			},
		},
		{
			Name:      "ResourceMaxWaitAgainstCancel",
			Invariant: "if a cancel, the end of MaxWait and a release race, one takes effect, in the error and in Stats",
			Bound:     toTheEnd,
			Setup: func(r *Run) func() error {
				ctx := r.Context()
				s, w := waitsAtMost(r, ctx)
				s.Go("canceller", ctx.Cancel)
				s.release("release", 1)
				return func() error {
					canceled := errors.Is(w.err, ctx.Err()) && w.err != nil
					if st := s.r.Stats(); st.Canceled > 0 && !canceled || st.Canceled > 1 {
						return fmt.Errorf("%w, and %+v", w.err, st)
					}
					return s.endsAs(w, condvar.ErrOverloaded, ctx.Err())
				}
			},
		},
		{
			Name:      "ResourceMaxWaitAgainstClose",
			Invariant: "if Close races with the end of MaxWait, one takes effect",
			Bound:     toTheEnd,
			Setup: func(r *Run) func() error {
				s, w := waitsAtMost(r, nil)
				s.Go("close", func() { _ = s.r.Close() })
				return func() error { return s.endsAs(w, condvar.ErrOverloaded, condvar.ErrClosed) }
			},
		},
		{
			Name:      "ResourceOversizedIsAlone",
			Invariant: "a request for more than the capacity is admitted alone, and other requests as usual",
			Bound:     2,
			LongBound: toTheEnd,
			Setup: func(r *Run) func() error {
				s := newResourceScene(r, 2, condvar.AdmitOversized())
				s.hold(1)
				s.alone("huge", 5)
				s.small("small", 2)
				s.release("release", 1)
				return func() error {
					if count(s.calls, (*call).succeeded) != 2 {
						return errors.New("a call sleeps, although no permit is in use")
					}
					return s.rejected()
				}
			},
		},
		{
			Name:      "ResourceOversizedFIFO",
			Invariant: "a request for more than the capacity is admitted in order, and alone",
			Bound:     toTheEnd,
			Setup: func(r *Run) func() error {
				s := newResourceScene(r, 2, condvar.AdmitOversized(), condvar.FIFO())
				s.hold(1)
				s.alone("huge", 5)
				r.Settle()
				s.small("small", 2)
				s.release("release", 1)
				return func() error {
					if count(s.calls, (*call).succeeded) != 2 {
						return errors.New("a call sleeps, although no permit is in use")
					}
					return s.rejected()
				}
			},
		},
		{
			Name:      "ResourceOversizedRacingResize",
			Invariant: "a request in line that a shrink makes too large stays, and is admitted when it fits or is alone",
			Bound:     toTheEnd,
			Setup: func(r *Run) func() error {
				s := newResourceScene(r, 3, condvar.AdmitOversized())
				s.hold(2)
				w := s.acquire("waiter", nil, 3)
				r.Settle()
				s.Go("resize", func() {
					s.r.Resize(1)
					s.r.Resize(2)
				})
				s.release("release", 2)
				return func() error {
					if !w.succeeded() {
						return fmt.Errorf("returned: %v, %w", w.returned, w.err)
					}
					return nil
				}
			},
		},
		{
			Name:      "ResourceOversizedPaused",
			Invariant: "no call is admitted while the capacity is 0, and the next Resize admits a request that exceeds it",
			Bound:     toTheEnd,
			Setup: func(r *Run) func() error {
				s := newResourceScene(r, 1, condvar.AdmitOversized())
				s.r.Resize(0)
				w := s.acquire("waiter", nil, 3)
				s.Go("resume", func() {
					if s.r.Stats().InUse > 0 {
						s.tooMany = errors.New("admitted while paused")
					}
					s.r.Resize(2)
				})
				return func() error {
					switch {
					case s.tooMany != nil:
						return s.tooMany
					case !w.succeeded() || s.r.Stats().InUse != 3:
						return fmt.Errorf("returned: %v, %w", w.returned, w.err)
					}
					return nil
				}
			},
		},
		{
			Name:      "ResourceOversizedCloses",
			Invariant: "Close rejects a request for more than the capacity, unless it was admitted before",
			Bound:     toTheEnd,
			Setup: func(r *Run) func() error {
				s := newResourceScene(r, 1, condvar.AdmitOversized())
				s.hold(1)
				w := s.acquire("waiter", nil, 3)
				s.release("release", 1)
				s.Go("close", func() { _ = s.r.Close() })
				return func() error {
					if !w.succeeded() && !errors.Is(w.err, condvar.ErrClosed) {
						return fmt.Errorf("returned: %v, %w", w.returned, w.err)
					}
					if st := s.r.Stats(); st.InUse != s.taken || st.Waiting != 0 {
						return fmt.Errorf("%d are held: %+v", s.taken, st)
					}
					return nil
				}
			},
		},
	}
}
