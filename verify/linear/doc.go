// Package linear checks that what parallel goroutines see of the types of
// package condvar is linearizable: every call takes effect at one moment
// between its beginning and its end. Random scripts are run by real goroutines,
// the calls are recorded as histories, and porcupine looks for an order of each
// history that a sequential model of the type allows. If there is none, the
// history is logged, and drawn in a file that a browser shows.
//
// A call that can wait is two operations, both as long as the call: to begin it
// (it is decided at once, or joins the line) and its outcome. So the models
// know the line, and check who is served when, and Stats to the last number.
//
// Histories are made in two ways, each with several values of GOMAXPROCS:
//
//   - clock=real: on ordinary goroutines.
//   - clock=fake: on the goroutines of a testing/synctest bubble, which run in
//     parallel just as well. Here the test knows when all are at rest, and
//     records that as an operation, which the model allows only if nobody sleeps
//     whose wait should be over: lost wake-ups show. Time passes at rest only,
//     so the model knows exactly when the head of a line has waited 1 ms.
//
// What is strictly linearizable and what is not:
//
//   - The calls of CapacityResource are, canceling a context included, with two
//     exceptions that the model allows for. Close and Resize look at the contexts
//     of those in line one after the other: of several that end meanwhile, each
//     may be seen as ended or not. And Acquire, where it does not wait, looks at
//     its context and then takes its permits with a compare-and-swap: a context
//     that ends in between comes too late, even if others took those very
//     permits and put them back in between.
//   - With the real clock and without FIFO, a history that lasted 1 ms or more
//     may have had a starving head. Then the model lets newcomers be kept out
//     while somebody waits, and does not ask when. With the fake clock it does.
//   - A keyed.Resource is a resource for each key, with exceptions. Resize sets one
//     key after another. Len may count a key that a call is about to use, or has
//     just used. A Release may find that less is held than Stats says, while
//     another call is about to return that acquires or releases. The totals of a
//     key may or may not begin anew when nothing is held and nobody waits for it,
//     until all calls have returned.
//   - Of several calls of Permit.Release, those that do nothing may return before
//     the one that puts the permits back.
//   - Event.Set is two steps: the flag, which IsSet and Wait see at once, and the
//     release of those who wait, which Waiters and a context that ends in between
//     may come before. NotifyN and NotifyAll of Cond, and this release, look at
//     the contexts one after the other, too.
//
// A failure says which seed repeats its script: with CONDVAR_SEED set to that,
// every history is a run of that script. CONDVAR_VERIFY=long runs many more.
package linear
