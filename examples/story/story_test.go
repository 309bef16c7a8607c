package main

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m)
}

// noEnv is a getenv without variables.
func noEnv(string) string { return "" }

func TestBadFlagsExitWith2AndSayWhy(t *testing.T) {
	dir := t.TempDir()
	for _, tt := range []struct {
		args []string
		want string
	}{
		{[]string{"-workers", "0"}, "-workers must be from 1 to 1000, not 0"},
		{[]string{"-workers", "-3"}, "-workers must be from 1 to 1000, not -3"},
		{[]string{"-workers", "1001"}, "-workers must be from 1 to 1000, not 1001"},
		{[]string{"-workers", "five"}, `invalid value "five" for flag -workers`},
		{[]string{"-slots", "0"}, "-slots must be at least 1, not 0"},
		{[]string{"-hold", "-1us"}, "-hold must be from 0 to 1m0s, not -1µs"},
		{[]string{"-hold", "2m"}, "-hold must be from 0 to 1m0s, not 2m0s"},
		{[]string{"-hold", "20"}, `invalid value "20" for flag -hold`},
		{[]string{"-rounds", "0"}, "-rounds must be at least 1, not 0"},
		{[]string{"-slots", "2", "more"}, `unexpected argument "more"`},
		{[]string{"-quick"}, "flag provided but not defined: -quick"},
		{[]string{"-svg", filepath.Join(dir, "missing", "a.svg")}, "cannot write the picture: "},
		{[]string{"-svg", dir}, "cannot write the picture: "},
	} {
		t.Run(strings.Join(tt.args, " "), func(t *testing.T) {
			var stdout, stderr bytes.Buffer
			require.Equal(t, 2, run(tt.args, &stdout, &stderr, noEnv))
			require.Empty(t, stdout.String())
			require.Contains(t, stderr.String(), "story: "+tt.want)
			require.Contains(t, stderr.String(), "-h lists all flags")
		})
	}
}

func TestHelpListsAllFlagsAndExitsWith0(t *testing.T) {
	var stdout, stderr bytes.Buffer
	require.Equal(t, 0, run([]string{"-h"}, &stdout, &stderr, noEnv))
	require.Empty(t, stderr.String())
	for _, name := range []string{"-workers", "-slots", "-hold", "-rounds", "-slow", "-svg"} {
		require.Contains(t, stdout.String(), "  "+name)
	}
}

func TestARunEndsWithTheVerdictOnBoth(t *testing.T) {
	var stdout, stderr bytes.Buffer
	require.Equal(t, 0, run([]string{"-slow", "-rounds", "100"}, &stdout, &stderr, noEnv))
	require.Contains(t, stdout.String(), "5 workers compete for 2 slots")
	require.NotContains(t, stdout.String(), "\x1b", "a buffer is not a terminal")

	lines := strings.Split(strings.TrimSuffix(stdout.String(), "\n"), "\n")
	verdict := lines[len(lines)-2:]
	require.Regexp(t, `^Event: +over capacity in [0-9a-z. ]+ % of 100 rounds, up to [345] holders\.$`, verdict[0])
	require.Equal(t, "CapacityResource: never over capacity in 100 rounds, up to 2 holders.", verdict[1])

	require.NotContains(t, stderr.String(), "\r", "nor is this")
	require.Equal(t, 8, strings.Count(stderr.String(), "\n"), "a line for each quarter of each")
}

func TestARunWritesThePicture(t *testing.T) {
	file := filepath.Join(t.TempDir(), "story.svg")
	var stdout, stderr bytes.Buffer
	require.Equal(t, 0, run([]string{"-rounds", "5", "-svg", file}, &stdout, &stderr, noEnv))
	data, err := os.ReadFile(file)
	require.NoError(t, err)
	requireWellFormed(t, data)
}

func TestTheDefaultIsFiveWorkersAndTwoSlots(t *testing.T) {
	cfg, err := parse(nil, nil)
	require.NoError(t, err)
	require.Equal(t, config{workers: 5, slots: 2, hold: 5 * time.Microsecond, rounds: 40000, budget: 4 * time.Second}, cfg)
}

