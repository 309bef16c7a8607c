//go:build unix

package main

import (
	"cmp"
	"fmt"
	"io"
	"slices"
	"time"

	"example.com/condvar/internal/terminal"
)

const (
	waits  = '░'
	holds  = '█'
	away   = '▒' // the process was killed or is stopped while it holds a permit
	dead   = 'x'
	frozen = 's'
)

func legend() string {
	return fmt.Sprintf("%c waits  %c holds  %c holds, but killed or stopped  %c killed  %c stopped",
		waits, holds, away, dead, frozen)
}

// A span is what a worker did in an interval. kind is a constant above.
type span struct {
	interval
	row  int
	kind rune
}

// has reports whether at is in i.
func (i interval) has(at time.Duration) bool { return i.from <= at && at < i.to }

// spans returns the spans of all workers, ordered by start. The spans of a row
// do not overlap.
func (rec *record) spans() []span {
	var all []span
	add := func(row int, kind rune, from, to time.Duration) {
		if from < to {
			all = append(all, span{interval{from, to}, row, kind})
		}
	}
	for _, p := range rec.processes {
		// A killed or stopped process does nothing, whatever it has reported.
		absence := interval{rec.end, rec.end}
		kind := rune(frozen)
		if !p.stoppedAt.IsZero() {
			absence.from = p.stoppedAt.Sub(rec.start)
			absence.to = p.resumedAt.Sub(rec.start)
		}
		if !p.killedAt.IsZero() && !p.overdue {
			kind = dead
			absence.to = rec.end
			for _, next := range rec.processes { // the process that replaces it
				if next.row == p.row && next != p && len(next.entries) > 0 {
					absence.to = next.entries[0].at.Sub(rec.start)
				}
			}
		}
		present := func(kind rune, from, to time.Duration) {
			add(p.row, kind, from, min(to, absence.from))
			add(p.row, kind, max(from, absence.to), to)
		}
		back := absence.from // when its permit was free
		var asked, first, latest time.Duration
		var token int64
		flush := func() {
			if token != 0 {
				present(holds, first, latest)
				token = 0
			}
		}
		waiting := false
		for _, e := range p.entries {
			at := e.at.Sub(rec.start)
			if e.kind != looks || e.token != token {
				flush()
			}
			switch e.kind {
			case asks:
				asked, waiting = at, true
			case looks:
				if waiting {
					present(waits, asked, at)
					waiting = false
				}
				if token == 0 {
					first, token = at, e.token
				}
				latest = at
				if at <= absence.from {
					back = max(absence.from, min(rec.backAt(e.token), absence.to))
				}
			}
		}
		flush()
		if waiting {
			present(waits, asked, rec.endOf())
		}
		add(p.row, away, absence.from, back)
		add(p.row, kind, back, absence.to)
	}
	slices.SortStableFunc(all, func(a, b span) int { return cmp.Compare(a.from, b.from) })
	return all
}

// backAt returns when the ticket with that token was deleted: when the watch
// received that, or when another process reported a later grant, if earlier.
func (rec *record) backAt(token int64) time.Duration {
	t := rec.tickets[token]
	if t == nil || t.removed == 0 {
		return rec.end
	}
	at := t.deleted
	for _, b := range rec.beliefs {
		if b.ticket != nil && b.ticket.granted >= t.removed && b.from.Before(at) {
			at = b.from
		}
	}
	return at.Sub(rec.start)
}

// endOf returns the end of a wait without a permit.
func (rec *record) endOf() time.Duration {
	if n := len(rec.marks); n > 0 { // the drain
		return rec.marks[n-1].at
	}
	return rec.end
}

// A step is a change of the number of permits in use.
type step struct {
	at      time.Duration
	holders int
}

// stepsOf returns the steps of the number of holders. The first step is at 0.
func stepsOf(spans []span) []step {
	var changes []step // holders is the difference
	for _, s := range spans {
		if s.kind == holds || s.kind == away {
			changes = append(changes, step{s.from, 1}, step{s.to, -1})
		}
	}
	slices.SortFunc(changes, func(a, b step) int {
		return cmp.Or(cmp.Compare(a.at, b.at), cmp.Compare(a.holders, b.holders))
	})
	steps := []step{{}}
	for _, c := range changes {
		last := &steps[len(steps)-1]
		if last.at == c.at {
			last.holders += c.holders
		} else {
			steps = append(steps, step{c.at, last.holders + c.holders})
		}
	}
	return steps
}

// moments returns the step that each column shows: the step with the most
// holders in the interval of the column, so that no excess is lost between two
// columns.
func moments(steps []step, end time.Duration, columns int) []step {
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

// capacityAt returns the capacity at a time.
func (rec *record) capacityAt(at time.Duration) int64 {
	capacity := rec.capacity
	for _, l := range rec.limits {
		if l.at <= at {
			capacity = l.capacity
		}
	}
	return capacity
}

// draw writes a timeline of that many columns, with a row for each worker, and
// below them the number of holders and the capacity.
func (rec *record) draw(w io.Writer, v verdict, columns int, color bool) {
	indent := len(fmt.Sprintf("worker %d", rec.workers)) + 2
	columns -= indent
	spans := rec.spans()
	shown := moments(stepsOf(spans), rec.end, columns)
	isOver := func(at time.Duration) bool {
		return slices.ContainsFunc(v.over, func(i interval) bool { return i.has(at) })
	}
	styles := map[rune]terminal.Style{waits: terminal.Faint, holds: terminal.Green, away: terminal.Yellow, dead: terminal.Red, frozen: terminal.Yellow}

	row := func(name string, cell func(step) (rune, terminal.Style)) {
		fmt.Fprintf(w, "%-*s%s\n", indent, name, terminal.Row(shown, color, cell))
	}
	for i := range rec.workers {
		row(fmt.Sprintf("worker %d", i+1), func(m step) (rune, terminal.Style) {
			for _, s := range spans {
				if s.row == i && s.has(m.at) {
					if s.kind == holds && isOver(m.at) {
						return holds, terminal.Red
					}
					return s.kind, styles[s.kind]
				}
			}
			return ' ', terminal.Plain
		})
	}
	row("in use", func(m step) (rune, terminal.Style) {
		if isOver(m.at) {
			return terminal.Digit(m.holders), terminal.Red
		}
		return terminal.Digit(m.holders), terminal.Plain
	})
	row("of", func(m step) (rune, terminal.Style) { return terminal.Digit(int(rec.capacityAt(m.at))), terminal.Faint })
	if len(v.over) > 0 {
		row("too many", func(m step) (rune, terminal.Style) {
			if isOver(m.at) {
				return '^', terminal.Red
			}
			return ' ', terminal.Plain
		})
	}
	fmt.Fprintf(w, "%*s%s\n", indent, "", terminal.Paint(color, terminal.Faint, terminal.Axis(rec.end, terminal.Tick(rec.end, time.Second, columns/6), columns)))
}
