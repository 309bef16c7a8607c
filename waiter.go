package condvar

import "time"

// A waiter is one call of Wait, WaitFor, Listen, Event.Wait or AcquireN that
// waits. It is in a line if and only if its state is parked, or it is an awake
// head (see below). mu is the mutex of that line.
//
//	away     -> parked    it joins the line
//	parked   -> notified  Notify took it out of the line
//	parked   -> swept     NotifyAll or Set did; this is never passed on
//	parked   -> decided   AcquireN was admitted or turned away while asleep
//	parked   -> away      its context ended first
//
// Who makes it notified, swept or decided also sends one token to ch, then or
// after mu is unlocked. A waiter whose context has ended locks mu and looks: if
// its state is parked or away the context came first, otherwise a token is on
// its way, and the waiter receives it. So exactly one event wins, and ch is empty
// when the waiter parks again or is used by another call.
//
// The head of a CapacityResource's line stays there when it is notified: it is
// awake, and looks whether its permits are free. Then it leaves, or parks again.
//
// The state changes with mu held only. The owner may read it without mu once
// it has received the token, since nobody else changes it from then on.
type waiter struct {
	next, prev *waiter         // in a queue; next also in the pool
	done       <-chan struct{} // of the context, or nil
	ch         chan struct{}   // of size 1, for the token
	state      state
	isListener bool // the token must be sent with mu held, for Stop
	pooled     bool // goes back to the pool

	// For AcquireN.
	n         int64
	arrivedAt time.Duration // when it joined the line
	err       error         // why it left the line; nil with its permits
}

type state uint8

const (
	away state = iota
	parked
	notified
	swept
	decided
)

// sleep waits for the token, which it receives, or the end of the context. It
// reports whether it was the token.
func (w *waiter) sleep() bool {
	token, done := exploreSelect(w.ch, w.done)
	if done == nil { // a plain receive costs half of a select
		<-token
		return true
	}
	select {
	case <-token:
		return true
	case <-done:
		return false
	}
}

// receive takes the token, which has been sent or is about to be sent.
func (w *waiter) receive() {
	token, _ := exploreSelect(w.ch, nil)
	<-token
}

// send sends the token, after which w may belong to another call.
func (w *waiter) send() {
	exploreSend(w.ch)
	w.ch <- struct{}{}
}

// ended reports whether the context whose Done channel is done has ended.
func ended(done <-chan struct{}) bool {
	if done == nil {
		return false
	}
	exploreLook(done)
	select {
	case <-done:
		return true
	default:
		return false
	}
}

// A queue is a list of waiters: a line, or those whose tokens are still to be
// sent. It does not point to itself, so a struct with one can have a finalizer.
type queue struct {
	first, last *waiter
	len         int
}

func (q *queue) push(w *waiter) {
	w.prev = q.last
	if q.last == nil {
		q.first = w
	} else {
		q.last.next = w
	}
	q.last = w
	q.len++
}

// remove also clears the links of w, so that a waiter in the pool keeps no
// other in memory.
func (q *queue) remove(w *waiter) {
	if w.prev == nil {
		q.first = w.next
	} else {
		w.prev.next = w.next
	}
	if w.next == nil {
		q.last = w.prev
	} else {
		w.next.prev = w.prev
	}
	w.next, w.prev = nil, nil
	q.len--
}

// send sends the tokens of all in q.
func (q *queue) send() {
	for q.first != nil {
		w := q.first
		q.remove(w) // before the token, after which w may be in another queue
		w.send()
	}
}

// maxPooled is how many waiters go back to the pool, of some 200 bytes each.
const maxPooled = 1024

// A pool has the waiters that are used again and again, so that a wait in the
// steady state allocates nothing.
//
// In a testing/synctest bubble each wait has a waiter of its own: a channel
// from a bubble must not be used outside it, and one from outside stops the
// bubble's clock.
type pool struct {
	// free is a stack linked by next. push takes no lock. Only one call pops
	// at a time, with mu held: what it finds on top stays in the stack until it
	// has been popped. The two compare-and-swaps pair with each other.
	free pointer[waiter]
	made int // how many waiters were made outside of bubbles
	bubbleProbe
}

func (p *pool) popLocked() *waiter {
	if exploreBubble(p.inBubbleLocked()) {
		return &waiter{ch: make(chan struct{}, 1)}
	}
	w := p.free.Load()
	for w != nil && !p.free.CompareAndSwap(w, w.next) { // others have been pushed
		w = p.free.Load()
	}
	if w == nil {
		p.made++
		return &waiter{ch: make(chan struct{}, 1), pooled: p.made <= maxPooled}
	}
	w.next = nil
	return w
}

// push puts w back.
func (p *pool) push(w *waiter) {
	if !w.pooled {
		return
	}
	w.done, w.err = nil, nil
	for {
		w.next = p.free.Load()
		if p.free.CompareAndSwap(w.next, w) {
			return
		}
	}
}
