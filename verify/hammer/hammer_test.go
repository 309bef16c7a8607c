package hammer

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m)
}

// hammerVariable is the environment variable with the duration of each case.
const hammerVariable = "CONDVAR_HAMMER"

// hammerTime returns the duration of each case, given by value.
func hammerTime(value string) (time.Duration, error) {
	if value == "" {
		return 100 * time.Millisecond, nil
	}
	d, err := time.ParseDuration(value)
	if err != nil || d <= 0 {
		return 0, fmt.Errorf("%s=%q is not a positive duration such as 500ms or 1m", hammerVariable, value)
	}
	return d, nil
}

func TestHammer_TimeIsAPositiveDuration(t *testing.T) {
	for value, want := range map[string]time.Duration{"": 100 * time.Millisecond, "1m30s": 90 * time.Second} {
		d, err := hammerTime(value)
		require.NoError(t, err)
		require.Equal(t, want, d)
	}
	for _, value := range []string{"0", "-1s", "10", "soon"} {
		_, err := hammerTime(value)
		require.ErrorContains(t, err, "CONDVAR_HAMMER")
	}
}

// A hammer is one case that real goroutines run for a while, in many short
// rounds: a lost wake-up is only certain to be detected at the end of a round.
type hammer struct {
	*testing.T
	*rand.Rand // for the test's goroutine
	length     time.Duration
	end        time.Time
	watchdog   context.Context
}

// hammerTimeout is how long a test waits for something that takes moments
// unless a wake-up is lost.
const hammerTimeout = 30 * time.Second

// hammerSeed is the seed of all random sequences. The scheduler interleaves
// them differently each time.
const hammerSeed = 20

// hammerAll runs f with several values of GOMAXPROCS: on one processor most
// races never happen, and with few processors some are rare.
func hammerAll(t *testing.T, f func(h *hammer)) { hammerAtLeast(t, 0, f) }

// hammerAtLeast is hammerAll with a minimum duration.
func hammerAtLeast(t *testing.T, least time.Duration, f func(h *hammer)) {
	length, err := hammerTime(os.Getenv(hammerVariable))
	require.NoError(t, err)
	length = max(length, least)
	for _, procs := range []int{1, 2, 8} {
		t.Run(fmt.Sprint("GOMAXPROCS=", procs), func(t *testing.T) {
			t.Log("seed", hammerSeed)
			defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(procs))
			watchdog, cancel := context.WithTimeout(t.Context(), length+hammerTimeout)
			defer cancel()
			f(&hammer{T: t, Rand: hammerRand(0), length: length, end: time.Now().Add(length), watchdog: watchdog})
		})
	}
}

func hammerRand(stream uint64) *rand.Rand { return rand.New(rand.NewPCG(hammerSeed, stream)) }

func (h *hammer) over() bool { return h.Failed() || !time.Now().Before(h.end) }

// wait waits for wg. It fails after a timeout, so that the test does not hang.
func (h *hammer) wait(wg *sync.WaitGroup) {
	h.Helper()
	done := make(chan struct{})
	go func() {
		wg.Wait()
		close(done)
	}()
	select {
	case <-done:
	case <-h.watchdog.Done():
		require.Fail(h, "a waiter did not return: a wake-up was lost")
	}
}

// spin waits until f returns n. Outside bubbles there is no other way to know
// that calls are in line.
func spin(t testing.TB, f func() int, n int) {
	t.Helper()
	for deadline := time.Now().Add(hammerTimeout); f() != n; runtime.Gosched() {
		require.True(t, time.Now().Before(deadline), "the number did not become the expected one")
	}
}

// hammerContext returns a context for one wait: it never ends, could be
// canceled but is not, ends soon, or has ended. The caller must call cancel
// after the wait.
func hammerContext(rng *rand.Rand, wg *sync.WaitGroup) (ctx context.Context, cancel func()) {
	kind, delay := rng.IntN(8), rng.IntN(10)
	if kind < 2 {
		return context.Background(), func() {}
	}
	ctx, cancel = context.WithCancel(context.Background())
	switch kind {
	case 2, 3:
	case 4, 5, 6:
		wg.Go(func() {
			for range delay {
				runtime.Gosched()
			}
			cancel()
		})
	case 7:
		cancel()
	}
	return ctx, cancel
}

// A dawdlingLock lets other goroutines run after every second Unlock, to
// lengthen the time between joining the line and parking.
type dawdlingLock struct {
	sync.Mutex
	unlocks atomic.Uint32
}

func (l *dawdlingLock) Unlock() {
	l.Mutex.Unlock()
	if l.unlocks.Add(1)%2 == 0 {
		runtime.Gosched()
	}
}
