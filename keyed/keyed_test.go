package keyed_test

import (
	"context"
	"errors"
	"math"
	"math/rand/v2"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
	"weak"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"example.com/condvar"
	"example.com/condvar/keyed"
)

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m)
}

const overRelease = "keyed: released more than held"

var errBoom = errors.New("boom")

// A call runs on its own goroutine. err may be read once done is true.
type call struct {
	done atomic.Bool
	err  error
}

// start runs f and waits until the bubble is at rest.
func start(f func() error) *call {
	c := &call{}
	go func() {
		c.err = f()
		c.done.Store(true)
	}()
	synctest.Wait()
	return c
}

func (c *call) requireParked(t *testing.T) {
	t.Helper()
	require.False(t, c.done.Load(), "the call has returned")
}

func (c *call) requireDone(t *testing.T, want error) {
	t.Helper()
	require.True(t, c.done.Load(), "the call has not returned")
	require.Equal(t, want, c.err)
}

// bothModes runs f in a bubble for each mode.
func bothModes(t *testing.T, f func(t *testing.T, opts ...condvar.Option)) {
	t.Helper()
	t.Run("default", func(t *testing.T) { synctest.Test(t, func(t *testing.T) { f(t) }) })
	t.Run("FIFO", func(t *testing.T) { synctest.Test(t, func(t *testing.T) { f(t, condvar.FIFO()) }) })
}

// requireReturns checks that f returns, although it may lock what its caller
// has locked.
func requireReturns(t *testing.T, f func()) {
	t.Helper()
	done := make(chan struct{})
	go func() { defer close(done); f() }()
	select {
	case <-done:
	case <-time.After(20 * time.Second):
		require.Fail(t, "it does not return")
	}
}

// Keys.

func TestEachKeyHasTheCapacity(t *testing.T) {
	r := keyed.New[string](3)
	require.Zero(t, r.Len())
	require.NoError(t, r.AcquireN(t.Context(), "a", 2))
	require.NoError(t, r.Acquire(t.Context(), "a"))
	require.False(t, r.TryAcquire("a"))
	require.True(t, r.TryAcquireN("b", 3))
	require.False(t, r.TryAcquireN("b", 1))
	require.Equal(t, 2, r.Len())
	require.Equal(t, condvar.Stats{Capacity: 3, InUse: 3}, r.Stats("a"))
	require.Equal(t, condvar.ErrTooLarge, r.AcquireN(t.Context(), "c", 4))
	require.False(t, r.TryAcquireN("c", 4))
	require.Equal(t, 2, r.Len())
	r.ReleaseN("a", 2)
	require.True(t, r.TryAcquireN("a", 2))
	r.ReleaseN("a", 3)
	require.Equal(t, 1, r.Len())
	r.Release("b")
	require.Equal(t, 1, r.Len(), "two are still held")
	r.ReleaseN("b", 2)
	require.Zero(t, r.Len())
}

func TestACallThatWaitsBlocksNoOtherKey(t *testing.T) {
	bothModes(t, func(t *testing.T, opts ...condvar.Option) {
		r := keyed.New[string](1, opts...)
		require.True(t, r.TryAcquire("a"))
		a := start(func() error { return r.Acquire(context.Background(), "a") })
		a.requireParked(t)
		b := start(func() error {
			if err := r.Acquire(context.Background(), "b"); err != nil || r.TryAcquire("b") {
				return errBoom
			}
			r.Release("b")
			return r.Do(context.Background(), "c", func(context.Context) error { return nil })
		})
		b.requireDone(t, nil)
		require.Equal(t, 1, r.Len())
		a.requireParked(t)
		r.Release("a")
		synctest.Wait()
		a.requireDone(t, nil)
		r.Release("a")
		require.Zero(t, r.Len())
	})
}

