package etcdtest_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc"

	"example.com/condvar/etcdcondvar"
	"example.com/condvar/etcdcondvar/etcdtest"
)

// A gate delays or loses transactions of a client, as a network may. For
// "request" it sends the request when it is opened, which may be after the call
// has ended. For "answer" it sends the request at once. In both cases the call
// gets no answer.
type gate struct {
	rule func(r *pb.TxnRequest) string // "request", "answer" or ""

	mu     sync.Mutex
	opened chan struct{}
	late   sync.WaitGroup
	caught chan struct{} // has a token for each selected request
}

func newGate(t *testing.T, rule func(r *pb.TxnRequest) string) *gate {
	g := &gate{rule: rule, opened: make(chan struct{}), caught: make(chan struct{}, 1000)}
	t.Cleanup(func() {
		g.open()
		g.late.Wait()
	})
	return g
}

// client returns a client whose requests pass the gate.
func (g *gate) client(t *testing.T, endpoints ...string) *clientv3.Client {
	return newClientWith(t, clientv3.Config{
		Endpoints:   endpoints,
		DialOptions: []grpc.DialOption{grpc.WithChainUnaryInterceptor(g.intercept)},
	})
}

func (g *gate) intercept(ctx context.Context, method string, in, out any, cc *grpc.ClientConn, invoke grpc.UnaryInvoker, opts ...grpc.CallOption) error {
	txn, ok := in.(*pb.TxnRequest)
	what := ""
	if ok {
		what = g.rule(txn)
	}
	if what == "" {
		return invoke(ctx, method, in, out, cc, opts...)
	}
	g.mu.Lock()
	opened := g.opened
	g.mu.Unlock()
	done := make(chan struct{})
	g.late.Add(1)
	go func() {
		defer g.late.Done()
		if what == "request" {
			<-opened
		}
		late, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		_ = invoke(late, method, in, new(pb.TxnResponse), cc)
		close(done)
	}()
	if what == "answer" {
		<-done // so that it is applied before the caller continues
	}
	g.caught <- struct{}{}
	<-ctx.Done()
	return ctx.Err()
}

// open sends the held requests. arrived also waits until etcd has answered.
func (g *gate) open() {
	g.mu.Lock()
	defer g.mu.Unlock()
	select {
	case <-g.opened:
	default:
		close(g.opened)
	}
}

func (g *gate) arrived() {
	g.open()
	g.late.Wait()
}

// kind classifies the transactions of package etcdcondvar.
func kind(r *pb.TxnRequest) string {
	kinds := map[string]bool{}
	for _, op := range r.Success {
		key := ""
		if put := op.GetRequestPut(); put != nil {
			key = "put " + string(put.Key)
		} else if del := op.GetRequestDeleteRange(); del != nil {
			key = "delete " + string(del.Key)
		} else if inner := op.GetRequestTxn(); inner != nil {
			key = "delete " + string(inner.Success[0].GetRequestDeleteRange().GetKey())
		}
		verb, rest, _ := strings.Cut(key, " ")
		if parts := strings.Split(rest, "/"); len(parts) > 2 {
			kinds[verb+" "+parts[2]] = true
		}
	}
	switch {
	case kinds["delete e"]:
		return "fence"
	case kinds["put p"]:
		return "tickets"
	case kinds["put e"]:
		return "epoch"
	case kinds["delete p"]:
		return "deletes"
	}
	return ""
}

// nth returns a rule that selects the first n transactions of a kind.
func nth(n int64, of, what string) func(r *pb.TxnRequest) string {
	var count atomic.Int64
	return func(r *pb.TxnRequest) string {
		if kind(r) == of && count.Add(1) <= n {
			return what
		}
		return ""
	}
}

