package linear

import (
	"context"
	"fmt"
	"math"
	"math/rand/v2"
	"sync/atomic"
	"testing"
	"time"

	"github.com/anishathalye/porcupine"

	"example.com/condvar"
)

func TestCapacityResourceIsLinearizable(t *testing.T) {
	verify(t, 2000, newResourceScene)
}

func newResourceScene(seed uint64, fake bool) scene {
	random := rand.New(rand.NewPCG(seed, 1))
	// With the last two units some or all capacities are too large for the fast
	// paths, and the sum of the waiting requests overflows an int64.
	unit := []int64{1, 1, 1, 1, 1 << 30, math.MaxInt64 / 4}[random.IntN(6)]
	m := resourceModel{
		capacity: unit * random.Int64N(4), fifo: random.IntN(2) == 0,
		places: max(0, random.IntN(6)-2), oversized: random.IntN(3) == 0,
	}
	if m.capacity > 0 {
		m.permit = unit
	}
	operation := func(choices []choice) op {
		o := op{kind: choose(random, choices)}
		switch o.kind {
		case begin, tryAcquire, release:
			o.n = unit * []int64{0, 1, 1, 1, 1, 1, 2, 2, 2, 3}[random.IntN(10)]
		case resize:
			o.n = unit * random.Int64N(5)
		}
		return o
	}
	s := newScript(random, func() op {
		return operation([]choice{{16, release}, {6, resize}, {6, tryAcquire}, {10, stats}, {1, closing}, {2, releasePermit}})
	}, func() op {
		return operation([]choice{{10, begin}, {5, release}, {2, tryAcquire}, {3, stats}, {1, releasePermit}})
	})
	s.last = []op{{kind: closing}}

	var options []condvar.Option
	if m.fifo {
		options = append(options, condvar.FIFO())
	}
	if m.places > 0 {
		options = append(options, condvar.MaxWaiting(m.places-1))
	}
	if m.oversized {
		options = append(options, condvar.AdmitOversized())
	}
	if !fake && random.IntN(4) == 0 {
		m.maxWait = true
		options = append(options, condvar.MaxWait(time.Duration(1+random.IntN(100))*time.Microsecond))
	}
	r := condvar.NewCapacityResource(max(1, m.capacity), options...)
	r.Resize(m.capacity)
	permit, _ := r.TryAcquirePermit(m.permit)
	do := func(ctx context.Context, o op) any {
		switch o.kind {
		case begin:
			return fateOf(r.AcquireN(ctx, o.n))
		case tryAcquire:
			return r.TryAcquireN(o.n)
		case release:
			return tryRelease(func() { r.ReleaseN(o.n) })
		case releasePermit:
			return tryRelease(permit.Release)
		case resize:
			return r.Resize(o.n)
		case closing:
			_ = r.Close()
		case stats:
			s := r.Stats()
			if !fake { // the model does not know the time
				s.OldestWait, s.WaitDuration = 0, 0
			}
			return s
		}
		return nil
	}
	return scene{s, seed, do, m.porcupine, new(atomic.Int64), nil}
}

// fateOf returns how a call that returned err has ended.
func fateOf(err error) fate {
	switch err {
	case nil:
		return success
	case context.Canceled:
		return canceled
	case condvar.ErrClosed:
		return closed
	case condvar.ErrTooLarge:
		return tooLarge
	case condvar.ErrOverloaded:
		return overloaded
	}
	return fate(err.Error())
}

// tryRelease calls release and reports whether it succeeded.
func tryRelease(release func()) (ok bool) {
	defer func() {
		if p := recover(); p != nil {
			if p != "condvar: released more than held" && p != "keyed: released more than held" {
				panic(p)
			}
			ok = false
		}
	}()
	release()
	return true
}

