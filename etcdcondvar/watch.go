package etcdcondvar

import (
	"cmp"
	"context"
	"fmt"
	"strings"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc/metadata"
)

// watchLocked is the watcher. While calls of this process are in line it
// watches all keys, and for a lease after that. Otherwise, while permits are
// held, it watches the epoch, so that a revoked lease is noticed.
func (r *Resource) watchLocked() {
	// It begins with the short timeouts: the last watch may have ended because
	// an endpoint is silent.
	for attempt := 1; r.session != nil; {
		s, all := r.session, r.inLine > 0
		if !all && r.held == 0 {
			r.watcher.trouble = nil
			r.waitLocked(&r.watcher, -1)
			continue
		}
		stream := r.streams.next(all)
		r.mu.Unlock()
		acknowledged, heard := r.watchOnce(s, all, stream, r.timeout(attempt))
		r.mu.Lock()
		r.view = nil
		r.streams.ended(acknowledged)
		if heard {
			attempt = 1
			continue
		}
		r.pauseLocked(backoff(attempt))
		attempt++
	}
}

// The client does not close a stream on which a watch was given up before etcd
// acknowledged it, and sends no other watch there until that has happened. Such
// a stream is stuck: its connection is silent, or there is none. When it works
// again, a watch that is acknowledged there and ends closes it.
//
// streams chooses the stream of each watch. A new one may take another
// connection, so that is the first choice. But if etcd acknowledges nothing,
// there must not be a stream for each try. So after the second failure of a new
// stream in a row, one that is stuck is tried again before the next new one,
// after the third two, and so on. While no call waits, one that is stuck is
// tried again for each watch that was acknowledged, so that all are closed in
// the end. Until then one silent endpoint of two costs a stream or two for each
// change of what is watched.
type streams struct {
	stuck  []int
	newest int
	last   int // that of the last watch
	made   int // new ones since a watch was acknowledged
	probes int // how many of the stuck ones are to be tried next
}

// next returns the stream of the next watch. all is whether a call waits for it.
func (s *streams) next(all bool) int {
	if s.probes > 0 && len(s.stuck) > 0 && (s.made > 0 || !all) {
		s.probes--
		s.last, s.stuck = s.stuck[0], s.stuck[1:]
		return s.last
	}
	s.made++
	s.probes = s.made - 1
	s.newest++
	s.last = s.newest
	return s.last
}

// ended says whether the watch of the last stream was acknowledged.
func (s *streams) ended(acknowledged bool) {
	if acknowledged {
		s.made, s.probes = 0, 1
	} else {
		s.stuck = append(s.stuck, s.last)
	}
}

// watchOnce makes a watch and follows it until it breaks, or something else is
// to be watched. It reports whether etcd has acknowledged it, and whether it was
// of use. mu is not held.
//
// The watch begins at the revision that the store has, and the snapshot is read
// after that. A watch that begins at an older revision is served every 100 ms.
func (r *Resource) watchOnce(
	s *session, all bool, stream int, timeout time.Duration,
) (acknowledged, heard bool) {
	// Watches that share their metadata share a stream. Those of other Resources
	// do not, as the client creates one watch of a stream at a time.
	ctx, cancel := context.WithCancel(metadata.AppendToOutgoingContext(
		clientv3.WithRequireLeader(r.base), "condvar-stream", fmt.Sprintf("%p-%d", r, stream)))
	defer cancel()
	prefix := r.keys.root
	if !all {
		prefix = r.keys.ofLease(s.lease)
	}
	// Watch blocks until the server has acknowledged it.
	timer := time.AfterFunc(timeout, cancel)
	defer timer.Stop()
	events := r.watching.Watch(ctx, prefix, clientv3.WithPrefix(), clientv3.WithCreatedNotify())
	created, ok := <-events
	switch {
	case !timer.Stop():
		r.watchFailed(errNoAnswer)
		return ok, false
	case !ok || created.Err() != nil:
		r.watchFailed(cmp.Or(created.Err(), errNoAnswer))
		return ok, false
	}
	if !r.readSnapshot(s, all, prefix) {
		return true, false
	}
	return true, r.follow(ctx, s, all, events)
}

