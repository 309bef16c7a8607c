package etcdtest_test

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/client/v3/concurrency"

	"example.com/condvar/etcdcondvar"
	"example.com/condvar/etcdcondvar/etcdtest"
)

// Each benchmark alternates with txn{put} of the same client, the floor. The
// ratio is of the medians. The server syncs its disk.

func startSynced(b *testing.B) *etcdtest.Server {
	return etcdtest.StartCluster(b, etcdtest.Config{Sync: true})[0]
}

// floors alternates line with the floor and reports the ratio.
func floors(b *testing.B, client *clientv3.Client, line func() time.Duration) {
	b.Helper()
	var floor, ours []time.Duration
	for b.Loop() {
		start := time.Now()
		_, err := client.Txn(context.Background()).Then(clientv3.OpPut("floor", "x")).Commit()
		require.NoError(b, err)
		floor = append(floor, time.Since(start))
		ours = append(ours, line())
	}
	report(b, ours, floor)
}

func report(b *testing.B, ours, floor []time.Duration) {
	slices.Sort(floor)
	slices.Sort(ours)
	b.ReportMetric(float64(median(ours))/float64(median(floor)), "ratio")
	b.ReportMetric(float64(ours[len(ours)*99/100])/float64(median(floor)), "p99-ratio")
	b.ReportMetric(float64(median(floor).Microseconds()), "floor-µs")
}

func median(d []time.Duration) time.Duration { return d[len(d)/2] }

func benchResource(b *testing.B, client *clientv3.Client, capacity int64) *etcdcondvar.Resource {
	r := etcdcondvar.New(client, b.Name(), capacity)
	b.Cleanup(func() { require.NoError(b, r.Drain(context.Background())) })
	return r
}

func take(b *testing.B, r *etcdcondvar.Resource) *etcdcondvar.Permit {
	p, err := r.Acquire(context.Background())
	require.NoError(b, err)
	return p
}

// acquireOnce returns how long an Acquire takes. Its permit is released.
func acquireOnce(b *testing.B, r *etcdcondvar.Resource) time.Duration {
	start := time.Now()
	p := take(b, r)
	defer p.Release()
	return time.Since(start)
}

func BenchmarkAcquire(b *testing.B) {
	client := newClient(b, startSynced(b).Endpoint)
	for _, live := range []int{0, 1000, 5000} {
		b.Run(fmt.Sprint("live=", live), func(b *testing.B) {
			r := benchResource(b, client, 1<<20)
			var wg sync.WaitGroup
			held := make([]*etcdcondvar.Permit, live)
			for i := range held {
				wg.Go(func() { held[i] = take(b, r) })
			}
			wg.Wait()
			take(b, r).Release()
			floors(b, client, func() time.Duration { return acquireOnce(b, r) })
			for _, p := range held {
				wg.Go(p.Release)
			}
			wg.Wait()
		})
	}
}

// BenchmarkHistory measures Acquire after 100,000 other calls, with the whole
// history of etcd.
func BenchmarkHistory(b *testing.B) {
	client := newClient(b, startSynced(b).Endpoint)
	r := benchResource(b, client, 1<<20)
	var wg sync.WaitGroup
	for range 100 {
		wg.Go(func() {
			for range 1000 {
				take(b, r).Release()
			}
		})
	}
	wg.Wait()
	floors(b, client, func() time.Duration { return acquireOnce(b, r) })
}

// BenchmarkTransaction is the transaction of an Acquire alone, without the
// Resource.
func BenchmarkTransaction(b *testing.B) {
	client := newClient(b, startSynced(b).Endpoint)
	each := newTxnPerCall(b, client)
	floors(b, client, func() time.Duration {
		start := time.Now()
		var d time.Duration
		each.call(func(string) { d = time.Since(start) })
		return d
	})
}

func BenchmarkRelease(b *testing.B) {
	client := newClient(b, startSynced(b).Endpoint)
	r := benchResource(b, client, 1<<20)
	floors(b, client, func() time.Duration {
		p := take(b, r)
		start := time.Now()
		p.Release()
		return time.Since(start)
	})
}

func BenchmarkTryAcquire(b *testing.B) {
	server := startSynced(b)
	client := newClient(b, server.Endpoint)
	b.Run("full", func(b *testing.B) {
		r, other := benchResource(b, client, 1), benchResource(b, client, 1)
		p := take(b, r)
		floors(b, client, func() time.Duration {
			start := time.Now()
			_, err := other.TryAcquire(context.Background())
			require.ErrorIs(b, err, etcdcondvar.ErrFull)
			return time.Since(start)
		})
		p.Release()
	})
	b.Run("room", func(b *testing.B) {
		r := benchResource(b, client, 1)
		floors(b, client, func() time.Duration {
			start := time.Now()
			p, err := r.TryAcquire(context.Background())
			require.NoError(b, err)
			d := time.Since(start)
			p.Release()
			return d
		})
	})
}

