package main

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"example.com/condvar"
	"example.com/condvar/keyed"
)

const (
	overloadCapacity = 3
	overloadPlaces   = 4
)

// An overloadLoad is the load on a resource with a bounded line, limited waits,
// requests for more than its capacity, and Permits that several release. The
// resource lives as long as the soak, so its waiters, and their timers, are used
// again and again.
type overloadLoad struct{ kept *condvar.CapacityResource }

func newOverloadLoad(options ...condvar.Option) *overloadLoad {
	options = append(options, condvar.MaxWaiting(overloadPlaces), condvar.MaxWait(50*time.Microsecond), condvar.AdmitOversized())
	return &overloadLoad{condvar.NewCapacityResource(overloadCapacity, options...)}
}

func (l *overloadLoad) rounds() []func(*worker) { return []func(*worker){l.storm, l.pausedStorm} }

func (l *overloadLoad) storm(w *worker)       { l.run(w, false) }
func (l *overloadLoad) pausedStorm(w *worker) { l.run(w, true) }

func (l *overloadLoad) run(w *worker, paused bool) {
	r, before := l.kept, l.kept.Stats()
	var rejected, holders atomic.Int64
	join := w.start(12, func(w *worker) {
		for range 60 {
			l.step(w, &rejected, &holders)
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
	s := r.Stats()
	if s.InUse != 0 || s.Waiting != 0 || s.WaitingN != 0 || s.Capacity != overloadCapacity {
		w.failf("at rest: %+v", s)
	}
	if n := s.Rejected - before.Rejected; n != rejected.Load() {
		w.failf("%d calls were rejected, but Stats says %d", rejected.Load(), n)
	}
	w.waits += uint64(s.WaitCount - before.WaitCount)
}

// step acquires a Permit, and has one or two release it.
func (l *overloadLoad) step(w *worker, rejected, holders *atomic.Int64) {
	n := [...]int64{1, 1, 1, 2, 3, overloadCapacity + 2}[w.rng.IntN(6)]
	ctx, cancel := w.context()
	defer cancel()
	w.ops++
	p, err := l.kept.AcquirePermit(ctx, n)
	switch {
	case errors.Is(err, condvar.ErrOverloaded):
		rejected.Add(1)
		return
	case err != nil:
		w.checkError(ctx, err)
		return
	}
	if held := holders.Add(n); held > max(overloadCapacity, n) {
		w.failf("%d permits taken of %d, of which one call took %d", held, overloadCapacity, n)
	}
	w.linger(2)
	holders.Add(-n)
	w.ops++
	if w.oneIn(8) {
		var others sync.WaitGroup
		others.Go(p.Release)
		p.Release()
		others.Wait()
		return
	}
	p.Release()
	p.Release()
}

// A keyedLoad is the load on a keyed.Resource that lives as long as the soak.
type keyedLoad struct {
	kept    *keyed.Resource[int]
	holders [4]atomic.Int64 // permits that are held, of each key
}

const keyedCapacity = 2

func newKeyedLoad() *keyedLoad {
	return &keyedLoad{kept: keyed.New[int](keyedCapacity, condvar.MaxWaiting(3))}
}

func (l *keyedLoad) rounds() []func(*worker) { return []func(*worker){l.storm, l.pausedStorm} }

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
	if n := l.kept.Len(); n != 0 {
		w.failf("at rest %d keys are left", n)
	}
}

// step acquires and releases a key once, by one of the ways to do so.
func (l *keyedLoad) step(w *worker) {
	key := w.rng.IntN(len(l.holders))
	n := [...]int64{0, 1, 1, 1, 2, keyedCapacity + 1}[w.rng.IntN(6)]
	hold := func() {
		if held := l.holders[key].Add(n); held > keyedCapacity {
			w.failf("%d permits taken of key %d", held, key)
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
		err = l.kept.DoN(ctx, key, n, func(context.Context) error { hold(); return nil })
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
