// Command chaos runs worker processes on a cluster of three etcd members, which
// are processes, too, and injects random faults into all of them:
//
//	go run ./chaos -duration 30m
//
// Then it ends all faults, drains the workers, and compares the times in which
// they believed to hold permits with the history of etcd. The exit status is 1
// if a guarantee was violated.
package main

import (
	"context"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"sync"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"

	"example.com/condvar/etcdcondvar"
	"example.com/condvar/etcdcondvar/etcdtest"
)

func main() {
	etcdtest.RunChild()
	var c config
	flag.DurationVar(&c.duration, "duration", 30*time.Minute, "how long to inject faults")
	flag.IntVar(&c.workers, "workers", 10, "worker processes")
	flag.DurationVar(&c.ttl, "ttl", 4*time.Second, "TTL of the leases")
	flag.Uint64Var(&c.seed, "seed", uint64(time.Now().UnixNano()), "seed of the faults")
	flag.StringVar(&c.plant, "plant", "", `a bug: "belief" makes workers ignore that permits were lost`)
	flag.Parse()
	if flag.NArg() > 0 || c.duration <= 0 || c.workers < 1 || c.ttl <= 0 || c.plant != "" && c.plant != "belief" {
		flag.Usage()
		os.Exit(2)
	}
	if !run(c, os.Stdout) {
		os.Exit(1)
	}
}

type config struct {
	duration, ttl time.Duration
	workers       int
	seed          uint64
	plant         string
}

const name = "chaos"

// A chaos is a run. mu guards the fields below it.
type chaos struct {
	config
	out      io.Writer
	tb       *etcdtest.Program
	servers  []*etcdtest.Server
	client   *clientv3.Client
	history  *etcdtest.History
	resource *etcdcondvar.Resource
	faults   sync.WaitGroup

	mu      sync.Mutex
	rng     *rand.Rand
	broken  []bool // members with a fault
	workers []*worker
	all     []*etcdtest.Worker // including the killed ones
	counts  map[string]int     // of faults
}

// A worker is a process that uses a proxy for each member.
type worker struct {
	process *etcdtest.Worker
	proxies []*etcdtest.Proxy
	busy    bool // it has a fault
}

// run reports whether all guarantees held.
func run(cfg config, out io.Writer) bool {
	tb := new(etcdtest.Program)
	defer tb.Close()
	c := &chaos{config: cfg, out: out, tb: tb, rng: rand.New(rand.NewPCG(cfg.seed, 0)), counts: map[string]int{}}
	c.servers = etcdtest.StartCluster(tb, etcdtest.Config{Members: 3, Proxies: true})
	c.broken = make([]bool, len(c.servers))
	var endpoints []string
	for _, s := range c.servers {
		endpoints = append(endpoints, s.Endpoint)
	}
	client, err := clientv3.New(clientv3.Config{Endpoints: endpoints, Logger: zap.NewNop()})
	if err != nil {
		tb.Fatalf("%v", err)
	}
	defer func() { _ = client.Close() }()
	c.client = client
	c.history = etcdtest.NewHistory(tb, client, name)
	c.resource = etcdcondvar.New(client, name, 5, etcdcondvar.WithTTL(cfg.ttl))
	for range cfg.workers {
		w := &worker{}
		for _, s := range c.servers {
			w.proxies = append(w.proxies, etcdtest.NewProxy(tb, s.Endpoint))
		}
		c.workers = append(c.workers, w)
		c.startWorker(w)
	}
	fmt.Fprintf(out, "%d workers, 3 members, TTL %v, faults for %v, seed %d\n", cfg.workers, cfg.ttl, cfg.duration, cfg.seed)
	for end := time.Now().Add(cfg.duration); time.Now().Before(end); {
		c.fault()
		time.Sleep(c.random(cfg.ttl / 3))
	}
	c.faults.Wait() // each ends by itself
	return c.verdict()
}

