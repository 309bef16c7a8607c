//go:build condvar_explore

package condvar

import (
	"sync"
	"sync/atomic"
	"time"
)

// An Explorer decides who takes the next step. Every operation on state that
// goroutines share calls it first, and takes place when it returns. It exists
// only in builds with the tag condvar_explore.
type Explorer interface {
	// Step comes before an operation on object.
	Step(op Op, object any)
	// Unlocked comes after a mutex has been unlocked.
	Unlocked(mutex any)
	// Select comes before a wait for token or for done, which may be nil. It
	// returns them, with nil in place of the one that is not to be chosen, should
	// both be ready.
	Select(token, done <-chan struct{}) (_, _ <-chan struct{})
	// TimedSelect is Select with a timer that may fire at any time. It reports
	// whether it has fired; token and done are nil then.
	TimedSelect(token, done <-chan struct{}) (_, _ <-chan struct{}, late bool)
	// Recycling reports whether to keep waiters for later waits, as is done
	// outside of bubbles.
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

// Explore is the Explorer, or nil. It changes only while nothing else happens.
var Explore Explorer //nolint:gochecknoglobals // not in ordinary builds

func step(op Op, object any) {
	if Explore != nil {
		Explore.Step(op, object)
	}
}

type mutex struct{ mu sync.Mutex }

func (m *mutex) Lock() {
	step(OpLock, m)
	m.mu.Lock()
}

func (m *mutex) Unlock() {
	m.mu.Unlock()
	if Explore != nil {
		Explore.Unlocked(m)
	}
}

func (m *mutex) TryLock() bool { return m.mu.TryLock() } // only tests do

// An ExploreMutex is a mutex for the packages that use this one.
type ExploreMutex = mutex

type atomicBool struct{ v atomic.Bool }

func (f *atomicBool) Load() bool {
	step(OpLoad, f)
	return f.v.Load()
}

func (f *atomicBool) Store(v bool) {
	step(OpStore, f)
	f.v.Store(v)
}

type atomicUint64 struct{ v atomic.Uint64 }

func (w *atomicUint64) Load() uint64 {
	step(OpLoad, w)
	return w.v.Load()
}

func (w *atomicUint64) Store(v uint64) {
	step(OpStore, w)
	w.v.Store(v)
}

func (w *atomicUint64) Swap(v uint64) uint64 {
	step(OpStore, w)
	return w.v.Swap(v)
}

func (w *atomicUint64) CompareAndSwap(old, v uint64) bool {
	step(OpStore, w)
	return w.v.CompareAndSwap(old, v)
}

type atomicPointer[T any] struct{ v atomic.Pointer[T] }

func (p *atomicPointer[T]) Load() *T {
	step(OpLoad, p)
	return p.v.Load()
}

func (p *atomicPointer[T]) Store(v *T) {
	step(OpStore, p)
	p.v.Store(v)
}

func (p *atomicPointer[T]) Swap(v *T) *T {
	step(OpStore, p)
	return p.v.Swap(v)
}

func (p *atomicPointer[T]) CompareAndSwap(old, v *T) bool {
	step(OpStore, p)
	return p.v.CompareAndSwap(old, v)
}

func exploreLook(ch <-chan struct{}) {
	if ch != nil {
		step(OpLoad, ch)
	}
}

func exploreSend(token <-chan struct{}) { step(OpSend, token) }

func exploreSelect(token, done <-chan struct{}) (_, _ <-chan struct{}) {
	if Explore != nil {
		return Explore.Select(token, done)
	}
	return token, done
}

func exploreTimedSelect(token, done <-chan struct{}, late <-chan time.Time) (_, _ <-chan struct{}, _ <-chan time.Time) {
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

func exploreBubble(inside bool) bool {
	return inside && (Explore == nil || !Explore.Recycling())
}
