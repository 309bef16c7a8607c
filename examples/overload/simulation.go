package main

import (
	"cmp"
	"context"
	"errors"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"example.com/condvar"
	"golang.org/x/sync/semaphore"
)

// The parameters of the simulation.
const (
	slots    = 10
	meanWork = 100 * time.Millisecond // each takes up to 20 % more or less
	leave    = time.Second            // after its arrival

	// Requests that arrive in the first warmUp are served but not counted,
	// because a line that starts empty takes time to grow. Requests of the
	// window count.
	warmUp = 20 * time.Second
	window = 30 * time.Second
)

// A demand describes the requests.
type demand struct {
	seed uint64
	load int           // in percent of what the slots can serve
	work time.Duration // of a request on average
}

// An arrival is a request that has not been served yet.
type arrival struct {
	at   time.Duration // since the start
	work time.Duration
}

// arrivals returns the requests of a Poisson process. With the same seed, the
// nth gap and the nth work are the same for each load, apart from their scale.
func (d demand) arrivals() []arrival {
	random := rand.New(rand.NewPCG(d.seed, 0))
	meanGap := float64(d.work) / slots * 100 / float64(d.load)
	var all []arrival
	for at := 0.0; ; {
		at += random.ExpFloat64() * meanGap
		if at >= float64(warmUp+window) {
			return all
		}
		work := float64(d.work) * (0.8 + 0.4*random.Float64())
		all = append(all, arrival{time.Duration(at), time.Duration(work)})
	}
}

// A server acquires its limiter before it serves a request.
type limiter interface {
	Acquire(ctx context.Context) error
	Release()
}

// A semaphoreLimiter is a limiter of golang.org/x/sync/semaphore.
type semaphoreLimiter struct{ weighted *semaphore.Weighted }

func (l semaphoreLimiter) Acquire(ctx context.Context) error { return l.weighted.Acquire(ctx, 1) }
func (l semaphoreLimiter) Release()                          { l.weighted.Release(1) }

// A variant is one of the compared limiters.
type variant struct {
	name string
	make func() limiter
}

// The compared bounds. At full load a line of maxWaiting takes maxWait to be
// served.
const (
	maxWaiting = 50
	maxWait    = 500 * time.Millisecond
)

// These are the indices of variants.
const (
	unbounded = iota
	fifo
	withMaxWaiting
	withMaxWait
	xsync
)

func variants() []variant {
	return []variant{
		unbounded:      {"no bound", resource()},
		fifo:           {"FIFO()", resource(condvar.FIFO())},
		withMaxWaiting: {"MaxWaiting(50)", resource(condvar.MaxWaiting(maxWaiting))},
		withMaxWait:    {"MaxWait(500ms)", resource(condvar.MaxWait(maxWait))},
		xsync:          {"x/sync", func() limiter { return semaphoreLimiter{semaphore.NewWeighted(slots)} }},
	}
}

func resource(opts ...condvar.Option) func() limiter {
	return func() limiter { return condvar.NewCapacityResource(slots, opts...) }
}

// A fate is the outcome of a request.
type fate int

const (
	answered fate = iota // the work was done before the client left
	wasted               // the work was done, but the client had left
	left                 // the client left before the work began
	rejected             // ErrOverloaded
	fates
)

// A record is the outcome of one arrival.
type record struct {
	arrival
	fate   fate
	waited time.Duration // until Acquire returned
}

// serve sends all requests to a server with the given limiter, and returns when
// the last one is over. It should run with a fake clock.
func serve(limit limiter, all []arrival) []record {
	records := make([]record, len(all))
	var requests sync.WaitGroup
	start := time.Now()
	for i, a := range all {
		time.Sleep(a.at - time.Since(start))
		requests.Go(func() { records[i] = handle(limit, a) })
	}
	requests.Wait()
	return records
}

// handle serves one request. The client leaves when ctx ends. The server
// notices that while the request waits, but it cannot stop the work.
func handle(limit limiter, a arrival) record {
	ctx, cancel := context.WithTimeout(context.Background(), leave)
	defer cancel()
	r := record{arrival: a}
	arrived := time.Now()
	err := limit.Acquire(ctx)
	r.waited = time.Since(arrived)
	switch {
	case errors.Is(err, condvar.ErrOverloaded):
		r.fate = rejected
	case err != nil:
		r.fate = left
	default:
		time.Sleep(a.work)
		limit.Release()
		if time.Since(arrived) >= leave {
			r.fate = wasted
		}
	}
	return r
}

// A summary summarizes the records of one run in the window.
type summary struct {
	offered int
	fates   [fates]int
	goodput float64       // in percent of the possible work
	p99     time.Duration // from arrival to the end of the work, if it was done
	refusal time.Duration // the longest that a client waited to be rejected
	longest int           // the longest line
}

// share returns the percentage of requests with the given fate.
func (s summary) share(f fate) float64 { return 100 * float64(s.fates[f]) / float64(s.offered) }

// summarize summarizes the window. Requests count if they arrived in it.
// Goodput is the share of the slots' time in the window that they spent on
// requests that were answered.
func summarize(records []record) summary {
	var s summary
	var latencies []time.Duration
	var offered, useful time.Duration
	for _, r := range records {
		if begin := r.at + r.waited; r.fate == answered {
			useful += max(0, min(begin+r.work, warmUp+window)-max(begin, warmUp))
		}
		if r.at < warmUp {
			continue
		}
		s.offered++
		s.fates[r.fate]++
		offered += r.work
		switch r.fate {
		case answered, wasted:
			latencies = append(latencies, r.waited+r.work)
		case rejected:
			s.refusal = max(s.refusal, r.waited)
		}
	}
	s.goodput = 100 * float64(useful) / float64(min(offered, slots*window))
	s.longest = longestLine(records)
	if len(latencies) > 0 {
		slices.Sort(latencies)
		s.p99 = latencies[(len(latencies)*99+99)/100-1]
	}
	return s
}

// longestLine returns the maximum number of requests that waited
// simultaneously.
func longestLine(records []record) int {
	type step struct {
		at     time.Duration
		change int
	}
	var steps []step
	for _, r := range records {
		if r.waited > 0 {
			steps = append(steps, step{r.at, +1}, step{r.at + r.waited, -1})
		}
	}
	slices.SortFunc(steps, func(a, b step) int { return cmp.Compare(a.at, b.at) })
	n, longest := 0, 0
	for _, s := range steps {
		n += s.change
		longest = max(longest, n)
	}
	return longest
}
