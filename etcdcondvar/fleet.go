package etcdcondvar

import (
	"context"
	"errors"
	"strings"
	"time"

	"go.etcd.io/etcd/api/v3/mvccpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"

	"example.com/condvar"
)

// A Fleet is what all processes hold and wait for, at one revision of etcd.
type Fleet struct {
	Capacity int64
	InUse    int64    // permits held; after a shrink it can exceed Capacity
	Waiting  int64    // tickets that wait
	WaitingN int64    // permits they ask for, at most math.MaxInt64
	Tickets  []Ticket // in the order of the line: held ones come first
}

// A Ticket is a place in the line of the fleet. Calls beyond the 100 of a
// process that stand in line have none yet.
type Ticket struct {
	Label string // of the process; see WithLabel; may be empty for a moment
	N     int64  // permits
	Held  bool
	Since time.Time // when the ticket was put, by the clock of its process
	Token int64     // see Permit.Token
}

// Fleet reads the state of the fleet: one consistent snapshot, from one read
// unless a shrink is to be finished first. To finish one it writes, so it fails
// then if the role may only read. It is for people and gauges.
// Decisions that are based on it are late. It works after Close, too. The error
// is that of ctx, as [Resource.AcquireN] returns it, or a permanent error of
// etcd.
//
// InUse is exact after a shrink, too, unless the history that is needed for it
// was compacted within the moment of the shrink. Then tickets that wait may
// count as held, never the reverse. So to stop a fleet, Resize it to 0, and ask
// Fleet until InUse is 0.
func (r *Resource) Fleet(ctx context.Context) (Fleet, error) {
	snap, err := r.readFleet(ctx)
	if err != nil {
		return Fleet{}, err
	}
	labels := map[string]string{}
	for epoch, label := range snap.epochs {
		lease, _, _ := strings.Cut(epoch[len(r.keys.epochs):], "-")
		labels[lease] = label
	}
	fleet := Fleet{Capacity: snap.limit.capacity}
	v := newView(snap)
	v.limit.granted = v.limit.counted
	v.advance(func(*ticket) {})
	for _, t := range snap.tickets {
		if t.passed {
			fleet.InUse = add(fleet.InUse, t.n)
		} else {
			fleet.Waiting++
			fleet.WaitingN = add(fleet.WaitingN, t.n)
		}
		fleet.Tickets = append(fleet.Tickets, Ticket{
			Label: labels[t.lease], N: t.n, Held: t.passed,
			Since: time.UnixMilli(t.since), Token: t.token,
		})
	}
	return fleet, nil
}

// readFleet reads a snapshot in which no shrink is unfinished.
func (r *Resource) readFleet(ctx context.Context) (snap snapshot, err error) {
	for {
		err = r.retry(ctx, func(ctx context.Context) error {
			known := r.knownMod()
			resp, err := r.kv.Get(ctx, r.keys.root, clientv3.WithPrefix())
			if err == nil {
				snap, err = r.keys.parseSnapshot(resp)
			}
			if err == nil && snap.limit.mod > 0 {
				r.noteLimit(snap.limit, known)
			}
			return err
		})
		if err != nil {
			return snap, err
		}
		if snap.limit.mod == 0 {
			snap.limit = r.limitWithoutCap()
		}
		if snap.limit.from == 0 {
			return snap, nil
		}
		if err = r.finishShrink(ctx, snap.limit); err != nil {
			return snap, err
		}
	}
}

// Resize sets the capacity of the fleet, and returns when that is committed.
// Every grant later in the order of etcd obeys it. Shrinking revokes nothing:
// it stops admissions until usage fits again. Waiting calls that ask for more
// than the new capacity return [condvar.ErrTooLarge]. A capacity of 0 pauses
// the fleet: all calls wait.
//
// Resize returns the first of these: the error of ctx, as [Resource.AcquireN]
// does; [condvar.ErrClosed]; a permanent error of etcd. If ctx ends, or the
// Resource is closed, while a request is under way, the capacity may have been
// set, or may still be. Resize panics if capacity < 0. It takes two round
// trips, and two more to shrink.
func (r *Resource) Resize(ctx context.Context, capacity int64) error {
	if capacity < 0 {
		panic("etcdcondvar: negative capacity")
	}
	return r.untilClosed(ctx, func(ctx context.Context) error { return r.resize(ctx, capacity) })
}

