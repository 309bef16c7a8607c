package condvar

import (
	"context"
	"errors"
	"math"
	"math/bits"
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
// be copied.
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
	// word is what the fast paths work on. It is either
	//	free permits, held permits, and lineFlag if somebody waits, or
	//	offLimits: somebody holds mu, or mu must be taken (unlock says when).
	// To acquire is to move permits from free to held in one compare-and-swap,
	// to release is to move them back; so the check whether there are enough is
	// part of the same atomic step as the move.
	word word

	// mu guards all that follows. It is taken by lock, which claims the books
	// from word, and released by unlock, which puts them there again. In
	// between nothing else changes: what is done under mu is sequential code.
	mu       mutex
	capacity int64
	held     int64
	fifo     bool // constant
	closed   bool
	starving bool // the head has lost patience: nobody may overtake it

	// The line, a ring around root in order of arrival; root.next is the head.
	// A head that fits is never left asleep, because every unlock sees to it: if
	// newcomers may not overtake the head it gets its permits there and then; if
	// they may it is woken, unless it is awake, and will look at the books
	// before it parks.
	root    request
	waiting int64
	wanted  [2]uint64 // permits that those in line want, high and low word
	free    *request  // for later waits, linked by next
	nfree   int

	drained Cond // signaled when a closed resource has nothing held any more

	wake wakeUps   // for unlock to send; empty while mu is free
	late bool      // for unlock to return; false while mu is free
	base time.Time // what times are counted from; constant

	waitCount, canceled int64
	waitDuration        time.Duration
}

// The layout of word: flags, 31 bits of free permits, 31 bits of held ones. A
// resource with a larger capacity does without the fast paths.
const (
	fieldBits = 31
	fieldMax  = 1<<fieldBits - 1
	lineFlag  = 1 << 62 // somebody waits: a release has to look at the line
	offLimits = 1 << 63
)

// patience is how long the head of the line puts up with being overtaken.
const patience = time.Millisecond

// A request is a call that waits in line. It is in line from joining until it
// has its permits, is turned away, or leaves because its context ended.
type request struct {
	next, prev *request
	n          int64
	since      time.Duration // when it joined, counted from base
	done       <-chan struct{}
	admitted   bool  // it has its permits
	err        error // why it was turned away
	cond       Cond  // for its caller alone; L is the resource's lock
}

func (q *request) inLine() bool { return q.next != nil }

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
// call takes a mutex where it would need one compare-and-swap; to count in
// larger units, such as KiB, avoids that. It panics if capacity < 0.
func NewCapacityResource(capacity int64, opts ...Option) *CapacityResource {
	r := &CapacityResource{base: time.Now()}
	r.root.next, r.root.prev = &r.root, &r.root
	r.drained.L = (*locker)(r)
	for _, opt := range opts {
		opt(r)
	}
	r.Resize(capacity)
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
// and it need not wait for others, a call is one compare-and-swap. In the
// steady state a call allocates nothing.
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
	ok, err := r.acquireSlow(ctx.Done(), n)
	if !ok && err == nil {
		err = contextError(ctx)
	}
	return err
}

// acquireSlow is AcquireN with the books in hand. It fails without an error if
// the context ended, whose methods, being foreign code, must not run under mu.
func (r *CapacityResource) acquireSlow(done <-chan struct{}, n int64) (ok bool, err error) {
	r.lock()
	defer r.unlock()
	switch {
	case ended(done): // while this call waited for mu
		return false, nil
	case r.closed:
		return false, ErrClosed
	case r.tooLargeLocked(n):
		return false, ErrTooLarge
	case r.enterLocked(n):
		return true, nil
	}
	q := r.joinLocked(n, done)
	defer r.leaveLocked(q)
	for q.inLine() && (q != r.root.next || !r.fitsLocked(n)) && q.cond.wait(done, nil) {
	}
	if q.inLine() && !ended(done) { // room does not outweigh the context
		r.admitLocked(q)
	}
	return q.admitted, q.err
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
		if w&offLimits != 0 {
			break
		}
		if !fits(w, n) {
			return false
		}
		if r.word.CompareAndSwap(w, take(w, n)) {
			return true
		}
	}
	r.lock()
	defer r.unlock()
	return !r.closed && r.enterLocked(n)
}

// Release is [CapacityResource.ReleaseN] with n = 1.
func (r *CapacityResource) Release() { r.ReleaseN(1) }

