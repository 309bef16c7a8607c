//go:build unix

package main

import (
	"encoding/xml"
	"fmt"
	"strings"
	"time"

	"example.com/condvar/internal/terminal"
)

// Sizes in the picture. It is drawn small and shown larger, so that the text
// stays readable on a narrow page.
const (
	width      = 500
	shownWidth = 750
	margin     = 16
	left       = 88         // x of the start
	right      = width - 24 // x of the end
	rowHeight  = 22
	barHeight  = 14
)

const stylesheet = `
text { font: 13px ui-sans-serif, system-ui, "Segoe UI", "DejaVu Sans", sans-serif; fill: #1f2328 }
.title { font-size: 15px; font-weight: 600 }
.soft { fill: #59636e }
.end { text-anchor: end }
.middle { text-anchor: middle }
.grid { stroke: #818b98; stroke-opacity: .25 }
.mark { stroke: #59636e; stroke-dasharray: 2 3 }
.disc { fill: #59636e }
.number { font-size: 11px; font-weight: 600; fill: #fff; text-anchor: middle }
.waits { fill: #818b98; fill-opacity: .4 }
.holds { fill: #218bff }
.away { fill: #d4a72c }
.frozen, .dead { fill: none; stroke-width: 2 }
.frozen { stroke: #d4a72c; stroke-dasharray: 2 3 }
.dead { stroke: #e5484d; stroke-dasharray: 2 3 }
.over { fill: #e5484d }
.band { fill: #e5484d; fill-opacity: .1 }
.line { fill: none; stroke: #218bff; stroke-width: 1.5 }
.capacity { fill: none; stroke: #1f2328; stroke-dasharray: 5 4 }
@media (prefers-color-scheme: dark) {
text { fill: #e6edf3 }
.soft { fill: #9198a1 }
.mark { stroke: #9198a1 }
.disc { fill: #9198a1 }
.number { fill: #0d1117 }
.capacity { stroke: #e6edf3 }
}
`

// A canvas collects the elements of a picture from top to bottom.
type canvas struct {
	b   strings.Builder
	y   float64       // of the next element
	end time.Duration // the time at right
}

// picture returns the timeline as an SVG document.
func picture(rec *record, v verdict) []byte {
	c := &canvas{y: 16, end: max(rec.end, 1)}
	title := fmt.Sprintf("%d processes share %s", rec.workers, count(rec.capacity, "permit"))
	outcome := "All guarantees held."
	if !v.kept() {
		outcome = "A guarantee was violated."
	}
	c.text(margin, c.y+14, "title", title)
	c.text(margin, c.y+34, "soft", outcome)
	c.y += 52
	c.timeline(rec, v)
	c.marks(rec)
	c.legend(v)

	var told []string
	for _, p := range v.promises {
		told = append(told, p.text)
		if p.broken != "" {
			told[len(told)-1] += " (broken: " + p.broken + ")"
		}
	}
	var doc strings.Builder
	fmt.Fprintf(&doc, `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %d %.0f" width="%d" height="%.0f"`+
		` role="img" aria-labelledby="title desc">`+"\n", width, c.y, shownWidth, c.y*shownWidth/width)
	fmt.Fprintf(&doc, "<title id=\"title\">%s</title>\n", escape(title))
	fmt.Fprintf(&doc, "<desc id=\"desc\">%s</desc>\n", escape(
		"A timeline, one row for each process, with the number of permits in use below. "+
			outcome+" "+strings.Join(told, "; ")+"."))
	fmt.Fprintf(&doc, "<style>%s</style>\n%s</svg>\n", stylesheet, c.b.String())
	return []byte(doc.String())
}

