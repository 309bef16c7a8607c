package main

import (
	"context"
	"sync"
	"sync/atomic"

	"example.com/condvar"
)

// A condLoad is the load on Cond. Its Conds live as long as the soak.
type condLoad struct {
	relayed, signaled *condvar.Cond
	queue             queue
}

func newCondLoad() *condLoad {
	l := &condLoad{relayed: condvar.NewCond(&sync.Mutex{}), signaled: condvar.NewCond(&sync.Mutex{})}
	l.queue.notEmpty.L, l.queue.notFull.L = &l.queue.mu, &l.queue.mu
	return l
}

func (l *condLoad) rounds() []func(*worker) {
	return []func(*worker){l.relay, l.signals, l.queue.round, condAlone}
}

// A relay passes a few notifications around, among carriers that wait without a
// context, and visitors that are canceled, panic or call Goexit. A carrier or
// visitor that gets a notification notifies the next. There are at least two
// more carriers than notifications, so a waiter is always in line: each Notify
// must find one, and no notification may be lost.
//
// A carrier that has passed its notification on and is not in line again yet
// holds L. So there is at most one of these.
type relay struct {
	cond  *condvar.Cond
	over  atomic.Bool  // a carrier that gets a notification keeps it
	kept  atomic.Int64 // notifications kept
	ended atomic.Bool  // the next notification only ends the carrier

	// The numbers of notifications that Listeners have begun to pass on, and
	// have passed on. In between the carrier is in line, and has one.
	begun, passed atomic.Int64
}

func (l *condLoad) relay(w *worker) {
	const carriers, visitors, notifications = 12, 6, 4
	r := &relay{cond: l.relayed}
	joinCarriers := w.start(carriers, r.carry)
	await(func() bool { return r.cond.Waiters() == carriers })
	w.ops++
	if n := r.cond.NotifyN(notifications); n != notifications {
		w.failf("NotifyN(%d) with %d in line woke %d", notifications, carriers, n)
	}
	w.start(visitors, r.visit)()
	r.over.Store(true)
	// A notified waiter leaves the line during the call that notifies it. So no
	// notification is on its way if all carriers that have kept none are in
	// line, and no Listener was passing one on in the meantime.
	var kept int64
	await(func() bool {
		passed := r.passed.Load()
		kept = r.kept.Load()
		return r.cond.Waiters() == int(carriers-kept) && r.kept.Load() == kept && r.begun.Load() == passed
	})
	if kept != notifications {
		w.failf("%d notifications became %d", notifications, kept)
	}
	r.ended.Store(true)
	w.ops++
	if n := r.cond.NotifyAll(); n != int(carriers-kept) {
		w.failf("NotifyAll with %d in line woke %d", carriers-kept, n)
	}
	joinCarriers()
	checkNobodyWaits(w, r.cond)
}

// carry runs a carrier.
func (r *relay) carry(w *worker) {
	if w.oneIn(3) {
		r.carryByListener(w)
		return
	}
	r.cond.L.Lock()
	defer r.cond.L.Unlock()
	for {
		if w.oneIn(3) {
			r.carryByWaitFor(w)
		} else {
			w.ops++
			w.waits++
			if err := r.cond.Wait(context.Background()); err != nil {
				w.failf("Wait without a context: %v", err)
			}
		}
		if r.finished() {
			return
		}
		r.pass(w)
	}
}

// carryByWaitFor waits for a notification. The predicate may be false for the
// first ones. It passes these on.
func (r *relay) carryByWaitFor(w *worker) {
	calls, enough := 0, 1+w.rng.IntN(3)
	w.ops++
	w.waits++
	err := r.cond.WaitFor(context.Background(), func() bool {
		calls++
		if calls == 1 {
			return false
		}
		if calls > enough || r.over.Load() {
			return true
		}
		r.pass(w)
		return false
	})
	if err != nil {
		w.failf("WaitFor without a context: %v", err)
	}
}

