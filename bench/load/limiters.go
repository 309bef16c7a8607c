package load

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cockroachdb/crlib/fifo"
	"github.com/jackc/puddle/v2"
	"golang.org/x/sync/semaphore"

	"example.com/condvar"
)

// A limiter admits callers as long as there are permits.
type limiter interface {
	Acquire(ctx context.Context, n int64) (handle, error)
	Release(h handle, n int64)
}

// A handle is the value that puddle needs for a release.
type handle = *puddle.Resource[struct{}]

type newLimiter func(capacity int64) limiter

func resource(opts ...condvar.Option) newLimiter {
	return func(n int64) limiter { return ourLimiter{condvar.NewCapacityResource(n, opts...)} }
}

func xsync(n int64) limiter   { return weightedLimiter{semaphore.NewWeighted(n)} }
func channel(n int64) limiter { return make(channelLimiter, n) }
func crlib(n int64) limiter   { return fifoLimiter{fifo.NewSemaphore(n)} }

// pool returns a puddle pool with all resources created.
func pool(n int64) limiter {
	p, err := puddle.NewPool(&puddle.Config[struct{}]{
		Constructor: func(context.Context) (struct{}, error) { return struct{}{}, nil },
		Destructor:  func(struct{}) {},
		MaxSize:     int32(n),
	})
	must(err)
	for range n {
		must(p.CreateResource(context.Background()))
	}
	return poolLimiter{p}
}

type ourLimiter struct{ *condvar.CapacityResource }

func (l ourLimiter) Acquire(ctx context.Context, n int64) (handle, error) {
	return nil, l.AcquireN(ctx, n)
}
func (l ourLimiter) Release(_ handle, n int64) { l.ReleaseN(n) }

type weightedLimiter struct{ *semaphore.Weighted }

func (l weightedLimiter) Acquire(ctx context.Context, n int64) (handle, error) {
	return nil, l.Weighted.Acquire(ctx, n)
}
func (l weightedLimiter) Release(_ handle, n int64) { l.Weighted.Release(n) }

// A fifoLimiter is the semaphore of CockroachDB.
type fifoLimiter struct{ *fifo.Semaphore }

func (l fifoLimiter) Acquire(ctx context.Context, n int64) (handle, error) {
	return nil, l.Semaphore.Acquire(ctx, n)
}
func (l fifoLimiter) Release(_ handle, n int64) { l.Semaphore.Release(n) }

// A channelLimiter gives one permit at a time, as a poolLimiter does.
type channelLimiter chan struct{}