func TestRoundsThatAreAskedForArePlayedHoweverLongTheyTake(t *testing.T) {
	cfg, err := parse([]string{"-rounds", "40000"}, nil)
	require.NoError(t, err)
	require.Equal(t, 40000, cfg.rounds)
	require.Zero(t, cfg.budget)
}

func TestNoRoundStartsAfterTheBudgetIsSpent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		// A round takes three times 5 ms of holding and 1 ms of rest.
		cfg := config{workers: 1, slots: 1, hold: 5 * time.Millisecond, rounds: 1000, budget: 90 * time.Millisecond}
		require.Equal(t, 5, measure(cfg, func() sharedResource { return openResource{} }, quiet).rounds)
		cfg.budget = time.Nanosecond
		require.Equal(t, 1, measure(cfg, func() sharedResource { return openResource{} }, quiet).rounds)
	})
}

func TestOnlyACapacityResourceThatKeptItsPromisePasses(t *testing.T) {
	require.True(t, result{rounds: 3}.keptPromise())
	require.False(t, result{rounds: 3, over: 1}.keptPromise())
	require.False(t, result{rounds: 3, stalled: 1}.keptPromise())
}

// quiet is a report for measure.
func quiet(result) {}

// raceRounds is enough for -slow to go wrong: over 99 % of its rounds do.
const raceRounds = 300

func TestTheSlowEventGoesOverCapacity(t *testing.T) {
	cfg := config{workers: 5, slots: 2, hold: 5 * time.Microsecond, rounds: raceRounds, slow: true}
	r := measure(cfg, func() sharedResource { return newEventResource(cfg.slots, cfg.slow) }, quiet)
	require.Positive(t, r.over)
	require.Greater(t, r.peak, cfg.slots)
	require.Zero(t, r.stalled)
	require.NotEmpty(t, r.shown.over(), "the round to show is one that went wrong")
}

func TestTheCapacityResourceNeverGoesOverCapacity(t *testing.T) {
	cfg := config{workers: 5, slots: 2, hold: 5 * time.Microsecond, rounds: raceRounds}
	r := measure(cfg, func() sharedResource { return newCapacityResource(cfg.slots) }, func(r result) {
		require.LessOrEqual(t, r.peak, cfg.slots)
	})
	require.True(t, r.keptPromise())
	require.Equal(t, cfg.rounds, r.rounds)
	require.Equal(t, cfg.rounds, r.shown.round, "the last round")
	require.Empty(t, r.shown.over())
	for _, laps := range r.shown.laps {
		require.Len(t, laps, lapsPerRound)
		for _, l := range laps {
			require.LessOrEqual(t, l.want, l.got)
			require.LessOrEqual(t, l.got+cfg.hold, l.gave)
		}
	}
}

// A oneTimeResource admits one worker, and none after that.
type oneTimeResource struct{ slot chan struct{} }

func (r oneTimeResource) Acquire(ctx context.Context) error {
	select {
	case r.slot <- struct{}{}:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (r oneTimeResource) Release() {}

func TestARoundThatStallsEndsAndIsCounted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cfg := config{workers: 3, slots: 1, rounds: 2}
		r := measure(cfg, func() sharedResource { return oneTimeResource{make(chan struct{}, 1)} }, quiet)
		require.Equal(t, 2, r.stalled)
		require.Equal(t, 0, r.over)
		require.Equal(t, 1, r.peak)
		require.Equal(t, 10*time.Second, r.shown.end(), "the limit of a round")
		require.Equal(t, "never over capacity in 2 rounds, up to 1 holder, a worker did not get a slot in time in 2 rounds",
			r.verdict())
	})
}

// An openResource admits every worker.
type openResource struct{}

func (openResource) Acquire(context.Context) error { return nil }
func (openResource) Release()                      {}

func TestTheCensusDoesNotBelieveTheResource(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cfg := config{workers: 4, slots: 2, hold: 5 * time.Millisecond, rounds: 3}
		r := measure(cfg, func() sharedResource { return openResource{} }, quiet)
		require.Equal(t, 3, r.over)
		require.Equal(t, 4, r.peak)
		require.Equal(t, "over capacity in 100 % of 3 rounds, up to 4 holders", r.verdict())
	})
}

