package etcdcondvar_test

import (
	"context"
	"math/rand/v2"
	"slices"
	"strconv"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"

	"example.com/condvar"
	"example.com/condvar/etcdcondvar"
)

func TestResource_Resize(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bench) {
		ctx := context.Background()
		r, other := b.resource(4), b.resource(4)
		held := []*etcdcondvar.Permit{b.acquire(r, 1), b.acquire(r, 1), b.acquire(r, 1)}
		require.NoError(t, other.Resize(ctx, 2))
		fleet, err := other.Fleet(ctx)
		require.NoError(t, err)
		require.Equal(t, int64(3), fleet.InUse, "a shrink revokes nothing")
		large, small := b.start(ctx, other, 2), b.start(ctx, r, 1)
		synctest.Wait()
		held[0].Release()
		synctest.Wait()
		require.Empty(t, large)
		require.NoError(t, other.Resize(ctx, 1))
		require.Equal(t, condvar.ErrTooLarge, (<-large).err)
		held[1].Release()
		synctest.Wait()
		require.Empty(t, small)
		held[2].Release()
		p := b.await(small)
		require.NoError(t, r.Resize(ctx, 0))
		paused := b.start(ctx, r, 5)
		synctest.Wait()
		p.Release()
		synctest.Wait()
		require.Empty(t, paused)
		require.Contains(t, r.String(), "paused")
		require.NoError(t, r.Resize(ctx, 5))
		b.await(paused).Release()
	})
}

func TestResource_FleetFinishesAShrink(t *testing.T) {
	for _, compacted := range []bool{false, true} {
		inBubble(t, func(t *testing.T, b *bench) {
			ctx := context.Background()
			r := b.resource(3)
			p := b.acquire(r, 2)
			waiting := b.start(ctx, b.resource(3), 2)
			synctest.Wait()
			client, _ := b.client() // a Resize to 1 that was killed after its first write
			_, err := client.Put(ctx, etcdcondvar.KeysOf("r")+"cap", "1 0 0 3")
			require.NoError(t, err)
			if compacted {
				b.mu.Lock()
				b.compact = b.revision
				b.mu.Unlock()
			}
			fleet, err := r.Fleet(ctx)
			require.NoError(t, err)
			require.Equal(t, int64(2), fleet.InUse)
			require.Equal(t, condvar.ErrTooLarge, (<-waiting).err)
			p.Release()
			fleet, err = r.Fleet(ctx)
			require.NoError(t, err)
			require.Zero(t, fleet.InUse)
		})
	}
}

// A ticket that was granted before a shrink stays granted, even if its process
// missed the grant and reads a snapshot after the shrink.
func TestResource_aShrinkKeepsGrants(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bench) {
		r, other := b.resource(1), b.resource(1)
		p := b.acquire(r, 1)
		b.set(faults{muteWatch: 100})
		waiting := b.start(context.Background(), other, 1)
		time.Sleep(100 * time.Millisecond)
		b.set(faults{})
		require.NoError(t, r.Resize(context.Background(), 2))
		require.NoError(t, r.Resize(context.Background(), 1))
		require.Empty(t, waiting)
		select {
		case got := <-waiting:
			require.NoError(t, got.err)
			got.p.Release()
		case <-time.After(ttl):
			t.Fatal("the grant is lost")
		}
		p.Release()
	})
}

// Fleet test 20: a process that sees a release has seen the Resize before it.
func TestResize_appliesBeforeALaterRelease(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bench) {
		ctx := context.Background()
		r, other := b.resource(2), b.resource(2)
		b.set(faults{delay: 3 * time.Millisecond})
		var beliefs []*belief
		for range 1000 {
			p, q := b.acquire(r, 1), b.acquire(r, 1)
			done := make(chan *belief)
			go func() {
				got, err := hold(ctx, other, 1, time.Millisecond)
				if err != nil {
					t.Error(err)
				}
				done <- got
			}()
			time.Sleep(20 * time.Millisecond)
			require.NoError(t, r.Resize(ctx, 1))
			p.Release()
			time.Sleep(10 * time.Millisecond)
			require.Empty(t, done)
			q.Release()
			beliefs = append(beliefs, <-done)
			require.NoError(t, r.Resize(ctx, 2))
		}
		b.judge(beliefs)
	})
}

// Fleet test 20: a process whose watch misses a shrink reads it in a snapshot.
func TestResize_isReadInASnapshot(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bench) {
		ctx := context.Background()
		r, other := b.resource(2), b.resource(2)
		p, q := b.acquire(r, 1), b.acquire(r, 1)
		b.set(faults{muteWatch: 100})
		waiting := b.start(ctx, other, 1)
		synctest.Wait()
		b.set(faults{})
		require.NoError(t, r.Resize(ctx, 1))
		p.Release()
		time.Sleep(2 * ttl)
		require.Empty(t, waiting)
		q.Release()
		b.await(waiting).Release()
	})
}