func (l channelLimiter) Acquire(ctx context.Context, _ int64) (handle, error) {
	select {
	case l <- struct{}{}:
		return nil, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}
func (l channelLimiter) Release(handle, int64) { <-l }

// A poolLimiter uses x/sync: it hands out resources under a mutex, and a
// semaphore counts them.
type poolLimiter struct{ *puddle.Pool[struct{}] }

func (l poolLimiter) Acquire(ctx context.Context, _ int64) (handle, error) {
	return l.Pool.Acquire(ctx)
}
func (l poolLimiter) Release(h handle, _ int64) { h.Release() }

// uncontended acquires and releases, in one goroutine.
func uncontended(build newLimiter) Body {
	return func(t Timer, n int) Extra {
		ctx, cancel := newContext(true)
		defer cancel()
		l := build(1)
		t.StartTimer()
		for range n {
			h, err := l.Acquire(ctx, 1)
			must(err)
			l.Release(h, 1)
		}
		t.StopTimer()
		return nil
	}
}

// A scene has goroutines that acquire, hold and release in a loop. All are in
// line when the clock starts. Their first waits start then.
type scene struct {
	capacity   int64
	goroutines int
	weights    bool  // ask for 1, 2, 3 or 4 permits in turn, not for 1
	hold       pause // with permits
	after      pause // without
	untimed    bool  // do not measure waits, which reads the clock twice
	spins      float64
}

func (s scene) weight(i int) int64 {
	if s.weights {
		return 1 + int64(i%4)
	}
	return 1
}

// run makes the body for one limiter. An operation is an acquisition.
func (s scene) run(build newLimiter) Body {
	return func(t Timer, n int) Extra {
		ctx, cancel := newContext(true)
		defer cancel()
		l := build(s.capacity)
		held := make([]handle, s.capacity)
		for i := range held {
			var err error
			held[i], err = l.Acquire(ctx, 1)
			must(err)
		}
		var start time.Time // written before any call is admitted
		waits := make([]time.Duration, n)
		var wg sync.WaitGroup
		for g := range s.goroutines {
			wg.Go(func() {
				p := newPauser(s.spins, s.hold.blocked > 0)
				defer p.close()
				for i := n * g / s.goroutines; i < n*(g+1)/s.goroutines; i++ {
					w := s.weight(i)
					if s.untimed {
						h, err := l.Acquire(ctx, w)
						must(err)
						l.Release(h, w)
						continue
					}
					asked := time.Now()
					h, err := l.Acquire(ctx, w)
					must(err)
					if asked.Before(start) {
						asked = start
					}
					waits[i] = time.Since(asked)
					p.pause(s.hold)
					l.Release(h, w)
					p.pause(s.after)
				}
			})
		}
		settle()
		t.StartTimer()
		start = time.Now()
		for _, h := range held {
			l.Release(h, 1)
		}
		wg.Wait()
		t.StopTimer()
		if s.untimed {
			return nil
		}
		return percentiles(waits)
	}
}

// bigAgainstSmall runs one goroutine that acquires the whole capacity in a
// loop, and loopers that acquire 1. They hold it for longer than they pause, so
// that some is always held. An operation is an acquisition of the whole
// capacity, and a pause in which the loopers come back.
func bigAgainstSmall(loopers int, hold time.Duration, build newLimiter) Body {
	return func(t Timer, n int) Extra {
		ctx, cancel := newContext(true)
		defer cancel()
		l, stop := build(int64(loopers)), atomic.Bool{}
		var wg sync.WaitGroup
		for range loopers {
			wg.Go(func() {
				p := newPauser(0, true)
				defer p.close()
				for !stop.Load() {
					h, err := l.Acquire(ctx, 1)
					must(err)
					p.pause(pause{blocked: hold})
					l.Release(h, 1)
				}
			})
		}
		waits := make([]time.Duration, n)
		p := newPauser(0, true)
		defer p.close()
		t.StartTimer()
		for i := range waits {
			p.pause(pause{blocked: hold})
			asked := time.Now()
			h, err := l.Acquire(ctx, int64(loopers))
			must(err)
			waits[i] = time.Since(asked)
			l.Release(h, int64(loopers))
		}
		t.StopTimer()
		stop.Store(true)
		wg.Wait()
		return percentiles(waits)
	}
}

// releaseBeside measures a Release that admits a goroutine which has waited for
// some time, while others compute without a pause. Its waits are the times of
// Release. An operation is such a wait and the Release that ends it.
func releaseBeside(computing int, waited time.Duration, build newLimiter) Body {
	return func(t Timer, n int) Extra {
		ctx, cancel := newContext(true)
		defer cancel()
		l, stop := build(1), atomic.Bool{}
		held, err := l.Acquire(ctx, 1)
		must(err)
		var wg sync.WaitGroup
		for range computing {
			wg.Go(func() {
				for p := newPauser(0, false); !stop.Load(); {
					p.spin(1000)
				}
			})
		}
		asks, acquired := make(chan struct{}), make(chan handle)
		wg.Go(func() {
			for range n {
				asks <- struct{}{}
				h, err := l.Acquire(ctx, 1)
				must(err)
				acquired <- h
			}
		})
		times := make([]time.Duration, n)
		t.StartTimer()
		for i := range times {
			<-asks
			time.Sleep(waited)
			start := time.Now()
			l.Release(held, 1)
			times[i] = time.Since(start)
			held = <-acquired
		}
		t.StopTimer()
		stop.Store(true)
		wg.Wait()
		return percentiles(times)
	}
}

// lockHeldClose measures how long Close holds the lock of a resource, with a
// crowd in line. An operation is a crowd.
func lockHeldClose(waiters int) Body {
	return lockHeld(waiters, func() locked {
		r := condvar.NewCapacityResource(1)
		must(r.Acquire(context.Background()))
		wait := func(ctx context.Context) {
			if err := r.Acquire(ctx); err == nil {
				panic("acquired what is taken")
			}
		}
		return locked{lockOf(r, "line", "mu"), wait, func() { must(r.Close()) }, func() { r.Stats() }}
	})
}

// onLimiter makes a workload of canceled or storm for limiters of capacity 1,
// whose permit is taken.
func onLimiter(f func(Timer, int, int, waitFunc) Extra, waiters int, build newLimiter) Body {
	return func(t Timer, n int) Extra {
		l := build(1)
		_, err := l.Acquire(context.Background(), 1)
		must(err)
		return f(t, n, waiters, func(ctx context.Context) {
			if _, err := l.Acquire(ctx, 1); err == nil {
				panic("acquired what is taken")
			}
		})
	}
}

// crowdOnLimiter is crowd in the line of a limiter: each admitted call admits
// the next.
func crowdOnLimiter(waiters int, build newLimiter) Body {
	return crowd(waiters, func() (waitFunc, func()) {
		l := build(1)
		h, err := l.Acquire(context.Background(), 1)
		must(err)
		wait := func(ctx context.Context) {
			h, err := l.Acquire(ctx, 1)
			must(err)
			l.Release(h, 1)
		}
		return wait, func() { l.Release(h, 1) }
	})
}
