//go:build condvar_explore

package explore

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"

	"example.com/condvar/internal/primitives"
)

// hooks is the Explorer of the process. It ignores goroutines that are not
// threads of a Run.
var hooks = func() *dispatcher { //nolint:gochecknoglobals // the library has one Explorer
	d := &dispatcher{}
	primitives.Explore = d
	return d
}()

// A Scene is a few threads that make a few calls of the library.
type Scene struct {
	Name      string
	Invariant string // in words
	// Bound is the maximum number of preemptions: switches away from a thread
	// that can run. All schedules up to it are tried. A negative Bound means
	// no bound. LongBound, if not 0, replaces it in the long form.
	Bound     int
	LongBound int
	Sampled   bool // there are too many schedules to try all
	// Setup makes the objects and the threads. The function that it returns
	// checks the invariant when the scene is at rest.
	Setup func(r *Run) (check func() error)
}

// A choice is the thread that takes the next step, and, for a select with two
// ready cases, the case.
type choice struct{ thread, way int }

func (c choice) String() string {
	if c.way == 0 {
		return strconv.Itoa(c.thread)
	}
	return strconv.Itoa(c.thread) + "'"
}

// A Schedule is the choices of a run.
type Schedule []choice

func (s Schedule) String() string {
	words := make([]string, len(s))
	for i, c := range s {
		words[i] = c.String()
	}
	return strings.Join(words, ",")
}

// ParseSchedule is the inverse of Schedule.String.
func ParseSchedule(text string) (Schedule, error) {
	var s Schedule
	for word := range strings.SplitSeq(text, ",") {
		digits := strings.TrimSuffix(word, "'")
		n, err := strconv.Atoi(digits)
		if err != nil {
			return nil, fmt.Errorf("schedule: %w", err)
		}
		s = append(s, choice{n, len(word) - len(digits)})
	}
	return s, nil
}

// A Failure is a schedule that breaks the invariant of a scene.
type Failure struct {
	Schedule Schedule
	Steps    []string
	Err      error
}

func (f *Failure) Error() string {
	return fmt.Sprintf("%v\n  schedule %v:\n    %s", f.Err, f.Schedule, strings.Join(f.Steps, "\n    "))
}

// A Result is the result of a search.
type Result struct {
	Schedules int      // run to the end
	Pruned    int      // skipped as equal to one that was run
	Steps     int      // total
	Longest   int      // steps of the longest schedule
	Failure   *Failure // nil if the invariant held
}

// maxSteps is more than any scene takes. More steps mean an endless loop.
const maxSteps = 2000

// errPruned means that a run is equal to one that was tried.
var errPruned = errors.New("equal to a schedule that was tried")

// run executes a scene. It calls next before each step with the threads that
// can take one, and next chooses. It calls took with the result of the step. It
// returns the failure of the run, or nil.
func (s *Scene) run(t *testing.T, recycling, trace bool,
	next func(enabled []int) (choice, error),
	took func(f footprint, ways int),
) (steps int, failure *Failure) {
	t.Helper()
	var schedule Schedule
	var r *Run
	fail := func(err error) {
		if failure == nil {
			failure = &Failure{Schedule: slices.Clone(schedule), Steps: r.steps, Err: err}
		}
	}
	defer func() {
		// A bubble panics if it ends with blocked threads.
		if p := recover(); p != nil {
			fail(fmt.Errorf("%v", p))
		}
	}()
	synctest.Test(t, func(*testing.T) {
		r = &Run{recycling: recycling, trace: trace, held: map[any]*thread{}, objects: map[any]int{},
			step: footprint{objects: map[int]bool{}}}
		r.scheduler = &thread{run: r}
		id := goroutineID()
		hooks.threads.Store(id, r.scheduler)
		hooks.run = r
		defer func() {
			hooks.threads.Delete(id)
			hooks.run = nil
			if p := recover(); p != nil { // in the setup, the check or a cleanup
				fail(fmt.Errorf("panic: %v", p))
			}
		}()

		check := s.Setup(r)
		var enabled []int
		for {
			enabled = enabled[:0]
			for i, t := range r.threads {
				if r.enabled(t) {
					enabled = append(enabled, i)
				}
			}
			if len(enabled) == 0 {
				break
			}
			c, err := next(enabled)
			if errors.Is(err, errPruned) {
				r.finish()
				return
			}
			if err == nil && len(schedule) == maxSteps {
				err = fmt.Errorf("not at rest after %d steps", maxSteps)
			}
			if err != nil {
				fail(err)
				r.finish()
				return
			}
			schedule = append(schedule, c)
			took(r.take(r.threads[c.thread], c.way))
			for _, t := range r.threads {
				if t.panicked != nil {
					fail(fmt.Errorf("%s panicked: %v", t.name, t.panicked))
				}
			}
		}
		for _, t := range r.threads {
			if t.atHook {
				fail(fmt.Errorf("%s waits for a mutex that %s holds", t.name, r.held[t.object].name))
			}
		}
		if err := check(); err != nil {
			fail(err)
		}
		if stuck := r.finish(); stuck != nil {
			fail(fmt.Errorf("still waiting after all contexts were canceled: %s", strings.Join(stuck, ", ")))
		}
	})
	return len(schedule), failure
}

