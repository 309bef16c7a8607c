package matrix

import (
	"context"
	"errors"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/stretchr/testify/require"

	"example.com/condvar"
	"example.com/condvar/keyed"
)

// MaxWait.

// No use takes as long as longMaxWait, so it never ends a wait. Each wait
// without an earlier deadline has a timer.
const (
	longMaxWait  = 2 * time.Hour
	shortMaxWait = time.Millisecond
)

// newMaxWait returns a resource whose waits have timers, and another one whose
// timers end the waits.
func newMaxWait() *object {
	with := func(d time.Duration) *resource {
		r := condvar.NewCapacityResource(3, condvar.MaxWait(d))
		return &resource{CapacityResource: r, capacity: 3}
	}
	long, short := with(longMaxWait), with(shortMaxWait)
	return &object{
		name:  "MaxWait",
		waits: []wait{long.acquiring()},
		uses: []use{
			{"paused", long.paused},
			{"turnedAway", long.turnedAway},
			{"starvingHead", long.starvingHead},
			{"overstayed", short.overstayed},
			{"grantedInTime", short.grantedInTime},
		},
		atRest: func() bool { return long.atRest() && short.atRest() },
		touch: func(dead context.Context) bool {
			return long.touch(dead) && short.touch(dead)
		},
	}
}

// overstayed lets every call wait for MaxWait.
func (r *resource) overstayed(v *visit) {
	require.True(v, r.TryAcquireN(r.capacity))
	begin, before := time.Now(), r.Stats().Rejected
	calls := start(v.n, func() error { return r.Do(v.Context(), pass) })
	calls.requireAll(v, condvar.ErrOverloaded)
	require.Equal(v, before+int64(v.n), r.Stats().Rejected)
	if v.bubble {
		require.Equal(v, shortMaxWait, time.Since(begin))
	}
	r.ReleaseN(r.capacity)
}

// grantedInTime admits calls just before their timers fire, so that these are
// stopped late. Outside bubbles both outcomes are possible.
func (r *resource) grantedInTime(v *visit) {
	require.True(v, r.TryAcquireN(r.capacity))
	calls := start(v.n, func() error {
		if err := r.Do(v.Context(), pass); v.bubble || !errors.Is(err, condvar.ErrOverloaded) {
			return err
		}
		return nil
	})
	if v.bubble {
		r.settle(v, v.n)
		time.Sleep(shortMaxWait - 1)
	}
	r.ReleaseN(r.capacity)
	calls.requireAll(v, nil)
}

// Permit.

// A permits is a resource that is used with Permits, and another one. Each step
// leaves a Permit of that to the next step, which is at another place.
type permits struct {
	*resource
	block *condvar.Permit // of the whole capacity, or nil

	handedOn *condvar.CapacityResource
	last     *condvar.Permit // of handedOn
}

func newPermit() *object {
	p := &permits{
		resource: &resource{CapacityResource: condvar.NewCapacityResource(3), capacity: 3},
		handedOn: condvar.NewCapacityResource(1),
	}
	p.last, _ = p.handedOn.TryAcquirePermit(1)
	return &object{
		name: "Permit",
		waits: []wait{{
			"Acquire", p.acquire, p.waiting,
			func() { p.block, _ = p.TryAcquirePermit(p.capacity) },
			func(int) { p.block.Release() },
		}},
		uses: []use{
			{"releasedByMany", p.releasedByMany},
			{"handedOn", p.fromStepToStep},
		},
		atRest: func() bool {
			s := p.handedOn.Stats()
			return p.atRest() && s.InUse == 1 && s.Waiting == 0
		},
		touch: func(dead context.Context) bool {
			none, err := p.AcquirePermit(dead, 1)
			if one, ok := p.TryAcquirePermit(1); ok {
				one.Release()
				one.Release()
			}
			return none == nil && err != nil
		},
	}
}

// acquire acquires a Permit and releases it twice.
func (p *permits) acquire(ctx context.Context) error {
	permit, err := p.AcquirePermit(ctx, p.capacity)
	permit.Release()
	permit.Release()
	return err
}

