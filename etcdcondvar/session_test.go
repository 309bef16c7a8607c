package etcdcondvar_test

import (
	"context"
	"fmt"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

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

func TestResource_withoutSpace(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bench) {
		r, other := b.resource(1), b.resource(1)
		p := b.acquire(r, 1)
		b.mu.Lock()
		b.noSpace = true
		b.mu.Unlock()
		done := b.start(context.Background(), other, 1)
		time.Sleep(time.Minute)
		require.NoError(t, p.Err())
		p.Release()
		fleet, err := r.Fleet(context.Background())
		require.NoError(t, err)
		require.Zero(t, fleet.InUse)
		b.mu.Lock()
		b.noSpace = false
		b.mu.Unlock()
		b.await(done).Release()
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

// Fleet tests 24 and 26: a transaction with tickets whose outcome is unknown.
func TestFence(t *testing.T) {
	late := step{hold: 5 * time.Second} // applied after the fence
	lost := step{loseAnswer: true}
	for name, prepare := range map[string]func(b *bench){
		"it arrives late":             func(b *bench) { b.then("put", late) },
		"its answer is lost":          func(b *bench) { b.then("put", lost) },
		"the answer of the fence too": func(b *bench) { b.then("put", lost); b.then("delete", lost, lost, lost) },
		"the fence arrives late too":  func(b *bench) { b.then("put", late); b.then("delete", late, late) },
		"a fence after a fence":       func(b *bench) { b.then("put", late, lost, late, lost); b.then("delete", lost, late, lost) },
		"the fence fails at first": func(b *bench) {
			b.then("put", lost)
			refused := step{err: status.Error(codes.Unavailable, "no connection")}
			b.then("delete", refused, refused)
		},
		"the answer for the epoch": func(b *bench) { b.then("epoch", lost, late, lost) },
		"no space since then": func(b *bench) {
			b.then("put", lost)
			b.then("delete", step{before: func() {
				b.mu.Lock()
				b.noSpace = true
				b.mu.Unlock()
				time.AfterFunc(10*time.Second, func() {
					if b.tickets() > 0 {
						b.t.Error("the fence needs space")
					}
					b.mu.Lock()
					b.noSpace = false
					b.mu.Unlock()
				})
			}})
		},
		"the lease ends during the fence": func(b *bench) {
			b.then("put", lost)
			b.then("delete", step{before: func() { b.revoke(b.lastID) }, hold: time.Second})
		},
		"the process is cut off during the fence": func(b *bench) {
			b.then("put", late)
			b.then("delete", step{before: func() {
				for _, l := range b.links {
					b.cut(l, 2*ttl)
				}
			}})
		},
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(t *testing.T, b *bench) {
				r := b.resource(1)
				b.acquire(r, 1).Release()
				prepare(b)
				p := b.acquire(r, 1)
				time.Sleep(10 * time.Second) // late requests have arrived
				require.NoError(t, p.Err())
				require.Equal(t, 1, b.tickets())
				p.Release()
				synctest.Wait()
				require.Zero(t, b.tickets())
			})
		})
	}
}

// A call that is canceled while its ticket is under way leaves no ticket.
func TestFence_ofACanceledCall(t *testing.T) {
	for name, st := range map[string]step{
		"late": {hold: 5 * time.Second}, "lost": {loseAnswer: true}, "answered": {before: func() { time.Sleep(time.Second / 2) }},
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(t *testing.T, b *bench) {
				r := b.resource(1)
				b.acquire(r, 1).Release()
				b.then("put", st)
				ctx, cancel := context.WithTimeout(context.Background(), 100*time.Millisecond)
				defer cancel()
				start := time.Now()
				_, err := r.Acquire(ctx)
				require.ErrorIs(t, err, context.DeadlineExceeded)
				require.Equal(t, 100*time.Millisecond, time.Since(start))
				time.Sleep(2 * time.Second) // the lease still exists
				require.Zero(t, b.tickets())
				time.Sleep(10 * time.Second)
				require.Zero(t, b.tickets())
				b.acquire(r, 1).Release()
			})
		})
	}
}

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

// Fleet test 14: a permanent error is returned at once, in each state.
func TestDenied(t *testing.T) {
	denied := step{err: rpctypes.ErrPermissionDenied}
	for _, kind := range []string{"grant", "epoch", "put"} {
		t.Run(kind, func(t *testing.T) {
			inBubble(t, func(t *testing.T, b *bench) {
				b.then(kind, denied)
				r := b.resource(1)
				start := time.Now()
				_, err := r.Acquire(context.Background())
				require.ErrorIs(t, err, rpctypes.ErrPermissionDenied)
				require.Zero(t, time.Since(start))
				b.acquire(r, 1).Release()
			})
		})
	}
	t.Run("read", func(t *testing.T) {
		inBubble(t, func(t *testing.T, b *bench) {
			r := b.resource(1)
			b.then("read", denied)
			_, err := r.TryAcquire(context.Background())
			require.ErrorIs(t, err, rpctypes.ErrPermissionDenied)
			b.then("range", denied)
			require.ErrorIs(t, r.Resize(context.Background(), 1), rpctypes.ErrPermissionDenied)
			b.then("range", denied)
			_, err = r.Fleet(context.Background())
			require.ErrorIs(t, err, rpctypes.ErrPermissionDenied)
		})
	})
	t.Run("snapshot", func(t *testing.T) {
		inBubble(t, func(t *testing.T, b *bench) {
			p := b.acquire(b.resource(1), 1)
			synctest.Wait() // its watch has read the snapshot
			b.then("range", denied)
			_, err := b.resource(1).Acquire(context.Background())
			require.ErrorIs(t, err, rpctypes.ErrPermissionDenied)
			p.Release()
		})
	})
	t.Run("watch", func(t *testing.T) {
		inBubble(t, func(t *testing.T, b *bench) {
			p := b.acquire(b.resource(1), 1)
			synctest.Wait()
			b.refuseWatch = rpctypes.ErrGRPCPermissionDenied.Error()
			_, err := b.resource(1).Acquire(context.Background())
			require.ErrorContains(t, err, "permission denied")
			b.refuseWatch = ""
			p.Release()
		})
	})
	t.Run("delete", func(t *testing.T) { // the ticket is deleted with the lease
		inBubble(t, func(t *testing.T, b *bench) {
			r := b.resource(1)
			p := b.acquire(r, 1)
			b.then("delete", slices.Repeat([]step{denied}, 1000)...)
			p.Release()
			synctest.Wait()
			require.Zero(t, b.tickets())
			b.script["delete"] = nil
		})
	})
	t.Run("fence", func(t *testing.T) {
		inBubble(t, func(t *testing.T, b *bench) {
			r := b.resource(1)
			b.then("put", step{loseAnswer: true})
			b.then("delete", slices.Repeat([]step{denied}, 1000)...)
			_, err := r.Acquire(context.Background())
			require.ErrorIs(t, err, rpctypes.ErrPermissionDenied)
			synctest.Wait()
			require.Zero(t, b.tickets())
			b.script["delete"] = nil
			b.then("revoke", denied) // the lease expires
		})
	})
}

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
