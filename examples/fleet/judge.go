//go:build unix

package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"example.com/condvar/etcdcondvar"
)

// A history records the changes of all keys of a resource, with a watch that
// starts before the first key exists.
type history struct {
	client *clientv3.Client
	prefix string
	stop   context.CancelFunc

	mu      sync.Mutex
	changes []change
	gone    map[int64]bool // tokens of tickets that were deleted
	ended   bool
}

// A change is an event, and when the watch received it.
type change struct {
	event *clientv3.Event
	at    time.Time
}

// startHistory starts a watch, and returns when the server has confirmed it.
func startHistory(ctx context.Context, client *clientv3.Client, name string) (*history, error) {
	h := &history{client: client, prefix: "condvar1/" + name + "/", gone: map[int64]bool{}}
	limited, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	if _, err := client.Get(limited, h.prefix); err != nil {
		return nil, err
	}
	ctx, h.stop = context.WithCancel(clientv3.WithRequireLeader(ctx))
	timer := time.AfterFunc(requestTimeout, h.stop) // Watch blocks until it is answered
	events := client.Watch(ctx, h.prefix, clientv3.WithPrefix(), clientv3.WithCreatedNotify())
	<-events
	if !timer.Stop() {
		return nil, errors.New("no answer to a watch")
	}
	go func() {
		for resp := range events {
			h.add(resp.Events)
		}
		h.mu.Lock()
		h.ended = true
		h.mu.Unlock()
	}()
	return h, nil
}

func (h *history) add(events []*clientv3.Event) {
	h.mu.Lock()
	defer h.mu.Unlock()
	tokens := map[string]int64{}
	for _, e := range events {
		h.changes = append(h.changes, change{e, time.Now()})
		if e.Type == clientv3.EventTypeDelete {
			tokens[string(e.Kv.Key)] = 0
		}
	}
	if len(tokens) == 0 {
		return
	}
	for _, c := range h.changes {
		if _, ok := tokens[string(c.event.Kv.Key)]; ok && c.event.IsCreate() {
			h.gone[tokenOf(c.event)] = true
		}
	}
}

// isGone reports whether the ticket with that token was deleted.
func (h *history) isGone(token int64) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.gone[token]
}

// all returns all changes before the call.
func (h *history) all(ctx context.Context) ([]change, error) {
	end, err := h.client.Put(ctx, h.prefix+"end", "")
	if err != nil {
		return nil, err
	}
	for {
		h.mu.Lock()
		changes, ended := slices.Clone(h.changes), h.ended
		h.mu.Unlock()
		if n := len(changes); n > 0 && changes[n-1].event.Kv.ModRevision == end.Header.Revision {
			return changes[:n-1], nil
		}
		if ended {
			return nil, errors.New("the watch has ended")
		}
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-time.After(5 * time.Millisecond):
		}
	}
}

// tokenOf returns the token of a ticket: its create revision × 128 + its index
// in the transaction that created it.
func tokenOf(e *clientv3.Event) int64 {
	key := string(e.Kv.Key)
	seq, _ := strconv.ParseInt(key[strings.LastIndexByte(key, '-')+1:], 16, 64)
	return e.Kv.CreateRevision*128 + seq%128
}

// A ticket is a ticket of a call in the history.
type ticket struct {
	token    int64
	granted  int64     // the revision; 0 if it was not granted
	capacity int64     // at that revision
	removed  int64     // the revision; 0 if it exists
	deleted  time.Time // when the watch received that; zero if it exists
}

// A belief is the time from the first to the last check by which a process held
// a permit.
type belief struct {
	row      int
	token    int64
	from, to time.Time
	ticket   *ticket
}

// A mark is an event to show in the picture.
type mark struct {
	at   time.Duration
	text string
}

// A limit is the capacity from a time on.
type limit struct {
	at       time.Duration
	capacity int64
}

// A record has the events of a run.
type record struct {
	workers   int
	capacity  int64
	start     time.Time
	end       time.Duration
	processes []*process
	stopped   *process
	marks     []mark
	limits    []limit
	tickets   map[int64]*ticket
	beliefs   []*belief
	fleet     etcdcondvar.Fleet // at the end
}

// replay computes when each ticket was granted, by the rule of the contract,
// without package etcdcondvar: a ticket is granted as soon as it is among the
// first capacity tickets in line.
func (rec *record) replay(changes []change) {
	var capacity int64
	var line []*ticket // the live ones, oldest first
	rec.tickets = map[int64]*ticket{}
	byKey := map[string]*ticket{}
	for i, c := range changes {
		key := string(c.event.Kv.Key)
		switch path := strings.Split(key, "/"); {
		case path[len(path)-1] == "cap":
			text, _, _ := strings.Cut(string(c.event.Kv.Value), " ")
			now, _ := strconv.ParseInt(text, 10, 64)
			if now != capacity {
				capacity = now
				rec.limits = append(rec.limits, limit{c.at.Sub(rec.start), capacity})
			}
		case path[2] != "p":
		case c.event.Type == clientv3.EventTypeDelete:
			t := byKey[key]
			t.removed, t.deleted = c.event.Kv.ModRevision, c.at
			line = slices.DeleteFunc(line, func(other *ticket) bool { return other == t })
		default:
			t := &ticket{token: tokenOf(c.event)}
			byKey[key], rec.tickets[t.token] = t, t
			line = append(line, t)
		}
		revision := c.event.Kv.ModRevision
		if i+1 < len(changes) && changes[i+1].event.Kv.ModRevision == revision {
			continue
		}
		slices.SortStableFunc(line, func(a, b *ticket) int { return cmp.Compare(a.token, b.token) })
		for j, t := range line {
			if t.granted == 0 && int64(j) < capacity {
				t.granted, t.capacity = revision, capacity
			}
		}
	}
}

