package condvar

import "time"

// A waiter is one call of Wait, WaitFor or Listen; or it is a run, in line as
// long as there is a ticket in it. A call is
//
//	parked, in line -> notified -> its notification is spent
//	      |   ^             |
//	      |   +-------------+ WaitFor, if its predicate is false
//	      +-> its context ended
//
// A notifier commits itself under mu, by making a parked waiter notified, and
// then sends one token. A waiter that finds its context ended looks under mu
// whether it is parked still. So the first event wins, and there is room for
// every token. To return nil, or to park again, is to spend the notification.
// Whoever leaves with one that is not spent passes it on; but those of
// NotifyAll need not be, as everybody who was in line has one.
//
// If no context can end it, the token goes through sleep, which costs
// less than a select and works inside testing/synctest bubbles, outside and
// across. Otherwise it goes through ch. To use a channel outside of the
// bubble in which it was made is fatal, and to wait for one from outside stops
// the bubble's clock. So a bubbled ch is not kept for later waits, and in a
// bubble a wait gets a new one. To find out costs a look at the clock, which
// is spared if done is that of the waiter's last wait: the first wait with it was
// outside of bubbles, therefore done is not of a bubble, and to wait for it stops
// the clock anyway.
//
// The waiters of a CapacityResource are parts of its requests. What is done in
// wait, WaitFor and leave for others, the resource does for them, its own way.
type waiter struct {
	// What a wait with a context touches comes first: 64 bytes, a cache line.
	next, prev *waiter         // in the line; guarded by Cond.mu, as is parked
	wake       *waiter         // the next one in the same wakeUps
	done       <-chan struct{} // of the context; or if it is not in use, of the last one
	ch         chan struct{}   // of size 1
	place      uint64
	parked     bool
	notified   bool     // and not spent; set with mu held, then the waiter's own
	broadcast  bool     // the notification is of NotifyAll; as notified
	run        bool     // it is a run
	keep       bool     // in the line until leave, so that it keeps its place
	clean      bool     // L.Unlock has returned, so whatever token comes is taken
	bubbled    bool     // ch was made in a bubble
	eager      bool     // of Listen: the token is sent with mu held, for Stop, to ch
	request    *request // of which it is a part, or nil

	from, to uint64 // the tickets of a run: from <= t < to
	cond     *Cond
	sleep    *sleeper // its Locker is the waiter itself; that of a request, a bed
	_        [4]int64 // 128 bytes, so that the allocator aligns it
}

// maxFree bounds how many waiters a Cond keeps for later waits, with what they
// own 290 bytes each at the most, and a CapacityResource requests, 350 bytes
// each: enough for a thousand callers to wait time and again without allocating.
const maxFree = 1024

// joinLocked parks w at the end of the line.
func (c *Cond) joinLocked(w *waiter) {
	c.appendLocked(w)
	c.parkLocked(w)
	c.busyLocked()
}

// drawLocked joins the line with a ticket, and returns it.
func (c *Cond) drawLocked() uint64 {
	run := c.root.prev
	if !run.run || run.to != c.drawn { // or it is a run that lost its last ticket
		run = c.takeLocked()
		run.run, run.keep = true, false
		run.from, run.to = c.drawn, c.drawn
		c.appendLocked(run)
	}
	run.to++
	c.drawn++
	c.parkLocked(run)
	c.busyLocked()
	return c.drawn - 1
}

// giveUp takes ticket out of the line, whose owner leaves without success, as L
// panicked. If it has been notified, the notification goes to the next one.
func (c *Cond) giveUp(ticket uint64) {
	c.mu.Lock()
	pass := ticket < c.sweptFrom || c.sweptTo <= ticket
	for run := c.root.next; run != &c.root; run = run.next {
		if run.run && run.from <= ticket && ticket < run.to {
			c.splitLocked(run, ticket)
			c.idleLocked()
			pass = false
			break
		}
	}
	c.mu.Unlock()
	if pass {
		c.Notify()
	}
}

