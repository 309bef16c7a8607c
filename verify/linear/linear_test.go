package linear

import (
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/anishathalye/porcupine"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m)
}

// verify runs histories of random scenes, n for each kind of clock and each
// value of GOMAXPROCS, and checks them.
func verify(t *testing.T, n int, newScene func(seed uint64, fake bool) scene) {
	first, step := rand.Uint64N(1e15), uint64(1)
	if s := os.Getenv("CONDVAR_SEED"); s != "" {
		var err error
		first, err = strconv.ParseUint(s, 10, 64)
		require.NoError(t, err, "CONDVAR_SEED")
		step = 0
	}
	switch {
	case os.Getenv("CONDVAR_VERIFY") == "long":
		n *= 10
	case testing.Short():
		n /= 4
	}
	for _, procs := range []int{4, 2, 1} {
		for _, clock := range []string{"fake", "real"} {
			many := func(t *testing.T) {
				for i := range uint64(n) {
					verifyOne(t, newScene, first+i*step, clock == "fake")
				}
			}
			t.Run(fmt.Sprintf("procs=%d/clock=%s", procs, clock), func(t *testing.T) {
				defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(procs))
				if clock == "fake" {
					synctest.Test(t, many)
				} else {
					many(t)
				}
			})
		}
	}
}

// verifyOne runs one history and checks it.
func verifyOne(t *testing.T, newScene func(seed uint64, fake bool) scene, seed uint64, fake bool) {
	if !fake {
		watchdog := time.AfterFunc(time.Minute, func() {
			panic(fmt.Sprintf("%s: the history of CONDVAR_SEED=%d does not end", t.Name(), seed))
		})
		defer watchdog.Stop()
	}
	sc := newScene(seed, fake)
	start := time.Now()
	history := play(sc, fake)
	exactTime := fake || time.Since(start) < time.Millisecond
	nondeterministic := sc.model(exactTime)
	model := nondeterministic.ToModel()
	if porcupine.CheckOperations(model, history) {
		return
	}
	path := filepath.Join(os.TempDir(), fmt.Sprintf("condvar-linear-%d.html", seed))
	require.NoError(t, draw(model, history, path))
	t.Fatalf("not linearizable; repeat the script with CONDVAR_SEED=%d and -run '%s'; picture in %s; history:\n%s",
		seed, t.Name(), path, text(model, history))
}

// draw writes a picture of a history into a file, for a browser.
func draw(model porcupine.Model, history []porcupine.Operation, path string) error {
	_, info := porcupine.CheckOperationsVerbose(model, history, 0)
	return porcupine.VisualizePath(model, info, path)
}

// text returns a history as text, in the order in which the operations began.
func text(model porcupine.Model, history []porcupine.Operation) string {
	sorted := slices.SortedStableFunc(slices.Values(history), func(a, b porcupine.Operation) int {
		return int(a.Call - b.Call)
	})
	var b strings.Builder
	for _, p := range sorted {
		fmt.Fprintf(&b, "%4d to %4d  client %d  %s\n", p.Call, p.Return, p.ClientId/2, model.DescribeOperation(p.Input, p.Output))
	}
	return b.String()
}

// describe describes an operation that returned out.
func describe(in, out any) string {
	o := in.(op)
	s := string(o.kind)
	switch o.kind {
	case begin, outcome, cancel:
		s += fmt.Sprintf(" call %d", o.call)
	}
	switch o.kind {
	case begin, tryAcquire, release, resize, resizeKeys, notifyN:
		s += fmt.Sprintf("(%d)", o.n)
	case rest:
		s += fmt.Sprintf(" for %v", time.Duration(o.n))
	}
	if o.key != 0 {
		s += fmt.Sprintf(" of key %d", o.key)
	}
	if out != nil && o.kind != begin && o.kind != released {
		s += fmt.Sprintf(": %+v", out)
	}
	return s
}
