package main

import (
	"fmt"
	"math"
	"strings"

	"example.com/condvar/bench/load"
)

// pictures returns the pictures by the names of their files, as SVG documents.
// Pictures without measurements are left out.
func pictures(s samples, workloads []load.Workload, cpus int) map[string][]byte {
	files := map[string][]byte{}
	if rows := costs(s, cpus); len(rows) > 0 {
		files["costs.svg"] = costChart(rows)
	}
	if rows := allRatios(s, workloads, cpus); len(rows) > 0 {
		files["ratios.svg"] = ratioChart(rows, cpus)
	}
	if svg := drawWaits(s, cpus); svg != nil {
		files["waits.svg"] = svg
	}
	return files
}

// A row is a bar with the text above it.
type row struct {
	label, rival string
	ratio        float64   // our time to the rival's
	others       []float64 // our time to other rivals'
}

// costs returns the rows of the picture in the README, in the order of its
// table.
func costs(s samples, cpus int) []row {
	const xsync = "x/sync/semaphore"
	var rows []row
	for _, c := range []struct{ label, workload, ours, rival, rivalName string }{
		{"Acquire and Release, nobody waits", "Uncontended", load.Ours, "xsync", xsync},
		{"a Permit instead", "Permit", load.Ours, "xsync", xsync},
		{"MaxWaiting rejects a call", "Rejected", load.Ours, "xsync", xsync},
		{"4 permits, 128 goroutines", "Contended/capacity=4/goroutines=128", load.Ours, "xsync", xsync},
		{"the same with FIFO()", "Contended/capacity=4/goroutines=128", load.OursFIFO, "xsync", xsync},
		{"one big request against 16 small loopers", "BigAgainstSmall/loopers=16", load.Ours, "xsync", xsync},
		{"100,000 canceled one by one", "CancelAcquire/waiters=100000", load.Ours, "xsync", xsync},
		{"two goroutines take turns, with contexts", "PingPong/ctx=cancel", load.Ours, "channels", "bare channels"},
		{"NotifyAll to 32, no context", "Broadcast/waiters=32/ctx=none", load.Ours, "sync", "sync.Cond"},
		{"NotifyAll to 1,000, no context", "Broadcast/waiters=1000/ctx=none", load.Ours, "sync", "sync.Cond"},
	} {
		if r, ok := s.medianRatio(c.workload, c.ours, c.rival, cpus); ok {
			rows = append(rows, row{label: c.label, rival: c.rivalName, ratio: r})
		}
	}
	return rows
}

// allRatios returns a row for each workload that has a rival. The bar compares
// with the first rival.
func allRatios(s samples, workloads []load.Workload, cpus int) []row {
	var rows []row
	for _, w := range workloads {
		r := row{label: w.Name}
		for _, subj := range w.Subjects {
			if subj.Impl == load.Ours || subj.Impl == load.OursFIFO {
				continue
			}
			x, ok := s.medianRatio(w.Name, load.Ours, subj.Impl, cpus)
			switch {
			case !ok:
			case r.rival == "":
				r.rival, r.ratio = subj.Impl, x
			default:
				r.others = append(r.others, x)
			}
		}
		if r.rival != "" {
			rows = append(rows, r)
		}
	}
	return rows
}

// medianRatio returns the median of the ratios of the rounds. It is not ok if
// there are no measurements.
func (s samples) medianRatio(workload, ours, rival string, cpus int) (ratio float64, ok bool) {
	r := ratios(s.values(subject{workload, ours, cpus}, perOp), s.values(subject{workload, rival, cpus}, perOp))
	if len(r) == 0 {
		return 0, false
	}
	return quantile(r, 0.5), true
}

// costChart draws the picture of the README: few bars, each with its number at
// the end.
func costChart(rows []row) []byte {
	c, scale := new(canvas), scaleOf(rows)
	y := c.barHeader(scale, "Time of condvar to that of its rival")
	for _, r := range rows {
		c.text(margin, y+14, "", r.label)
		c.text(width-margin, y+14, "small soft end", r.rival)
		number := ratioText(r.ratio)
		const room = 40 // for the number
		if end := scale.at(r.ratio); r.ratio > 1 {
			c.bar(r, scale, y+20, 11, end, end+room)
			c.text(end+5, y+30, "", number)
		} else {
			c.bar(r, scale, y+20, 11, end-room, end)
			c.text(end-5, y+30, "end", number)
		}
		y += 39
	}
	y = c.barFooter(scale, y, "logarithmic scale")

	var list []string
	for _, r := range rows {
		list = append(list, fmt.Sprintf("%s, %s (%s)", r.label, ratioText(r.ratio), r.rival))
	}
	return c.document(y, 720, "Time of condvar to that of its rival", fmt.Sprintf(
		"Horizontal bars on a logarithmic axis. A ratio above 1 means that condvar is slower: %s.", strings.Join(list, "; ")))
}

