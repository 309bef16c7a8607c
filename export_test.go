package condvar

// Mu returns the internal mutex, for tests that hold it.
func (c *Cond) Mu() *mutex             { return &c.mu }
func (e *Event) Mu() *mutex            { return &e.mu }
func (r *CapacityResource) Mu() *mutex { return &r.line.mu }

// Cond returns the line of those who wait for e.
func (e *Event) Cond() *Cond { return &e.cond }

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