// ReleaseN puts n permits back. As long as newcomers may overtake the head of the
// line, ReleaseN wakes it if it fits; that one, when it has its permits, wakes
// the next if it fits, too. When nobody may overtake, ReleaseN hands permits to
// as many as fit, from the head on; and if one of these has waited for 1 ms or
// longer, it yields the processor once, for permits are best used by those who
// have them. It never waits for anything but the resource's own lock. It panics
// if n < 0 or if fewer than n permits are held, and changes nothing then. If
// nobody waits it is one compare-and-swap.
func (r *CapacityResource) ReleaseN(n int64) {
	mustNotBeNegative(n)
	for {
		w := r.word.Load()
		if w&(offLimits|lineFlag) != 0 || n > int64(w&fieldMax) {
			break
		}
		if r.word.CompareAndSwap(w, take(w, -n)) {
			return
		}
	}
	var now time.Duration
	if !r.fifo {
		now = r.now() // which takes as long as all the rest, so not under mu
	}
	r.lock()
	if n > r.held {
		r.unlock()
		panic("condvar: released more than held")
	}
	r.held -= n
	if n > 0 {
		r.hurryLocked(now)
	}
	if r.closed && r.held == 0 {
		r.drained.commit(math.MaxInt, true, &r.wake)
	}
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
	if capacity < 0 {
		panic("condvar: negative capacity")
	}
	r.lock()
	defer r.unlock()
	grown := capacity > r.capacity
	r.capacity = capacity
	for q := r.root.next; q != &r.root; {
		next := q.next
		if r.tooLargeLocked(q.n) {
			r.turnAwayLocked(q, ErrTooLarge)
		}
		q = next
	}
	if grown {
		r.hurryLocked(r.now())
	}
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
	for r.root.next != &r.root {
		r.turnAwayLocked(r.root.next, ErrClosed)
	}
	return nil
}

// Drain closes the resource, waits until nothing is held any more, and returns
// nil. If ctx ends first it returns the error that [Cond.Wait] would return; the
// resource stays closed. If nothing is held it returns nil even if ctx is done.
// Drain does not hurry those who hold permits, and whoever holds one itself must
// not call it. It may be called again, and by several goroutines.
func (r *CapacityResource) Drain(ctx context.Context) error {
	_ = r.Close()
	if !r.drain(ctx.Done()) {
		return contextError(ctx)
	}
	return nil
}

func (r *CapacityResource) drain(done <-chan struct{}) bool {
	r.lock()
	defer r.unlock()
	isDrained := func() bool { return r.held == 0 }
	return isDrained() || !ended(done) && r.drained.wait(done, isDrained)
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
		s.OldestWait = max(0, r.now()-r.root.next.since)
	}
	return s
}

// String describes the resource in the form "3/5 in use, 2 waiting".
func (r *CapacityResource) String() string {
	s := r.Stats()
	return strconv.FormatInt(s.InUse, 10) + "/" + strconv.FormatInt(s.Capacity, 10) +
		" in use, " + strconv.FormatInt(s.Waiting, 10) + " waiting"
}

// fits reports whether w says that n permits are free for anybody.
func fits(w uint64, n int64) bool { return w&offLimits == 0 && n <= int64(w>>fieldBits&fieldMax) }

// take returns w with n permits moved from free to held.
func take(w uint64, n int64) uint64 { return w - uint64(n)<<fieldBits + uint64(n) }

// lock locks mu and claims the books.
func (r *CapacityResource) lock() {
	r.mu.Lock()
	if r.word.Load()&offLimits == 0 {
		r.held = int64(r.word.Swap(offLimits) & fieldMax)
	}
}

// unlock sees to the line, puts the books back where the fast paths find them,
// if newcomers may help themselves, and unlocks mu. Whom it wakes it commits
// itself to under mu; later, that might be another call, in another bubble, to
// which the request belongs by then. The tokens follow without mu, lest the
// woken run into it. It reports whether permits went to one who had lost
// patience.
func (r *CapacityResource) unlock() (late bool) {
	for r.waiting > 0 && r.fitsLocked(r.root.next.n) && r.serveLocked() {
	}
	if free := r.capacity - r.held; !r.closed && r.mayEnterLocked() && free >= 0 && r.capacity <= fieldMax {
		w := uint64(free)<<fieldBits | uint64(r.held)
		if r.waiting > 0 {
			w |= lineFlag
		}
		r.word.Store(w)
	}
	wake := r.wake
	late, r.wake, r.late = r.late, wakeUps{}, false
	r.mu.Unlock()
	wake.send()
	return late
}

