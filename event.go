package condvar

import (
	"context"
	"math"

	"example.com/condvar/internal/primitives"
)

// An Event is a flag that goroutines can wait for. The zero value is not set.
// An Event must not be copied after first use; using a copy may panic. It must
// not be overwritten while a Set runs: a Wait may return first.
//
// Do not use it for “wait until there is room”: every Wait returns, and all
// callers take the same free slot. For that use [Cond.WaitFor] or a
// [CapacityResource].
type Event struct {
	// set changes with cond.mu held, so a Wait sees it or is in line before the
	// next Set. Wait and IsSet load it without mu. That load pairs with the
	// store in Set. Each Set stores, even if set is true already, so that each
	// Set pairs.
	set  primitives.Bool
	cond Cond // L is not used
}

// Set sets the event and releases all Waits that have begun, even if Clear is
// called before they run.
func (e *Event) Set() {
	e.lock()
	// Choose before the store: a goroutine that sees set may cancel a Wait.
	e.cond.chooseLocked(math.MaxInt, swept)
	e.set.Store(true)
	unsent := e.cond.wakeLocked()
	e.cond.mu.Unlock()
	unsent.send()
}

// Clear makes the event not set. A Wait that a Set released stays released. If
// Set means that there is work, call Clear after Wait and before looking for
// work, so that no Set is lost.
func (e *Event) Clear() {
	e.lock()
	e.set.Store(false)
	e.cond.mu.Unlock()
}

func (e *Event) lock() {
	e.cond.mu.Lock()
	e.cond.checkLocked()
}

// IsSet reports whether the event is set. It is one atomic load.
func (e *Event) IsSet() bool { return e.set.Load() }

// Wait waits until the event is set. If it is set already, Wait is one atomic
// load, and returns nil even if ctx is done. If ctx ends first, the error is
// that of [Cond.Wait]. In the steady state Wait does not allocate.
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

// Waiters returns how many Waits are in line.
func (e *Event) Waiters() int { return e.cond.Waiters() }
