package condvardebug

import (
	"cmp"
	"encoding/json"
	"fmt"
	"hash/fnv"
	"maps"
	"path"
	"slices"
	"strconv"
	"strings"
	"time"

	"example.com/condvar/internal/watch"
)

// jsonVersion is the version of the JSON. It changes when a field is removed or
// changes its meaning, not when one is added.
const jsonVersion = 1

// maxSites is how many call sites of a resource are shown, and maxSiteNumbers
// how many goroutines of a site.
const (
	maxSites       = 30
	maxSiteNumbers = 20
	maxHeadline    = 5 // names in the headline
)

// A snapshot is the data of the page; in JSON, it is the page. The package
// comment documents the fields.
type snapshot struct {
	Version  int       `json:"version"`
	Time     time.Time `json:"time"`
	Process  process   `json:"process"`
	Headline string    `json:"headline"`
	Parts    []string  `json:"-"` // of the headline
	More     int       `json:"-"` // those not in the headline
	Title    string    `json:"-"`
	Fraction int       `json:"holder_profile_fraction"`

	Resources []*resource `json:"resources"` // what needs attention first
}

// A resource is the state of the resources of one name.
type resource struct {
	Name      string   `json:"name"`
	Instances int      `json:"instances"`
	Shared    int      `json:"shared"` // how many of them processes share
	Attention bool     `json:"attention"`
	Words     []string `json:"words"` // what is wrong, a sentence each

	Capacity       number  `json:"capacity"`
	InUse          number  `json:"in_use"`
	Waiting        number  `json:"waiting_calls"`
	WaitingPermits number  `json:"waiting_permits"`
	OldestWait     seconds `json:"oldest_wait_seconds"`
	Closed         int     `json:"closed"`
	Paused         int     `json:"paused"`
	Leaked         number  `json:"leaked_permits"`
	Deadlock       bool    `json:"deadlock"`

	Waits        int64   `json:"waits_total"`
	WaitDuration seconds `json:"wait_seconds_total"`
	Canceled     int64   `json:"canceled_total"`
	Rejected     int64   `json:"rejected_total"`

	WaitingAt   []*waitSite `json:"waiting_at"` // the longest first
	MoreWaiting int         `json:"waiting_at_more"`
	HeldAt      []*holdSite `json:"held_at"` // leaks, exact ones, guesses
	MoreHeld    int         `json:"held_at_more"`
	Chart       *chart      `json:"history"`

	// It is a deadlock unless another goroutine releases the permits.
	suspect bool
	sum     *watch.Sum
	hooked  int // how many of the resources have hooks
	waits   []*wait
	holds   []heldNow
}

// A waitSite is a place in the code that waits.
type waitSite struct {
	Calls    int      `json:"calls"`
	Permits  number   `json:"permits"`
	Longest  seconds  `json:"longest_seconds"`
	Deadline *seconds `json:"next_deadline_seconds"` // nil if none

	Goroutines []uint64 `json:"goroutines"`
	Stack      string   `json:"stack"`

	id             string
	moreGoroutines int // that are not listed
}

// A holdSite is a place in the code that has acquired permits.
type holdSite struct {
	By       heldBy   `json:"by"`
	Holds    int      `json:"holds"`
	Permits  number   `json:"permits"`
	Longest  seconds  `json:"longest_seconds"`
	WaitsFor []string `json:"waits_for"` // names of resources

	Goroutines []uint64 `json:"goroutines"`
	Stack      string   `json:"stack"`

	id             string
	moreGoroutines int // that are not listed
}

// IDs identify sites, and are the same in each snapshot.
func (s *waitSite) ID() string { return s.id }
func (s *holdSite) ID() string { return s.id }

// Where returns where condvar was called.
func (s *waitSite) Where() string { return where(s.Stack) }
func (s *holdSite) Where() string { return where(s.Stack) }

