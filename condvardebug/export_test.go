package condvardebug

import (
	"errors"
	"strings"
)

// What the tests see of the inside.

type (
	Site    = site
	Seconds = seconds
)

func ParseDump(dump string) []Site { return parseDump(dump) }

func DumpGoroutines(limit int) (dump string, cut bool) { return dumpGoroutines(limit) }

func CondvarPackage() string { return condvarPackage() }

func GoroutineID() uint64 { return goroutineID() }

// Sizes returns how many resources, sets of holders and goroutines that hold d
// knows, collected ones included.
func (d *Debugger) Sizes() (sizes [3]int) {
	d.mu.Lock()
	defer d.mu.Unlock()
	sizes[0], sizes[1] = len(d.tracked), len(d.holders)
	for s := range d.holders {
		s.mu.Lock()
		sizes[2] += len(s.byGoroutine)
		s.mu.Unlock()
	}
	return sizes
}

// IsRecorded reports whether there is a record of a goroutine.
func (d *Debugger) IsRecorded(goroutine uint64) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	for s := range d.holders {
		s.mu.Lock()
		n := len(s.byGoroutine[goroutine])
		s.mu.Unlock()
		if n > 0 {
			return true
		}
	}
	return false
}

// ForgetUpTo is what a release does that found the resource idle, when the latest
// record was the one with that number.
func (d *Debugger) ForgetUpTo(latest uint64) {
	for s := range d.holders {
		s.forget(latest)
	}
}

func Merge(all []Site) []Site { return merge(all) }

// IncompletePages returns the page in HTML and as text, when the dump was too large.
func IncompletePages() (html, text string, err error) {
	var h, t strings.Builder
	s := &snapshot{Incomplete: true}
	err = errors.Join(writeHTML(&h, page{snapshot: s}), writeText(&t, s))
	return h.String(), t.String(), err
}

const (
	MaxHolders = maxHolders
	MaxSamples = maxSamples
)
