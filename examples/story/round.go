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
// round. A stalled lap has waited from want to got, and held nothing.
type lap struct {
	want, got, gave time.Duration
}

// A trace is the events of a round.
type trace struct {
	round int // its number, from 1
	slots int
	laps  [][]lap // by worker; allocated before the round
}

func newTrace(workers, slots int) *trace {
	t := &trace{slots: slots, laps: make([][]lap, workers)}
	for i := range t.laps {
		t.laps[i] = make([]lap, 0, lapsPerRound)
	}
	return t
}

// A census counts the holders of slots, independently of the resource.
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

// play plays one round with a fresh resource, and records it in t. All workers
// start together; each takes a slot, holds it, gives it back and rests,
// lapsPerRound times. It returns the maximum number of simultaneous holders,
// and whether a worker did not get a slot in time.
func play(res sharedResource, hold time.Duration, t *trace) (peak int, stalled bool) {
	// No correct round takes this long, even on a busy machine.
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

// rest returns how long a worker rests after it has held a slot for the given
// time.
func rest(hold time.Duration) time.Duration { return hold / 5 }

// spend waits for d and yields the processor, as input and output do. A sleep
// yields too, but a sleep of microseconds may take a millisecond.
func spend(d time.Duration) {
	if d >= time.Millisecond {
		time.Sleep(d)
		return
	}
	for start := time.Now(); time.Since(start) < d; {
		runtime.Gosched()
	}
}

// A result is the result of many rounds.
type result struct {
	title   string
	rounds  int
	over    int // rounds in which more workers than slots held one
	stalled int // rounds in which a worker did not get a slot in time
	peak    int // the maximum number of simultaneous holders
	shown   *trace
}

// keptPromise reports whether no round went wrong.
func (r result) keptPromise() bool { return r.over == 0 && r.stalled == 0 }

// verdict describes the result.
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
// show is the one that was over capacity for the largest part of its time, or
// the last one if none was. It calls report after every round. It stops when
// the budget of time is used up, but not before the end of the first round.
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

// end returns the end time of the round.
func (t *trace) end() time.Duration {
	var end time.Duration
	for _, laps := range t.laps {
		for _, l := range laps {
			end = max(end, l.gave)
		}
	}
	return end
}

// A step is the number of holders from a moment to the next step.
type step struct {
	at      time.Duration
	holders int
}

// steps returns the changes of the number of holders. The first step is at 0,
// and the last one is to 0 holders.
func (t *trace) steps() []step {
	var changes []step // change of the number of holders
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

// A span is an interval of time.
type span struct{ from, to time.Duration }

// over returns the times at which too many workers held a slot.
func (t *trace) over() []span {
	var over []span
	steps := t.steps()
	for i, s := range steps {
		switch {
		case s.holders <= t.slots:
		case len(over) > 0 && over[len(over)-1].to == s.at:
			over[len(over)-1].to = steps[i+1].at
		default:
			// The last step is to 0, so i+1 exists.
			over = append(over, span{s.at, steps[i+1].at})
		}
	}
	return over
}

// shareOver returns the share of the round in which too many workers held a
// slot.
func (t *trace) shareOver() float64 {
	var sum time.Duration
	for _, o := range t.over() {
		sum += o.to - o.from
	}
	return float64(sum) / float64(max(t.end(), 1))
}
