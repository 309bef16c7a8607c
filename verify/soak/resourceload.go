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
// long as the soak; the others live for a round.
//
// Each call that takes a resource's lock, Stats included, wakes the head of the
// line if it fits, even if an earlier call forgot to. So there have to be moments
// when nobody makes a call.
type resourceLoad struct {
	options []condvar.Option
	kept    *condvar.CapacityResource
	waits   int64 // of kept, when its last round was over
}

func newResourceLoad(options ...condvar.Option) *resourceLoad {
	return &resourceLoad{options: options, kept: condvar.NewCapacityResource(0, options...)}
}

func (l *resourceLoad) rounds() []func(*worker) {
	return []func(*worker){l.gates, l.mixed, l.resized, l.generation, l.exclusive, l.alone}
}

// The books are what the soak itself knows of a resource.
type books struct {
	*condvar.CapacityResource
	largest int64        // the largest capacity in force in this round
	least   int64        // the smallest one that is not 0
	holders atomic.Int64 // permits held; counted after taking, before releasing
	closing atomic.Bool  // Close is about to be called
	closed  atomic.Bool  // Close has returned
}

// gates lets a line gather at a resource that is full, with a head that wants all
// of it, and then makes room for the others and not for the head, which is
// canceled or turned away. All others have to be in at the same time, and in
// between nobody makes a call.
func (l *resourceLoad) gates(w *worker) {
	const capacity, others = 6, 3
	b := &books{CapacityResource: condvar.NewCapacityResource(capacity, l.options...), largest: capacity}
	gather := func(n int64) { await(func() bool { return b.Stats().Waiting == n }) }
	for range 8 {
		if err := b.AcquireN(context.Background(), capacity); err != nil {
			w.failf("AcquireN of what is free: %v", err)
		}
		b.Resize(1)
		if b.TryAcquire() {
			w.failf("a permit was taken though %d of 1 were held", capacity)
		}
		b.Resize(capacity)
		ctx, cancel := context.WithCancel(context.Background())
		joinHead := w.start(1, func(w *worker) {
			if b.AcquireN(ctx, capacity) == nil {
				w.failf("the whole capacity was taken while permits were held")
			}
		})
		gather(1)
		var in sync.WaitGroup
		in.Add(others)
		joinOthers := w.start(others, func(w *worker) {
			if err := b.Acquire(context.Background()); err != nil {
				w.failf("Acquire without end: %v", err)
			}
			in.Done()
			in.Wait()
			b.Release()
		})
		gather(1 + others)
		held := int64(capacity)
		switch w.rng.IntN(5) {
		case 0:
			held -= others
			b.ReleaseN(others)
			cancel()
		case 1:
			cancel()
			held -= others
			b.ReleaseN(others)
		case 2:
			b.Resize(capacity + others)
			cancel()
		case 3:
			cancel()
			joinHead()
			b.Resize(capacity + others)
		case 4:
			held -= others + 1
			b.ReleaseN(others + 1)
			b.Resize(capacity - 1) // the head wants too much now
		}
		joinHead()
		joinOthers()
		cancel()
		b.ReleaseN(held)
		b.Resize(capacity)
		b.checkAtRest(w)
		w.ops += 8 + 2*others
	}
	w.waits += uint64(b.Stats().WaitCount)
}

// mixed is everything, at a constant capacity.
func (l *resourceLoad) mixed(w *worker) { l.mix(w, false) }

// resized is everything while the capacity changes.
func (l *resourceLoad) resized(w *worker) { l.mix(w, true) }

func (l *resourceLoad) mix(w *worker, resize bool) {
	b := &books{CapacityResource: l.kept, largest: 2 + w.rng.Int64N(4)}
	b.least = b.largest
	if resize {
		b.least = 1
	}
	b.Resize(b.largest)
	join := w.start(12, func(w *worker) {
		for range 60 {
			b.step(w)
		}
	})
	if resize || w.oneIn(2) {
		w.during(join, func() {
			if resize {
				w.ops++
				b.Resize(w.rng.Int64N(b.largest + 1))
			}
			b.checkStats(w)
			w.linger(8)
		})
		b.Resize(b.largest)
	}
	join()
	if w.plant == plantLost {
		b.TryAcquire()
	}
	b.checkAtRest(w)
	s := b.Stats()
	w.waits += uint64(s.WaitCount - l.waits)
	l.waits = s.WaitCount
}

// generation is a new resource, used until it is closed and drained.
func (l *resourceLoad) generation(w *worker) {
	capacity := 1 + w.rng.Int64N(4)
	b := &books{
		CapacityResource: condvar.NewCapacityResource(capacity, l.options...),
		largest:          capacity, least: capacity,
	}
	join := w.start(12, func(w *worker) {
		for !b.closed.Load() {
			b.step(w)
		}
		b.step(w)
	})
	await(func() bool { return b.Stats().WaitCount >= 100 })
	b.closing.Store(true)
	w.ops += 2
	if w.oneIn(2) {
		_ = b.Close()
		b.closed.Store(true)
	} else {
		ctx, cancel := w.context()
		if err := b.Drain(ctx); err != nil {
			w.checkError(ctx, err)
		}
		cancel()
		b.closed.Store(true)
	}
	if err := b.Drain(context.Background()); err != nil {
		w.failf("Drain without end: %v", err)
	}
	if s := b.Stats(); s.InUse != 0 || s.Waiting != 0 || s.WaitingN != 0 || !s.Closed {
		w.failf("drained, but %+v", s)
	}
	join()
	w.waits += uint64(b.Stats().WaitCount)
}

