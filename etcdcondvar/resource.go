package etcdcondvar

import (
	"cmp"
	"container/list"
	"context"
	"errors"
	"fmt"
	"math"
	"math/bits"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"example.com/condvar"
)

// A Resource is a weighted semaphore that the processes of a fleet share. All
// Resources of the same name, in the same etcd, are one.
//
// [New] makes one. It must not be copied. All methods may be called by several
// goroutines at the same time. A Resource has a lease from its first Acquire
// until it has been idle as long as the lease lasts. Fleet, Resize, a
// TryAcquire that finds no room, and calls for 0 permits make none. A Resource
// that is idle has no goroutine, no watch and no timer.
//
// In the terminology of the Go memory model, a Release in one process
// “synchronizes before” the return of a call in the same process that acquires
// what it put back.
type Resource struct {
	// These are constant once New has returned.
	kv       clientv3.KV
	lease    clientv3.Lease
	watching clientv3.Watcher
	base     context.Context // of requests; ends when the client is closed
	keys     keys
	name     string
	label    string
	ttl      time.Duration
	hooks    []condvar.Hooks
	now      func() instant
	closing  context.Context // ends at Close
	endCalls context.CancelFunc

	lastRoundTrip atomic.Int64 // how long the last answer of etcd took; see timeout

	// mu guards all that follows, and the Permits and sessions. It is not held
	// while etcd, a hook or a context of a caller is called.
	//
	// A Permit is made when its call begins, and is in one state at a time:
	//
	//	queued   in queue; not known to etcd
	//	sending  in the transaction that the sender has under way
	//	inLine   its ticket exists, and was not granted yet
	//	held     its ticket is granted, and it was not released
	//	ended    anything else: failed, released, or lost
	//
	// The sender moves Permits from queued to sending, and from there to inLine
	// or held, or back to queued. The watcher moves them from inLine to held. So
	// does the sender if the view is ahead of the answer. If a ticket was deleted
	// by hand, both move its Permit from inLine to queued, or from held to ended.
	// The end of a session makes inLine queued and held ended.
	//
	// What is not held yet ends when the context of the call ends, at Close, and
	// at a permanent error. It ends, too, if it asks for more than the
	// capacity, when the call is queued or in line.
	//
	// A Permit that ends while it is sending is ended, and left is set. It stays
	// in calls, and is counted in sending, until the sender has the answer.
	mu lock

	queue   list.List          // of *Permit: the queued, by arrival
	tries   int                // how many of the queued are of TryAcquire
	arrival int64              // of the last call
	calls   map[string]*Permit // by key: sending, inLine and held
	inLine  int                // how many are inLine
	sending int                // how many are sending
	held    int64              // permits that are held

	session *session
	streams streams // of the watches
	limit   limit   // the last seen; at first the capacity is that of New, and mod is 0
	view    *view   // of the watch; nil if there is none

	deletes []*Permit    // ended; their tickets are to be deleted
	revokes []revocation // of leases that are of no use

	limitMayBeOld bool // a queued call may want more than the limit, which may be old

	losses []*Permit // not reported to the hooks yet

	sender, janitor, keeper, watcher, teller worker

	closed  bool
	drained condvar.Cond // L is &mu; notified when a closed Resource may be at rest

	waiting                 int64
	waitingN                [2]uint64 // high and low word
	waitCount, waitCanceled int64
	waitDuration            time.Duration
}

// maxInLine is how many calls of one process stand in the line of the fleet,
// and how many tickets a transaction has at most. A server allows 128
// operations in a transaction by default. The tokens of a transaction differ,
// as the place of a ticket fits into placeBits.
const maxInLine = 100

const _ = uint(1<<placeBits - maxInLine) // does not compile if negative

