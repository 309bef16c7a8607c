package etcdcondvar

import (
	"context"
	"slices"
	"strconv"
	"time"

	"go.etcd.io/etcd/api/v3/etcdserverpb"
	clientv3 "go.etcd.io/etcd/client/v3"

	"example.com/condvar"
)

// sendLocked is the sender: it opens a session for the calls in the queue, and
// puts their tickets.
func (r *Resource) sendLocked() {
	failedPuts := 0
	looked := false
	for attempt := 0; r.session != nil || r.queue.Len() > 0; {
		s := r.session
		var err error
		put, look := false, r.mustLookLocked(looked)
		looked = false
		switch {
		case look && (s == nil || s.fence == nil):
			looked = true
			err = r.lookAgainLocked(r.timeout(attempt))
		case s == nil:
			err = r.openLocked(r.timeout(attempt))
		case s.fence != nil:
			err = r.fenceLocked(s, r.timeout(attempt))
		case !r.mayPutLocked():
			if r.queue.Len() == 0 {
				r.sender.trouble = nil // it concerned calls that have returned
			}
			r.markQueueLocked()
			r.waitLocked(&r.sender, -1)
			continue
		case s.epoch == "":
			err = r.putEpochLocked(s, r.timeout(attempt))
		default:
			put = true
			if failedPuts%2 == 1 {
				r.skipTurnLocked()
				if s.ended || s.epoch == "" || !r.mayPutLocked() || r.mustLookLocked(true) {
					continue
				}
			}
			err = r.putLocked(s, r.putTimeout(attempt))
		}
		if r.closed { // the last step may have been all that kept the session
			r.keeper.wakeLocked()
		}
		if err == nil {
			if put {
				attempt, failedPuts, r.sender.trouble = 0, 0, nil
			}
			continue
		}
		if put {
			failedPuts++
		}
		r.markQueueLocked()
		r.refusedLocked(s, err)
		r.pauseLocked(backoff(attempt))
		attempt++
	}
}

// putTimeout is the timeout of a transaction with tickets. All are given much
// time, as an unknown outcome costs a fence and an epoch.
func (r *Resource) putTimeout(attempt int) time.Duration { return r.timeout(9 + attempt/3*3) }

// refusedLocked handles the error of a request of the sender, with s or to open
// a session.
func (r *Resource) refusedLocked(s *session, err error) {
	fault := faultOf(err)
	if fault.final() {
		r.failLocked(err)
	}
	// If a fence is refused, its tickets end with the lease.
	if s != nil && (fault == leaseGone || fault == closed || fault == permanent && s.fence != nil) {
		r.endSessionLocked(s)
	}
}

// skipTurnLocked makes a request whose answer does not matter. If a client with
// two endpoints takes turns, and one is silent, then the request after one that
// has succeeded, which is that for a new epoch, goes to the silent one each
// time.
func (r *Resource) skipTurnLocked() {
	r.mu.Unlock()
	defer r.mu.Lock()
	ctx, cancel := context.WithTimeout(r.base, time.Millisecond)
	defer cancel()
	_, _ = r.kv.Get(ctx, r.keys.cap)
}

// markQueueLocked marks all calls in the queue as waiting, but those of
// TryAcquire. The others that are marked already come before those that are not.
func (r *Resource) markQueueLocked() {
	for e := r.queue.Back(); e != nil; e = e.Prev() {
		p := e.Value.(*Permit)
		if p.waiting {
			return
		}
		r.markWaitingLocked(p)
	}
}

// mayPutLocked reports whether calls of the queue may get tickets now. A crowd
// waits until half of the places in the line of the fleet are free, so that a
// transaction has many tickets.
func (r *Resource) mayPutLocked() bool {
	n := r.queue.Len()
	return n > 0 && (r.inLine+n <= maxInLine || r.inLine <= maxInLine/2)
}

// mustLookLocked reports whether the limit is to be read next, since a call in
// the queue may want more than it. looked is whether that was done in the last
// step. Then calls that want at most the limit are put first, if there are any
// at the front: calls that want too much may come at any rate.
func (r *Resource) mustLookLocked(looked bool) bool {
	first := r.queue.Front()
	return first != nil && r.limitMayBeOld &&
		(!looked || !r.mayPutLocked() || r.limit.tooLarge(first.Value.(*Permit).n))
}

