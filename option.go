package condvar

import (
	"context"
	"time"

	"example.com/condvar/internal/primitives"
)

// An Option configures [NewCapacityResource]. Of two options of a kind the last
// counts, except that all of [WithHooks] and [Observe] do.
type Option func(*CapacityResource)

// FIFO makes a resource strictly first in, first out: while somebody waits, a
// new call joins the line, and TryAcquire returns false. Permits are idle then
// until the waiter that gets them runs.
func FIFO() Option {
	return func(r *CapacityResource) { r.fifo = true }
}

// MaxWaiting makes at most n calls wait at a time. A call that would have to
// wait while n others do fails at once with [ErrOverloaded]. With n = 0 nobody
// waits. MaxWaiting panics if n < 0. A good bound is half of what can be served
// while a client waits: see the module examples/overload.
func MaxWaiting(n int) Option {
	if n < 0 {
		panic("condvar: MaxWaiting with a negative number")
	}
	return func(r *CapacityResource) { r.maxWaiting = n }
}

// MaxWait makes a call wait for at most d, from when it joins the line. Then it
// fails with [ErrOverloaded]. It has no effect if permits or the end of the
// context come first, or if the context's deadline is not later. MaxWait limits
// the wait alone, not the fn of [CapacityResource.Do]. It panics if d <= 0.
func MaxWait(d time.Duration) Option {
	if d <= 0 {
		panic("condvar: MaxWait with a duration that is not positive")
	}
	return func(r *CapacityResource) { r.maxWait = d }
}

// AdmitOversized makes a request for more permits than the capacity wait in its
// place in the line until nothing is held, and then admits it alone, instead of
// failing with [ErrTooLarge]. Which requests are too large is decided anew at
// each [CapacityResource.Resize].
func AdmitOversized() Option {
	return func(r *CapacityResource) { r.admitOversized = true }
}

// maxWaitEndsFirst reports whether MaxWait ends a wait that begins now before
// the deadline of ctx does. Otherwise a timer is not needed, and if both end it
// at once, the context counts.
func (r *CapacityResource) maxWaitEndsFirst(ctx context.Context) bool {
	deadline, ok := ctx.Deadline()
	return !ok || time.Until(deadline) > r.maxWait
}

// sleepAtMost is sleep that also ends after d, and then reports false.
func (w *waiter) sleepAtMost(d time.Duration) (woken bool) {
	if w.timer == nil {
		w.timer = time.NewTimer(d)
	} else {
		w.timer.Reset(d)
	}
	token, done, late := primitives.TimedSelect(w.ch, w.done, w.timer.C)
	select {
	case <-token:
		woken = true
	case <-done:
	case <-late:
	}
	w.timer.Stop()
	return woken
}
