package condvar

import (
	"context"
	"errors"
	"math"
	"sync"
	"time"
)

// A Cond is a condition variable whose waits end with a context: a place for
// goroutines to wait until something that a lock protects has changed.
//
// Cond{L: l} is ready to use, as is the result of [NewCond]. L must be set
// before the first Wait. A Cond must not be copied after first use; waiting on
// a copy or notifying it panics.
//
// In the terminology of the Go memory model, a call to [Cond.Notify],
// [Cond.NotifyN] or [Cond.NotifyAll] “synchronizes before” the return of any
// Wait or WaitFor, and the receive from any Listener's C, that it causes.
//
// Unlike [sync.Cond], a wait obeys a context, waiting can be one case of a
// select statement ([Cond.Listen]), and notifications are exact: each wakes
// the one waiter that has been in line longest, or says that there was none,
// and a waiter that gives up never takes one with it. As with sync.Cond, they
// are not remembered: for a signal that has to outlast the moment, use an
// [Event] or a channel of size 1.
type Cond struct {
	// L is held while the condition is examined or changed. Any Locker will
	// do, an RLocker included, and several Conds may share one. It must not
	// be replaced while anybody waits.
	L sync.Locker

	// mu guards what follows. It is never held across a call into L or other
	// foreign code, nor across anything that blocks.
	mu mutex

	// idle lets Notify find out without mu that nobody waits. It is
	//	c    if c has been used and nobody is parked,
	//	nil  if somebody is parked, or c has not been used yet,
	// and anything else in a copy. It changes under mu, as the last thing. The
	// load in notify pairs with the store of nil when a waiter parks, which is
	// before the waiter unlocks L: a Notify that happens after the unlock sees it.
	// A resource, which looks at waiting, does without it.
	idle pointer[Cond]
	self *Cond // c once it has been used, else nil; something else in a copy

	waiting int     // how many are parked
	first   *waiter // the first of them, or root
	place   uint64  // the next place to give out

	// Waiters for later waits, linked by next.
	free  *waiter
	nfree int

	// A Wait that no context can end leaves the line when it is notified, and no
	// other way. So all of these sleep in dorm, first in, first out as in line, and
	// need no waiter each. Each draws a ticket as it falls asleep, with mu held; a
	// Signal, sent with mu held too, wakes the one with the lowest ticket that was
	// not called before. In line they are tickets in runs, a run for those who
	// came one after the other. Once awake they have no business with mu, so they
	// do not run into whoever sent the Signal.
	//
	// If L panics, a ticket is given up: it goes out of its run, and the Signal that
	// calls it on the way to the next one wakes nobody.
	dorm   sleeper // its Locker is the Cond, as a bunk
	drawn  uint64  // the next ticket to be drawn; the first is 1
	called uint64  // the next one to be called: no lower one is in line

	// The last NotifyAll that called any called sweptFrom <= t < sweptTo.
	sweptFrom, sweptTo uint64

	// The line, a ring around root in order of place. In it are those who are
	// parked and those of WaitFor who are away to check their predicate, so
	// that they keep their place.
	root waiter
}

// maxFree bounds how many waiters a Cond keeps for later waits, with what they
// own 290 bytes each at the most, and a CapacityResource requests, 350 bytes
// each: enough for a thousand callers to wait time and again without allocating.
const maxFree = 1024

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

// NewCond returns a new Cond with Locker l. It panics if l is nil.
func NewCond(l sync.Locker) *Cond {
	if l == nil {
		panic("condvar: NewCond with a nil Locker")
	}
	return &Cond{L: l}
}

// Wait unlocks c.L, waits for a notification, and locks c.L again. The caller
// must hold c.L (to call Wait without it is fatal if c.L is a [sync.Mutex]),
// and holds it on every return.
//
// Wait returns nil only if it was notified. But others may have held c.L since
// then, so wait in a loop, or use [Cond.WaitFor], which is that loop:
//
//	c.L.Lock()
//	defer c.L.Unlock()
//	for !condition() {
//		if err := c.Wait(ctx); err != nil {
//			return err
//		}
//	}
//	... make use of condition ...
//
// The waiter joins the line, which is first in, first out, before c.L is
// unlocked: every Notify after that reaches it.
//
// If ctx ends first, Wait returns an error for which [errors.Is] holds with
// both ctx.Err() and [context.Cause](ctx); it is ctx.Err() itself if they are
// equal. If ctx is done at the call, Wait returns that error without unlocking
// c.L or joining the line.
//
// Whichever comes first counts. Once notified, Wait returns nil, even if ctx
// ends before it has c.L again. Once ctx has ended, the waiter gets no
// notification any more; as soon as it runs it leaves the line, and then asks
// ctx for the error, before it locks c.L. Locking c.L cannot be canceled: while
// others hold c.L, Wait does not return.
//
// If c.L.Unlock or c.L.Lock panics, Wait leaves no waiter behind, and a
// notification that reached it goes to the next one.
//
// In the steady state Wait allocates nothing.
func (c *Cond) Wait(ctx context.Context) error { return c.wait(ctx, nil) }

