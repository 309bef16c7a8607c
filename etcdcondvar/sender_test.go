package etcdcondvar_test

import (
	"context"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

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
				b.setNoSpace(true)
				time.AfterFunc(10*time.Second, func() {
					if b.tickets() > 0 {
						b.t.Error("the fence needs space")
					}
					b.setNoSpace(false)
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