// openLocked makes a session. The first renewal of its lease is the grant.
func (r *Resource) openLocked(timeout time.Duration) error {
	r.mu.Unlock()
	sent := r.now()
	var lease *clientv3.LeaseGrantResponse
	err := r.request(&r.sender, timeout, func(ctx context.Context) (err error) {
		lease, err = r.lease.Grant(ctx, int64(r.ttl/time.Second))
		return err
	})
	r.mu.Lock()
	if err != nil {
		return err
	}
	r.session = &session{
		lease: lease.ID, ttl: time.Duration(lease.TTL) * time.Second,
		permits: map[*Permit]struct{}{},
		renewed: sent, attempted: sent, lastUse: r.now(),
	}
	r.startLocked(&r.keeper)
	r.startLocked(&r.watcher)
	return nil
}

// putEpochLocked makes an epoch, and cap if it does not exist.
func (r *Resource) putEpochLocked(s *session, timeout time.Duration) error {
	s.epochs++
	epoch := r.keys.ofLease(s.lease) + strconv.FormatInt(s.epochs, 10)
	known := r.limit.mod
	r.mu.Unlock()
	l := r.limitWithoutCap()
	var resp *clientv3.TxnResponse
	err := r.request(&r.sender, timeout, func(ctx context.Context) (err error) {
		put := clientv3.OpPut(epoch, r.label, clientv3.WithLease(s.lease))
		resp, err = r.kv.Txn(ctx).If(clientv3.Compare(clientv3.Version(r.keys.cap), ">", 0)).
			Then(put, clientv3.OpGet(r.keys.cap)).
			Else(put, clientv3.OpPut(r.keys.cap, l.String())).Commit()
		return err
	})
	r.mu.Lock()
	if err != nil {
		return err
	}
	revision := resp.Header.GetRevision()
	if resp.Succeeded {
		if l, err = parseLimit(resp.Responses[1].GetResponseRange().Kvs[0]); err != nil {
			s.epochs-- // no transaction has compared this epoch: it is put again
			return err
		}
	} else {
		l.mod = revision
	}
	r.noteLimitLocked(l, known)
	s.epoch, s.epochRevision, s.lastPut = epoch, revision, revision
	return nil
}

// countOps are reads of the weights of all tickets. Tickets of weight 1 need
// not be read to be counted.
func (r *Resource) countOps() []clientv3.Op {
	return []clientv3.Op{
		clientv3.OpGet(r.keys.ones, clientv3.WithPrefix(), clientv3.WithCountOnly()),
		clientv3.OpGet(r.keys.others, clientv3.WithPrefix()),
	}
}

// lookAgainLocked reads the limit, since the one that is known may be old, and
// refuses the calls of the queue that want more. A call that came after the
// read began is not among them: the answer may be older than the call.
func (r *Resource) lookAgainLocked(timeout time.Duration) error {
	r.limitMayBeOld = false
	last := r.arrival
	r.mu.Unlock()
	err := r.request(&r.sender, timeout, func(ctx context.Context) error {
		known := r.knownMod()
		resp, err := r.kv.Get(ctx, r.keys.cap)
		if err == nil {
			_, err = r.readLimitOf(resp.Kvs, known)
		}
		return err
	})
	r.mu.Lock()
	if err != nil {
		r.limitMayBeOld = true
		return err
	}
	for e := r.queue.Front(); e != nil; {
		p := e.Value.(*Permit)
		e = e.Next()
		if p.arrival <= last && r.limit.tooLarge(p.n) {
			r.endLocked(p, condvar.ErrTooLarge)
		}
	}
	return nil
}

// takeLocked takes calls from the queue that are to share a transaction, in
// their order. It stops at a call that wants more than the limit.
//
// Calls of TryAcquire share one with each other only. read is the revision of
// the newest of their reads, and 0 for other calls. The transaction compares
// that no ticket was put after it, so they share it if that read has found room
// for all of them.
func (r *Resource) takeLocked() (batch []*Permit, read int64) {
	var sum, used int64
	for r.queue.Len() > 0 && len(batch)+r.inLine < maxInLine {
		p := r.queue.Front().Value.(*Permit)
		sum = add(sum, p.n)
		if p.tryRevision > read {
			used = p.tryUsed
		}
		if len(batch) > 0 && (r.limit.tooLarge(p.n) || p.try != batch[0].try ||
			p.try && (p.tryLimit != batch[0].tryLimit || !r.limit.fits(sum, used))) {
			break
		}
		read = max(read, p.tryRevision)
		r.forgetLocked(p)
		p.state = sending
		r.sending++
		batch = append(batch, p)
	}
	return batch, read
}

