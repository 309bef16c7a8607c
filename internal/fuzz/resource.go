package fuzz

import (
	"context"
	"errors"
	"math"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"example.com/condvar"
)

// The operations on a CapacityResource. Frequent ones are repeated.
const (
	resOpAcquire = iota
	resOpAcquire2
	resOpAcquire3
	resOpAcquireDeadline // the low bits are n, the high bits the time
	resOpTry
	resOpTry2
	resOpRelease     // n permits, held or not
	resOpReleaseHeld // one, or all that are held
	resOpReleaseHeld2
	resOpCancel        // the waiting call with that number
	resOpCancelRelease // without rest in between
	resOpResize
	resOpResizeTwice // smaller and larger again, without rest in between
	resOpAdvance
	resOpAdvance2
	resOpRare // the argument says which
	resOps
)

const (
	resRareClose = iota
	resRareDrain
	resRareNegative // numbers in each call
	resRareDead     // AcquireN with a dead context
	resRareZero     // AcquireN(0) and TryAcquireN(0)
	resRares        = 16
)

var (
	fuzzWeights    = [16]int64{1, 1, 1, 1, 2, 2, 2, 2, 3, 3, 3, 4, 5, 0, 1 << 31, math.MaxInt64}
	fuzzCapacities = [16]int64{2, 3, 4, 5, 1, 3, 4, 5, 0, 4, 6, 8, 5, 1<<31 - 1, 1 << 31, math.MaxInt64}
	fuzzTimes      = [8]time.Duration{time.Microsecond, 100 * time.Microsecond, 499 * time.Microsecond, 500 * time.Microsecond,
		999 * time.Microsecond, time.Millisecond, 1001 * time.Microsecond, 10 * time.Millisecond}
)

func fuzzWeight(arg byte) int64 { return fuzzWeights[arg%16] }

func fuzzCapacity(arg byte) int64 { return fuzzCapacities[arg%16] }

// A fuzzRequest is a call of AcquireN, or of Drain with n = 0.
type fuzzRequest struct {
	fuzzCall
	n               int64
	since, deadline time.Duration // no deadline: 0
}

// A resModel says what a CapacityResource at rest looks like.
type resModel struct {
	fifo, starving bool
	now            time.Duration
	line, drains   []*fuzzRequest
	stats          condvar.Stats // all fields that do not follow from line
}

func (m *resModel) free() int64 { return m.stats.Capacity - m.stats.InUse }

func (m *resModel) tooLarge(n int64) bool { return n > m.stats.Capacity && m.stats.Capacity > 0 }

// enter takes n permits without waiting, if a new call may.
func (m *resModel) enter(n int64) bool {
	if m.stats.Closed {
		return false
	}
	overtake := len(m.line) == 0 || !m.fifo && !m.starving
	if n > 0 && (!overtake || n > m.free()) {
		return false
	}
	m.stats.InUse += n
	return true
}

func (m *resModel) acquire(q *fuzzRequest) {
	switch {
	case m.stats.Closed:
		q.mustReturn(condvar.ErrClosed)
	case m.tooLarge(q.n):
		q.mustReturn(condvar.ErrTooLarge)
	case m.enter(q.n):
		q.mustReturn(nil)
	default:
		q.since = m.now
		m.line = append(m.line, q)
	}
}

func (m *resModel) isOld() bool {
	return !m.fifo && len(m.line) > 0 && m.now-m.line[0].since >= resThreshold
}

// leave ends the wait of q with err.
func (m *resModel) leave(q *fuzzRequest, err error) {
	m.line = slices.DeleteFunc(m.line, func(p *fuzzRequest) bool { return p == q })
	m.stats.WaitCount++
	m.stats.WaitDuration += m.now - q.since
	m.starving = m.starving && m.isOld()
	q.mustReturn(err)
}

// cancel ends q, which is in the line or a Drain.
func (m *resModel) cancel(q *fuzzRequest, err error) {
	if i := slices.Index(m.drains, q); i >= 0 {
		m.drains = slices.Delete(m.drains, i, i+1)
		q.mustReturn(err)
		return
	}
	m.stats.Canceled++
	m.leave(q, err)
	m.settle()
}

