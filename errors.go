package condvar

import (
	"context"
	"errors"
	"strconv"
)

// ErrClosed is the error of an acquisition after Close.
var ErrClosed = errors.New("condvar: resource is closed")

// ErrTooLarge is the error of an acquisition of more than the capacity.
var ErrTooLarge = errors.New("condvar: request exceeds the capacity")

// ErrOverloaded is the error of a wait that [MaxWaiting] prevents or [MaxWait]
// ends.
var ErrOverloaded = errors.New("condvar: resource is overloaded")

// errEnded marks a call whose context has ended. The call replaces it by the
// result of contextError after mu is unlocked.
var errEnded = errors.New("condvar: context ended")

// contextError returns the error of a wait that was ended by ctx.
func contextError(ctx context.Context) error {
	err, cause := ctx.Err(), context.Cause(ctx)
	switch {
	case err == nil: // a broken Context, whose Done is closed
		return context.Canceled
	case cause == nil || errors.Is(err, cause):
		return err
	}
	return &causeError{err, cause}
}

// A causeError is the error of a context that has a cause of its own.
type causeError struct{ err, cause error }

func (e *causeError) Error() string   { return e.err.Error() + ": " + e.cause.Error() }
func (e *causeError) Unwrap() []error { return []error{e.err, e.cause} }

// A drainError is the error of a Drain whose context has ended.
type drainError struct {
	held int64
	err  error
}

func (e *drainError) Error() string {
	return "condvar: permits still held: " + strconv.FormatInt(e.held, 10) + ": " + e.err.Error()
}

func (e *drainError) Unwrap() error { return e.err }

// check panics if r is the zero value, or n is negative.
func (r *CapacityResource) check(n int64) {
	if r.base.IsZero() {
		panic("condvar: use of a zero CapacityResource (make one with NewCapacityResource)")
	}
	if n < 0 {
		panic("condvar: negative number of permits")
	}
}