// putLocked puts the tickets of calls from the queue in one transaction, which
// also counts all tickets. The new tickets are the youngest, so the count
// decides which of them are granted.
func (r *Resource) putLocked(s *session, timeout time.Duration) error {
	if first := r.queue.Front().Value.(*Permit); first.try && first.tryLimit != r.limit.mod {
		r.endLocked(first, errAgain)
		return nil
	}
	known := r.limit
	batch, read := r.takeLocked()
	if len(batch)+r.inLine == maxInLine {
		r.markQueueLocked() // there is no room for them now
	}
	compares := []clientv3.Cmp{
		clientv3.Compare(clientv3.ModRevision(r.keys.cap), "=", known.mod),
		clientv3.Compare(clientv3.Version(s.epoch), ">", 0),
	}
	if batch[0].try {
		created := clientv3.CreateRevision(r.keys.tickets)
		none := clientv3.Compare(created, "<", read+1)
		compares = append(compares, none.WithPrefix())
	}
	puts, fence := r.ticketsLocked(s, batch)
	for _, p := range batch { // a restored etcd may still have one of that name
		compares = append(compares, clientv3.Compare(clientv3.Version(p.key), "=", 0))
	}
	txn := append(puts, r.countOps()...)
	// A put has a higher revision than all that was seen before it.
	seen := s.lastPut
	if r.view != nil {
		seen = max(seen, r.view.revision)
	}
	orElse := []clientv3.Op{
		clientv3.OpGet(r.keys.cap),
		clientv3.OpGet(s.epoch, clientv3.WithCountOnly()),
	}
	if batch[0].try {
		for _, p := range batch {
			orElse = append(orElse, clientv3.OpGet(p.key, clientv3.WithCountOnly()))
		}
	}

	r.mu.Unlock()
	var put bool
	var revision, older int64
	var responses []*etcdserverpb.ResponseOp
	err := r.request(&r.sender, timeout, func(ctx context.Context) error {
		resp, err := r.kv.Txn(ctx).If(compares...).Then(txn...).Else(orElse...).Commit()
		if err != nil {
			return err
		}
		put, revision = resp.Succeeded, resp.Header.GetRevision()
		if put {
			older = countOf(resp.Responses[len(puts):], batch)
		} else {
			responses = resp.Responses
		}
		return nil
	})
	r.mu.Lock()

	switch {
	case err != nil && faultOf(err) == permanent: // before it was applied
		for _, p := range batch {
			if !p.left {
				r.endLocked(p, err)
			}
		}
		r.dropLeftLocked(batch) // all of them
	case err != nil:
		r.requeueLocked(r.dropLeftLocked(batch))
		s.epoch, s.fence = "", fence
	case put:
		if revision <= seen { // etcd was restored from a backup
			r.endSessionLocked(s)
		}
		s.lastPut = revision
		r.placeLocked(s, batch, known, revision, older)
	default:
		err = r.notPutLocked(s, batch, known, responses)
	}
	return err
}

// ticketsLocked returns the puts of the tickets of a batch, and what a fence
// deletes if their outcome is unknown.
func (r *Resource) ticketsLocked(s *session, batch []*Permit) (puts []clientv3.Op, fence []string) {
	now := time.Now()
	fence = []string{s.epoch}
	for i, p := range batch {
		seq := s.number(i)
		key, value := r.keys.ticket(p.n, s.lease, seq, now)
		p.session, p.seq, p.token, p.key = s, seq, 0, key
		r.calls[key] = p
		puts = append(puts, clientv3.OpPut(key, value, clientv3.WithLease(s.lease)))
		fence = append(fence, key)
	}
	s.lastUse = r.now()
	return puts, fence
}

// dropLeftLocked forgets the calls of the batch that have left, and returns the
// others.
func (r *Resource) dropLeftLocked(batch []*Permit) []*Permit {
	return slices.DeleteFunc(batch, func(p *Permit) bool {
		if p.left {
			r.sending--
			delete(r.calls, p.key)
		}
		return p.left
	})
}

