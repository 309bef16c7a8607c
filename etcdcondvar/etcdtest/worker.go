package etcdtest

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"runtime/pprof"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"

	"example.com/condvar/etcdcondvar"
)

// A Worker is a process that has a Resource. It reads commands that call its
// methods, and writes a line for each report.
type Worker struct {
	*process

	mu      sync.Mutex
	changed chan struct{} // closed at the next report
	reports []Report
	beliefs map[int64]*Belief
	over    chan struct{}
}

// A WorkerConfig describes a worker.
type WorkerConfig struct {
	Name      string
	Capacity  int64
	TTL       time.Duration
	Endpoints []string
	Plant     string // a bug: "belief" ignores that a permit was lost
}

// A Report is a line that a worker has written. Kind is one of
//
//	granted, failed, released, lost   of a call
//	resized, drained, closed, looped  of a command; Text is its error
//
// Text is empty if there is no error. The checks of permits are in Beliefs.
type Report struct {
	Kind     string
	ID       int
	Token, N int64
	At       time.Time
	Text     string
}

// StartWorker starts a worker, which is killed at the end of the test.
func StartWorker(tb TB, cfg WorkerConfig) *Worker {
	tb.Helper()
	p, err := startChild(workerEnv, []string{
		cfg.Name, strconv.FormatInt(cfg.Capacity, 10), cfg.TTL.String(), strings.Join(cfg.Endpoints, ","), cfg.Plant,
	})
	if err != nil {
		tb.Fatalf("worker: %v", err)
		return nil
	}
	w := &Worker{process: p, changed: make(chan struct{}), beliefs: map[int64]*Belief{}, over: make(chan struct{})}
	go w.read()
	tb.Cleanup(w.Kill)
	return w
}

// Kill kills the worker with SIGKILL.
func (w *Worker) Kill() {
	_ = w.cmd.Process.Kill()
	<-w.over
	w.process.Kill()
}

// Do sends a command, formatted as by fmt.Sprintf. The commands are
//
//	acquire ID N, try ID N, timed ID N MILLISECONDS, release ID
//	resize N, drain, close, exit
//	loop SEED GOROUTINES WEIGHT HOLD   until a drain; HOLD in milliseconds
//	crowd GOROUTINES                   each acquires and releases once
//	steady GOROUTINES HOLD             each acquires, releases, until a drain
//	stock GOROUTINES HOLD              steady without the Resource: see stockSemaphore
func (w *Worker) Do(format string, args ...any) { _, _ = fmt.Fprintf(w.stdin, format+"\n", args...) }

// Quit kills the worker with SIGQUIT, so that it prints its goroutines. It may
// be stopped.
func (w *Worker) Quit() {
	_ = w.cmd.Process.Signal(syscall.SIGQUIT)
	w.Continue()
	<-w.over
}

func (w *Worker) read() {
	defer close(w.over)
	for {
		line, err := w.lines.ReadString('\n')
		if err != nil {
			return
		}
		var r Report
		var nano int64
		fields := strings.SplitN(strings.TrimSpace(line), " ", 6)
		if len(fields) < 5 {
			continue // cut off by a kill, or not a report
		}
		_, err = fmt.Sscan(strings.Join(fields[1:5], " "), &r.ID, &r.Token, &r.N, &nano)
		if err != nil {
			continue
		}
		r.Kind, r.At = fields[0], time.Unix(0, nano)
		if len(fields) > 5 {
			r.Text = fields[5]
		}
		w.mu.Lock()
		switch r.Kind {
		case "held":
			if b := w.beliefs[r.Token]; b != nil {
				b.End = r.At
			}
		case "granted":
			w.beliefs[r.Token] = &Belief{r.Token, r.N, r.At, r.At}
			fallthrough
		default:
			w.reports = append(w.reports, r)
			close(w.changed)
			w.changed = make(chan struct{})
		}
		w.mu.Unlock()
	}
}

// Await waits for the first report of a kind and an id.
func (w *Worker) Await(ctx context.Context, kind string, id int) (Report, error) {
	for {
		w.mu.Lock()
		i := slices.IndexFunc(w.reports, func(r Report) bool { return r.Kind == kind && r.ID == id })
		changed := w.changed
		var r Report
		if i >= 0 {
			r = w.reports[i]
		}
		w.mu.Unlock()
		if i >= 0 {
			return r, nil
		}
		select {
		case <-changed:
		case <-w.over:
			return r, errors.New("the worker has ended")
		case <-ctx.Done():
			return r, fmt.Errorf("no %s %d: %w", kind, id, ctx.Err())
		}
	}
}

