package etcdcondvar

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"example.com/condvar"
)

// ErrLost is the error of a [Permit] that ended before it was released, and the
// cause of its contexts: the lease could not be renewed, or it was deleted.
var ErrLost = errors.New("etcdcondvar: permit is lost")

// ErrFull is the error of a TryAcquire that would have to wait.
var ErrFull = errors.New("etcdcondvar: too few permits are free")

// errClientClosed is the error of a request of a client that is closed.
var errClientClosed = errors.New("etcdcondvar: the client is closed")

// errAgain ends a TryAcquire whose transaction found another ticket.
var errAgain = errors.New("etcdcondvar: look again")

// errClosing is the cause of a context that has ended at Close. No context of a
// caller has it.
var errClosing = errors.New("etcdcondvar: the Resource is closed")

// errNoAnswer is the error of a request that was given up, since its time was
// over. It does not match the error of a context: that of the call may have
// another.
var errNoAnswer = errors.New("no answer")

// errPanicked is the error of a WaitDone hook if the call does not return.
var errPanicked = errors.New("etcdcondvar: the call panicked or called runtime.Goexit")

// contextError returns the error that a wait returns if ctx is done.
func contextError(ctx context.Context) error {
	var never condvar.Event
	return never.Wait(ctx)
}

// A troubleError is the error of a context that ended while requests to etcd
// failed.
type troubleError struct{ err, trouble error }

func (e *troubleError) Error() string   { return e.err.Error() + ": etcd: " + e.trouble.Error() }
func (e *troubleError) Unwrap() []error { return []error{e.err, e.trouble} }

func withTrouble(err, trouble error) error {
	if trouble == nil {
		return err
	}
	return &troubleError{err, trouble}
}

// A drainError is the error of a Drain whose context has ended.
type drainError struct {
	held int64
	err  error
}

func (e *drainError) Error() string {
	held := strconv.FormatInt(e.held, 10)
	return "etcdcondvar: permits still held: " + held + ": " + e.err.Error()
}

func (e *drainError) Unwrap() error { return e.err }

// A formatError says that the value of a key is no capacity.
type formatError struct{ key, value string }

func (e *formatError) Error() string {
	return fmt.Sprintf("etcdcondvar: the value of key %q is no capacity: %.40q", e.key, e.value)
}

// A fault says what an error of etcd means for the calls.
type fault int

const (
	transient fault = iota // it may be over soon
	permanent              // a repetition would get it again
	leaseGone              // the lease does not exist
	closed                 // the client is closed
)

// final reports whether it is of no use to wait.
func (f fault) final() bool { return f == permanent || f == closed }

// faultOf says what err means.
func faultOf(err error) fault {
	if err == nil || errors.Is(err, rpctypes.ErrAuthOldRevision) {
		return transient
	}
	if errors.Is(err, errClientClosed) {
		return closed
	}
	if format := (*formatError)(nil); errors.As(err, &format) {
		return permanent
	}
	code := codes.Unknown
	if server := (rpctypes.EtcdError{}); errors.As(err, &server) {
		code = server.Code()
	} else if s, ok := status.FromError(err); ok {
		code = s.Code()
	}
	if strings.Contains(err.Error(), rpctypes.ErrPermissionDenied.Error()) {
		code = codes.PermissionDenied // a watch has it in its text only
	}
	switch code {
	case codes.PermissionDenied, codes.Unauthenticated, codes.InvalidArgument, codes.Unimplemented:
		return permanent
	case codes.NotFound:
		return leaseGone
	}
	return transient
}
