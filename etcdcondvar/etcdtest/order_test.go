package etcdtest_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	clientv3 "go.etcd.io/etcd/client/v3"

	"example.com/condvar"
	"example.com/condvar/etcdcondvar"
	"example.com/condvar/etcdcondvar/etcdtest"
)

// Test 16: a worker writes a mark after each grant. By the history, the ticket
// is granted before its mark.
func TestOrder_ofManyProcesses(t *testing.T) {
	s := newScene(t)
	defer s.end()
	var workers []*etcdtest.Worker
	for i := range trials(40) * 2 {
		w := s.worker(5, 10*time.Second, shared.Endpoint)
		w.Do("loop %d 2 4 5", i)
		workers = append(workers, w)
	}
	want := trials(10_000)
	s.await("grants", func(h *etcdtest.History) bool { return h.Count() >= want })
	for _, w := range workers {
		w.Do("drain")
	}
	marks := 0
	for _, w := range workers {
		s.report(w, "drained", 0)
		marks += w.Count("granted")
		require.Zero(t, w.Count("lost"))
	}
	require.Greater(t, marks, want/4)
}

// Test 17: a big request is not overtaken. The calls behind it are granted at
// once when it is canceled.
func TestOrder_ofABigRequest(t *testing.T) {
	s := newScene(t)
	defer s.end()
	r, other := s.resource(s.direct, 4, etcdcondvar.WithTTL(ttl)), s.resource(newClient(t, shared.Endpoint), 4, etcdcondvar.WithTTL(ttl))
	p := s.acquireN(r, 1)
	big := s.start(other, 4)
	s.tickets(2)
	var small []*pending
	for i := range 3 {
		small = append(small, s.start([]*etcdcondvar.Resource{r, other}[i%2], 1))
		s.tickets(3 + i)
	}
	require.NoError(t, s.history.Sync(s.ctx))
	for _, c := range small {
		require.False(t, c.over())
	}
	canceled := time.Now()
	big.cancel()
	<-big.done
	require.ErrorIs(t, big.err, context.Canceled)
	for _, c := range small {
		q := s.granted(c)
		require.Less(t, c.at.Sub(canceled), time.Second)
		q.release()
	}
	p.release()
}

// Test 18: many calls of one process delay a call of another by at most 100
// tickets in line and 8 that are held.
func TestOrder_behindACrowd(t *testing.T) {
	s := newScene(t)
	defer s.end()
	crowd := s.worker(8, 10*time.Second, shared.Endpoint)
	lone := s.worker(8, 10*time.Second, shared.Endpoint)
	n := trials(10_000)
	crowd.Do("crowd %d", n)
	s.await("a line", func(h *etcdtest.History) bool { return len(h.Live()) >= 50 })
	for i := range 10 {
		lone.Do("acquire %d 1", i)
		token := s.report(lone, "granted", i).Token
		lone.Do("release %d", i)
		s.report(lone, "released", i)
		require.NoError(t, s.history.Sync(s.ctx))
		s.history.Look(func(h *etcdtest.History) {
			ahead, created := 0, h.Ticket(token).Created
			for _, t := range h.All() {
				if t.Token < token && (t.Deleted == 0 || t.Deleted > created) {
					ahead++
				}
			}
			require.LessOrEqual(t, ahead, 100+8)
		})
	}
	s.report(crowd, "looped", 0)
	for _, w := range []*etcdtest.Worker{crowd, lone} {
		w.Do("drain")
		s.report(w, "drained", 0)
	}
	s.history.Look(func(h *etcdtest.History) { require.Equal(t, n+10, h.Count()) })
}

