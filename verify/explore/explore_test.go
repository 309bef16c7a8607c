//go:build condvar_explore

package explore

import (
	"flag"
	"fmt"
	"math"
	"os"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"example.com/condvar/internal/primitives"
)

var (
	replay    = flag.String("replay", "", "the schedule to replay, for the scene given by -run")
	recycling = flag.Bool("recycling", true, "recycle waiters, as outside of bubbles")
	bound     = flag.Int("bound", -2, "preemptions to allow, instead of the bound of the scene; -1 for all schedules")
	samples   = flag.Int("samples", 0, "schedules to sample per larger scene, instead of 1,000")
	seed      = flag.Uint64("seed", 1, "seed of the samples")
)

func long() bool { return os.Getenv("CONDVAR_VERIFY") == "long" }

// This tries every schedule, or every one up to the bound of the scene. The
// long form has higher bounds, and tries both new and recycled waiters.
func TestScenes(t *testing.T) {
	for _, s := range Scenes() {
		t.Run(s.Name, func(t *testing.T) {
			if replayed(t, s) {
				return
			}
			switch {
			case *bound != -2:
				s.Bound = *bound
			case long() && s.LongBound != 0:
				s.Bound = s.LongBound
			}
			explore(t, s, *recycling)
			if long() {
				explore(t, s, !*recycling)
			}
		})
	}
}

func explore(t *testing.T, s *Scene, recycling bool) {
	t.Helper()
	start := time.Now()
	result := s.Explore(t, recycling, math.MaxInt)
	report(t, s, result, recycling, start)
}

// This samples the schedules of scenes that have too many.
func TestLargerScenes(t *testing.T) {
	n := 1000
	if long() {
		n = 100_000
	}
	if *samples > 0 {
		n = *samples
	}
	for _, s := range LargerScenes() {
		t.Run(s.Name, func(t *testing.T) {
			if replayed(t, s) {
				return
			}
			start := time.Now()
			result := s.Sample(t, *recycling, n, *seed)
			report(t, s, result, *recycling, start)
		})
	}
}

// replayed replays the schedule of the flag, if there is one.
func replayed(t *testing.T, s *Scene) bool {
	t.Helper()
	if *replay == "" {
		return false
	}
	schedule, err := ParseSchedule(*replay)
	require.NoError(t, err)
	if f := s.Replay(t, *recycling, schedule); f != nil {
		t.Fatal(f)
	}
	t.Log("the invariant holds")
	return true
}

// report logs the result of a scene, or fails with the schedule that broke it.
func report(t *testing.T, s *Scene, result Result, recycling bool, start time.Time) {
	t.Helper()
	if f := result.Failure; f != nil {
		t.Fatalf("schedule %d of %s breaks its invariant:\n  %s\n  %v\n  replay it, in verify/:\n"+
			"    go test -tags condvar_explore ./explore -run '/^%s$' -recycling=%v -replay %q",
			result.Schedules, s.Name, s.Invariant, f, s.Name, recycling, f.Schedule)
	}
	require.Positive(t, result.Schedules)
	which := "all"
	switch {
	case s.Sampled:
		which = "sampled"
	case s.Bound >= 0:
		which = fmt.Sprintf("up to %d preemptions", s.Bound)
	}
	t.Logf("%d schedules (%s), %d skipped as equal; up to %d steps; %v: %s",
		result.Schedules, which, result.Pruned, result.Longest, time.Since(start).Round(time.Millisecond), s.Invariant)
}

// outcomes returns a copy of s that records each outcome in ends.
func outcomes(s *Scene, ends map[string]bool) *Scene {
	counting := *s
	counting.Setup = func(r *Run) func() error {
		check := s.Setup(r)
		return func() error {
			end := ""
			for _, t := range r.threads {
				end += fmt.Sprintf("%s:%v/%d ", t.name, t.finished, t.steps)
			}
			ends[end] = true
			return check()
		}
	}
	return &counting
}

