package watch_test

import (
	"context"
	"math"
	"runtime"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"example.com/condvar"
	"example.com/condvar/internal/watch"
)

func nothing() {}

// full returns a resource of which all is held, and that has rejected n calls.
func full(t *testing.T, n int) *condvar.CapacityResource {
	r := condvar.NewCapacityResource(2, condvar.MaxWaiting(0))
	require.True(t, r.TryAcquireN(2))
	for range n {
		require.ErrorIs(t, r.Acquire(context.Background()), condvar.ErrOverloaded)
	}
	return r
}

func TestResourcesOfAKeyAreAddedUp(t *testing.T) {
	var s watch.Set[string]
	require.Empty(t, s.Sums())
	a, b, other := full(t, 1), full(t, 2), full(t, 0)
	s.Add("db", a, nothing)
	s.Add("db", b, nothing)
	s.Add("db", b, nothing) // again
	s.Add("disk", other, nothing)
	require.NoError(t, b.Close())
	require.Equal(t, map[string]*watch.Sum{
		"db": {
			Counters: watch.Counters{Rejected: 3}, Resources: 2, Closed: 1, Capacity: 4, InUse: 4, ClosedInUse: 2,
		},
		"disk": {Resources: 1, Capacity: 2, InUse: 2},
	}, s.Sums())
	require.Equal(t, 3, s.Len())
	s.Remove("db")
	require.Equal(t, 1, s.Len())
	require.NotContains(t, s.Sums(), "db")
	runtime.KeepAlive(a)
	runtime.KeepAlive(b)
	runtime.KeepAlive(other)
}

func TestSumsDoNotOverflow(t *testing.T) {
	var s watch.Set[int]
	a, b := condvar.NewCapacityResource(math.MaxInt64), condvar.NewCapacityResource(math.MaxInt64)
	s.Add(1, a, nothing)
	s.Add(1, b, nothing)
	require.InEpsilon(t, 2*float64(math.MaxInt64), s.Sums()[1].Capacity, 1e-9)
	runtime.KeepAlive(a)
	runtime.KeepAlive(b)
}

func TestASharedResourceIsKeptUntilItsKeyIsRemoved(t *testing.T) {
	var s watch.Set[string]
	stats := condvar.Stats{Capacity: 5, InUse: 1, WaitCount: 3}
	read := func() condvar.Stats { return stats }
	s.AddShared("fleet", read)
	r := full(t, 1)
	s.Add("fleet", r, func() { panic("a shared one is left") })
	want := watch.Sum{
		Counters: watch.Counters{WaitCount: 3, Rejected: 1}, Resources: 2, Shared: 1, Capacity: 7, InUse: 3,
	}
	require.Equal(t, map[string]*watch.Sum{"fleet": &want}, s.Sums())
	runtime.KeepAlive(r)
	collected(t, &s, 1)
	want.Resources, want.Capacity, want.InUse = 1, 5, 1
	require.Equal(t, map[string]*watch.Sum{"fleet": &want}, s.Sums(), "what the other counted stays")
	s.AddShared("fleet", read) // may be another resource
	require.Equal(t, 2, s.Sums()["fleet"].Shared)
	s.Remove("fleet")
	require.Empty(t, s.Sums())
	require.Zero(t, s.Len())
}

func TestEachCounterCountsWhenItAloneIncreases(t *testing.T) {
	var s watch.Set[string]
	var now condvar.Stats
	s.AddShared("fleet", func() condvar.Stats { return now })
	for _, step := range []struct {
		now  condvar.Stats
		want watch.Counters
	}{
		{condvar.Stats{WaitCount: 1}, watch.Counters{WaitCount: 1}},
		{condvar.Stats{WaitCount: 1, Canceled: 1}, watch.Counters{WaitCount: 1, Canceled: 1}},
		{condvar.Stats{WaitDuration: 5}, watch.Counters{WaitCount: 1, Canceled: 1, WaitDuration: 5}},
		{condvar.Stats{Rejected: 2, WaitDuration: 4}, watch.Counters{WaitCount: 1, Canceled: 1, Rejected: 2, WaitDuration: 5}},
	} {
		now = step.now
		require.Equal(t, step.want, s.Sums()["fleet"].Counters)
	}
}

// collected waits until only n resources are left.
func collected(t *testing.T, s *watch.Set[string], n int) {
	t.Helper()
	require.Eventually(t, func() bool {
		runtime.GC()
		return s.Len() == n
	}, 10*time.Second, time.Millisecond)
}

func TestAResourceThatIsGoneIsForgottenButWhatItCounted(t *testing.T) {
	var s watch.Set[string]
	empty := make(chan string, 1)
	kept, gone := full(t, 1), full(t, 2)
	s.Add("db", kept, func() { empty <- "db" })
	s.Add("db", gone, func() { empty <- "db" })
	require.EqualValues(t, 3, s.Sums()["db"].Rejected)
	runtime.KeepAlive(gone)
	collected(t, &s, 1)
	sum := s.Sums()["db"]
	require.EqualValues(t, 3, sum.Rejected)
	require.Equal(t, 1, sum.Resources)
	require.Empty(t, empty)
	runtime.KeepAlive(kept)
	collected(t, &s, 0)
	require.Equal(t, "db", <-empty)
	require.Empty(t, s.Sums())
}

