package condvardebug

import (
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"example.com/condvar/internal/watch"
)

const (
	samplePeriod = time.Second
	columnPeriod = 5 * time.Second
	columns      = 60 // five minutes
)

// A history has the samples of the resources of one name in the last five
// minutes. It has a fixed size.
type history struct {
	// Number of the newest column: Unix time divided by columnPeriod.
	newest   int64
	columns  [columns]column
	rejected int64 // as of the last sample
	began    bool
}

// A column summarizes the samples of columnPeriod: the largest of each value,
// so that no peak is lost, and how many calls were rejected.
type column struct {
	sampled                            bool
	Capacity, InUse, Waiting, Rejected float64
}

func (h *history) add(now time.Time, sum *watch.Sum) {
	number := now.Unix() / int64(columnPeriod/time.Second)
	h.advance(number)
	c := &h.columns[columns-1]
	c.sampled = true
	c.Capacity = max(c.Capacity, sum.Capacity)
	c.InUse = max(c.InUse, sum.InUse)
	c.Waiting = max(c.Waiting, sum.Waiting)
	if h.began {
		c.Rejected += float64(max(0, sum.Rejected-h.rejected))
	}
	h.rejected, h.began = sum.Rejected, true
}

// advance makes the column of the given number the newest.
func (h *history) advance(number int64) {
	if steps := number - h.newest; steps > 0 {
		kept := h.columns[min(steps, columns):]
		next := [columns]column{}
		copy(next[:], kept)
		h.columns, h.newest = next, number
	}
}

// at returns the chart at the given time, or nil if there are no samples.
func (h *history) at(now time.Time) *chart {
	if h == nil {
		return nil
	}
	shown := *h
	shown.advance(now.Unix() / int64(columnPeriod/time.Second))
	c := chart(shown.columns)
	if !c.any(func(c column) bool { return c.sampled }) {
		return nil
	}
	return &c
}

// A chart has the columns of the last five minutes, the oldest first.
type chart [columns]column

func (c *chart) any(f func(column) bool) bool {
	for _, column := range c {
		if f(column) {
			return true
		}
	}
	return false
}

func (c *chart) largest(f func(column) float64) (largest float64) {
	for _, column := range c {
		largest = max(largest, f(column))
	}
	return largest
}

func ofCapacity(c column) float64 { return c.Capacity }
func ofInUse(c column) float64    { return c.InUse }
func ofWaiting(c column) float64  { return c.Waiting }
func ofRejected(c column) float64 { return c.Rejected }

// The pictures are 300 wide, 5 for each column, and 40 high. Above that there
// is room for marks.
const (
	columnWidth = 5
	height      = 40
)

// Permits is the scale of the picture of permits: the largest capacity or use.
func (c *chart) Permits() float64 { return max(c.largest(ofCapacity), c.largest(ofInUse)) }

// Calls is the scale of the picture of calls: the largest number of waiting
// calls.
func (c *chart) Calls() float64 { return c.largest(ofWaiting) }

// Rejected is how many calls were rejected.
func (c *chart) Rejected() (sum float64) {
	for _, column := range c {
		sum += column.Rejected
	}
	return sum
}

// InUse is a path for the area of permits in use.
func (c *chart) InUse() string { return c.area(c.Permits(), ofInUse) }

// Waiting is a path for the area of waiting calls.
func (c *chart) Waiting() string { return c.area(c.Calls(), ofWaiting) }

// Capacity is a path for the line of the capacity.
func (c *chart) Capacity() string {
	var b strings.Builder
	scale := c.Permits()
	for i, column := range c {
		if !column.sampled || scale == 0 {
			continue
		}
		verb := 'L'
		if i == 0 || !c[i-1].sampled {
			verb = 'M'
		}
		y := height * (1 - column.Capacity/scale)
		fmt.Fprintf(&b, "%c%d %.1fH%d", verb, columnWidth*i, y, columnWidth*(i+1))
	}
	return b.String()
}

// area returns a path of a bar for each column.
func (c *chart) area(scale float64, f func(column) float64) string {
	var b strings.Builder
	for i, column := range c {
		if v := f(column); v > 0 {
			// A value above 0 is visible.
			fmt.Fprintf(&b, "M%d %dV%.1fh%dV%dz", columnWidth*i, height, min(height-1, height*(1-v/scale)), columnWidth, height)
		}
	}
	return b.String()
}

// Rejections is a path of a mark for each column in which calls were rejected.
func (c *chart) Rejections() string {
	var b strings.Builder
	for i, column := range c {
		if column.Rejected > 0 {
			fmt.Fprintf(&b, "M%d -8h%dv5h-%dz", columnWidth*i, columnWidth-1, columnWidth-1)
		}
	}
	return b.String()
}

// Bars is a line of characters that shows the permits in use since the first
// sample.
func (c *chart) Bars() string {
	const letters = "▁▂▃▄▅▆▇█"
	all := []rune(letters)
	var bars []rune
	for _, column := range c {
		switch scale := c.Permits(); {
		case column.sampled && scale > 0:
			bars = append(bars, all[int(column.InUse/scale*float64(len(all)-1))])
		case column.sampled:
			bars = append(bars, all[0])
		case len(bars) > 0:
			bars = append(bars, ' ')
		}
	}
	return strings.TrimRight(string(bars), " ")
}

// PermitsText says what the picture of permits shows.
func (c *chart) PermitsText() string {
	return fmt.Sprintf("Permits in the last five minutes: at most %v in use, capacity at most %v",
		number(c.largest(ofInUse)), number(c.largest(ofCapacity)))
}

// CallsText says what the picture of calls shows.
func (c *chart) CallsText() string {
	return fmt.Sprintf("Calls in the last five minutes: at most %v waiting, %v rejected", number(c.Calls()), number(c.Rejected()))
}

// MarshalJSON returns null for columns without a sample.
func (c *chart) MarshalJSON() ([]byte, error) {
	line := func(f func(column) float64) []*float64 {
		values := make([]*float64, columns)
		for i, column := range c {
			if column.sampled {
				v := f(column)
				values[i] = &v
			}
		}
		return values
	}
	return json.Marshal(struct {
		Seconds  seconds    `json:"seconds_per_column"`
		Capacity []*float64 `json:"capacity"`
		InUse    []*float64 `json:"in_use"`
		Waiting  []*float64 `json:"waiting_calls"`
		Rejected []*float64 `json:"rejected_calls"`
	}{seconds(columnPeriod), line(ofCapacity), line(ofInUse), line(ofWaiting), line(ofRejected)})
}
