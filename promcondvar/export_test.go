package promcondvar

// Tracked returns how many resources the Collector has, including collected
// ones.
func (c *Collector) Tracked() int { return c.resources.Len() }
