package recipes_test

import (
	"context"
	"fmt"
	"time"

	"example.com/condvar"
)

// A mutex is a lock with a context-aware Lock. With FIFO it is fair.
type mutex struct{ r *condvar.CapacityResource }

func newMutex() mutex { return mutex{condvar.NewCapacityResource(1)} }

func (m mutex) Lock(ctx context.Context) error { return m.r.Acquire(ctx) }
func (m mutex) TryLock() bool                  { return m.r.TryAcquire() }
func (m mutex) Unlock()                        { m.r.Release() }

// readers is how many readers an rwMutex can have at a time.
const readers = 1 << 20

// An rwMutex can be held by many readers, or by one writer, which takes the
// permits of all readers. Readers do not overtake a writer that has waited for
// 1 ms.
type rwMutex struct{ r *condvar.CapacityResource }

func newRWMutex() rwMutex { return rwMutex{condvar.NewCapacityResource(readers)} }

func (m rwMutex) RLock(ctx context.Context) error { return m.r.Acquire(ctx) }
func (m rwMutex) RUnlock()                        { m.r.Release() }
func (m rwMutex) Lock(ctx context.Context) error  { return m.r.AcquireN(ctx, readers) }
func (m rwMutex) Unlock()                         { m.r.ReleaseN(readers) }

// Downgrade makes the writer a reader. No other writer gets in between.
func (m rwMutex) Downgrade() { m.r.ReleaseN(readers - 1) }

// A mutex and a readers-writer lock that obey a context.
func Example_locks() {
	ctx := context.Background()
	short := func() context.Context {
		ctx, cancel := context.WithTimeout(ctx, time.Millisecond)
		context.AfterFunc(ctx, cancel)
		return ctx
	}

	m := newMutex()
	fmt.Println(m.Lock(ctx), m.TryLock(), m.Lock(short()))
	m.Unlock()
	fmt.Println(m.Lock(ctx))

	rw := newRWMutex()
	fmt.Println(rw.RLock(ctx), rw.RLock(ctx))
	fmt.Println(rw.Lock(short()))
	rw.RUnlock()
	rw.RUnlock()
	fmt.Println(rw.Lock(ctx), rw.RLock(short()))
	rw.Downgrade()
	fmt.Println(rw.RLock(ctx), rw.Lock(short()))
	// Output:
	// <nil> false context deadline exceeded
	// <nil>
	// <nil> <nil>
	// context deadline exceeded
	// <nil> context deadline exceeded
	// <nil> context deadline exceeded
}
