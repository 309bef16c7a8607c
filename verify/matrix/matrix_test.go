package matrix

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strings"
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

// everything is the name of a use that does all uses of an object in turn.
const everything = "everything"

// Each case runs in its own process, so that it does not see what other cases
// leave behind.
func TestObjectsWorkInOnePlaceAfterAnother(t *testing.T) {
	if runCase(t) {
		return
	}
	// A sequence includes all shorter ones that it begins with, so these need
	// no case.
	var cases []string
	for _, o := range objects {
		var steps []string
		for _, u := range o.allUses() {
			steps = append(steps, stepsOf(u.name)...)
		}
		for _, u := range append(o.allUses(), use{name: everything}) {
			own := stepsOf(u.name)
			switch {
			case os.Getenv("CONDVAR_VERIFY") == "long":
				cases = append(cases, sequences(o, own, longCase)...)
			case testing.Short():
				cases = append(cases, chain(o, own))
			default:
				for range own { // the first use is at the first place
					own = append(own[1:], own[0])
					cases = append(cases, chain(o, own))
				}
			}
		}
		if os.Getenv("CONDVAR_VERIFY") == "long" {
			cases = append(cases, sequences(o, steps, 2)...) // any use after any other
		}
	}
	runCases(t, cases, passed)
}

// The end of a bubble reports a call that still waits. So every test that uses
// package condvar in a bubble detects lost wake-ups.
func TestTheEndOfABubbleReportsALeakedWaiter(t *testing.T) {
	if runCase(t) {
		return
	}
	var cases []string
	for _, o := range objects {
		for _, w := range o.waits {
			var before []string
			for _, p := range places {
				before = append(before, w.name+".canceled@"+p.name)
			}
			for _, p := range places {
				if !p.bubble {
					continue
				}
				last := w.name + ".leaked@" + p.name
				cases = append(cases, o.name+"/"+last)
				for _, b := range before {
					cases = append(cases, o.name+"/"+b+","+last)
				}
			}
		}
	}
	runCases(t, cases, func(out string, err error) bool {
		return err != nil && strings.Contains(out,
			"panic: deadlock: main bubble goroutine has exited but blocked goroutines remain")
	})
}

// No call waits in this test. While a call waits in a bubble, a call from
// another place that may wake it is fatal. For a CapacityResource that includes
// Stats.
func TestObjectsWorkInSeveralPlacesAtTheSameTime(t *testing.T) {
	if name := os.Getenv(caseVariable); name != "" {
		atTheSameTime(t, find(t, name))
		return
	}
	var cases []string
	for _, o := range objects {
		cases = append(cases, o.name)
	}
	runCases(t, cases, passed)
}

// atTheSameTime touches o in all places concurrently, each often enough, after
// there are waiters to recycle.
func atTheSameTime(t *testing.T, o *object) {
	for step, p := range places[:longCase] {
		o.use(t, p, step, everything)
	}
	const often = 1000
	rounds := make([]atomic.Int64, len(places))
	t.Run("all", func(t *testing.T) {
		for i, p := range places {
			t.Run(p.name, func(t *testing.T) {
				t.Parallel()
				p.visit(t, 0, func(v *visit) {
					dead, cancel := context.WithCancel(v.Context())
					cancel()
					touching := start(v.n, func() error {
						for slowest := int64(0); slowest < often; {
							if !o.touch(dead) {
								return errors.New("a touch is not what it should be")
							}
							rounds[i].Add(1)
							slowest = often
							for j := range rounds {
								slowest = min(slowest, rounds[j].Load())
							}
						}
						return nil
					})
					touching.requireAll(v, nil)
				})
			})
		}
	})
	require.True(t, o.atRest())
}

// stepsOf returns the steps with the given use, one for each place.
func stepsOf(use string) []string {
	var steps []string
	for _, p := range places {
		steps = append(steps, use+"@"+p.name)
	}
	return steps
}

// sequences returns the cases with n of the steps, in any order, with
// repetition.
func sequences(o *object, steps []string, n int) []string {
	all := []string{o.name + "/"}
	for i := range n {
		var longer []string
		for _, s := range all {
			for _, step := range steps {
				if i > 0 {
					step = "," + step
				}
				longer = append(longer, s+step)
			}
		}
		all = longer
	}
	return all
}

