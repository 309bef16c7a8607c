package fuzz

import (
	"context"
	"errors"
	"slices"
	"testing"
	"testing/synctest"

	"example.com/condvar"
)

// The operations on a Cond.
const (
	condOpWait = iota
	condOpWait2
	condOpWaitFor // that the counter grows by arg mod 4
	condOpDead    // Wait and WaitFor with a dead context
	condOpCancel
	condOpNotifyN // of arg mod 6 - 1
	condOpNotifyN2
	condOpNotify
	condOpNotifyAll
	condOpListen
	condOpStop
	condOpReceive
	condOpAdd          // to the counter, without a notification
	condOpCancelNotify // without rest in between
	condOpNotifyCancel // likewise, a plain Wait
	condOpCancelStop   // likewise
	// The first in line, while it is notified and waits for L.
	condOpCancelRelock
	condOps
)

// fuzzAll stands for the number that NotifyAll wakes.
const fuzzAll = 1 << 20

// A fuzzWaiter is a Wait, a WaitFor or a Listener in the line.
type fuzzWaiter struct {
	fuzzCall
	l         *condvar.Listener // or nil
	token     bool              // waits in l.C
	broadcast bool              // the token is from NotifyAll
	waitFor   bool
	target    int  // of the counter, for WaitFor
	checks    int  // calls of pred; changed with L held
	own       int  // calls of pred without a notification
	away      bool // its wake-up was futile, and it joins the line again
}

// A condFuzz is a run of one input, in a bubble.
type condFuzz struct {
	t         *testing.T
	in        *fuzzInput
	lock      *chanLock
	c         *condvar.Cond
	counter   int // guarded by lock
	line      []*fuzzWaiter
	listeners []*fuzzWaiter
	open      []*fuzzCall
	waits     []*fuzzWaiter // all waiters so far
	// Waiters whose predicates were false, in this order; guarded by lock.
	futile []*fuzzWaiter

	// Counts of notifications: sent - lost must have arrived.
	sent, lost, received int
}

func (f *condFuzz) park(w *fuzzWaiter, wait func(ctx context.Context) error) {
	w.start(func(ctx context.Context) error {
		f.c.L.Lock()
		defer f.c.L.Unlock()
		return wait(ctx)
	})
	f.open = append(f.open, &w.fuzzCall)
	f.waits = append(f.waits, w)
	f.line = append(f.line, w)
}

func (f *condFuzz) leave(w *fuzzWaiter) {
	f.line = slices.DeleteFunc(f.line, func(p *fuzzWaiter) bool { return p == w })
}

// notified is the model of NotifyN(n), or of NotifyAll if n is fuzzAll. It
// returns how many were woken, and whether one of them joins the line again.
func (f *condFuzz) notified(n int) (woken int, again bool) {
	for _, w := range slices.Clone(f.line[:min(max(n, 0), len(f.line))]) {
		woken++
		switch {
		case w.l != nil:
			w.token, w.broadcast = true, n == fuzzAll
		case w.waitFor && f.counter < w.target:
			w.away, again = true, true
		default:
			w.mustReturn(nil)
		}
		f.leave(w)
	}
	return woken, again
}

// notify compares what a call returned, and its effect on Waiters right after
// it, with the model.
func (f *condFuzz) notify(n int, call func() int) {
	before := len(f.line)
	got := call()
	left := f.c.Waiters()
	want, again := f.notified(n)
	f.sent += got
	f.in.check(f.t, got == want, "it woke %d, should %d", got, want)
	f.in.check(f.t, again || left == before-want, "%d wait right after it, should %d", left, before-want)
}

func (f *condFuzz) notifyN(n int) { f.notify(n, func() int { return f.c.NotifyN(n) }) }

// callers returns the waiters in line that have a context.
func (f *condFuzz) callers() (cs []*fuzzWaiter) {
	for _, w := range f.line {
		if w.l == nil {
			cs = append(cs, w)
		}
	}
	return cs
}

// cancel cancels the caller in line with the given number, if there is one.
func (f *condFuzz) cancel(arg byte) bool {
	cs := f.callers()
	if len(cs) == 0 {
		return false
	}
	w := cs[int(arg)%len(cs)]
	f.in.tracef("cancel %d in line", slices.Index(f.line, w))
	w.cancel()
	f.leave(w)
	w.mustReturn(context.Canceled)
	return true
}

// stop stops the listener with the given number, if there is one.
func (f *condFuzz) stop(arg byte) {
	if len(f.listeners) == 0 {
		return
	}
	w := f.listeners[int(arg)%len(f.listeners)]
	f.in.tracef("Stop listener %d", int(arg)%len(f.listeners))
	want := slices.Contains(f.line, w)
	got := w.l.Stop()
	f.in.check(f.t, got == want, "it returned %v", got)
	f.leave(w)
	if w.token {
		w.token = false
		woken := 0
		if !w.broadcast {
			woken, _ = f.notified(1)
		}
		f.lost += 1 - woken
	}
	f.in.check(f.t, len(w.l.C) == 0, "C is not empty after Stop")
}

