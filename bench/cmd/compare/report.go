package main

import (
	"fmt"
	"io"
	"math"
	"slices"
	"strings"
	"text/tabwriter"

	"example.com/condvar/bench/load"
)

// A figure is a measurement of an implementation.
type figure struct{ workload, impl, unit string }

// A bar is an upper limit for a figure: a multiple of another figure or, if
// there is no other, an absolute value.
type bar struct {
	line   string
	ours   figure
	rival  figure
	most   float64
	enough float64 // a figure that is good enough for any rival's

	// median is for a figure without a rival. The median of the rounds counts,
	// not the worst, as the figure includes disturbances of a round.
	median bool
}

// bars returns all bars.
func bars() []bar {
	var all []bar
	against := func(line, workload, impl, rival string, most float64) {
		all = append(all, bar{
			line: line, ours: figure{workload, impl, perOp}, rival: figure{workload, rival, perOp}, most: most,
		})
	}
	allocate := func(workload, impl string) {
		all = append(all, bar{line: "allocations", ours: figure{workload, impl, allocs}})
	}

	against("idle notify", "IdleNotify", load.Ours, "sync", 1)
	against("idle notify", "IdleNotifyAll", load.Ours, "sync", 1)
	against("ping-pong, background", "PingPong/ctx=none", load.Ours, "sync", 1.55)
	against("ping-pong, cancellable", "PingPong/ctx=cancel", load.Ours, "channels", 1.45)
	against("ping-pong, a new context for each wait", "PingPong/ctx=new", load.Ours, "channels", 1.45)
	against("WaitFor, ping-pong", "PingPongWaitFor", load.Ours, "sync", 1.8)
	for _, b := range []struct {
		waiters           string
		none, cancellable float64
	}{{"32", 1.6, 2.6}, {"1000", 2, 2.7}} {
		against("broadcast", "Broadcast/waiters="+b.waiters+"/ctx=none", load.Ours, "sync", b.none)
		against("broadcast, cancellable", "Broadcast/waiters="+b.waiters+"/ctx=cancel", load.Ours, "sync", b.cancellable)
	}
	// The number of goroutines in memory is the same, so only the line grows.
	for _, name := range []string{"CancelWait", "NotifyAll"} {
		all = append(all, bar{
			line:  "100,000 in one line against lines of 1,000",
			ours:  figure{name + "/waiters=100000", load.Ours, load.PerWaiter},
			rival: figure{name + "/waiters=100000/lines=100", load.Ours, load.PerWaiter},
			most:  1.3,
		})
	}
	for _, name := range []string{"NotifyAll", "Close"} {
		all = append(all, bar{
			line: "how long the lock is held",
			ours: figure{"LockHeld" + name + "/waiters=100000", load.Ours, load.P50}, most: 10e6, median: true,
		})
	}
	all = append(all, bar{
		line:  "Notify while 64,000 are busy, against 1,000",
		ours:  figure{"NotifyBusy/waiters=64000", load.Ours, load.P50},
		rival: figure{"NotifyBusy/waiters=1000", load.Ours, load.P50},
		most:  5,
	})
	against("uncontended", "Uncontended", load.Ours, "xsync", 0.72)
	against("uncontended", "Uncontended", load.Ours, "channel", 0.25)
	against("rejection by MaxWaiting, against Acquire and Release", "Rejected", load.Ours, "xsync", 3)
	against("AcquirePermit and Release, against Acquire and Release", "Permit", load.Ours, "xsync", 3)
	against("keyed, one hot key", "Keyed/keys=1", load.Ours, "handmade", 1.2)
	against("keyed, 10,000 keys", "Keyed/keys=10000", load.Ours, "handmade", 1.2)
	for _, capacity := range []string{"1", "4", "8"} {
		for _, goroutines := range []string{"16", "128"} {
			name := "Contended/capacity=" + capacity + "/goroutines=" + goroutines
			against("contended", name, load.Ours, "xsync", 0.13)
			against("contended, FIFO", name, load.OursFIFO, "xsync", 1.1)
			allocate(name, load.Ours)
			allocate(name, load.OursFIFO)
		}
	}
	hold := func(line, name string) {
		against(line, name, load.Ours, "xsync", 1.05)
		all = append(all, bar{
			line: line, ours: figure{name, load.Ours, load.P99}, rival: figure{name, "xsync", load.P99},
			most: 2, enough: 5e6,
		})
	}
	for _, goroutines := range []string{"10", "100", "1000", "10000"} {
		hold("hold 5 µs, CPU", "HoldCPU/hold=5µs/capacity=4/goroutines="+goroutines)
	}
	for _, goroutines := range []string{"16", "128"} {
		hold("hold 100 µs, blocking", "HoldBlocking/hold=100µs/capacity=4/goroutines="+goroutines)
	}
	against("hand-off", "HandOff/capacity=1", load.Ours, "xsync", 1.05)
	against("hand-off", "HandOff/capacity=2", load.Ours, "xsync", 1.05)
	const beside = "ReleaseBeside/computing=20"
	all = append(all, bar{
		line: "Release beside 20 that compute",
		ours: figure{beside, load.Ours, load.P50}, rival: figure{beside, "xsync", load.P50}, most: 2,
	}, bar{
		line: "big against small",
		ours: figure{"BigAgainstSmall/loopers=16", load.Ours, load.MaxWait}, most: 10e6,
	})
	// The contexts of PingPong/ctx=new allocate, also for the floor.
	all = append(all, bar{
		line: "allocations", most: 1,
		ours: figure{"PingPong/ctx=new", load.Ours, allocs}, rival: figure{"PingPong/ctx=new", "channels", allocs},
	})
	for _, name := range []string{
		"IdleNotify", "IdleNotifyAll", "PingPong/ctx=none", "PingPong/ctx=cancel", "PingPongWaitFor", "Uncontended", "Rejected",
		"Broadcast/waiters=32/ctx=none", "Broadcast/waiters=32/ctx=cancel",
		"Broadcast/waiters=1000/ctx=none", "Broadcast/waiters=1000/ctx=cancel",
	} {
		allocate(name, load.Ours)
	}
	return all
}

