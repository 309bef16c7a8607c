package condvar

import (
	"context"
	"errors"
	"time"
)

// Hooks are functions that a [CapacityResource] calls; any may be nil. A hook
// runs on the goroutine of the call that it reports, while no lock of this
// package is held, and may use the resource. If a hook panics, so does the
// call, and permits that it has taken are put back. Even then each WaitStart is
// followed by a WaitDone, and each Acquired by a Released.
//
// WaitStart, WaitDone and Resized cost nothing to calls that do not wait. With
// Acquired or Released, every call locks a mutex, and Do makes an allocation.
type Hooks struct {
	// WaitStart is called before a call for n permits joins the line. The call
	// may still get its permits without waiting. If WaitStart returns a non-nil
	// context, the later hooks of the call get that. The wait still ends with
	// ctx.
	WaitStart func(ctx context.Context, n int64) context.Context

	// WaitDone is called after each WaitStart, with the error that AcquireN is
	// about to return, or an error of this package if the call panics.
	WaitDone func(ctx context.Context, n int64, waited time.Duration, err error)

	// Acquired is called after n permits have been taken; n may be 0. hold is
	// not nil for Do and Permits: Released gets the same hold.
	Acquired func(ctx context.Context, n int64, hold *Hold)

	// Released is called after n permits have been put back. If hold is not
	// nil, held is the time since the acquisition.
	Released func(n int64, hold *Hold, held time.Duration)

	// Resized is called after Resize. Concurrent calls may be reported in any
	// order.
	Resized func(from, to int64)
}

// WithHooks makes a resource call a copy of hooks. WithHooks(nil) is a no-op.
func WithHooks(hooks *Hooks) Option {
	if hooks == nil {
		return func(*CapacityResource) {}
	}
	h := *hooks
	return Observe(func(*CapacityResource) *Hooks { return &h })
}

// Observe attaches an observer to a resource. [NewCapacityResource] calls f
// when the resource is ready, and installs the hooks that f returns, if not
// nil. f may use the resource. Other goroutines may only call Stats and String
// until NewCapacityResource returns.
func Observe(f func(r *CapacityResource) *Hooks) Option {
	return func(r *CapacityResource) { r.observers = append(r.observers, f) }
}

// runObservers installs the hooks of the options. It does so with mu held,
// since other goroutines may call Stats.
func (r *CapacityResource) runObservers() {
	observers := r.observers
	r.observers = nil
	for _, f := range observers {
		if h := f(r); h != nil {
			r.lock()
			r.hooks = append(r.hooks, *h)
			r.hooksSeeEveryCall = r.hooksSeeEveryCall || h.Acquired != nil || h.Released != nil
			r.unlock()
		}
	}
}

var (
	// errMustWait is what acquireSlow returns if mayWait is false.
	errMustWait = errors.New("condvar: must wait")
	// errPanicked is the error of a WaitDone hook if the call does not return.
	errPanicked = errors.New("condvar: the call panicked or called runtime.Goexit")
)

// acquireWithHooks is AcquireN after its first check of ctx.
func (r *CapacityResource) acquireWithHooks(ctx context.Context, n int64, hold *Hold) error {
	err := r.acquireSlow(ctx, n, false)
	if err == errMustWait { //nolint:errorlint // it is ours; a context's cause must not be consulted
		ctx, err = r.waitWithHooks(ctx, n)
	}
	if err == nil {
		r.runAcquired(ctx, n, hold)
	}
	return err
}

// waitWithHooks is acquireSlow between WaitStart and WaitDone. It also returns
// the context for later hooks.
func (r *CapacityResource) waitWithHooks(ctx context.Context, n int64) (later context.Context, err error) {
	later, err = ctx, errPanicked
	started, start := 0, time.Now()
	defer func() {
		waited, told := time.Since(start), false
		defer func() {
			if err == nil && !told {
				r.releaseSlow(n)
			}
		}()
		each(r.hooks[:started], func(h *Hooks) {
			if h.WaitDone != nil {
				h.WaitDone(later, n, waited, err)
			}
		})
		told = true
	}()
	for started < len(r.hooks) {
		h := &r.hooks[started]
		started++
		if h.WaitStart != nil {
			if c := h.WaitStart(later, n); c != nil {
				later = c
			}
		}
	}
	start = time.Now()
	return later, r.acquireSlow(ctx, n, true)
}

// runAcquired calls the Acquired hooks. If one panics, the call fails: the
// permits are put back, and the Released hooks run of those Hooks whose
// Acquired was called.
func (r *CapacityResource) runAcquired(ctx context.Context, n int64, hold *Hold) {
	if hold != nil {
		hold.since = time.Now()
	}
	told := 0
	returned := false
	defer func() {
		if !returned {
			r.releaseSlow(n)
			runReleased(r.hooks[:told], n, hold)
		}
	}()
	for told < len(r.hooks) {
		h := &r.hooks[told]
		told++
		if h.Acquired != nil {
			h.Acquired(ctx, n, hold)
		}
	}
	returned = true
}

func runReleased(hooks []Hooks, n int64, hold *Hold) {
	var held time.Duration
	if hold != nil {
		held = time.Since(hold.since)
	}
	each(hooks, func(h *Hooks) {
		if h.Released != nil {
			h.Released(n, hold, held)
		}
	})
}

func runResized(hooks []Hooks, from, to int64) {
	each(hooks, func(h *Hooks) {
		if h.Resized != nil {
			h.Resized(from, to)
		}
	})
}

// each calls f for all hooks, in order, even if one of the calls panics.
func each(hooks []Hooks, f func(h *Hooks)) {
	if len(hooks) > 0 {
		defer each(hooks[1:], f)
		f(&hooks[0])
	}
}