func (c *chaos) startWorker(w *worker) {
	var endpoints []string
	for _, p := range w.proxies {
		endpoints = append(endpoints, p.Endpoint)
	}
	w.process = etcdtest.StartWorker(c.tb, etcdtest.WorkerConfig{
		Name: name, Capacity: 5, TTL: c.ttl, Endpoints: endpoints, Plant: c.plant,
	})
	w.process.Do("loop %d 3 3 200", c.rng.IntN(1<<30))
	c.all = append(c.all, w.process)
}

// random returns a duration up to d, often a short one.
func (c *chaos) random(d time.Duration) time.Duration {
	c.mu.Lock()
	defer c.mu.Unlock()
	return time.Duration(c.rng.Float64() * c.rng.Float64() * float64(2*d))
}

// fault begins a random fault, which ends by itself.
func (c *chaos) fault() {
	d := c.random(c.ttl * 3 / 2)
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.rng.IntN(3) == 0 {
		c.faultOfMember(d)
		return
	}
	if c.rng.IntN(8) == 0 {
		c.faultOfStore()
		return
	}
	w := c.workers[c.rng.IntN(len(c.workers))]
	if !w.busy {
		c.faultOfWorker(w, d)
	}
}

// during counts a fault and starts a goroutine that calls begin, and end after
// d.
func (c *chaos) during(what string, d time.Duration, begin, end func()) {
	c.counts[what]++
	c.faults.Go(func() {
		begin()
		time.Sleep(d)
		end()
	})
}

func (c *chaos) faultOfMember(d time.Duration) {
	i := c.rng.IntN(len(c.servers))
	down := 0
	for _, b := range c.broken {
		if b {
			down++
		}
	}
	if c.broken[i] || down > 1 || down == 1 && c.rng.IntN(10) > 0 {
		return
	}
	c.broken[i] = true
	s := c.servers[i]
	healed := func(f func()) func() {
		return func() {
			f()
			c.mu.Lock()
			defer c.mu.Unlock()
			c.broken[i] = false
		}
	}
	switch c.rng.IntN(3) {
	case 0:
		c.during("member killed", d, s.Kill, healed(s.Restart))
	case 1:
		// A leader that was stopped for longer than the leases may revoke them
		// when it continues: see TestLeader_isStoppedPastTheLeases.
		c.during("member stopped", min(d, c.ttl/2), s.Stop, healed(s.Continue))
	case 2:
		id := c.memberID(i)
		c.during("member cut off from the others", d, func() {
			for j, other := range c.servers {
				if j == i {
					other.Peer.Hold(true, true)
				} else {
					other.Peer.Cut(id)
				}
			}
		}, healed(func() {
			for j, other := range c.servers {
				if j == i {
					other.Peer.Heal()
				} else {
					other.Peer.Cut("")
				}
				other.Peer.Reset()
			}
		}))
	}
}

// memberID returns the id of a member in hexadecimal, as in peer requests.
func (c *chaos) memberID(i int) string {
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
	defer cancel()
	resp, err := c.client.Status(ctx, c.servers[i].Endpoint)
	if err != nil {
		return "unknown" // then only connections to it are cut
	}
	return strconv.FormatUint(resp.Header.MemberId, 16)
}

func (c *chaos) faultOfStore() {
	if c.rng.IntN(2) == 0 {
		capacity := c.rng.Int64N(8) + 1
		c.during("resize", 0, func() {
			ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
			defer cancel()
			_ = c.resource.Resize(ctx, capacity)
		}, func() {})
		return
	}
	c.during("compaction", 0, func() {
		var revision int64
		c.history.Look(func(h *etcdtest.History) { revision = h.Revision() })
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		_, _ = c.client.Compact(ctx, revision)
	}, func() {})
}

