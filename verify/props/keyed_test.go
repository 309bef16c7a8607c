package props

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"example.com/condvar"
	"example.com/condvar/keyed"
)

// A keyedMachine compares a keyed.Resource of which nobody waits with a map. Calls
// that wait are in the tests of package keyed, in linear and in the soak.
type keyedMachine struct {
	r        *keyed.Resource[int]
	capacity int64
	keys     map[int]condvar.Stats // of those that are in use
}

func TestKeyedResource(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		capacity := rapid.Int64Range(1, 4).Draw(t, "capacity")
		m := &keyedMachine{keyed.New[int](capacity, condvar.MaxWaiting(0)), capacity, map[int]condvar.Stats{}}
		t.Repeat(rapid.StateMachineActions(m))
	})
}

func drawKey(t *rapid.T) int { return rapid.IntRange(0, 3).Draw(t, "key") }

// change changes what is known of key, and drops it if nothing of it is held.
func (m *keyedMachine) change(key int, inUse, rejected int64) {
	s := m.keys[key]
	s.InUse += inUse
	s.Rejected += rejected
	m.keys[key] = s
	if s.InUse == 0 {
		delete(m.keys, key)
	}
}

func (m *keyedMachine) free(key int, n int64) bool { return n <= m.capacity-m.keys[key].InUse }

func (m *keyedMachine) TryAcquire(t *rapid.T) {
	key, n := drawKey(t), rapid.Int64Range(-1, 5).Draw(t, "n")
	ok := false
	panicked := try(func() { ok = m.r.TryAcquireN(key, n) })
	require.Equal(t, n < 0, panicked != "", panicked)
	require.Equal(t, n == 0 || n > 0 && m.free(key, n), ok)
	if ok {
		m.change(key, n, 0)
	}
}

func (m *keyedMachine) Acquire(t *rapid.T) {
	key, n := drawKey(t), rapid.Int64Range(0, 5).Draw(t, "n")
	err := m.r.AcquireN(context.Background(), key, n)
	switch {
	case n > m.capacity && m.capacity > 0:
		require.Equal(t, condvar.ErrTooLarge, err)
	case n == 0 || m.free(key, n):
		require.NoError(t, err)
		m.change(key, n, 0)
	default:
		require.Equal(t, condvar.ErrOverloaded, err)
		m.change(key, 0, 1)
	}
}

func (m *keyedMachine) Do(t *rapid.T) {
	key, n := drawKey(t), rapid.Int64Range(1, 2).Draw(t, "n")
	fits, inside := m.free(key, n), m.r.Len()
	if m.keys[key].InUse == 0 {
		inside++
	}
	failure := errors.New("the error of fn")
	err := m.r.DoN(context.Background(), key, n, func(context.Context) error {
		require.Equal(t, inside, m.r.Len())
		require.Equal(t, m.keys[key].InUse+n, m.r.Stats(key).InUse)
		return failure
	})
	require.Equal(t, fits, err == failure)
	if !fits && (n <= m.capacity || m.capacity == 0) {
		m.change(key, 0, 1)
	}
}

func (m *keyedMachine) Release(t *rapid.T) {
	key, n := drawKey(t), rapid.Int64Range(-1, 4).Draw(t, "n")
	panicked := try(func() { m.r.ReleaseN(key, n) })
	require.Equal(t, n < 0 || n > m.keys[key].InUse, panicked != "", panicked)
	if panicked == "" && n > 0 {
		m.change(key, -n, 0)
	}
}

func (m *keyedMachine) Resize(t *rapid.T) {
	capacity := rapid.Int64Range(0, 4).Draw(t, "capacity")
	require.Equal(t, m.capacity, m.r.Resize(capacity))
	m.capacity = capacity
}

// Check is run after each operation.
func (m *keyedMachine) Check(t *rapid.T) {
	require.Equal(t, len(m.keys), m.r.Len(), fmt.Sprint(maps.Collect(maps.All(m.keys))))
	for key := range 4 {
		want := m.keys[key]
		want.Capacity = m.capacity
		require.Equal(t, want, m.r.Stats(key))
	}
}
