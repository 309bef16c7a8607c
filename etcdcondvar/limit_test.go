package etcdcondvar_test

import (
	"context"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	clientv3 "go.etcd.io/etcd/client/v3"

	"example.com/condvar/etcdcondvar"
)

// An engine that was restored from a backup has older revisions.
func TestResource_afterARestore(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bench) {
		ctx := context.Background()
		r := b.resource(1)
		for i := range int64(20) {
			require.NoError(t, r.Resize(ctx, 2+i))
		}
		b.acquire(r, 1).Release()
		b.restore(7)
		p, err := r.AcquireN(ctx, 5)
		require.NoError(t, err)
		p.Release()
		require.Equal(t, int64(5), r.Stats().Capacity)
	})
}

// After a restore, other clients may write until the revision is higher than
// before it.
func TestResource_longAfterARestore(t *testing.T) {
	for _, try := range []bool{false, true} {
		for _, n := range []int64{1, 5} { // 5 is more than the capacity before
			for _, revision := range []int64{7, 1000} { // the revision before is between
				t.Run(fmt.Sprintf("try=%v/n=%d/revision=%d", try, n, revision), func(t *testing.T) {
					inBubble(t, func(t *testing.T, b *bench) {
						ctx, cancel := context.WithTimeout(context.Background(), time.Second)
						defer cancel()
						r := b.resource(1)
						for i := range int64(20) {
							require.NoError(t, r.Resize(ctx, 1+i%3))
						}
						b.acquire(r, 1).Release()
						b.restore(revision)
						b.set(faults{answer: time.Millisecond})
						start, call := time.Now(), r.AcquireN
						if try {
							call = r.TryAcquireN
						}
						p, err := call(ctx, n)
						require.NoError(t, err)
						require.LessOrEqual(t, time.Since(start), 5*time.Millisecond, "requests of 1 ms")
						require.Equal(t, int64(5), r.Stats().Capacity)
						p.Release()
					})
				})
			}
		}
	}
}

// What was granted before a shrink, in the history that is lost, admits nothing
// in the restored one.
func TestResource_afterARestoreWithoutCap(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bench) {
		r, other := b.resource(3), b.resource(3)
		b.acquire(other, 3).Release()
		for i := range int64(20) {
			require.NoError(t, r.Resize(context.Background(), 4-i%2))
		}
		p := b.acquire(r, 3)
		require.NoError(t, r.Resize(context.Background(), 1))
		_, err := r.Fleet(context.Background()) // it reads what was granted
		require.NoError(t, err)
		p.Release()
		b.restore(7)
		b.mu.Lock()
		delete(b.keys, etcdcondvar.KeysOf("r")+"cap")
		b.mu.Unlock()
		time.Sleep(3 * ttl) // the next session puts it
		p = b.acquire(r, 1)
		next := b.start(context.Background(), other, 1)
		synctest.Wait()
		require.Zero(t, other.Stats().InUse)
		p.Release()
		b.await(next).Release()
	})
}

// A process that waits reads the limit of a restored store in a snapshot. A
// Fleet and a Resize read it, too.
func TestResource_seesTheCapacityAfterARestore(t *testing.T) {
	for name, look := range map[string]func(ctx context.Context, b *bench, r *etcdcondvar.Resource){
		"Fleet":    func(ctx context.Context, b *bench, r *etcdcondvar.Resource) { _, _ = r.Fleet(ctx) },
		"Resize":   func(ctx context.Context, b *bench, r *etcdcondvar.Resource) { _ = r.Resize(ctx, 5) },
		"snapshot": func(ctx context.Context, b *bench, r *etcdcondvar.Resource) { b.dropWatches(); time.Sleep(time.Second) },
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(t *testing.T, b *bench) {
				ctx, cancel := context.WithCancel(context.Background())
				r := b.resource(1)
				p := b.acquire(r, 1)
				left := b.start(ctx, r, 1)
				for i := range int64(20) {
					require.NoError(t, r.Resize(ctx, 1-i%2))
				}
				synctest.Wait()
				b.restore(1000)
				look(ctx, b, r)
				require.Equal(t, int64(5), r.Stats().Capacity)
				cancel()
				(<-left).p.Release()
				p.Release()
			})
		})
	}
}

func TestResource_refusesACapacityThatIsNoNumber(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bench) {
		client, _ := b.client()
		_, err := client.Put(context.Background(), etcdcondvar.KeysOf("r")+"cap", "many")
		require.NoError(t, err)
		r := b.resource(1)
		_, err = r.Acquire(context.Background())
		require.ErrorContains(t, err, "many")
		_, err = r.TryAcquire(context.Background())
		require.ErrorContains(t, err, "many")
		require.ErrorContains(t, r.Resize(context.Background(), 1), "many")
		_, err = r.Fleet(context.Background())
		require.ErrorContains(t, err, "many")
	})
}

// Calls that find a capacity that is no number share one epoch. When an
// operator has deleted that capacity, the next call stores one, and then puts
// its ticket.
func TestResource_aCapacityThatIsNoNumberLeavesOneEpoch(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bench) {
		ctx := context.Background()
		root := etcdcondvar.KeysOf("r")
		client, _ := b.client()
		_, err := client.Put(ctx, root+"cap", "many")
		require.NoError(t, err)
		r := b.resource(1)
		for range 10 {
			_, err = r.Acquire(ctx)
			require.ErrorContains(t, err, "many")
		}
		require.Equal(t, 1, b.keysWith("/e/"))
		_, err = client.KV.Txn(ctx).Then(clientv3.OpDelete(root + "cap")).Commit()
		require.NoError(t, err)
		p := b.acquire(r, 1)
		fleet, err := r.Fleet(ctx)
		require.NoError(t, err)
		require.Equal(t, int64(1), fleet.Capacity)
		require.Equal(t, 1, b.keysWith("/cap"))
		p.Release()
	})
}

// All calls of a process agree on the capacity if an operator has deleted it.
func TestResource_keepsTheCapacityIfCapIsDeleted(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bench) {
		ctx := context.Background()
		r := b.resource(1)
		require.NoError(t, r.Resize(ctx, 3))
		client, _ := b.client()
		_, err := client.KV.Txn(ctx).Then(clientv3.OpDelete(etcdcondvar.KeysOf("r") + "cap")).Commit()
		require.NoError(t, err)
		fleet, err := r.Fleet(ctx)
		require.NoError(t, err)
		require.Equal(t, int64(3), fleet.Capacity)
		p, err := r.TryAcquireN(ctx, 3)
		require.NoError(t, err)
		p.Release()
	})
}
