package load

import (
	"fmt"
	"time"

	"example.com/condvar"
)

// The names of our own implementations.
const (
	Ours     = "condvar"
	OursFIFO = "condvar-fifo"
)

// Workloads returns all workloads. It first measures how fast the machine is.
//
// The rivals are sync.Cond, alone and with context.AfterFunc; x/sync/semaphore;
// channels; and three packages that are maintained, have few dependencies, and
// do part of the job: the condition variable of github.com/creachadair/msync,
// the semaphore of github.com/cockroachdb/crlib, which has weights and contexts
// and can be resized, and github.com/jackc/puddle, a pool of resources. The
// semaphore of tailscale.com/syncs is a buffered channel, which is a rival
// already.
func Workloads() []Workload {
	var all []Workload
	add := func(goroutines int, slice time.Duration, name string, subjects ...Subject) {
		all = append(all, Workload{name, subjects, goroutines, slice})
	}

	signal, notify := cond.Signal, cond.Broadcast
	add(1, 0, "IdleNotify", Subject{Ours, idle(signal, ours)}, Subject{"sync", idle(signal, standard)})
	add(1, 0, "IdleNotifyAll", Subject{Ours, idle(notify, ours)}, Subject{"sync", idle(notify, standard)})

	add(2, 0, "PingPong/ctx=none",
		Subject{Ours, pingPong(inLoop(noContext), ours)},
		Subject{"sync", pingPong(inLoop(noContext), standard)},
		Subject{"channels", pingPongChannels(noContext)},
		Subject{"msync", pingPong(inLoop(noContext), msync)})
	add(2, 0, "PingPong/ctx=cancel",
		Subject{Ours, pingPong(inLoop(oneContext), ours)},
		Subject{"channels", pingPongChannels(oneContext)},
		Subject{"afterfunc", pingPong(inLoop(oneContext), afterFunc)},
		Subject{"msync", pingPong(inLoop(oneContext), msync)})
	add(2, 0, "PingPong/ctx=new",
		Subject{Ours, pingPong(inLoop(newForEach), ours)},
		Subject{"channels", pingPongChannels(newForEach)},
		Subject{"msync", pingPong(inLoop(newForEach), msync)})
	add(2, 0, "PingPongWaitFor",
		Subject{Ours, pingPong(byWaitFor, ours)},
		Subject{"sync", pingPong(inLoop(noContext), standard)},
		Subject{"msync", pingPong(inLoop(noContext), msync)})

	for _, waiters := range []int{32, 1000} {
		// sync.Cond has no contexts. It shows the cost without them.
		for _, ctx := range []contexts{noContext, oneContext} {
			subjects := []Subject{
				{Ours, broadcast(waiters, ctx, ours)},
				{"sync", broadcast(waiters, noContext, standard)},
				{"msync", broadcast(waiters, ctx, msync)},
			}
			if ctx == oneContext {
				subjects = append(subjects, Subject{"afterfunc", broadcast(waiters, ctx, afterFunc)})
			}
			add(waiters, 0, fmt.Sprintf("Broadcast/waiters=%d/ctx=%s", waiters, ctx), subjects...)
		}
	}

	add(1, 0, "Uncontended", limiters(uncontended)...)
	xsyncPair := Subject{"xsync", uncontended(xsync)}
	add(1, 0, "Rejected", Subject{Ours, rejected()}, xsyncPair, Subject{OursFIFO, rejected(condvar.FIFO())})
	add(1, 0, "Permit", Subject{Ours, permits}, xsyncPair)
	for _, keys := range []int{1, 10_000} {
		add(2, 0, fmt.Sprintf("Keyed/keys=%d", keys),
			Subject{Ours, perKey(2, keys, ourKeys)}, Subject{"handmade", perKey(2, keys, handMadeKeys)})
	}
	for _, capacity := range []int64{1, 4, 8} {
		for _, goroutines := range []int{16, 128} {
			s := scene{capacity: capacity, goroutines: goroutines, untimed: true}
			add(goroutines, 0, fmt.Sprintf("Contended/capacity=%d/goroutines=%d", capacity, goroutines), limiters(s.run)...)
		}
	}

	spins := calibrate()
	for _, goroutines := range []int{1, 10, 100, 1000, 10_000} {
		s := scene{capacity: 4, goroutines: goroutines, hold: pause{cpu: 5 * time.Microsecond}, spins: spins}
		add(goroutines, 0, fmt.Sprintf("HoldCPU/hold=5µs/capacity=4/goroutines=%d", goroutines), limiters(s.run)...)
	}
	for _, goroutines := range []int{16, 128} {
		s := scene{capacity: 4, goroutines: goroutines, hold: pause{blocked: 100 * time.Microsecond}, spins: spins}
		add(goroutines, 300*time.Millisecond,
			fmt.Sprintf("HoldBlocking/hold=100µs/capacity=4/goroutines=%d", goroutines), limiters(s.run)...)
	}
	for _, handOff := range []struct {
		name string
		hold pause
	}{
		// See jackc/puddle issue 46.
		{"HandOff", pause{asleep: time.Millisecond}},
		{"HandOffBlocking", pause{blocked: time.Millisecond}},
	} {
		for _, capacity := range []int64{1, 2} {
			s := scene{
				capacity: capacity, goroutines: 16,
				hold: handOff.hold, after: pause{cpu: time.Millisecond}, spins: spins,
			}
			add(16, 500*time.Millisecond, fmt.Sprintf("%s/capacity=%d", handOff.name, capacity), limiters(s.run)...)
		}
	}

	mixed := scene{capacity: 8, goroutines: 32, weights: true, hold: pause{cpu: 5 * time.Microsecond}, spins: spins}
	add(32, 0, "MixedWeights/hold=5µs/capacity=8/goroutines=32", weighted(mixed.run)...)
	add(17, 0, "BigAgainstSmall/loopers=16", weighted(func(build newLimiter) Body {
		return bigAgainstSmall(16, 100*time.Microsecond, build)
	})...)
	add(22, 300*time.Millisecond, "ReleaseBeside/computing=20", withoutPool(func(build newLimiter) Body {
		return releaseBeside(20, 3*time.Millisecond, build)
	})...)

	// These check our own promises, and have no rivals.
	for _, waiters := range []int{1000, 64_000} {
		add(waiters, 0, fmt.Sprintf("NotifyBusy/waiters=%d", waiters), Subject{Ours, notifyBusy(waiters)})
	}
	for _, waiters := range []int{1000, 100_000} {
		suffix := fmt.Sprintf("/waiters=%d", waiters)
		add(waiters, 0, "LockHeldNotifyAll"+suffix, Subject{Ours, lockHeldNotifyAll(waiters)})
		add(waiters, 0, "LockHeldClose"+suffix, Subject{Ours, lockHeldClose(waiters)})
	}

	for _, waiters := range []int{1000, 100_000} {
		suffix := fmt.Sprintf("/waiters=%d", waiters)
		for _, end := range []struct {
			name string
			body func(Timer, int, int, waitFunc) Extra
		}{{"Cancel", canceled}, {"CancelStorm", storm}} {
			add(waiters, 0, end.name+"Wait"+suffix,
				Subject{Ours, onCond(end.body, waiters, ours)},
				Subject{"channels", onChannels(end.body, waiters)},
				Subject{"msync", onCond(end.body, waiters, msync)})
			add(waiters, 0, end.name+"Acquire"+suffix, withoutPool(func(build newLimiter) Body {
				return onLimiter(end.body, waiters, build)
			})...)
		}
		add(waiters, 0, "NotifyAll"+suffix,
			Subject{Ours, notifyAll(waiters, ours)},
			Subject{"sync", notifyAll(waiters, standard)},
			Subject{"channels", notifyAllChannel(waiters)},
			Subject{"msync", notifyAll(waiters, msync)})
	}
	// As many goroutines as above, but no line is longer than lineLength. So
	// the difference is due to the line, and not to the memory of the
	// goroutines.
	const inLines, lines = 100_000, 100_000 / lineLength
	suffix := fmt.Sprintf("/waiters=%d/lines=%d", inLines, lines)
	add(inLines, 0, "CancelWait"+suffix,
		Subject{Ours, onCond(canceled, inLines, divided(lines, ours))},
		Subject{"msync", onCond(canceled, inLines, divided(lines, msync))})
	add(inLines, 0, "NotifyAll"+suffix,
		Subject{Ours, notifyAll(inLines, divided(lines, ours))},
		Subject{"sync", notifyAll(inLines, divided(lines, standard))},
		Subject{"msync", notifyAll(inLines, divided(lines, msync))})
	for _, waiters := range []int{100_000, 1_000_000} {
		suffix := fmt.Sprintf("/waiters=%d", waiters)
		add(waiters, 0, "CrowdWait"+suffix,
			Subject{Ours, crowdOnCond(waiters, ours)},
			Subject{"sync", crowdOnCond(waiters, standard)},
			Subject{"channels", crowdOnChannel(waiters)},
			Subject{"msync", crowdOnCond(waiters, msync)})
		add(waiters, 0, "CrowdAcquire"+suffix, withoutPool(func(build newLimiter) Body {
			return crowdOnLimiter(waiters, build)
		})...)
	}
	return all
}

// weighted returns the limiters that can give several permits at once.
func weighted(run func(newLimiter) Body) []Subject {
	return []Subject{
		{Ours, run(resource())},
		{OursFIFO, run(resource(condvar.FIFO()))},
		{"xsync", run(xsync)},
		{"crlib", run(crlib)},
	}
}

// withoutPool returns the limiters that only limit.
func withoutPool(run func(newLimiter) Body) []Subject {
	return append(weighted(run), Subject{"channel", run(channel)})
}

// limiters returns all limiters.
func limiters(run func(newLimiter) Body) []Subject {
	return append(withoutPool(run), Subject{"puddle", run(pool)})
}
