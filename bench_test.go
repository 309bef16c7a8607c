package condvar_test

import (
	"context"
	"fmt"
	"runtime"
	"sync"
	"testing"

	"golang.org/x/sync/semaphore"

	"example.com/condvar"
)

// The benchmarks have one body for us and for the rivals, so that
//
//	for i in $(seq 10); do go test -run '^$' -bench . -benchtime 100ms .; done > bench.txt
//	benchstat -col /impl bench.txt
//
// makes the tables, from interleaved rounds. Where many contend, all of them
// are in line before the clock starts.

// A conder is a condition variable whose waits do not fail.
type conder interface {
	Wait()
	Signal()
	Broadcast()
}

type condvarCond struct {
	*condvar.Cond
	ctx context.Context
}

func (c condvarCond) Wait()      { _ = c.Cond.Wait(c.ctx) }
func (c condvarCond) Signal()    { c.Notify() }
func (c condvarCond) Broadcast() { c.NotifyAll() }

// condImpls are the rivals of Cond. With ctx=cancel each waiter has a context
// of its own that can end; sync.Cond has no such thing.
var condImpls = []struct {
	name string
	make func(l sync.Locker, ctx context.Context) conder
}{
	{"impl=sync/ctx=none", func(l sync.Locker, _ context.Context) conder { return sync.NewCond(l) }},
	{"impl=condvar/ctx=none", func(l sync.Locker, _ context.Context) conder {
		return condvarCond{condvar.NewCond(l), context.Background()}
	}},
	{"impl=condvar/ctx=cancel", func(l sync.Locker, ctx context.Context) conder {
		return condvarCond{condvar.NewCond(l), ctx}
	}},
}

func BenchmarkIdleNotify(b *testing.B) {
	for _, impl := range condImpls[:2] {
		b.Run(impl.name, func(b *testing.B) {
			c := impl.make(&sync.Mutex{}, b.Context())
			for b.Loop() {
				c.Signal()
			}
		})
	}
}

// Two goroutines take turns, each waiting on a Cond of its own.
func BenchmarkPingPong(b *testing.B) {
	for _, impl := range condImpls {
		b.Run(impl.name, func(b *testing.B) {
			b.ReportAllocs()
			var mu sync.Mutex
			ping, pong := impl.make(&mu, b.Context()), impl.make(&mu, b.Context())
			n, turn := b.N, 0
			play := func(mine int, own, other conder) {
				mu.Lock()
				defer mu.Unlock()
				for range n {
					for turn != mine {
						own.Wait()
					}
					turn = 1 - mine
					other.Signal()
				}
			}
			var wg sync.WaitGroup
			wg.Go(func() { play(1, pong, ping) })
			play(0, ping, pong)
			wg.Wait()
		})
	}
	b.Run("impl=channels/ctx=cancel", func(b *testing.B) { // the floor
		ping, pong := make(chan struct{}, 1), make(chan struct{}, 1)
		n, done := b.N, b.Context().Done()
		play := func(own, other chan struct{}) {
			for range n {
				select {
				case <-own:
				case <-done:
				}
				other <- struct{}{}
			}
		}
		ping <- struct{}{}
		var wg sync.WaitGroup
		wg.Go(func() { play(pong, ping) })
		play(ping, pong)
		wg.Wait()
	})
}

// The last of a crowd to arrive wakes all the others, again and again.
func BenchmarkBroadcast(b *testing.B) {
	for _, waiters := range []int{32, 1000} {
		for _, impl := range condImpls {
			b.Run(fmt.Sprintf("waiters=%d/%s", waiters, impl.name), func(b *testing.B) {
				b.ReportAllocs()
				var mu sync.Mutex
				c := impl.make(&mu, b.Context())
				arrived, generation, n := 0, 0, b.N
				var wg sync.WaitGroup
				for range waiters + 1 {
					wg.Go(func() {
						mu.Lock()
						defer mu.Unlock()
						for range n {
							arrived++
							if arrived == waiters+1 {
								arrived = 0
								generation++
								c.Broadcast()
								continue
							}
							for g := generation; g == generation; {
								c.Wait()
							}
						}
					})
				}
				wg.Wait()
			})
		}
	}
}

// A limiter admits a limited number of goroutines.
type limiter interface {
	Acquire(ctx context.Context) error
	Release()
}

type weighted struct{ *semaphore.Weighted }

func (s weighted) Acquire(ctx context.Context) error { return s.Weighted.Acquire(ctx, 1) }
func (s weighted) Release()                          { s.Weighted.Release(1) }

type channelSemaphore chan struct{}

func (s channelSemaphore) Acquire(ctx context.Context) error {
	select {
	case s <- struct{}{}:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (s channelSemaphore) Release() { <-s }

var limiterImpls = []struct {
	name string
	make func(capacity int64) limiter
}{
	{"impl=condvar", func(n int64) limiter { return condvar.NewCapacityResource(n) }},
	{"impl=condvar-fifo", func(n int64) limiter { return condvar.NewCapacityResource(n, condvar.FIFO()) }},
	{"impl=xsync", func(n int64) limiter { return weighted{semaphore.NewWeighted(n)} }},
	{"impl=channel", func(n int64) limiter { return make(channelSemaphore, n) }},
}

func BenchmarkUncontended(b *testing.B) {
	for _, impl := range limiterImpls {
		b.Run(impl.name, func(b *testing.B) {
			b.ReportAllocs()
			l, ctx := impl.make(1), b.Context()
			for b.Loop() {
				if err := l.Acquire(ctx); err != nil {
					b.Fatal(err)
				}
				l.Release()
			}
		})
	}
}

func BenchmarkContended(b *testing.B) {
	for _, capacity := range []int{1, 4, 8} {
		for _, goroutines := range []int{16, 128} {
			for _, impl := range limiterImpls {
				b.Run(fmt.Sprintf("capacity=%d/goroutines=%d/%s", capacity, goroutines, impl.name), func(b *testing.B) {
					b.ReportAllocs()
					l, ctx, n := impl.make(int64(capacity)), b.Context(), b.N
					for range capacity {
						_ = l.Acquire(ctx)
					}
					var wg sync.WaitGroup
					for g := range goroutines {
						wg.Go(func() {
							for range (n + g) / goroutines {
								_ = l.Acquire(ctx)
								l.Release()
							}
						})
					}
					for range 10 * goroutines { // let them get in line
						runtime.Gosched()
					}
					b.ResetTimer()
					for range capacity {
						l.Release()
					}
					wg.Wait()
				})
			}
		}
	}
}
