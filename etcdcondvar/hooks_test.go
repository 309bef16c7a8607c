package etcdcondvar_test

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"example.com/condvar"
	"example.com/condvar/condvardebug"
	"example.com/condvar/etcdcondvar"
)

func TestHooks(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bench) {
		var mu sync.Mutex
		var log []string
		add := func(format string, args ...any) {
			mu.Lock()
			defer mu.Unlock()
			log = append(log, fmt.Sprintf(format, args...))
		}
		hooks := &condvar.Hooks{
			WaitStart: func(ctx context.Context, n int64) context.Context { add("start %d", n); return nil },
			WaitDone: func(_ context.Context, n int64, waited time.Duration, err error) {
				add("done %d %v %v", n, waited, err)
			},
			Acquired: func(_ context.Context, n int64, hold *condvar.Hold) { add("acquired %d %v", n, hold != nil) },
			Released: func(n int64, _ *condvar.Hold, held time.Duration) { add("released %d %v", n, held) },
			Resized:  func(from, to int64) { add("resized %d %d", from, to) },
		}
		r := b.resource(1, etcdcondvar.WithHooks(hooks), etcdcondvar.WithHooks(nil))
		p := b.acquire(r, 1)
		waiting := b.start(context.Background(), r, 1)
		time.Sleep(time.Second)
		p.Release()
		q := b.await(waiting)
		require.NoError(t, r.Resize(context.Background(), 2))
		b.cut(b.links[r], 20*time.Second) // q is lost
		time.Sleep(ttl)
		synctest.Wait()
		q.Release()
		require.ElementsMatch(t, []string{
			"acquired 1 true", "start 1", "released 1 1s", "done 1 1s <nil>", "acquired 1 true",
			"resized 1 2", "released 1 3.4s",
		}, log) // a release and the next acquisition: in either order
	})
}

// The page of condvardebug shows what this process holds and waits for.
func TestHooks_ofCondvardebug(t *testing.T) {
	type site struct {
		By, Stack string
		Calls     int
	}
	type row struct {
		Words     []string
		WaitingAt []site `json:"waiting_at"`
		HeldAt    []site `json:"held_at"`
	}
	inBubble(t, func(t *testing.T, b *bench) {
		d := &condvardebug.Debugger{}
		d.SetHolderProfileFraction(1)
		var slow []string
		d.OnSlowHold(0, func(h condvardebug.SlowHold) { slow = append(slow, fmt.Sprint(h.Resource, h.N)) })
		look := func() row {
			w := httptest.NewRecorder()
			d.ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/?format=json", nil))
			var page struct{ Resources []row }
			require.NoError(t, json.Unmarshal(w.Body.Bytes(), &page))
			require.Len(t, page.Resources, 1)
			return page.Resources[0]
		}
		r, other := b.resource(2, etcdcondvar.WithHooks(d.Hooks("fleet"))), b.resource(2)
		d.TrackShared("fleet", r.Stats)
		b.acquire(r, 1)
		theirs := b.acquire(other, 1)
		waiting := b.start(context.Background(), r, 1)
		time.Sleep(time.Second)
		synctest.Wait()
		got := look()
		require.Len(t, got.Words, 1)
		require.Contains(t, got.Words[0], "1 call waits")
		require.Contains(t, got.Words[0], "In use in this process: 1; capacity: 2. The first wants 1.")
		require.Len(t, got.WaitingAt, 1)
		require.Equal(t, 1, got.WaitingAt[0].Calls)
		require.Regexp(t, `^\S+/etcdcondvar_test\.`, got.WaitingAt[0].Stack, "begins with the caller")
		require.Len(t, got.HeldAt, 1)
		require.Equal(t, "exact", got.HeldAt[0].By)
		require.Regexp(t, `^\S+/etcdcondvar_test\.`, got.HeldAt[0].Stack)

		theirs.Release()
		b.await(waiting)
		require.Len(t, look().HeldAt, 2)
		b.cut(b.links[r], 20*time.Second) // both are lost
		time.Sleep(ttl)
		synctest.Wait()
		require.Equal(t, row{[]string{"Nobody waits in this process."}, []site{}, []site{}}, look())
		require.Equal(t, []string{"fleet1", "fleet1"}, slow, "a loss ends a hold")
	})
}

func TestHooks_panicsLeaveExactAccounting(t *testing.T) {
	for _, which := range []string{"WaitStart", "WaitDone", "Acquired", "Released"} {
		inBubble(t, func(t *testing.T, b *bench) {
			var armed atomic.Bool
			fail := func(name string) {
				if name == which && armed.Swap(false) {
					panic(name)
				}
			}
			r := b.resource(1, etcdcondvar.WithHooks(&condvar.Hooks{
				WaitStart: func(context.Context, int64) context.Context { fail("WaitStart"); return nil },
				WaitDone:  func(context.Context, int64, time.Duration, error) { fail("WaitDone") },
				Acquired:  func(context.Context, int64, *condvar.Hold) { fail("Acquired") },
				Released:  func(int64, *condvar.Hold, time.Duration) { fail("Released") },
			}))
			p := b.acquire(r, 1)
			time.AfterFunc(time.Second, p.Release)
			synctest.Wait()
			done := make(chan any, 1)
			if which == "Released" {
				p.Release()
			}
			armed.Store(true)
			go func() {
				defer func() { done <- recover() }()
				_ = r.Do(context.Background(), func(context.Context) error { return nil })
			}()
			require.Equal(t, which, <-done)
			b.acquire(r, 1).Release()
			require.Zero(t, r.Stats().InUse)
			require.Zero(t, r.Stats().Waiting)
		})
	}
}