// watchFailed remembers why there is no watch: err is nil if it is not known. A
// permanent error ends the calls in line.
func (r *Resource) watchFailed(err error) {
	if r.base.Err() != nil {
		err = errClientClosed
	}
	if err == nil {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.watcher.failedLocked(err)
	if faultOf(err).final() {
		for _, p := range r.callsLocked(inLine) {
			r.endLocked(p, err)
		}
	}
}

// readSnapshot reads what is to be watched. It tries again on the same watch:
// if one of two endpoints is silent, requests alternate between them.
func (r *Resource) readSnapshot(s *session, all bool, prefix string) bool {
	for attempt := 1; attempt <= 7; attempt++ {
		var v *view
		var epochs map[string]string
		known := r.knownMod()
		err := r.request(&r.watcher, r.timeout(attempt), func(ctx context.Context) error {
			resp, err := r.kv.Get(ctx, prefix, clientv3.WithPrefix())
			if err != nil {
				return err
			}
			snap, err := r.keys.parseSnapshot(resp)
			v, epochs = newView(snap), snap.epochs
			return err
		})
		r.mu.Lock()
		over := s.ended
		if !over && err == nil {
			r.watcher.trouble = nil
			r.installLocked(s, all, v, epochs, known)
		}
		r.mu.Unlock()
		if over || err == nil {
			return !over
		}
		if r.watchFailed(err); faultOf(err).final() {
			return false
		}
		time.Sleep(backoff(attempt))
	}
	return false
}

// installLocked makes v the view, which is as of a snapshot that has epochs.
// For known see noteLimitLocked.
func (r *Resource) installLocked(
	s *session, all bool, v *view, epochs map[string]string, known int64,
) {
	if _, ok := epochs[s.epoch]; !ok && s.epoch != "" && s.epochRevision <= v.revision {
		r.endSessionLocked(s)
		return
	}
	if !all {
		return
	}
	if v.limit.mod == 0 { // cap was deleted
		v.limit = r.limit
	} else {
		r.noteLimitLocked(v.limit, known)
	}
	r.view = v
	for _, p := range r.calls {
		if p.session == s {
			r.checkViewLocked(p)
		}
	}
	r.advanceLocked()
}

// missingLocked handles a ticket that another client has deleted: its call
// joins the line again, or has lost its permits. The sender handles a call that
// is sending.
func (r *Resource) missingLocked(p *Permit) {
	switch p.state {
	case inLine:
		r.requeueLocked([]*Permit{p})
	case held:
		p.loseLocked()
		r.wakeLocked() // it may be the last one of a closed Resource
	}
}

// advanceLocked lets tickets pass, and grants the ones of this process.
func (r *Resource) advanceLocked() {
	v := r.view
	v.advance(func(t *ticket) {
		p := r.calls[t.key]
		if p != nil && p.state == inLine && p.token == t.token && r.view == v {
			r.grantLocked(p)
		}
	})
	if r.sender.runs && r.mayPutLocked() {
		r.sender.wakeLocked()
	}
}

// checkViewLocked looks for the ticket of p in the view. The view may be ahead
// of the answer to the transaction that has put the ticket. It may be behind,
// too, and then have an older ticket of that name. So may a restored etcd.
func (r *Resource) checkViewLocked(p *Permit) {
	if r.view == nil || r.view.revision < p.token>>placeBits {
		return
	}
	switch t := r.view.get(p.key); {
	case t == nil || t.token != p.token:
		r.missingLocked(p)
	case t.passed && p.state == inLine:
		r.grantLocked(p)
	}
}

// follow applies events until the watch breaks, or something else is to be
// watched.
func (r *Resource) follow(
	ctx context.Context, s *session, all bool, events clientv3.WatchChan,
) bool {
	ticker := time.NewTicker(r.ttl / 8)
	defer ticker.Stop()
	now := r.now()
	asked, heard, lastWaiter := now, now, now
	apply := func(resp clientv3.WatchResponse, ok bool) bool {
		if !ok || resp.Err() != nil {
			r.watchFailed(resp.Err())
			return false
		}
		heard = r.now()
		r.mu.Lock()
		defer r.mu.Unlock()
		r.applyLocked(s, resp)
		return true
	}
	for {
		r.mu.Lock()
		now = r.now()
		if r.inLine > 0 {
			lastWaiter = now
		}
		tooMuch := all && now.since(lastWaiter) >= r.ttl // no call has been in line
		tooLittle := !all && r.inLine > 0
		useless := r.session != s || !all && r.held == 0 && r.closed
		silent := all && now.since(heard) > r.ttl/2
		r.mu.Unlock()
		// A silent watch was of use, too: the next one begins without a pause, as
		// its stream may take another connection.
		if tooMuch || tooLittle || useless || silent {
			return true
		}
		select {
		case resp, ok := <-events:
			if !apply(resp, ok) {
				return ok
			}
		case <-ticker.C:
			select { // to ask for progress on a watch that has ended makes a stream
			case resp, ok := <-events:
				if !apply(resp, ok) {
					return ok
				}
			default:
			}
			if all && r.now().since(asked) >= r.ttl/4 {
				asked = r.now()
				limited, cancel := context.WithTimeout(ctx, r.ttl/8)
				_ = r.watching.RequestProgress(limited)
				cancel()
			}
		case <-r.watcher.wake:
		}
	}
}

// applyLocked applies the events of a response, in the order of their
// revisions. All events of a revision are in one response.
func (r *Resource) applyLocked(s *session, resp clientv3.WatchResponse) {
	v := r.view
	for i, event := range resp.Events {
		key, revision := string(event.Kv.Key), event.Kv.ModRevision
		deleted := event.Type == clientv3.EventTypeDelete
		if deleted && key == s.epoch && revision > s.epochRevision {
			r.endSessionLocked(s)
		}
		if v == nil || r.view != v {
			continue
		}
		if revision > v.revision {
			r.applyEventLocked(v, key, event, deleted)
		}
		last := i+1 == len(resp.Events) || resp.Events[i+1].Kv.ModRevision > revision
		if last && r.view == v {
			v.revision = max(v.revision, revision)
			r.advanceLocked()
		}
	}
}

func (r *Resource) applyEventLocked(v *view, key string, event *clientv3.Event, deleted bool) {
	switch {
	case key == r.keys.cap && !deleted:
		if l, err := parseLimit(event.Kv); err == nil {
			v.limit = l
			r.setLimitLocked(l)
		}
	case !strings.HasPrefix(key, r.keys.tickets):
	case deleted:
		v.remove(key)
		if p := r.calls[key]; p != nil {
			r.checkViewLocked(p)
		}
	case event.Kv.CreateRevision == event.Kv.ModRevision:
		v.append(r.keys.parseTicket(event.Kv))
	}
}