// where returns the innermost function of a stack, and its line.
func where(stack string) string {
	function, rest, ok := strings.Cut(stack, "\n\t")
	if !ok {
		return strings.TrimSpace(stack)
	}
	file, _, _ := strings.Cut(rest, "\n")
	return path.Base(function) + " " + path.Base(file)
}

// numbersOf returns goroutines as text; more is how many are not listed.
func numbersOf(goroutines []uint64, more int) string {
	var b strings.Builder
	for i, g := range goroutines {
		if i > 0 {
			b.WriteString(", ")
		}
		fmt.Fprint(&b, g)
	}
	if more > 0 {
		fmt.Fprintf(&b, " and %d more", more)
	}
	return b.String()
}

func (s *waitSite) Numbers() string { return numbersOf(s.Goroutines, s.moreGoroutines) }
func (s *holdSite) Numbers() string { return numbersOf(s.Goroutines, s.moreGoroutines) }

// Unknown reports whether calls wait, no wait is recorded, and some of the
// resources have no hooks. If all have hooks, the waits are over by now.
func (r *resource) Unknown() bool {
	return r.Waiting > 0 && len(r.WaitingAt) == 0 && r.hooked < r.Instances
}

// Certain returns the call sites whose records are exact or leaks.
func (r *resource) Certain() []*holdSite { return r.HeldAt[:r.guesses()] }

// Guesses returns the other call sites.
func (r *resource) Guesses() []*holdSite { return r.HeldAt[r.guesses():] }

// guesses returns the index of the first guess. Guesses are last.
func (r *resource) guesses() int {
	if i := slices.IndexFunc(r.HeldAt, func(s *holdSite) bool { return s.By == guess }); i >= 0 {
		return i
	}
	return len(r.HeldAt)
}

// Text describes the waits of a site.
func (s *waitSite) Text() string {
	text := fmt.Sprintf("%s for %s, the longest for %v", waits(number(s.Calls)), permits(s.Permits), s.Longest)
	if s.Calls == 1 {
		text = fmt.Sprintf("1 call waits for %s, for %v", permits(s.Permits), s.Longest)
	}
	switch {
	case s.Deadline == nil:
		return text + ", no deadline"
	case *s.Deadline < 0:
		return text + fmt.Sprintf(", %v past the deadline", -*s.Deadline)
	}
	return text + fmt.Sprintf(", the next deadline in %v", *s.Deadline)
}

// Text describes the permits that a site holds.
func (s *holdSite) Text() string {
	text := permits(s.Permits)
	switch s.By {
	case leaked:
		text += " leaked, acquired"
	case guess:
		text += " probably held, acquired"
	default:
		text += " held, acquired"
	}
	if s.Holds == 1 {
		text += fmt.Sprintf(" %v ago", s.Longest)
	} else {
		text += fmt.Sprintf(" by %d calls, the first %v ago", s.Holds, s.Longest)
	}
	if len(s.WaitsFor) > 0 {
		text += ", waiting for " + s.WaitsForText()
	}
	return text
}

// WaitsForText names the resources that the goroutines wait for.
func (s *holdSite) WaitsForText() string { return quoted(s.WaitsFor) }

// Quoted returns the name quoted as in Go, without control characters and marks
// that change the direction of text.
func (r *resource) Quoted() string { return strconv.Quote(r.Name) }

// ID identifies the resource in the page.
func (r *resource) ID() string { return id("resource", r.Name) }

// seconds is a duration that is encoded as seconds in JSON.
type seconds time.Duration

func (s seconds) MarshalJSON() ([]byte, error) { return json.Marshal(time.Duration(s).Seconds()) }

func (s seconds) String() string {
	switch d := time.Duration(s); {
	case d < 0:
		return "-" + seconds(-d).String()
	case d < time.Second:
		return d.Round(100 * time.Microsecond).String()
	case d < 10*time.Second:
		return d.Round(10 * time.Millisecond).String()
	default:
		return d.Round(time.Second).String()
	}
}

// number is a sum of permits or of calls.
type number float64

