package matrix

import (
	"runtime"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

// A place is where an object is used.
type place struct {
	name   string
	bubble bool          // in a new bubble
	ahead  time.Duration // advance its clock by this first
	n      int           // number of goroutines that do the same concurrently
}

// The clock of a bubble starts in the year 2000.
var places = []place{
	{name: "outside", n: 2},
	{name: "bubble", bubble: true, n: 1},
	{name: "hour", bubble: true, ahead: time.Hour, n: 1},
	{name: "future", bubble: true, ahead: 60 * 365 * 24 * time.Hour, n: 1},
	{name: "crowd", bubble: true, n: 5},
}

// A visit is one step of a case.
type visit struct {
	*testing.T
	place
	step int // counted from 0
}

// visit calls f at p.
func (p place) visit(t *testing.T, step int, f func(v *visit)) {
	if !p.bubble {
		f(&visit{t, p, step})
		return
	}
	synctest.Test(t, func(t *testing.T) {
		time.Sleep(p.ahead)
		f(&visit{t, p, step})
	})
}

// settle waits until atRest returns true. In a bubble it must do so once
// synctest.Wait returns, which happens only if every wait is durably blocking.
func (v *visit) settle(atRest func() bool) {
	v.Helper()
	if v.bubble {
		synctest.Wait()
		require.True(v, atRest(), "the bubble is at rest in another state")
		return
	}
	for !atRest() {
		runtime.Gosched()
	}
}

// calls are concurrent calls.
type calls struct {
	n       int
	results chan error
}

// start calls f on n goroutines.
func start(n int, f func() error) *calls {
	c := &calls{n, make(chan error, n)}
	for range n {
		go func() { c.results <- f() }()
	}
	return c
}

// requireAll waits until all have returned, and checks their results.
func (c *calls) requireAll(v *visit, want error) {
	v.Helper()
	for range c.n {
		if err := <-c.results; want == nil {
			require.NoError(v, err)
		} else {
			require.ErrorIs(v, err, want)
		}
	}
}
