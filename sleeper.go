//go:build !race && !condvar_explore

package condvar

import "sync"

// A sleeper is a [sync.Cond], but for its L, which is set before the first Wait
// and stays; its Wait is called with a mutex held that L.Unlock unlocks.
type sleeper = sync.Cond
