package etcdtest

import (
	"context"
	"fmt"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
)

// A History records the events of all keys of a resource, with a watch that
// starts before the first key exists. It computes grants by the rule of the
// contract, without package etcdcondvar: a ticket is granted at the first
// revision in which the weights of the live tickets up to it sum up to at most
// the capacity. A grant is never revoked.
type History struct {
	client *clientv3.Client
	prefix string
	cancel context.CancelFunc
	over   chan struct{}

	mu       sync.Mutex
	changed  chan struct{} // closed at the next change
	revision int64
	err      error
	line     []*Ticket // live tickets, oldest first
	byKey    map[string]*Ticket
	byToken  map[int64]*Ticket
	marks    []mark
	epochs   map[string]bool // existing ones
	leases   map[string]bool // in hexadecimal; all that ever had a key
	fences   int             // epochs after the first one of their lease
	capacity int64
	sets     int // how many times the capacity was put
	peak     int64
	events   []Event
}

// A Ticket is a ticket in the history. Its times are when the watch received
// the events, which is later than the events.
type Ticket struct {
	Key      string
	N, Token int64
	Created  int64 // revision
	Granted  int64 // revision, or 0
	Deleted  int64 // revision, or 0
	Capacity int64 // when it was granted
	GrantAt  time.Time
	DeleteAt time.Time
}

// An Event is a change of a key, and when the watch received it.
type Event struct {
	Key, Value string
	Delete     bool
	Revision   int64
	At         time.Time
}

// A mark is a write of a worker after the ticket was granted.
type mark struct{ token, revision int64 }

// NewHistory starts to watch the resource of that name, which must not have a
// key yet. The watch ends with the test.
func NewHistory(tb TB, client *clientv3.Client, name string) *History {
	tb.Helper()
	h := &History{
		client: client, prefix: "condvar1/" + url.PathEscape(name) + "/", over: make(chan struct{}), changed: make(chan struct{}),
		byKey: map[string]*Ticket{}, byToken: map[int64]*Ticket{}, epochs: map[string]bool{}, leases: map[string]bool{},
	}
	ctx, cancel := context.WithCancel(context.Background())
	h.cancel = cancel
	limited, stop := context.WithTimeout(ctx, 20*time.Second)
	defer stop()
	resp, err := client.Get(limited, h.prefix, clientv3.WithPrefix(), clientv3.WithCountOnly())
	if err == nil && resp.Count > 0 {
		err = fmt.Errorf("%q already has keys", name)
	}
	if err != nil {
		cancel()
		tb.Fatalf("history: %v", err)
		return nil
	}
	events := client.Watch(ctx, h.prefix, clientv3.WithPrefix(), clientv3.WithRev(resp.Header.Revision+1))
	go h.follow(events)
	tb.Cleanup(h.Close)
	return h
}

// Close ends the watch.
func (h *History) Close() {
	h.cancel()
	<-h.over
}

func (h *History) follow(events clientv3.WatchChan) {
	defer close(h.over)
	for resp := range events {
		now := time.Now()
		h.mu.Lock()
		if err := resp.Err(); err != nil {
			h.err = err
		}
		for i, e := range resp.Events {
			ev := Event{string(e.Kv.Key), string(e.Kv.Value), e.Type == clientv3.EventTypeDelete, e.Kv.ModRevision, now}
			h.apply(ev)
			if i+1 == len(resp.Events) || resp.Events[i+1].Kv.ModRevision > ev.Revision {
				h.grant(ev)
			}
		}
		close(h.changed)
		h.changed = make(chan struct{})
		h.mu.Unlock()
	}
}