// New returns the resource of that name. It makes no request: the first call
// does. New starts nothing, and a Resource that is not used any more need not
// be closed once its permits are released.
//
// capacity is what the fleet starts with. The first process stores it. Then the
// stored one counts, so that a restart does not undo a [Resource.Resize].
//
// Of client only KV, Lease and Watcher are used, and its context, which ends
// when it is closed. So a client with a namespace works. A role that may read
// and write the keys below condvar1/<name>/, with the name escaped as by
// [url.PathEscape], is enough. If the client is closed while the Resource is in
// use, all calls fail, and permits are lost at the next Release, or when their
// lease ends.
//
// New panics if client is nil, the name is empty, or capacity < 1. To start
// with a paused resource, call [Resource.Resize] with 0.
func New(client *clientv3.Client, name string, capacity int64, opts ...Option) *Resource {
	switch {
	case client == nil:
		panic("etcdcondvar: New with a nil client")
	case name == "":
		panic("etcdcondvar: New with an empty name")
	case capacity < 1:
		panic("etcdcondvar: New with a capacity below 1 (to start paused, call Resize with 0)")
	}
	r := &Resource{
		kv: client.KV, lease: client.Lease, watching: client.Watcher, base: client.Ctx(),
		keys: keysOf(name), name: name, ttl: 10 * time.Second, now: clock(),
		limit: limit{capacity: capacity}, calls: map[string]*Permit{},
	}
	r.closing, r.endCalls = context.WithCancel(context.Background())
	r.drained.L = &r.mu
	r.sender.run, r.janitor.run, r.keeper.run = r.sendLocked, r.cleanLocked, r.keepLocked
	r.watcher.run, r.teller.run = r.watchLocked, r.tellLocked
	if r.base == nil { // of a client that was not made by a function of its package
		r.base = context.Background()
	}
	for _, opt := range opts {
		opt(r)
	}
	if r.label == "" {
		host, _ := os.Hostname()
		r.label = host + ":" + strconv.Itoa(os.Getpid())
	}
	return r
}

// Acquire is [Resource.AcquireN] with n = 1.
func (r *Resource) Acquire(ctx context.Context) (*Permit, error) { return r.AcquireN(ctx, 1) }

// AcquireN takes n permits, all at once, and waits until that is possible. If
// it fails, the Permit is nil, and nothing is changed in the end. AcquireN
// checks in this order, at the call and whenever something changes:
//
//   - the error of ctx, as [condvar.Cond.Wait] returns it, if ctx ended before
//     the permits were taken. If etcd did not answer as it should, the error
//     matches the last one of etcd, too;
//   - [condvar.ErrClosed], if the Resource is closed;
//   - [condvar.ErrTooLarge], if n is more than the capacity, and that is not 0;
//   - a permanent error of etcd: a missing permission, a stored capacity that
//     is no number, a client that is closed.
//
// If ctx ends, AcquireN returns at once. What it has left at etcd is taken back
// in the background. A call that waits when the lease of its process is lost
// joins the line of the fleet again, at its end.
//
// AcquireN of 0 permits makes no request, but it fails if ctx is done or the
// Resource is closed. AcquireN panics if n < 0.
//
// If there is room it takes one round trip. The first call after the Resource
// was idle takes three, for a lease, an epoch and a ticket. A call that asks
// for more than the capacity last seen takes one more.
func (r *Resource) AcquireN(ctx context.Context, n int64) (*Permit, error) {
	p, err := r.begin(ctx, n)
	if err != nil || n == 0 {
		return p, err
	}
	r.enqueueLocked(p)
	err = r.awaitLocked(ctx, p) // unlocks
	if err != nil {
		return nil, err
	}
	r.runAcquired(ctx, p)
	return p, nil
}

// TryAcquire is [Resource.TryAcquireN] with n = 1.
func (r *Resource) TryAcquire(ctx context.Context) (*Permit, error) { return r.TryAcquireN(ctx, 1) }

// TryAcquireN takes n permits if it need not wait for others to release. If it
// would have to, or a call waits, of this process or in the line of the fleet,
// it returns [ErrFull], and has put no ticket. If another call came between its
// read and its write, it may leave a lease, which ends when it is idle.
// Otherwise it is like [Resource.AcquireN]: it waits for etcd, and returns the
// same errors. Other calls that come at the same time can make it try several
// times.
func (r *Resource) TryAcquireN(ctx context.Context, n int64) (*Permit, error) {
	for {
		p, err := r.begin(ctx, n)
		if err != nil || n == 0 {
			return p, err
		}
		if r.waiting > 0 {
			r.mu.Unlock()
			return nil, ErrFull
		}
		r.mu.Unlock()
		l, used, revision, err := r.count(ctx)
		switch {
		case err != nil:
			return nil, err
		case l.tooLarge(n):
			return nil, condvar.ErrTooLarge
		case !l.fits(n, used):
			return nil, ErrFull
		}
		r.mu.Lock()
		if r.closed || r.waiting > 0 {
			r.mu.Unlock()
			continue
		}
		if l.mod == 0 && r.session != nil { // cap was deleted: the next epoch puts it
			r.session.epoch = ""
		}
		p.try, p.tryRevision, p.tryLimit, p.tryUsed = true, revision, l.mod, used
		r.enqueueLocked(p)
		err = r.awaitLocked(ctx, p)
		if err == nil {
			r.runAcquired(ctx, p)
			return p, nil
		}
		if !errors.Is(err, errAgain) {
			return nil, err
		}
	}
}

