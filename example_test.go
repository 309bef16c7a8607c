package condvar_test

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"example.com/condvar"
)

func Example() {
	var mu sync.Mutex
	loaded := condvar.NewCond(&mu)
	config := "" // guarded by mu

	go func() {
		mu.Lock()
		defer mu.Unlock()
		config = "v1"
		loaded.NotifyAll()
	}()

	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	mu.Lock()
	defer mu.Unlock()
	if err := loaded.WaitFor(ctx, func() bool { return config != "" }); err != nil {
		fmt.Println("no configuration:", err)
		return
	}
	fmt.Println("configuration", config) // mu is held: it cannot have changed

	// Output: configuration v1
}

// A Queue is a bounded first-in, first-out queue.
type Queue struct {
	mu       sync.Mutex
	notFull  *condvar.Cond // both with mu as L
	notEmpty *condvar.Cond
	items    []string
	limit    int
}

// NewQueue returns an empty queue that holds up to limit items.
func NewQueue(limit int) *Queue {
	q := &Queue{limit: limit}
	q.notFull, q.notEmpty = condvar.NewCond(&q.mu), condvar.NewCond(&q.mu)
	return q
}

// Put adds item, and waits while the queue is full.
func (q *Queue) Put(ctx context.Context, item string) error {
	q.mu.Lock()
	defer q.mu.Unlock()
	if err := q.notFull.WaitFor(ctx, func() bool { return len(q.items) < q.limit }); err != nil {
		return err
	}
	q.items = append(q.items, item)
	q.notEmpty.Notify()
	return nil
}

// Get removes the oldest item, and waits while the queue is empty.
func (q *Queue) Get(ctx context.Context) (string, error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if err := q.notEmpty.WaitFor(ctx, func() bool { return len(q.items) > 0 }); err != nil {
		return "", err
	}
	item := q.items[0]
	q.items = q.items[1:]
	q.notFull.Notify()
	return item, nil
}

// A bounded queue. It has a Cond for each of its two conditions, so all waiters
// of a Cond wait for the same condition. Then Notify is enough: any one
// consumer can use one item.
func ExampleCond_WaitFor() {
	q := NewQueue(2)
	g, ctx := errgroup.WithContext(context.Background())
	g.Go(func() error {
		for i := range 5 {
			if err := q.Put(ctx, fmt.Sprint("job ", i)); err != nil {
				return fmt.Errorf("put: %w", err)
			}
		}
		return nil
	})
	g.Go(func() error {
		for range 5 {
			job, err := q.Get(ctx)
			if err != nil {
				return fmt.Errorf("get: %w", err)
			}
			fmt.Println(job)
		}
		return nil
	})
	if err := g.Wait(); err != nil {
		fmt.Println(err)
	}

	// Output:
	// job 0
	// job 1
	// job 2
	// job 3
	// job 4
}

// A wait that ends at its deadline. The lock is held then too, so the replies
// received so far can be used.
func ExampleCond_Wait_deadline() {
	var mu sync.Mutex
	changed := condvar.NewCond(&mu)
	replies, quorum := 1, 2 // guarded by mu; the second replica is down

	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Millisecond)
	defer cancel()

	mu.Lock()
	defer mu.Unlock()
	for replies < quorum {
		err := changed.Wait(ctx)
		if errors.Is(err, context.DeadlineExceeded) {
			fmt.Printf("%d of %d replies: %v\n", replies, quorum, err)
			return
		}
		if err != nil {
			fmt.Println(err)
			return
		}
	}
	fmt.Println("quorum")

	// Output: 1 of 2 replies: context deadline exceeded
}

// A wait as one case of a select statement: for a job, or for shutdown.
func ExampleCond_Listen() {
	var mu sync.Mutex
	added := condvar.NewCond(&mu)
	var jobs []string // guarded by mu
	shutdown := make(chan struct{})

	next := func() (job string, ok bool) {
		mu.Lock()
		defer mu.Unlock()
		for len(jobs) == 0 {
			l := added.Listen() // before mu is unlocked: no job can be missed
			mu.Unlock()
			select {
			case <-l.C:
				ok = true
			case <-shutdown:
				ok = false
			}
			l.Stop() // passes on a notification that was not received
			mu.Lock()
			if !ok {
				return "", false
			}
		}
		job, jobs = jobs[0], jobs[1:]
		return job, true
	}

	go func() {
		mu.Lock()
		defer mu.Unlock()
		jobs = append(jobs, "resize image")
		added.Notify()
	}()
	if job, ok := next(); ok {
		fmt.Println(job)
	}
	close(shutdown)
	if _, ok := next(); !ok {
		fmt.Println("shut down")
	}

	// Output:
	// resize image
	// shut down
}

