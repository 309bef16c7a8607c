package condvar_test

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

// These tests use Cond as its users do: through the Barrier and the RWGate of
// example_test.go, in which waiters with different predicates share a Cond.

// A barrierDoor stands before the lock of a Barrier. While it is shut, whoever
// wants the lock waits for a turn; so a test can stop a Barrier that drains
// half-way. It matters to nobody in which order the waiters come to the door,
// so the tests count them and do not name them.
type barrierDoor struct {
	shut  bool
	turns chan struct{}
}

// newDoorBarrier returns a Barrier whose lock works in a bubble, and its door.
func newDoorBarrier(parties int, action func()) (*Barrier, *barrierDoor) {
	b, d, l := NewBarrier(parties, action), &barrierDoor{turns: make(chan struct{})}, newChanLock()
	l.beforeLock = func() {
		if d.shut {
			<-d.turns
		}
	}
	b.changed.L = l
	return b, d
}

// let gives n of those at the door a turn, one after the other.
func (d *barrierDoor) let(n int) {
	for range n {
		d.turns <- struct{}{}
		synctest.Wait()
	}
}

// open lets all at the door pass, for good.
func (d *barrierDoor) open() {
	d.shut = false
	close(d.turns)
	synctest.Wait()
}

// first shuts the door and lets f pass, ahead of those that f wakes.
func (d *barrierDoor) first(f func()) {
	d.shut = true
	start(func() error {
		f()
		return nil
	})
	d.let(1)
}

// bypass runs f, which finds the door open, while those at it stay there.
func (d *barrierDoor) bypass(f func()) {
	d.shut = false
	f()
	synctest.Wait()
	d.shut = true
}

// A barrierCall is a call of Barrier.Wait that was started by arrive.
type barrierCall struct {
	*asyncCall
	index int
	took  time.Duration
}

// arrive starts b.Wait(ctx), and settles.
func arrive(ctx context.Context, b *Barrier) *barrierCall {
	a := &barrierCall{}
	a.asyncCall = start(func() (err error) {
		begin := time.Now()
		a.index, err = b.Wait(ctx)
		a.took = time.Since(begin)
		return err
	})
	return a
}

// arriveN starts n calls of b.Wait(ctx), one after the other.
func arriveN(ctx context.Context, b *Barrier, n int) []*barrierCall {
	calls := make([]*barrierCall, n)
	for i := range calls {
		calls[i] = arrive(ctx, b)
	}
	return calls
}

// A barrierCount says what has become of some calls.
type barrierCount struct{ passed, broken, parked int }

// requireBarrierCount checks what has become of the calls.
func requireBarrierCount(t *testing.T, want barrierCount, calls ...*barrierCall) {
	t.Helper()
	var got barrierCount
	for _, a := range calls {
		switch {
		case !a.done.Load():
			got.parked++
		case a.err == nil:
			got.passed++
		default:
			require.ErrorIs(t, a.err, ErrBroken)
			require.Equal(t, -1, a.index)
			got.broken++
		}
	}
	require.Equal(t, want, got)
}

// requirePassed checks that the calls have passed, as one generation.
func requirePassed(t *testing.T, calls ...*barrierCall) {
	t.Helper()
	requireBarrierCount(t, barrierCount{passed: len(calls)}, calls...)
	indices := make([]int, len(calls))
	want := make([]int, len(calls))
	for i, a := range calls {
		indices[i], want[i] = a.index, i
	}
	slices.Sort(indices)
	require.Equal(t, want, indices)
}

// requireUsable checks that b is idle and lets a generation pass.
func requireUsable(t *testing.T, b *Barrier) {
	t.Helper()
	require.Equal(t, fmt.Sprintf("filling, 0/%d", b.parties), b.String())
	requirePassed(t, arriveN(t.Context(), b, b.parties)...)
	require.Zero(t, b.changed.Waiters())
}

// drainHalf fills b, of 4 parties, and lets 2 leave; the others are at the door.
func drainHalf(t *testing.T, b *Barrier, d *barrierDoor) []*barrierCall {
	t.Helper()
	calls := arriveN(t.Context(), b, b.parties-1)
	d.shut = true
	calls = append(calls, arrive(t.Context(), b))
	d.let(1) // the last arrival, who leaves at once
	d.let(1)
	requireBarrierCount(t, barrierCount{passed: 2, parked: 2}, calls...)
	require.Equal(t, draining, b.state)
	return calls
}

// Row E1.
func TestBarrierLetsNobodyLeaveBeforeAllHaveArrived(t *testing.T) {
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

// Row E2. With the mutex that the examples use, and no settling in between.
func TestBarrierKeepsItsPartiesInStep(t *testing.T) {
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
func TestBarrierNeedsAParty(t *testing.T) {
	for _, parties := range []int{0, -1, math.MinInt} {
		require.Panics(t, func() { NewBarrier(parties, nil) }, "%d parties", parties)
	}
}

// Row E4.
func TestBarrierGivesEachPartyAnIndexOfItsOwn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, _ := newDoorBarrier(7, nil)
		requirePassed(t, arriveN(t.Context(), b, 7)...)
	})
}

// Row E5.
func TestBarrierOfOnePartyNeverBlocks(t *testing.T) {
	b := NewBarrier(1, nil)
	for range 2 {
		index, err := b.Wait(t.Context())
		require.NoError(t, err)
		require.Zero(t, index)
		require.Zero(t, b.Waiting())
	}
}

