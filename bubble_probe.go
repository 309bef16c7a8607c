//go:build !go1.28 && !condvar_clock

package condvar

import "sync"

// A bubbleProbe finds out whether the caller runs in a testing/synctest bubble.
// verify/matrix tests it with the Go releases that use it; others use
// bubble_clock.go. A WaitGroup that is allocated by itself is not zero any more
// once Add has been called in a bubble.
type bubbleProbe struct{ wg *sync.WaitGroup }

func (p *bubbleProbe) inBubbleLocked() bool {
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
