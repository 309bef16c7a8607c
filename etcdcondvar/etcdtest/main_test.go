package etcdtest_test

import (
	"context"
	"flag"
	"fmt"
	"os"
	"runtime/pprof"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/goleak"
	"go.uber.org/zap"

	"example.com/condvar/etcdcondvar"
	"example.com/condvar/etcdcondvar/etcdtest"
)

const (
	ttl   = 4 * time.Second
	brief = 2 * time.Second  // the TTL if a lease must end during the test
	limit = 60 * time.Second // a test that takes longer fails, in the short form
)

// shared is a server for tests without server faults. Each test uses a resource
// name of its own.
var shared *etcdtest.Server

func TestMain(m *testing.M) {
	etcdtest.RunChild()
	flag.Parse()
	if given := false; true {
		flag.Visit(func(f *flag.Flag) { given = given || f.Name == "test.parallel" })
		if !given { // most tests wait
			_ = flag.Set("test.parallel", "8")
		}
	}
	os.Exit(run(m))
}

func run(m *testing.M) int {
	var p etcdtest.Program
	defer p.Close()
	shared = etcdtest.Start(&p)
	code := m.Run()
	if code != 0 {
		return code
	}
	if err := noLeases(); err != nil {
		fmt.Println(err)
		return 1
	}
	if profile := pprof.Lookup("goroutineleak"); profile != nil && profile.Count() > 0 {
		_ = profile.WriteTo(os.Stdout, 1)
		return 1
	}
	if err := goleak.Find(); err != nil {
		fmt.Println(err)
		return 1
	}
	return 0
}

// noLeases waits until no lease is left at the shared server. The leases of
// killed workers expire.
func noLeases() error {
	client, err := clientv3.New(clientv3.Config{Endpoints: []string{shared.Endpoint}, Logger: zap.NewNop()})
	if err != nil {
		return err
	}
	defer client.Close()
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	for {
		resp, err := client.Leases(ctx)
		if err != nil {
			return fmt.Errorf("leases are left: %w", err)
		}
		if len(resp.Leases) == 0 {
			return nil
		}
		time.Sleep(50 * time.Millisecond)
	}
}

func long() bool { return os.Getenv("CONDVAR_VERIFY") == "long" }

// trials returns n in the long form, and a tenth of n in the short form.
func trials(n int) int {
	if long() {
		return n
	}
	return (n + 9) / 10
}

// A scene is a resource name at a server, and its history. end checks the
// history.
type scene struct {
	*testing.T
	ctx     context.Context // ends when the test takes too long
	name    string
	direct  *clientv3.Client // affected only by server faults
	history *etcdtest.History
	slack   time.Duration // see History.Judge

	mu        sync.Mutex
	resources []*etcdcondvar.Resource
	beliefs   []*etcdtest.Belief
	workers   []*etcdtest.Worker
	calls     []*pending
}

// newScene returns a scene on the servers, or on the shared one if there are
// none. The test runs in parallel with others. It must call end.
func newScene(t *testing.T, servers ...*etcdtest.Server) *scene {
	t.Helper()
	t.Parallel()
	return newSerialScene(t, servers...)
}

func newSerialScene(t *testing.T, servers ...*etcdtest.Server) *scene {
	t.Helper()
	checkLeaks(t)
	if len(servers) == 0 {
		servers = []*etcdtest.Server{shared}
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Duration(trials(10))*limit)
	t.Cleanup(cancel)
	s := &scene{T: t, ctx: ctx, name: strings.NewReplacer("/", ".", ",", "").Replace(t.Name()), slack: 3 * time.Second}
	s.direct = newClient(t, endpoints(servers...)...)
	s.history = etcdtest.NewHistory(t, s.direct, s.name)
	return s
}

func endpoints(servers ...*etcdtest.Server) (all []string) {
	for _, server := range servers {
		all = append(all, server.Endpoint)
	}
	return all
}

// newClient returns a client of the endpoints, which is closed after the test.
func newClient(t testing.TB, endpoints ...string) *clientv3.Client {
	t.Helper()
	return newClientWith(t, clientv3.Config{Endpoints: endpoints})
}

