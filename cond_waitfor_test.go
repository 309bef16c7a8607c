package condvar_test

import (
	"context"
	"fmt"
	"runtime"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"example.com/condvar"
)

// Row 6.
func TestCond_WaitForLooksAtThePredicateAfterEveryWakeUpWithTheLockHeld(t *testing.T) {
	condBubble(t, func(t *testing.T, c *condvar.Cond, l *chanLock) {
		ready, calls, held := false, 0, 0
		a := condStartWaitFor(condBackground, c, func() bool {
			calls++
			if l.locked() {
				held++
			}
			return ready
		})
		require.Equal(t, 1, calls)
		for wakes := 1; wakes <= 3; wakes++ {
			require.True(t, c.Notify())
			synctest.Wait()
			a.requireParked(t)
			require.Equal(t, 1+wakes, calls)
		}
		ready = true
		a.requireParked(t) // it was not notified
		require.True(t, c.Notify())
		synctest.Wait()
		a.requireDone(t, nil)
		require.Equal(t, 5, calls)
		require.Equal(t, 5, held)
	})
}

// Row 7.
func TestCond_WaitForWithATruePredicateDoesNotUnlockEvenIfTheContextIsDead(t *testing.T) {
	dead, cancel := context.WithCancel(condBackground)
	cancel()
	for name, ctx := range map[string]context.Context{"alive": condBackground, "dead": dead} {
		t.Run(name, func(t *testing.T) {
			condBubble(t, func(t *testing.T, c *condvar.Cond, l *chanLock) {
				calls := 0
				l.Lock()
				require.NoError(t, c.WaitFor(ctx, func() bool { calls++; return true }))
				require.True(t, l.locked())
				require.Equal(t, 0, l.unlocks)
				require.Equal(t, 1, calls)
				require.Equal(t, 0, c.Waiters())
			})
		})
	}
}

func TestCond_WaitForWithADeadContextAsksThePredicateOnce(t *testing.T) {
	condBubble(t, func(t *testing.T, c *condvar.Cond, l *chanLock) {
		ctx, cancel := context.WithCancel(condBackground)
		cancel()
		calls := 0
		l.Lock()
		require.Equal(t, context.Canceled, c.WaitFor(ctx, func() bool { calls++; return false }))
		require.Equal(t, 1, calls)
	})
}

func TestCond_ThePredicateRunsOnTheCallersGoroutine(t *testing.T) {
	condBubble(t, func(t *testing.T, c *condvar.Cond, l *chanLock) {
		ctx, cancel := context.WithCancel(condBackground)
		var caller string
		var ran []string
		start(func() error {
			caller = condGoroutine()
			l.Lock()
			defer l.Unlock()
			return c.WaitFor(ctx, func() bool { ran = append(ran, condGoroutine()); return false })
		})
		c.Notify()
		synctest.Wait()
		cancel()
		synctest.Wait()
		require.Equal(t, []string{caller, caller}, ran)
	})
}

// Bug C23. A canceled call takes nothing that a live waiter was woken for.
func TestCond_ACanceledWaitForDoesNotLookAgain(t *testing.T) {
	condBubble(t, func(t *testing.T, c *condvar.Cond, l *chanLock) {
		ctx, cancel := context.WithCancel(condBackground)
		items, looks := 0, 0
		take := func() bool {
			if items == 0 {
				return false
			}
			items--
			return true
		}
		w1 := condStartWaitFor(ctx, c, func() bool { looks++; return take() })
		w2 := condStartWaitFor(condBackground, c, take)
		l.Lock()
		cancel()
		synctest.Wait()
		items = 1
		require.True(t, c.Notify())
		l.Unlock()
		synctest.Wait()
		w1.requireDone(t, context.Canceled)
		w2.requireDone(t, nil)
		require.Equal(t, 1, looks)
		require.Zero(t, items)
	})
}

// Bug C23. The condition may even have become true before the context ended, as
// long as there was no notification.
func TestCond_ACanceledWaitForFailsWhateverThePredicateWouldSay(t *testing.T) {
	condBubble(t, func(t *testing.T, c *condvar.Cond, l *chanLock) {
		ctx, cancel := context.WithCancel(condBackground)
		ready, looks := false, 0
		a := condStartWaitFor(ctx, c, func() bool { looks++; return ready })
		l.Lock()
		ready = true // without a notification
		l.Unlock()
		a.requireParked(t)
		cancel()
		synctest.Wait()
		a.requireDone(t, context.Canceled)
		require.Equal(t, 1, looks)
		require.Zero(t, c.Waiters())
	})
}