// serveLocked wakes the head of the line, which fits, and gives it its permits
// if nobody may overtake it. It reports whether it did. A head that cannot be
// woken is awake, and helps itself or leaves; its context is none of our
// business then, as it may be in a bubble.
func (r *CapacityResource) serveLocked() bool {
	head := r.root.next
	if head.cond.commit(1, false, &r.wake) == 0 || r.mayEnterLocked() {
		return false
	}
	r.admitLocked(head)
	r.late = r.late || r.now()-head.since >= patience
	return true
}

// locker is a CapacityResource as the Locker of its Conds.
type locker CapacityResource

func (l *locker) Lock()   { (*CapacityResource)(l).lock() }
func (l *locker) Unlock() { (*CapacityResource)(l).unlock() }

// mayEnterLocked reports whether newcomers need not join the line.
func (r *CapacityResource) mayEnterLocked() bool {
	return r.waiting == 0 || !r.fifo && !r.starving
}

func (r *CapacityResource) fitsLocked(n int64) bool { return n <= r.capacity-r.held }

func (r *CapacityResource) tooLargeLocked(n int64) bool { return n > r.capacity && r.capacity > 0 }

// enterLocked takes n permits for a newcomer, if that is possible.
func (r *CapacityResource) enterLocked(n int64) bool {
	ok := n == 0 || r.mayEnterLocked() && r.fitsLocked(n)
	if ok {
		r.held += n
	}
	return ok
}

// hurryLocked is for when permits come in: a head that has waited too long is
// starving from then on.
func (r *CapacityResource) hurryLocked(now time.Duration) {
	r.starving = r.starving || r.impatientLocked(now)
}

// impatientLocked reports whether the head has waited too long.
func (r *CapacityResource) impatientLocked(now time.Duration) bool {
	return !r.fifo && r.waiting > 0 && now-r.root.next.since >= patience
}

// now returns the time, counted from base. Between a testing/synctest bubble
// and what is outside of it, differences mean nothing, and may be negative.
func (r *CapacityResource) now() time.Duration { return time.Since(r.base) }

// joinLocked puts a request at the end of the line. Its counterpart is
// leaveLocked.
func (r *CapacityResource) joinLocked(n int64, done <-chan struct{}) *request {
	q := r.free
	if q != nil {
		r.free = q.next
		r.nfree--
	} else {
		q = &request{}
		q.cond.L = (*locker)(r)
	}
	q.n, q.done, q.since = n, done, r.now()
	q.prev, q.next = r.root.prev, &r.root
	q.prev.next, q.next.prev = q, q
	r.waiting++
	r.addWantedLocked(n)
	return q
}

// leaveLocked ends the call that waited as q. If q is in line still, its context
// has ended, or something panicked.
func (r *CapacityResource) leaveLocked(q *request) {
	if q.inLine() {
		r.canceled++
		r.removeLocked(q)
	}
	if r.nfree < maxFree {
		q.done, q.err, q.admitted = nil, nil, false
		q.next, r.free = r.free, q
		r.nfree++
	}
}

// admitLocked gives q its permits, and takes it out of the line.
func (r *CapacityResource) admitLocked(q *request) {
	q.admitted = true
	r.held += q.n
	r.removeLocked(q)
}

// turnAwayLocked takes q out of the line with err, unless its context ended
// first, and wakes its caller.
func (r *CapacityResource) turnAwayLocked(q *request, err error) {
	if ended(q.done) {
		r.canceled++
	} else {
		q.err = err
	}
	r.removeLocked(q)
	q.cond.commit(1, false, &r.wake)
}

// removeLocked takes q out of the line and counts its wait.
func (r *CapacityResource) removeLocked(q *request) {
	q.prev.next, q.next.prev = q.next, q.prev
	q.next, q.prev = nil, nil
	r.waiting--
	r.addWantedLocked(-q.n)
	r.waitCount++
	now := r.now()
	r.waitDuration += min(max(0, now-q.since), math.MaxInt64-r.waitDuration)
	r.starving = r.starving && r.impatientLocked(now) // a new head loses patience at a release only
}

// addWantedLocked adds n, which may be negative, to what those in line want.
func (r *CapacityResource) addWantedLocked(n int64) {
	var carry uint64
	r.wanted[1], carry = bits.Add64(r.wanted[1], uint64(n), 0)
	r.wanted[0] += carry + uint64(n>>63)
}

func mustNotBeNegative(n int64) {
	if n < 0 {
		panic("condvar: negative number of permits")
	}
}
