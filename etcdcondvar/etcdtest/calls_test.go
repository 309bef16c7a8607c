package etcdtest_test

import (
	"context"
	"errors"
	"fmt"
	"math"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/client/v3/namespace"

	"example.com/condvar"
	"example.com/condvar/etcdcondvar"
	"example.com/condvar/etcdcondvar/etcdtest"
	"example.com/condvar/promcondvar"
)

// Test 3.
func TestDo(t *testing.T) {
	s := newScene(t)
	defer s.end()
	r, other := s.resource(s.direct, 1), s.resource(newClient(t, shared.Endpoint), 1)
	ran := false
	require.NoError(t, r.Do(s.ctx, func(inner context.Context) error {
		ran = true
		_, err := other.TryAcquire(s.ctx)
		require.ErrorIs(t, err, etcdcondvar.ErrFull)
		require.NoError(t, inner.Err())
		return nil
	}))
	require.True(t, ran)
	p, err := other.TryAcquire(s.ctx)
	require.NoError(t, err)
	require.Positive(t, p.Token())
	p.Release()
	require.NoError(t, p.Err())

	broken := errors.New("broken")
	require.Equal(t, broken, r.Do(s.ctx, func(context.Context) error { return broken }))
	require.Panics(t, func() { _ = r.Do(s.ctx, func(context.Context) error { panic("broken") }) })
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = r.Do(s.ctx, func(context.Context) error { runtime.Goexit(); return nil })
	}()
	<-done
	require.Equal(t, etcdcondvar.Fleet{Capacity: 1}, s.fleet(r))
}

// Test 1.
func TestAcquireN_numbers(t *testing.T) {
	s := newScene(t)
	defer s.end()
	r, other := s.resource(s.direct, 3), s.resource(newClient(t, shared.Endpoint), 3)
	require.Panics(t, func() { _, _ = r.AcquireN(s.ctx, -1) })
	for _, n := range []int64{0, 1, 2, 3} {
		p, err := r.AcquireN(s.ctx, n)
		require.NoError(t, err)
		require.Equal(t, n, r.Stats().InUse)
		require.Equal(t, n, s.fleet(other).InUse)
		if n > 0 {
			_, err = other.TryAcquireN(s.ctx, 3-n+1)
			require.ErrorIs(t, err, etcdcondvar.ErrFull)
		}
		q, err := other.TryAcquireN(s.ctx, 3-n)
		require.NoError(t, err)
		q.Release()
		p.Release()
		require.NoError(t, other.DoN(s.ctx, n, func(context.Context) error { return nil }))
	}
	for _, n := range []int64{4, math.MaxInt64} {
		_, err := r.AcquireN(s.ctx, n)
		require.ErrorIs(t, err, condvar.ErrTooLarge)
		_, err = r.TryAcquireN(s.ctx, n)
		require.ErrorIs(t, err, condvar.ErrTooLarge)
	}
	require.NoError(t, r.Resize(s.ctx, 0))
	require.NoError(t, r.Resize(s.ctx, math.MaxInt64))
	p, err := r.AcquireN(s.ctx, math.MaxInt64)
	require.NoError(t, err)
	a, b := s.start(r, math.MaxInt64), s.start(other, math.MaxInt64)
	s.tickets(3)
	fleet := s.fleet(r)
	require.EqualValues(t, math.MaxInt64, fleet.InUse)
	require.EqualValues(t, math.MaxInt64, fleet.WaitingN)
	a.cancel()
	b.cancel()
	<-a.done
	<-b.done
	require.ErrorIs(t, a.err, context.Canceled)
	s.tickets(1)
	p.Release()
}

