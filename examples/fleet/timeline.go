//go:build unix

package main

import (
	"cmp"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"
)

const (
	waits  = '░'
	holds  = '█'
	away   = '▒' // what a process holds that was killed or is stopped
	dead   = 'x'
	frozen = 's'
)

func legend() string {
	return fmt.Sprintf("%c waits  %c holds  %c holds, but killed or stopped  %c killed  %c stopped",
		waits, holds, away, dead, frozen)
}

// A style is what a color terminal makes of some text.
type style string

const (
	plain style = ""
	bold  style = "1"
	faint style = "2"
	good  style = "32"
	bad   style = "1;31"
	gone  style = "33"
)

// paint returns text in style s, if there are colors.
func paint(color bool, s style, text string) string {
	if !color || s == plain {
		return text
	}
	return "\x1b[" + string(s) + "m" + text + "\x1b[0m"
}

// A span is what a worker did for a while: one of the constants above.
type span struct {
	interval
	row  int
	kind rune
}

// has reports whether at is in i.
func (i interval) has(at time.Duration) bool { return i.from <= at && at < i.to }

// spans returns what all workers did, in the order of time. Those of one row do
// not overlap.
func (rec *record) spans() []span {
	var all []span
	add := func(row int, kind rune, from, to time.Duration) {
		if from < to {
			all = append(all, span{interval{from, to}, row, kind})
		}
	}
	for _, p := range rec.processes {
		// While the process was away it did nothing, whatever it believed.
		absence := interval{rec.end, rec.end}
		kind := rune(frozen)
		if !p.stoppedAt.IsZero() {
			absence.from = p.stoppedAt.Sub(rec.start)
			absence.to = p.resumedAt.Sub(rec.start)
		}
		if !p.killedAt.IsZero() && !p.overdue {
			kind = dead
			absence.to = rec.end
			for _, next := range rec.processes { // the one that takes its place
				if next.row == p.row && next != p && len(next.entries) > 0 {
					absence.to = next.entries[0].at.Sub(rec.start)
				}
			}
		}
		present := func(kind rune, from, to time.Duration) {
			add(p.row, kind, from, min(to, absence.from))
			add(p.row, kind, max(from, absence.to), to)
		}
		back := absence.from // when etcd has taken back what it held
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

// backAt returns when etcd took back the ticket with that token: when we heard
// of it, or somebody else believed to have it before that.
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

// endOf returns until when a worker waits that got nothing.
func (rec *record) endOf() time.Duration {
	if n := len(rec.marks); n > 0 { // the drain
		return rec.marks[n-1].at
	}
	return rec.end
}

// A step is a moment from which on, up to the next step, so many hold permits.
type step struct {
	at      time.Duration
	holders int
}

// stepsOf returns how the number of holders went. The first step is at 0.
func stepsOf(spans []span) []step {
	var changes []step // holders: by how much
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

// moments returns the moment that each column shows: of the time that it stands
// for, the one at which most hold permits, so that what is too much is not lost
// between two columns.
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

// capacityAt returns the capacity at a moment.
func (rec *record) capacityAt(at time.Duration) int64 {
	capacity := rec.capacity
	for _, l := range rec.limits {
		if l.at <= at {
			capacity = l.capacity
		}
	}
	return capacity
}

// draw writes a timeline of so many columns, one row for each worker, the
// number of holders and the capacity below.
func (rec *record) draw(w io.Writer, v verdict, columns int, color bool) {
	indent := len(fmt.Sprintf("worker %d", rec.workers)) + 2
	columns -= indent
	spans := rec.spans()
	shown := moments(stepsOf(spans), rec.end, columns)
	isOver := func(at time.Duration) bool {
		return slices.ContainsFunc(v.over, func(i interval) bool { return i.has(at) })
	}
	styles := map[rune]style{waits: faint, holds: good, away: gone, dead: bad, frozen: gone}

	row := func(name string, cell func(step) (rune, style)) {
		fmt.Fprintf(w, "%-*s%s\n", indent, name, cells(shown, color, cell))
	}
	for i := range rec.workers {
		row(fmt.Sprintf("worker %d", i+1), func(m step) (rune, style) {
			for _, s := range spans {
				if s.row == i && s.has(m.at) {
					if s.kind == holds && isOver(m.at) {
						return holds, bad
					}
					return s.kind, styles[s.kind]
				}
			}
			return ' ', plain
		})
	}
	row("in use", func(m step) (rune, style) {
		if isOver(m.at) {
			return digit(int64(m.holders)), bad
		}
		return digit(int64(m.holders)), plain
	})
	row("of", func(m step) (rune, style) { return digit(rec.capacityAt(m.at)), faint })
	if len(v.over) > 0 {
		row("too many", func(m step) (rune, style) {
			if isOver(m.at) {
				return '^', bad
			}
			return ' ', plain
		})
	}
	fmt.Fprintf(w, "%*s%s\n", indent, "", paint(color, faint, axis(rec.end, columns)))
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

func digit(n int64) rune {
	if n > 9 {
		return '+'
	}
	return '0' + rune(n)
}

// axis returns a line that tells the time.
func axis(end time.Duration, columns int) string {
	line := []rune(strings.Repeat(" ", columns))
	for at, every := time.Duration(0), tick(end, columns/6); at < end; at += every {
		label := []rune("|" + tickLabel(at))
		column := int(at * time.Duration(columns) / end)
		if column+len(label) <= columns {
			copy(line[column:], label)
		}
	}
	return strings.TrimRight(string(line), " ")
}

// tick returns a number of seconds that divides end into at most n parts.
func tick(end time.Duration, n int) time.Duration {
	for unit := time.Second; ; unit *= 10 {
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