func TestAKeyThatIsBeingMadeBlocksNoOtherKey(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		proceed := make(chan struct{})
		var made atomic.Int64
		r := keyed.New[string](1, condvar.Observe(func(*condvar.CapacityResource) *condvar.Hooks {
			if made.Add(1) == 2 {
				<-proceed
			}
			return nil
		}))
		require.True(t, r.TryAcquire("a"))
		b := start(func() error { return r.Acquire(context.Background(), "b") })
		b.requireParked(t)
		requireReturns(t, func() {
			require.True(t, r.TryAcquire("c")) // which is made too
			require.Equal(t, 2, r.Len())
			r.Release("a")
			r.Release("c")
		})
		close(proceed)
		synctest.Wait()
		b.requireDone(t, nil)
		require.False(t, r.TryAcquire("b"))
	})
}

// Bug K1. A waiting call uses the entry, even while nothing is held.
func TestAKeyIsNotDroppedWhileSomebodyWaits(t *testing.T) {
	bothModes(t, func(t *testing.T, opts ...condvar.Option) {
		r := keyed.New[string](1, opts...)
		require.True(t, r.TryAcquire("a"))
		a := start(func() error { return r.Acquire(context.Background(), "a") })
		other := start(func() error { return r.Acquire(context.Background(), "a") })
		time.Sleep(time.Second) // no call overtakes the head from now on
		r.Release("a")
		require.False(t, r.TryAcquire("a"))
		synctest.Wait()
		a.requireDone(t, nil)
		other.requireParked(t)
		require.False(t, r.TryAcquire("a"))
		require.Equal(t, 1, r.Len())
		r.Release("a")
		synctest.Wait()
		other.requireDone(t, nil)
		r.Release("a")
		require.Zero(t, r.Len())
	})
}

// A seamContext calls atErr at the first call of Err, which is when a call has
// its entry and has not acquired anything yet.
type seamContext struct {
	context.Context
	atErr func()
}

func (c *seamContext) Err() error {
	if f := c.atErr; f != nil {
		c.atErr = nil
		f()
	}
	return c.Context.Err()
}

// Bug K1.
func TestAKeyIsNotDroppedWhenACallIsAboutToAcquire(t *testing.T) {
	r := keyed.New[string](1)
	require.True(t, r.TryAcquire("a"))
	err := r.Acquire(&seamContext{t.Context(), func() {
		r.Release("a")
		require.Equal(t, 1, r.Len())
		require.True(t, r.TryAcquire("a"))
		r.Release("a")
	}}, "a")
	require.NoError(t, err)
	require.False(t, r.TryAcquire("a"))
	r.Release("a")
	require.Zero(t, r.Len())
}

// Bug K1. Each key has a plain counter, so that -race checks that a release
// synchronizes before the next acquisition.
func TestNoKeyIsOverItsLimitInAStormWithCancels(t *testing.T) {
	for name, opts := range map[string][]condvar.Option{
		"default":    nil,
		"FIFO":       {condvar.FIFO()},
		"overloaded": {condvar.MaxWaiting(3), condvar.MaxWait(50 * time.Microsecond)},
	} {
		t.Run(name, func(t *testing.T) {
			const keys, workers, rounds = 3, 12, 1500
			r := keyed.New[int](1, opts...)
			var inside [keys]int
			var over, done atomic.Int64
			enter := func(key int) {
				if inside[key]++; inside[key] > 1 {
					over.Add(1)
				}
				if rand.IntN(2) == 0 {
					runtime.Gosched()
				}
				inside[key]--
				done.Add(1)
			}
			var calls sync.WaitGroup
			for range workers {
				calls.Go(func() {
					for range rounds {
						key := rand.IntN(keys)
						ctx, cancel := context.WithCancel(context.Background())
						switch rand.IntN(4) {
						case 0:
							if r.TryAcquire(key) {
								enter(key)
								r.Release(key)
							}
						case 1:
							_ = r.Do(ctx, key, func(context.Context) error { enter(key); return nil })
						case 2:
							calls.Go(cancel)
							fallthrough
						default:
							if r.Acquire(ctx, key) == nil {
								enter(key)
								r.Release(key)
							}
						}
						cancel()
					}
				})
			}
			calls.Wait()
			require.Zero(t, over.Load())
			require.Positive(t, done.Load())
			require.Zero(t, r.Len())
		})
	}
}

