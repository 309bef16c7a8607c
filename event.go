package condvar

import (
	"context"
	"math"
)

// An Event is a flag that goroutines can wait for. It is set or not; the zero
// value is not. An Event must not be copied after first use; using a copy may
// panic. Nor must it be overwritten while a Set may be under way: Wait can return
// before the Set that releases it does.
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
	// set changes with mu of cond held, so that a Wait either sees it or is in
	// line for the next Set. Wait and IsSet load it without mu. That load pairs
	// with the store in Set, which is done even if set is true already.
	set  flag
	cond Cond // has no L: there is nothing else to guard
}

// Set sets the event and releases everybody who waits for it, even if Clear is
// called before they have run. Setting a set event changes nothing. Set does
// not block.
func (e *Event) Set() {
	e.lock()
	e.cond.chooseLocked(math.MaxInt, swept) // before others see set, and cancel somebody
	e.set.Store(true)
	unsent := e.cond.wakeLocked()
	e.cond.mu.Unlock()
	unsent.send()
}

// Clear makes the event not set: Waits that begin after it wait. Those already
// released by a Set stay released, so Set followed by Clear is a pulse, which
// releases those who wait at that moment. Clearing an event that is not set
// changes nothing. Clear does not block.
func (e *Event) Clear() {
	e.lock()
	e.set.Store(false)
	e.cond.mu.Unlock()
}

func (e *Event) lock() {
	e.cond.mu.Lock()
	e.cond.checkLocked()
}

// IsSet reports whether the event is set, at the cost of an atomic load.
func (e *Event) IsSet() bool { return e.set.Load() }

// Wait waits until the event is set. On a set event it returns nil at once,
// even if ctx is done, at the cost of an atomic load.
//
// If ctx ends before the event is set, Wait returns the same error as
// [Cond.Wait]. If both happen, the first counts: Set and then cancel gives nil,
// cancel and then Set gives the error. Wait does not look at the event again
// once it is released, so Set followed by Clear releases all who wait.
//
// In the steady state Wait allocates nothing.
func (e *Event) Wait(ctx context.Context) error {
	if e.set.Load() {
		return nil
	}
	done := ctx.Done()
	e.lock()
	isSet := e.set.Load()
	if isSet || ended(done) {
		e.cond.mu.Unlock()
		if isSet {
			return nil
		}
		return contextError(ctx)
	}
	w := e.cond.joinLocked(done)
	e.cond.mu.Unlock()
	canceled := !w.sleep() && e.cond.leave(w)
	e.cond.pool.push(w)
	if canceled {
		return contextError(ctx)
	}
	return nil
}

// Waiters returns how many are waiting for the event.
func (e *Event) Waiters() int { return e.cond.Waiters() }
