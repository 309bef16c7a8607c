package props

import (
	"context"
	"fmt"
	"math"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"example.com/condvar"
)

func TestCapacityResource(t *testing.T)     { checkResource(t, false) }
func TestCapacityResourceFIFO(t *testing.T) { checkResource(t, true, condvar.FIFO()) }

func checkResource(t *testing.T, fifo bool, opts ...condvar.Option) {
	check(t, func(t *rapid.T) {
		capacity := rapid.Int64Range(1, 5).Draw(t, "capacity")
		s := resourceState{fifo: fifo, capacity: capacity, maxWaiting: math.MaxInt}
		opts := slices.Clone(opts)
		if rapid.Bool().Draw(t, "bounded line") {
			s.maxWaiting = rapid.IntRange(0, 3).Draw(t, "MaxWaiting")
			opts = append(opts, condvar.MaxWaiting(s.maxWaiting))
		}
		if rapid.Bool().Draw(t, "limited wait") {
			s.maxWait = drawTime(t)
			opts = append(opts, condvar.MaxWait(s.maxWait))
		}
		if s.oversized = rapid.Bool().Draw(t, "AdmitOversized"); s.oversized {
			opts = append(opts, condvar.AdmitOversized())
		}
		m := &resourceMachine{
			r: condvar.NewCapacityResource(capacity, opts...), begin: time.Now(),
			acquired: make(chan *condvar.Permit, 1000),
		}
		m.limit = s.maxWait
		m.trace = []string{fmt.Sprintf("capacity %d, at most %d wait, for %v, AdmitOversized %v", capacity, s.maxWaiting, s.maxWait, s.oversized)}
		m.states = []resourceState{s}
		m.object = func() string { return describeResource(m.r.Stats(), m.r.String()) }
		t.Cleanup(func() { m.end(t, m.release) })
		actions := rapid.StateMachineActions(m)
		if rapid.Bool().Draw(t, "stays open") { // most operations only fail once it is closed
			delete(actions, "Close")
			delete(actions, "Drain")
		}
		t.Repeat(actions)
		m.rest(t)
	})
}

// drawPermits returns a number of permits, usually a small one.
func drawPermits(t *rapid.T) int64 {
	return rapid.SampledFrom([]int64{1, 1, 1, 1, 2, 2, 2, 3, 3, 3, 4, 5, 0, 0, -1, 1 << 31, math.MaxInt64}).Draw(t, "permits")
}

// A resourceMachine compares a CapacityResource with a resourceState.
type resourceMachine struct {
	harness[resourceState, *resourceState]
	r     *condvar.CapacityResource
	begin time.Time

	acquired chan *condvar.Permit // by AcquirePermit
	permits  []*condvar.Permit    // the first spent of them were released
	spent    int
}

// start starts a call.
func (m *resourceMachine) start(t *rapid.T, name string, q resourceCall, f func(c *call) error) *call {
	i, c, err := m.drawCall(t, name)
	q.phase, q.err = starting, err
	if !c.deadline.IsZero() {
		q.deadline = c.deadline.Sub(m.begin)
	}
	c.run(func(context.Context) error { return f(c) })
	m.does(t, c.String(), func(s *resourceState) {
		s.calls[i] = q
	})
	// A call that has just checked its context and is about to acquire permits
	// may do so after a cancel, if the state is then the same again.
	m.mayRun = false
	return c
}

// Acquire starts a call of AcquireN.
func (m *resourceMachine) Acquire(t *rapid.T) {
	m.skipIfFull(t)
	n := drawPermits(t)
	m.start(t, fmt.Sprintf("AcquireN(%d)", n), resourceCall{n: n}, func(c *call) error { return m.r.AcquireN(c.ctx, n) })
}

// Do starts a call of DoN. Finish ends its function.
func (m *resourceMachine) Do(t *rapid.T) {
	m.skipIfFull(t)
	n := drawPermits(t)
	finish := make(chan string, 1)
	c := m.start(t, fmt.Sprintf("DoN(%d)", n), resourceCall{n: n, do: true}, func(c *call) error {
		return m.r.DoN(c.ctx, n, c.fn(finish))
	})
	c.finish = finish
}

