package wild

import (
	"testing"
	"testing/synctest"

	"github.com/stretchr/testify/require"
)

// A chanLock is a Locker made of a channel. A goroutine of a bubble that waits
// for it is durably blocked, unlike one that waits for a sync.Mutex.
type chanLock chan struct{}

func newChanLock() chanLock { return make(chanLock, 1) }

func (l chanLock) Lock()   { l <- struct{}{} }
func (l chanLock) Unlock() { <-l }

// A task is a call on its own goroutine.
type task struct{ result chan error }

// start starts f, and waits until the bubble is at rest.
func start(f func() error) task {
	t := task{make(chan error, 1)}
	go func() { t.result <- f() }()
	synctest.Wait()
	return t
}

// requireWaits checks that the call has not returned.
func (c task) requireWaits(t *testing.T) {
	t.Helper()
	synctest.Wait()
	require.Empty(t, c.result, "the call has returned")
}

// requireReturned checks that the call has returned want.
func (c task) requireReturned(t *testing.T, want error) {
	t.Helper()
	synctest.Wait()
	require.NotEmpty(t, c.result, "the call waits")
	require.ErrorIs(t, <-c.result, want)
}
