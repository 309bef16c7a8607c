package condvar

import (
	"context"
	"math"
	_ "sync/atomic" // its methods are inlined only in packages that import it
	"time"

	"example.com/condvar/internal/primitives"
)

// A CapacityResource is a weighted semaphore that can be resized and closed. It
// limits how much of something is in use: connections, slots, bytes. Permits
// have no owner: any goroutine may release them. [NewCapacityResource] makes
// one; any use of the zero value panics. It must not be copied; using a copy
// may panic.
//
// Waiting calls are served first in, first out, whatever their size. A new
// call, TryAcquire included, may barge ahead of the line only until the first
// release (or Resize that adds permits) after the head of the line has waited 1
// ms, as in the starvation mode of [sync.Mutex]; with [FIFO] never.
type CapacityResource struct {
	// state is what the fast paths use: the flag slow, 31 bits of free permits
	// and 31 bits of held permits. It is
	//
	//	free and held        if no call waits
	//	slow, free and held  if a call waits and new calls may barge: then
	//	                     Acquire may take free permits, Release locks mu
	//	slow alone           if mu is locked, or every call must lock it
	//
	// Acquire moves permits from free to held in one compare-and-swap, and
	// Release moves them back. These pair with each other, with the swap in
	// lock and with the store in unlock.
	state primitives.Uint64

	// line is where calls of AcquireN wait. Its mu is the lock of the resource
	// and guards the fields down to drained. lock takes held from state, and
	// unlock serves the line and stores state. With mu held, no other goroutine
	// changes state.
	//
	// While mu is unlocked, a head that fits is awake, or its token is about to
	// be sent.
	line Cond

	capacity int64
	held     int64 // valid while state is slow alone
	closed   bool
	// starving is true if the head has waited too long: no call may overtake
	// it.
	starving bool

	waitingN    [2]uint64     // permits wanted by waiters, high and low word
	lastArrival time.Duration // arrivedAt of the last waiter that joined

	waitCount, canceled, rejected int64 // see Stats
	waitDuration                  time.Duration

	wake queue         // decided waiters; unlock sends their tokens
	now  time.Duration // 0 if mu's holder has not read the clock

	drained Event // set once r is closed and nothing is held; has its own lock

	// These are constant once NewCapacityResource has returned.
	base              time.Time // the origin of times; zero in the zero value
	fifo              bool
	admitOversized    bool
	maxWaiting        int
	maxWait           time.Duration // or 0
	hooksSeeEveryCall bool          // there is an Acquired or Released hook

	observers []func(*CapacityResource) *Hooks // nil once they have run
	hooks     []Hooks
}

// The layout of state. With a larger capacity, or with hooks that see every
// call, every call locks mu.
const (
	fieldBits = 31
	fieldMax  = 1<<fieldBits - 1
	slow      = 1 << (2 * fieldBits)
)

// fits reports whether n > 0 and state has n free permits.
func fits(state uint64, n int64) bool { return uint64(n-1) < state>>fieldBits&fieldMax }

// take returns state with n permits moved from free to held.
func take(state uint64, n int64) uint64 { return state - uint64(n)<<fieldBits + uint64(n) }

// starvationThreshold is how long new calls may overtake the head of the line.
const starvationThreshold = time.Millisecond

// NewCapacityResource returns a resource with the given capacity. It panics if
// capacity < 1: an unset limit must not block every caller. To start paused,
// call Resize(0).
func NewCapacityResource(capacity int64, opts ...Option) *CapacityResource {
	if capacity < 1 {
		panic("condvar: NewCapacityResource with a capacity below 1 (to start paused, call Resize(0))")
	}
	r := &CapacityResource{base: time.Now(), maxWaiting: math.MaxInt}
	for _, opt := range opts {
		opt(r)
	}
	r.Resize(capacity)
	r.runObservers()
	return r
}

// Acquire is [CapacityResource.AcquireN] with n = 1.
func (r *CapacityResource) Acquire(ctx context.Context) error { return r.AcquireN(ctx, 1) }