// Test 5.
func TestRelease_inEachState(t *testing.T) {
	t.Run("by many", func(t *testing.T) {
		s := newScene(t)
		defer s.end()
		r := s.resource(s.direct, 2)
		p := s.acquireN(r, 2)
		p.stopLooking()
		var wg sync.WaitGroup
		for range 50 {
			wg.Go(p.Release)
		}
		wg.Wait()
		require.NoError(t, p.Err())
		s.acquireN(r, 2).release()
		require.Zero(t, r.Stats().InUse)
	})
	t.Run("after a loss, after Close", func(t *testing.T) {
		s := newScene(t)
		defer s.end()
		r := s.resource(s.direct, 1)
		lost, err := r.Acquire(s.ctx) // not judged: a loss by hand may be noticed late
		require.NoError(t, err)
		s.revoke()
		<-lost.Context(s.ctx).Done()
		lost.Release()
		require.Equal(t, etcdcondvar.ErrLost, lost.Err())
		p := s.acquire(r)
		require.NoError(t, r.Close())
		require.NoError(t, p.Err())
		p.release()
		require.NoError(t, p.Err())
	})
	t.Run("etcd is silent", func(t *testing.T) {
		s := newScene(t)
		defer s.end()
		proxy := etcdtest.NewProxy(t, shared.Endpoint)
		r := s.resource(newClient(t, proxy.Endpoint), 3, etcdcondvar.WithTTL(ttl))
		p, q, last := s.acquire(r), s.acquire(r), s.acquire(r)
		proxy.Hold(true, true)
		start := time.Now()
		p.release()
		require.InDelta(t, 1, time.Since(start).Seconds(), 0.3)
		<-q.Context(s.ctx).Done() // the session is over
		start = time.Now()
		q.release()
		last.release()
		require.Less(t, time.Since(start), 300*time.Millisecond)
		proxy.Heal()
		proxy.Reset()
	})
}

// revoke revokes the lease of the oldest ticket, like an operator. It tries
// again if the history still has a ticket that was deleted.
func (s *scene) revoke() {
	s.Helper()
	var lease clientv3.LeaseID
	eventually(s, func() bool {
		var key string
		s.history.Look(func(h *etcdtest.History) {
			if live := h.Live(); len(live) > 0 {
				key = live[0].Key
			}
		})
		if key == "" {
			return false
		}
		resp, err := s.direct.Get(s.ctx, key)
		if err != nil || len(resp.Kvs) == 0 {
			return false
		}
		lease = clientv3.LeaseID(resp.Kvs[0].Lease)
		return true
	})
	_, err := s.direct.Revoke(s.ctx, lease)
	require.NoError(s, err)
}

// Test 6: when a Release has returned, another process finds the permit free.
func TestRelease_isSeenByAnotherProcess(t *testing.T) {
	s := newScene(t)
	defer s.end()
	w := s.worker(1, ttl, shared.Endpoint)
	r := s.resource(s.direct, 1, etcdcondvar.WithTTL(ttl))
	for i := range trials(1000) {
		w.Do("acquire %d 1", i)
		s.report(w, "granted", i)
		w.Do("release %d", i)
		s.report(w, "released", i)
		p, err := r.TryAcquire(s.ctx)
		require.NoError(t, err, i)
		p.Release()
	}
	w.Do("drain")
	s.report(w, "drained", 0)
}

// Test 7.
func TestTryAcquire_thatFailsWritesNothing(t *testing.T) {
	s := newScene(t)
	defer s.end()
	r := s.resource(s.direct, 1, etcdcondvar.WithTTL(ttl))
	p := s.acquire(r)
	require.NoError(t, s.history.Sync(s.ctx))
	var before int
	s.history.Look(func(h *etcdtest.History) { before = len(h.Events()) })
	other := s.resource(newClient(t, shared.Endpoint), 1)
	for range 20 {
		_, err := other.TryAcquire(s.ctx)
		require.ErrorIs(t, err, etcdcondvar.ErrFull)
	}
	require.NoError(t, s.history.Sync(s.ctx))
	s.history.Look(func(h *etcdtest.History) { require.Len(t, h.Events(), before+1) }) // the event of Sync
	p.release()
}

