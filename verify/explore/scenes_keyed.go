//go:build condvar_explore

package explore

import (
	"errors"
	"fmt"

	"example.com/condvar/keyed"
)

// A keyedScene is the objects of a scene about a keyed.Resource.
type keyedScene struct {
	*Run
	r     *keyed.Resource[int]
	held  map[int]int64
	fault error
}

func newKeyedScene(r *Run, capacity int64) *keyedScene {
	return &keyedScene{Run: r, r: keyed.New[int](capacity), held: map[int]int64{}}
}

// use acquires and releases n permits of key, and checks that no more than most
// are held.
func (s *keyedScene) use(ctx *Context, key int, n, most int64) {
	if s.r.AcquireN((&call{ctx: ctx}).context(), key, n) != nil {
		return
	}
	s.Note(s)
	s.held[key] += n
	if s.held[key] > most {
		s.fault = fmt.Errorf("%d permits of key %d are held, of %d", s.held[key], key, most)
	}
	s.Note(s)
	s.held[key] -= n
	s.r.ReleaseN(key, n)
}

// empty checks that no entries are left.
func (s *keyedScene) empty() error {
	if n := s.r.Len(); s.fault == nil && n != 0 {
		return fmt.Errorf("%d keys are left", n)
	}
	return s.fault
}

func keyedScenes() []*Scene {
	return []*Scene{
		{
			Name:      "KeyedOneKey",
			Invariant: "permits in use never exceed the capacity of a key while its entry is made and removed, and no entry is left",
			Bound:     2,
			LongBound: 3,
			Setup: func(r *Run) func() error {
				s := newKeyedScene(r, 1)
				ctx := r.Context()
				s.Go("first", func() { s.use(nil, 1, 1, 1) })
				s.Go("second", func() { s.use(ctx, 1, 1, 1) })
				s.Go("canceller", ctx.Cancel)
				return s.empty
			},
		},
		{
			Name:      "KeyedEntryIsUsedForAnotherKey",
			Invariant: "the entry of an idle key is reused for another key only after all calls have left it",
			Bound:     2,
			LongBound: 3,
			Setup: func(r *Run) func() error {
				s := newKeyedScene(r, 1)
				s.r.TryAcquire(1)
				s.Go("releases", func() { s.r.Release(1) })
				s.Go("acquires", func() {
					if !s.r.TryAcquire(2) {
						s.fault = errors.New("the permit of an unused key is not free")
						return
					}
					s.r.Release(2)
				})
				s.Go("again", func() {
					if s.r.TryAcquire(1) {
						s.r.Release(1)
					}
				})
				return s.empty
			},
		},
		{
			Name:      "KeyedReleaseTooMany",
			Invariant: "a release of a key that is not held panics, and does not change another key",
			Bound:     2,
			LongBound: 3,
			Setup: func(r *Run) func() error {
				s := newKeyedScene(r, 1)
				s.r.TryAcquire(1)
				panics := 0
				for _, name := range []string{"one", "other"} {
					s.Go(name, func() {
						defer func() {
							if recover() != nil {
								s.Note(s)
								panics++
							}
						}()
						s.r.Release(1)
					})
				}
				s.Go("another", func() { s.use(nil, 2, 1, 1) })
				return func() error {
					if panics != 1 {
						return fmt.Errorf("%d panicked", panics)
					}
					return s.empty()
				}
			},
		},
		{
			Name:      "KeyedResizeAgainstANewKey",
			Invariant: "a key that is made while Resize runs has the new capacity once Resize has returned",
			Bound:     2,
			LongBound: 3,
			Setup: func(r *Run) func() error {
				s := newKeyedScene(r, 2)
				s.Go("acquires", func() {
					if !s.r.TryAcquire(1) {
						s.fault = errors.New("a permit is free with either capacity")
					}
				})
				s.Go("resizes", func() {
					s.r.Resize(1)
					if n := s.r.Stats(1).Capacity; n != 1 {
						s.fault = fmt.Errorf("the capacity is %d", n)
					}
				})
				return func() error {
					if s.r.TryAcquire(1) {
						return errors.New("two permits of one are held")
					}
					s.r.Release(1)
					return s.empty()
				}
			},
		},
	}
}
