package main

import (
	"cmp"
	"context"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// lapsPerRound is how often a worker acquires, holds and releases in a round.
const lapsPerRound = 3

// A lap is one acquisition of one worker. Times count from the start of the
// round. A lap that stalled has waited from want to got, and held nothing.
type lap struct {
	want, got, gave time.Duration
}

// A trace is what happened in a round.
type trace struct {
	round int // its number, from 1
	slots int
	laps  [][]lap // by worker; room for lapsPerRound each, made beforehand
}

func newTrace(workers, slots int) *trace {
	t := &trace{slots: slots, laps: make([][]lap, workers)}
	for i := range t.laps {
		t.laps[i] = make([]lap, 0, lapsPerRound)
	}
	return t
}

// A census counts those who hold a slot, apart from the books of the resource.
type census struct {
	holders, peak atomic.Int64
}

func (c *census) enter() {
	n := c.holders.Add(1)
	for {
		peak := c.peak.Load()
		if n <= peak || c.peak.CompareAndSwap(peak, n) {
			return
		}
	}
}

func (c *census) leave() { c.holders.Add(-1) }

// play plays one round with a fresh resource, and writes it down in t. All
// workers start together; each takes a slot, holds it, gives it back and rests,
// lapsPerRound times. It returns how many held a slot at the same time, and
// whether a worker did not get a slot in time.
func play(res sharedResource, hold time.Duration, t *trace) (peak int, stalled bool) {
	// No round has a reason to take this long, even on a busy machine.
	limit := 10*time.Second + 10*hold*lapsPerRound*time.Duration(len(t.laps))
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()

	var (
		c      census
		stalls atomic.Bool
		wg     sync.WaitGroup
		start  time.Time
		gate   = make(chan struct{})
	)
	work := func(laps []lap) []lap {
		<-gate
		for range lapsPerRound {
			var l lap
			l.want = time.Since(start)
			err := res.Acquire(ctx)
			l.got = time.Since(start)
			if err != nil {
				stalls.Store(true)
				l.gave = l.got
				return append(laps, l)
			}
			c.enter()
			spend(hold)
			c.leave()
			l.gave = time.Since(start)
			res.Release()
			laps = append(laps, l)
			spend(rest(hold))
		}
		return laps
	}
	for i := range t.laps {
		wg.Go(func() { t.laps[i] = work(t.laps[i][:0]) })
	}
	start = time.Now()
	close(gate)
	wg.Wait()
	return int(c.peak.Load()), stalls.Load()
}

// rest is how long a worker rests that has held a slot for so long.
func rest(hold time.Duration) time.Duration { return hold / 5 }

// spend spends d and leaves the processor to others, as input and output do. A
// sleep does that too, but one of microseconds may take a millisecond.
func spend(d time.Duration) {
	if d >= time.Millisecond {
		time.Sleep(d)
		return
	}
	for start := time.Now(); time.Since(start) < d; {
		runtime.Gosched()
	}
}

// A result is what came out of many rounds.
type result struct {
	title   string
	rounds  int
	over    int // rounds in which more workers than slots held one
	stalled int // rounds in which a worker did not get a slot in time
	peak    int // the most who held a slot at the same time
	shown   *trace
}

// keptPromise reports whether no round went wrong.
func (r result) keptPromise() bool { return r.over == 0 && r.stalled == 0 }

// verdict says what came out of the rounds.
func (r result) verdict() string {
	text := "never over capacity in " + count(r.rounds, "round")
	if r.over > 0 {
		text = "over capacity in " + percent(r.over, r.rounds) + " of " + count(r.rounds, "round")
	}
	text += ", up to " + count(r.peak, "holder")
	if r.stalled > 0 {
		text += ", a worker did not get a slot in time in " + count(r.stalled, "round")
	}
	return text
}

// measure plays rounds, each with a resource from newResource. The round to
// show is the one that was over capacity for the largest part of its time; if
// none was, the last one. After every round it calls report. When the budget of
// time is spent it stops, but not before the first round is over.
func measure(cfg config, newResource func() sharedResource, report func(result)) result {
	var (
		res       result
		start     = time.Now()
		worst     float64
		cur, kept = newTrace(cfg.workers, cfg.slots), newTrace(cfg.workers, cfg.slots)
	)
	inTime := func() bool { return cfg.budget == 0 || time.Since(start) < cfg.budget }
	for res.rounds == 0 || res.rounds < cfg.rounds && inTime() {
		peak, stalled := play(newResource(), cfg.hold, cur)
		res.rounds++
		cur.round = res.rounds
		if stalled {
			res.stalled++
		}
		show := res.over == 0
		if peak > cfg.slots {
			res.over++
			share := cur.shareOver()
			show = res.over == 1 || share > worst
			if show {
				worst = share
			}
		}
		if show {
			cur, kept = kept, cur
		}
		res.peak = max(res.peak, peak)
		report(res)
	}
	res.shown = kept
	return res
}

// end returns when the round was over.
func (t *trace) end() time.Duration {
	var end time.Duration
	for _, laps := range t.laps {
		for _, l := range laps {
			end = max(end, l.gave)
		}
	}
	return end
}

// A step is a moment from which on, up to the next step, so many hold a slot.
type step struct {
	at      time.Duration
	holders int
}

// steps returns how the number of holders went. The first step is at 0, and the
// last one is to 0 holders.
func (t *trace) steps() []step {
	var changes []step // holders: by how much
	for _, laps := range t.laps {
		for _, l := range laps {
			changes = append(changes, step{l.got, 1}, step{l.gave, -1})
		}
	}
	slices.SortFunc(changes, func(a, b step) int { return cmp.Compare(a.at, b.at) })
	steps := []step{{0, 0}}
	for _, c := range changes {
		last := &steps[len(steps)-1]
		if c.at == last.at {
			last.holders += c.holders
		} else {
			steps = append(steps, step{c.at, last.holders + c.holders})
		}
	}
	return steps
}

// A span is a stretch of time.
type span struct{ from, to time.Duration }

// over returns when too many held a slot.
func (t *trace) over() []span {
	var over []span
	steps := t.steps()
	for i, s := range steps {
		switch {
		case s.holders <= t.slots:
		case len(over) > 0 && over[len(over)-1].to == s.at:
			over[len(over)-1].to = steps[i+1].at
		default:
			over = append(over, span{s.at, steps[i+1].at}) // the last step is to 0
		}
	}
	return over
}

// shareOver returns for what part of the round too many held a slot.
func (t *trace) shareOver() float64 {
	var sum time.Duration
	for _, o := range t.over() {
		sum += o.to - o.from
	}
	return float64(sum) / float64(max(t.end(), 1))
}
