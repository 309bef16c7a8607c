package condvar_test

import (
	"context"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"example.com/condvar"
)

// The tests of this file turn bytes into operations, in a bubble, and compare
// what happens with a sequential model. After each operation they wait until
// the bubble is at rest, so that the model has one state to predict. Where two
// operations follow each other without rest in between, they are such that
// what the waiting goroutines do meanwhile makes no difference at rest.
//
// Fuzz with -fuzzminimizetime=50x: as goroutines do not run twice alike, nor is
// the same code covered twice, and to minimize an input would take its minute.

// fuzzMaxOps bounds an input, for a long one finds nothing that a short one
// does not.
const fuzzMaxOps = 200

// A fuzzInput is bytes to be read in pairs: an operation and its argument.
type fuzzInput struct {
	all, rest []byte
	trace     []string
}

func newFuzzInput(data []byte) (first byte, in *fuzzInput) {
	if len(data) == 0 {
		data = []byte{0}
	}
	rest := data[1:min(len(data), 1+2*fuzzMaxOps)]
	return data[0], &fuzzInput{all: data, rest: rest}
}

func (in *fuzzInput) next() (op, arg byte, ok bool) {
	if len(in.rest) < 2 {
		return 0, 0, false
	}
	op, arg = in.rest[0], in.rest[1]
	in.rest = in.rest[2:]
	return op, arg, true
}

func (in *fuzzInput) tracef(format string, args ...any) {
	in.trace = append(in.trace, fmt.Sprintf(format, args...))
}

// check stops the test with the operations up to now, unless ok.
func (in *fuzzInput) check(t *testing.T, ok bool, format string, args ...any) {
	t.Helper()
	if !ok {
		require.Fail(t, fmt.Sprintf(format, args...), "input %q\n%s", in.all, strings.Join(in.trace, "\n"))
	}
}

// A fuzzCall is a call on a goroutine, and what the model says of it.
type fuzzCall struct {
	cancel  context.CancelFunc
	returns chan error
	over    bool // it must have returned,
	want    error
}

// start runs f on a goroutine, and settles.
func (c *fuzzCall) start(f func(ctx context.Context) error) {
	ctx, cancel := context.WithCancel(context.Background())
	c.cancel, c.returns = cancel, make(chan error, 1)
	go func() { c.returns <- f(ctx) }()
	synctest.Wait()
}

func (c *fuzzCall) mustReturn(err error) { c.over, c.want = true, err }

// checkCalls checks that exactly those calls have returned of which the model
// says so, and with what, and returns those that have not.
func (in *fuzzInput) checkCalls(t *testing.T, calls []*fuzzCall) (open []*fuzzCall) {
	t.Helper()
	for i, c := range calls {
		select {
		case err := <-c.returns:
			in.check(t, c.over, "open call %d returned %v, should wait", i, err)
			in.check(t, err == c.want || errors.Is(err, c.want) && strings.Contains(err.Error(), "permits still held"), "open call %d returned %v, should %v", i, err, c.want)
		default:
			in.check(t, !c.over, "open call %d waits, should return %v", i, c.want)
			open = append(open, c)
		}
	}
	return open
}

// panicsWith reports whether f panics with the message.
func panicsWith(message string, f func()) (ok bool) {
	defer func() { ok = recover() == any(message) }()
	f()
	return false
}

// CapacityResource.

// The operations on a CapacityResource. What is repeated is to be frequent.
const (
	resOpAcquire = iota
	resOpAcquire2
	resOpAcquire3
	resOpAcquireDeadline // the low bits are n, the high bits the time
	resOpTry
	resOpTry2
	resOpRelease     // n permits, be they held or not
	resOpReleaseHeld // one, or all that are held
	resOpReleaseHeld2
	resOpCancel        // the one with that number who waits
	resOpCancelRelease // without rest in between
	resOpResize
	resOpResizeTwice // smaller and larger again, without rest in between
	resOpAdvance
	resOpAdvance2
	resOpRare // the argument says what
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

func fuzzWeight(arg byte) int64   { return fuzzWeights[arg%16] }
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
	stats          condvar.Stats // all but what follows from line
}

