package linear

import (
	"context"
	"fmt"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"testing/synctest"
	"time"

	"github.com/anishathalye/porcupine"
)

// A fate is the state of a call that can wait: how it ended or, in the models,
// its progress, which is "" if it has not begun.
type fate string

const (
	success    fate = "nil"
	canceled   fate = "context.Canceled"
	closed     fate = "ErrClosed"
	tooLarge   fate = "ErrTooLarge"
	overloaded fate = "ErrOverloaded"

	waits  fate = "waits"
	looked fate = "looked" // see resourceModel.begin
	over   fate = "over"   // its outcome is in the history
)

// A scene is a script, the object that it uses, and its model.
type scene struct {
	*script
	seed  uint64
	do    func(ctx context.Context, o op) (out any)            // performs an operation
	model func(exactTime bool) porcupine.NondeterministicModel // see resourceModel.porcupine
	clock *atomic.Int64
	begun *[maxCalls]int64 // if not nil, the end of the first half of each call
}

// A run is one run of a scene by real goroutines.
type run struct {
	scene
	fake    bool // in a bubble
	ctxs    []context.Context
	cancels []context.CancelFunc
	wg      sync.WaitGroup
	busy    []atomic.Bool           // workers that have not finished a round
	running atomic.Int64            // workers that are not in a call that can wait
	quiet   chan struct{}           // has a token if running has become 0
	history [][]porcupine.Operation // by client; the last client is the test
}

// play runs sc and returns the history. fake means that it runs in a bubble.
func play(sc scene, fake bool) []porcupine.Operation {
	r := &run{
		scene: sc, fake: fake,
		busy:    make([]atomic.Bool, sc.workers),
		history: make([][]porcupine.Operation, sc.workers+1),
		quiet:   make(chan struct{}, 1),
	}
	for range sc.calls {
		ctx, cancel := context.WithCancel(context.Background())
		defer cancel()
		r.ctxs, r.cancels = append(r.ctxs, ctx), append(r.cancels, cancel)
	}
	for i, round := range sc.rounds {
		r.start(round)
		r.settle(sc.pauses[i])
	}
	for _, o := range sc.last {
		r.perform(sc.workers, o)
	}
	r.settle(0)
	if !fake { // in a bubble, the last record says how many still wait
		r.wg.Wait()
	}
	history := slices.Concat(r.history...)
	findEnded(history)
	findOverlaps(history)
	return history
}

// start lets the workers that have finished the last round do their part of the
// next. They begin at the same time.
func (r *run) start(round [][]op) {
	var idle []int
	for w := range round {
		if !r.busy[w].Load() {
			idle = append(idle, w)
			r.busy[w].Store(true)
		}
	}
	r.running.Add(int64(len(idle)))
	var arrived atomic.Int64
	for _, w := range idle {
		r.wg.Go(func() {
			defer func() {
				if p := recover(); p != nil {
					panic(fmt.Sprintf("with CONDVAR_SEED=%d: %v", r.seed, p))
				}
			}()
			arrived.Add(1)
			for arrived.Load() < int64(len(idle)) {
				runtime.Gosched()
			}
			for _, o := range round[w] {
				r.perform(w, o)
			}
			r.busy[w].Store(false)
			r.stop()
		})
	}
}

// stop records that a worker is done or is about to wait.
func (r *run) stop() {
	if r.running.Add(-1) == 0 {
		select {
		case r.quiet <- struct{}{}:
		default:
		}
	}
}

// settle waits until every worker is done or is in a call that can wait. On a
// fake clock it waits until they are at rest, records how many wait, and lets
// some time pass.
func (r *run) settle(pause time.Duration) {
	if !r.fake {
		for r.running.Load() > 0 {
			<-r.quiet
		}
		return
	}
	synctest.Wait()
	waiting := 0
	for w := range r.busy {
		if r.busy[w].Load() {
			waiting++
		}
	}
	start := r.clock.Add(1)
	time.Sleep(pause)
	r.record(r.workers, start, op{kind: rest, n: int64(pause)}, waiting)
}

// perform does o for a client and records it.
func (r *run) perform(client int, o op) {
	if o.yield {
		runtime.Gosched()
	}
	var ctx context.Context
	if o.kind == begin {
		ctx = r.ctxs[o.call]
		if o.yield {
			ctx = yieldingContext{ctx}
		}
		r.stop()
		defer r.running.Add(1)
	}
	start := r.clock.Add(1)
	var out any
	if o.kind == cancel {
		r.cancels[o.call]()
	} else {
		out = r.do(ctx, o)
	}
	r.record(client, start, o, out)
}

// record ends an operation that began at start.
func (r *run) record(client int, start int64, o op, out any) {
	ops := halves(client, start, r.clock.Add(1), o, out)
	if o.kind == begin && r.begun != nil {
		ops[0].Return = r.begun[o.call]
	}
	r.history[client] = append(r.history[client], ops...)
}

// halves returns the record of an operation. Each client has two rows in the
// picture, one for second halves.
func halves(client int, from, to int64, o op, out any) []porcupine.Operation {
	first := porcupine.Operation{ClientId: 2 * client, Input: o, Call: from, Output: out, Return: to}
	second := first
	second.ClientId++
	switch o.kind {
	case begin:
		o.kind = outcome
	case set:
		o.kind = released
	case resizeKeys:
		all := []porcupine.Operation{first}
		o.kind = resize
		for o.key = 1; o.key <= keys; o.key++ {
			second.Input = o
			all = append(all, second)
		}
		return all
	default:
		return []porcupine.Operation{first}
	}
	second.Input = o
	return []porcupine.Operation{first, second}
}

// findEnded sets ended in operations: the contexts that they may have seen
// ended, because they were canceled during the operation. That matters for
// operations that check several contexts one after the other, or their own
// context first. It is the context of the call itself, or of other calls that
// failed.
func findEnded(history []porcupine.Operation) {
	var failed callSet
	for _, p := range history {
		if o := p.Input.(op); o.kind == begin && p.Output == canceled {
			failed |= 1 << o.call
		}
	}
	for _, c := range history {
		call := c.Input.(op).call
		if c.Input.(op).kind != cancel {
			continue
		}
		for i, p := range history {
			o := p.Input.(op)
			own := o.kind == begin && o.call == call
			if p.Call < c.Return && c.Call < p.Return && (own || o.kind != begin && failed.has(call)) {
				o.ended |= 1 << call
				history[i].Input = o
			}
		}
	}
}

// findOverlaps sets busy and slack in operations that overlap with others. A
// Len may count keys that overlapping calls use: these are busy. A Release that
// panics may ignore permits that overlapping calls acquire or release: slack is
// their number.
func findOverlaps(history []porcupine.Operation) {
	for i, p := range history {
		o := p.Input.(op)
		if o.kind != length && (o.kind != release || p.Output != false) {
			continue
		}
		for _, other := range history {
			q := other.Input.(op)
			if other.Call >= p.Return || p.Call >= other.Return || q.key == 0 {
				continue
			}
			o.busy |= 1 << q.key
			taken := (q.kind == begin && other.Output == success) || q.kind != outcome && other.Output == true
			if q.key == o.key && taken {
				o.slack += q.n
			}
		}
		history[i].Input = o
	}
}

// A yieldingContext lets others run after a call of Err, so in the middle of
// the call that checks it.
type yieldingContext struct{ context.Context }

func (c yieldingContext) Err() error {
	err := c.Context.Err()
	runtime.Gosched()
	return err
}
