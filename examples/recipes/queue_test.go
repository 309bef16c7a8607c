package recipes_test

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"example.com/condvar"
)

var errQueueClosed = errors.New("queue is closed")

// A queue has room for max values. It can be closed, and both of its waits end
// with their context. A channel cannot do both without panics.
type queue[T any] struct {
	mu       sync.Mutex
	notEmpty condvar.Cond // L of both is mu
	notFull  condvar.Cond
	max      int
	values   []T
	closed   bool
}

func newQueue[T any](max int) *queue[T] {
	q := &queue[T]{max: max}
	q.notEmpty.L, q.notFull.L = &q.mu, &q.mu
	return q
}

func (q *queue[T]) put(ctx context.Context, v T) error {
	q.mu.Lock()
	defer q.mu.Unlock()
	if err := q.notFull.WaitFor(ctx, func() bool { return len(q.values) < q.max || q.closed }); err != nil {
		return err
	}
	if q.closed {
		return errQueueClosed
	}
	q.values = append(q.values, v)
	q.notEmpty.Notify()
	return nil
}

// get returns the remaining values of a closed queue, and then errQueueClosed.
func (q *queue[T]) get(ctx context.Context) (v T, err error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if err := q.notEmpty.WaitFor(ctx, func() bool { return len(q.values) > 0 || q.closed }); err != nil {
		return v, err
	}
	if len(q.values) == 0 {
		return v, errQueueClosed
	}
	v, q.values = q.values[0], q.values[1:]
	q.notFull.Notify()
	return v, nil
}

func (q *queue[T]) close() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.closed = true
	q.notEmpty.NotifyAll()
	q.notFull.NotifyAll()
}

// A closable queue with context-aware calls.
func Example_queue() {
	ctx := context.Background()
	q := newQueue[int](2)
	var producer sync.WaitGroup
	producer.Go(func() {
		for i := range 5 {
			_ = q.put(ctx, i)
		}
		q.close()
	})
	for {
		v, err := q.get(ctx)
		if err != nil {
			fmt.Println(err)
			break
		}
		fmt.Println(v)
	}
	producer.Wait()
	fmt.Println(q.put(ctx, 5))

	canceled, cancel := context.WithCancel(ctx)
	cancel()
	_, err := newQueue[int](1).get(canceled)
	fmt.Println(err)
	// Output:
	// 0
	// 1
	// 2
	// 3
	// 4
	// queue is closed
	// queue is closed
	// context canceled
}