// Test 19.
func TestResize_growsAndShrinks(t *testing.T) {
	s := newScene(t)
	defer s.end()
	r, other := s.resource(s.direct, 2, etcdcondvar.WithTTL(ttl)), s.resource(newClient(t, shared.Endpoint), 2, etcdcondvar.WithTTL(ttl))
	p := s.acquireN(r, 2)
	var calls []*pending
	for i, n := range []int64{1, 2, 1, 1} {
		calls = append(calls, s.start([]*etcdcondvar.Resource{other, r}[i%2], n))
		s.tickets(2 + i)
	}
	require.NoError(t, other.Resize(s.ctx, 5)) // for the first two
	a, b := s.granted(calls[0]), s.granted(calls[1])
	require.NoError(t, s.history.Sync(s.ctx))
	require.False(t, calls[2].over() || calls[3].over())
	require.NoError(t, r.Resize(s.ctx, 2))
	fleet := s.fleet(other)
	require.Equal(t, []int64{2, 5, 2}, []int64{fleet.Capacity, fleet.InUse, fleet.Waiting})
	b.release() // 3 are held
	require.NoError(t, s.history.Sync(s.ctx))
	require.NoError(t, a.Err())
	require.NoError(t, p.Err())
	p.release() // 1 is held
	c := s.granted(calls[2])
	require.NoError(t, s.history.Sync(s.ctx))
	require.False(t, calls[3].over())
	a.release()
	s.granted(calls[3]).release()
	c.release()
	s.history.Look(func(h *etcdtest.History) { require.EqualValues(t, 5, h.Peak()) })
}

// Test 20: after a shrink no call is admitted by the old capacity.
func TestResize_thenRelease(t *testing.T) {
	s := newScene(t)
	defer s.end()
	r, other := s.resource(s.direct, 2, etcdcondvar.WithTTL(ttl)), s.resource(newClient(t, shared.Endpoint), 2, etcdcondvar.WithTTL(ttl))
	s.acquire(r).release()
	for range trials(1000) {
		require.NoError(t, r.Resize(s.ctx, 2))
		p, q := s.acquire(r), s.acquire(r)
		next := s.start(other, 1)
		s.tickets(3)
		require.NoError(t, r.Resize(s.ctx, 1))
		p.release()
		// end compares the grants with the history. No call is granted yet.
		require.NoError(t, s.history.Sync(s.ctx))
		s.history.Look(func(h *etcdtest.History) { require.Len(t, h.Holds(), 1) })
		require.False(t, next.over())
		q.release()
		s.granted(next).release()
	}
}

// Test 20: two concurrent Resizes.
func TestResize_twiceAtOnce(t *testing.T) {
	s := newScene(t)
	defer s.end()
	r, other := s.resource(s.direct, 5), s.resource(newClient(t, shared.Endpoint), 5)
	p, q := s.acquire(r), s.acquire(other)
	next := s.start(r, 5) // so that both watch
	s.tickets(3)
	for i := range trials(100) {
		a, b := int64(5+i), int64(500-i)
		var wg sync.WaitGroup
		wg.Go(func() { _ = r.Resize(s.ctx, a) })
		wg.Go(func() { _ = other.Resize(s.ctx, b) })
		wg.Wait()
		require.Contains(t, []int64{a, b}, s.fleet(r).Capacity)
		require.Equal(t, s.fleet(r).Capacity, s.fleet(other).Capacity)
	}
	require.NoError(t, other.Resize(s.ctx, 7))
	s.granted(next).release()
	p.release()
	q.release()
}

// Test 21.
func TestResize_pausesAndResumes(t *testing.T) {
	s := newScene(t)
	defer s.end()
	r, other := s.resource(s.direct, 3, etcdcondvar.WithTTL(ttl)), s.resource(newClient(t, shared.Endpoint), 3, etcdcondvar.WithTTL(ttl))
	p := s.acquireN(r, 3)
	require.NoError(t, r.Resize(s.ctx, 0))
	big, small := s.start(other, 3), s.start(r, 1)
	s.tickets(3)
	p.release()
	s.tickets(2)
	require.False(t, big.over() || small.over())
	require.Zero(t, s.fleet(r).InUse)
	require.NoError(t, r.Resize(s.ctx, 2)) // too few for the big call, which then blocks no other
	<-big.done
	require.Equal(t, condvar.ErrTooLarge, big.err)
	s.granted(small).release()
	_, err := other.AcquireN(s.ctx, 3)
	require.Equal(t, condvar.ErrTooLarge, err)
}

