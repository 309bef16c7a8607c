package condvar

import "sync"

// Mu returns the internal mutex, for tests that hold it.
func (c *Cond) Mu() *sync.Mutex             { return &c.mu }
func (e *Event) Mu() *sync.Mutex            { return &e.mu }
func (r *CapacityResource) Mu() *sync.Mutex { return &r.mu }

// Cond returns the line of those who wait for e.
func (e *Event) Cond() *Cond { return &e.cond }

// NotifyAllRequests wakes everybody in the line of r, as a late wake-up that is
// meant for an earlier use of a request wakes one.
func (r *CapacityResource) NotifyAllRequests() {
	r.lock()
	var line []*request
	for q := r.root.next; q != &r.root; q = q.next {
		line = append(line, q)
	}
	r.unlock()
	for _, q := range line {
		q.cond.Notify()
	}
}
