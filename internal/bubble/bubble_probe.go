//go:build !go1.28 && !condvar_clock

// Package bubble finds out whether code runs in a testing/synctest bubble.
package bubble

import "sync"

// A Probe finds out whether the caller runs in a testing/synctest bubble.
// verify/matrix tests it with the Go releases that use it; others use
// bubble_clock.go. A WaitGroup that is allocated separately is not zero after
// Add was called in a bubble.
type Probe struct{ wg *sync.WaitGroup }

// Inside reports whether the caller runs in a bubble. Calls must not be
// concurrent.
func (p *Probe) Inside() bool {
	if p.wg == nil {
		p.wg = new(sync.WaitGroup)
	}
	p.wg.Add(0)
	if *p.wg == (sync.WaitGroup{}) {
		return false
	}
	p.wg = nil // it must not be used outside this bubble
	return true
}
