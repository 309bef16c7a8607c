package recipes_test

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"

	"example.com/condvar"
	"example.com/condvar/keyed"
)

// A crawler fetches a limited number of pages at a time, and fewer of each
// host.
type crawler struct {
	all   *condvar.CapacityResource
	hosts *keyed.Resource[string]
	fetch func(ctx context.Context, host, path string) error
}

// visit first waits for its turn at the host. So a slow host does not delay
// visits to other hosts.
func (c *crawler) visit(ctx context.Context, host, path string) error {
	return c.hosts.Do(ctx, host, func(ctx context.Context) error {
		return c.all.Do(ctx, func(ctx context.Context) error { return c.fetch(ctx, host, path) })
	})
}

// pause prevents further fetches until the function that it returns is called.
// Only one goroutine at a time may pause.
func (c *crawler) pause() (resume func()) {
	before := c.all.Resize(0)
	return func() { c.all.Resize(before) }
}

// A crawler with a limit for each host and one for all, which can be paused.
func Example_crawler() {
	var fetched, most atomic.Int64
	c := &crawler{all: condvar.NewCapacityResource(8), hosts: keyed.New[string](2)}
	c.fetch = func(context.Context, string, string) error {
		// Good enough to check that it is never more than 8.
		most.Store(max(most.Load(), c.all.Stats().InUse))
		fetched.Add(1)
		return nil
	}

	resume := c.pause()
	var visits sync.WaitGroup
	for i := range 100 {
		visits.Go(func() {
			_ = c.visit(context.Background(), fmt.Sprintf("host%d.example", i%10), fmt.Sprint("/", i))
		})
	}
	fmt.Println("while paused:", fetched.Load())
	resume()
	visits.Wait()
	fmt.Println("fetched:", fetched.Load(), "- never more than 8 at a time:", most.Load() <= 8)
	fmt.Println("hosts that are kept:", c.hosts.Len())
	// Output:
	// while paused: 0
	// fetched: 100 - never more than 8 at a time: true
	// hosts that are kept: 0
}
