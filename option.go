package condvar

import (
	"context"
	"time"
)

// An Option configures [NewCapacityResource]. Of two options of a kind the last
// counts, except that all of [WithHooks] and [Observe] count.
type Option func(*CapacityResource)

// FIFO makes a resource strictly first in, first out. While somebody waits, a
// new call joins the line, and TryAcquire returns false. That is fairer, but a
// permit that is released then is idle until the waiter that gets it runs.
// AcquireN and TryAcquireN of 0 permits are exempt.
func FIFO() Option {
	return func(r *CapacityResource) { r.fifo = true }
}

// MaxWaiting makes at most n calls wait at a time. A call that would have to
// wait while n others do fails at once with [ErrOverloaded], and allocates
// nothing. With n = 0 nobody waits. A waiter whose context has ended counts
// until its goroutine runs, or until it is passed over. MaxWaiting panics if n <
// 0.
//
// Without a bound, a service that gets more requests than it can serve ends up
// serving only requests whose clients have given up. A good bound is the number
// of calls that can be served in the time that a client waits, less the time
// that its own work takes. If the work may get slower, use half of that, or
// [MaxWait]. The module examples/overload has a simulation.
func MaxWaiting(n int) Option {
	if n < 0 {
		panic("condvar: MaxWaiting with a negative number")
	}
	return func(r *CapacityResource) { r.maxWaiting = n }
}

// MaxWait makes a call wait for at most d, from when it joins the line. Then it
// fails with [ErrOverloaded]. If permits or the end of its context come first,
// or the context's deadline is not later, MaxWait has no effect on the call. A
// call that was woken as permits came free before d had passed may take them.
// MaxWait panics if d <= 0.
//
// MaxWait limits the wait alone. The context of the call does not change, so
// [CapacityResource.Do] does not cut off the work: fn gets the context that was
// passed to Do. Only calls that wait under MaxWait have a timer.
func MaxWait(d time.Duration) Option {
	if d <= 0 {
		panic("condvar: MaxWait with a duration that is not positive")
	}
	return func(r *CapacityResource) { r.maxWait = d }
}

// AdmitOversized makes a request for more permits than the capacity wait in its
// place in the line until nothing is held. It is then admitted alone, instead
// of failing with [ErrTooLarge]. Nobody else is admitted while more is in use
// than the capacity. If a part of the permits is released, others are admitted
// as the capacity allows. Which requests are too large is decided anew at each
// [CapacityResource.Resize]. While the resource is paused nobody is admitted.
//
// Use it instead of cutting a request down to the capacity, which a Resize may
// change in between.
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
	token, done, late := exploreTimedSelect(w.ch, w.done, w.timer.C)
	select {
	case <-token:
		woken = true
	case <-done:
	case <-late:
	}
	w.timer.Stop()
	return woken
}
