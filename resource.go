package condvar

import (
	"context"
	"errors"
	"math"
	"runtime"
	"strconv"
	"time"
)

// ErrClosed is the error of an Acquire on a [CapacityResource] that is closed,
// or is closed while the call waits.
var ErrClosed = errors.New("condvar: resource is closed")

// ErrTooLarge is the error of an Acquire that asks a [CapacityResource] for
// more permits than its capacity, so that waiting would be in vain.
var ErrTooLarge = errors.New("condvar: request exceeds the capacity")

// A CapacityResource is something of which a limited amount can be in use at a
// time: connections, slots, bytes of a budget. The capacity is a number of
// permits. Acquire takes permits, and waits while too few are free; Release
// puts them back. Permits have no owner: any goroutine may release them.
//
// [NewCapacityResource] makes one; the zero value is not usable. It must not
// be copied; waiting on a copy panics.
//
// Those who wait are served first in, first out, whatever number of permits
// they want: a large request at the head of the line is not overtaken by
// smaller ones behind it. Newcomers, TryAcquire included, may take free
// permits ahead of the line, for permits that lie idle until a goroutine wakes
// up cost throughput; but they may do so only until the head has waited 1 ms,
// counted from when it joined the line. From the first release after that (or
// the first Resize that adds permits) nobody overtakes it. As in the
// starvation mode of [sync.Mutex], that ends as soon as the head is one who has
// waited less, or nobody waits. With [FIFO] nobody ever overtakes.
//
// In the terminology of the Go memory model, a call to Release “synchronizes
// before” the return of any call that acquires the permits which it put back.
type CapacityResource struct {
	// word is what the fast paths work on: free permits, held permits, and how
	// things stand with the line. To acquire is to move permits from free to
	// held in one compare-and-swap, to release is to move them back; so the
	// checks whether there are enough, and whether the line is to be looked
	// after, are part of the same atomic step as the move.
	word word

	// deadline is when the head of the line loses patience, counted from base, if
	// word is headAwake. Later heads lose patience no earlier; so one that is out
	// of date only makes a release take mu in vain, and a release that finds it in
	// the future, and then word as it was before, has not missed the moment.
	deadline word

	// line is where those who wait do so: its waiters are requests, in order of
	// arrival, and keep their places. The first, awake or not, is the head. A
	// head that fits is never left asleep, because every unlock sees to it: if
	// newcomers may not overtake the head it gets its permits there and then; if
	// they may it is woken, unless it is awake, and will look at the books
	// before it parks.
	//
	// line.mu is mu, the lock of the resource, and guards all that follows, unless
	// it says otherwise. It is taken by lock, which claims the books from word, and
	// released by unlock, which puts them there again. In between nothing else
	// changes: what is done under mu is sequential code.
	line     Cond
	capacity int64
	held     int64
	closed   bool
	starving bool // the head has lost patience: nobody may overtake it

	waiting int64         // how many are in line
	latest  time.Duration // since of the last one who joined it
	wanted  [2]uint64     // permits that those in line want, high and low word
	kept    int           // how many requests there are that are used again and again

	waitCount, canceled int64 // see Stats
	waitDuration        time.Duration

	// free are requests that are not in use, a stack linked by below. One is taken
	// with mu held only, therefore what is found on top stays there until then,
	// or has others put on it. They are put there without mu.
	free pointer[request]

	drained Event // set when a closed resource has nothing held any more; has a lock of its own

	wake    wakeUps       // for unlock to send; empty while mu is free
	late    bool          // for unlock to return; false while mu is free
	release time.Duration // when the release began that is going on, or 0

	// These are constant.
	base    time.Time // what times are counted from
	fifo    bool
	watched bool // some hook is to be told of every acquisition or release
	hooks   []Hooks
}

// An Option is an option of [NewCapacityResource], and for nothing else.
type Option func(*CapacityResource)

// FIFO makes a resource strictly first in, first out: a call that comes while
// somebody waits joins the line, and TryAcquire returns false then. That is
// fairer, but every permit that is released while somebody waits is of no use
// until that goroutine runs. AcquireN and TryAcquireN of 0 permits are exempt.
func FIFO() Option {
	return func(r *CapacityResource) { r.fifo = true }
}