// BenchmarkHandOff measures the time from a Release to the grant in another
// process, on the same clock. The waiter has been in line for up to 10 ms.
func BenchmarkHandOff(b *testing.B) {
	for _, foreign := range []int{0, 300} {
		b.Run(fmt.Sprint("foreign=", foreign), func(b *testing.B) {
			server := startSynced(b)
			client := newClient(b, server.Endpoint)
			stop := foreignWrites(b, newClient(b, server.Endpoint), foreign)
			r := benchResource(b, client, 1)
			w := etcdtest.StartWorker(b, etcdtest.WorkerConfig{Name: b.Name(), Capacity: 1, TTL: 10 * time.Second, Endpoints: []string{server.Endpoint}})
			i := 0
			floors(b, client, func() time.Duration {
				i++
				p := take(b, r)
				w.Do("acquire %d 1", i)
				for f, err := r.Fleet(b.Context()); err == nil && f.Waiting == 0; f, err = r.Fleet(b.Context()) {
					time.Sleep(time.Millisecond)
				}
				time.Sleep(time.Duration(i%10) * time.Millisecond)
				start := time.Now()
				p.Release()
				got, err := w.Await(b.Context(), "granted", i)
				require.NoError(b, err)
				w.Do("release %d", i)
				_, err = w.Await(b.Context(), "released", i)
				require.NoError(b, err)
				return got.At.Sub(start)
			})
			stop()
		})
	}
}

// foreignWrites puts another key at the given rate per second.
func foreignWrites(b *testing.B, client *clientv3.Client, rate int) (stop func()) {
	if rate == 0 {
		return func() {}
	}
	ctx, cancel := context.WithCancel(b.Context())
	var wg sync.WaitGroup
	ticker := time.NewTicker(time.Second / time.Duration(rate))
	for range 4 {
		wg.Go(func() {
			for {
				select {
				case <-ctx.Done():
					return
				case <-ticker.C:
					_, _ = client.Put(ctx, "foreign", "x")
				}
			}
		})
	}
	return func() {
		cancel()
		ticker.Stop()
		wg.Wait()
	}
}

// BenchmarkMutex compares hand-offs between two clients with hand-offs of a
// concurrency.Mutex, while another client writes. Two goroutines take turns.
func BenchmarkMutex(b *testing.B) {
	server := startSynced(b)
	clients := []*clientv3.Client{newClient(b, server.Endpoint), newClient(b, server.Endpoint)}
	stop := foreignWrites(b, newClient(b, server.Endpoint), 100)
	defer stop()
	var ours []func()
	for range 2 {
		r := etcdcondvar.New(clients[len(ours)], "mutex-ours", 1)
		b.Cleanup(func() { require.NoError(b, r.Drain(context.Background())) })
		var p *etcdcondvar.Permit
		ours = append(ours, func() {
			if p != nil {
				p.Release()
				p = nil
				return
			}
			p = take(b, r)
		})
	}
	var theirs []func()
	for _, client := range clients {
		session, err := concurrency.NewSession(client)
		require.NoError(b, err)
		b.Cleanup(func() { _ = session.Close() })
		m, locked := concurrency.NewMutex(session, "mutex-theirs"), false
		theirs = append(theirs, func() {
			if locked = !locked; locked {
				require.NoError(b, m.Lock(context.Background()))
			} else {
				require.NoError(b, m.Unlock(context.Background()))
			}
		})
	}
	handOff := func(toggle []func()) time.Duration {
		toggle[0]()
		got := make(chan time.Time, 1)
		go func() {
			toggle[1]()
			got <- time.Now()
		}()
		time.Sleep(5 * time.Millisecond) // until it is in line
		start := time.Now()
		toggle[0]()
		d := (<-got).Sub(start)
		toggle[1]()
		return d
	}
	var mine, stock []time.Duration
	for b.Loop() {
		mine = append(mine, handOff(ours))
		stock = append(stock, handOff(theirs))
	}
	slices.Sort(mine)
	slices.Sort(stock)
	b.ReportMetric(float64(median(mine))/float64(median(stock)), "ratio")
	b.ReportMetric(float64(median(stock).Microseconds()), "stock-µs")
	b.ReportMetric(float64(median(mine).Microseconds()), "ours-µs")
}

