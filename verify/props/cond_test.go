package props

import (
	"context"
	"fmt"
	"math"
	"runtime"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"example.com/condvar"
)

func TestCond(t *testing.T) {
	check(t, func(t *rapid.T) {
		m := &condMachine{lock: &chanLock{ch: make(chan struct{}, 1)}}
		m.cond = condvar.NewCond(m.lock)
		m.states = make([]condState, 1)
		m.object = func() string { return describeCond(m.cond.Waiters(), m.lock.unlocks.Load(), m.checks.Load()) }
		t.Cleanup(func() { m.end(t, m.release) })
		t.Repeat(rapid.StateMachineActions(m))
		m.rest(t)
	})
}

// A chanLock is a Locker. A goroutine of a bubble that waits for it is durably
// blocked.
type chanLock struct {
	ch      chan struct{}
	unlocks atomic.Int64
}

func (l *chanLock) Lock() { l.ch <- struct{}{} }

func (l *chanLock) Unlock() {
	if len(l.ch) == 0 {
		panic(unlocked)
	}
	l.unlocks.Add(1)
	<-l.ch
}

const unlocked = "unlock of an unlocked lock"

// A condMachine compares a Cond with a condState. WaitFor waits until a value
// is large enough, and then subtracts from it.
type condMachine struct {
	harness[condState, *condState]
	lock   *chanLock
	locked bool // by the test
	cond   *condvar.Cond
	value  int          // guarded by lock
	checks atomic.Int64 // calls of predicates
}

// Wait starts a call of Wait.
func (m *condMachine) Wait(t *rapid.T) {
	m.skipIfFull(t)
	i, c, err := m.drawCall(t, "Wait")
	c.run(func(ctx context.Context) error {
		m.lock.Lock()
		defer m.lock.Unlock()
		return m.cond.Wait(ctx)
	})
	m.does(t, c.String(), func(s *condState) {
		s.calls[i] = condCall{phase: starting, err: err}
	})
}

// WaitFor starts a call of WaitFor, whose predicate may fail.
func (m *condMachine) WaitFor(t *rapid.T) {
	m.skipIfFull(t)
	need := rapid.IntRange(1, 3).Draw(t, "need")
	fault := rapid.SampledFrom([]string{"", "", "", panicked("fault"), goexit}).Draw(t, "fault")
	faultAt := 0
	if fault != "" {
		faultAt = rapid.IntRange(1, 3).Draw(t, "at check")
	}
	i, c, err := m.drawCall(t, fmt.Sprintf("WaitFor(%d)", need))
	checks := 0
	c.run(func(ctx context.Context) error {
		m.lock.Lock()
		defer m.lock.Unlock()
		err := m.cond.WaitFor(ctx, func() bool {
			m.checks.Add(1)
			checks++
			if checks == faultAt && fault == goexit {
				runtime.Goexit()
			}
			if checks == faultAt {
				panic("fault")
			}
			return m.value >= need
		})
		if err == nil {
			m.value -= need
		}
		return err
	})
	m.does(t, fmt.Sprintf("%v, fault %q at check %d", c, fault, faultAt), func(s *condState) {
		s.calls[i] = condCall{phase: starting, waitFor: true, need: need, fault: fault, faultAt: faultAt, err: err}
	})
}

// WaitUnlocked calls Wait without the lock, which is an error.
func (m *condMachine) WaitUnlocked(t *rapid.T) {
	if m.locked {
		t.SkipNow()
	}
	m.rest(t) // otherwise another call may hold the lock
	got := try(func() { m.cond.Wait(context.Background()) })
	m.did(t, "Wait without the lock", got, func(*condState) any { return panicked(unlocked) })
}

// Lock locks the lock.
func (m *condMachine) Lock(t *rapid.T) {
	if m.locked {
		t.SkipNow()
	}
	m.lock.Lock()
	m.locked = true
	m.does(t, "Lock", func(s *condState) {
		s.locked = true
	})
}

// Unlock unlocks the lock that Lock has locked.
func (m *condMachine) Unlock(t *rapid.T) {
	if !m.locked {
		t.SkipNow()
	}
	m.lock.Unlock()
	m.locked = false
	m.does(t, "Unlock", func(s *condState) {
		s.locked = false
		s.unlocks++
	})
}

// Change changes the value without a notification.
func (m *condMachine) Change(t *rapid.T) {
	value := rapid.IntRange(0, 3).Draw(t, "value")
	locked := m.locked
	if !locked {
		m.lock.Lock()
	}
	m.value = value
	if !locked {
		m.lock.Unlock()
	}
	m.does(t, fmt.Sprintf("change the value to %d", value), func(s *condState) {
		s.value = value
		if !locked {
			s.unlocks++
		}
	})
}

// Notify wakes one waiter.
func (m *condMachine) Notify(t *rapid.T) {
	m.did(t, "Notify", m.cond.Notify(), func(s *condState) any { return s.notify(1, notified) == 1 })
	m.checkWaiters(t)
}

// NotifyN wakes n waiters.
func (m *condMachine) NotifyN(t *rapid.T) {
	n := rapid.SampledFrom([]int{1, 2, 3, maxCalls, math.MaxInt, 0, -1}).Draw(t, "n")
	m.did(t, fmt.Sprintf("NotifyN(%d)", n), m.cond.NotifyN(n), func(s *condState) any { return s.notify(n, notified) })
	m.checkWaiters(t)
}

// NotifyAll wakes all waiters.
func (m *condMachine) NotifyAll(t *rapid.T) {
	m.did(t, "NotifyAll", m.cond.NotifyAll(), func(s *condState) any { return s.notify(math.MaxInt, released) })
	m.checkWaiters(t)
}

