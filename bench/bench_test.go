// Package bench has the benchmarks of package condvar.
package bench

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"example.com/condvar/bench/load"
)

func BenchmarkLoad(b *testing.B) {
	for _, w := range load.Workloads() {
		for _, s := range w.Subjects {
			b.Run(w.Name+"/impl="+s.Impl, func(b *testing.B) {
				b.StopTimer()
				b.ResetTimer()
				b.ReportAllocs()
				for unit, value := range s.Run(b, b.N) {
					b.ReportMetric(value, unit)
				}
			})
		}
	}
}

// The race detector knows about 8,000 goroutines at most.
const mostGoroutines = 1000

type stopwatch struct {
	started time.Time
	starts  int
	elapsed time.Duration
}

func (s *stopwatch) StartTimer()            { s.started, s.starts = time.Now(), s.starts+1 }
func (s *stopwatch) StopTimer()             { s.elapsed += time.Since(s.started) }
func (s *stopwatch) Elapsed() time.Duration { return s.elapsed }

func TestEveryWorkloadRuns(t *testing.T) {
	for _, w := range load.Workloads() {
		names := map[string]bool{}
		for _, s := range w.Subjects {
			require.False(t, names[s.Impl], "%s has %s twice", w.Name, s.Impl)
			names[s.Impl] = true
			if w.Goroutines > mostGoroutines {
				continue
			}
			t.Run(w.Name+"/impl="+s.Impl, func(t *testing.T) {
				var watch stopwatch
				for unit, value := range s.Run(&watch, 3) {
					require.GreaterOrEqual(t, value, 0.0, unit)
				}
				require.Positive(t, watch.starts)
				require.Positive(t, watch.elapsed)
			})
		}
		require.Equal(t, load.Ours, w.Subjects[0].Impl)
	}
}
