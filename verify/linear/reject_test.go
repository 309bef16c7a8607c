package linear

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/anishathalye/porcupine"
	"github.com/stretchr/testify/require"

	"example.com/condvar"
)

// A past is an operation in a handwritten history.
type past struct {
	from, to int64
	op       op
	out      any
}

// historyOf returns a history in which each client does one operation.
func historyOf(pasts []past) []porcupine.Operation {
	var history []porcupine.Operation
	for client, p := range pasts {
		history = append(history, halves(client, p.from, p.to, p.op, p.out)...)
	}
	findEnded(history)
	findOverlaps(history)
	return history
}

var (
	try1     = op{kind: tryAcquire, n: 1}
	release1 = op{kind: release, n: 1}
	isClosed = op{kind: closing}
	seen     = op{kind: stats}
)

// call returns a call that waits, for one permit of a resource.
func call(number int) op { return op{kind: begin, call: number, n: 1} }

func cancelOf(number int) op { return op{kind: cancel, call: number} }

// pause returns a rest for the given number of half milliseconds.
func pause(halves int64) op { return op{kind: rest, n: halves * int64(time.Millisecond) / 2} }

// resourceStats is a snapshot of a resource with one permit.
func resourceStats(inUse, waiting int64) condvar.Stats {
	return condvar.Stats{Capacity: 1, InUse: inUse, Waiting: waiting, WaitingN: waiting}
}

// oneForEach is a keyed.Resource with one permit for each key and MaxWaiting 0.
var oneForEach = keyedModel{resourceModel{capacity: 1, places: 1}}

var keysInUse = op{kind: length}

// of returns o for a key.
func of(key int, o op) op {
	o.key = key
	return o
}

func resizeOf(number int, capacity int64) op {
	return op{kind: resizeKeys, call: number, n: capacity}
}

