package condvar

import (
	"context"
	"time"

	"example.com/condvar/internal/primitives"
)

// A Permit represents permits of a [CapacityResource] that one call has
// acquired, and that are released only once, however often Release is called. A
// Permit must not be copied.
type Permit struct {
	hold Hold
	n    int64

	// r is nil once the permits have been released. Exactly one swap in Release
	// gets the resource.
	r primitives.Pointer[CapacityResource]
}

// AcquirePermit is like [CapacityResource.AcquireN], but returns the permits as
// a value. If it fails, the Permit is nil. It makes one allocation.
func (r *CapacityResource) AcquirePermit(ctx context.Context, n int64) (*Permit, error) {
	if !r.hooksSeeEveryCall {
		if err := r.AcquireN(ctx, n); err != nil {
			return nil, err
		}
		return r.newPermit(n), nil
	}
	r.check(n)
	p := r.newPermit(n)
	if err := r.acquireWithHooks(ctx, n, &p.hold); err != nil {
		return nil, err
	}
	return p, nil
}

// TryAcquirePermit is like [CapacityResource.TryAcquireN], but returns the
// permits as a value. If it fails, the Permit is nil.
func (r *CapacityResource) TryAcquirePermit(n int64) (*Permit, bool) {
	if !r.hooksSeeEveryCall {
		if !r.TryAcquireN(n) {
			return nil, false
		}
		return r.newPermit(n), true
	}
	p := r.newPermit(n)
	if !r.tryAcquireSlow(n, &p.hold) {
		return nil, false
	}
	return p, true
}

func (r *CapacityResource) newPermit(n int64) *Permit {
	p := &Permit{n: n}
	p.r.Store(r)
	return p
}

// N returns the number of permits. Release does not change it.
func (p *Permit) N() int64 { return p.n }

// Release puts the permits back, as [CapacityResource.ReleaseN] does. Only one
// call does that; other calls do nothing, and may return earlier. Release of a
// nil *Permit does nothing.
func (p *Permit) Release() {
	if p == nil {
		return
	}
	switch r := p.r.Swap(nil); {
	case r == nil:
	case r.hooksSeeEveryCall:
		r.releaseSlow(p.n)
		runReleased(r.hooks, p.n, &p.hold)
	default:
		r.ReleaseN(p.n)
	}
}

// Do is [CapacityResource.DoN] with n = 1.
func (r *CapacityResource) Do(ctx context.Context, fn func(ctx context.Context) error) error {
	return r.DoN(ctx, 1, fn)
}

// DoN acquires n permits, calls fn with ctx, and returns what fn returns. It
// releases the permits when fn returns, panics or calls [runtime.Goexit]. If it
// cannot acquire them, it returns the error of [CapacityResource.AcquireN]
// without calling fn. fn should not acquire from the resource: it may deadlock.
func (r *CapacityResource) DoN(ctx context.Context, n int64, fn func(ctx context.Context) error) error {
	if r.hooksSeeEveryCall { // hooks get the Hold of a Permit
		p, err := r.AcquirePermit(ctx, n)
		if err != nil {
			return err
		}
		defer p.Release()
		return fn(ctx)
	}
	if err := r.AcquireN(ctx, n); err != nil {
		return err
	}
	defer r.ReleaseN(n)
	return fn(ctx)
}

// A Hold identifies, for [Hooks], permits from their acquisition by Do or as a
// [Permit] to their release. It is part of the Permit: a pointer to it keeps
// the Permit from being garbage collected, a [weak.Pointer] does not. Other
// types of permits can have a Hold as a field.
type Hold struct {
	since time.Time // when the Acquired hooks were called
}