func (n number) String() string { return strconv.FormatFloat(float64(n), 'f', -1, 64) }

// permits returns "1 permit", "2 permits".
func permits(n number) string {
	if n == 1 {
		return "1 permit"
	}
	return n.String() + " permits"
}

func id(kind string, parts ...string) string {
	h := fnv.New64a()
	fmt.Fprintf(h, "%q", parts)
	return fmt.Sprintf("%s-%x", kind, h.Sum64())
}

func quoted(names []string) string {
	q := make([]string, len(names))
	for i, name := range names {
		q[i] = strconv.Quote(name)
	}
	return strings.Join(q, ", ")
}

// A copied is the input of a snapshot. Nothing in it changes, so it needs no
// lock.
type copied struct {
	began    time.Time // before the first copy
	now      time.Time // after the last copy
	fraction int
	names    map[string]*copiedName
}

type copiedName struct {
	sum     *watch.Sum
	history *history // nil if there is none
	hooked  int      // how many of the resources have hooks
	waits   []*wait
	holds   []heldNow
}

func (d *Debugger) snapshot() *snapshot { return newSnapshot(d.copy()) }

// copy copies the state, under one lock at a time.
func (d *Debugger) copy() *copied {
	c := &copied{began: time.Now(), fraction: int(d.fraction.Load()), names: map[string]*copiedName{}}
	for name, sum := range d.resources.Sums() {
		c.names[name] = &copiedName{sum: sum}
	}
	d.mu.Lock()
	all := slices.Collect(maps.Keys(d.records))
	for name, copied := range c.names {
		if h := d.histories[name]; h != nil {
			h := *h
			copied.history = &h
		}
	}
	d.mu.Unlock()
	for _, s := range all {
		if copied := c.names[s.name]; copied != nil {
			waits, holds := s.now()
			copied.hooked++
			copied.waits = append(copied.waits, waits...)
			copied.holds = append(copied.holds, holds...)
		}
	}
	c.now = time.Now()
	return c
}

// newSnapshot formats a copy. It takes no lock, so no call waits for it.
func newSnapshot(c *copied) *snapshot {
	s := &snapshot{
		Version: jsonVersion, Time: c.now, Process: thisProcess(c.now), Fraction: c.fraction,
		Resources: make([]*resource, 0, len(c.names)),
	}
	// By goroutine: what it waits for, and what it has waited for since before
	// the copy.
	waitsFor, stuckOn := map[uint64][]string{}, map[uint64][]string{}
	// Sorted, so that waitsFor has an order.
	for _, name := range slices.Sorted(maps.Keys(c.names)) {
		copied := c.names[name]
		s.Resources = append(s.Resources, &resource{
			Name: name, Chart: copied.history.at(c.now), sum: copied.sum, hooked: copied.hooked,
			waits: copied.waits, holds: copied.holds,
		})
		for _, w := range copied.waits {
			if w.goroutine != 0 && !slices.Contains(waitsFor[w.goroutine], name) {
				waitsFor[w.goroutine] = append(waitsFor[w.goroutine], name)
			}
			if w.goroutine != 0 && !w.since.After(c.began) {
				stuckOn[w.goroutine] = append(stuckOn[w.goroutine], name)
			}
		}
	}
	texts := texts{frames: newFrames(), byStack: map[string]stackText{}}
	for _, r := range s.Resources {
		r.fill(c.now, texts, waitsFor)
	}
	for _, r := range stuck(s.Resources, stuckOn, func(heldNow) bool { return true }) {
		r.suspect = true
	}
	for _, r := range stuck(s.Resources, stuckOn, texts.isDo) {
		r.Deadlock = true
	}
	for _, r := range s.Resources {
		r.explain()
	}
	slices.SortFunc(s.Resources, compare)
	s.summarize()
	return s
}

// texts formats each stack once.
type texts struct {
	*frames
	byStack map[string]stackText
}

type stackText struct {
	text string
	isDo bool
}

