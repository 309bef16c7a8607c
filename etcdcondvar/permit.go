package etcdcondvar

import (
	"container/list"
	"context"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"example.com/condvar"
)

// A Permit stands for the permits that one call has acquired. It can be lost:
// see the package comment. Any goroutine may call its methods. A Permit must
// not be copied.
type Permit struct {
	r    *Resource
	n    int64
	done doneContext // of the call
	hold condvar.Hold
	cond condvar.Cond // its L is r.mu; the call, or the Release, waits here

	// r.mu guards what follows. See Resource.
	state   state
	arrival int64         // orders the queue
	element *list.Element // in r.queue
	left    bool          // the call has returned while its ticket was sending
	err     error         // why the call failed

	try         bool  // of TryAcquire; it has read what follows
	tryRevision int64 // when it has read
	tryLimit    int64 // the mod of the limit
	tryUsed     int64 // the sum of the weights of all tickets

	waiting bool // it is counted in r.waiting
	since   time.Time
	later   context.Context // for hooks, from WaitStart

	session *session // since it was sending
	seq     int64    // the number of its ticket
	key     string
	token   int64 // 0 until it is known

	deleting    bool // a transaction that deletes the ticket is under way
	tried       bool // such a transaction was answered, or has failed
	deleted     bool // the ticket is
	lost        error
	acquired    time.Time // when the Acquired hooks were called
	acquiredRan bool      // all of them have been called, and no Released hook
	contexts    []*permitContext
	prune       int // the length of contexts at which ended ones are removed
}

type state int

const (
	queued state = iota
	sending
	inLine
	held
	ended
)

// decided reports whether the call of p is over.
func (p *Permit) decided() bool { return p.state >= held }

// Err returns [ErrLost] if p was lost, and nil if not, by the clock, now. After
// Release it says whether p was lost before. It makes no request: it locks a
// mutex and reads the clock.
func (p *Permit) Err() error {
	r := p.r
	r.mu.Lock()
	defer r.mu.Unlock()
	p.checkLocked()
	return p.lost
}

// checkLocked ends the session of p if it is over by the clock.
func (p *Permit) checkLocked() {
	if p.state == held && p.session != nil && !p.r.validLocked(p.session) {
		p.r.endSessionLocked(p.session)
	}
}

// Release puts the permits back. Of all calls exactly one does that. The others
// do nothing, and may return before it has. Release of a nil *Permit does
// nothing.
//
// Release returns when etcd has committed it, so a process that is notified
// afterwards finds the permits free. If etcd does not answer for 1 s, or the
// lease ends before that, Release returns, and the Resource goes on in the
// background. Release never fails: if etcd does not answer, the permits come
// back with the lease at the latest. It panics only if a hook does.
func (p *Permit) Release() {
	if p == nil {
		return
	}
	r := p.r
	r.mu.Lock()
	p.checkLocked()
	if p.state != held {
		r.mu.Unlock()
		return
	}
	s := p.session
	p.releaseLocked()
	if s != nil {
		p.awaitDeleteLocked(min(time.Second, r.remainingLocked(s)))
	}
	r.mu.Unlock()
	r.runReleased(p)
}

// awaitDeleteLocked waits until the ticket is deleted, for d at most.
func (p *Permit) awaitDeleteLocked(d time.Duration) {
	ctx, cancel := context.WithTimeout(context.Background(), d)
	defer cancel()
	_ = p.cond.WaitFor(ctx, func() bool { return p.deleted })
}

// releaseLocked ends p, which is held.
func (p *Permit) releaseLocked() {
	r := p.r
	p.endContextsLocked(context.Canceled)
	if p.session == nil { // of no permits
		p.state = ended
		return
	}
	r.forgetLocked(p)
	p.state = ended
	r.deleteLocked(p)
}

// loseLocked ends p, which is held, with ErrLost.
func (p *Permit) loseLocked() {
	r := p.r
	r.forgetLocked(p)
	p.state, p.lost = ended, ErrLost
	p.endContextsLocked(ErrLost)
	if p.acquiredRan {
		r.losses = append(r.losses, p)
		r.startLocked(&r.teller)
	}
}

// Guard returns a comparison for a transaction in the same etcd. It holds as
// long as no other call can have the permits of p, so the transaction does
// nothing if they are lost:
//
//	client.Txn(ctx).If(p.Guard()).Then(clientv3.OpPut(key, value)).Commit()
//
// If the client of New has a namespace, so must the client of the transaction:
// the key in the comparison is without its prefix. After etcd was restored from
// a backup, the Guard of a permit that was acquired before may hold again. The
// Guard of a Permit for 0 permits never holds.
func (p *Permit) Guard() clientv3.Cmp {
	if p.n == 0 {
		return clientv3.Compare(clientv3.Version(p.r.keys.cap), "<", 0)
	}
	return clientv3.Compare(clientv3.CreateRevision(p.key), "=", p.token>>placeBits)
}

// Token returns a number that grows in the order in which permits are admitted.
// A store that refuses tokens below the highest one that it has seen is
// protected if the capacity is 1: with more, older permits are valid, too.
// After etcd was restored from a backup, tokens begin lower. The Token of a
// Permit for 0 permits is 0.
func (p *Permit) Token() int64 { return p.token }

// Context returns a context that ends with parent, when p is released, and when
// p is lost. Then its cause is [ErrLost]. Its Err reads the clock, as
// [Permit.Err] does, so the first use after the process was stopped sees the
// loss. Contexts that are derived from it see it a moment later.
//
// Context starts no goroutine if parent is a context of the standard library,
// or has a method AfterFunc. What it allocates is kept until parent ends or p
// is released.
func (p *Permit) Context(parent context.Context) context.Context {
	ctx, cancel := context.WithCancelCause(parent)
	c := &permitContext{ctx, p, cancel}
	r := p.r
	r.mu.Lock()
	p.checkLocked()
	end := p.state != held
	cause := p.lost
	if !end {
		if len(p.contexts) >= p.prune {
			p.pruneLocked()
		}
		p.contexts = append(p.contexts, c)
	}
	r.mu.Unlock()
	if end {
		cancel(cause)
	}
	return c
}

// pruneLocked forgets the contexts whose parent has ended.
func (p *Permit) pruneLocked() {
	kept := p.contexts[:0]
	for _, c := range p.contexts {
		select {
		case <-c.Done():
		default:
			kept = append(kept, c)
		}
	}
	clear(p.contexts[len(kept):])
	p.contexts, p.prune = kept, max(8, 2*len(kept))
}

func (p *Permit) endContextsLocked(cause error) {
	for _, c := range p.contexts {
		p.r.mu.after = append(p.r.mu.after, func() { c.cancel(cause) })
	}
	p.contexts = nil
}

// A permitContext is the context of a Permit. Contexts that the standard
// library derives from it attach to the context within it, which has the same
// Done.
type permitContext struct {
	context.Context
	p      *Permit
	cancel context.CancelCauseFunc
}

// Err reads the clock, as Permit.Err does.
func (c *permitContext) Err() error {
	if c.Context.Err() == nil && c.p.Err() != nil {
		// The goroutine that noticed the loss may not have canceled c yet.
		c.cancel(ErrLost)
	}
	return c.Context.Err()
}