// Test 7: tries that failed do not make a later try fail.
func TestTryAcquire_afterFailedTries(t *testing.T) {
	s := newScene(t)
	defer s.end()
	r, winner := s.resource(s.direct, 1, etcdcondvar.WithTTL(ttl)), s.resource(newClient(t, shared.Endpoint), 1)
	var losers []*etcdcondvar.Resource
	for range 5 {
		losers = append(losers, s.resource(newClient(t, shared.Endpoint), 1))
	}
	for range trials(1000) {
		p, err := r.Acquire(s.ctx)
		require.NoError(t, err)
		var wg sync.WaitGroup
		var stop atomic.Bool
		tried := make(chan struct{}, 1)
		for _, loser := range losers {
			wg.Go(func() {
				for !stop.Load() {
					if _, err := loser.TryAcquire(s.ctx); !errors.Is(err, etcdcondvar.ErrFull) {
						t.Error("want ErrFull, got", err)
						return
					}
					select {
					case tried <- struct{}{}:
					default:
					}
				}
			})
		}
		<-tried
		<-tried
		stop.Store(true)
		wg.Wait()
		p.Release()
		q, err := winner.TryAcquire(s.ctx)
		require.NoError(t, err)
		q.Release()
	}
}

// Test 7: of six concurrent tries, exactly one succeeds.
func TestTryAcquire_sixAtOnce(t *testing.T) {
	s := newScene(t)
	defer s.end()
	var all []*etcdcondvar.Resource
	for range 6 {
		all = append(all, s.resource(newClient(t, shared.Endpoint), 1, etcdcondvar.WithTTL(ttl)))
	}
	for range trials(500) {
		var wg sync.WaitGroup
		won := make(chan *etcdcondvar.Permit, len(all))
		for _, r := range all {
			wg.Go(func() {
				p, err := r.TryAcquire(s.ctx)
				if err == nil {
					won <- p
				} else if !errors.Is(err, etcdcondvar.ErrFull) {
					t.Error(err)
				}
			})
		}
		wg.Wait()
		require.Len(t, won, 1)
		(<-won).Release()
	}
}

// Test 7: all concurrent tries of one process succeed if there is room for all.
func TestTryAcquire_togetherWithRoom(t *testing.T) {
	s := newScene(t)
	defer s.end()
	r := s.resource(s.direct, 6, etcdcondvar.WithTTL(ttl))
	for range trials(100) {
		var wg sync.WaitGroup
		for range 6 {
			wg.Go(func() {
				p, err := r.TryAcquire(s.ctx)
				if err != nil {
					t.Error(err)
				}
				p.Release()
			})
		}
		wg.Wait()
	}
}

// Test 7: a process that has a session, and no watch, tries after another
// process has changed the capacity, and after the key was deleted.
func TestTryAcquire_afterAnotherChangedTheCapacity(t *testing.T) {
	s := newScene(t)
	defer s.end()
	r, other := s.resource(s.direct, 3, etcdcondvar.WithTTL(ttl)), s.resource(newClient(t, shared.Endpoint), 3, etcdcondvar.WithTTL(ttl))
	s.acquire(r).release()
	for capacity := range int64(trials(50)) {
		require.NoError(t, other.Resize(s.ctx, capacity+1))
		p, err := r.TryAcquireN(s.ctx, capacity+1)
		require.NoError(t, err)
		p.Release()
	}
	_, err := s.direct.Delete(s.ctx, "condvar1/"+s.name+"/cap")
	require.NoError(t, err)
	p, err := r.TryAcquire(s.ctx)
	require.NoError(t, err)
	p.Release()
}