// Beliefs returns the beliefs of the worker.
func (w *Worker) Beliefs() (all []Belief) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, b := range w.beliefs {
		all = append(all, *b)
	}
	return all
}

// Count returns the number of reports of a kind.
func (w *Worker) Count(kind string) (n int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, r := range w.reports {
		if r.Kind == kind {
			n++
		}
	}
	return n
}

// Over is closed when the process has ended.
func (w *Worker) Over() <-chan struct{} { return w.over }

// A workerProcess is the child's side of a Worker.
type workerProcess struct {
	client   *clientv3.Client
	r        *etcdcondvar.Resource
	name     string
	capacity int64
	plant    string

	mu    sync.Mutex
	out   *bufio.Writer
	holds map[int]func() // release
	ctx   context.Context
	stop  context.CancelFunc
	loops sync.WaitGroup
}

func work(args []string, stdin io.Reader, stdout io.Writer) error {
	capacity, _ := strconv.ParseInt(args[1], 10, 64)
	ttl, _ := time.ParseDuration(args[2])
	client, err := clientv3.New(clientv3.Config{Endpoints: strings.Split(args[3], ","), Logger: zap.NewNop()})
	if err != nil {
		return err
	}
	w := &workerProcess{
		client: client, name: args[0], capacity: capacity, plant: args[4],
		out: bufio.NewWriter(stdout), holds: map[int]func(){},
		r: etcdcondvar.New(client, args[0], capacity, etcdcondvar.WithTTL(ttl)),
	}
	w.ctx, w.stop = context.WithCancel(context.Background())
	for lines := bufio.NewScanner(stdin); lines.Scan(); {
		var number [4]int
		word, rest, _ := strings.Cut(lines.Text(), " ")
		_, _ = fmt.Sscan(rest, &number[0], &number[1], &number[2], &number[3])
		if word == "exit" {
			return nil
		}
		w.command(word, number)
	}
	return nil
}

func (w *workerProcess) report(kind string, id int, token, n int64, at time.Time, err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	text := ""
	if err != nil {
		text = strings.ReplaceAll(err.Error(), "\n", " ")
	}
	_, _ = fmt.Fprintf(w.out, "%s %d %d %d %d %s\n", kind, id, token, n, at.UnixNano(), text)
	if kind != "held" || w.out.Buffered() > 2048 {
		_ = w.out.Flush()
	}
}

func (w *workerProcess) command(word string, number [4]int) {
	id, n := number[0], int64(number[1])
	switch word {
	case "acquire":
		go w.call(w.ctx, id, n, w.r.AcquireN)
	case "try":
		go w.call(w.ctx, id, n, w.r.TryAcquireN)
	case "timed":
		go func() {
			ctx, cancel := context.WithTimeout(w.ctx, time.Duration(number[2])*time.Millisecond)
			defer cancel()
			w.call(ctx, id, n, w.r.AcquireN)
		}()
	case "release":
		w.mu.Lock()
		release := w.holds[id]
		w.mu.Unlock()
		if release != nil {
			go release()
		}
	case "resize":
		go func() { w.report("resized", 0, 0, int64(id), time.Now(), w.r.Resize(w.ctx, int64(id))) }()
	case "loop":
		for i := range number[1] {
			w.loops.Go(func() { w.loop(uint64(number[0])<<8|uint64(i), number[2], number[3]) })
		}
	case "crowd":
		for range number[0] {
			w.loops.Go(func() {
				_ = w.r.Do(w.ctx, func(context.Context) error { return nil })
			})
		}
		go func() {
			w.loops.Wait()
			w.report("looped", 0, 0, 0, time.Now(), nil)
		}()
	case "steady":
		for range id {
			w.loops.Go(func() { w.steady(time.Duration(number[1])*time.Millisecond, w.r.Do) })
		}
	case "stock":
		s, err := newStockSemaphore(w.client, w.name, w.capacity)
		if err != nil {
			w.report("failed", 0, 0, 0, time.Now(), err)
			return
		}
		for i := range id {
			w.loops.Go(func() {
				w.steady(time.Duration(number[1])*time.Millisecond, func(ctx context.Context, fn func(context.Context) error) error {
					return s.do(ctx, i, fn)
				})
			})
		}
	case "close":
		w.report("closed", 0, 0, 0, time.Now(), w.r.Close())
	case "drain":
		go func() {
			w.stop()
			w.loops.Wait()
			err := w.r.Drain(context.Background())
			if err == nil {
				err = leaks()
			}
			w.report("drained", 0, 0, 0, time.Now(), err)
		}()
	}
}

