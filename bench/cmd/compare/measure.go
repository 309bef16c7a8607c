package main

import (
	"fmt"
	"maps"
	"regexp"
	"runtime"
	"slices"
	"time"

	"example.com/condvar/bench/load"
)

// The units that every measurement has.
const (
	perOp  = "ns/op"
	allocs = "allocs/op"
)

// units returns all units, in the order in which they are written.
func units() []string {
	return []string{perOp, load.PerWaiter, load.Memory, load.P50, load.P99, load.P999, load.MaxWait, allocs}
}

// The garbage collector stays slower after so many goroutines. So crowds run
// last, and with one value of GOMAXPROCS. Huge ones, which take seconds, run at
// the very end and in fewer rounds.
const (
	bigCrowd   = 50_000
	hugeCrowd  = 1_000_000
	hugeRounds = 3
)

// A plan says what to measure, and how.
type plan struct {
	pattern *regexp.Regexp // of names
	most    int            // goroutines
	// cpus are values of GOMAXPROCS. All but the first have half as many rounds
	// and no crowds.
	cpus   []int
	rounds int
	slice  time.Duration
}

// A subject is an implementation, a workload, and a value of GOMAXPROCS.
type subject struct {
	workload, impl string
	cpus           int
}

// A sample has the number of operations of each round and, by unit, its
// figures.
type sample struct {
	n       int
	figures []map[string]float64
}

// Samples are the measurements, in order.
type samples struct {
	order []subject
	of    map[subject]*sample
}

// values returns the figures of one unit, by round.
func (s samples) values(who subject, unit string) []float64 {
	var values []float64
	if sm := s.of[who]; sm != nil {
		for _, figures := range sm.figures {
			if v, ok := figures[unit]; ok {
				values = append(values, v)
			}
		}
	}
	return values
}

// measure measures all, in rounds. In a round each subject runs for its slice
// of time, and subjects of the same workload run one after the other. Every
// second round is in reverse.
func measure(workloads []load.Workload, p plan, progress func(done, all int, what string)) samples {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(0))
	var crowds [3][]load.Workload // none, big, huge
	for _, w := range workloads {
		i := 0
		switch {
		case !p.pattern.MatchString(w.Name) || w.Goroutines > p.most:
			continue
		case w.Goroutines >= hugeCrowd:
			i = 2
		case w.Goroutines >= bigCrowd:
			i = 1
		}
		crowds[i] = append(crowds[i], w)
	}

	type run struct { // some rounds
		cpus, rounds int
		workloads    []load.Workload
	}
	var runs []run
	all, done := 0, 0
	for i, ws := range crowds {
		for j, cpus := range p.cpus {
			rounds := p.rounds
			switch {
			case i > 0 && j > 0:
				continue
			case i == 2:
				rounds = min(rounds, hugeRounds)
			case j > 0:
				rounds = (rounds + 1) / 2
			}
			runs = append(runs, run{cpus, rounds, ws})
			for _, w := range ws {
				all += (rounds + 1) * len(w.Subjects)
			}
		}
	}

	found := samples{of: map[subject]*sample{}}
	for _, r := range runs {
		runtime.GOMAXPROCS(r.cpus)
		for round := range r.rounds + 1 { // the first is for warming up
			for _, w := range r.workloads {
				order := slices.Clone(w.Subjects)
				if round%2 == 1 {
					slices.Reverse(order)
				}
				for _, s := range order {
					who := subject{w.Name, s.Impl, r.cpus}
					progress(done, all, fmt.Sprintf("GOMAXPROCS=%d round %d/%d %s %s", r.cpus, round, r.rounds, w.Name, s.Impl))
					if round == 0 {
						found.order = append(found.order, who)
						found.of[who] = &sample{n: calibrate(s.Run, max(p.slice, w.Slice))}
					} else {
						sm := found.of[who]
						sm.figures = append(sm.figures, take(s.Run, sm.n))
					}
					done++
				}
			}
		}
	}
	progress(all, all, "done")
	return found
}

// calibrate returns the number of operations of run that take as long as slice.
func calibrate(run load.Body, slice time.Duration) int {
	for n := 1; ; {
		took := time.Duration(take(run, n)[perOp] * float64(n))
		if took >= slice/2 {
			return max(1, int(float64(n)*float64(slice)/float64(took)))
		}
		n = min(100*n, int(1.2*float64(n)*float64(slice)/float64(took+1))+1)
	}
}

// take runs n operations, and returns the figures.
func take(run load.Body, n int) map[string]float64 {
	runtime.GC()
	var t timer
	figures := map[string]float64{}
	maps.Copy(figures, run(&t, n))
	figures[perOp] = float64(t.elapsed) / float64(n)
	// As in package testing.
	figures[allocs] = float64(t.mallocs / uint64(n))
	return figures
}

// A timer is a load.Timer that also counts allocations.
type timer struct {
	started time.Time
	elapsed time.Duration
	before  uint64
	mallocs uint64
}

func (t *timer) StartTimer() {
	t.before = mallocs()
	t.started = time.Now()
}

func (t *timer) StopTimer() {
	t.elapsed += time.Since(t.started)
	t.mallocs += mallocs() - t.before
}

func (t *timer) Elapsed() time.Duration { return t.elapsed }

func mallocs() uint64 {
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.Mallocs
}