// Test 24: the outcome of a transaction is unknown, it is fenced, and then the
// transaction arrives.
func TestFence_afterAnUnknownOutcome(t *testing.T) {
	for _, held := range []string{"request", "answer"} {
		for i := range trials(100) {
			t.Run(held+"/"+strconv.Itoa(i), func(t *testing.T) {
				s := newScene(t)
				defer s.end()
				g := newGate(t, nth(1, "tickets", held))
				r := s.resource(g.client(t, shared.Endpoint), 1)
				first := s.start(r, 1)
				<-g.caught
				if i%2 == 0 { // the caller does not wait for it
					first.cancel()
				}
				s.await("fence", func(h *etcdtest.History) bool { return h.Fences() > 0 || i%2 == 0 && h.Rests() && deleted(h) })
				g.arrived()
				if <-first.done; i%2 == 1 {
					s.granted(first).release()
				}
				s.acquire(r).release()
				require.NoError(t, r.Drain(s.ctx))
				require.NoError(t, s.history.Sync(s.ctx))
				s.history.Look(func(h *etcdtest.History) { require.Empty(t, h.Live()) })
			})
		}
	}
}

// deleted reports whether an epoch was deleted.
func deleted(h *etcdtest.History) bool {
	for _, e := range h.Events() {
		if e.Delete && strings.Contains(e.Key, "/e/") {
			return true
		}
	}
	return false
}

// Test 25: two endpoints stall in turn, under 60 callers with short deadlines.
func TestFence_underStalls(t *testing.T) {
	s := newScene(t)
	defer s.end()
	proxies := []*etcdtest.Proxy{etcdtest.NewProxy(t, shared.Endpoint), etcdtest.NewProxy(t, shared.Endpoint)}
	var callers sync.WaitGroup
	stop, cancel := context.WithCancel(s.ctx)
	defer cancel()
	var granted atomic.Int64
	for i := range 3 {
		r := s.resource(newClient(t, proxies[0].Endpoint, proxies[1].Endpoint), 10, etcdcondvar.WithTTL(ttl))
		for j := range 20 {
			callers.Go(func() {
				rng := rand.New(rand.NewPCG(uint64(i), uint64(j)))
				for stop.Err() == nil {
					ctx, cancel := context.WithTimeout(stop, time.Duration(rng.IntN(200)+5)*time.Millisecond)
					p, err := r.Acquire(ctx)
					cancel()
					if err == nil {
						granted.Add(1)
						p.Release()
					}
				}
			})
		}
	}
	for i := range trials(30) * 3 {
		p := proxies[i%2]
		before := granted.Load()
		p.Hold(i%3 > 0, i%3 != 1)
		eventually(t, func() bool { held, _ := p.Bytes(); return held > 0 })
		s.fencesOr(time.Second)
		if i%4 == 3 {
			p.Reset()
		}
		p.Heal()
		eventually(t, func() bool { return granted.Load() > before })
	}
	cancel()
	callers.Wait()
	s.history.Look(func(h *etcdtest.History) { require.Positive(t, h.Fences()) })
}

// fencesOr waits for one more fence, for d at most: the stall may have affected
// only a renewal.
func (s *scene) fencesOr(d time.Duration) {
	var n int
	s.history.Look(func(h *etcdtest.History) { n = h.Fences() })
	ctx, cancel := context.WithTimeout(s.ctx, d)
	defer cancel()
	_ = s.history.Await(ctx, func(h *etcdtest.History) bool { return h.Fences() > n })
}