// ratioChart draws the bars of all workloads. Other rivals are dots.
func ratioChart(rows []row, cpus int) []byte {
	c, scale := new(canvas), scaleOf(rows)
	y := c.barHeader(scale, "Time of condvar to that of its rivals, all workloads")
	slower := 0
	for _, r := range rows {
		c.text(margin, y+12, "small", r.label)
		c.text(width-margin, y+12, "small soft end", r.rival+" "+ratioText(r.ratio))
		c.bar(r, scale, y+18, 8, 0, 0)
		for _, other := range r.others {
			c.circle("other", scale.at(other), y+22, 3)
		}
		if r.ratio > 1 {
			slower++
		}
		y += 31
	}
	y = c.barFooter(scale, y, fmt.Sprintf("logarithmic scale; GOMAXPROCS=%d; dots are other rivals", cpus))
	return c.document(y, width, "Time of condvar to that of its rivals, all workloads", fmt.Sprintf(
		"A horizontal bar for each of %d workloads, on a logarithmic axis, for the rival that is named, and dots for others. "+
			"A ratio above 1 means that condvar is slower, as it is in %d workloads. The file summary.txt has all figures.", len(rows), slower))
}

// scaleOf returns an axis between two powers of two, with room for all bars and
// for the numbers at their ends.
func scaleOf(rows []row) logScale {
	low, high := -1.0, 1.0
	for _, r := range rows {
		for _, v := range append([]float64{r.ratio}, r.others...) {
			low, high = min(low, math.Log2(v)), max(high, math.Log2(v))
		}
	}
	const room = 0.4
	return logScale{margin, width - margin, math.Exp2(math.Floor(low - room)), math.Exp2(math.Ceil(high + room))}
}

// barHeader draws the text above the bars, and returns where the bars start.
func (c *canvas) barHeader(scale logScale, title string) float64 {
	c.text(margin, 24, "title", title)
	c.text(scale.at(1)-10, 48, "small soft end", "← condvar is faster")
	c.text(scale.at(1)+10, 48, "small soft", "slower →")
	c.axisLabels(scale, 66)
	return 78
}

// barFooter draws the text below the bars, and returns the height of the
// picture.
func (c *canvas) barFooter(scale logScale, y float64, note string) float64 {
	c.axisLabels(scale, y+14)
	c.text(width/2, y+34, "small soft middle", note)
	return y + 46
}

// axisLabels writes the powers of two. The labels at the ends stay inside the
// picture.
func (c *canvas) axisLabels(scale logScale, y float64) {
	for v := scale.least; v <= scale.most; v *= 2 {
		class, x, label := "small soft middle", scale.at(v), fmt.Sprint(v)
		if v < 1 {
			label = fmt.Sprintf("1/%g", 1/v)
		}
		switch v {
		case scale.least:
			class, x = "small soft", margin
		case scale.most:
			class, x = "small soft end", width-margin
		}
		c.text(x, y, class, label)
	}
}

// bar draws a bar from 1 to the ratio, on a piece of the grid. No line of the
// grid crosses text, which is between the rows and from textFrom to textTo.
func (c *canvas) bar(r row, scale logScale, y, height, textFrom, textTo float64) {
	for v := scale.least; v <= scale.most; v *= 2 {
		if x := scale.at(v); textFrom <= x && x <= textTo {
			continue
		}
		c.path("grid", "M%.1f %.1fv%.1f", scale.at(v), y-1, height+2)
	}
	class := "gain"
	if r.ratio > 1 {
		class = "loss"
	}
	from, to := scale.at(min(r.ratio, 1)), scale.at(max(r.ratio, 1))
	c.rect(class, from, y, to-from, height)
	c.path("one", "M%.1f %.1fv%.1f", scale.at(1), y-3, height+6)
}

// ratioText formats a ratio as in the tables.
func ratioText(r float64) string {
	if r < 1.95 {
		return fmt.Sprintf("%.2f", r)
	}
	return fmt.Sprintf("%.1f", r)
}