// Bug K1, with weights and more than one permit.
func TestWeightsAddUpToTheCapacityOfEachKeyInAStorm(t *testing.T) {
	const keys, capacity = 2, 5
	r := keyed.New[int](capacity)
	var inUse [keys]atomic.Int64
	var over atomic.Int64
	var calls sync.WaitGroup
	for range 8 {
		calls.Go(func() {
			for range 1000 {
				key, n := rand.IntN(keys), rand.Int64N(capacity+1)
				ctx, cancel := context.WithTimeout(context.Background(), time.Duration(rand.IntN(200))*time.Microsecond)
				if r.AcquireN(ctx, key, n) == nil {
					if inUse[key].Add(n) > capacity {
						over.Add(1)
					}
					runtime.Gosched()
					inUse[key].Add(-n)
					r.ReleaseN(key, n)
				}
				cancel()
			}
		})
	}
	calls.Wait()
	require.Zero(t, over.Load())
	require.Zero(t, r.Len())
}

func TestAFailedCallLeavesNoKey(t *testing.T) {
	bothModes(t, func(t *testing.T, opts ...condvar.Option) {
		r := keyed.New[string](2, append(opts, condvar.MaxWait(time.Second))...)
		dead, cancel := context.WithCancel(context.Background())
		cancel()
		never := func(context.Context) error { panic("called") }
		require.Equal(t, context.Canceled, r.Acquire(dead, "a"))
		require.Equal(t, context.Canceled, r.Do(dead, "a", never))
		require.Equal(t, condvar.ErrTooLarge, r.AcquireN(context.Background(), "a", 3))
		require.Equal(t, condvar.ErrTooLarge, r.DoN(context.Background(), "a", 3, never))
		const negative = "condvar: negative number of permits"
		require.PanicsWithValue(t, negative, func() { _ = r.AcquireN(dead, "a", -1) })
		require.PanicsWithValue(t, negative, func() { _ = r.DoN(dead, "a", -1, never) })
		require.PanicsWithValue(t, negative, func() { r.TryAcquireN("a", -1) })
		require.NoError(t, r.AcquireN(context.Background(), "a", 0))
		require.True(t, r.TryAcquireN("a", 0))
		require.Zero(t, r.Len())
		require.EqualValues(t, 2, r.Resize(0))
		require.Equal(t, condvar.ErrOverloaded, r.Acquire(context.Background(), "a"))
		require.False(t, r.TryAcquire("a"))
		require.Zero(t, r.Len())
	})
}

// What is kept.

func TestNothingIsKeptOfAKeyThatIsIdle(t *testing.T) {
	type tenant [100]byte
	r := keyed.New[*tenant](2)
	use := func() weak.Pointer[tenant] {
		key := &tenant{}
		require.NoError(t, r.Acquire(t.Context(), key))
		require.NoError(t, r.Do(t.Context(), key, func(context.Context) error { return nil }))
		r.Release(key)
		r.Resize(2)
		return weak.Make(key)
	}
	key := use()
	runtime.GC()
	require.Nil(t, key.Value())
	require.Zero(t, r.Len())
	runtime.KeepAlive(r)
}

func TestLittleIsKeptOfManyKeysThatWereInUse(t *testing.T) {
	const many = 20_000
	heap := func() int64 {
		runtime.GC()
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return int64(m.HeapAlloc)
	}
	r := keyed.New[int](1)
	before := heap()
	for key := range many {
		require.True(t, r.TryAcquire(key))
	}
	require.Equal(t, many, r.Len())
	for key := range many {
		r.Release(key)
	}
	require.Zero(t, r.Len())
	// A map does not shrink. A CapacityResource has hundreds of bytes.
	require.Less(t, heap()-before, int64(many*64))
	runtime.KeepAlive(r)
}

func TestAResourceIsUsedAgainForAnotherKey(t *testing.T) {
	made := 0
	r := keyed.New[int](1, condvar.Observe(func(*condvar.CapacityResource) *condvar.Hooks { made++; return nil }))
	for key := range 100 {
		require.NoError(t, r.Acquire(t.Context(), key))
		require.False(t, r.TryAcquire(key))
		r.Release(key)
	}
	require.Equal(t, 1, made)
	ctx := t.Context()
	require.Zero(t, testing.AllocsPerRun(100, func() {
		_ = r.Acquire(ctx, 7)
		r.Release(7)
	}))
}

