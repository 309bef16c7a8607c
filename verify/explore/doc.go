// Package explore tries the interleavings of small scenes on the real Cond,
// Listener, Event and CapacityResource: all of them, or all up to a number of
// preemptions, or a sample.
//
// In a build with the tag condvar_explore, the library calls a hook before each
// operation on state that goroutines share: a mutex, an atomic, a channel. The
// hook blocks. When synctest.Wait returns, every goroutine of the scene is at a
// hook, parked in the library, or finished. A depth-first search picks the one
// that runs next. If none can run, the scene is at rest, and its invariant is
// checked.
//
//	go test -tags condvar_explore ./explore -v
//	go test -tags condvar_explore ./explore -v -run 'TestScenes/Event'
//
// A failure prints its schedule, step by step, and the command that replays it.
package explore
