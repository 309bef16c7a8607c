// Package condvar has context-aware condition variables, and a weighted
// semaphore built on them that can be resized, closed and observed.
//
//   - [Cond]: goroutines wait until something that a lock protects has changed,
//     and look again.
//   - [Event]: a flag, for one-time signals to everyone: started, shutting
//     down.
//   - [CapacityResource]: a semaphore of permits, which limits how much is in
//     use. A [Permit] is permits that can be released once only.
//
// Package keyed has a CapacityResource for each key. All methods may be called
// by several goroutines at the same time. A channel is often enough: to hand
// over values, to signal once, or as a semaphore of fixed size.
//
// # Cancellation
//
// If what a call waits for comes before the end of its context, the call
// succeeds, otherwise it fails. If the two race, exactly one takes effect: no
// notification and no permit is lost. The error of a canceled wait satisfies
// [errors.Is] for both ctx.Err() and [context.Cause].
//
// # Fairness and overload
//
// Lines are first in, first out. New calls may barge ahead of the line of a
// CapacityResource until its head has waited 1 ms; with [FIFO] never.
// [MaxWaiting] bounds the line, [MaxWait] the wait.
//
// # Observing
//
// See [CapacityResource.Stats], [WithHooks], package condvardebug, which has a
// page of what waits and who holds, and modules promcondvar and otelcondvar.
//
// # Memory model
//
// A notification “synchronizes before” the return of the Wait or WaitFor, or
// the receive from Listener.C, that it causes. So does an Event.Set with the
// Waits that return nil and the IsSets that return true because of it, and a
// release with any call that acquires the permits it put back.
//
// # Tests with synctest
//
// In a bubble of [testing/synctest] each wait is durably blocking. A value that
// outlives a bubble may be used in another one, or outside.
//
// # Costs
//
// No wait starts a goroutine, and only one under MaxWait starts a timer. If
// nobody waits, Notify is one atomic load, and Acquire and Release are one
// compare-and-swap each, unless they contend, the capacity is 2^31 or more, or
// there is an Acquired or Released hook. Only a Permit, an error with a cause
// of its own, waits in a synctest bubble, and those beyond 1,024 at a time on
// one value allocate; all other waits are “in the steady state”.
package condvar
