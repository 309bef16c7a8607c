package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"example.com/condvar"
)

// A part is the load on one type. It runs short rounds, one after another: a
// round starts some workers, joins them, and then checks the counts at rest. A
// lost wake-up is certain to be detected only if no later call compensates for
// it.
type part struct {
	name   string
	rounds []func(*worker) // what to do, in turn
	seed   uint64          // of this part
	plant  string

	// These are read while they change. A worker has its own counts and adds
	// them here when it has finished.
	ops    atomic.Uint64 // calls of the library
	waits  atomic.Uint64 // calls that waited, or could have
	played atomic.Uint64 // rounds
	joined atomic.Uint64 // workers that have finished

	running bool   // in this leg; only the monitor uses this and the next two
	seen    uint64 // joined at the last tick
	idle    time.Duration

	mu   sync.Mutex
	err  error    // the first failure
	kept [][]byte // for -plant memory
}

// run plays rounds until ctx is done or a check fails.
func (p *part) run(ctx context.Context) {
	for ctx.Err() == nil && p.failure() == nil {
		n := p.played.Load()
		r := &round{part: p, number: n, cancels: make(chan context.CancelCauseFunc, 64)}
		joinCanceler := r.start(1, (*worker).cancelOthers)
		w := r.newWorker()
		p.rounds[n%uint64(len(p.rounds))](w)
		close(r.cancels)
		joinCanceler()
		if p.plant == plantHang {
			waitForNobody(condvar.NewCond(&sync.Mutex{}))
		}
		w.finish()
		p.played.Add(1)
		if p.plant == plantMemory {
			p.kept = append(p.kept, make([]byte, 128<<10))
		}
	}
}

// failf records the first failure.
func (p *part) failf(format string, args ...any) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.err == nil {
		p.err = fmt.Errorf("round %d: "+format, append([]any{p.played.Load()}, args...)...)
	}
}

func (p *part) failure() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.err
}

// A round is a round of a part.
type round struct {
	*part
	number  uint64
	workers uint64 // started so far, with the goroutine of the round
	cancels chan context.CancelCauseFunc
}

// A worker is a goroutine of a round. The seed and its number determine its
// operations, but not their timing.
type worker struct {
	*round
	id         uint64
	rng        *rand.Rand
	ops, waits uint64
}

func (r *round) newWorker() *worker {
	id := r.workers
	r.workers++
	return &worker{round: r, id: id, rng: rand.New(rand.NewPCG(r.seed, r.number<<8|id))}
}

// start starts n workers that call f, and returns a function that joins them.
func (r *round) start(n int, f func(*worker)) (join func()) {
	var wg sync.WaitGroup
	for range n {
		w := r.newWorker()
		wg.Go(func() {
			f(w)
			w.finish()
		})
	}
	return wg.Wait
}

func (w *worker) finish() {
	w.part.ops.Add(w.ops)
	w.part.waits.Add(w.waits)
	w.joined.Add(1)
}

// during calls f repeatedly until join returns.
func (w *worker) during(join, f func()) {
	done := make(chan struct{})
	go func() {
		join()
		close(done)
	}()
	for {
		select {
		case <-done:
			return
		default:
			f()
		}
	}
}

// await waits until f returns true. If that takes long, it sleeps between
// calls, because it may take forever.
func await(f func() bool) {
	for i := 0; !f(); i++ {
		if i < 10_000 {
			runtime.Gosched()
		} else {
			time.Sleep(time.Millisecond)
		}
	}
}

// linger lets others run, up to n times.
func (w *worker) linger(n int) {
	for range w.rng.IntN(n + 1) {
		runtime.Gosched()
	}
}

// oneIn returns true with probability 1/n.
func (w *worker) oneIn(n int) bool { return w.rng.IntN(n) == 0 }

var errCanceled = errors.New("canceled by the soak")

// context returns a context that has ended, has an early deadline, or is
// canceled by another worker at any time. The caller must call cancel after
// use.
func (w *worker) context() (ctx context.Context, cancel func()) {
	switch w.rng.IntN(8) {
	case 0:
		ctx, cancel := context.WithCancel(context.Background())
		cancel()
		return ctx, cancel
	case 1, 2, 3:
		return context.WithTimeout(context.Background(), time.Duration(w.rng.IntN(200))*time.Microsecond)
	}
	ctx, cancelCause := context.WithCancelCause(context.Background())
	w.cancels <- cancelCause
	return ctx, func() { cancelCause(nil) }
}

// cancelOthers ends the contexts that the other workers send.
func (w *worker) cancelOthers() {
	for cancel := range w.cancels {
		w.linger(8)
		cancel(errCanceled)
	}
}

// checkError checks that err, not nil, is the error of ctx.
func (w *worker) checkError(ctx context.Context, err error) {
	if ctx.Err() == nil || !errors.Is(err, ctx.Err()) || !errors.Is(err, context.Cause(ctx)) {
		w.failf("error %v of a context whose error is %v and cause %v", err, ctx.Err(), context.Cause(ctx))
	}
}

// A planned is the value of a deliberate panic.
type planned struct{}

// survived calls f, and reports whether f ended with a planned panic.
func survived(f func()) (yes bool) {
	defer func() {
		switch v := recover().(type) {
		case nil:
		case planned:
			yes = true
		default:
			panic(v)
		}
	}()
	f()
	return false
}

// abandon calls f, which must call leave in a callback of the library. leave
// panics, or ends the goroutine.
func (w *worker) abandon(f func(leave func())) {
	if w.oneIn(2) {
		survived(func() { f(func() { panic(planned{}) }) })
		return
	}
	gone := make(chan struct{})
	go func() {
		defer close(gone)
		f(runtime.Goexit)
	}()
	<-gone
}

// panics reports whether f panics.
func panics(f func()) (yes bool) {
	defer func() { yes = recover() != nil }()
	f()
	return false
}
