package etcdcondvar

import "time"

// An instant is a time by two clocks. The monotonic one may stand still while
// the machine is suspended, and the wall clock may be set.
type instant struct{ mono, wall time.Duration }

// since returns how much later i is than earlier: by the clock that says more,
// so that neither fault makes a lease seem younger than it is.
func (i instant) since(earlier instant) time.Duration {
	return max(i.mono-earlier.mono, i.wall-earlier.wall)
}

// clock returns a function that reads both clocks.
func clock() func() instant {
	start := time.Now()
	return func() instant {
		now := time.Now()
		return instant{now.Sub(start), time.Duration(now.UnixNano())}
	}
}
