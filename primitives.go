//go:build !condvar_explore

package condvar

import (
	"sync"
	"sync/atomic"
	"time"
)

// The primitives that this package is built on. With the build tag
// condvar_explore, types and functions of the same names call a scheduler that
// tries all interleavings (see verify/explore). Without it these are aliases
// and empty functions, which cost nothing.
type (
	mutex                = sync.Mutex
	atomicBool           = atomic.Bool
	atomicUint64         = atomic.Uint64
	atomicPointer[T any] = atomic.Pointer[T]
)

func exploreLook(<-chan struct{}) {}

func exploreSend(<-chan struct{}) {}

func exploreSelect(token, done <-chan struct{}) (_, _ <-chan struct{}) { return token, done }

func exploreTimedSelect(token, done <-chan struct{}, late <-chan time.Time) (_, _ <-chan struct{}, _ <-chan time.Time) {
	return token, done, late
}

func exploreBubble(inside bool) bool { return inside }
