// Command service is a small HTTP server that shares four connections to a
// simulated database. It shows how to set up a service that uses a
// CapacityResource so that waiting calls and holders are visible: with the page
// of condvardebug, profiles, metrics, expvar, a log of slow waits and holds,
// and a shutdown that drains. It answers 503 when too many requests wait. It
// also causes problems on demand.
//
//	go run .
//
// starts it and prints the addresses. docs/debugging.md of the repository
// explains it, task by task.
package main

import (
	"context"
	_ "embed" // for index.html
	"errors"
	"expvar"
	"flag"
	"fmt"
	"html/template"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/pprof"
	"os"
	"os/signal"
	"runtime"
	"strconv"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"example.com/condvar"
	"example.com/condvar/condvardebug"
	"example.com/condvar/promcondvar"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

const (
	connections  = 4
	maxWaiting   = 50 // more requests get 503 at once
	drainTimeout = 10 * time.Second
)

func main() {
	addr := flag.String("addr", "localhost:8080", "listen here for requests")
	debugAddr := flag.String("debug", "localhost:8081", "listen here for debugging: must not be public")
	slow := flag.Duration("slow", 100*time.Millisecond, "log waits and holds that take this long or longer")
	flag.Parse()
	log := slog.New(slog.NewTextHandler(os.Stderr, nil))

	// The block profile, a sample for each millisecond that goroutines block,
	// and the mutex profile, one in a hundred contentions.
	runtime.SetBlockProfileRate(int(time.Millisecond))
	runtime.SetMutexProfileFraction(100)

	s := newService(log, *slow)
	public, err1 := net.Listen("tcp", *addr)
	debug, err2 := net.Listen("tcp", *debugAddr)
	if err := errors.Join(err1, err2); err != nil {
		log.Error("cannot start", "err", err)
		os.Exit(1)
	}
	// Names of expvar are global to the process, and can be used only once.
	expvar.Publish("db", expvar.Func(func() any { return s.db.Stats() }))

	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop) // a second signal ends the process at once
	fmt.Printf(banner, public.Addr(), debug.Addr())
	s.debugAddr = debug.Addr().String()
	if err := s.serve(ctx, public, debug); err != nil {
		log.Error("shutdown", "err", err)
		os.Exit(1)
	}
}

const banner = `http://%[1]s/                             what there is, to click on
http://%[1]s/work                         one query: a connection for some ms
http://%[1]s/report                       one report: three connections at once
http://%[1]s/load?clients=20&seconds=60   load in the background
http://%[1]s/nested                       two connections, one after the other: four of these are a deadlock
http://%[1]s/leak                         takes a connection and loses it
http://%[1]s/heal                         gives back what was lost
http://%[1]s/resize?capacity=0            sets the number of connections; 0 pauses
http://%[2]s/debug/condvar                what waits, and who holds; for curl, ?format=text
http://%[2]s/debug/pprof/                 profiles, condvar_holders among them
http://%[2]s/debug/vars                   expvar
http://%[2]s/metrics                      Prometheus
`

// A service is the server and its shared state.
type service struct {
	log      *slog.Logger
	db       *condvar.CapacityResource // the connections
	debugger condvardebug.Debugger
	registry *prometheus.Registry
	clients  sync.WaitGroup // of /load
	leaked   atomic.Int64   // by /leak

	debugAddr string // address of debug, for the index page
}

func newService(log *slog.Logger, slow time.Duration) *service {
	s := &service{log: log, registry: prometheus.NewRegistry()}

	// Record every acquisition, so that a single leak is found. The call must
	// be before Watch. For repeated leaks, one in 100 is enough.
	s.debugger.SetHolderProfileFraction(1)
	s.debugger.OnSlowWait(slow, func(w condvardebug.SlowWait) {
		log.WarnContext(w.Ctx, "slow wait", "wait", w)
	})
	s.debugger.OnSlowHold(slow, func(h condvardebug.SlowHold) {
		log.Warn("slow hold", "hold", h)
	})

	metrics := promcondvar.New(promcondvar.Opts{HoldTime: true})
	s.registry.MustRegister(metrics)
	s.db = condvar.NewCapacityResource(connections,
		condvar.MaxWaiting(maxWaiting),
		metrics.Watch("db"),
		s.debugger.Watch("db"))
	return s
}

// query holds a connection.
func (s *service) query(ctx context.Context) error {
	return s.db.Do(ctx, func(context.Context) error {
		time.Sleep(2*time.Millisecond + rand.N(6*time.Millisecond))
		return nil
	})
}

// report holds three connections, so it must wait until three are free, and
// later calls wait behind it.
func (s *service) report(ctx context.Context) error {
	return s.db.DoN(ctx, 3, func(context.Context) error {
		time.Sleep(20 * time.Millisecond)
		return nil
	})
}

// nested holds a connection while it waits for another one. Four at a time wait
// for each other: this is a bug, too.
func (s *service) nested(ctx context.Context) error {
	return s.db.Do(ctx, func(ctx context.Context) error {
		time.Sleep(500 * time.Millisecond)
		return s.query(ctx)
	})
}

func (s *service) leak(ctx context.Context) error {
	if _, err := s.db.AcquirePermit(ctx, 1); err != nil {
		return err
	}
	s.leaked.Add(1) // and no Release: this is the bug
	return nil
}

func (s *service) heal(w http.ResponseWriter, _ *http.Request) {
	n := s.leaked.Swap(0)
	s.db.ReleaseN(n)
	fmt.Fprintf(w, "gave back %d\n", n)
}

