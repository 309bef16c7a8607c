//go:build condvar_explore

package explore

import (
	"bytes"
	"context"
	"fmt"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing/synctest"
	"time"

	"example.com/condvar/internal/primitives"
)

// The operations of a scene itself, beside those of the library.
const (
	opSelect  primitives.Op = "wait for"
	opAdvance primitives.Op = "advance the clock"
)

// A Run is one execution of a scene, under one schedule. The scene's set-up
// uses it to make threads, locks and contexts.
type Run struct {
	recycling bool
	trace     bool // keep the steps, for people to read
	scheduler *thread
	threads   []*thread
	alone     *thread // the only one who runs now, if there is but one: to ask the runtime is slow
	contexts  []*Context
	cleanups  []func()

	mu      sync.Mutex
	held    map[any]*thread // mutexes that are locked, and by whom
	objects map[any]int     // in order of their first use
	step    footprint       // of the step that is being taken
	steps   []string        // for people to read
}

// A thread is a goroutine of a scene. While others run it only stands at a
// hook, or is parked, or has ended: its fields are its own, or the scheduler's
// after synctest.Wait.
type thread struct {
	run    *Run
	name   string
	resume chan struct{}

	atHook  bool // and about to do op on object
	op      primitives.Op
	object  any
	advance time.Duration
	where   string

	waits   [2]any // the channels of its last select
	choice  int    // for the next select with two ready cases
	choices int    // how many the last step had

	steps    int
	finished bool
	panicked any
}

// A footprint is what a step touched. Two steps that touch nothing in common,
// or only look at it, have the same effect in either order.
type footprint struct {
	objects map[int]bool // true if it was more than a look
	fresh   bool         // an object that nobody had touched before, so it has no name that other schedules know
	all     bool         // the clock, at which many look
}

func (a footprint) independent(b footprint) bool {
	if a.all || b.all || a.fresh && b.fresh {
		return false
	}
	for object, write := range a.objects {
		if w, ok := b.objects[object]; ok && (write || w) {
			return false
		}
	}
	return true
}

// touch adds object to the footprint of the step. r.mu must be held.
func (r *Run) touch(object any, write bool) {
	id, ok := r.objects[object]
	if !ok {
		id = len(r.objects)
		r.objects[object] = id
		r.step.fresh = true
	}
	r.step.objects[id] = r.step.objects[id] || write
}

// A dispatcher is the primitives.Explorer of the process: it finds out which
// thread of the run calls a hook. There is one run at a time.
type dispatcher struct {
	run     *Run     // nil if there is none
	threads sync.Map // from goroutine ID to *thread
}

// self returns the calling thread, or nil if it is no thread of a run.
func (d *dispatcher) self() *thread {
	switch r := d.run; {
	case r == nil:
		return nil
	case r.alone != nil:
		return r.alone
	}
	t, _ := d.threads.Load(goroutineID())
	if t == nil {
		return nil
	}
	return t.(*thread)
}

// Step is what the library calls before an operation on object.
func (d *dispatcher) Step(op primitives.Op, object any) {
	if t := d.self(); t != nil {
		t.stop(op, object, 0)
	}
}

// Unlocked is what the library calls after it has unlocked mutex.
func (d *dispatcher) Unlocked(mutex any) {
	if t := d.self(); t != nil {
		r := t.run
		r.mu.Lock()
		defer r.mu.Unlock()
		delete(r.held, mutex)
		r.touch(mutex, true)
	}
}

// Select is what the library calls before it waits for token or done.
func (d *dispatcher) Select(token, done <-chan struct{}) (_, _ <-chan struct{}) {
	t := d.self()
	if t == nil {
		return token, done
	}
	t.stop(opSelect, token, 0)
	r := t.run
	r.mu.Lock()
	defer r.mu.Unlock()
	t.waits = [2]any{token, done}
	if done != nil {
		r.touch(done, false)
	}
	if len(token) == 0 || !closed(done) {
		return token, done
	}
	t.choices = 2
	if t.choice == 0 {
		return token, nil
	}
	return nil, done
}