// NewCapacityResource returns a resource with the given capacity, of which
// nothing is in use. A resource of capacity 0 is paused: everybody waits until
// there is a [CapacityResource.Resize]. With a capacity of 2^31 or more every
// call takes a mutex, and may look at the clock, where it would need one
// compare-and-swap; to count in larger units, such as KiB, avoids that. It panics
// if capacity < 0.
func NewCapacityResource(capacity int64, opts ...Option) *CapacityResource {
	mustBeCapacity(capacity)
	r := &CapacityResource{base: time.Now()}
	r.line.firstUse()
	for _, opt := range opts {
		opt(r)
	}
	r.resize(capacity)
	return r
}

// Acquire is [CapacityResource.AcquireN] with n = 1.
func (r *CapacityResource) Acquire(ctx context.Context) error { return r.AcquireN(ctx, 1) }

// AcquireN takes n permits, all at once, and waits until that is possible. It
// returns nil if it took them; otherwise it changed nothing, and returns, the
// first that applies:
//
//   - the error of ctx, the one that [Cond.Wait] would return, if ctx ended
//     before the permits were taken, even if they are free;
//   - [ErrClosed], if the resource is closed;
//   - [ErrTooLarge], if n is more than the capacity and that is not 0.
//
// A call that waits returns as soon as one of these comes true, with the
// error of the one that came true first. A call that need not wait looks at ctx
// once, just before it takes the permits: it does not notice if ctx ends in the
// instant between the two.
//
// AcquireN of 0 permits never waits, whoever else does, but it fails if ctx is
// done or the resource is closed. AcquireN panics if n < 0. If enough is free
// and it need not wait for others, a call for at least one permit is one
// compare-and-swap. In the steady state a call allocates nothing.
func (r *CapacityResource) AcquireN(ctx context.Context, n int64) error {
	mustNotBeNegative(n)
	for {
		// The word is loaded before the look at ctx, so permits that come free
		// after ctx has ended are not taken (unless word changed and changed back
		// in between).
		w := r.word.Load()
		if ctx.Err() != nil {
			return contextError(ctx)
		}
		if !fits(w, n) {
			break
		}
		if r.word.CompareAndSwap(w, take(w, n)) {
			return nil
		}
	}
	if r.hooks != nil {
		return r.acquireWithHooks(ctx, n)
	}
	return r.acquireSlow(ctx, n, true)
}

// acquireSlow is AcquireN with the books in hand. If it has to wait and may not,
// it returns errMustWait.
//
// Who is admitted or turned away while asleep has no business with the books any
// more; who is only woken looks whether there is room, and parks again if there
// is none.
func (r *CapacityResource) acquireSlow(ctx context.Context, n int64, mayWait bool) (err error) {
	done, wait, came := ctx.Done(), false, unknown
	if r.fifo && mayWait { // otherwise patience counts from when q joins the line
		came = r.now() // which takes as long as all the rest, so not under mu
	}
	r.lock()
	switch {
	case ended(done): // while this call waited for mu
		r.unlock()
		return contextError(ctx) // whose methods are foreign code, and must not run under mu
	case r.closed:
		err = ErrClosed
	case r.tooLargeLocked(n):
		err = ErrTooLarge
	case r.enterLocked(n):
	case !mayWait:
		err = errMustWait
	default:
		wait = true
	}
	if !wait {
		r.unlock()
		return err
	}
	q := r.joinLocked(n, done, came)
	for {
		locked, now := false, time.Duration(0)
		if done == nil {
			q.sleep.Wait() // calls r.unlock once Signal finds it
		} else {
			r.unlock()
			token, done := exploreSelect(q.ch, done)
			select {
			case <-token:
			case <-done:
				locked, now = r.cancel(q)
			}
		}
		if q.settled {
			break
		}
		if !locked {
			now = r.now() // which takes as long as all the rest, so not under mu
			r.lock()
		}
		if q.inLine() && !ended(done) { // room does not outweigh the context
			if q != r.head() || !r.fitsLocked(n) {
				q.notified = false
				r.line.parkLocked(&q.waiter)
				continue
			}
			r.admitLocked(q, now)
		}
		if q.inLine() {
			r.canceled++
			r.removeLocked(q, now)
		}
		r.unlock()
		break
	}
	admitted, err := q.admitted, q.err
	r.recycle(q)
	if !admitted && err == nil {
		err = contextError(ctx)
	}
	return err
}

