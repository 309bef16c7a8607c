package recipes_test

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sync/errgroup"
)

// Row E1.
func TestBarrier_LetsNobodyLeaveBeforeAllHaveArrived(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const parties = 5
		b, _ := newDoorBarrier(parties, nil)
		var calls []*barrierCall
		for i := range parties - 1 {
			calls = append(calls, arrive(t.Context(), b))
			requireBarrierCount(t, barrierCount{parked: i + 1}, calls...)
		}
		calls = append(calls, arrive(t.Context(), b))
		requireBarrierCount(t, barrierCount{passed: parties}, calls...)
	})
}

// Row E2. With the mutex of the examples, and without settling in between.
func TestBarrier_KeepsItsPartiesInStep(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const parties, passes = 5, 10
		b := NewBarrier(parties, nil)
		var before, after atomic.Int64
		g, ctx := errgroup.WithContext(t.Context())
		for range parties {
			g.Go(func() error {
				for i := range int64(passes) {
					before.Add(1)
					if n := after.Load(); n != i*parties {
						return fmt.Errorf("pass %d: %d are through already", i, n)
					}
					if _, err := b.Wait(ctx); err != nil {
						return err
					}
					after.Add(1)
					if n := before.Load(); n != (i+1)*parties {
						return fmt.Errorf("pass %d: %d had arrived", i, n)
					}
					if _, err := b.Wait(ctx); err != nil {
						return err
					}
				}
				return nil
			})
		}
		require.NoError(t, g.Wait())
		require.Equal(t, int64(parties*passes), after.Load())
		require.Equal(t, "filling, 0/5", b.String())
	})
}

// Row E3.
func TestBarrier_NeedsAParty(t *testing.T) {
	for _, parties := range []int{0, -1, math.MinInt} {
		require.Panics(t, func() { NewBarrier(parties, nil) }, "%d parties", parties)
	}
}

// Row E4.
func TestBarrier_GivesEachPartyAnIndexOfItsOwn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, _ := newDoorBarrier(7, nil)
		requirePassed(t, arriveN(t.Context(), b, 7)...)
	})
}

// Row E5.
func TestBarrier_OfOnePartyNeverBlocks(t *testing.T) {
	b := NewBarrier(1, nil)
	for range 2 {
		index, err := b.Wait(t.Context())
		require.NoError(t, err)
		require.Zero(t, index)
		require.Zero(t, b.Waiting())
	}
}

// Row E6.
func TestBarrier_CountsThoseWhoWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, _ := newDoorBarrier(3, nil)
		require.Equal(t, 0, b.Waiting())
		calls := arriveN(t.Context(), b, 1)
		require.Equal(t, 1, b.Waiting())
		calls = append(calls, arrive(t.Context(), b))
		require.Equal(t, 2, b.Waiting())
		calls = append(calls, arrive(t.Context(), b))
		require.Equal(t, 0, b.Waiting())
		requirePassed(t, calls...)
	})
}

// Row E7.
func TestBarrier_DoesNotMixGenerations(t *testing.T) {
	t.Run("one after the other", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			b, _ := newDoorBarrier(3, nil)
			for range 2 {
				requirePassed(t, arriveN(t.Context(), b, 3)...)
			}
		})
	})
	t.Run("the fastest is back before the others have left", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			b, d := newDoorBarrier(4, nil)
			first := drainHalf(t, b, d)
			var second []*barrierCall
			d.bypass(func() { second = arriveN(t.Context(), b, 1) })
			d.open()
			requirePassed(t, first...)
			second[0].requireParked(t)
			require.Equal(t, 1, b.Waiting())
			second = append(second, arriveN(t.Context(), b, 3)...)
			requirePassed(t, second...)
		})
	})
}

// Row E8.
func TestBarrier_DrainsUntilTheLastHasLeft(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, d := newDoorBarrier(4, nil)
		calls := drainHalf(t, b, d)
		d.let(1)
		require.Equal(t, draining, b.state)
		require.Equal(t, 1, b.inside)
		d.let(1)
		require.Equal(t, filling, b.state)
		require.Equal(t, 0, b.inside)
		requirePassed(t, calls...)
	})
}

