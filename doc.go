// Package condvar provides context-aware condition variables, and a weighted
// semaphore built on them that can be resized, closed and observed.
//
//   - [Cond]: goroutines wait until the state that a lock protects meets a
//     condition.
//   - [Event]: a flag, for one-time signals to everyone: started, shutting
//     down.
//   - [CapacityResource]: a weighted semaphore. A [Permit] is permits that can
//     be released only once.
//
// Package keyed has a CapacityResource for each key, module etcdcondvar one for
// several machines. Multiple goroutines may call all methods simultaneously. A
// channel is often enough: to pass values, to signal once, or as a semaphore.
//
// # Cancellation
//
// A wait succeeds if its notification or its permits come before its context
// ends, otherwise it fails. If the two race, exactly one takes effect: no
// notification and no permit is lost. The error of a canceled wait satisfies
// [errors.Is] for both ctx.Err() and [context.Cause].
//
// # Fairness and overload
//
// Lines are first in, first out. New calls may barge ahead of the line of a
// CapacityResource until its head has waited 1 ms, or never with [FIFO].
// [MaxWaiting] bounds the line, [MaxWait] the wait.
//
// # Observing
//
// See [CapacityResource.Stats], [WithHooks], package condvardebug, which serves
// a page of waiting calls and holders, and modules promcondvar and otelcondvar.
//
// # Memory model
//
// A notification “synchronizes before” the return of the Wait or WaitFor, or
// the receive from Listener.C, that it causes. An Event.Set does so with each
// Wait that returns nil and each IsSet that returns true because of it, and a
// release with any call that acquires its permits.
//
// # Tests with synctest
//
// In a bubble of [testing/synctest] each wait is durably blocking. A value that
// outlives a bubble may be used in another one, or outside.
//
// # Costs
//
// No wait starts a goroutine, and only one under MaxWait starts a timer. If no
// call waits, Notify is one atomic load, and Acquire and Release are one
// compare-and-swap each, unless they contend, the capacity is 2^31 or more, or
// there is an Acquired or Released hook. “In the steady state” excludes the
// first waits on a value, those beyond 1,024 at a time, waits in a bubble, and
// errors that carry a cause.
package condvar
