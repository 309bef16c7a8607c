//go:build go1.28 || condvar_clock

// Package bubble finds out whether code runs in a testing/synctest bubble.
package bubble

import "time"

// A Probe finds out whether the caller runs in a testing/synctest bubble. There
// the clock starts in the year 2000, as documented, and times have no monotonic
// reading. If the clock of a machine is that wrong, waits allocate more.
// bubble_probe.go has a faster way.
type Probe struct{}

// Inside reports whether the caller runs in a bubble.
func (Probe) Inside() bool {
	const in2026 = 1767225600
	now := time.Now()
	return now == now.Round(0) || now.Unix() < in2026 //nolint:staticcheck // compares the representation
}
