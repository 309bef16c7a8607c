// Package matrix uses package-level objects in every order of places, outside
// and inside bubbles of testing/synctest, each order in its own process. It
// contains only tests.
//
// A channel belongs to the bubble that it was made in. Using it elsewhere is a
// fatal error, which ends the process. Waiting in a bubble for a channel from
// outside stops the fake clock forever. So an object that keeps a channel, such
// as a list of waiters for later waits, can pass every test that stays in one
// place, and crash the first program that does not.
//
// A case is an object and a list of steps. Each step is a use of the object at
// a place, for example
//
//	Cond/Wait.released@outside,Wait.canceled@bubble
//
// With CONDVAR_VERIFY=long the tests run the full product, which takes minutes.
// With -short one process tests a use at all pairs of places, instead of one
// process per pair. A fault that needs a new process is not detected then.
// CONDVAR_MATRIX_CASE is the case that a single process runs. A failure prints
// the command that repeats the case, without the build tags.
//
// Package condvar has two ways to find out whether it is in a bubble. The Go
// release determines which one is built. The tests have to pass with both, on
// every release:
//
//	go test ./matrix
//	go test -tags condvar_clock ./matrix
package matrix