// Test 26: faults during a fence.
func TestFence_withFaults(t *testing.T) {
	for _, held := range []string{"request", "answer"} {
		t.Run("its own "+held+" is lost", func(t *testing.T) {
			s := newScene(t)
			defer s.end()
			first, second := nth(1, "tickets", held), nth(2, "fence", held)
			g := newGate(t, func(r *pb.TxnRequest) string { return first(r) + second(r) })
			r := s.resource(g.client(t, shared.Endpoint), 1, etcdcondvar.WithTTL(ttl))
			c := s.start(r, 1)
			for range 3 {
				<-g.caught
			}
			p := s.granted(c)
			g.arrived() // including the old fences, while the permit is held
			require.NoError(t, s.history.Sync(s.ctx))
			require.NoError(t, p.Err())
			s.history.Look(func(h *etcdtest.History) { require.Len(t, h.Holds(), 1) })
			p.release()
		})
	}
	t.Run("another transaction is lost, and its fence", func(t *testing.T) {
		s := newScene(t)
		defer s.end()
		g := newGate(t, nth(3, "tickets", "request"))
		r := s.resource(g.client(t, shared.Endpoint), 2, etcdcondvar.WithTTL(ttl))
		a := s.start(r, 1)
		<-g.caught
		b := s.start(r, 2) // shares the second
		<-g.caught
		<-g.caught
		p := s.granted(a)
		g.arrived()
		p.release()
		s.granted(b).release()
		s.history.Look(func(h *etcdtest.History) { require.GreaterOrEqual(t, h.Fences(), 3) })
	})
	t.Run("the lease ends meanwhile", func(t *testing.T) {
		s := newScene(t)
		defer s.end()
		first, all := nth(1, "tickets", "answer"), nth(1000, "fence", "request")
		var broken atomic.Bool
		broken.Store(true)
		g := newGate(t, func(r *pb.TxnRequest) string {
			if !broken.Load() {
				return ""
			}
			return first(r) + all(r)
		})
		r := s.resource(g.client(t, shared.Endpoint), 1, etcdcondvar.WithTTL(ttl))
		c := s.start(r, 1)
		<-g.caught
		<-g.caught
		s.revoke()
		s.await("the lease", func(h *etcdtest.History) bool { return h.Rests() && h.Count() > 0 })
		broken.Store(false)
		g.arrived()
		s.granted(c).release()
	})
}

// Test 27: a holder is cut off. Its permit is lost at least 0.25 s before the
// next call is admitted.
func TestPartition_ofTheHolder(t *testing.T) {
	for i := range trials(200) {
		t.Run(strconv.Itoa(i), func(t *testing.T) {
			s := newScene(t)
			defer s.end()
			proxy := etcdtest.NewProxy(t, shared.Endpoint)
			r := s.resource(newClient(t, proxy.Endpoint), 1, etcdcondvar.WithTTL(ttl))
			other := s.resource(newClient(t, shared.Endpoint), 1, etcdcondvar.WithTTL(ttl))
			p := s.acquire(r)
			next := s.start(other, 1)
			s.tickets(2)
			proxy.Hold(i%4 != 3, i%4 != 2) // both directions, or one
			ctx := p.Context(s.ctx)
			<-ctx.Done()
			told := time.Now()
			require.Equal(t, etcdcondvar.ErrLost, context.Cause(ctx))
			q := s.granted(next)
			require.GreaterOrEqual(t, next.at.Sub(told), 250*time.Millisecond)
			require.Greater(t, q.Token(), p.Token())
			if i%2 == 0 {
				proxy.Reset()
			}
			proxy.Heal()
			p.release()
			q.release()
			s.acquire(r).release()
		})
	}
}

// Test 28: a holder is stopped past its lease. Its first check after that
// reports the loss.
func TestStop_ofAHolder(t *testing.T) {
	for i := range trials(20) {
		t.Run(strconv.Itoa(i), func(t *testing.T) {
			s := newScene(t)
			defer s.end()
			w := s.worker(1, brief, shared.Endpoint)
			w.Do("acquire 1 1")
			s.report(w, "granted", 1)
			other := s.resource(s.direct, 1)
			next := s.start(other, 1)
			s.tickets(2)
			w.Stop()
			q := s.granted(next)
			resumed := time.Now()
			w.Continue()
			s.report(w, "lost", 1)
			for _, b := range w.Beliefs() {
				require.True(t, b.End.Before(resumed))
			}
			q.release()
			w.Do("drain")
			s.report(w, "drained", 0)
		})
	}
}

// Test 28: a waiter is stopped past its lease, and granted meanwhile. It must
// ignore the event that it reads when it continues.
func TestStop_ofAWaiter(t *testing.T) {
	for i := range trials(20) {
		t.Run(strconv.Itoa(i), func(t *testing.T) {
			s := newScene(t)
			defer s.end()
			w := s.worker(1, brief, shared.Endpoint)
			r, other := s.resource(s.direct, 1), s.resource(newClient(t, shared.Endpoint), 1)
			p := s.acquire(r)
			w.Do("acquire 1 1")
			s.tickets(2)
			w.Stop()
			p.release() // it is granted while it is stopped
			s.await("grant", func(h *etcdtest.History) bool { return len(h.Holds()) == 1 && h.Holds()[0].Token > p.Token() })
			q := s.acquire(other) // when its lease has ended
			w.Continue()
			// Its new ticket is younger. q may be lost on a busy machine, so there
			// need not be two tickets at a time.
			s.await("it lines up again", func(h *etcdtest.History) bool {
				return slices.ContainsFunc(h.All(), func(t *etcdtest.Ticket) bool { return t.Token > q.Token() })
			})
			q.release()
			s.report(w, "granted", 1)
			w.Do("release 1")
			s.report(w, "released", 1)
			w.Do("drain")
			s.report(w, "drained", 0)
		})
	}
}

