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

// The operations of a scene, in addition to those of the library.
const (
	opSelect  primitives.Op = "wait for"
	opAdvance primitives.Op = "advance the clock"
)

// A Run is one execution of a scene, under one schedule. The scene's setup
// uses it to make threads, locks and contexts.
type Run struct {
	recycling bool
	trace     bool // record the steps
	scheduler *thread
	threads   []*thread
	alone     *thread // the only running thread, if known: goroutineID is slow
	contexts  []*Context
	cleanups  []func()

	mu      sync.Mutex
	held    map[any]*thread // locked mutexes, and their owners
	objects map[any]int     // in order of their first use
	step    footprint       // of the current step
	steps   []string        // if trace is set
}

// A thread is a goroutine of a scene. While others run, it is at a hook,
// parked, or finished. Its fields belong to it, and to the scheduler after
// synctest.Wait.
type thread struct {
	run    *Run
	name   string
	resume chan struct{}

	atHook  bool // about to do op on object
	op      primitives.Op
	object  any
	advance time.Duration
	where   string

	waits   [2]any // the channels of its last select
	choice  int    // for the next select with two ready cases
	choices int    // of the last step

	steps    int
	finished bool
	panicked any
}

// A footprint is the set of objects that a step touched. Two steps have the
// same effect in either order if they have no object in common, or only read
// it.
type footprint struct {
	objects map[int]bool // true if the object was not only read
	// fresh is set if an object was touched for the first time: its number may
	// differ in other schedules.
	fresh bool
	all   bool // the clock, which many threads read
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

// A dispatcher is the primitives.Explorer of the process. It finds the thread
// of the run that calls a hook. There is one run at a time.
type dispatcher struct {
	run     *Run     // nil if there is none
	threads sync.Map // from goroutine ID to *thread
}

// self returns the calling thread, or nil if it is not a thread of a run.
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

// Step is called by the library before an operation on object.
func (d *dispatcher) Step(op primitives.Op, object any) {
	if t := d.self(); t != nil {
		t.stop(op, object, 0)
	}
}

// Unlocked is called by the library after it has unlocked mutex.
func (d *dispatcher) Unlocked(mutex any) {
	if t := d.self(); t != nil {
		r := t.run
		r.mu.Lock()
		defer r.mu.Unlock()
		delete(r.held, mutex)
		r.touch(mutex, true)
	}
}

// Select is called by the library before it waits for token or done.
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

// TimedSelect is called by the library before it waits for token, for done, or
// for a timer. The timer may fire at any time, so the thread never parks: it
// waits by not taking this step yet.
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

// Recycling reports whether the library may recycle waiters.
func (d *dispatcher) Recycling() bool {
	t := d.self()
	return t != nil && t.run.recycling
}

// closed reports whether done is closed. Nothing must send on done.
func closed(done <-chan struct{}) bool {
	select {
	case <-done:
		return true
	default:
		return false
	}
}

// goroutineID returns the number of the goroutine, as printed by the runtime.
func goroutineID() uint64 {
	var buf [40]byte
	s := bytes.TrimPrefix(buf[:runtime.Stack(buf[:], false)], []byte("goroutine "))
	id, err := strconv.ParseUint(string(s[:bytes.IndexByte(s, ' ')]), 10, 64)
	if err != nil {
		panic(err)
	}
	return id
}

// stop waits at a hook until the scheduler resumes t.
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

// caller returns the position in the library or in a scene that called a hook.
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

// parked reports whether t is blocked in a select.
func (t *thread) parked() bool { return !t.atHook && !t.finished && t.op == opSelect }

// take lets t take a step, and waits until all threads have stopped again. It
// returns the footprint of the step and the number of ways to take it.
func (r *Run) take(t *thread, choice int) (footprint, int) {
	r.step = footprint{objects: map[int]bool{}}
	r.touch(t.object, t.op != primitives.OpLoad || isToken(t.object))
	// If a send and a cancel race for a thread that is parked on both, the
	// first one counts.
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
		time.Sleep(t.advance) // all others are durably blocked, so it returns at once
	}
	if r.trace {
		r.steps = append(r.steps, fmt.Sprintf("%-10s %-8s %-26s in %s", t.name, t.op, r.describe(t), t.where))
	}
	if t.op != primitives.OpSend && !isDone(t.object) { // these could wake others
		r.alone = t
	}
	t.steps++
	t.atHook, t.choice, t.choices = false, choice, 1
	t.resume <- struct{}{}
	synctest.Wait()
	r.alone = nil
	return r.step, t.choices
}

// isToken reports whether object is the channel of a waiter. An OpLoad of it
// may take a token.
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

// finish ends a run that is at rest, so that no goroutine is left: it cancels
// the contexts, calls the cleanup functions of the scene, and lets the threads
// run. It returns the names of the threads that still do not finish.
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

// Settle lets the threads take steps until none can. The setup of a scene that
// starts with waiters in line calls it.
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

// Go adds a thread to the scene. The thread stops before its first step until
// the schedule resumes it.
func (r *Run) Go(name string, f func()) {
	t := &thread{run: r, name: name, resume: make(chan struct{})}
	r.threads = append(r.threads, t)
	synctest.Wait() // for threads that the setup may have woken
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

// Cleanup registers f to be called at the end of the run, after contexts are
// canceled.
func (r *Run) Cleanup(f func()) { r.cleanups = append(r.cleanups, f) }

// Advance is a step that advances the clock.
func (r *Run) Advance(d time.Duration) { hooks.self().stop(opAdvance, r, d) }

// Note records that the step touches object, which threads of the scene share
// without a lock.
func (r *Run) Note(object any) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.touch(object, true)
}

// A Gate lets one thread wait for another.
type Gate chan struct{}

// Open lets one call of Pass return, now or later.
func (g Gate) Open() {
	hooks.Step(primitives.OpSend, (<-chan struct{})(g))
	g <- struct{}{}
}

// Pass waits for Open.
func (g Gate) Pass() {
	token, _ := hooks.Select(g, nil)
	<-token
}

// Receive waits for a value from ch or for the end of ctx, and reports whether
// it received the value.
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
		panic("two threads hold the lock")
	}
	m.locked = true
}

// Unlock is part of the step before it.
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

// Context returns a new context for the scene. It is canceled at the end of the
// run at the latest.
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

// Canceled reports whether the context has ended. It is not a step.
func (c *Context) Canceled() bool { return closed(c.done) }

// Deadline returns false: there is none.
func (c *Context) Deadline() (time.Time, bool) { return time.Time{}, false }

// Done returns the channel that Cancel closes.
func (c *Context) Done() <-chan struct{} { return c.done }

// Value returns nil.
func (c *Context) Value(any) any { return nil }

// Err returns context.Canceled if the context has ended. It is a step.
func (c *Context) Err() error {
	hooks.Step(primitives.OpLoad, c.Done())
	if closed(c.done) {
		return context.Canceled
	}
	return nil
}
