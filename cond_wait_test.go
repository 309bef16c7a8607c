package condvar_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"example.com/condvar"
)

// Row 1.
func TestCond_WaitReturnsNotBeforeItHasTheLockAgain(t *testing.T) {
	condBubble(t, func(t *testing.T, c *condvar.Cond, l *chanLock) {
		returned := 0
		for range 3 {
			start(func() error {
				l.Lock()
				err := c.Wait(condBackground)
				returned++ // and it keeps L
				return err
			})
		}
		require.False(t, l.locked())
		l.Lock()
		require.True(t, c.Notify())
		synctest.Wait()
		require.Equal(t, 0, returned)
		require.True(t, l.locked())
		l.Unlock()
		synctest.Wait()
		require.Equal(t, 1, returned)
		require.True(t, l.locked())
		require.Equal(t, 2, c.NotifyN(2))
		for want := 1; want <= 3; want++ {
			synctest.Wait()
			require.Equal(t, want, returned)
			l.Unlock() // that of the call that returned
		}
		require.False(t, l.locked())
	})
}

// Rows 14, 29.
func TestCond_NewCondUsesTheGivenLocker(t *testing.T) {
	l := new(sync.Mutex)
	require.Same(t, l, condvar.NewCond(l).L)
	l2 := newChanLock()
	c := condvar.NewCond(l2)
	l2.Lock()
	require.Equal(t, 1, l2.locks)
	c.L.Unlock()
	require.Equal(t, 1, l2.unlocks)
}

// Row 21. Its other half, that the lock can be taken twice, does not apply to
// Go.
func TestCond_TheLockIsTheCallersInBothDirections(t *testing.T) {
	var l sync.Mutex
	c := condvar.NewCond(&l)
	l.Lock()
	require.False(t, c.L.(*sync.Mutex).TryLock())
	l.Unlock()
	c.L.Lock()
	require.False(t, l.TryLock())
	c.L.Unlock()
	require.True(t, l.TryLock())
}

// Rows 14, 29.
func TestCond_SeveralCondsOnOneLockHaveLinesOfTheirOwn(t *testing.T) {
	condBubble(t, func(t *testing.T, c1 *condvar.Cond, l *chanLock) {
		c2 := condvar.NewCond(l)
		a2 := startWait(condBackground, c2)
		require.False(t, c1.Notify())
		require.Equal(t, 0, c1.NotifyAll())
		a1 := startWait(condBackground, c1)
		require.Equal(t, 1, c1.NotifyAll())
		require.Equal(t, []int{0}, condReturned(a1, a2))
		require.Equal(t, []int{0, 1}, []int{c1.Waiters(), c2.Waiters()})
		require.True(t, c2.Notify())
		require.Equal(t, []int{0, 1}, condReturned(a1, a2))
	})
}

func TestCond_WithoutNewCondIsReadyToUse(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := &condvar.Cond{L: newChanLock()}
		calls := condStartWaits(condBackground, c, 2)
		require.True(t, c.Notify())
		require.Equal(t, []int{0}, condReturned(calls...))
		require.Equal(t, 1, c.NotifyAll())
		require.Equal(t, []int{0, 1}, condReturned(calls...))
	})
}

// Every method may be the first.
func TestCond_FirstUseOfACondCanBeAnyMethod(t *testing.T) {
	canceled, cancel := context.WithCancel(condBackground)
	cancel()
	for name, use := range map[string]func(c *condvar.Cond){
		"Notify":    func(c *condvar.Cond) { require.False(t, c.Notify()) },
		"NotifyN":   func(c *condvar.Cond) { require.Equal(t, 0, c.NotifyN(7)) },
		"NotifyAll": func(c *condvar.Cond) { require.Equal(t, 0, c.NotifyAll()) },
		"Waiters":   func(c *condvar.Cond) { require.Equal(t, 0, c.Waiters()) },
		"Listen":    func(c *condvar.Cond) { require.True(t, c.Listen().Stop()) },
		"Wait":      func(c *condvar.Cond) { require.Error(t, c.Wait(canceled)) },
		"WaitFor":   func(c *condvar.Cond) { require.Error(t, c.WaitFor(canceled, condNever)) },
	} {
		t.Run(name, func(t *testing.T) {
			condBubble(t, func(t *testing.T, c *condvar.Cond, l *chanLock) {
				use(c)
				a := startWait(condBackground, c)
				require.True(t, c.Notify())
				require.Equal(t, []int{0}, condReturned(a))
			})
		})
	}
}

