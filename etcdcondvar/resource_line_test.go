package etcdcondvar_test

import (
	"cmp"
	"context"
	"errors"
	"math"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	clientv3 "go.etcd.io/etcd/client/v3"

	"example.com/condvar"
	"example.com/condvar/etcdcondvar"
)

func TestResource_aBigRequestIsNotOvertaken(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bench) {
		r, other := b.resource(4), b.resource(4)
		p := b.acquire(r, 2)
		ctx, cancel := context.WithCancel(context.Background())
		big := b.start(ctx, r, 4)
		synctest.Wait()
		small := b.start(context.Background(), other, 1)
		synctest.Wait()
		require.Empty(t, small)
		_, err := other.TryAcquire(context.Background())
		require.Equal(t, etcdcondvar.ErrFull, err)
		fleet, err := r.Fleet(context.Background())
		require.NoError(t, err)
		require.Equal(t, []int64{4, 2, 2, 5}, []int64{fleet.Capacity, fleet.InUse, fleet.Waiting, fleet.WaitingN})
		require.Equal(t, []bool{true, false, false}, []bool{fleet.Tickets[0].Held, fleet.Tickets[1].Held, fleet.Tickets[2].Held})
		require.NotEmpty(t, fleet.Tickets[0].Label)
		cancel()
		require.ErrorIs(t, (<-big).err, context.Canceled)
		q := b.await(small)
		require.Greater(t, q.Token(), p.Token())
		q.Release()
		p.Release()
	})
}

func TestResource_cancelsACrowd(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bench) {
		b.set(faults{delay: 2 * time.Millisecond})
		r := b.resource(1)
		p := b.acquire(r, 1)
		ctx, cancel := context.WithCancel(context.Background())
		var wg sync.WaitGroup
		for range 2000 {
			wg.Go(func() {
				_, err := r.Acquire(ctx)
				if !errors.Is(err, context.Canceled) {
					t.Error(err)
				}
			})
		}
		time.Sleep(time.Second)
		fleet, err := r.Fleet(context.Background())
		require.NoError(t, err)
		require.LessOrEqual(t, fleet.Waiting, int64(100))
		require.Greater(t, fleet.Waiting, int64(50), "most of the 100 places are in use")
		require.Equal(t, int64(2000), r.Stats().Waiting)
		start := time.Now()
		cancel()
		wg.Wait()
		require.Zero(t, time.Since(start))
		time.Sleep(500 * time.Millisecond)
		fleet, err = r.Fleet(context.Background())
		require.NoError(t, err)
		require.Zero(t, fleet.Waiting)
		require.Less(t, b.requests("put")+b.requests("delete"), 100)
		require.Equal(t, int64(2000), r.Stats().Canceled)
		p.Release()
	})
}

// hold acquires n permits, holds them for d, and returns its belief.
func hold(ctx context.Context, r *etcdcondvar.Resource, n int64, d time.Duration) (*belief, error) {
	p, err := r.AcquireN(ctx, n)
	if err != nil {
		return nil, err
	}
	b := &belief{n: n, token: p.Token(), begin: time.Now()}
	time.Sleep(d)
	b.end = time.Now()
	p.Release()
	return b, nil
}

// judge compares beliefs with the history so far.
func (b *bench) judge(beliefs []*belief) map[int64]*judged {
	b.t.Helper()
	b.mu.Lock()
	defer b.mu.Unlock()
	require.Empty(b.t, judge(b.history, beliefs))
	tickets, _ := replay(b.history)
	return tickets
}

// Fleet test 16.
func TestOrder_followsTheTokens(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bench) {
		b.set(faults{delay: 20 * time.Millisecond})
		var mu sync.Mutex
		var beliefs []*belief
		var wg sync.WaitGroup
		for i := range 40 {
			r := b.resource(5)
			rng := rand.New(rand.NewPCG(1, uint64(i)))
			for range 3 {
				n, d := 1+rng.Int64N(5), time.Duration(rng.IntN(200))*time.Millisecond
				wg.Go(func() {
					got, err := hold(context.Background(), r, n, d)
					if err != nil {
						t.Error(err)
						return
					}
					mu.Lock()
					defer mu.Unlock()
					beliefs = append(beliefs, got)
				})
			}
		}
		wg.Wait()
		require.Len(t, beliefs, 120)
		tickets := b.judge(beliefs)
		slices.SortFunc(beliefs, func(a, b *belief) int { return cmp.Compare(a.token, b.token) })
		last := time.Time{}
		for _, got := range beliefs {
			require.False(t, tickets[got.token].passedAt.Before(last))
			last = tickets[got.token].passedAt
		}
	})
}

