//go:build !race && !condvar_explore

package condvar

import "sync"

// A sleeper is a [sync.Cond] for one goroutine.
type sleeper = sync.Cond