// AcquireN takes n permits at once, and waits until that is possible. It
// returns nil if it took them. Otherwise it has changed nothing, and returns
// the first of these errors that applies:
//
//   - the error of ctx, as [Cond.Wait] does, even if permits are free;
//   - [ErrClosed], if the resource is closed;
//   - [ErrTooLarge], if n exceeds the capacity, unless that is 0 or
//     [AdmitOversized] is used;
//   - [ErrOverloaded], if it would have to wait and [MaxWaiting] forbids that,
//     or has waited as long as [MaxWait] allows.
//
// AcquireN of 0 permits never waits, but fails if ctx is done or the resource
// is closed. AcquireN panics if n < 0. In the steady state it does not
// allocate.
func (r *CapacityResource) AcquireN(ctx context.Context, n int64) error {
	for {
		// state is loaded before ctx is checked, so that permits released after
		// ctx has ended are not taken (unless state has changed back).
		s := r.state.Load()
		if ctx.Err() != nil {
			r.check(n)
			return contextError(ctx)
		}
		if !fits(s, n) {
			break
		}
		if r.state.CompareAndSwap(s, take(s, n)) {
			return nil
		}
	}
	r.check(n)
	if r.hooks != nil {
		return r.acquireWithHooks(ctx, n, nil)
	}
	return r.acquireSlow(ctx, n, true)
}

// acquireSlow is AcquireN with mu locked. It returns errMustWait if it must
// wait but mayWait is false.
func (r *CapacityResource) acquireSlow(ctx context.Context, n int64, mayWait bool) (err error) {
	done := ctx.Done()
	timed := r.maxWait > 0 && r.maxWaitEndsFirst(ctx)
	if r.fifo && mayWait {
		r.lockTimed()
	} else { // to measure starvation, arrivedAt must not be before w joins
		r.lock()
	}
	var w *waiter
	switch {
	case ended(done): // while this call waited for mu
		err = errEnded
	case r.closed:
		err = ErrClosed
	case r.tooLargeLocked(n):
		err = ErrTooLarge
	case r.enterLocked(n):
	case r.line.waiters.len >= r.maxWaiting:
		err = ErrOverloaded
		r.rejected++
	case !mayWait:
		err = errMustWait
	default:
		w = r.joinLocked(n, done)
	}
	r.unlock()
	for w != nil {
		var woken bool
		if timed {
			woken = w.sleepAtMost(r.maxWait - (r.clock() - w.arrivedAt))
		} else {
			woken = w.sleep()
		}
		if !woken && r.cancel(w) || w.state == decided || r.lookAgain(w) {
			err = w.err
			r.line.pool.push(w)
			break
		}
	}
	if err == errEnded { //nolint:errorlint // never wrapped
		return contextError(ctx)
	}
	return err
}

// cancel ends the wait of w, whose context or MaxWait has ended. It reports
// whether w left the line because of its context. If not, it receives the
// token. After MaxWait, cancel itself has that token sent.
func (r *CapacityResource) cancel(w *waiter) bool {
	r.lockTimed()
	if w.state == parked { // otherwise it was passed over or woken
		r.turnAwayLocked(w, ErrOverloaded)
	}
	left := w.state == away
	r.unlock()
	if !left {
		w.receive()
	}
	return left
}

// lookAgain is called by the head after it was notified. It takes the permits
// of w or parks w again, and reports whether the wait is over.
func (r *CapacityResource) lookAgain(w *waiter) bool {
	r.lockTimed()
	over := true
	switch {
	case w != r.line.waiters.first: // Close or Resize has removed it
	case ended(w.done): // takes precedence, even if the permits are free
		r.removeLocked(w, errEnded)
	case r.fitsLocked(w.n):
		r.held += w.n
		r.removeLocked(w, nil)
	default:
		w.state, over = parked, false
	}
	r.unlock()
	return over
}

// TryAcquire is [CapacityResource.TryAcquireN] with n = 1.
func (r *CapacityResource) TryAcquire() bool { return r.TryAcquireN(1) }

// TryAcquireN takes n permits if that is possible without waiting, and reports
// whether it did. It fails if too few are free, the resource is closed, or new
// calls may not overtake the line. TryAcquireN of 0 fails only if the resource
// is closed. It panics if n < 0.
func (r *CapacityResource) TryAcquireN(n int64) bool {
	for {
		s := r.state.Load()
		if !fits(s, n) {
			if s&slow == 0 && n > 0 && s != 0 && !r.admitOversized {
				return false
			}
			break
		}
		if r.state.CompareAndSwap(s, take(s, n)) {
			return true
		}
	}
	return r.tryAcquireSlow(n, nil)
}

func (r *CapacityResource) tryAcquireSlow(n int64, hold *Hold) bool {
	r.check(n)
	r.lock()
	ok := !r.closed && r.enterLocked(n)
	r.unlock()
	if ok && r.hooksSeeEveryCall {
		r.runAcquired(context.Background(), n, hold)
	}
	return ok
}

