package props

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"math"
	"os"
	"runtime"
	"runtime/debug"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"example.com/condvar"
)

// TestMain sets defaults for rapid that its flags, such as -rapid.checks and
// -rapid.seed, can still override. Rapid prints the seed of a failure.
func TestMain(m *testing.M) {
	checks := "3000"
	if os.Getenv("CONDVAR_VERIFY") == "long" {
		checks = "40000"
	}
	for name, value := range map[string]string{
		"rapid.checks":     checks,
		"rapid.nofailfile": "true",
		"rapid.shrinktime": "10s",
	} {
		if err := flag.Set(name, value); err != nil {
			panic(err)
		}
	}
	os.Exit(m.Run())
}

// check runs run in a bubble, as often as the flags of rapid say.
func check(t *testing.T, run func(t *rapid.T)) {
	found := ""
	t.Cleanup(func() {
		if found != "" {
			t.Logf("the failure before shrinking: %s", found)
		}
	})
	rapid.Check(t, func(t *rapid.T) {
		// Rapid shrinks only to failures with the same text and the same stack,
		// so all failures get the same ones here. The first failure is in the
		// log.
		defer func() {
			p := recover()
			switch {
			case t.Failed():
				if found == "" {
					found = fmt.Sprint(p)
				}
				t.Fatal("the object and its model disagree")
			case p != nil:
				panic(p)
			}
		}()
		// On one processor no woken goroutine runs before the test rests, so
		// most failures can be repeated and shrink.
		if !rapid.Bool().Draw(t, "parallel") {
			defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1))
		}
		// A bubble does not detect a goroutine that waits for a mutex forever,
		// for example after a panic with the mutex held. A run takes some ms.
		defer time.AfterFunc(time.Minute, func() {
			debug.SetTraceback("all")
			panic("a run hangs")
		}).Stop()
		rapid.SyncTest(t, run)
	})
}

// maxCalls is the maximum number of open calls. More of them find nothing more.
const maxCalls = 6

// A call is a call under test, on its own goroutine, or a Listener.
type call struct {
	name     string
	kind     string // of context
	ctx      context.Context
	cancel   context.CancelCauseFunc
	deadline time.Time // if there is one
	expired  string    // the error at the deadline
	listener *condvar.Listener

	// finish says how the function that DoN calls is to end. It is nil after
	// that.
	finish chan<- string

	// These are read at rest. They are atomic because the race detector does
	// not treat the fake clock as synchronization.
	inside  atomic.Bool  // in the function that DoN calls
	outcome atomic.Value // a string, once the call is over
}

func (c *call) String() string { return c.name + ", context " + c.kind }

// A phase is the progress of a call, in a model.
type phase int

const (
	none     phase = iota
	starting       // has not done its first step yet
	parked         // in line
	notified       // by Notify, or has a token from it
	released       // by NotifyAll, or has a token from it
	gaveUp         // out of the line, as its context has ended
	running        // in the function that DoN calls
	over
)

// Descriptions of a call that has not ended, in models and tests.
const (
	waits  = "waits"
	inside = "is inside"
	token  = "has a token"
)

// seen describes c at rest.
func (c *call) seen() string {
	if outcome := c.outcome.Load(); outcome != nil {
		return outcome.(string)
	}
	switch {
	case c.inside.Load():
		return inside
	case c.listener != nil && len(c.listener.C) > 0:
		return token
	}
	return waits
}

// run runs f with the context of c on a goroutine.
func (c *call) run(f func(ctx context.Context) error) {
	go func() {
		outcome := goexit // unless f returns or panics
		defer func() {
			if p := recover(); p != nil {
				outcome = panicked(p)
			}
			c.outcome.Store(outcome)
		}()
		outcome = describe(f(c.ctx))
	}()
}

var errFn = errors.New("the error of fn")

