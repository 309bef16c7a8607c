package condvar

// An Option configures [NewCapacityResource].
type Option func(*CapacityResource)

// FIFO makes a resource strictly first in, first out: a call that comes while
// somebody waits joins the line, and TryAcquire returns false then. That is
// fairer, but every permit that is released while somebody waits is idle until
// that goroutine runs. AcquireN and TryAcquireN of 0 permits are exempt.
func FIFO() Option {
	return func(r *CapacityResource) { r.fifo = true }
}
