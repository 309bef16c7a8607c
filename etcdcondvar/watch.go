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
		stream := r.streams.next()
		r.mu.Unlock()
		closed, heard := r.watchOnce(s, all, stream, r.timeout(attempt))
		r.mu.Lock()
		r.view = nil
		r.streams.ended(closed, heard)
		if heard {
			attempt = 1
			continue
		}
		r.pauseLocked(backoff(attempt))
		attempt++
	}
}

// streams chooses the stream of each watch. A new one may take another
// connection, so that is the first choice.
//
// The client closes a stream when its last watch ends, but not if etcd has not
// acknowledged the watch, or not since the client has connected again. It sends
// no other watch on that stream until etcd has. A later watch that is
// acknowledged there, and ends, closes it. So streams that may be open are tried
// again: one for each watch that was of use, so that all are closed in the end,
// and more if etcd acknowledges nothing, as there must not be a stream for each
// try. After the second failure of a new stream in a row one of them is tried
// before the next new one, after the third two, and so on.
type streams struct {
	open   []int // they may be open
	newest int
	last   int // that of the last watch
	made   int // new ones since a watch was of use
	probes int // how many of the open ones are to be tried next
}

// next returns the stream of the next watch.
func (s *streams) next() int {
	if s.probes > 0 && len(s.open) > 0 {
		s.probes--
		s.last, s.open = s.open[0], s.open[1:]
		return s.last
	}
	s.made++
	s.probes = s.made - 1
	s.newest++
	s.last = s.newest
	return s.last
}

// ended says whether the client has closed the last stream, and whether the
// watch was of use.
func (s *streams) ended(closed, heard bool) {
	if !closed {
		s.open = append(s.open, s.last)
	}
	if heard {
		s.made, s.probes = 0, 1
	}
}

// watchOnce makes a watch and follows it until it breaks, or something else is
// to be watched. It reports whether its stream is closed, and whether the watch
// was of use. mu is not held.
//
// The watch begins at the revision that the store has, and the snapshot is read
// after that. A watch that begins at an older revision is served every 100 ms.
func (r *Resource) watchOnce(
	s *session, all bool, stream int, timeout time.Duration,
) (closed, heard bool) {
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
		return false, false
	case !ok || created.Err() != nil:
		r.watchFailed(cmp.Or(created.Err(), errNoAnswer))
		return false, false
	}
	if !r.readSnapshot(s, all, prefix) {
		return false, false
	}
	return r.follow(ctx, s, all, events)
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
// watched. For what it reports see watchOnce.
func (r *Resource) follow(
	ctx context.Context, s *session, all bool, events clientv3.WatchChan,
) (closed, heard bool) {
	ticker := time.NewTicker(r.ttl / 8)
	defer ticker.Stop()
	now := r.now()
	asked, lastEvent, lastWaiter := now, now, now
	apply := func(resp clientv3.WatchResponse, ok bool) bool {
		if !ok || resp.Err() != nil {
			r.watchFailed(resp.Err())
			return false
		}
		lastEvent = r.now()
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
		silent := all && now.since(lastEvent) > r.ttl/2
		r.mu.Unlock()
		// A silent watch was of use, too: the next one begins without a pause, as
		// its stream may take another connection.
		if tooMuch || tooLittle || useless || silent {
			return (tooMuch || tooLittle) && !silent, true
		}
		select {
		case resp, ok := <-events:
			if !apply(resp, ok) {
				return true, ok // the client has closed it
			}
		case <-ticker.C:
			select { // to ask for progress on a watch that has ended makes a stream
			case resp, ok := <-events:
				if !apply(resp, ok) {
					return true, ok // the client has closed it
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