func newClientWith(t testing.TB, cfg clientv3.Config) *clientv3.Client {
	t.Helper()
	cfg.Logger = zap.NewNop()
	client, err := clientv3.New(cfg)
	require.NoError(t, err)
	t.Cleanup(func() { _ = client.Close() })
	return client
}

// checkLeaks fails the test if a goroutine is left that the test has started,
// directly or indirectly. Goroutines inherit its label, so other tests can run
// at the same time.
func checkLeaks(t *testing.T) {
	t.Helper()
	name := t.Name()
	pprof.SetGoroutineLabels(pprof.WithLabels(context.Background(), pprof.Labels("test", name)))
	t.Cleanup(func() {
		pprof.SetGoroutineLabels(context.Background())
		if t.Failed() {
			return
		}
		var left string
		for range 200 {
			if left = labeled(name); left == "" {
				return
			}
			time.Sleep(50 * time.Millisecond)
		}
		t.Error("goroutines are left:\n" + left)
	})
}

// labeled returns the goroutines that have the label of a test.
func labeled(name string) string {
	var b strings.Builder
	_ = pprof.Lookup("goroutine").WriteTo(&b, 1)
	var all []string
	for _, g := range strings.Split(b.String(), "\n\n") {
		if strings.Contains(g, fmt.Sprintf("%q:%q", "test", name)) {
			all = append(all, g)
		}
	}
	return strings.Join(all, "\n\n")
}

// resource returns a resource of the scene with the brief TTL, unless opts set
// another TTL.
func (s *scene) resource(client *clientv3.Client, capacity int64, opts ...etcdcondvar.Option) *etcdcondvar.Resource {
	r := etcdcondvar.New(client, s.name, capacity, append([]etcdcondvar.Option{etcdcondvar.WithTTL(brief)}, opts...)...)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.resources = append(s.resources, r)
	return r
}

// worker starts a process that has a resource of the scene.
func (s *scene) worker(capacity int64, ttl time.Duration, endpoints ...string) *etcdtest.Worker {
	s.Helper()
	w := etcdtest.StartWorker(s.T, etcdtest.WorkerConfig{Name: s.name, Capacity: capacity, TTL: ttl, Endpoints: endpoints})
	s.mu.Lock()
	defer s.mu.Unlock()
	s.workers = append(s.workers, w)
	return w
}

// report waits for a report of a worker.
func (s *scene) report(w *etcdtest.Worker, kind string, id int) etcdtest.Report {
	s.Helper()
	r, err := w.Await(s.ctx, kind, id)
	require.NoError(s, err)
	if kind == "drained" {
		require.Empty(s, r.Text)
	}
	return r
}

// end drains all resources. Then it checks that nothing but the capacity is
// left, and that the history agrees with all beliefs. Workers must have been
// drained or killed.
func (s *scene) end() {
	s.Helper()
	if s.Failed() {
		for _, r := range s.resources {
			_ = r.Close()
		}
		return
	}
	for _, r := range s.resources {
		if err := r.Drain(s.ctx); err != nil {
			s.Fatalf("%v: %+v\n%s", err, r.Stats(), labeled(s.Name()))
		}
	}
	require.NoError(s, s.history.Sync(s.ctx))
	s.await("rest", func(h *etcdtest.History) bool { return h.Rests() })
	eventually(s, func() bool {
		left, err := s.history.Leases(s.ctx)
		return err == nil && len(left) == 0
	})
	require.Empty(s, s.history.Judge(s.believed(), s.slack))
}

// believed returns all beliefs of this process and of workers.
func (s *scene) believed() (all []etcdtest.Belief) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, b := range s.beliefs {
		all = append(all, *b)
	}
	for _, w := range s.workers {
		all = append(all, w.Beliefs()...)
	}
	return all
}

// await waits until cond holds for the history. If it does not, the log has the
// history, and the goroutines of the workers.
func (s *scene) await(what string, cond func(h *etcdtest.History) bool) {
	s.Helper()
	err := s.history.Await(s.ctx, cond)
	if err == nil {
		return
	}
	s.history.Look(func(h *etcdtest.History) {
		for _, e := range h.Events() {
			s.Logf("%s: revision %d, key %q, value %q, deleted %v", e.At.Format("05.000"), e.Revision, e.Key, e.Value, e.Delete)
		}
	})
	s.mu.Lock()
	resources, workers := s.resources, s.workers
	s.mu.Unlock()
	for _, r := range resources {
		s.Log(r)
	}
	for _, w := range workers {
		w.Quit()
	}
	require.NoError(s, err, what)
}

