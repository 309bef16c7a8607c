package condvar

import (
	"context"
	"math"
	"sync"
	"unsafe"

	"example.com/condvar/internal/primitives"
)

// A Cond is a condition variable with context-aware waits. Cond{L: l} is ready
// to use. A Cond must not be copied after first use; using a copy panics. It
// must not be overwritten while a Notify runs: the Wait that it wakes may
// return first.
//
// Unlike with [sync.Cond], a wait ends with its context, it can be one case of
// a select statement, and Notify reports whether it woke a waiter.
type Cond struct {
	// L is held while the condition is examined or changed. It may be any
	// Locker, an RLocker included, and several Conds may share one. It must not
	// be replaced while a call waits.
	L sync.Locker

	// mu guards the fields below. It is not held while a method of L or of a
	// context runs, or while anything blocks.
	mu primitives.Mutex

	// idle lets Notify see without mu that there is no waiter, and that c is
	// not a copy. It is the address of c if c has been used and the line is
	// empty. It is 0 if the line is not empty or c has not been used. In a copy
	// it is never the address of the copy. It changes with mu held. The load in
	// notify pairs with the store of 0 when a waiter joins. That store is
	// before the waiter unlocks L, so a Notify after that sees it.
	idle primitives.Uint64

	// self is the address of c once c has been used. It is a number because a
	// struct that points to itself may never be finalized.
	self uint64

	waiters queue // in order of arrival
	pool    pool
}

// NewCond returns a new Cond with Locker l. It panics if l is nil.
func NewCond(l sync.Locker) *Cond {
	if l == nil {
		panic("condvar: NewCond with a nil Locker")
	}
	return &Cond{L: l}
}

// Wait unlocks c.L, waits for a notification, and locks c.L again. The caller
// must hold c.L, and holds it on every return. The waiter joins the end of the
// line before c.L is unlocked, so no Notify after that misses it. Locking c.L
// again cannot be canceled.
//
// Wait returns nil only if it was notified. Another goroutine may have held c.L
// since then, so wait in a loop, or use [Cond.WaitFor]:
//
//	for !condition() {
//		if err := c.Wait(ctx); err != nil {
//			return err
//		}
//	}
//
// If ctx ends first, Wait returns an error that matches, by [errors.Is], both
// ctx.Err() and [context.Cause](ctx). It is ctx.Err() itself if that matches
// both. If ctx is done at the call, Wait returns that error without unlocking
// c.L. If the notification comes first, Wait returns nil, even if ctx ends
// before c.L is locked again.
//
// If c.L.Unlock or c.L.Lock panics, so does Wait. It leaves the line, and
// passes a notification from Notify on to the next waiter. In the steady state
// Wait does not allocate.
func (c *Cond) Wait(ctx context.Context) error {
	var unspent bool
	return c.wait(ctx, &unspent)
}

// WaitFor calls Wait until pred returns true. The caller must hold c.L, and
// holds it on every return and in every call of pred, which must not unlock it.
// If pred is true at the call, WaitFor returns nil even if ctx is done. If ctx
// ends before a notification comes, WaitFor returns the error of Wait without
// calling pred again.
//
// If pred is false after a notification, the notification is consumed, and the
// waiter joins the end of the line. So if waiters wait for different
// conditions, they check in turn. If ctx has ended by then, or pred panics or
// calls [runtime.Goexit], WaitFor passes a notification from Notify on to the
// next waiter.
func (c *Cond) WaitFor(ctx context.Context, pred func() bool) error {
	unspent := false
	defer func() {
		if unspent {
			c.Notify()
		}
	}()
	for !pred() {
		if err := c.wait(ctx, &unspent); err != nil {
			return err
		}
	}
	unspent = false
	return nil
}

// wait implements Wait. It stores false in unspent when the waiter joins the
// line, and true when it returns with a notification that the caller must use
// or pass on.
//
// After a wake-up the CPU's return predictor is cold, so every return is
// mispredicted. So Wait and sleep are small enough to be inlined.
func (c *Cond) wait(ctx context.Context, unspent *bool) error {
	if ctx.Err() != nil {
		return contextError(ctx)
	}
	done := ctx.Done()
	c.mu.Lock()
	c.checkLocked()
	w := c.joinLocked(done)
	c.mu.Unlock()
	*unspent = false
	c.unlockL(w)
	if !w.sleep() && c.leave(w) {
		c.pool.push(w)
		defer c.L.Lock() // even if a method of ctx panics
		return contextError(ctx)
	}
	state := w.state
	c.pool.push(w)
	c.lockL(state)
	*unspent = state == notified
	return nil
}

// unlockL unlocks L for w, which is in line. If that panics, w leaves the line,
// and a notification that w has received is passed on.
func (c *Cond) unlockL(w *waiter) {
	unlocked := false
	defer func() {
		if !unlocked {
			if !c.leave(w) && w.state == notified {
				c.Notify()
			}
			c.pool.push(w)
		}
	}()
	c.L.Unlock()
	unlocked = true
}

// lockL locks L for a waiter that was woken with the given state. If that
// panics, a notification is passed on.
func (c *Cond) lockL(state state) {
	locked := false
	defer func() {
		if !locked && state == notified {
			c.Notify()
		}
	}()
	c.L.Lock()
	locked = true
}

// leave ends the wait of w and reports whether w was not woken. If w was woken,
// leave receives the token.
func (c *Cond) leave(w *waiter) bool {
	c.mu.Lock()
	left := c.leaveLocked(w)
	c.mu.Unlock()
	if !left {
		w.receive()
	}
	return left
}

// leaveLocked removes w from the line. It reports whether w was not woken.
func (c *Cond) leaveLocked(w *waiter) bool {
	if w.state == parked {
		c.removeLocked(w)
		w.state = away
	}
	return w.state == away
}

