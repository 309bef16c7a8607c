package etcdcondvar_test

import (
	"context"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"

	"example.com/condvar/etcdcondvar"
)

// A key that is deleted makes the next transactions slower, until it is
// compacted.
func TestResource_usesTheNamesOfTicketsAgain(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bench) {
		r := b.resource(20)
		for range 100 {
			b.acquire(r, 1).Release()
			b.acquire(r, 2).Release()
		}
		for range 20 {
			var calls []<-chan pending
			for range 20 {
				calls = append(calls, b.start(context.Background(), r, 1))
			}
			for _, done := range calls {
				b.await(done).Release()
			}
		}
		require.Less(t, len(b.putsByName()), 100, "of 600 tickets")
	})
}

// Etcd was restored from a backup that has a ticket which was deleted since. No
// put may change that ticket.
func TestResource_aTicketIsNewAfterARestore(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bench) {
		r := b.resource(2)
		p := b.acquire(r, 1)
		key, lease := ticketOf(p), clientv3.LeaseID(1)
		p.Release()
		client, _ := b.client()
		put := func(key string) bool {
			resp, err := client.KV.Txn(context.Background()).If(p.Guard()).
				Then(clientv3.OpPut(key, "", clientv3.WithLease(lease))).Commit()
			require.NoError(t, err)
			return resp.Succeeded
		}
		require.False(t, put("mark"))
		_, err := client.KV.Txn(context.Background()).Then(clientv3.OpPut(key, "", clientv3.WithLease(lease))).Commit()
		require.NoError(t, err)
		p = b.acquire(r, 1)
		require.NotEqual(t, key, ticketOf(p))
		require.True(t, put("mark"))
		require.Equal(t, 2, b.tickets())
		p.Release()
	})
}

// A restored etcd has a ticket that was deleted after the backup. Its name is
// that of a call in line.
func TestResource_anOldTicketIsRestoredWhileACallWaits(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bench) {
		r, other := b.resource(2), b.resource(2)
		p := b.acquire(other, 2)
		ctx, cancel := context.WithCancel(context.Background())
		canceled := b.start(ctx, r, 1)
		backup := b.backup()
		cancel()
		require.Error(t, (<-canceled).err)
		synctest.Wait()
		waiting := b.start(context.Background(), r, 1)
		synctest.Wait()
		require.Equal(t, 2, b.tickets())
		b.restoreAll(backup)
		time.Sleep(time.Second)
		synctest.Wait()
		p.Release()
		b.await(waiting).Release()
	})
}

// The same while a permit is held: another one, of less weight, has its name.
func TestResource_anOldTicketIsRestoredWhileAPermitIsHeld(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bench) {
		r, other := b.resource(6), b.resource(6)
		p := b.acquire(r, 2)
		backup := b.backup()
		p.Release()
		p = b.acquire(r, 5)
		waiting := b.start(context.Background(), r, 3) // so r watches
		synctest.Wait()
		b.restoreAll(backup)
		time.Sleep(time.Second)
		synctest.Wait()
		require.Equal(t, etcdcondvar.ErrLost, p.Err())
		b.await(waiting).Release()
		b.acquire(other, 4).Release()
		p.Release()
	})
}

// A client resumes the watch of a restored etcd, but hears nothing until the
// revisions are as high as before.
func TestResource_aRestoreWhileACallWaits(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bench) {
		r, other := b.resource(2), b.resource(2)
		p := b.acquire(other, 2)
		for range 20 {
			ctx, cancel := context.WithCancel(context.Background())
			canceled := b.start(ctx, r, 1)
			synctest.Wait()
			cancel()
			require.Error(t, (<-canceled).err)
		}
		synctest.Wait()
		b.mu.Lock()
		b.revision, b.history = b.revision-30, nil
		b.mu.Unlock()
		puts := b.requests("put")
		waiting := b.start(context.Background(), r, 1)
		synctest.Wait()
		p.Release()
		b.await(waiting).Release()
		require.LessOrEqual(t, b.requests("put")-puts, 3)
	})
}

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
