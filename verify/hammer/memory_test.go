package hammer

import (
	"context"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"
	"weak"

	"github.com/stretchr/testify/require"

	"example.com/condvar"
)

// A kept is an object that could keep memory of each wait. A waiter is first in
// line until release.
type kept struct {
	wait    func(ctx context.Context) error
	waiting func() int
	release func()
	dropped func() bool // whether the object was collected; has no reference to it
}

func keptCond(wait func(ctx context.Context, c *condvar.Cond) error) *kept {
	c := condvar.NewCond(&sync.Mutex{})
	w := weak.Make(c)
	first := c.Listen()
	return &kept{
		wait: func(ctx context.Context) error {
			c.L.Lock()
			defer c.L.Unlock()
			return wait(ctx, c)
		},
		waiting: c.Waiters,
		release: func() { first.Stop() },
		dropped: func() bool { return w.Value() == nil },
	}
}

// keptResource returns a kept resource that is dropped with a permit in use.
func keptResource(n int64, opts ...condvar.Option) *kept {
	r := condvar.NewCapacityResource(2, opts...)
	w := weak.Make(r)
	r.TryAcquire()
	ctx, cancel := context.WithCancel(context.Background())
	var first sync.WaitGroup
	first.Go(func() { _ = r.AcquireN(ctx, 2) })
	for r.Stats().Waiting == 0 {
		runtime.Gosched()
	}
	return &kept{
		wait:    func(ctx context.Context) error { return r.AcquireN(ctx, n) },
		waiting: func() int { return int(r.Stats().Waiting) },
		release: func() {
			cancel()
			first.Wait()
		},
		dropped: func() bool { return w.Value() == nil },
	}
}

var keptObjects = []struct {
	name   string
	waits  int // to be canceled
	create func() *kept
}{
	{"Cond.Wait", 100_000, func() *kept {
		return keptCond(func(ctx context.Context, c *condvar.Cond) error { return c.Wait(ctx) })
	}},
	{"Cond.WaitFor", 20_000, func() *kept {
		return keptCond(func(ctx context.Context, c *condvar.Cond) error {
			return c.WaitFor(ctx, func() bool { return false })
		})
	}},
	{"Cond.Listen", 20_000, func() *kept {
		return keptCond(func(ctx context.Context, c *condvar.Cond) error {
			return hammerWait(ctx, 2, c, func() bool { return false })
		})
	}},
	{"CapacityResource", 100_000, func() *kept { return keptResource(2) }},
	{"CapacityResource with FIFO", 20_000, func() *kept { return keptResource(1, condvar.FIFO()) }},
}

// cancelMany starts and cancels waits, in groups of the given size.
func (k *kept) cancelMany(t *testing.T, waits, group int) {
	t.Helper()
	for range waits / group {
		ctx, cancel := context.WithCancel(context.Background())
		var wg sync.WaitGroup
		var canceled atomic.Int64
		for range group {
			wg.Go(func() {
				if k.wait(ctx) == context.Canceled {
					canceled.Add(1)
				}
			})
		}
		spin(t, k.waiting, group+1)
		cancel()
		wg.Wait()
		require.EqualValues(t, group, canceled.Load())
		require.Equal(t, 1, k.waiting())
	}
}

// heap returns the number of live objects, and their size in bytes.
func heap() (objects, size int64) {
	var m runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&m)
	return int64(m.HeapObjects), int64(m.HeapAlloc)
}

// Row 95. Bug R15.
func TestMemory_NothingIsKeptOfManyCanceledWaits(t *testing.T) {
	const group = 100
	for _, tt := range keptObjects {
		t.Run(tt.name, func(t *testing.T) {
			goroutines, waits := runtime.NumGoroutine(), tt.waits
			k := tt.create()
			k.cancelMany(t, 4*group, group) // reaches the steady state
			objects, size := heap()
			k.cancelMany(t, waits, group)
			objects2, size2 := heap()
			require.Less(t, objects2-objects, int64(waits/20), "objects")
			require.Less(t, size2-size, int64(10*waits), "bytes")
			k.release()
			require.Zero(t, k.waiting())
			spin(t, func() int { return max(goroutines, runtime.NumGoroutine()) }, goroutines)
		})
	}
}

// Row 95.
func TestMemory_AnObjectThatIsDroppedIsCollected(t *testing.T) {
	for _, tt := range keptObjects {
		t.Run(tt.name, func(t *testing.T) {
			dropped := useAndDrop(t, tt.create(), 100)
			// The last goroutines of the crowd may not have ended yet.
			require.Eventually(t, func() bool {
				runtime.GC()
				return dropped()
			}, 10*time.Second, time.Millisecond, "something refers to it still")
		})
	}
}

// Row 95. The memory that is kept for later waits is bounded.
func TestMemory_LittleIsKeptOfACrowdThatHasLeft(t *testing.T) {
	const crowd = 4000
	for _, tt := range keptObjects {
		t.Run(tt.name, func(t *testing.T) {
			// The memory that the runtime keeps for goroutines does not count.
			useAndDrop(t, tt.create(), crowd)
			k := tt.create()
			objects, _ := heap()
			k.cancelMany(t, crowd, crowd)
			objects2, _ := heap()
			require.Less(t, objects2-objects, int64(crowd), "at least one object per wait is kept")
			k.release()
		})
	}
}

// useAndDrop lets a crowd wait for k, and returns k.dropped. It is a separate
// function so that its variables are dead when it has returned.
//
//go:noinline
func useAndDrop(t *testing.T, k *kept, crowd int) func() bool {
	k.cancelMany(t, crowd, crowd)
	k.release()
	return k.dropped
}
