package linear

import (
	"fmt"
	"time"
)

// A line is the common part of the models of the three types: the calls that
// can wait, the waiting ones in order, and the time.
type line struct {
	now     time.Duration
	fate    [maxCalls]fate
	ended   callSet // calls whose context has ended
	waiting int
	waiters [maxWorkers]waiter
}

// A waiter is a call that waits.
type waiter struct {
	call  int
	n     int64
	since time.Duration
}

// join puts a call at the end of the line.
func (l *line) join(o op) {
	l.waiters[l.waiting] = waiter{o.call, o.n, l.now}
	l.waiting++
	l.fate[o.call] = waits
}

// leave removes a call from the line, and sets its fate.
func (l *line) leave(call int, f fate) waiter {
	at := 0
	for l.waiters[at].call != call {
		at++
	}
	w := l.waiters[at]
	copy(l.waiters[at:], l.waiters[at+1:])
	l.waiting--
	l.waiters[l.waiting] = waiter{}
	l.fate[call] = f
	return w
}

// cancel ends the context of a call.
func (l *line) cancel(o op) { l.ended |= 1 << o.call }

// rest advances the time. It reports whether all calls can be at rest: the
// waiting calls are in line, and none of them has to leave.
func (l *line) rest(o op, waiting int) bool {
	for _, w := range l.waiters[:l.waiting] {
		if l.ended.has(w.call) {
			return false
		}
	}
	l.now += time.Duration(o.n)
	return l.waiting == waiting
}

// wait is the first half of a Wait of a Cond or an Event. If the context has
// ended, the call fails without joining the line. If it ended during the call,
// the call may have checked it before.
func (l line) wait(o op) (states []line) {
	if !l.ended.has(o.call) || o.ended.has(o.call) {
		joined := l
		joined.join(o)
		states = append(states, joined)
	}
	if l.ended.has(o.call) {
		l.fate[o.call] = canceled
		states = append(states, l)
	}
	return states
}

// endWait is the second half. It reports whether the fate got is possible.
func (l *line) endWait(o op, got fate) bool {
	if l.fate[o.call] == waits && got == canceled && l.ended.has(o.call) {
		l.leave(o.call, canceled)
	}
	return l.end(o, got)
}

// notify wakes the first n waiters, passes over those whose context has ended,
// and returns the number of woken ones.
func (l *line) notify(o op, n int) (woken int) {
	for woken < n && l.waiting > 0 {
		if call := l.waiters[0].call; (l.ended | o.ended).has(call) {
			l.leave(call, canceled)
		} else {
			l.leave(call, success)
			woken++
		}
	}
	return woken
}

// end ends a call whose fate is decided, and reports whether that is got.
func (l *line) end(o op, got fate) bool {
	ok := l.fate[o.call] == got
	l.fate[o.call] = over
	return ok
}

// only returns s as the only possible state if ok, otherwise none.
func only(s any, ok bool) []any {
	if ok {
		return []any{s}
	}
	return nil
}

// String describes the line for the picture.
func (l *line) String() string {
	s := "line ["
	for _, w := range l.waiters[:l.waiting] {
		s += fmt.Sprintf(" %d", w.call)
	}
	return s + " ]"
}
