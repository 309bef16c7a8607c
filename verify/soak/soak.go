package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"runtime"
	"runtime/pprof"
	"sync"
	"time"

	"example.com/condvar"
)

// What -plant plants: something wrong that the soak has to find.
const (
	plantLeak    = "leak"    // a waiter that nobody can reach; only the leak profile finds it
	plantLost    = "lost"    // a permit that is not released
	plantSwallow = "swallow" // a notification that is not passed on
	plantMemory  = "memory"  // some memory kept after each round
	plantHang    = "hang"    // a waiter that nobody notifies
)

func plants() []string {
	return []string{plantLeak, plantLost, plantSwallow, plantMemory, plantHang}
}

// A config is what a run is to do.
type config struct {
	duration   time.Duration
	seed       uint64
	plant      string
	hangsAfter time.Duration // how long a part may be without progress
}

const (
	legs       = 4         // of a run; between them everything is at rest
	heapMargin = 512 << 10 // by which the heap may grow from the first leg to the last
	tick       = 100 * time.Millisecond
)

// A soak is one run.
type soak struct {
	config
	parts   []*part
	display *display
	started time.Time
	elapsed time.Duration
	hung    bool
	heap    []uint64 // live bytes after each leg that was not cut short

	goroutinesBefore, goroutinesAfter int

	leakProfile []byte // nil if there is none in this build
	leaked      int
}

// run runs a soak until its time is over, ctx is done, or something is wrong,
// and reports to out. It returns whether all was well.
func run(ctx context.Context, c config, out io.Writer, terminal bool) bool {
	s := &soak{config: c, parts: newParts(c), display: &display{out: out, terminal: terminal}}
	if c.plant == plantLeak {
		leakWaiter()
	}
	s.goroutinesBefore = runtime.NumGoroutine()
	s.started = time.Now()

	procsCtx, cancel := context.WithCancel(ctx)
	var procs sync.WaitGroup
	procs.Go(func() { changeProcs(procsCtx, c.seed) })
	for leg := 0; leg < legs && ctx.Err() == nil && !s.failed(); leg++ {
		if s.leg(ctx); ctx.Err() == nil {
			s.heap = append(s.heap, liveHeap())
		}
	}
	cancel()
	procs.Wait()

	s.elapsed = time.Since(s.started)
	s.goroutinesAfter = settledGoroutines(s.goroutinesBefore)
	s.lookForLeaks()
	s.display.clear()
	if s.hung {
		_ = pprof.Lookup("goroutine").WriteTo(out, 1)
	}
	return s.verdict(out)
}

func newParts(c config) []*part {
	parts := []*part{
		{name: "Cond", rounds: newCondLoad().rounds()},
		{name: "Event", rounds: new(eventLoad).rounds()},
		{name: "CapacityResource", rounds: newResourceLoad().rounds()},
		{name: "CapacityResource, FIFO", rounds: newResourceLoad(condvar.FIFO()).rounds()},
		{name: "overload", rounds: newOverloadLoad().rounds()},
		{name: "overload, FIFO", rounds: newOverloadLoad(condvar.FIFO()).rounds()},
		{name: "keyed", rounds: newKeyedLoad().rounds()},
	}
	for i, p := range parts {
		p.seed, p.plant = c.seed+uint64(i)<<56, c.plant
	}
	return parts
}

// leg runs all parts for a fourth of the time, and returns when they are at
// rest, or hang.
func (s *soak) leg(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, s.duration/legs)
	defer cancel()
	finished := make(chan *part, len(s.parts))
	for _, p := range s.parts {
		p.running, p.idle = true, 0
		go func() {
			p.run(ctx)
			finished <- p
		}()
	}
	ticker := time.NewTicker(tick)
	defer ticker.Stop()
	for running := len(s.parts); running > 0; {
		select {
		case p := <-finished:
			running--
			p.running = false
			if p.failure() != nil {
				cancel()
			}
		case <-ticker.C:
			s.display.progress(s)
			for _, p := range s.parts {
				if p.isStuck(s.hangsAfter) {
					s.hung = true
					p.failf("no progress for %v: a wake-up was lost", s.hangsAfter)
				}
			}
			if s.hung {
				return
			}
		}
	}
}