// Row 34.
func TestCond_NotifierCanLockWhileOthersWait(t *testing.T) {
	condBubble(t, func(t *testing.T, c *condvar.Cond, l *chanLock) {
		a := startWait(condBackground, c)
		l.Lock()
		require.Equal(t, 1, c.NotifyAll())
		l.Unlock()
		synctest.Wait()
		a.requireDone(t, nil)
		require.False(t, l.locked())
	})
}

func TestCond_TheLockIsUnlockedOncePerPark(t *testing.T) {
	condBubble(t, func(t *testing.T, c *condvar.Cond, l *chanLock) {
		ctx, cancel := context.WithCancel(condBackground)
		startWait(condBackground, c)
		c.Notify()
		synctest.Wait()
		require.Equal(t, []int{2, 2}, []int{l.locks, l.unlocks}, "Wait, notified")

		startWait(ctx, c)
		cancel()
		synctest.Wait()
		require.Equal(t, []int{4, 4}, []int{l.locks, l.unlocks}, "Wait, canceled")

		ready := false
		a := condStartWaitFor(condBackground, c, func() bool { return ready })
		for range 3 {
			c.Notify()
			synctest.Wait()
		}
		ready = true
		c.Notify()
		synctest.Wait()
		a.requireDone(t, nil)
		require.Equal(t, []int{4 + 5, 4 + 5}, []int{l.locks, l.unlocks}, "WaitFor, woken four times")
	})
}

// F21.
func TestCond_ReadersCanWaitTogetherWithAnRLocker(t *testing.T) {
	const readers = 20
	synctest.Test(t, func(t *testing.T) {
		var l sync.RWMutex
		c := condvar.NewCond(l.RLocker())
		var changed bool
		var inside atomic.Int32
		release := make(chan struct{})
		for range readers {
			start(func() error {
				c.L.Lock()
				defer c.L.Unlock()
				err := c.WaitFor(condBackground, func() bool { return changed })
				inside.Add(1)
				<-release
				return err
			})
		}
		l.Lock() // which shows that none of the waiters holds L
		changed = true
		l.Unlock()
		require.Equal(t, readers, c.NotifyAll())
		synctest.Wait()
		require.EqualValues(t, readers, inside.Load(), "all of them hold L now")
		require.False(t, l.TryLock())
		close(release)
		synctest.Wait()
		require.True(t, l.TryLock())
	})
}

// Rows 2, 36.
func TestCond_CancelEndsAWait(t *testing.T) {
	condBubble(t, func(t *testing.T, c *condvar.Cond, l *chanLock) {
		ctx, cancel := context.WithCancel(condBackground)
		held, reached := false, false
		a := start(func() error {
			l.Lock()
			defer l.Unlock()
			err := c.Wait(ctx)
			held = l.locked()
			if err != nil {
				return err
			}
			reached = true
			return nil
		})
		a.requireParked(t)
		cancel()
		synctest.Wait()
		a.requireDone(t, context.Canceled)
		require.True(t, held)
		require.False(t, reached)
		require.Equal(t, 0, c.Waiters())
		require.False(t, l.locked())
	})
}

