package etcdcondvar

import (
	"context"
	"slices"
	"strconv"
	"time"

	"go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"

	"example.com/condvar"
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

// request calls f with the context of a request of w, and remembers its error.
// Requests do not use the contexts of calls, so that a canceled call does not
// make an outcome unknown. mu is not held.
func (r *Resource) request(w *worker, timeout time.Duration, f func(ctx context.Context) error) error {
	ctx, cancel := context.WithTimeout(clientv3.WithRequireLeader(r.base), timeout)
	defer cancel()
	start := time.Now()
	err := f(ctx)
	if err == nil {
		r.lastRoundTrip.Store(int64(time.Since(start)))
		return nil
	}
	err = r.failureOf(ctx, err)
	r.mu.Lock()
	w.failedLocked(err)
	r.mu.Unlock()
	return err
}

// failureOf returns the error of a request with that context that returned err.
func (r *Resource) failureOf(ctx context.Context, err error) error {
	switch {
	case r.base.Err() != nil:
		return errClientClosed
	case ctx.Err() == context.DeadlineExceeded:
		return errNoAnswer
	}
	return err
}

// retry calls f until it succeeds, fails for good, or ctx ends. It is for
// requests of calls that may be repeated.
func (r *Resource) retry(ctx context.Context, f func(ctx context.Context) error) error {
	var last error
	for attempt := 0; ; attempt++ {
		if ctx.Err() != nil {
			return withTrouble(contextError(ctx), last)
		}
		limited, cancel := context.WithTimeout(clientv3.WithRequireLeader(ctx), r.timeout(attempt))
		start := time.Now()
		err := f(limited)
		if err != nil {
			err = r.failureOf(limited, err)
		}
		cancel()
		switch {
		case err == nil:
			r.lastRoundTrip.Store(int64(time.Since(start)))
			return nil
		case err == errClientClosed: //nolint:errorlint // never wrapped
			return err
		case ctx.Err() != nil:
		case faultOf(err) != transient:
			return err
		case err != errNoAnswer || last == nil: //nolint:errorlint // never wrapped
			last = err
		}
		timer := time.NewTimer(backoff(attempt))
		select {
		case <-ctx.Done():
		case <-timer.C:
		}
		timer.Stop()
	}
}

// untilClosed calls f with a context that ends with ctx and at Close.
func (r *Resource) untilClosed(ctx context.Context, f func(ctx context.Context) error) error {
	if ctx.Err() != nil {
		return contextError(ctx)
	}
	if r.closing.Err() != nil {
		return condvar.ErrClosed
	}
	inner, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	defer context.AfterFunc(r.closing, func() { cancel(errClosing) })()
	err := f(inner)
	if err != nil && context.Cause(inner) == errClosing { //nolint:errorlint // never wrapped
		return condvar.ErrClosed
	}
	return err
}

// backoff returns how long to wait before a request is repeated. See timeout.
func backoff(attempt int) time.Duration {
	if attempt%3 == 1 {
		return 0
	}
	return min(10*time.Millisecond<<min(attempt, 10), 250*time.Millisecond)
}

// longTimeout is the longest timeout. A longer TTL does not make it longer.
func (r *Resource) longTimeout() time.Duration { return min(r.ttl/2, 10*time.Second) }

// timeout returns how long to wait for the answer to a request. Every third is
// given more time, as etcd may be slow. The two after it are short, and one
// follows the other at once: a client with several endpoints takes turns, so if
// one of two is silent, one of the two requests gets an answer. With long ones
// alone, another worker may take each turn of the live endpoint.
// Short is twice as long as the last answer took, at least.
func (r *Resource) timeout(attempt int) time.Duration {
	most := r.longTimeout()
	short := min(max(most/16, 100*time.Millisecond, 2*time.Duration(r.lastRoundTrip.Load())), most)
	k := min(attempt/3, 10)
	switch {
	case attempt%3 != 0:
		return short
	case short < most>>k:
		return short << k
	}
	return most
}

// putTimeout is the timeout of a transaction with tickets. All are given much
// time, as an unknown outcome costs a fence and an epoch.
func (r *Resource) putTimeout(attempt int) time.Duration { return r.timeout(9 + attempt/3*3) }

// renewTimeout is the timeout of a renewal. The first is given more time than
// that of another request, as no call waits for it.
func (r *Resource) renewTimeout(attempt int) time.Duration { return r.timeout(6 + attempt) }

// sendLocked is the sender: it opens a session for the calls in the queue, and
// puts their tickets.
func (r *Resource) sendLocked() {
	failedPuts := 0
	for attempt := 0; r.session != nil || r.queue.Len() > 0; {
		s := r.session
		var err error
		put := false
		switch {
		case s == nil && r.limitMayBeOld:
			err = r.lookAgainLocked(r.timeout(attempt))
		case s == nil:
			err = r.openLocked(r.timeout(attempt))
		case s.fence != nil:
			err = r.fenceLocked(s, r.timeout(attempt))
		case r.limitMayBeOld && r.queue.Len() > 0:
			err = r.lookAgainLocked(r.timeout(attempt))
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
				if s.ended || s.epoch == "" || !r.mayPutLocked() || r.limitMayBeOld {
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

// markQueueLocked marks all calls in the queue as waiting. Calls that are
// marked already are at its front.
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
		lease: lease.ID, ttl: time.Duration(lease.TTL) * time.Second, permits: map[*Permit]struct{}{},
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
	s.epoch, s.epochRevision = epoch, revision
	return nil
}

// noteLimitLocked makes l, which is in an answer of etcd, the limit unless a
// later one is known. known is the mod of the limit that was known before the
// request. An answer is not older than that, unless etcd was restored from a
// backup. Then the limit that was known is of a history that is lost.
func (r *Resource) noteLimitLocked(l limit, known int64) {
	if l.mod < known && known == r.limit.mod {
		r.limit.mod = 0
	}
	r.setLimitLocked(l)
}

// setLimitLocked makes l the limit unless a later one is known.
func (r *Resource) setLimitLocked(l limit) {
	if l.mod <= r.limit.mod {
		return
	}
	changed := l.capacity != r.limit.capacity
	r.limit = l
	if !changed {
		return
	}
	for e := r.queue.Front(); e != nil && !r.limitMayBeOld; e = e.Next() {
		if l.tooLarge(e.Value.(*Permit).n) { // l may be older than that call
			r.limitMayBeOld = true
			r.startLocked(&r.sender)
		}
	}
	for _, p := range r.callsLocked(inLine) {
		if l.tooLarge(p.n) {
			r.endLocked(p, condvar.ErrTooLarge)
		}
	}
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

// takeLocked takes calls from the queue that are to share a transaction. A call
// of TryAcquire has its own transaction.
func (r *Resource) takeLocked() (batch []*Permit) {
	for r.queue.Len() > 0 && len(batch)+r.inLine < maxInLine {
		p := r.queue.Front().Value.(*Permit)
		if len(batch) > 0 && (p.try || batch[0].try) {
			break
		}
		r.forgetLocked(p)
		p.state = sending
		r.sending++
		batch = append(batch, p)
	}
	return batch
}

// putLocked puts the tickets of calls from the queue in one transaction, which
// also counts all tickets. The new tickets are the youngest, so the count
// decides which of them are granted.
func (r *Resource) putLocked(s *session, timeout time.Duration) error {
	if first := r.queue.Front().Value.(*Permit); first.try && first.tryLimit != r.limit.mod {
		r.endLocked(first, errAgain)
		return nil
	}
	batch, known := r.takeLocked(), r.limit
	r.markQueueLocked() // there is no room for them now
	compares := []clientv3.Cmp{
		clientv3.Compare(clientv3.ModRevision(r.keys.cap), "=", known.mod),
		clientv3.Compare(clientv3.Version(s.epoch), ">", 0),
	}
	if batch[0].try {
		none := clientv3.Compare(clientv3.CreateRevision(r.keys.tickets), "<", batch[0].tryRevision+1)
		none = none.WithPrefix()
		compares = append(compares, none)
	}
	puts, fence := r.ticketsLocked(s, batch)
	txn := append(puts, r.countOps()...)
	orElse := []clientv3.Op{
		clientv3.OpGet(r.keys.cap),
		clientv3.OpGet(s.epoch, clientv3.WithCountOnly()),
	}

	r.mu.Unlock()
	var put, epochExists bool
	var revision, older int64
	var stored []*mvccpb.KeyValue // has cap, if it exists
	err := r.request(&r.sender, timeout, func(ctx context.Context) error {
		resp, err := r.kv.Txn(ctx).If(compares...).Then(txn...).Else(orElse...).Commit()
		if err != nil {
			return err
		}
		put, revision = resp.Succeeded, resp.Header.GetRevision()
		if put {
			older = countOf(resp.Responses[len(puts):], batch)
		} else {
			stored = resp.Responses[0].GetResponseRange().Kvs
			epochExists = resp.Responses[1].GetResponseRange().Count > 0
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
		r.placeLocked(s, batch, known, revision, older)
	default:
		err = r.notPutLocked(s, batch, known, stored, epochExists)
	}
	return err
}

// ticketsLocked returns the puts of the tickets of a batch, and what a fence
// deletes if their outcome is unknown.
func (r *Resource) ticketsLocked(s *session, batch []*Permit) (puts []clientv3.Op, fence []string) {
	now := time.Now()
	fence = []string{s.epoch}
	for i, p := range batch {
		seq := s.batches<<placeBits + int64(i)
		key, value := r.keys.ticket(p.n, s.lease, seq, now)
		p.session, p.token, p.key = s, 0, key
		r.calls[key] = p
		puts = append(puts, clientv3.OpPut(key, value, clientv3.WithLease(s.lease)))
		fence = append(fence, key)
	}
	s.batches++
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
			r.deleteLocked(s, p.key, nil)
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
	if r.inLine > 0 {
		r.failTriesLocked()
	}
	r.wakeLocked()
}

// failTriesLocked makes queued calls of TryAcquire read again: other calls of
// this process wait, and a TryAcquire must not wait behind them.
func (r *Resource) failTriesLocked() {
	for e := r.queue.Front(); e != nil && r.tries > 0; {
		p := e.Value.(*Permit)
		e = e.Next()
		if p.try {
			r.endLocked(p, errAgain)
		}
	}
}

// notPutLocked handles a transaction that put nothing, as a comparison failed.
// known is the limit that it was compared with, and stored has cap, if it
// exists.
func (r *Resource) notPutLocked(s *session, batch []*Permit, known limit, stored []*mvccpb.KeyValue, epochExists bool) error {
	batch = r.dropLeftLocked(batch)
	r.requeueLocked(batch)
	if len(batch) > 0 && batch[0].try {
		r.endLocked(batch[0], errAgain)
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
// is unknown. It puts nothing, as a server that has no space refuses puts.
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

// A deletion is a ticket that is to be deleted.
type deletion struct {
	session  *session
	key      string
	waiter   *Permit // whose Release waits; or nil
	tried    bool
	underWay bool
}

// deleteLocked makes the janitor delete a ticket.
func (r *Resource) deleteLocked(s *session, key string, waiter *Permit) {
	d := &deletion{session: s, key: key, waiter: waiter}
	if s.ended { // the lease is revoked
		r.doneLocked(d)
		return
	}
	r.deletes = append(r.deletes, d)
	r.startLocked(&r.janitor)
}

// doneLocked notifies the Release that waits for d, if there is one.
func (r *Resource) doneLocked(d *deletion) {
	if d.waiter != nil {
		d.waiter.deleted = true
		d.waiter.cond.Notify()
	}
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

func (r *Resource) deleteAllLocked(timeout time.Duration) error {
	var ops []clientv3.Op
	batch := slices.Clone(r.deletes[:min(len(r.deletes), maxInLine)])
	if len(batch) == 0 {
		return nil
	}
	for _, d := range batch {
		d.underWay = true
		ops = append(ops, clientv3.OpDelete(d.key))
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
	for i, d := range batch {
		first := !d.tried
		d.tried, d.underWay = true, false
		if err != nil && !d.session.ended {
			continue
		}
		// A ticket that is missing at the first try was deleted by another
		// client.
		if err == nil && d.waiter != nil && first &&
			resp.Responses[i].GetResponseDeleteRange().Deleted == 0 {
			d.waiter.lost = ErrLost
		}
		r.doneLocked(d)
		d.key = ""
	}
	r.deletes = slices.DeleteFunc(r.deletes, func(d *deletion) bool { return d.key == "" })
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