// A resourceModel is a CapacityResource, one call at a time.
type resourceModel struct {
	capacity  int64
	fifo      bool
	places    int // MaxWaiting, plus 1; 0 without it
	oversized bool
	maxWait   bool  // a wait may end at any time, with ErrOverloaded
	permit    int64 // N of the one Permit, which several workers release
	loose     bool  // the head of the line may be starving at any time
}

// A resourceState is the observable state of a CapacityResource.
type resourceState struct {
	line
	stats    condvar.Stats // without the fields that line implies
	starving bool

	permitReleased bool // Release of the Permit was called
	permitGiven    bool // one call has released its permits
}

// porcupine returns the model for porcupine. exactTime means that a head of the
// line is starving only according to the time of the model.
func (m resourceModel) porcupine(exactTime bool) porcupine.NondeterministicModel {
	m.loose = !exactTime && !m.fifo
	return porcupine.NondeterministicModel{
		Init:              func() []any { return []any{resourceState{stats: condvar.Stats{Capacity: m.capacity, InUse: m.permit}}} },
		Step:              func(s, in, out any) []any { return m.step(s.(resourceState), in.(op), out) },
		DescribeOperation: describe,
		DescribeState: func(state any) string {
			s := state.(resourceState)
			return fmt.Sprintf("%d of %d in use, closed %v, starving %v, %v", s.stats.InUse, s.stats.Capacity,
				s.stats.Closed, s.starving, &s.line)
		},
	}
}

// step returns the possible states of s after an operation that returned out.
func (m resourceModel) step(s resourceState, o op, out any) []any {
	ok := true
	switch o.kind {
	case begin:
		return m.begin(s, o, out.(fate))
	case outcome:
		ok = m.endAcquire(&s, o, out.(fate))
	case cancel:
		s.cancel(o)
	case tryAcquire:
		enters := !s.stats.Closed && m.enters(&s, o.n)
		ok = out == enters || enters && m.mayBeKeptOut(&s, o.n)
		if out == true {
			s.stats.InUse += o.n
		}
	case release:
		ok = m.release(&s, o.n, out)
	case releasePermit:
		return m.releasePermit(s, out)
	case resize:
		ok = out == s.stats.Capacity
		grown := o.n > s.stats.Capacity
		s.stats.Capacity = o.n
		s.turnAway(o, tooLarge, func(n int64) bool { return m.tooLarge(&s, n) })
		if grown {
			m.markStarving(&s)
		}
	case closing:
		s.stats.Closed = true
		s.turnAway(o, closed, func(int64) bool { return true })
	case stats:
		ok = out == s.snapshot()
	case rest:
		ok = s.rest(o, out.(int)) && s.permitReleased == s.permitGiven && (s.waiting == 0 || !m.fits(&s, s.waiters[0].n))
	}
	return only(s, ok)
}

// begin is the first half of an AcquireN with the fate got.
func (m resourceModel) begin(s resourceState, o op, got fate) (states []any) {
	decided := func(f fate) []any {
		s.fate[o.call] = f
		return only(s, f == got)
	}
	switch {
	case s.ended.has(o.call):
		return decided(canceled)
	case s.stats.Closed:
		return decided(closed)
	case m.tooLarge(&s, o.n):
		return decided(tooLarge)
	}
	if !m.enters(&s, o.n) || m.mayBeKeptOut(&s, o.n) {
		joined := s
		if m.places == 0 || s.waiting < m.places-1 {
			joined.join(o)
			states = append(states, joined)
		} else if got == overloaded {
			joined.stats.Rejected++
			joined.fate[o.call] = overloaded
			states = append(states, joined)
		}
	}
	if m.enters(&s, o.n) {
		// The call may acquire later, without checking its context again.
		if got == success && o.ended.has(o.call) {
			late := s
			late.fate[o.call] = looked
			states = append(states, late)
		}
		s.stats.InUse += o.n
		states = append(states, decided(success)...)
	}
	return states
}

