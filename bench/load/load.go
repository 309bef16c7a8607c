// Package load has the workloads for package condvar and its rivals. Each has
// one body, which all implementations run. go test -bench and cmd/compare run
// the same bodies.
package load

import (
	"runtime"
	"runtime/metrics"
	"slices"
	"time"
)

// A Workload is something to measure, and the implementations that run it.
type Workload struct {
	Name     string    // as of a benchmark, such as "PingPong/ctx=none"
	Subjects []Subject // ours, then its rival, if any, then others

	// Goroutines is the number of goroutines that it starts.
	Goroutines int
	// Slice is how long a measurement should take, if longer than for the
	// others.
	Slice time.Duration
}

// A Subject is an implementation that runs a workload.
type Subject struct {
	Impl string
	Run  Body
}

// A Body does n operations, with the timer running during them, and returns its
// measurements besides time and allocations.
type Body func(t Timer, n int) Extra

// A Timer is the part of testing.B that a Body sees. It is stopped at the call
// and at the return.
type Timer interface {
	StartTimer()
	StopTimer()
	Elapsed() time.Duration
}

// Extra is measurements by unit, as for testing.B.ReportMetric.
type Extra map[string]float64

// The units of Extra. Waits are those of the operations, unless the workload
// says otherwise.
const (
	PerWaiter = "ns/waiter"
	Memory    = "B/waiter"
	P50       = "p50-wait-ns"
	P99       = "p99-wait-ns"
	P999      = "p99.9-wait-ns"
	MaxWait   = "max-wait-ns"
)

// perWaiter is the result of a workload in which n operations are n crowds.
func perWaiter(t Timer, n, waiters int) Extra {
	return Extra{PerWaiter: float64(t.Elapsed()) / float64(n) / float64(waiters)}
}

// percentiles sorts waits and summarizes them.
func percentiles(waits []time.Duration) Extra {
	slices.Sort(waits)
	at := func(q float64) float64 { return float64(waits[int(q*float64(len(waits)-1))]) }
	return Extra{P50: at(0.5), P99: at(0.99), P999: at(0.999), MaxWait: at(1)}
}

// settle returns when all goroutines but the caller's are parked, in any
// implementation, so that the clock starts with all of them in line. The
// runtime's figures are approximate while they change, so they have to be right
// several times. They do not count goroutines in a system call, as of a
// profiler.
func settle() {
	figures := []metrics.Sample{
		{Name: "/sched/goroutines/runnable:goroutines"},
		{Name: "/sched/goroutines/running:goroutines"},
	}
	for quiet := 0; quiet < 5; quiet++ {
		runtime.Gosched()
		metrics.Read(figures)
		if figures[0].Value.Uint64() > 0 || figures[1].Value.Uint64() > 1 {
			quiet = -1
		}
	}
}

// memory returns the number of bytes of heap and stacks in use.
func memory() float64 {
	runtime.GC()
	figures := []metrics.Sample{
		{Name: "/memory/classes/heap/objects:bytes"},
		{Name: "/memory/classes/heap/stacks:bytes"},
	}
	metrics.Read(figures)
	return float64(figures[0].Value.Uint64()) + float64(figures[1].Value.Uint64())
}

func must(err error) {
	if err != nil {
		panic(err)
	}
}