func (m *resModel) free() int64 { return m.stats.Capacity - m.stats.InUse }

func (m *resModel) tooLarge(n int64) bool { return n > m.stats.Capacity && m.stats.Capacity > 0 }

// enter takes n permits without waiting, if a newcomer may.
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

// settle lets in whoever fits.
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

// advance lets time pass, in which deadlines come one after the other.
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
		// One nanosecond each, so that no two things happen at the same time.
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

// fuzzResource runs an input. The lowest bit of the first byte is the mode, the
// others are the capacity.
func fuzzResource(t *testing.T, data []byte) {
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
	t.Cleanup(func() { // for a failure to end the bubble too
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

var resSeeds = [][]byte{
	{},
	// Capacity 2, the default order: overtake a request for 2 until it starves.
	{0, resOpTry, 0, resOpAcquire, 4, resOpTry, 0, resOpReleaseHeld, 1, resOpAdvance, 5, resOpTry, 0,
		resOpReleaseHeld, 1, resOpTry2, 0, resOpReleaseHeld2, 1, resOpRelease, 4},
	// Cancel a starving head: a young one comes after it, then nobody.
	{2 << 1, resOpTry, 4, resOpAcquire, 11, resOpAdvance, 4, resOpAcquire2, 11, resOpAdvance, 0, resOpReleaseHeld, 1,
		resOpTry, 0, resOpCancel, 0, resOpTry, 0, resOpAdvance2, 5, resOpReleaseHeld, 1, resOpTry, 0, resOpCancel, 0, resOpTry, 0},
	// A starving head and an old one behind it, which does not fit.
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

// F6. F7.
func FuzzCapacityResource(f *testing.F) {
	for _, seed := range resSeeds {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		synctest.Test(t, func(t *testing.T) { fuzzResource(t, data) })
	})
}

// Cond.

// The operations on a Cond.
const (
	condOpWait = iota
	condOpWait2
	condOpWaitFor // that the counter grows by arg mod 4
	condOpDead    // Wait and WaitFor with a dead context
	condOpCancel
	condOpNotifyN // of arg mod 6 - 1
	condOpNotifyN2
	condOpNotify
	condOpNotifyAll
	condOpListen
	condOpStop
	condOpReceive
	condOpAdd          // to the counter, and tell nobody
	condOpCancelNotify // without rest in between
	condOpNotifyCancel // likewise, a plain Wait
	condOpCancelStop   // likewise
	condOpCancelRelock // the first in line, while it is notified and waits for L
	condOps
)

// fuzzAll stands for the number that NotifyAll wakes.
const fuzzAll = 1 << 20

// A fuzzWaiter is a Wait, a WaitFor or a Listener in the line.
type fuzzWaiter struct {
	fuzzCall
	l         *condvar.Listener // or nil
	token     bool              // waits in l.C
	broadcast bool              // the token is of NotifyAll, and not passed on
	waitFor   bool
	target    int  // of the counter, for WaitFor
	checks    int  // calls of pred; changed with L held
	own       int  // those of them that are not due to a notification
	away      bool // its wake-up was futile, and it joins the line again
}

// A condFuzz is a run of one input, in a bubble.
type condFuzz struct {
	t         *testing.T
	in        *fuzzInput
	lock      *chanLock
	c         *condvar.Cond
	counter   int // guarded by lock
	line      []*fuzzWaiter
	listeners []*fuzzWaiter
	open      []*fuzzCall
	waits     []*fuzzWaiter // all that ever were in the line
	futile    []*fuzzWaiter // whose predicates were false, in this order; guarded by lock

	// What became of notifications: sent - lost is where they have to be.
	sent, lost, received int
}

func (f *condFuzz) park(w *fuzzWaiter, wait func(ctx context.Context) error) {
	w.start(func(ctx context.Context) error {
		f.c.L.Lock()
		defer f.c.L.Unlock()
		return wait(ctx)
	})
	f.open = append(f.open, &w.fuzzCall)
	f.waits = append(f.waits, w)
	f.line = append(f.line, w)
}

func (f *condFuzz) leave(w *fuzzWaiter) {
	f.line = slices.DeleteFunc(f.line, func(p *fuzzWaiter) bool { return p == w })
}

// notified is the model of NotifyN(n), or of NotifyAll if n is fuzzAll. It
// returns how many were woken, and whether one of them joins the line again.
func (f *condFuzz) notified(n int) (woken int, again bool) {
	for _, w := range slices.Clone(f.line[:min(max(n, 0), len(f.line))]) {
		woken++
		switch {
		case w.l != nil:
			w.token, w.broadcast = true, n == fuzzAll
		case w.waitFor && f.counter < w.target:
			w.away, again = true, true
		default:
			w.mustReturn(nil)
		}
		f.leave(w)
	}
	return woken, again
}

// notify compares what a call returned, and its effect on Waiters right after
// it, with the model.
func (f *condFuzz) notify(n int, call func() int) {
	before := len(f.line)
	got := call()
	left := f.c.Waiters()
	want, again := f.notified(n)
	f.sent += got
	f.in.check(f.t, got == want, "it woke %d, should %d", got, want)
	f.in.check(f.t, again || left == before-want, "%d wait right after it, should %d", left, before-want)
}

func (f *condFuzz) notifyN(n int) { f.notify(n, func() int { return f.c.NotifyN(n) }) }

// callers returns those in line who have a context.
func (f *condFuzz) callers() (cs []*fuzzWaiter) {
	for _, w := range f.line {
		if w.l == nil {
			cs = append(cs, w)
		}
	}
	return cs
}

// cancel cancels the caller in line with that number, if there is one.
func (f *condFuzz) cancel(arg byte) bool {
	cs := f.callers()
	if len(cs) == 0 {
		return false
	}
	w := cs[int(arg)%len(cs)]
	f.in.tracef("cancel %d in line", slices.Index(f.line, w))
	w.cancel()
	f.leave(w)
	w.mustReturn(context.Canceled)
	return true
}

// stop stops the listener with that number, if there is one.
func (f *condFuzz) stop(arg byte) {
	if len(f.listeners) == 0 {
		return
	}
	w := f.listeners[int(arg)%len(f.listeners)]
	f.in.tracef("Stop listener %d", int(arg)%len(f.listeners))
	want := slices.Contains(f.line, w)
	got := w.l.Stop()
	f.in.check(f.t, got == want, "it returned %v", got)
	f.leave(w)
	if w.token {
		w.token = false
		woken := 0
		if !w.broadcast {
			woken, _ = f.notified(1)
		}
		f.lost += 1 - woken
	}
	f.in.check(f.t, len(w.l.C) == 0, "C is not empty after Stop")
}

func (f *condFuzz) do(op, arg byte) {
	trace := f.in.tracef
	n := int(arg)%6 - 1
	switch op % condOps {
	case condOpWait, condOpWait2:
		trace("Wait")
		f.park(&fuzzWaiter{}, f.c.Wait)
	case condOpWaitFor:
		w := &fuzzWaiter{waitFor: true, own: 1, target: f.counter + int(arg)%4}
		trace("WaitFor(counter >= %d)", w.target)
		f.park(w, func(ctx context.Context) error {
			return f.c.WaitFor(ctx, func() bool {
				w.checks++
				if f.counter >= w.target {
					return true
				}
				f.futile = append(f.futile, w)
				return false
			})
		})
		if f.counter >= w.target {
			w.mustReturn(nil)
			f.leave(w)
		}
	case condOpDead:
		trace("waits with a dead context")
		f.lock.Lock()
		unlocks := f.lock.unlocks
		err := f.c.Wait(resDead())
		f.in.check(f.t, errors.Is(err, context.Canceled), "Wait returned %v", err)
		err = f.c.WaitFor(resDead(), func() bool { return false })
		f.in.check(f.t, errors.Is(err, context.Canceled), "WaitFor returned %v", err)
		err = f.c.WaitFor(resDead(), func() bool { return true })
		f.in.check(f.t, err == nil, "WaitFor returned %v", err)
		f.in.check(f.t, f.lock.unlocks == unlocks, "L was unlocked")
		f.lock.Unlock()
	case condOpCancel:
		f.cancel(arg)
	case condOpNotifyN, condOpNotifyN2:
		trace("NotifyN(%d)", n)
		f.notifyN(n)
	case condOpNotify:
		trace("Notify")
		f.notify(1, func() int {
			if f.c.Notify() {
				return 1
			}
			return 0
		})
	case condOpNotifyAll:
		trace("NotifyAll")
		f.notify(fuzzAll, f.c.NotifyAll)
	case condOpListen:
		trace("Listen")
		w := &fuzzWaiter{l: f.c.Listen()}
		f.listeners = append(f.listeners, w)
		f.line = append(f.line, w)
	case condOpStop:
		f.stop(arg)
	case condOpReceive:
		if len(f.listeners) == 0 {
			return
		}
		i := int(arg) % len(f.listeners)
		trace("receive from listener %d", i)
		got := false
		select {
		case <-f.listeners[i].l.C:
			got = true
			f.received++
		default:
		}
		f.in.check(f.t, got == f.listeners[i].token, "received: %v", got)
		f.listeners[i].token = false
	case condOpAdd:
		trace("add %d", int(arg)%3)
		f.lock.Lock()
		f.counter += int(arg) % 3
		f.lock.Unlock()
	case condOpCancelNotify:
		if f.cancel(arg) {
			trace("and NotifyN(%d)", n)
			f.sent += f.c.NotifyN(n)
			f.notified(n)
		}
	case condOpNotifyCancel:
		plain := slices.DeleteFunc(f.callers(), func(w *fuzzWaiter) bool { return w.waitFor })
		if len(plain) == 0 {
			return
		}
		w := plain[int(arg)%len(plain)]
		trace("NotifyN(%d), cancel %d in line", n, slices.Index(f.line, w))
		f.sent += f.c.NotifyN(n)
		w.cancel()
		if f.notified(n); !w.over {
			w.mustReturn(context.Canceled)
			f.leave(w)
		}
	case condOpCancelStop:
		f.cancel(arg)
		f.stop(arg >> 4)
	case condOpCancelRelock:
		if len(f.line) == 0 || f.line[0].l != nil {
			return
		}
		w := f.line[0]
		trace("Lock, Notify, cancel 0 in line, Unlock")
		f.lock.Lock()
		if f.c.Notify() {
			f.sent++
		}
		synctest.Wait()
		w.cancel()
		f.lock.Unlock()
		f.leave(w)
		if !w.waitFor || f.counter >= w.target {
			w.mustReturn(nil)
			return
		}
		w.mustReturn(context.Canceled)
		w.own++ // it did not spend the notification on this call of pred
		woken, _ := f.notified(1)
		f.lost += 1 - woken
	}
}

// check compares the Cond, at rest, with the model. F5.
func (f *condFuzz) check() {
	f.t.Helper()
	synctest.Wait()
	// Those who join again do so in the order in which they looked.
	for _, w := range f.futile {
		if w.away {
			w.away = false
			f.line = append(f.line, w)
		}
	}
	f.futile = nil
	for _, w := range f.waits {
		f.in.check(f.t, !w.away, "one who was woken did not look")
	}
	f.in.check(f.t, f.c.Waiters() == len(f.line), "%d wait, should %d", f.c.Waiters(), len(f.line))
	f.in.check(f.t, !f.lock.locked(), "L is locked")
	f.open = f.in.checkCalls(f.t, f.open)

	// Each notification that a Notify says it sent is to be found: in the nil
	// of a Wait, in a check of a WaitFor, or in a Listener.
	found := f.received + f.lost
	for _, w := range f.waits {
		switch {
		case w.waitFor:
			found += w.checks - w.own
		case w.over && w.want == nil: // which was checked above
			found++
		}
	}
	for _, w := range f.listeners {
		f.in.check(f.t, (len(w.l.C) == 1) == w.token, "tokens in a listener: %d", len(w.l.C))
		found += len(w.l.C)
	}
	f.in.check(f.t, found == f.sent, "%d notifications were sent, %d are to be found", f.sent, found)
}

// fuzzCond runs an input. The first byte means nothing.
func fuzzCond(t *testing.T, data []byte) {
	_, in := newFuzzInput(data)
	f := &condFuzz{t: t, in: in, lock: newChanLock()}
	f.c = condvar.NewCond(f.lock)
	t.Cleanup(func() { // for a failure to end the bubble too
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
	for f.cancel(0) {
	}
	for i := range f.listeners {
		f.stop(byte(i))
	}
	f.check()
	f.in.check(t, len(f.open) == 0, "%d calls have not returned", len(f.open))
}

var condSeeds = [][]byte{
	{},
	// Everybody in one line, woken by one, two and all.
	{0, condOpWait, 0, condOpWaitFor, 1, condOpListen, 0, condOpWait2, 0, condOpWaitFor, 2, condOpNotify, 0,
		condOpNotifyN, 3, condOpAdd, 1, condOpNotifyN2, 2, condOpReceive, 0, condOpNotifyAll, 0, condOpAdd, 1,
		condOpNotifyAll, 0, condOpNotify, 0, condOpDead, 0},
	// Notifications that nobody is to have.
	{0, condOpNotify, 0, condOpNotifyAll, 0, condOpNotifyN, 5, condOpWait, 0, condOpNotifyN, 0, condOpNotifyN, 1,
		condOpReceive, 0, condOpStop, 0},
	// Listeners that stop before, after and after receiving, twice, passing on.
	{0, condOpListen, 0, condOpListen, 0, condOpListen, 0, condOpWait, 0, condOpStop, 0, condOpNotifyN, 3, condOpReceive, 0,
		condOpReceive, 1, condOpStop, 1, condOpStop, 2, condOpStop, 2, condOpListen, 0, condOpNotify, 0, condOpStop, 3,
		condOpListen, 0, condOpNotifyAll, 0, condOpWait, 0, condOpStop, 4, condOpNotify, 0},
	// Cancels that meet notifications, on either side.
	{0, condOpWait, 0, condOpWait, 0, condOpCancelNotify, 2, condOpWait, 0, condOpWaitFor, 1, condOpWait, 0,
		condOpNotifyCancel, 2, condOpCancelNotify, 8, condOpWait, 0, condOpWait, 0, condOpNotifyCancel, 7, condOpCancel, 0},
	// A token is passed on over one that is canceled, to a WaitFor and to nobody.
	{0, condOpListen, 0, condOpWait, 0, condOpWaitFor, 3, condOpWait, 0, condOpNotify, 0, condOpCancelStop, 0, condOpAdd, 2,
		condOpAdd, 1, condOpCancel, 0, condOpNotify, 0, condOpListen, 0, condOpNotify, 0, condOpCancelStop, 0x10},
	// One that is notified and canceled while it waits for L passes on, unless it returns nil.
	{0, condOpWaitFor, 1, condOpWait, 0, condOpWait, 0, condOpCancelRelock, 0, condOpCancelRelock, 0, condOpWaitFor, 1,
		condOpCancelRelock, 0, condOpWaitFor, 1, condOpAdd, 1, condOpCancelRelock, 0},
}

// F5.
func FuzzCond(f *testing.F) {
	for _, seed := range condSeeds {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		synctest.Test(t, func(t *testing.T) { fuzzCond(t, data) })
	})
}

// F5. F6. F7.
func TestRandomOperations(t *testing.T) {
	const inputs, ops = 3000, 40
	run := func(f func(*testing.T, []byte)) func(*testing.T) {
		return func(t *testing.T) {
			for seed := range uint64(inputs) {
				rng := rand.New(rand.NewPCG(seed, 0))
				data := make([]byte, 1+2*ops)
				for i := range data {
					data[i] = byte(rng.Uint32())
				}
				synctest.Test(t, func(t *testing.T) { f(t, data) })
			}
		}
	}
	t.Run("CapacityResource", run(fuzzResource))
	t.Run("Cond", run(fuzzCond))
}