// Fleet test 20: after two concurrent calls all processes have one capacity.
func TestResize_twoAtOnceAgree(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bench) {
		ctx := context.Background()
		b.set(faults{delay: 5 * time.Millisecond})
		r, other := b.resource(4), b.resource(4)
		waiting := b.start(ctx, b.resource(4), 4)
		b.await(waiting).Release()
		for range 50 {
			var wg sync.WaitGroup
			wg.Go(func() { _ = r.Resize(ctx, 3) })
			wg.Go(func() { _ = other.Resize(ctx, 5) })
			wg.Wait()
			first, err := r.Fleet(ctx)
			require.NoError(t, err)
			second, err := other.Fleet(ctx)
			require.NoError(t, err)
			require.Contains(t, []int64{3, 5}, first.Capacity)
			require.Equal(t, first.Capacity, second.Capacity)
			require.Equal(t, first.Capacity, r.Stats().Capacity)
			require.Equal(t, first.Capacity, other.Stats().Capacity)
		}
	})
}

// A call fails if a shrink makes it too large while its ticket is put.
func TestResize_duringAnAcquire(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bench) {
		ctx := context.Background()
		r, other := b.resource(3), b.resource(3)
		p := b.acquire(r, 1)
		waiting := b.start(ctx, other, 1) // starts the watch of other
		b.await(waiting).Release()
		first := b.start(ctx, other, 3)
		synctest.Wait()
		b.set(faults{answer: 50 * time.Millisecond})
		large := b.start(ctx, other, 3)
		time.Sleep(time.Millisecond) // the ticket exists, the answer is under way
		b.set(faults{})
		require.NoError(t, r.Resize(ctx, 2))
		require.Equal(t, condvar.ErrTooLarge, (<-first).err)
		require.Equal(t, condvar.ErrTooLarge, (<-large).err)
		b.acquire(r, 1).Release()
		p.Release()
	})
}

// Fleet test 22: InUse is exact, also after a shrink that was not finished. It
// may be too high if the history was compacted.
func TestFleet_InUseAgreesWithTheHistory(t *testing.T) {
	for _, compacted := range []bool{false, true} {
		inBubble(t, func(t *testing.T, b *bench) {
			ctx, cancel := context.WithCancel(context.Background())
			defer cancel()
			rng := rand.New(rand.NewPCG(1, 1))
			resources := []*etcdcondvar.Resource{b.resource(5), b.resource(5), b.resource(5)}
			client, _ := b.client()
			var mu sync.Mutex
			var held []*etcdcondvar.Permit
			over := 0
			for range 600 {
				r := resources[rng.IntN(3)]
				switch rng.IntN(8) {
				case 0, 1, 2, 3:
					n := 1 + rng.Int64N(3)
					go func() {
						if p, err := r.AcquireN(ctx, n); err == nil {
							mu.Lock()
							defer mu.Unlock()
							held = append(held, p)
						}
					}()
				case 4, 5:
					mu.Lock()
					if len(held) > 0 {
						i := rng.IntN(len(held))
						go held[i].Release()
						held = slices.Delete(held, i, i+1)
					}
					mu.Unlock()
				case 6:
					require.NoError(t, r.Resize(ctx, 1+rng.Int64N(8)))
				case 7: // a Resize that is killed after its first write
					fleet, err := r.Fleet(ctx)
					require.NoError(t, err)
					if fleet.Capacity < 2 {
						break
					}
					b.mu.Lock()
					value := string(b.keys[etcdcondvar.KeysOf("r")+"cap"].Value)
					b.mu.Unlock()
					var capacity, granted, counted int64
					scan(t, value, &capacity, &granted, &counted)
					_, err = client.Put(ctx, etcdcondvar.KeysOf("r")+"cap", format(1+rng.Int64N(capacity-1), granted, counted, capacity))
					require.NoError(t, err)
					if compacted {
						b.mu.Lock()
						b.compact = b.revision
						b.mu.Unlock()
					}
				}
				synctest.Wait()
				fleet, err := r.Fleet(ctx)
				require.NoError(t, err)
				b.mu.Lock()
				_, want := replay(b.history)
				b.mu.Unlock()
				if compacted {
					require.GreaterOrEqual(t, fleet.InUse, want, "held tickets never count as waiting")
				} else {
					require.Equal(t, want, fleet.InUse)
				}
				if fleet.InUse > fleet.Capacity {
					over++
				}
			}
			require.Positive(t, over, "no shrink went below the usage")
			cancel()
			synctest.Wait()
			for _, p := range held {
				p.Release()
			}
		})
	}
}

