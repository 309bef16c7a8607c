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

// check runs run in a bubble, as often as rapid is told to.
func check(t *testing.T, run func(t *rapid.T)) {
	found := ""
	t.Cleanup(func() {
		if found != "" {
			t.Logf("before it was shrunk, it failed %s", found)
		}
	})
	rapid.Check(t, func(t *rapid.T) {
		// Rapid takes two failures for the same one, and shrinks, only if both
		// their texts and their stacks are the same. So all get the same here.
		// What it was is in the log.
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
		// On one processor nobody who is woken runs before the test rests, so
		// that most failures can be had again, and shrink.
		if !rapid.Bool().Draw(t, "parallel") {
			defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1))
		}
		// A goroutine that waits for a mutex for ever, as one does after a
		// panic with the mutex held, is nothing that a bubble notices. A run
		// takes some ms.
		defer time.AfterFunc(time.Minute, func() {
			debug.SetTraceback("all")
			panic("a run hangs")
		}).Stop()
		rapid.SyncTest(t, run)
	})
}

// maxCalls is how many calls may be open at a time. More of them find nothing
// that these do not.
const maxCalls = 6

// A call is a call under test, on a goroutine of its own, or a Listener.
type call struct {
	name     string
	kind     string // of context
	ctx      context.Context
	cancel   context.CancelCauseFunc
	deadline time.Time // if there is one
	expired  string    // the error at the deadline
	listener *condvar.Listener
	finish   chan<- string // to say how the function that DoN calls is to end; nil once it was said

	// What is known of it at rest. They are atomic as the fake clock, which may
	// make the call go on, is no synchronization to the race detector.
	inside  atomic.Bool  // in the function that DoN calls
	outcome atomic.Value // a string, once the call is over
}

func (c *call) String() string { return c.name + ", context " + c.kind }

// A phase is where a call is, in a model.
type phase int

const (
	none     phase = iota
	starting       // has yet to do its first step
	parked         // in line
	notified       // by Notify, or has a token of it
	released       // by NotifyAll, or has a token of it
	gaveUp         // out of the line, as its context has ended
	running        // in the function that DoN calls
	over
)

// What both a model and a test say of a call that has not ended.
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

// fn returns a function for a DoN, which ends as it is told by finish.
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

// try runs f, and returns how it panicked, or "".
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

// The errors, as describe has them.
const (
	success   = "nil"
	canceled  = "context canceled"
	expired   = "context deadline exceeded"
	withCause = " with the cause"
)

// describe returns success, the text of one of the errors that are promised to
// be returned bare, or that with the addition that it has the cause, too.
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

// A model is a state of the model S. It holds a call for each of those that the
// test has open, under the same number.
type model[S any] interface {
	*S
	// step lets call i take its next step, if it is not parked.
	step(i int) bool
	// cancel ends the context of call i, which has not ended yet.
	cancel(i int, err string)
	// sleep lets time pass, in which nobody takes a step.
	sleep(d time.Duration)
	// due returns the time until somebody can take a step because of the time,
	// other than by the end of a context.
	due() time.Duration
	// forget removes call i, which is over.
	forget(i int)
	// object describes what can be seen at rest, and call what can be seen of
	// call i, both as the test does.
	object() string
	call(i int) string
}

// A harness holds what the state machines have in common. Rapid takes the
// exported methods for operations of each of them.
type harness[S comparable, M model[S]] struct {
	states []S // the possible ones
	calls  [maxCalls]*call
	began  int           // how many calls there were
	trace  []string      // what the test has done
	object func() string // describes what can be seen at rest
	mayRun bool          // whether the next operation need not wait for the rest
	limit  time.Duration // the MaxWait of the object, or 0
}

// moments returns all states from now until rest, and those at rest.
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

// did tells the model of an operation that the test has done, and what it
// returned. op is the same for a state of the model; it has been done in one of
// the moments since the last operation.
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

// does is did for what returns nothing.
func (h *harness[S, M]) does(t *rapid.T, name string, op func(m M)) {
	t.Helper()
	h.did(t, name, nil, func(m M) any {
		op(m)
		return nil
	})
}

// fail stops this run, with what led to it.
func (h *harness[S, M]) fail(t *rapid.T, format string, args ...any) {
	t.Helper()
	t.Fatalf("after\n%s\n%s", strings.Join(h.trace, "\n"), fmt.Sprintf(format, args...))
}

// describe returns what can be seen, with the calls that call describes.
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

// rest lets everybody run until all are parked or over, and compares what can
// be seen with the model.
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

// forget makes room in the place of call i, which is over.
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

func (h *harness[S, M]) skipIfFull(t *rapid.T) {
	if !slices.Contains(h.calls[:], nil) {
		t.SkipNow()
	}
}

// drawCall adds a call with a context. It returns its number and the error of a
// context that is done. It changes nothing before all is drawn, for while it
// shrinks, rapid often runs out of bits.
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

// setDeadline gives c a deadline after d, or a little later, that no other call
// has, for the contexts that end at the same time end in any order.
func (h *harness[S, M]) setDeadline(t *rapid.T, c *call, d time.Duration, err string, cause error) {
	var stop context.CancelFunc
	c.expired, c.deadline = err, time.Now().Add(d)
	for slices.ContainsFunc(h.calls[:], func(other *call) bool { return other != nil && other.deadline.Equal(c.deadline) }) {
		c.deadline = c.deadline.Add(1)
	}
	c.ctx, stop = context.WithDeadlineCause(c.ctx, c.deadline, cause)
	t.Cleanup(stop)
}

// draw returns the number of a call that ok accepts. If there is none, this is
// no step.
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

// Cancel cancels a call, be it parked, about to run or over.
func (h *harness[S, M]) Cancel(t *rapid.T) {
	i := h.draw(t, "call", func(c *call) bool { return c.ctx != nil && c.ctx.Done() != nil && c.ctx.Err() == nil })
	err, cause := canceled, error(nil)
	if rapid.Bool().Draw(t, "with a cause") {
		err, cause = canceled+withCause, errCause
	}
	h.calls[i].cancel(cause)
	h.does(t, fmt.Sprintf("cancel %s, %s", h.calls[i].name, err), func(m M) { m.cancel(i, err) })
}

// Sleep lets time pass, in which deadlines come one after the other.
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
		if first >= 0 { // after or before what else is due at that time
			h.does(t, "the deadline of "+h.calls[first].name, func(m M) { m.cancel(first, h.calls[first].expired) })
		}
		if over {
			return
		}
	}
}

// finish tells the function of a DoN how to end, and returns its number and
// how.
func (h *harness[S, M]) finish(t *rapid.T) (i int, how string) {
	i = h.draw(t, "call", func(c *call) bool { return c.finish != nil })
	how = rapid.SampledFrom([]string{success, errFn.Error(), goexit, panicked("fault")}).Draw(t, "how")
	h.calls[i].finish <- how
	h.calls[i].finish = nil
	return i, how
}

// never is what due returns if the time alone lets nobody take a step.
const never = math.MaxInt64

// end lets every call return, after release has done what may be needed, and
// checks that they do. It is for the end of each run, be it successful or not:
// goroutines that stay would be the end of shrinking.
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
			h.fail(t, "nothing ends %s", c.name)
		}
	}
}
