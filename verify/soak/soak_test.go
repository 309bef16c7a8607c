package main

import (
	"bytes"
	"context"
	"os"
	"runtime"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// soakTime is short, except in the long form.
func soakTime() time.Duration {
	if os.Getenv("CONDVAR_VERIFY") == "long" {
		return time.Minute
	}
	return time.Second
}

func TestASoakFindsNothingWrong(t *testing.T) {
	procs := runtime.GOMAXPROCS(0)
	var out bytes.Buffer
	ok := run(t.Context(), config{duration: soakTime(), seed: 1, hangsAfter: time.Minute}, &out, false)
	require.True(t, ok, out.String())
	require.NotContains(t, out.String(), "FAILED")
	require.Equal(t, procs, runtime.GOMAXPROCS(0))
	t.Log("\n" + out.String())
}

func TestASoakFindsWhatIsPlanted(t *testing.T) {
	for plant, want := range map[string]string{
		plantLost:    "at rest, with a capacity of",
		plantSwallow: "4 notifications became",
		plantMemory:  "at the end: FAILED",
	} {
		t.Run(plant, func(t *testing.T) {
			var out bytes.Buffer
			c := config{duration: 400 * time.Millisecond, seed: 1, plant: plant, hangsAfter: time.Minute}
			require.False(t, run(t.Context(), c, &out, false))
			require.Contains(t, out.String(), want)
		})
	}
}

func TestAnInterruptEndsASoakWithAVerdict(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	var out bytes.Buffer
	ok := run(ctx, config{duration: time.Hour, seed: 1, hangsAfter: time.Minute}, &out, true)
	require.True(t, ok, out.String())
	require.Regexp(t, `memory +not compared`, out.String())
	require.Regexp(t, `total .*: ok\n$`, out.String())
}

// A verdict is good only if all its lines are.
func TestVerdict(t *testing.T) {
	good := func() *soak {
		return &soak{
			parts: newParts(config{}), elapsed: time.Second, heap: []uint64{1 << 20, 0, 0, 1<<20 + heapMargin},
			goroutinesBefore: 3, goroutinesAfter: 3, leakProfile: []byte("total 0"),
		}
	}
	var out bytes.Buffer
	require.True(t, good().verdict(&out))
	require.NotContains(t, out.String(), "FAILED")
	for want, spoil := range map[string]func(*soak){
		`Event .*: FAILED\n    round 0: three of 4`: func(s *soak) { s.parts[1].failf("three of %d", 4) },
		`memory .*: FAILED`:                         func(s *soak) { s.heap[legs-1]++ },
		`goroutines .*: FAILED`:                     func(s *soak) { s.goroutinesAfter++ },
		`leaked goroutines +1: FAILED\ntotal 0`:     func(s *soak) { s.leaked = 1 },
	} {
		s := good()
		spoil(s)
		out.Reset()
		require.False(t, s.verdict(&out))
		require.Regexp(t, want, out.String())
		require.Regexp(t, `total .*: FAILED\n$`, out.String())
	}
}

func TestTheFirstFailureIsTheOneThatCounts(t *testing.T) {
	p := &part{}
	require.NoError(t, p.failure())
	p.failf("first")
	p.failf("second")
	require.EqualError(t, p.failure(), "round 0: first")
}

func TestAPartIsStuckIfNobodyFinishes(t *testing.T) {
	p := &part{running: true}
	require.False(t, p.isStuck(2*tick))
	require.True(t, p.isStuck(2*tick))
	p.joined.Add(1)
	require.False(t, p.isStuck(2*tick))
	require.False(t, p.isStuck(2*tick))
	require.True(t, p.isStuck(2*tick))
	p.running = false
	require.False(t, p.isStuck(2*tick))
	p.running = true
	p.failf("something is wrong")
	require.True(t, p.isStuck(10*tick))
}

func TestWhatAWorkerDoesFollowsFromTheSeed(t *testing.T) {
	first := func(seed, number uint64, worker int) uint64 {
		r := &round{part: &part{seed: seed}, number: number}
		for range worker {
			r.newWorker()
		}
		return r.newWorker().rng.Uint64()
	}
	again := first(1, 2, 2)
	require.Equal(t, again, first(1, 2, 2))
	seen := map[uint64]bool{}
	for seed := range uint64(3) {
		for number := range uint64(3) {
			for worker := range 3 {
				seen[first(seed, number, worker)] = true
			}
		}
	}
	require.Len(t, seen, 27)
}

func TestGrouped(t *testing.T) {
	for n, want := range map[uint64]string{0: "0", 999: "999", 1000: "1,000", 1234567: "1,234,567"} {
		require.Equal(t, want, grouped(n))
	}
}