// Test 8: a try does not overtake waiters of this or another process.
func TestTryAcquire_againstWaiters(t *testing.T) {
	s := newScene(t)
	defer s.end()
	r, other := s.resource(s.direct, 4, etcdcondvar.WithTTL(ttl)), s.resource(newClient(t, shared.Endpoint), 4, etcdcondvar.WithTTL(ttl))
	p := s.acquireN(r, 2)
	big := s.start(r, 3)
	s.tickets(2)
	for _, r := range []*etcdcondvar.Resource{r, other} {
		_, err := r.TryAcquire(s.ctx)
		require.ErrorIs(t, err, etcdcondvar.ErrFull)
	}
	big.cancel()
	<-big.done
	s.tickets(1)
	for _, r := range []*etcdcondvar.Resource{r, other} {
		q, err := r.TryAcquireN(s.ctx, 2)
		require.NoError(t, err)
		q.Release()
	}
	p.release()
}

// Test 10: a call that starts before etcd succeeds once etcd runs. New, Stats
// and a call for no permits do not need etcd.
func TestCalls_beforeEtcdStarts(t *testing.T) {
	server := etcdtest.Start(t)
	s := newScene(t, server)
	defer s.end()
	s.slack = -1
	server.Kill()
	r := s.resource(newClient(t, server.Endpoint), 1)
	require.EqualValues(t, 1, r.Stats().Capacity)
	p, err := r.AcquireN(s.ctx, 0)
	require.NoError(t, err)
	p.Release()
	next := s.start(r, 1)
	eventually(t, func() bool { return r.Stats().Waiting == 1 })
	require.False(t, next.over())
	ctx, cancel := context.WithTimeout(s.ctx, 300*time.Millisecond)
	defer cancel()
	_, err = r.Acquire(ctx) // test 9: with the error of etcd
	require.ErrorIs(t, err, context.DeadlineExceeded)
	require.Contains(t, err.Error(), "etcd: ")
	server.Restart()
	s.granted(next).release()
}

// Test 11.
func TestHooks_ofPromcondvar(t *testing.T) {
	s := newScene(t)
	defer s.end()
	collector := promcondvar.New(promcondvar.Opts{HoldTime: true})
	registry := prometheus.NewRegistry()
	registry.MustRegister(collector)
	counts := func() map[string]uint64 {
		counts := map[string]uint64{}
		families, err := registry.Gather()
		require.NoError(t, err)
		for _, f := range families {
			for _, m := range f.GetMetric() {
				text := f.GetName()
				for _, l := range m.GetLabel() {
					if l.GetName() == "result" {
						text += " " + l.GetValue()
					}
				}
				counts[text] += m.GetHistogram().GetSampleCount() + uint64(m.GetGauge().GetValue())
			}
		}
		return counts
	}
	const holds, acquired, canceled = "condvar_resource_hold_seconds",
		"condvar_resource_wait_seconds acquired", "condvar_resource_wait_seconds canceled"
	const capacity, inUse, waiting = "condvar_resource_capacity_permits",
		"condvar_resource_in_use_permits", "condvar_resource_waiting_calls"
	r := s.resource(s.direct, 1, etcdcondvar.WithHooks(collector.Hooks("fleet")), etcdcondvar.WithTTL(ttl))
	collector.TrackShared("fleet", r.Stats)
	p := s.acquire(r)
	waits := counts()[acquired] // 1 if an answer was lost
	next, gone := s.start(r, 1), s.start(r, 1)
	s.tickets(3)
	eventually(t, func() bool { // the answers to the puts may come later
		c := counts()
		return c[capacity] == 1 && c[inUse] == 1 && c[waiting] == 2
	})
	gone.cancel()
	<-gone.done
	p.release()
	<-next.done
	require.NoError(t, next.err)
	s.tickets(1)         // the release of the first may not be seen yet
	next.p.stopLooking() // a loss by hand may be noticed late
	s.revoke()
	<-next.p.Context(s.ctx).Done()
	// The loss is reported, so each acquired permit was released.
	eventually(t, func() bool {
		c := counts()
		return c[holds] == 2 && c[acquired] == waits+1 && c[canceled] == 1
	})
	next.p.Release()
}