// settle admits the calls that fit.
func (m *resModel) settle() {
	for len(m.line) > 0 && m.line[0].n <= m.free() {
		m.stats.InUse += m.line[0].n
		m.leave(m.line[0], nil)
	}
	if m.stats.Closed && m.stats.InUse == 0 {
		for _, d := range m.drains {
			d.mustReturn(nil)
		}
		m.drains = nil
	}
}

func (m *resModel) release(n int64) {
	m.stats.InUse -= n
	m.starving = m.starving || n > 0 && m.isOld()
	m.settle()
}

func (m *resModel) resize(capacity int64) {
	grown := capacity > m.stats.Capacity
	m.stats.Capacity = capacity
	for _, q := range slices.Clone(m.line) {
		if m.tooLarge(q.n) {
			m.leave(q, condvar.ErrTooLarge)
		}
	}
	m.starving = m.starving || grown && m.isOld()
	m.settle()
}

func (m *resModel) close() {
	m.stats.Closed = true
	for len(m.line) > 0 {
		m.leave(m.line[0], condvar.ErrClosed)
	}
	m.settle()
}

// advance advances the clock. Deadlines pass one after the other.
func (m *resModel) advance(d time.Duration) {
	end := m.now + d
	for {
		var first *fuzzRequest
		for _, q := range m.line {
			if q.deadline > 0 && q.deadline <= end && (first == nil || q.deadline < first.deadline) {
				first = q
			}
		}
		if first == nil {
			break
		}
		m.now = first.deadline
		m.cancel(first, context.DeadlineExceeded)
	}
	m.now = end
}

// snapshot returns the whole Stats.
func (m *resModel) snapshot() condvar.Stats {
	s := m.stats
	s.Waiting = int64(len(m.line))
	for _, q := range m.line {
		s.WaitingN += min(q.n, math.MaxInt64-s.WaitingN)
	}
	if len(m.line) > 0 {
		s.OldestWait = m.now - m.line[0].since
	}
	return s
}

// A resFuzz is a run of one input, in a bubble.
type resFuzz struct {
	t     *testing.T
	in    *fuzzInput
	r     *condvar.CapacityResource
	m     resModel
	open  []*fuzzCall // those that have not returned, as of the last check
	calls int
}

func (f *resFuzz) start(q *fuzzRequest, call func(context.Context) error) {
	q.start(call)
	f.open = append(f.open, &q.fuzzCall)
}

func (f *resFuzz) acquire(n int64, timeout time.Duration) {
	q := &fuzzRequest{n: n}
	if timeout > 0 {
		// One nanosecond each, so that no two events are simultaneous.
		f.calls++
		timeout += time.Duration(f.calls)
		q.deadline = f.m.now + timeout
	}
	f.start(q, func(ctx context.Context) error {
		if timeout > 0 {
			var cancel context.CancelFunc
			ctx, cancel = context.WithTimeout(ctx, timeout)
			defer cancel()
		}
		return f.r.AcquireN(ctx, n)
	})
	f.m.acquire(q)
}

func (f *resFuzz) release(n int64) {
	if n <= f.m.stats.InUse {
		f.r.ReleaseN(n)
		f.m.release(n)
		return
	}
	ok := panicsWith(resOverRelease, func() { f.r.ReleaseN(n) })
	f.in.check(f.t, ok, "releasing more than is held does not panic")
}

func (f *resFuzz) try(n int64) {
	got, want := f.r.TryAcquireN(n), f.m.enter(n)
	f.in.check(f.t, got == want, "TryAcquireN(%d) is %v", n, got)
}

func (f *resFuzz) resize(capacity int64) {
	f.r.Resize(capacity)
	f.m.resize(capacity)
}

func (f *resFuzz) negative(n int64) {
	const permits, capacity = "condvar: negative number of permits", "condvar: negative capacity"
	f.in.check(f.t, panicsWith(permits, func() { _ = f.r.AcquireN(resDead(), n) }), "AcquireN does not panic")
	f.in.check(f.t, panicsWith(permits, func() { f.r.TryAcquireN(n) }), "TryAcquireN does not panic")
	f.in.check(f.t, panicsWith(permits, func() { f.r.ReleaseN(n) }), "ReleaseN does not panic")
	f.in.check(f.t, panicsWith(capacity, func() { f.r.Resize(n) }), "Resize does not panic")
}

