package etcdcondvar_test

import (
	"context"
	"fmt"
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

func txn(b *bench, guard clientv3.Cmp) (*clientv3.TxnResponse, error) {
	client, _ := b.client()
	return client.Txn(context.Background()).If(guard).Commit()
}

func TestPermit_GuardHoldsWhileHeld(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bench) {
		for _, n := range []int64{1, 2} {
			p := b.acquire(b.resource(2), n)
			resp, err := txn(b, p.Guard())
			require.NoError(t, err)
			require.True(t, resp.Succeeded)
			p.Release()
			resp, err = txn(b, p.Guard())
			require.NoError(t, err)
			require.False(t, resp.Succeeded)
		}
	})
}

func TestPermit_Context(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bench) {
		r := b.resource(1)
		p := b.acquire(r, 1)
		type key struct{}
		parent, cancel := context.WithTimeout(context.WithValue(context.Background(), key{}, 1), time.Hour)
		ctx := p.Context(parent)
		require.Equal(t, 1, ctx.Value(key{}))
		deadline, ok := ctx.Deadline()
		require.True(t, ok)
		require.Equal(t, time.Now().Add(time.Hour), deadline)
		synctest.Wait()
		before := inThisBubble()
		for range 1000 {
			child, stop := context.WithCancel(p.Context(parent))
			defer stop()
			require.NoError(t, child.Err())
		}
		require.LessOrEqual(t, inThisBubble(), before)
		cancel()
		require.Equal(t, context.Canceled, ctx.Err())
		ctx = p.Context(context.Background())
		p.Release()
		require.Equal(t, context.Canceled, ctx.Err())
		require.Equal(t, context.Canceled, p.Context(context.Background()).Err())
		require.NoError(t, p.Err())
	})
}

func TestPermit_isLostAMarginBeforeTheLeaseEnds(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bench) {
		r := b.resource(1)
		start := time.Now()
		p := b.acquire(r, 1)
		b.set(faults{answer: 300 * time.Millisecond}) // the lease starts at the request
		time.Sleep(3 * time.Second)
		b.cut(b.links[r], 20*time.Second)
		<-p.Context(context.Background()).Done()
		// The last renewal that was answered was sent at 3*TTL/5, and answered
		// later.
		require.Equal(t, 3*ttl/5+ttl-etcdcondvar.Margin(ttl), time.Since(start))
		p.Release()
	})
}

func TestPermit_ReleaseReturnsWhenEtcdIsSilent(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bench) {
		r := b.resource(1)
		p := b.acquire(r, 1)
		b.set(faults{loseRequest: 100})
		start := time.Now()
		var wg sync.WaitGroup
		for range 5 {
			wg.Go(p.Release)
		}
		wg.Wait()
		require.Equal(t, time.Second, time.Since(start))
		require.Zero(t, r.Stats().InUse)
	})
}

// Fleet test 5.
func TestRelease_inEachState(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bench) {
		var none *etcdcondvar.Permit
		none.Release()
		r := b.resource(3)
		p, q, last := b.acquire(r, 1), b.acquire(r, 1), b.acquire(r, 1)
		p.Release()
		p.Release()
		require.NoError(t, p.Err())
		require.Equal(t, int64(2), r.Stats().InUse)
		require.NoError(t, r.Close())
		q.Release()
		require.NoError(t, q.Err())
		require.Equal(t, 1, b.tickets())
		b.set(faults{loseRequest: 100})
		<-last.Context(context.Background()).Done()
		start := time.Now()
		last.Release()
		require.Zero(t, time.Since(start), "the session is over")
		require.Equal(t, etcdcondvar.ErrLost, last.Err())
	})
	inBubble(t, func(t *testing.T, b *bench) { // Release waits until the session ends
		p := b.acquire(b.resource(1), 1)
		b.set(faults{loseRequest: 100})
		time.Sleep(ttl - etcdcondvar.Margin(ttl) - time.Second/2)
		start := time.Now()
		p.Release()
		require.Equal(t, time.Second/2, time.Since(start))
		require.NoError(t, p.Err())
	})
}

// Fleet test 6: a TryAcquire after a Release finds the permit free.
func TestRelease_isSeenByOthers(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bench) {
		b.set(faults{delay: 5 * time.Millisecond})
		resources := []*etcdcondvar.Resource{b.resource(1), b.resource(1)}
		p := b.acquire(resources[0], 1)
		for i := range 1000 {
			p.Release()
			var err error
			p, err = resources[(i+1)%2].TryAcquire(context.Background())
			require.NoError(t, err, "round %d", i)
		}
		p.Release()
	})
}

// A stoppable is a context whose stop functions call stopped first.
type stoppable struct {
	context.Context
	stopped func()
}

func (c *stoppable) Done() <-chan struct{} { return c.Context.Done() }
func (c *stoppable) Value(any) any         { return nil }

func (c *stoppable) AfterFunc(f func()) func() bool {
	stop := context.AfterFunc(c.Context, f)
	return func() bool { c.stopped(); return stop() }
}

// The contexts of a lost permit are canceled one after another. When Permit.Err
// has returned ErrLost, Err of a context that is not canceled yet is not nil.
func TestPermit_ContextErrAgreesWithErr(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bench) {
		r := b.resource(1)
		p := b.acquire(r, 1)
		ctx, cancel := context.WithCancel(context.Background())
		defer cancel()
		var second context.Context
		var byPermit, byContext error
		p.Context(&stoppable{ctx, func() {
			done := make(chan struct{})
			go func() {
				byPermit, byContext = p.Err(), second.Err()
				close(done)
			}()
			<-done
		}})
		second = p.Context(context.Background())
		b.cut(b.links[r], 20*time.Second)
		time.Sleep(ttl)
		synctest.Wait()
		require.Equal(t, etcdcondvar.ErrLost, byPermit)
		require.Equal(t, context.Canceled, byContext)
		require.Equal(t, etcdcondvar.ErrLost, context.Cause(second))
		p.Release()
	})
}