// The schedules that the search skips as equal must have the same outcomes as
// those that it tries.
func TestTheSchedulesLeftOutEndAsOthersDo(t *testing.T) {
	names := []string{"EventPulseWithCancel", "CondNotifyAllLateArrival", "ResourceJoinRacingRelease", "ListenerStopRacingNotify"}
	if long() {
		names = append(names, "CondPanickingPredicate", "EventPulseLateArrival", "ResourceHeadCanceledWhileReleaseLands")
	}
	for _, name := range names {
		t.Run(name, func(t *testing.T) {
			for _, s := range Scenes() {
				if s.Name != name {
					continue
				}
				few, all := map[string]bool{}, map[string]bool{}
				pruned := outcomes(s, few).Explore(t, true, math.MaxInt)
				every := outcomes(s, all)
				every.Bound = math.MaxInt // tries equal schedules too
				full := every.Explore(t, true, math.MaxInt)
				require.Nil(t, pruned.Failure)
				require.Nil(t, full.Failure)
				require.Equal(t, all, few)
				t.Logf("%d schedules instead of %d, with the same %d outcomes", pruned.Schedules, full.Schedules, len(all))
			}
		})
	}
}

// A brokenEvent checks whether it is set and then joins the line, but not
// atomically: a Set in between is lost.
type brokenEvent struct {
	set    bool
	waiter chan struct{}
}

func (e *brokenEvent) wait() {
	hooks.Step(primitives.OpLoad, e)
	if e.set {
		return
	}
	hooks.Step(primitives.OpStore, e)
	e.waiter = make(chan struct{}, 1)
	token, _ := hooks.Select(e.waiter, nil)
	<-token
}

func (e *brokenEvent) Set() {
	hooks.Step(primitives.OpStore, e)
	e.set = true
	if e.waiter != nil {
		e.waiter <- struct{}{}
	}
}

// The search finds the bug, and its schedule replays with the steps.
func TestALostWakeUpIsFound(t *testing.T) {
	s := &Scene{
		Name: "Broken", Invariant: "no waiter sleeps while the event is set", Bound: toTheEnd,
		Setup: func(r *Run) func() error {
			e := &brokenEvent{}
			returned := false
			r.Go("waiter", func() {
				e.wait()
				returned = true
			})
			r.Go("setter", e.Set)
			r.Cleanup(func() { e.waiter <- struct{}{} })
			return func() error {
				if !returned {
					return fmt.Errorf("the waiter sleeps")
				}
				return nil
			}
		},
	}
	result := s.Explore(t, true, math.MaxInt)
	require.NotNil(t, result.Failure)
	require.ErrorContains(t, result.Failure, "the waiter sleeps")
	require.Equal(t, "0,1,0,0", result.Failure.Schedule.String())
	require.Len(t, result.Failure.Steps, 4)

	schedule, err := ParseSchedule(result.Failure.Schedule.String())
	require.NoError(t, err)
	require.Equal(t, result.Failure.Schedule, schedule)
	require.NotNil(t, s.Replay(t, true, schedule))
	require.Nil(t, s.Replay(t, true, Schedule{{0, 0}, {0, 0}, {0, 0}, {1, 0}}))

	require.NotNil(t, s.Sample(t, true, 1000, 1).Failure)
}

// The search reports a thread that sleeps while it holds a mutex.
func TestADeadlockIsFound(t *testing.T) {
	s := &Scene{
		Name: "Deadlock", Bound: toTheEnd,
		Setup: func(r *Run) func() error {
			a, b := &Mutex{}, &Mutex{}
			for _, order := range [][2]*Mutex{{a, b}, {b, a}} {
				r.Go("both", func() {
					order[0].Lock()
					defer order[0].Unlock()
					order[1].Lock()
					defer order[1].Unlock()
				})
			}
			return func() error { return nil }
		},
	}
	result := s.Explore(t, true, math.MaxInt)
	require.NotNil(t, result.Failure)
	require.ErrorContains(t, result.Failure, "waits for a mutex")
}
