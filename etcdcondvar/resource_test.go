package etcdcondvar_test

import (
	"context"
	"errors"
	"math"
	"runtime"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/client/v3/namespace"

	"example.com/condvar"
	"example.com/condvar/etcdcondvar"
)

func TestNew_panics(t *testing.T) {
	client := clientv3.NewCtxClient(t.Context())
	require.Panics(t, func() { etcdcondvar.New(nil, "r", 1) })
	require.Panics(t, func() { etcdcondvar.New(client, "", 1) })
	require.Panics(t, func() { etcdcondvar.New(client, "r", 0) })
	require.Panics(t, func() { etcdcondvar.WithTTL(0) })
}

func TestNew_escapesTheName(t *testing.T) {
	seen := map[string]bool{}
	for _, name := range []string{"a", "a/p", "a/p/1", "a b", "a%2Fp", "a\x00", "..", strings.Repeat("é", 500)} {
		root := etcdcondvar.KeysOf(name)
		require.Equal(t, 2, strings.Count(root, "/"), root)
		require.False(t, seen[root])
		seen[root] = true
	}
}

func TestResource_errorsHaveAnOrder(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bench) {
		dead, cancel := context.WithCancelCause(context.Background())
		cause := errors.New("cause")
		cancel(cause)
		r := b.resource(2)
		open := b.resource(2)
		b.acquire(open, 1).Release()
		requests := b.requests("put")
		require.NoError(t, r.Close())
		for _, call := range []func(ctx context.Context, n int64) (*etcdcondvar.Permit, error){r.AcquireN, r.TryAcquireN} {
			for _, n := range []int64{0, 1, 3} {
				require.Panics(t, func() { _, _ = call(dead, -1) })
				_, err := call(dead, n)
				require.ErrorIs(t, err, context.Canceled)
				require.ErrorIs(t, err, cause)
				_, err = call(context.Background(), n)
				require.Equal(t, condvar.ErrClosed, err)
			}
		}
		require.Equal(t, requests, b.requests("put"))
		for _, call := range []func(ctx context.Context, n int64) (*etcdcondvar.Permit, error){open.AcquireN, open.TryAcquireN} {
			_, err := call(dead, 3)
			require.ErrorIs(t, err, context.Canceled)
			_, err = call(context.Background(), 3)
			require.Equal(t, condvar.ErrTooLarge, err)
			_, err = call(context.Background(), math.MaxInt64)
			require.Equal(t, condvar.ErrTooLarge, err)
			p, err := call(context.Background(), 0)
			require.NoError(t, err)
			require.Zero(t, p.Token())
			require.NoError(t, p.Err())
			p.Release()
			resp, err := txn(b, p.Guard())
			require.NoError(t, err)
			require.False(t, resp.Succeeded)
		}
		require.Panics(t, func() { _ = open.Resize(context.Background(), -1) })
	})
}

func TestResource_startsWithTheStoredCapacity(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bench) {
		first := b.resource(2)
		b.acquire(first, 2).Release()
		second := b.resource(7)
		b.acquire(second, 1).Release()
		require.Equal(t, int64(2), second.Stats().Capacity)
		require.NoError(t, second.Resize(context.Background(), 5))
		third := b.resource(2)
		b.acquire(third, 5).Release()
		_, err := third.AcquireN(context.Background(), 6)
		require.Equal(t, condvar.ErrTooLarge, err)
	})
}

func TestResource_waitsForAnEngineThatIsAbsent(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bench) {
		b.set(faults{loseRequest: 100})
		r := b.resource(1)
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		_, err := r.Acquire(ctx)
		require.ErrorIs(t, err, context.DeadlineExceeded)
		require.ErrorContains(t, err, "etcd")
		done := b.start(context.Background(), r, 1)
		time.Sleep(time.Minute)
		b.set(faults{})
		got := <-done
		require.NoError(t, got.err)
		got.p.Release()
	})
}

func TestResource_DoReportsTheLoss(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bench) {
		broken := errors.New("broken")
		for _, want := range []error{nil, broken, context.Canceled} {
			r := b.resource(1)
			err := r.Do(context.Background(), func(ctx context.Context) error {
				child, cancel := context.WithTimeout(ctx, time.Hour)
				defer cancel()
				b.cut(b.links[r], 20*time.Second)
				<-child.Done()
				require.Equal(t, etcdcondvar.ErrLost, context.Cause(child))
				return want
			})
			require.ErrorIs(t, err, etcdcondvar.ErrLost)
			if want != nil {
				require.ErrorIs(t, err, want)
			}
			time.Sleep(time.Minute)
		}
	})
}