func (h *History) apply(ev Event) {
	h.events = append(h.events, ev)
	h.revision = ev.Revision
	first, _, _ := strings.Cut(ev.Value, " ")
	key := strings.TrimPrefix(ev.Key, h.prefix)
	switch kind, id, _ := strings.Cut(key, "/"); {
	case key == "cap" && !ev.Delete:
		if n, err := strconv.ParseInt(first, 10, 64); err == nil {
			h.capacity = n
			h.sets++
		}
	case key == "mark" && !ev.Delete:
		token, _ := strconv.ParseInt(first, 10, 64)
		h.marks = append(h.marks, mark{token, ev.Revision})
	case kind == "e":
		lease, _, _ := strings.Cut(id, "-")
		h.leases[lease] = true
		if ev.Delete {
			delete(h.epochs, id)
		} else {
			if !strings.HasSuffix(id, "-1") {
				h.fences++
			}
			h.epochs[id] = true
		}
	case kind == "p" && ev.Delete:
		if t := h.byKey[ev.Key]; t != nil {
			t.Deleted, t.DeleteAt = ev.Revision, ev.At
		}
	case kind == "p":
		lease, hex, _ := strings.Cut(id[strings.LastIndex(id, "/")+1:], "-")
		seq, _ := strconv.ParseInt(hex, 16, 64)
		t := &Ticket{Key: ev.Key, N: 1, Created: ev.Revision, Token: ev.Revision<<7 | seq&127}
		if strings.HasPrefix(id, "n/") {
			t.N, _ = strconv.ParseInt(first, 10, 64)
		}
		h.leases[lease] = true
		h.byKey[ev.Key], h.byToken[t.Token] = t, t
		h.line = append(h.line, t)
		for i := len(h.line) - 1; i > 0 && h.line[i-1].Token > t.Token; i-- {
			h.line[i-1], h.line[i] = h.line[i], h.line[i-1]
		}
	}
}

// grant is called after all events of a revision.
func (h *History) grant(ev Event) {
	h.line = slices.DeleteFunc(h.line, func(t *Ticket) bool { return t.Deleted > 0 })
	var sum, used int64
	for _, t := range h.line {
		sum += t.N
		if t.Granted == 0 && sum <= h.capacity {
			t.Granted, t.GrantAt, t.Capacity = ev.Revision, ev.At, h.capacity
		}
		if t.Granted > 0 {
			used += t.N
		}
	}
	h.peak = max(h.peak, used)
}