// Finish ends the function of a DoN, now or once it runs.
func (m *resourceMachine) Finish(t *rapid.T) {
	i, how := m.finish(t)
	m.does(t, fmt.Sprintf("finish %s with %s", m.calls[i].name, how), func(s *resourceState) { s.calls[i].finish = how })
}

// TryAcquire calls TryAcquireN.
func (m *resourceMachine) TryAcquire(t *rapid.T) {
	n := drawPermits(t)
	ok := false
	got := try(func() { ok = m.r.TryAcquireN(n) })
	m.did(t, fmt.Sprintf("TryAcquireN(%d)", n), fmt.Sprint(ok, got), func(s *resourceState) any {
		if n < 0 {
			return fmt.Sprint(false, negativePermits)
		}
		return fmt.Sprint(!s.closed && s.enter(n), "")
	})
}

// AcquirePermit starts a call of AcquirePermit.
func (m *resourceMachine) AcquirePermit(t *rapid.T) {
	m.skipIfFull(t)
	n := drawPermits(t)
	m.start(t, fmt.Sprintf("AcquirePermit(%d)", n), resourceCall{n: n}, func(c *call) error {
		p, err := m.r.AcquirePermit(c.ctx, n)
		if err == nil {
			m.acquired <- p
		} else if p != nil {
			panic("a Permit of a call that failed")
		}
		return err
	})
}

// TryPermit calls TryAcquirePermit.
func (m *resourceMachine) TryPermit(t *rapid.T) {
	n := drawPermits(t)
	ok := false
	got := try(func() {
		var p *condvar.Permit
		if p, ok = m.r.TryAcquirePermit(n); ok {
			m.permits = append(m.permits, p)
		} else if p != nil {
			panic("a Permit of a call that failed")
		}
	})
	m.did(t, fmt.Sprintf("TryAcquirePermit(%d)", n), fmt.Sprint(ok, got), func(s *resourceState) any {
		if n < 0 {
			return fmt.Sprint(false, negativePermits)
		}
		return fmt.Sprint(!s.closed && s.enter(n), "")
	})
}

// ReleasePermit releases a Permit that was released before, or the next one.
func (m *resourceMachine) ReleasePermit(t *rapid.T) {
	for len(m.acquired) > 0 {
		m.permits = append(m.permits, <-m.acquired)
	}
	if len(m.permits) == 0 {
		t.SkipNow()
	}
	i := rapid.IntRange(0, min(m.spent, len(m.permits)-1)).Draw(t, "permit")
	p, spent := m.permits[i], i < m.spent
	if !spent {
		m.spent++
	}
	got := try(p.Release)
	m.did(t, fmt.Sprintf("Release of Permit %d, of %d", i, p.N()), got, func(s *resourceState) any {
		if spent {
			return ""
		}
		return s.release(p.N())
	})
}

// Release calls ReleaseN.
func (m *resourceMachine) Release(t *rapid.T) {
	n := drawPermits(t)
	got := try(func() { m.r.ReleaseN(n) })
	m.did(t, fmt.Sprintf("ReleaseN(%d)", n), got, func(s *resourceState) any { return s.release(n) })
}

// ReleaseAll releases all permits.
func (m *resourceMachine) ReleaseAll(t *rapid.T) {
	m.rest(t) // otherwise a DoN may release in between
	n := m.r.Stats().InUse
	m.r.ReleaseN(n)
	m.did(t, fmt.Sprintf("ReleaseN(%d)", n), "", func(s *resourceState) any { return s.release(n) })
}

// Resize calls Resize, usually for small changes.
func (m *resourceMachine) Resize(t *rapid.T) {
	capacity := rapid.SampledFrom([]int64{1, 2, 2, 3, 3, 3, 4, 4, 4, 5, 5, 6, 0, -1, 1<<31 - 1, 1 << 31, math.MaxInt64}).Draw(t, "capacity")
	old := int64(-1)
	got := try(func() { old = m.r.Resize(capacity) })
	m.did(t, fmt.Sprintf("Resize(%d)", capacity), fmt.Sprint(old, got), func(s *resourceState) any {
		old := s.capacity
		if capacity < 0 {
			old = -1
		}
		return fmt.Sprint(old, s.resize(capacity))
	})
}

