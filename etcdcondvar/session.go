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
	lastPut       int64  // the revision of the last transaction that put something
	fence         []string
	numbers       [maxInLine]numbers // of tickets, by their place in a transaction

	permits map[*Permit]struct{} // the held ones
}

// numbers has the numbers of the tickets of one place in their transactions.
type numbers struct {
	made int64   // how many there are
	free []int64 // those that no ticket has
}

// number returns a number for a ticket. Its last placeBits are the place of the
// ticket in its transaction.
//
// Numbers are used again. A key that is deleted stays in the index of etcd until
// the next compaction, and a transaction that counts the tickets visits all of
// the index below p/. With a new key for each ticket, the 100,000th Acquire took
// 12 times as long as a put, instead of 1.3 times.
func (s *session) number(place int) int64 {
	n := &s.numbers[place]
	if last := len(n.free) - 1; last >= 0 {
		seq := n.free[last]
		n.free = n.free[:last]
		return seq
	}
	n.made++
	return n.made<<placeBits | int64(place)
}

// free makes the number of a ticket that does not exist any more, or was never
// put, available.
func (s *session) free(seq int64) {
	n := &s.numbers[seq&(1<<placeBits-1)]
	n.free = append(n.free, seq)
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
	r.deletes = slices.DeleteFunc(r.deletes, func(p *Permit) bool {
		over := p.session == s && !p.deleting
		if over {
			p.deletedLocked()
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
