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

// hammerVariable is the environment variable that says how long each case
// lasts.
const hammerVariable = "CONDVAR_HAMMER"

// hammerTime returns the time for each case that value asks for.
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

// A hammer is one case that real goroutines run for a while, many short rounds
// long: only at the end of a round is a lost wake-up sure to show.
type hammer struct {
	*testing.T
	*rand.Rand // for the test's goroutine
	length     time.Duration
	end        time.Time
	watchdog   context.Context
}

// hammerTimeout is how long a test waits for what takes moments, unless a
// wake-up is lost.
const hammerTimeout = 30 * time.Second

// hammerSeed begins all the random sequences. What the scheduler makes of them
// is different each time.
const hammerSeed = 20

// hammerAll runs f with various values of GOMAXPROCS: on a single processor
// most races never happen, and with few there are some that are rare.
func hammerAll(t *testing.T, f func(h *hammer)) { hammerAtLeast(t, 0, f) }

// hammerAtLeast is hammerAll for a test that is not to be shorter.
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

// wait waits for wg. If that takes for ever it fails, rather than hangs.
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
		require.Fail(h, "somebody is asleep for ever: a wake-up was lost")
	}
}

// spin waits until f returns n: outside bubbles nothing else tells that others
// wait in line.
func spin(t testing.TB, f func() int, n int) {
	t.Helper()
	for deadline := time.Now().Add(hammerTimeout); f() != n; runtime.Gosched() {
		require.True(t, time.Now().Before(deadline), "the number is not what it has to be in the end")
	}
}

// hammerContext returns a context for one wait: one that never ends, that could
// be canceled but is not, that ends at some time soon, or that has ended. The
// caller calls cancel after the wait.
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

// A dawdlingLock gives way to others after every other Unlock, to widen the gap
// between joining the line and parking.
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
