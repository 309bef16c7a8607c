package hammer

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"example.com/condvar"
)

// resInBothModes is resBothModes outside of bubbles.
func resInBothModes(t *testing.T, f func(t *testing.T, opts ...condvar.Option)) {
	t.Run("default", func(t *testing.T) { f(t) })
	t.Run("FIFO", func(t *testing.T) { f(t, condvar.FIFO()) })
}

// resThreshold is how long new calls may overtake the head of the line.
const resThreshold = time.Millisecond

// Goroutines call TryAcquire while another one calls Close.
func TestCapacityResource_NoTryAcquireSucceedsOnceCloseHasReturned(t *testing.T) {
	for range 50 {
		r := condvar.NewCapacityResource(8)
		var closed, late atomic.Bool
		var wg sync.WaitGroup
		for range 4 {
			wg.Go(func() {
				for {
					after := closed.Load()
					if !r.TryAcquire() {
						if after {
							return
						}
						continue
					}
					if after {
						late.Store(true)
					}
					runtime.Gosched()
					r.Release()
				}
			})
		}
		runtime.Gosched()
		require.NoError(t, r.Close())
		closed.Store(true)
		wg.Wait()
		require.False(t, late.Load())
		require.Equal(t, condvar.Stats{Capacity: 8, Closed: true}, r.Stats())
	}
}

// Bug R18. If a release is lost in a race, both goroutines sleep.
func TestCapacityResource_HandingOnePermitToAndFroLosesNoRelease(t *testing.T) {
	for _, opts := range [][]condvar.Option{nil, {condvar.FIFO()}} {
		r := condvar.NewCapacityResource(1, opts...)
		ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
		errs := make(chan error, 3)
		for range cap(errs) {
			go func() {
				for range 5000 {
					if err := r.Acquire(ctx); err != nil {
						errs <- err
						return
					}
					r.Release()
				}
				errs <- nil
			}()
		}
		for range cap(errs) {
			require.NoError(t, <-errs)
		}
		cancel()
		require.Zero(t, r.Stats().InUse)
	}
}

// Bug R7. Each looper acquires its next permit before it releases the last one,
// if it can: with unlimited overtaking, some permits would always be held.
func TestCapacityResource_ABigRequestGetsInAmongSixteenLoopers(t *testing.T) {
	const loopers = 16
	r := condvar.NewCapacityResource(2 * loopers)
	var stop atomic.Bool
	var wg sync.WaitGroup
	for range loopers {
		require.True(t, r.TryAcquire())
		wg.Go(func() {
			for !stop.Load() {
				overtook := r.TryAcquire()
				r.Release()
				if !overtook {
					_ = r.Acquire(context.Background())
				}
				runtime.Gosched()
			}
			r.Release()
		})
	}
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	var err error
	for i := 0; i < 10 && err == nil; i++ {
		if err = r.AcquireN(ctx, 2*loopers); err == nil {
			r.ReleaseN(2 * loopers)
		}
	}
	stop.Store(true)
	wg.Wait()
	require.NoError(t, err)
	require.Zero(t, r.Stats().InUse)
}

// Rows 116, 136. The counter is not atomic, so that -race detects whether a
// Release synchronizes before the Acquire that gets its permit.
func TestCapacityResource_OneAtATimeIsInside(t *testing.T) {
	for _, opts := range [][]condvar.Option{nil, {condvar.FIFO()}} {
		// The second capacity is beyond the fast path.
		for _, n := range []int64{1, 1 << 40} {
			r := condvar.NewCapacityResource(n, opts...)
			inside, total, most := 0, 0, 0
			body := func(ctx context.Context) error {
				inside++
				most = max(most, inside)
				total++
				runtime.Gosched()
				inside--
				return ctx.Err()
			}
			var wg sync.WaitGroup
			for i := range 5 {
				wg.Go(func() {
					for done := 0; done < 1000; {
						if i%2 == 0 {
							_ = r.DoN(context.Background(), n, body)
						} else if r.TryAcquireN(n) {
							_ = body(context.Background())
							r.ReleaseN(n)
						} else {
							runtime.Gosched()
							continue
						}
						done++
					}
				})
			}
			wg.Wait()
			require.Equal(t, 1, most)
			require.Equal(t, 5000, total)
			require.Zero(t, r.Stats().InUse)
		}
	}
}