// BenchmarkCrowd compares many goroutines of one process that acquire and
// release with two floors: the same transactions, but one for each call, and a
// bare put and a bare delete for each call. They run in turns. The ratios are of
// the throughputs.
func BenchmarkCrowd(b *testing.B) {
	server := startSynced(b)
	client := newClient(b, server.Endpoint)
	for _, goroutines := range []int{100, 2000} {
		b.Run(fmt.Sprint("goroutines=", goroutines), func(b *testing.B) {
			ctx := context.Background()
			r := benchResource(b, client, 1<<20)
			take(b, r).Release()
			each := newTxnPerCall(b, client)
			var ours, same, bare float64
			for b.Loop() {
				ours += throughput(goroutines, func() { _ = r.Do(ctx, func(context.Context) error { return nil }) })
				same += throughput(goroutines, func() { each.acquireAndRelease() })
				bare += throughput(goroutines, func() {
					_, _ = client.Txn(ctx).Then(clientv3.OpPut("floor", "x")).Commit()
					_, _ = client.Txn(ctx).Then(clientv3.OpDelete("floor")).Commit()
				})
			}
			b.ReportMetric(ours/same, "throughput-ratio")
			b.ReportMetric(ours/bare, "bare-ratio")
			b.ReportMetric(ours/float64(b.N), "calls/s")
		})
	}
}

// A txnPerCall makes the transactions of an Acquire that gets a permit, and of
// its Release, without anything around them.
type txnPerCall struct {
	client *clientv3.Client
	lease  clientv3.LeaseID
	made   atomic.Int64
	free   chan string // keys of deleted tickets
}

func newTxnPerCall(b *testing.B, client *clientv3.Client) *txnPerCall {
	lease, err := client.Grant(b.Context(), 600)
	require.NoError(b, err)
	return &txnPerCall{client: client, lease: lease.ID, free: make(chan string, 1<<16)}
}

func (c *txnPerCall) acquireAndRelease() { c.call(func(string) {}) }

// call calls between with the key of the ticket.
func (c *txnPerCall) call(between func(key string)) {
	ctx := clientv3.WithRequireLeader(context.Background())
	key, revision := c.put(ctx)
	between(key)
	created := clientv3.Compare(clientv3.CreateRevision(key), "=", revision)
	c.delete(ctx, clientv3.OpTxn([]clientv3.Cmp{created}, []clientv3.Op{clientv3.OpDelete(key)}, nil))
	c.free <- key
}

// put puts a ticket. If etcd is overloaded and fails, another key is tried.
func (c *txnPerCall) put(ctx context.Context) (key string, revision int64) {
	for {
		select {
		case key = <-c.free:
		default:
			key = fmt.Sprintf("p/1/%016x", c.made.Add(1))
		}
		resp, err := c.client.Txn(ctx).
			If(clientv3.Compare(clientv3.ModRevision("cap"), "=", 0), clientv3.Compare(clientv3.Version("e"), "=", 0),
				clientv3.Compare(clientv3.Version(key), "=", 0)).
			Then(clientv3.OpPut(key, "1795875132017", clientv3.WithLease(c.lease)),
				clientv3.OpGet("p/1/", clientv3.WithPrefix(), clientv3.WithCountOnly()), clientv3.OpGet("p/n/", clientv3.WithPrefix())).
			Else(clientv3.OpGet("cap"), clientv3.OpGet("e", clientv3.WithCountOnly())).Commit()
		if err == nil {
			return key, resp.Header.Revision
		}
		c.delete(ctx, clientv3.OpDelete(key))
	}
}

