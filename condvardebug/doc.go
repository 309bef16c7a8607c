// Package condvardebug shows, in a service that is stuck, which resource of
// package condvar is waited for, since when, where in the code, and who holds
// it. A [Debugger] is wired up like this:
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
// [Debugger.Watch] does what [Debugger.Track] and [Debugger.Hooks] do. Each of
// them works without the other: Track alone shows the state of a resource,
// Hooks alone call the callbacks. Nothing registers itself with a mux, and
// nothing happens before it is asked for.
//
// Resources of one name are added up, and are one row: a pool that is made
// anew, or the resources of a keyed.Resource. The oldest wait is that of all of
// them.
//
// # Keep it off the public listener
//
// The page names functions, files and resources. It belongs on the listener of
// net/http/pprof: on localhost, or behind authentication.
//
// # What each part costs
//
//   - Track: nothing. The Debugger has weak pointers to resources only, and none
//     to waiters and their contexts. So resources are collected all the same,
//     and the goroutine leak profile finds who is leaked in them.
//   - Hooks: nothing to calls that do not wait. A call that waits makes a record
//     of its stack, 0.5 µs in all; 4 µs if holders are recorded, because the number
//     of the goroutine is needed then. While runtime/trace runs, a region.
//   - Holders: a resource whose hooks were made while the fraction was above 0
//     locks two mutexes in every call. An acquisition that is recorded costs 15
//     to 20 µs, together with its release. One in 100 costs 0.4 µs on average, or
//     0.9 µs for a Do. A fraction of 1 is right for small
//     pools; a larger one, for busy resources, finds what leaks time and again,
//     and as a rule none of the few who hold just now. While an Acquire is
//     recorded, each Acquire and each Release of the resource needs the number of
//     its goroutine: 4 µs. A release costs the same however many resources are
//     watched.
//   - A deep stack: more. With 25 frames more, the number of a goroutine takes
//     12 µs, and a recorded acquisition with its release 38 µs.
//   - A slow wait or hold: the time of the callback, at most five times a second.
//   - Run: [condvar.CapacityResource.Stats] of each resource per second, and 2.4
//     KB for each name.
//   - The page: Stats of each resource, and a copy of its records. It is
//     formatted while no lock is held. No view of it stops the program.
//   - The view of all stacks (?view=stacks): one pass over all goroutines, which
//     run meanwhile, at most once a second whoever looks. It takes about 400
//     bytes for each goroutine, more if many stacks are deep and differ, and
//     gives up if there are more than 250,000 goroutines.
//
// BenchmarkPage and BenchmarkStacks measure the last two, on two processors.
// With 1,000 resources and 10,000 waiters a view takes 39 ms (HTML), 56 ms
// (JSON) or 87 ms (text). An Acquire and Release of another resource, with its
// record, takes 16 µs meanwhile, as it does otherwise. One pass over 100,000
// goroutines takes 350 ms; a dump of their stacks would stop the program for
// 900 ms.
//
// # The JSON
//
// With ?format=json the page is an object with the fields that follow. Fields
// may be added. If one changes its meaning or goes, version changes.
//
//   - version: 1
//   - time: when the page was made
//   - process: an object: host, pid, program, version (of the main module), go,
//     uptime_seconds (0 where it is not known)
//   - headline: what needs attention, in words
//   - holder_profile_fraction: what SetHolderProfileFraction has set
//   - resources: a list with an object for each name, those that need attention
//     first
//
// A resource has these fields:
//
//   - name, instances: the name, and how many resources have it
//   - attention: whether it needs attention
//   - words: what is the matter, a list of sentences
//   - capacity, in_use, waiting_calls, waiting_permits: those of Stats
//   - oldest_wait_seconds: how long the call waits that waits longest
//   - closed, paused: how many of the resources are closed, or have capacity 0
//   - leaked_permits: of Permits that were collected and never released
//   - deadlock: whether all permits in use are held by Do, and all of these
//     goroutines wait for a resource that is in a deadlock. What else was
//     acquired may be released by another goroutine; words has a sentence then.
//   - waits_total, wait_seconds_total, canceled_total, rejected_total: those of
//     Stats
//   - waiting_at: a list with an object for each call site that waits, the longest
//     first
//   - held_at: a list with an object for each call site that holds, leaks first,
//     then exact ones, then guesses, each with the longest first
//   - waiting_at_more, held_at_more: how many call sites are not in the lists,
//     which have at most 30
//   - history: null, or the last five minutes as Run saw them, as an object:
//     seconds_per_column, and the lists capacity, in_use, waiting_calls and
//     rejected_calls of 60 columns, the oldest first, in which null is unknown
//
// A call site that waits has these fields:
//
//   - calls, permits: how many calls wait there, and for how many permits
//   - longest_seconds: how long the first of them has waited
//   - next_deadline_seconds: when the first of the contexts ends by its deadline;
//     null if none has one
//   - goroutines: the numbers of some of them, if holders are recorded
//   - stack: the call site, in the form of SlowWait.Stack
//
// A call site that holds has these fields:
//
//   - by: exact, guess or leaked
//   - holds, permits: how many acquisitions there were, and of how many permits
//   - longest_seconds, goroutines, stack: as above, of the acquisition
//   - waits_for: a list of the names of resources that the holders wait for
//
// With ?view=stacks, version and time are as above, and there are these fields:
//
//   - goroutines: how many there are
//   - too_many: whether they are too many, and so were not looked at
//   - blocked: a list of objects with method, count and stack, the most frequent
//     first
//
// # What cannot be seen
//
// Who holds by Acquire and Release is a guess: see
// [Debugger.SetHolderProfileFraction]. A goroutine that waits for a
// [condvar.Listener] is in a select statement of its own code, and is not
// listed. What has waited for a [condvar.Cond] or a [condvar.Event], and for
// how long, is not recorded; ?view=stacks shows where. A callback for slow
// waits runs when the wait is over: those that go on are on the page.
package condvardebug
