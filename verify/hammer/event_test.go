package hammer

import (
	"context"
	"errors"
	"math/rand/v2"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"example.com/condvar"
)

// F24.
func TestEvent_StormOfGoroutinesPassesOnlyWaitsThatMetASetEvent(t *testing.T) {
	eventStorm(t, 200*time.Millisecond, 24)
}

// A setLog is an event that one goroutine sets and clears in turn. It counts
// the calls that have begun and ended.
type setLog struct {
	event                           condvar.Event
	setting, set, clearing, cleared atomic.Int64
}

func (l *setLog) Set() {
	l.setting.Add(1)
	l.event.Set()
	l.set.Add(1)
}

func (l *setLog) Clear() {
	l.clearing.Add(1)
	l.event.Clear()
	l.cleared.Add(1)
}

// wait waits, and reports a wrong result. It knows whether the event was set
// for part of the call, or for all of it, according to the counts.
func (l *setLog) wait(ctx context.Context) (fault string, err error) {
	cleared, set := l.cleared.Load(), l.set.Load()
	err = l.event.Wait(ctx)
	setting, clearing := l.setting.Load(), l.clearing.Load()
	switch {
	case err == nil && setting == cleared:
		fault = "nil, but the event was not set during the call"
	case err != nil && set > clearing:
		fault = "an error, but the event was set during the whole call"
	case err != nil && !errors.Is(err, ctx.Err()):
		fault = "an error other than that of its context"
	}
	return fault, err
}

// yield lets other goroutines run, a random number of times, usually 0 or 1.
func yield(rng *rand.Rand) {
	for rng.IntN(2) == 0 {
		runtime.Gosched()
	}
}

// eventStorm runs waiters, some of which are canceled, for about d, while
// another goroutine sets and clears the event.
func eventStorm(t *testing.T, d time.Duration, seed uint64) {
	t.Helper()
	t.Logf("seed %d, %v", seed, d)
	var l setLog
	var passed, failed atomic.Int64
	end, stop := context.WithTimeout(context.Background(), d)
	defer stop()
	watchdog, cancel := context.WithTimeout(context.Background(), d+hammerTimeout)
	defer cancel()
	var wg sync.WaitGroup
	for i := range uint64(6) {
		wg.Go(func() {
			rng := rand.New(rand.NewPCG(seed, i))
			for end.Err() == nil && !t.Failed() {
				ctx, cancel := context.WithCancel(watchdog)
				switch rng.IntN(4) {
				case 0:
					cancel()
				case 1, 2:
					wg.Go(cancel)
				}
				yield(rng)
				fault, err := l.wait(ctx)
				cancel()
				if err == nil {
					passed.Add(1)
				} else {
					failed.Add(1)
				}
				if fault != "" {
					t.Errorf("Wait returned %v: %s", err, fault)
				}
			}
		})
	}
	rng := rand.New(rand.NewPCG(seed, 99))
	for end.Err() == nil && !t.Failed() {
		l.Set()
		yield(rng)
		l.Clear()
		yield(rng)
	}
	l.Set() // for the remaining waiters
	wg.Wait()
	require.NoError(t, watchdog.Err(), "a waiter was not released")
	require.Zero(t, l.event.Waiters())
	require.Positive(t, passed.Load())
	require.Positive(t, failed.Load())
}

// F19. Each round is one pulse. It has to release all waiters that are not
// canceled.
func TestEvent_PulseReleasesEverybodyInLine(t *testing.T) {
	hammerAll(t, func(h *hammer) {
		var e condvar.Event
		rounds := 0
		for ; !h.over(); rounds++ {
			alive, cancelAlive := context.WithCancel(context.Background())
			fickle, cancel := context.WithCancel(context.Background())
			var wg sync.WaitGroup
			n := 1 + h.IntN(8)
			for i := range n {
				ctx := []context.Context{context.Background(), alive, fickle}[i%3]
				wg.Go(func() {
					if err := e.Wait(ctx); err != nil && (ctx != fickle || err != context.Canceled) {
						h.Errorf("Wait returned %v", err)
					}
				})
			}
			spin(h, e.Waiters, n)
			wg.Go(cancel)
			if h.IntN(2) == 0 {
				runtime.Gosched()
			}
			e.Set()
			require.Zero(h, e.Waiters())
			e.Clear()
			h.wait(&wg)
			cancelAlive()
		}
		h.Log(rounds, "rounds")
	})
}

// F19. Some waiters have parked, some are about to park, and some have not
// begun. Set comes before the cancel, so all have to return nil.
func TestEvent_SetReleasesThoseWhoAreJustArriving(t *testing.T) {
	hammerAll(t, func(h *hammer) {
		rounds := 0
		for ; !h.over(); rounds++ {
			var e condvar.Event
			var wg sync.WaitGroup
			begin := make(chan struct{})
			cancellable, cancel := context.WithCancel(context.Background())
			for i := range 6 {
				ctx := context.Background()
				if i > 1 {
					ctx = cancellable
				}
				wg.Go(func() {
					if i%2 == 0 {
						<-begin
					}
					if err := e.Wait(ctx); err != nil {
						h.Errorf("Wait returned %v", err)
					}
				})
			}
			spin(h, e.Waiters, 3)
			close(begin)
			for range h.IntN(3) {
				runtime.Gosched()
			}
			e.Set()
			cancel()
			h.wait(&wg)
		}
		h.Log(rounds, "rounds")
	})
}

// F19, F24.
func TestEvent_Storm(t *testing.T) {
	hammerAll(t, func(h *hammer) { eventStorm(h.T, h.length, hammerSeed) })
}
