// Package condvardebug shows, in a service that is stuck, which resource of
// package condvar is full, who holds it, since when somebody waits for it, and
// where in the code goroutines wait. A [Debugger] is wired up like this:
//
//	debugger := &condvardebug.Debugger{}
//	debugger.SetHolderProfileFraction(1) // if wanted, and before Hooks
//	debugger.OnSlowWait(time.Second, func(w condvardebug.SlowWait) {
//		slog.WarnContext(w.Ctx, "slow wait", "wait", w)
//	})
//	db := condvar.NewCapacityResource(10, condvar.WithHooks(debugger.Hooks("db")))
//	debugger.Track("db", db)
//	go debugger.Run(ctx)
//	mux := http.NewServeMux() // of a listener that is not public
//	mux.Handle("/debug/condvar", debugger)
//
// Each part works without the others. Track and the handler alone show the state
// of a resource and where goroutines are blocked. Nothing registers itself with
// a mux, and nothing happens before it is asked for.
//
// # Keep it off the public listener
//
// The page names functions, files and resources, and anybody who may load it
// makes the program stop for as long as it takes to write down the stacks of
// all goroutines, up to six times, in up to some 170 MB of memory (the dump
// is cut off at 64 MB). It belongs on the listener of
// net/http/pprof: on localhost, or behind authentication.
//
// # What each part costs
//
//   - Track: nothing. The resource can be collected all the same, and so
//     can goroutines that are leaked in it be found: the Debugger has weak
//     pointers to resources only, and none to waiters.
//   - Hooks: nothing to calls that do not wait, and to those that do some loads
//     and two looks at the clock. While runtime/trace runs, a region for each
//     wait.
//   - Holders: a resource whose hooks were made while the fraction was above 0
//     takes a mutex in every call. An acquisition that is recorded costs
//     microseconds, and so do all acquisitions and releases while anything is
//     recorded. A fraction of 1 is right for small pools; a larger one, for busy
//     resources, finds what leaks time and again, and as a rule none of
//     the few who hold just now.
//   - A slow wait: the time of the callback, and a stack.
//   - Run: [condvar.CapacityResource.Stats] of each tracked resource per second.
//   - The page: a few stops of the world for each view of it.
//
// # What cannot be seen
//
// A goroutine's stack says that it waits in Acquire, but not for which
// resource. How long a goroutine has been blocked the runtime counts in whole
// minutes, and roughly: it notices at a garbage collection, and counts from the
// end of the one before. So it can be late, and too long.
// A goroutine that waits for a [condvar.Listener] is in a select statement of
// its own code, and is not listed. A callback for slow waits runs when the wait
// is over: those that go on are seen on the page, and in Stats.
package condvardebug