func (f *condFuzz) do(op, arg byte) {
	trace := f.in.tracef
	n := int(arg)%6 - 1
	switch op % condOps {
	case condOpWait, condOpWait2:
		trace("Wait")
		f.park(&fuzzWaiter{}, f.c.Wait)
	case condOpWaitFor:
		w := &fuzzWaiter{waitFor: true, own: 1, target: f.counter + int(arg)%4}
		trace("WaitFor(counter >= %d)", w.target)
		f.park(w, func(ctx context.Context) error {
			return f.c.WaitFor(ctx, func() bool {
				w.checks++
				if f.counter >= w.target {
					return true
				}
				f.futile = append(f.futile, w)
				return false
			})
		})
		if f.counter >= w.target {
			w.mustReturn(nil)
			f.leave(w)
		}
	case condOpDead:
		trace("waits with a dead context")
		f.lock.Lock()
		unlocks := f.lock.unlocks
		err := f.c.Wait(resDead())
		f.in.check(f.t, errors.Is(err, context.Canceled), "Wait returned %v", err)
		err = f.c.WaitFor(resDead(), func() bool { return false })
		f.in.check(f.t, errors.Is(err, context.Canceled), "WaitFor returned %v", err)
		err = f.c.WaitFor(resDead(), func() bool { return true })
		f.in.check(f.t, err == nil, "WaitFor returned %v", err)
		f.in.check(f.t, f.lock.unlocks == unlocks, "L was unlocked")
		f.lock.Unlock()
	case condOpCancel:
		f.cancel(arg)
	case condOpNotifyN, condOpNotifyN2:
		trace("NotifyN(%d)", n)
		f.notifyN(n)
	case condOpNotify:
		trace("Notify")
		f.notify(1, func() int {
			if f.c.Notify() {
				return 1
			}
			return 0
		})
	case condOpNotifyAll:
		trace("NotifyAll")
		f.notify(fuzzAll, f.c.NotifyAll)
	case condOpListen:
		trace("Listen")
		w := &fuzzWaiter{l: f.c.Listen()}
		f.listeners = append(f.listeners, w)
		f.line = append(f.line, w)
	case condOpStop:
		f.stop(arg)
	case condOpReceive:
		if len(f.listeners) == 0 {
			return
		}
		i := int(arg) % len(f.listeners)
		trace("receive from listener %d", i)
		got := false
		select {
		case <-f.listeners[i].l.C:
			got = true
			f.received++
		default:
		}
		f.in.check(f.t, got == f.listeners[i].token, "received: %v", got)
		f.listeners[i].token = false
	case condOpAdd:
		trace("add %d", int(arg)%3)
		f.lock.Lock()
		f.counter += int(arg) % 3
		f.lock.Unlock()
	case condOpCancelNotify:
		if f.cancel(arg) {
			trace("and NotifyN(%d)", n)
			f.sent += f.c.NotifyN(n)
			f.notified(n)
		}
	case condOpNotifyCancel:
		plain := slices.DeleteFunc(f.callers(), func(w *fuzzWaiter) bool { return w.waitFor })
		if len(plain) == 0 {
			return
		}
		w := plain[int(arg)%len(plain)]
		trace("NotifyN(%d), cancel %d in line", n, slices.Index(f.line, w))
		f.sent += f.c.NotifyN(n)
		w.cancel()
		if f.notified(n); !w.over {
			w.mustReturn(context.Canceled)
			f.leave(w)
		}
	case condOpCancelStop:
		f.cancel(arg)
		f.stop(arg >> 4)
	case condOpCancelRelock:
		if len(f.line) == 0 || f.line[0].l != nil {
			return
		}
		w := f.line[0]
		trace("Lock, Notify, cancel 0 in line, Unlock")
		f.lock.Lock()
		if f.c.Notify() {
			f.sent++
		}
		synctest.Wait()
		w.cancel()
		f.lock.Unlock()
		f.leave(w)
		if !w.waitFor || f.counter >= w.target {
			w.mustReturn(nil)
			return
		}
		w.mustReturn(context.Canceled)
		w.own++ // this call of pred did not consume the notification
		woken, _ := f.notified(1)
		f.lost += 1 - woken
	}
}

