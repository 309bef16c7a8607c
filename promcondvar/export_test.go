package promcondvar

// Tracked returns how many resources the Collector remembers, dead or alive.
func (c *Collector) Tracked() int { return c.resources.Len() }
