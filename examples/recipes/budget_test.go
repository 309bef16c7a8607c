package recipes_test

import (
	"context"
	"fmt"
	"sync"

	"example.com/condvar"
)

// A budget limits how much memory is in use. It counts KiB, since the fast
// paths need a capacity below 2^31.
type budget struct{ kib *condvar.CapacityResource }

// load calls use with size bytes of the budget. A request for more than the
// budget is admitted alone, when nothing else is in use. So a large file is
// processed too, and callers do not reduce requests to a capacity that may
// change.
func (b budget) load(ctx context.Context, size int64, use func(ctx context.Context) error) error {
	return b.kib.DoN(ctx, (size+1023)/1024, use)
}

// A memory budget that admits a request for more than the budget alone.
func Example_budget() {
	// 64 MiB.
	b := budget{condvar.NewCapacityResource(64<<10, condvar.AdmitOversized())}
	var files sync.WaitGroup
	for _, size := range []int64{30 << 20, 20 << 20, 200 << 20, 10 << 20} {
		files.Go(func() {
			_ = b.load(context.Background(), size, func(context.Context) error {
				inUse := b.kib.Stats().InUse << 10
				if inUse > 64<<20 && inUse != size {
					fmt.Println("too much in use")
				}
				return nil
			})
		})
	}
	files.Wait()
	fmt.Println(b.kib)
	fmt.Println("a whole budget fits:", b.kib.TryAcquireN(64<<10), "and no more:", !b.kib.TryAcquire())
	// Output:
	// 0/65536 in use, 0 waiting
	// a whole budget fits: true and no more: true
}
