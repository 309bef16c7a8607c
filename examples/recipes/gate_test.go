package recipes_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"

	"github.com/stretchr/testify/require"
	"golang.org/x/sync/errgroup"

	"example.com/condvar"
)

// An RWGate admits many readers or one writer. New readers wait behind a
// waiting writer, so that a stream of readers cannot starve it.
type RWGate struct {
	changed *condvar.Cond // L guards the fields below
	readers int           // inside
	writing bool          // a writer is inside
	writers int           // waiting
}

// NewRWGate returns an empty gate.
func NewRWGate() *RWGate {
	return &RWGate{changed: condvar.NewCond(new(sync.Mutex))}
}

// RLock enters as a reader.
func (g *RWGate) RLock(ctx context.Context) error {
	g.changed.L.Lock()
	defer g.changed.L.Unlock()
	err := g.changed.WaitFor(ctx, func() bool { return !g.writing && g.writers == 0 })
	if err != nil {
		return err
	}
	g.readers++
	return nil
}

// RUnlock leaves as a reader.
func (g *RWGate) RUnlock() {
	g.changed.L.Lock()
	defer g.changed.L.Unlock()
	g.readers--
	if g.readers == 0 {
		// Notify could wake a reader, which must wait for the writer.
		g.changed.NotifyAll()
	}
}

// Lock enters as the writer.
func (g *RWGate) Lock(ctx context.Context) error {
	g.changed.L.Lock()
	defer g.changed.L.Unlock()
	g.writers++
	err := g.changed.WaitFor(ctx, func() bool { return !g.writing && g.readers == 0 })
	g.writers--
	if err != nil {
		g.changed.NotifyAll() // readers may have waited only for this writer
		return err
	}
	g.writing = true
	return nil
}

// Unlock leaves as the writer.
func (g *RWGate) Unlock() {
	g.changed.L.Lock()
	defer g.changed.L.Unlock()
	g.writing = false
	g.changed.NotifyAll()
}

// A gate for readers and writers. Two readers do not pause until they see the
// last change, but the writer still gets in.
func Example_readersWriter() {
	gate := NewRWGate()
	version, checksum := 0, 0 // guarded by gate

	g, ctx := errgroup.WithContext(context.Background())
	for range 2 {
		g.Go(func() error {
			for last := 0; last < 3; {
				if err := gate.RLock(ctx); err != nil {
					return fmt.Errorf("read: %w", err)
				}
				last = version
				whole := checksum == 7*version
				gate.RUnlock()
				if !whole {
					return errors.New("read: half of a change")
				}
			}
			return nil
		})
	}
	g.Go(func() error {
		for range 3 {
			if err := gate.Lock(ctx); err != nil {
				return fmt.Errorf("write: %w", err)
			}
			version++
			checksum += 7
			gate.Unlock()
		}
		return nil
	})
	if err := g.Wait(); err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println("version", version, "was seen by all")

	// Output: version 3 was seen by all
}

// newBubbleGate returns an RWGate whose lock works in a bubble.
func newBubbleGate() *RWGate {
	g := NewRWGate()
	g.changed.L = newChanLock()
	return g
}

func TestRWGate_WriterThatWaitsHoldsBackNewReaders(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newBubbleGate()
		for range 2 {
			require.NoError(t, g.RLock(t.Context()))
		}
		writer := start(func() error { return g.Lock(t.Context()) })
		reader := start(func() error { return g.RLock(t.Context()) })
		g.RUnlock()
		synctest.Wait()
		writer.requireParked(t)
		reader.requireParked(t)

		g.RUnlock()
		synctest.Wait()
		writer.requireDone(t, nil)
		reader.requireParked(t)
		other := start(func() error { return g.Lock(t.Context()) })
		other.requireParked(t)

		g.Unlock()
		synctest.Wait()
		other.requireDone(t, nil)
		reader.requireParked(t)

		g.Unlock()
		synctest.Wait()
		reader.requireDone(t, nil)
		g.RUnlock()
		require.Zero(t, g.readers)
	})
}

func TestRWGate_WriterThatGivesUpLetsReadersIn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newBubbleGate()
		require.NoError(t, g.RLock(t.Context()))
		ctx, cancel := context.WithCancel(t.Context())
		writer := start(func() error { return g.Lock(ctx) })
		readers := []*asyncCall{
			start(func() error { return g.RLock(t.Context()) }),
			start(func() error { return g.RLock(t.Context()) }),
		}
		for _, r := range readers {
			r.requireParked(t)
		}
		cancel()
		synctest.Wait()
		writer.requireDone(t, context.Canceled)
		for _, r := range readers {
			r.requireDone(t, nil)
		}
		require.Equal(t, 3, g.readers)
		require.Zero(t, g.changed.Waiters())
	})
}

func TestRWGate_LastReaderLetsTheWriterInThatIsBehindAReader(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newBubbleGate()
		require.NoError(t, g.RLock(t.Context()))
		ctx, cancel := context.WithCancel(t.Context())
		impatient := start(func() error { return g.Lock(ctx) })
		reader := start(func() error { return g.RLock(t.Context()) })
		writer := start(func() error { return g.Lock(t.Context()) })
		cancel()
		synctest.Wait()
		impatient.requireDone(t, context.Canceled)
		reader.requireParked(t) // at the head of the line, and may not enter

		g.RUnlock()
		synctest.Wait()
		writer.requireDone(t, nil)
		g.Unlock()
		synctest.Wait()
		reader.requireDone(t, nil)
	})
}

func TestRWGate_ReaderThatGivesUpIsNotInside(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newBubbleGate()
		require.NoError(t, g.Lock(t.Context()))
		ctx, cancel := context.WithCancel(t.Context())
		reader := start(func() error { return g.RLock(ctx) })
		reader.requireParked(t)
		cancel()
		synctest.Wait()
		reader.requireDone(t, context.Canceled)
		g.Unlock()
		start(func() error { return g.Lock(t.Context()) }).requireDone(t, nil)
	})
}

// Left out of part E: nothing. Where the sources differ, a cancellation
// un-counts its party, as in asyncio, a deadline breaks the barrier, as in
// threading, and a Reset also sends those away who are about to leave, as in
// asyncio. The index is given out on leaving, which makes it unique.
