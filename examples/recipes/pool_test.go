package recipes_test

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"example.com/condvar"
)

// A connection stands for the items of the pool, such as a net.Conn.
type connection struct{ number int }

func (*connection) Close() error { return nil }

// A pool has at most as many connections in use as slots has permits.
type pool struct {
	slots *condvar.CapacityResource
	dial  func(ctx context.Context) (*connection, error)

	mu   sync.Mutex
	idle []*connection // guarded by mu
}

// A lease is the use of a connection.
type lease struct {
	*connection
	pool *pool
	slot *condvar.Permit
	once sync.Once
}

// get returns an idle connection or a new one. It waits while too many are in
// use.
func (p *pool) get(ctx context.Context) (*lease, error) {
	slot, err := p.slots.AcquirePermit(ctx, 1)
	if err != nil {
		return nil, err
	}
	p.mu.Lock()
	var c *connection
	if last := len(p.idle) - 1; last >= 0 {
		c, p.idle = p.idle[last], p.idle[:last]
	}
	p.mu.Unlock()
	if c == nil {
		if c, err = p.dial(ctx); err != nil {
			slot.Release()
			return nil, err
		}
	}
	return &lease{connection: c, pool: p, slot: slot}, nil
}

// put returns the connection to the pool, once. A broken one is closed.
func (l *lease) put(broken bool) {
	l.once.Do(func() {
		p := l.pool
		p.mu.Lock()
		keep := !broken && !p.slots.Stats().Closed
		if keep {
			p.idle = append(p.idle, l.connection)
		}
		p.mu.Unlock()
		if !keep {
			_ = l.Close()
		}
		l.slot.Release() // after that, another call may take the connection
	})
}

// close makes later calls of get fail, waits until all connections are back,
// and closes them.
func (p *pool) close(ctx context.Context) error {
	err := p.slots.Drain(ctx)
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, c := range p.idle {
		_ = c.Close()
	}
	p.idle = nil
	return err
}

// A connection pool with Permits. A failed dial releases its permit, and a
// connection that is put back twice releases only one permit.
func Example_pool() {
	ctx, dialed := context.Background(), 0
	p := &pool{
		slots: condvar.NewCapacityResource(2),
		dial: func(context.Context) (*connection, error) {
			if dialed++; dialed == 2 {
				return nil, errors.New("connection refused")
			}
			return &connection{dialed}, nil
		},
	}
	a, err := p.get(ctx)
	fmt.Println("connection", a.number, err)
	_, err = p.get(ctx)
	fmt.Println(err, "-", p.slots)
	b, err := p.get(ctx)
	fmt.Println("connection", b.number, err, "-", p.slots)
	a.put(false)
	a.put(false)
	fmt.Println(p.slots)
	c, err := p.get(ctx)
	fmt.Println("connection", c.number, err)

	p.slots.Resize(5) // at any time
	b.put(true)
	c.put(false)
	fmt.Println(p.close(ctx))
	_, err = p.get(ctx)
	fmt.Println(err)
	// Output:
	// connection 1 <nil>
	// connection refused - 1/2 in use, 0 waiting
	// connection 3 <nil> - 2/2 in use, 0 waiting
	// 1/2 in use, 0 waiting
	// connection 1 <nil>
	// <nil>
	// condvar: resource is closed
}
