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

// The faults of -plant. The soak has to find them.
const (
	plantLeak    = "leak"    // an unreachable waiter; only the leak profile finds it
	plantLost    = "lost"    // a permit that is not released
	plantSwallow = "swallow" // a notification that is not passed on
	plantMemory  = "memory"  // some memory kept after each round
	plantHang    = "hang"    // a waiter that is never notified
)

func plants() []string {
	return []string{plantLeak, plantLost, plantSwallow, plantMemory, plantHang}
}

// A config is the configuration of a run.
type config struct {
	duration   time.Duration
	seed       uint64
	plant      string
	hangsAfter time.Duration // time without progress after which a part hangs
}

const (
	legs       = 4         // of a run; between them all goroutines are at rest
	heapMargin = 512 << 10 // allowed growth of the heap from first to last leg
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

	leakProfile []byte // nil if this build has none
	leaked      int
}

// run runs a soak until its time is over, ctx is done, or a check fails, and
// reports to out. It returns whether all checks passed.
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

// leg runs all parts for a quarter of the time, and returns when they are at
// rest or hang.
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

// isStuck is called at each tick, and reports whether p hangs. It counts ticks,
// not time, because the machine may have been suspended. The limit is lower for
// a part that has already failed.
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

// liveHeap returns the size of the live heap in bytes. The second collection
// frees the objects that a sync.Pool keeps during the first.
func liveHeap() uint64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}

// settledGoroutines returns the number of goroutines, after it has given
// goroutines that are about to end time to do so.
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

// leakWaiter starts a goroutine that waits on an unreachable Cond, and returns
// when it waits.
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

// verdict prints the results of the run, and reports whether all checks passed.
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
		fmt.Fprintf(out, "%-24snot compared, because the run was cut short\n", "memory")
	}
	line("goroutines", s.goroutinesAfter <= s.goroutinesBefore, "%d before, %d after", s.goroutinesBefore, s.goroutinesAfter)
	if s.leakProfile == nil {
		fmt.Fprintf(out, "%-24snot checked; requires GOEXPERIMENT=goroutineleakprofile\n", "leaked goroutines")
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