func TestEmptyIsNotCalledForAKeyThatWasRemoved(t *testing.T) {
	var s watch.Set[string]
	s.Add("db", full(t, 0), func() { panic("db was removed") })
	s.Remove("db")
	done := make(chan struct{})
	s.Add("disk", full(t, 0), func() { close(done) })
	collected(t, &s, 0)
	<-done
}

// blockCleanups blocks the goroutines of the runtime that run cleanups, until
// the function that it returns is called.
func blockCleanups(t *testing.T) (unblock func()) {
	t.Helper()
	blocked := make(chan struct{})
	started := make(chan struct{}, 1000)
	for range cap(started) {
		runtime.AddCleanup(&[100]byte{}, func(struct{}) { started <- struct{}{}; <-blocked }, struct{}{})
	}
	running := -1
	require.Eventually(t, func() bool { // until no more of them start
		runtime.GC()
		before := running
		running = len(started)
		return running > 0 && running == before
	}, 10*time.Second, 10*time.Millisecond)
	require.Less(t, len(started), cap(started))
	return sync.OnceFunc(func() { close(blocked) })
}

// A resource may have been collected for a while before its cleanup runs.
func TestCountersDoNotDecreaseWhileACleanupIsDue(t *testing.T) {
	var s watch.Set[string]
	kept, gone := full(t, 1), full(t, 2)
	s.Add("db", kept, nothing)
	s.Add("db", gone, nothing)
	require.EqualValues(t, 3, s.Sums()["db"].Rejected)
	unblock := blockCleanups(t)
	defer unblock()
	runtime.KeepAlive(gone)
	require.Eventually(t, func() bool {
		runtime.GC()
		return s.Sums()["db"].Resources == 1
	}, 10*time.Second, time.Millisecond)
	require.Equal(t, 2, s.Len(), "its cleanup has not run")
	require.EqualValues(t, 3, s.Sums()["db"].Rejected)
	unblock()
	collected(t, &s, 1)
	require.EqualValues(t, 3, s.Sums()["db"].Rejected)
	runtime.KeepAlive(kept)
}

// wait makes r count a wait that ends with permits, and one that is canceled.
func wait(ctx context.Context, t *testing.T, r *condvar.CapacityResource) {
	t.Helper()
	time.AfterFunc(time.Second, r.Release)
	require.NoError(t, r.Acquire(ctx))
	short, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	require.Error(t, r.Acquire(short))
}

func TestWhatAResourceCountedStaysWhenItIsGone(t *testing.T) {
	var s watch.Set[string]
	kept, gone := condvar.NewCapacityResource(1), condvar.NewCapacityResource(1)
	s.Add("db", kept, nil)
	s.Add("db", gone, nil)
	synctest.Test(t, func(t *testing.T) {
		require.True(t, gone.TryAcquire())
		wait(t.Context(), t, gone)
	})
	want := watch.Counters{WaitCount: 2, Canceled: 1, WaitDuration: 2 * time.Second}
	require.Equal(t, want, s.Sums()["db"].Counters)
	s.Add("db", gone, nil) // again
	runtime.KeepAlive(gone)
	collected(t, &s, 1)
	require.Equal(t, want, s.Sums()["db"].Counters)
	runtime.KeepAlive(kept)
}

func TestTheOldestIsOfTheResourceWhoseFirstHasWaitedForLongest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		var s watch.Set[string]
		var all []*condvar.CapacityResource
		for i := range int64(3) {
			r := condvar.NewCapacityResource(2 + i)
			all = append(all, r)
			s.Add("db", r, nil)
			require.True(t, r.TryAcquireN(2+i))
			go r.AcquireN(ctx, 2)
			synctest.Wait()
			time.Sleep(time.Second)
		}
		paused, closed := condvar.NewCapacityResource(1), condvar.NewCapacityResource(1)
		paused.Resize(0)
		closed.Resize(0)
		require.NoError(t, closed.Close())
		s.Add("db", paused, nil)
		s.Add("db", closed, nil)
		sum := s.Sums()["db"]
		require.Equal(t, 3*time.Second, sum.Oldest.OldestWait)
		require.EqualValues(t, 2, sum.Oldest.Capacity)
		require.EqualValues(t, 3, sum.Waiting)
		require.EqualValues(t, 6, sum.WaitingN)
		require.Equal(t, 1, sum.Paused, "a resource that is closed is not paused")
		require.Equal(t, 1, sum.Closed)
		require.Zero(t, sum.ClosedInUse)
		cancel()
		synctest.Wait()
		runtime.KeepAlive(all)
		runtime.KeepAlive(paused)
		runtime.KeepAlive(closed)
	})
}
