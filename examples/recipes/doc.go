// Package recipes has examples for [example.com/condvar] to copy from. It has
// no code to import. Its examples are whole programs:
//
//   - an HTTP middleware that answers 503 with Retry-After when the server is
//     overloaded
//   - a connection pool, with dial errors, Resize and Close
//   - a crawler with a limit for each host and one for all, which can be paused
//   - a queue that can be closed, whose calls obey a context
//   - a memory budget that admits a request for more than the budget alone
//   - work in flight, and a shutdown that waits for it
//   - a mutex and a readers-writer lock that obey a context
//   - two priorities, from two Conds
//   - a barrier, and a gate for readers and writers, built on a Cond
//   - a limit that adapts itself to the capacity of the backend
package recipes
