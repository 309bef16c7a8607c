//go:build condvar_explore

package explore

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"example.com/condvar"
)

// toTheEnd is the bound of scenes whose schedules are all tried.
const toTheEnd = -1

// A call is a blocking call that a thread of a scene makes.
type call struct {
	name     string
	ctx      *Context // nil if it cannot be canceled
	n        int64    // permits, if it acquires
	returned bool
	err      error
}

// failed reports whether the call returned an error.
func (c *call) failed() bool { return c.returned && c.err != nil }

// succeeded reports whether the call returned nil.
func (c *call) succeeded() bool { return c.returned && c.err == nil }

// explained returns an error if the call failed for no reason, or has not
// returned although its context has ended.
func (c *call) explained() error {
	canceled := c.ctx != nil && c.ctx.Canceled()
	switch {
	case canceled && !c.returned:
		return fmt.Errorf("%s still waits, although its context has ended", c.name)
	case errors.Is(c.err, context.Canceled) && !canceled:
		return fmt.Errorf("%s returned %w, but its context has not ended", c.name, c.err)
	}
	return nil
}

// count returns the number of calls for which is returns true.
func count(calls []*call, is func(*call) bool) (n int) {
	for _, c := range calls {
		if is(c) {
			n++
		}
	}
	return n
}

// context returns the Context as a context.Context.
func (c *call) context() context.Context {
	if c.ctx == nil {
		return context.Background()
	}
	return c.ctx
}

// expected is the panic value of scenes.
const expected = "expected"

func nothing() {}

// LargerScenes returns scenes with too many schedules to try all.
func LargerScenes() []*Scene {
	return []*Scene{
		{
			Name:      "CondCrowd",
			Invariant: "four consumers, three producers, two cancels: no data is left while a consumer sleeps",
			Sampled:   true,
			Setup: func(r *Run) func() error {
				s := newCondScene(r)
				data := 0
				has, use := func() bool { return data > 0 }, func() { data-- }
				ctx1, ctx2 := r.Context(), r.Context()
				for i, ctx := range []*Context{ctx1, ctx2, r.Context(), r.Context()} {
					s.waitFor(fmt.Sprintf("c%d", i+1), ctx, has, use)
				}
				for i, locked := range []bool{true, false, false} {
					s.notify(fmt.Sprintf("p%d", i+1), locked, func() { data++ }, s.one)
				}
				s.Go("canceller1", ctx1.Cancel)
				s.Go("canceller2", ctx2.Cancel)
				return func() error { return s.noDataLeft(data) }
			},
		},
		{
			Name:      "CondExactCrowd",
			Invariant: "four Waits, NotifyN, NotifyAll and two Notifies, two cancels: as many return nil as were woken",
			Sampled:   true,
			Setup: func(r *Run) func() error {
				s := newCondScene(r)
				ctx1, ctx2 := r.Context(), r.Context()
				for i, ctx := range []*Context{r.Context(), ctx1, ctx2, r.Context()} {
					s.wait(fmt.Sprintf("w%d", i+1), ctx)
				}
				s.notify("one", true, nothing, s.one)
				s.notify("another", false, nothing, s.one)
				s.notify("two", false, nothing, func() int { return s.c.NotifyN(2) })
				s.notify("all", false, nothing, s.c.NotifyAll)
				s.Go("canceller1", ctx1.Cancel)
				s.Go("canceller2", ctx2.Cancel)
				return s.exact
			},
		},
		{
			Name:      "ResourceCrowd",
			Invariant: "five calls acquire with weights, while the capacity changes and two are canceled: all others are admitted, and the accounting stays correct",
			Sampled:   true,
			Setup:     func(r *Run) func() error { return resourceCrowd(r) },
		},
		{
			Name:      "ResourceCrowdFIFO",
			Invariant: "the same with FIFO",
			Sampled:   true,
			Setup:     func(r *Run) func() error { return resourceCrowd(r, condvar.FIFO()) },
		},
	}
}

func resourceCrowd(r *Run, opts ...condvar.Option) func() error {
	s := newResourceScene(r, 2, opts...)
	ctx1, ctx2 := r.Context(), r.Context()
	var turns []*call
	for i, ctx := range []*Context{ctx1, ctx2, r.Context(), r.Context(), r.Context()} {
		c := &call{name: fmt.Sprintf("a%d", i+1), ctx: ctx}
		n := int64(1 + i%2)
		s.Go(c.name, func() {
			for range 2 {
				if c.err = s.r.AcquireN(c.context(), n); c.err != nil {
					break
				}
				s.took(n, 3)
				s.giveBack(n)
			}
			c.returned = true
		})
		turns = append(turns, c)
	}
	s.Go("resizer", func() {
		s.r.Resize(3)
		s.r.Resize(0)
		s.r.Resize(2)
	})
	s.Go("clock", func() { r.Advance(time.Millisecond) })
	s.Go("canceller1", ctx1.Cancel)
	s.Go("canceller2", ctx2.Cancel)
	return func() error {
		for _, c := range turns {
			if err := c.explained(); err != nil {
				return err
			}
			if !c.returned {
				return fmt.Errorf("%s sleeps, although all permits are released", c.name)
			}
			if c.failed() && !errors.Is(c.err, context.Canceled) {
				return fmt.Errorf("%s: %w", c.name, c.err)
			}
		}
		return s.atRest()
	}
}

// Scenes returns the scenes that are explored completely or up to their bound.
func Scenes() []*Scene {
	return slices.Concat(condScenes(), listenerScenes(), eventScenes(), resourceScenes(), resizeScenes(),
		optionScenes(), permitScenes(), keyedScenes())
}