// F10. Bug C19.
func TestCond_NotificationsGoRoundWhereWaitersWaitForDifferentThings(t *testing.T) {
	condBubble(t, func(t *testing.T, c *condvar.Cond, l *chanLock) {
		ctx, cancel := context.WithCancel(condBackground)
		var looks [4]int
		ready := false
		var calls []*asyncCall
		for i := range looks {
			calls = append(calls, condStartWaitFor(ctx, c, func() bool {
				looks[i]++
				return ready && i == 3
			}))
		}
		l.Lock()
		ready = true
		l.Unlock()
		for i := range looks {
			require.Empty(t, condReturned(calls...))
			require.True(t, c.Notify())
			synctest.Wait()
			require.Equal(t, 2, looks[i], "it was not its turn to look")
		}
		require.Equal(t, []int{3}, condReturned(calls...))
		require.Equal(t, [4]int{2, 2, 2, 2}, looks)
		require.Equal(t, 3, c.NotifyAll()) // all of them check at once
		synctest.Wait()
		require.Equal(t, [4]int{3, 3, 3, 2}, looks)
		cancel()
		require.Equal(t, []int{0, 1, 2, 3}, condReturned(calls...))
	})
}

// Bug C19.
func TestCond_WaitForJoinsTheEndOfTheLineAfterAFutileWakeUp(t *testing.T) {
	condBubble(t, func(t *testing.T, c *condvar.Cond, l *chanLock) {
		ready := false
		a := condStartWaitFor(condBackground, c, func() bool { return ready })
		first := startWait(condBackground, c)
		l.Lock()
		require.True(t, c.Notify()) // a
		synctest.Wait()
		require.Equal(t, 1, c.Waiters(), "a is away")
		second := c.Listen() // joins while a checks
		l.Unlock()
		synctest.Wait()
		require.Equal(t, 3, c.Waiters(), "a is back")
		ready = true
		require.True(t, c.Notify())
		require.Equal(t, []int{1}, condReturned(a, first))
		require.True(t, c.Notify())
		require.Len(t, second.C, 1)
		a.requireParked(t)
		require.True(t, c.Notify())
		require.Equal(t, []int{0, 1}, condReturned(a, first))
	})
}

// Row 26.
func TestCond_WaitForSeesTheStateItWaitedFor(t *testing.T) {
	condBubble(t, func(t *testing.T, c *condvar.Cond, l *chanLock) {
		state, seen := 0, 0
		a := start(func() error {
			l.Lock()
			defer l.Unlock()
			err := c.WaitFor(condBackground, func() bool { return state == 4 })
			seen = state
			return err
		})
		for range 4 {
			a.requireParked(t)
			l.Lock()
			state++
			require.True(t, c.Notify())
			l.Unlock()
			synctest.Wait()
		}
		a.requireDone(t, nil)
		require.Equal(t, 4, seen)
	})
}

// Row 41.
func TestCond_ThePredicateCanCarryAValueOut(t *testing.T) {
	condBubble(t, func(t *testing.T, c *condvar.Cond, l *chanLock) {
		var box, got string
		a := condStartWaitFor(condBackground, c, func() bool { got = box; return got != "" })
		l.Lock()
		box = "foo"
		require.True(t, c.Notify())
		l.Unlock()
		synctest.Wait()
		a.requireDone(t, nil)
		require.Equal(t, "foo", got)
	})
}

// Row 27.
func TestCond_TheDeadlineOfWaitForIsForTheWholeCall(t *testing.T) {
	condBubble(t, func(t *testing.T, c *condvar.Cond, l *chanLock) {
		ctx, cancel := context.WithTimeout(condBackground, 100*time.Millisecond)
		defer cancel()
		go func() {
			for range 3 {
				time.Sleep(10 * time.Millisecond)
				c.Notify()
			}
		}()
		calls := 0
		begin := time.Now()
		l.Lock()
		require.Equal(t, context.DeadlineExceeded, c.WaitFor(ctx, func() bool { calls++; return false }))
		require.Equal(t, 100*time.Millisecond, time.Since(begin))
		require.Equal(t, 1+3, calls)
	})
}