// cancel claims the books for q, whose context has ended, and reports whether it
// has them, and the time. If a notifier has committed itself it gives the books
// back, and takes the token.
func (r *CapacityResource) cancel(q *request) (locked bool, now time.Duration) {
	now = r.now()
	r.lock()
	if q.notified {
		r.unlock()
		<-q.ch
		return false, 0
	}
	if q.parked { // else a notifier has passed it over
		r.line.unparkLocked(&q.waiter)
	}
	return true, now
}

// TryAcquire is [CapacityResource.TryAcquireN] with n = 1.
func (r *CapacityResource) TryAcquire() bool { return r.TryAcquireN(1) }

// TryAcquireN takes n permits if it can do so without waiting, and reports
// whether it did. It fails if too few are free, if the resource is closed, and
// if newcomers may not overtake those who wait; with n = 0, only if the
// resource is closed. It panics if n < 0.
func (r *CapacityResource) TryAcquireN(n int64) bool {
	mustNotBeNegative(n)
	for {
		w := r.word.Load()
		if !fits(w, n) {
			if w < offLimits && n > 0 {
				return false
			}
			break
		}
		if r.word.CompareAndSwap(w, take(w, n)) {
			return true
		}
	}
	r.lock()
	ok := !r.closed && r.enterLocked(n)
	r.unlock()
	if ok && r.watched {
		r.tellAcquired(context.Background(), n)
	}
	return ok
}

// Release is [CapacityResource.ReleaseN] with n = 1.
func (r *CapacityResource) Release() { r.ReleaseN(1) }

// ReleaseN puts n permits back. As long as newcomers may overtake the head of the
// line, ReleaseN wakes it if it fits; that one, when it has its permits, wakes
// the next if it fits, too. When nobody may overtake, ReleaseN hands permits to
// as many as fit, from the head on; and if one of these had waited for 1 ms or
// longer when ReleaseN was called, it yields the processor once, for permits are
// best used by those who have them. It never waits for anything but the
// resource's own lock. It panics if n < 0 or if fewer than n permits are held,
// and changes nothing then. If nobody waits it is one compare-and-swap; if the
// head is awake already and still patient, a look at the clock more.
func (r *CapacityResource) ReleaseN(n int64) {
	mustNotBeNegative(n)
	for {
		w := r.word.Load()
		if w >= headAwake || n > int64(w&fieldMax) {
			break
		}
		if r.word.CompareAndSwap(w, take(w, -n)) {
			return
		}
	}
	r.releaseSlow(n)
	if r.watched {
		r.tellReleased(n)
	}
}

// releaseSlow is ReleaseN when there is more to do than to put back permits. If
// the head is awake and patient, there is not.
func (r *CapacityResource) releaseSlow(n int64) {
	now := r.now() // which takes as long as all the rest, so not under mu
	for {
		w := r.word.Load()
		if w >= headAsleep || n > int64(w&fieldMax) || uint64(now) >= r.deadline.Load() { // a negative now is in a bubble
			break
		}
		if r.word.CompareAndSwap(w, take(w, -n)) {
			return
		}
	}
	r.lock()
	if n > r.held {
		r.unlock()
		panic("condvar: released more than held")
	}
	r.held -= n
	r.release = now
	if n > 0 {
		r.hurryLocked(now)
	}
	r.drainLocked()
	if r.unlock() {
		runtime.Gosched()
	}
}

// Do is [CapacityResource.DoN] with n = 1.
func (r *CapacityResource) Do(ctx context.Context, fn func(ctx context.Context) error) error {
	return r.DoN(ctx, 1, fn)
}

// DoN acquires n permits, calls fn with ctx, and returns what fn returns. It
// releases the permits when fn is over: by return, panic or [runtime.Goexit].
// If the permits cannot be acquired it returns the error of
// [CapacityResource.AcquireN] without calling fn. An error of ctx may come from
// either; where that matters, let fn record that it ran. fn must not acquire
// from the same resource: it may wait for itself.
func (r *CapacityResource) DoN(ctx context.Context, n int64, fn func(ctx context.Context) error) error {
	if err := r.AcquireN(ctx, n); err != nil {
		return err
	}
	defer r.ReleaseN(n)
	return fn(ctx)
}