// check compares the Cond, at rest, with the model. F5.
func (f *condFuzz) check() {
	f.t.Helper()
	synctest.Wait()
	// Waiters join again in the order in which they called pred.
	for _, w := range f.futile {
		if w.away {
			w.away = false
			f.line = append(f.line, w)
		}
	}
	f.futile = nil
	for _, w := range f.waits {
		f.in.check(f.t, !w.away, "one who was woken did not look")
	}
	f.in.check(f.t, f.c.Waiters() == len(f.line), "%d wait, should %d", f.c.Waiters(), len(f.line))
	f.in.check(f.t, !f.lock.locked(), "L is locked")
	f.open = f.in.checkCalls(f.t, f.open)

	// Each notification that a Notify reported must have arrived: as the nil of
	// a Wait, a check of a WaitFor, or a value in a Listener.
	found := f.received + f.lost
	for _, w := range f.waits {
		switch {
		case w.waitFor:
			found += w.checks - w.own
		case w.over && w.want == nil: // which was checked above
			found++
		}
	}
	for _, w := range f.listeners {
		f.in.check(f.t, (len(w.l.C) == 1) == w.token, "tokens in a listener: %d", len(w.l.C))
		found += len(w.l.C)
	}
	f.in.check(f.t, found == f.sent, "%d notifications were sent, %d are to be found", f.sent, found)
}

// Cond runs an input. The first byte is ignored.
func Cond(t *testing.T, data []byte) {
	_, in := newFuzzInput(data)
	f := &condFuzz{t: t, in: in, lock: newChanLock()}
	f.c = condvar.NewCond(f.lock)
	t.Cleanup(func() { // so that a failure ends the bubble too
		for _, c := range f.open {
			c.cancel()
		}
	})
	for {
		f.check()
		op, arg, ok := in.next()
		if !ok {
			break
		}
		f.do(op, arg)
	}
	for f.cancel(0) {
	}
	for i := range f.listeners {
		f.stop(byte(i))
	}
	f.check()
	f.in.check(t, len(f.open) == 0, "%d calls have not returned", len(f.open))
}

// CondSeeds are inputs for Cond.
var CondSeeds = [][]byte{
	{},
	// All kinds in one line, woken by one, two and all.
	{0, condOpWait, 0, condOpWaitFor, 1, condOpListen, 0, condOpWait2, 0, condOpWaitFor, 2, condOpNotify, 0,
		condOpNotifyN, 3, condOpAdd, 1, condOpNotifyN2, 2, condOpReceive, 0, condOpNotifyAll, 0, condOpAdd, 1,
		condOpNotifyAll, 0, condOpNotify, 0, condOpDead, 0},
	// Notifications without a waiter.
	{0, condOpNotify, 0, condOpNotifyAll, 0, condOpNotifyN, 5, condOpWait, 0, condOpNotifyN, 0, condOpNotifyN, 1,
		condOpReceive, 0, condOpStop, 0},
	// Listeners that stop before, after and after receiving, twice, passing on.
	{0, condOpListen, 0, condOpListen, 0, condOpListen, 0, condOpWait, 0, condOpStop, 0, condOpNotifyN, 3, condOpReceive, 0,
		condOpReceive, 1, condOpStop, 1, condOpStop, 2, condOpStop, 2, condOpListen, 0, condOpNotify, 0, condOpStop, 3,
		condOpListen, 0, condOpNotifyAll, 0, condOpWait, 0, condOpStop, 4, condOpNotify, 0},
	// Cancels just before and just after notifications.
	{0, condOpWait, 0, condOpWait, 0, condOpCancelNotify, 2, condOpWait, 0, condOpWaitFor, 1, condOpWait, 0,
		condOpNotifyCancel, 2, condOpCancelNotify, 8, condOpWait, 0, condOpWait, 0, condOpNotifyCancel, 7, condOpCancel, 0},
	// A notification is passed on past a canceled waiter, to a WaitFor and to
	// no waiter.
	{0, condOpListen, 0, condOpWait, 0, condOpWaitFor, 3, condOpWait, 0, condOpNotify, 0, condOpCancelStop, 0, condOpAdd, 2,
		condOpAdd, 1, condOpCancel, 0, condOpNotify, 0, condOpListen, 0, condOpNotify, 0, condOpCancelStop, 0x10},
	// A waiter that is notified, and canceled while it waits for L, passes the
	// notification on unless it returns nil.
	{0, condOpWaitFor, 1, condOpWait, 0, condOpWait, 0, condOpCancelRelock, 0, condOpCancelRelock, 0, condOpWaitFor, 1,
		condOpCancelRelock, 0, condOpWaitFor, 1, condOpAdd, 1, condOpCancelRelock, 0},
}

// A chanLock is a Locker made of a channel. A goroutine of a bubble that waits
// for it is durably blocked, unlike one that waits for a sync.Mutex.
type chanLock struct {
	ch      chan struct{}
	unlocks int // counted with the lock held
}

func newChanLock() *chanLock { return &chanLock{ch: make(chan struct{}, 1)} }

func (l *chanLock) Lock() { l.ch <- struct{}{} }

func (l *chanLock) Unlock() {
	l.unlocks++
	select {
	case <-l.ch:
	default:
		panic("chanLock: unlock of an unlocked lock")
	}
}

// locked reports whether l is held.
func (l *chanLock) locked() bool { return len(l.ch) == 1 }