// splitLocked takes ticket out of run: those behind it become a run of their own.
func (c *Cond) splitLocked(run *waiter, ticket uint64) {
	if ticket+1 < run.to {
		w := c.takeLocked()
		w.run, w.keep, w.parked, w.place = true, false, true, run.place
		w.from, w.to = ticket+1, run.to
		w.prev, w.next = run, run.next
		w.prev.next, w.next.prev = w, w
	}
	run.to = ticket
	c.shortenLocked(run, 1)
}

// shortenLocked is for when run has lost n tickets.
func (c *Cond) shortenLocked(run *waiter, n int) {
	if run.from < run.to {
		c.waiting -= n
		return
	}
	c.waiting -= n - 1
	c.unparkLocked(run)
	run.run = false
	c.putLocked(run)
}

// takeLocked returns a waiter that is not in use.
func (c *Cond) takeLocked() *waiter {
	w := c.free
	if w != nil {
		c.free = w.next
		c.nfree--
	} else {
		w = &waiter{cond: c}
	}
	return w
}

// putLocked keeps w, which nobody uses any more, for a later wait.
func (c *Cond) putLocked(w *waiter) {
	if c.nfree < maxFree {
		w.tidy()
		w.next, c.free = c.free, w
		c.nfree++
	}
}

// prepare makes w ready for a wait with the context whose Done channel is done.
func (w *waiter) prepare(done <-chan struct{}) {
	if done != w.done || done == nil && w.sleep == nil {
		w.equip(done)
	}
}

func (w *waiter) equip(done <-chan struct{}) {
	switch {
	case done != nil:
		if w.bubbled = inBubble(time.Now()); w.bubbled || w.ch == nil {
			w.ch = make(chan struct{}, 1)
		}
	case w.sleep == nil:
		w.sleep = new(sleeper)
		w.sleep.L = w
		if w.request != nil {
			w.sleep.L = (*bed)(w.request.resource)
		}
	}
	w.done = done
}

// tidy makes w, which nobody uses any more, one that can be used again.
func (w *waiter) tidy() {
	w.notified = false
	if w.bubbled {
		w.ch, w.done, w.bubbled = nil, nil, false
	}
}

// unlockFor is what a waiter does with mu held, before it sleeps. In between,
// should L.Unlock panic, a token may come at any time.
func (c *Cond) unlockFor(w *waiter) {
	w.clean = false
	c.mu.Unlock()
	c.L.Unlock()
	w.clean = true
}

func (w *waiter) Unlock() { w.cond.unlockFor(w) }

func (w *waiter) Lock() { w.cond.L.Lock() }

// A bunk is a Cond as the Locker of its dorm.
type bunk Cond

func (b *bunk) Unlock() {
	b.mu.Unlock()
	b.L.Unlock()
}

func (b *bunk) Lock() { b.L.Lock() }

// send sends the token to w, which is notified and no longer in line. After
// that w may be in line again.
func (w *waiter) send() {
	if w.done == nil && !w.eager {
		w.sleep.Signal()
		return
	}
	exploreSend(w.ch)
	w.ch <- struct{}{}
}

// cancel takes w out of the line, unless a notifier has committed itself, and
// reports whether it did. If so, and if w keeps no place, nobody uses w any more.
func (c *Cond) cancel(w *waiter) bool {
	c.mu.Lock()
	if w.notified {
		c.mu.Unlock()
		<-w.ch
		return false
	}
	if w.parked { // else a notifier has passed it over
		c.unparkLocked(w)
		c.idleLocked()
	}
	if !w.keep {
		c.putLocked(w)
	}
	c.mu.Unlock()
	return true
}

// leave ends the wait of w, whatever ended it, and passes its notification on
// unless it is spent.
func (c *Cond) leave(w *waiter) {
	c.mu.Lock()
	if w.parked { // L.Unlock panicked
		c.unparkLocked(w)
		c.idleLocked()
	}
	if w.keep {
		w.unlink()
	}
	pass := w.notified && !w.broadcast
	if w.clean {
		c.putLocked(w)
	}
	c.mu.Unlock()
	if pass {
		c.Notify()
	}
}

