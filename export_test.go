package condvar

import (
	"testing"
	"time"

	"go.uber.org/goleak"

	"example.com/condvar/internal/primitives"
)

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m)
}

// Mu returns the internal mutex, for tests that hold it.
func (c *Cond) Mu() *primitives.Mutex             { return &c.mu }
func (e *Event) Mu() *primitives.Mutex            { return &e.cond.mu }
func (r *CapacityResource) Mu() *primitives.Mutex { return &r.line.mu }

// Cond returns the Cond in which calls wait for e.
func (e *Event) Cond() *Cond { return &e.cond }

// WaitersMade returns how many waiters c has made, outside of bubbles.
func (c *Cond) WaitersMade() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.pool.made
}

// WakeHeadLater wakes the head of the line of r, as a release does, except for
// the token. It returns a function that sends the token.
func (r *CapacityResource) WakeHeadLater() (send func()) {
	r.lock()
	head := r.line.waiters.first
	head.state = notified
	r.unlock()
	return head.send
}

// JoinAndLeave makes calls join the line of r that have read the clock at the
// given times, in this order. It returns the times at which they joined, and
// the time after that. Then all of them leave.
func (r *CapacityResource) JoinAndLeave(times ...time.Duration) (arrivals []time.Duration, now time.Duration) {
	r.lock()
	defer r.unlock()
	for _, t := range times {
		r.now = t
		arrivals = append(arrivals, r.joinLocked(1, nil).arrivedAt)
	}
	now = r.clock()
	for r.line.waiters.len > 0 {
		r.removeLocked(r.line.waiters.first, errEnded)
	}
	return arrivals, now
}
