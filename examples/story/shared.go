package main

import (
	"context"
	"runtime"
	"sync/atomic"

	"example.com/condvar"
)

// A sharedResource has a number of slots. A worker that has acquired one holds
// it until it releases it.
type sharedResource interface {
	Acquire(ctx context.Context) error
	Release()
}

// An eventResource is the tempting implementation: an Event that says whether a
// slot is free, and a count of the slots in use.
//
// In Python's asyncio this code has no race. A task switches only at an await,
// so check, increment and clear are atomic, and “event set” always equals “in
// use < slots”. It has other faults there: starvation, and every release wakes
// everyone. Goroutines run in parallel: two can pass the check before either of
// them counts. All accesses are atomic here, so the race detector has nothing
// to report. The logic is wrong.
type eventResource struct {
	free  condvar.Event
	inUse atomic.Int64
	slots int64
	slow  bool
}

func newEventResource(slots int, slow bool) sharedResource {
	r := &eventResource{slots: int64(slots), slow: slow}
	r.free.Set()
	return r
}

func (r *eventResource) Acquire(ctx context.Context) error {
	for !r.free.IsSet() { // check: is a slot free?
		if err := r.free.Wait(ctx); err != nil {
			return err
		}
	}
	if r.slow {
		runtime.Gosched()
	}
	// Act: count; but other workers have passed the check too.
	if r.inUse.Add(1) >= r.slots {
		r.free.Clear()
	}
	return nil
}

func (r *eventResource) Release() {
	r.inUse.Add(-1)
	r.free.Set()
}

// A CapacityResource checks and acts in one step.
func newCapacityResource(slots int) sharedResource {
	return condvar.NewCapacityResource(int64(slots))
}
