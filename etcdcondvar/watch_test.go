package etcdcondvar_test

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc/metadata"

	"example.com/condvar/etcdcondvar"
)

func TestResource_anOldEventDoesNotGrantAfterAStop(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bench) {
		var jump atomic.Int64
		start := time.Now()
		other, r := b.resource(1), b.resource(1)
		r.SetClock(func() (time.Duration, time.Duration) {
			return time.Since(start), time.Since(start) + time.Duration(jump.Load())
		})
		p := b.acquire(other, 1)
		waiting := b.start(context.Background(), r, 1)
		synctest.Wait()
		jump.Store(int64(ttl))
		p.Release()
		got := <-waiting
		require.NoError(t, got.err)
		require.NoError(t, got.p.Err())
		got.p.Release()
	})
}

// A view that is behind has the ticket of a canceled call. Another call has a
// ticket of the same name. What happens to the first does not concern it.
func TestResource_aViewBehindHasAnOlderTicketOfTheSameName(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bench) {
		r, other := b.resource(1), b.resource(1)
		p := b.acquire(other, 1)
		ctx, cancel := context.WithCancel(context.Background())
		canceled := b.start(ctx, r, 1)
		synctest.Wait()
		b.set(faults{events: time.Second})
		p.Release() // in the view of r, the canceled call is granted a second later
		cancel()
		require.ErrorIs(t, (<-canceled).err, context.Canceled)
		synctest.Wait()
		p = b.acquire(other, 1)
		waiting := b.start(context.Background(), r, 1)
		time.Sleep(ttl)
		synctest.Wait()
		require.Empty(t, waiting)
		p.Release()
		b.await(waiting).Release()
		puts := slices.Collect(maps.Values(b.putsByName()))
		require.Equal(t, []int{2, 2}, puts, "each process has put one name twice")
	})
}

func TestResource_keysDeletedByHand(t *testing.T) {
	for _, what := range []string{"p/", "e/", "cap", ""} {
		inBubble(t, func(t *testing.T, b *bench) {
			r, other := b.resource(1), b.resource(1)
			p := b.acquire(r, 1)
			waiting := b.start(context.Background(), other, 1)
			synctest.Wait()
			client, _ := b.client()
			_, err := client.KV.Txn(context.Background()).
				Then(clientv3.OpDelete(etcdcondvar.KeysOf("r")+what, clientv3.WithPrefix())).Commit()
			require.NoError(t, err)
			if what == "cap" {
				time.Sleep(time.Second)
				require.NoError(t, p.Err())
			} else if what != "p/" {
				synctest.Wait()
				require.Equal(t, etcdcondvar.ErrLost, p.Err())
			}
			p.Release()
			if what == "p/" {
				require.Equal(t, etcdcondvar.ErrLost, p.Err())
			}
			got := <-waiting
			require.NoError(t, got.err)
			got.p.Release()
		})
	}
}

func TestResource_noticesASilentWatch(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bench) {
		r, other := b.resource(1), b.resource(1)
		p := b.acquire(r, 1)
		b.set(faults{muteWatch: 100})
		waiting := b.start(context.Background(), other, 1)
		time.Sleep(100 * time.Millisecond)
		b.set(faults{})
		p.Release()
		start := time.Now()
		got := <-waiting
		require.NoError(t, got.err)
		require.LessOrEqual(t, time.Since(start), ttl*3/4)
		got.p.Release()
	})
}

// The watch of a call in line ends with the client. Then the call returns at
// once, and what the process holds is lost.
func TestResource_aClosedClientEndsCallsInLine(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bench) {
		r := b.resource(1)
		p := b.acquire(r, 1)
		waiting := b.start(context.Background(), r, 1)
		synctest.Wait()
		start := time.Now()
		b.cancel()
		err := (<-waiting).err
		require.ErrorContains(t, err, "closed")
		require.Zero(t, time.Since(start))
		synctest.Wait() // its ticket could not be deleted
		require.Equal(t, etcdcondvar.ErrLost, p.Err())
		p.Release()
	})
}