// Row 17.
// Bug C13.
func TestCond_TheErrorIsThatOfTheContextAndItsCause(t *testing.T) {
	wrapped := fmt.Errorf("stopped: %w", context.Canceled)
	causeOf := func(cause error) func() (context.Context, func()) {
		return func() (context.Context, func()) {
			ctx, cancel := context.WithCancelCause(condBackground)
			return ctx, func() { cancel(cause) }
		}
	}
	timeout := func(cause error) func() (context.Context, func()) {
		return func() (context.Context, func()) {
			ctx, cancel := context.WithTimeoutCause(condBackground, time.Second, cause)
			return ctx, func() { time.Sleep(time.Second); synctest.Wait(); cancel() }
		}
	}
	for _, test := range []struct {
		name  string
		new   func() (ctx context.Context, end func())
		is    []error // for which errors.Is holds
		equal bool    // it is ctx.Err() itself
	}{
		{"cancel", func() (context.Context, func()) { return context.WithCancel(condBackground) },
			[]error{context.Canceled}, true},
		{"cancel with a cause", causeOf(errCondBoom), []error{context.Canceled, errCondBoom}, false},
		{"cancel without a cause", causeOf(nil), []error{context.Canceled}, true},
		{"cancel with an equal cause", causeOf(context.Canceled), []error{context.Canceled}, true},
		{"cancel with the other cause", causeOf(context.DeadlineExceeded),
			[]error{context.Canceled, context.DeadlineExceeded}, false},
		{"cancel with a cause that wraps", causeOf(wrapped), []error{context.Canceled, wrapped}, false},
		{"timeout", timeout(nil), []error{context.DeadlineExceeded}, true},
		{"timeout with a cause", timeout(errCondBoom), []error{context.DeadlineExceeded, errCondBoom}, false},
		{"cause of the parent", func() (context.Context, func()) {
			parent, end := causeOf(errCondBoom)()
			ctx, cancel := context.WithCancel(parent)
			return ctx, func() { end(); cancel() }
		}, []error{context.Canceled, errCondBoom}, false},
		{"cause that cannot be compared", causeOf(condErrors{errCondBoom}), []error{context.Canceled, errCondBoom}, false},
		{"error of its own", func() (context.Context, func()) {
			ctx := &condManualContext{condBackground, make(chan struct{}), errCondBoom}
			return ctx, func() { close(ctx.done) }
		}, []error{errCondBoom}, true},
	} {
		for _, w := range condWaits {
			for _, dead := range []bool{false, true} {
				t.Run(fmt.Sprintf("%s/%s/dead=%t", test.name, w.name, dead), func(t *testing.T) {
					condBubble(t, func(t *testing.T, c *condvar.Cond, l *chanLock) {
						ctx, end := test.new()
						if dead {
							end()
						}
						a := start(func() error {
							l.Lock()
							defer l.Unlock()
							return w.wait(c, ctx)
						})
						if !dead {
							require.Equal(t, 1, c.Waiters())
							end()
							synctest.Wait()
						}
						for _, target := range test.is {
							a.requireDone(t, target)
						}
						if test.equal {
							require.True(t, a.err == ctx.Err(), "%v is not ctx.Err() itself", a.err)
						}
					})
				})
			}
		}
	}
}

// A condManualContext ends when its channel is closed, with its own error.
type condManualContext struct {
	context.Context
	done chan struct{}
	err  error
}

func (x *condManualContext) Done() <-chan struct{} { return x.done }

func (x *condManualContext) Err() error {
	select {
	case <-x.done:
		return x.err
	default:
		return nil
	}
}

// A Context whose Done is closed and whose Err is nil is broken. Even so, a
// wait ends with an error.
func TestCond_WaitWithAContextWithoutAnErrorEndsWithCanceled(t *testing.T) {
	for _, w := range condWaits {
		t.Run(w.name, func(t *testing.T) {
			condBubble(t, func(t *testing.T, c *condvar.Cond, l *chanLock) {
				ctx := &condManualContext{condBackground, make(chan struct{}), nil}
				close(ctx.done)
				l.Lock()
				require.ErrorIs(t, w.wait(c, ctx), context.Canceled)
				require.Equal(t, 0, c.Waiters())
			})
		})
	}
}

// condErrors is an error type that errors.Is must not compare.
type condErrors []error

func (e condErrors) Error() string { return fmt.Sprint([]error(e)) }

func (e condErrors) Unwrap() []error { return e }

