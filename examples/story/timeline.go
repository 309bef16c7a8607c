package main

import (
	"fmt"
	"io"
	"time"

	"example.com/condvar/internal/terminal"
)

const (
	waits = '░'
	holds = '█'
)

// draw writes t as a timeline of the given number of columns, one row for each
// worker, with the number of holders below. Every column shows one moment of
// its interval: the one with the most holders, so that no excess is lost
// between two columns.
func (t *trace) draw(w io.Writer, columns int, color bool) {
	last := fmt.Sprintf("worker %d", len(t.laps))
	indent := len(last) + 2
	columns -= indent
	end := t.end()
	moments := t.moments(columns)

	row := func(name string, cell func(step) (rune, terminal.Style)) {
		fmt.Fprintf(w, "%-*s%s\n", indent, name, terminal.Row(moments, color, cell))
	}
	for i, laps := range t.laps {
		row(fmt.Sprintf("worker %d", i+1), func(m step) (rune, terminal.Style) {
			for _, l := range laps {
				switch {
				case l.want <= m.at && m.at < l.got:
					return waits, terminal.Faint
				case l.got <= m.at && m.at < l.gave && m.holders > t.slots:
					return holds, terminal.Red
				case l.got <= m.at && m.at < l.gave:
					return holds, terminal.Green
				}
			}
			return ' ', terminal.Plain
		})
	}
	over := false
	row("holders", func(m step) (rune, terminal.Style) {
		switch {
		case m.holders > t.slots:
			over = true
			return terminal.Digit(m.holders), terminal.Red
		default:
			return terminal.Digit(m.holders), terminal.Plain
		}
	})
	if over {
		row("too many", func(m step) (rune, terminal.Style) {
			if m.holders > t.slots {
				return '^', terminal.Red
			}
			return ' ', terminal.Plain
		})
	}
	fmt.Fprintf(w, "%*s%s\n", indent, "", terminal.Paint(color, terminal.Faint, terminal.Axis(end, terminal.Tick(end, 1, columns/10), columns)))
}

// moments returns the moment that each column shows.
func (t *trace) moments(columns int) []step {
	steps, end := t.steps(), t.end()
	moments := make([]step, columns)
	next := 0 // the first step after the column's start
	for i := range moments {
		from, to := end*time.Duration(i)/time.Duration(columns), end*time.Duration(i+1)/time.Duration(columns)
		for next < len(steps) && steps[next].at <= from {
			next++
		}
		m := step{from, steps[next-1].holders}
		for j := next; j < len(steps) && steps[j].at < to; j++ {
			if steps[j].holders > m.holders {
				m = steps[j]
			}
		}
		moments[i] = m
	}
	return moments
}
