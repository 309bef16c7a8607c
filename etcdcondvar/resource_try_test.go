package etcdcondvar_test

import (
	"context"
	"errors"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	clientv3 "go.etcd.io/etcd/client/v3"

	"example.com/condvar/etcdcondvar"
)

func TestResource_TryAcquireWritesNothingIfFull(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bench) {
		r, other := b.resource(1), b.resource(1)
		p := b.acquire(r, 1)
		puts := b.requests("put")
		for range 10 {
			_, err := other.TryAcquire(context.Background())
			require.Equal(t, etcdcondvar.ErrFull, err)
		}
		require.Equal(t, puts, b.requests("put"))
		require.Zero(t, other.Stats().Waiting)
		p.Release()
		p, err := other.TryAcquire(context.Background())
		require.NoError(t, err)
		p.Release()
	})
}

// Fleet test 7: a try that failed does not make a later one fail.
func TestTryAcquire_failuresDoNotAffectOthers(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bench) {
		ctx := context.Background()
		b.set(faults{delay: 4 * time.Millisecond})
		r, sixth := b.resource(1), b.resource(1)
		var others []*etcdcondvar.Resource
		for range 5 {
			others = append(others, b.resource(1))
		}
		for round := range 1000 {
			p := b.acquire(r, 1)
			var stop atomic.Bool
			var wg sync.WaitGroup
			for _, other := range others {
				wg.Go(func() {
					for !stop.Load() {
						if _, err := other.TryAcquire(ctx); !errors.Is(err, etcdcondvar.ErrFull) {
							t.Error(err)
						}
					}
				})
			}
			time.Sleep(10 * time.Millisecond)
			stop.Store(true)
			wg.Wait()
			p.Release()
			p, err := sixth.TryAcquire(ctx)
			require.NoError(t, err, "round %d", round)
			p.Release()
		}
	})
}

// Fleet test 7: of six concurrent tries for one permit exactly one succeeds.
func TestTryAcquire_oneOfManyWins(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bench) {
		b.set(faults{delay: 20 * time.Millisecond})
		var resources []*etcdcondvar.Resource
		for range 6 {
			resources = append(resources, b.resource(1))
		}
		for range 500 {
			var wg sync.WaitGroup
			var won atomic.Int32
			for _, r := range resources {
				wg.Go(func() {
					p, err := r.TryAcquire(context.Background())
					if err != nil {
						return
					}
					won.Add(1)
					time.Sleep(time.Second)
					p.Release()
				})
			}
			wg.Wait()
			require.Equal(t, int32(1), won.Load())
		}
		b.mu.Lock()
		defer b.mu.Unlock()
		puts := 0
		for _, c := range b.history {
			if strings.Contains(string(c.event.Kv.Key), "/p/") && c.event.Type == clientv3.EventTypePut {
				puts++
			}
		}
		require.Equal(t, 500, puts, "a try that fails puts no ticket")
	})
}

// Fleet test 8.
func TestTryAcquire_besideOtherCalls(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bench) {
		ctx := context.Background()
		r := b.resource(5)
		b.set(faults{delay: 5 * time.Millisecond})
		var wg sync.WaitGroup
		for range 4 { // there is no session yet, and room for all
			wg.Go(func() {
				p, err := r.TryAcquire(ctx)
				if err != nil {
					t.Error(err)
					return
				}
				time.Sleep(time.Minute)
				p.Release()
			})
		}
		time.Sleep(time.Second)
		big := b.start(ctx, r, 3)
		time.Sleep(time.Second)
		for _, n := range []int64{1, 2} { // a permit is free, but a call of r waits
			_, err := r.TryAcquireN(ctx, n)
			require.Equal(t, etcdcondvar.ErrFull, err)
		}
		wg.Wait()
		b.await(big).Release()
	})
	inBubble(t, func(t *testing.T, b *bench) { // a call is queued before the try
		ctx := context.Background()
		r := b.resource(1)
		p := b.acquire(r, 1)
		p.Release()
		var ahead <-chan pending
		b.then("read", step{before: func() { // the try reads
			ahead = b.start(ctx, r, 1)
			synctest.Wait()
		}})
		b.then("put", step{before: func() { time.Sleep(time.Second) }})
		_, err := r.TryAcquire(ctx)
		require.Equal(t, etcdcondvar.ErrFull, err)
		b.await(ahead).Release()
	})
}