// chain returns the shortest case in which each of the steps follows each step,
// including itself.
func chain(o *object, steps []string) string {
	var all []string
	for i, step := range steps {
		all = append(all, step)
		for _, later := range steps[i+1:] {
			all = append(all, step, later)
		}
	}
	return o.name + "/" + strings.Join(append(all, steps[0]), ",")
}

// caseVariable is the environment variable that makes a test run one case
// itself.
const caseVariable = "CONDVAR_MATRIX_CASE"

// runCases runs each case as a process, one per CPU at a time, and checks that
// each is good. The first failure ends the others.
func runCases(t *testing.T, cases []string, good func(out string, err error) bool) {
	t.Helper()
	exe, err := os.Executable()
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	begin := time.Now()
	queue := make(chan string)
	var ran atomic.Int64
	var workers sync.WaitGroup
	for range runtime.NumCPU() {
		workers.Go(func() {
			for name := range queue {
				cmd := exec.CommandContext(ctx, exe, "-test.run=^"+t.Name()+"$", "-test.timeout=15s",
					"-test.parallel=8") // all places at the same time
				cmd.Env = append(os.Environ(), caseVariable+"="+name,
					"GORACE=atexit_sleep_ms=0 "+os.Getenv("GORACE")) // else it sleeps a second
				out, err := cmd.CombinedOutput()
				if ctx.Err() != nil {
					return
				}
				ran.Add(1)
				if !good(string(out), err) {
					t.Errorf("%s: %v\n%s\nto repeat it:\n%s=%s go test -count=1 -run '^%s$' ./matrix",
						name, err, out, caseVariable, name, t.Name())
					cancel()
				}
			}
		})
	}
	for _, name := range cases {
		select {
		case queue <- name:
		case <-ctx.Done():
		}
	}
	close(queue)
	workers.Wait()
	t.Logf("%d of %d cases ran, each in its own process, in %v",
		ran.Load(), len(cases), time.Since(begin).Round(time.Millisecond))
}

// passed reports whether a process has passed a test, and printed nothing else.
func passed(out string, err error) bool {
	return err == nil && strings.HasPrefix(out, "PASS\n")
}

// runCase runs the case of this process, and reports whether there is one.
func runCase(t *testing.T) bool {
	name := os.Getenv(caseVariable)
	if name == "" {
		return false
	}
	objectName, steps, _ := strings.Cut(name, "/")
	o := find(t, objectName)
	for i, step := range strings.Split(steps, ",") {
		useName, placeName, _ := strings.Cut(step, "@")
		at := slices.IndexFunc(places, func(p place) bool { return p.name == placeName })
		require.GreaterOrEqual(t, at, 0, "no such place: %q", placeName)
		o.use(t, places[at], i, useName)
	}
	return true
}

func find(t *testing.T, name string) *object {
	at := slices.IndexFunc(objects, func(o *object) bool { return o.name == name })
	require.GreaterOrEqual(t, at, 0, "no such object: %q", name)
	return objects[at]
}

// allUses returns the uses that everything consists of.
func (o *object) allUses() []use {
	var uses []use
	for _, w := range o.waits {
		if w.wake != nil {
			uses = append(uses, use{w.name + ".released", w.released})
		}
		uses = append(uses, use{w.name + ".canceled", w.canceled}, use{w.name + ".timedOut", w.timedOut})
	}
	return append(uses, o.uses...)
}

// use uses o at p.
func (o *object) use(t *testing.T, p place, step int, name string) {
	p.visit(t, step, func(v *visit) {
		for _, w := range o.waits {
			if name == w.name+".leaked" {
				w.leaked(v)
				return
			}
		}
		found := false
		for _, u := range o.allUses() {
			if name == u.name || name == everything {
				u.run(v)
				require.True(v, o.atRest(), "%s does not leave the object at rest", u.name)
				found = true
			}
		}
		require.True(v, found, "no such use: %q", name)
	})
}
