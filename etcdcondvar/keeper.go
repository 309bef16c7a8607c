package etcdcondvar

import (
	"context"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
)

// keepLocked is the keeper: it renews the lease, and ends the session when it
// is over by the clock or has been idle.
func (r *Resource) keepLocked() {
	for attempt := 0; r.session != nil; {
		s := r.session
		now, busy := r.now(), r.busyLocked() // a fence is not needed if the lease ends
		if busy {
			s.lastUse = now
		}
		left, idle := r.remainingLocked(s), r.ttl-now.since(s.lastUse)
		if left <= 0 || idle <= 0 || r.closed && !busy {
			r.endSessionLocked(s)
			continue
		}
		due := s.ttl/5 - now.since(s.attempted)
		if attempt > 0 {
			due = backoff(attempt) - now.since(s.attempted)
		}
		if due > 0 {
			r.waitLocked(&r.keeper, min(due, left, idle))
			continue
		}
		if r.renewLocked(s, min(r.renewTimeout(attempt), left)) {
			attempt = 0
		} else {
			attempt++
		}
	}
}

// renewTimeout is the timeout of a renewal. The first is given more time than
// that of another request, as no call waits for it.
func (r *Resource) renewTimeout(attempt int) time.Duration { return r.timeout(6 + attempt) }

// renewLocked renews the lease of s, and reports whether it did.
func (r *Resource) renewLocked(s *session, timeout time.Duration) bool {
	sent := r.now()
	s.attempted = sent
	r.mu.Unlock()
	var resp *clientv3.LeaseKeepAliveResponse
	err := r.request(&r.keeper, timeout, func(ctx context.Context) (err error) {
		resp, err = r.lease.KeepAliveOnce(newOneAttempt(ctx), s.lease)
		return err
	})
	r.mu.Lock()
	switch {
	case err == nil && !s.ended && r.validLocked(s):
		s.renewed, s.ttl = sent, time.Duration(resp.TTL)*time.Second
		r.keeper.trouble = nil
		return true
	case err != nil && faultOf(err) == leaseGone:
		r.endSessionLocked(s)
	}
	return false
}

// A oneAttempt is the context of one renewal. KeepAliveOnce of the client tries
// again at once, and forever, while there is no connection. This context ends
// when the one that KeepAliveOnce has derived from it for an attempt has ended.
//
// Its values are those of the parent, but it has another Done: otherwise the
// context package would attach a derived context to what it finds among the
// values, and not call AfterFunc.
type oneAttempt struct {
	context.Context // the parent
	own             context.Context
	cancel          context.CancelFunc
}

// newOneAttempt returns a context that ends with parent, too, which must end.
func newOneAttempt(parent context.Context) *oneAttempt {
	own, cancel := context.WithCancel(parent)
	return &oneAttempt{parent, own, cancel}
}

func (c *oneAttempt) Done() <-chan struct{} { return c.own.Done() }
func (c *oneAttempt) Err() error            { return c.own.Err() }

// AfterFunc is called by the context package when a context is derived. stop is
// called when the derived context has ended.
func (c *oneAttempt) AfterFunc(f func()) (stop func() bool) {
	detach := context.AfterFunc(c.own, f)
	return func() bool {
		defer c.cancel()
		return detach()
	}
}
