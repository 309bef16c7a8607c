package load

import (
	"context"
	"sync"

	"golang.org/x/sync/semaphore"

	"example.com/condvar"
	"example.com/condvar/keyed"
)

// rejected calls Acquire on a full resource that lets no call wait.
func rejected(opts ...condvar.Option) Body {
	return func(t Timer, n int) Extra {
		ctx, cancel := newContext(true)
		defer cancel()
		r := condvar.NewCapacityResource(1, append(opts, condvar.MaxWaiting(0))...)
		must(r.Acquire(ctx))
		t.StartTimer()
		for range n {
			if r.Acquire(ctx) == nil {
				panic("there is no permit")
			}
		}
		t.StopTimer()
		return nil
	}
}

// permits acquires and releases a Permit.
func permits(t Timer, n int) Extra {
	ctx, cancel := newContext(true)
	defer cancel()
	r := condvar.NewCapacityResource(1)
	t.StartTimer()
	for range n {
		p, err := r.AcquirePermit(ctx, 1)
		must(err)
		p.Release()
	}
	t.StopTimer()
	return nil
}

// A keyLimiter limits each key.
type keyLimiter interface {
	Acquire(ctx context.Context, key int) error
	Release(key int)
}

func ourKeys() keyLimiter { return keyed.New[int](4) }

// handMade is the code without package keyed: a map of semaphores. Each is
// deleted when no call and no holder uses it.
type handMade struct {
	mu      sync.Mutex
	entries map[int]*handMadeEntry
}

type handMadeEntry struct {
	sem  *semaphore.Weighted
	refs int // calls and holders
}

func handMadeKeys() keyLimiter { return &handMade{entries: map[int]*handMadeEntry{}} }

func (h *handMade) Acquire(ctx context.Context, key int) error {
	h.mu.Lock()
	e := h.entries[key]
	if e == nil {
		e = &handMadeEntry{sem: semaphore.NewWeighted(4)}
		h.entries[key] = e
	}
	e.refs++
	h.mu.Unlock()
	err := e.sem.Acquire(ctx, 1)
	if err != nil {
		h.mu.Lock()
		h.leaveLocked(key, e)
		h.mu.Unlock()
	}
	return err
}

func (h *handMade) Release(key int) {
	h.mu.Lock()
	defer h.mu.Unlock()
	e := h.entries[key]
	e.sem.Release(1)
	h.leaveLocked(key, e)
}

func (h *handMade) leaveLocked(key int, e *handMadeEntry) {
	if e.refs--; e.refs == 0 {
		delete(h.entries, key)
	}
}

// perKey runs goroutines that acquire and release one permit of a key, out of
// the given number of keys, in an order that looks random.
func perKey(goroutines, keys int, build func() keyLimiter) Body {
	return func(t Timer, n int) Extra {
		ctx, cancel := newContext(true)
		defer cancel()
		l := build()
		var wg sync.WaitGroup
		begin := make(chan struct{})
		for g := range goroutines {
			wg.Go(func() {
				<-begin
				for i := n * g / goroutines; i < n*(g+1)/goroutines; i++ {
					key := int(uint32(i) * 2654435761 % uint32(keys))
					must(l.Acquire(ctx, key))
					l.Release(key)
				}
			})
		}
		settle()
		t.StartTimer()
		close(begin)
		wg.Wait()
		t.StopTimer()
		return nil
	}
}