func (f *resFuzz) do(op, arg byte) {
	trace, m := f.in.tracef, &f.m
	switch op % resOps {
	case resOpAcquire, resOpAcquire2, resOpAcquire3:
		trace("AcquireN(%d)", fuzzWeight(arg))
		f.acquire(fuzzWeight(arg), 0)
	case resOpAcquireDeadline:
		timeout := time.Duration(1+arg>>4) * 200 * time.Microsecond
		trace("AcquireN(%d) for %v", fuzzWeight(arg), timeout)
		f.acquire(fuzzWeight(arg), timeout)
	case resOpTry, resOpTry2:
		trace("TryAcquireN(%d)", fuzzWeight(arg))
		f.try(fuzzWeight(arg))
	case resOpRelease:
		trace("ReleaseN(%d)", fuzzWeight(arg))
		f.release(fuzzWeight(arg))
	case resOpReleaseHeld, resOpReleaseHeld2:
		n := m.stats.InUse
		if arg%4 > 0 {
			n = min(n, 1)
		}
		trace("ReleaseN(%d)", n)
		f.release(n)
	case resOpCancel:
		all := slices.Concat(m.line, m.drains)
		if len(all) == 0 {
			return
		}
		i := int(arg) % len(all)
		trace("cancel %d of those who wait", i)
		all[i].cancel()
		m.cancel(all[i], context.Canceled)
	case resOpResize:
		trace("Resize(%d)", fuzzCapacity(arg))
		f.resize(fuzzCapacity(arg))
	case resOpResizeTwice:
		small := min(m.stats.Capacity, fuzzCapacity(arg))
		large := max(small, fuzzCapacity(arg>>4))
		trace("Resize(%d), Resize(%d)", small, large)
		f.resize(small)
		f.resize(large)
	case resOpAdvance, resOpAdvance2:
		trace("sleep %v", fuzzTimes[arg%8])
		time.Sleep(fuzzTimes[arg%8])
		m.advance(fuzzTimes[arg%8])
	case resOpCancelRelease:
		if len(m.line) == 0 || m.stats.InUse == 0 {
			return
		}
		i := int(arg) % len(m.line)
		trace("cancel %d in line, Release()", i)
		q := m.line[i]
		q.cancel()
		m.cancel(q, context.Canceled)
		f.release(1)
	case resOpRare:
		switch arg % resRares {
		case resRareClose:
			trace("Close()")
			f.in.check(f.t, f.r.Close() == nil, "Close returned an error")
			m.close()
		case resRareDrain:
			trace("Drain()")
			q := &fuzzRequest{}
			f.start(q, f.r.Drain)
			m.drains = append(m.drains, q)
			m.close()
		case resRareNegative:
			trace("negative numbers")
			f.negative(-1 - fuzzWeight(arg>>4))
		case resRareDead:
			trace("AcquireN with a dead context")
			err := f.r.AcquireN(resDead(), fuzzWeight(arg>>4))
			f.in.check(f.t, errors.Is(err, context.Canceled), "it returned %v", err)
		default:
			trace("AcquireN(0), TryAcquireN(0)")
			f.acquire(0, 0)
			f.try(0)
		}
	}
}

// check compares the resource, at rest, with the model. F6. F7.
func (f *resFuzz) check() {
	f.t.Helper()
	synctest.Wait()
	got, want := f.r.Stats(), f.m.snapshot()
	f.in.check(f.t, got == want, "Stats are  %+v\nand should %+v", got, want)
	f.open = f.in.checkCalls(f.t, f.open)
	if len(f.m.line) > 0 {
		n := f.m.line[0].n
		f.in.check(f.t, n > got.Capacity-got.InUse, "the first in line wants %d, which fit: %+v", n, got)
	}
}

// Resource runs an input. The lowest bit of the first byte is the mode, the
// others are the capacity.
func Resource(t *testing.T, data []byte) {
	first, in := newFuzzInput(data)
	f := &resFuzz{t: t, in: in}
	f.m.fifo = first&1 != 0
	f.m.stats.Capacity = fuzzCapacity(first >> 1)
	var opts []condvar.Option
	if f.m.fifo {
		opts = append(opts, condvar.FIFO())
	}
	f.r = condvar.NewCapacityResource(max(1, f.m.stats.Capacity), opts...)
	f.r.Resize(f.m.stats.Capacity)
	in.tracef("capacity %d, FIFO %v", f.m.stats.Capacity, f.m.fifo)
	t.Cleanup(func() { // so that a failure ends the bubble too
		for _, c := range f.open {
			c.cancel()
		}
	})
	for {
		f.check()
		op, arg, ok := in.next()
		if !ok {
			break
		}
		f.do(op, arg)
	}
	in.tracef("cancel all, from the last to the first")
	for _, q := range slices.Backward(slices.Concat(f.m.line, f.m.drains)) {
		q.cancel()
		f.m.cancel(q, context.Canceled)
	}
	f.check()
	f.in.check(t, len(f.open) == 0, "%d calls have not returned", len(f.open))
}

