package props

import (
	"fmt"
	"testing"
	"time"

	"pgregory.net/rapid"

	"example.com/condvar"
)

func TestEvent(t *testing.T) {
	check(t, func(t *rapid.T) {
		m := &eventMachine{}
		m.states = make([]eventState, 1)
		m.object = func() string { return describeEvent(m.event.IsSet(), m.event.Waiters()) }
		t.Cleanup(func() { m.end(t, m.event.Set) })
		t.Repeat(rapid.StateMachineActions(m))
		m.rest(t)
	})
}

// An eventMachine compares an Event with an eventState.
type eventMachine struct {
	harness[eventState, *eventState]
	event condvar.Event
}

// Wait starts a call of Wait.
func (m *eventMachine) Wait(t *rapid.T) {
	m.skipIfFull(t)
	i, c, err := m.drawCall(t, "Wait")
	c.run(m.event.Wait)
	m.does(t, c.String(), func(s *eventState) {
		s.calls[i] = eventCall{phase: starting, err: err}
	})
}

// Set sets the event.
func (m *eventMachine) Set(t *rapid.T) {
	m.event.Set()
	m.does(t, "Set", func(s *eventState) {
		s.set()
	})
}

// Clear clears the event.
func (m *eventMachine) Clear(t *rapid.T) {
	m.event.Clear()
	m.does(t, "Clear", func(s *eventState) {
		s.isSet = false
	})
}

// Pulse releases all waiters.
func (m *eventMachine) Pulse(t *rapid.T) {
	m.Set(t)
	m.Clear(t)
}

// Look calls the methods that change nothing.
func (m *eventMachine) Look(t *rapid.T) {
	m.did(t, "Waiters", m.event.Waiters(), func(s *eventState) any { return s.waiters() })
	m.did(t, "IsSet", m.event.IsSet(), func(s *eventState) any { return s.isSet })
}

// An eventState is the model of an Event.
type eventState struct {
	isSet bool
	calls [maxCalls]eventCall
}

type eventCall struct {
	phase   phase
	err     string // of the context, once it has ended
	outcome string
}

func (s *eventState) set() {
	s.isSet = true
	for i := range s.calls {
		c := &s.calls[i]
		switch {
		case c.phase == parked && c.err == "":
			c.phase, c.outcome = over, success
		case c.phase == parked:
			c.phase, c.outcome = over, c.err
		}
	}
}

func (s *eventState) waiters() (n int) {
	for _, c := range s.calls {
		if c.phase == parked {
			n++
		}
	}
	return n
}

func (s *eventState) step(i int) bool {
	c := &s.calls[i]
	switch {
	case c.phase == starting && s.isSet:
		c.phase, c.outcome = over, success
	case c.phase == starting && c.err == "":
		c.phase = parked
	case (c.phase == starting || c.phase == parked) && c.err != "":
		c.phase, c.outcome = over, c.err
	default:
		return false
	}
	return true
}

func (s *eventState) cancel(i int, err string) { s.calls[i].err = err }
func (s *eventState) sleep(time.Duration)      {}
func (s *eventState) due() time.Duration       { return never }
func (s *eventState) forget(i int)             { s.calls[i] = eventCall{} }
func (s *eventState) object() string           { return describeEvent(s.isSet, s.waiters()) }

func (s *eventState) call(i int) string {
	if c := s.calls[i]; c.phase == over {
		return c.outcome
	}
	return waits
}

func describeEvent(isSet bool, waiters int) string {
	return fmt.Sprintf("set: %v, waiters: %d", isSet, waiters)
}