// Row E9.
func TestBarrier_KeepsNewcomersOutWhileItDrains(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, d := newDoorBarrier(4, nil)
		first := drainHalf(t, b, d)
		var second []*barrierCall
		d.bypass(func() {
			second = arriveN(t.Context(), b, 6) // more than a generation
			require.Equal(t, 0, b.Waiting())
		})
		require.Equal(t, 2, b.inside)
		d.open()
		requirePassed(t, first...)
		requireBarrierCount(t, barrierCount{passed: 4, parked: 2}, second...)
		require.Equal(t, 2, b.Waiting())
		second = append(second, arriveN(t.Context(), b, 2)...)
		requireBarrierCount(t, barrierCount{passed: 8}, second...)
	})
}

func TestBarrier_NewcomerThatIsKeptOutObeysItsContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, d := newDoorBarrier(4, nil)
		first := drainHalf(t, b, d)
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		d.bypass(func() {
			newcomer := arrive(ctx, b)
			time.Sleep(time.Second)
			synctest.Wait()
			newcomer.requireDone(t, context.DeadlineExceeded)
			require.NotErrorIs(t, newcomer.err, ErrBroken)
		})
		d.open()
		requirePassed(t, first...) // no party waited for the new one
		requireUsable(t, b)
	})
}

// Row E10.
func TestBarrier_DoesNotCountACanceledArrival(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, _ := newDoorBarrier(3, nil)
		ctx, cancel := context.WithCancel(t.Context())
		calls := arriveN(t.Context(), b, 1)
		canceled := arrive(ctx, b)
		require.Equal(t, 2, b.Waiting())

		cancel()
		synctest.Wait()
		canceled.requireDone(t, context.Canceled)
		require.NotErrorIs(t, canceled.err, ErrBroken)
		require.Equal(t, -1, canceled.index)
		require.Equal(t, 1, b.Waiting())
		calls[0].requireParked(t)

		calls = append(calls, arrive(t.Context(), b))
		require.Equal(t, 2, b.Waiting())
		requireBarrierCount(t, barrierCount{parked: 2}, calls...)
		calls = append(calls, arrive(t.Context(), b))
		require.Equal(t, 0, b.Waiting())
		requirePassed(t, calls...)
	})
}

// Row E11. Whichever call cancels.
func TestBarrier_IndicesStayUniqueAfterACancel(t *testing.T) {
	for canceled := range 2 {
		t.Run(fmt.Sprintf("arrival %d of 2", canceled), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b, _ := newDoorBarrier(3, nil)
				var calls []*barrierCall
				var cancels []context.CancelFunc
				for range 2 {
					ctx, cancel := context.WithCancel(t.Context())
					defer cancel()
					cancels = append(cancels, cancel)
					calls = append(calls, arrive(ctx, b))
				}
				cancels[canceled]()
				synctest.Wait()
				calls[canceled].requireDone(t, context.Canceled)

				calls = slices.Delete(calls, canceled, canceled+1)
				calls = append(calls, arriveN(t.Context(), b, 2)...)
				requirePassed(t, calls...)
			})
		})
	}
}

func TestBarrier_ThatIsFullLetsPassWhoIsCanceledThen(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, d := newDoorBarrier(3, nil)
		ctx, cancel := context.WithCancel(t.Context())
		calls := arriveN(ctx, b, 2)
		d.shut = true
		calls = append(calls, arrive(ctx, b))
		d.let(1)
		requireBarrierCount(t, barrierCount{passed: 1, parked: 2}, calls...)
		cancel()
		d.open()
		requirePassed(t, calls...)
		requireUsable(t, b)
	})
}

// Row E12.
func TestBarrier_ResetOfAnIdleBarrierDoesNoHarm(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, _ := newDoorBarrier(3, nil)
		b.Reset()
		requireUsable(t, b)
		b.Reset()
		requireUsable(t, b)
	})
}

// Row E13.
func TestBarrier_ResetSendsAwayThoseWhoWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, _ := newDoorBarrier(5, nil)
		calls := arriveN(t.Context(), b, 4)
		b.Reset()
		synctest.Wait()
		requireBarrierCount(t, barrierCount{broken: 4}, calls...)
		requireUsable(t, b)
	})
}

// Row E14.
func TestBarrier_ResetWhileHalfHaveLeft(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, d := newDoorBarrier(4, nil)
		first := drainHalf(t, b, d)
		var second []*barrierCall
		d.bypass(func() {
			second = arriveN(t.Context(), b, 3)
			b.Reset()
		})
		requireBarrierCount(t, barrierCount{passed: 2, parked: 2}, first...)
		requireBarrierCount(t, barrierCount{parked: 3}, second...)
		require.Equal(t, resetting, b.state)

		d.open()
		requireBarrierCount(t, barrierCount{passed: 2, broken: 2}, first...)
		requireBarrierCount(t, barrierCount{parked: 3}, second...)
		require.Equal(t, 3, b.Waiting())
		requirePassed(t, append(second, arrive(t.Context(), b))...)
	})
}

