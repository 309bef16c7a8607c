package condvar

// Mu returns the internal mutex, for tests that hold it.
func (c *Cond) Mu() *mutex             { return &c.mu }
func (e *Event) Mu() *mutex            { return &e.mu }
func (r *CapacityResource) Mu() *mutex { return &r.mu }

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