// Judge finds a worker that does not check whether its permit was lost.
func TestStop_ofAHolderThatDoesNotCheck(t *testing.T) {
	s := newScene(t)
	w := etcdtest.StartWorker(t, etcdtest.WorkerConfig{
		Name: s.name, Capacity: 1, TTL: brief, Endpoints: []string{shared.Endpoint}, Plant: "belief",
	})
	w.Do("acquire 1 1")
	token := s.report(w, "granted", 1).Token
	other := s.resource(s.direct, 1)
	next := s.start(other, 1)
	s.tickets(2)
	w.Stop()
	q := s.granted(next)
	w.Continue()
	resumed := time.Now()
	eventually(t, func() bool { return len(w.Beliefs()) == 1 && w.Beliefs()[0].End.After(resumed) })
	wrong := s.history.Judge(w.Beliefs(), s.slack)
	require.Len(t, wrong, 1)
	require.Contains(t, wrong[0], fmt.Sprintf("token %d: held", token))
	q.release()
	w.Kill()
	s.end()
}

// Test 29: a process is killed: a holder, a waiter, or one with many calls.
func TestKill(t *testing.T) {
	for i := range trials(30) {
		for _, victim := range []string{"holder", "waiter", "crowd"} {
			t.Run(victim+"/"+strconv.Itoa(i), func(t *testing.T) {
				s := newScene(t)
				defer s.end()
				w := s.worker(1, brief, shared.Endpoint)
				r, other := s.resource(s.direct, 1), s.resource(newClient(t, shared.Endpoint), 1)
				var p *permit
				switch victim {
				case "holder":
					w.Do("acquire 1 1")
					s.report(w, "granted", 1)
				case "waiter":
					p = s.acquire(r)
					w.Do("acquire 1 1")
					s.tickets(2)
				case "crowd":
					w.Do("crowd 300")
					s.await("a crowd", func(h *etcdtest.History) bool { return h.Count() > 100+i })
				}
				next := s.start(other, 1)
				eventually(t, func() bool { return other.Stats().Waiting == 1 })
				w.Kill()
				killed := time.Now()
				if p != nil {
					p.release()
				}
				s.granted(next).release()
				require.Less(t, next.at.Sub(killed), brief+1500*time.Millisecond)
			})
		}
	}
}

// Tests 30 and 31: a waiter is cut off. If that is shorter than its lease, it
// keeps its place in line, even if the events that it missed are compacted. If
// it is longer, it blocks no other call after its lease, and joins the line
// again.
func TestBreak_whileWaiting(t *testing.T) {
	for i := range trials(20) {
		t.Run("shorter/"+strconv.Itoa(i), func(t *testing.T) {
			server := etcdtest.Start(t)
			s := newScene(t, server)
			defer s.end()
			proxy := etcdtest.NewProxy(t, server.Endpoint)
			r, other := s.resource(newClient(t, proxy.Endpoint), 1, etcdcondvar.WithTTL(10*time.Second)),
				s.resource(newClient(t, server.Endpoint), 1, etcdcondvar.WithTTL(10*time.Second))
			p := s.acquire(other)
			first := s.start(r, 1)
			s.tickets(2)
			second := s.start(other, 1)
			s.tickets(3)
			proxy.Hold(true, true)
			p.release()
			if i%2 == 0 {
				require.NoError(t, s.history.Sync(s.ctx))
				var revision int64
				s.history.Look(func(h *etcdtest.History) { revision = h.Revision() })
				_, err := s.direct.Compact(s.ctx, revision)
				require.NoError(t, err)
			}
			require.False(t, first.over())
			proxy.Reset()
			proxy.Heal()
			q := s.granted(first)
			require.False(t, second.over())
			q.release()
			s.granted(second).release()
		})
		t.Run("longer/"+strconv.Itoa(i), func(t *testing.T) {
			s := newScene(t)
			defer s.end()
			proxy := etcdtest.NewProxy(t, shared.Endpoint)
			r, other := s.resource(newClient(t, proxy.Endpoint), 1), s.resource(newClient(t, shared.Endpoint), 1)
			p := s.acquire(other)
			first := s.start(r, 1)
			s.tickets(2)
			second := s.start(other, 1)
			s.tickets(3)
			proxy.Hold(true, true)
			p.release()
			q := s.granted(second)
			require.False(t, first.over())
			if i%2 == 0 {
				proxy.Reset()
			}
			proxy.Heal()
			s.tickets(2)
			q.release()
			s.granted(first).release()
		})
	}
}