// Row E15.
func TestBarrier_TakesThoseBackWhomAResetSentAway(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, d := newDoorBarrier(3, nil)
		indices := make([]int, 2)
		var again []*asyncCall
		for i := range indices {
			again = append(again, start(func() error {
				if _, err := b.Wait(t.Context()); !errors.Is(err, ErrBroken) {
					return fmt.Errorf("the first wait ended with %w", err)
				}
				var err error
				indices[i], err = b.Wait(t.Context())
				return err
			}))
		}
		// The first party to leave is back while the other is still inside.
		d.first(b.Reset)
		d.let(1)
		require.Equal(t, resetting, b.state)
		d.open()
		require.Equal(t, 2, b.Waiting())

		third := arrive(t.Context(), b)
		third.requireDone(t, nil)
		for _, a := range again {
			a.requireDone(t, nil)
		}
		require.ElementsMatch(t, []int{0, 1, 2}, append(indices, third.index))
	})
}

// Row E16.
func TestBarrier_ResetDoesNotTouchThoseWhoHaveLeft(t *testing.T) {
	for left := 2; left <= 4; left++ {
		t.Run(fmt.Sprintf("%d of 4", left), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b, d := newDoorBarrier(4, nil)
				calls := drainHalf(t, b, d)
				d.let(left - 2)
				d.bypass(b.Reset)
				d.open()
				requireBarrierCount(t, barrierCount{passed: left, broken: 4 - left}, calls...)
				requireUsable(t, b)
			})
		})
	}
}

// Row E17.
func TestBarrier_AbortOfAnIdleBarrierBreaksIt(t *testing.T) {
	for _, parties := range []int{1, 3} {
		t.Run(fmt.Sprintf("of %d", parties), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b, _ := newDoorBarrier(parties, func() { t.Error("the action runs") })
				b.Abort()
				b.Abort()
				require.Equal(t, broken, b.state)
				calls := arriveN(t.Context(), b, parties)
				requireBarrierCount(t, barrierCount{broken: parties}, calls...)
				require.Equal(t, broken, b.state)
			})
		})
	}
}

// Row E18.
func TestBarrier_AbortBreaksWaitingAndFutureWaits(t *testing.T) {
	t.Run("filling", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			b, _ := newDoorBarrier(5, nil)
			calls := arriveN(t.Context(), b, 4)
			b.Abort()
			synctest.Wait()
			calls = append(calls, arrive(t.Context(), b))
			requireBarrierCount(t, barrierCount{broken: 5}, calls...)
			require.Equal(t, "broken, 0/5", b.String())
		})
	})
	t.Run("half have left", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			b, d := newDoorBarrier(4, nil)
			first := drainHalf(t, b, d)
			var second []*barrierCall
			d.bypass(func() {
				second = arriveN(t.Context(), b, 2) // kept out
				b.Abort()
			})
			d.open()
			second = append(second, arrive(t.Context(), b))
			requireBarrierCount(t, barrierCount{passed: 2, broken: 2}, first...)
			requireBarrierCount(t, barrierCount{broken: 3}, second...)
			require.Equal(t, "broken, 0/4", b.String())
		})
	})
	t.Run("a party fails", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			boom := errors.New("boom")
			b, _ := newDoorBarrier(3, nil)
			var g errgroup.Group
			var lost atomic.Int64
			for i := range 3 {
				g.Go(func() (err error) {
					defer func() {
						if errors.Is(err, boom) {
							b.Abort()
						}
					}()
					if i == 0 {
						return boom
					}
					if _, err := b.Wait(t.Context()); !errors.Is(err, ErrBroken) {
						return fmt.Errorf("the wait ended with %w", err)
					}
					lost.Add(1)
					return nil
				})
			}
			require.ErrorIs(t, g.Wait(), boom)
			require.Equal(t, int64(2), lost.Load())
		})
	})
}