// Stats.

func TestStatsOfAnUnusedKeyAreTheCapacity(t *testing.T) {
	r := keyed.New[string](3)
	require.Equal(t, condvar.Stats{Capacity: 3}, r.Stats("a"))
	r.Resize(0)
	require.Equal(t, condvar.Stats{}, r.Stats("a"))
	r.Resize(5)
	require.True(t, r.TryAcquire("b"))
	require.Equal(t, condvar.Stats{Capacity: 5}, r.Stats("a"))
	require.Equal(t, 1, r.Len(), "Stats makes no key")
}

// The totals of a key begin when it is used, even if its resource was used for
// another key before.
func TestTheTotalsBeginAnewWhenAKeyIsUsedAgain(t *testing.T) {
	bothModes(t, func(t *testing.T, opts ...condvar.Option) {
		r := keyed.New[string](1, append(opts, condvar.MaxWaiting(1))...)
		waits := func(key string) {
			t.Helper()
			require.True(t, r.TryAcquire(key))
			ctx, cancel := context.WithCancel(context.Background())
			canceled := start(func() error { return r.Acquire(ctx, key) })
			require.Equal(t, condvar.ErrOverloaded, r.Acquire(context.Background(), key))
			time.Sleep(time.Second)
			require.Equal(t, condvar.Stats{
				Capacity: 1, InUse: 1, Waiting: 1, WaitingN: 1, OldestWait: time.Second, Rejected: 1,
			}, r.Stats(key))
			cancel()
			synctest.Wait()
			canceled.requireDone(t, context.Canceled)
			require.Equal(t, condvar.Stats{
				Capacity: 1, InUse: 1, WaitCount: 1, WaitDuration: time.Second, Canceled: 1, Rejected: 1,
			}, r.Stats(key))
			r.Release(key)
			require.Equal(t, condvar.Stats{Capacity: 1}, r.Stats(key))
		}
		waits("a")
		waits("a")
		waits("b")
	})
}

// Release.

func TestAReleaseOfMoreThanIsHeldPanicsAndChangesNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := keyed.New[string](3)
		panics := func(key string, n int64) {
			t.Helper()
			before, keys := r.Stats(key), r.Len()
			require.PanicsWithValue(t, overRelease, func() { r.ReleaseN(key, n) })
			require.Equal(t, before, r.Stats(key))
			require.Equal(t, keys, r.Len())
		}
		panics("a", 1)
		require.PanicsWithValue(t, overRelease, func() { r.Release("a") })
		require.True(t, r.TryAcquireN("b", 2))
		panics("a", 1) // of the permits of another key
		panics("b", 3)
		panics("b", math.MaxInt64)
		for _, n := range []int64{-1, math.MinInt64} {
			require.PanicsWithValue(t, "keyed: negative number of permits", func() { r.ReleaseN("b", n) })
			require.PanicsWithValue(t, "keyed: negative number of permits", func() { r.ReleaseN("a", n) })
		}
		require.NoError(t, r.DoN(context.Background(), "c", 2, func(context.Context) error {
			panics("c", 1) // only Do releases what it acquired
			return nil
		}))
		waiting := start(func() error { return r.AcquireN(context.Background(), "b", 2) })
		waiting.requireParked(t)
		panics("b", 3)
		r.ReleaseN("b", 2)
		synctest.Wait()
		waiting.requireDone(t, nil)
		r.ReleaseN("b", 2)
		panics("b", 1)
		require.True(t, r.TryAcquireN("b", 3))
		require.False(t, r.TryAcquire("b"))
	})
}

func TestAReleaseOf0DoesNothing(t *testing.T) {
	released := 0
	r := keyed.New[any](1, condvar.WithHooks(&condvar.Hooks{
		Released: func(int64, *condvar.Hold, time.Duration) { released++ },
	}))
	r.ReleaseN("a", 0)
	require.Zero(t, r.Len())
	require.True(t, r.TryAcquire("a"))
	r.ReleaseN("a", 0)
	require.Equal(t, condvar.Stats{Capacity: 1, InUse: 1}, r.Stats("a"))
	require.Zero(t, released)
	r.Release("a")
	require.Equal(t, 1, released)
}