// Row 33.
func TestCond_WaitWithADeadContextNeitherUnlocksNorJoins(t *testing.T) {
	for _, w := range condWaits {
		t.Run(w.name, func(t *testing.T) {
			condBubble(t, func(t *testing.T, c *condvar.Cond, l *chanLock) {
				ctx, cancel := context.WithCancel(condBackground)
				cancel()
				other := startWait(condBackground, c)
				l.Lock()
				unlocks := l.unlocks
				require.True(t, w.wait(c, ctx) == context.Canceled)
				require.True(t, l.locked())
				require.Equal(t, unlocks, l.unlocks)
				require.Equal(t, 1, c.Waiters())
				l.Unlock()
				other.requireParked(t)
				require.True(t, c.Notify())
				synctest.Wait()
				other.requireDone(t, nil)
			})
		})
	}
}

// Row 16.
func TestCond_DeadlineEndsAWaitAtThatInstant(t *testing.T) {
	for _, w := range condWaits {
		t.Run(w.name, func(t *testing.T) {
			condBubble(t, func(t *testing.T, c *condvar.Cond, l *chanLock) {
				ctx, cancel := context.WithTimeout(condBackground, 500*time.Millisecond)
				defer cancel()
				begin := time.Now()
				l.Lock()
				require.True(t, w.wait(c, ctx) == context.DeadlineExceeded)
				require.Equal(t, 500*time.Millisecond, time.Since(begin))
				require.True(t, l.locked())
				require.Equal(t, 0, c.Waiters())
			})
		})
	}
}

// Row 25.
func TestCond_DeadlineEndsManyWaits(t *testing.T) {
	condBubble(t, func(t *testing.T, c *condvar.Cond, l *chanLock) {
		ctx, cancel := context.WithTimeout(condBackground, 500*time.Millisecond)
		defer cancel()
		begin := time.Now()
		var elapsed [5]time.Duration
		var calls []*asyncCall
		for i := range elapsed {
			calls = append(calls, start(func() error {
				l.Lock()
				defer l.Unlock()
				err := c.Wait(ctx)
				elapsed[i] = time.Since(begin)
				return err
			}))
		}
		time.Sleep(time.Second)
		synctest.Wait()
		for i, a := range calls {
			a.requireDone(t, context.DeadlineExceeded)
			require.Equal(t, 500*time.Millisecond, elapsed[i])
		}
		require.Equal(t, 0, c.Waiters())
	})
}

// F3.
// Bug C8.
func TestCond_CancelWakesNobodyElse(t *testing.T) {
	condBubble(t, func(t *testing.T, c *condvar.Cond, l *chanLock) {
		ctx, cancel := context.WithCancel(condBackground)
		calls := []*asyncCall{startWait(condBackground, c), startWait(ctx, c), startWait(condBackground, c)}
		preds := 0
		calls = append(calls, condStartWaitFor(condBackground, c, func() bool { preds++; return preds > 2 }))
		listener := c.Listen()
		cancel()
		require.Equal(t, []int{1}, condReturned(calls...))
		require.Equal(t, 1, preds)
		require.Empty(t, listener.C)
		require.Equal(t, 4, c.NotifyAll())
		synctest.Wait()
		require.Equal(t, 1, c.NotifyAll())
	})
}

// Row 47.
func TestCond_CancellingTheMiddleOneRemovesOnlyThat(t *testing.T) {
	condBubble(t, func(t *testing.T, c *condvar.Cond, l *chanLock) {
		ctx, cancel := context.WithCancel(condBackground)
		calls := []*asyncCall{startWait(condBackground, c), startWait(ctx, c), startWait(condBackground, c)}
		cancel()
		require.Equal(t, []int{1}, condReturned(calls...))
		calls[1].requireDone(t, context.Canceled)
		require.Equal(t, 2, c.NotifyAll())
		require.Equal(t, []int{0, 1, 2}, condReturned(calls...))
		calls[0].requireDone(t, nil)
		calls[2].requireDone(t, nil)
	})
}