func (t texts) get(stack []uintptr) stackText {
	key := stackKey(stack)
	text, ok := t.byStack[key]
	if !ok {
		text = stackText{t.format(stack), t.calledDo(stack)}
		t.byStack[key] = text
	}
	return text
}

func (t texts) of(stack []uintptr) string { return t.get(stack).text }

// isDo reports whether Do has acquired h. Then its goroutine holds until the
// function of Do returns. Another goroutine may release anything else.
func (t texts) isDo(h heldNow) bool { return t.get(h.stack).isDo }

// fill sets the fields that do not depend on other resources.
func (r *resource) fill(now time.Time, texts texts, waitsFor map[uint64][]string) {
	sum := r.sum
	r.Instances, r.Closed, r.Paused, r.Shared = sum.Resources, sum.Closed, sum.Paused, sum.Shared
	r.Capacity, r.InUse = number(sum.Capacity), number(sum.InUse)
	r.Waiting, r.WaitingPermits = number(sum.Waiting), number(sum.WaitingN)
	r.OldestWait = seconds(sum.Oldest.OldestWait)
	r.Waits, r.WaitDuration = sum.WaitCount, seconds(sum.WaitDuration)
	r.Canceled, r.Rejected = sum.Canceled, sum.Rejected
	r.clipGuesses()

	waiting := map[string]*waitSite{}
	for _, w := range r.waits {
		stack := texts.of(w.stack)
		site := waiting[stack]
		if site == nil {
			site = &waitSite{Stack: stack, Goroutines: []uint64{}, id: id("wait", r.Name, stack)}
			waiting[stack] = site
		}
		site.Calls++
		site.Permits += number(w.n)
		site.Longest = max(site.Longest, seconds(now.Sub(w.since)))
		if w.goroutine != 0 {
			site.Goroutines = append(site.Goroutines, w.goroutine)
		}
		if !w.deadline.IsZero() {
			if left := seconds(w.deadline.Sub(now)); site.Deadline == nil || left < *site.Deadline {
				site.Deadline = &left
			}
		}
	}
	r.WaitingAt = slices.SortedFunc(maps.Values(waiting), func(a, b *waitSite) int {
		return cmp.Or(cmp.Compare(b.Longest, a.Longest), strings.Compare(a.Stack, b.Stack))
	})
	r.WaitingAt, r.MoreWaiting = atMost(maxSites, r.WaitingAt)
	for _, site := range r.WaitingAt {
		site.Goroutines, site.moreGoroutines = shorten(site.Goroutines)
	}

	held := map[string]*holdSite{}
	for _, h := range r.holds {
		stack, waited := texts.of(h.stack), append([]string{}, waitsFor[h.goroutine]...)
		if h.by == leaked {
			waited = []string{}
		}
		id := id("hold", append([]string{r.Name, string(h.by), stack}, waited...)...)
		site := held[id]
		if site == nil {
			site = &holdSite{By: h.by, Stack: stack, WaitsFor: waited, id: id}
			held[id] = site
		}
		site.Holds++
		site.Permits += number(h.n)
		site.Longest = max(site.Longest, seconds(now.Sub(h.since)))
		site.Goroutines = append(site.Goroutines, h.goroutine)
		if h.by == leaked {
			r.Leaked += number(h.n)
		}
	}
	order := map[heldBy]int{leaked: 0, exact: 1, guess: 2}
	r.HeldAt = slices.SortedFunc(maps.Values(held), func(a, b *holdSite) int {
		return cmp.Or(cmp.Compare(order[a.By], order[b.By]), cmp.Compare(b.Longest, a.Longest), strings.Compare(a.ID(), b.ID()))
	})
	r.HeldAt, r.MoreHeld = atMost(maxSites, r.HeldAt)
	for _, site := range r.HeldAt {
		site.Goroutines, site.moreGoroutines = shorten(site.Goroutines)
	}
}

// atMost returns the first n of all, in a slice that is not nil, and how many
// are left out.
func atMost[T any](n int, all []T) (first []T, more int) {
	first = append([]T{}, all[:min(n, len(all))]...)
	return first, len(all) - len(first)
}