// Test 22: Fleet agrees with the history.
func TestFleet_afterShrinks(t *testing.T) {
	for seed := range trials(40) {
		t.Run(strconv.Itoa(seed), func(t *testing.T) {
			s := newScene(t)
			defer s.end()
			rng := rand.New(rand.NewPCG(uint64(seed), 22))
			all := []*etcdcondvar.Resource{s.resource(s.direct, 5, etcdcondvar.WithTTL(ttl)), s.resource(newClient(t, shared.Endpoint), 5, etcdcondvar.WithTTL(ttl))}
			s.acquire(all[0]).release() // stores the capacity
			var calls []*pending
			for range 40 {
				r := all[rng.IntN(2)]
				switch rng.IntN(4) {
				case 0, 1:
					calls = append(calls, s.start(r, rng.Int64N(3)+1))
				case 2:
					if len(calls) > 0 && calls[0].over() {
						if calls[0].err == nil {
							calls[0].p.release()
						}
						calls = calls[1:]
					}
				case 3:
					capacity := rng.Int64N(8)
					if rng.IntN(3) > 0 {
						require.NoError(t, r.Resize(s.ctx, capacity))
						break
					}
					s.dyingResize(capacity)
				}
				// Compare when no ticket has changed in between.
				eventually(t, func() bool {
					before, inUse, capacity := s.truth()
					fleet := s.fleet(r)
					after, _, _ := s.truth()
					return before == after && fleet.InUse == inUse && fleet.Capacity == capacity
				})
			}
			require.NoError(t, all[0].Resize(s.ctx, 100))
			for _, c := range calls {
				<-c.done
				if c.err == nil {
					c.p.release()
				} else {
					require.Equal(t, condvar.ErrTooLarge, c.err)
				}
			}
		})
	}
}

// truth returns the number of changes of tickets, the permits in use and the
// capacity, by the history.
func (s *scene) truth() (changes int, inUse, capacity int64) {
	s.Helper()
	require.NoError(s, s.history.Sync(s.ctx))
	s.history.Look(func(h *etcdtest.History) {
		for _, t := range h.Holds() {
			inUse += t.N
		}
		for _, e := range h.Events() {
			if strings.Contains(e.Key, "/p/") {
				changes++
			}
		}
		capacity, _ = h.Capacity()
	})
	return changes, inUse, capacity
}

// dyingResize makes the first write of a Resize, like a process that is killed
// after it.
func (s *scene) dyingResize(capacity int64) {
	s.Helper()
	key := "condvar1/" + s.name + "/cap"
	resp, err := s.direct.Get(s.ctx, key)
	require.NoError(s, err)
	if len(resp.Kvs) == 0 {
		return
	}
	fields := strings.Fields(string(resp.Kvs[0].Value))
	if old, _ := strconv.ParseInt(fields[0], 10, 64); len(fields) != 3 || capacity >= old {
		return
	}
	value := fmt.Sprint(capacity, " ", fields[1], " ", fields[2], " ", fields[0])
	_, err = s.direct.Txn(s.ctx).If(clientv3.Compare(clientv3.ModRevision(key), "=", resp.Kvs[0].ModRevision)).
		Then(clientv3.OpPut(key, value)).Commit()
	require.NoError(s, err)
}

// Test 22: if the revisions that a shrink needs were compacted, waiting tickets
// may count as held. Held tickets never count as waiting.
func TestFleet_afterACompactedShrink(t *testing.T) {
	server := etcdtest.Start(t)
	s := newScene(t, server)
	defer s.end()
	r := s.resource(s.direct, 3, etcdcondvar.WithTTL(ttl))
	p := s.acquireN(r, 2)
	next := s.start(r, 2)
	s.tickets(2)
	s.dyingResize(2)
	require.NoError(t, s.history.Sync(s.ctx))
	var revision int64
	s.history.Look(func(h *etcdtest.History) { revision = h.Revision() })
	_, err := s.direct.Compact(s.ctx, revision)
	require.NoError(t, err)
	fleet := s.fleet(r)
	require.GreaterOrEqual(t, fleet.InUse, int64(2))
	require.False(t, next.over())
	p.release()
	s.granted(next).release()
	require.Zero(t, s.fleet(r).InUse)
}

// Test 22: after Resize to 0, when InUse is 0, no process holds a permit, not
// even one that is cut off.
func TestFleet_stopsAllWork(t *testing.T) {
	s := newScene(t)
	defer s.end()
	proxy := etcdtest.NewProxy(t, shared.Endpoint)
	r := s.resource(newClient(t, proxy.Endpoint), 2)
	other := s.resource(s.direct, 2)
	p, q := s.acquire(r), s.acquire(other)
	proxy.Hold(true, true)
	require.NoError(t, other.Resize(s.ctx, 0))
	q.release()
	eventually(t, func() bool { return s.fleet(other).InUse == 0 })
	require.Equal(t, etcdcondvar.ErrLost, p.Err())
	proxy.Reset()
	proxy.Heal()
	p.release()
}