// Test 32: one of two endpoints goes silent while calls wait.
func TestEndpoint_goesSilent(t *testing.T) {
	var all, late atomic.Int64 // a few may be late on a busy machine
	t.Cleanup(func() { require.LessOrEqual(t, 10*late.Load(), all.Load()) })
	for i := range trials(50) {
		keepalive := time.Duration(i%2) * 10 * time.Second
		t.Run(fmt.Sprint(i, "/keepalive=", keepalive), func(t *testing.T) {
			s := newScene(t)
			defer s.end()
			proxies := []*etcdtest.Proxy{etcdtest.NewProxy(t, shared.Endpoint), etcdtest.NewProxy(t, shared.Endpoint)}
			holder := s.resource(s.direct, 4, etcdcondvar.WithTTL(ttl))
			p := s.acquireN(holder, 4)
			var calls []*pending
			for range 4 {
				r := s.resource(newClientWith(t, clientv3.Config{
					Endpoints:         []string{proxies[0].Endpoint, proxies[1].Endpoint},
					DialKeepAliveTime: keepalive, DialKeepAliveTimeout: time.Second,
				}), 4, etcdcondvar.WithTTL(ttl))
				calls = append(calls, s.start(r, 1))
			}
			s.tickets(5)
			proxies[i/2%2].Hold(true, true)
			p.release()
			released := time.Now()
			for _, c := range calls {
				q := s.granted(c)
				waited := c.at.Sub(released)
				require.Less(t, waited, 4*ttl)
				if all.Add(1); waited > ttl {
					late.Add(1)
					t.Log("granted after ", waited)
				}
				q.release()
			}
			proxies[i/2%2].Heal()
		})
	}
}

// A deafWatcher drops the events of the watches that are made before it hears,
// but keeps the connection: it forwards only the response that a watch was
// created.
type deafWatcher struct {
	clientv3.Watcher
	hears atomic.Bool
}

func (w *deafWatcher) Watch(ctx context.Context, key string, opts ...clientv3.OpOption) clientv3.WatchChan {
	events := w.Watcher.Watch(ctx, key, opts...)
	if w.hears.Load() {
		return events
	}
	out := make(chan clientv3.WatchResponse)
	go func() {
		defer close(out)
		for resp := range events {
			if resp.Created {
				out <- resp
			}
		}
	}()
	return out
}

// A tellingKV sends on snapshots after each Get that was answered.
type tellingKV struct {
	clientv3.KV
	snapshots chan<- struct{}
}

func (kv *tellingKV) Get(ctx context.Context, key string, opts ...clientv3.OpOption) (*clientv3.GetResponse, error) {
	resp, err := kv.KV.Get(ctx, key, opts...)
	if err == nil {
		kv.snapshots <- struct{}{}
	}
	return resp, err
}