// Test 12.
func TestNames_areApart(t *testing.T) {
	checkLeaks(t)
	t.Parallel()
	server := etcdtest.Start(t)
	client := newClient(t, server.Endpoint)
	ctx := t.Context()
	spaced := newClient(t, server.Endpoint)
	spaced.KV = namespace.NewKV(client.KV, "my/")
	spaced.Lease = namespace.NewLease(client.Lease, "my/")
	spaced.Watcher = namespace.NewWatcher(client.Watcher, "my/")
	_, err := client.Put(ctx, "condvar2/a/cap", "another format")
	require.NoError(t, err)
	names := []string{"a", "a/p", "a/p/1", "a b", "a\x00", "a%2Fp", "ä", "..", strings.Repeat("x/", 500)}
	var all []*etcdcondvar.Resource
	for _, name := range names {
		all = append(all, etcdcondvar.New(client, name, 1, etcdcondvar.WithTTL(ttl)))
	}
	all = append(all, etcdcondvar.New(spaced, "a", 1, etcdcondvar.WithTTL(ttl)))
	for i, r := range all {
		p, err := r.TryAcquire(ctx)
		require.NoError(t, err, i)
		_, err = r.TryAcquire(ctx)
		require.ErrorIs(t, err, etcdcondvar.ErrFull)
		got := make(chan error, 1)
		go func() {
			q, err := r.Acquire(ctx)
			q.Release()
			got <- err
		}()
		eventually(t, func() bool {
			fleet, err := r.Fleet(ctx)
			return err == nil && fleet.Waiting == 1
		})
		p.Release()
		require.NoError(t, <-got)
		p, err = r.TryAcquire(ctx)
		require.NoError(t, err)
		defer p.Release()
	}
	for _, r := range all {
		fleet, err := r.Fleet(ctx)
		require.NoError(t, err)
		require.EqualValues(t, 1, fleet.InUse)
		require.Len(t, fleet.Tickets, 1)
	}
	resp, err := client.Get(ctx, "my/condvar1/a/", clientv3.WithPrefix(), clientv3.WithCountOnly())
	require.NoError(t, err)
	require.EqualValues(t, 3, resp.Count) // cap, epoch, ticket
	for _, r := range all {
		go func() { _ = r.Close() }()
	}
	t.Cleanup(func() {
		for _, r := range all {
			require.NoError(t, r.Drain(context.Background()))
		}
	})
}