// checkWaiters checks the number of waiters, not necessarily at rest.
func (m *condMachine) checkWaiters(t *rapid.T) {
	m.did(t, "Waiters", m.cond.Waiters(), func(s *condState) any { return s.waiters() })
}

// Listen adds a Listener.
func (m *condMachine) Listen(t *rapid.T) {
	m.skipIfFull(t)
	c := &call{listener: m.cond.Listen()}
	i := m.add("Listener", c)
	m.does(t, c.name, func(s *condState) {
		s.calls[i] = condCall{listener: true}
		s.park(i)
	})
}

func (m *condMachine) drawListener(t *rapid.T) int {
	return m.draw(t, "listener", func(c *call) bool { return c.listener != nil })
}

// Receive takes the token of a Listener, if it is there.
func (m *condMachine) Receive(t *rapid.T) {
	i := m.drawListener(t)
	got := false
	select {
	case <-m.calls[i].listener.C:
		got = true
	default:
	}
	m.did(t, "receive from "+m.calls[i].name, got, func(s *condState) any {
		c := &s.calls[i]
		if c.phase != notified && c.phase != released {
			return false
		}
		c.phase = over
		return true
	})
}

// Stop stops a Listener, twice.
func (m *condMachine) Stop(t *rapid.T) {
	i := m.drawListener(t)
	c := m.calls[i]
	m.did(t, "Stop "+c.name, c.listener.Stop(), func(s *condState) any {
		before := s.calls[i].phase
		s.calls[i].phase = over
		if before == notified {
			s.notify(1, notified)
		}
		return before == parked
	})
	m.did(t, "Stop it again", c.listener.Stop(), func(*condState) any { return false })
	m.did(t, "its tokens", len(c.listener.C), func(*condState) any { return 0 })
	m.forget(i)
}

// release ends the calls that canceled contexts do not end.
func (m *condMachine) release() {
	if !m.locked {
		m.lock.Lock()
	}
	m.value = math.MaxInt / 2
	m.lock.Unlock()
	synctest.Wait() // until calls that waited for the lock have joined the line
	m.cond.NotifyAll()
}

// A condState is the model of a Cond, its Locker and the value.
type condState struct {
	locked  bool // by the test
	value   int
	places  int // the next place in line
	unlocks int64
	checks  int64
	calls   [maxCalls]condCall
}

type condCall struct {
	phase             phase
	listener, waitFor bool
	place             int // in line
	need              int // the value that WaitFor waits for
	checks            int
	fault             string // how the predicate ends
	faultAt           int    // the check at which it ends so
	err               string // of the context, once it has ended
	outcome           string
}

// park puts call i at the end of the line.
func (s *condState) park(i int) {
	s.calls[i].phase = parked
	s.calls[i].place = s.places
	s.places++
}

// notify makes the first n waiters notified or released, and returns their
// number. It passes over waiters whose context has ended.
func (s *condState) notify(n int, to phase) (woken int) {
	for woken < n {
		var first *condCall
		for i := range s.calls {
			if c := &s.calls[i]; c.phase == parked && (first == nil || c.place < first.place) {
				first = c
			}
		}
		switch {
		case first == nil:
			return woken
		case first.err != "":
			first.phase = gaveUp
		default:
			first.phase = to
			woken++
		}
	}
	return woken
}

func (s *condState) waiters() (n int) {
	for _, c := range s.calls {
		if c.phase == parked {
			n++
		}
	}
	return n
}

// step does the next step of call i: from when it gets the lock, or gives up,
// until it parks or returns.
func (s *condState) step(i int) bool {
	c := &s.calls[i]
	before := c.phase
	switch {
	case before == none || before == over || c.listener:
		return false
	case before == parked && c.err == "":
		return false
	case before == parked: // takes no lock
		c.phase = gaveUp
		return true
	case s.locked:
		return false
	}
	s.unlocks++ // by the call as it parks, or by its caller
	switch {
	case before == gaveUp: // WaitFor does not call pred again
		c.outcome = c.err
	case !c.waitFor && before != starting, s.holds(c):
		c.outcome = success
	case c.outcome == "":
		c.outcome = c.err
	}
	if c.outcome == "" {
		s.park(i)
		return true
	}
	c.phase = over
	if before == notified && c.outcome != success {
		s.notify(1, notified)
	}
	return true
}

// holds does a check of the predicate of WaitFor. It may end the call.
func (s *condState) holds(c *condCall) bool {
	if !c.waitFor {
		return false
	}
	s.checks++
	c.checks++
	switch {
	case c.checks == c.faultAt:
		c.outcome = c.fault
	case s.value >= c.need:
		s.value -= c.need
		return true
	}
	return false
}

func (s *condState) cancel(i int, err string) { s.calls[i].err = err }
func (s *condState) sleep(time.Duration)      {}
func (s *condState) due() time.Duration       { return never }
func (s *condState) forget(i int)             { s.calls[i] = condCall{} }
func (s *condState) object() string           { return describeCond(s.waiters(), s.unlocks, s.checks) }

func (s *condState) call(i int) string {
	switch c := s.calls[i]; {
	case c.outcome != "":
		return c.outcome
	case c.listener && (c.phase == notified || c.phase == released):
		return token
	}
	return waits
}

func describeCond(waiters int, unlocks, checks int64) string {
	return fmt.Sprintf("waiters: %d, unlocks: %d, checks: %d", waiters, unlocks, checks)
}