// An olderBuild is another implementation of the format of the keys, as it is
// documented. It has only what is required: no labels, no times, one ticket in
// a transaction. It polls while it waits.
type olderBuild struct {
	client *clientv3.Client
	root   string
	lease  clientv3.LeaseID
	epoch  string
	seq    int
}

func newOlderBuild(s *scene, client *clientv3.Client, capacity int64) *olderBuild {
	s.Helper()
	b := &olderBuild{client: client, root: "condvar1/" + s.name + "/"}
	lease, err := client.Grant(s.ctx, 60)
	require.NoError(s, err)
	b.lease = lease.ID
	b.epoch = b.root + "e/" + strconv.FormatInt(int64(b.lease), 16) + "-1"
	put := clientv3.OpPut(b.epoch, "", clientv3.WithLease(b.lease))
	_, err = client.Txn(s.ctx).If(clientv3.Compare(clientv3.Version(b.root+"cap"), ">", 0)).
		Then(put).Else(put, clientv3.OpPut(b.root+"cap", strconv.FormatInt(capacity, 10))).Commit()
	require.NoError(s, err)
	return b
}

// acquire puts a ticket of weight 1, and returns its key and token when it is
// granted.
func (b *olderBuild) acquire(ctx context.Context) (key string, token int64, err error) {
	b.seq++
	key = b.root + "p/1/" + strconv.FormatInt(int64(b.lease), 16) + "-" + strconv.FormatInt(int64(b.seq)<<7, 16)
	resp, err := b.client.Txn(ctx).If(clientv3.Compare(clientv3.Version(b.epoch), ">", 0)).
		Then(clientv3.OpPut(key, "", clientv3.WithLease(b.lease))).Commit()
	if err != nil || !resp.Succeeded {
		return "", 0, errors.Join(err, errors.New("no ticket"))
	}
	token = resp.Header.Revision << 7
	for {
		all, err := b.client.Get(ctx, b.root, clientv3.WithPrefix())
		if err != nil {
			return "", 0, err
		}
		var capacity, older, granted int64
		for _, kv := range all.Kvs {
			name := strings.TrimPrefix(string(kv.Key), b.root)
			first, rest, _ := strings.Cut(string(kv.Value), " ")
			n, _ := strconv.ParseInt(first, 10, 64)
			switch {
			case name == "cap":
				capacity = n
				_, _ = fmt.Sscan(rest, &granted)
			case strings.HasPrefix(name, "p/"):
				if strings.HasPrefix(name, "p/1/") {
					n = 1
				}
				_, hex, _ := strings.Cut(name, "-")
				seq, _ := strconv.ParseInt(hex, 16, 64)
				if kv.CreateRevision<<7|seq&127 <= token {
					older += n
				}
			}
		}
		if older <= capacity || token <= granted {
			return key, token, nil
		}
		time.Sleep(time.Millisecond)
	}
}

// Test 23: another implementation of the format shares the capacity with this
// one.
func TestRollingChange(t *testing.T) {
	s := newScene(t)
	defer s.end()
	var wg sync.WaitGroup
	rounds := trials(200)
	for i := range 4 {
		client := newClient(t, shared.Endpoint)
		if i%2 == 0 {
			r := s.resource(client, 3, etcdcondvar.WithTTL(ttl))
			for w := range 3 {
				wg.Go(func() {
					for range rounds {
						p, err := r.AcquireN(s.ctx, int64(w+1))
						if err != nil {
							t.Error(err)
							return
						}
						s.watch(p, int64(w+1)).release()
					}
				})
			}
			continue
		}
		b := newOlderBuild(s, client, 3)
		wg.Go(func() {
			for range rounds {
				key, token, err := b.acquire(s.ctx)
				if err != nil {
					t.Error(err)
					return
				}
				belief := &etcdtest.Belief{Token: token, N: 1, Begin: time.Now()}
				time.Sleep(time.Millisecond)
				belief.End = time.Now()
				s.mu.Lock()
				s.beliefs = append(s.beliefs, belief)
				s.mu.Unlock()
				if _, err := client.Delete(s.ctx, key); err != nil {
					t.Error(err)
				}
			}
			if _, err := client.Revoke(s.ctx, b.lease); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	s.history.Look(func(h *etcdtest.History) {
		require.EqualValues(t, 3, h.Peak())
	})
}
