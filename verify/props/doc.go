// Package props compares the types of condvar with models, by random operations
// in synctest bubbles. Its tests are state machines of rapid, which shrinks a
// failure to a short list of operations.
//
// A model is a state and two kinds of steps: operations of the test, which
// return results, and steps of calls that were woken but have not run yet. If a
// test does several operations without letting these calls run in between, the
// model is in all possible states. Each result and each observation excludes
// some of them. If none is left, the object has violated its contract. At rest
// nearly always one state is left. It says whether each call has returned, with
// which result, or is parked.
//
// An operation that makes no sense in the current state calls SkipNow of
// rapid's T, so that rapid draws another one. No test is skipped.
package props