// If only the answers to renewals are lost, the lease stays valid at the
// server. It is revoked one margin after the loss.
func TestPermit_aLostLeaseIsRevokedAMarginLater(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bench) {
		r, other := b.resource(1), b.resource(1)
		p := b.acquire(r, 1)
		b.then("renew", slices.Repeat([]step{{loseAnswer: true}}, 1000)...)
		next := b.start(context.Background(), other, 1)
		<-p.Context(context.Background()).Done()
		require.Equal(t, etcdcondvar.ErrLost, p.Err())
		lost := time.Now()
		b.mu.Lock()
		b.script["renew"] = nil
		b.mu.Unlock()
		b.await(next).Release()
		require.GreaterOrEqual(t, time.Since(lost), etcdcondvar.Margin(ttl))
		require.Less(t, time.Since(lost), ttl/2)
		p.Release()
	})
}

// finishes fails the test if f does not return. It is not for bubbles: a
// goroutine that waits for a mutex stops their clock.
func finishes(t *testing.T, f func()) {
	t.Helper()
	done := make(chan struct{})
	go func() {
		defer close(done)
		f()
	}()
	select {
	case <-done:
	case <-time.After(5 * time.Second):
		t.Fatal("it hangs")
	}
}

// The context of a Permit locks the mutex of its Resource. It may be the context
// of a call of the same Resource.
func TestPermit_ContextIsThatOfACallOfTheSameResource(t *testing.T) {
	for name, call := range map[string]func(ctx context.Context, r *etcdcondvar.Resource) error{
		"Acquire": func(ctx context.Context, r *etcdcondvar.Resource) error {
			p, err := r.Acquire(ctx)
			p.Release()
			return err
		},
		"TryAcquire": func(ctx context.Context, r *etcdcondvar.Resource) error {
			p, err := r.TryAcquire(ctx)
			p.Release()
			return err
		},
		"Do": func(ctx context.Context, r *etcdcondvar.Resource) error {
			return r.Do(ctx, func(context.Context) error { return nil })
		},
		"Resize": func(ctx context.Context, r *etcdcondvar.Resource) error { return r.Resize(ctx, 3) },
		"Fleet": func(ctx context.Context, r *etcdcondvar.Resource) error {
			_, err := r.Fleet(ctx)
			return err
		},
	} {
		for _, hooks := range []*condvar.Hooks{nil, {WaitStart: func(context.Context, int64) context.Context { return nil }}} {
			ok := t.Run(fmt.Sprint(name, ", hooks: ", hooks != nil), func(t *testing.T) {
				e := newEngine(1)
				defer e.cancel()
				client, _ := e.client()
				r := etcdcondvar.New(client, "r", 2, etcdcondvar.WithTTL(ttl))
				if hooks != nil {
					r = etcdcondvar.New(client, "r", 2, etcdcondvar.WithTTL(ttl), etcdcondvar.WithHooks(hooks))
				}
				p, err := r.Acquire(context.Background())
				require.NoError(t, err)
				ctx := p.Context(context.Background())
				finishes(t, func() { err = call(ctx, r) })
				require.NoError(t, err)
				p.Release()
				require.ErrorIs(t, call(ctx, r), context.Canceled)
				require.NoError(t, r.Drain(context.Background()))
			})
			if !ok {
				return
			}
		}
	}
}

// A call and a Drain wait, each with the context of a Permit of the Resource.
func TestPermit_ContextEndsAWaitOfTheSameResource(t *testing.T) {
	e := newEngine(1)
	defer e.cancel()
	client, _ := e.client()
	r := etcdcondvar.New(client, "r", 1, etcdcondvar.WithTTL(ttl))
	p, err := r.Acquire(context.Background())
	require.NoError(t, err)
	parent, cancel := context.WithCancel(context.Background())
	time.AfterFunc(100*time.Millisecond, cancel)
	finishes(t, func() { _, err = r.Acquire(p.Context(parent)) })
	require.Equal(t, context.Canceled, err)

	parent, cancel = context.WithCancel(context.Background())
	time.AfterFunc(100*time.Millisecond, cancel)
	finishes(t, func() { err = r.Drain(p.Context(parent)) })
	require.ErrorIs(t, err, context.Canceled)
	p.Release()
	require.NoError(t, r.Drain(context.Background()))
}

// Calls of two Resources have contexts of Permits of each other.
func TestPermit_ContextsOfTwoResources(t *testing.T) {
	e := newEngine(1)
	defer e.cancel()
	client, _ := e.client()
	var all []*etcdcondvar.Resource
	var permits []*etcdcondvar.Permit
	for _, name := range []string{"a", "b"} {
		r := etcdcondvar.New(client, name, 2, etcdcondvar.WithTTL(ttl))
		p, err := r.Acquire(context.Background())
		require.NoError(t, err)
		all, permits = append(all, r), append(permits, p)
	}
	finishes(t, func() {
		var calls sync.WaitGroup
		for i, r := range all {
			ctx := permits[1-i].Context(context.Background())
			calls.Go(func() {
				for range 500 {
					p, err := r.TryAcquire(ctx)
					if err != nil {
						t.Error(err)
						return
					}
					p.Release()
				}
			})
		}
		calls.Wait()
	})
	for i, r := range all {
		permits[i].Release()
		require.NoError(t, r.Drain(context.Background()))
	}
}