// findBeliefs finds the beliefs of all processes.
func (rec *record) findBeliefs() {
	var all []*belief
	for _, p := range rec.processes {
		byToken := map[int64]*belief{}
		for _, e := range p.entries {
			if e.kind != looks {
				continue
			}
			b := byToken[e.token]
			if b == nil {
				b = &belief{row: p.row, token: e.token, from: e.at, ticket: rec.tickets[e.token]}
				byToken[e.token] = b
				all = append(all, b)
			}
			b.to = e.at
		}
	}
	slices.SortFunc(all, func(a, b *belief) int { return a.from.Compare(b.from) })
	rec.beliefs = all
}

// An interval is a part of the run.
type interval struct{ from, to time.Duration }

// A promise is kept if broken is "". Otherwise broken describes the violation.
type promise struct{ text, broken string }

// A verdict has the results of all promises.
type verdict struct {
	title    string
	promises []promise
	over     []interval // when too many permits were held
}

func (v *verdict) kept() bool {
	return !slices.ContainsFunc(v.promises, func(p promise) bool { return p.broken != "" })
}

// check adds a promise. If ok is false, otherwise describes the violation.
func (v *verdict) check(ok bool, text, otherwise string) {
	if ok {
		otherwise = ""
	}
	v.promises = append(v.promises, promise{text, otherwise})
}

// judge compares the beliefs of the workers with the history.
func (rec *record) judge() verdict {
	var v verdict
	beliefs := rec.beliefs
	most := v.findOver(rec.start, beliefs)
	unknown, late := 0, 0
	var latest time.Duration
	for _, b := range beliefs {
		switch t := b.ticket; {
		case t == nil || t.granted == 0:
			unknown++
		case !t.deleted.IsZero() && b.to.After(t.deleted):
			late++
			latest = max(latest, b.to.Sub(t.deleted))
		}
	}
	v.title = fmt.Sprintf("By the history of etcd, with %s acquired:", count(len(beliefs), "permit"))
	broken := fmt.Sprintf("in %s", count(len(v.over), "interval"))
	if unknown > 0 {
		broken = fmt.Sprintf("%s was never granted", count(unknown, "permit"))
	}
	v.check(len(v.over) == 0 && unknown == 0, fmt.Sprintf("never too many: at most %d at a time", most), broken)
	v.check(late == 0, "no permit was used after it was deleted",
		fmt.Sprintf("%d were, for up to %v", late, latest.Round(time.Millisecond)))
	v.check(rec.stoppedLearned(), "the stopped worker noticed its loss at once", "it did not")
	overdue := 0
	for _, p := range rec.processes {
		if p.overdue || p.killedAt.IsZero() && p.status != nil {
			overdue++
		}
	}
	v.check(overdue == 0, "the other workers drained", fmt.Sprintf("%d did not", overdue))
	v.check(rec.fleet.InUse == 0 && rec.fleet.Waiting == 0, "all permits are free at the end",
		fmt.Sprintf("%d in use, %d waiting", rec.fleet.InUse, rec.fleet.Waiting))
	v.check(len(beliefs) > 0, "there was progress", "no permit was acquired")
	return v
}

// findOver finds when too many processes believed to hold a permit, and returns
// the most permits that were held at a time. All times are by the clock of one
// machine.
//
// All permits that are held at a time were granted at the revision of the last
// grant among them. So they are too many if they exceed the capacity at that
// revision. A shrink after that revokes nothing.
func (v *verdict) findOver(start time.Time, beliefs []*belief) (most int) {
	type step struct {
		at   time.Time
		b    *belief
		ends bool
	}
	var steps []step
	for _, b := range beliefs {
		steps = append(steps, step{b.from, b, false}, step{b.to, b, true})
	}
	slices.SortStableFunc(steps, func(a, b step) int { return a.at.Compare(b.at) })
	var now []*belief
	for i, s := range steps {
		if s.ends {
			now = slices.DeleteFunc(now, func(b *belief) bool { return b == s.b })
		} else {
			now = append(now, s.b)
		}
		most = max(most, len(now))
		var last *ticket
		for _, b := range now {
			if b.ticket != nil && (last == nil || b.ticket.granted > last.granted) {
				last = b.ticket
			}
		}
		if last == nil || int64(len(now)) <= last.capacity {
			continue
		}
		from, to := s.at.Sub(start), steps[min(i+1, len(steps)-1)].at.Sub(start)
		if n := len(v.over); n > 0 && v.over[n-1].to == from {
			v.over[n-1].to = to
		} else {
			v.over = append(v.over, interval{from, to})
		}
	}
	return most
}

// stoppedLearned reports whether the first report of the stopped process about
// its permit, after it was continued, is that the permit is lost.
func (rec *record) stoppedLearned() bool {
	p := rec.stopped
	var last entry
	for _, e := range p.entries {
		switch {
		case e.at.Before(p.resumedAt):
			last = e
		case e.token == last.token && e.kind != returns:
			// If it was stopped during Release, it may have released in time.
			return e.kind == lost || last.kind == returns
		}
	}
	return last.kind != looks // false if it held a permit and reported nothing more
}