// Row E6.
func TestBarrierCountsThoseWhoWait(t *testing.T) {
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
func TestBarrierDoesNotMixGenerations(t *testing.T) {
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
func TestBarrierDrainsUntilTheLastHasLeft(t *testing.T) {
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
func TestBarrierKeepsNewcomersOutWhileItDrains(t *testing.T) {
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

func TestBarrierNewcomerThatIsKeptOutObeysItsContext(t *testing.T) {
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
		requirePassed(t, first...) // nobody waited for the newcomer
		requireUsable(t, b)
	})
}

// Row E10.
func TestBarrierDoesNotCountACanceledArrival(t *testing.T) {
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

// Row E11. Whoever it is that cancels.
func TestBarrierIndicesStayUniqueAfterACancel(t *testing.T) {
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

func TestBarrierThatIsFullLetsPassWhoIsCanceledThen(t *testing.T) {
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
func TestBarrierResetOfAnIdleBarrierDoesNoHarm(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, _ := newDoorBarrier(3, nil)
		b.Reset()
		requireUsable(t, b)
		b.Reset()
		requireUsable(t, b)
	})
}

// Row E13.
func TestBarrierResetSendsAwayThoseWhoWait(t *testing.T) {
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
func TestBarrierResetWhileHalfHaveLeft(t *testing.T) {
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
func TestBarrierTakesThoseBackWhomAResetSentAway(t *testing.T) {
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
		// The first to leave is back while the other is still inside.
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
func TestBarrierResetDoesNotTouchThoseWhoHaveLeft(t *testing.T) {
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
func TestBarrierAbortOfAnIdleBarrierBreaksIt(t *testing.T) {
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
func TestBarrierAbortBreaksWaitingAndFutureWaits(t *testing.T) {
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
func TestBarrierResetMendsAnAbortedBarrier(t *testing.T) {
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
func TestBarrierActionRunsOnceBeforeAnybodyLeaves(t *testing.T) {
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

func TestBarrierActionThatPanicsBreaksTheBarrier(t *testing.T) {
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
func TestBarrierDeadlineBreaksItForEverybody(t *testing.T) {
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
func TestBarrierStringShowsStateAndCount(t *testing.T) {
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

// newBubbleGate returns an RWGate whose lock works in a bubble.
func newBubbleGate() *RWGate {
	g := NewRWGate()
	g.changed.L = newChanLock()
	return g
}

func TestRWGateWriterThatWaitsHoldsBackNewReaders(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newBubbleGate()
		for range 2 {
			require.NoError(t, g.RLock(t.Context()))
		}
		writer := start(func() error { return g.Lock(t.Context()) })
		reader := start(func() error { return g.RLock(t.Context()) })
		g.RUnlock()
		synctest.Wait()
		writer.requireParked(t)
		reader.requireParked(t)

		g.RUnlock()
		synctest.Wait()
		writer.requireDone(t, nil)
		reader.requireParked(t)
		other := start(func() error { return g.Lock(t.Context()) })
		other.requireParked(t)

		g.Unlock()
		synctest.Wait()
		other.requireDone(t, nil)
		reader.requireParked(t)

		g.Unlock()
		synctest.Wait()
		reader.requireDone(t, nil)
		g.RUnlock()
		require.Zero(t, g.readers)
	})
}

func TestRWGateWriterThatGivesUpLetsReadersIn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newBubbleGate()
		require.NoError(t, g.RLock(t.Context()))
		ctx, cancel := context.WithCancel(t.Context())
		writer := start(func() error { return g.Lock(ctx) })
		readers := []*asyncCall{
			start(func() error { return g.RLock(t.Context()) }),
			start(func() error { return g.RLock(t.Context()) }),
		}
		for _, r := range readers {
			r.requireParked(t)
		}
		cancel()
		synctest.Wait()
		writer.requireDone(t, context.Canceled)
		for _, r := range readers {
			r.requireDone(t, nil)
		}
		require.Equal(t, 3, g.readers)
		require.Zero(t, g.changed.Waiters())
	})
}

func TestRWGateLastReaderLetsTheWriterInThatIsBehindAReader(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newBubbleGate()
		require.NoError(t, g.RLock(t.Context()))
		ctx, cancel := context.WithCancel(t.Context())
		impatient := start(func() error { return g.Lock(ctx) })
		reader := start(func() error { return g.RLock(t.Context()) })
		writer := start(func() error { return g.Lock(t.Context()) })
		cancel()
		synctest.Wait()
		impatient.requireDone(t, context.Canceled)
		reader.requireParked(t) // at the head of the line, and may not enter

		g.RUnlock()
		synctest.Wait()
		writer.requireDone(t, nil)
		g.Unlock()
		synctest.Wait()
		reader.requireDone(t, nil)
	})
}

func TestRWGateReaderThatGivesUpIsNotInside(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newBubbleGate()
		require.NoError(t, g.Lock(t.Context()))
		ctx, cancel := context.WithCancel(t.Context())
		reader := start(func() error { return g.RLock(ctx) })
		reader.requireParked(t)
		cancel()
		synctest.Wait()
		reader.requireDone(t, context.Canceled)
		g.Unlock()
		start(func() error { return g.Lock(t.Context()) }).requireDone(t, nil)
	})
}

// Left out of part E: nothing. Where the sources differ, a cancellation
// un-counts its party, as in asyncio, a deadline breaks the barrier, as in
// threading, and a Reset also sends those away who are about to leave, as in
// asyncio. The index is given out on leaving, which makes it unique.
