package main

import (
	"fmt"
	"io"
	"strings"
	"time"
)

const (
	waits = '░'
	holds = '█'
)

// A style is a style of text on a color terminal.
type style string

const (
	plain style = ""
	bold  style = "1"
	faint style = "2"
	good  style = "32"
	bad   style = "1;31"
)

// paint returns text in style s, if there are colors.
func paint(color bool, s style, text string) string {
	if !color || s == plain {
		return text
	}
	return "\x1b[" + string(s) + "m" + text + "\x1b[0m"
}

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

	row := func(name string, cell func(step) (rune, style)) {
		fmt.Fprintf(w, "%-*s%s\n", indent, name, cells(moments, color, cell))
	}
	for i, laps := range t.laps {
		row(fmt.Sprintf("worker %d", i+1), func(m step) (rune, style) {
			for _, l := range laps {
				switch {
				case l.want <= m.at && m.at < l.got:
					return waits, faint
				case l.got <= m.at && m.at < l.gave && m.holders > t.slots:
					return holds, bad
				case l.got <= m.at && m.at < l.gave:
					return holds, good
				}
			}
			return ' ', plain
		})
	}
	over := false
	row("holders", func(m step) (rune, style) {
		switch {
		case m.holders > t.slots:
			over = true
			return digit(m.holders), bad
		default:
			return digit(m.holders), plain
		}
	})
	if over {
		row("too many", func(m step) (rune, style) {
			if m.holders > t.slots {
				return '^', bad
			}
			return ' ', plain
		})
	}
	fmt.Fprintf(w, "%*s%s\n", indent, "", paint(color, faint, axis(end, columns)))
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

// cells returns a row of cells, blanks at its end removed.
func cells(moments []step, color bool, cell func(step) (rune, style)) string {
	var (
		row, run strings.Builder
		current  style
	)
	flush := func() {
		if run.Len() > 0 {
			row.WriteString(paint(color, current, run.String()))
			run.Reset()
		}
	}
	for _, m := range moments {
		r, s := cell(m)
		if s != current {
			flush()
			current = s
		}
		run.WriteRune(r)
	}
	flush()
	return strings.TrimRight(row.String(), " ")
}

func digit(n int) rune {
	if n > 9 {
		return '+'
	}
	return '0' + rune(n)
}

// axis returns a line with the time.
func axis(end time.Duration, columns int) string {
	line := []rune(strings.Repeat(" ", columns))
	for at, every := time.Duration(0), tick(end, columns/10); at < end; at += every {
		label := []rune("|" + tickLabel(at))
		column := int(at * time.Duration(columns) / end)
		if column+len(label) <= columns {
			copy(line[column:], label)
		}
	}
	return strings.TrimRight(string(line), " ")
}

// tick returns a round interval that divides end into at most n parts.
func tick(end time.Duration, n int) time.Duration {
	for unit := time.Duration(1); ; unit *= 10 {
		for _, every := range []time.Duration{unit, 2 * unit, 5 * unit} {
			if every*time.Duration(n) >= end {
				return every
			}
		}
	}
}

func tickLabel(at time.Duration) string {
	if at == 0 {
		return "0"
	}
	return at.String()
}
