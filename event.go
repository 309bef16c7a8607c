package condvar

import (
	"context"
	"math"
)

// An Event is a flag that goroutines can wait for. It is set or not; the zero
// value is not. An Event must not be copied after first use; using a copy may
// panic.
//
// In the terminology of the Go memory model, a call to [Event.Set]
// “synchronizes before” the return of any Wait with nil, and of any IsSet with
// true, that is due to it.
//
// An Event is right for what happens once, or seldom, and concerns everybody:
// started, configuration loaded, shutting down. It is the wrong tool for “wait
// until there is room”. Between the return of Wait and what the caller then
// does, others return from Wait too, and all of them take the one free slot:
//
//	e.Wait(ctx) // tells five workers that a slot is free
//	inUse++     // and five take it
//
// For that use [Cond.WaitFor], which checks and acts under one lock, or a
// [CapacityResource]. Nor does an Event count: two Sets are one. To wake one
// goroutine for each thing that happens, use a Cond or a channel.
type Event struct {
	// set changes under mu only, together with what happens in the line of
	// cond, so that a Wait either sees the flag or is in line for the next
	// Set. Wait and IsSet load it without mu; that load pairs with the store
	// in Set, which is done anew by each Set for the sake of this pairing.
	set  flag
	mu   mutex
	cond Cond // with mu as L; made at the first Wait that has to wait
}

// Set sets the event and releases everybody who waits for it, even if Clear is
// called before they have run. Setting a set event changes nothing. Set does
// not block.
func (e *Event) Set() {
	var wake wakeUps
	defer wake.send()
	e.mu.Lock()
	defer e.mu.Unlock()
	e.set.Store(true)
	e.cond.commit(math.MaxInt, true, &wake)
}

// Clear makes the event not set: Waits that begin after it wait. Those already
// released by a Set stay released, so Set followed by Clear is a pulse, which
// releases those who wait at that moment. Clearing an event that is not set
// changes nothing. Clear does not block.
func (e *Event) Clear() {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.set.Store(false)
}

// IsSet reports whether the event is set, at the cost of an atomic load.
func (e *Event) IsSet() bool { return e.set.Load() }

// Wait waits until the event is set. On a set event it returns nil at once,
// even if ctx is done, at the cost of an atomic load.
//
// If ctx ends before the event is set, Wait returns the same error as
// [Cond.Wait]. Whichever comes first counts: Set and then cancel gives nil,
// cancel and then Set gives the error. Wait does not look at the event again
// once it is released, so Set followed by Clear releases all who wait.
//
// In the steady state Wait allocates nothing.
func (e *Event) Wait(ctx context.Context) error {
	if e.set.Load() || e.wait(ctx.Done()) {
		return nil
	}
	return contextError(ctx)
}

// wait is Wait without the context's methods, which are foreign code and must
// not run with mu held. It reports whether the event was set.
func (e *Event) wait(done <-chan struct{}) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.cond.L == nil {
		e.cond.L = &e.mu
	}
	return e.set.Load() || !ended(done) && e.cond.wait(done, nil)
}

// Waiters returns how many are waiting for the event.
func (e *Event) Waiters() int { return e.cond.Waiters() }