// fn returns a function for a DoN. It ends in the way that finish says.
func (c *call) fn(finish <-chan string) func(context.Context) error {
	return func(ctx context.Context) error {
		if ctx != c.ctx {
			panic("another context")
		}
		c.inside.Store(true)
		switch <-finish {
		case success:
			return nil
		case goexit:
			runtime.Goexit()
		case panicked("fault"):
			panic("fault")
		}
		return errFn
	}
}

const goexit = "Goexit"

func panicked(value any) string { return fmt.Sprint("panic: ", value) }

// try runs f, and returns its panic, or "".
func try(f func()) (outcome string) {
	defer func() {
		if p := recover(); p != nil {
			outcome = panicked(p)
		}
	}()
	f()
	return ""
}

var errCause = errors.New("the cause")

// The errors, as described by describe.
const (
	success   = "nil"
	canceled  = "context canceled"
	expired   = "context deadline exceeded"
	withCause = " with the cause"
)

// describe returns success or the text of err. Documented errors must not be
// wrapped, except to add the cause.
func describe(err error) string {
	if err == nil {
		return success
	}
	if held, ok := strings.CutPrefix(err.Error(), "condvar: permits still held: "); ok { // the error of Drain
		held, _, _ = strings.Cut(held, ":")
		return describe(errors.Unwrap(err)) + ", held " + held
	}
	for _, target := range []error{
		context.Canceled, context.DeadlineExceeded, condvar.ErrClosed, condvar.ErrTooLarge, condvar.ErrOverloaded, errFn,
	} {
		if err == target {
			return target.Error()
		}
		if errors.Is(err, target) && errors.Is(err, errCause) {
			return target.Error() + withCause
		}
	}
	return fmt.Sprintf("unexpected error %q", err)
}

// A model is a state of the model S. It has a call for each open call of the
// test, with the same number.
type model[S any] interface {
	*S
	// step does the next step of call i, if it is not parked.
	step(i int) bool
	// cancel ends the context of call i, which has not ended before.
	cancel(i int, err string)
	// sleep advances the time. No call takes a step.
	sleep(d time.Duration)
	// due returns the time after which a call can take a step, other than by
	// the end of a context.
	due() time.Duration
	// forget removes call i, which is over.
	forget(i int)
	// object describes the observable state at rest, and call that of call i,
	// both in the words of the test.
	object() string
	call(i int) string
}

// A harness is the common part of the state machines. Rapid treats its exported
// methods as operations of each of them.
type harness[S comparable, M model[S]] struct {
	states []S // the possible ones
	calls  [maxCalls]*call
	began  int           // calls so far
	trace  []string      // operations so far
	object func() string // describes the observable state at rest
	mayRun bool          // whether Check may omit the rest
	limit  time.Duration // the MaxWait of the object, or 0
}

// moments returns all possible states from now until rest, and those at rest.
func (h *harness[S, M]) moments() (all, rest []S) {
	seen := make(map[S]bool)
	add := func(s S) {
		if !seen[s] {
			seen[s] = true
			all = append(all, s)
		}
	}
	for _, s := range h.states {
		add(s)
	}
	for n := 0; n < len(all); n++ { //nolint:intrange // all grows
		moved := false
		for i := range maxCalls {
			s := all[n]
			if M(&s).step(i) {
				moved = true
				add(s)
			}
		}
		if !moved {
			rest = append(rest, all[n])
		}
	}
	return all, rest
}

// did records an operation that the test has done, and its result. op does the
// same to a state of the model. The operation took effect at one of the moments
// since the last one.
func (h *harness[S, M]) did(t *rapid.T, name string, got any, op func(m M) any) {
	t.Helper()
	if got != nil {
		name += fmt.Sprintf(": %v", got)
	}
	h.trace = append(h.trace, name)
	all, _ := h.moments()
	var want []any
	h.states = h.states[:0]
	for _, s := range all {
		result := op(&s)
		if result == got {
			h.states = append(h.states, s)
		} else if !slices.Contains(want, result) {
			want = append(want, result)
		}
	}
	if len(h.states) == 0 {
		h.fail(t, "but the model has %v", want)
	}
}