func (c *chaos) faultOfWorker(w *worker, d time.Duration) {
	w.busy = true
	healed := func(f func()) func() {
		return func() {
			f()
			c.mu.Lock()
			defer c.mu.Unlock()
			w.busy = false
		}
	}
	each := func(f func(p *etcdtest.Proxy)) {
		for _, p := range w.proxies {
			f(p)
		}
	}
	hold := func(p *etcdtest.Proxy) { p.Hold(true, true) }
	reset := c.rng.IntN(2) == 0
	heal := func(p *etcdtest.Proxy) {
		if reset {
			p.Reset()
		}
		p.Heal()
	}
	p := w.proxies[c.rng.IntN(len(w.proxies))]
	switch c.rng.IntN(6) {
	case 0:
		c.during("worker killed", 0, w.process.Kill, healed(func() {
			c.mu.Lock()
			defer c.mu.Unlock()
			c.startWorker(w)
		}))
	case 1:
		c.during("worker stopped", d, w.process.Stop, healed(w.process.Continue))
	case 2:
		c.during("worker cut off", d, func() { each(hold) }, healed(func() { each(heal) }))
	case 3:
		toServer := c.rng.IntN(2) == 0
		c.during("worker cut off, one way", d, func() {
			each(func(p *etcdtest.Proxy) { p.Hold(toServer, !toServer) })
		}, healed(func() { each(heal) }))
	case 4:
		c.during("endpoint silent", d, func() { hold(p) }, healed(func() { heal(p) }))
	case 5:
		c.during("connections reset", 0, func() { each((*etcdtest.Proxy).Reset) }, healed(func() {}))
	}
}

// verdict drains the workers, checks the guarantees and prints the result.
func (c *chaos) verdict() (ok bool) {
	var wrong []string
	say := func(format string, args ...any) { wrong = append(wrong, fmt.Sprintf(format, args...)) }
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute+20*c.ttl)
	defer cancel()
	if err := c.resource.Resize(ctx, 5); err != nil {
		say("resize: %v", err)
	}
	for i, w := range c.workers { // each must make progress
		before := w.process.Count("granted")
		for w.process.Count("granted") == before && ctx.Err() == nil {
			time.Sleep(10 * time.Millisecond)
		}
		if ctx.Err() != nil {
			say("worker %d makes no progress", i)
		}
	}
	for _, w := range c.workers {
		w.process.Do("drain")
	}
	for i, w := range c.workers {
		if r, err := w.process.Await(ctx, "drained", 0); err != nil || r.Text != "" {
			say("worker %d: drain: %v %s", i, err, r.Text)
		}
	}
	if err := c.resource.Drain(ctx); err != nil {
		say("drain: %v", err)
	}
	if err := c.history.Sync(ctx); err != nil {
		say("history: %v", err)
	}
	if err := c.history.Await(ctx, (*etcdtest.History).Rests); err != nil {
		say("tickets or epochs are left: %v", err)
	}
	for {
		left, err := c.history.Leases(ctx)
		if err == nil && len(left) == 0 {
			break
		}
		if ctx.Err() != nil {
			say("leases are left: %v %v", left, err)
			break
		}
		time.Sleep(50 * time.Millisecond)
	}
	var beliefs []etcdtest.Belief
	lost, failed := 0, 0
	for _, w := range c.all {
		beliefs = append(beliefs, w.Beliefs()...)
		lost += w.Count("lost")
		failed += w.Count("failed")
	}
	wrong = append(wrong, c.history.Judge(beliefs, -1)...)
	c.print(beliefs, lost, failed)
	for _, w := range wrong[:min(len(wrong), 20)] {
		fmt.Fprintln(c.out, "BROKEN:", w)
	}
	fmt.Fprintf(c.out, "%d violations\n", len(wrong))
	return len(wrong) == 0
}

func (c *chaos) print(beliefs []etcdtest.Belief, lost, failed int) {
	var kinds []string
	total := 0
	for kind, n := range c.counts {
		kinds = append(kinds, kind)
		total += n
	}
	slices.Sort(kinds)
	fmt.Fprintf(c.out, "%d faults:\n", total)
	for _, kind := range kinds {
		fmt.Fprintf(c.out, "  %6d %s\n", c.counts[kind], kind)
	}
	c.history.Look(func(h *etcdtest.History) {
		granted := 0
		for _, t := range h.All() {
			if t.Granted > 0 {
				granted++
			}
		}
		fmt.Fprintf(c.out, "%d tickets, %d granted, %d permits held, %d lost, %d calls gave up, %d fences, at most %d in use\n",
			h.Count(), granted, len(beliefs), lost, failed, h.Fences(), h.Peak())
	})
}
