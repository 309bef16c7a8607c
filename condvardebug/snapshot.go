package condvardebug

import (
	"cmp"
	"encoding/json"
	"fmt"
	"hash/fnv"
	"path"
	"slices"
	"strings"
	"time"

	"example.com/condvar"
)

// A snapshot is what the page shows; in JSON, it is the page.
type snapshot struct {
	Time       time.Time  `json:"time"`
	Resources  []resource `json:"resources"`
	Fraction   int        `json:"holder_profile_fraction"`
	Holders    []site     `json:"holders"`
	Blocked    []site     `json:"blocked"`
	Incomplete bool       `json:"blocked_incomplete"` // the dump was too large
}

// Full returns the names of the resources that are full.
func (s *snapshot) Full() string {
	var names []string
	for _, r := range s.Resources {
		if r.Full {
			names = append(names, r.Name)
		}
	}
	return cmp.Or(strings.Join(names, ", "), "none")
}

// A resource is what there is to say of a tracked one.
type resource struct {
	Name           string  `json:"name"`
	State          string  `json:"state"`
	Full           bool    `json:"full"`
	Capacity       int64   `json:"capacity"`
	InUse          int64   `json:"in_use"`
	Waiting        int64   `json:"waiting"`
	WaitingPermits int64   `json:"waiting_permits"`
	OldestWait     seconds `json:"oldest_wait_seconds"`
	WaitCount      int64   `json:"wait_count"`
	WaitDuration   seconds `json:"wait_duration_seconds"`
	Canceled       int64   `json:"canceled"`
	History        history `json:"history"`
}

// A site is a place in the code that holds permits of a resource, or where
// goroutines are blocked in a method of condvar.
type site struct {
	Resource   string   `json:"resource,omitempty"` // of holders only, as is Permits
	Permits    int64    `json:"permits,omitempty"`
	Method     string   `json:"method,omitempty"` // of the blocked only, as is State
	State      string   `json:"state,omitempty"`  // as the runtime calls it, such as "select"
	Count      int      `json:"count"`
	Longest    seconds  `json:"longest_seconds"` // of the blocked, in whole minutes
	Goroutines []uint64 `json:"goroutines"`
	Stack      string   `json:"stack"` // in the form of SlowWait.Stack
}

// ID tells sites apart, and is the same in each snapshot.
func (s site) ID() string {
	h := fnv.New64a()
	fmt.Fprintf(h, "%q", s.key())
	return fmt.Sprintf("site-%x", h.Sum64())
}

// Blocked says how long, as far as the runtime knows.
func (s site) Blocked() string {
	if s.Longest == 0 {
		return "time not known yet"
	}
	return "about " + s.Longest.String()
}

// Where is the innermost function of the stack, and its line.
func (s site) Where() string {
	function, rest, _ := strings.Cut(s.Stack, "\n\t")
	file, _, _ := strings.Cut(rest, "\n")
	return function + " " + path.Base(file)
}

func (s site) key() [4]string { return [4]string{s.Resource, s.Method, s.State, s.Stack} }

// merge makes one of sites that are the same. Those that have been so for longest
// come first, then the most frequent.
func merge(all []site) []site {
	merged := []site{}
	index := map[[4]string]int{}
	for _, s := range all {
		i, ok := index[s.key()]
		if !ok {
			index[s.key()] = len(merged)
			merged = append(merged, s)
			continue
		}
		m := &merged[i]
		m.Count += s.Count
		m.Permits += s.Permits
		m.Longest = max(m.Longest, s.Longest)
		m.Goroutines = append(m.Goroutines, s.Goroutines...)
	}
	for _, s := range merged {
		slices.Sort(s.Goroutines)
	}
	slices.SortFunc(merged, func(a, b site) int {
		keyA, keyB := a.key(), b.key()
		return cmp.Or(cmp.Compare(b.Longest, a.Longest), cmp.Compare(b.Count, a.Count), slices.Compare(keyA[:], keyB[:]))
	})
	return merged
}

// seconds is a duration that is seconds in JSON.
type seconds time.Duration

func (s seconds) MarshalJSON() ([]byte, error) { return json.Marshal(time.Duration(s).Seconds()) }

func (s seconds) String() string {
	if d := time.Duration(s); d < 10*time.Second {
		return d.Round(time.Millisecond).String()
	}
	return time.Duration(s).Round(time.Second).String()
}