// Fleet test 11: after each call of Acquired, Released of the same hooks is
// called once, also if the permit is lost between two Acquired hooks.
func TestHooks_balanceWhenLost(t *testing.T) {
	for _, when := range []string{"held", "between the hooks", "panic between the hooks"} {
		t.Run(when, func(t *testing.T) {
			inBubble(t, func(t *testing.T, b *bench) {
				var mu sync.Mutex
				var log []string
				var cut func()
				add := func(text string) {
					mu.Lock()
					defer mu.Unlock()
					log = append(log, text)
				}
				hooks := func(name string, then func()) etcdcondvar.Option {
					return etcdcondvar.WithHooks(&condvar.Hooks{
						Acquired: func(context.Context, int64, *condvar.Hold) { add("acquired " + name); then() },
						Released: func(int64, *condvar.Hold, time.Duration) { add("released " + name) },
					})
				}
				r := b.resource(1, hooks("a", func() {
					if when != "held" {
						cut()
					}
					if when == "panic between the hooks" {
						panic("hook")
					}
				}), hooks("b", func() {}))
				cut = func() {
					b.cut(b.links[r], 20*time.Second)
					time.Sleep(ttl)
				}
				want := []string{"acquired a", "acquired b", "released a", "released b"}
				if when == "panic between the hooks" {
					require.Panics(t, func() { _, _ = r.Acquire(context.Background()) })
					want = []string{"acquired a", "released a"}
				} else {
					p := b.acquire(r, 1)
					if when == "held" {
						cut()
					}
					synctest.Wait()
					require.Equal(t, want, log, "a loss is reported without a Release")
					require.Equal(t, etcdcondvar.ErrLost, p.Err())
					p.Release()
				}
				require.Equal(t, want, log)
			})
		})
	}
}

// The Released hooks of permits that are lost together share a goroutine.
func TestHooks_aLossStartsOneGoroutine(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bench) {
		var most, released atomic.Int64
		r := b.resource(100, etcdcondvar.WithHooks(&condvar.Hooks{
			Released: func(int64, *condvar.Hold, time.Duration) {
				most.Store(max(most.Load(), int64(inThisBubble())))
				released.Add(1)
			},
		}))
		for range 100 {
			b.acquire(r, 1)
		}
		synctest.Wait()
		before := inThisBubble()
		b.cut(b.links[r], 20*time.Second)
		time.Sleep(ttl)
		synctest.Wait()
		require.Equal(t, int64(100), released.Load())
		require.LessOrEqual(t, most.Load(), int64(before+10))
	})
}

// A Released hook may end the goroutine that reports losses. Another one
// reports later losses, and Drain does not wait for the first one.
func TestHooks_GoexitInReleased(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bench) {
		var released atomic.Int64
		r := b.resource(1, etcdcondvar.WithHooks(&condvar.Hooks{
			Released: func(int64, *condvar.Hold, time.Duration) {
				released.Add(1)
				runtime.Goexit()
			},
		}))
		for i := range int64(2) {
			b.acquire(r, 1)
			b.cut(b.links[r], 20*time.Second)
			time.Sleep(time.Minute)
			require.Equal(t, i+1, released.Load())
		}
	})
}

// A second Release, while the first waits for etcd, does not call Released.
func TestHooks_ReleasedIsCalledWhenThePermitIsBack(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bench) {
		var at []time.Duration
		var start time.Time
		r := b.resource(1, etcdcondvar.WithHooks(&condvar.Hooks{
			Released: func(int64, *condvar.Hold, time.Duration) { at = append(at, time.Since(start)) },
		}))
		p := b.acquire(r, 1)
		b.set(faults{answer: 100 * time.Millisecond})
		start = time.Now()
		var wg sync.WaitGroup
		wg.Go(p.Release)
		synctest.Wait()
		p.Release()
		wg.Wait()
		require.Equal(t, []time.Duration{100 * time.Millisecond}, at)
	})
}

// A Released hook ends its goroutine. The other losses are reported, too.
func TestHooks_goexitInReleased(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bench) {
		var released atomic.Int32
		r := b.resource(3, etcdcondvar.WithHooks(&condvar.Hooks{Released: func(int64, *condvar.Hold, time.Duration) {
			released.Add(1)
			runtime.Goexit()
		}}))
		for range 3 {
			b.acquire(r, 1)
		}
		b.revoke(b.lastID)
		synctest.Wait()
		require.EqualValues(t, 3, released.Load())
	})
}
