package main

import (
	"context"
	"errors"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"example.com/condvar"
	"example.com/condvar/keyed"
)

const (
	overloadCapacity = 3
	overloadPlaces   = 4
	overloadWait     = 50 * time.Microsecond
)

// An overloadLoad is the load on resources with a bounded line, limited waits,
// requests for more than the capacity, and Permits that are released by several
// goroutines. One of the resources lives as long as the soak, so its waiters
// and their timers are reused many times.
type overloadLoad struct {
	options []condvar.Option
	kept    *condvar.CapacityResource
}

func newOverloadLoad(options ...condvar.Option) *overloadLoad {
	options = append(options, condvar.MaxWaiting(overloadPlaces), condvar.MaxWait(overloadWait), condvar.AdmitOversized())
	return &overloadLoad{options, condvar.NewCapacityResource(overloadCapacity, options...)}
}

func (l *overloadLoad) rounds() []func(*worker) {
	return []func(*worker){l.storm, l.pausedStorm, l.overstay, l.generation}
}

// A ledger has the soak's own counts for such a resource.
type ledger struct {
	*condvar.CapacityResource
	before   condvar.Stats
	rejected atomic.Int64 // calls
	holders  atomic.Int64 // permits held; counted after taking, before releasing
	closing  atomic.Bool  // Close is about to be called
}

func newLedger(r *condvar.CapacityResource) *ledger {
	return &ledger{CapacityResource: r, before: r.Stats()}
}

// check checks all counts, with no permit held.
func (l *ledger) check(w *worker) {
	w.ops++
	s := l.Stats()
	if s.InUse != 0 || s.Waiting != 0 || s.WaitingN != 0 || s.OldestWait != 0 || s.Capacity != overloadCapacity {
		w.failf("at rest: %+v", s)
	}
	if n := s.Rejected - l.before.Rejected; n != l.rejected.Load() {
		w.failf("%d calls were rejected, but Stats says %d", l.rejected.Load(), n)
	}
	w.waits += uint64(s.WaitCount - l.before.WaitCount)
}

func (l *overloadLoad) storm(w *worker)       { l.run(w, false) }
func (l *overloadLoad) pausedStorm(w *worker) { l.run(w, true) }

func (l *overloadLoad) run(w *worker, paused bool) {
	r := newLedger(l.kept)
	join := w.start(12, func(w *worker) {
		for range 60 {
			_ = r.step(w)
		}
	})
	w.during(join, func() {
		w.ops++
		if s := r.Stats(); s.Waiting > overloadPlaces || s.InUse < 0 {
			w.failf("impossible, with at most %d in line: %+v", overloadPlaces, s)
		}
		if paused {
			w.ops += 2
			r.Resize(r.Resize(0))
		}
		w.linger(8)
	})
	r.check(w)
}

// overstay lets all calls wait for MaxWait. Only their timers end the waits.
func (l *overloadLoad) overstay(w *worker) {
	r := newLedger(l.kept)
	block, ok := r.TryAcquirePermit(overloadCapacity)
	if !ok {
		w.failf("no permit was held, but not all were free")
	}
	w.start(overloadPlaces, func(w *worker) {
		for range 8 {
			begin := time.Now()
			if err := r.Acquire(context.Background()); !errors.Is(err, condvar.ErrOverloaded) {
				w.failf("Acquire returned %v while all permits were held", err)
			}
			if waited := time.Since(begin); waited < overloadWait {
				w.failf("rejected after %v of %v", waited, overloadWait)
			}
			r.rejected.Add(1)
			w.ops++
		}
	})()
	block.Release()
	w.ops += 2
	r.check(w)
}