// A TryAcquire in a process that knows only an old capacity reads the new one.
func TestTryAcquire_seesTheCapacity(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bench) {
		ctx := context.Background()
		r, other := b.resource(1), b.resource(1)
		b.acquire(r, 1).Release()
		require.NoError(t, other.Resize(ctx, 2))
		p, err := r.TryAcquireN(ctx, 2)
		require.NoError(t, err)
		require.Equal(t, int64(2), r.Stats().Capacity)
		p.Release()
		client, _ := b.client()
		_, err = client.KV.Txn(ctx).Then(clientv3.OpDelete(etcdcondvar.KeysOf("r") + "cap")).Commit()
		require.NoError(t, err)
		p, err = r.TryAcquire(ctx)
		require.NoError(t, err)
		p.Release()
		require.NoError(t, r.Resize(ctx, 0))
		_, err = other.TryAcquire(ctx)
		require.Equal(t, etcdcondvar.ErrFull, err)
	})
}

// A TryAcquire after a Resize of the same process takes one read and one put.
func TestResource_TryAcquireAfterItsOwnResize(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bench) {
		r := b.resource(1)
		p := b.acquire(r, 1)
		require.NoError(t, r.Resize(context.Background(), 2))
		reads, puts := b.requests("read"), b.requests("put")
		q, err := r.TryAcquire(context.Background())
		require.NoError(t, err)
		require.Equal(t, []int{1, 1}, []int{b.requests("read") - reads, b.requests("put") - puts})
		p.Release()
		q.Release()
	})
}

// A TryAcquire does not wait, even if many calls of its process start while it
// reads.
func TestResource_TryAcquireDoesNotWaitBehindACrowd(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bench) {
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		r := b.resource(1)
		b.acquire(r, 1).Release()
		b.set(faults{answer: 100 * time.Millisecond})
		tried := make(chan error, 1)
		go func() {
			_, err := r.TryAcquire(ctx)
			tried <- err
		}()
		synctest.Wait() // it has read
		b.set(faults{})
		var crowd []<-chan pending
		for range 200 {
			crowd = append(crowd, b.start(ctx, r, 1))
		}
		require.Equal(t, etcdcondvar.ErrFull, <-tried)
		cancel()
		for _, done := range crowd {
			(<-done).p.Release()
		}
	})
}

// A try does not wait for calls of its process that are ahead of it.
func TestTryAcquire_behindACrowd(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bench) {
		r := b.resource(1)
		b.acquire(r, 1).Release()
		b.then("put", step{before: func() { time.Sleep(time.Second) }})
		p := b.start(context.Background(), r, 1)
		synctest.Wait()
		ctx, cancel := context.WithCancel(context.Background())
		for range 100 { // they share the next transaction
			_ = b.start(ctx, r, 1)
		}
		synctest.Wait()
		limited, stop := context.WithTimeout(context.Background(), time.Minute)
		defer stop()
		_, err := r.TryAcquire(limited)
		require.Equal(t, etcdcondvar.ErrFull, err)
		cancel()
		b.await(p).Release()
	})
}

// Many tries of one process come at once. There is room for all, or for half of
// them. They share few transactions.
func TestTryAcquire_ofManyAtOnce(t *testing.T) {
	for _, n := range []int64{10, 100} {
		for _, room := range []int64{n, n / 2} {
			inBubble(t, func(t *testing.T, b *bench) {
				b.set(faults{answer: time.Millisecond})
				r := b.resource(room)
				b.acquire(r, 1).Release()
				puts := b.requests("put")
				var full atomic.Int64
				permits := make(chan *etcdcondvar.Permit, n)
				var calls sync.WaitGroup
				for range n {
					calls.Go(func() {
						p, err := r.TryAcquire(context.Background())
						if err != nil {
							require.Equal(t, etcdcondvar.ErrFull, err)
							full.Add(1)
							return
						}
						permits <- p
					})
				}
				calls.Wait()
				require.Equal(t, n-room, full.Load())
				require.LessOrEqual(t, b.requests("put")-puts, 4)
				close(permits)
				for p := range permits {
					p.Release()
				}
			})
		}
	}
}

