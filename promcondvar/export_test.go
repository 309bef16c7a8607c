package promcondvar

// Tracked returns how many resources the Collector remembers, dead or alive.
func (c *Collector) Tracked() (n int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, rs := range c.names {
		n += len(rs.last)
	}
	return n
}