// Row 18.
// Bug C17.
func TestCond_CancelWhileLockingAgainIsDecidedByThePredicate(t *testing.T) {
	for _, ready := range []bool{false, true} {
		t.Run(fmt.Sprintf("ready=%t", ready), func(t *testing.T) {
			condBubble(t, func(t *testing.T, c *condvar.Cond, l *chanLock) {
				ctx, cancel := context.WithCancelCause(condBackground)
				data := 0
				take := func() bool { return data > 0 }
				a := condStartWaitFor(ctx, c, take)
				b := condStartWaitFor(condBackground, c, take)
				l.Lock()
				require.True(t, c.Notify())
				synctest.Wait()
				cancel(errCondBoom)
				synctest.Wait()
				if ready {
					data = 1
				}
				a.requireParked(t)
				l.Unlock()
				synctest.Wait()
				b.requireParked(t)
				if ready {
					a.requireDone(t, nil)
				} else {
					a.requireDone(t, errCondBoom)
					a.requireDone(t, context.Canceled)
				}
				data = 1
				require.True(t, c.Notify())
				synctest.Wait()
				b.requireDone(t, nil)
			})
		})
	}
}

// Bug C17.
func TestCond_WaitForThatFailsPassesOnTheNotificationItHas(t *testing.T) {
	// Whether it is locking L again when its context ends.
	for _, locking := range []bool{false, true} {
		t.Run(fmt.Sprintf("locking=%t", locking), func(t *testing.T) {
			condBubble(t, func(t *testing.T, c *condvar.Cond, l *chanLock) {
				for range 100 {
					ctx, cancel := context.WithCancel(condBackground)
					a := condStartWaitFor(ctx, c, condNever)
					b := startWait(condBackground, c)
					other := startWait(condBackground, c)
					l.Lock()
					require.True(t, c.Notify())
					if locking {
						synctest.Wait()
					}
					cancel()
					l.Unlock()
					synctest.Wait()
					a.requireDone(t, context.Canceled)
					b.requireDone(t, nil)
					other.requireParked(t)
					require.Equal(t, 1, c.NotifyAll())
				}
			})
		})
	}
}

func TestCond_WaitForThatSucceedsSpendsTheNotificationItHas(t *testing.T) {
	condBubble(t, func(t *testing.T, c *condvar.Cond, l *chanLock) {
		ctx, cancel := context.WithCancel(condBackground)
		ready := false
		a := condStartWaitFor(ctx, c, func() bool { return ready })
		b := startWait(condBackground, c)
		l.Lock()
		ready = true
		require.True(t, c.Notify())
		cancel()
		l.Unlock()
		synctest.Wait()
		a.requireDone(t, nil)
		b.requireParked(t)
		require.True(t, c.Notify())
	})
}

// A futile wake-up consumes the notification: a later cancel passes on nothing.
func TestCond_WaitForPassesOnNoSpentNotification(t *testing.T) {
	condBubble(t, func(t *testing.T, c *condvar.Cond, l *chanLock) {
		ctx, cancel := context.WithCancel(condBackground)
		a := condStartWaitFor(ctx, c, condNever)
		b := startWait(condBackground, c)
		require.True(t, c.Notify())
		synctest.Wait()
		cancel()
		synctest.Wait()
		a.requireDone(t, context.Canceled)
		b.requireParked(t)
		require.True(t, c.Notify())
	})
}

// An errHookContext calls a function at each call of Err.
type errHookContext struct {
	context.Context
	onErr func()
}

func (c *errHookContext) Err() error {
	call(c.onErr)
	return c.Context.Err()
}

// Other goroutines that want the lock do not wait for the methods of a context.
func TestCond_ACanceledWaitAsksItsContextBeforeItLocks(t *testing.T) {
	condBubble(t, func(t *testing.T, c *condvar.Cond, l *chanLock) {
		inner, cancel := context.WithCancel(condBackground)
		ctx := &errHookContext{Context: inner}
		a := startWait(ctx, c)
		asked := false
		ctx.onErr = func() {
			asked = true
			require.False(t, l.locked())
			require.Zero(t, c.Waiters())
		}
		cancel()
		synctest.Wait()
		a.requireDone(t, context.Canceled)
		require.True(t, asked)
	})
}