// releasedByMany releases the Permit that others wait for from several
// goroutines.
func (p *permits) releasedByMany(v *visit) {
	permit, ok := p.TryAcquirePermit(p.capacity)
	require.True(v, ok)
	calls := start(v.n, func() error { return p.acquire(v.Context()) })
	p.settle(v, v.n)
	var all sync.WaitGroup
	for range 3 {
		all.Go(permit.Release)
	}
	all.Wait()
	calls.requireAll(v, nil)
}

// fromStepToStep waits for the Permit of the step before, and leaves one.
func (p *permits) fromStepToStep(v *visit) {
	left := make(chan *condvar.Permit, 1)
	calls := start(1, func() error {
		permit, err := p.handedOn.AcquirePermit(v.Context(), 1)
		left <- permit
		return err
	})
	v.settle(func() bool { return p.handedOn.Stats().Waiting == 1 })
	p.last.Release()
	calls.requireAll(v, nil)
	p.last.Release() // released already; must not release the new one
	p.last = <-left
}

// Keyed.

// packageKeyed is used with the key of the place, so that each step reuses the
// entry from another place, and with a key common to all places.
var packageKeyed = keyed.New[string](3, condvar.MaxWait(longMaxWait))

const commonKey = "common"

func newKeyed(r *keyed.Resource[string], capacity int64) *object {
	k := &keyedObject{r, capacity}
	return &object{
		name: "Keyed",
		waits: []wait{{
			"Acquire",
			func(ctx context.Context) error { return r.Do(ctx, commonKey, pass) },
			func() int { return int(r.Stats(commonKey).Waiting) },
			func() { r.TryAcquireN(commonKey, capacity) },
			func(int) { r.ReleaseN(commonKey, capacity) },
		}},
		uses: []use{
			{"ofThePlace", k.ofThePlace},
			{"paused", k.paused},
			{"turnedAway", k.turnedAway},
		},
		atRest: func() bool { return r.Len() == 0 },
		touch: func(dead context.Context) bool {
			if r.TryAcquire(commonKey) {
				r.Release(commonKey)
			}
			if rand.IntN(8) == 0 { // Resize drops idle entries
				r.Resize(capacity)
			}
			s := r.Stats(commonKey)
			return s.Capacity == capacity && s.Waiting == 0 && r.Acquire(dead, commonKey) != nil &&
				r.AcquireN(context.Background(), commonKey, 0) == nil
		},
	}
}

type keyedObject struct {
	*keyed.Resource[string]
	capacity int64
}

func (k *keyedObject) settle(v *visit, key string, waiting int) {
	v.Helper()
	v.settle(func() bool { return k.Stats(key).Waiting == int64(waiting) })
}

// ofThePlace lets calls wait for two keys concurrently, one of this place.
func (k *keyedObject) ofThePlace(v *visit) {
	keys := []string{commonKey, v.name}
	var waits []*calls
	for _, key := range keys {
		require.True(v, k.TryAcquireN(key, k.capacity))
		waits = append(waits, start(v.n, func() error { return k.Do(v.Context(), key, pass) }))
		k.settle(v, key, v.n)
	}
	require.Equal(v, 2, k.Len())
	for i, key := range keys {
		k.ReleaseN(key, k.capacity)
		waits[i].requireAll(v, nil)
	}
}

func (k *keyedObject) paused(v *visit) {
	require.Equal(v, k.capacity, k.Resize(0))
	calls := start(v.n, func() error { return k.Do(v.Context(), v.name, pass) })
	k.settle(v, v.name, v.n)
	require.Zero(v, k.Resize(k.capacity))
	calls.requireAll(v, nil)
}

func (k *keyedObject) turnedAway(v *visit) {
	require.True(v, k.TryAcquireN(commonKey, k.capacity))
	calls := start(v.n, func() error { return k.AcquireN(v.Context(), commonKey, k.capacity) })
	k.settle(v, commonKey, v.n)
	k.Resize(k.capacity - 1)
	calls.requireAll(v, condvar.ErrTooLarge)
	k.Resize(k.capacity)
	k.ReleaseN(commonKey, k.capacity)
}
