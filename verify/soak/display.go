package main

import (
	"fmt"
	"io"
	"runtime"
	"strconv"
	"strings"
	"time"
)

// A display shows the progress of a run: with a bar if out is a terminal,
// otherwise with a line every few seconds.
type display struct {
	out      io.Writer
	terminal bool
	shown    time.Time // when it was last shown
	ops      uint64    // number of operations then
}

// progress shows the progress of s, if it is time.
func (d *display) progress(s *soak) {
	every := 5 * time.Second
	if d.terminal {
		every = 500 * time.Millisecond
	}
	now := time.Now()
	if d.shown.IsZero() {
		d.shown = s.started
	}
	since := now.Sub(d.shown)
	if since < every {
		return
	}
	ops := s.ops()
	part := min(1, now.Sub(s.started).Seconds()/s.duration.Seconds())
	rate := float64(ops-d.ops) / 1e6 / since.Seconds()
	d.shown, d.ops = now, ops
	text := fmt.Sprintf("%3.0f %%  %s operations, %.2f million per second, GOMAXPROCS %d",
		100*part, grouped(ops), rate, runtime.GOMAXPROCS(0))
	if d.terminal {
		const width = 24
		full := int(part * width)
		fmt.Fprintf(d.out, "\r[%s%s] %s\x1b[K", strings.Repeat("#", full), strings.Repeat(".", width-full), text)
	} else {
		fmt.Fprintln(d.out, text)
	}
}

// clear removes the bar.
func (d *display) clear() {
	if d.terminal {
		fmt.Fprint(d.out, "\r\x1b[K")
	}
}

// grouped returns n with a comma after each group of three digits.
func grouped(n uint64) string {
	s := strconv.FormatUint(n, 10)
	for i := len(s) - 3; i > 0; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return s
}
