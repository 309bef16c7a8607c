package etcdcondvar

import "time"

// SetClock makes r read other clocks. r must not be in use yet.
func (r *Resource) SetClock(now func() (mono, wall time.Duration)) {
	r.now = func() instant {
		mono, wall := now()
		return instant{mono, wall}
	}
}

// KeysOf returns the prefix of the keys of a resource.
func KeysOf(name string) string { return keysOf(name).root }

// Margin returns how long before its lease a session ends.
func Margin(ttl time.Duration) time.Duration { return margin(ttl) }
