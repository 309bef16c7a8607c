package load

import (
	"context"
	"math/rand/v2"
	"reflect"
	"sync"
	"sync/atomic"
	"time"
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

// canceled ends the contexts of a crowd in line. Each waiter has its own. They
// do not end in the order of the line. An operation is a crowd.
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

// storm ends the context that a crowd in line shares. An operation is a crowd.
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
// of a waiter, its goroutine included. build makes a line, and returns
// functions that wait in it and that end all waits. An operation is a crowd.
func crowd(waiters int, build func() (wait waitFunc, release func())) Body {
	return func(t Timer, n int) Extra {
		var bytes float64
		for range n {
			// First a crowd without a line, for the memory the runtime keeps.
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

// crowdOnChannel is the floor: only goroutines and one channel.
func crowdOnChannel(waiters int) Body {
	return crowd(waiters, func() (waitFunc, func()) {
		gate := make(chan struct{})
		return func(context.Context) { <-gate }, func() { close(gate) }
	})
}

// A locked is something with an internal lock and a line.
type locked struct {
	lock    *sync.Mutex
	wait    waitFunc
	release func() // ends all waits
	look    func() // takes lock briefly
}

// lockHeld measures how long release holds the internal lock, with a crowd in
// line. Its waits are these times. An operation is a crowd.
func lockHeld(waiters int, build func() locked) Body {
	return func(t Timer, n int) Extra {
		times := make([]time.Duration, n)
		for i := range times {
			l := build()
			wg := gather(waiters, func() { l.wait(context.Background()) })
			t.StartTimer()
			times[i] = timeHeld(l.lock, l.release, l.look)
			wg.Wait()
			t.StopTimer()
		}
		return percentiles(times)
	}
}

// timeHeld calls f, which locks and unlocks lock, and next, which waits for
// lock meanwhile. It returns the time from when f may have lock until next has
// it. lock is in starvation mode: Unlock hands it to the goroutine that has
// waited longest, which runs at once in place of the caller. So the time
// includes two switches between goroutines, but no time in the run queue.
func timeHeld(lock *sync.Mutex, f, next func()) time.Duration {
	const starving = 2 * time.Millisecond // a Mutex takes 1 ms
	var wg sync.WaitGroup
	var start, end time.Time
	lock.Lock()
	for { // until a goroutine has waited too long and finds lock locked again
		var overtaken atomic.Bool
		wg.Go(func() {
			lock.Lock()
			overtaken.Store(true)
			start = time.Now()
			lock.Unlock()
		})
		settle()
		time.Sleep(starving)
		lock.Unlock()
		lock.Lock()
		settle()
		if !overtaken.Load() {
			break
		}
	}
	wg.Go(f)
	settle() // f is the second to wait
	wg.Go(func() {
		next()
		end = time.Now()
	})
	settle()
	time.Sleep(starving)
	lock.Unlock()
	wg.Wait()
	return end.Sub(start)
}

// lockOf returns the unexported mutex of the struct that v points to. path has
// the names of the fields that lead to it.
func lockOf(v any, path ...string) *sync.Mutex {
	field := reflect.ValueOf(v).Elem()
	for _, name := range path {
		field = field.FieldByName(name)
	}
	if field.Type() != reflect.TypeFor[sync.Mutex]() {
		panic("the lock is no sync.Mutex")
	}
	return (*sync.Mutex)(field.Addr().UnsafePointer())
}