// Two tries come at once. Each sees room for itself, but not for both.
func TestTryAcquire_twoForOneFreePermit(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bench) {
		r := b.resource(2)
		b.acquire(r, 1).Release()
		b.set(faults{answer: 20 * time.Millisecond})
		call := b.start(context.Background(), r, 1)
		synctest.Wait()
		b.set(faults{answer: time.Millisecond}) // so that they are queued before that has its answer
		tries := make(chan pending, 2)
		for range 2 {
			go func() {
				q, err := r.TryAcquire(context.Background())
				tries <- pending{q, err}
			}()
		}
		one, two := <-tries, <-tries
		errs := []error{one.err, two.err}
		require.Contains(t, errs, nil)
		require.Contains(t, errs, etcdcondvar.ErrFull)
		tickets := 0
		for _, n := range b.putsByName() {
			tickets += n
		}
		require.Equal(t, 3, tickets, "the one that fails puts none")
		one.p.Release()
		two.p.Release()
		b.await(call).Release()
	})
}

// A try that loses a race has taken a name, which is used again.
func TestTryAcquire_thatFailsTakesNoName(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bench) {
		r, other := b.resource(10), b.resource(10)
		b.acquire(r, 1).Release()
		b.acquire(other, 1).Release()
		for range 20 {
			var p *etcdcondvar.Permit
			b.then("put", step{before: func() { p = b.acquire(other, 1) }})
			q, err := r.TryAcquire(context.Background())
			require.NoError(t, err)
			p.Release()
			q.Release()
		}
		require.Len(t, b.putsByName(), 2)
	})
}

// An Acquire that waits for an answer of etcd only does not make a try fail.
func TestTryAcquire_behindACallThatNeedNotWait(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bench) {
		r := b.resource(10_000)
		b.acquire(r, 1).Release()
		b.set(faults{answer: 20 * time.Millisecond})
		calls := []<-chan pending{b.start(context.Background(), r, 1)}
		synctest.Wait()
		b.set(faults{answer: 2 * time.Millisecond})
		time.Sleep(time.Millisecond)
		calls = append(calls, b.startTry(r)) // reads, and is queued
		time.Sleep(9 * time.Millisecond)
		calls = append(calls, b.start(context.Background(), r, 1)) // behind it
		time.Sleep(11 * time.Millisecond)                          // the transaction of the try is under way
		calls = append(calls, b.startTry(r))
		for _, call := range calls {
			b.await(call).Release()
		}
	})
}

// An answer that comes late says that all permits are in use. The try has read
// after that, when one was free again.
func TestTryAcquire_hasReadLaterThanAnAnswer(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bench) {
		r, other := b.resource(2), b.resource(2)
		b.acquire(r, 1).Release()
		p := b.acquire(other, 1)
		b.set(faults{answer: 20 * time.Millisecond})
		call := b.start(context.Background(), r, 1)
		synctest.Wait()
		b.set(faults{answer: time.Millisecond})
		p.Release()
		q, err := r.TryAcquire(context.Background())
		require.NoError(t, err)
		q.Release()
		b.await(call).Release()
	})
}

// An Acquire that is behind a try waits for answers only. It does not make another
// try fail.
func TestTryAcquire_behindACallThatIsBehindATry(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bench) {
		r := b.resource(10_000)
		b.acquire(r, 1).Release()
		b.set(faults{answer: 20 * time.Millisecond})
		calls := []<-chan pending{b.start(context.Background(), r, 1)} // its transaction is under way
		synctest.Wait()
		calls = append(calls, b.start(context.Background(), r, 1)) // has the next one
		synctest.Wait()
		b.set(faults{answer: time.Millisecond})
		calls = append(calls, b.startTry(r)) // reads, and is queued behind it
		time.Sleep(2 * time.Millisecond)
		calls = append(calls, b.start(context.Background(), r, 1)) // behind the try
		b.set(faults{answer: 20 * time.Millisecond})
		time.Sleep(19 * time.Millisecond) // the second transaction is under way
		calls = append(calls, b.startTry(r))
		for _, call := range calls {
			b.await(call).Release()
		}
	})
}
