package recipes_test

import (
	"context"
	"fmt"
	"slices"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
)

// These tests use Cond through the Barrier of barrier_test.go and the RWGate of
// gate_test.go, in which waiters with different predicates share a Cond.

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m)
}

// A barrierDoor guards the lock of a Barrier. While it is shut, a goroutine
// that locks waits for a turn, so that a test can stop a Barrier halfway
// through draining. The order in which waiters come to the door does not
// matter, so the tests count them and do not identify them.
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

// let gives n goroutines at the door a turn, one after the other.
func (d *barrierDoor) let(n int) {
	for range n {
		d.turns <- struct{}{}
		synctest.Wait()
	}
}

// open opens the door for all goroutines, now and later.
func (d *barrierDoor) open() {
	d.shut = false
	close(d.turns)
	synctest.Wait()
}

// first shuts the door and lets f pass, ahead of the goroutines that f wakes.
func (d *barrierDoor) first(f func()) {
	d.shut = true
	start(func() error {
		f()
		return nil
	})
	d.let(1)
}

// bypass runs f with the door open, while the goroutines at the door stay
// there.
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

// A barrierCount counts the outcomes of calls.
type barrierCount struct{ passed, broken, parked int }

// requireBarrierCount checks the outcomes of the calls.
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

// drainHalf fills b, of 4 parties, and lets 2 leave; the others are at the
// door.
func drainHalf(t *testing.T, b *Barrier, d *barrierDoor) []*barrierCall {
	t.Helper()
	calls := arriveN(t.Context(), b, b.parties-1)
	d.shut = true
	calls = append(calls, arrive(t.Context(), b))
	d.let(1) // the last arrival, which leaves at once
	d.let(1)
	requireBarrierCount(t, barrierCount{passed: 2, parked: 2}, calls...)
	require.Equal(t, draining, b.state)
	return calls
}

// start runs f on a goroutine and waits until the bubble is at rest: f has
// returned, or is parked.
func start(f func() error) *asyncCall {
	a := &asyncCall{}
	go func() {
		a.err = f()
		a.done.Store(true)
	}()
	synctest.Wait()
	return a
}

// An asyncCall is a call on its own goroutine, and what it returned. err may be
// read once done is true.
type asyncCall struct {
	done atomic.Bool
	err  error
}

// requireDone checks that a has returned, and what.
func (a *asyncCall) requireDone(t *testing.T, want error) {
	t.Helper()
	require.True(t, a.done.Load(), "the call has not returned")
	if want == nil {
		require.NoError(t, a.err)
	} else {
		require.ErrorIs(t, a.err, want)
	}
}

// requireParked checks that a has not returned.
func (a *asyncCall) requireParked(t *testing.T) {
	t.Helper()
	if a.done.Load() {
		require.Fail(t, "the call has returned", "%v", a.err)
	}
}

// A chanLock is a Locker made of a channel. A goroutine of a bubble that waits
// for it is durably blocked, unlike one that waits for a sync.Mutex.
type chanLock struct {
	ch         chan struct{}
	beforeLock func()
}

func newChanLock() *chanLock { return &chanLock{ch: make(chan struct{}, 1), beforeLock: func() {}} }

func (l *chanLock) Lock() {
	l.beforeLock()
	l.ch <- struct{}{}
}

func (l *chanLock) Unlock() { <-l.ch }
