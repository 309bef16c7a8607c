package main

import (
	"context"
	"errors"
	"math"
	"runtime"
	"sync"
	"sync/atomic"

	"example.com/condvar"
)

// A resourceLoad is the load on CapacityResource. One of its resources lives as
// long as the soak. The others live for a round.
//
// Each call that locks the resource, including Stats, wakes the head of the
// line if it fits, even if an earlier call failed to. So there must
// be times without calls.
type resourceLoad struct {
	options []condvar.Option
	kept    *condvar.CapacityResource
	waits   int64 // of kept, at the end of its last round
}

func newResourceLoad(options ...condvar.Option) *resourceLoad {
	return &resourceLoad{options: options, kept: condvar.NewCapacityResource(1, options...)}
}

func (l *resourceLoad) rounds() []func(*worker) {
	return []func(*worker){l.gates, l.mixed, l.resized, l.generation, l.exclusive, l.alone}
}

// An account has the soak's own counts for a resource.
type account struct {
	*condvar.CapacityResource
	largest int64        // the largest capacity in force in this round
	least   int64        // the smallest nonzero capacity
	holders atomic.Int64 // permits held; counted after taking, before releasing
	closing atomic.Bool  // Close is about to be called
	closed  atomic.Bool  // Close has returned
}

// gates lets calls wait for a full resource. The head of the line requests the
// whole capacity. Then gates makes room for the others but not for the head,
// and the head is canceled or becomes too large. All others must be admitted
// without another call, and hold their permits at the same time.
func (l *resourceLoad) gates(w *worker) {
	const capacity, others = 6, 3
	a := &account{CapacityResource: condvar.NewCapacityResource(capacity, l.options...), largest: capacity}
	gather := func(n int64) { await(func() bool { return a.Stats().Waiting == n }) }
	for range 8 {
		if err := a.AcquireN(context.Background(), capacity); err != nil {
			w.failf("AcquireN of free permits: %v", err)
		}
		a.Resize(1)
		if a.TryAcquire() {
			w.failf("a permit was acquired, although %d of 1 were held", capacity)
		}
		a.Resize(capacity)
		ctx, cancel := context.WithCancel(context.Background())
		joinHead := w.start(1, func(w *worker) {
			if a.AcquireN(ctx, capacity) == nil {
				w.failf("the whole capacity was acquired while permits were held")
			}
		})
		gather(1)
		var in sync.WaitGroup
		in.Add(others)
		joinOthers := w.start(others, func(w *worker) {
			if err := a.Acquire(context.Background()); err != nil {
				w.failf("Acquire without a context: %v", err)
			}
			in.Done()
			in.Wait()
			a.Release()
		})
		gather(1 + others)
		held := int64(capacity)
		switch w.rng.IntN(5) {
		case 0:
			held -= others
			a.ReleaseN(others)
			cancel()
		case 1:
			cancel()
			held -= others
			a.ReleaseN(others)
		case 2:
			a.Resize(capacity + others)
			cancel()
		case 3:
			cancel()
			joinHead()
			a.Resize(capacity + others)
		case 4:
			held -= others + 1
			a.ReleaseN(others + 1)
			a.Resize(capacity - 1) // the head is too large now
		}
		joinHead()
		joinOthers()
		cancel()
		a.ReleaseN(held)
		a.Resize(capacity)
		a.checkAtRest(w)
		w.ops += 8 + 2*others
	}
	w.waits += uint64(a.Stats().WaitCount)
}

// mixed makes all kinds of calls, at a constant capacity.
func (l *resourceLoad) mixed(w *worker) { l.mix(w, false) }

// resized makes all kinds of calls while the capacity changes.
func (l *resourceLoad) resized(w *worker) { l.mix(w, true) }

func (l *resourceLoad) mix(w *worker, resize bool) {
	a := &account{CapacityResource: l.kept, largest: 2 + w.rng.Int64N(4)}
	a.least = a.largest
	if resize {
		a.least = 1
	}
	a.Resize(a.largest)
	join := w.start(12, func(w *worker) {
		for range 60 {
			a.step(w)
		}
	})
	if resize || w.oneIn(2) {
		w.during(join, func() {
			if resize {
				w.ops++
				a.Resize(w.rng.Int64N(a.largest + 1))
			}
			a.checkStats(w)
			w.linger(8)
		})
		a.Resize(a.largest)
	}
	join()
	if w.plant == plantLost {
		a.TryAcquire()
	}
	a.checkAtRest(w)
	s := a.Stats()
	w.waits += uint64(s.WaitCount - l.waits)
	l.waits = s.WaitCount
}

// generation uses a new resource until it is closed and drained.
func (l *resourceLoad) generation(w *worker) {
	capacity := 1 + w.rng.Int64N(4)
	a := &account{
		CapacityResource: condvar.NewCapacityResource(capacity, l.options...),
		largest:          capacity, least: capacity,
	}
	join := w.start(12, func(w *worker) {
		for !a.closed.Load() {
			a.step(w)
		}
		a.step(w)
	})
	await(func() bool { return a.Stats().WaitCount >= 100 })
	a.closing.Store(true)
	w.ops += 2
	if w.oneIn(2) {
		_ = a.Close()
		a.closed.Store(true)
	} else {
		ctx, cancel := w.context()
		if err := a.Drain(ctx); err != nil {
			w.checkError(ctx, err)
		}
		cancel()
		a.closed.Store(true)
	}
	if err := a.Drain(context.Background()); err != nil {
		w.failf("Drain without a context: %v", err)
	}
	if s := a.Stats(); s.InUse != 0 || s.Waiting != 0 || s.WaitingN != 0 || !s.Closed {
		w.failf("drained, but %+v", s)
	}
	join()
	w.waits += uint64(a.Stats().WaitCount)
}