// Await waits until cond holds. It calls cond again after each change.
func (h *History) Await(ctx context.Context, cond func(h *History) bool) error {
	for {
		h.mu.Lock()
		ok, changed, err := cond(h), h.changed, h.err
		h.mu.Unlock()
		switch {
		case ok:
			return nil
		case err != nil:
			return err
		}
		select {
		case <-changed:
		case <-h.over:
			return fmt.Errorf("the history has ended: %w", h.err)
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// Only functions passed to Await or Look may call the following methods.

// Live returns the live tickets, oldest first.
func (h *History) Live() []*Ticket { return h.line }

// Holds returns the live tickets that are granted.
func (h *History) Holds() (held []*Ticket) {
	for _, t := range h.line {
		if t.Granted > 0 {
			held = append(held, t)
		}
	}
	return held
}

// Ticket returns the ticket with that token, or nil.
func (h *History) Ticket(token int64) *Ticket { return h.byToken[token] }

// Count returns how many tickets were put.
func (h *History) Count() int { return len(h.byToken) }

// Rests reports whether no ticket and no epoch is left.
func (h *History) Rests() bool { return len(h.line) == 0 && len(h.epochs) == 0 }

// Fences returns how many epochs were made after the first one of their lease.
func (h *History) Fences() int { return h.fences }

// Capacity returns the capacity, and how many times it was put.
func (h *History) Capacity() (n int64, sets int) { return h.capacity, h.sets }

// Revision returns the revision of the last change.
func (h *History) Revision() int64 { return h.revision }

// Peak returns the most permits that were in use at one revision.
func (h *History) Peak() int64 { return h.peak }

// Events returns all changes.
func (h *History) Events() []Event { return h.events }

// Look calls f with the current history.
func (h *History) Look(f func(h *History)) {
	h.mu.Lock()
	defer h.mu.Unlock()
	f(h)
}

// Sync waits until the history has all changes before the call.
func (h *History) Sync(ctx context.Context) error {
	for {
		resp, err := h.client.Put(ctx, h.prefix+"sync", "")
		if err == nil {
			return h.Await(ctx, func(h *History) bool { return h.revision >= resp.Header.Revision })
		}
		if ctx.Err() != nil {
			return err
		}
		time.Sleep(100 * time.Millisecond)
	}
}

// Leases returns the leases of all tickets and epochs that still exist.
func (h *History) Leases(ctx context.Context) (left []string, err error) {
	h.mu.Lock()
	var all []string
	for hex := range h.leases {
		all = append(all, hex)
	}
	h.mu.Unlock()
	for _, hex := range all {
		id, err := strconv.ParseInt(hex, 16, 64)
		if err != nil {
			continue
		}
		resp, err := h.client.TimeToLive(ctx, clientv3.LeaseID(id))
		if err != nil {
			return nil, err
		}
		if resp.TTL > 0 {
			left = append(left, hex)
		}
	}
	return left, nil
}

// A Belief is a time in which a process believed to hold a permit: from the
// grant to the last check that did not report a loss.
type Belief struct {
	Token, N   int64
	Begin, End time.Time
}

// Judge compares beliefs with the history, up to the last Sync, and returns the
// contradictions. slack is how late the watch may have received a grant. A
// negative slack means any time, for example because a server was stopped.
func (h *History) Judge(beliefs []Belief, slack time.Duration) (wrong []string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	say := func(format string, args ...any) { wrong = append(wrong, fmt.Sprintf(format, args...)) }
	if h.err != nil {
		say("the watch failed: %v", h.err)
	}
	for _, m := range h.marks {
		switch t := h.byToken[m.token]; {
		case t == nil:
			say("token %d: marked at %d, without a ticket", m.token, m.revision)
		case t.Granted == 0 || t.Granted > m.revision:
			say("token %d: marked at %d, granted at %d", m.token, m.revision, t.Granted)
		}
	}
	for _, b := range beliefs {
		switch t := h.byToken[b.Token]; {
		case t == nil:
			say("token %d: no ticket", b.Token)
		case t.N != b.N:
			say("token %d: weight %d, held %d", b.Token, t.N, b.N)
		case t.Granted == 0:
			say("token %d: never granted, held for %v", b.Token, b.End.Sub(b.Begin))
		case slack >= 0 && t.GrantAt.Add(-slack).After(b.Begin):
			say("token %d: held %v before it was granted", b.Token, t.GrantAt.Sub(b.Begin))
		case t.Deleted > 0 && t.DeleteAt.Before(b.End):
			say("token %d: held %v after it was deleted", b.Token, b.End.Sub(t.DeleteAt))
		}
	}
	return append(wrong, h.judgeOverlaps(beliefs)...)
}

// judgeOverlaps checks permits that were held at the same time, by the clock of
// the machine. When a belief begins, its weight and the weights of older
// tickets that are held sum up to at most the capacity at its grant.
func (h *History) judgeOverlaps(beliefs []Belief) (wrong []string) {
	byBegin := slices.Clone(beliefs)
	slices.SortFunc(byBegin, func(a, b Belief) int { return a.Begin.Compare(b.Begin) })
	var current []Belief
	for _, b := range byBegin {
		t := h.byToken[b.Token]
		if t == nil || t.Granted == 0 {
			continue
		}
		current = slices.DeleteFunc(current, func(c Belief) bool { return c.End.Before(b.Begin) })
		sum := b.N
		for _, c := range current {
			if c.Token < b.Token {
				sum += c.N
			}
		}
		if sum > t.Capacity {
			wrong = append(wrong, fmt.Sprintf("token %d: it and older tickets hold %d permits, capacity %d",
				b.Token, sum, t.Capacity))
		}
		current = append(current, b)
	}
	return wrong
}

// All returns all tickets that were put, in no order.
func (h *History) All() (all []*Ticket) {
	for _, t := range h.byToken {
		all = append(all, t)
	}
	return all
}