func TestStats(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bench) {
		r := b.resource(3)
		require.Equal(t, condvar.Stats{Capacity: 3}, r.Stats())
		p := b.acquire(r, 2)
		waiting := b.start(context.Background(), r, 3)
		time.Sleep(time.Second)
		require.Equal(t, condvar.Stats{Capacity: 3, InUse: 2, Waiting: 1, WaitingN: 3, OldestWait: time.Second}, r.Stats())
		require.Equal(t, "r: 2/3 in use, 1 waiting", r.String())
		p.Release()
		b.await(waiting).Release()
		require.Equal(t, condvar.Stats{Capacity: 3, WaitCount: 1, WaitDuration: time.Second}, r.Stats())
	})
}

// The oldest call in the queue may be a TryAcquire, which does not wait.
func TestStats_OldestWaitBehindATry(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bench) {
		ctx, cancel := context.WithCancel(context.Background())
		r := b.resource(2)
		b.acquire(r, 1).Release()
		b.setNoSpace(true)
		tried := make(chan error, 1)
		go func() {
			_, err := r.TryAcquire(ctx)
			tried <- err
		}()
		synctest.Wait() // its transaction is refused, and it is queued again
		waiting := b.start(ctx, r, 1)
		time.Sleep(10 * time.Millisecond) // until the next one is refused
		synctest.Wait()
		before := r.Stats()
		require.Equal(t, int64(1), before.Waiting)
		time.Sleep(time.Second)
		require.Equal(t, before.OldestWait+time.Second, r.Stats().OldestWait)
		cancel()
		require.Error(t, <-tried)
		require.Error(t, (<-waiting).err)
		b.setNoSpace(false)
	})
}

// Fleet test 3.
func TestDo_releases(t *testing.T) {
	broken := errors.New("broken")
	for name, fn := range map[string]func(ctx context.Context) error{
		"returns": func(context.Context) error { return nil },
		"error":   func(context.Context) error { return broken },
		"panic":   func(context.Context) error { panic("it panics") },
		"Goexit":  func(context.Context) error { runtime.Goexit(); return nil },
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(t *testing.T, b *bench) {
				r := b.resource(2)
				var inner context.Context
				var inUse int64
				got := errors.New("nothing returned")
				done := make(chan any)
				go func() {
					var recovered any
					defer func() { done <- recovered }()
					defer func() { recovered = recover() }()
					got = r.DoN(context.Background(), 2, func(ctx context.Context) error {
						inner = ctx
						inUse = r.Stats().InUse
						return fn(ctx)
					})
				}()
				recovered := <-done
				require.Equal(t, int64(2), inUse)
				require.Zero(t, b.tickets())
				require.Equal(t, context.Canceled, inner.Err())
				require.Zero(t, r.Stats().InUse)
				switch name {
				case "returns":
					require.NoError(t, got)
				case "error":
					require.Equal(t, broken, got)
				case "panic":
					require.Equal(t, "it panics", recovered)
				}
			})
		})
	}
	inBubble(t, func(t *testing.T, b *bench) {
		r := b.resource(1)
		require.NoError(t, r.DoN(context.Background(), 0, func(ctx context.Context) error { return ctx.Err() }))
		require.Equal(t, condvar.ErrTooLarge, r.DoN(context.Background(), 2, nil))
	})
}

// Fleet test 10.
func TestResource_makesNoNeedlessRequest(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bench) {
		r := b.resource(1)
		dead, cancel := context.WithCancel(context.Background())
		cancel()
		_ = r.Stats()
		_ = r.String()
		for _, call := range []func(ctx context.Context, n int64) (*etcdcondvar.Permit, error){r.AcquireN, r.TryAcquireN} {
			p, err := call(context.Background(), 0)
			require.NoError(t, err)
			p.Release()
			_, err = call(dead, 1)
			require.ErrorIs(t, err, context.Canceled)
		}
		require.ErrorIs(t, r.Resize(dead, 1), context.Canceled)
		_, err := r.Fleet(dead)
		require.ErrorIs(t, err, context.Canceled)
		require.NoError(t, r.Drain(context.Background()))
		b.mu.Lock()
		defer b.mu.Unlock()
		require.Empty(t, b.count)
	})
}

