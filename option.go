package condvar

// An Option configures [NewCapacityResource].
type Option func(*CapacityResource)

// FIFO makes a resource strictly first in, first out. While somebody waits, a
// new call joins the line, and TryAcquire returns false. That is fairer, but a
// permit that is released then is idle until the waiter that gets it runs.
// AcquireN and TryAcquireN of 0 permits are exempt.
func FIFO() Option {
	return func(r *CapacityResource) { r.fifo = true }
}
