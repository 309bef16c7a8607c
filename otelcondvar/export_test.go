package otelcondvar

// Tracked returns how many resources are tracked.
func (o *Observer) Tracked() int { return o.resources.Len() }
