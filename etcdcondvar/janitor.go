package etcdcondvar

import (
	"context"
	"slices"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
)

// deleteLocked makes the janitor delete the ticket of p, which has ended.
func (r *Resource) deleteLocked(p *Permit) {
	if p.session.ended { // the lease is revoked
		p.deletedLocked()
		return
	}
	r.deletes = append(r.deletes, p)
	r.startLocked(&r.janitor)
}

// deletedLocked notifies the Release that waits until the ticket of p is
// deleted, if there is one.
func (p *Permit) deletedLocked() {
	p.deleted = true
	p.cond.Notify()
}

// A revocation is a lease that is to be revoked, not earlier than after since.
type revocation struct {
	lease clientv3.LeaseID
	since instant
	after time.Duration
}

// nextRevokeLocked returns the index of a lease that is to be revoked now, or
// -1 and how long there is none. That is negative if nothing is to be revoked.
func (r *Resource) nextRevokeLocked() (i int, wait time.Duration) {
	wait = -1
	for i, v := range r.revokes {
		left := v.after - r.now().since(v.since)
		if v.after == 0 || left <= 0 {
			return i, 0
		}
		if wait < 0 || left < wait {
			wait = left
		}
	}
	return -1, wait
}

// cleanLocked is the janitor: it deletes tickets that no caller knows and
// revokes leases. It repeats that until it is answered. Neither depends on
// puts.
func (r *Resource) cleanLocked() {
	for attempt := 0; r.session != nil || len(r.deletes)+len(r.revokes) > 0; {
		if i, wait := r.nextRevokeLocked(); i < 0 && len(r.deletes) == 0 {
			r.waitLocked(&r.janitor, wait)
			continue
		}
		err := r.deleteAllLocked(r.timeout(attempt))
		if e := r.revokeLocked(r.timeout(attempt)); e != nil {
			err = e
		}
		if err == nil {
			attempt, r.janitor.trouble = 0, nil
			continue
		}
		r.pauseLocked(backoff(attempt))
		attempt++
	}
}

// deleteOp deletes the ticket of p, but no other one of the same name: when a
// late request arrives, the name may be in use again.
func (p *Permit) deleteOp() clientv3.Op {
	return clientv3.OpTxn([]clientv3.Cmp{p.Guard()}, []clientv3.Op{clientv3.OpDelete(p.key)}, nil)
}

func (r *Resource) deleteAllLocked(timeout time.Duration) error {
	var ops []clientv3.Op
	batch := slices.Clone(r.deletes[:min(len(r.deletes), maxInLine)])
	if len(batch) == 0 {
		return nil
	}
	for _, p := range batch {
		p.deleting = true
		ops = append(ops, p.deleteOp())
	}
	r.mu.Unlock()
	var resp *clientv3.TxnResponse
	err := r.request(&r.janitor, timeout, func(ctx context.Context) (err error) {
		resp, err = r.kv.Txn(ctx).Then(ops...).Commit()
		return err
	})
	r.mu.Lock()
	if faultOf(err).final() && r.session != nil {
		r.endSessionLocked(r.session) // its tickets end with the lease
	}
	for i, p := range batch {
		first := !p.tried
		p.tried, p.deleting = true, false
		if err != nil && !p.session.ended {
			continue
		}
		// A ticket that is missing at the first try was deleted by another
		// client.
		if err == nil && first && !resp.Responses[i].GetResponseTxn().Succeeded {
			p.lost = ErrLost
		}
		p.session.free(p.seq)
		p.deletedLocked()
	}
	r.deletes = slices.DeleteFunc(r.deletes, func(p *Permit) bool { return p.deleted })
	if len(r.deletes) == 0 {
		r.wakeLocked()
	}
	return err
}

// revokeLocked revokes the first of the leases that are of no use.
func (r *Resource) revokeLocked(timeout time.Duration) error {
	i, _ := r.nextRevokeLocked()
	if i < 0 {
		return nil
	}
	v := r.revokes[i]
	r.revokes[i] = r.revokes[0] // others may be appended while mu is unlocked
	r.revokes[0] = v
	r.mu.Unlock()
	err := r.request(&r.janitor, timeout, func(ctx context.Context) error {
		_, err := r.lease.Revoke(ctx, v.lease)
		return err
	})
	r.mu.Lock()
	r.revokes = slices.Delete(r.revokes, 0, 1)
	if err != nil && faultOf(err) == transient {
		r.revokes = append(r.revokes, v)
		return err
	}
	return nil // a lease that cannot be revoked ends, as it is not renewed
}