// The client makes a new stream if it is asked for the progress of a watch
// whose stream has ended. Nothing ends that stream.
func TestResource_doesNotAskAWatchThatHasEnded(t *testing.T) {
	for range 20 { // a select chooses at random
		inBubble(t, func(t *testing.T, b *bench) {
			p := b.acquire(b.resource(1), 1)
			waiting := b.start(context.Background(), b.resource(1), 1)
			synctest.Wait()
			asked, ended := 0, 0
			b.mu.Lock()
			b.progress = func() {
				b.mu.Lock()
				asked++
				first := asked == 1
				if !first && b.watches < 2 {
					ended++
				}
				b.mu.Unlock()
				if !first {
					return
				}
				time.Sleep(ttl / 4) // when it returns, it is time to ask again
				b.dropWatches()
				synctest.Wait()
			}
			b.mu.Unlock()
			time.Sleep(ttl)
			synctest.Wait()
			b.mu.Lock()
			b.progress = nil
			b.mu.Unlock()
			require.Greater(t, asked, 1)
			require.Zero(t, ended)
			p.Release()
			b.await(waiting).Release()
		})
	}
}

// Trap a: a watch that begins at a revision that exists is served late.
func TestOrder_aFreshWatchIsNotLate(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bench) {
		r, other := b.resource(1), b.resource(1)
		p := b.acquire(r, 1)
		waiting := b.start(context.Background(), other, 1)
		synctest.Wait()
		start := time.Now()
		p.Release()
		got := <-waiting
		require.Zero(t, time.Since(start))
		got.p.Release()
	})
}

// Trap a: a change before the watch begins is in the snapshot.
func TestOrder_nothingIsMissedBeforeTheWatch(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bench) {
		r, other := b.resource(1), b.resource(1)
		p := b.acquire(r, 1)
		synctest.Wait() // r watches its epoch
		b.then("watch", step{before: p.Release})
		select {
		case got := <-b.start(context.Background(), other, 1):
			require.NoError(t, got.err)
			got.p.Release()
		case <-time.After(ttl):
			t.Fatal("the release is missed")
		}
	})
}

// The watch may show a grant before the transaction is answered.
func TestOrder_theViewIsAheadOfTheAnswer(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bench) {
		r, other := b.resource(1), b.resource(1)
		p := b.acquire(r, 1)
		ctx, cancel := context.WithCancel(context.Background())
		left := b.start(ctx, other, 1) // starts the watch of other
		synctest.Wait()
		cancel()
		require.Error(t, (<-left).err)
		synctest.Wait()
		b.set(faults{answer: 50 * time.Millisecond})
		waiting := b.start(context.Background(), other, 1)
		time.Sleep(time.Millisecond) // the ticket exists, the answer is under way
		p.Release()
		b.await(waiting).Release()
	})
}

// An event is not applied again if the snapshot includes its revision.
func TestOrder_oldEventsAreDropped(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bench) {
		ctx := context.Background()
		r, other := b.resource(1), b.resource(1)
		p := b.acquire(r, 1)
		synctest.Wait()
		var second <-chan pending
		b.then("watch", step{}, step{})       // of other, and of r
		b.then("range", step{before: func() { // the watch of other has begun
			second = b.start(ctx, r, 1)
			time.Sleep(time.Millisecond)
		}})
		first := b.start(ctx, other, 1)
		time.Sleep(time.Second)
		third := b.start(ctx, other, 1)
		synctest.Wait()
		p.Release()
		b.await(first).Release()
		b.await(second).Release()
		b.await(third).Release()
	})
}

// Watches are not acknowledged for a minute. Each stream that such a watch has
// used stays open in the client, so there must not be many.
func TestWatch_streamsAreUsedAgain(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bench) {
		other, r := b.resource(1), b.resource(1)
		p := b.acquire(other, 1)
		silent := make([]step, 1000)
		for i := range silent {
			silent[i].hold = time.Minute
		}
		b.then("watch", silent...)
		waiting := b.start(context.Background(), r, 1)
		time.Sleep(time.Minute)
		b.mu.Lock()
		watches, streams := 0, 0
		for key, n := range b.streams {
			if strings.Contains(key, "condvar-stream") {
				streams++
				watches += n
			}
		}
		b.script["watch"] = nil
		b.mu.Unlock()
		require.Greater(t, watches, 60)
		require.Greater(t, streams, 4, "all of a few may be on one connection")
		require.LessOrEqual(t, streams*streams, 4*watches)
		p.Release()
		b.await(waiting).Release()
	})
}