// leaks waits until no goroutine of a resource is left.
func leaks() error {
	var stacks strings.Builder
	for range 100 {
		stacks.Reset()
		_ = pprof.Lookup("goroutine").WriteTo(&stacks, 1)
		if !strings.Contains(stacks.String(), "etcdcondvar.(*") {
			if profile := pprof.Lookup("goroutineleak"); profile != nil && profile.Count() > 0 {
				_ = profile.WriteTo(&stacks, 1)
				break
			}
			return nil
		}
		time.Sleep(20 * time.Millisecond)
	}
	return errors.New("goroutines are left: " + stacks.String())
}

// call makes one call of f. A release command releases its permits.
func (w *workerProcess) call(ctx context.Context, id int, n int64, f func(context.Context, int64) (*etcdcondvar.Permit, error)) {
	p, err := f(ctx, n)
	if err != nil {
		w.report("failed", id, 0, n, time.Now(), err)
		return
	}
	released := make(chan struct{})
	var over sync.WaitGroup
	w.mu.Lock()
	w.holds[id] = func() {
		close(released)
		over.Wait()
		p.Release()
		w.report("released", id, p.Token(), n, time.Now(), p.Err())
	}
	w.mu.Unlock()
	over.Go(func() { w.look(p, n, id, released) })
}

// look checks a permit and reports the result until it is lost or released.
func (w *workerProcess) look(p *etcdcondvar.Permit, n int64, id int, until <-chan struct{}) {
	looked := time.Now()
	if p.Err() == nil {
		w.report("granted", id, p.Token(), n, looked, nil)
	}
	for {
		looked = time.Now()
		if p.Err() != nil && w.plant != "belief" {
			w.report("lost", id, p.Token(), n, time.Now(), nil)
			return
		}
		w.report("held", id, p.Token(), n, looked, nil)
		select {
		case <-until:
			return
		case <-time.After(5 * time.Millisecond):
		}
	}
}

// loop acquires and releases at random. After each grant it writes the token to
// etcd, so that the history has an upper bound for the time of the grant.
func (w *workerProcess) loop(seed uint64, weight, hold int) {
	rng := rand.New(rand.NewPCG(seed, 1))
	for w.ctx.Err() == nil {
		n := rng.Int64N(int64(weight)) + 1
		ctx, cancel := context.WithCancel(w.ctx)
		if rng.IntN(3) == 0 {
			ctx, cancel = context.WithTimeout(w.ctx, time.Duration(rng.IntN(4*hold+1))*time.Millisecond)
		}
		var p *etcdcondvar.Permit
		var err error
		if rng.IntN(4) == 0 {
			p, err = w.r.TryAcquireN(ctx, n)
		} else {
			p, err = w.r.AcquireN(ctx, n)
		}
		cancel()
		if err == nil {
			w.hold(p, n, time.Duration(rng.IntN(hold+1))*time.Millisecond)
			continue
		}
		w.report("failed", 0, 0, n, time.Now(), err)
		time.Sleep(time.Duration(rng.IntN(5)+1) * time.Millisecond)
	}
}

// steady acquires one permit after another with do, and holds each for d.
func (w *workerProcess) steady(
	d time.Duration, do func(ctx context.Context, fn func(context.Context) error) error,
) {
	for w.ctx.Err() == nil {
		err := do(w.ctx, func(context.Context) error {
			time.Sleep(d)
			return nil
		})
		kind := "released"
		if err != nil {
			kind = "failed"
		}
		w.report(kind, 0, 0, 1, time.Now(), err)
	}
}

func (w *workerProcess) hold(p *etcdcondvar.Permit, n int64, d time.Duration) {
	until := make(chan struct{})
	var over sync.WaitGroup
	over.Go(func() { w.look(p, n, 0, until) })
	ctx, cancel := context.WithTimeout(w.ctx, 5*time.Second)
	_, _ = w.client.Put(ctx, "condvar1/"+w.name+"/mark", strconv.FormatInt(p.Token(), 10))
	cancel()
	time.Sleep(d)
	close(until)
	over.Wait()
	p.Release()
	kind := "released"
	if p.Err() != nil {
		kind = "lost"
	}
	w.report(kind, 0, p.Token(), n, time.Now(), nil)
}