// snapshot takes a snapshot.
func (d *Debugger) snapshot() *snapshot {
	dump, cut := dumpGoroutines(maxDump)
	s := &snapshot{
		Time: time.Now(), Resources: []resource{}, Fraction: int(d.fraction.Load()),
		Blocked: merge(parseDump(dump)), Incomplete: cut,
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.eachLocked(func(t *tracked, r *condvar.CapacityResource) {
		s.Resources = append(s.Resources, report(t.name, r.Stats(), slices.Clone(t.history)))
	})
	var held []site
	for h := range d.holders {
		held = append(held, h.sites()...)
	}
	s.Holders = merge(held)
	return s
}

func report(name string, s condvar.Stats, h history) resource {
	r := resource{
		Name: name, State: "has room",
		Capacity: s.Capacity, InUse: s.InUse, Waiting: s.Waiting, WaitingPermits: s.WaitingN,
		OldestWait: seconds(s.OldestWait), WaitCount: s.WaitCount, WaitDuration: seconds(s.WaitDuration),
		Canceled: s.Canceled, History: h,
	}
	switch {
	case s.Closed:
		r.State = "closed"
	case s.Capacity == 0:
		r.State = "paused"
	case s.InUse > s.Capacity:
		r.State, r.Full = "over capacity", true
	case s.InUse == s.Capacity:
		r.State, r.Full = "full", true
	case s.Waiting > 0:
		r.State = "too full for the first in line"
	}
	return r
}

// A history is the last samples of a resource, the oldest first.
type history []sample

// A sample is what Run notes down.
type sample [3]int64

// What the numbers of a sample are.
const (
	capacity = iota
	inUse
	waiting
)

const (
	samplePeriod = time.Second
	maxSamples   = 300 // of a resource, 24 bytes each
	perColumn    = 5   // samples in a column of a sparkline
)

func (h history) MarshalJSON() ([]byte, error) {
	line := func(i int) []int64 {
		numbers := []int64{}
		for _, s := range h {
			numbers = append(numbers, s[i])
		}
		return numbers
	}
	return json.Marshal(map[string]any{
		"interval_seconds": seconds(samplePeriod),
		"capacity":         line(capacity), "in_use": line(inUse), "waiting": line(waiting),
	})
}

// levels returns one of the numbers for each column of a sparkline, as a part of
// the largest: of those who wait, or of capacity and use. Of a column it is the
// largest, so that no peak is lost.
func (h history) levels(i int) (levels []float64) {
	largest := int64(1)
	for _, s := range h {
		if i == waiting {
			largest = max(largest, s[waiting])
		} else {
			largest = max(largest, s[capacity], s[inUse])
		}
	}
	for column := range slices.Chunk(h, perColumn) {
		var level int64
		for _, s := range column {
			level = max(level, s[i])
		}
		levels = append(levels, float64(level)/float64(largest))
	}
	return levels
}

// points returns a polyline in a picture of 120 by 24.
func (h history) points(i int) string {
	var points []string
	for x, level := range h.levels(i) { // each is as wide as its column, so that one alone can be seen
		points = append(points, fmt.Sprintf("%d,%.1f %d,%.1f", 2*x, 23-22*level, 2*x+2, 23-22*level))
	}
	return strings.Join(points, " ")
}

// The lines of the picture.
func (h history) Capacity() string { return h.points(capacity) }
func (h history) InUse() string    { return h.points(inUse) }
func (h history) Waiting() string  { return h.points(waiting) }

// Bars is the line of what is in use, in letters.
func (h history) Bars() string {
	letters := []rune("▁▂▃▄▅▆▇█")
	var bars []rune
	for _, level := range h.levels(inUse) {
		bars = append(bars, letters[int(level*float64(len(letters)-1))])
	}
	return string(bars)
}

// Text says what the picture shows, if there are samples.
func (h history) Text() string {
	text := fmt.Sprintf("last %v", time.Duration(len(h))*samplePeriod)
	for i, name := range []string{"capacity", "in use", "waiting"} {
		low, high := h[0][i], h[0][i]
		for _, s := range h {
			low, high = min(low, s[i]), max(high, s[i])
		}
		text += fmt.Sprintf(", %s %d", name, low)
		if low < high {
			text += fmt.Sprintf(" to %d", high)
		}
	}
	return text
}
