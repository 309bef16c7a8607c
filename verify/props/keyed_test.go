package props

import (
	"context"
	"fmt"
	"math"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"example.com/condvar"
	"example.com/condvar/keyed"
)

func TestKeyedResource(t *testing.T) {
	check(t, func(t *rapid.T) {
		capacity := rapid.Int64Range(1, 4).Draw(t, "capacity")
		s := resourceState{capacity: capacity, maxWaiting: math.MaxInt}
		var opts []condvar.Option
		if s.fifo = rapid.Bool().Draw(t, "FIFO"); s.fifo {
			opts = append(opts, condvar.FIFO())
		}
		if rapid.Bool().Draw(t, "bounded line") {
			s.maxWaiting = rapid.IntRange(0, 3).Draw(t, "MaxWaiting")
			opts = append(opts, condvar.MaxWaiting(s.maxWaiting))
		}
		if rapid.Bool().Draw(t, "limited wait") {
			s.maxWait = drawTime(t)
			opts = append(opts, condvar.MaxWait(s.maxWait))
		}
		if s.oversized = rapid.Bool().Draw(t, "AdmitOversized"); s.oversized {
			opts = append(opts, condvar.AdmitOversized())
		}
		m := &keyedMachine{r: keyed.New[int](capacity, opts...), begin: time.Now()}
		m.limit = s.maxWait
		m.trace = []string{fmt.Sprintf("capacity %d, FIFO %v, at most %d wait, for %v, AdmitOversized %v",
			capacity, s.fifo, s.maxWaiting, s.maxWait, s.oversized)}
		state := keyedState{}
		for key := range state.keys {
			state.keys[key] = s
		}
		m.states = []keyedState{state}
		m.object = func() string {
			all := make([]condvar.Stats, keys)
			for key := range all {
				all[key] = m.r.Stats(key)
			}
			return describeKeyed(m.r.Len(), all)
		}
		t.Cleanup(func() { m.end(t, m.release) })
		t.Repeat(rapid.StateMachineActions(m))
		m.rest(t)
	})
}

// keys is the number of keys. With two, one can take the entry of the other.
// The third can be in use then.
const keys = 3

func drawKey(t *rapid.T) int { return rapid.IntRange(0, keys-1).Draw(t, "key") }

// A keyedMachine compares a keyed.Resource with a keyedState. It rests after
// each operation: a call that has just acquired may not have counted its
// permits yet, and a finished call may still use its key.
type keyedMachine struct {
	harness[keyedState, *keyedState]
	r     *keyed.Resource[int]
	begin time.Time
}

// Check is run after each operation.
func (m *keyedMachine) Check(t *rapid.T) { m.rest(t) }

// start starts a call.
func (m *keyedMachine) start(t *rapid.T, name string, key int, q resourceCall, f func(c *call) error) *call {
	i, c, err := m.drawCall(t, name)
	q.phase, q.err = starting, err
	if !c.deadline.IsZero() {
		q.deadline = c.deadline.Sub(m.begin)
	}
	c.run(func(context.Context) error { return f(c) })
	m.does(t, c.String(), func(s *keyedState) { s.keys[key].calls[i] = q })
	return c
}

// Acquire starts a call of AcquireN.
func (m *keyedMachine) Acquire(t *rapid.T) {
	m.skipIfFull(t)
	key, n := drawKey(t), drawPermits(t)
	m.start(t, fmt.Sprintf("AcquireN(%d, %d)", key, n), key, resourceCall{n: n},
		func(c *call) error { return m.r.AcquireN(c.ctx, key, n) })
}

// Do starts a call of DoN. Finish ends its function.
func (m *keyedMachine) Do(t *rapid.T) {
	m.skipIfFull(t)
	key, n := drawKey(t), drawPermits(t)
	finish := make(chan string, 1)
	c := m.start(t, fmt.Sprintf("DoN(%d, %d)", key, n), key, resourceCall{n: n, do: true},
		func(c *call) error { return m.r.DoN(c.ctx, key, n, c.fn(finish)) })
	c.finish = finish
}

// Finish ends the function of a DoN, now or once it runs.
func (m *keyedMachine) Finish(t *rapid.T) {
	i, how := m.finish(t)
	m.does(t, fmt.Sprintf("finish %s with %s", m.calls[i].name, how), func(s *keyedState) {
		s.keys[s.keyOf(i)].calls[i].finish = how
	})
}

