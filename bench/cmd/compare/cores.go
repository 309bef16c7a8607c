package main

import (
	"runtime"
	"slices"
	"sync/atomic"
	"time"
)

// coreToCore returns how long a cache line takes from one thread to another and
// back, the median of some runs. Above 100 ns, all data that moves between two
// processors is slow.
func coreToCore() time.Duration {
	const rounds = 100_000
	runs := make([]time.Duration, 9)
	for i := range runs {
		var turn atomic.Int64
		wait := func(parity int64) {
			for turn.Load()&1 != parity {
			}
			turn.Add(1)
		}
		done := make(chan struct{})
		go func() {
			runtime.LockOSThread()
			defer close(done)
			for range rounds {
				wait(1)
			}
		}()
		runtime.LockOSThread()
		start := time.Now()
		for range rounds {
			wait(0)
		}
		<-done
		runs[i] = time.Since(start) / rounds
		runtime.UnlockOSThread()
	}
	slices.Sort(runs)
	return runs[len(runs)/2]
}