// The histories are pairs: a possible one, and an impossible one with the
// smallest difference. The resource has one permit.
var handmade = []struct {
	name  string
	model func(exactTime bool) porcupine.NondeterministicModel
	good  []past
	bad   []past
}{
	{
		"one permit is held by one at a time", resourceModel{capacity: 1}.porcupine,
		[]past{{1, 2, try1, true}, {3, 4, release1, true}, {5, 6, try1, true}},
		[]past{{1, 2, try1, true}, {3, 6, release1, true}, {4, 5, release1, false}, {4, 5, try1, true}, {7, 8, try1, true}},
	},
	{
		"with FIFO nobody overtakes", resourceModel{capacity: 1, fifo: true}.porcupine,
		[]past{{1, 2, try1, true}, {3, 20, call(0), success}, {4, 5, seen, resourceStats(1, 1)}, {6, 7, release1, true}, {8, 9, try1, false}},
		[]past{{1, 2, try1, true}, {3, 20, call(0), success}, {4, 5, seen, resourceStats(1, 1)}, {6, 7, release1, true}, {8, 9, try1, true}, {10, 11, release1, true}},
	},
	{
		"a free permit is refused only if somebody waits", resourceModel{capacity: 1, fifo: true}.porcupine,
		[]past{{1, 2, try1, true}, {3, 9, call(0), success}, {4, 5, release1, true}, {6, 7, try1, false}},
		[]past{{1, 2, try1, true}, {4, 5, release1, true}, {6, 7, try1, false}, {8, 9, call(0), success}},
	},
	{
		"who waits longer is served first", resourceModel{capacity: 1, fifo: true}.porcupine,
		[]past{{1, 2, try1, true}, {3, 9, call(0), success}, {4, 5, seen, resourceStats(1, 1)}, {6, 20, call(1), success}, {7, 8, release1, true}, {10, 11, release1, true}},
		[]past{{1, 2, try1, true}, {3, 20, call(0), success}, {4, 5, seen, resourceStats(1, 1)}, {6, 9, call(1), success}, {7, 8, release1, true}, {10, 11, release1, true}},
	},
	{
		"a head that has waited 1 ms is not overtaken", resourceModel{capacity: 1}.porcupine,
		[]past{{1, 2, try1, true}, {3, 20, call(0), success}, {4, 5, pause(1), 1}, {6, 7, release1, true}, {8, 9, try1, true}, {10, 11, release1, true}},
		[]past{{1, 2, try1, true}, {3, 20, call(0), success}, {4, 5, pause(2), 1}, {6, 7, release1, true}, {8, 9, try1, true}, {10, 11, release1, true}},
	},
	{
		"a head that fits does not sleep", resourceModel{capacity: 1}.porcupine,
		[]past{{1, 2, try1, true}, {3, 20, call(0), success}, {4, 5, pause(0), 1}, {6, 7, release1, true}},
		[]past{{1, 2, try1, true}, {3, 20, call(0), success}, {4, 5, release1, true}, {6, 7, pause(0), 1}},
	},
	{
		"who was canceled first takes nothing that is released then", resourceModel{capacity: 1}.porcupine,
		[]past{{1, 2, try1, true}, {3, 9, call(0), success}, {4, 7, cancelOf(0), nil}, {5, 6, release1, true}},
		[]past{{1, 2, try1, true}, {3, 9, call(0), success}, {4, 5, cancelOf(0), nil}, {6, 7, release1, true}},
	},
	{
		"a context fails a call only if it has ended", resourceModel{capacity: 1}.porcupine,
		[]past{{1, 3, call(0), canceled}, {2, 4, cancelOf(0), nil}},
		[]past{{1, 2, call(0), canceled}, {3, 4, cancelOf(0), nil}},
	},
	{
		"a context that has ended fails a call", resourceModel{capacity: 1}.porcupine,
		[]past{{1, 2, cancelOf(0), nil}, {3, 4, call(0), canceled}},
		[]past{{1, 2, cancelOf(0), nil}, {3, 4, call(0), success}},
	},
	{
		"a call that failed has taken nothing", resourceModel{capacity: 1}.porcupine,
		[]past{{1, 2, cancelOf(0), nil}, {3, 4, call(0), canceled}, {5, 6, seen, resourceStats(0, 0)}},
		[]past{{1, 2, cancelOf(0), nil}, {3, 4, call(0), canceled}, {5, 6, seen, resourceStats(1, 0)}},
	},
	{
		"too late for its context is only who did not wait", resourceModel{capacity: 1}.porcupine,
		[]past{{1, 20, call(0), success}, {2, 3, try1, true}, {4, 5, cancelOf(0), nil}, {6, 7, release1, true}},
		[]past{{1, 2, try1, true}, {3, 20, call(0), success}, {4, 5, cancelOf(0), nil}, {6, 7, release1, true}},
	},
	{
		"Close looks at contexts one after the other", resourceModel{capacity: 0}.porcupine,
		[]past{{1, 20, call(0), closed}, {2, 21, call(1), canceled}, {3, 4, pause(0), 2}, {5, 10, isClosed, nil}, {6, 7, cancelOf(0), nil}, {8, 9, cancelOf(1), nil}},
		[]past{{1, 20, call(0), closed}, {2, 21, call(1), canceled}, {3, 4, pause(0), 2}, {5, 6, isClosed, nil}, {7, 8, cancelOf(0), nil}, {9, 10, cancelOf(1), nil}},
	},
	{
		"a closed resource grants nothing", resourceModel{capacity: 1}.porcupine,
		[]past{{1, 2, isClosed, nil}, {3, 4, try1, false}},
		[]past{{1, 2, isClosed, nil}, {3, 4, try1, true}},
	},
	{
		"only what does not fit is too large", resourceModel{capacity: 1}.porcupine,
		[]past{{1, 2, op{kind: begin, n: 2}, tooLarge}},
		[]past{{1, 2, op{kind: begin, n: 1}, tooLarge}},
	},
	{
		"no more calls wait than MaxWaiting says", resourceModel{capacity: 1, places: 1}.porcupine,
		[]past{{1, 2, try1, true}, {3, 9, call(0), overloaded}},
		[]past{{1, 2, try1, true}, {3, 9, call(0), success}, {4, 5, pause(0), 1}, {6, 7, release1, true}},
	},
	{
		"who need not wait is not rejected", resourceModel{capacity: 1, places: 1}.porcupine,
		[]past{{1, 2, call(0), success}},
		[]past{{1, 2, call(0), overloaded}},
	},
	{
		"a wait that MaxWait ends has taken nothing", resourceModel{capacity: 1, maxWait: true}.porcupine,
		[]past{{1, 2, try1, true}, {3, 9, call(0), overloaded}, {4, 5, pause(0), 1}, {10, 11, release1, true}, {12, 13, try1, true}},
		[]past{{1, 2, try1, true}, {3, 9, call(0), overloaded}, {4, 5, pause(0), 1}, {10, 11, release1, true}, {12, 13, try1, false}},
	},
	{
		"more than the capacity is had alone", resourceModel{capacity: 1, oversized: true}.porcupine,
		[]past{{1, 2, op{kind: begin, n: 2}, success}, {3, 4, try1, false}},
		[]past{{1, 2, op{kind: begin, n: 2}, success}, {3, 4, try1, true}},
	},
	{
		"Resize returns the capacity before", resourceModel{capacity: 1}.porcupine,
		[]past{{1, 2, op{kind: resize, n: 3}, int64(1)}},
		[]past{{1, 2, op{kind: resize, n: 3}, int64(3)}},
	},
	{
		"a Permit is given back once", resourceModel{capacity: 2, permit: 1}.porcupine,
		[]past{{1, 2, try1, true}, {3, 4, op{kind: releasePermit}, true}, {5, 6, op{kind: releasePermit}, true}, {7, 8, seen, condvar.Stats{Capacity: 2, InUse: 1}}},
		[]past{{1, 2, try1, true}, {3, 4, op{kind: releasePermit}, true}, {5, 6, op{kind: releasePermit}, true}, {7, 8, seen, condvar.Stats{Capacity: 2}}},
	},
	{
		"what is not held cannot be released", resourceModel{capacity: 1}.porcupine,
		[]past{{1, 2, release1, false}},
		[]past{{1, 2, release1, true}},
	},
	{
		"each key has a limit of its own", oneForEach.porcupine,
		[]past{{1, 2, of(1, try1), true}, {3, 4, of(2, try1), true}},
		[]past{{1, 2, of(1, try1), true}, {3, 4, of(1, try1), true}},
	},
	{
		"a key counts while it is held", oneForEach.porcupine,
		[]past{{1, 2, of(1, try1), true}, {3, 4, keysInUse, 1}, {5, 6, of(1, release1), true}, {7, 8, keysInUse, 0}},
		[]past{{1, 2, of(1, try1), true}, {3, 4, keysInUse, 0}, {5, 6, of(1, release1), true}, {7, 8, keysInUse, 0}},
	},
	{
		"a key that is idle does not count", oneForEach.porcupine,
		[]past{{1, 2, of(1, try1), true}, {3, 6, of(1, release1), true}, {5, 8, keysInUse, 1}},
		[]past{{1, 2, of(1, try1), true}, {3, 4, of(1, release1), true}, {5, 8, keysInUse, 1}},
	},
	{
		"what is being acquired may be too late for a Release", oneForEach.porcupine,
		[]past{{1, 9, of(1, try1), true}, {2, 5, of(1, seen), resourceStats(1, 0)}, {6, 8, of(1, release1), false}},
		[]past{{1, 3, of(1, try1), true}, {2, 5, of(1, seen), resourceStats(1, 0)}, {6, 8, of(1, release1), false}},
	},
	{
		"what another key holds cannot be released", oneForEach.porcupine,
		[]past{{1, 2, of(1, try1), true}, {3, 4, of(2, release1), false}},
		[]past{{1, 2, of(1, try1), true}, {3, 4, of(2, release1), true}},
	},
	{
		"the totals of a key are not lost while it is held", oneForEach.porcupine,
		[]past{{1, 2, of(1, try1), true}, {3, 4, of(1, call(0)), overloaded}, {5, 6, of(1, seen), condvar.Stats{Capacity: 1, InUse: 1, Rejected: 1}}},
		[]past{{1, 2, of(1, try1), true}, {3, 4, of(1, call(0)), overloaded}, {5, 6, of(1, seen), condvar.Stats{Capacity: 1, InUse: 1}}},
	},
	{
		"the totals of a key end with it", oneForEach.porcupine,
		[]past{{1, 2, of(1, try1), true}, {3, 4, of(1, call(0)), overloaded}, {5, 6, of(1, release1), true}, {7, 8, pause(0), 0}, {9, 10, of(1, seen), condvar.Stats{Capacity: 1}}},
		[]past{{1, 2, of(1, try1), true}, {3, 4, of(1, call(0)), overloaded}, {5, 6, of(1, release1), true}, {7, 8, pause(0), 0}, {9, 10, of(1, seen), condvar.Stats{Capacity: 1, Rejected: 1}}},
	},
	{
		"Resize is for keys that are not in use, too", oneForEach.porcupine,
		[]past{{1, 2, resizeOf(0, 2), int64(1)}, {3, 4, of(1, seen), condvar.Stats{Capacity: 2}}, {5, 6, of(2, seen), condvar.Stats{Capacity: 2}}},
		[]past{{1, 2, resizeOf(0, 2), int64(1)}, {3, 4, of(1, seen), condvar.Stats{Capacity: 2}}, {5, 6, of(2, seen), condvar.Stats{Capacity: 1}}},
	},
	{
		"of two capacities all keys get the same last", oneForEach.porcupine,
		[]past{{1, 9, resizeOf(0, 2), int64(1)}, {2, 8, resizeOf(1, 3), int64(2)}, {10, 11, of(1, seen), condvar.Stats{Capacity: 3}}, {12, 13, of(2, seen), condvar.Stats{Capacity: 3}}},
		[]past{{1, 9, resizeOf(0, 2), int64(1)}, {2, 8, resizeOf(1, 3), int64(2)}, {10, 11, of(1, seen), condvar.Stats{Capacity: 3}}, {12, 13, of(2, seen), condvar.Stats{Capacity: 2}}},
	},
	{
		"Set followed by Clear releases who waits", eventModel,
		[]past{{1, 20, call(0), success}, {2, 3, pause(0), 1}, {4, 5, op{kind: set, n: 1}, nil}, {6, 7, op{kind: clearing}, nil}, {8, 9, cancelOf(0), nil}},
		[]past{{1, 20, call(0), canceled}, {2, 3, pause(0), 1}, {4, 5, op{kind: set, n: 1}, nil}, {6, 7, op{kind: clearing}, nil}, {8, 9, cancelOf(0), nil}},
	},
	{
		"a context may end between the flag and the release", eventModel,
		[]past{{1, 20, call(0), canceled}, {2, 3, pause(0), 1}, {4, 9, op{kind: set, n: 1}, nil}, {5, 6, op{kind: isSet}, true}, {7, 8, cancelOf(0), nil}},
		[]past{{1, 20, call(0), canceled}, {2, 3, pause(0), 1}, {4, 6, op{kind: set, n: 1}, nil}, {5, 6, op{kind: isSet}, true}, {7, 8, cancelOf(0), nil}},
	},
	{
		"a notification wakes who is first in line", condModel,
		[]past{{1, 7, call(0), success}, {2, 3, pause(0), 1}, {4, 20, call(1), canceled}, {5, 6, op{kind: notify}, true}, {8, 9, cancelOf(1), nil}},
		[]past{{1, 20, call(0), canceled}, {2, 3, pause(0), 1}, {4, 7, call(1), success}, {5, 6, op{kind: notify}, true}, {8, 9, cancelOf(0), nil}},
	},
	{
		"a notification that wakes nobody says so", condModel,
		[]past{{1, 9, call(0), canceled}, {2, 3, pause(0), 1}, {4, 6, cancelOf(0), nil}, {5, 7, op{kind: notifyAll}, 0}},
		[]past{{1, 9, call(0), canceled}, {2, 3, pause(0), 1}, {4, 6, cancelOf(0), nil}, {5, 7, op{kind: notifyAll}, 1}},
	},
}

func TestModelsTellGoodHistoriesFromBad(t *testing.T) {
	for _, pair := range handmade {
		t.Run(pair.name, func(t *testing.T) {
			nondeterministic := pair.model(true)
			model := nondeterministic.ToModel()
			require.True(t, porcupine.CheckOperations(model, historyOf(pair.good)))
			require.False(t, porcupine.CheckOperations(model, historyOf(pair.bad)))
		})
	}
}

func TestABadHistoryIsDrawnAndLogged(t *testing.T) {
	nondeterministic := resourceModel{capacity: 1}.porcupine(true)
	model := nondeterministic.ToModel()
	history := historyOf([]past{{1, 4, try1, true}, {2, 5, call(0), success}, {3, 6, release1, false}})
	path := filepath.Join(t.ArtifactDir(), "history.html")
	require.NoError(t, draw(model, history, path))
	picture, err := os.ReadFile(path)
	require.NoError(t, err)
	require.Contains(t, string(picture), "TryAcquire(1): true")
	require.Equal(t, `   1 to    4  client 0  TryAcquire(1): true
   2 to    5  client 1  begin call 0(1)
   2 to    5  client 1  end call 0: nil
   3 to    6  client 2  Release(1): false
`, text(model, history))
}