// Fleet test 18.
func TestOrder_aCrowdDelaysOthersBy100Tickets(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bench) {
		b.set(faults{delay: time.Millisecond})
		crowd, lone := b.resource(8), b.resource(8)
		ctx, cancel := context.WithCancel(context.Background())
		var wg sync.WaitGroup
		for range 5000 { // the race detector allows 8,128 goroutines
			wg.Go(func() { _, _ = hold(ctx, crowd, 1, 2*time.Millisecond) })
		}
		time.Sleep(100 * time.Millisecond)
		got, err := hold(context.Background(), lone, 1, 0)
		cancel()
		wg.Wait()
		require.NoError(t, err)
		ticket := b.judge([]*belief{got})[got.token]
		require.LessOrEqual(t, ticket.ahead, 100+8)
		require.Greater(t, ticket.ahead, 50)
	})
}

// Fleet test 19.
func TestOrder_growAdmitsAsManyAsFit(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bench) {
		r, other := b.resource(1), b.resource(1)
		require.NoError(t, r.Resize(context.Background(), 3))
		p := b.acquire(r, 3)
		var waiting []<-chan pending
		for _, n := range []int64{1, 2, 3, 1} {
			waiting = append(waiting, b.start(context.Background(), other, n))
			synctest.Wait()
		}
		require.NoError(t, r.Resize(context.Background(), 7))
		synctest.Wait()
		first, second := b.await(waiting[0]), b.await(waiting[1])
		require.Greater(t, second.Token(), first.Token())
		require.Empty(t, waiting[2])
		require.Empty(t, waiting[3])
		first.Release()
		second.Release()
		third, fourth := b.await(waiting[2]), b.await(waiting[3])
		p.Release()
		third.Release()
		fourth.Release()
	})
}

// Fleet test 21: ErrTooLarge is returned at once, even behind many calls.
func TestResource_ErrTooLargeBehindACrowd(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bench) {
		ctx, cancel := context.WithCancel(context.Background())
		r := b.resource(2)
		p := b.acquire(r, 2)
		for range 150 {
			_ = b.start(ctx, r, 1)
		}
		synctest.Wait()
		start := time.Now()
		_, err := r.AcquireN(context.Background(), 3)
		require.Equal(t, condvar.ErrTooLarge, err)
		require.Zero(t, time.Since(start))
		cancel()
		p.Release()
	})
}

// Fleet test 1.
func TestResource_sumsDoNotOverflow(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bench) {
		ctx := context.Background()
		r, other := b.resource(math.MaxInt64), b.resource(1)
		p := b.acquire(r, math.MaxInt64)
		waiting := []<-chan pending{b.start(ctx, other, math.MaxInt64)}
		synctest.Wait()
		waiting = append(waiting, b.start(ctx, other, math.MaxInt64))
		synctest.Wait()
		require.Equal(t, int64(math.MaxInt64), other.Stats().WaitingN)
		_, err := other.TryAcquire(ctx)
		require.Equal(t, etcdcondvar.ErrFull, err)
		_, err = r.TryAcquire(ctx)
		require.Equal(t, etcdcondvar.ErrFull, err)
		fleet, err := r.Fleet(ctx)
		require.NoError(t, err)
		require.Equal(t, int64(math.MaxInt64), fleet.InUse)
		require.Equal(t, int64(math.MaxInt64), fleet.WaitingN)
		p.Release()
		p = b.await(waiting[0])
		synctest.Wait()
		require.Empty(t, waiting[1])
		p.Release()
		b.await(waiting[1]).Release()
	})
}

