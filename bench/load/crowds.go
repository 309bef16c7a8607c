package load

import (
	"context"
	"math/rand/v2"
	"sync"
)

// A waitFunc waits for its turn until ctx ends.
type waitFunc func(ctx context.Context)

// gather starts a crowd of goroutines, and returns when all of them are parked.
func gather(waiters int, wait func()) *sync.WaitGroup {
	var wg sync.WaitGroup
	for range waiters {
		wg.Go(wait)
	}
	settle()
	return &wg
}

// canceled ends the contexts of a crowd in line, each its own, not in the order
// in which they came. An operation is a crowd.
func canceled(t Timer, n, waiters int, wait waitFunc) Extra {
	order := rand.New(rand.NewPCG(1, 2)).Perm(waiters)
	cancels := make([]context.CancelFunc, waiters)
	for range n {
		var wg sync.WaitGroup
		for _, i := range order {
			var ctx context.Context
			ctx, cancels[i] = context.WithCancel(context.Background())
			wg.Go(func() { wait(ctx) })
		}
		settle()
		t.StartTimer()
		for _, cancel := range cancels {
			cancel()
		}
		wg.Wait()
		t.StopTimer()
	}
	return perWaiter(t, n, waiters)
}

// storm ends the one context of a crowd in line. An operation is a crowd.
func storm(t Timer, n, waiters int, wait waitFunc) Extra {
	for range n {
		ctx, cancel := context.WithCancel(context.Background())
		wg := gather(waiters, func() { wait(ctx) })
		t.StartTimer()
		cancel()
		wg.Wait()
		t.StopTimer()
	}
	return perWaiter(t, n, waiters)
}

// crowd measures the time to get a crowd in line and out of it, and the memory
// that a waiter takes, its goroutine included. build makes a line, and returns
// how to wait in it and how to let all go. An operation is a crowd.
func crowd(waiters int, build func() (wait waitFunc, release func())) Body {
	return func(t Timer, n int) Extra {
		var bytes float64
		for range n {
			// One without us first, for what the runtime keeps once it has it.
			gate := make(chan struct{})
			first := gather(waiters, func() { <-gate })
			close(gate)
			first.Wait()

			wait, release := build()
			before := memory()
			t.StartTimer()
			wg := gather(waiters, func() { wait(context.Background()) })
			t.StopTimer()
			bytes = memory() - before
			t.StartTimer()
			release()
			wg.Wait()
			t.StopTimer()
		}
		e := perWaiter(t, n, waiters)
		e[Memory] = bytes / float64(waiters)
		return e
	}
}

// crowdOnCond is crowd in the line of a cond.
func crowdOnCond(waiters int, build newCond) Body {
	return crowd(waiters, func() (waitFunc, func()) {
		var mu sync.Mutex
		c := build(&mu)
		return waitOn(&mu, c), c.Broadcast
	})
}

// crowdOnChannel is the floor: nothing but goroutines and one channel.
func crowdOnChannel(waiters int) Body {
	return crowd(waiters, func() (waitFunc, func()) {
		gate := make(chan struct{})
		return func(context.Context) { <-gate }, func() { close(gate) }
	})
}