// A node is a point of the search where the next thread is chosen.
type node struct {
	enabled []int
	// asleep has the threads whose next step was tried before, in an equal
	// schedule.
	asleep      map[int]footprint
	chosen      choice
	ways        int // of the chosen thread's step
	step        footprint
	tried       []int
	previous    int // the thread that took the step before
	preemptions int // up to here
}

// Explore tries the schedules of the scene depth first, until all are tried,
// one fails, or limit is reached.
//
// Without a bound on preemptions it skips schedules that differ from a tried
// one only in the order of neighboring independent steps (sleep sets:
// Godefroid, Partial-Order Methods for the Verification of Concurrent Systems,
// 1996).
func (s *Scene) Explore(t *testing.T, recycling bool, limit int) Result {
	t.Helper()
	var result Result
	var path []node
	for result.Schedules < limit {
		depth := 0
		pruned := false
		next := func(enabled []int) (choice, error) {
			if depth < len(path) {
				if !slices.Equal(enabled, path[depth].enabled) {
					return choice{}, errors.New("the same schedule took other steps: the scene depends on something else")
				}
				return path[depth].chosen, nil
			}
			n := node{enabled: slices.Clone(enabled), previous: -1}
			if depth > 0 {
				n.inherit(&path[depth-1], s.Bound >= 0)
			}
			if !n.advance(s.Bound) {
				pruned = true
				return choice{}, errPruned
			}
			path = append(path, n)
			return n.chosen, nil
		}
		took := func(f footprint, ways int) {
			path[depth].step, path[depth].ways = f, ways
			depth++
		}
		steps, failure := s.run(t, recycling, false, next, took)
		result.Steps += steps
		result.Longest = max(result.Longest, steps)
		if failure != nil {
			result.Schedules++
			result.Failure = s.Replay(t, recycling, failure.Schedule)
			if result.Failure == nil {
				result.Failure = failure
			}
			return result
		}
		if pruned {
			result.Pruned++
		} else {
			result.Schedules++
		}
		// Go back to the last node with a choice left to try.
		path = path[:depth]
		for len(path) > 0 && !path[len(path)-1].advance(s.Bound) {
			path = path[:len(path)-1]
		}
		if len(path) == 0 {
			break
		}
	}
	return result
}

// inherit sets the fields of n, a new node, that depend on the node before.
func (n *node) inherit(before *node, bounded bool) {
	n.previous = before.chosen.thread
	n.preemptions = before.preemptions
	if before.previous != n.previous && slices.Contains(before.enabled, before.previous) {
		n.preemptions++
	}
	if bounded {
		return // the bound could forbid to run a sleeping thread later
	}
	n.asleep = map[int]footprint{}
	for thread, step := range before.asleep {
		if step.independent(before.step) {
			n.asleep[thread] = step
		}
	}
}

// advance makes the next choice at n, and reports whether there was one.
func (n *node) advance(bound int) bool {
	if n.tried != nil {
		if n.chosen.way+1 < n.ways {
			n.chosen.way++
			return true
		}
		if n.asleep != nil {
			n.asleep[n.chosen.thread] = n.step
		}
	} else if n.asleep == nil && bound < 0 {
		n.asleep = map[int]footprint{} // the first node
	}
	// The thread that ran before comes first, so the first schedule has no
	// preemptions.
	candidates := n.enabled
	if slices.Contains(n.enabled, n.previous) {
		candidates = append([]int{n.previous}, n.enabled...)
	}
	for _, thread := range candidates {
		if slices.Contains(n.tried, thread) {
			continue
		}
		if _, ok := n.asleep[thread]; ok {
			continue
		}
		if bound >= 0 && thread != n.previous && n.preemptions >= bound && slices.Contains(n.enabled, n.previous) {
			continue
		}
		n.tried = append(n.tried, thread)
		n.chosen = choice{thread: thread}
		return true
	}
	return false
}

// Sample tries n schedules at random.
func (s *Scene) Sample(t *testing.T, recycling bool, n int, seed uint64) Result {
	t.Helper()
	var result Result
	random := rand.New(rand.NewPCG(seed, 0))
	for range n {
		// Some schedules switch at every step, others rarely.
		stay := random.Float64()
		previous := -1
		next := func(enabled []int) (choice, error) {
			if !slices.Contains(enabled, previous) || random.Float64() > stay {
				previous = enabled[random.IntN(len(enabled))]
			}
			return choice{previous, random.IntN(2)}, nil
		}
		steps, failure := s.run(t, recycling, false, next, func(footprint, int) {})
		result.Schedules++
		result.Steps += steps
		result.Longest = max(result.Longest, steps)
		if failure != nil {
			result.Failure = s.Replay(t, recycling, failure.Schedule)
			if result.Failure == nil {
				result.Failure = failure
			}
			break
		}
	}
	return result
}

// Replay runs one schedule, and records its steps. After the end of the
// schedule the first thread that can run does. Replay returns nil if the
// invariant holds.
func (s *Scene) Replay(t *testing.T, recycling bool, schedule Schedule) *Failure {
	t.Helper()
	i := 0
	next := func(enabled []int) (choice, error) {
		c := choice{thread: enabled[0]}
		if i < len(schedule) {
			c = schedule[i]
			i++
		}
		if !slices.Contains(enabled, c.thread) {
			return c, fmt.Errorf("thread %d cannot take step %d: the schedule is not of this scene", c.thread, i)
		}
		return c, nil
	}
	_, failure := s.run(t, recycling, true, next, func(footprint, int) {})
	return failure
}
