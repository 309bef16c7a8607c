package linear

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync/atomic"
	"testing"

	"github.com/anishathalye/porcupine"

	"example.com/condvar"
	"example.com/condvar/keyed"
)

func TestKeyedResourceIsLinearizable(t *testing.T) {
	verify(t, 1000, newKeyedScene)
}

// keys is the number of keys: the fewest that can take entries from each other.
const keys = 2

func newKeyedScene(seed uint64, fake bool) scene {
	random := rand.New(rand.NewPCG(seed, 4))
	m := keyedModel{resourceModel{
		capacity: 1 + random.Int64N(3), fifo: random.IntN(2) == 0,
		places: max(0, random.IntN(6)-2), oversized: random.IntN(3) == 0,
	}}
	resizes := 0
	operation := func(choices []choice) op {
		o := op{kind: choose(random, choices), key: 1 + random.IntN(keys)}
		switch o.kind {
		case begin, tryAcquire, release:
			o.n = []int64{0, 1, 1, 1, 1, 2, 2, 3}[random.IntN(8)]
		case resizeKeys:
			o.n, o.key, o.call = random.Int64N(4), 0, resizes
			resizes++
		case length:
			o.key = 0
		}
		return o
	}
	s := newScript(random, func() op {
		return operation([]choice{{12, release}, {3, resizeKeys}, {6, tryAcquire}, {6, stats}, {3, length}})
	}, func() op {
		return operation([]choice{{10, begin}, {8, release}, {2, tryAcquire}, {2, stats}, {1, length}})
	})
	s.last = s.cancelAll()

	var options []condvar.Option
	if m.fifo {
		options = append(options, condvar.FIFO())
	}
	if m.places > 0 {
		options = append(options, condvar.MaxWaiting(m.places-1))
	}
	if m.oversized {
		options = append(options, condvar.AdmitOversized())
	}
	r := keyed.New[int](m.capacity, options...)
	do := func(ctx context.Context, o op) any {
		switch o.kind {
		case begin:
			return fateOf(r.AcquireN(ctx, o.key, o.n))
		case tryAcquire:
			return r.TryAcquireN(o.key, o.n)
		case release:
			return tryRelease(func() { r.ReleaseN(o.key, o.n) })
		case resizeKeys:
			return r.Resize(o.n)
		case length:
			return r.Len()
		case stats:
			s := r.Stats(o.key)
			if !fake {
				s.OldestWait, s.WaitDuration = 0, 0
			}
			return s
		}
		return nil
	}
	return scene{s, seed, do, m.porcupine, new(atomic.Int64), nil}
}

// A keyedModel is a keyed.Resource: a resource for each key. Calls may also use
// a key before and after their effect on its resource: see findOverlaps.
type keyedModel struct{ resourceModel }

// A keyedState is the observable state of a keyed.Resource.
type keyedState struct {
	keys     [keys]keyState
	capacity int64      // of new keys
	resizing int        // the Resize that has not set all keys yet, plus 1; or 0
	resized  [keys]bool // by that Resize
}

// A keyState is the state of a key. The totals of the resource may include
// those from before the key was last made. The totals in least are since a
// permit was held or a call waited, so the key has not been dropped since.
type keyState struct {
	resourceState
	least condvar.Stats
}

func (m keyedModel) porcupine(exactTime bool) porcupine.NondeterministicModel {
	m.loose = !exactTime && !m.fifo
	return porcupine.NondeterministicModel{
		Init: func() []any {
			s := keyedState{capacity: m.capacity}
			for i := range s.keys {
				s.keys[i].stats.Capacity = m.capacity
			}
			return []any{s}
		},
		Step:              func(s, in, out any) []any { return m.step(s.(keyedState), in.(op), out) },
		DescribeOperation: describe,
		DescribeState: func(state any) string {
			s := state.(keyedState)
			text := fmt.Sprintf("capacity %d", s.capacity)
			for i := range s.keys {
				k := &s.keys[i]
				text += fmt.Sprintf(", key %d: %d of %d in use, %v", i+1, k.stats.InUse, k.stats.Capacity, &k.line)
			}
			return text
		},
	}
}

// step returns the possible states of s after an operation that returned out.
func (m keyedModel) step(s keyedState, o op, out any) (states []any) {
	ok := true
	switch o.kind {
	case cancel:
		for i := range s.keys {
			s.keys[i].cancel(o)
		}
	case rest:
		ok = m.rest(&s, o, out.(int))
	case length:
		used, maybe := 0, 0
		for i := range s.keys {
			switch {
			case !s.keys[i].idle():
				used++
			case o.busy.has(i + 1):
				maybe++
			}
		}
		n := out.(int)
		ok = used <= n && n <= used+maybe
	case resizeKeys:
		ok = out == s.capacity && s.resizing == 0
		s.capacity, s.resizing, s.resized = o.n, o.call+1, [keys]bool{}
	case resize:
		k := &s.keys[o.key-1]
		ok = s.resizing == o.call+1
		s.resized[o.key-1] = true
		if s.resized == [keys]bool{true, true} {
			s.resizing = 0
		}
		for _, next := range m.resourceModel.step(k.resourceState, o, k.stats.Capacity) {
			k.set(next.(resourceState))
		}
	case stats:
		ok = s.keys[o.key-1].mayBe(out.(condvar.Stats))
	default:
		k := s.keys[o.key-1]
		if o.kind == release && (o.n == 0 || out == false) {
			return only(s, out == true || o.n > 0 && o.n > k.stats.InUse-o.slack)
		}
		for _, next := range m.resourceModel.step(k.resourceState, o, out) {
			s.keys[o.key-1] = k
			s.keys[o.key-1].set(next.(resourceState))
			states = append(states, s)
		}
		return states
	}
	return only(s, ok)
}

// rest advances the time. Idle keys are dropped before.
func (m keyedModel) rest(s *keyedState, o op, waiting int) bool {
	for i := range s.keys {
		k := &s.keys[i]
		waiting -= k.waiting
		if !k.rest(o, k.waiting) || k.waiting > 0 && m.fits(&k.resourceState, k.waiters[0].n) {
			return false
		}
		if k.idle() {
			k.stats = condvar.Stats{Capacity: k.stats.Capacity}
		}
	}
	return waiting == 0
}

// idle reports whether no permit is held and no call waits.
func (k *keyState) idle() bool { return k.stats.InUse == 0 && k.waiting == 0 }

// set sets the state of the resource.
func (k *keyState) set(next resourceState) {
	k.least.WaitCount += next.stats.WaitCount - k.stats.WaitCount
	k.least.WaitDuration += next.stats.WaitDuration - k.stats.WaitDuration
	k.least.Canceled += next.stats.Canceled - k.stats.Canceled
	k.least.Rejected += next.stats.Rejected - k.stats.Rejected
	k.resourceState = next
	if k.idle() {
		k.least = condvar.Stats{}
	}
}

// mayBe reports whether Stats can return got.
func (k *keyState) mayBe(got condvar.Stats) bool {
	least, most := k.least, k.snapshot()
	totals := least.WaitCount <= got.WaitCount && got.WaitCount <= most.WaitCount &&
		least.Canceled <= got.Canceled && got.Canceled <= most.Canceled &&
		least.Rejected <= got.Rejected && got.Rejected <= most.Rejected &&
		got.WaitDuration <= most.WaitDuration
	got.WaitCount, got.WaitDuration, got.Canceled, got.Rejected =
		most.WaitCount, most.WaitDuration, most.Canceled, most.Rejected
	return totals && got == most
}