func (r *Resource) resize(ctx context.Context, capacity int64) error {
	for {
		old, err := r.readLimit(ctx)
		if err == nil && old.from > 0 {
			if err = r.finishShrink(ctx, old); err == nil {
				continue
			}
		}
		if err != nil {
			return err
		}
		set := limit{capacity: capacity, granted: old.granted, counted: old.counted}
		if capacity < old.capacity {
			set.from = old.capacity
		}
		ok := false
		err = r.retry(ctx, func(ctx context.Context) (err error) {
			set.mod, ok, err = r.replaceLimit(ctx, old, set)
			return err
		})
		if err != nil {
			return err
		}
		if !ok {
			continue
		}
		r.noteLimit(set, old.mod)
		if set.from > 0 { // if this fails, the next Fleet or Resize finishes the shrink
			limited, cancel := context.WithTimeout(ctx, r.longTimeout())
			_ = r.finishShrink(limited, set)
			cancel()
		}
		each(r.hooks, func(h *condvar.Hooks) {
			if h.Resized != nil {
				h.Resized(old.capacity, capacity)
			}
		})
		return nil
	}
}

// readLimit reads the limit. mod is 0 if it is not stored yet.
func (r *Resource) readLimit(ctx context.Context) (l limit, err error) {
	err = r.retry(ctx, func(ctx context.Context) error {
		known := r.knownMod()
		resp, err := r.kv.Get(ctx, r.keys.cap)
		if err != nil {
			return err
		}
		l, err = r.readLimitOf(resp.Kvs, known)
		return err
	})
	return l, err
}

// readLimitOf returns the limit of an answer: kvs has it, if it is stored. See
// noteLimitLocked.
func (r *Resource) readLimitOf(kvs []*mvccpb.KeyValue, known int64) (l limit, err error) {
	if len(kvs) == 0 {
		return r.limitWithoutCap(), nil
	}
	if l, err = parseLimit(kvs[0]); err == nil {
		r.noteLimit(l, known)
	}
	return l, err
}

// replaceLimit stores set if old is still there. If not it reports whether set
// is there, as it is after a request whose answer was lost.
func (r *Resource) replaceLimit(
	ctx context.Context, old, set limit,
) (mod int64, ok bool, err error) {
	resp, err := r.kv.Txn(ctx).If(clientv3.Compare(clientv3.ModRevision(r.keys.cap), "=", old.mod)).
		Then(clientv3.OpPut(r.keys.cap, set.String())).Else(clientv3.OpGet(r.keys.cap)).Commit()
	if err != nil {
		return 0, false, err
	}
	if resp.Succeeded {
		return resp.Header.GetRevision(), true, nil
	}
	for _, kv := range resp.Responses[0].GetResponseRange().Kvs {
		if now, err := parseLimit(kv); err == nil && string(kv.Value) == set.String() {
			return now.mod, true, nil
		}
	}
	return 0, false, nil
}

// finishShrink stores what was granted just before the shrink that made l.
func (r *Resource) finishShrink(ctx context.Context, l limit) error {
	done := limit{capacity: l.capacity, granted: l.granted, counted: l.counted}
	before, compacted := snapshot{}, false
	err := r.retry(ctx, func(ctx context.Context) error {
		opts := []clientv3.OpOption{clientv3.WithPrefix()}
		if !compacted {
			opts = append(opts, clientv3.WithRev(l.mod-1))
		}
		resp, err := r.kv.Get(ctx, r.keys.tickets, opts...)
		if errors.Is(err, rpctypes.ErrCompacted) {
			compacted = true
			resp, err = r.kv.Get(ctx, r.keys.tickets, clientv3.WithPrefix())
		}
		if err == nil {
			before, err = r.keys.parseSnapshot(resp)
		}
		return err
	})
	if err != nil {
		return err
	}
	v := newView(before)
	v.limit = limit{capacity: l.from, granted: l.granted}
	if compacted {
		v.limit.granted = l.counted
	}
	v.advance(func(t *ticket) {
		done.counted = max(done.counted, t.token)
		if !compacted {
			done.granted = max(done.granted, t.token)
		}
	})
	return r.retry(ctx, func(ctx context.Context) error {
		_, _, err := r.replaceLimit(ctx, l, done)
		return err
	})
}