// carryByListener is in line with a new Listener when it passes on the
// notification of the last one.
func (r *relay) carryByListener(w *worker) {
	l := r.cond.Listen()
	for {
		w.ops++
		w.waits++
		<-l.C
		if r.finished() {
			return
		}
		r.begun.Add(1)
		l = r.cond.Listen()
		r.pass(w)
		r.passed.Add(1)
	}
}

// finished reports whether the notified carrier must return.
func (r *relay) finished() bool {
	if r.ended.Load() {
		return true
	}
	over := r.over.Load()
	if over {
		r.kept.Add(1)
	}
	return over
}

func (r *relay) pass(w *worker) {
	w.ops++
	if !r.cond.Notify() {
		w.failf("Notify found no waiter, although one was in line")
	}
}

// visit runs a visitor.
func (r *relay) visit(w *worker) {
	for range 10 {
		ctx, cancel := w.context()
		w.ops++
		w.waits++
		got := false // a notification that the library does not pass on
		switch w.rng.IntN(4) {
		case 0:
			r.cond.L.Lock()
			err := r.cond.Wait(ctx)
			r.cond.L.Unlock()
			got = err == nil
			if !got {
				w.checkError(ctx, err)
			}
		case 1:
			got = r.visitByWaitFor(ctx, w)
		case 2:
			w.abandon(func(leave func()) {
				r.cond.L.Lock()
				defer r.cond.L.Unlock()
				calls := 0
				_ = r.cond.WaitFor(ctx, func() bool {
					if calls++; calls > 1 {
						leave()
					}
					return false
				})
			})
		case 3:
			l := r.cond.Listen()
			select {
			case <-l.C:
				got = true
			case <-ctx.Done():
			}
			w.ops++
			if l.Stop() && got {
				w.failf("a Listener was notified, but Stop returned true")
			}
		}
		cancel()
		if got && w.plant != plantSwallow {
			r.pass(w)
		}
		w.linger(2)
	}
}

// visitByWaitFor has a predicate that is true after a notification, unless the
// context has ended. Then the library has to pass the notification on.
func (r *relay) visitByWaitFor(ctx context.Context, w *worker) (got bool) {
	r.cond.L.Lock()
	defer r.cond.L.Unlock()
	calls := 0
	err := r.cond.WaitFor(ctx, func() bool {
		calls++
		return calls > 1 && ctx.Err() == nil
	})
	if err != nil {
		w.checkError(ctx, err)
	}
	return err == nil
}

// signals compares the results of the notifying calls with the number of
// notified waiters. In a round either all notifications are of NotifyAll, which
// are never passed on, or none is. In the second case no Listener is stopped
// and no WaitFor has a context, because these may pass on a counted
// notification.
func (l *condLoad) signals(w *worker) {
	const waiters = 12
	c, broadcast := l.signaled, w.oneIn(2)
	var woken int
	var notified atomic.Int64
	join := w.start(waiters, func(w *worker) {
		n := 0
		for range 60 {
			n += signaled(w, c, broadcast)
		}
		notified.Add(int64(n))
	})
	w.during(join, func() {
		n := 0
		switch {
		case broadcast:
			n = c.NotifyAll()
		case w.oneIn(2):
			n = c.NotifyN(w.rng.IntN(4))
		case c.Notify():
			n = 1
		}
		w.ops++
		woken += n
		w.linger(4)
	})
	if n := int(notified.Load()); woken != n {
		w.failf("%d waiters were woken, but %d notified", woken, n)
	}
	checkNobodyWaits(w, c)
}

// signaled waits once and returns how many notifications it got.
func signaled(w *worker, c *condvar.Cond, broadcast bool) (n int) {
	w.ops++
	w.waits++
	kind := w.rng.IntN(4)
	if kind == 0 && broadcast {
		l := c.Listen()
		w.linger(4)
		w.ops++
		if !l.Stop() {
			n++
		}
		return n
	}
	c.L.Lock()
	defer c.L.Unlock()
	ctx, cancel := context.Background(), func() {}
	if kind > 1 || kind == 1 && broadcast {
		ctx, cancel = w.context()
	}
	defer cancel()
	if kind == 1 {
		calls, enough := 0, 1+w.rng.IntN(3)
		_ = c.WaitFor(ctx, func() bool {
			calls++
			return calls > enough
		})
		return calls - 1
	}
	if err := c.Wait(ctx); err != nil {
		w.checkError(ctx, err)
		return 0
	}
	return 1
}

