package etcdcondvar_test

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"example.com/condvar/etcdcondvar"
)

// Fleet test 40.
func TestRenewal(t *testing.T) {
	type renewal struct {
		prepare func(b *bench)
		lostAt  time.Duration // since the grant; 0: it is not lost
	}
	margin := etcdcondvar.Margin
	unavailable := step{err: status.Error(codes.Unavailable, "no connection")}
	for name, c := range map[string]renewal{
		"answered late": {func(b *bench) {
			b.then("renew", step{before: func() { time.Sleep(400 * time.Millisecond) }})
		}, 0},
		"out of order": {func(b *bench) { b.then("renew", step{hold: 3 * time.Second}) }, 0},
		"refused a few times": {func(b *bench) {
			b.then("renew", unavailable, unavailable, unavailable, unavailable, unavailable)
		}, 0},
		"lease not found": {func(b *bench) { b.then("renew", step{err: rpctypes.ErrLeaseNotFound}) }, ttl / 5},
		"a shorter TTL, then none": {func(b *bench) {
			b.renewTTL = 2
			b.then("renew", step{before: func() { b.set(faults{loseRequest: 100}) }})
			b.set(faults{})
		}, ttl/5 + 2*time.Second - margin(2*time.Second)},
		"all answers lost": {func(b *bench) {
			b.set(faults{loseAnswer: 100})
		}, ttl - margin(ttl)},
		"denied": {func(b *bench) {
			for range 1000 {
				b.then("renew", step{err: rpctypes.ErrPermissionDenied})
			}
		}, ttl - margin(ttl)},
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(t *testing.T, b *bench) {
				r := b.resource(1)
				start := time.Now()
				p := b.acquire(r, 1)
				c.prepare(b)
				ended := p.Context(context.Background())
				if c.lostAt == 0 {
					time.Sleep(time.Minute)
					require.NoError(t, ended.Err())
				} else {
					<-ended.Done()
					require.Equal(t, c.lostAt, time.Since(start))
					require.Equal(t, etcdcondvar.ErrLost, context.Cause(ended))
				}
				b.set(faults{})
				p.Release()
			})
		})
	}
}

// Fleet test 40: the server may grant a longer TTL than it was asked for.
func TestRenewal_longerTTL(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bench) {
		b.minTTL = 20
		r := b.resource(1)
		start := time.Now()
		p := b.acquire(r, 1)
		b.set(faults{loseRequest: 100})
		<-p.Context(context.Background()).Done()
		require.Equal(t, 18*time.Second, time.Since(start))
		b.set(faults{})
		p.Release()
	})
}

// There is a pause between two attempts on a refused connection.
func TestRenewal_doesNotSpin(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bench) {
		refused := &refusingLease{}
		client, l := b.client()
		client.Lease = clientv3.NewLeaseFromLeaseClient(refused, nil, time.Second)
		client.Lease = &leaseWithRenewals{&engineLease{e: b.engine, link: l}, client.Lease}
		r := etcdcondvar.New(client, "r", 1, etcdcondvar.WithTTL(ttl))
		b.resources = append(b.resources, r)
		p := b.acquire(r, 1)
		<-p.Context(context.Background()).Done()
		require.Greater(t, refused.n, 5)
		require.Less(t, refused.n, 100)
		p.Release()
	})
}

type leaseWithRenewals struct {
	clientv3.Lease
	renewals clientv3.Lease
}

func (l *leaseWithRenewals) KeepAliveOnce(ctx context.Context, id clientv3.LeaseID) (*clientv3.LeaseKeepAliveResponse, error) {
	return l.renewals.KeepAliveOnce(ctx, id)
}

type refusingLease struct {
	pb.LeaseClient
	n int
}

func (c *refusingLease) LeaseKeepAlive(context.Context, ...grpc.CallOption) (pb.Lease_LeaseKeepAliveClient, error) {
	if c.n++; c.n > 10_000 {
		panic("the renewals have no pause")
	}
	return nil, status.Error(codes.Unavailable, "connection refused")
}