// commitLocked notifies up to limit waiters in one critical section, which makes
// NotifyAll atomic, and adds them to wake, which is to be sent when the caller
// holds no lock that the woken would run into. It returns how many they are.
func (c *Cond) commitLocked(limit int, broadcast bool, wake *wakeUps) (n int) {
	called := c.called
	for n < limit && c.waiting > 0 {
		w := c.first
		if w.run {
			n += c.callLocked(w, limit-n)
		} else if c.notifyLocked(w, broadcast, wake) {
			n++
		}
	}
	c.idleLocked()
	if broadcast && c.called > called {
		c.sweptFrom, c.sweptTo = called, c.called
	}
	return n
}

// callLocked notifies the first of run, n at the most, and returns how many. A
// Signal for a ticket that was given up, and is called on the way, wakes nobody.
func (c *Cond) callLocked(run *waiter, n int) int {
	n = int(min(uint64(n), run.to-run.from))
	run.from += uint64(n)
	for ; c.called < run.from; c.called++ {
		c.dorm.Signal()
	}
	c.shortenLocked(run, n)
	return n
}

// notifyLocked notifies w, who is parked, and adds it to wake, unless its
// context came first and it is about to leave. It reports whether it did.
func (c *Cond) notifyLocked(w *waiter, broadcast bool, wake *wakeUps) bool {
	gone := w.done != nil && ended(w.done)
	c.unparkLocked(w)
	if gone {
		return false
	}
	w.notified, w.broadcast = true, broadcast
	if w.eager {
		w.send()
	} else {
		wake.add(w)
	}
	return true
}

// wakeUps are waiters who are notified and whose tokens are not sent yet.
type wakeUps struct{ first, last *waiter } // linked by wake

// add adds w.
func (l *wakeUps) add(w *waiter) {
	if l.first == nil {
		l.first = w
	} else {
		l.last.wake = w
	}
	l.last = w
}

// send sends the tokens.
func (l *wakeUps) send() {
	for w := l.first; w != nil; {
		next := w.wake
		w.wake = nil
		w.send() // after which w may be in line again
		w = next
	}
}

// appendLocked puts w at the end of the line.
func (c *Cond) appendLocked(w *waiter) {
	w.place = c.place
	c.place++
	w.prev, w.next = c.root.prev, &c.root
	w.prev.next, w.next.prev = w, w
}

// parkLocked makes w one who is parked, at the place it has in the line.
func (c *Cond) parkLocked(w *waiter) {
	w.parked = true
	if w.place < c.first.place {
		c.first = w
	}
	c.waiting++
}

// unparkLocked ends the parking of w, and takes it out of the line, unless it
// keeps its place. To find the next who is parked, it passes over those who
// are away: as a rule few, for they are awake.
func (c *Cond) unparkLocked(w *waiter) {
	w.parked = false
	for !c.first.parked { // only if it was w
		c.first = c.first.next
	}
	if !w.keep {
		w.unlink()
	}
	c.waiting--
}

// busyLocked lets Notify find out that somebody waits, before L is unlocked.
func (c *Cond) busyLocked() {
	if c.waiting == 1 {
		c.idle.Store(nil)
	}
}

// idleLocked lets Notify find out if nobody waits any more.
func (c *Cond) idleLocked() {
	if c.waiting == 0 {
		c.idle.Store(c)
	}
}

func (w *waiter) unlink() {
	w.prev.next, w.next.prev = w.next, w.prev
	w.next, w.prev = nil, nil // lest one who is gone keep others in memory
}

// ended reports whether the context whose Done channel is done has ended.
func ended(done <-chan struct{}) bool {
	exploreLook(done)
	select {
	case <-done:
		return true
	default:
		return false
	}
}

// inBubble reports whether now was read in a testing/synctest bubble. There,
// times have no monotonic reading, as the runtime drops it; and the clock
// starts in 2000, as is documented. Either is taken as a sign. A machine whose
// clock is wrong pays with allocations, and nothing worse.
func inBubble(now time.Time) bool {
	const in2026 = 1767225600
	inside := now == now.Round(0) || now.Unix() < in2026 //nolint:staticcheck // compares the representation
	return exploreBubble(inside)
}
