//go:build !go1.28 && !condvar_clock

package condvar

import "sync"

// A bubbleProbe finds out whether the caller runs in a testing/synctest bubble,
// for the Go releases for which verify/matrix has shown that it does. On others
// bubble_clock.go stands in its place. A WaitGroup that is allocated by itself
// belongs to a bubble once Add is called there, and is not zero any more.
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
