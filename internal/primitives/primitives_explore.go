//go:build condvar_explore

package primitives

import (
	"sync"
	"sync/atomic"
	"time"
)

// An Explorer decides which goroutine takes the next step. Every operation on
// state that goroutines share calls it first, and happens when it returns. It
// exists only in builds with the tag condvar_explore.
type Explorer interface {
	// Step is called before an operation on object.
	Step(op Op, object any)
	// Unlocked is called after a mutex has been unlocked.
	Unlocked(mutex any)
	// Select is called before a wait for token or for done, which may be nil.
	// It returns them. If both are ready, it returns nil in place of the one
	// that must not be chosen.
	Select(token, done <-chan struct{}) (_, _ <-chan struct{})
	// TimedSelect is Select with a timer that may fire at any time. It reports
	// whether it has fired; token and done are nil then.
	TimedSelect(token, done <-chan struct{}) (_, _ <-chan struct{}, late bool)
	// Recycling reports whether to keep waiters for later waits, as outside
	// bubbles.
	Recycling() bool
}

// An Op is a kind of operation.
type Op string

// The kinds of operations.
const (
	OpLock  Op = "lock"
	OpLoad  Op = "load"
	OpStore Op = "store"
	OpSend  Op = "send"
)

// Explore is the Explorer, or nil. It changes only while nothing else runs.
var Explore Explorer //nolint:gochecknoglobals // not in ordinary builds

func step(op Op, object any) {
	if Explore != nil {
		Explore.Step(op, object)
	}
}

// A Mutex is a sync.Mutex with hooks.
type Mutex struct{ mu sync.Mutex }

// Lock locks m.
func (m *Mutex) Lock() {
	step(OpLock, m)
	m.mu.Lock()
}

// Unlock unlocks m.
func (m *Mutex) Unlock() {
	m.mu.Unlock()
	if Explore != nil {
		Explore.Unlocked(m)
	}
}

// TryLock is for tests.
func (m *Mutex) TryLock() bool { return m.mu.TryLock() }

// A Bool is an atomic.Bool with hooks.
type Bool struct{ v atomic.Bool }

// Load loads f.
func (f *Bool) Load() bool {
	step(OpLoad, f)
	return f.v.Load()
}

// Store stores v in f.
func (f *Bool) Store(v bool) {
	step(OpStore, f)
	f.v.Store(v)
}

// A Uint64 is an atomic.Uint64 with hooks.
type Uint64 struct{ v atomic.Uint64 }

// Load loads w.
func (w *Uint64) Load() uint64 {
	step(OpLoad, w)
	return w.v.Load()
}

// Store stores v in w.
func (w *Uint64) Store(v uint64) {
	step(OpStore, w)
	w.v.Store(v)
}

// Swap stores v in w and returns the old value.
func (w *Uint64) Swap(v uint64) uint64 {
	step(OpStore, w)
	return w.v.Swap(v)
}

// CompareAndSwap stores v in w if its value is old.
func (w *Uint64) CompareAndSwap(old, v uint64) bool {
	step(OpStore, w)
	return w.v.CompareAndSwap(old, v)
}

// A Pointer is an atomic.Pointer with hooks.
type Pointer[T any] struct{ v atomic.Pointer[T] }

// Load loads p.
func (p *Pointer[T]) Load() *T {
	step(OpLoad, p)
	return p.v.Load()
}

// Store stores v in p.
func (p *Pointer[T]) Store(v *T) {
	step(OpStore, p)
	p.v.Store(v)
}

// Swap stores v in p and returns the old value.
func (p *Pointer[T]) Swap(v *T) *T {
	step(OpStore, p)
	return p.v.Swap(v)
}

// CompareAndSwap stores v in p if its value is old.
func (p *Pointer[T]) CompareAndSwap(old, v *T) bool {
	step(OpStore, p)
	return p.v.CompareAndSwap(old, v)
}

// Look is called before a non-blocking receive from a channel.
func Look(ch <-chan struct{}) {
	if ch != nil {
		step(OpLoad, ch)
	}
}

// Send is called before a send of a token.
func Send(token <-chan struct{}) { step(OpSend, token) }

// Select is called before a wait for token or for done, which may be nil. The
// caller waits for the channels that it returns.
func Select(token, done <-chan struct{}) (_, _ <-chan struct{}) {
	if Explore != nil {
		return Explore.Select(token, done)
	}
	return token, done
}

// TimedSelect is Select with a timer.
func TimedSelect(token, done <-chan struct{}, late <-chan time.Time) (_, _ <-chan struct{}, _ <-chan time.Time) {
	if Explore == nil {
		return token, done, late
	}
	token, done, fired := Explore.TimedSelect(token, done)
	if !fired {
		return token, done, nil
	}
	now := make(chan time.Time)
	close(now)
	return nil, nil, now
}

// Bubble reports whether a waiter must not be kept for later waits. inside says
// whether the caller is in a testing/synctest bubble.
func Bubble(inside bool) bool {
	return inside && (Explore == nil || !Explore.Recycling())
}
