package condvar

import (
	"context"
	"errors"
	"time"
)

// Hooks are functions that a [CapacityResource] calls when something happens to
// it, for metrics, traces and logs. Any of them may be nil.
//
// A hook runs on the goroutine of the call that it reports, while no lock of
// this package is held. So a slow hook delays only that call, and a hook may
// use the resource. If a hook panics, the panic propagates to the caller, and
// the accounting stays correct: permits that the call has taken are put back.
// That is not reported to hooks, and later hooks of the same call are not
// called.
//
// WaitStart, WaitDone and Resized cost nothing to calls that do not wait. With
// Acquired or Released, every call locks a mutex.
type Hooks struct {
	// WaitStart is called when a call for n permits must wait, before it joins
	// the line. Calls that join during WaitStart are ahead of it. If permits
	// come free during WaitStart, the call does not wait after all. ctx is that
	// of the call. If WaitStart returns a context that is not nil, the later
	// hooks of the same call get it instead. The wait still ends with ctx.
	WaitStart func(ctx context.Context, n int64) context.Context

	// WaitDone is called after each WaitStart. waited counts from the return of
	// WaitStart. err is what AcquireN is about to return: nil if the permits
	// were acquired.
	WaitDone func(ctx context.Context, n int64, waited time.Duration, err error)

	// Acquired is called when n permits have been taken, at once or after a
	// wait; n may be 0. The context of TryAcquireN is [context.Background].
	Acquired func(ctx context.Context, n int64)

	// Released is called after n permits have been put back. n may be 0. Other
	// calls may have acquired them already.
	Released func(n int64)

	// Resized is called after Resize has set the capacity, with the old and the
	// new one, which may be equal. Of two concurrent calls of Resize, the later
	// one may be reported first.
	Resized func(from, to int64)
}

// WithHooks makes a resource call hooks. If it is given several times, all are
// called, in the order of the options. Later changes to *hooks have no effect.
// WithHooks(nil) is a no-op.
func WithHooks(hooks *Hooks) Option {
	if hooks == nil {
		return func(*CapacityResource) {}
	}
	h := *hooks
	return func(r *CapacityResource) {
		r.hooks = append(r.hooks, h)
		r.hooksSeeEveryCall = r.hooksSeeEveryCall || h.Acquired != nil || h.Released != nil
	}
}

// errMustWait is what acquireSlow returns if mayWait is false.
var errMustWait = errors.New("condvar: must wait")

// acquireWithHooks is AcquireN after its first look at ctx.
func (r *CapacityResource) acquireWithHooks(ctx context.Context, n int64) error {
	err := r.acquireSlow(ctx, n, false)
	if err == errMustWait { //nolint:errorlint // it is ours; the causes of contexts are not to be asked
		caller := ctx
		r.runHooks(0, func(h *Hooks) {
			if h.WaitStart != nil {
				if c := h.WaitStart(ctx, n); c != nil {
					ctx = c
				}
			}
		})
		start := time.Now()
		err = r.acquireSlow(caller, n, true)
		waited := time.Since(start)
		taken := n
		if err != nil {
			taken = 0
		}
		r.runHooks(taken, func(h *Hooks) {
			if h.WaitDone != nil {
				h.WaitDone(ctx, n, waited, err)
			}
		})
	}
	if err == nil {
		r.runAcquired(ctx, n)
	}
	return err
}

func (r *CapacityResource) runAcquired(ctx context.Context, n int64) {
	r.runHooks(n, func(h *Hooks) {
		if h.Acquired != nil {
			h.Acquired(ctx, n)
		}
	})
}

func (r *CapacityResource) runReleased(n int64) {
	r.runHooks(0, func(h *Hooks) {
		if h.Released != nil {
			h.Released(n)
		}
	})
}

func (r *CapacityResource) runResized(from, to int64) {
	r.runHooks(0, func(h *Hooks) {
		if h.Resized != nil {
			h.Resized(from, to)
		}
	})
}

// runHooks calls f for all hooks. If f panics, the call fails, so the permits that
// it has taken are put back.
func (r *CapacityResource) runHooks(taken int64, f func(h *Hooks)) {
	returned := false
	defer func() {
		if !returned {
			r.releaseSlow(taken)
		}
	}()
	for i := range r.hooks {
		f(&r.hooks[i])
	}
	returned = true
}