func TestTheRoundToShowIsTheWorst(t *testing.T) {
	// The holders of two workers on one slot in each round, and the round that
	// is shown.
	fine := func() sharedResource { return newCapacityResource(1) }
	open := func() sharedResource { return openResource{} }
	partly := func() sharedResource { return &laterOpenResource{sharedResource: fine()} }
	for _, tt := range []struct {
		rounds []func() sharedResource
		want   int
	}{
		{[]func() sharedResource{fine, fine, fine}, 3},
		{[]func() sharedResource{fine, open, fine}, 2},
		{[]func() sharedResource{partly, fine, open}, 3},
		{[]func() sharedResource{fine, open, partly}, 2},
	} {
		synctest.Test(t, func(t *testing.T) {
			cfg := config{workers: 2, slots: 1, hold: 5 * time.Millisecond, rounds: len(tt.rounds)}
			i := 0
			r := measure(cfg, func() sharedResource { i++; return tt.rounds[i-1]() }, quiet)
			require.Equal(t, tt.want, r.shown.round)
		})
	}
}

// A laterOpenResource is correct for two acquisitions, and then open.
type laterOpenResource struct {
	sharedResource
	n atomic.Int64
}

func (r *laterOpenResource) Acquire(ctx context.Context) error {
	if r.n.Add(1) > 2 {
		return nil
	}
	return r.sharedResource.Acquire(ctx)
}

func (r *laterOpenResource) Release() {
	if r.n.Load() <= 2 {
		r.sharedResource.Release()
	}
}

func TestWhyNothingShows(t *testing.T) {
	verdict := func(cfg config) string {
		var out bytes.Buffer
		(&console{w: &out}).verdict(cfg, result{rounds: 9, peak: 2}, result{rounds: 9, peak: 2})
		return out.String()
	}
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1))
	require.Contains(t, verdict(config{workers: 5, slots: 2}), "with GOMAXPROCS=1 one goroutine runs at a time")
	require.Contains(t, verdict(config{workers: 2, slots: 2}), "There is a slot for every worker")
	runtime.GOMAXPROCS(2)
	require.Contains(t, verdict(config{workers: 5, slots: 2}), "try more -rounds, or -slow")
}

func TestProgressOnATerminalIsOneLineThatGoesAway(t *testing.T) {
	var out bytes.Buffer
	p := &progress{w: &out, live: true}
	report := p.reporter("Event", 1200)
	report(result{rounds: 1})
	report(result{rounds: 2}) // too soon for a second one
	p.clear()
	require.Equal(t, "\rEvent: round 1 of 1,200, 0 over capacity\x1b[K\r\x1b[K", out.String())
}

func TestProgressElsewhereIsALineForEachQuarter(t *testing.T) {
	var out bytes.Buffer
	p := &progress{w: &out}
	report := p.reporter("Event", 8)
	for i := range 8 {
		report(result{rounds: i + 1, over: i})
	}
	p.clear()
	require.Equal(t, `Event: round 2 of 8, 1 over capacity
Event: round 4 of 8, 3 over capacity
Event: round 6 of 8, 5 over capacity
Event: round 8 of 8, 7 over capacity
`, out.String())
}

func TestOnlyAllIs100PercentAndOnlyNothingIs0(t *testing.T) {
	for _, tt := range []struct {
		n, all int
		want   string
	}{
		{1, 1000000, "under 0.001 %"},
		{3, 40000, "0.007 %"},
		{283, 40000, "0.71 %"},
		{1, 3, "33.3 %"},
		{39999, 40000, "over 99.9 %"},
		{40000, 40000, "100 %"},
	} {
		require.Equal(t, tt.want, percent(tt.n, tt.all))
	}
}

func TestThousandsAreGrouped(t *testing.T) {
	for n, want := range map[int]string{0: "0", 999: "999", 1000: "1,000", 123456: "123,456", 1234567: "1,234,567"} {
		require.Equal(t, want, thousands(n))
	}
}
