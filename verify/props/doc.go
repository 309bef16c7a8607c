// Package props compares the types of condvar with models, by random operations
// in synctest bubbles. Its tests are state machines of rapid, which shrinks
// what it finds to a short list of operations.
//
// A model is a state and two kinds of steps: the operations that a test does,
// which return something, and what the calls do that have been woken and have
// yet to run. Where a test does several operations without letting those run in
// between, the model is in every state that is possible, and each result and
// each look at what can be seen rules some out. If none remains, the object has
// done what its contract does not allow. At rest there is only one for nearly
// all that a test can do, so that it is known for each call whether it has
// returned, and with what, or is parked.
//
// An operation that makes no sense in the present state calls SkipNow of
// rapid's T, which has rapid draw another one. No test is skipped.
package props
