package main

import (
	"context"
	"sync/atomic"

	"example.com/condvar"
)

// An eventLoad is the load on Event. Its Events live as long as the soak.
type eventLoad struct{ gate, pulsed condvar.Event }

func (l *eventLoad) rounds() []func(*worker) {
	return []func(*worker){l.gates, l.pulses, eventAlone}
}

// gates starts waiters, and then sets the event, and may cancel their contexts
// before or after. The result of each wait is known.
func (l *eventLoad) gates(w *worker) {
	const waiters = 8
	for range 12 {
		ctx, cancel := context.WithCancelCause(context.Background())
		var released atomic.Int64
		join := w.start(waiters, func(w *worker) {
			w.ops++
			w.waits++
			if err := l.gate.Wait(ctx); err != nil {
				w.checkError(ctx, err)
				return
			}
			released.Add(1)
		})
		await(func() bool { return l.gate.Waiters() == waiters })
		cancelFirst := w.oneIn(3)
		if cancelFirst {
			cancel(errCanceled)
		}
		l.gate.Set()
		if n := l.gate.Waiters(); n != 0 {
			w.failf("%d wait for an event that is set", n)
		}
		if w.oneIn(2) {
			cancel(errCanceled)
		}
		l.gate.Clear()
		w.ops += 2
		join()
		cancel(nil)
		want := int64(waiters)
		if cancelFirst {
			want = 0
		}
		if n := released.Load(); n != want {
			w.failf("Set released %d of %d; canceled before: %t", n, waiters, cancelFirst)
		}
	}
}

// pulses sets and clears the event repeatedly. A Wait may succeed only if the
// event was set at some time during the call.
func (l *eventLoad) pulses(w *worker) {
	var begun, over atomic.Int64 // pulses
	join := w.start(12, func(w *worker) {
		for range 40 {
			ctx, cancel := context.Background(), func() {}
			if w.oneIn(2) {
				ctx, cancel = w.context()
			}
			before := over.Load()
			w.ops++
			w.waits++
			if err := l.pulsed.Wait(ctx); err != nil {
				w.checkError(ctx, err)
			} else if begun.Load() == before {
				w.failf("Wait returned nil, although the event was not set")
			}
			cancel()
		}
	})
	w.during(join, func() {
		begun.Add(1)
		l.pulsed.Set()
		w.linger(1)
		l.pulsed.Clear()
		over.Add(1)
		w.ops += 2
		w.linger(8)
	})
	if n := l.pulsed.Waiters(); n != 0 || l.pulsed.IsSet() {
		w.failf("at rest, %d wait, or the event is set", n)
	}
}

// eventAlone uses each Event from one goroutine.
func eventAlone(w *worker) {
	w.start(4, func(w *worker) {
		var e condvar.Event
		ctx, cancel := context.WithCancel(context.Background())
		cancel()
		for range 20000 {
			if e.IsSet() || e.Wait(ctx) == nil {
				w.failf("an event that is not set is set")
			}
			e.Set()
			if !e.IsSet() || e.Wait(ctx) != nil || e.Wait(context.Background()) != nil {
				w.failf("an event that is set is not set")
			}
			e.Clear()
			w.ops += 7
		}
	})()
}
