package main

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"example.com/condvar/bench/load"
)

// fake returns samples of one workload, with the figures of each round.
func fake(ours, rival []float64) samples {
	s := samples{of: map[subject]*sample{}}
	for impl, values := range map[string][]float64{load.Ours: ours, "rival": rival} {
		sm := &sample{n: 1}
		for _, v := range values {
			sm.figures = append(sm.figures, map[string]float64{perOp: v})
		}
		s.of[subject{"w", impl, 2}] = sm
	}
	return s
}

func TestVerdicts(t *testing.T) {
	s := fake([]float64{10, 20, 90}, []float64{10, 10, 10})
	ours, rival := figure{"w", load.Ours, perOp}, figure{"w", "rival", perOp}
	for _, test := range []struct {
		name    string
		bar     bar
		cleared bool
	}{
		{"the median is on the bar", bar{ours: ours, rival: rival, most: 2}, true},
		{"the median is over it", bar{ours: ours, rival: rival, most: 1.99}, false},
		{"it is over, but good enough", bar{ours: ours, rival: rival, most: 1, enough: 20}, true},
		{"it is over, and not good enough", bar{ours: ours, rival: rival, most: 1, enough: 19}, false},
		{"the worst is on the bar", bar{ours: ours, most: 90}, true},
		{"the worst is over it", bar{ours: ours, most: 89}, false},
		{"the median of one without a rival is on the bar", bar{ours: ours, most: 20, median: true}, true},
		{"the median of one without a rival is over it", bar{ours: ours, most: 19, median: true}, false},
	} {
		t.Run(test.name, func(t *testing.T) {
			_, cleared, ok := test.bar.verdict(s, 2)
			require.True(t, ok)
			require.Equal(t, test.cleared, cleared)
		})
	}
	_, _, ok := bar{ours: ours, rival: figure{"w", "nobody", perOp}}.verdict(s, 2)
	require.False(t, ok)
}

// Each bar names a figure that is measured; a misspelled one would be left out.
func TestBarsAreOfWhatIsMeasured(t *testing.T) {
	measured := map[figure]bool{}
	for _, w := range load.Workloads() {
		for _, s := range w.Subjects {
			measured[figure{w.Name, s.Impl, ""}] = true
		}
	}
	for _, b := range bars() {
		require.True(t, measured[figure{b.ours.workload, b.ours.impl, ""}], "%+v", b)
		if b.rival.workload != "" {
			require.True(t, measured[figure{b.rival.workload, b.rival.impl, ""}], "%+v", b)
		}
	}
}

func TestMeasureTakesTurns(t *testing.T) {
	body := func(timer load.Timer, _ int) load.Extra {
		timer.StartTimer()
		timer.StopTimer()
		return load.Extra{load.P99: 7}
	}
	workloads := []load.Workload{
		{Name: "big", Subjects: []load.Subject{{Impl: "c", Run: body}}, Goroutines: bigCrowd},
		{Name: "w", Subjects: []load.Subject{{Impl: "a", Run: body}, {Impl: "b", Run: body}}},
		{Name: "huge", Goroutines: hugeCrowd},
	}
	var turns []string
	s := measure(workloads, plan{
		pattern: regexp.MustCompile(""), most: hugeCrowd - 1, cpus: []int{2, 1}, rounds: 3, slice: 1,
	}, func(_, _ int, what string) { turns = append(turns, what[strings.LastIndex(what, " ")+1:]) })
	// In both, the first round is a warm-up, and then every second one is in
	// reverse. The crowd is last.
	require.Equal(t, "ab"+"baabba"+"ab"+"baab"+"cccc"+"done", strings.Join(turns, ""))
	require.Len(t, s.order, 5)
	require.Equal(t, []float64{7, 7, 7}, s.values(subject{"w", "a", 2}, load.P99))
	require.Equal(t, []float64{7, 7}, s.values(subject{"w", "b", 1}, load.P99))
}

func TestWhatABarWouldBeForOthers(t *testing.T) {
	figures := func(values ...float64) *sample {
		sm := &sample{}
		for _, v := range values {
			sm.figures = append(sm.figures, map[string]float64{load.PerWaiter: v})
		}
		return sm
	}
	const name = "NotifyAll/waiters=100000"
	many, few := subject{name, "sync", 2}, subject{name + "/lines=100", "sync", 2}
	s := samples{[]subject{few, many}, map[subject]*sample{many: figures(60, 70, 80), few: figures(20, 20, 20)}}
	var text strings.Builder
	writeGrowth(&text, s, 2)
	require.Contains(t, text.String(), "sync, ns/waiter, against NotifyAll/waiters=100000/lines=100  3.5 [3.25 3.75]")
	text.Reset()
	writeGrowth(&text, s, 1)
	require.Empty(t, text.String())
}

// One round of the quickest workload and of one without a rival, and all files
// that are written.
func TestRunWritesResults(t *testing.T) {
	dir := t.TempDir()
	require.NoError(t, run(plan{
		pattern: regexp.MustCompile("^(Uncontended|LockHeldClose/waiters=1000)$"),
		most:    1000, cpus: []int{1}, rounds: 1, slice: time.Microsecond,
	}, dir))
	for name, want := range map[string]string{
		"raw.txt":     "\nBenchmarkLoad/Uncontended/impl=xsync-1\t",
		"summary.txt": "\nLockHeldClose/waiters=1000, GOMAXPROCS=1\n",
		"ratios.svg":  ">Uncontended<",
		"costs.svg":   ">Acquire and Release, nobody waits<",
	} {
		text, err := os.ReadFile(filepath.Join(dir, name))
		require.NoError(t, err)
		require.Contains(t, string(text), want)
	}
}
