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

// A History is what has happened to the keys of a resource, by a watch from
// before the first one. It knows the rule of the contract for itself: a ticket
// is granted at the first revision at which the weights of the live tickets up
// to it sum up to at most the capacity, and that is never taken back.
type History struct {
	client *clientv3.Client
	prefix string
	cancel context.CancelFunc
	over   chan struct{}

	mu       sync.Mutex
	changed  chan struct{} // closed at the next change
	revision int64
	err      error
	line     []*Ticket // those that are live, oldest first
	byKey    map[string]*Ticket
	byToken  map[int64]*Ticket
	marks    []mark
	epochs   map[string]bool // those that exist
	leases   map[string]bool // in hexadecimal; all that had a key
	fences   int             // epochs that were deleted while others of the lease existed, or by name
	capacity int64
	sets     int // how often the capacity was put
	peak     int64
	events   []Event
}

// A Ticket is a ticket as the history has it. Times are those at which the
// watch told it, which is after it happened.
type Ticket struct {
	Key      string
	N, Token int64
	Created  int64 // revision
	Granted  int64 // revision, or 0
	Deleted  int64 // revision, or 0
	Capacity int64 // by which it was granted
	GrantAt  time.Time
	DeleteAt time.Time
}

// An Event is a change of a key, and when the watch told it.
type Event struct {
	Key, Value string
	Delete     bool
	Revision   int64
	At         time.Time
}

// A mark is a write of a worker that had just been granted the ticket.
type mark struct{ token, revision int64 }

// NewHistory starts to watch the resource of that name, which must not have any
// key yet. It ends with the test.
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
		err = fmt.Errorf("there are keys of %q already", name)
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

// Await waits until cond holds. It looks again after each change.
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

// The following are for the cond of Await.

// Live returns the tickets that exist, oldest first.
func (h *History) Live() []*Ticket { return h.line }

// Holds returns the tickets that exist and are granted.
func (h *History) Holds() (held []*Ticket) {
	for _, t := range h.line {
		if t.Granted > 0 {
			held = append(held, t)
		}
	}
	return held
}

// Ticket returns the ticket of that token, or nil.
func (h *History) Ticket(token int64) *Ticket { return h.byToken[token] }

// Count returns how many tickets there were.
func (h *History) Count() int { return len(h.byToken) }

// Rests reports whether nothing but the capacity is left.
func (h *History) Rests() bool { return len(h.line) == 0 && len(h.epochs) == 0 }

// Fences returns how many epochs were made after the first one of their lease.
func (h *History) Fences() int { return h.fences }

// Capacity returns the capacity, and how often it was put.
func (h *History) Capacity() (n int64, sets int) { return h.capacity, h.sets }

// Revision returns the revision of the last change.
func (h *History) Revision() int64 { return h.revision }

// Peak returns the most permits that were granted at one revision.
func (h *History) Peak() int64 { return h.peak }

// Events returns all changes.
func (h *History) Events() []Event { return h.events }

// Look calls f with the history as it is now.
func (h *History) Look(f func(h *History)) {
	h.mu.Lock()
	defer h.mu.Unlock()
	f(h)
}

// Sync waits until the history has everything that has happened until now.
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

// Leases returns those of the leases that still exist.
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

// A Belief is a time in which somebody believed to hold a permit: from when it
// was granted to the last look that did not say that it was lost.
type Belief struct {
	Token, N   int64
	Begin, End time.Time
}

// Judge compares beliefs with the history, up to the last Sync, and returns
// what is wrong. slack is how much later than it happened the watch may have
// told of a grant. It is negative if that may be any time, as with a server
// that was stopped.
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
			say("token %d: weight %d, believed %d", b.Token, t.N, b.N)
		case t.Granted == 0:
			say("token %d: never granted, believed for %v", b.Token, b.End.Sub(b.Begin))
		case slack >= 0 && t.GrantAt.Add(-slack).After(b.Begin):
			say("token %d: believed %v before it was granted", b.Token, t.GrantAt.Sub(b.Begin))
		case t.Deleted > 0 && t.DeleteAt.Before(b.End):
			say("token %d: believed %v after it was deleted", b.Token, b.End.Sub(t.DeleteAt))
		}
	}
	return append(wrong, h.judgeOverlaps(beliefs)...)
}

// judgeOverlaps looks at what was believed at the same time, by the clock of
// the machine. When a belief begins, the older tickets that are believed fit
// into the capacity by which it was granted.
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
			wrong = append(wrong, fmt.Sprintf("token %d: %d permits of older tickets and this are believed, capacity %d",
				b.Token, sum, t.Capacity))
		}
		current = append(current, b)
	}
	return wrong
}

// All returns all tickets that there were, in no order.
func (h *History) All() (all []*Ticket) {
	for _, t := range h.byToken {
		all = append(all, t)
	}
	return all
}
