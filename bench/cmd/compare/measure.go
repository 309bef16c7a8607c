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

// What so many goroutines leave behind slows down the garbage collector ever
// after. So crowds come last, and with one value of GOMAXPROCS. Huge ones,
// which take seconds, come at the very end and in fewer rounds.
const (
	bigCrowd   = 50_000
	hugeCrowd  = 1_000_000
	hugeRounds = 3
)

// A plan says what to measure, and how.
type plan struct {
	pattern *regexp.Regexp // of names
	most    int            // goroutines
	cpus    []int          // values of GOMAXPROCS; half as many rounds with any but the first, and no crowds
	rounds  int
	slice   time.Duration
}

// A subject is who has been measured, at what, and with which GOMAXPROCS.
type subject struct {
	workload, impl string
	cpus           int
}

// Of every round a sample has the operations and, by unit, the figures.
type sample struct {
	n       int
	figures []map[string]float64
}

// Samples are what was measured, and in which order.
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

// measure measures all, in rounds. In a round each subject has its slice of
// time, those of the same workload one after the other, and every second round
// in reverse.
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

// calibrate returns how many operations of run take as long as slice.
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
	figures[allocs] = float64(t.mallocs / uint64(n)) // as package testing counts
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
