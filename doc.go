// Package condvar has context-aware condition variables, and a weighted
// semaphore built on them that can be resized, closed and observed.
//
// # Choosing a type
//
//   - [Cond]: goroutines wait until something that a lock protects has changed,
//     then look again. Use it when the condition is yours: a queue is not empty,
//     a generation is over, no reader is left.
//   - [Event]: a flag. Use it for one-time signals to everyone: started,
//     configuration loaded, shutting down.
//   - [CapacityResource]: a semaphore, a number of permits. Use it when a
//     limited number may be in use at a time, and callers have to wait. A
//     [Permit] is permits as a value, which can be released once only.
//
// The package keyed has a CapacityResource for each key, such as a host or a
// tenant. The package examples/recipes has whole programs.
//
// All methods may be called by several goroutines at the same time.
//
// Often a plain channel is the better tool. Use one to hand over values. Close
// one for a signal that one goroutine gives once and never takes back. To wake
// one goroutine that waits for one thing, use a channel of size 1. A buffered
// channel is a semaphore whose size never changes. It cannot take several
// permits at once, cannot be closed for waiters, and does not report how many
// wait. For a lock that is held for nanoseconds, use a [sync.Mutex].
//
// # Cancellation
//
// Every call that waits takes a context. If what it waits for (a notification,
// a set event, permits) comes before the end of its context, it succeeds.
// Otherwise it fails. If the two race, exactly one takes effect. A waiter that
// gives up never takes a notification with it, and permits are never lost
// between a release and a cancellation.
//
// The error of a wait that was canceled satisfies [errors.Is] for both
// ctx.Err() and [context.Cause](ctx). If ctx is done at the call, Wait and
// Acquire fail at once. But WaitFor checks its predicate first, Event.Wait
// returns nil if the event is set, and Drain if nothing is held. The Locker of
// a Cond is held on every return, so a canceled Wait returns only when it has
// locked it again.
//
// # Fairness
//
// The line of a Cond is first in, first out, and so is that of a
// CapacityResource. With a Cond, others may take the lock before a waiter that
// was woken, and change the condition, so it is checked in a loop. A waiter that
// finds it false joins the end of the line. A CapacityResource lets new calls
// barge ahead of the line, for throughput, until the first release after the
// head of the line has waited 1 ms. With [FIFO] it never does.
//
// # Overload
//
// If calls come faster than permits are released, the line grows, and in the end
// everybody who is served has waited so long that the answer is of no use.
// [MaxWaiting] bounds the line, and [MaxWait] bounds the wait alone: the work gets
// the context of the caller. Calls that these reject fail with [ErrOverloaded];
// an HTTP server answers 503 then. [CapacityResource.Stats] counts them.
//
// # Observing
//
// [CapacityResource.Stats] is a snapshot; it adds no cost to calls that do not
// wait. [WithHooks] reports each wait, acquisition and release. [Observe] is the
// option for packages that use both. The package condvardebug has a live page, a
// profile of who holds permits, and regions for go tool trace. The modules
// promcondvar and otelcondvar have metrics.
//
// # Memory model
//
// A call to [Cond.Notify] “synchronizes before” the return of the Wait or
// WaitFor, or the receive from Listener.C, that it causes. So does a call to
// [Event.Set] with any Wait that returns nil and any IsSet that returns true
// because of it, and a call to [CapacityResource.Release] with any call that
// acquires the permits it put back.
//
// # Tests with synctest
//
// In a bubble of [testing/synctest] each wait is durably blocking. So a bubble
// that is left with a goroutine waiting in this package panics, which finds lost
// wake-ups. A Cond, Event or CapacityResource that outlives a bubble, as a
// package variable does, may be used in another one or outside afterwards. A
// goroutine that blocks on a [sync.Mutex] is not durably blocked. A test that
// holds the lock while the bubble is at rest can give the Cond a Locker made of
// a channel:
//
//	type chanLock chan struct{} // make(chanLock, 1), inside the bubble
//
//	func (l chanLock) Lock()   { l <- struct{}{} }
//	func (l chanLock) Unlock() { <-l }
//
// # Costs
//
// No wait starts a goroutine, and only a wait under MaxWait starts a timer. Notify is one atomic load if nobody
// waits. Acquire and Release are one compare-and-swap each if nobody waits, no
// other call holds the mutex, the resource is open, its capacity is below 2^31
// and not less than what is held, and there is no Acquired or Released hook. A
// call that MaxWaiting rejects locks a mutex once.
//
// Calls that do not wait allocate nothing, except for the Permit. A wait uses a waiter of some 200
// bytes from when it joins the line until it runs again. Each Cond, Event and
// CapacityResource keeps the first 1,024 waiters that it makes. A wait
// allocates only if all of these are in use, or in a testing/synctest bubble.
// All other waits are “in the steady state”; with MaxWait, each waiter makes a
// timer once. Listen makes two allocations, and
// an error that carries its own cause makes one.
package condvar
