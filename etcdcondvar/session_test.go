package etcdcondvar_test

import (
	"context"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"go.etcd.io/etcd/api/v3/mvccpb"

	"example.com/condvar/etcdcondvar"
)

func TestResource_givesBackAnIdleLease(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bench) {
		r := b.resource(1)
		for range 3 {
			b.acquire(r, 1).Release()
			time.Sleep(ttl * 3 / 2)
			b.mu.Lock()
			require.Empty(t, b.leases)
			b.mu.Unlock()
			requests := b.requests("renew")
			time.Sleep(time.Minute)
			require.Equal(t, requests, b.requests("renew"))
		}
	})
}

// Fleet test 15: an idle Resource has no lease, no watch and no goroutine. One
// in use has at most five goroutines.
func TestResource_leavesNothingBehind(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bench) {
		ctx := context.Background()
		client, _ := b.client()
		before := inThisBubble()
		for i := range 1000 {
			r := etcdcondvar.New(client, fmt.Sprint("once ", i), 1, etcdcondvar.WithTTL(ttl))
			b.acquire(r, 1).Release()
		}
		time.Sleep(ttl * 5 / 4)
		synctest.Wait()
		b.mu.Lock()
		require.Empty(t, b.leases)
		require.Zero(t, b.watches)
		b.mu.Unlock()
		require.LessOrEqual(t, inThisBubble(), before)
		var permits []*etcdcondvar.Permit
		for i := range 100 {
			r := etcdcondvar.New(client, fmt.Sprint("many ", i), 1, etcdcondvar.WithTTL(ttl))
			permits = append(permits, b.acquire(r, 1))
			_ = b.start(ctx, r, 1)
		}
		synctest.Wait()
		b.mu.Lock()
		watches := b.watches
		b.mu.Unlock()
		require.Equal(t, 100, watches)
		require.LessOrEqual(t, inThisBubble()-before, 100*(5+1+1), "5 of the Resource, 1 of the call, 1 of the watch")
		for _, p := range permits {
			p.Release()
		}
		b.mu.Lock()
		b.keys = map[string]*mvccpb.KeyValue{}
		b.mu.Unlock()
	})
}
