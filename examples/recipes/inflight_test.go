package recipes_test

import (
	"context"
	"fmt"
	"math"
	"time"

	"example.com/condvar"
)

// A server counts its requests in flight. It is a sync.WaitGroup that can be
// closed, and whose Wait ends with a context.
type server struct{ inFlight *condvar.CapacityResource }

func (s *server) handle(ctx context.Context, work func(ctx context.Context) error) error {
	return s.inFlight.Do(ctx, work) // fails with ErrClosed during the shutdown
}

// shutdown rejects new requests, and waits for those in flight.
func (s *server) shutdown(ctx context.Context) error { return s.inFlight.Drain(ctx) }

// Work in flight, and a shutdown that waits for it, or reports how much is
// left.
func Example_inFlight() {
	ctx := context.Background()
	// No limit, only a count.
	s := &server{condvar.NewCapacityResource(math.MaxInt32)}

	began, finish, done := make(chan bool), make(chan bool), make(chan error)
	for range 2 {
		go func() {
			done <- s.handle(ctx, func(context.Context) error {
				began <- true
				<-finish
				return nil
			})
		}()
		<-began
	}
	short, cancel := context.WithTimeout(ctx, time.Millisecond)
	defer cancel()
	fmt.Println(s.shutdown(short))
	fmt.Println(s.handle(ctx, func(context.Context) error { return nil }))
	close(finish)
	fmt.Println(<-done, <-done)
	fmt.Println(s.shutdown(ctx))
	// Output:
	// condvar: permits still held: 2: context deadline exceeded
	// condvar: resource is closed
	// <nil> <nil>
	// <nil>
}