// verdict returns whether b is met, and the measured value. It is not ok if
// there are no measurements. A ratio is the median of those of the rounds. A
// figure without a rival is the worst of all rounds, or their median if
// b.median is set.
func (b bar) verdict(s samples, cpus int) (text string, cleared, ok bool) {
	ours := s.values(subject{b.ours.workload, b.ours.impl, cpus}, b.ours.unit)
	if b.rival.workload == "" {
		if len(ours) == 0 {
			return "", false, false
		}
		v := slices.Max(ours)
		if b.median {
			v = quantile(ours, 0.5)
		}
		return human(v, b.ours.unit) + "\tat most " + human(b.most, b.ours.unit), v <= b.most, true
	}
	r := ratios(ours, s.values(subject{b.rival.workload, b.rival.impl, cpus}, b.rival.unit))
	if len(r) == 0 {
		return "", false, false
	}
	text = fmt.Sprintf("%s\tat most %g", spread(r), b.most)
	if b.enough > 0 {
		text += " or " + human(b.enough, b.ours.unit)
	}
	return text, quantile(r, 0.5) <= b.most || quantile(ours, 0.5) <= b.enough, true
}

// writeBars writes the bars that have measurements.
func writeBars(w io.Writer, s samples, cpus int) {
	fmt.Fprintf(w, "The bars. Ratios are ours to the rival's, the median of the rounds [and the quartiles], with GOMAXPROCS=%d.\n\n", cpus)
	table := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	missed, n := 0, 0
	for _, b := range bars() {
		text, cleared, ok := b.verdict(s, cpus)
		if !ok {
			continue
		}
		n++
		word := "ok"
		if !cleared {
			word = "MISSED"
			missed++
		}
		what := b.ours.impl + ", " + b.ours.unit
		switch {
		case b.rival.workload == b.ours.workload:
			what += ", against " + b.rival.impl
		case b.rival.workload != "":
			what += ", against " + b.rival.workload
		}
		fmt.Fprintf(table, "%s\t%s\t%s\t%s\t%s\n", b.line, b.ours.workload, what, text, word)
	}
	_ = table.Flush() // to memory
	fmt.Fprintf(w, "\n%d of %d bars missed\n\n", missed, n)
	writeGrowth(w, s, cpus)
}