// placeLocked gives the calls of a batch whose tickets exist since revision
// their places in the line, and their permits if they are granted. older is the
// sum of the weights of the tickets before them.
func (r *Resource) placeLocked(s *session, batch []*Permit, l limit, revision, older int64) {
	if s.ended { // and so are the tickets, at the latest with the lease
		r.requeueLocked(r.dropLeftLocked(batch))
		return
	}
	for i, p := range batch {
		p.token = tokenOf(revision, int64(i))
		granted := l.fits(p.n, older)
		older = add(older, p.n)
		switch {
		case p.left:
			r.sending--
			delete(r.calls, p.key)
			r.deleteLocked(p)
		case granted:
			r.grantLocked(p)
		default:
			r.sending--
			p.state = inLine
			r.inLine++
			r.markWaitingLocked(p)
			switch {
			case p.try: // etcd was restored from a backup since it has read
				r.endLocked(p, errAgain)
			case r.limit.tooLarge(p.n): // since the transaction
				r.endLocked(p, condvar.ErrTooLarge)
			default:
				r.checkViewLocked(p)
			}
		}
		if s.ended {
			r.requeueLocked(slices.DeleteFunc(r.dropLeftLocked(batch[i:]),
				func(p *Permit) bool { return p.state != sending }))
			return
		}
	}
	r.updateTriesLocked(l, revision, older)
	r.wakeLocked()
}

// updateTriesLocked gives queued calls of TryAcquire the count of a transaction
// that has put tickets at revision. Those that have read before would fail: no
// ticket may have been put after their read. Those that do not fit end.
func (r *Resource) updateTriesLocked(l limit, revision, used int64) {
	for e := r.queue.Front(); e != nil && r.tries > 0; {
		p := e.Value.(*Permit)
		e = e.Next()
		switch {
		case !p.try || p.tryRevision >= revision:
		case l.tooLarge(p.n):
			r.endLocked(p, condvar.ErrTooLarge)
		case !l.fits(p.n, used):
			r.endLocked(p, ErrFull)
		default:
			p.tryRevision, p.tryLimit, p.tryUsed = revision, l.mod, used
		}
	}
}

// notPutLocked handles a transaction that put nothing, as a comparison failed.
// known is the limit that it was compared with. responses have cap, the epoch
// and, if the calls are of TryAcquire, their tickets, as far as these exist.
//
// If another limit or, for a TryAcquire, another ticket is the reason, the names
// of the tickets are used again. Otherwise one may be in use, so the next
// transaction has others.
func (r *Resource) notPutLocked(
	s *session, batch []*Permit, known limit, responses []*etcdserverpb.ResponseOp,
) error {
	stored, epochExists := responses[0].GetResponseRange().Kvs, responses[1].GetResponseRange().Count > 0
	resized := len(stored) > 0 && stored[0].ModRevision != known.mod
	for i, p := range batch {
		if resized || p.try && responses[2+i].GetResponseRange().Count == 0 {
			s.free(p.seq)
		}
	}
	batch = r.dropLeftLocked(batch)
	r.requeueLocked(batch)
	for _, p := range batch {
		if p.try {
			r.endLocked(p, errAgain)
		}
	}
	if !epochExists { // it was deleted
		r.endSessionLocked(s)
	}
	if len(stored) == 0 { // cap was deleted: the next epoch puts it
		s.epoch = ""
		return nil
	}
	l, err := parseLimit(stored[0])
	if err != nil {
		return err
	}
	r.noteLimitLocked(l, known.mod)
	return nil
}

// countOf adds up the weights in the answers to countOps, except those of the
// tickets of the batch.
func countOf(responses []*etcdserverpb.ResponseOp, batch []*Permit) int64 {
	sum := responses[0].GetResponseRange().Count
	var mine map[string]struct{}
	for _, p := range batch {
		if p.n == 1 {
			sum--
			continue
		}
		if mine == nil {
			mine = map[string]struct{}{}
		}
		mine[p.key] = struct{}{}
	}
	for _, kv := range responses[1].GetResponseRange().Kvs {
		if _, ok := mine[string(kv.Key)]; !ok {
			sum = add(sum, weight(kv.Value))
		}
	}
	return sum
}

// fenceLocked deletes the epoch and the tickets of a transaction whose outcome
// is unknown. It puts nothing, as a server that has no space refuses puts. The
// names of these tickets are not used again, so a late fence deletes no other.
func (r *Resource) fenceLocked(s *session, timeout time.Duration) error {
	var ops []clientv3.Op
	for _, key := range s.fence {
		ops = append(ops, clientv3.OpDelete(key))
	}
	r.mu.Unlock()
	err := r.request(&r.sender, timeout, func(ctx context.Context) error {
		_, err := r.kv.Txn(ctx).Then(ops...).Commit()
		return err
	})
	r.mu.Lock()
	if err == nil {
		s.fence = nil
	}
	return err
}