func (s *service) resize(w http.ResponseWriter, req *http.Request) {
	capacity, err := strconv.ParseInt(req.FormValue("capacity"), 10, 64)
	if err != nil || capacity < 0 {
		http.Error(w, "want /resize?capacity=N with N >= 0", http.StatusBadRequest)
		return
	}
	fmt.Fprintf(w, "from %d to %d\n", s.db.Resize(capacity), capacity)
}

//go:embed index.html
var indexHTML string

// index lists the pages.
func (s *service) index(w http.ResponseWriter, _ *http.Request) {
	t, err := template.New("index").Parse(indexHTML)
	if err == nil {
		err = t.Execute(w, s.debugAddr)
	}
	if err != nil {
		s.log.Error("index", "err", err)
	}
}

// public is the handler for everyone. Because this is an example, it also has
// the pages that cause problems: a real service has only /work and /report.
func (s *service) public() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /work", answer(s.query))
	mux.HandleFunc("GET /report", answer(s.report))
	mux.HandleFunc("GET /load", s.load)
	mux.HandleFunc("GET /leak", answer(s.leak))
	mux.HandleFunc("GET /nested", answer(s.nested))
	mux.HandleFunc("GET /heal", s.heal)
	mux.HandleFunc("GET /resize", s.resize)
	mux.HandleFunc("GET /{$}", s.index)
	return mux
}

// debug is the handler for debugging. It shows call sites and more, so it must
// not be public.
func (s *service) debug() http.Handler {
	mux := http.NewServeMux()
	mux.Handle("/debug/condvar", &s.debugger)
	mux.Handle("/debug/vars", expvar.Handler())
	mux.Handle("/metrics", promhttp.HandlerFor(s.registry, promhttp.HandlerOpts{}))
	mux.HandleFunc("/debug/pprof/", pprof.Index)
	mux.HandleFunc("/debug/pprof/profile", pprof.Profile)
	mux.HandleFunc("/debug/pprof/trace", pprof.Trace)
	return mux
}

// answer serves the result of f. A wait for connections ends when the client
// goes away, because the context of the request does. If too many already wait,
// the answer is 503 at once.
func answer(f func(context.Context) error) http.HandlerFunc {
	return func(w http.ResponseWriter, req *http.Request) {
		if err := f(req.Context()); err != nil {
			if errors.Is(err, condvar.ErrOverloaded) {
				w.Header().Set("Retry-After", "1")
			}
			http.Error(w, err.Error(), http.StatusServiceUnavailable)
			return
		}
		fmt.Fprintln(w, "ok")
	}
}

// load starts clients that make queries, and every tenth reports, one after the
// other until the given seconds are over or the connections are closed.
func (s *service) load(w http.ResponseWriter, req *http.Request) {
	clients, err1 := strconv.Atoi(req.FormValue("clients"))
	seconds, err2 := strconv.Atoi(req.FormValue("seconds"))
	if err1 != nil || err2 != nil || clients < 1 || clients > 1000 || seconds < 1 || seconds > 3600 {
		http.Error(w, "want /load?clients=N&seconds=S with N in 1..1000 and S in 1..3600", http.StatusBadRequest)
		return
	}
	for i := range clients {
		do := s.query
		if i%10 == 9 {
			do = s.report
		}
		s.clients.Go(func() {
			// Not the context of the request, which ends soon.
			ctx, cancel := context.WithTimeout(context.Background(), time.Duration(seconds)*time.Second)
			defer cancel()
			for {
				err := do(ctx)
				if errors.Is(err, condvar.ErrOverloaded) {
					// Like a client that retries.
					time.Sleep(20 * time.Millisecond)
				} else if err != nil {
					return
				}
			}
		})
	}
	fmt.Fprintf(w, "%d clients for %d s\n", clients, seconds)
}

// serve serves until ctx ends, and then drains: no new connections, 503 for
// requests that wait for the database, and time to finish for requests that
// hold it.
func (s *service) serve(ctx context.Context, publicListener, debugListener net.Listener) error {
	public := &http.Server{Handler: s.public(), ReadHeaderTimeout: 5 * time.Second}
	debug := &http.Server{Handler: s.debug(), ReadHeaderTimeout: 5 * time.Second}
	sampling, stop := context.WithCancel(context.Background())
	defer stop()
	go s.debugger.Run(sampling) // for the charts
	failed := make(chan error, 2)
	go func() { failed <- public.Serve(publicListener) }()
	go func() { failed <- debug.Serve(debugListener) }()
	// Closed last, so that the shutdown can be watched.
	defer func() { _ = errors.Join(public.Close(), debug.Close()) }()

	select {
	case err := <-failed:
		return err
	case <-ctx.Done():
	}
	ctx, cancel := context.WithTimeout(context.Background(), drainTimeout)
	defer cancel()
	closed := make(chan error, 1)
	// It stops accepting, then waits for the answers.
	go func() { closed <- public.Shutdown(ctx) }()
	if err := s.drain(ctx); err != nil {
		return err
	}
	err := <-closed
	s.clients.Wait()
	return err
}

// drain closes the database and waits until every connection is back.
func (s *service) drain(ctx context.Context) error {
	before := s.db.Stats()
	start := time.Now()
	if err := s.db.Drain(ctx); err != nil {
		return fmt.Errorf("db: %w", err)
	}
	s.log.Info("drained", "waited_for", before.InUse, "turned_away", before.Waiting, "took", time.Since(start))
	return nil
}