// Do.

func TestDoReleasesHoweverTheFunctionEnds(t *testing.T) {
	for name, end := range map[string]func() error{
		"return": func() error { return nil },
		"error":  func() error { return errBoom },
		"panic":  func() error { panic(errBoom) },
		"Goexit": func() error { runtime.Goexit(); return nil },
	} {
		t.Run(name, func(t *testing.T) {
			bothModes(t, func(t *testing.T, opts ...condvar.Option) {
				r := keyed.New[string](3, opts...)
				ctx := context.WithValue(context.Background(), errBoom, 1)
				var inside condvar.Stats
				var keys int
				var same bool
				c := start(func() (err error) {
					defer func() {
						if p := recover(); p != nil {
							err = p.(error)
						}
					}()
					return r.DoN(ctx, "a", 2, func(got context.Context) error {
						inside, keys, same = r.Stats("a"), r.Len(), got == ctx
						return end()
					})
				})
				require.Equal(t, condvar.Stats{Capacity: 3, InUse: 2}, inside)
				require.Equal(t, 1, keys)
				require.True(t, same, "the function gets the context of Do")
				require.Zero(t, r.Len())
				switch name {
				case "return":
					c.requireDone(t, nil)
				case "Goexit":
					c.requireParked(t) // it did not return
				default:
					c.requireDone(t, errBoom)
				}
				require.True(t, r.TryAcquireN("a", 3))
			})
		})
	}
}

// Resize.

func TestResizeIsOfEveryKeyNowAndLater(t *testing.T) {
	r := keyed.New[string](2)
	require.True(t, r.TryAcquire("a"))
	require.True(t, r.TryAcquire("idle"))
	r.Release("idle") // its resource could be reused, with the old capacity
	require.EqualValues(t, 2, r.Resize(4))
	for _, key := range []string{"a", "b", "idle"} {
		require.EqualValues(t, 4, r.Stats(key).Capacity, key)
	}
	require.True(t, r.TryAcquireN("a", 3))
	require.False(t, r.TryAcquire("a"))
	require.True(t, r.TryAcquireN("b", 4))
	require.EqualValues(t, 4, r.Resize(1))
	require.False(t, r.TryAcquireN("c", 2))
	require.True(t, r.TryAcquire("c"))
	r.ReleaseN("a", 3)
	require.False(t, r.TryAcquire("a"), "it was shrunk")
	require.PanicsWithValue(t, "keyed: negative capacity", func() { r.Resize(-1) })
	require.EqualValues(t, 1, r.Resize(math.MaxInt64), "and nothing has changed")
	require.True(t, r.TryAcquireN("d", math.MaxInt64))
}

func TestResizeTo0PausesEveryKeyAndThoseThatAreMadeMeanwhile(t *testing.T) {
	bothModes(t, func(t *testing.T, opts ...condvar.Option) {
		r := keyed.New[string](2, opts...)
		require.True(t, r.TryAcquire("a"))
		var before, made, huge *call
		func() {
			defer r.Resize(r.Resize(0))
			acquire := func(key string, n int64) *call {
				return start(func() error { return r.AcquireN(context.Background(), key, n) })
			}
			before, made, huge = acquire("a", 1), acquire("b", 1), acquire("c", 3)
			require.False(t, r.TryAcquire("d"))
			require.Equal(t, condvar.Stats{Waiting: 1, WaitingN: 1}, r.Stats("b"))
			require.Equal(t, 3, r.Len())
			r.Release("a")
			synctest.Wait()
			for _, c := range []*call{before, made, huge} {
				c.requireParked(t)
			}
		}()
		synctest.Wait()
		before.requireDone(t, nil)
		made.requireDone(t, nil)
		huge.requireDone(t, condvar.ErrTooLarge)
		require.Equal(t, 2, r.Len())
	})
}

