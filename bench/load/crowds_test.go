package load

import (
	"runtime"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"example.com/condvar"
)

// With one processor the next call runs at once only if it is not put into the
// run queue behind the call that unlocks.
func TestTimeHeldHasNoRunQueueInIt(t *testing.T) {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1))
	const hold = 3 * time.Millisecond
	var mu sync.Mutex
	nextRan, atUnlock := false, false // guarded by mu
	held := timeHeld(&mu, func() {
		mu.Lock()
		for start := time.Now(); time.Since(start) < hold; {
		}
		mu.Unlock()
		mu.Lock()
		atUnlock = nextRan
		mu.Unlock()
	}, func() {
		mu.Lock()
		nextRan = true
		mu.Unlock()
	})
	require.True(t, atUnlock)
	require.GreaterOrEqual(t, held, hold)
}

func TestLockOf(t *testing.T) {
	var c condvar.Cond
	lock := lockOf(&c, "mu")
	require.True(t, lock.TryLock())
	require.False(t, lockOf(&c, "mu").TryLock())
	lock.Unlock()
	require.Zero(t, c.Waiters())
	require.Panics(t, func() { lockOf(&c, "waiters") })
}