// Resize sets the capacity. What is added is at once available. A decrease
// takes nothing away from anybody, but nobody is admitted until enough has come
// back. Waiting calls that ask for more than the new capacity return
// [ErrTooLarge], unless it is 0: that pauses the resource, and all wait for the
// next Resize. Resize does not block, takes time in proportion to the number of
// those waiting, and panics if capacity < 0, changing nothing. After Close it
// only changes the number that Stats and String report.
func (r *CapacityResource) Resize(capacity int64) {
	mustBeCapacity(capacity)
	r.tellResized(r.resize(capacity), capacity)
}

// resize is Resize without hooks. It returns the old capacity.
func (r *CapacityResource) resize(capacity int64) (old int64) {
	r.lock()
	defer r.unlock()
	old = r.capacity
	grown := capacity > r.capacity
	r.capacity = capacity
	for w := r.line.root.next; w != &r.line.root; {
		next := w.next
		if r.tooLargeLocked(w.request.n) {
			r.turnAwayLocked(w.request, ErrTooLarge)
		}
		w = next
	}
	if grown {
		r.hurryLocked(r.now())
	}
	return old
}

// Close closes the resource: those waiting and all later calls of AcquireN fail
// with [ErrClosed], and once Close has returned no acquisition succeeds. Those who
// hold permits keep them and still have to release them; to wait for that, use
// [CapacityResource.Drain]. Close does not block and always returns nil; to
// close again does no harm.
func (r *CapacityResource) Close() error {
	r.lock()
	defer r.unlock()
	r.closed = true
	for r.waiting > 0 {
		r.turnAwayLocked(r.head(), ErrClosed)
	}
	r.drainLocked()
	return nil
}

// Drain closes the resource, waits until nothing is held any more, and returns
// nil. If ctx ends first it returns the error that [Cond.Wait] would return; the
// resource stays closed. If nothing is held it returns nil even if ctx is done.
// Drain does not hurry those who hold permits, and whoever holds one itself must
// not call it. It may be called again, and by several goroutines.
func (r *CapacityResource) Drain(ctx context.Context) error {
	_ = r.Close()
	err := r.drained.Wait(ctx)
	if r.drained.IsSet() { // since ctx ended, perhaps
		return nil
	}
	return err
}

// Stats is a snapshot of a [CapacityResource], all of one moment.
type Stats struct {
	Capacity   int64         // permits there are
	InUse      int64         // permits held; after a decrease it can exceed Capacity
	Waiting    int64         // calls of AcquireN that wait
	WaitingN   int64         // permits they ask for, at most math.MaxInt64
	OldestWait time.Duration // how long the first in line has been waiting
	Closed     bool          // whether Close was called

	WaitCount    int64         // waits that have ended: with permits, or by context, Close or Resize
	WaitDuration time.Duration // how long these took together
	Canceled     int64         // those of them that were ended by their context
}

// Stats returns statistics. They are kept at all times, at no cost to calls that
// do not wait; Stats itself takes the resource's lock for a moment.
func (r *CapacityResource) Stats() Stats {
	r.lock()
	defer r.unlock()
	s := Stats{
		Capacity: r.capacity, InUse: r.held, Waiting: r.waiting, Closed: r.closed,
		WaitCount: r.waitCount, WaitDuration: r.waitDuration, Canceled: r.canceled,
		WaitingN: math.MaxInt64,
	}
	if r.wanted[0] == 0 && r.wanted[1] <= math.MaxInt64 {
		s.WaitingN = int64(r.wanted[1])
	}
	if r.waiting > 0 {
		s.OldestWait = max(0, r.now()-r.head().since)
	}
	return s
}

// String describes the resource in the form "3/5 in use, 2 waiting".
func (r *CapacityResource) String() string {
	s := r.Stats()
	return strconv.FormatInt(s.InUse, 10) + "/" + strconv.FormatInt(s.Capacity, 10) +
		" in use, " + strconv.FormatInt(s.Waiting, 10) + " waiting"
}

func mustNotBeNegative(n int64) {
	if n < 0 {
		panic("condvar: negative number of permits")
	}
}

func mustBeCapacity(capacity int64) {
	if capacity < 0 {
		panic("condvar: negative capacity")
	}
}