// A resource made with the capacity before a Resize must not be used after it.
func TestAResizeWhileAKeyIsMadeCounts(t *testing.T) {
	for _, capacity := range []int64{0, 1, 5} {
		var r *keyed.Resource[string]
		made := 0
		r = keyed.New[string](3, condvar.Observe(func(*condvar.CapacityResource) *condvar.Hooks {
			if made++; made == 1 {
				require.EqualValues(t, 3, r.Resize(capacity))
			}
			return nil
		}))
		require.Equal(t, capacity > 0, r.TryAcquireN("a", max(1, capacity)))
		require.False(t, r.TryAcquire("a"))
		require.Equal(t, 2, made)
	}
}

func TestOnceResizeHasReturnedEveryKeyHasTheNewCapacity(t *testing.T) {
	r := keyed.New[int](2)
	var stop atomic.Bool
	var calls sync.WaitGroup
	for i := range 3 {
		calls.Go(func() { // makes and drops keys repeatedly
			for !stop.Load() {
				key := rand.IntN(40)
				if n := int64(i); r.TryAcquireN(key, n) {
					runtime.Gosched()
					r.ReleaseN(key, n)
				}
			}
		})
	}
	wrong := 0
	for i := range 2000 {
		capacity, key := int64(1+i%4), 1000+i%50 // its own keys
		r.Resize(capacity)
		if r.Stats(key).Capacity != capacity || r.TryAcquireN(key, capacity+1) || !r.TryAcquireN(key, capacity) {
			wrong++
			continue
		}
		if r.Stats(key).Capacity != capacity || r.Stats(i%40).Capacity != capacity {
			wrong++
		}
		r.ReleaseN(key, capacity)
	}
	stop.Store(true)
	calls.Wait()
	require.Zero(t, wrong)
	require.Zero(t, r.Len())
}

// A hook blocks the first Resize when it has resized one of two keys.
func TestOfTwoResizesAllKeysGetTheSameLast(t *testing.T) {
	var r *keyed.Resource[string]
	var second sync.WaitGroup
	var returned atomic.Bool
	calls := 0
	r = keyed.New[string](1, condvar.Observe(func(*condvar.CapacityResource) *condvar.Hooks {
		return &condvar.Hooks{Resized: func(int64, int64) {
			if calls++; calls > 1 {
				return
			}
			second.Go(func() {
				r.Resize(3)
				returned.Store(true)
			})
			stacks := make([]byte, 1<<20)
			for waits := false; !waits && !returned.Load(); runtime.Gosched() {
				for goroutine := range strings.SplitSeq(string(stacks[:runtime.Stack(stacks, true)]), "\n\n") {
					waits = waits || strings.Contains(goroutine, "[sync.Mutex.Lock") && strings.Contains(goroutine, ".Resize(")
				}
			}
		}}
	}))
	require.True(t, r.TryAcquire("a"))
	require.True(t, r.TryAcquire("b"))
	require.EqualValues(t, 1, r.Resize(2))
	second.Wait()
	for _, key := range []string{"a", "b", "c"} {
		require.EqualValues(t, 3, r.Stats(key).Capacity)
	}
}

// Bubbles.

// shared is used inside and outside bubbles, and reuses in one place what it
// has kept from another.
var shared = keyed.New[string](1, condvar.MaxWait(time.Hour))

// Bug C18.
func TestAPackageLevelResourceWorksInsideOutsideAndAcrossBubbles(t *testing.T) {
	use := func(t *testing.T) {
		for _, key := range []string{"a", "b"} {
			require.NoError(t, shared.Acquire(t.Context(), key))
			results := make(chan error, 3)
			for range cap(results) {
				go func() {
					results <- shared.Do(context.Background(), key, func(context.Context) error { return nil })
				}()
			}
			for shared.Stats(key).Waiting < 3 {
				runtime.Gosched()
			}
			require.Equal(t, context.DeadlineExceeded, func() error {
				ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
				defer cancel()
				return shared.Acquire(ctx, key)
			}())
			shared.Release(key)
			for range cap(results) {
				require.NoError(t, <-results)
			}
		}
		require.Zero(t, shared.Len())
	}
	for range 2 {
		use(t)
		synctest.Test(t, use)
		synctest.Test(t, use)
	}
}