// count reads the limit, the weights of all tickets, and the revision.
func (r *Resource) count(ctx context.Context) (l limit, used, revision int64, err error) {
	read := func(ctx context.Context) error {
		known := r.knownMod()
		reads := append(r.countOps(), clientv3.OpGet(r.keys.cap))
		resp, err := r.kv.Txn(ctx).Then(reads...).Commit()
		if err != nil {
			return err
		}
		used, revision = countOf(resp.Responses, nil), resp.Header.GetRevision()
		l, err = r.readLimitOf(resp.Responses[2].GetResponseRange().Kvs, known)
		return err
	}
	err = r.untilClosed(ctx, func(ctx context.Context) error { return r.retry(ctx, read) })
	return l, used, revision, err
}

// begin does what is common to all calls. If it returns a nil error and n is
// not 0, mu is held.
func (r *Resource) begin(ctx context.Context, n int64) (*Permit, error) {
	if n < 0 {
		panic("etcdcondvar: negative number of permits")
	}
	if ctx.Err() != nil {
		return nil, contextError(ctx)
	}
	p := &Permit{r: r, n: n, done: doneOf(ctx)}
	p.cond.L = &r.mu
	r.mu.Lock()
	if r.closed {
		r.mu.Unlock()
		return nil, condvar.ErrClosed
	}
	if n == 0 {
		p.state = held
		r.mu.Unlock()
		r.runAcquired(ctx, p)
	}
	return p, nil
}

func (r *Resource) enqueueLocked(p *Permit) {
	r.arrival++
	p.arrival = r.arrival
	p.element = r.queue.PushBack(p)
	r.queuedLocked(p)
	r.startLocked(&r.sender)
}

// queuedLocked counts p, which has just been put into the queue.
func (r *Resource) queuedLocked(p *Permit) {
	if p.try {
		r.tries++
	}
	r.limitMayBeOld = r.limitMayBeOld || r.limit.tooLarge(p.n)
}

// requeueLocked puts calls back into the queue.
func (r *Resource) requeueLocked(calls []*Permit) {
	for _, p := range calls {
		r.forgetLocked(p)
		p.state = queued
		e := r.queue.Front()
		for e != nil && e.Value.(*Permit).arrival < p.arrival {
			e = e.Next()
		}
		if e == nil {
			p.element = r.queue.PushBack(p)
		} else {
			p.element = r.queue.InsertBefore(p, e)
		}
		r.queuedLocked(p)
		r.markWaitingLocked(p)
	}
	if len(calls) > 0 {
		r.startLocked(&r.sender)
	}
}

// forgetLocked takes p out of everything that its state has put it into.
func (r *Resource) forgetLocked(p *Permit) {
	switch p.state {
	case queued:
		r.queue.Remove(p.element)
		p.element = nil
		if p.try {
			r.tries--
		}
	case sending:
		r.sending--
		delete(r.calls, p.key)
	case inLine:
		r.inLine--
		delete(r.calls, p.key)
	case held:
		r.held -= p.n
		delete(r.calls, p.key)
		delete(p.session.permits, p)
	}
}

// endLocked ends the call p with err.
func (r *Resource) endLocked(p *Permit, err error) {
	wasInLine, wasQueued := p.state == inLine, p.state == queued
	if p.state == sending { // the sender handles it when it has the answer
		p.left = true
	} else {
		r.forgetLocked(p)
	}
	p.state, p.err = ended, err
	r.waitDoneLocked(p, false)
	p.cond.Notify()
	if wasInLine {
		r.deleteLocked(p)
	}
	if wasInLine || wasQueued { // there is room, or less to wait for
		r.wakeLocked()
	}
}

// wakeLocked makes all workers check again.
func (r *Resource) wakeLocked() {
	for _, w := range []*worker{&r.sender, &r.janitor, &r.keeper, &r.watcher} {
		if w.runs {
			w.wakeLocked()
		}
	}
	if r.closed {
		r.drained.NotifyAll()
	}
}

// A doneContext ends when done is closed. It stands for the context of a caller
// while mu is held: Err of that one may lock mu, as the context of a Permit
// does.
type doneContext struct {
	context.Context // Background
	done            <-chan struct{}
}

func doneOf(ctx context.Context) doneContext {
	return doneContext{context.Background(), ctx.Done()}
}

