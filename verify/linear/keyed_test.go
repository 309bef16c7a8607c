package linear

import (
	"context"
	"math/rand/v2"
	"sync/atomic"
	"testing"

	"example.com/condvar"
	"example.com/condvar/keyed"
)

// Each key is a resource of its own, and comes and goes while others are used.
// Time, close and Stats are left out: a key has no Close, and its totals begin
// anew.
func TestKeyedResourceIsLinearizable(t *testing.T) {
	verify(t, 1000, newKeyedScene)
}

func newKeyedScene(seed uint64, _ bool) scene {
	random := rand.New(rand.NewPCG(seed, 3))
	m := resourceModel{
		capacity: 1 + random.Int64N(3), fifo: random.IntN(2) == 0,
		places: max(0, random.IntN(6)-2), oversized: random.IntN(3) == 0, keyed: true,
	}
	operation := func(choices []choice) op {
		o := op{kind: choose(random, choices)}
		switch o.kind {
		case begin, tryAcquire, release:
			o.n = []int64{0, 1, 1, 1, 1, 2, 2, 3}[random.IntN(8)]
		case resize:
			o.n = random.Int64N(4)
		}
		return o
	}
	s := newScript(random, func() op {
		return operation([]choice{{12, release}, {3, resize}, {6, tryAcquire}})
	}, func() op {
		return operation([]choice{{10, begin}, {6, release}, {2, tryAcquire}})
	})
	s.last = s.cancelAll()

	var options []condvar.Option
	if m.fifo {
		options = append(options, condvar.FIFO())
	}
	if m.places > 0 {
		options = append(options, condvar.MaxWaiting(m.places-1))
	}
	if m.oversized {
		options = append(options, condvar.AdmitOversized())
	}
	const key, others = 0, 3
	r := keyed.New[int](m.capacity, options...)
	var count atomic.Int64
	do := func(ctx context.Context, o op) any {
		// Another key takes the entry of this one, if that is idle.
		if other := 1 + int(count.Add(1))%others; r.TryAcquire(other) {
			r.Release(other)
		}
		switch o.kind {
		case begin:
			return fateOf(r.AcquireN(ctx, key, o.n))
		case tryAcquire:
			return r.TryAcquireN(key, o.n)
		case release:
			return tryRelease(func() { r.ReleaseN(key, o.n) })
		case resize:
			return r.Resize(o.n)
		}
		return nil
	}
	return scene{s, seed, do, m.porcupine, new(atomic.Int64), nil}
}
