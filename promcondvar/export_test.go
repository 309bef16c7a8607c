package promcondvar

// Tracked returns how many resources the Collector remembers, dead or alive.
func (c *Collector) Tracked() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.tracked)
}