// tickets waits until n tickets of the scene exist, and the calls of this
// process have the answers for theirs: if an answer were lost, the call would
// get another ticket.
func (s *scene) tickets(n int) {
	s.Helper()
	s.await(fmt.Sprint(n, " tickets"), func(h *etcdtest.History) bool { return len(h.Live()) == n })
	eventually(s, func() bool {
		s.mu.Lock()
		defer s.mu.Unlock()
		waiting := map[*etcdcondvar.Resource]int64{}
		for _, c := range s.calls {
			if !c.over() {
				waiting[c.r]++
			}
		}
		for r, n := range waiting {
			if r.Stats().Waiting < n {
				return false
			}
		}
		return true
	})
}

// A permit is a Permit that a goroutine checks every 2 ms.
type permit struct {
	*etcdcondvar.Permit
	until  chan struct{}
	over   chan struct{}
	belief *etcdtest.Belief
}

// watch checks a permit until it is lost or released.
func (s *scene) watch(p *etcdcondvar.Permit, n int64) *permit {
	now := time.Now()
	q := &permit{p, make(chan struct{}), make(chan struct{}), &etcdtest.Belief{Token: p.Token(), N: n, Begin: now, End: now}}
	go func() {
		defer close(q.over)
		for {
			looked := time.Now()
			if p.Err() != nil {
				return
			}
			q.belief.End = looked
			select {
			case <-q.until:
				return
			case <-time.After(2 * time.Millisecond):
			}
		}
	}()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.beliefs = append(s.beliefs, q.belief)
	return q
}

// release ends the belief, and then the permit. It may be called once.
func (q *permit) release() {
	q.stopLooking()
	q.Release()
}

func (q *permit) stopLooking() {
	close(q.until)
	<-q.over
}

// acquire acquires one permit.
func (s *scene) acquire(r *etcdcondvar.Resource) *permit {
	s.Helper()
	return s.acquireN(r, 1)
}

func (s *scene) acquireN(r *etcdcondvar.Resource, n int64) *permit {
	s.Helper()
	p, err := r.AcquireN(s.ctx, n)
	require.NoError(s, err)
	return s.watch(p, n)
}

// A pending is a call in a goroutine of its own.
type pending struct {
	r      *etcdcondvar.Resource
	cancel context.CancelFunc
	done   chan struct{}
	p      *permit
	err    error
	at     time.Time // when it returned
}

func (s *scene) start(r *etcdcondvar.Resource, n int64) *pending {
	ctx, cancel := context.WithCancel(s.ctx)
	c := &pending{r: r, cancel: cancel, done: make(chan struct{})}
	s.mu.Lock()
	s.calls = append(s.calls, c)
	s.mu.Unlock()
	go func() {
		defer close(c.done)
		defer cancel()
		p, err := r.AcquireN(ctx, n)
		c.at, c.err = time.Now(), err
		if err == nil {
			c.p = s.watch(p, n)
		}
	}()
	return c
}

// granted waits until the call has its permit.
func (s *scene) granted(c *pending) *permit {
	s.Helper()
	<-c.done
	require.NoError(s, c.err)
	return c.p
}

// over reports whether the call has returned.
func (c *pending) over() bool {
	select {
	case <-c.done:
		return true
	default:
		return false
	}
}

// fleet returns the result of Fleet.
func (s *scene) fleet(r *etcdcondvar.Resource) etcdcondvar.Fleet {
	s.Helper()
	f, err := r.Fleet(s.ctx)
	require.NoError(s, err)
	return f
}

// eventually polls cond until it holds.
func eventually(t testing.TB, cond func() bool) {
	t.Helper()
	for deadline := time.Now().Add(limit); !cond(); time.Sleep(2 * time.Millisecond) {
		require.True(t, time.Now().Before(deadline), "the condition did not become true in time")
	}
}
