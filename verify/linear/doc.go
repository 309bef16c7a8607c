// Package linear checks that the types of package condvar are linearizable:
// every call takes effect at one moment between its begin and its end. Real
// goroutines run random scripts, and their calls are recorded as histories.
// Porcupine looks for an order of each history that a sequential model of the
// type allows. If there is none, the test logs the history, and draws it into
// an HTML file.
//
// A call that can wait is two operations, both as long as the call: its begin,
// in which it is decided at once or joins the line, and its outcome. So the
// models know the line, and check the order of admission and all of Stats.
//
// Histories are made in two ways, each with several values of GOMAXPROCS:
//
//   - clock=real: on ordinary goroutines.
//   - clock=fake: on the goroutines of a testing/synctest bubble, which also
//     run in parallel. The test knows when all are at rest, and records that as
//     an operation. The model allows it only if every sleeping call has to
//     wait, so lost wake-ups are detected. Time passes only at rest, so the
//     model knows exactly when the head of a line has waited 1 ms.
//
// These calls are strictly linearizable, except as noted:
//
//   - The calls of CapacityResource, canceling a context included, with two
//     exceptions in the model. Close and Resize check the contexts of the
//     waiters one after the other: if several end then, each may be seen as
//     ended or not. An Acquire that does not wait checks its context and then
//     acquires with a compare-and-swap: a context that ends in between is too
//     late, even if others acquired and released the same permits in between.
//   - With the real clock and without FIFO, a history that lasted 1 ms or more
//     may have had a starving head. Then the model allows new calls to be kept
//     out whenever a call waits. With the fake clock it is exact.
//   - A keyed.Resource is a resource for each key, with exceptions. Resize sets
//     one key after another. Len may count a key that a call is about to use,
//     or has just used. While a call that acquires or releases is about to
//     return, a Release may find fewer permits held than Stats says. Once no
//     permit of a key is held and no call waits for it, its totals may be reset
//     or not, until all calls have returned.
//   - If Permit.Release is called several times, the calls that do nothing may
//     return before the one that releases the permits.
//   - Event.Set is two steps: it sets the flag, which IsSet and Wait see at
//     once, and then releases the waiters. Waiters and the end of a context may
//     come in between. NotifyN and NotifyAll of Cond, and this release, also
//     check the contexts one after the other.
//
// A failure prints the seed of its script. With CONDVAR_SEED set to it, every
// history is a run of that script. CONDVAR_VERIFY=long runs many more.
package linear