// Followers of a log wait on one Cond, each for its own index. Notify would
// wake only the one that has waited longest, even if its index has not been
// reached. NotifyAll lets each of them check.
func ExampleCond_NotifyAll() {
	var mu sync.Mutex
	advanced := condvar.NewCond(&mu)
	committed := 0 // guarded by mu

	g, ctx := errgroup.WithContext(context.Background())
	for _, index := range []int{30, 20, 10} {
		g.Go(func() error {
			mu.Lock()
			defer mu.Unlock()
			err := advanced.WaitFor(ctx, func() bool { return committed >= index })
			if err != nil {
				return fmt.Errorf("index %d: %w", index, err)
			}
			return nil
		})
	}
	for range 30 {
		mu.Lock()
		committed++
		advanced.NotifyAll()
		mu.Unlock()
	}
	if err := g.Wait(); err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println("all followers have caught up")

	// Output: all followers have caught up
}

// A start gate: early requests wait until the service is ready.
func ExampleEvent() {
	var ready condvar.Event
	var prices map[string]int // written before Set, read after Wait: no lock

	g, ctx := errgroup.WithContext(context.Background())
	totals := make([]int, 3)
	for i := range totals {
		g.Go(func() error {
			if err := ready.Wait(ctx); err != nil {
				return fmt.Errorf("not ready: %w", err)
			}
			totals[i] = prices["apple"] * (i + 1)
			return nil
		})
	}

	prices = map[string]int{"apple": 2}
	ready.Set() // releases all waiters and lets later calls pass

	if err := g.Wait(); err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(totals)

	// Output: [2 4 6]
}

// Five workers share two slots. Waiting for a flag “a slot is free” and then
// counting would admit every worker that saw the flag. Acquire checks and
// counts in one step.
func ExampleCapacityResource_Acquire() {
	slots := condvar.NewCapacityResource(2)
	var held, excess, turns atomic.Int64

	g, ctx := errgroup.WithContext(context.Background())
	for range 5 {
		g.Go(func() error {
			for range 100 {
				if err := slots.Acquire(ctx); err != nil {
					return fmt.Errorf("waiting for a slot: %w", err)
				}
				if held.Add(1) > 2 {
					excess.Add(1)
				}
				runtime.Gosched() // the work; other workers could run here
				turns.Add(1)
				held.Add(-1)
				slots.Release()
			}
			return nil
		})
	}
	if err := g.Wait(); err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println("turns:", turns.Load())
	fmt.Println("never more than 2 held:", excess.Load() == 0)

	// Output:
	// turns: 500
	// never more than 2 held: true
}

// A budget of memory, in bytes, for images that are decoded at the same time.
func ExampleCapacityResource_AcquireN() {
	const MiB = 1 << 20
	memory := condvar.NewCapacityResource(64 * MiB)
	var decoded atomic.Int64

	decode := func(ctx context.Context, size int64) error {
		if err := memory.AcquireN(ctx, size); err != nil {
			return err
		}
		defer memory.ReleaseN(size) // as many as were acquired
		decoded.Add(size)
		return nil
	}

	g, ctx := errgroup.WithContext(context.Background())
	for _, size := range []int64{40 * MiB, 10 * MiB, 100 * MiB, 60 * MiB} {
		g.Go(func() error {
			err := decode(ctx, size)
			// It could never fit: skip it.
			if errors.Is(err, condvar.ErrTooLarge) {
				fmt.Printf("skipped %d MiB: %v\n", size/MiB, err)
				return nil
			}
			return err
		})
	}
	if err := g.Wait(); err != nil {
		fmt.Println(err)
		return
	}
	fmt.Printf("decoded %d MiB\n", decoded.Load()/MiB)

	// Output:
	// skipped 100 MiB: condvar: request exceeds the capacity
	// decoded 110 MiB
}