// step acquires and releases once.
func (a *account) step(w *worker) {
	n := [...]int64{1, 1, 1, 1, 2, 3, a.largest, a.largest + 1, 0}[w.rng.IntN(9)]
	w.ops++
	wasClosed := a.closed.Load()
	var err error
	switch kind := w.rng.IntN(8); kind {
	case 0, 1:
		if a.TryAcquireN(n) {
			a.hold(w, n, wasClosed)
			a.giveBack(w, n)
		}
		return
	case 2:
		ctx, cancel := w.context()
		defer cancel()
		w.abandon(func(leave func()) {
			err := a.DoN(ctx, n, func(context.Context) error {
				a.hold(w, n, wasClosed)
				a.holders.Add(-n)
				leave()
				return nil
			})
			a.checkError(ctx, w, n, err)
		})
		return
	case 3:
		w.ops++
		if !panics(func() { a.ReleaseN(math.MaxInt64) }) {
			w.failf("released more than held")
		}
		fallthrough
	case 4, 5:
		ctx, cancel := w.context()
		defer cancel()
		err = a.AcquireN(ctx, n)
		a.checkError(ctx, w, n, err)
	default:
		err = a.AcquireN(context.Background(), n)
		a.checkError(context.Background(), w, n, err)
	}
	if err == nil {
		a.hold(w, n, wasClosed)
		a.giveBack(w, n)
	}
}

// hold counts n acquired permits, and holds them for a while.
func (a *account) hold(w *worker, n int64, wasClosed bool) {
	if wasClosed {
		w.failf("%d permits acquired after Close had returned", n)
	}
	if held := a.holders.Add(n); held > a.largest {
		w.failf("%d permits held of at most %d", held, a.largest)
	}
	w.linger(2)
}

// giveBack releases n permits, in one or two parts.
func (a *account) giveBack(w *worker, n int64) {
	a.holders.Add(-n)
	w.ops++
	if n > 1 && w.oneIn(2) {
		w.ops++
		a.Release()
		n--
	}
	a.ReleaseN(n)
}

// checkError checks the error of an acquisition of n permits with ctx.
func (a *account) checkError(ctx context.Context, w *worker, n int64, err error) {
	switch {
	case err == nil:
	case errors.Is(err, condvar.ErrClosed):
		if !a.closing.Load() {
			w.failf("ErrClosed from a resource that is not closed")
		}
	case errors.Is(err, condvar.ErrTooLarge):
		if n <= a.least {
			w.failf("ErrTooLarge for %d permits of a capacity of at least %d", n, a.least)
		}
	default:
		w.checkError(ctx, err)
	}
}

func (a *account) checkStats(w *worker) {
	w.ops++
	s := a.Stats()
	if s.InUse < 0 || s.InUse > a.largest || s.Waiting < 0 || s.WaitingN < s.Waiting || s.Canceled > s.WaitCount {
		w.failf("impossible, with a capacity of at most %d: %+v", a.largest, s)
	}
}

// checkAtRest checks that exactly the whole capacity is free.
func (a *account) checkAtRest(w *worker) {
	w.ops += 5
	s := a.Stats()
	if s.InUse != 0 || s.Waiting != 0 || s.WaitingN != 0 || s.OldestWait != 0 || s.Capacity != a.largest {
		w.failf("at rest, with a capacity of %d: %+v", a.largest, s)
		return
	}
	if !a.TryAcquireN(a.largest) || a.TryAcquire() {
		w.failf("at rest, not exactly %d permits are free", a.largest)
		return
	}
	a.ReleaseN(a.largest)
	if !panics(a.Release) {
		w.failf("Release did not panic, although no permit is held")
	}
}

// exclusive uses a resource of one permit as a mutex, as fast as possible. Some
// workers hold it while others run. Without FIFO most acquisitions overtake.
func (l *resourceLoad) exclusive(w *worker) {
	const workers, each = 4, 5000
	r := condvar.NewCapacityResource(1, l.options...)
	count := 0 // guarded by r
	w.start(workers, func(w *worker) {
		for range each {
			if w.id%4 == 0 {
				for !r.TryAcquire() {
					w.ops++
					runtime.Gosched()
				}
			} else if err := r.Acquire(context.Background()); err != nil {
				w.failf("Acquire without a context: %v", err)
			}
			count++
			if w.oneIn(64) {
				runtime.Gosched()
			}
			r.Release()
			w.ops += 2
		}
	})()
	if count != workers*each {
		w.failf("%d acquisitions, but counted to %d", workers*each, count)
	}
	a := &account{CapacityResource: r, largest: 1}
	a.checkAtRest(w)
	w.waits += uint64(r.Stats().WaitCount)
}

// alone uses each resource from one goroutine, so no call waits. Some resources
// are too large for the fast paths.
func (l *resourceLoad) alone(w *worker) {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	w.start(4, func(w *worker) {
		capacity := int64(3)
		if w.oneIn(4) {
			capacity = 1 << 40
		}
		a := &account{CapacityResource: condvar.NewCapacityResource(capacity, l.options...), largest: capacity}
		for range 20000 {
			err1, err2 := a.Acquire(ctx), a.AcquireN(ctx, capacity-1)
			if err1 != nil || err2 != nil || a.TryAcquire() {
				w.failf("not exactly %d permits could be acquired", capacity)
			}
			a.ReleaseN(capacity - 1)
			a.Release()
			w.ops += 5
		}
		a.checkAtRest(w)
	})()
}