// isStuck is called at each tick. It counts ticks, not time, so that a machine
// that was stopped for a while is not mistaken for a part that hangs. With a
// part where something is wrong already it waits for less time.
func (p *part) isStuck(limit time.Duration) bool {
	joined := p.joined.Load()
	if !p.running || joined != p.seen {
		p.seen, p.idle = joined, 0
		return false
	}
	p.idle += tick
	return p.idle >= limit || p.failure() != nil && p.idle >= limit/10
}

func (s *soak) failed() bool {
	for _, p := range s.parts {
		if p.failure() != nil {
			return true
		}
	}
	return false
}

func (s *soak) ops() (n uint64) {
	for _, p := range s.parts {
		n += p.ops.Load()
	}
	return n
}

// changeProcs changes GOMAXPROCS until ctx is done.
func changeProcs(ctx context.Context, seed uint64) {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(0))
	rng := rand.New(rand.NewPCG(seed, 0))
	ticker := time.NewTicker(tick)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
			runtime.GOMAXPROCS([...]int{1, 2, 2, 3, 4, 8}[rng.IntN(6)])
		}
	}
}

// liveHeap returns how many bytes of the heap are in use. The second collection
// frees what a sync.Pool keeps over the first.
func liveHeap() uint64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}

// settledGoroutines returns how many goroutines there are, after those that are
// about to end have had the time to do so.
func settledGoroutines(want int) int {
	deadline := time.Now().Add(time.Second)
	for runtime.NumGoroutine() > want && time.Now().Before(deadline) {
		time.Sleep(time.Millisecond)
	}
	return runtime.NumGoroutine()
}

// lookForLeaks takes the profile of leaked goroutines, if the build has it.
func (s *soak) lookForLeaks() {
	profile := pprof.Lookup("goroutineleak")
	if profile == nil {
		return
	}
	var buf bytes.Buffer
	_ = profile.WriteTo(&buf, 1) // to a buffer, which never fails
	s.leakProfile, s.leaked = buf.Bytes(), profile.Count()
}

// leakWaiter leaves a goroutine waiting on a Cond that nobody else knows, and
// returns when it waits.
func leakWaiter() {
	c := condvar.NewCond(&sync.Mutex{})
	go waitForNobody(c)
	for c.Waiters() == 0 {
		runtime.Gosched()
	}
}

// waitForNobody waits for a notification that never comes.
func waitForNobody(c *condvar.Cond) {
	c.L.Lock()
	_ = c.Wait(context.Background())
}

// verdict prints what the run found, and reports whether all was well.
func (s *soak) verdict(out io.Writer) bool {
	allOK := true
	line := func(name string, ok bool, format string, args ...any) {
		word := "ok"
		if !ok {
			word = "FAILED"
			allOK = false
		}
		fmt.Fprintf(out, "%-24s%s: %s\n", name, fmt.Sprintf(format, args...), word)
	}
	for _, p := range s.parts {
		err := p.failure()
		line(p.name, err == nil, "%s operations, %s that could wait, %s rounds",
			grouped(p.ops.Load()), grouped(p.waits.Load()), grouped(p.played.Load()))
		if err != nil {
			fmt.Fprintf(out, "    %v\n", err)
		}
	}
	if len(s.heap) == legs {
		first, last := s.heap[0], s.heap[legs-1]
		line("memory", last <= first+heapMargin, "%d KiB live at 25 %% of the run, %d KiB at the end", first>>10, last>>10)
	} else {
		fmt.Fprintf(out, "%-24snot compared, as the run was cut short\n", "memory")
	}
	line("goroutines", s.goroutinesAfter <= s.goroutinesBefore, "%d before, %d after", s.goroutinesBefore, s.goroutinesAfter)
	if s.leakProfile == nil {
		fmt.Fprintf(out, "%-24snot looked for, which takes GOEXPERIMENT=goroutineleakprofile\n", "leaked goroutines")
	} else {
		line("leaked goroutines", s.leaked == 0, "%d", s.leaked)
		if s.leaked > 0 {
			fmt.Fprintf(out, "%s\n", s.leakProfile)
		}
	}
	seconds := s.elapsed.Seconds()
	line("total", allOK, "%s operations in %.1f s, %.2f million per second, seed %d",
		grouped(s.ops()), seconds, float64(s.ops())/1e6/seconds, s.seed)
	return allOK
}
