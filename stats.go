package condvar

import (
	"math"
	"math/bits"
	"strconv"
	"time"
)

// Stats is a snapshot of a [CapacityResource] at a single moment.
type Stats struct {
	Capacity   int64         // total permits
	InUse      int64         // permits held; may exceed Capacity
	Waiting    int64         // waiting calls
	WaitingN   int64         // permits they ask for, at most math.MaxInt64
	OldestWait time.Duration // how long the head of the line has waited
	Closed     bool

	WaitCount    int64         // finished waits, with permits or without
	WaitDuration time.Duration // total time spent in them
	Canceled     int64         // finished waits ended by their context
	Rejected     int64         // calls that failed with ErrOverloaded
}

// Stats returns a snapshot. It locks the mutex of the resource.
func (r *CapacityResource) Stats() Stats {
	r.check(0)
	r.lock()
	defer r.unlock()
	s := Stats{
		Capacity: r.capacity, InUse: r.held, Closed: r.closed,
		Waiting: int64(r.line.waiters.len), WaitingN: math.MaxInt64,
		WaitCount: r.waitCount, WaitDuration: r.waitDuration, Canceled: r.canceled, Rejected: r.rejected,
	}
	if r.waitingN[0] == 0 && r.waitingN[1] <= math.MaxInt64 {
		s.WaitingN = int64(r.waitingN[1])
	}
	if s.Waiting > 0 {
		s.OldestWait = max(0, r.nowLocked()-r.line.waiters.first.arrivedAt)
	}
	return s
}

// String returns a text such as "3/5 in use, 2 waiting", then ", paused" or ",
// closed" if so.
func (r *CapacityResource) String() string {
	s := r.Stats()
	text := strconv.FormatInt(s.InUse, 10) + "/" + strconv.FormatInt(s.Capacity, 10) +
		" in use, " + strconv.FormatInt(s.Waiting, 10) + " waiting"
	switch {
	case s.Closed:
		text += ", closed"
	case s.Capacity == 0:
		text += ", paused"
	}
	return text
}

// addWaitingNLocked adds n, which may be negative.
func (r *CapacityResource) addWaitingNLocked(n int64) {
	var carry uint64
	r.waitingN[1], carry = bits.Add64(r.waitingN[1], uint64(n), 0)
	r.waitingN[0] += carry + uint64(n>>63)
}