func (c *txnPerCall) delete(ctx context.Context, op clientv3.Op) {
	for {
		if _, err := c.client.Txn(ctx).Then(op).Commit(); err == nil {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
}

// BenchmarkSmall compares 2,000 goroutines of one process that want 8 permits
// with the same transactions, but one for each call.
func BenchmarkSmall(b *testing.B) {
	const goroutines, capacity = 2000, 8
	client := newClient(b, startSynced(b).Endpoint)
	r := benchResource(b, client, capacity)
	take(b, r).Release()
	l := newLineOfCalls(b, client, capacity)
	var ours, same float64
	for b.Loop() {
		ours += throughput(goroutines, func() { _ = r.Do(context.Background(), func(context.Context) error { return nil }) })
		same += throughput(goroutines, func() { l.acquireAndRelease() })
	}
	b.ReportMetric(ours/same, "throughput-ratio")
	b.ReportMetric(ours/float64(b.N), "calls/s")
}

// A lineOfCalls is a semaphore with a transaction for each call. All its calls
// wait for one watch, whose events come in the order of the tickets.
type lineOfCalls struct {
	*txnPerCall
	admitted sync.Map // by ticket
}

func newLineOfCalls(b *testing.B, client *clientv3.Client, capacity int) *lineOfCalls {
	l := &lineOfCalls{txnPerCall: newTxnPerCall(b, client)}
	events := client.Watch(b.Context(), "p/", clientv3.WithPrefix(), clientv3.WithCreatedNotify())
	<-events
	go func() {
		var line []string
		held := map[string]bool{}
		for resp := range events {
			for _, e := range resp.Events {
				switch key := string(e.Kv.Key); {
				case e.Type == clientv3.EventTypePut:
					line = append(line, key)
				case held[key]:
					delete(held, key)
				default: // its put failed, but was applied
					line = slices.DeleteFunc(line, func(k string) bool { return k == key })
				}
				for len(held) < capacity && len(line) > 0 {
					held[line[0]] = true
					close(l.admission(line[0]))
					line = line[1:]
				}
			}
		}
	}()
	return l
}

func (l *lineOfCalls) acquireAndRelease() { l.do(func() {}) }

func (l *lineOfCalls) do(fn func()) {
	l.call(func(key string) {
		<-l.admission(key)
		l.admitted.Delete(key)
		fn()
	})
}

// admission returns the channel that is closed when the call with that ticket
// is admitted. The watch may be earlier than the answer.
func (l *lineOfCalls) admission(key string) chan struct{} {
	c, _ := l.admitted.LoadOrStore(key, make(chan struct{}))
	return c.(chan struct{})
}

// throughput returns how many times per second goroutines call f.
func throughput(goroutines int, f func()) float64 {
	var calls atomic.Int64
	var wg sync.WaitGroup
	start := time.Now()
	for range goroutines {
		wg.Go(func() {
			for time.Since(start) < 500*time.Millisecond {
				f()
				calls.Add(1)
			}
		})
	}
	wg.Wait()
	return float64(calls.Load()) / time.Since(start).Seconds()
}

// BenchmarkLine compares 10,000 goroutines of one process that hold each of 8
// permits for 2 ms with the same, but a ticket for each call in the line of the
// fleet. The ratio is of the permits per second.
func BenchmarkLine(b *testing.B) {
	const goroutines, capacity, hold = 10_000, 8, 2 * time.Millisecond
	client := newClient(b, startSynced(b).Endpoint)
	r := benchResource(b, client, capacity)
	take(b, r).Release()
	l := newLineOfCalls(b, client, capacity)
	var ours, without float64
	for b.Loop() {
		ours += grants(goroutines, func(ctx context.Context, granted func()) {
			_ = r.Do(ctx, func(context.Context) error { granted(); time.Sleep(hold); return nil })
		})
		without += grants(goroutines, func(_ context.Context, granted func()) {
			l.do(func() { granted(); time.Sleep(hold) })
		})
	}
	b.ReportMetric(ours/without, "grants-ratio")
	b.ReportMetric(ours/float64(b.N), "grants/s")
}

// grants returns how many times per second the goroutines that call f get a
// permit, in the 5 s after the first 1,000.
func grants(goroutines int, f func(ctx context.Context, granted func())) float64 {
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	var n atomic.Int64
	begin := make(chan struct{})
	for range goroutines {
		wg.Go(func() {
			for ctx.Err() == nil {
				f(ctx, func() {
					if n.Add(1) == 1000 {
						close(begin)
					}
				})
			}
		})
	}
	<-begin
	before, start := n.Load(), time.Now()
	time.Sleep(5 * time.Second)
	perSecond := float64(n.Load()-before) / time.Since(start).Seconds()
	cancel()
	wg.Wait()
	return perSecond
}

// BenchmarkLone measures one caller, while 10,000 goroutines of another process
// acquire the 8 permits, each for 2 ms.
func BenchmarkLone(b *testing.B) {
	server := startSynced(b)
	crowd, lone := benchResource(b, newClient(b, server.Endpoint), 8), benchResource(b, newClient(b, server.Endpoint), 8)
	ctx, cancel := context.WithCancel(b.Context())
	var wg sync.WaitGroup
	var calls atomic.Int64
	for range 10_000 {
		wg.Go(func() {
			for ctx.Err() == nil {
				_ = crowd.Do(ctx, func(context.Context) error { time.Sleep(2 * time.Millisecond); return nil })
				calls.Add(1)
			}
		})
	}
	for crowd.Stats().WaitCount < 1000 {
		time.Sleep(10 * time.Millisecond)
	}
	var waits []time.Duration
	before, begin := calls.Load(), time.Now()
	for b.Loop() {
		start := time.Now()
		take(b, lone).Release()
		waits = append(waits, time.Since(start))
	}
	b.ReportMetric(float64(calls.Load()-before)/time.Since(begin).Seconds(), "crowd-calls/s")
	slices.Sort(waits)
	b.ReportMetric(float64(median(waits).Milliseconds()), "lone-ms")
	cancel()
	wg.Wait()
}

// BenchmarkFleet measures the share of a capacity of 50 that 40 processes with
// 3 goroutines each use. With a hold of 20 ms, it compares that in turns with a
// semaphore that has a watch and reads for each call.
func BenchmarkFleet(b *testing.B) {
	for _, hold := range []int{200, 20} {
		b.Run(fmt.Sprint("hold=", hold, "ms"), func(b *testing.B) {
			server := startSynced(b)
			b.Setenv("GOMAXPROCS", "1") // of the workers: all of them share two cores
			var ours, stock float64
			for b.Loop() {
				ours += fleetShare(b, server, "steady", hold)
				if hold == 20 {
					stock += fleetShare(b, server, "stock", hold)
				}
			}
			b.ReportMetric(100*ours/float64(b.N), "%-of-capacity")
			if hold == 20 {
				b.ReportMetric(ours/stock, "stock-ratio")
			}
		})
	}
}

// fleetShare starts 40 workers with a command, and returns which share of the
// capacity they use in 5 s.
func fleetShare(b *testing.B, server *etcdtest.Server, command string, hold int) float64 {
	const capacity = 50
	var workers []*etcdtest.Worker
	for range 40 {
		w := etcdtest.StartWorker(b, etcdtest.WorkerConfig{
			Name: b.Name(), Capacity: capacity, TTL: 10 * time.Second, Endpoints: []string{server.Endpoint},
		})
		w.Do("%s 3 %d", command, hold)
		workers = append(workers, w)
	}
	count := func() (n int) {
		for _, w := range workers {
			require.Zero(b, w.Count("failed"))
			n += w.Count("released")
		}
		return n
	}
	for count() < 300 { // until all have started
		time.Sleep(10 * time.Millisecond)
	}
	before, start := count(), time.Now()
	time.Sleep(5 * time.Second)
	uses := float64(count()-before) / time.Since(start).Seconds()
	for _, w := range workers {
		w.Do("drain")
	}
	for _, w := range workers {
		_, err := w.Await(b.Context(), "drained", 0)
		require.NoError(b, err)
		w.Kill()
	}
	return uses * float64(hold) / 1000 / capacity
}

// BenchmarkCancel measures how long it takes to delete the tickets of 2,000
// waiters that are canceled together.
func BenchmarkCancel(b *testing.B) {
	client := newClient(b, startSynced(b).Endpoint)
	r := benchResource(b, client, 1)
	p := take(b, r)
	var gone time.Duration
	for b.Loop() {
		ctx, cancel := context.WithCancel(b.Context())
		var wg sync.WaitGroup
		for range 2000 {
			wg.Go(func() { _, _ = r.Acquire(ctx) })
		}
		// Half of the 100 places of the process may stay free.
		for f, err := r.Fleet(b.Context()); err == nil && (f.Waiting <= 50 || r.Stats().Waiting < 2000); f, err = r.Fleet(b.Context()) {
			time.Sleep(time.Millisecond)
		}
		start := time.Now()
		cancel()
		wg.Wait()
		for f, err := r.Fleet(b.Context()); err == nil && f.Waiting > 0; f, err = r.Fleet(b.Context()) {
		}
		gone += time.Since(start)
	}
	b.ReportMetric(float64(gone.Milliseconds())/float64(b.N), "gone-ms")
	p.Release()
}

// BenchmarkAllocs compares the allocations of an Acquire and its Release with
// the allocations of the client for two such transactions.
func BenchmarkAllocs(b *testing.B) {
	client := newClient(b, startSynced(b).Endpoint)
	b.Run("impl=etcdcondvar", func(b *testing.B) {
		r := benchResource(b, client, 1<<20)
		take(b, r).Release()
		b.ReportAllocs()
		for b.Loop() {
			take(b, r).Release()
		}
	})
	b.Run("impl=client", func(b *testing.B) {
		each := newTxnPerCall(b, client)
		b.ReportAllocs()
		for b.Loop() {
			each.acquireAndRelease()
		}
	})
}