// F4.
// Bug C3.
func TestCond_NotifyAfterACancelGoesToTheNext(t *testing.T) {
	for _, w := range condWaits {
		t.Run(w.name, func(t *testing.T) {
			condBubble(t, func(t *testing.T, c *condvar.Cond, l *chanLock) {
				ctx, cancel := context.WithCancel(condBackground)
				a := start(func() error {
					l.Lock()
					defer l.Unlock()
					return w.wait(c, ctx)
				})
				b := startWait(condBackground, c)
				cancel()
				synctest.Wait()
				a.requireDone(t, context.Canceled)
				require.Equal(t, 1, c.Waiters())
				require.True(t, c.Notify())
				synctest.Wait()
				b.requireDone(t, nil)
			})
		})
	}
}

// F1.
// Bug C4.
func TestCond_DeadlineWhileTheNotifierHoldsTheLockLeavesNobodyInLine(t *testing.T) {
	for _, w := range condWaits {
		t.Run(w.name, func(t *testing.T) {
			condBubble(t, func(t *testing.T, c *condvar.Cond, l *chanLock) {
				ctx, cancel := context.WithTimeout(condBackground, 10*time.Millisecond)
				defer cancel()
				a := start(func() error {
					l.Lock()
					defer l.Unlock()
					return w.wait(c, ctx)
				})
				b := startWait(condBackground, c)
				l.Lock()
				time.Sleep(20 * time.Millisecond)
				require.Equal(t, 1, c.Waiters())
				require.True(t, c.Notify())
				require.False(t, c.Notify())
				l.Unlock()
				synctest.Wait()
				a.requireDone(t, context.DeadlineExceeded)
				b.requireDone(t, nil)
			})
		})
	}
}

// F22.
// Bug C12.
func TestCond_LockingAgainCannotBeCancelled(t *testing.T) {
	for _, w := range condWaits {
		t.Run(w.name, func(t *testing.T) {
			condBubble(t, func(t *testing.T, c *condvar.Cond, l *chanLock) {
				ctx, cancel := context.WithTimeout(condBackground, time.Second)
				defer cancel()
				held := false
				a := start(func() error {
					l.Lock()
					defer l.Unlock()
					err := w.wait(c, ctx)
					held = l.locked()
					return err
				})
				l.Lock()
				time.Sleep(time.Hour)
				synctest.Wait()
				a.requireParked(t)
				l.Unlock()
				synctest.Wait()
				a.requireDone(t, context.DeadlineExceeded)
				require.True(t, held)
			})
		})
	}
}

// Rows 3, 4, 20.
// Bugs C2, C12.
func TestCond_OnceNotifiedAWaitSucceedsEvenIfItsContextEndsBeforeItHasTheLock(t *testing.T) {
	condBubble(t, func(t *testing.T, c *condvar.Cond, l *chanLock) {
		ctx, cancel := context.WithCancelCause(condBackground)
		var later error
		unlocked := 0
		a := start(func() error {
			l.Lock()
			defer l.Unlock()
			err := c.Wait(ctx)
			unlocks := l.unlocks
			// The next Wait finds the context ended.
			later = c.WaitFor(ctx, condNever)
			unlocked = l.unlocks - unlocks
			return err
		})
		b := startWait(condBackground, c)
		l.Lock()
		require.True(t, c.Notify())
		synctest.Wait()
		cancel(errCondBoom)
		synctest.Wait()
		a.requireParked(t)
		l.Unlock()
		synctest.Wait()
		a.requireDone(t, nil)
		b.requireParked(t)
		require.Error(t, ctx.Err())
		require.ErrorIs(t, later, errCondBoom)
		require.Zero(t, unlocked)
		require.Equal(t, 1, c.NotifyAll())
	})
}

