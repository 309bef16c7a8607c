package linear

import (
	"context"
	"math/rand/v2"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/anishathalye/porcupine"

	"example.com/condvar"
)

func TestCondIsLinearizable(t *testing.T) {
	verify(t, 700, newCondScene)
}

func newCondScene(seed uint64, _ bool) scene {
	random := rand.New(rand.NewPCG(seed, 3))
	operation := func(choices []choice) op {
		return op{kind: choose(random, choices), n: random.Int64N(5) - 1}
	}
	s := newScript(random, func() op {
		return operation([]choice{{3, notify}, {2, notifyN}, {1, notifyAll}, {2, waiters}})
	}, func() op {
		return operation([]choice{{6, begin}, {2, notify}, {1, notifyN}, {1, notifyAll}, {1, waiters}})
	})
	s.last = s.cancelAll()

	clock, begun := new(atomic.Int64), new([maxCalls]int64)
	l := &condLock{clock: clock}
	c := condvar.NewCond(l)
	do := func(ctx context.Context, o op) any {
		switch o.kind {
		case begin:
			l.Lock()
			defer l.Unlock()
			l.unlocked = &begun[o.call]
			return fateOf(c.Wait(ctx))
		case notify:
			return c.Notify()
		case notifyN:
			return c.NotifyN(int(o.n))
		case notifyAll:
			return c.NotifyAll()
		case waiters:
			return c.Waiters()
		}
		return nil
	}
	return scene{s, seed, do, condModel, clock, begun}
}

// A condLock is a lock that records when a Wait unlocks it, because the call
// must be in line by then. It lets others run before the call parks.
type condLock struct {
	mu       sync.Mutex
	clock    *atomic.Int64
	unlocked *int64 // where to store the time of the next Unlock, or nil
}

func (l *condLock) Lock() {
	l.mu.Lock()
	l.unlocked = nil
}

func (l *condLock) Unlock() {
	if l.unlocked != nil {
		*l.unlocked = l.clock.Add(1)
	}
	l.mu.Unlock()
	runtime.Gosched()
}

func condModel(bool) porcupine.NondeterministicModel {
	return porcupine.NondeterministicModel{
		Init:              func() []any { return []any{line{}} },
		Step:              func(l, in, out any) []any { return stepCond(l.(line), in.(op), out) },
		DescribeOperation: describe,
		DescribeState: func(state any) string {
			l := state.(line)
			return l.String()
		},
	}
}

// stepCond returns the possible states of the line of a Cond after an operation
// that returned out.
func stepCond(l line, o op, out any) (states []any) {
	ok := true
	switch o.kind {
	case begin:
		for _, l := range l.wait(o) {
			states = append(states, l)
		}
		return states
	case outcome:
		ok = l.endWait(o, out.(fate))
	case cancel:
		l.cancel(o)
	case notify:
		ok = out == (l.notify(o, 1) == 1)
	case notifyN:
		ok = out == l.notify(o, int(o.n))
	case notifyAll:
		ok = out == l.notify(o, l.waiting)
	case waiters:
		ok = out == l.waiting
	case rest:
		ok = l.rest(o, out.(int))
	}
	return only(l, ok)
}