// Bug R21. Computing goroutines use all processors, and a release admits a call
// that has waited for long. The release must not wait for a processor.
func TestCapacityResource_ReleaseDoesNotYieldToGoroutinesThatCompute(t *testing.T) {
	const rounds, computing = 11, 50
	var took []time.Duration
	for range rounds {
		r := condvar.NewCapacityResource(1)
		require.True(t, r.TryAcquire())
		var wg sync.WaitGroup
		wg.Go(func() { require.NoError(t, r.Acquire(context.Background())) })
		spin(t, func() int { return int(r.Stats().Waiting) }, 1)
		joined := time.Now()
		var over atomic.Bool
		var busy atomic.Int32
		for range computing {
			wg.Go(func() {
				busy.Add(1)
				for !over.Load() {
				}
			})
		}
		// Without yielding the processor, until each other one computes: an idle
		// one would take a goroutine that yields at once.
		others := min(computing, int32(runtime.GOMAXPROCS(0)-1))
		for time.Since(joined) < 3*resThreshold || busy.Load() < others {
		}
		begin := time.Now()
		r.Release()
		took = append(took, time.Since(begin))
		over.Store(true)
		wg.Wait()
	}
	slices.Sort(took)
	require.Less(t, took[rounds/2], 10*time.Millisecond)
}

// resourceModes are the two kinds of resource.
var resourceModes = []struct {
	name string
	opts []condvar.Option
}{
	{"default", nil},
	{"FIFO", []condvar.Option{condvar.FIFO()}},
}

// F18, F19. The main use case of this package, for a second in each mode.
func TestCapacityResource_FiveWorkersNeverUseMoreThanTwoSlots(t *testing.T) {
	for _, mode := range resourceModes {
		t.Run(mode.name, func(t *testing.T) {
			hammerAtLeast(t, time.Second/3, func(h *hammer) {
				const slots = 2
				r := condvar.NewCapacityResource(slots, mode.opts...)
				var inside, turns atomic.Int64
				var full atomic.Bool
				var wg sync.WaitGroup
				for range 5 {
					wg.Go(func() {
						for !h.over() {
							if err := r.Acquire(context.Background()); err != nil {
								h.Errorf("Acquire returned %v", err)
								return
							}
							switch n := inside.Add(1); {
							case n > slots:
								h.Errorf("%d workers use %d slots", n, slots)
							case n == slots:
								full.Store(true)
							}
							runtime.Gosched()
							inside.Add(-1)
							turns.Add(1)
							r.Release()
						}
					})
				}
				h.wait(&wg)
				h.Log(turns.Load(), "turns")
				require.True(h, full.Load(), "the slots were never all in use")
				requireIdle(h, r, slots)
			})
		})
	}
}

// requireIdle checks the accounting of an idle resource.
func requireIdle(t require.TestingT, r *condvar.CapacityResource, capacity int64) {
	s := r.Stats()
	s.WaitCount, s.WaitDuration, s.Canceled = 0, 0, 0
	require.Equal(t, condvar.Stats{Capacity: capacity}, s)
	require.True(t, r.TryAcquireN(capacity))
	require.False(t, r.TryAcquire())
	r.ReleaseN(capacity)
}

// F6, F19.
func TestCapacityResource_NeverExceedsItsCapacityAndStrandsNobody(t *testing.T) {
	for _, mode := range resourceModes {
		for _, resizing := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s,resizing=%v", mode.name, resizing), func(t *testing.T) {
				hammerAll(t, func(h *hammer) {
					const capacity = 5
					u := &resourceUsers{h: h, r: condvar.NewCapacityResource(capacity, mode.opts...), capacity: capacity, resizing: resizing}
					rounds := uint64(0)
					for ; !h.over(); rounds++ {
						var wg sync.WaitGroup
						for i := range uint64(6) {
							wg.Go(func() { u.work(hammerRand(rounds<<8|i), &wg) })
						}
						if resizing {
							wg.Go(func() { u.resize(hammerRand(rounds<<8 | 255)) })
						}
						h.wait(&wg)
						requireIdle(h, u.r, capacity)
					}
					s := u.r.Stats()
					h.Log(rounds, "rounds,", s.WaitCount, "waits,", s.Canceled, "canceled")
					require.LessOrEqual(h, s.Canceled, u.contextErrors.Load())
					require.Positive(h, s.Canceled)
					require.Greater(h, s.WaitCount, s.Canceled)
				})
			})
		}
	}
}