// Fleet test 12: the keys of a client with a namespace have its prefix.
func TestNew_withANamespace(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bench) {
		ctx := context.Background()
		client, _ := b.client()
		client.KV = namespace.NewKV(client.KV, "tenant/")
		client.Lease = namespace.NewLease(client.Lease, "tenant/")
		client.Watcher = namespace.NewWatcher(client.Watcher, "tenant/")
		plain := b.resource(1)
		r := etcdcondvar.New(client, "r", 1, etcdcondvar.WithTTL(ttl))
		other := etcdcondvar.New(client, "r", 1, etcdcondvar.WithTTL(ttl))
		p, q := b.acquire(r, 1), b.acquire(plain, 1)
		waiting := b.start(ctx, other, 1)
		synctest.Wait()
		require.Empty(t, waiting)
		resp, err := client.Txn(ctx).If(p.Guard()).Commit()
		require.NoError(t, err)
		require.True(t, resp.Succeeded)
		require.NoError(t, other.Resize(ctx, 2))
		b.await(waiting).Release()
		fleet, err := r.Fleet(ctx)
		require.NoError(t, err)
		require.Equal(t, []int64{2, 1}, []int64{fleet.Capacity, fleet.InUse})
		b.mu.Lock()
		for key := range b.keys {
			require.True(t, strings.HasPrefix(key, "tenant/condvar1/r/") || strings.HasPrefix(key, "condvar1/r/"), key)
		}
		b.mu.Unlock()
		p.Release()
		q.Release()
		require.NoError(t, r.Drain(ctx))
		require.NoError(t, other.Drain(ctx))
		b.mu.Lock()
		delete(b.keys, "tenant/condvar1/r/cap")
		b.mu.Unlock()
	})
}

// Fleet test 13: one of 50 concurrent processes stores its capacity, once.
func TestNew_manyAtOnce(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bench) {
		b.set(faults{delay: 50 * time.Millisecond})
		var wg sync.WaitGroup
		var resources []*etcdcondvar.Resource
		for i := range int64(50) {
			r := b.resource(1 + i)
			resources = append(resources, r)
			wg.Go(func() { b.acquire(r, 1).Release() })
		}
		wg.Wait()
		for _, r := range resources {
			require.Equal(t, resources[0].Stats().Capacity, r.Stats().Capacity)
		}
		b.mu.Lock()
		defer b.mu.Unlock()
		writes := 0
		for _, c := range b.history {
			if strings.HasSuffix(string(c.event.Kv.Key), "/cap") {
				writes++
			}
		}
		require.Equal(t, 1, writes)
	})
}

// Fleet test 12: another version of the format has its own keys.
func TestNew_versionsOfTheFormatAreApart(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bench) {
		ctx := context.Background()
		client, _ := b.client()
		root := strings.Replace(etcdcondvar.KeysOf("r"), "condvar1/", "condvar2/", 1)
		require.NotEqual(t, etcdcondvar.KeysOf("r"), root)
		for _, key := range []string{"cap", "e/1-1", "p/1/1-0"} {
			_, err := client.Put(ctx, root+key, "7 of another format")
			require.NoError(t, err)
		}
		r := b.resource(1)
		p := b.acquire(r, 1)
		fleet, err := r.Fleet(ctx)
		require.NoError(t, err)
		require.Equal(t, int64(1), fleet.Capacity)
		require.Len(t, fleet.Tickets, 1)
		p.Release()
		resp, err := client.Get(ctx, root, clientv3.WithPrefix())
		require.NoError(t, err)
		require.Len(t, resp.Kvs, 3)
		b.mu.Lock()
		for _, kv := range resp.Kvs {
			delete(b.keys, string(kv.Key))
		}
		b.mu.Unlock()
	})
}

// Calls that want too much come all the time. A call that fits gets its permit.
func TestResource_callsForTooMuchDoNotDelayOthers(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bench) {
		b.set(faults{answer: 5 * time.Millisecond})
		r := b.resource(1)
		stop, cancel := context.WithCancel(context.Background())
		var calls sync.WaitGroup
		for i := range 2 {
			calls.Go(func() {
				time.Sleep(time.Duration(i) * 2 * time.Millisecond)
				for stop.Err() == nil {
					_, err := r.AcquireN(stop, 2)
					if stop.Err() == nil {
						require.Equal(t, condvar.ErrTooLarge, err)
					}
				}
			})
		}
		time.Sleep(100 * time.Millisecond)
		for range 10 { // the first opens a session
			start := time.Now()
			b.acquire(r, 1).Release()
			require.Less(t, time.Since(start), 100*time.Millisecond)
		}
		p := b.acquire(r, 1)
		waiting := b.start(stop, r, 1) // in line, so nothing can be put
		time.Sleep(100 * time.Millisecond)
		p.Release()
		b.await(waiting).Release()
		cancel()
		calls.Wait()
		for name := range b.putsByName() {
			require.NotContains(t, name, "/p/n/", "the ticket of a call for 2")
		}
	})
}

// A call that wants too much is refused while puts fail, also behind one that
// fits.
func TestResource_ErrTooLargeWithoutSpace(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bench) {
		r := b.resource(1)
		b.acquire(r, 1).Release()
		b.setNoSpace(true)
		ctx, cancel := context.WithCancel(context.Background())
		fits := b.start(ctx, r, 1)
		synctest.Wait()
		limited, done := context.WithTimeout(context.Background(), 10*ttl)
		defer done()
		_, err := r.AcquireN(limited, 2)
		require.Equal(t, condvar.ErrTooLarge, err)
		cancel()
		require.ErrorIs(t, (<-fits).err, context.Canceled)
		b.setNoSpace(false)
	})
}
