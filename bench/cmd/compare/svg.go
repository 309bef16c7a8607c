package main

import (
	"encoding/xml"
	"fmt"
	"math"
	"strings"
)

// Every picture is drawn this wide and shown larger, so that its text is
// readable on a narrow page.
const (
	width  = 480
	margin = 16
)

// A loss, and condvar beside others, has the accent color. The rest is gray.
const stylesheet = `
text { font: 13px ui-sans-serif, system-ui, "Segoe UI", "DejaVu Sans", sans-serif; fill: #1f2328 }
.title { font-size: 15px; font-weight: 600 }
.small { font-size: 12px }
.soft { fill: #59636e }
.end { text-anchor: end }
.middle { text-anchor: middle }
.grid { stroke: #818b98; stroke-opacity: .35 }
.one { stroke: #1f2328; stroke-width: 1.5 }
.gain { fill: #818b98 }
.loss { fill: #b8390e }
.other { fill: #1f2328; stroke: #ffffff; stroke-width: 1 }
.line { fill: none; stroke-linejoin: round; stroke-linecap: round }
.xsync { stroke: #818b98; stroke-width: 7; stroke-opacity: .5 }
.fifo { stroke: #1f2328; stroke-width: 3.5 }
.ours { stroke: #b8390e; stroke-width: 1.75 }
@media (prefers-color-scheme: dark) {
text { fill: #e6edf3 }
.soft { fill: #9198a1 }
.one { stroke: #e6edf3 }
.loss { fill: #ff8a5c }
.other { fill: #e6edf3; stroke: #0d1117 }
.fifo { stroke: #e6edf3 }
.ours { stroke: #ff8a5c }
}
`

// A canvas collects the elements of a picture.
type canvas struct{ b strings.Builder }

// document returns the picture as an SVG document. A screen reader reads title
// and description.
func (c *canvas) document(height, shownWidth float64, title, description string) []byte {
	return fmt.Appendf(nil, `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %d %.0f" width="%.0f" height="%.0f"`+
		` role="img" aria-labelledby="title desc">`+"\n<title id=\"title\">%s</title>\n<desc id=\"desc\">%s</desc>\n<style>%s</style>\n%s</svg>\n",
		width, height, shownWidth, height*shownWidth/width, escape(title), escape(description), stylesheet, c.b.String())
}

func (c *canvas) text(x, y float64, class, s string) {
	fmt.Fprintf(&c.b, `<text class="%s" x="%.1f" y="%.1f">%s</text>`+"\n", class, x, y, escape(s))
}

// path draws a path. Its data consists of letters and numbers.
func (c *canvas) path(class, format string, args ...any) {
	fmt.Fprintf(&c.b, `<path class="%s" d="%s"/>`+"\n", class, fmt.Sprintf(format, args...))
}

func (c *canvas) rect(class string, x, y, w, h float64) {
	fmt.Fprintf(&c.b, `<rect class="%s" x="%.1f" y="%.1f" width="%.1f" height="%.1f"/>`+"\n", class, x, y, w, h)
}

func (c *canvas) circle(class string, x, y, r float64) {
	fmt.Fprintf(&c.b, `<circle class="%s" cx="%.1f" cy="%.1f" r="%.1f"/>`+"\n", class, x, y, r)
}

func escape(s string) string {
	var b strings.Builder
	_ = xml.EscapeText(&b, []byte(s)) // a Builder never fails
	return b.String()
}

// A logScale maps a value to a position on an axis.
type logScale struct{ from, to, least, most float64 }

func (s logScale) at(v float64) float64 {
	return s.from + (s.to-s.from)*math.Log(v/s.least)/math.Log(s.most/s.least)
}
