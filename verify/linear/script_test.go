package linear

import (
	"math/rand/v2"
	"slices"
	"time"
)

// A kind is a kind of operation.
type kind string

const (
	begin   kind = "begin" // the first half of a call that can wait
	outcome kind = "end"   // its second half
	cancel  kind = "cancel"
	rest    kind = "rest" // all are at rest; then n nanoseconds pass

	tryAcquire kind = "TryAcquire"
	release    kind = "Release"

	releasePermit kind = "Permit.Release"
	resize        kind = "Resize"
	resizeKeys    kind = "Resize of keys" // the first half; a resize of each follows
	length        kind = "Len"
	closing       kind = "Close"
	stats         kind = "Stats"

	set      kind = "Set"      // the first half of Set
	released kind = "released" // its second half
	clearing kind = "Clear"
	isSet    kind = "IsSet"

	notify    kind = "Notify"
	notifyN   kind = "NotifyN"
	notifyAll kind = "NotifyAll"
	waiters   kind = "Waiters" // of an Event too
)

// An op is an operation, or half of one.
type op struct {
	kind  kind
	call  int     // number of the call that can wait, or of the resizeKeys
	key   int     // or 0
	n     int64   // permits, a capacity, waiters to notify, or nanoseconds
	yield bool    // let others run before and during the operation
	ended callSet // see findEnded
	busy  callSet // see findOverlaps
	slack int64   // see findOverlaps
}

// A callSet is a set of calls that can wait, or of keys.
type callSet uint64

func (s callSet) has(call int) bool { return s>>call&1 != 0 }

const (
	helpers    = 2           // workers that never wait
	maxWorkers = helpers + 4 // the others acquire permits, or wait
	workerOps  = 8           // without cancels
	maxCalls   = (maxWorkers - helpers) * workerOps
)

// A script is the operations of the goroutines of a history.
type script struct {
	workers int
	calls   int             // number of calls that can wait
	rounds  [][][]op        // by round and worker
	pauses  []time.Duration // after each round
	last    []op            // to end all waits
}

// newScript returns a random script. helper and taker return a random operation
// for a worker that never waits, and for one that does.
func newScript(random *rand.Rand, helper, taker func() op) *script {
	s := &script{workers: helpers + 2 + random.IntN(maxWorkers-helpers-1)}
	rounds := 1 << random.IntN(3)
	for range rounds {
		round := make([][]op, s.workers)
		first := s.calls
		for w := range round {
			for range workerOps / rounds {
				next := taker
				if w < helpers {
					next = helper
				}
				o := next()
				if o.kind == begin {
					o.call = s.calls
					s.calls++
				}
				o.yield = random.IntN(3) == 0
				round[w] = append(round[w], o)
			}
		}
		for call := first; call < s.calls; call++ {
			if random.IntN(2) == 0 {
				w := random.IntN(s.workers)
				at := random.IntN(len(round[w]) + 1)
				round[w] = slices.Insert(round[w], at, op{kind: cancel, call: call})
			}
		}
		s.rounds = append(s.rounds, round)
		s.pauses = append(s.pauses, time.Duration(random.IntN(3))*time.Millisecond/2)
	}
	return s
}

// cancelAll returns operations that end all waits.
func (s *script) cancelAll() []op {
	var ops []op
	for call := range s.calls {
		ops = append(ops, op{kind: cancel, call: call})
	}
	return ops
}

// A choice is a kind of operation, and its weight in a script.
type choice struct {
	weight int
	kind   kind
}

// choose returns one of the choices.
func choose(random *rand.Rand, choices []choice) kind {
	sum := 0
	for _, c := range choices {
		sum += c.weight
	}
	at := random.IntN(sum)
	for _, c := range choices {
		if at -= c.weight; at < 0 {
			return c.kind
		}
	}
	panic("unreachable")
}
