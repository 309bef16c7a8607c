package condvardebug

import (
	"strings"
	"time"

	"example.com/condvar/internal/watch"
)

// Access to internals for tests.

func GoroutineID() uint64 { return goroutineID() }

// Sizes returns how many sets of records and histories d has, and how many
// goroutines the records have, including those of collected resources.
func (d *Debugger) Sizes() (sizes [3]int) {
	d.mu.Lock()
	defer d.mu.Unlock()
	sizes[0], sizes[1] = len(d.records), len(d.histories)
	for s := range d.records {
		s.mu.Lock()
		sizes[2] += len(s.byGoroutine)
		s.mu.Unlock()
	}
	return sizes
}

// Sample does what Run does each second.
func (d *Debugger) Sample() { d.sample(time.Now()) }

// PageWithAllLocksHeld returns the page as text. It is formatted while all
// locks are held that calls of watched resources take.
func (d *Debugger) PageWithAllLocksHeld() string {
	copied := d.copy()
	d.mu.Lock()
	defer d.mu.Unlock()
	for s := range d.records {
		s.mu.Lock()
		defer s.mu.Unlock()
	}
	var text, html strings.Builder
	s := newSnapshot(copied)
	_ = page{Snapshot: s}.writeText(&text)
	_ = page{Snapshot: s}.writeHTML(&html)
	return text.String()
}

// Deadlock reports whether a page whose copy began at the given time shows a
// deadlock.
func (d *Debugger) Deadlock(name string, began time.Time) bool {
	copied := d.copy()
	copied.began = began
	for _, r := range newSnapshot(copied).Resources {
		if r.Name == name {
			return r.Deadlock
		}
	}
	return false
}

// StacksTaken returns how often all stacks were taken.
func (d *Debugger) StacksTaken() int {
	d.stacks.mu.Lock()
	defer d.stacks.mu.Unlock()
	return d.stacks.taken
}

// StacksBeyond returns the view of stacks in all formats, with a limit that the
// number of goroutines exceeds.
func StacksBeyond(limit int) (html, text string, blocked int) {
	s := takeStacks(limit)
	var h, b strings.Builder
	_ = page{Stacks: s}.writeHTML(&h)
	_ = page{Stacks: s}.writeText(&b)
	return h.String(), b.String(), len(s.Blocked)
}

// A History is the data of a chart.
type History struct{ history }

func (h *History) Add(now time.Time, sum watch.Sum) { h.add(now, &sum) }

func (h *History) At(now time.Time) *chart { return h.at(now) }

var (
	Cut        = cut
	ParseStart = parseStart
)

const (
	MaxHolds      = maxHolds
	MaxSites      = maxSites
	MaxGoroutines = maxGoroutines
)