// timeline draws the rows, and below them the number of permits in use.
func (c *canvas) timeline(rec *record, v verdict) {
	spans := rec.spans()
	steps := stepsOf(spans)
	most := rec.capacity
	for _, s := range steps {
		most = max(most, int64(s.holders))
	}
	most = min(most, rec.capacity+int64(rec.workers))
	unit := min(16, 80/float64(most))
	top := c.y + 22
	base := top + float64(rec.workers*rowHeight) + 18 + unit*float64(most)
	height := func(n int64) float64 { return base - unit*float64(n) }

	for at, every := time.Duration(0), terminal.Tick(c.end, time.Second, 8); at <= c.end; at += every {
		fmt.Fprintf(&c.b, `<path class="grid" d="M%.1f %.1fV%.1f"/>`+"\n", c.x(at), top, base)
		c.text(c.x(at), base+17, "soft middle", terminal.Label(at))
	}
	for _, o := range v.over {
		c.rect("band", o, top, base-top)
	}
	for i := range rec.workers {
		c.text(left-12, rowTop(top, i)+11.5, "end", fmt.Sprintf("worker %d", i+1))
	}
	for _, s := range spans {
		y := rowTop(top, s.row)
		middle := y + barHeight/2
		switch s.kind {
		case waits:
			c.rect("waits", s.interval, middle-2, 4)
		case holds:
			c.rect("holds", s.interval, y, barHeight)
			for _, o := range v.over {
				c.rect("over", interval{max(s.from, o.from), min(s.to, o.to)}, y, barHeight)
			}
		case away:
			c.rect("away", s.interval, y, barHeight)
		case dead:
			fmt.Fprintf(&c.b, `<path class="dead" d="M%.1f %.1fH%.1f"/>`+"\n", c.x(s.from), middle, c.x(s.to))
		case frozen:
			fmt.Fprintf(&c.b, `<path class="frozen" d="M%.1f %.1fH%.1f"/>`+"\n", c.x(s.from), middle, c.x(s.to))
		}
	}
	for i, m := range rec.marks {
		x := c.x(m.at)
		fmt.Fprintf(&c.b, `<path class="mark" d="M%.1f %.1fV%.1f"/>`+"\n", x, top-6, base)
		fmt.Fprintf(&c.b, `<circle class="disc" cx="%.1f" cy="%.1f" r="8"/>`+"\n", x, top-12)
		c.text(x, top-8, "number", fmt.Sprint(i+1))
	}

	c.text(left-12, height(rec.capacity)+4, "end", "capacity")
	c.text(left-12, max(base+4, height(rec.capacity)+19), "soft end", "in use")
	line := fmt.Sprintf("M%d %.1f", left, base)
	for _, s := range steps {
		line += fmt.Sprintf("H%.1fV%.1f", c.x(s.at), height(int64(s.holders)))
	}
	fmt.Fprintf(&c.b, `<path class="line" d="%s"/>`+"\n", line)
	limit := fmt.Sprintf("M%d %.1f", left, height(rec.capacity))
	for _, l := range rec.limits {
		limit += fmt.Sprintf("H%.1fV%.1f", c.x(max(l.at, 0)), height(l.capacity))
	}
	fmt.Fprintf(&c.b, `<path class="capacity" d="%sH%d"/>`+"\n", limit, right)
	c.y = base + 24
}

func rowTop(top float64, row int) float64 {
	return top + float64(row*rowHeight) + (rowHeight-barHeight)/2
}

// marks explains the numbers, in two columns.
func (c *canvas) marks(rec *record) {
	c.y += 8
	half := (len(rec.marks) + 1) / 2
	for i, m := range rec.marks {
		x, y := float64(margin), c.y+float64(i%half)*20
		if i >= half {
			x += width / 2
		}
		fmt.Fprintf(&c.b, `<circle class="disc" cx="%.1f" cy="%.1f" r="8"/>`+"\n", x+8, y+10)
		c.text(x+8, y+14, "number", fmt.Sprint(i+1))
		c.text(x+28, y+14.5, "soft", m.text)
	}
	c.y += float64(half) * 20
}

// legend explains the colors, in as many lines as needed.
func (c *canvas) legend(v verdict) {
	x := float64(margin)
	entries := []struct{ class, text string }{
		{"waits", "waits"}, {"holds", "holds"}, {"away", "holds, but killed or stopped"},
		{"dead", "killed"}, {"frozen", "stopped"},
	}
	if len(v.over) > 0 {
		entries = append(entries, struct{ class, text string }{"over", "holds, above the capacity"})
	}
	for _, entry := range entries {
		wide := 28 + 7.5*float64(len(entry.text))
		if x+wide > width {
			x, c.y = margin, c.y+20
		}
		if entry.class == "dead" || entry.class == "frozen" {
			fmt.Fprintf(&c.b, `<path class="%s" d="M%.1f %.1fh20"/>`+"\n", entry.class, x, c.y+19)
		} else {
			fmt.Fprintf(&c.b, `<rect class="%s" x="%.1f" y="%.1f" width="20" height="10" rx="2"/>`+"\n", entry.class, x, c.y+14)
		}
		c.text(x+28, c.y+23, "soft", entry.text)
		x += wide + 22
	}
	c.y += 40
}

// x returns the x coordinate of a time.
func (c *canvas) x(at time.Duration) float64 {
	return left + (right-left)*float64(at)/float64(c.end)
}

func (c *canvas) rect(class string, i interval, y, height float64) {
	if i.from < i.to {
		fmt.Fprintf(&c.b, `<rect class="%s" x="%.1f" y="%.1f" width="%.1f" height="%.1f" rx="1"/>`+"\n",
			class, c.x(i.from), y, c.x(i.to)-c.x(i.from), height)
	}
}

func (c *canvas) text(x, y float64, class, text string) {
	fmt.Fprintf(&c.b, `<text class="%s" x="%.1f" y="%.1f">%s</text>`+"\n", class, x, y, escape(text))
}

func escape(text string) string {
	var b strings.Builder
	_ = xml.EscapeText(&b, []byte(text)) // a Builder never fails
	return b.String()
}
