package condvar_test

import (
	"context"
	"sync/atomic"
	"testing"
	"testing/synctest"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"example.com/condvar"
)

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m)
}

// A chanLock is a Locker made of a channel: in a bubble, a goroutine that
// blocks on it is durably blocked, as one that blocks on a sync.Mutex is not.
// It must be made in the bubble that uses it. Its hooks are the seams of a
// wait; a nil hook does nothing.
type chanLock struct {
	ch             chan struct{}
	beforeLock     func()
	beforeUnlock   func()
	afterUnlock    func()
	locks, unlocks int // counted with the lock held
}

func newChanLock() *chanLock { return &chanLock{ch: make(chan struct{}, 1)} }

func (l *chanLock) Lock() {
	call(l.beforeLock)
	l.ch <- struct{}{}
	l.locks++
}

func (l *chanLock) Unlock() {
	call(l.beforeUnlock)
	l.unlocks++
	select {
	case <-l.ch:
	default:
		panic("chanLock: unlock of an unlocked lock")
	}
	call(l.afterUnlock)
}

// locked reports whether somebody holds l.
func (l *chanLock) locked() bool { return len(l.ch) == 1 }

func call(f func()) {
	if f != nil {
		f()
	}
}

// An asyncCall is something that runs on a goroutine of its own, and what it
// returned. err may be read once done is true.
type asyncCall struct {
	done atomic.Bool
	err  error
}

// start runs f on a goroutine and waits until the bubble is at rest: f has
// returned, or is parked.
func start(f func() error) *asyncCall {
	a := &asyncCall{}
	go func() {
		a.err = f()
		a.done.Store(true)
	}()
	synctest.Wait()
	return a
}

// requireDone checks that a has returned, and what.
func (a *asyncCall) requireDone(t *testing.T, want error) {
	t.Helper()
	require.True(t, a.done.Load(), "the call has not returned")
	if want == nil {
		require.NoError(t, a.err)
	} else {
		require.ErrorIs(t, a.err, want)
	}
}

// requireParked checks that a has not returned.
func (a *asyncCall) requireParked(t *testing.T) {
	t.Helper()
	if a.done.Load() {
		require.Fail(t, "the call has returned", "%v", a.err)
	}
}

// startWait starts c.Wait(ctx) with c.L held, and settles.
func startWait(ctx context.Context, c *condvar.Cond) *asyncCall {
	return start(func() error {
		c.L.Lock()
		defer c.L.Unlock()
		return c.Wait(ctx)
	})
}

// newPaused returns a resource with capacity 0.
func newPaused(opts ...condvar.Option) *condvar.CapacityResource {
	r := condvar.NewCapacityResource(1, opts...)
	r.Resize(0)
	return r
}

// startAcquire starts r.AcquireN(ctx, n), and settles.
func startAcquire(ctx context.Context, r *condvar.CapacityResource, n int64) *asyncCall {
	return start(func() error { return r.AcquireN(ctx, n) })
}
