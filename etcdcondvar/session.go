package etcdcondvar

import (
	"slices"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
)

// A session is a lease and what is attached to it. mu of the Resource guards
// it.
//
// All tickets of the session are attached to the lease. So when the lease ends
// at the server they are deleted at one revision. renewed is when the last
// renewal that was acknowledged was sent, so the server cannot end the lease
// before renewed+ttl. The session ends a margin earlier for its holders.
// Nothing makes it valid again then.
//
// A transaction that puts tickets compares that the epoch exists. If the
// outcome of one is unknown, its tickets are in fence. Then a transaction that
// deletes the epoch and these tickets is repeated until it is answered:
// a late one finds its epoch deleted. Until then, and until there is a new
// epoch, no ticket is put, and epoch is "".
type session struct {
	lease     clientv3.LeaseID
	ttl       time.Duration // as granted
	renewed   instant
	attempted instant // when the last renewal was sent
	lastUse   instant
	ended     bool

	epoch         string // "" if none is known to exist
	epochRevision int64  // since when it exists
	epochs        int64  // how many there were
	batches       int64  // how many transactions with tickets there were
	fence         []string

	permits map[*Permit]struct{} // the held ones
}

// margin is how long before the server a session of that ttl ends.
func margin(ttl time.Duration) time.Duration { return max(ttl/10, 250*time.Millisecond) }

// remainingLocked returns how long s is valid, by the clock.
func (r *Resource) remainingLocked(s *session) time.Duration {
	return s.ttl - margin(s.ttl) - r.now().since(s.renewed)
}

func (r *Resource) validLocked(s *session) bool { return !s.ended && r.remainingLocked(s) > 0 }

// endSessionLocked ends s: its holders have lost their permits, its waiting
// calls line up again, and its lease is revoked.
func (r *Resource) endSessionLocked(s *session) {
	if s.ended {
		return
	}
	s.ended = true
	r.session, r.view = nil, nil
	lost := len(s.permits) > 0
	for p := range s.permits {
		p.loseLocked()
	}
	r.requeueLocked(r.callsLocked(inLine))
	r.deletes = slices.DeleteFunc(r.deletes, func(d *deletion) bool {
		over := d.session == s && !d.underWay
		if over {
			r.doneLocked(d)
		}
		return over
	})
	v := revocation{lease: s.lease}
	if lost { // holders have the margin to notice before others are admitted
		v.since, v.after = r.now(), margin(s.ttl)
	}
	r.revokes = append(r.revokes, v)
	r.startLocked(&r.janitor)
	r.wakeLocked()
}