// Do puts the permit back even if the function fails or panics.
func ExampleCapacityResource_Do() {
	connections := condvar.NewCapacityResource(3)

	err := connections.Do(context.Background(), func(ctx context.Context) error {
		fmt.Println(connections)
		return errors.New("query failed")
	})
	fmt.Println(err)
	fmt.Println(connections)

	// Output:
	// 1/3 in use, 0 waiting
	// query failed
	// 0/3 in use, 0 waiting
}

// The capacity changes while the resource is in use; 0 pauses it.
func ExampleCapacityResource_Resize() {
	workers := condvar.NewCapacityResource(1)
	fmt.Println(workers.TryAcquire(), workers.TryAcquire())

	workers.Resize(2) // the load grows
	fmt.Println(workers.TryAcquire(), workers)

	// Maintenance: running work continues, no call is admitted.
	workers.Resize(0)
	workers.Release()
	fmt.Println(workers.TryAcquire(), workers)

	admitted := make(chan error, 1)
	go func() { admitted <- workers.Acquire(context.Background()) }()
	workers.Resize(2) // the pause ends, also for waiting calls
	if err := <-admitted; err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(workers)

	// Output:
	// true false
	// true 2/2 in use, 0 waiting
	// false 1/0 in use, 0 waiting, paused
	// 2/2 in use, 0 waiting
}

// Graceful shutdown: no new requests, and time for those in flight.
func ExampleCapacityResource_Drain() {
	requests := condvar.NewCapacityResource(10)
	var served atomic.Int64
	for range 3 {
		if err := requests.Acquire(context.Background()); err != nil {
			fmt.Println(err)
			return
		}
		go func() {
			defer requests.Release()
			served.Add(1)
		}()
	}

	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	if err := requests.Drain(ctx); err != nil {
		fmt.Printf("gave up with %v: %v\n", requests, err)
		return
	}
	fmt.Println("served:", served.Load())
	if err := requests.Acquire(ctx); errors.Is(err, condvar.ErrClosed) {
		fmt.Println("new requests are rejected")
	}

	// Output:
	// served: 3
	// new requests are rejected
}

// Figures for a dashboard and a health check.
func ExampleCapacityResource_Stats() {
	slots := condvar.NewCapacityResource(4)
	before := slots.Stats()
	if err := slots.AcquireN(context.Background(), 3); err != nil {
		fmt.Println(err)
		return
	}
	defer slots.ReleaseN(3)

	s := slots.Stats() // of a single moment, so the figures are consistent
	fmt.Printf("in use: %d of %d\n", s.InUse, s.Capacity)
	fmt.Println("healthy:", s.Waiting < 100 && s.OldestWait < time.Second)

	// The totals only grow: the difference of two snapshots is what happened in
	// between.
	waits := s.WaitCount - before.WaitCount
	fmt.Printf("waits: %d, given up: %d\n", waits, s.Canceled-before.Canceled)
	if waits > 0 {
		fmt.Println("mean:", (s.WaitDuration-before.WaitDuration)/time.Duration(waits))
	}

	// Output:
	// in use: 3 of 4
	// healthy: true
	// waits: 0, given up: 0
}

// Hooks report single events, which Stats only counts: here, each wait that was
// too long. Each hook may be set alone. Those of waits cost nothing to calls
// that do not wait.
func ExampleWithHooks() {
	hooks := &condvar.Hooks{
		WaitDone: func(_ context.Context, n int64, waited time.Duration, err error) {
			if waited >= time.Millisecond {
				fmt.Printf("waited too long for %d: %v\n", n, err)
			}
		},
	}
	slots := condvar.NewCapacityResource(1, condvar.WithHooks(hooks), condvar.MaxWait(2*time.Millisecond))
	slots.TryAcquire()

	err := slots.Acquire(context.Background()) // fails
	fmt.Println(errors.Is(err, condvar.ErrOverloaded))

	// Output:
	// waited too long for 1: condvar: resource is overloaded
	// true
}