// shorten returns some of the goroutines, each once, and how many are left out.
func shorten(goroutines []uint64) (some []uint64, more int) {
	slices.Sort(goroutines)
	return atMost(maxSiteNumbers, slices.Compact(goroutines))
}

// clipGuesses removes guesses, the oldest first, until the records have no more
// permits than are in use. The records are of another moment than the sum.
func (r *resource) clipGuesses() {
	room := r.InUse
	for _, h := range r.holds {
		if h.by != guess {
			room -= number(h.n)
		}
	}
	slices.SortStableFunc(r.holds, func(a, b heldNow) int { return b.since.Compare(a.since) })
	r.holds = slices.DeleteFunc(r.holds, func(h heldNow) bool {
		if h.by != guess {
			return false
		}
		room -= number(h.n)
		return room < 0
	})
}

// stuck returns the largest set of resources whose permits in use are all held
// by goroutines that wait for resources of the set, by holds for which certain
// is true.
func stuck(all []*resource, waitsFor map[uint64][]string, certain func(heldNow) bool) map[string]*resource {
	stuck := map[string]*resource{}
	for _, r := range all {
		recorded := number(0)
		for _, h := range r.holds {
			recorded += number(h.n)
		}
		// Other processes may hold permits of a shared resource.
		if r.Shared == 0 && r.Waiting > 0 && r.InUse > 0 && recorded >= r.InUse {
			stuck[r.Name] = r
		}
	}
	isStuck := func(h heldNow) bool {
		return h.by != leaked && certain(h) && slices.ContainsFunc(waitsFor[h.goroutine], func(name string) bool { return stuck[name] != nil })
	}
	for changed := true; changed; {
		changed = false
		for name, r := range stuck {
			if slices.ContainsFunc(r.holds, func(h heldNow) bool { return !isStuck(h) }) {
				delete(stuck, name)
				changed = true
			}
		}
	}
	return stuck
}

// explain sets the sentences that say what is wrong.
func (r *resource) explain() {
	say := func(attention bool, format string, args ...any) {
		r.Words = append(r.Words, fmt.Sprintf(format, args...))
		r.Attention = r.Attention || attention
	}
	switch {
	case r.Deadlock:
		say(true, "Deadlock: every holder of permits waits for %s.", r.deadlockedOn())
	case r.suspect:
		say(true, "All permits in use were acquired by goroutines that wait for %s: a deadlock, unless other goroutines release them.",
			r.deadlockedOn())
	}
	switch n := number(r.sum.ClosedInUse); {
	case n == 1:
		say(true, "Closed, and 1 permit is still held: Drain waits for it.")
	case n > 0:
		say(true, "Closed, and %s still held: Drain waits for them.", permitsAre(n))
	}
	if r.Leaked > 0 {
		say(true, "%s leaked: a Permit was collected that was never released.", permitsAre(r.Leaked))
	}
	switch {
	case r.Waiting > 0 && r.Shared > 0:
		say(true, "%s, the longest for %v. In use in this process: %v; capacity: %v.%s",
			waits(r.Waiting), r.OldestWait, r.InUse, r.Capacity, r.firstWait())
	case r.Waiting > 0:
		r.explainWait(say)
	case r.sum.ClosedInUse > 0:
	case r.Shared > 0 && r.Closed == r.Instances:
		say(false, "Closed in this process.")
	case r.Shared > 0: // what others use, and a new capacity, may not be known
		say(false, "Nobody waits in this process.")
	case r.Closed == r.Instances:
		say(false, "Closed.")
	case r.Closed+r.Paused == r.Instances:
		say(false, "Paused: the capacity is 0. Nobody waits.")
	case r.InUse > r.Capacity:
		say(false, "More is in use than the capacity. Nobody waits.")
	case r.InUse == r.Capacity:
		say(false, "All is in use. Nobody waits.")
	default:
		say(false, "Nobody waits.")
	}
}