// Test 33.
func TestWatch_thatIsSilent(t *testing.T) {
	s := newScene(t)
	defer s.end()
	holder := s.resource(s.direct, 1, etcdcondvar.WithTTL(ttl))
	p := s.acquire(holder)
	client := newClient(t, shared.Endpoint)
	snapshots := make(chan struct{}, 100)
	watcher := &deafWatcher{Watcher: client.Watcher}
	client.KV, client.Watcher = &tellingKV{client.KV, snapshots}, watcher
	next := s.start(s.resource(client, 1, etcdcondvar.WithTTL(ttl)), 1)
	s.tickets(2)
	<-snapshots // later changes come only as events
	watcher.hears.Store(true)
	p.release()
	released := time.Now()
	s.granted(next).release()
	require.InDelta(t, (ttl / 2).Seconds(), next.at.Sub(released).Seconds(), (ttl / 4).Seconds())
}

// Test 38: keys and leases are deleted by hand.
func TestByHand(t *testing.T) {
	t.Run("the lease of a holder", func(t *testing.T) {
		s := newScene(t)
		defer s.end()
		s.slack = -1
		r, other := s.resource(s.direct, 1, etcdcondvar.WithTTL(ttl)), s.resource(newClient(t, shared.Endpoint), 1, etcdcondvar.WithTTL(ttl))
		s.acquire(r).release()
		for range trials(100) {
			p, err := r.Acquire(s.ctx) // not judged: a loss by hand may be noticed late
			require.NoError(t, err)
			next := s.start(other, 1)
			s.tickets(2)
			ctx := p.Context(s.ctx)
			s.revoke()
			revoked := time.Now()
			<-ctx.Done()
			require.Equal(t, etcdcondvar.ErrLost, context.Cause(ctx))
			require.Less(t, time.Since(revoked), ttl/5, "by the watch, not by a renewal")
			s.granted(next).release()
		}
	})
	for _, what := range []string{"ticket", "epoch"} {
		t.Run("the "+what+" of a waiter", func(t *testing.T) {
			s := newScene(t)
			defer s.end()
			holder, r := s.resource(s.direct, 1, etcdcondvar.WithTTL(ttl)), s.resource(newClient(t, shared.Endpoint), 1, etcdcondvar.WithTTL(ttl))
			p := s.acquire(holder)
			c := s.start(r, 1)
			s.tickets(2)
			s.deleteLast(what)
			// It joins the line again, with a new ticket.
			s.await("a third ticket", func(h *etcdtest.History) bool { return h.Count() == 3 && len(h.Live()) == 2 })
			p.release()
			s.granted(c).release()
		})
		t.Run("the "+what+" of a holder", func(t *testing.T) {
			s := newScene(t)
			defer s.end()
			r := s.resource(s.direct, 1, etcdcondvar.WithTTL(ttl))
			p, err := r.Acquire(s.ctx)
			require.NoError(t, err)
			s.tickets(1)
			s.deleteLast(what)
			p.Release()
			if what == "ticket" { // Release notices at the latest; without an epoch the permit may be held still
				require.Equal(t, etcdcondvar.ErrLost, p.Err())
			}
			s.acquire(r).release()
		})
	}
	t.Run("the capacity", func(t *testing.T) {
		s := newScene(t)
		defer s.end()
		r, other := s.resource(s.direct, 5, etcdcondvar.WithTTL(ttl)), s.resource(newClient(t, shared.Endpoint), 3, etcdcondvar.WithTTL(ttl))
		p := s.acquireN(r, 5)
		next := s.start(other, 5)
		s.tickets(2)
		_, err := s.direct.Delete(s.ctx, "condvar1/"+s.name+"/cap")
		require.NoError(t, err)
		require.NoError(t, s.history.Sync(s.ctx))
		require.NoError(t, p.Err())
		again := s.start(r, 1)
		s.await("the last known capacity", func(h *etcdtest.History) bool { n, sets := h.Capacity(); return n == 5 && sets == 2 })
		p.release()
		s.granted(next).release()
		s.granted(again).release()
	})
}

// deleteLast deletes the youngest key of a kind.
func (s *scene) deleteLast(what string) {
	s.Helper()
	prefix := "condvar1/" + s.name + map[string]string{"ticket": "/p/", "epoch": "/e/"}[what]
	resp, err := s.direct.Get(s.ctx, prefix, clientv3.WithLastCreate()...)
	require.NoError(s, err)
	require.Len(s, resp.Kvs, 1)
	_, err = s.direct.Delete(s.ctx, string(resp.Kvs[0].Key))
	require.NoError(s, err)
}