// TimedSelect is what the library calls before it waits for token, for done, or
// for a timer. The timer may fire at any time: so the thread never parks. That
// it does not take this step yet is that it waits.
func (d *dispatcher) TimedSelect(token, done <-chan struct{}) (_, _ <-chan struct{}, late bool) {
	t := d.self()
	if t == nil {
		panic("a wait under MaxWait outside of the threads of a scene")
	}
	t.stop(opSelect, token, 0)
	r := t.run
	r.mu.Lock()
	defer r.mu.Unlock()
	type way struct {
		token, done <-chan struct{}
		late        bool
	}
	ways := []way{{late: true}}
	if len(token) > 0 {
		ways = append(ways, way{token: token})
	}
	if done != nil {
		r.touch(done, false)
		if closed(done) {
			ways = append(ways, way{done: done})
		}
	}
	t.choices = len(ways)
	w := ways[t.choice]
	return w.token, w.done, w.late
}

// Recycling is what the library asks to learn whether it may keep waiters.
func (d *dispatcher) Recycling() bool {
	t := d.self()
	return t != nil && t.run.recycling
}

// closed reports whether done is closed, of a channel on which nobody sends.
func closed(done <-chan struct{}) bool {
	select {
	case <-done:
		return true
	default:
		return false
	}
}

// goroutineID returns what the runtime prints as the number of the goroutine.
func goroutineID() uint64 {
	var buf [40]byte
	s := bytes.TrimPrefix(buf[:runtime.Stack(buf[:], false)], []byte("goroutine "))
	id, err := strconv.ParseUint(string(s[:bytes.IndexByte(s, ' ')]), 10, 64)
	if err != nil {
		panic(err)
	}
	return id
}

// stop waits at a hook until the scheduler lets t go on.
func (t *thread) stop(op primitives.Op, object any, advance time.Duration) {
	r := t.run
	r.mu.Lock()
	if t == r.scheduler {
		r.touch(object, true)
		r.mu.Unlock()
		return
	}
	if r.trace {
		t.where = caller()
	}
	r.mu.Unlock()
	t.op, t.object, t.advance = op, object, advance
	t.atHook = true
	<-t.resume
}

// caller returns the place in the library, or in a scene, that is at a hook.
func caller() string {
	var pcs [16]uintptr
	frames := runtime.CallersFrames(pcs[:runtime.Callers(3, pcs[:])])
	for {
		f, more := frames.Next()
		file := filepath.Base(f.File)
		if file != "scheduler.go" && file != "primitives_explore.go" {
			name := f.Function[strings.LastIndex(f.Function, "/")+1:]
			return fmt.Sprintf("%s (%s:%d)", name, file, f.Line)
		}
		if !more {
			return ""
		}
	}
}

// enabled reports whether t can take a step.
func (r *Run) enabled(t *thread) bool {
	return t.atHook && (t.op != primitives.OpLock || r.held[t.object] == nil)
}

// parked reports whether t sleeps in a select.
func (t *thread) parked() bool { return !t.atHook && !t.finished && t.op == opSelect }

// take lets t take a step, waits until everybody stands again, and returns the
// footprint of the step and how many ways there were to take it.
func (r *Run) take(t *thread, choice int) (footprint, int) {
	r.step = footprint{objects: map[int]bool{}}
	r.touch(t.object, t.op != primitives.OpLoad || isToken(t.object))
	// Of a send and a cancel, to somebody who is parked on both, the first
	// counts.
	for _, p := range r.threads {
		if p.parked() && slices.Contains(p.waits[:], t.object) {
			r.touch(p.waits[0], true)
			r.touch(p.waits[1], true)
		}
	}
	if t.op == primitives.OpLock {
		r.held[t.object] = t
	}
	if t.op == opAdvance {
		r.step.all = true
		time.Sleep(t.advance) // all others are durably blocked, so it is at once
	}
	if r.trace {
		r.steps = append(r.steps, fmt.Sprintf("%-10s %-8s %-26s in %s", t.name, t.op, r.describe(t), t.where))
	}
	if t.op != primitives.OpSend && !isDone(t.object) { // which could wake others
		r.alone = t
	}
	t.steps++
	t.atHook, t.choice, t.choices = false, choice, 1
	t.resume <- struct{}{}
	synctest.Wait()
	r.alone = nil
	return r.step, t.choices
}

// isToken reports whether object is the channel of a waiter: to look there for
// a token may be to take it.
func isToken(object any) bool {
	ch, ok := object.(<-chan struct{})
	return ok && cap(ch) > 0
}

// isDone reports whether object is the channel of a context.
func isDone(object any) bool {
	ch, ok := object.(<-chan struct{})
	return ok && cap(ch) == 0
}