func permitsAre(n number) string {
	if n == 1 {
		return "1 permit is"
	}
	return permits(n) + " are"
}

// deadlockedOn names the resources that the holders wait for.
func (r *resource) deadlockedOn() string {
	var names []string
	for _, site := range r.HeldAt {
		for _, name := range site.WaitsFor {
			if !slices.Contains(names, name) {
				names = append(names, name)
			}
		}
	}
	slices.Sort(names)
	if len(names) == 1 && names[0] == r.Name {
		return "more permits of the same resource"
	}
	return quoted(names)
}

// explainWait says why the longest-waiting call waits.
func (r *resource) explainWait(say func(attention bool, format string, args ...any)) {
	calls := waits(r.Waiting)
	oldest := r.sum.Oldest
	switch free := oldest.Capacity - oldest.InUse; {
	// The others may not be paused.
	case oldest.Capacity == 0 && r.Instances > 1:
		say(true, "%s, the longest for %v: it waits for Resize, as the capacity is 0.", calls, r.OldestWait)
	case oldest.Capacity == 0:
		say(true, "Paused: the capacity is 0. %s for Resize, the longest for %v.", calls, r.OldestWait)
	case free > 0:
		say(true, "%s, the longest for %v, though %d of %d permits are free.%s", calls, r.OldestWait, free, oldest.Capacity, r.firstWait())
	case free < 0:
		say(true, "%s, the longest for %v: %d permits are in use, more than the capacity %d.", calls, r.OldestWait, oldest.InUse, oldest.Capacity)
	default:
		say(true, "%s, the longest for %v: %d of %d permits are in use.", calls, r.OldestWait, oldest.InUse, oldest.Capacity)
	}
}

// firstWait says what the first call of those that are recorded wants.
func (r *resource) firstWait() string {
	if len(r.waits) == 0 {
		return ""
	}
	w := slices.MinFunc(r.waits, func(a, b *wait) int { return a.since.Compare(b.since) })
	return fmt.Sprintf(" The first wants %d.", w.n)
}

// compare sorts resources that need attention first: by the longest wait, then
// closed ones with held permits, then leaks, then the name.
func compare(a, b *resource) int {
	if a.Attention != b.Attention { // the age of a new wait may be 0
		return map[bool]int{true: -1, false: 1}[a.Attention]
	}
	return cmp.Or(
		cmp.Compare(b.OldestWait, a.OldestWait),
		cmp.Compare(b.sum.ClosedInUse, a.sum.ClosedInUse),
		cmp.Compare(b.Leaked, a.Leaked),
		strings.Compare(a.Name, b.Name),
	)
}

// summarize sets the headline and the title.
func (s *snapshot) summarize() {
	for _, r := range s.Resources {
		if !r.Attention {
			continue
		}
		if len(s.Parts) == maxHeadline {
			s.More++
			continue
		}
		part := r.Quoted()
		switch {
		case r.Deadlock:
			part += fmt.Sprintf(" (deadlock, %v)", r.OldestWait)
		case r.Waiting > 0:
			part += fmt.Sprintf(" (%s, %v)", waits(r.Waiting), r.OldestWait)
		case r.sum.ClosedInUse > 0:
			part += fmt.Sprintf(" (closed, %s held)", permits(number(r.sum.ClosedInUse)))
		default:
			part += fmt.Sprintf(" (%s leaked)", permits(r.Leaked))
		}
		s.Parts = append(s.Parts, part)
	}
	if len(s.Parts) == 0 {
		s.Headline, s.Title = "Nobody waits.", "nobody waits"
		return
	}
	s.Headline, s.Title = strings.Join(s.Parts, ", "), s.Parts[0]
	if s.More > 0 {
		s.Headline += fmt.Sprintf(" and %d more", s.More)
	}
}

func waits(calls number) string {
	if calls == 1 {
		return "1 call waits"
	}
	return calls.String() + " calls wait"
}
