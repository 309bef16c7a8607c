// Package condvardebug shows, in a service that is stuck, which resource of
// package condvar calls wait for, how long, and where in the code, and which
// code holds its permits. To set up a [Debugger]:
//
//	debugger := &condvardebug.Debugger{}
//	debugger.SetHolderProfileFraction(1) // if wanted, and before Watch
//	debugger.OnSlowWait(time.Second, func(w condvardebug.SlowWait) {
//		slog.WarnContext(w.Ctx, "slow wait", "wait", w)
//	})
//	db := condvar.NewCapacityResource(10, debugger.Watch("db"))
//	go debugger.Run(ctx)
//	mux := http.NewServeMux() // of a listener that is not public
//	mux.Handle("/debug/condvar", debugger)
//
// [Debugger.Watch] does what [Debugger.Track] and [Debugger.Hooks] do. Each
// works without the other: with Track alone the page shows the state of a
// resource, with Hooks alone the callbacks run. The package does not register
// anything with a mux, and importing it has no effect.
//
// For a resource that several processes share, such as one of module
// etcdcondvar, use Hooks and [Debugger.TrackShared]. The page shows what this
// process holds and waits for.
//
// The page adds up resources with the same name and shows them as one row: for
// example a pool that is recreated, or the resources of a keyed.Resource. The
// oldest wait is the longest of them.
//
// # Keep it off the public listener
//
// The page names functions, files and resources. Serve it where net/http/pprof
// is served: on localhost, or behind authentication.
//
// # What each part costs
//
//   - Track: nothing. The Debugger has only weak pointers to its resources, and
//     none to waiters and their contexts. So resources can be garbage
//     collected, and the goroutine leak profile finds goroutines that are
//     leaked in them.
//   - Hooks: nothing for calls that do not wait. A call that waits records its
//     stack, which takes 0.5 µs, or 4 µs if holders are recorded, because that
//     needs the goroutine ID. While runtime/trace runs, it also makes a region.
//   - Holders: a resource whose hooks were made while the rate was above 0
//     locks two mutexes in every call. A recorded acquisition costs 15 to 20
//     µs, together with its release. Recording one in 100 costs 0.4 µs on
//     average, or 0.9 µs for a Do. A rate of 1 is right for small pools. A
//     larger rate, for busy resources, finds repeated leaks, but usually not
//     the few current holders. While an Acquire is recorded, each Acquire and
//     each Release of the resource needs its goroutine ID: 4 µs. The cost of a
//     release does not depend on the number of watched resources.
//   - A deep stack: more. With 25 more frames, a goroutine ID takes 12 µs, and
//     a recorded acquisition with its release 38 µs.
//   - A slow wait or hold: the time of the callback, at most five times a
//     second.
//   - Run: one [condvar.CapacityResource.Stats] of each resource per second,
//     and 2.4 KB for each name.
//   - The page: one Stats of each resource, and a copy of its records. It is
//     formatted while no lock is held. It does not stop the world.
//   - The view of all stacks (?view=stacks): one pass over all goroutines,
//     which continue to run, at most once a second for all viewers. It takes
//     about 400 bytes for each goroutine, more if many stacks are deep and
//     differ, and gives up if there are more than 250,000 goroutines.
//
// BenchmarkPage and BenchmarkStacks measure the last two, on two processors.
// With 1,000 resources and 10,000 waiters a view takes 39 ms (HTML), 56 ms
// (JSON) or 87 ms (text). During that time a recorded Acquire and Release of
// another resource takes 16 µs, as at other times. One pass over 100,000
// goroutines takes 350 ms; a dump of their stacks would stop the world for 900
// ms.
//
// # The JSON
//
// With ?format=json the page is an object with the fields below. Fields may be
// added. If a field is removed or changes its meaning, version changes.
//
//   - version: 1
//   - time: when the page was made
//   - process: an object: host, pid, program, version (of the main module), go,
//     uptime_seconds (0 if unknown)
//   - headline: what needs attention, in words
//   - holder_profile_fraction: the rate of SetHolderProfileFraction
//   - resources: a list with an object for each name, those that need attention
//     first
//
// A resource has these fields:
//
//   - name, instances: the name, and how many resources have it
//   - shared: how many of them are of [Debugger.TrackShared]
//   - attention: whether it needs attention
//   - words: what is wrong, a list of sentences
//   - capacity, in_use, waiting_calls, waiting_permits: the fields of Stats
//   - oldest_wait_seconds: how long the longest-waiting call has waited
//   - closed, paused: how many of the resources are closed, or have capacity 0
//   - leaked_permits: permits of Permits that were garbage collected without
//     Release
//   - deadlock: whether all permits in use are held by Do, and all of these
//     goroutines wait for a resource that is in a deadlock. Permits that were
//     acquired otherwise may be released by another goroutine; then words has a
//     sentence about it. False for names that have a shared resource.
//   - waits_total, wait_seconds_total, canceled_total, rejected_total: the
//     totals of Stats
//   - waiting_at: a list with an object for each call site that waits, the
//     longest wait first
//   - held_at: a list with an object for each call site that holds: leaks, then
//     exact ones, then guesses, each with the longest first
//   - waiting_at_more, held_at_more: how many call sites are not in the lists,
//     which have at most 30 entries
//   - history: null, or the samples of Run of the last five minutes, as an
//     object: seconds_per_column, and the lists capacity, in_use, waiting_calls
//     and rejected_calls of 60 columns, the oldest first; null is unknown
//
// A call site that waits has these fields:
//
//   - calls, permits: how many calls wait there, and for how many permits
//   - longest_seconds: how long the first of them has waited
//   - next_deadline_seconds: the time until the earliest deadline of the
//     contexts; null if none has a deadline
//   - goroutines: the IDs of some of them, if holders are recorded
//   - stack: the call site, in the form of SlowWait.Stack
//
// A call site that holds has these fields:
//
//   - by: exact, guess or leaked
//   - holds, permits: the number of acquisitions, and of their permits
//   - longest_seconds, goroutines, stack: as above, of the acquisition
//   - waits_for: a list of the names of the resources that the holders wait for
//
// With ?view=stacks, version and time are as above, and there are these fields:
//
//   - goroutines: the number of all goroutines
//   - too_many: whether there are too many, so that their stacks were not taken
//   - blocked: a list of objects with method, count and stack, the most
//     frequent first
//
// # What cannot be seen
//
// Holders that use Acquire and Release are a guess: see
// [Debugger.SetHolderProfileFraction]. A goroutine that waits for a
// [condvar.Listener] is in a select statement of its own code, and is not
// listed. Waits for a [condvar.Cond] or a [condvar.Event] are not recorded:
// ?view=stacks shows where they are, but not for how long. A callback for slow
// waits runs when the wait is over; the page shows waits that are not over.
package condvardebug
