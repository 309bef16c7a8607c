package linear

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync/atomic"
	"testing"

	"github.com/anishathalye/porcupine"

	"example.com/condvar"
)

func TestEventIsLinearizable(t *testing.T) {
	verify(t, 700, newEventScene)
}

func newEventScene(seed uint64, _ bool) scene {
	random := rand.New(rand.NewPCG(seed, 2))
	sets := int64(0)
	operation := func(choices []choice) op {
		o := op{kind: choose(random, choices)}
		if o.kind == set {
			sets++
			o.n = sets
		}
		return o
	}
	s := newScript(random, func() op {
		return operation([]choice{{2, set}, {2, clearing}, {1, isSet}, {1, waiters}})
	}, func() op {
		return operation([]choice{{6, begin}, {1, set}, {2, clearing}, {1, isSet}, {1, waiters}})
	})
	s.last = s.cancelAll()

	var e condvar.Event
	do := func(ctx context.Context, o op) any {
		switch o.kind {
		case begin:
			return fateOf(e.Wait(ctx))
		case set:
			e.Set()
		case clearing:
			e.Clear()
		case isSet:
			return e.IsSet()
		case waiters:
			return e.Waiters()
		}
		return nil
	}
	return scene{s, seed, do, eventModel, new(atomic.Int64), nil}
}

// An eventState is the observable state of an Event.
type eventState struct {
	line
	set bool
	// setting is the Set that has set the flag, but not released the waiters
	// yet, or 0.
	setting int64
}

func eventModel(bool) porcupine.NondeterministicModel {
	return porcupine.NondeterministicModel{
		Init:              func() []any { return []any{eventState{}} },
		Step:              func(s, in, out any) []any { return stepEvent(s.(eventState), in.(op), out) },
		DescribeOperation: describe,
		DescribeState: func(state any) string {
			s := state.(eventState)
			return fmt.Sprintf("set %v, setting %v, %v", s.set, s.setting != 0, &s.line)
		},
	}
}

// stepEvent returns the possible states of s after an operation that returned
// out.
func stepEvent(s eventState, o op, out any) (states []any) {
	ok := true
	switch o.kind {
	case begin:
		if s.set {
			s.fate[o.call] = success
			break
		}
		for _, l := range s.wait(o) {
			s.line = l
			states = append(states, s)
		}
		return states
	case outcome:
		ok = s.endWait(o, out.(fate))
	case cancel:
		s.cancel(o)
	case set:
		ok = s.setting == 0
		s.set, s.setting = true, o.n
	case released:
		ok = s.setting == o.n
		s.setting = 0
		s.notify(o, s.waiting)
	case clearing:
		ok = s.setting == 0
		s.set = false
	case isSet:
		ok = out == s.set
	case waiters:
		ok = out == s.waiting
	case rest:
		ok = s.rest(o, out.(int)) && (s.waiting == 0 || !s.set)
	}
	return only(s, ok)
}
