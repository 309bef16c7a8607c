//go:build condvar_explore

package explore

import (
	"fmt"
)

func permitScenes() []*Scene {
	return []*Scene{
		{
			Name:      "PermitReleasedByTwo",
			Invariant: "of two calls of Release, one releases the permits, and none that others hold",
			Bound:     toTheEnd,
			Setup: func(r *Run) func() error {
				s := newResourceScene(r, 2)
				s.hold(1)
				p, ok := s.r.TryAcquirePermit(1)
				if !ok {
					panic("no permit for the setup")
				}
				for _, name := range []string{"one", "other"} {
					s.Go(name, p.Release)
				}
				s.acquire("waiter", nil, 1)
				return s.rejected
			},
		},
		{
			Name:      "PermitAgainstAReleaseTooMany",
			Invariant: "if a Permit and a plain Release release the same permit, the second call panics and changes nothing",
			Bound:     toTheEnd,
			Setup: func(r *Run) func() error {
				s := newResourceScene(r, 1)
				p, ok := s.r.TryAcquirePermit(1)
				if !ok {
					panic("no permit for the setup")
				}
				panics := 0
				releases := func(release func()) func() {
					return func() {
						defer func() {
							if recover() != nil {
								s.Note(s)
								panics++
							}
						}()
						release()
					}
				}
				s.Go("permit", releases(p.Release))
				s.Go("anonymous", releases(s.r.Release))
				return func() error {
					if panics != 1 {
						return fmt.Errorf("%d panicked", panics)
					}
					return s.rejected()
				}
			},
		},
	}
}
