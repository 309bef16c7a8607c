package etcdcondvar_test

import (
	"context"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"example.com/condvar/etcdcondvar"
)

// Calls that come and end do not shorten the pauses between requests that fail.
func TestResource_callsDoNotShortenThePauses(t *testing.T) {
	unavailable := step{err: status.Error(codes.Unavailable, "no connection")}
	for _, kind := range []string{"grant", "put", "delete", "watch"} {
		t.Run(kind, func(t *testing.T) {
			inBubble(t, func(t *testing.T, b *bench) {
				r := b.resource(1)
				p := b.acquire(b.resource(1), 1)
				if kind != "grant" {
					ctx, cancel := context.WithTimeout(context.Background(), time.Millisecond)
					_, err := r.Acquire(ctx) // opens a session
					cancel()
					require.ErrorIs(t, err, context.DeadlineExceeded)
				}
				b.then(kind, slices.Repeat([]step{unavailable}, 100_000)...)
				if kind == "watch" {
					b.dropWatches()
				}
				requests := b.requests(kind)
				for range 2000 { // for 2 s, one starts and one ends every ms
					ctx, cancel := context.WithTimeout(context.Background(), 10*time.Millisecond)
					defer cancel()
					_ = b.start(ctx, r, 1)
					time.Sleep(time.Millisecond)
				}
				require.LessOrEqual(t, b.requests(kind)-requests, 40, "a burst, then 6 per second of each Resource")
				b.mu.Lock()
				b.script = map[string][]step{}
				b.mu.Unlock()
				p.Release()
			})
		})
	}
}

// A request to a slow etcd is not repeated before it is answered.
func TestResource_doesNotRepeatRequestsToASlowEtcd(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bench) {
		b.set(faults{answer: ttl / 20}) // longer than the first timeouts
		r := b.resource(1)
		for range 3 {
			b.acquire(r, 1).Release()
		}
		require.Equal(t, 3, b.requests("delete"))
		p, err := r.TryAcquire(context.Background())
		require.NoError(t, err)
		require.Equal(t, 1, b.requests("read"))
		other := b.resource(1)
		for range 3 {
			_, err = other.TryAcquire(context.Background())
			require.Equal(t, etcdcondvar.ErrFull, err)
		}
		require.LessOrEqual(t, b.requests("read"), 1+4+1+1, "only the first timeouts are too short")
		p.Release()
		b.set(faults{})
		p = b.acquire(r, 1)
		b.then("delete", step{hold: time.Minute})
		start := time.Now()
		p.Release() // the request is repeated soon
		require.Less(t, time.Since(start), ttl/20)
	})
}