// resourceUsers is the state of the workers of the test above.
type resourceUsers struct {
	h             *hammer
	r             *condvar.CapacityResource
	capacity      int64 // the maximum at any time
	resizing      bool
	inside        atomic.Int64
	contextErrors atomic.Int64
}

// work is one worker in one round.
func (u *resourceUsers) work(rng *rand.Rand, wg *sync.WaitGroup) {
	for range 15 {
		n := 1 + rng.Int64N(u.capacity)
		ctx, cancel := hammerContext(rng, wg)
		var err error
		switch rng.IntN(4) {
		case 0:
			if u.r.TryAcquireN(n) {
				u.use(rng, n)
				u.r.ReleaseN(n)
			}
		case 1:
			err = u.r.DoN(ctx, n, func(context.Context) error {
				u.use(rng, n)
				return nil
			})
		default:
			if err = u.r.AcquireN(ctx, n); err == nil {
				u.use(rng, n)
				part := rng.Int64N(n + 1)
				u.r.ReleaseN(part)
				u.r.ReleaseN(n - part)
			}
		}
		switch {
		case err == nil:
		case errors.Is(err, condvar.ErrTooLarge) && u.resizing && n > 1:
		case ctx.Err() != nil && errors.Is(err, ctx.Err()):
			u.contextErrors.Add(1)
		default:
			u.h.Errorf("an acquisition of %d returned %v, and the context is %v", n, err, ctx.Err())
		}
		cancel()
	}
}

// use holds n permits for a moment.
func (u *resourceUsers) use(rng *rand.Rand, n int64) {
	if all := u.inside.Add(n); all > u.capacity {
		u.h.Errorf("%d permits are held", all)
	}
	yield(rng)
	u.inside.Add(-n)
}

// resize changes the capacity, which no other goroutine does. It checks that
// permits in use never increase while they exceed it.
func (u *resourceUsers) resize(rng *rand.Rand) {
	for range 8 {
		c := rng.Int64N(u.capacity + 1)
		u.r.Resize(c)
		before := u.r.Stats()
		for range 4 {
			yield(rng)
			s := u.r.Stats()
			if s.Capacity != c || s.InUse > max(c, before.InUse) {
				u.h.Errorf("%d permits are held after %d, and the capacity is %d after Resize(%d)", s.InUse, before.InUse, s.Capacity, c)
			}
			before = s
		}
	}
	u.r.Resize(u.capacity)
}

// Bug R27.
func TestMaxWaiting_IsNeverExceededInAStorm(t *testing.T) {
	resInBothModes(t, func(t *testing.T, opts ...condvar.Option) {
		const most = 5
		r := condvar.NewCapacityResource(1, append(opts, condvar.MaxWaiting(most))...)
		var calls sync.WaitGroup
		var rejected, over atomic.Int64
		for range 200 {
			calls.Go(func() {
				for range 20 {
					ctx, cancel := context.WithTimeout(t.Context(), time.Duration(rand.IntN(100))*time.Microsecond)
					err := r.Acquire(ctx)
					cancel()
					if r.Stats().Waiting > most {
						over.Add(1)
					}
					switch {
					case err == nil:
						runtime.Gosched()
						r.Release()
					case errors.Is(err, condvar.ErrOverloaded):
						rejected.Add(1)
					}
				}
			})
		}
		calls.Wait()
		require.Zero(t, over.Load())
		require.Equal(t, condvar.Stats{
			Capacity: 1, Rejected: rejected.Load(),
			WaitCount: r.Stats().WaitCount, WaitDuration: r.Stats().WaitDuration, Canceled: r.Stats().Canceled,
		}, r.Stats())
		require.Positive(t, rejected.Load())
	})
}