// Test 13.
func TestCapacity_isStoredOnce(t *testing.T) {
	s := newScene(t)
	defer s.end()
	client := newClient(t, shared.Endpoint)
	var all []*etcdcondvar.Resource
	var wg sync.WaitGroup
	for i := range 50 {
		r := s.resource(client, int64(i+1))
		all = append(all, r)
		wg.Go(func() {
			if err := r.Do(s.ctx, func(context.Context) error { return nil }); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	require.NoError(t, s.history.Sync(s.ctx))
	var capacity int64
	s.history.Look(func(h *etcdtest.History) {
		n, sets := h.Capacity()
		require.Equal(t, 1, sets)
		capacity = n
	})
	for _, r := range all {
		require.Equal(t, capacity, r.Stats().Capacity)
	}
	require.NoError(t, all[7].Resize(s.ctx, 77))
	again := s.resource(client, 5) // as after a restart
	s.acquire(again).release()
	require.EqualValues(t, 77, again.Stats().Capacity)
	require.EqualValues(t, 77, s.fleet(again).Capacity)
}

// Test 13: a value that is no number.
func TestCapacity_thatIsNoNumber(t *testing.T) {
	s := newScene(t)
	defer s.end()
	for _, value := range []string{"many", "", "-1", "1 2 3 4 5", "99999999999999999999", "\x00"} {
		_, err := s.direct.Put(s.ctx, "condvar1/"+s.name+"/cap", value)
		require.NoError(t, err)
		r := s.resource(s.direct, 1)
		_, err = r.Acquire(s.ctx)
		require.ErrorContains(t, err, "is no capacity", "%q", value)
		_, err = r.TryAcquire(s.ctx)
		require.ErrorContains(t, err, "is no capacity")
		_, err = r.Fleet(s.ctx)
		require.ErrorContains(t, err, "is no capacity")
		require.ErrorContains(t, r.Resize(s.ctx, 2), "is no capacity")
	}
	_, err := s.direct.Put(s.ctx, "condvar1/"+s.name+"/cap", "1")
	require.NoError(t, err)
	s.acquire(s.resource(s.direct, 3)).release()
}

// Test 14: a permanent error is returned at once. A role that has the prefix is
// enough.
func TestPermissions(t *testing.T) {
	checkLeaks(t)
	t.Parallel()
	server := etcdtest.Start(t)
	root := newClient(t, server.Endpoint)
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	defer cancel()
	for _, user := range []string{"root", "limited", "other"} {
		_, err := root.UserAdd(ctx, user, user)
		require.NoError(t, err)
		_, err = root.RoleAdd(ctx, user)
		require.NoError(t, err)
		_, err = root.UserGrantRole(ctx, user, user)
		require.NoError(t, err)
	}
	key := "condvar1/r/"
	_, err := root.RoleGrantPermission(ctx, "limited", key, clientv3.GetPrefixRangeEnd(key), clientv3.PermissionType(clientv3.PermReadWrite))
	require.NoError(t, err)
	as := func(user string) *clientv3.Client {
		return newClientWith(t, clientv3.Config{Endpoints: []string{server.Endpoint}, Username: user, Password: user})
	}
	_, err = root.AuthEnable(ctx)
	require.NoError(t, err)
	admin := as("root")
	allowed := etcdcondvar.New(as("limited"), "r", 1, etcdcondvar.WithTTL(brief))
	p, err := allowed.Acquire(ctx)
	require.NoError(t, err)
	got := make(chan error, 1)
	go func() {
		q, err := allowed.Acquire(ctx)
		q.Release()
		got <- err
	}()
	eventually(t, func() bool {
		fleet, err := allowed.Fleet(ctx)
		return err == nil && fleet.Waiting == 1
	})
	p.Release()
	require.NoError(t, <-got)
	require.NoError(t, allowed.Resize(ctx, 2))
	require.NoError(t, allowed.Drain(ctx))

	revoked := as("limited")
	late := etcdcondvar.New(revoked, "r", 1, etcdcondvar.WithTTL(brief))
	_, err = admin.UserChangePassword(ctx, "limited", "new")
	require.NoError(t, err)
	denied := map[string]*etcdcondvar.Resource{
		"another role":   etcdcondvar.New(as("other"), "r", 1, etcdcondvar.WithTTL(brief)),
		"no credentials": etcdcondvar.New(root, "r", 1, etcdcondvar.WithTTL(brief)),
		"old password":   late,
		"another name":   etcdcondvar.New(as("other"), "s", 1, etcdcondvar.WithTTL(brief)),
	}
	for name, r := range denied {
		start := time.Now()
		_, err := r.Acquire(ctx)
		require.Error(t, err, name)
		require.NotErrorIs(t, err, context.DeadlineExceeded)
		_, err = r.TryAcquire(ctx)
		require.Error(t, err, name)
		require.Error(t, r.Resize(ctx, 2))
		_, err = r.Fleet(ctx)
		require.Error(t, err, name)
		require.Less(t, time.Since(start), limit/4, name) // checking passwords takes a while
		_ = r.Close()
	}
	eventually(t, func() bool {
		resp, err := admin.Leases(ctx)
		return err == nil && len(resp.Leases) == 0
	})
}

// Test 15: an idle Resource has no lease, no goroutine and no watch.
func TestIdle_leavesNothing(t *testing.T) {
	checkLeaks(t)
	t.Parallel()
	server := etcdtest.Start(t)
	client := newClient(t, server.Endpoint)
	ctx := t.Context()
	n := trials(1000)
	before := strings.Count(labeled(t.Name()), "etcdcondvar.(*Resource)")
	require.Zero(t, before)
	var all []*etcdcondvar.Resource
	var wg sync.WaitGroup
	places := make(chan struct{}, 50)
	for i := range n {
		r := etcdcondvar.New(client, fmt.Sprint("name", i), 1, etcdcondvar.WithTTL(time.Second))
		all = append(all, r)
		places <- struct{}{}
		wg.Go(func() {
			defer func() { <-places }()
			// A lease of 1 s can end on a busy machine.
			err := r.Do(ctx, func(context.Context) error { return nil })
			if err != nil && !errors.Is(err, etcdcondvar.ErrLost) {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	eventually(t, func() bool {
		leases, err := client.Leases(ctx)
		return err == nil && len(leases.Leases) == 0 && !strings.Contains(labeled(t.Name()), "etcdcondvar.(*Resource)")
	})
	resp, err := client.Get(ctx, "condvar1/", clientv3.WithPrefix(), clientv3.WithCountOnly())
	require.NoError(t, err)
	require.EqualValues(t, n, resp.Count)
	require.NoError(t, all[0].Do(ctx, func(context.Context) error { return nil })) // it still works
	require.NoError(t, all[0].Drain(ctx))
}

// Test 42.
func TestClose_inEachState(t *testing.T) {
	t.Run("waiting, holding", func(t *testing.T) {
		s := newScene(t)
		defer s.end()
		r, other := s.resource(s.direct, 1, etcdcondvar.WithTTL(ttl)), s.resource(newClient(t, shared.Endpoint), 1, etcdcondvar.WithTTL(ttl))
		p := s.acquire(r)
		mine, theirs := s.start(r, 1), s.start(other, 1)
		s.tickets(3)
		require.NoError(t, r.Close())
		require.NoError(t, r.Close())
		<-mine.done
		require.Equal(t, condvar.ErrClosed, mine.err)
		dead, cancel := context.WithCancel(s.ctx)
		cancel()
		err := r.Drain(dead)
		require.ErrorIs(t, err, context.Canceled)
		require.ErrorContains(t, err, "1")
		require.NoError(t, p.Err())
		p.release()
		s.granted(theirs).release()
	})
	t.Run("etcd is silent", func(t *testing.T) {
		s := newScene(t)
		defer s.end()
		proxy := etcdtest.NewProxy(t, shared.Endpoint)
		r := s.resource(newClient(t, proxy.Endpoint), 1)
		s.acquire(r).release()
		proxy.Hold(true, true)
		next := s.start(r, 1)
		eventually(t, func() bool { held, _ := proxy.Bytes(); return held > 0 })
		start := time.Now()
		require.NoError(t, r.Close())
		<-next.done
		require.Less(t, time.Since(start), 300*time.Millisecond)
		require.Equal(t, condvar.ErrClosed, next.err)
		proxy.Heal()
	})
	for _, how := range []string{"drain", "exit"} {
		t.Run("a process ends by "+how, func(t *testing.T) {
			s := newScene(t)
			defer s.end()
			w := s.worker(1, ttl, shared.Endpoint)
			w.Do("acquire 1 1")
			s.report(w, "granted", 1)
			if how == "drain" {
				w.Do("release 1")
				s.report(w, "released", 1)
				w.Do("drain")
				s.report(w, "drained", 0)
				require.NoError(t, s.history.Sync(s.ctx))
				s.history.Look(func(h *etcdtest.History) { require.True(t, h.Rests()) })
			}
			start := time.Now()
			w.Do("exit")
			<-w.Over()
			s.acquire(s.resource(s.direct, 1)).release()
			require.Less(t, time.Since(start), ttl+1500*time.Millisecond)
		})
	}
}