// The caller unlocks L with a defer.
func TestCond_AContextThatPanicsLeavesTheLockHeld(t *testing.T) {
	for name, exit := range map[string]func(){"panic": func() { panic("context") }, "Goexit": runtime.Goexit} {
		for _, w := range condWaits {
			t.Run(w.name+"/"+name, func(t *testing.T) {
				condBubble(t, func(t *testing.T, c *condvar.Cond, l *chanLock) {
					inner, cancel := context.WithCancel(condBackground)
					ctx := &errHookContext{Context: inner}
					held := false
					start(func() error {
						defer func() { _ = recover() }()
						l.Lock()
						defer func() {
							held = l.locked()
							l.Unlock()
						}()
						return w.wait(c, ctx)
					})
					ctx.onErr = exit
					cancel()
					synctest.Wait()
					require.True(t, held)
					require.False(t, l.locked())
					require.Zero(t, c.Waiters())
				})
			})
		}
	}
}

func TestListener_IsNotifiedOnce(t *testing.T) {
	condBubble(t, func(t *testing.T, c *condvar.Cond, l *chanLock) {
		listener := c.Listen()
		require.Equal(t, 1, c.Waiters())
		require.Empty(t, listener.C)
		require.True(t, c.Notify())
		require.Equal(t, 0, c.Waiters())
		require.False(t, c.Notify())
		_, open := <-listener.C
		require.True(t, open)
		select {
		case <-listener.C:
			require.Fail(t, "C delivered twice, or is closed")
		default:
		}
		require.False(t, c.Notify())
	})
}

func TestListener_ListenAndStopDoNotTouchTheLock(t *testing.T) {
	for _, held := range []bool{false, true} {
		t.Run(fmt.Sprintf("held=%t", held), func(t *testing.T) {
			condBubble(t, func(t *testing.T, c *condvar.Cond, l *chanLock) {
				if held {
					l.Lock()
				}
				locks := l.locks
				c.Listen().Stop()
				listener := c.Listen()
				c.Notify()
				listener.Stop()
				require.Equal(t, []int{locks, 0}, []int{l.locks, l.unlocks})
			})
		})
	}
}

func TestListener_ListenersAndWaitersShareTheLine(t *testing.T) {
	condBubble(t, func(t *testing.T, c *condvar.Cond, l *chanLock) {
		l1 := c.Listen()
		w1 := startWait(condBackground, c)
		l2 := c.Listen()
		w2 := startWait(condBackground, c)
		for _, want := range [][]int{{1, 0, 0, 0}, {1, 1, 0, 0}, {1, 1, 1, 0}, {1, 1, 1, 1}} {
			require.True(t, c.Notify())
			synctest.Wait()
			require.Equal(t, want, []int{len(l1.C), condInt(w1.done.Load()), len(l2.C), condInt(w2.done.Load())})
		}
	})
}

func TestListener_StopPreventsANotification(t *testing.T) {
	condBubble(t, func(t *testing.T, c *condvar.Cond, l *chanLock) {
		first, middle, last := c.Listen(), c.Listen(), c.Listen()
		require.True(t, middle.Stop())
		require.Equal(t, 2, c.Waiters())
		require.True(t, first.Stop())
		require.Equal(t, 1, c.Waiters())
		require.True(t, c.Notify())
		require.Len(t, last.C, 1)
		require.Empty(t, first.C)
		require.Empty(t, middle.C)
	})
}

