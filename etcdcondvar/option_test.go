package etcdcondvar_test

import (
	"context"
	"math"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"

	"example.com/condvar/etcdcondvar"
)

func TestWithTTL_isAtMostTheMaximumOfEtcd(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bench) {
		r := b.resource(1, etcdcondvar.WithTTL(math.MaxInt64))
		p := b.acquire(r, 1)
		b.mu.Lock()
		require.Equal(t, 9_000_000_000*time.Second, b.ttls[b.lastID])
		b.mu.Unlock()
		time.Sleep(24 * time.Hour)
		require.NoError(t, p.Err())
		p.Release()
	})
}

// A long TTL does not make the timeouts of requests longer.
func TestWithTTL_doesNotDelayRepetitions(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bench) {
		r := b.resource(2, etcdcondvar.WithTTL(time.Hour))
		b.then("range", step{hold: time.Minute})
		start := time.Now()
		_, err := r.Fleet(context.Background())
		require.NoError(t, err)
		require.LessOrEqual(t, time.Since(start), time.Second)
		b.then("put", step{})
		b.then("put", slices.Repeat([]step{{err: rpctypes.ErrNoSpace}}, 100_000)...)
		start = time.Now()
		require.NoError(t, r.Resize(context.Background(), 1))
		require.LessOrEqual(t, time.Since(start), 10*time.Second)
		b.mu.Lock()
		b.script = map[string][]step{}
		b.mu.Unlock()
	})
}

func TestWithLabel(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bench) {
		r := b.resource(3, etcdcondvar.WithLabel("worker 7"))
		p := b.acquire(r, 3)
		fleet, err := r.Fleet(context.Background())
		require.NoError(t, err)
		require.Equal(t, []etcdcondvar.Ticket{{
			Label: "worker 7", N: 3, Held: true, Since: time.UnixMilli(time.Now().UnixMilli()), Token: p.Token(),
		}}, fleet.Tickets)
		p.Release()
	})
}