// Release is [CapacityResource.ReleaseN] with n = 1.
func (r *CapacityResource) Release() { r.ReleaseN(1) }

// ReleaseN puts n permits back, and wakes waiters that now fit. It blocks only
// on the mutex of the resource, and does not yield the processor.
//
// ReleaseN panics, and changes nothing, if n < 0 or fewer than n permits are
// held. But a second release of the same permits, or one after a failed
// AcquireN, frees permits of other holders. Where that could happen, use a
// [Permit].
func (r *CapacityResource) ReleaseN(n int64) {
	for {
		s := r.state.Load()
		if s&slow != 0 || uint64(n-1) >= s&fieldMax {
			break
		}
		if r.state.CompareAndSwap(s, take(s, -n)) {
			return
		}
	}
	r.releaseSlow(n)
	if r.hooksSeeEveryCall {
		runReleased(r.hooks, n, nil)
	}
}

func (r *CapacityResource) releaseSlow(n int64) {
	r.check(n)
	r.lockTimed()
	if n > r.held {
		r.unlock()
		panic("condvar: released more than held")
	}
	r.held -= n
	if n > 0 {
		r.markStarvingLocked()
	}
	r.unlock()
}

// Resize sets the capacity, and returns the previous one. Shrinking revokes
// nothing; it stops admissions until usage fits again. Waiting calls that ask
// for more than the new capacity return [ErrTooLarge], unless [AdmitOversized]
// is used. A resource with capacity 0 is paused: calls wait for the next
// Resize. This pauses until return; two overlapping pauses would end at 0:
//
//	defer r.Resize(r.Resize(0))
//
// Resize takes time proportional to the number of waiters. If the resource is
// closed, Resize only changes the number. It panics if capacity < 0.
func (r *CapacityResource) Resize(capacity int64) (old int64) {
	r.check(0)
	if capacity < 0 {
		panic("condvar: negative capacity")
	}
	r.lock()
	old, r.capacity = r.capacity, capacity
	for w := r.line.waiters.first; w != nil; {
		next := w.next // before w leaves the line
		if r.tooLargeLocked(w.n) {
			r.turnAwayLocked(w, ErrTooLarge)
		}
		w = next
	}
	if capacity > old {
		r.markStarvingLocked()
	}
	r.unlock()
	runResized(r.hooks, old, capacity)
	return old
}

// Close closes the resource without blocking: waiting and later acquisitions
// fail with [ErrClosed], and none succeeds once Close has returned. Holders
// still have to release; to wait for that, use Drain. Further calls do nothing.
// Close always returns nil.
func (r *CapacityResource) Close() error {
	r.check(0)
	r.lock()
	r.closed = true
	for r.line.waiters.len > 0 {
		r.turnAwayLocked(r.line.waiters.first, ErrClosed)
	}
	r.unlock()
	return nil
}

// Drain closes the resource, waits until nothing is held, and returns nil. If
// ctx ends first, the resource stays closed, and the error, which matches as
// that of [Cond.Wait] does, says how many permits are held. If nothing is held,
// Drain returns nil even if ctx is done. Do not call Drain while holding a
// permit: it would wait for itself.
func (r *CapacityResource) Drain(ctx context.Context) error {
	_ = r.Close()
	if err := r.drained.Wait(ctx); err != nil {
		// If nothing is held, the last release is about to call Set.
		if held := r.Stats().InUse; held > 0 {
			return &drainError{held, err}
		}
	}
	return nil
}

// lock locks mu and takes held from state.
func (r *CapacityResource) lock() {
	r.line.mu.Lock()
	r.line.checkLocked()
	if r.state.Load() != slow {
		r.held = int64(r.state.Swap(slow) & fieldMax)
	}
}

// lockTimed reads the clock and locks mu. It reads first because a reading
// takes as long as everything else that is done with mu held.
func (r *CapacityResource) lockTimed() {
	now := r.clock()
	r.lock()
	r.now = now
}

// unlock serves the line, stores the permits in state if the fast paths may use
// them, and unlocks mu. It sends the tokens after that, since a notified head
// locks mu.
func (r *CapacityResource) unlock() {
	head := r.serveLocked()
	free := r.capacity - r.held
	if free >= 0 && r.capacity <= fieldMax && r.mayBargeLocked() && !r.closed && !r.hooksSeeEveryCall {
		s := uint64(free)<<fieldBits | uint64(r.held)
		if r.line.waiters.len > 0 {
			s |= slow
		}
		r.state.Store(s)
	}
	drained := r.closed && r.held == 0
	wake := r.wake
	r.wake, r.now = queue{}, 0
	r.line.mu.Unlock()
	wake.send()
	if head != nil {
		head.send()
	}
	if drained { // held stays 0: a closed resource admits no call
		r.drained.Set()
	}
}

