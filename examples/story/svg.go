package main

import (
	"encoding/xml"
	"fmt"
	"strings"
	"time"

	"example.com/condvar/internal/terminal"
)

// Measures of the picture. It is drawn small and shown larger, so that its text
// is legible on narrow pages.
const (
	width      = 500
	shownWidth = 750
	margin     = 16
	left       = 88         // x of the start of the time
	right      = width - 24 // x of its end
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
.waits { fill: #818b98; fill-opacity: .4 }
.holds { fill: #218bff }
.over { fill: #e5484d }
.band { fill: #e5484d; fill-opacity: .1 }
.line { fill: none; stroke: #218bff; stroke-width: 2 }
.capacity { stroke: #1f2328; stroke-dasharray: 5 4 }
@media (prefers-color-scheme: dark) {
text { fill: #e6edf3 }
.soft { fill: #9198a1 }
.capacity { stroke: #e6edf3 }
}
`

// A canvas collects the elements of a picture from top to bottom.
type canvas struct {
	b   strings.Builder
	y   float64       // y of the next element
	end time.Duration // the time at right
}

// picture returns both timelines as an SVG document, on the same scale of time.
func picture(event, capacity result) []byte {
	c := &canvas{y: 16, end: max(event.shown.end(), capacity.shown.end(), 1)}
	c.panel(event)
	c.y += 20
	c.panel(capacity)
	c.legend()

	workers, slots := len(event.shown.laps), event.shown.slots
	var doc strings.Builder
	fmt.Fprintf(&doc, `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %d %.0f" width="%d" height="%.0f"`+
		` role="img" aria-labelledby="title desc">`+"\n", width, c.y, shownWidth, c.y*shownWidth/width)
	fmt.Fprintf(&doc, "<title id=\"title\">%s</title>\n",
		escape(fmt.Sprintf("%s compete for %s", count(workers, "worker"), count(slots, "slot"))))
	fmt.Fprintf(&doc, "<desc id=\"desc\">%s</desc>\n", escape(fmt.Sprintf(
		"Two timelines, one row for each worker, with the number of holders below. "+
			"%s: %s. %s: %s.", event.title, event.verdict(), capacity.title, capacity.verdict())))
	fmt.Fprintf(&doc, "<style>%s</style>\n%s</svg>\n", stylesheet, c.b.String())
	return []byte(doc.String())
}

// panel draws one timeline.
func (c *canvas) panel(r result) {
	t, steps := r.shown, r.shown.steps()
	shown := "the last"
	if r.over > 0 {
		shown = "the worst"
	}
	verdict := r.verdict()
	c.text(margin, c.y+14, "title", r.title)
	c.text(margin, c.y+34, "soft", strings.ToUpper(verdict[:1])+verdict[1:]+".")
	c.text(margin, c.y+52, "soft", fmt.Sprintf("Shown: round %s, %s.", thousands(t.round), shown))
	c.y += 64

	// The number of holders, as wide as there is room.
	most := t.slots
	for _, s := range steps {
		most = max(most, s.holders)
	}
	unit := min(16, 80/float64(most))
	top := c.y
	rows := float64(len(t.laps)*rowHeight) + 18
	base := top + rows + unit*float64(most)
	height := func(holders int) float64 { return base - unit*float64(holders) }

	every := terminal.Tick(c.end, 1, 6)
	for at := time.Duration(0); at <= c.end; at += every {
		fmt.Fprintf(&c.b, `<path class="grid" d="M%.1f %.1fV%.1f"/>`+"\n", c.x(at), top, base)
		c.text(c.x(at), base+17, "soft middle", terminal.Label(at))
	}
	over := t.over()
	for _, o := range over {
		c.rect("band", o.from, o.to, top, base-top)
	}
	for i, laps := range t.laps {
		y := top + float64(i*rowHeight+(rowHeight-barHeight)/2)
		c.text(left-12, y+11.5, "end", fmt.Sprintf("worker %d", i+1))
		for _, l := range laps {
			c.rect("waits", l.want, l.got, y+barHeight/2-2, 4)
			c.rect("holds", l.got, l.gave, y, barHeight)
			for _, o := range over {
				if from, to := max(l.got, o.from), min(l.gave, o.to); from < to {
					c.rect("over", from, to, y, barHeight)
				}
			}
		}
	}

	limit := height(t.slots)
	c.text(left-12, limit+4, "end", count(t.slots, "slot"))
	c.text(left-12, max(base+4, limit+19), "soft end", "holders")
	line := fmt.Sprintf("M%d %.1f", left, base)
	excess := fmt.Sprintf("M%d %.1f", left, limit)
	for _, s := range steps {
		line += fmt.Sprintf("H%.1fV%.1f", c.x(s.at), height(s.holders))
		excess += fmt.Sprintf("H%.1fV%.1f", c.x(s.at), min(height(s.holders), limit))
	}
	fmt.Fprintf(&c.b, `<path class="over" d="%sZ"/>`+"\n", excess)
	fmt.Fprintf(&c.b, `<path class="line" d="%s"/>`+"\n", line)
	fmt.Fprintf(&c.b, `<path class="capacity" d="M%d %.1fH%d"/>`+"\n", left, limit, right)
	c.y = base + 24
}

// legend explains the colors, in as many lines as it takes.
func (c *canvas) legend() {
	x := float64(margin)
	for _, entry := range []struct{ class, text string }{
		{"waits", "waits for a slot"}, {"holds", "holds a slot"}, {"over", "holds a slot while too many do"},
	} {
		wide := 28 + 7.5*float64(len(entry.text))
		if x+wide > width {
			x, c.y = margin, c.y+20
		}
		fmt.Fprintf(&c.b, `<rect class="%s" x="%.1f" y="%.1f" width="20" height="10" rx="2"/>`+"\n", entry.class, x, c.y+14)
		c.text(x+28, c.y+23, "soft", entry.text)
		x += wide + 22
	}
	c.y += 40
}

// x returns the coordinate of a moment.
func (c *canvas) x(at time.Duration) float64 {
	return left + (right-left)*float64(at)/float64(c.end)
}

func (c *canvas) rect(class string, from, to time.Duration, y, height float64) {
	if from < to {
		fmt.Fprintf(&c.b, `<rect class="%s" x="%.1f" y="%.1f" width="%.1f" height="%.1f" rx="2"/>`+"\n",
			class, c.x(from), y, c.x(to)-c.x(from), height)
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