// does is did for operations without a result.
func (h *harness[S, M]) does(t *rapid.T, name string, op func(m M)) {
	t.Helper()
	h.did(t, name, nil, func(m M) any {
		op(m)
		return nil
	})
}

// fail stops this run, and prints the operations so far.
func (h *harness[S, M]) fail(t *rapid.T, format string, args ...any) {
	t.Helper()
	t.Fatalf("after\n%s\n%s", strings.Join(h.trace, "\n"), fmt.Sprintf(format, args...))
}

// describe describes the observable state. call describes each call.
func (h *harness[S, M]) describe(object string, call func(i int) string) string {
	var b strings.Builder
	b.WriteString(object)
	for i, c := range h.calls {
		if c != nil {
			fmt.Fprintf(&b, "; %s: %s", c.name, call(i))
		}
	}
	return b.String()
}

// rest lets all calls run until they are parked or over, and compares the
// observable state with the model.
func (h *harness[S, M]) rest(t *rapid.T) {
	t.Helper()
	synctest.Wait()
	h.trace = append(h.trace, "rest")
	got := h.describe(h.object(), func(i int) string { return h.calls[i].seen() })
	_, rest := h.moments()
	var want []string
	h.states = h.states[:0]
	for _, s := range rest {
		view := h.describe(M(&s).object(), M(&s).call)
		if view == got {
			h.states = append(h.states, s)
		} else if !slices.Contains(want, view) {
			want = append(want, view)
		}
	}
	if len(h.states) == 0 {
		h.fail(t, "has %s\nbut the model has %s", got, strings.Join(want, "\nor "))
	}
	for i, c := range h.calls {
		if c != nil && c.outcome.Load() != nil {
			h.forget(i)
		}
	}
}

// forget removes call i, which is over, and makes its number available.
func (h *harness[S, M]) forget(i int) {
	h.calls[i] = nil
	for n := range h.states {
		M(&h.states[n]).forget(i)
	}
}

// Check is run after each operation.
func (h *harness[S, M]) Check(t *rapid.T) {
	if h.mayRun && rapid.Bool().Draw(t, "no rest") {
		return
	}
	h.mayRun = true
	h.rest(t)
}

// add adds c, and returns its number.
func (h *harness[S, M]) add(name string, c *call) int {
	i := slices.Index(h.calls[:], nil)
	h.began++
	c.name = fmt.Sprintf("#%d %s", h.began, name)
	h.calls[i] = c
	return i
}

// skipIfFull discards an action that needs a free call. SkipNow of a rapid.T does
// not skip the test: rapid draws another action.
func (h *harness[S, M]) skipIfFull(t *rapid.T) {
	if !slices.Contains(h.calls[:], nil) {
		t.SkipNow()
	}
}

// drawCall adds a call with a context. It returns its number and the error of a
// context that is done. It changes nothing before everything is drawn: rapid
// often runs out of bits while it shrinks.
func (h *harness[S, M]) drawCall(t *rapid.T, name string) (i int, c *call, err string) {
	ctx, cancel := context.WithCancelCause(context.Background())
	c = &call{ctx: ctx, cancel: cancel}
	kinds := []string{"cancelable", "background", "deadline", "deadline with a cause", "dead"}
	if h.limit > 0 {
		kinds = append(kinds, "deadline that is the end of MaxWait")
	}
	c.kind = rapid.SampledFrom(kinds).Draw(t, "context")
	switch c.kind {
	case "background":
		c.ctx = context.Background()
	case "deadline":
		h.setDeadline(t, c, drawTime(t), expired, nil)
	case "deadline with a cause":
		h.setDeadline(t, c, drawTime(t), expired+withCause, errCause)
	case "deadline that is the end of MaxWait":
		h.setDeadline(t, c, h.limit, expired, nil)
	case "dead":
		c.cancel(nil)
		err = canceled
	}
	return h.add(name, c), c, err
}