// TryAcquire calls TryAcquireN.
func (m *keyedMachine) TryAcquire(t *rapid.T) {
	key, n := drawKey(t), drawPermits(t)
	ok := false
	got := try(func() { ok = m.r.TryAcquireN(key, n) })
	m.did(t, fmt.Sprintf("TryAcquireN(%d, %d)", key, n), fmt.Sprint(ok, got), func(s *keyedState) any {
		if n < 0 {
			return fmt.Sprint(false, negativePermits)
		}
		return fmt.Sprint(s.keys[key].enter(n), "")
	})
}

// Release calls ReleaseN.
func (m *keyedMachine) Release(t *rapid.T) {
	key, n := drawKey(t), drawPermits(t)
	got := try(func() { m.r.ReleaseN(key, n) })
	m.did(t, fmt.Sprintf("ReleaseN(%d, %d)", key, n), got, func(s *keyedState) any { return s.release(key, n) })
}

// Resize calls Resize.
func (m *keyedMachine) Resize(t *rapid.T) {
	capacity := rapid.SampledFrom([]int64{1, 2, 2, 3, 3, 3, 4, 5, 0, -1, 1 << 31}).Draw(t, "capacity")
	old := int64(-1)
	got := try(func() { old = m.r.Resize(capacity) })
	m.did(t, fmt.Sprintf("Resize(%d)", capacity), fmt.Sprint(old, got), func(s *keyedState) any {
		if capacity < 0 {
			return fmt.Sprint(-1, panicked("keyed: negative capacity"))
		}
		old := s.keys[0].capacity
		for key := range s.keys {
			s.keys[key].resize(capacity)
			s.drop(key)
		}
		return fmt.Sprint(old, "")
	})
}

// release ends the calls that canceled contexts do not end. There is no Close.
func (m *keyedMachine) release() {
	for _, c := range m.calls {
		if c != nil && c.finish != nil {
			c.finish <- success
		}
	}
	m.r.Resize(math.MaxInt64)
	for range maxCalls { // each admits at least one
		for key := range keys {
			synctest.Wait()
			m.r.ReleaseN(key, m.r.Stats(key).InUse)
		}
	}
}

// A keyedState is the model of a keyed.Resource. A call is in the state of its
// key. Keys that are not in use have the same capacity.
type keyedState struct{ keys [keys]resourceState }

// keyOf returns the key of call i.
func (s *keyedState) keyOf(i int) int {
	return slices.IndexFunc(s.keys[:], func(k resourceState) bool { return k.calls[i].phase != none })
}

func (s *keyedState) inUse(key int) bool {
	k := &s.keys[key]
	for _, c := range k.calls {
		if c.phase == parked || c.phase == running {
			return true
		}
	}
	return k.held > 0
}

// drop resets the totals of a key that is not in use.
func (s *keyedState) drop(key int) {
	if k := &s.keys[key]; !s.inUse(key) {
		k.waitCount, k.waitDuration, k.canceled, k.rejected = 0, 0, 0, 0
	}
}

// release does a ReleaseN and returns its panic, or "". It cannot release the
// permits of a DoN.
func (s *keyedState) release(key int, n int64) string {
	k := &s.keys[key]
	held := k.held
	for _, c := range k.calls {
		if c.phase == running {
			held -= c.n
		}
	}
	switch {
	case n < 0:
		return panicked("keyed: negative number of permits")
	case n > held:
		return panicked("keyed: released more than held")
	}
	k.release(n)
	s.drop(key)
	return ""
}

func (s *keyedState) step(i int) bool {
	key := s.keyOf(i)
	if key < 0 || !s.keys[key].step(i) {
		return false
	}
	s.drop(key)
	return true
}

func (s *keyedState) cancel(i int, err string) { s.keys[s.keyOf(i)].cancel(i, err) }

func (s *keyedState) sleep(d time.Duration) {
	for key := range s.keys {
		s.keys[key].sleep(d)
	}
}

func (s *keyedState) due() time.Duration {
	due := time.Duration(never)
	for key := range s.keys {
		due = min(due, s.keys[key].due())
	}
	return due
}

func (s *keyedState) forget(i int) {
	if key := s.keyOf(i); key >= 0 {
		s.keys[key].forget(i)
	}
}

func (s *keyedState) object() string {
	length, all := 0, make([]condvar.Stats, keys)
	for key := range s.keys {
		all[key] = s.keys[key].stats()
		if s.inUse(key) {
			length++
		}
	}
	return describeKeyed(length, all)
}

func (s *keyedState) call(i int) string { return s.keys[s.keyOf(i)].call(i) }

func describeKeyed(length int, all []condvar.Stats) string {
	return fmt.Sprintf("%d keys in use: %+v", length, all)
}