func scan(t *testing.T, text string, into ...*int64) {
	t.Helper()
	var err error
	fields := slices.Collect(func(yield func(string) bool) {
		word := ""
		for _, c := range text + " " {
			if c != ' ' {
				word += string(c)
			} else if !yield(word) {
				return
			} else {
				word = ""
			}
		}
	})
	require.Len(t, fields, len(into))
	for i := range into {
		*into[i], err = strconv.ParseInt(fields[i], 10, 64)
		require.NoError(t, err)
	}
}

func format(numbers ...int64) (text string) {
	for i, n := range numbers {
		if i > 0 {
			text += " "
		}
		text += strconv.FormatInt(n, 10)
	}
	return text
}

// After the commit of a shrink, Resize stores which tickets were granted before
// it. If that fails, a later Fleet or Resize does it, so Resize does not wait
// long for it.
func TestResize_returnsWhenItIsCommitted(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bench) {
		r := b.resource(4)
		b.acquire(r, 1).Release()
		b.then("put", step{})
		for range 1000 {
			b.then("put", step{err: rpctypes.ErrNoSpace})
		}
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		start := time.Now()
		require.NoError(t, r.Resize(ctx, 2))
		require.LessOrEqual(t, time.Since(start), ttl/2)
		require.Equal(t, int64(2), r.Stats().Capacity)
		b.mu.Lock()
		b.script["put"] = nil
		b.mu.Unlock()
	})
}

// Stats has the new capacity when Resize returns.
func TestResize_isSeenByStatsAtOnce(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bench) {
		r := b.resource(4)
		p := b.acquire(r, 1)
		require.NoError(t, r.Resize(context.Background(), 7))
		require.Equal(t, int64(7), r.Stats().Capacity)
		p.Release()
	})
}

// The process that puts cap again does not know which tickets were granted
// before the shrink.
func TestResize_limitsGrantsIfCapIsDeletedDuringAShrink(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bench) {
		ctx := context.Background()
		root := etcdcondvar.KeysOf("r")
		r, other := b.resource(4), b.resource(4)
		var held []*etcdcondvar.Permit
		for range 4 {
			held = append(held, b.acquire(r, 1))
		}
		var waiting []<-chan pending
		for range 2 {
			waiting = append(waiting, b.start(ctx, other, 1))
			synctest.Wait()
		}
		client, _ := b.client()
		_, err := client.Put(ctx, root+"cap", "2 0 0 4") // by a Resize that was killed
		require.NoError(t, err)
		synctest.Wait()
		held[0].Release()
		held[1].Release()
		_, err = client.KV.Txn(ctx).Then(clientv3.OpDelete(root + "cap")).Commit()
		require.NoError(t, err)
		waiting = append(waiting, b.start(ctx, other, 1)) // puts cap again
		synctest.Wait()
		require.Equal(t, int64(2), other.Stats().Capacity)
		_, err = r.Fleet(ctx) // finishes a shrink, if there is one
		require.NoError(t, err)
		synctest.Wait()
		require.Equal(t, int64(2), r.Stats().InUse+other.Stats().InUse)
		held[2].Release()
		held[3].Release()
		for _, w := range waiting {
			(<-w).p.Release()
		}
	})
}

// Fleet test 20: a process that knows only an older capacity.
func TestResize_isComparedInATransaction(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bench) {
		ctx := context.Background()
		r, other := b.resource(2), b.resource(2)
		p := b.acquire(r, 1)
		require.NoError(t, other.Resize(ctx, 1))
		waiting := b.start(ctx, r, 1)
		synctest.Wait()
		require.Empty(t, waiting)
		p.Release()
		b.await(waiting).Release()
	})
}

// Fleet test 21.
func TestResize_aPauseKeepsTheOrder(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bench) {
		ctx := context.Background()
		r, other := b.resource(2), b.resource(2)
		p := b.acquire(other, 2)
		var line []<-chan pending
		for _, process := range []*etcdcondvar.Resource{r, other, r} {
			line = append(line, b.start(ctx, process, 1))
			synctest.Wait()
		}
		require.NoError(t, r.Resize(ctx, 0))
		p.Release()
		time.Sleep(ttl)
		for _, call := range line {
			require.Empty(t, call)
		}
		require.NoError(t, r.Resize(ctx, 1))
		for i, call := range line {
			p := b.await(call)
			synctest.Wait()
			for _, later := range line[i+1:] {
				require.Empty(t, later)
			}
			p.Release()
		}
	})
}