// ResourceSeeds are inputs for Resource.
var ResourceSeeds = [][]byte{
	{},
	// Capacity 2, the default order: overtake a request for 2 until it starves.
	{0, resOpTry, 0, resOpAcquire, 4, resOpTry, 0, resOpReleaseHeld, 1, resOpAdvance, 5, resOpTry, 0,
		resOpReleaseHeld, 1, resOpTry2, 0, resOpReleaseHeld2, 1, resOpRelease, 4},
	// Cancel a starving head: the next head is young, then the line is empty.
	{2 << 1, resOpTry, 4, resOpAcquire, 11, resOpAdvance, 4, resOpAcquire2, 11, resOpAdvance, 0, resOpReleaseHeld, 1,
		resOpTry, 0, resOpCancel, 0, resOpTry, 0, resOpAdvance2, 5, resOpReleaseHeld, 1, resOpTry, 0, resOpCancel, 0, resOpTry, 0},
	// A starving head, and behind it another starved call that does not fit.
	{3 << 1, resOpTry, 8, resOpAcquire, 11, resOpAcquire, 11, resOpAcquire3, 0, resOpAdvance, 5, resOpReleaseHeld, 1,
		resOpCancel, 0, resOpTry, 0, resOpReleaseHeld, 1, resOpTry, 0, resOpCancelRelease, 0, resOpTry, 0},
	// FIFO, and a line of all weights.
	{2<<1 | 1, resOpAcquire, 8, resOpAcquire, 8, resOpAcquire2, 0, resOpAcquire3, 4, resOpAcquire, 7, resOpTry, 0,
		resOpCancel, 0, resOpCancelRelease, 0, resOpReleaseHeld, 1, resOpReleaseHeld, 0, resOpReleaseHeld2, 0},
	// Shrink below the head and one in the middle, back to back, and pause.
	{3 << 1, resOpAcquire, 12, resOpAcquire, 12, resOpAcquire, 0, resOpAcquire, 11, resOpResizeTwice, 0x31,
		resOpResize, 8, resOpAcquire, 15, resOpReleaseHeld, 0, resOpResize, 1, resOpResizeTwice, 0x08, resOpAcquire, 0},
	// Deadlines that come one after the other, the last one beyond the sleep.
	{1<<1 | 1, resOpAcquire, 8, resOpAcquireDeadline, 0x14, resOpAcquireDeadline, 0x00, resOpAcquireDeadline, 0xf1,
		resOpAdvance, 4, resOpReleaseHeld, 1, resOpAdvance, 7},
	// Numbers that do not fit into 31 bits.
	{15 << 1, resOpAcquire, 15, resOpAcquire, 15, resOpAcquire, 15, resOpTry, 0, resOpRelease, 14, resOpResize, 14,
		resOpReleaseHeld, 0, resOpAcquire, 14, resOpResize, 13, resOpRelease, 15, resOpTry, 0},
	// Wrong calls change nothing.
	{0, resOpTry, 0, resOpRelease, 4, resOpRare, resRareNegative, resOpRare, resRareNegative | 0xf0, resOpRare, resRareDead,
		resOpAcquire, 8, resOpRelease, 15, resOpTry, 4, resOpRare, resRareZero, resOpReleaseHeld, 0, resOpRelease, 0},
	// Close with a line, and drain.
	{1, resOpAcquire, 4, resOpAcquire, 0, resOpAcquire, 4, resOpRare, resRareClose, resOpTry, 0, resOpRare, resRareZero,
		resOpAcquire, 0, resOpRare, resRareDrain, resOpRare, resRareDrain, resOpCancel, 1, resOpResize, 7,
		resOpReleaseHeld, 1, resOpReleaseHeld, 1, resOpRare, resRareDrain, resOpRare, resRareClose},
}