func (c doneContext) Done() <-chan struct{} { return c.done }

func (c doneContext) Err() error {
	select {
	case <-c.done:
		return context.Canceled
	default:
		return nil
	}
}

// awaitLocked waits until the call p is decided. It unlocks mu.
func (r *Resource) awaitLocked(ctx context.Context, p *Permit) error {
	if len(r.hooks) > 0 && !p.try {
		err := p.cond.WaitFor(p.done, func() bool { return p.decided() || p.waiting })
		if err == nil && !p.decided() {
			r.mu.Unlock()
			p.later, err = r.waitWithHooks(ctx, p)
			return err
		}
		return r.decideLocked(ctx, p, err)
	}
	return r.decideLocked(ctx, p, p.cond.WaitFor(p.done, p.decided))
}

// decideLocked returns the error of the call p, which is decided if err is nil.
// Otherwise ctx has ended, and decideLocked ends the call. It unlocks mu.
func (r *Resource) decideLocked(ctx context.Context, p *Permit, err error) error {
	if err == nil {
		defer r.mu.Unlock()
		return p.err
	}
	// The context was first: otherwise the wait would have been notified.
	trouble := r.troubleLocked(p)
	r.waitDoneLocked(p, true)
	if p.state == held { // granted since
		if !p.since.IsZero() {
			r.waitCanceled++
		}
		p.releaseLocked()
	} else if p.state != ended {
		r.endLocked(p, err)
	}
	r.mu.Unlock()
	return withTrouble(contextError(ctx), trouble)
}

// troubleLocked returns the last error of etcd that keeps the call p waiting.
func (r *Resource) troubleLocked(p *Permit) error {
	if p.state != inLine && r.sender.trouble != nil {
		return r.sender.trouble
	}
	return cmp.Or(r.watcher.trouble, r.keeper.trouble)
}

// markWaitingLocked says that the call p waits.
func (r *Resource) markWaitingLocked(p *Permit) {
	if p.waiting || p.try {
		return
	}
	p.waiting, p.since = true, time.Now()
	r.waiting++
	r.addWaitingNLocked(p.n)
	if len(r.hooks) > 0 {
		p.cond.Notify()
	}
}

// waitDoneLocked says that the call p does not wait any longer.
func (r *Resource) waitDoneLocked(p *Permit, canceled bool) {
	if !p.waiting {
		return
	}
	p.waiting = false
	r.waiting--
	r.addWaitingNLocked(-p.n)
	r.waitCount++
	r.waitDuration += time.Since(p.since)
	if canceled {
		r.waitCanceled++
	}
}

// addWaitingNLocked adds n, which may be negative.
func (r *Resource) addWaitingNLocked(n int64) {
	var carry uint64
	r.waitingN[1], carry = bits.Add64(r.waitingN[1], uint64(n), 0)
	r.waitingN[0] += carry + uint64(n>>63)
}

// grantLocked gives p, which is inLine or sending, its permits. A session that
// is over by the clock ends instead.
func (r *Resource) grantLocked(p *Permit) {
	if !r.validLocked(p.session) {
		r.endSessionLocked(p.session)
		return
	}
	if p.state == inLine {
		r.inLine--
	} else {
		r.sending--
	}
	p.state = held
	r.held += p.n
	p.session.permits[p] = struct{}{}
	r.waitDoneLocked(p, false)
	p.cond.Notify()
}

// Do is [Resource.DoN] with n = 1.
func (r *Resource) Do(ctx context.Context, fn func(ctx context.Context) error) error {
	return r.DoN(ctx, 1, fn)
}

// DoN acquires n permits, calls fn, and returns what fn returns. It releases
// the permits when fn returns, panics or calls [runtime.Goexit]. If it cannot
// acquire them, it returns the error of [Resource.AcquireN] without calling fn.
// It panics if n < 0.
//
// The context of fn is that of [Permit.Context]: when the permits are lost, it
// ends with the cause [ErrLost]. fn must stop then, as others may get them. If
// they were lost before fn returned, the error matches ErrLost and what fn
// returned. fn should not acquire from the Resource: it may wait for itself.
func (r *Resource) DoN(ctx context.Context, n int64, fn func(ctx context.Context) error) error {
	p, err := r.AcquireN(ctx, n)
	if err != nil {
		return err
	}
	defer p.Release() // on panic and Goexit
	err = fn(p.Context(ctx))
	p.Release()
	if lost := p.Err(); lost != nil {
		if err == nil {
			return lost
		}
		return &lostError{err}
	}
	return err
}

