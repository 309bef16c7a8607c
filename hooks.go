package condvar

import (
	"context"
	"errors"
	"time"
)

// Hooks are functions that a [CapacityResource] calls as things happen to it,
// for metrics, traces and logs. Any of them may be nil.
//
// A hook runs on the goroutine of the call that it tells of, while no lock of
// this package is held. So it may be slow, which makes that call slow and no
// other, and it may use the resource. If it panics, the panic goes on to the
// caller, and the books are exact: permits that were taken by a call which
// ends so are put back. But hooks are not told of that, and those that would have
// been called after it, for the same call, are not.
//
// WaitStart, WaitDone and Resized cost nothing to calls that do not wait. With
// Acquired or Released every call takes a mutex where it would need one
// compare-and-swap.
type Hooks struct {
	// WaitStart is called when a call for n permits must wait, as too few are free
	// or it may not overtake those who wait, before it joins the line: those who
	// come meanwhile are ahead of it, and if there is room by then, it need not
	// wait after all. The context is that of the call. What WaitStart returns, if
	// it is not nil, is handed to the later hooks of the same call in its place;
	// the wait obeys that of the call.
	WaitStart func(ctx context.Context, n int64) context.Context

	// WaitDone is called after each WaitStart, with how long the wait took, from
	// the return of WaitStart on, and what AcquireN is about to return: nil if the
	// permits were acquired.
	WaitDone func(ctx context.Context, n int64, waited time.Duration, err error)

	// Acquired is called when n permits have been taken, at once or after a
	// wait; n may be 0. The context of TryAcquireN is [context.Background].
	Acquired func(ctx context.Context, n int64)

	// Released is called when n permits, or 0, have been put back. At that time
	// somebody else may have acquired them already.
	Released func(n int64)

	// Resized is called when Resize has set the capacity, with the capacity
	// before and after, which may be the same. Of two calls of Resize at once, the
	// later one may be told first.
	Resized func(from, to int64)
}

// WithHooks makes a resource call hooks. Given several times, all are called,
// in the order of the options; changes that are made to hooks later are not
// seen. WithHooks of nil is no option at all.
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

// errMustWait is what acquireSlow returns if it must wait and may not.
var errMustWait = errors.New("condvar: must wait")

// acquireWithHooks is AcquireN after its first look at ctx.
func (r *CapacityResource) acquireWithHooks(ctx context.Context, n int64) error {
	err := r.acquireSlow(ctx, n, false)
	if err == errMustWait { //nolint:errorlint // it is ours; the causes of contexts are not to be asked
		caller := ctx
		r.tell(0, func(h *Hooks) {
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
		r.tell(taken, func(h *Hooks) {
			if h.WaitDone != nil {
				h.WaitDone(ctx, n, waited, err)
			}
		})
	}
	if err == nil {
		r.tellAcquired(ctx, n)
	}
	return err
}

func (r *CapacityResource) tellAcquired(ctx context.Context, n int64) {
	r.tell(n, func(h *Hooks) {
		if h.Acquired != nil {
			h.Acquired(ctx, n)
		}
	})
}

func (r *CapacityResource) tellReleased(n int64) {
	r.tell(0, func(h *Hooks) {
		if h.Released != nil {
			h.Released(n)
		}
	})
}

func (r *CapacityResource) tellResized(from, to int64) {
	r.tell(0, func(h *Hooks) {
		if h.Resized != nil {
			h.Resized(from, to)
		}
	})
}

// tell calls f for all hooks. If f panics, the call that it is part of does not
// return the permits that it has taken, so they are put back.
func (r *CapacityResource) tell(taken int64, f func(h *Hooks)) {
	told := false
	defer func() {
		if !told {
			r.releaseSlow(taken)
		}
	}()
	for i := range r.hooks {
		f(&r.hooks[i])
	}
	told = true
}
