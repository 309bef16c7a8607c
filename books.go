package condvar

import (
	"math"
	"math/bits"
	"time"
)

// The layout of CapacityResource.word: how things stand with the line, 31 bits of free permits,
// 31 bits of held ones. A resource with a larger capacity, or with hooks that are
// to see everything, does without the fast paths.
const (
	fieldBits  = 31
	fieldMax   = 1<<fieldBits - 1
	headAwake  = 1 << 62 // who waits first is about to look at the books: a release need not wake it
	headAsleep = 2 << 62 // a release has to look whether the head fits
	offLimits  = 3 << 62 // somebody holds mu, or mu must be taken: unlock says when
)

// patience is how long the head of the line puts up with being overtaken.
const patience = time.Millisecond

// A request is a call that waits in line. It is in line from joining until it
// has its permits, is turned away, or leaves because its context ended.
type request struct {
	waiter
	resource *CapacityResource
	n        int64
	since    time.Duration // when it joined, counted from base; with FIFO, when it went for mu
	err      error         // why it was turned away
	admitted bool          // it has its permits
	settled  bool          // it was admitted or turned away while it was asleep
	kept     bool          // it is one of those that are used again
	below    *request      // in the stack of those that are free
}

func (q *request) inLine() bool { return q.next != nil }

// fits reports whether w says that n permits, which is more than 0, are free for
// anybody. That is never so if w is offLimits.
func fits(w uint64, n int64) bool { return uint64(n-1) < w>>fieldBits&fieldMax }

// take returns w with n permits moved from free to held.
func take(w uint64, n int64) uint64 { return w - uint64(n)<<fieldBits + uint64(n) }

// lock locks mu and claims the books.
func (r *CapacityResource) lock() {
	r.line.mu.Lock()
	if r.word.Load() < offLimits {
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
	for r.waiting > 0 && r.fitsLocked(r.head().n) && r.serveLocked() {
	}
	if free := r.capacity - r.held; !r.watched && !r.closed && r.mayEnterLocked() && free >= 0 && r.capacity <= fieldMax {
		w := uint64(free)<<fieldBits | uint64(r.held)
		if r.waiting > 0 {
			w |= r.headLocked()
		}
		r.word.Store(w)
	}
	wake := r.wake
	late, r.wake, r.late, r.release = r.late, wakeUps{}, false, 0
	r.line.mu.Unlock()
	wake.send()
	return late
}

// serveLocked wakes the head of the line, which fits, and gives it its permits
// if nobody may overtake it. It reports whether it did. A head that cannot be
// woken is awake, and helps itself or leaves; its context is none of our
// business then, as it may be in a bubble.
func (r *CapacityResource) serveLocked() bool {
	head := r.head()
	if !head.parked || !r.line.notifyLocked(&head.waiter, false, &r.wake) || r.mayEnterLocked() {
		return false
	}
	if r.release == 0 {
		r.release = r.now()
	}
	r.late = r.late || r.release-head.since >= patience
	head.settled = true
	r.admitLocked(head, r.release)
	return true
}

// headLocked returns what the word says of the head of the line.
func (r *CapacityResource) headLocked() uint64 {
	head := r.head()
	if head.parked {
		return headAsleep
	}
	if d := uint64(max(0, head.since+patience)); d != r.deadline.Load() {
		r.deadline.Store(d)
	}
	return headAwake
}

// head returns the head of the line, if anybody waits.
func (r *CapacityResource) head() *request { return r.line.root.next.request }

// bed is a CapacityResource as the Locker of its sleeping requests: it is
// unlocked as they fall asleep, but not locked as they awake.
type bed CapacityResource

func (b *bed) Lock()   {}
func (b *bed) Unlock() { (*CapacityResource)(b).unlock() }

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
	return !r.fifo && r.waiting > 0 && now-r.head().since >= patience
}

// unknown is earlier than any time that now returns.
const unknown time.Duration = math.MinInt64

// now returns the time, counted from base. Between a testing/synctest bubble
// and what is outside of it, differences mean nothing, and may be negative.
func (r *CapacityResource) now() time.Duration { return time.Since(r.base) }

// joinLocked puts a request at the end of the line. came is the time just before mu
// was locked, if it is known. It must not be before that of the last one who
// joined, lest a head be older than the one before it (see deadline, and
// Stats.OldestWait). It is, and is read again, if that one overtook this call on
// the way to mu, or has another clock, as in a bubble.
func (r *CapacityResource) joinLocked(n int64, done <-chan struct{}, came time.Duration) *request {
	r.line.checkLocked()
	q := r.free.Load()
	for q != nil && !r.free.CompareAndSwap(q, q.below) { // nobody else takes q, so it is there still
		q = r.free.Load()
	}
	if q == nil {
		q = &request{kept: r.kept < maxFree}
		q.request, q.cond, q.keep = q, &r.line, true
		q.resource = r
		if q.kept {
			r.kept++
		}
	}
	q.prepare(done)
	if came < r.latest {
		came = r.now()
	}
	q.n, q.since, r.latest = n, came, came
	r.line.appendLocked(&q.waiter)
	r.line.parkLocked(&q.waiter)
	r.waiting++
	r.addWantedLocked(n)
	return q
}

// recycle puts q, which nobody uses any more, where later calls find it.
func (r *CapacityResource) recycle(q *request) {
	if !q.kept {
		return
	}
	q.tidy()
	q.err, q.admitted, q.settled = nil, false, false
	for {
		q.below = r.free.Load()
		if r.free.CompareAndSwap(q.below, q) {
			return
		}
	}
}

// admitLocked gives q its permits, and takes it out of the line.
func (r *CapacityResource) admitLocked(q *request, now time.Duration) {
	q.admitted = true
	r.held += q.n
	r.removeLocked(q, now)
}

// turnAwayLocked takes q out of the line with err, unless its context ended
// first, and wakes its caller.
func (r *CapacityResource) turnAwayLocked(q *request, err error) {
	if ended(q.done) {
		r.canceled++
	} else {
		q.err = err
	}
	if q.parked && r.line.notifyLocked(&q.waiter, false, &r.wake) {
		q.settled = true
	}
	r.removeLocked(q, r.now())
}

// removeLocked takes q out of the line and counts its wait.
func (r *CapacityResource) removeLocked(q *request, now time.Duration) {
	q.unlink()
	r.waiting--
	r.addWantedLocked(-q.n)
	r.waitCount++
	r.waitDuration += min(max(0, now-q.since), math.MaxInt64-r.waitDuration)
	// A new head loses patience at a release only. now may be from before the
	// lock: before a release by which the new head has lost it.
	r.starving = r.starving && (r.impatientLocked(now) || r.impatientLocked(r.now()))
}

// addWantedLocked adds n, which may be negative, to what those in line want.
func (r *CapacityResource) addWantedLocked(n int64) {
	var carry uint64
	r.wanted[1], carry = bits.Add64(r.wanted[1], uint64(n), 0)
	r.wanted[0] += carry + uint64(n>>63)
}

// drainLocked sets drained once the resource is closed and nothing is held, which
// is how it stays.
func (r *CapacityResource) drainLocked() {
	if r.closed && r.held == 0 {
		r.drained.commit(&r.wake)
	}
}
