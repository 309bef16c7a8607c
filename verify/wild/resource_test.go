package wild

import (
	"context"
	"errors"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"example.com/condvar"
)

// A looksOutside reads the amount in flight without the lock, and waits with
// it.
type looksOutside struct {
	limit, inFlight int
	released        *sync.Cond
	between         func() // is called between the check and the wait
}

func (s *looksOutside) acquire() {
	for full := s.inFlight >= s.limit; full; full = s.inFlight >= s.limit {
		s.between()
		s.released.L.Lock()
		s.released.Wait()
		s.released.L.Unlock()
	}
	s.between()
	s.inFlight++
}

func (s *looksOutside) release() {
	s.inFlight--
	s.released.Broadcast()
}

// A release between the check and the wait is lost, and two calls that both
// check before they count are both admitted.
func TestSeaweedFS_ALookOutsideTheLock(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		lost := &looksOutside{limit: 1, inFlight: 1, released: sync.NewCond(newChanLock())}
		once := true
		lost.between = func() {
			if once {
				once = false
				lost.release()
			}
		}
		waits := start(func() error { lost.acquire(); return nil })
		waits.requireWaits(t) // although nothing is in flight
		lost.released.Broadcast()
		waits.requireReturned(t, nil)

		over := &looksOutside{limit: 1, released: sync.NewCond(newChanLock())}
		nested := true
		over.between = func() {
			if nested {
				nested = false
				over.acquire()
			}
		}
		over.acquire()
		require.Equal(t, 2, over.inFlight, "of 1")
	})
	r := condvar.NewCapacityResource(1)
	var most, inside int
	var calls sync.WaitGroup
	for range 8 {
		calls.Go(func() {
			for range 100 {
				_ = r.Do(t.Context(), func(context.Context) error {
					inside++
					most = max(most, inside)
					inside--
					return nil
				})
			}
		})
	}
	calls.Wait()
	require.Equal(t, 1, most)
	require.Zero(t, r.Stats().InUse)
}

var errQueueFull = errors.New("the queue is full")

// A breaker limits the number of concurrent requests, and the number of waiting
// ones. The limit of concurrent requests may change. The type has all that the
// queue-proxy of Knative needs. Without condvar, with a semaphore in one packed
// word, it takes about 180 lines.
type breaker struct {
	slots *condvar.CapacityResource
}

func newBreaker(queueDepth int, concurrency, maxConcurrency int64) *breaker {
	b := &breaker{condvar.NewCapacityResource(maxConcurrency, condvar.MaxWaiting(queueDepth))}
	b.update(concurrency)
	return b
}

// maybe runs thunk if it gets a slot before ctx ends.
func (b *breaker) maybe(ctx context.Context, thunk func()) error {
	err := b.slots.Do(ctx, func(context.Context) error { thunk(); return nil })
	if errors.Is(err, condvar.ErrOverloaded) {
		return errQueueFull
	}
	return err
}

// reserve takes a slot if one is free. It returns a function that frees it.
func (b *breaker) reserve() (free func(), ok bool) {
	p, ok := b.slots.TryAcquirePermit(1)
	return p.Release, ok
}

func (b *breaker) update(concurrency int64) { b.slots.Resize(concurrency) }
func (b *breaker) capacity() int64          { return b.slots.Stats().Capacity }
func (b *breaker) inFlight() int64          { return b.slots.Stats().InUse }
func (b *breaker) pending() int64           { return b.slots.Stats().Waiting }

func TestKnative_ABreakerWithAQueueAndAConcurrencyThatChanges(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBreaker(2, 0, 10)
		require.Zero(t, b.capacity())
		finish := make(chan struct{})
		request := func() error { return b.maybe(t.Context(), func() { <-finish }) }
		first, second := start(request), start(request)
		require.ErrorIs(t, request(), errQueueFull)
		_, ok := b.reserve()
		require.False(t, ok)

		b.update(1)
		synctest.Wait()
		require.EqualValues(t, 1, b.inFlight())
		require.EqualValues(t, 1, b.pending())
		b.update(2)
		synctest.Wait()
		require.EqualValues(t, 2, b.inFlight())
		b.update(1) // revokes nothing
		third := start(request)
		finish <- struct{}{}
		third.requireWaits(t)
		finish <- struct{}{}
		first.requireReturned(t, nil)
		second.requireReturned(t, nil)
		finish <- struct{}{}
		third.requireReturned(t, nil)

		free, ok := b.reserve()
		require.True(t, ok)
		free()
		free()
		require.Zero(t, b.inFlight())
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		b.update(0)
		require.ErrorIs(t, b.maybe(ctx, func() {}), context.DeadlineExceeded)
	})
}

