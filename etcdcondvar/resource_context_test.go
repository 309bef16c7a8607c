package etcdcondvar_test

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"

	"example.com/condvar/etcdcondvar"
)

// Fleet test 9: a context ends in each state of its call.
func TestContext_endsInEachState(t *testing.T) {
	cause := errors.New("cause")
	for name, prepare := range map[string]func(b *bench, r *etcdcondvar.Resource){
		"opening a session": func(b *bench, _ *etcdcondvar.Resource) { b.set(faults{loseRequest: 100}) },
		"in the line of the process": func(b *bench, r *etcdcondvar.Resource) {
			time.AfterFunc(time.Minute, b.acquire(r, 1).Release)
			for range 101 {
				_ = b.start(context.Background(), r, 1)
			}
		},
		"under way": func(b *bench, r *etcdcondvar.Resource) {
			b.acquire(r, 1).Release()
			b.then("put", step{before: func() { time.Sleep(time.Second) }})
		},
		"in line": func(b *bench, _ *etcdcondvar.Resource) {
			p := b.acquire(b.resource(1), 1)
			time.AfterFunc(time.Minute, p.Release)
		},
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(t *testing.T, b *bench) {
				r := b.resource(1)
				prepare(b, r)
				synctest.Wait()
				ctx, cancel := context.WithCancelCause(context.Background())
				done := b.start(ctx, r, 1)
				time.Sleep(500 * time.Millisecond)
				if name == "in the line of the process" { // a holder and 100 others are ahead
					require.Empty(t, done)
				}
				cancel(cause)
				synctest.Wait()
				require.Len(t, done, 1)
				err := (<-done).err
				require.ErrorIs(t, err, context.Canceled)
				require.ErrorIs(t, err, cause)
				b.set(faults{})
				_ = r.Close() // ends the calls that are still in line
				time.Sleep(2 * time.Minute)
				require.LessOrEqual(t, b.tickets(), 1)
			})
		})
	}
}

// Fleet test 9: if a grant races with a cancellation, one takes effect.
func TestContext_endsAtTheGrant(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bench) {
		r, other := b.resource(1), b.resource(1)
		won := 0
		for range 500 {
			p := b.acquire(r, 1)
			ctx, cancel := context.WithCancel(context.Background())
			done := b.start(ctx, other, 1)
			synctest.Wait()
			go cancel()
			p.Release()
			if got := <-done; got.err == nil {
				won++
				got.p.Release()
			} else {
				require.ErrorIs(t, got.err, context.Canceled)
			}
			synctest.Wait()
			require.Zero(t, b.tickets())
		}
		stats := other.Stats()
		require.Equal(t, int64(500), stats.WaitCount)
		require.Equal(t, int64(500-won), stats.Canceled)
		require.Zero(t, stats.InUse)
	})
}

// Fleet test 9: the error matches the last error of etcd.
func TestContext_errorMatchesTheEtcdError(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bench) {
		b.setNoSpace(true)
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		r := b.resource(1)
		_, err := r.Acquire(ctx)
		require.ErrorIs(t, err, context.DeadlineExceeded)
		require.ErrorIs(t, err, rpctypes.ErrNoSpace)
		for range 100 {
			b.then("range", step{err: rpctypes.ErrNoLeader})
		}
		ctx, cancel = context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		_, err = r.Fleet(ctx)
		require.ErrorIs(t, err, context.DeadlineExceeded)
		require.ErrorIs(t, err, rpctypes.ErrNoLeader)
		b.mu.Lock()
		b.noSpace = false
		b.script["range"] = nil
		b.mu.Unlock()
	})
}

// Some requests succeed without space. They do not hide the error of others.
func TestContext_errorMatchesTheEtcdErrorIfOtherRequestsSucceed(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bench) {
		r := b.resource(1)
		b.acquire(r, 1).Release()
		b.set(faults{answer: 10 * time.Millisecond})
		b.setNoSpace(true)
		var wg sync.WaitGroup
		var without atomic.Int64
		for i := range 200 { // until after a renewal
			wg.Go(func() {
				ctx, cancel := context.WithTimeout(context.Background(), time.Duration(15+7*i)*time.Millisecond)
				defer cancel()
				_, err := r.Acquire(ctx)
				if !errors.Is(err, rpctypes.ErrNoSpace) {
					without.Add(1)
				}
			})
		}
		wg.Wait()
		b.setNoSpace(false)
		require.Zero(t, without.Load(), "errors that do not match ErrNoSpace, of 200")
	})
}

// A call in line waits for the watch, not for a transaction.
func TestContext_errorOfACallInLineMatchesTheEtcdError(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bench) {
		p := b.acquire(b.resource(1), 1)
		ctx, cancel := context.WithCancel(context.Background())
		r := b.resource(1)
		done := b.start(ctx, r, 1)
		synctest.Wait()
		for range 100 {
			b.then("renew", step{err: rpctypes.ErrNoLeader})
		}
		time.Sleep(ttl / 2)
		cancel()
		err := (<-done).err
		require.ErrorIs(t, err, context.Canceled)
		require.ErrorIs(t, err, rpctypes.ErrNoLeader)
		b.mu.Lock()
		b.script["renew"] = nil
		b.refuseWatch = rpctypes.ErrGRPCNoLeader.Error()
		b.mu.Unlock()
		ctx, cancel = context.WithCancel(context.Background())
		done = b.start(ctx, b.resource(1), 1)
		synctest.Wait()
		cancel()
		err = (<-done).err
		require.ErrorIs(t, err, context.Canceled)
		require.ErrorContains(t, err, "no leader")
		b.mu.Lock()
		b.refuseWatch = ""
		b.mu.Unlock()
		p.Release()
	})
}

// The error of a call does not match the error of a request before the call.
func TestContext_errorDoesNotMatchAnOldEtcdError(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bench) {
		r := b.resource(1)
		b.acquire(r, 1).Release()
		b.setNoSpace(true)
		for _, want := range []bool{true, false} {
			ctx, cancel := context.WithTimeout(context.Background(), 100*time.Millisecond)
			_, err := r.Acquire(ctx)
			cancel()
			require.ErrorIs(t, err, context.DeadlineExceeded)
			require.Equal(t, want, errors.Is(err, rpctypes.ErrNoSpace))
			time.Sleep(time.Second) // the sender checks again, and no call waits
			b.setNoSpace(false)
			b.then("put", step{before: func() { time.Sleep(time.Second) }})
		}
	})
}

// That there is no answer is no error of the context of the call, and hides no
// answer before it.
func TestContext_errorOfACallThatGetsNoAnswer(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bench) {
		r := b.resource(1)
		canceled := func() error {
			ctx, cancel := context.WithCancel(context.Background())
			defer cancel()
			done := b.start(ctx, r, 1)
			time.Sleep(ttl)
			cancel()
			err := (<-done).err
			require.ErrorIs(t, err, context.Canceled)
			require.NotErrorIs(t, err, context.DeadlineExceeded)
			return err
		}
		b.set(faults{loseRequest: 100})
		require.ErrorContains(t, canceled(), "no answer")
		b.set(faults{})
		b.acquire(r, 1).Release()
		b.then("put", step{
			before: func() { b.set(faults{loseRequest: 100}) },
			err:    rpctypes.ErrNoSpace,
		})
		require.ErrorIs(t, canceled(), rpctypes.ErrNoSpace)
		b.set(faults{})
	})
}
