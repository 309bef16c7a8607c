//go:build go1.28 || condvar_clock

package condvar

import "time"

// A bubbleProbe finds out whether the caller runs in a testing/synctest bubble.
// There, as documented, the clock starts in the year 2000, and times have no
// monotonic reading. A machine whose clock is wrong only allocates more. See
// bubble_probe.go for a faster way.
type bubbleProbe struct{}

func (bubbleProbe) inBubbleLocked() bool {
	const in2026 = 1767225600
	now := time.Now()
	return now == now.Round(0) || now.Unix() < in2026 //nolint:staticcheck // compares the representation
}