// Close calls Close.
func (m *resourceMachine) Close(t *rapid.T) {
	m.did(t, "Close", m.r.Close(), func(s *resourceState) any {
		s.close()
		return nil
	})
}

// Drain starts a call of Drain.
func (m *resourceMachine) Drain(t *rapid.T) {
	m.skipIfFull(t)
	m.start(t, "Drain", resourceCall{drain: true}, func(c *call) error { return m.r.Drain(c.ctx) })
}

// Stats calls Stats. It is a snapshot, even if calls are not at rest.
func (m *resourceMachine) Stats(t *rapid.T) {
	m.did(t, "Stats", m.r.Stats(), func(s *resourceState) any { return s.stats() })
}

// release ends the calls that canceled contexts do not end.
func (m *resourceMachine) release() {
	_ = m.r.Close()
	for _, c := range m.calls {
		if c != nil && c.finish != nil {
			c.finish <- success
		}
	}
	synctest.Wait()
	m.r.ReleaseN(m.r.Stats().InUse)
}

// A resourceState is the model of a CapacityResource.
type resourceState struct {
	maxWaiting     int
	maxWait        time.Duration // or 0
	oversized      bool
	fifo, closed   bool
	starving       bool // no call may overtake the head of the line
	capacity, held int64
	now            time.Duration
	places         int // the next place in line

	waitCount, canceled, rejected int64
	waitDuration                  time.Duration

	calls [maxCalls]resourceCall
}

// A resourceCall is a call of AcquireN, DoN or Drain.
type resourceCall struct {
	phase     phase
	do, drain bool
	n         int64
	place     int // in line
	since     time.Duration
	deadline  time.Duration // of the context, if it has one
	timed     bool          // MaxWait ends the wait, not the deadline
	finish    string        // how the function of DoN ends, once Finish was called
	err       string        // of the context, once it has ended
	outcome   string
}

var (
	negativePermits = panicked("condvar: negative number of permits")
	overRelease     = panicked("condvar: released more than held")
)

// inLine reports whether c is an acquisition that waits.
func (c *resourceCall) inLine() bool { return c.phase == parked && !c.drain }

func (c *resourceCall) end(outcome string) { c.phase, c.outcome = over, outcome }

func (s *resourceState) head() (head *resourceCall) {
	for i := range s.calls {
		if c := &s.calls[i]; c.inLine() && (head == nil || c.place < head.place) {
			head = c
		}
	}
	return head
}

// old reports whether the head has waited so long that a release makes it
// starving.
func (s *resourceState) old() bool {
	head := s.head()
	return !s.fifo && head != nil && s.now-head.since >= time.Millisecond
}

func (s *resourceState) fits(n int64) bool {
	return n <= s.capacity-s.held || s.oversized && s.held == 0 && s.capacity > 0
}

func (s *resourceState) tooLarge(n int64) bool {
	return s.capacity > 0 && n > s.capacity && !s.oversized
}

// late reports whether c has waited for MaxWait.
func (s *resourceState) late(c *resourceCall) bool {
	return c.inLine() && c.timed && s.now-c.since >= s.maxWait
}

func (s *resourceState) due() time.Duration {
	due := time.Duration(never)
	for i := range s.calls {
		if c := &s.calls[i]; c.inLine() && c.timed {
			due = min(due, s.maxWait-(s.now-c.since))
		}
	}
	return due
}

// enter acquires n permits for a new call, if that is allowed.
func (s *resourceState) enter(n int64) bool {
	overtakes := s.head() != nil
	if n > 0 && (!s.fits(n) || overtakes && (s.fifo || s.starving)) {
		return false
	}
	s.held += n
	return true
}

func (s *resourceState) admitted(c *resourceCall) {
	if c.do {
		c.phase = running
	} else {
		c.end(success)
	}
}

// leave ends the wait of c with outcome.
func (s *resourceState) leave(c *resourceCall, outcome string) {
	s.waitCount++
	s.waitDuration += s.now - c.since
	if outcome == success {
		s.held += c.n
		s.admitted(c)
	} else {
		c.end(outcome)
	}
	s.starving = s.starving && s.old()
}

// turnAway ends the wait of c with outcome, unless its context ended first.
func (s *resourceState) turnAway(c *resourceCall, outcome string) {
	if c.err != "" {
		s.canceled++
		outcome = c.err
	}
	s.leave(c, outcome)
}