// Test 41: many waiters are canceled together.
func TestCancel_ofMany(t *testing.T) {
	s := newScene(t)
	defer s.end()
	var transactions atomic.Int64
	client := newClientWith(t, clientv3.Config{
		Endpoints: []string{shared.Endpoint},
		DialOptions: []grpc.DialOption{grpc.WithChainUnaryInterceptor(func(ctx context.Context, method string, in, out any,
			cc *grpc.ClientConn, invoke grpc.UnaryInvoker, opts ...grpc.CallOption,
		) error {
			if strings.HasSuffix(method, "/Txn") {
				transactions.Add(1)
			}
			return invoke(ctx, method, in, out, cc, opts...)
		})},
	})
	r := s.resource(client, 1, etcdcondvar.WithTTL(10*time.Second))
	p := s.acquire(r)
	n := trials(20_000)
	ctx, cancel := context.WithCancel(s.ctx)
	var calls sync.WaitGroup
	for range n {
		calls.Go(func() { _, _ = r.Acquire(ctx) })
	}
	eventually(t, func() bool { return r.Stats().Waiting == int64(n) })
	// The others wait until half of the 100 places of the process are free.
	s.await("a long line", func(h *etcdtest.History) bool { return len(h.Live()) > 51 })
	before := transactions.Load()
	start := time.Now()
	cancel()
	calls.Wait()
	back := time.Since(start)
	s.tickets(1)
	gone := time.Since(start)
	t.Logf("%d waiters: back in %v, tickets gone in %v, with %d transactions", n, back, gone, transactions.Load()-before)
	require.Less(t, back, 500*time.Millisecond)
	require.Less(t, gone, time.Second)
	require.LessOrEqual(t, transactions.Load()-before, int64(n/20))
	s.history.Look(func(h *etcdtest.History) { require.Zero(t, h.Fences()) })
	p.release()
}

// Test 43: the client is closed while the resource is in use.
func TestClient_isClosed(t *testing.T) {
	s := newScene(t)
	defer s.end()
	for i := range trials(30) {
		client := newClient(t, shared.Endpoint)
		r := etcdcondvar.New(client, s.name, 1, etcdcondvar.WithTTL(time.Second))
		p := s.acquire(r)
		next := s.start(r, 1)
		if i%2 == 0 {
			s.tickets(2)
		}
		require.NoError(t, client.Close())
		<-next.done
		require.Error(t, next.err)
		require.NotErrorIs(t, next.err, context.DeadlineExceeded)
		_, err := r.Acquire(s.ctx)
		require.Error(t, err)
		_, err = r.TryAcquire(s.ctx)
		require.Error(t, err)
		require.Error(t, r.Resize(s.ctx, 2))
		p.release()
		require.NoError(t, r.Drain(s.ctx))
		s.tickets(0) // when the lease has ended
	}
}

// Test 44: sessions that are opened and lost leave no goroutine.
func TestSessions_openedAndLost(t *testing.T) {
	s := newScene(t)
	defer s.end()
	r := s.resource(newClient(t, shared.Endpoint), 2, etcdcondvar.WithTTL(ttl))
	for range trials(1000) {
		p, err := r.Acquire(s.ctx)
		require.NoError(t, err)
		ctx := p.Context(s.ctx)
		s.revoke()
		<-ctx.Done()
	}
	var tickets, fences int
	s.history.Look(func(h *etcdtest.History) { tickets, fences = h.Count(), h.Fences() })
	require.GreaterOrEqual(t, tickets, trials(1000))
	require.LessOrEqual(t, tickets, trials(1000)+fences) // a lost answer costs a call its ticket
	workers := 0
	for _, stack := range strings.Split(labeled(t.Name()), "\n\n") {
		if strings.Contains(stack, "etcdcondvar.(*Resource).startLocked") {
			var n int
			_, err := fmt.Sscan(stack, &n) // how many goroutines have it
			require.NoError(t, err)
			workers += n
		}
	}
	require.Positive(t, workers)
	require.LessOrEqual(t, workers, 5)
}
