package main

import (
	"encoding/xml"
	"fmt"
	"strings"
)

// Measures of the picture. It is drawn small and shown larger, so that its text
// is legible on narrow pages.
const (
	width       = 480
	shownWidth  = 720
	plotLeft    = 56         // of both plots
	plotRight   = width - 16 // x of the highest load
	plotHeight  = 150
	panelHeight = plotHeight + 84
)

// Lines of a kind lie on top of each other, so the first ones are wide.
const stylesheet = `
text { font: 13px ui-sans-serif, system-ui, "Segoe UI", "DejaVu Sans", sans-serif; fill: #1f2328 }
.title { font-size: 15px; font-weight: 600 }
.soft { fill: #59636e }
.end { text-anchor: end }
.middle { text-anchor: middle }
.grid { stroke: #818b98; stroke-opacity: .25 }
.limit { stroke: #59636e; stroke-dasharray: 5 4 }
.line { fill: none; stroke-linejoin: round; stroke-linecap: round }
.v0 { stroke: #e5484d; stroke-width: 9; stroke-opacity: .4 }
.v1 { stroke: #d4730c; stroke-width: 4.5 }
.v4 { stroke: #1f2328; stroke-width: 1.5 }
.v2 { stroke: #218bff; stroke-width: 7; stroke-opacity: .5 }
.v3 { stroke: #1a7f37; stroke-width: 2.5 }
@media (prefers-color-scheme: dark) {
text { fill: #e6edf3 }
.soft { fill: #9198a1 }
.limit { stroke: #9198a1 }
.v1 { stroke: #f0883e }
.v4 { stroke: #ffffff }
.v3 { stroke: #3fb950 }
}
`

// A plot is one of the two plots of the picture.
type plot struct {
	title  string
	top    float64 // x of its title
	max    float64 // the value at its upper end
	ticks  []float64
	label  func(value float64) string
	values func(s summary) float64
}

// picture returns goodput and latency against the load as an SVG document.
func picture(results []result) []byte {
	var b strings.Builder
	goodput := plot{
		title: "Answered in time, in % of what could be done", top: 4, max: 100, ticks: []float64{0, 25, 50, 75, 100},
		label:  func(v float64) string { return fmt.Sprintf("%.0f %%", v) },
		values: func(s summary) float64 { return s.goodput },
	}
	latency := plot{
		title: "Latency of those served, 99th percentile", top: panelHeight + 4, max: 1.25,
		ticks:  []float64{0, 0.25, 0.5, 0.75, 1, 1.25},
		label:  func(v float64) string { return fmt.Sprintf("%.4g s", v) },
		values: func(s summary) float64 { return s.p99.Seconds() },
	}
	goodput.draw(&b, results)
	latency.draw(&b, results)
	y := latency.y(leave.Seconds())
	fmt.Fprintf(&b, `<path class="limit" d="M%d %.1fH%d"/>`+"\n", plotLeft, y, plotRight)
	text(&b, plotRight-6, y+16, "soft end", "clients leave")
	legend(&b, 2*panelHeight)

	height := 2*panelHeight + 70
	var doc strings.Builder
	fmt.Fprintf(&doc, `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %d %d" width="%d" height="%d"`+
		` role="img" aria-labelledby="title desc">`+"\n", width, height, shownWidth, height*shownWidth/width)
	fmt.Fprintf(&doc, "<title id=\"title\">%s</title>\n", "Requests answered in time, and latency, against load")
	fmt.Fprintf(&doc, "<desc id=\"desc\">%s</desc>\n", escape(description(results)))
	fmt.Fprintf(&doc, "<style>%s</style>\n%s</svg>\n", stylesheet, b.String())
	return []byte(doc.String())
}

// description describes the picture in words.
func description(results []result) string {
	var goodput, latency []string
	for i, s := range at(results, shown) {
		goodput = append(goodput, fmt.Sprintf("%s %.0f %%", fullName(i), s.goodput))
		latency = append(latency, fmt.Sprintf("%s %.2f s", fullName(i), s.p99.Seconds()))
	}
	return fmt.Sprintf("Two plots against the load, from %d to %d %% of what can be served. "+
		"At %d %% the work for requests answered before the client left, of what could be done: %s. "+
		"The latency of those served, 99th percentile: %s. A client leaves after %.0f s.",
		results[0].load, results[len(results)-1].load, shown, list(goodput), list(latency), leave.Seconds())
}

// y returns the coordinate of a value.
func (p *plot) y(value float64) float64 {
	return p.top + 32 + plotHeight*(1-value/p.max)
}

func (p *plot) draw(b *strings.Builder, results []result) {
	least, most := results[0].load, results[len(results)-1].load
	x := func(load int) float64 {
		return plotLeft + (plotRight-plotLeft)*float64(load-least)/float64(max(1, most-least))
	}
	text(b, plotLeft, p.top+15, "title", p.title)
	for _, v := range p.ticks {
		fmt.Fprintf(b, `<path class="grid" d="M%d %.1fH%d"/>`+"\n", plotLeft, p.y(v), plotRight)
		text(b, plotLeft-8, p.y(v)+4.5, "soft end", p.label(v))
	}
	for load := least; load <= most; load += 50 {
		fmt.Fprintf(b, `<path class="grid" d="M%.1f %.1fV%.1f"/>`+"\n", x(load), p.y(p.max), p.y(0))
		anchor := "soft middle"
		if load == most {
			anchor = "soft end"
		}
		text(b, min(x(load), plotRight+12), p.y(0)+18, anchor, fmt.Sprintf("%d %%", load))
	}
	text(b, (plotLeft+plotRight)/2, p.y(0)+36, "soft middle", "load, in % of what can be served")
	for _, i := range drawOrder() {
		line := ""
		for _, r := range results {
			line += fmt.Sprintf("L%.1f %.1f", x(r.load), p.y(min(p.values(r.by[i]), p.max)))
		}
		fmt.Fprintf(b, `<path class="line v%d" d="M%s"/>`+"\n", i, line[1:])
	}
}

// drawOrder returns the variants with those of a kind together, the widest line
// first.
func drawOrder() []int { return []int{unbounded, fifo, xsync, withMaxWaiting, withMaxWait} }

// legend explains the lines, in two columns.
func legend(b *strings.Builder, top float64) {
	for n, i := range drawOrder() {
		x, y := float64(plotLeft), top+16+22*float64(n)
		if n > 2 {
			x, y = 250, top+16+22*float64(n-3)
		}
		fmt.Fprintf(b, `<path class="line v%d" d="M%.1f %.1fh26"/>`+"\n", i, x, y-4.5)
		text(b, x+38, y, "", fullName(i))
	}
}

// fullName returns the name of a variant where there is room for it.
func fullName(i int) string {
	if i == xsync {
		return "x/sync/semaphore"
	}
	return variants()[i].name
}

func text(b *strings.Builder, x, y float64, class, s string) {
	fmt.Fprintf(b, `<text class="%s" x="%.1f" y="%.1f">%s</text>`+"\n", class, x, y, escape(s))
}

func escape(s string) string {
	var b strings.Builder
	_ = xml.EscapeText(&b, []byte(s)) // a Builder never fails
	return b.String()
}