func TestListener_StopPassesOnANotificationThatNobodyReceived(t *testing.T) {
	for name, join := range map[string]func(c *condvar.Cond) (notified func() bool){
		"Listen": func(c *condvar.Cond) func() bool {
			listener := c.Listen()
			return func() bool { return len(listener.C) == 1 }
		},
		"Wait": func(c *condvar.Cond) func() bool {
			a := startWait(condBackground, c)
			return func() bool { return a.done.Load() && a.err == nil }
		},
		"WaitFor": func(c *condvar.Cond) func() bool {
			a := condStartWaitFor(condBackground, c, condFirstFalse())
			return func() bool { return a.done.Load() && a.err == nil }
		},
	} {
		t.Run(name, func(t *testing.T) {
			condBubble(t, func(t *testing.T, c *condvar.Cond, l *chanLock) {
				listener := c.Listen()
				notified := join(c)
				other := c.Listen()
				require.True(t, c.Notify())
				synctest.Wait()
				require.False(t, notified())
				require.False(t, listener.Stop())
				synctest.Wait()
				require.True(t, notified())
				require.Empty(t, listener.C)
				require.False(t, listener.Stop(), "the second time")
				require.True(t, other.Stop(), "it passes on nothing more")
			})
		})
	}
}

func TestListener_StopWithNobodyNextDropsTheNotification(t *testing.T) {
	condBubble(t, func(t *testing.T, c *condvar.Cond, l *chanLock) {
		listener := c.Listen()
		require.True(t, c.Notify())
		require.False(t, listener.Stop())
		require.Empty(t, listener.C)
		startWait(condBackground, c).requireParked(t)
		require.True(t, c.Notify())
	})
}

func TestListener_StopTwiceOrAfterReceivingDoesNoHarm(t *testing.T) {
	condBubble(t, func(t *testing.T, c *condvar.Cond, l *chanLock) {
		stopped, received, other := c.Listen(), c.Listen(), c.Listen()
		require.True(t, stopped.Stop())
		require.False(t, stopped.Stop())
		require.True(t, c.Notify())
		<-received.C
		require.False(t, received.Stop())
		require.False(t, received.Stop())
		require.Empty(t, other.C)
		require.Equal(t, 1, c.Waiters())
		require.True(t, other.Stop())
	})
}

func TestListener_StopOfAZeroListenerPanics(t *testing.T) {
	require.PanicsWithValue(t, "condvar: Stop of a Listener that does not come from Listen",
		func() { new(condvar.Listener).Stop() })
}

func TestListener_ListenMakesWaitingACaseOfASelect(t *testing.T) {
	for _, want := range []string{"condition", "other"} {
		t.Run(want, func(t *testing.T) {
			condBubble(t, func(t *testing.T, c *condvar.Cond, l *chanLock) {
				condition := false
				other := make(chan struct{})
				got := ""
				a := start(func() error {
					l.Lock()
					defer l.Unlock()
					for !condition && got == "" {
						listener := c.Listen()
						l.Unlock()
						select {
						case <-listener.C:
						case <-other:
							got = "other"
						}
						listener.Stop()
						l.Lock()
					}
					if condition {
						got = "condition"
					}
					return nil
				})
				require.True(t, c.Notify()) // futile: it joins the line again
				synctest.Wait()
				a.requireParked(t)
				require.Equal(t, 1, c.Waiters())
				if want == "condition" {
					l.Lock()
					condition = true
					require.True(t, c.Notify())
					l.Unlock()
				} else {
					close(other)
				}
				synctest.Wait()
				a.requireDone(t, nil)
				require.Equal(t, want, got)
				require.Equal(t, 0, c.Waiters())
			})
		})
	}
}

// A nosyContext reads a Cond in each of its methods.
type nosyContext struct {
	context.Context
	c *condvar.Cond
}

func (x nosyContext) Done() <-chan struct{} { x.c.Waiters(); return x.Context.Done() }

func (x nosyContext) Err() error { x.c.Waiters(); return x.Context.Err() }

func (x nosyContext) Value(key any) any { x.c.Waiters(); return x.Context.Value(key) }

func TestCond_AContextMayUseTheCondItWaitsFor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := condvar.NewCond(newChanLock())
		ctx, cancel := context.WithCancel(context.Background())
		nosy := nosyContext{ctx, c}
		a, b := startWait(nosy, c), startWait(nosy, c)
		f := start(func() error {
			c.L.Lock()
			defer c.L.Unlock()
			return c.WaitFor(nosy, func() bool { return false })
		})
		require.True(t, c.Notify())
		synctest.Wait()
		a.requireDone(t, nil)
		cancel()
		synctest.Wait()
		b.requireDone(t, context.Canceled)
		f.requireDone(t, context.Canceled)
	})
}
