package condvar

import (
	"context"
	"errors"
	"math"
	"sync"
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
	w, left := c.takeLocked(), false
	w.keep = true
	w.prepare(done)
	c.joinLocked(w)
	defer func() {
		if !left {
			c.leave(w)
		}
	}()
	for {
		if done == nil {
			w.sleep.Wait() // calls w.Unlock once Signal finds it, and in the end w.Lock
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
		c.dorm.Wait() // calls bunk.Unlock once Signal finds it, and in the end bunk.Lock
		asleep = false
		return nil
	}
	w, canceled := c.takeLocked(), false
	w.keep = false
	w.prepare(done)
	c.appendLocked(w) // this and the next two are joinLocked, without a call
	c.parkLocked(w)
	c.busyLocked()
	defer func() {
		switch {
		case canceled:
			c.L.Lock()
		case asleep:
			c.leave(w)
		}
	}()
	w.clean = false // this and the next three are unlockFor, without a call
	c.mu.Unlock()
	c.L.Unlock()
	w.clean = true
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
	c.joinLocked(l.w)
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