// The calls of a process keep their order when its lease is lost, whether they
// were in line, under way or queued.
func TestOrder_ofAProcessSurvivesALoss(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bench) {
		ctx := context.Background()
		other, r := b.resource(1), b.resource(1)
		p := b.acquire(other, 1)
		var mu sync.Mutex
		var order []int
		var wg sync.WaitGroup
		for i := range 8 {
			if i == 4 { // the fifth call is answered after the loss
				b.then("put", step{before: func() {
					b.cut(b.links[r], 6*time.Second)
				}})
			}
			wg.Go(func() {
				p, err := r.Acquire(ctx)
				if err != nil {
					t.Error(err)
					return
				}
				mu.Lock()
				order = append(order, i)
				mu.Unlock()
				p.Release()
			})
			synctest.Wait()
		}
		time.Sleep(time.Minute)
		require.NoError(t, p.Err())
		p.Release()
		wg.Wait()
		require.Equal(t, []int{0, 1, 2, 3, 4, 5, 6, 7}, order)
	})
}

// Calls whose tickets are deleted by hand, all at once, keep their order.
func TestOrder_ofAProcessSurvivesADeletionByHand(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bench) {
		ctx := context.Background()
		other, r := b.resource(1), b.resource(1)
		p := b.acquire(other, 1)
		var order []int
		var wg sync.WaitGroup
		for i := range 5 {
			wg.Go(func() {
				p := b.acquire(r, 1)
				order = append(order, i)
				p.Release()
			})
			synctest.Wait()
		}
		fleet, err := r.Fleet(ctx)
		require.NoError(t, err)
		client, _ := b.client()
		prefix := etcdcondvar.KeysOf("r") + "p/1/2-" // of the second lease
		_, err = client.KV.Txn(ctx).Then(clientv3.OpDelete(prefix, clientv3.WithPrefix())).Commit()
		require.NoError(t, err)
		require.Equal(t, int64(5), fleet.Waiting)
		synctest.Wait()
		p.Release()
		wg.Wait()
		require.Equal(t, []int{0, 1, 2, 3, 4}, order)
	})
}

// A call does not fail because of an answer to a request before the call.
func TestResource_ErrTooLargeIsNotOlderThanTheCall(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bench) {
		ctx := context.Background()
		r, other := b.resource(2), b.resource(2)
		b.acquire(r, 1).Release() // r knows the capacity, and does not watch it
		b.set(faults{answer: 50 * time.Millisecond})
		early := b.start(ctx, r, 3)
		time.Sleep(10 * time.Millisecond) // the answer with capacity 2 is under way
		b.set(faults{})
		require.NoError(t, other.Resize(ctx, 3))
		late := b.start(ctx, r, 3)
		require.Equal(t, condvar.ErrTooLarge, (<-early).err)
		b.await(late).Release()
	})
}

// A call does not fail because of an event before the call.
func TestResource_ErrTooLargeIsNotFromALateEvent(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bench) {
		ctx := context.Background()
		r, other := b.resource(3), b.resource(3)
		p := b.acquire(other, 3)
		waiting := b.start(ctx, r, 1) // starts the watch of r
		time.Sleep(time.Second)
		b.then("put", step{before: func() { time.Sleep(time.Second) }})
		sending := b.start(ctx, r, 1) // later calls are queued
		synctest.Wait()
		b.cut(b.links[r], 500*time.Millisecond)
		require.NoError(t, other.Resize(ctx, 2))
		time.Sleep(100 * time.Millisecond)
		require.NoError(t, other.Resize(ctx, 3))
		late := b.start(ctx, r, 3)
		time.Sleep(2 * time.Second)
		p.Release()
		b.await(waiting).Release()
		b.await(sending).Release()
		b.await(late).Release()
	})
}

// Two calls share a transaction, and there is room for the first of them only.
func TestOrder_ofCallsThatShareATransaction(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bench) {
		r := b.resource(2)
		b.acquire(r, 1).Release()
		b.set(faults{answer: time.Millisecond})
		first := b.start(context.Background(), r, 1) // the others queue while it is under way
		synctest.Wait()
		puts := b.requests("put")
		second, third := b.start(context.Background(), r, 1), b.start(context.Background(), r, 1)
		p := b.await(first)
		q := <-either(second, third)
		require.NoError(t, q.err)
		require.Equal(t, puts+1, b.requests("put"))
		time.Sleep(time.Second)
		require.EqualValues(t, 2, r.Stats().InUse)
		p.Release()
		q.p.Release()
		b.await(either(second, third)).Release()
	})
}

// either returns a channel with the next result of a or b.
func either(a, b <-chan pending) <-chan pending {
	out := make(chan pending, 1)
	go func() {
		select {
		case got := <-a:
			out <- got
		case got := <-b:
			out <- got
		}
	}()
	return out
}
