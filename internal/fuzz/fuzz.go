// Package fuzz turns bytes into operations on a Cond or a CapacityResource, in
// a bubble, and compares what happens with a sequential model. After each
// operation it waits until the bubble is at rest, so that the model has one
// state to predict. If two operations follow each other without rest in
// between, what the waiting goroutines do then makes no difference at rest.
//
// Fuzz with -fuzzminimizetime=50x: goroutines run in another order each time,
// so coverage differs, and minimizing an input would take its full minute.
package fuzz

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

// fuzzMaxOps bounds an input: a long one finds nothing that a short one does
// not.
const fuzzMaxOps = 200

// A fuzzInput is bytes that are read in pairs: an operation and its argument.
type fuzzInput struct {
	all, rest []byte
	trace     []string
}

func newFuzzInput(data []byte) (first byte, in *fuzzInput) {
	if len(data) == 0 {
		data = []byte{0}
	}
	rest := data[1:min(len(data), 1+2*fuzzMaxOps)]
	return data[0], &fuzzInput{all: data, rest: rest}
}

func (in *fuzzInput) next() (op, arg byte, ok bool) {
	if len(in.rest) < 2 {
		return 0, 0, false
	}
	op, arg = in.rest[0], in.rest[1]
	in.rest = in.rest[2:]
	return op, arg, true
}

func (in *fuzzInput) tracef(format string, args ...any) {
	in.trace = append(in.trace, fmt.Sprintf(format, args...))
}

// check stops the test with the operations up to now, unless ok.
func (in *fuzzInput) check(t *testing.T, ok bool, format string, args ...any) {
	t.Helper()
	if !ok {
		require.Fail(t, fmt.Sprintf(format, args...), "input %q\n%s", in.all, strings.Join(in.trace, "\n"))
	}
}

// A fuzzCall is a call on a goroutine, and the prediction of the model.
type fuzzCall struct {
	cancel  context.CancelFunc
	returns chan error
	over    bool // it must have returned,
	want    error
}

// start runs f on a goroutine, and settles.
func (c *fuzzCall) start(f func(ctx context.Context) error) {
	ctx, cancel := context.WithCancel(context.Background())
	c.cancel, c.returns = cancel, make(chan error, 1)
	go func() { c.returns <- f(ctx) }()
	synctest.Wait()
}

func (c *fuzzCall) mustReturn(err error) { c.over, c.want = true, err }

// checkCalls checks that exactly the calls predicted by the model have
// returned, with the predicted results. It returns the others.
func (in *fuzzInput) checkCalls(t *testing.T, calls []*fuzzCall) (open []*fuzzCall) {
	t.Helper()
	for i, c := range calls {
		select {
		case err := <-c.returns:
			in.check(t, c.over, "open call %d returned %v, should wait", i, err)
			in.check(t, err == c.want || errors.Is(err, c.want) && strings.Contains(err.Error(), "permits still held"), "open call %d returned %v, should %v", i, err, c.want)
		default:
			in.check(t, !c.over, "open call %d waits, should return %v", i, c.want)
			open = append(open, c)
		}
	}
	return open
}

// panicsWith reports whether f panics with the message.
func panicsWith(message string, f func()) (ok bool) {
	defer func() { ok = recover() == any(message) }()
	f()
	return false
}

func resDead() context.Context {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	return ctx
}

const resOverRelease = "condvar: released more than held"

// resThreshold is how long new calls may overtake the head of the line.
const resThreshold = time.Millisecond
