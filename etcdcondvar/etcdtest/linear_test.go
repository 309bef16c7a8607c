package etcdtest_test

import (
	"context"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/anishathalye/porcupine"
	"github.com/stretchr/testify/require"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"

	"example.com/condvar"
	"example.com/condvar/etcdcondvar"
	"example.com/condvar/etcdcondvar/etcdtest"
)

// An action is an operation of a history. An Acquire is two actions, join and
// outcome, which both last as long as the call.
type action struct {
	kind string // join, outcome, try, release, resize, expire
	call int    // of join, outcome, try and release: the id of the call
	r    int    // the resource
	n    int64
	own  bool // of try: another call of the same resource overlaps it
}

// A place is a call in the line of the model.
type place struct {
	call, r int
	n       int64
	granted bool
	told    bool // the call has returned with the permits
	leaves  bool // the call fails: its ticket is deleted at some time
}

// A line is the state of the model: a weighted semaphore, first come first
// served, with leases that end. waits has the calls that must join again.
type line struct {
	capacity int64
	places   []place
	waits    []place
}

func (l line) clone() line {
	return line{l.capacity, slices.Clone(l.places), slices.Clone(l.waits)}
}

func (l *line) equal(m line) bool {
	return l.capacity == m.capacity && slices.Equal(l.places, m.places) && slices.Equal(l.waits, m.waits)
}

func (l *line) grant() {
	var sum int64
	for i := range l.places {
		sum += l.places[i].n
		if sum > l.capacity {
			break
		}
		l.places[i].granted = true
	}
}

func (l *line) used() (sum int64) {
	for _, p := range l.places {
		sum += p.n
	}
	return sum
}

func (l *line) find(call int) int {
	return slices.IndexFunc(l.places, func(p place) bool { return p.call == call })
}

func (l *line) remove(call int) {
	l.places = slices.DeleteFunc(l.places, func(p place) bool { return p.call == call })
	l.grant()
}

// later returns l and all states that it may change to without an action:
// tickets of failed calls are deleted, and calls whose lease has ended join
// again.
func (l line) later() []line {
	all := []line{l}
	for i := 0; i < len(all); i++ {
		try := func(next line) {
			next.grant()
			if !slices.ContainsFunc(all, next.equal) {
				all = append(all, next)
			}
		}
		for _, p := range all[i].places {
			if p.leaves {
				next := all[i].clone()
				next.remove(p.call)
				try(next)
			}
		}
		for j, p := range all[i].waits {
			next := all[i].clone()
			next.waits = slices.Delete(next.waits, j, j+1)
			next.places = append(next.places, p)
			try(next)
		}
	}
	return all
}

// step returns the states after an action that returned out.
func (l line) step(a action, out string) (states []any) {
	for _, l := range l.later() {
		next := l.clone()
		if next.apply(a, out) {
			next.grant()
			states = append(states, next)
		}
	}
	return states
}

func (l *line) apply(a action, out string) bool {
	i := l.find(a.call)
	switch a.kind {
	case "join":
		l.places = append(l.places, place{call: a.call, r: a.r, n: a.n, leaves: out != "granted"})
	case "outcome":
		switch out {
		case "granted":
			if i >= 0 {
				l.places[i].told = true
			}
			return i >= 0 && l.places[i].granted
		case "too large":
			return l.capacity != 0 && a.n > l.capacity
		}
	case "try":
		switch free := l.capacity - l.used(); out {
		case "granted":
			l.places = append(l.places, place{call: a.call, r: a.r, n: a.n, granted: true, told: true})
			return a.n <= free
		case "too large":
			return l.capacity != 0 && a.n > l.capacity
		case "full":
			return a.own || a.n > free
		}
	case "release":
		if i >= 0 {
			l.remove(a.call)
		}
	case "resize":
		l.capacity = a.n
	case "expire":
		for _, p := range l.places {
			if p.r == a.r && !p.told {
				p.granted = false
				l.waits = append(l.waits, p)
			}
		}
		l.places = slices.DeleteFunc(l.places, func(p place) bool { return p.r == a.r })
	}
	return true
}

func lineModel(capacity int64) porcupine.Model {
	model := porcupine.NondeterministicModel{
		Init: func() []any { return []any{line{capacity: capacity}} },
		Step: func(state, in, out any) []any { return state.(line).step(in.(action), out.(string)) },
		Equal: func(a, b any) bool {
			l := a.(line)
			return l.equal(b.(line))
		},
		DescribeOperation: func(in, out any) string { return fmt.Sprintf("%+v: %v", in, out) },
		DescribeState:     func(state any) string { return fmt.Sprintf("%+v", state) },
	}
	return model.ToModel()
}

// A recorder records the actions of goroutines.
type recorder struct {
	clock atomic.Int64
	calls atomic.Int64
	ended atomic.Bool // a lease was revoked; only once in a history, or the check takes long

	mu  sync.Mutex
	ops []porcupine.Operation
}

func (rec *recorder) record(client int, begin int64, out string, actions ...action) {
	end := rec.clock.Add(1)
	rec.mu.Lock()
	defer rec.mu.Unlock()
	for i, a := range actions {
		op := porcupine.Operation{ClientId: 2*client + i, Input: a, Call: begin, Output: out, Return: end}
		if a.kind == "join" && out == "left" { // its transaction may still be under way
			op.ClientId, op.Return = 1000+a.call, math.MaxInt64
		}
		rec.ops = append(rec.ops, op)
	}
}

