// Package condvar has condition variables that know contexts, and a resource
// of limited capacity that is built on them.
//
// # Choosing a type
//
//   - [Cond]: goroutines wait until something that a lock protects has changed,
//     then look again. Use it when the condition is yours: a queue is not empty,
//     a generation is over, no reader is left.
//   - [Event]: a flag. Use it for what happens once or seldom and concerns
//     everybody: started, configuration loaded, shutting down.
//   - [CapacityResource]: a number of permits. Use it when at most so many may
//     be in use at a time, and callers have to wait for their turn.
//
// All methods may be called by several goroutines at the same time.
//
// Often a plain channel is the better tool: to hand over values; for a signal
// that is given just once, by one goroutine, and never taken back (close it);
// to wake one goroutine that has just one thing to wait for (a channel of size
// 1). As a semaphore whose size never changes, a buffered channel will do, if
// it does not matter that it cannot take several permits at once, cannot be
// resized or closed, and does not tell how many wait. For a lock that is held
// for nanoseconds, use a [sync.Mutex].
//
// # Cancellation
//
// Every call that waits takes a context. If what it waits for (a notification,
// a set event, permits) comes before the end of its context, it succeeds; else
// it fails; never both. A waiter that gives up never takes a notification with
// it, and permits are never lost between a release and a cancellation.
//
// The error of a wait that was canceled satisfies [errors.Is] for both
// ctx.Err() and [context.Cause](ctx). A context that is done at the call makes
// Wait and Acquire fail at once; but WaitFor looks at its predicate first,
// Event.Wait returns nil if the event is set, and Drain if nothing is held. The
// locker of a Cond is held on every return, so a canceled Wait returns only when
// it has got the lock back.
//
// # Fairness
//
// The line of a Cond is first in, first out, and so is that of a
// CapacityResource. Being woken is not yet having the lock, though: with a
// Cond, others may come before and change the condition, which is why it is
// checked in a loop. A CapacityResource lets newcomers take free permits ahead
// of the line, for throughput, until the first release that comes after the
// head of the line has waited 1 ms; with [FIFO] it never does.
//
// # Watching
//
// [CapacityResource.Stats] is a snapshot, for which nobody pays who does not
// wait; [WithHooks] tells of each wait, acquisition and release. The package
// condvardebug has a live page, a profile of who holds permits, and regions for
// go tool trace; the modules promcondvar and otelcondvar have metrics.
//
// # Memory model
//
// A call to [Cond.Notify] synchronizes before the return of the Wait or WaitFor,
// or the receive from Listener.C, that it causes; a call to [Event.Set] before
// the return of any Wait with nil, or IsSet with true, that is due to it; a call
// to [CapacityResource.Release] before the return of any call that acquires the
// permits it put back.
//
// # Tests with synctest
//
// In a bubble of [testing/synctest] each wait is durably blocking, so a bubble
// that is left with a goroutine waiting in this package panics: a detector of
// lost wake-ups for free. A Cond, Event or CapacityResource that outlives
// a bubble, as a package variable does, may be used in another one or outside
// afterwards. If the test is to hold the lock while the bubble is at rest, give
// the Cond a Locker made of a channel, for a goroutine that blocks on a
// [sync.Mutex] is not durably blocked:
//
//	type chanLock chan struct{} // make(chanLock, 1), inside the bubble
//
//	func (l chanLock) Lock()   { l <- struct{}{} }
//	func (l chanLock) Unlock() { <-l }
//
// # Costs
//
// No wait starts a goroutine or a timer. To notify when nobody waits is one
// atomic load; to acquire or release when nobody waits is one compare-and-swap,
// if the capacity is below 2^31 and there are no hooks for every acquisition or
// release.
//
// Acquire, Release, Notify, Set, and calls that succeed without waiting, allocate
// nothing. A wait allocates only if more goroutines wait than ever did on that
// value in the same way, that is, with a context that can end or with one that
// cannot; or more than 1,024; or in a bubble with a context that can end.
// Otherwise, which is what “in the steady state” means, it does not. Listen
// makes two allocations, an error that carries a cause of its own makes one.
package condvar