// A semaphore is a channel of tokens. Closing it closes the channel, so every
// receive succeeds then.
func TestGoRedis_AClosedSemaphoreGrantsToEverybody(t *testing.T) {
	tokens := make(chan struct{}, 1)
	tokens <- struct{}{}
	acquire := func() bool {
		select {
		case <-tokens:
			return true
		default:
			return false
		}
	}
	require.True(t, acquire())
	require.False(t, acquire())
	close(tokens)
	for range 3 {
		require.True(t, acquire(), "of one token")
	}

	r := condvar.NewCapacityResource(1)
	require.True(t, r.TryAcquire())
	require.NoError(t, r.Close())
	for range 3 {
		require.ErrorIs(t, r.Acquire(t.Context()), condvar.ErrClosed)
		require.False(t, r.TryAcquire())
	}
	r.Release()
	require.False(t, r.TryAcquire())
}

// A queue that counts bytes wakes one waiter when an element leaves. The
// element had 10 bytes, two waiters need 5 each, and one of them keeps
// sleeping.
func TestOpenTelemetryCollector_OfTwoThatFitOneIsWoken(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		used := 10
		room := sync.NewCond(newChanLock())
		put := func() error {
			room.L.Lock()
			defer room.L.Unlock()
			for used+5 > 10 {
				room.Wait()
			}
			used += 5
			return nil
		}
		first, second := start(put), start(put)
		room.L.Lock()
		used -= 10
		room.L.Unlock()
		room.Signal()
		first.requireReturned(t, nil)
		second.requireWaits(t) // although there is room for it

		room.Signal() // ends the wait for the test
		second.requireReturned(t, nil)
	})
	synctest.Test(t, func(t *testing.T) {
		bytes := condvar.NewCapacityResource(10)
		require.True(t, bytes.TryAcquireN(10))
		put := func() error { return bytes.AcquireN(t.Context(), 5) }
		first, second := start(put), start(put)
		bytes.ReleaseN(10)
		first.requireReturned(t, nil)
		second.requireReturned(t, nil)
	})
}

// A pool hands a connection to the first waiter in its list, even if its
// context has ended. If that waiter has left, the connection is lost.
func TestVitess20310_NothingIsGrantedToTheDead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		type waiter chan int
		var list []waiter
		l := newChanLock()
		get := func(ctx context.Context) error {
			w := make(waiter, 1)
			l.Lock()
			list = append(list, w)
			l.Unlock()
			select {
			case <-w:
				return nil
			case <-ctx.Done():
				return ctx.Err() // it is removed from the list later
			}
		}
		put := func(connection int) {
			l.Lock()
			defer l.Unlock()
			list[0] <- connection
			list = list[1:]
		}
		ctx, cancel := context.WithCancel(t.Context())
		dead := start(func() error { return get(ctx) })
		live := start(func() error { return get(t.Context()) })
		cancel()
		dead.requireReturned(t, context.Canceled)
		put(1)
		live.requireWaits(t) // the connection is lost

		put(2) // ends the wait for the test
		live.requireReturned(t, nil)
	})
	synctest.Test(t, func(t *testing.T) {
		pool := condvar.NewCapacityResource(1, condvar.FIFO())
		require.True(t, pool.TryAcquire())
		ctx, cancel := context.WithCancel(t.Context())
		dead := start(func() error { return pool.Acquire(ctx) })
		live := start(func() error { return pool.Acquire(t.Context()) })
		cancel()
		pool.Release() // before the dead one has run
		dead.requireReturned(t, context.Canceled)
		live.requireReturned(t, nil)
		require.EqualValues(t, 1, pool.Stats().InUse)
	})
}
