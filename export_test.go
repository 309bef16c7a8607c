package condvar

import "time"

// Mu returns the internal mutex, for tests that hold it.
func (c *Cond) Mu() *mutex             { return &c.mu }
func (e *Event) Mu() *mutex            { return &e.cond.mu }
func (r *CapacityResource) Mu() *mutex { return &r.line.mu }

// Cond returns the line of those who wait for e.
func (e *Event) Cond() *Cond { return &e.cond }

// WakeHeadLater commits a wake-up to the head of the line of r, as a release
// does, and returns what sends it.
func (r *CapacityResource) WakeHeadLater() (send func()) {
	var wake wakeUps
	r.lock()
	r.line.notifyLocked(&r.head().waiter, false, &wake)
	r.unlock()
	return wake.send
}

// JoinAndLeave has calls join the line of r that came at the given times, in this
// order, and returns when they joined, by the books, and when that was over; then
// all of them leave.
func (r *CapacityResource) JoinAndLeave(came ...time.Duration) (since []time.Duration, now time.Duration) {
	r.lock()
	defer r.unlock()
	for _, t := range came {
		since = append(since, r.joinLocked(1, nil, t).since)
	}
	now = r.now()
	for r.waiting > 0 {
		q := r.head()
		r.line.unparkLocked(&q.waiter)
		r.removeLocked(q, 0)
	}
	return since, now
}

// WakeAll wakes everybody who waits for permits, for nothing.
func (r *CapacityResource) WakeAll() {
	r.lock()
	for w := r.line.root.next; w != &r.line.root; w = w.next {
		if w.parked {
			r.line.notifyLocked(w, false, &r.wake)
		}
	}
	r.unlock()
}
