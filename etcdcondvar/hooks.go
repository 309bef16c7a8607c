package etcdcondvar

import (
	"context"
	"time"

	"example.com/condvar"
)

// waitWithHooks waits until the call p is decided, between WaitStart and
// WaitDone. It returns the context for later hooks, too. If a hook panics, the
// call ends.
func (r *Resource) waitWithHooks(
	ctx context.Context, p *Permit,
) (later context.Context, err error) {
	later, err = ctx, errPanicked
	started, start := 0, time.Now()
	defer func() {
		waited, returned := time.Since(start), false
		defer func() {
			if !returned || err == errPanicked { //nolint:errorlint // never wrapped
				r.abandon(p)
			}
		}()
		each(r.hooks[:started], func(h *condvar.Hooks) {
			if h.WaitDone != nil {
				h.WaitDone(later, p.n, waited, err)
			}
		})
		returned = true
	}()
	for started < len(r.hooks) {
		h := &r.hooks[started]
		started++
		if h.WaitStart != nil {
			if c := h.WaitStart(later, p.n); c != nil {
				later = c
			}
		}
	}
	start = time.Now()
	r.mu.Lock()
	err = r.decideLocked(ctx, p, p.cond.WaitFor(p.done, p.decided))
	return later, err
}

// abandon ends the call p in whatever state it is.
func (r *Resource) abandon(p *Permit) {
	r.mu.Lock()
	defer r.mu.Unlock()
	switch {
	case p.state == held:
		p.releaseLocked()
	case p.state != ended:
		r.endLocked(p, errPanicked)
	}
}

// runAcquired calls the Acquired hooks. If one panics, the call fails: the
// permits are put back, and the hooks that were called get a Released.
func (r *Resource) runAcquired(ctx context.Context, p *Permit) {
	if len(r.hooks) == 0 {
		return
	}
	if p.later != nil {
		ctx = p.later
	}
	p.acquired = time.Now() // no other goroutine has p yet
	ran, returned := 0, false
	defer func() {
		if !returned {
			r.abandon(p)
			r.eachReleased(p, r.hooks[:ran])
		}
	}()
	for ran < len(r.hooks) {
		h := &r.hooks[ran]
		ran++
		if h.Acquired != nil {
			h.Acquired(ctx, p.n, &p.hold)
		}
	}
	returned = true
	r.mu.Lock()
	p.acquiredRan = true
	lost := p.state == ended
	r.mu.Unlock()
	if lost {
		r.runReleased(p)
	}
}

// tellLocked is the teller: it calls the Released hooks for lost permits.
func (r *Resource) tellLocked() {
	for len(r.losses) > 0 {
		p := r.losses[0]
		r.losses = r.losses[1:]
		func() {
			r.mu.Unlock()
			defer r.mu.Lock() // a panic in a hook unlocks it
			r.runReleased(p)
		}()
	}
	r.losses = nil
}

// runReleased calls the Released hooks, once, if runAcquired has returned.
func (r *Resource) runReleased(p *Permit) {
	if len(r.hooks) == 0 {
		return
	}
	r.mu.Lock()
	ran := p.acquiredRan
	p.acquiredRan = false
	r.mu.Unlock()
	if ran {
		r.eachReleased(p, r.hooks)
	}
}

func (r *Resource) eachReleased(p *Permit, hooks []condvar.Hooks) {
	held := time.Since(p.acquired)
	each(hooks, func(h *condvar.Hooks) {
		if h.Released != nil {
			h.Released(p.n, &p.hold, held)
		}
	})
}

// each calls f for all hooks, in order, even if one of the calls panics.
func each(hooks []condvar.Hooks, f func(h *condvar.Hooks)) {
	if len(hooks) > 0 {
		defer each(hooks[1:], f)
		f(&hooks[0])
	}
}
