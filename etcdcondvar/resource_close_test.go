package etcdcondvar_test

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"

	"example.com/condvar"
	"example.com/condvar/etcdcondvar"
)

func TestResource_Close(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bench) {
		r := b.resource(1)
		p := b.acquire(r, 1)
		waiting := b.start(context.Background(), r, 1)
		synctest.Wait()
		require.NoError(t, r.Close())
		require.Equal(t, condvar.ErrClosed, (<-waiting).err)
		dead, cancel := context.WithCancel(context.Background())
		cancel()
		err := r.Drain(dead)
		require.ErrorIs(t, err, context.Canceled)
		require.ErrorContains(t, err, "held: 1")
		drained := make(chan error, 1)
		go func() { drained <- r.Drain(context.Background()) }()
		synctest.Wait()
		require.Empty(t, drained)
		require.NoError(t, p.Err())
		p.Release()
		require.NoError(t, <-drained)
		require.NoError(t, r.Drain(dead))
		require.True(t, r.Stats().Closed)
		require.Contains(t, r.String(), "closed")
	})
}

// Fleet test 42: Close in each state of a call.
func TestClose_endsCallsInEachState(t *testing.T) {
	for name, prepare := range map[string]func(b *bench){
		"engine is silent": func(b *bench) { b.set(faults{loseRequest: 100}) },
		"under way":        func(b *bench) { b.then("put", step{before: func() { time.Sleep(time.Second) }}) },
		"in line":          func(b *bench) { time.AfterFunc(time.Minute, b.acquire(b.resource(1), 1).Release) },
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(t *testing.T, b *bench) {
				prepare(b)
				r := b.resource(1)
				done := b.start(context.Background(), r, 1)
				synctest.Wait()
				start := time.Now()
				require.NoError(t, r.Close())
				require.Equal(t, condvar.ErrClosed, (<-done).err)
				require.Zero(t, time.Since(start))
			})
		})
	}
	inBubble(t, func(t *testing.T, b *bench) { // TryAcquire and Resize wait only for the engine
		b.set(faults{loseRequest: 100})
		r := b.resource(1)
		errs := make(chan error, 2)
		go func() { _, err := r.TryAcquire(context.Background()); errs <- err }()
		go func() { errs <- r.Resize(context.Background(), 2) }()
		time.Sleep(time.Minute)
		require.Empty(t, errs)
		start := time.Now()
		require.NoError(t, r.Close())
		require.Equal(t, condvar.ErrClosed, <-errs)
		require.Equal(t, condvar.ErrClosed, <-errs)
		require.Zero(t, time.Since(start))
		require.Equal(t, condvar.ErrClosed, r.Resize(context.Background(), 2))
	})
}

// A context that ends just after Close does not change the error of a call.
func TestClose_isBeforeTheEndOfAContext(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bench) {
		r := b.resource(1)
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		b.then("read", step{before: func() {
			require.NoError(t, r.Close())
			synctest.Wait()
			<-ctx.Done()
		}})
		_, err := r.TryAcquire(ctx)
		require.Equal(t, condvar.ErrClosed, err)
	})
}

// Fleet test 42: Drain revokes a lease whose grant is under way.
func TestDrain_waitsForRequestsUnderWay(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bench) {
		b.set(faults{answer: time.Millisecond})
		r := b.resource(1)
		ctx, cancel := context.WithCancel(context.Background())
		done := b.start(ctx, r, 1)
		synctest.Wait() // the lease exists, the answer is under way
		cancel()
		require.Error(t, (<-done).err)
		require.NoError(t, r.Drain(context.Background()))
		b.mu.Lock()
		defer b.mu.Unlock()
		require.Empty(t, b.leases)
	})
}

// Drain does not wait for the next renewal, whatever was the last use of the
// session.
func TestDrain_returnsWithTheLastUse(t *testing.T) {
	type resource = *etcdcondvar.Resource
	for name, prepare := range map[string]func(b *bench, r resource, last <-chan struct{}){
		"a transaction that puts nothing": func(b *bench, r resource, last <-chan struct{}) {
			require.NoError(b.t, b.resource(1).Resize(context.Background(), 2)) // r does not know it
			b.then("put", step{before: func() { <-last }})
			_ = b.start(context.Background(), r, 1)
		},
		"a fence": func(b *bench, r resource, last <-chan struct{}) {
			b.then("put", step{err: rpctypes.ErrNoSpace})
			b.then("delete", step{before: func() { <-last }})
			_ = b.start(context.Background(), r, 1)
			time.Sleep(ttl / 32)
		},
		"a ticket that is deleted by hand": func(b *bench, r resource, last <-chan struct{}) {
			b.acquire(r, 1)
			_ = b.start(context.Background(), r, 1) // starts the watch
			client, _ := b.client()
			go func() {
				<-last
				prefix := etcdcondvar.KeysOf("r") + "p/"
				_, _ = client.KV.Txn(context.Background()).Then(clientv3.OpDelete(prefix, clientv3.WithPrefix())).Commit()
			}()
		},
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(t *testing.T, b *bench) {
				r, last, drained := b.resource(1), make(chan struct{}), make(chan error)
				b.acquire(r, 1).Release()
				prepare(b, r, last)
				synctest.Wait()
				go func() { drained <- r.Drain(context.Background()) }()
				synctest.Wait()
				start := time.Now()
				close(last)
				require.NoError(t, <-drained)
				require.LessOrEqual(t, time.Since(start), 20*time.Millisecond)
			})
		})
	}
}

// Fleet test 43.
func TestClient_isClosed(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bench) {
		r, other := b.resource(1), b.resource(1)
		p := b.acquire(r, 1)
		waiting := b.start(context.Background(), other, 1)
		synctest.Wait()
		requests := b.requests("renew")
		b.cancel()
		_, err := r.TryAcquire(context.Background())
		require.ErrorContains(t, err, "closed")
		_, err = r.Fleet(context.Background())
		require.ErrorContains(t, err, "closed")
		require.ErrorContains(t, r.Resize(context.Background(), 2), "closed")
		require.ErrorContains(t, (<-waiting).err, "closed")
		<-p.Context(context.Background()).Done()
		require.Equal(t, etcdcondvar.ErrLost, p.Err())
		p.Release()
		_, err = r.Acquire(context.Background())
		require.ErrorContains(t, err, "closed")
		require.Less(t, b.requests("renew")-requests, 200)
	})
}