// Rows 19, 37.
// Bug C1.
func TestCond_CancelThenNotifyReachesTheNextWaiter(t *testing.T) {
	for _, w := range condWaits {
		for _, n := range condNotifiers {
			t.Run(w.name+"/"+n.name, func(t *testing.T) {
				condBubble(t, func(t *testing.T, c *condvar.Cond, l *chanLock) {
					for range 300 {
						ctx, cancel := context.WithCancel(condBackground)
						a := start(func() error {
							l.Lock()
							defer l.Unlock()
							return w.wait(c, ctx)
						})
						b := startWait(condBackground, c)
						cancel()
						require.Equal(t, 1, n.notify(c))
						synctest.Wait()
						a.requireDone(t, context.Canceled)
						b.requireDone(t, nil)
						require.Equal(t, 0, c.Waiters())
					}
				})
			})
		}
	}
}

// Row 19.
// Bug C1.
func TestCond_NotifyThenCancelIsANotification(t *testing.T) {
	condBubble(t, func(t *testing.T, c *condvar.Cond, l *chanLock) {
		for range 300 {
			ctx, cancel := context.WithCancel(condBackground)
			a := startWait(ctx, c)
			b := startWait(condBackground, c)
			require.True(t, c.Notify())
			cancel()
			synctest.Wait()
			a.requireDone(t, nil)
			b.requireParked(t)
			require.True(t, c.Notify())
			synctest.Wait()
			b.requireDone(t, nil)
		}
	})
}

// The order also counts before the waiter has parked.
func TestCond_TheFirstEventWinsBetweenUnlockAndParking(t *testing.T) {
	for _, cancelFirst := range []bool{false, true} {
		t.Run(fmt.Sprintf("cancelFirst=%t", cancelFirst), func(t *testing.T) {
			condBubble(t, func(t *testing.T, c *condvar.Cond, l *chanLock) {
				for range 100 {
					ctx, cancel := context.WithCancel(condBackground)
					notified := false
					l.afterUnlock = condFirst(func() {
						if cancelFirst {
							cancel()
							notified = c.Notify()
						} else {
							notified = c.Notify()
							cancel()
						}
					})
					a := startWait(ctx, c)
					require.Equal(t, !cancelFirst, notified)
					if cancelFirst {
						a.requireDone(t, context.Canceled)
					} else {
						a.requireDone(t, nil)
					}
				}
			})
		})
	}
}

func TestCond_NotifyNPassesOverThoseWhoseContextHasEnded(t *testing.T) {
	condBubble(t, func(t *testing.T, c *condvar.Cond, l *chanLock) {
		ctx, cancel := context.WithCancel(condBackground)
		calls := []*asyncCall{startWait(ctx, c), startWait(condBackground, c),
			startWait(ctx, c), startWait(condBackground, c), startWait(condBackground, c)}
		cancel()
		require.Equal(t, 2, c.NotifyN(2))
		require.Equal(t, []int{0, 1, 2, 3}, condReturned(calls...))
		calls[0].requireDone(t, context.Canceled)
		calls[1].requireDone(t, nil)
		calls[2].requireDone(t, context.Canceled)
		calls[3].requireDone(t, nil)
		require.Equal(t, 1, c.NotifyAll())
	})
}

func TestCond_NotifyReportsNobodyIfAllContextsHaveEnded(t *testing.T) {
	for _, n := range condNotifiers {
		t.Run(n.name, func(t *testing.T) {
			condBubble(t, func(t *testing.T, c *condvar.Cond, l *chanLock) {
				ctx, cancel := context.WithCancel(condBackground)
				calls := condStartWaits(ctx, c, 3)
				cancel()
				require.Equal(t, 0, n.notify(c))
				require.Equal(t, []int{0, 1, 2}, condReturned(calls...))
				for _, a := range calls {
					a.requireDone(t, context.Canceled)
				}
				require.Equal(t, 0, c.Waiters())
			})
		})
	}
}

func TestCond_TheErrorOfACauseSaysBothAndIsOneAllocation(t *testing.T) {
	ctx, cancel := context.WithCancelCause(context.Background())
	cancel(errors.New("boom"))
	c := condvar.NewCond(new(sync.Mutex))
	require.EqualError(t, c.Wait(ctx), "context canceled: boom")
	require.EqualValues(t, 1, testing.AllocsPerRun(100, func() { _ = c.Wait(ctx) }))
}