// drawTime returns a time that is near the starvation threshold of 1 ms, or
// far from it.
func drawTime(t *rapid.T) time.Duration {
	return rapid.SampledFrom([]time.Duration{time.Millisecond, 999 * time.Microsecond, 500 * time.Microsecond,
		time.Microsecond, 3 * time.Millisecond}).Draw(t, "time")
}

// setDeadline gives c a deadline after d, or slightly later. No two calls get
// the same deadline, because such contexts would end in any order.
func (h *harness[S, M]) setDeadline(t *rapid.T, c *call, d time.Duration, err string, cause error) {
	var stop context.CancelFunc
	c.expired, c.deadline = err, time.Now().Add(d)
	for slices.ContainsFunc(h.calls[:], func(other *call) bool { return other != nil && other.deadline.Equal(c.deadline) }) {
		c.deadline = c.deadline.Add(1)
	}
	c.ctx, stop = context.WithDeadlineCause(c.ctx, c.deadline, cause)
	t.Cleanup(stop)
}

// draw returns the number of a call that ok accepts. If there is none, it skips
// the operation.
func (h *harness[S, M]) draw(t *rapid.T, label string, ok func(c *call) bool) int {
	var is []int
	for i, c := range h.calls {
		if c != nil && ok(c) {
			is = append(is, i)
		}
	}
	if len(is) == 0 {
		t.SkipNow()
	}
	return rapid.SampledFrom(is).Draw(t, label)
}

// Cancel cancels a call that is parked, about to run, or over.
func (h *harness[S, M]) Cancel(t *rapid.T) {
	i := h.draw(t, "call", func(c *call) bool { return c.ctx != nil && c.ctx.Done() != nil && c.ctx.Err() == nil })
	err, cause := canceled, error(nil)
	if rapid.Bool().Draw(t, "with a cause") {
		err, cause = canceled+withCause, errCause
	}
	h.calls[i].cancel(cause)
	h.does(t, fmt.Sprintf("cancel %s, %s", h.calls[i].name, err), func(m M) { m.cancel(i, err) })
}

// Sleep advances the time, from deadline to deadline.
func (h *harness[S, M]) Sleep(t *rapid.T) {
	end := time.Now().Add(drawTime(t))
	for {
		h.rest(t)
		first, until := -1, end
		for i, c := range h.calls {
			if c != nil && c.deadline.After(time.Now()) && !c.deadline.After(until) && c.ctx.Err() == nil {
				first, until = i, c.deadline
			}
		}
		d := time.Until(until)
		for i := range h.states {
			if due := M(&h.states[i]).due(); due < d {
				first, d = -1, due
			}
		}
		over := d == time.Until(end) && first < 0
		time.Sleep(d)
		h.does(t, fmt.Sprintf("sleep %v", d), func(m M) { m.sleep(d) })
		if first >= 0 { // before or after other events at that time
			h.does(t, "the deadline of "+h.calls[first].name, func(m M) { m.cancel(first, h.calls[first].expired) })
		}
		if over {
			return
		}
	}
}

// finish tells the function of a DoN how to end. It returns the number of the
// call, and how.
func (h *harness[S, M]) finish(t *rapid.T) (i int, how string) {
	i = h.draw(t, "call", func(c *call) bool { return c.finish != nil })
	how = rapid.SampledFrom([]string{success, errFn.Error(), goexit, panicked("fault")}).Draw(t, "how")
	h.calls[i].finish <- how
	h.calls[i].finish = nil
	return i, how
}

// never is the result of due if time alone lets no call take a step.
const never = math.MaxInt64

// end ends all calls, with the help of release, and checks that they return. It
// runs at the end of each run, also after a failure: shrinking does not work if
// goroutines are left.
func (h *harness[S, M]) end(t *rapid.T, release func()) {
	for _, c := range h.calls {
		if c != nil && c.cancel != nil {
			c.cancel(nil)
		}
	}
	release()
	synctest.Wait()
	for _, c := range h.calls {
		if c != nil && c.listener == nil && c.outcome.Load() == nil {
			h.fail(t, "%s does not return", c.name)
		}
	}
}
