//go:build race && !condvar_explore

package condvar

import (
	"sync"
	"sync/atomic"
)

// A sleeper is a [sync.Cond], but for its L, which is set before the first Wait
// and stays; its Wait is called with a mutex held that L.Unlock unlocks. Its
// Signal synchronizes before the return of Wait, as documented; but the race
// detector does not know that of sync.Cond, and is told here.
type sleeper struct {
	L        sync.Locker
	cond     sync.Cond
	signaled atomic.Bool
}

func (s *sleeper) Signal() {
	s.signaled.Store(true)
	s.cond.Signal()
}

func (s *sleeper) Wait() {
	if s.cond.L == nil {
		s.cond.L = (*awakening)(s)
	}
	s.cond.Wait()
}

// An awakening is a sleeper as the Locker of its cond.
type awakening sleeper

func (s *awakening) Unlock() { s.L.Unlock() }

func (s *awakening) Lock() {
	s.signaled.Load()
	s.L.Lock()
}