// generation uses a new resource until it is closed and drained.
func (l *overloadLoad) generation(w *worker) {
	r := newLedger(condvar.NewCapacityResource(overloadCapacity, l.options...))
	join := w.start(12, func(w *worker) {
		for !errors.Is(r.step(w), condvar.ErrClosed) {
		}
	})
	await(func() bool { return r.Stats().Rejected >= 50 })
	r.closing.Store(true)
	if err := r.Drain(context.Background()); err != nil {
		w.failf("Drain without a context: %v", err)
	}
	if n := r.holders.Load(); n != 0 {
		w.failf("drained, but %d permits are held", n)
	}
	join()
	w.ops++
	r.check(w)
}

// step acquires permits, with Do or as a Permit that one or two goroutines
// release.
func (l *ledger) step(w *worker) (err error) {
	n := [...]int64{1, 1, 1, 2, 3, overloadCapacity + 2}[w.rng.IntN(6)]
	ctx, cancel := w.context()
	defer cancel()
	w.ops++
	var p *condvar.Permit
	if w.oneIn(8) {
		w.abandon(func(leave func()) {
			err = errAbandoned
			err = l.DoN(ctx, n, func(context.Context) error {
				l.hold(w, n)
				leave()
				return nil
			})
		})
	} else if p, err = l.AcquirePermit(ctx, n); err == nil {
		l.hold(w, n)
	}
	switch {
	case p != nil:
		w.ops++
		w.release(p)
	case err == nil || errors.Is(err, errAbandoned):
	case errors.Is(err, condvar.ErrOverloaded):
		l.rejected.Add(1)
	case !errors.Is(err, condvar.ErrClosed):
		w.checkError(ctx, err)
	case !l.closing.Load():
		w.failf("ErrClosed from a resource that is not closed")
	}
	return err
}

// errAbandoned marks a Do that did not return.
var errAbandoned = errors.New("the function of Do ended the goroutine")

// hold counts n acquired permits, and holds them for a while.
func (l *ledger) hold(w *worker, n int64) {
	if held := l.holders.Add(n); held > max(overloadCapacity, n) {
		w.failf("%d permits held of %d, %d of them by one call", held, overloadCapacity, n)
	}
	w.linger(2)
	l.holders.Add(-n)
}

// release releases p twice, sometimes concurrently.
func (w *worker) release(p *condvar.Permit) {
	if !w.oneIn(4) {
		p.Release()
		p.Release()
		return
	}
	var ready atomic.Int64
	release := func() {
		ready.Add(1)
		for i := 1; ready.Load() < 2; i++ { // spin, so that both release at nearly the same time
			if i%64 == 0 {
				runtime.Gosched()
			}
		}
		p.Release()
	}
	var other sync.WaitGroup
	other.Go(release)
	release()
	other.Wait()
}

// A keyedLoad is the load on a keyed.Resource that lives as long as the soak.
type keyedLoad struct {
	kept    *keyed.Resource[int]
	holders [4]atomic.Int64 // permits held, by key
}

const keyedCapacity = 2

// newKeyedLoad returns a load that lets other goroutines run while a key is
// made or resized.
func newKeyedLoad() *keyedLoad {
	others := condvar.Observe(func(*condvar.CapacityResource) *condvar.Hooks {
		runtime.Gosched()
		return &condvar.Hooks{Resized: func(int64, int64) { runtime.Gosched() }}
	})
	return &keyedLoad{kept: keyed.New[int](keyedCapacity, condvar.MaxWaiting(3), others)}
}

func (l *keyedLoad) rounds() []func(*worker) {
	return []func(*worker){l.storm, l.pausedStorm, l.resized}
}

func (l *keyedLoad) storm(w *worker)       { l.run(w, false) }
func (l *keyedLoad) pausedStorm(w *worker) { l.run(w, true) }