// Row E19.
func TestBarrier_ResetMendsAnAbortedBarrier(t *testing.T) {
	t.Run("idle", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			b, _ := newDoorBarrier(3, nil)
			b.Abort()
			b.Reset()
			requireUsable(t, b)
		})
	})
	t.Run("all have left", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			b, _ := newDoorBarrier(3, nil)
			calls := arriveN(t.Context(), b, 2)
			b.Abort()
			synctest.Wait()
			requireBarrierCount(t, barrierCount{broken: 2}, calls...)
			b.Reset()
			requireUsable(t, b)
		})
	})
	t.Run("nobody has left", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			b, d := newDoorBarrier(3, nil)
			first := arriveN(t.Context(), b, 2)
			var second []*barrierCall
			d.first(b.Abort)
			d.bypass(func() {
				b.Reset()
				second = arriveN(t.Context(), b, 2)
				require.Equal(t, "resetting, 2/3", b.String())
			})
			d.open()
			requireBarrierCount(t, barrierCount{broken: 2}, first...)
			requireBarrierCount(t, barrierCount{parked: 2}, second...)
			requirePassed(t, append(second, arrive(t.Context(), b))...)
			requireUsable(t, b)
		})
	})
	t.Run("half have left", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			b, d := newDoorBarrier(4, nil)
			calls := drainHalf(t, b, d)
			d.bypass(func() {
				b.Abort()
				b.Reset()
			})
			d.open()
			requireBarrierCount(t, barrierCount{passed: 2, broken: 2}, calls...)
			requireUsable(t, b)
		})
	})
}

// Row E20.
func TestBarrier_ActionRunsOnceBeforeAnybodyLeaves(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const parties, generations = 4, 3
		var left atomic.Int64
		var seen []int64 // how many had left when the action ran
		b, _ := newDoorBarrier(parties, func() { seen = append(seen, left.Load()) })
		for range generations {
			for i := range parties {
				require.Zero(t, int(left.Load())%parties)
				start(func() error {
					_, err := b.Wait(t.Context())
					left.Add(1)
					return err
				})
				require.Equal(t, i == parties-1, b.Waiting() == 0)
			}
		}
		require.Equal(t, []int64{0, parties, 2 * parties}, seen)
		require.Equal(t, int64(parties*generations), left.Load())
	})
}

func TestBarrier_ActionThatPanicsBreaksTheBarrier(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, _ := newDoorBarrier(3, func() { panic("boom") })
		calls := arriveN(t.Context(), b, 2)
		require.PanicsWithValue(t, "boom", func() { _, _ = b.Wait(t.Context()) })
		synctest.Wait()
		requireBarrierCount(t, barrierCount{broken: 2}, calls...)
		require.Equal(t, "broken, 0/3", b.String())
		b.action = func() {}
		b.Reset()
		requireUsable(t, b)
	})
}

// Row E21.
func TestBarrier_DeadlineBreaksItForEverybody(t *testing.T) {
	const parties, timeout = 5, 500 * time.Millisecond
	for _, deadlines := range []int{1, parties - 1} {
		t.Run(fmt.Sprintf("%d with a deadline", deadlines), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b, _ := newDoorBarrier(parties, nil)
				ctx, cancel := context.WithTimeout(t.Context(), timeout)
				defer cancel()
				calls := arriveN(ctx, b, deadlines)
				calls = append(calls, arriveN(t.Context(), b, parties-1-deadlines)...)

				time.Sleep(timeout - time.Nanosecond)
				synctest.Wait()
				require.Equal(t, parties-1, b.Waiting())
				time.Sleep(time.Nanosecond)
				synctest.Wait()
				requireBarrierCount(t, barrierCount{broken: parties - 1}, calls...)
				expired := 0
				for _, a := range calls {
					require.Equal(t, timeout, a.took)
					if errors.Is(a.err, context.DeadlineExceeded) {
						expired++
					}
				}
				require.Positive(t, expired, "somebody has to say why")

				late := arrive(t.Context(), b)
				late.requireDone(t, ErrBroken)
				require.Zero(t, late.took)
				b.Reset()
				requireUsable(t, b)
			})
		})
	}
}

// Row E22.
func TestBarrier_StringShowsStateAndCount(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, d := newDoorBarrier(4, nil)
		requireString := func(want string) {
			t.Helper()
			d.bypass(func() { require.Equal(t, want, b.String()) })
		}
		requireString("filling, 0/4")
		d.bypass(func() { arriveN(t.Context(), b, 2) })
		requireString("filling, 2/4")
		d.first(b.Reset)
		requireString("resetting, 2/4")
		d.let(1)
		requireString("resetting, 1/4")
		d.let(1)
		requireString("filling, 0/4")

		d.shut = false
		drainHalf(t, b, d)
		requireString("draining, 2/4")
		d.bypass(b.Abort)
		requireString("broken, 2/4")
		d.open()
		require.Equal(t, "broken, 0/4", b.String())
	})
}