// WaitFor waits until pred returns true. The caller must hold c.L, and holds
// it on every return and in every call of pred, which runs on the caller's
// goroutine and must leave c.L alone.
//
// WaitFor calls pred first: if it is true, WaitFor returns nil without
// unlocking c.L, even if ctx is done. Else it waits as [Cond.Wait] does, and
// calls pred again after every notification. If pred is false then, the
// notification is spent, and the waiter parks again at its old place in the
// line. So where waiters wait for different things, a [Cond.Notify] may be
// spent on the wrong one: use [Cond.NotifyAll], or a Cond for each thing.
//
// ctx is for the whole call. If it ends while WaitFor waits, pred is called once
// more. An error, the same as that of Wait, means that pred was false the last
// time.
//
// If WaitFor has a notification that is not spent and leaves without success,
// as ctx is done or pred panicked or called [runtime.Goexit], the notification
// goes to the next in line. c.L is held as a panic leaves WaitFor.
func (c *Cond) WaitFor(ctx context.Context, pred func() bool) error {
	if pred() {
		return nil
	}
	if ctx.Err() != nil {
		return contextError(ctx)
	}
	done := ctx.Done()
	c.mu.Lock()
	c.checkLocked()
	w, left := c.joinLocked(done, true), false
	defer func() {
		if !left {
			c.leave(w)
		}
	}()
	for {
		if done == nil {
			w.sleep.Wait() // calls w.Unlock when Signal finds it, and w.Lock
		} else {
			c.unlockFor(w)
			token, done := exploreSelect(w.ch, done)
			select {
			case <-token:
			case <-done:
				c.cancel(w)
			}
			c.L.Lock()
		}
		if pred() {
			w.notified = false // spent
			return nil
		}
		if ended(done) {
			left = true
			c.leave(w) // before the methods of ctx are called
			return contextError(ctx)
		}
		w.notified = false // spent
		c.mu.Lock()
		c.parkLocked(w)
		c.busyLocked()
	}
}

// wait is Wait or, if there is set, [Event.Wait].
//
// Returns are dear in a goroutine that has just been woken, as the processor
// predicts none of them. So this is one function, which Wait is only a name for,
// and what it defers is for panics and for waits that were canceled. These lock
// L after they have asked ctx for the error, as that takes long in a crowd.
func (c *Cond) wait(ctx context.Context, set *flag) error {
	if set == nil && ctx.Err() != nil {
		return contextError(ctx)
	}
	done := ctx.Done()
	c.mu.Lock()
	c.checkLocked()
	if set != nil {
		if set.Load() {
			c.mu.Unlock()
			return nil
		}
		if ended(done) {
			c.mu.Unlock()
			return contextError(ctx)
		}
		if c.L == nil {
			c.L = nobody{}
		}
	}
	asleep := true
	if done == nil {
		ticket := c.drawLocked()
		defer func() {
			if asleep {
				c.giveUp(ticket)
			}
		}()
		c.dorm.Wait() // calls bunk.Unlock when Signal finds it, and bunk.Lock
		asleep = false
		return nil
	}
	w, canceled := c.joinLocked(done, false), false
	defer func() {
		switch {
		case canceled:
			c.L.Lock()
		case asleep:
			c.leave(w)
		}
	}()
	c.unlockFor(w)
	token, done := exploreSelect(w.ch, done)
	select {
	case <-token:
	case <-done:
		if c.cancel(w) {
			canceled = true
			return contextError(ctx)
		}
	}
	c.L.Lock()
	asleep = false
	c.mu.Lock()
	c.putLocked(w)
	c.mu.Unlock()
	return nil
}

// Notify wakes the one who has been in line longest, and reports whether there
// was one. It may be called with or without c.L held, and does not touch it.
//
// Those whose context has ended are passed over. The one who is woken has left
// the line when Notify returns. If nobody waits, the notification is not
// remembered, and the call, if it is not the first on c, costs one atomic load.
func (c *Cond) Notify() bool {
	return c.notify(1, false) == 1
}

// NotifyN wakes the n who have been in line longest, or all if they are fewer,
// and returns how many it woke. If n <= 0 it does nothing. As with Notify, c.L
// may be held or not, those whose context has ended are passed over, and
// nothing is remembered.
func (c *Cond) NotifyN(n int) int {
	return c.notify(n, false)
}

