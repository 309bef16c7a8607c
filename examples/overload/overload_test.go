package main

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"runtime"
	"testing"
	"testing/synctest"
	"time"

	"example.com/condvar"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func noEnv(string) string { return "" }

func noReport(string) {}

// Bug R26.
func TestABoundOnTheLineKeepsGoodputUnderOverload(t *testing.T) {
	for _, seed := range []uint64{1, 2} {
		by := at(compare(seed, []int{shown}, fakeClock(t), noReport), shown)
		require.GreaterOrEqual(t, by[withMaxWaiting].goodput, 95.0)
		require.GreaterOrEqual(t, by[withMaxWait].goodput, 95.0)
		for _, i := range []int{unbounded, fifo, xsync} {
			require.Less(t, by[i].goodput, 1.0, variants()[i].name)
			require.Greater(t, by[i].share(wasted), 60.0, "the slots are busy all the same")
		}
	}
}

func TestEverybodyIsAnsweredWhenThereIsRoom(t *testing.T) {
	for i, s := range at(compare(1, []int{50}, fakeClock(t), noReport), 50) {
		require.Equal(t, s.offered, s.fates[answered], variants()[i].name)
		require.InDelta(t, 100, s.goodput, 1, variants()[i].name)
	}
}

// With any number of processors, too.
func TestTheSameSeedGivesTheSameRecords(t *testing.T) {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(0))
	for _, v := range variants() {
		d := demand{1, 125, meanWork}
		var first, again []record
		runtime.GOMAXPROCS(1)
		fakeClock(t)(func() { first = serve(v.make(), d.arrivals()) })
		runtime.GOMAXPROCS(4)
		fakeClock(t)(func() { again = serve(v.make(), d.arrivals()) })
		require.Equal(t, first, again, v.name)
	}
	require.NotEqual(t, demand{1, 125, meanWork}.arrivals(), demand{2, 125, meanWork}.arrivals())
}

func TestTheAccountsAreExactAtTheEnd(t *testing.T) {
	for _, opts := range [][]condvar.Option{
		nil,
		{condvar.FIFO()},
		{condvar.MaxWaiting(maxWaiting)},
		{condvar.MaxWait(maxWait)},
		{condvar.MaxWaiting(85), condvar.MaxWait(700 * time.Millisecond)},
	} {
		synctest.Test(t, func(t *testing.T) {
			r := condvar.NewCapacityResource(slots, opts...)
			all := demand{1, 150, meanWork}.arrivals()
			var n [fates]int64
			var waits int64
			var waited time.Duration
			for _, r := range serve(r, all) {
				n[r.fate]++
				if r.waited > 0 {
					waits++
					waited += r.waited
				}
			}
			require.Equal(t, int64(len(all)), n[answered]+n[wasted]+n[left]+n[rejected])
			require.Equal(t, condvar.Stats{
				Capacity: slots, WaitCount: waits, WaitDuration: waited, Canceled: n[left], Rejected: n[rejected],
			}, r.Stats())
		})
	}
}

// A crowd is a limiter that counts how many hold it.
type crowd struct {
	limiter
	holders, most int
	mu            chan struct{}
}

func (c *crowd) add(n int) {
	c.mu <- struct{}{}
	c.holders += n
	c.most = max(c.most, c.holders)
	<-c.mu
}

func (c *crowd) Acquire(ctx context.Context) error {
	err := c.limiter.Acquire(ctx)
	if err == nil {
		c.add(+1)
	}
	return err
}

func (c *crowd) Release() {
	c.add(-1)
	c.limiter.Release()
}

func TestTheSlotsAreAllUsedAndNoMore(t *testing.T) {
	for _, v := range variants() {
		synctest.Test(t, func(t *testing.T) {
			c := &crowd{limiter: v.make(), mu: make(chan struct{}, 1)}
			serve(c, demand{1, 110, meanWork}.arrivals())
			require.Equal(t, slots, c.most, v.name)
			require.Zero(t, c.holders, v.name)
		})
	}
}

func TestTheLineIsNeverLongerThanMaxWaiting(t *testing.T) {
	by := at(compare(1, []int{300}, fakeClock(t), noReport), 300)
	require.Equal(t, maxWaiting, by[withMaxWaiting].longest)
	require.Zero(t, by[withMaxWaiting].refusal)
	require.Greater(t, by[withMaxWait].longest, 2*maxWaiting)
	require.Equal(t, maxWait, by[withMaxWait].refusal)
}

// A timedLimiter limits the wait by its own context.
type timedLimiter struct{ limiter }

func (l timedLimiter) Acquire(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, maxWait)
	defer cancel()
	return l.limiter.Acquire(ctx)
}

func TestAContextForTheWaitAloneIsTheSameAsMaxWait(t *testing.T) {
	all := demand{1, 150, meanWork}.arrivals()
	var with, without []record
	fakeClock(t)(func() { with = serve(variants()[withMaxWait].make(), all) })
	fakeClock(t)(func() { without = serve(timedLimiter{variants()[xsync].make()}, all) })
	for i := range without {
		if without[i].fate == left {
			without[i].fate = rejected
		}
	}
	require.Equal(t, with, without)
}

