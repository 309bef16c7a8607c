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
// Often a plain channel is the better tool: to hand over values, to signal once
// (close it), to wake one goroutine that has just one thing to wait for (a
// channel of size 1). As a semaphore whose size never changes, a buffered
// channel will do, if it does not matter that it cannot take several permits
// at once, cannot be resized or closed, and tells nothing about who waits.
// For a lock that is held for nanoseconds, use a [sync.Mutex].
//
// # Cancellation
//
// Every wait takes a context. Of what a wait is for (a notification, a set
// event, permits) and the end of its context, the one that comes first counts,
// and just that one: a waiter that gives up never takes a notification with
// it, and permits are never lost between a release and a cancellation.
//
// The error of a wait that was canceled satisfies [errors.Is] for both
// ctx.Err() and [context.Cause](ctx). A context that is done at the call makes
// Wait and Acquire fail at once; but WaitFor looks at its predicate first, and
// a set Event is set. The locker of a Cond is held on every return, so a
// canceled Wait returns only when it has got the lock back.
//
// # Fairness
//
// The line of a Cond is first in, first out, and so is that of a
// CapacityResource. Being woken is not yet having the lock, though: with a
// Cond, others may come before and change the condition, which is why it is
// checked in a loop. A CapacityResource lets newcomers take free permits ahead
// of the line, for throughput, until the first in line has waited 1 ms; with
// [FIFO] it never does.
//
// # Memory model
//
// A call to [Cond.Notify] synchronizes before the return of the Wait that it
// wakes; a call to [Event.Set] before the return of any Wait that it releases;
// a call to [CapacityResource.Release] before the return of any call that
// acquires the permits it put back.
//
// # Tests with synctest
//
// In a bubble of [testing/synctest] each wait is durably blocking, so a bubble
// that is left with a goroutine waiting in this package panics: a detector of
// lost wake-ups for free. A Cond, Event or CapacityResource that outlives
// a bubble, as a package variable does, may be used in another one or outside
// afterwards. Give a Cond a Locker made of a channel if the test is to hold it
// while the bubble is at rest: a goroutine that blocks on a [sync.Mutex] is not
// durably blocked.
//
// # Costs
//
// No wait starts a goroutine or a timer. Whatever does not wait allocates
// nothing, and in the steady state a wait does not either, except in bubbles.
// To notify when nobody waits is one atomic load; to acquire or release when
// nobody waits is one compare-and-swap.
package condvar