// A twoEndpoints is the watcher of a client of two endpoints, of which one may
// be silent. New streams alternate between them. One on the silent endpoint is
// stuck. It is closed when a watch is acknowledged there later.
type twoEndpoints struct {
	clientv3.Watcher
	mu     sync.Mutex
	silent bool
	both   bool // if silent, then both of them
	next   int
	stuck  map[string]bool
}

func (w *twoEndpoints) Watch(ctx context.Context, key string, opts ...clientv3.OpOption) clientv3.WatchChan {
	md, _ := metadata.FromOutgoingContext(ctx)
	stream := fmt.Sprint(md)
	w.mu.Lock()
	if w.silent && !w.stuck[stream] {
		w.next++
		w.stuck[stream] = w.both || w.next%2 == 0
	}
	if !w.silent || !w.stuck[stream] {
		delete(w.stuck, stream)
	}
	stuck := w.stuck[stream]
	w.mu.Unlock()
	if stuck {
		<-ctx.Done()
		out := make(chan clientv3.WatchResponse)
		close(out)
		return out
	}
	return w.Watcher.Watch(ctx, key, opts...)
}

func (w *twoEndpoints) setSilent(silent bool) (stuck int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.silent = silent
	return len(w.stuck)
}

// One of two endpoints is silent for long. Calls that begin to wait are not
// delayed more and more. Then it works again, and all streams are closed.
func TestWatch_oneEndpointStaysSilent(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bench) {
		client, _ := b.client()
		w := &twoEndpoints{Watcher: client.Watcher, stuck: map[string]bool{}}
		client.Watcher = w
		r, other := etcdcondvar.New(client, "r", 1, etcdcondvar.WithTTL(ttl)), b.resource(1)
		b.resources = append(b.resources, r)
		p := b.acquire(r, 1)
		cycle := func() time.Duration {
			p.Release()
			q := b.acquire(other, 1)
			waiting := b.start(context.Background(), r, 1)
			synctest.Wait()
			q.Release()
			start := time.Now()
			p = b.await(waiting)
			took := time.Since(start)
			time.Sleep(3 * ttl) // the watch of the line ends
			return took
		}
		w.setSilent(true)
		for range 20 {
			require.Less(t, cycle(), ttl/2)
		}
		stuck := w.setSilent(false)
		require.Positive(t, stuck)
		for range stuck {
			require.Zero(t, cycle())
		}
		require.Zero(t, w.setSilent(false))
		p.Release()
	})
}

// The calls of a process wait all the time, so one waits for each watch. Streams
// that outages have left open are closed all the same.
func TestWatch_streamsOfOutagesAreClosed(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bench) {
		client, _ := b.client()
		w := &twoEndpoints{Watcher: client.Watcher, stuck: map[string]bool{}, both: true}
		client.Watcher = w
		r, other := etcdcondvar.New(client, "r", 1, etcdcondvar.WithTTL(ttl)), b.resource(1)
		b.resources = append(b.resources, r)
		p := b.acquire(other, 1)
		ctx, cancel := context.WithCancel(context.Background())
		for range 3 {
			go func() {
				for ctx.Err() == nil {
					_ = r.Do(ctx, func(context.Context) error { time.Sleep(time.Second); return nil })
				}
			}()
		}
		time.Sleep(time.Second)
		p.Release()
		for range 3 {
			w.setSilent(true)
			b.dropWatches()
			time.Sleep(30 * time.Second)
			stuck := w.setSilent(false)
			require.Positive(t, stuck)
			for range stuck + 2 {
				time.Sleep(2 * ttl)
				b.dropWatches()
			}
			require.Zero(t, w.setSilent(false))
		}
		cancel()
	})
}