func (r *Run) describe(t *thread) string {
	switch t.op {
	case opAdvance:
		return t.advance.String()
	default:
		kind := strings.TrimPrefix(strings.TrimPrefix(fmt.Sprintf("%T", t.object), "*"), "condvar.")
		kind, _, _ = strings.Cut(kind, "[")
		switch {
		case isToken(t.object):
			kind = "token"
		case isDone(t.object):
			kind = "done"
		}
		return fmt.Sprintf("%s#%d", kind, r.objects[t.object])
	}
}

// finish ends a run that is at rest, so that no goroutine is left: contexts are
// canceled, the clean-ups of the scene are done, and threads take turns to go
// on. It returns the names of those who do not come to an end even so.
func (r *Run) finish() (stuck []string) {
	for _, c := range r.contexts {
		if !closed(c.done) {
			close(c.done)
		}
	}
	r.Settle()
	if len(r.held) == 0 {
		for _, f := range r.cleanups {
			f()
		}
		r.Settle()
	}
	for _, t := range r.threads {
		if !t.finished {
			stuck = append(stuck, t.name)
		}
	}
	return stuck
}

// Settle lets the threads take steps until nobody can. A scene that starts with
// waiters in line calls it in its set-up.
func (r *Run) Settle() {
	synctest.Wait()
	for {
		i := slices.IndexFunc(r.threads, r.enabled)
		if i < 0 {
			return
		}
		r.take(r.threads[i], 0)
	}
}

// Go adds a thread to the scene. It stands before its first step until the
// schedule lets it go on.
func (r *Run) Go(name string, f func()) {
	t := &thread{run: r, name: name, resume: make(chan struct{})}
	r.threads = append(r.threads, t)
	synctest.Wait() // for those whom the set-up may have woken
	r.alone = t
	go func() {
		id := goroutineID()
		hooks.threads.Store(id, t)
		defer hooks.threads.Delete(id)
		defer func() {
			t.panicked = recover()
			t.finished = true
		}()
		f()
	}()
	synctest.Wait()
	r.alone = nil
}

// Cleanup has f called at the end of the run, when contexts are canceled.
func (r *Run) Cleanup(f func()) { r.cleanups = append(r.cleanups, f) }

// Advance is a step in which the clock advances.
func (r *Run) Advance(d time.Duration) { hooks.self().stop(opAdvance, r, d) }

// Note says that the step touches object, something of the scene that threads
// share without a lock.
func (r *Run) Note(object any) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.touch(object, true)
}

// A Gate lets one thread wait for another.
type Gate chan struct{}

// Open lets the one through who waits, or is going to.
func (g Gate) Open() {
	hooks.Step(primitives.OpSend, (<-chan struct{})(g))
	g <- struct{}{}
}

// Pass waits for Open.
func (g Gate) Pass() {
	token, _ := hooks.Select(g, nil)
	<-token
}

// Receive waits for a value from ch, or for ctx, and reports whether it got the
// value.
func (r *Run) Receive(ctx *Context, ch <-chan struct{}) bool {
	token, done := hooks.Select(ch, ctx.done)
	select {
	case <-token:
		return true
	case <-done:
		return false
	}
}

// A Mutex is a Locker for scenes.
type Mutex struct{ locked bool }

// Lock is a step.
func (m *Mutex) Lock() {
	hooks.Step(primitives.OpLock, m)
	if m.locked {
		panic("two hold the lock")
	}
	m.locked = true
}

// Unlock belongs to the step that it follows.
func (m *Mutex) Unlock() {
	if !m.locked {
		panic("unlock of an unlocked lock")
	}
	m.locked = false
	hooks.Unlocked(m)
}

// A Context ends in one step.
type Context struct {
	done chan struct{}
}

// Context returns a new context for the scene. At the end of the run it is
// canceled, if it has not been.
func (r *Run) Context() *Context {
	c := &Context{done: make(chan struct{})}
	r.contexts = append(r.contexts, c)
	return c
}

// Cancel ends the context.
func (c *Context) Cancel() {
	hooks.Step(primitives.OpStore, c.Done())
	if !closed(c.done) { // the run may be over
		close(c.done)
	}
}

// Canceled reports whether the context has ended, and is no step.
func (c *Context) Canceled() bool { return closed(c.done) }

// Deadline says that there is none.
func (c *Context) Deadline() (time.Time, bool) { return time.Time{}, false }

// Done returns the channel that Cancel closes.
func (c *Context) Done() <-chan struct{} { return c.done }

// Value returns nil.
func (c *Context) Value(any) any { return nil }

// Err is a look at whether the context has ended.
func (c *Context) Err() error {
	hooks.Step(primitives.OpLoad, c.Done())
	if closed(c.done) {
		return context.Canceled
	}
	return nil
}