// NotifyAll wakes all who are in line, at a single moment, and nobody who joins
// later, and returns how many it woke. As everybody in line got one, a
// notification of NotifyAll is not passed on if its waiter leaves without
// having spent it. As with Notify, c.L may be held or not, those whose context
// has ended are passed over, and nothing is remembered.
func (c *Cond) NotifyAll() int {
	return c.notify(math.MaxInt, true)
}

// Waiters returns how many are in line. Those of [Cond.Listen] count; those
// who were notified do not.
func (c *Cond) Waiters() int {
	c.mu.Lock()
	c.checkLocked()
	defer c.mu.Unlock()
	return c.waiting
}

// A Listener is a place in the line of a [Cond], shaped like a [time.Timer].
type Listener struct {
	C <-chan struct{} // delivers one value when the Listener is notified

	cond *Cond
	w    *waiter
}

// Listen joins the line and returns at once, so that waiting can be one case
// of a select statement. It does not touch c.L, but should be called with c.L
// held, after a look at the condition, lest a change be missed in between:
//
//	c.L.Lock()
//	defer c.L.Unlock()
//	for !condition() {
//		var err error
//		l := c.Listen()
//		c.L.Unlock()
//		select {
//		case <-l.C:
//		case <-quit:
//			err = errQuit
//		}
//		l.Stop()
//		c.L.Lock()
//		if err != nil {
//			return err
//		}
//	}
//	... make use of condition ...
//
// A Listener is notified once. Call [Listener.Stop] on each: one that is left
// in line takes a notification, and one that is left there by a
// testing/synctest bubble must not be notified outside it. Listen makes two
// allocations.
func (c *Cond) Listen() *Listener {
	var l struct { // to make one allocation of it
		Listener
		waiter
	}
	l.ch, l.eager = make(chan struct{}, 1), true
	l.Listener = Listener{C: l.ch, cond: c, w: &l.waiter}
	c.mu.Lock()
	c.checkLocked()
	c.appendLocked(l.w)
	c.parkLocked(l.w)
	c.busyLocked()
	c.mu.Unlock()
	return &l.Listener
}

// Stop leaves the line. It returns true if the Listener was in line, and so is
// never notified, false if it has been notified or stopped before. A
// notification that nobody has received from C by then goes to the next in
// line, unless it is of NotifyAll, and C stays empty. Stop neither blocks nor
// touches the Locker, and may be called twice, or after receiving. It panics if
// the Listener does not come from Listen.
func (l *Listener) Stop() bool {
	c, w := l.cond, l.w
	if c == nil {
		panic("condvar: Stop of a Listener that does not come from Listen")
	}
	c.mu.Lock()
	c.checkLocked()
	parked := w.parked
	if parked {
		c.unparkLocked(w)
		c.idleLocked()
	}
	c.mu.Unlock()
	exploreLook(w.ch)
	select {
	case <-w.ch: // if there is a token, it was sent before mu was unlocked
		if !w.broadcast {
			c.Notify()
		}
	default:
	}
	return parked
}

// joinLocked parks a waiter at the end of the line. Its counterpart is leave.
func (c *Cond) joinLocked(done <-chan struct{}, keep bool) *waiter {
	w := c.takeLocked()
	w.keep = keep
	w.prepare(done)
	c.appendLocked(w)
	c.parkLocked(w)
	c.busyLocked()
	return w
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

// notify is the three of them. broadcast says that it is NotifyAll.
func (c *Cond) notify(limit int, broadcast bool) int {
	if c.idle.Load() == c {
		return 0
	}
	var wake wakeUps
	c.mu.Lock()
	c.checkLocked()
	n := c.commitLocked(limit, broadcast, &wake)
	c.mu.Unlock()
	wake.send()
	return n
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

// checkLocked prepares c at first use, and unlocks mu and panics if c is a copy.
// Whoever may be the first to use it calls this.
func (c *Cond) checkLocked() {
	if c.self != c {
		c.firstUse()
	}
}

func (c *Cond) firstUse() {
	if c.self != nil {
		c.mu.Unlock()
		panic("condvar: Cond is copied")
	}
	c.self = c
	c.root = waiter{next: &c.root, prev: &c.root, parked: true, place: math.MaxUint64}
	c.first = &c.root
	c.dorm.L = (*bunk)(c)
	c.drawn, c.called = 1, 1
	c.idle.Store(c)
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

// contextError returns the error of a wait that was ended by ctx.
func contextError(ctx context.Context) error {
	err, cause := ctx.Err(), context.Cause(ctx)
	switch {
	case err == nil: // a broken Context, whose Done is closed
		return context.Canceled
	case cause == nil || errors.Is(err, cause):
		return err
	}
	return &causeError{err, cause}
}

// A causeError is the error of a context that has a cause of its own.
type causeError struct{ err, cause error }

func (e *causeError) Error() string   { return e.err.Error() + ": " + e.cause.Error() }
func (e *causeError) Unwrap() []error { return []error{e.err, e.cause} }