// A queue is a bounded buffer of numbers, with a Notify for each change.
type queue struct {
	mu                sync.Mutex
	notEmpty, notFull condvar.Cond
	items             []int
}

func (q *queue) round(w *worker) {
	const pairs, each = 4, 400
	var sum atomic.Int64
	joinProducers := w.start(pairs, func(w *worker) {
		for n := range each {
			q.mu.Lock()
			q.await(w, &q.notFull, func() bool { return len(q.items) < 3 })
			q.items = append(q.items, n)
			q.mu.Unlock()
			w.ops++
			q.notEmpty.Notify()
		}
	})
	joinConsumers := w.start(pairs, func(w *worker) {
		for range each {
			q.mu.Lock()
			q.await(w, &q.notEmpty, func() bool { return len(q.items) > 0 })
			sum.Add(int64(q.items[0]))
			q.items = append(q.items[:0], q.items[1:]...)
			q.mu.Unlock()
			w.ops++
			q.notFull.Notify()
		}
	})
	joinProducers()
	joinConsumers()
	if got, want := sum.Load(), int64(pairs*each*(each-1)/2); got != want || len(q.items) > 0 {
		w.failf("the sum of the numbers from the queue is %d, want %d; %d remain", got, want, len(q.items))
	}
	checkNobodyWaits(w, &q.notEmpty)
	checkNobodyWaits(w, &q.notFull)
}

// await waits until pred is true. It starts again if its context has ended or
// pred has panicked.
func (q *queue) await(w *worker, c *condvar.Cond, pred func() bool) {
	for {
		ctx, cancel := context.Background(), func() {}
		if w.oneIn(4) {
			ctx, cancel = w.context()
		}
		fails, first, holds := w.oneIn(16), true, false
		w.ops++
		w.waits++
		var err error
		again := survived(func() {
			err = c.WaitFor(ctx, func() bool {
				if fails && !first {
					panic(planned{})
				}
				first = false
				holds = pred()
				return holds
			})
		})
		cancel()
		switch {
		case again:
		case err == nil:
			if !pred() {
				w.failf("WaitFor returned nil, although the predicate is false")
			}
			return
		case holds: // in the last call of pred; WaitFor does not call it again
			w.failf("WaitFor failed, although the predicate was true")
		default:
			w.checkError(ctx, err)
		}
	}
}

// condAlone uses each Cond from one goroutine, so no call waits.
func condAlone(w *worker) {
	w.start(4, func(w *worker) {
		c := condvar.NewCond(&sync.Mutex{})
		c.L.Lock()
		defer c.L.Unlock()
		ctx, cancel := context.WithCancel(context.Background())
		cancel()
		for range 20000 {
			if c.Notify() || c.NotifyN(2) != 0 || c.NotifyAll() != 0 {
				w.failf("a waiter was woken, although no call waits")
			}
			if err := c.WaitFor(ctx, func() bool { return true }); err != nil {
				w.failf("WaitFor of a true predicate: %v", err)
			}
			if c.Wait(ctx) == nil {
				w.failf("Wait with a canceled context succeeded")
			}
			w.ops += 5
		}
		for range 200 {
			l := c.Listen()
			if c.Waiters() != 1 || !l.Stop() || l.Stop() || c.Notify() {
				w.failf("a stopped Listener is in line, or was notified")
			}
			w.ops += 5
		}
	})()
}

func checkNobodyWaits(w *worker, c *condvar.Cond) {
	if n := c.Waiters(); n != 0 {
		w.failf("%d are in line, but no call waits", n)
	}
}