// step acquires and releases once.
func (b *books) step(w *worker) {
	n := [...]int64{1, 1, 1, 1, 2, 3, b.largest, b.largest + 1, 0}[w.rng.IntN(9)]
	w.ops++
	wasClosed := b.closed.Load()
	var err error
	switch kind := w.rng.IntN(8); kind {
	case 0, 1:
		if b.TryAcquireN(n) {
			b.hold(w, n, wasClosed)
			b.giveBack(w, n)
		}
		return
	case 2:
		ctx, cancel := w.context()
		defer cancel()
		w.abandon(func(leave func()) {
			err := b.DoN(ctx, n, func(context.Context) error {
				b.hold(w, n, wasClosed)
				b.holders.Add(-n)
				leave()
				return nil
			})
			b.checkError(ctx, w, n, err)
		})
		return
	case 3:
		w.ops++
		if !panics(func() { b.ReleaseN(math.MaxInt64) }) {
			w.failf("released more than held")
		}
		fallthrough
	case 4, 5:
		ctx, cancel := w.context()
		defer cancel()
		err = b.AcquireN(ctx, n)
		b.checkError(ctx, w, n, err)
	default:
		err = b.AcquireN(context.Background(), n)
		b.checkError(context.Background(), w, n, err)
	}
	if err == nil {
		b.hold(w, n, wasClosed)
		b.giveBack(w, n)
	}
}

// hold counts n permits that were taken, and uses them for a while.
func (b *books) hold(w *worker, n int64, wasClosed bool) {
	if wasClosed {
		w.failf("%d permits taken after Close had returned", n)
	}
	if held := b.holders.Add(n); held > b.largest {
		w.failf("%d permits taken of at most %d", held, b.largest)
	}
	w.linger(2)
}

// giveBack releases n permits, in one or two parts.
func (b *books) giveBack(w *worker, n int64) {
	b.holders.Add(-n)
	w.ops++
	if n > 1 && w.oneIn(2) {
		w.ops++
		b.Release()
		n--
	}
	b.ReleaseN(n)
}

// checkError checks what an acquisition of n permits with ctx returned.
func (b *books) checkError(ctx context.Context, w *worker, n int64, err error) {
	switch {
	case err == nil:
	case errors.Is(err, condvar.ErrClosed):
		if !b.closing.Load() {
			w.failf("ErrClosed from a resource that is not closed")
		}
	case errors.Is(err, condvar.ErrTooLarge):
		if n <= b.least {
			w.failf("ErrTooLarge for %d permits of a capacity of at least %d", n, b.least)
		}
	default:
		w.checkError(ctx, err)
	}
}

func (b *books) checkStats(w *worker) {
	w.ops++
	s := b.Stats()
	if s.InUse < 0 || s.InUse > b.largest || s.Waiting < 0 || s.WaitingN < s.Waiting || s.Canceled > s.WaitCount {
		w.failf("impossible, with a capacity of at most %d: %+v", b.largest, s)
	}
}

// checkAtRest checks that exactly the whole capacity is free.
func (b *books) checkAtRest(w *worker) {
	w.ops += 5
	s := b.Stats()
	if s.InUse != 0 || s.Waiting != 0 || s.WaitingN != 0 || s.OldestWait != 0 || s.Capacity != b.largest {
		w.failf("at rest, with a capacity of %d: %+v", b.largest, s)
		return
	}
	if !b.TryAcquireN(b.largest) || b.TryAcquire() {
		w.failf("at rest, not exactly %d permits are free", b.largest)
		return
	}
	b.ReleaseN(b.largest)
	if !panics(b.Release) {
		w.failf("released, though nothing is held")
	}
}

// exclusive is a resource of one permit as a mutex, as fast as it goes. Some hold
// it while others run, and in the default mode most of these overtake.
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
				w.failf("Acquire without end: %v", err)
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
	b := &books{CapacityResource: r, largest: 1}
	b.checkAtRest(w)
	w.waits += uint64(r.Stats().WaitCount)
}

// alone is resources with one user each, so that nobody waits. One of them is
// so large that it does without the fast paths.
func (l *resourceLoad) alone(w *worker) {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	w.start(4, func(w *worker) {
		capacity := int64(3)
		if w.oneIn(4) {
			capacity = 1 << 40
		}
		b := &books{CapacityResource: condvar.NewCapacityResource(capacity, l.options...), largest: capacity}
		for range 20000 {
			err1, err2 := b.Acquire(ctx), b.AcquireN(ctx, capacity-1)
			if err1 != nil || err2 != nil || b.TryAcquire() {
				w.failf("not exactly %d permits could be taken", capacity)
			}
			b.ReleaseN(capacity - 1)
			b.Release()
			w.ops += 5
		}
		b.checkAtRest(w)
	})()
}