// release does a ReleaseN and returns its panic, or "".
func (s *resourceState) release(n int64) string {
	switch {
	case n < 0:
		return negativePermits
	case n > s.held:
		return overRelease
	}
	s.held -= n
	s.starving = s.starving || n > 0 && s.old()
	return ""
}

// resize does a Resize and returns its panic, or "".
func (s *resourceState) resize(capacity int64) string {
	if capacity < 0 {
		return panicked("condvar: negative capacity")
	}
	grown := capacity > s.capacity
	s.capacity = capacity
	for i := range s.calls {
		if c := &s.calls[i]; c.inLine() && s.tooLarge(c.n) {
			s.turnAway(c, condvar.ErrTooLarge.Error())
		}
	}
	s.starving = s.starving || grown && s.old()
	return ""
}

func (s *resourceState) close() {
	s.closed = true
	for i := range s.calls {
		if c := &s.calls[i]; c.inLine() {
			s.turnAway(c, condvar.ErrClosed.Error())
		}
	}
}

// begin does the first step of an acquisition.
func (s *resourceState) begin(c *resourceCall) {
	switch {
	case c.n < 0:
		c.end(negativePermits)
	case c.err != "":
		c.end(c.err)
	case s.closed:
		c.end(condvar.ErrClosed.Error())
	case s.tooLarge(c.n):
		c.end(condvar.ErrTooLarge.Error())
	case s.enter(c.n):
		s.admitted(c)
	case s.stats().Waiting >= int64(s.maxWaiting):
		s.rejected++
		c.end(condvar.ErrOverloaded.Error())
	default:
		c.phase, c.place, c.since = parked, s.places, s.now
		c.timed = s.maxWait > 0 && (c.deadline == 0 || c.deadline-s.now > s.maxWait)
		s.places++
	}
}

func (s *resourceState) step(i int) bool {
	c := &s.calls[i]
	switch {
	case c.phase == starting && c.drain:
		s.close()
		c.phase = parked
	case c.phase == starting:
		s.begin(c)
	case c.phase == parked && c.drain && s.held == 0:
		c.end(success)
	case c.phase == parked && c.drain && c.err != "":
		c.end(fmt.Sprintf("%s, held %d", c.err, s.held))
	case c.inLine() && c.err != "":
		s.turnAway(c, c.err)
	case c.inLine() && c == s.head() && s.fits(c.n):
		s.leave(c, success)
	case s.late(c): // a call that was woken in time is handled above
		s.rejected++
		s.leave(c, condvar.ErrOverloaded.Error())
	case c.phase == running && c.finish != "":
		c.end(c.finish)
		if panics := s.release(c.n); panics != "" {
			c.end(panics)
		}
	default:
		return false
	}
	return true
}

func (s *resourceState) stats() condvar.Stats {
	stats := condvar.Stats{
		Capacity: s.capacity, InUse: s.held, Closed: s.closed,
		WaitCount: s.waitCount, WaitDuration: s.waitDuration, Canceled: s.canceled, Rejected: s.rejected,
	}
	for _, c := range s.calls {
		if c.inLine() {
			stats.Waiting++
			stats.WaitingN += min(c.n, math.MaxInt64-stats.WaitingN)
		}
	}
	if head := s.head(); head != nil {
		stats.OldestWait = s.now - head.since
	}
	return stats
}

func (s *resourceState) cancel(i int, err string) { s.calls[i].err = err }
func (s *resourceState) sleep(d time.Duration)    { s.now += d }
func (s *resourceState) forget(i int)             { s.calls[i] = resourceCall{} }

func (s *resourceState) object() string {
	stats := s.stats()
	text := fmt.Sprintf("%d/%d in use, %d waiting", stats.InUse, stats.Capacity, stats.Waiting)
	switch {
	case s.closed:
		text += ", closed"
	case s.capacity == 0:
		text += ", paused"
	}
	return describeResource(stats, text)
}

func (s *resourceState) call(i int) string {
	switch c := s.calls[i]; c.phase {
	case over:
		return c.outcome
	case running:
		return inside
	}
	return waits
}

func describeResource(stats condvar.Stats, text string) string {
	return fmt.Sprintf("%+v %q", stats, text)
}