// endAcquire is the second half. It reports whether the fate got is possible.
func (m resourceModel) endAcquire(s *resourceState, o op, got fate) bool {
	switch f := s.fate[o.call]; {
	case f == waits && got == success:
		if s.waiters[0].call != o.call || !m.fits(s, o.n) || s.ended.has(o.call) {
			return false
		}
		s.remove(o.call, success)
		s.stats.InUse += o.n
	case f == waits && got == canceled && s.ended.has(o.call):
		s.remove(o.call, canceled)
	case f == waits && got == overloaded && m.maxWait:
		s.remove(o.call, overloaded)
		s.stats.Rejected++
	case f == looked && !s.stats.Closed && m.enters(s, o.n):
		s.fate[o.call] = success
		s.stats.InUse += o.n
	}
	return s.end(o, got)
}

// enters reports whether a new call gets n permits of an open resource.
func (m resourceModel) enters(s *resourceState, n int64) bool {
	return n == 0 || m.fits(s, n) && (s.waiting == 0 || !m.fifo && !s.starving)
}

// mayBeKeptOut reports whether a new call that would get n permits may not,
// because the head of the line may be starving.
func (m resourceModel) mayBeKeptOut(s *resourceState, n int64) bool {
	return m.loose && n > 0 && s.waiting > 0
}

// markStarving marks a head that has waited long as starving, after new
// permits.
func (m resourceModel) markStarving(s *resourceState) {
	s.starving = s.starving || !m.fifo && s.headStarved()
}

// release releases n permits, and reports whether the result out is possible.
func (m resourceModel) release(s *resourceState, n int64, out any) bool {
	if out != (n <= s.stats.InUse) {
		return false
	}
	if out == true {
		s.stats.InUse -= n
		if n > 0 {
			m.markStarving(s)
		}
	}
	return true
}

// releasePermit is Permit.Release, which releases the permits, or does nothing
// because another call does. That call may do so later, but before all rest.
func (m resourceModel) releasePermit(s resourceState, out any) (states []any) {
	s.permitReleased = true
	if out == true {
		states = append(states, s)
	}
	if !s.permitGiven && m.release(&s, m.permit, out) {
		s.permitGiven = true
		states = append(states, s)
	}
	return states
}

func (m resourceModel) fits(s *resourceState, n int64) bool {
	return n <= s.stats.Capacity-s.stats.InUse || m.oversized && s.stats.InUse == 0 && s.stats.Capacity > 0
}

func (m resourceModel) tooLarge(s *resourceState, n int64) bool {
	return n > s.stats.Capacity && s.stats.Capacity > 0 && !m.oversized
}

func (s *resourceState) headStarved() bool {
	return s.waiting > 0 && s.now-s.waiters[0].since >= time.Millisecond
}

// turnAway ends the waits whose n fulfills condition with f, unless their
// contexts have ended.
func (s *resourceState) turnAway(o op, f fate, condition func(n int64) bool) {
	waiters := s.waiters
	for _, w := range waiters[:s.waiting] {
		switch {
		case !condition(w.n):
		case (s.ended | o.ended).has(w.call):
			s.remove(w.call, canceled)
		default:
			s.remove(w.call, f)
		}
	}
}

// remove removes a waiting call from the line, and sets its fate.
func (s *resourceState) remove(call int, f fate) {
	w := s.leave(call, f)
	s.stats.WaitCount++
	s.stats.WaitDuration += s.now - w.since
	if f == canceled {
		s.stats.Canceled++
	}
	s.starving = s.starving && s.headStarved()
}

// snapshot returns the expected Stats.
func (s *resourceState) snapshot() condvar.Stats {
	stats := s.stats
	stats.Waiting = int64(s.waiting)
	for _, w := range s.waiters[:s.waiting] {
		stats.WaitingN += min(w.n, math.MaxInt64-stats.WaitingN)
	}
	if s.waiting > 0 {
		stats.OldestWait = s.now - s.waiters[0].since
	}
	return stats
}
