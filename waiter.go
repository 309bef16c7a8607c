package condvar

import (
	"time"

	"example.com/condvar/internal/bubble"
	"example.com/condvar/internal/primitives"
)

// A waiter is the place of one call in a line: a call of Wait, WaitFor, Listen,
// Event.Wait or AcquireN. mu is the mutex of the line. The state is one of
//
//	away      not in line: new, or canceled, passed over or stopped
//	parked    in line
//	notified  taken out of the line by Notify
//	swept     taken out by NotifyAll or Set; this is never passed on
//	decided   taken out with its permits, or by Close or Resize
//
// A goroutine that stores notified, swept or decided also sends one token to
// ch, with mu held or later. A waiter whose context has ended locks mu. If its
// state is parked or away, the context came first. Otherwise it waits for its
// token. So exactly one event wins, and ch is empty when the waiter is used
// again.
//
// The head of a CapacityResource's line stays in line when it is notified. It
// is then awake. It takes its permits and leaves, or it parks again.
//
// The state changes only with mu held. The call may read it without mu once it
// has the token: no other goroutine changes it then.
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
	timer     *time.Timer   // for MaxWait; made at the first such wait
}

type state uint8

const (
	away state = iota
	parked
	notified
	swept
	decided
)

// sleep waits for the token or the end of the context. It reports whether it
// received the token.
func (w *waiter) sleep() bool {
	token, done := primitives.Select(w.ch, w.done)
	if done == nil { // a receive costs half of a select
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
	token, _ := primitives.Select(w.ch, nil)
	<-token
}

// send sends the token, after which w may belong to another call.
func (w *waiter) send() {
	primitives.Send(w.ch)
	w.ch <- struct{}{}
}

// ended reports whether done, the Done channel of a context, is closed.
func ended(done <-chan struct{}) bool {
	if done == nil {
		return false
	}
	primitives.Look(done)
	select {
	case <-done:
		return true
	default:
		return false
	}
}

// A queue is a list of waiters: a line, or waiters whose tokens are not sent
// yet. It does not point to itself, so a struct that contains a queue can be
// finalized.
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

// remove removes w, and clears its links for the next push.
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

// send empties q and sends the tokens.
func (q *queue) send() {
	for q.first != nil {
		w := q.first
		q.remove(w) // first, since w may be in another queue after send
		w.send()
	}
}

// maxPooled is how many waiters, of about 200 bytes each, a pool keeps.
const maxPooled = 1024

// A pool keeps waiters for later waits, so that a wait in the steady state
// allocates nothing.
//
// In a testing/synctest bubble each wait makes a waiter. A channel of a bubble
// must not be used outside it, and a receive from a channel of no bubble is not
// durably blocking.
type pool struct {
	// free is a stack linked by next. push takes no lock. Pops hold mu, so a
	// waiter that a pop sees cannot be popped and pushed again before the pop's
	// compare-and-swap. The two compare-and-swaps pair with each other.
	free  primitives.Pointer[waiter]
	made  int // waiters made outside of bubbles
	probe bubble.Probe
}

func (p *pool) popLocked() *waiter {
	if primitives.Bubble(p.probe.Inside()) {
		return &waiter{ch: make(chan struct{}, 1)}
	}
	w := p.free.Load()
	for w != nil && !p.free.CompareAndSwap(w, w.next) { // another was pushed
		w = p.free.Load()
	}
	if w == nil {
		p.made++
		return &waiter{ch: make(chan struct{}, 1), pooled: p.made <= maxPooled}
	}
	w.next = nil
	return w
}

// push puts w back, without its context.
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