func (l *keyedLoad) run(w *worker, paused bool) {
	join := w.start(12, func(w *worker) {
		for range 60 {
			l.step(w)
		}
	})
	w.during(join, func() {
		w.ops++
		key := w.rng.IntN(len(l.holders))
		if s := l.kept.Stats(key); s.InUse < 0 || s.InUse > keyedCapacity || s.Waiting > 3 || s.WaitCount < 0 || s.Rejected < 0 {
			w.failf("impossible, of key %d: %+v", key, s)
		}
		if paused {
			w.ops += 2
			l.kept.Resize(l.kept.Resize(0))
		}
		w.linger(8)
	})
	l.checkAtRest(w)
}

// resized sets the capacity from several goroutines while a permit of each key
// is held. All keys, also new ones, must end with the same capacity.
func (l *keyedLoad) resized(w *worker) {
	for key := range l.holders {
		l.holders[key].Add(1)
		if err := l.kept.Acquire(context.Background(), key); err != nil {
			w.failf("Acquire of a free permit: %v", err)
		}
	}
	join := w.start(4, func(w *worker) {
		for range 20 {
			l.step(w)
		}
	})
	w.start(3, func(w *worker) {
		for range 20 {
			w.ops++
			l.kept.Resize(w.rng.Int64N(keyedCapacity + 1))
		}
	})()
	join()
	want := l.kept.Stats(len(l.holders)).Capacity
	for key := range l.holders {
		if s := l.kept.Stats(key); s.Capacity != want || s.InUse != 1 {
			w.failf("key %d, with a capacity of %d: %+v", key, want, s)
		}
		l.holders[key].Add(-1)
		l.kept.Release(key)
	}
	l.kept.Resize(keyedCapacity)
	w.ops += uint64(3*len(l.holders) + 2)
	l.checkAtRest(w)
}

// checkAtRest checks that no key is in use, and that exactly the whole capacity
// of each is free. It uses many keys at the same time to check all idle
// entries.
func (l *keyedLoad) checkAtRest(w *worker) {
	const many = 20
	w.ops += 2 + 3*many
	if n := l.kept.Len(); n != 0 {
		w.failf("at rest %d keys are left", n)
		return
	}
	if s := l.kept.Stats(0); s != (condvar.Stats{Capacity: keyedCapacity}) {
		w.failf("at rest: %+v", s)
	}
	for key := range many {
		if !l.kept.TryAcquireN(key, keyedCapacity) || l.kept.TryAcquire(key) {
			w.failf("at rest, not exactly %d permits of key %d are free", keyedCapacity, key)
			return
		}
	}
	for key := range many {
		l.kept.ReleaseN(key, keyedCapacity)
	}
}

// step acquires and releases a key once, in one of several ways.
func (l *keyedLoad) step(w *worker) {
	key := w.rng.IntN(len(l.holders))
	n := [...]int64{0, 1, 1, 1, 2, keyedCapacity + 1}[w.rng.IntN(6)]
	hold := func() {
		if held := l.holders[key].Add(n); held > keyedCapacity {
			w.failf("%d permits held of key %d", held, key)
		}
		w.linger(2)
		l.holders[key].Add(-n)
	}
	w.ops++
	ctx, cancel := w.context()
	defer cancel()
	var err error
	switch w.rng.IntN(6) {
	case 0:
		if l.kept.TryAcquireN(key, n) {
			hold()
			l.kept.ReleaseN(key, n)
		}
		return
	case 1:
		w.abandon(func(leave func()) {
			err = l.kept.DoN(ctx, key, n, func(context.Context) error {
				hold()
				leave()
				return nil
			})
		})
	case 2:
		w.ops++
		if !panics(func() { l.kept.ReleaseN(key, keyedCapacity+1) }) {
			w.failf("more than the capacity was released")
		}
		fallthrough
	default:
		if err = l.kept.AcquireN(ctx, key, n); err == nil {
			w.waits++
			hold()
			w.ops++
			l.kept.ReleaseN(key, n)
		}
	}
	if err != nil && !errors.Is(err, condvar.ErrTooLarge) && !errors.Is(err, condvar.ErrOverloaded) {
		w.checkError(ctx, err)
	}
}
