// Package matrix uses objects at package level in every order of places,
// outside bubbles of testing/synctest and inside them, each order in a process
// of its own. It has tests only.
//
// A channel belongs to the bubble that it was made in. To use it elsewhere is a
// fatal error, which no test survives, and to wait there for a channel from
// outside stops the fake clock for ever. So whatever keeps a channel, as a list
// of waiters for later waits does, can pass every test that stays in one place,
// and kill the first program that does not.
//
// A case is an object and a list of steps, each of them a use of it at a place,
// such as
//
//	Cond/Wait.released@outside,Wait.canceled@bubble
//
// With CONDVAR_VERIFY=long the tests run the full product, which takes minutes.
// With -short one process takes a use through all pairs of places, instead of a
// process for each pair. A fault that needs a new process is not seen then.
// CONDVAR_MATRIX_CASE is the case for a single process to run; a case that
// fails is printed with the command that runs it again, to which the build tags
// have to be added.
//
// The package has two ways to find out whether it is in a bubble. Which of them
// is built depends on the Go release. The tests have to pass with both, on
// every release:
//
//	go test ./matrix
//	go test -tags condvar_clock ./matrix
package matrix