// joinLocked puts a waiter at the end of the line.
func (c *Cond) joinLocked(done <-chan struct{}) *waiter {
	w := c.pool.popLocked()
	w.done = done
	c.appendLocked(w)
	return w
}

func (c *Cond) appendLocked(w *waiter) {
	w.state = parked
	c.waiters.push(w)
	if c.waiters.len == 1 {
		c.idle.Store(0)
	}
}

func (c *Cond) removeLocked(w *waiter) {
	c.waiters.remove(w)
	if c.waiters.len == 0 {
		c.idle.Store(c.address())
	}
}

// Notify wakes the waiter that has been in line longest, and reports whether
// there was one. It passes over waiters whose context has ended. The waiter has
// left the line when Notify returns. Notify may be called with or without c.L
// held, and does not lock it. If no call waits, Notify does nothing, and is one
// atomic load.
func (c *Cond) Notify() bool { return c.notify(1, notified) == 1 }

// NotifyN is like Notify, but wakes up to n waiters at a single moment, and
// returns how many. If n <= 0 it does nothing.
func (c *Cond) NotifyN(n int) int { return c.notify(n, notified) }

// NotifyAll wakes all waiters that are in line, at a single moment, and returns
// how many. Its notifications are never passed on.
func (c *Cond) NotifyAll() int { return c.notify(math.MaxInt, swept) }

// notify implements Notify, NotifyN and NotifyAll. It sets the state of the
// waiters that it wakes.
func (c *Cond) notify(limit int, state state) int {
	if c.idle.Load() == c.address() {
		return 0
	}
	c.mu.Lock()
	c.checkLocked()
	n := c.chooseLocked(limit, state)
	unsent := c.wakeLocked()
	c.mu.Unlock()
	unsent.send()
	return n
}

// chooseLocked stores state in up to limit waiters, and returns how many. It
// passes over waiters whose context has ended: their state becomes away. It
// checks all contexts before any token is sent, since a waiter that is woken
// may cancel another. The caller must call wakeLocked.
func (c *Cond) chooseLocked(limit int, state state) (n int) {
	for w := c.waiters.first; w != nil && n < limit; w = w.next {
		w.state = away
		if !ended(w.done) {
			w.state, n = state, n+1
		}
	}
	return n
}

// maxSentLocked is how many tokens are sent with mu held. That saves a second
// pass, but sending 100,000 takes 70 ms.
const maxSentLocked = 1000

// wakeLocked removes the waiters that chooseLocked has chosen or passed over.
// The caller must send the tokens of unsent after it has unlocked mu.
func (c *Cond) wakeLocked() (unsent queue) {
	for n := 0; c.waiters.len > 0 && c.waiters.first.state != parked; n++ {
		w := c.waiters.first
		c.removeLocked(w)
		if w.isListener || w.state != away && n < maxSentLocked {
			w.send()
		} else if w.state != away { // an away waiter is woken by its context
			unsent.push(w)
		}
	}
	return unsent
}

// Waiters returns how many waiters and Listeners are in line.
func (c *Cond) Waiters() int {
	c.mu.Lock()
	c.checkLocked()
	defer c.mu.Unlock()
	return c.waiters.len
}

// A Listener is a place in the line of a [Cond], made by [Cond.Listen].
type Listener struct {
	C <-chan struct{} // delivers one value when the Listener is notified

	cond *Cond
	w    *waiter
}

// Listen joins the line and returns at once, so that waiting can be one case of
// a select statement. Call it with c.L held, after checking the condition:
//
//	l := c.Listen()
//	c.L.Unlock()
//	select {
//	case <-l.C:
//	case <-quit:
//	}
//	l.Stop()
//	c.L.Lock()
//
// Call Stop on each Listener: one that stays in line consumes a notification.
// It must not be notified after its synctest bubble has ended. Listen does not
// use c.L, and makes two allocations.
func (c *Cond) Listen() *Listener {
	var l struct { // one allocation for both
		Listener
		waiter
	}
	l.ch, l.isListener = make(chan struct{}, 1), true
	l.Listener = Listener{C: l.ch, cond: c, w: &l.waiter}
	c.mu.Lock()
	c.checkLocked()
	c.appendLocked(l.w)
	c.mu.Unlock()
	return &l.Listener
}

// Stop removes the Listener from the line. It returns true if the Listener was
// in line, false if it has been notified or stopped. If a notification was not
// received from C, Stop drains C, and passes a notification from Notify on to
// the next waiter. Stop does not block. It panics if l was not made by Listen.
func (l *Listener) Stop() bool {
	c, w := l.cond, l.w
	if c == nil {
		panic("condvar: Stop of a Listener that does not come from Listen")
	}
	c.mu.Lock()
	c.checkLocked()
	inLine := w.state == parked
	c.leaveLocked(w)
	c.mu.Unlock()
	primitives.Look(w.ch)
	select {
	case <-w.ch: // a Listener's token is sent with mu held
		if w.state == notified {
			c.Notify()
		}
	default:
	}
	return inLine
}

// checkLocked initializes c at its first use. If c is a copy, it unlocks mu and
// panics.
func (c *Cond) checkLocked() {
	if c.self != c.address() {
		c.firstUse()
	}
}

func (c *Cond) firstUse() {
	if c.self != 0 {
		c.mu.Unlock()
		panic("condvar: Cond is copied")
	}
	c.self = c.address()
	c.idle.Store(c.self)
}

// address is constant: the address of mu escapes, so c is on the heap.
func (c *Cond) address() uint64 { return uint64(uintptr(unsafe.Pointer(c))) }