func TestTheLoadScalesGapsAndNotWork(t *testing.T) {
	a, b := demand{1, 100, meanWork}.arrivals(), demand{1, 200, meanWork}.arrivals()
	require.InDelta(t, slots/meanWork.Seconds()*(warmUp+window).Seconds(), len(a), 300)
	for i := range a {
		require.Equal(t, a[i].work, b[i].work)
		require.InDelta(t, a[i].at/2, b[i].at, 1000)
		require.GreaterOrEqual(t, a[i].work, meanWork*8/10)
		require.LessOrEqual(t, a[i].work, meanWork*12/10)
	}
}

func TestASummaryCountsTheWindow(t *testing.T) {
	const ms = time.Millisecond
	at := func(at, work, waited time.Duration, f fate) record {
		return record{arrival{warmUp + at, work}, f, waited}
	}
	s := summarize([]record{
		at(-ms*50, 100*ms, 0, answered), // half of its work is in the window
		at(0, 100*ms, 0, answered),
		at(10*ms, 100*ms, 920*ms, wasted),
		at(20*ms, 100*ms, leave, left),
		at(30*ms, 100*ms, 500*ms, rejected),
		// 20 ms of its work are in the window.
		at(window-20*ms, 100*ms, 0, answered),
	})
	require.Equal(t, summary{
		offered: 5, fates: [fates]int{2, 1, 1, 1}, goodput: 100 * (50.0 + 100 + 20) / 500,
		p99: 1020 * ms, refusal: 500 * ms, longest: 3,
	}, s)
	require.Equal(t, 40.0, s.share(answered))
}

func TestTheSameSeedPrintsTheSame(t *testing.T) {
	output := func(seed uint64) string {
		var out bytes.Buffer
		results := compare(seed, []int{100, shown}, fakeClock(t), noReport)
		printLoads(&out, results)
		printFates(&out, results)
		return out.String() + string(picture(results))
	}
	first := output(1)
	require.Equal(t, first, output(1))
	require.NotEqual(t, first, output(2))
}

func TestTheCommandPrintsTablesAndDrawsThePictureInDocs(t *testing.T) {
	var stdout, stderr bytes.Buffer
	svg := filepath.Join(t.TempDir(), "overload.svg")
	require.Zero(t, run([]string{"-svg", svg}, fakeClock(t), &stdout, &stderr, noEnv))
	require.Empty(t, stderr.String(), "no progress line without a terminal")
	require.Contains(t, stdout.String(), "\n 150 %        0 %        0 %            100 %            100 %        0 %\n")
	require.Contains(t, stdout.String(), "\nMaxWaiting(50)   100 %   100 %     0 %   MaxWait(500ms)     100 %   100 %   100 %\n")
	require.Contains(t, stdout.String(), "goodput is 0 %.")

	drawn, err := os.ReadFile(svg)
	require.NoError(t, err)
	committed, err := os.ReadFile("../../docs/overload.svg")
	require.NoError(t, err)
	require.Equal(t, string(committed), string(drawn), "docs/overload.svg is out of date")
}

func TestTheProgressLineIsRemoved(t *testing.T) {
	var out bytes.Buffer
	p := &progress{w: &out, live: true, runs: 2}
	p.show("first")
	p.show("second")
	p.clear()
	require.Equal(t, "\rrun 1 of 2: first\x1b[K\rrun 2 of 2: second\x1b[K\r\x1b[K", out.String())
}

func TestEveryRunIsReported(t *testing.T) {
	n := 0
	count := func(string) { n++ }
	skip := func(func()) {} // the results of the runs do not matter
	compare(1, []int{50, 75}, skip, count)
	require.Equal(t, 2*len(variants()), n)
	n = 0
	compareBounds(1, skip, count)
	require.Equal(t, boundRuns, n)
}

func TestWrongFlagsAreExplained(t *testing.T) {
	for _, test := range []struct {
		args []string
		says string
	}{
		{[]string{"-seed", "x"}, "invalid value"},
		{[]string{"more"}, `unexpected argument "more"`},
		{[]string{"-svg", filepath.Join(t.TempDir(), "no", "picture.svg")}, "cannot write the picture"},
	} {
		var stdout, stderr bytes.Buffer
		require.Equal(t, 2, run(test.args, fakeClock(t), &stdout, &stderr, noEnv))
		require.Contains(t, stderr.String(), test.says)
		require.Empty(t, stdout.String())
	}
}

func TestTheHelpNamesTheFlags(t *testing.T) {
	var stdout, stderr bytes.Buffer
	require.Zero(t, run([]string{"-h"}, fakeClock(t), &stdout, &stderr, noEnv))
	require.Contains(t, stdout.String(), "-svg file")
	require.Empty(t, stderr.String())
}
