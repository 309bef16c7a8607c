package etcdcondvar

import (
	"time"

	"example.com/condvar"
)

// An Option configures [New]. Of two options of a kind the last counts, except
// that all of WithHooks count.
type Option func(*Resource)

// WithTTL sets how long the lease of a process lasts if it is not renewed: 10 s
// if the option is not used. It is how long the permits of a process that was
// killed stay away. d is rounded up to seconds, and the server may choose more.
// More than 9e9 s, which is the most that etcd allows, counts as that. WithTTL
// panics if d <= 0.
func WithTTL(d time.Duration) Option {
	if d <= 0 {
		panic("etcdcondvar: WithTTL with a duration that is not positive")
	}
	const longest = 9e9 * time.Second
	seconds := (min(d, longest)-1)/time.Second + 1
	return func(r *Resource) { r.ttl = seconds * time.Second }
}

// WithLabel sets how [Resource.Fleet] calls this process. Without it, that is
// its host and process id, as in host:4711.
func WithLabel(s string) Option { return func(r *Resource) { r.label = s } }

// WithHooks makes the Resource call hooks for the calls of this process, as a
// [condvar.CapacityResource] does. A call counts as waiting if its first
// transaction does not grant it, or there is no room for it in one. TryAcquire
// does not wait. Resized reports the Resize calls of this process only. A permit
// that is lost is reported by Released when that is noticed, on a goroutine of
// the Resource: if that hook panics, so does the program. Later changes to
// *hooks have no effect. WithHooks(nil) is a no-op.
func WithHooks(hooks *condvar.Hooks) Option {
	if hooks == nil {
		return func(*Resource) {}
	}
	h := *hooks
	return func(r *Resource) { r.hooks = append(r.hooks, h) }
}
