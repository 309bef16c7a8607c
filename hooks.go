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
// use the resource. If a hook panics or calls [runtime.Goexit], that ends the
// call, and the accounting stays correct: permits that the call has taken are
// put back. Whoever was told of the start of a wait or of an acquisition is
// told of the end of the wait or of the release all the same.
//
// WaitStart, WaitDone and Resized cost nothing to calls that do not wait. With
// Acquired or Released, every call locks a mutex, and Do makes an allocation.
type Hooks struct {
	// WaitStart is called when a call for n permits must wait, before it joins
	// the line. Calls that join during WaitStart are ahead of it. If permits
	// come free during WaitStart, the call does not wait after all. ctx is that
	// of the call. If WaitStart returns a context that is not nil, the later
	// hooks of the same call get it instead. The wait still ends with ctx.
	WaitStart func(ctx context.Context, n int64) context.Context

	// WaitDone is called after each WaitStart. waited counts from the return of
	// WaitStart. err is what AcquireN is about to return: nil if the permits
	// were acquired. If the call panics, err is an error of this package.
	WaitDone func(ctx context.Context, n int64, waited time.Duration, err error)

	// Acquired is called when n permits have been taken, at once or after a
	// wait; n may be 0. The context of calls that have none, such as
	// TryAcquireN, is [context.Background]. hold is not nil for Do and for
	// Permits: then the release gets the same one.
	Acquired func(ctx context.Context, n int64, hold *Hold)

	// Released is called after n permits have been put back. n may be 0. Other
	// calls may have acquired them already. For Do and for Permits, hold is that
	// of the acquisition, and held is the time since then. Otherwise hold is nil
	// and held is 0.
	Released func(n int64, hold *Hold, held time.Duration)

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
	return Observe(func(*CapacityResource) *Hooks { return &h })
}

// Observe is how an observer attaches to a resource with one option.
// [NewCapacityResource] calls f once for each resource that it makes, in the
// order of the options. The resource is ready to be used. The hooks that f
// returns are installed then, as by [WithHooks]; nil is none. Until
// NewCapacityResource returns, goroutines that f has given the resource to may
// only call Stats and String. If f panics, NewCapacityResource does.
func Observe(f func(r *CapacityResource) *Hooks) Option {
	return func(r *CapacityResource) { r.observers = append(r.observers, f) }
}

// runObservers installs the hooks of the options. With mu held, since Stats may
// be called already.
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

// acquireWithHooks is AcquireN after its first look at ctx.
func (r *CapacityResource) acquireWithHooks(ctx context.Context, n int64, hold *Hold) error {
	err := r.acquireSlow(ctx, n, false)
	if err == errMustWait { //nolint:errorlint // it is ours; the causes of contexts are not to be asked
		ctx, err = r.waitWithHooks(ctx, n)
	}
	if err == nil {
		r.runAcquired(ctx, n, hold)
	}
	return err
}

// waitWithHooks is acquireSlow between WaitStart and WaitDone. It returns the
// context for later hooks, too.
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
// permits are put back, and those who were told are told of that.
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