// drawWaits draws how long the waits took with condvar, condvar with FIFO, and
// x/sync, in a panel for each of some workloads. It returns nil if one of them
// was not measured.
func drawWaits(s samples, cpus int) []byte {
	// The lines are often on top of each other, so the first ones are wide.
	lines := []struct{ impl, class, name string }{
		{"xsync", "line xsync", "x/sync/semaphore"}, {load.OursFIFO, "line fifo", "condvar, FIFO()"}, {load.Ours, "line ours", "condvar"},
	}
	quantiles := []struct{ unit, label string }{
		{load.P50, "p50"}, {load.P99, "p99"}, {load.P999, "p99.9"}, {load.MaxWait, "max"},
	}
	const panelHeight, plotHeight = 206, 118
	c := new(canvas)
	c.text(margin, 24, "title", "How long calls wait")
	c.text(margin, 43, "small soft", "each plot has a logarithmic scale of its own")
	var list []string
	for i, panel := range []struct{ title, rest, workload string }{
		{"held for 5 µs of CPU time", "capacity 4, 100 goroutines", "HoldCPU/hold=5µs/capacity=4/goroutines=100"},
		{"held for 5 µs of CPU time", "capacity 4, 1,000 goroutines", "HoldCPU/hold=5µs/capacity=4/goroutines=1000"},
		{"held for 100 µs, blocked", "capacity 4, 128 goroutines", "HoldBlocking/hold=100µs/capacity=4/goroutines=128"},
		{"held for 1 ms, asleep", "capacity 2, 16 goroutines", "HandOff/capacity=2"},
	} {
		left, top := float64(margin+i%2*(width/2)), 58+float64(i/2*panelHeight)
		waits := map[string][]float64{}
		least, most := math.Inf(1), 0.0
		for _, line := range lines {
			var text []string
			for _, q := range quantiles {
				values := s.values(subject{panel.workload, line.impl, cpus}, q.unit)
				if len(values) == 0 {
					return nil
				}
				v := max(1, quantile(values, 0.5))
				waits[line.impl] = append(waits[line.impl], v)
				least, most = min(least, v), max(most, v)
				text = append(text, human(v, q.unit))
			}
			list = append(list, fmt.Sprintf("%s, %s, %s: %s", panel.title, panel.rest, line.name, strings.Join(text, ", ")))
		}
		ticks := timeTicks(least, most)
		y := logScale{top + 44 + plotHeight, top + 44, ticks[0], ticks[len(ticks)-1]}
		plotLeft, step := left+54, 46.0
		c.text(left, top+14, "", panel.title)
		c.text(left, top+30, "small soft", panel.rest)
		for _, v := range ticks {
			c.path("grid", "M%.1f %.1fH%.1f", plotLeft, y.at(v), plotLeft+3*step)
			c.text(plotLeft-8, y.at(v)+4, "small soft end", human(v, perOp))
		}
		for j, q := range quantiles {
			c.text(plotLeft+float64(j)*step, top+62+plotHeight, "small soft middle", q.label)
		}
		for _, line := range lines {
			points := ""
			for j, v := range waits[line.impl] {
				points += fmt.Sprintf("L%.1f %.1f", plotLeft+float64(j)*step, y.at(v))
			}
			c.path(line.class, "M%s", points[1:])
		}
	}
	x, y := float64(margin), 70.0+2*panelHeight
	for _, line := range lines {
		c.path(line.class, "M%.1f %.1fh22", x+3, y-4.5)
		c.text(x+33, y, "small", line.name)
		x += 60 + 7*float64(len(line.name))
	}
	return c.document(y+14, 720, "How long calls wait", fmt.Sprintf(
		"Four plots with logarithmic axes. The waits are p50, p99, p99.9 and the longest one. %s.", strings.Join(list, "; ")))
}

// timeTicks returns at least two ticks. The first is at most least, and the
// last is at least most. The ticks are powers of ten. If these are few, twice
// and five times a power of ten are ticks, too.
func timeTicks(least, most float64) []float64 {
	for _, steps := range [][]float64{{1}, {1, 2, 5}} {
		var all []float64
		for exp := math.Floor(math.Log10(least)); exp <= math.Ceil(math.Log10(most))+1; exp++ {
			for _, step := range steps {
				all = append(all, step*math.Pow(10, exp))
			}
		}
		for len(all) > 2 && all[1] <= least {
			all = all[1:]
		}
		for len(all) > 2 && all[len(all)-2] >= most {
			all = all[:len(all)-1]
		}
		if len(all) > 3 || len(steps) > 1 {
			return all
		}
	}
	panic("unreachable")
}