// writeGrowth writes the ratios of the other implementations for the bars that
// compare two of our own figures.
func writeGrowth(w io.Writer, s samples, cpus int) {
	var lines strings.Builder
	table := tabwriter.NewWriter(&lines, 0, 0, 2, ' ', 0)
	for _, b := range bars() {
		if b.rival.workload == "" || b.rival.workload == b.ours.workload {
			continue
		}
		for _, who := range s.order {
			if who.workload != b.ours.workload || who.impl == b.ours.impl || who.cpus != cpus {
				continue
			}
			r := ratios(s.values(who, b.ours.unit), s.values(subject{b.rival.workload, who.impl, cpus}, b.rival.unit))
			if len(r) > 0 {
				fmt.Fprintf(table, "%s\t%s\t%s, %s, against %s\t%s\n",
					b.line, who.workload, who.impl, b.ours.unit, b.rival.workload, spread(r))
			}
		}
	}
	_ = table.Flush() // to memory
	if lines.Len() > 0 {
		fmt.Fprintf(w, "The same of others:\n\n%s\n", lines.String())
	}
}

// writeRatios writes all medians, and the ratios of ours to all others.
func writeRatios(w io.Writer, s samples, workloads []load.Workload, cpus []int) {
	for _, c := range cpus {
		for _, wl := range workloads {
			values := func(impl, unit string) []float64 { return s.values(subject{wl.Name, impl, c}, unit) }
			if len(values(load.Ours, perOp)) == 0 {
				continue
			}
			fmt.Fprintf(w, "%s, GOMAXPROCS=%d\n", wl.Name, c)
			table := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
			heads := []string{"  impl", "condvar/it", "fifo/it"}
			for _, u := range units() {
				if len(values(load.Ours, u)) > 0 {
					heads = append(heads, u)
				}
			}
			fmt.Fprintln(table, strings.Join(heads, "\t"))
			for _, subj := range wl.Subjects {
				its := values(subj.Impl, perOp)
				row := []string{
					"  " + subj.Impl,
					spread(ratios(values(load.Ours, perOp), its)), spread(ratios(values(load.OursFIFO, perOp), its)),
				}
				for _, u := range heads[3:] {
					row = append(row, human(quantile(values(subj.Impl, u), 0.5), u))
				}
				fmt.Fprintln(table, strings.Join(row, "\t"))
			}
			_ = table.Flush()
			fmt.Fprintln(w)
		}
	}
}

// ratios returns a/b of every round.
func ratios(a, b []float64) []float64 {
	r := make([]float64, min(len(a), len(b)))
	for i := range r {
		r[i] = a[i] / b[i]
	}
	return r
}

// spread formats the median and the quartiles.
func spread(r []float64) string {
	if len(r) == 0 {
		return ""
	}
	return fmt.Sprintf("%.3g [%.3g %.3g]", quantile(r, 0.5), quantile(r, 0.25), quantile(r, 0.75))
}

// quantile interpolates between the two nearest values.
func quantile(values []float64, q float64) float64 {
	sorted := slices.Sorted(slices.Values(values))
	at := q * float64(len(sorted)-1)
	low, rest := math.Modf(at)
	i := int(low)
	if rest == 0 {
		return sorted[i]
	}
	return sorted[i] + rest*(sorted[i+1]-sorted[i])
}

// human formats a figure with its unit, if that is a time.
func human(v float64, unit string) string {
	if !strings.Contains(unit, "ns") {
		return fmt.Sprintf("%.4g", v)
	}
	units := []string{"ns", "µs", "ms", "s"}
	i := 0
	for ; v >= 999.5 && i < len(units)-1; i++ {
		v /= 1000
	}
	return fmt.Sprintf("%.3g %s", v, units[i])
}
