// Package terminal draws timelines as text, for the examples.
package terminal

import (
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"time"
)

// Is reports whether w is a terminal that moves its cursor and knows colors.
func Is(w io.Writer, getenv func(string) string) bool {
	f, ok := w.(*os.File)
	if !ok || getenv("TERM") == "dumb" {
		return false
	}
	info, err := f.Stat()
	return err == nil && info.Mode()&os.ModeCharDevice != 0
}

// HasColor reports whether output to w may be colored.
func HasColor(w io.Writer, getenv func(string) string) bool {
	return Is(w, getenv) && getenv("NO_COLOR") == ""
}

// Columns returns how wide a timeline may be.
func Columns(getenv func(string) string) int {
	n, err := strconv.Atoi(getenv("COLUMNS"))
	if err != nil {
		return 72
	}
	return min(max(n, 40), 240)
}

// CheckWritable returns an error if a picture cannot be written to the file of
// that name. An empty name is no file.
func CheckWritable(name string) error {
	if name == "" {
		return nil
	}
	f, err := os.OpenFile(name, os.O_WRONLY|os.O_CREATE, 0o666)
	if err != nil {
		return fmt.Errorf("cannot write the picture: %w", err)
	}
	return f.Close()
}

// A Style is a style of text on a color terminal.
type Style string

// The styles.
const (
	Plain  Style = ""
	Bold   Style = "1"
	Faint  Style = "2"
	Green  Style = "32"
	Yellow Style = "33"
	Red    Style = "1;31"
)

// Paint returns text in style s, if there are colors.
func Paint(color bool, s Style, text string) string {
	if !color || s == Plain {
		return text
	}
	return "\x1b[" + string(s) + "m" + text + "\x1b[0m"
}

// Row returns the cells of all moments, without trailing blanks.
func Row[T any](moments []T, color bool, cell func(T) (rune, Style)) string {
	var (
		row, run strings.Builder
		current  Style
	)
	flush := func() {
		if run.Len() > 0 {
			row.WriteString(Paint(color, current, run.String()))
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

// Digit returns the digit for n, or a plus sign if n has several.
func Digit(n int) rune {
	if n > 9 {
		return '+'
	}
	return '0' + rune(n)
}

// Axis returns a line of that width with a label at each multiple of every.
func Axis(end, every time.Duration, columns int) string {
	line := []rune(strings.Repeat(" ", columns))
	for at := time.Duration(0); at < end; at += every {
		label := []rune("|" + Label(at))
		column := int(at * time.Duration(columns) / end)
		if column+len(label) <= columns {
			copy(line[column:], label)
		}
	}
	return strings.TrimRight(string(line), " ")
}

// Tick returns a round multiple of unit that divides end into at most n parts.
func Tick(end, unit time.Duration, n int) time.Duration {
	for ; ; unit *= 10 {
		for _, every := range []time.Duration{unit, 2 * unit, 5 * unit} {
			if every*time.Duration(n) >= end {
				return every
			}
		}
	}
}

// Label returns the text of a time on an axis.
func Label(at time.Duration) string {
	if at == 0 {
		return "0"
	}
	return at.String()
}
