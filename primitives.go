//go:build !condvar_explore

package condvar

import (
	"sync"
	"sync/atomic"
)

// What the algorithms of this package are made of, under names of its own: in a
// build with the tag condvar_explore a scheduler takes their place, which tries
// all interleavings (see verify/explore). In all other builds these are aliases
// and calls of nothing, of which the compiler leaves nothing.
type (
	mutex          = sync.Mutex
	flag           = atomic.Bool
	word           = atomic.Uint64
	pointer[T any] = atomic.Pointer[T]
)

func exploreLook(<-chan struct{}) {}

func exploreSend(<-chan struct{}) {}

func exploreSelect(token, done <-chan struct{}) (_, _ <-chan struct{}) { return token, done }

func exploreBubble(inside bool) bool { return inside }
