package condvar

import (
	"context"
	"time"

	"example.com/condvar/internal/primitives"
)

// An Option configures [NewCapacityResource]. If an option is repeated, the
// last one counts; [WithHooks] and [Observe] add up.
type Option func(*CapacityResource)

// FIFO makes a resource strictly first in, first out: while a call waits, new
// calls join the line, and TryAcquire returns false. This costs throughput:
// released permits are unused until the waiter that gets them runs.
func FIFO() Option {
	return func(r *CapacityResource) { r.fifo = true }
}

// MaxWaiting lets n calls wait at a time, or none if n is 0. A call that would
// be one more fails at once with [ErrOverloaded]. MaxWaiting panics if n < 0. A
// good bound is half of the calls that can be served within the timeout of a
// client: see the module examples/overload.
func MaxWaiting(n int) Option {
	if n < 0 {
		panic("condvar: MaxWaiting with a negative number")
	}
	return func(r *CapacityResource) { r.maxWaiting = n }
}

// MaxWait makes a call fail with [ErrOverloaded] after it has been in line for
// d. If its context has a deadline that is not later, the context's error is
// returned instead. MaxWait limits only the wait, not the fn of
// [CapacityResource.Do]. It panics if d <= 0.
func MaxWait(d time.Duration) Option {
	if d <= 0 {
		panic("condvar: MaxWait with a duration that is not positive")
	}
	return func(r *CapacityResource) { r.maxWait = d }
}

// AdmitOversized makes a request for more permits than the capacity wait in its
// place in the line until nothing is held. It is then admitted alone, instead
// of failing with [ErrTooLarge]. Each [CapacityResource.Resize] decides again
// which requests are oversized.
func AdmitOversized() Option {
	return func(r *CapacityResource) { r.admitOversized = true }
}

// maxWaitEndsFirst reports whether MaxWait ends a wait that begins now before
// the deadline of ctx does. Otherwise no timer is needed. If both are at the
// same time, the context takes precedence.
func (r *CapacityResource) maxWaitEndsFirst(ctx context.Context) bool {
	deadline, ok := ctx.Deadline()
	return !ok || time.Until(deadline) > r.maxWait
}

// sleepAtMost is like sleep, but also ends after d, and then returns false.
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
