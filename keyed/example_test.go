package keyed_test

import (
	"context"
	"errors"
	"fmt"

	"example.com/condvar"
	"example.com/condvar/keyed"
)

// A limit for each host: at most two requests to the same host at a time.
func Example() {
	hosts := keyed.New[string](2)
	fetch := func(ctx context.Context, host, path string) error {
		return hosts.Do(ctx, host, func(context.Context) error {
			fmt.Println("get", path, "from", host, "- in use:", hosts.Stats(host).InUse)
			return nil
		})
	}
	ctx := context.Background()
	for _, host := range []string{"a.example", "b.example"} {
		if err := fetch(ctx, host, "/"); err != nil {
			fmt.Println(err)
		}
	}
	fmt.Println("hosts in use:", hosts.Len())
	// Output:
	// get / from a.example - in use: 1
	// get / from b.example - in use: 1
	// hosts in use: 0
}

// A tenant that asks for too much does not affect the others.
func Example_overload() {
	tenants := keyed.New[string](1, condvar.MaxWaiting(0))
	ctx := context.Background()
	for _, tenant := range []string{"noisy", "noisy", "quiet"} {
		err := tenants.Acquire(ctx, tenant)
		fmt.Println(tenant, "overloaded:", errors.Is(err, condvar.ErrOverloaded))
	}
	tenants.Release("noisy")
	tenants.Release("quiet")
	// Output:
	// noisy overloaded: false
	// noisy overloaded: true
	// quiet overloaded: false
}

// All keys pause until the function returns.
func ExampleResource_Resize() {
	jobs := keyed.New[string](3)
	func() {
		defer jobs.Resize(jobs.Resize(0))
		fmt.Println("paused:", !jobs.TryAcquire("alice"))
	}()
	fmt.Println("paused:", !jobs.TryAcquire("alice"))
	jobs.Release("alice")
	// Output:
	// paused: true
	// paused: false
}