// serveLocked makes sure that a head that fits does not stay asleep. If no call
// may overtake, it admits the head and continues with the next. Otherwise it
// notifies the head and returns it, and the caller must send its token.
func (r *CapacityResource) serveLocked() *waiter {
	for r.line.waiters.len > 0 {
		head := r.line.waiters.first
		switch {
		// An awake head checks itself.
		case !r.fitsLocked(head.n), head.state != parked:
			return nil
		case ended(head.done):
			r.removeLocked(head, errEnded)
		case r.mayBargeLocked():
			head.state = notified
			return head
		default:
			r.held += head.n
			r.removeLocked(head, nil)
		}
	}
	return nil
}

// mayBargeLocked reports whether new calls may take permits.
func (r *CapacityResource) mayBargeLocked() bool {
	return r.line.waiters.len == 0 || !r.fifo && !r.starving
}

func (r *CapacityResource) fitsLocked(n int64) bool {
	return n <= r.capacity-r.held || r.held == 0 && r.admitOversized && r.capacity > 0
}

func (r *CapacityResource) tooLargeLocked(n int64) bool {
	return n > r.capacity && r.capacity > 0 && !r.admitOversized
}

// enterLocked takes n permits for a new call, if it need not wait for them.
func (r *CapacityResource) enterLocked(n int64) bool {
	ok := n == 0 || r.mayBargeLocked() && r.fitsLocked(n)
	if ok {
		r.held += n
	}
	return ok
}

// joinLocked puts a waiter at the end of the line. With FIFO the clock may have
// been read before mu was locked, and another call may have joined since. Then
// the clock is read again, since arrivedAt must not decrease along the line:
// Stats.OldestWait is that of the head.
func (r *CapacityResource) joinLocked(n int64, done <-chan struct{}) *waiter {
	w := r.line.joinLocked(done)
	w.n, w.arrivedAt = n, r.nowLocked()
	if w.arrivedAt < r.lastArrival {
		w.arrivedAt = r.clock()
	}
	r.lastArrival = w.arrivedAt
	r.addWaitingNLocked(n)
	return w
}

// turnAwayLocked removes w from the line because of err, unless its context
// ended first.
func (r *CapacityResource) turnAwayLocked(w *waiter, err error) {
	if ended(w.done) {
		err = errEnded
	}
	r.removeLocked(w, err)
}

// removeLocked removes w from the line because of err, or with its permits if
// err is nil. If w is awake, it sees that in lookAgain.
func (r *CapacityResource) removeLocked(w *waiter, err error) {
	r.line.removeLocked(w)
	w.err = err
	if err == errEnded { //nolint:errorlint // it is ours
		r.canceled++
	}
	if err == ErrOverloaded { //nolint:errorlint // never wrapped
		r.rejected++
	}
	switch {
	case w.state != parked:
	case err == errEnded: //nolint:errorlint // it is ours
		w.state = away // its context wakes it
	default:
		w.state = decided
		r.wake.push(w)
	}
	now := r.nowLocked()
	r.waitCount++
	r.waitDuration += min(max(0, now-w.arrivedAt), math.MaxInt64-r.waitDuration)
	r.addWaitingNLocked(-w.n)
	// There may be a new head. now may have been read before mu was locked, so
	// the clock is read again before starving becomes false.
	r.starving = r.starving && (r.headStarvedLocked(now) || r.headStarvedLocked(r.clock()))
}

// markStarvingLocked is called when permits are added. If the head has waited
// too long, no call overtakes it from then on.
func (r *CapacityResource) markStarvingLocked() {
	r.starving = r.starving || !r.fifo && r.headStarvedLocked(r.nowLocked())
}

// headStarvedLocked reports whether the head has waited too long at time now.
func (r *CapacityResource) headStarvedLocked(now time.Duration) bool {
	return r.line.waiters.len > 0 && now-r.line.waiters.first.arrivedAt >= starvationThreshold
}

// clock returns the time since base. Times from inside and outside a
// testing/synctest bubble cannot be compared: a difference may be negative.
func (r *CapacityResource) clock() time.Duration { return time.Since(r.base) }

// nowLocked returns now. If it is not set, it reads the clock.
func (r *CapacityResource) nowLocked() time.Duration {
	if r.now == 0 {
		r.now = r.clock()
	}
	return r.now
}
