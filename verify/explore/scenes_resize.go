//go:build condvar_explore

package explore

import (
	"context"
	"errors"
	"fmt"
	"time"

	"example.com/condvar"
)

// resizeScenes returns the scenes about Resize, Close, Drain, hooks, and Stats.
func resizeScenes() []*Scene {
	return []*Scene{
		{
			Name:      "ResourceGrowRacingRelease",
			Invariant: "two in line, one permit added and one released: both are admitted",
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
						return errors.New("a call that fits sleeps")
					}
					return s.atRest()
				}
			},
		},
		{
			Name:      "ResourceShrinkRacingAll",
			Invariant: "after a shrink no call is admitted until usage fits again, and concurrent releases are not treated as too many",
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
			Invariant: "a head that is larger than the new capacity fails, and the next is admitted",
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
					// If the release comes first, the head is admitted and
					// keeps its permits.
					if !errors.Is(head.err, condvar.ErrTooLarge) && !head.succeeded() || head.succeeded() == next.succeeded() {
						return fmt.Errorf("head: %w; next admitted: %v", head.err, next.succeeded())
					}
					return s.atRest()
				}
			},
		},
		{
			Name:      "ResourcePauseRacingRelease",
			Invariant: "a paused resource admits no call, and the next Resize admits all that fit",
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
					// With capacity 1 the large one fails, otherwise it waits.
					if large.failed() && !errors.Is(large.err, condvar.ErrTooLarge) {
						return fmt.Errorf("the large one: %w", large.err)
					}
					return s.atRest()
				}
			},
		},
		{
			Name:      "ResourceCloseRacingAll",
			Invariant: "after Close no permit is acquired and no call waits",
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
			Invariant: "of two releases of one permit, one panics, and the accounting stays correct",
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
			Invariant: "a release of more than is held panics, and does not admit the waiter",
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
			Invariant: "two Drains return when the last permit is released, and not before",
			Bound:     1,
			LongBound: 2,
			Setup: func(r *Run) func() error {
				s := newResourceScene(r, 1)
				s.hold(1)
				drains := []*call{s.drain("drain1", nil), s.drain("drain2", r.Context())}
				acquirer := s.acquire("acquirer", nil, 1)
				s.release("release", 1)
				return func() error {
					// The acquirer keeps its permit if it was first.
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
			Name:      "ResourceDrainWithADeadContext",
			Invariant: "a Drain with a canceled context returns nil if nothing is held when it begins, otherwise its error or nil",
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
			Invariant: "a release during WaitStart, before the call is in line, is not missed, and all hooks are called",
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
			Invariant: "Stats is a snapshot: while a permit is acquired before another is released, InUse is never 0",
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
			Invariant: "a capacity that does not fit in the state works with the mutex only",
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
