//go:build !condvar_explore

package keyed

import "sync"

// With the build tag condvar_explore, mutex calls a scheduler (see
// verify/explore).
type mutex = sync.Mutex