// A lostError is the error of a function whose permits were lost.
type lostError struct{ err error }

func (e *lostError) Error() string   { return ErrLost.Error() + ": " + e.err.Error() }
func (e *lostError) Unwrap() []error { return []error{ErrLost, e.err} }

// Stats returns a snapshot of this process, without a request: what it holds,
// and its waiting calls. Capacity is that of the fleet as last seen, the one of
// New if it was not seen yet. Rejected is 0.
func (r *Resource) Stats() condvar.Stats {
	r.mu.Lock()
	defer r.mu.Unlock()
	s := condvar.Stats{
		Capacity: r.limit.capacity, InUse: r.held, Closed: r.closed,
		Waiting: r.waiting, WaitingN: math.MaxInt64,
		WaitCount: r.waitCount, WaitDuration: r.waitDuration, Canceled: r.waitCanceled,
	}
	if r.waitingN[0] == 0 && r.waitingN[1] <= math.MaxInt64 {
		s.WaitingN = int64(r.waitingN[1])
	}
	oldest := func(p *Permit) bool {
		if p.waiting {
			s.OldestWait = max(s.OldestWait, time.Since(p.since))
		}
		return p.waiting
	}
	if r.inLine+r.sending > 0 { // the others are held
		for _, p := range r.calls {
			oldest(p)
		}
	}
	for e := r.queue.Front(); e != nil && !oldest(e.Value.(*Permit)); { // a try does not wait
		e = e.Next()
	}
	return s
}

// String describes what Stats reports, in the form "exports: 3/5 in use, 2
// waiting", followed by ", closed" or, if the capacity is 0, ", paused".
func (r *Resource) String() string {
	s := r.Stats()
	var b strings.Builder
	fmt.Fprintf(&b, "%s: %d/%d in use, %d waiting", r.name, s.InUse, s.Capacity, s.Waiting)
	switch {
	case s.Closed:
		b.WriteString(", closed")
	case s.Capacity == 0:
		b.WriteString(", paused")
	}
	return b.String()
}

// Close closes the Resource for this process: waiting and later calls fail with
// [condvar.ErrClosed], Resize included; Fleet, Stats and String go on.
// Held permits still have to be released. With the last permit the lease
// is given back. Close does not block and always returns nil. It may be called
// again. Other processes are not concerned.
func (r *Resource) Close() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.closed = true
	r.endCalls()
	r.failLocked(condvar.ErrClosed)
	for _, p := range r.callsLocked(inLine, sending) {
		r.endLocked(p, condvar.ErrClosed)
	}
	r.wakeLocked()
	return nil
}

// Drain closes the Resource, waits until this process holds nothing, has given
// back its lease and has no goroutine left for the Resource, and returns nil.
// It is what a process calls before it exits. If ctx ends first, the error
// matches the one that [condvar.Cond.Wait] would return, and its text has the
// number of permits that are still held. If tickets or a lease could not be
// given back, it matches the last error of etcd, too. Do not call Drain while
// holding a permit: it would wait for itself.
func (r *Resource) Drain(ctx context.Context) error {
	_ = r.Close()
	done := doneOf(ctx)
	r.mu.Lock()
	err := r.drained.WaitFor(done, r.restsLocked)
	held, trouble := r.held, r.janitor.trouble
	r.mu.Unlock()
	if err != nil {
		return &drainError{held, withTrouble(contextError(ctx), trouble)}
	}
	return nil
}

// restsLocked reports whether nothing is left to do.
func (r *Resource) restsLocked() bool {
	return !r.sender.runs && !r.janitor.runs && !r.keeper.runs && !r.watcher.runs && !r.teller.runs
}

// busyLocked reports whether the session is in use.
func (r *Resource) busyLocked() bool {
	return r.queue.Len() > 0 || r.sending > 0 || r.inLine > 0 || r.held > 0 || len(r.deletes) > 0
}

// failLocked ends all calls that are queued.
func (r *Resource) failLocked(err error) {
	for r.queue.Len() > 0 {
		r.endLocked(r.queue.Front().Value.(*Permit), err)
	}
}

// callsLocked returns the calls that are in one of the states, by arrival: it
// does not matter in which order they end, but it should not be random.
func (r *Resource) callsLocked(states ...state) []*Permit {
	var calls []*Permit
	for _, p := range r.calls {
		if slices.Contains(states, p.state) {
			calls = append(calls, p)
		}
	}
	slices.SortFunc(calls, func(a, b *Permit) int { return cmp.Compare(a.arrival, b.arrival) })
	return calls
}
