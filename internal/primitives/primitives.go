//go:build !condvar_explore

// Package primitives has the mutex, the atomics and the hooks at channels that
// condvar is built on. With the build tag condvar_explore, types and functions
// of the same names call a scheduler that tries all interleavings (see
// verify/explore). Without it these are aliases and empty functions, which cost
// nothing.
package primitives

import (
	"sync"
	"sync/atomic"
	"time"
)

// A Mutex is a sync.Mutex.
type Mutex = sync.Mutex

// A Bool is an atomic.Bool.
type Bool = atomic.Bool

// A Uint64 is an atomic.Uint64.
type Uint64 = atomic.Uint64

// A Pointer is an atomic.Pointer.
type Pointer[T any] = atomic.Pointer[T]

// Look is called before a non-blocking receive from a channel.
func Look(<-chan struct{}) {}

// Send is called before a send of a token.
func Send(<-chan struct{}) {}

// Select is called before a wait for token or for done, which may be nil. The
// caller waits for the channels that it returns.
func Select(token, done <-chan struct{}) (_, _ <-chan struct{}) { return token, done }

// TimedSelect is Select with a timer.
func TimedSelect(token, done <-chan struct{}, late <-chan time.Time) (_, _ <-chan struct{}, _ <-chan time.Time) {
	return token, done, late
}

// Bubble reports whether a waiter must not be kept for later waits. inside says
// whether the caller is in a testing/synctest bubble.
func Bubble(inside bool) bool { return inside }