// overlaps marks the tries that overlap another call of their resource.
func (rec *recorder) overlaps() {
	for i, p := range rec.ops {
		a := p.Input.(action)
		for _, q := range rec.ops {
			b := q.Input.(action)
			if a.kind == "try" && b.kind == "join" && b.r == a.r && q.Call < p.Return && p.Call < q.Return {
				a.own = true
			}
		}
		rec.ops[i].Input = a
	}
}

func outcome(err error) string {
	switch {
	case err == nil:
		return "granted"
	case errors.Is(err, etcdcondvar.ErrFull):
		return "full"
	case errors.Is(err, condvar.ErrTooLarge):
		return "too large"
	case errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		return "left"
	}
	return err.Error()
}

// Test 48: five goroutines use three resources on a real etcd, while capacities
// change, contexts end and leases are revoked. Each history is linearizable.
func TestHistories_areLinearizable(t *testing.T) {
	var undecided atomic.Int64
	n := trials(400)
	t.Cleanup(func() { require.LessOrEqual(t, undecided.Load(), int64(n/10)) })
	for i := range n {
		t.Run(fmt.Sprint(i), func(t *testing.T) {
			s := newScene(t)
			defer s.end()
			s.slack = -1
			seed := rand.Uint64()
			const capacity = 3
			rec := new(recorder)
			var all []*etcdcondvar.Resource
			for range 3 {
				r := s.resource(newClient(t, shared.Endpoint), capacity, etcdcondvar.WithTTL(ttl), etcdcondvar.WithLabel(strconv.Itoa(len(all))))
				all = append(all, r)
				s.acquire(r).release() // its lease exists
			}
			var wg sync.WaitGroup
			for g := range 5 {
				wg.Go(func() {
					rng := rand.New(rand.NewPCG(seed, uint64(g)))
					for range 4 {
						rec.act(s, rng, g, all)
					}
				})
			}
			watchdog := time.AfterFunc(limit/2, func() { // so that a failure shows the waiting calls
				var text strings.Builder
				for _, r := range all {
					fmt.Fprintf(&text, "%+v\n", r.Stats())
				}
				s.history.Look(func(h *etcdtest.History) {
					capacity, _ := h.Capacity()
					fmt.Fprintln(&text, "capacity", capacity)
					for _, ticket := range h.Live() {
						fmt.Fprintf(&text, "%+v\n", *ticket)
					}
				})
				t.Errorf("calls do not end:\n%s", text.String())
			})
			wg.Wait()
			watchdog.Stop()
			rec.overlaps()
			model := lineModel(capacity)
			result := porcupine.CheckOperationsTimeout(model, rec.ops, 10*time.Second)
			if result == porcupine.Illegal {
				slices.SortFunc(rec.ops, func(a, b porcupine.Operation) int { return int(a.Call - b.Call) })
				var text strings.Builder
				for _, p := range rec.ops {
					fmt.Fprintf(&text, "%3d-%3d client %d: %s\n", p.Call, p.Return, p.ClientId, model.DescribeOperation(p.Input, p.Output))
				}
				t.Fatalf("not linearizable:\n%s", text.String())
			}
			if result == porcupine.Unknown {
				t.Log("the check takes too long")
				undecided.Add(1)
			}
		})
	}
}

// act makes a random call of one of the resources, and records it.
func (rec *recorder) act(s *scene, rng *rand.Rand, g int, all []*etcdcondvar.Resource) {
	i := g / 2
	r, call, n := all[i], int(rec.calls.Add(1)), rng.Int64N(3)+1
	hold := func(p *etcdcondvar.Permit, err error) {
		if err != nil {
			return
		}
		time.Sleep(time.Duration(rng.IntN(4)) * time.Millisecond)
		begin := rec.clock.Add(1)
		p.Release()
		rec.record(g, begin, "", action{kind: "release", call: call, r: i})
	}
	switch k := rng.IntN(12); {
	case k < 6:
		ctx, cancel := s.ctx, context.CancelFunc(func() {})
		if rng.IntN(4) == 0 {
			ctx, cancel = context.WithTimeout(s.ctx, time.Duration(rng.IntN(8)+1)*time.Millisecond)
		}
		begin := rec.clock.Add(1)
		p, err := r.AcquireN(ctx, n)
		cancel()
		rec.record(g, begin, outcome(err), action{kind: "join", call: call, r: i, n: n}, action{kind: "outcome", call: call, r: i, n: n})
		hold(p, err)
	case k < 9:
		begin := rec.clock.Add(1)
		p, err := r.TryAcquireN(s.ctx, n)
		rec.record(g, begin, outcome(err), action{kind: "try", call: call, r: i, n: n})
		hold(p, err)
	case k < 11:
		begin := rec.clock.Add(1)
		if err := r.Resize(s.ctx, n+1); err != nil {
			s.Error(err)
		}
		rec.record(g, begin, "", action{kind: "resize", n: n + 1})
	default:
		if rec.ended.Swap(true) {
			return
		}
		// The label of an epoch is the index of its resource.
		resp, err := s.direct.Get(s.ctx, "condvar1/"+s.name+"/e/", clientv3.WithPrefix())
		if err != nil || len(resp.Kvs) == 0 {
			return
		}
		epoch := resp.Kvs[rng.IntN(len(resp.Kvs))]
		lease := clientv3.LeaseID(epoch.Lease)
		owner, _ := strconv.Atoi(string(epoch.Value))
		begin := rec.clock.Add(1)
		if _, err := s.direct.Revoke(s.ctx, lease); err != nil && !errors.Is(err, rpctypes.ErrLeaseNotFound) {
			s.Error(err)
		}
		rec.record(g, begin, "", action{kind: "expire", r: owner})
	}
}
