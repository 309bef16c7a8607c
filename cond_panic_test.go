package condvar_test

import (
	"context"
	"fmt"
	"math"
	"math/rand/v2"
	"runtime"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"example.com/condvar"
)

// A Locker panics after it has unlocked. Other waiters are before and after the
// call in line, and some of them, perhaps including the call, are notified. The
// waiters behind it, even those that join the same Cond much later, are served
// as if it had never been in line.
func TestCond_UnlockThatPanicsLeavesTheLineInOrder(t *testing.T) {
	condBubble(t, func(t *testing.T, c *condvar.Cond, l *chanLock) {
		for before := range 3 {
			for after := range 3 {
				for notified := range before + after + 2 {
					for kinds := range 4 { // of the neighbors
						scene := fmt.Sprintf("%d before, %d after, %d notified, kinds %d", before, after, notified, kinds)
						ctx, cancel := context.WithCancel(condBackground)
						calls := []*asyncCall{}
						for i := range before {
							calls = append(calls, condKinds[kinds&1&i](ctx, c))
						}
						l.Lock()
						l.afterUnlock = condFirst(func() {
							for i := range after {
								calls = append(calls, condKinds[kinds>>1&i](ctx, c))
							}
							require.Equal(t, notified, c.NotifyN(notified), scene)
							panic("unlock")
						})
						require.PanicsWithValue(t, "unlock", func() { c.Wait(condBackground) }, scene)

						// Its own notification, if it has one, is passed on.
						want := []int{}
						for len(want) < min(notified, len(calls)) {
							want = append(want, len(want))
						}
						require.Equal(t, len(calls)-len(want), c.Waiters(), scene)
						require.Equal(t, want, condReturned(calls...), scene)
						for len(want) < len(calls) {
							require.True(t, c.Notify(), scene)
							want = append(want, len(want))
							require.Equal(t, want, condReturned(calls...), scene)
						}
						require.False(t, c.Notify(), scene)
						cancel()
					}
				}
			}
		}
	})
}

func TestCond_UnlockThatPanicsPassesOnANotificationThatIsOlderThanABroadcast(t *testing.T) {
	for i := range condKinds {
		condBubble(t, func(t *testing.T, c *condvar.Cond, l *chanLock) {
			ctx, cancel := context.WithCancel(condBackground)
			defer cancel()
			var late *condvar.Listener
			l.afterUnlock = condFirst(func() {
				early := condKinds[i](ctx, c)
				// For the call that is going to panic.
				require.True(t, c.Notify())
				require.Equal(t, 1, c.NotifyAll())
				synctest.Wait()
				early.requireDone(t, nil)
				late = c.Listen()
				panic("unlock")
			})
			l.Lock()
			require.PanicsWithValue(t, "unlock", func() { c.Wait(condBackground) })
			require.Len(t, late.C, 1)
			require.Equal(t, 0, c.Waiters())
		})
	}
}

// One call panics, and two later ones do so before it has left the line.
func TestCond_SeveralUnlocksThatPanicLeaveTheLineInOrder(t *testing.T) {
	condBubble(t, func(t *testing.T, c *condvar.Cond, l *chanLock) {
		a := startWait(condBackground, c)
		depth := 0
		l.afterUnlock = func() {
			depth++
			if depth < 3 {
				l.Lock()
				_ = condPanic(func() { c.Wait(condBackground) })
			}
			panic("unlock")
		}
		l.Lock()
		require.PanicsWithValue(t, "unlock", func() { c.Wait(condBackground) })
		require.Equal(t, 3, depth)
		l.afterUnlock = nil
		require.Equal(t, 1, c.Waiters())
		b, d := startWait(condBackground, c), startWait(condBackground, c)
		for i := range 3 {
			require.True(t, c.Notify())
			require.Len(t, condReturned(a, b, d), i+1)
			require.Equal(t, 2-i, c.Waiters())
		}
		require.False(t, c.Notify())
		a.requireDone(t, nil)
		b.requireDone(t, nil)
		d.requireDone(t, nil)
	})
}

func TestCond_LockThatPanicsInAWaitThatNoContextCanEndPassesOnTheNotification(t *testing.T) {
	for _, n := range condNotifiers {
		t.Run(n.name, func(t *testing.T) {
			condBubble(t, func(t *testing.T, c *condvar.Cond, l *chanLock) {
				var value any
				start(func() error {
					l.Lock()
					value = condPanic(func() { c.Wait(condBackground) })
					return nil
				})
				var next *asyncCall
				l.beforeLock = condFirst(func() {
					next = &asyncCall{}
					go func() {
						l.Lock()
						defer l.Unlock()
						next.err = c.Wait(condBackground)
						next.done.Store(true)
					}()
					for c.Waiters() == 0 {
						runtime.Gosched()
					}
					panic("lock")
				})
				require.Equal(t, 1, n.notify(c))
				synctest.Wait()
				require.Equal(t, "lock", value)
				if n.name == "NotifyAll" { // it woke all waiters
					next.requireParked(t)
					require.True(t, c.Notify())
					synctest.Wait()
				}
				next.requireDone(t, nil)
				require.Equal(t, 0, c.Waiters())
			})
		})
	}
}

// Rows 5, 7, 22, 38.
func TestCond_WaitWithoutTheLockPanicsAndLeavesNobodyInLine(t *testing.T) {
	for _, w := range condWaits {
		t.Run(w.name, func(t *testing.T) {
			condBubble(t, func(t *testing.T, c *condvar.Cond, l *chanLock) {
				require.Panics(t, func() { w.wait(c, condBackground) })
				require.Equal(t, 0, c.Waiters())
				require.False(t, c.Notify())
				for _, later := range condKinds {
					ctx, cancel := context.WithCancel(condBackground)
					a := later(ctx, c)
					require.Panics(t, func() { w.wait(c, condBackground) })
					require.Equal(t, 1, c.Waiters())
					a.requireParked(t)
					require.True(t, c.Notify())
					synctest.Wait()
					a.requireDone(t, nil)
					cancel()
				}
			})
		})
	}
}

func TestCond_UnlockThatPanicsPassesOnTheNotification(t *testing.T) {
	for _, w := range condWaits {
		// Whether L is free when it panics.
		for _, unlocked := range []bool{false, true} {
			for _, notified := range []bool{false, true} {
				t.Run(fmt.Sprintf("%s/unlocked=%t/notified=%t", w.name, unlocked, notified), func(t *testing.T) {
					condBubble(t, func(t *testing.T, c *condvar.Cond, l *chanLock) {
						var next *condvar.Listener
						fail := condFirst(func() {
							next = c.Listen()
							if notified {
								require.True(t, c.Notify())
							}
							panic("unlock")
						})
						if unlocked {
							l.afterUnlock = fail
						} else {
							l.beforeUnlock = fail
						}
						l.Lock()
						require.PanicsWithValue(t, "unlock", func() { w.wait(c, condBackground) })
						require.Equal(t, !unlocked, l.locked())
						if notified {
							require.Len(t, next.C, 1)
						} else {
							require.Empty(t, next.C)
							require.True(t, next.Stop())
						}
						require.Equal(t, 0, c.Waiters())
						require.False(t, c.Notify())
					})
				})
			}
		}
	}
}

// Bug C21.
func TestCond_UnlockThatPanicsDoesNotPassOnANotificationOfNotifyAll(t *testing.T) {
	for _, w := range condWaits {
		t.Run(w.name, func(t *testing.T) {
			condBubble(t, func(t *testing.T, c *condvar.Cond, l *chanLock) {
				var late *condvar.Listener
				l.afterUnlock = condFirst(func() {
					require.Equal(t, 1, c.NotifyAll())
					late = c.Listen()
					panic("unlock")
				})
				l.Lock()
				require.PanicsWithValue(t, "unlock", func() { w.wait(c, condBackground) })
				require.Empty(t, late.C)
				require.True(t, late.Stop())
			})
		})
	}
}

// WaitFor parks again after a futile wake-up, and so unlocks again.
func TestCond_SecondUnlockOfWaitForThatPanicsPassesOnTheNotification(t *testing.T) {
	for _, notified := range []bool{false, true} {
		t.Run(fmt.Sprintf("notified=%t", notified), func(t *testing.T) {
			condBubble(t, func(t *testing.T, c *condvar.Cond, l *chanLock) {
				var value any
				start(func() error {
					l.Lock()
					value = condPanic(func() { c.WaitFor(condBackground, condNever) })
					l.Unlock()
					return nil
				})
				next := c.Listen()
				reached := false
				l.beforeUnlock = condFirst(func() {
					reached = notified && c.Notify()
					panic("unlock")
				})
				require.True(t, c.Notify())
				synctest.Wait()
				require.Equal(t, "unlock", value)
				require.Equal(t, notified, reached)
				if notified {
					require.Len(t, next.C, 1)
				} else {
					require.Empty(t, next.C)
					require.True(t, next.Stop())
				}
				require.Equal(t, 0, c.Waiters())
			})
		})
	}
}

// Outside bubbles, where waiters are reused. A waiter that was notified and
// could not receive its token must not be: a later Wait would receive that
// token.
func TestCond_UnlockThatPanicsLeavesNoNotificationToALaterWait(t *testing.T) {
	for _, w := range condWaits {
		for panicAt := 1; panicAt == 1 || panicAt == 2 && w.name == "WaitFor"; panicAt++ {
			t.Run(fmt.Sprintf("%s/unlock=%d", w.name, panicAt), func(t *testing.T) {
				l := newChanLock()
				c := condvar.NewCond(l)
				l.Lock()
				for i := range 50 {
					unlocks := 0
					l.beforeUnlock = func() {
						unlocks++
						condRequireNotify(t, c)
						if unlocks == panicAt {
							panic("unlock")
						}
					}
					require.PanicsWithValue(t, "unlock", func() { w.wait(c, []context.Context{condBackground, t.Context()}[i%2]) })
					l.beforeUnlock = nil
					condRequireNotNotified(t, c, l)
				}
			})
		}
	}
}

// The same with a context that has ended too, so that in half of the runs the
// waiter wakes up because of that, and not because of the notification.
func TestCond_NotificationThatCameFirstIsNotLeftToALaterWait(t *testing.T) {
	for i, w := range condWaits {
		t.Run(w.name, func(t *testing.T) {
			l := newChanLock()
			c := condvar.NewCond(l)
			l.Lock()
			for range 50 {
				ctx, cancel := context.WithCancel(condBackground)
				l.afterUnlock = condFirst(func() {
					condRequireNotify(t, c)
					cancel()
				})
				require.Equal(t, []error{nil, context.Canceled}[i], w.wait(c, ctx))
				condRequireNotNotified(t, c, l)
			}
		})
	}
}

// condTimeout bounds tests outside bubbles, where a deadlock is not detected.
const condTimeout = 10 * time.Second

// condRequireNotify checks that Notify wakes a waiter and does not block, as it
// would on a waiter that already had a token.
func condRequireNotify(t *testing.T, c *condvar.Cond) {
	woken := make(chan bool, 1)
	go func() { woken <- c.Notify() }()
	select {
	case ok := <-woken:
		require.True(t, ok)
	case <-time.After(condTimeout):
		require.FailNow(t, "Notify does not return")
	}
}

// condRequireNotNotified checks that a Wait ends with its context, and not
// before.
func condRequireNotNotified(t *testing.T, c *condvar.Cond, l *chanLock) {
	ctx, cancel := context.WithCancel(condBackground)
	unlocked := make(chan struct{})
	var awake error
	l.afterUnlock = condFirst(func() { close(unlocked) })
	l.beforeLock = condFirst(func() { awake = ctx.Err() })
	go func() {
		<-unlocked
		cancel()
	}()
	require.Equal(t, context.Canceled, c.Wait(ctx))
	require.Equal(t, context.Canceled, awake, "it woke up before")
}

func TestCond_LockThatPanicsPassesOnTheNotification(t *testing.T) {
	for _, w := range condWaits {
		for _, notified := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s/notified=%t", w.name, notified), func(t *testing.T) {
				condBubble(t, func(t *testing.T, c *condvar.Cond, l *chanLock) {
					ctx, cancel := context.WithCancel(condBackground)
					defer cancel()
					var value any
					start(func() error {
						l.Lock()
						value = condPanic(func() { w.wait(c, ctx) })
						return nil
					})
					b := startWait(condBackground, c)
					last := c.Listen()
					l.beforeLock = condFirst(func() { panic("lock") })
					if notified {
						require.True(t, c.Notify())
					} else {
						cancel()
					}
					synctest.Wait()
					require.Equal(t, "lock", value)
					if notified {
						b.requireDone(t, nil)
					} else {
						b.requireParked(t)
						require.True(t, c.Notify())
					}
					require.Empty(t, last.C, "it was passed on twice")
					require.Equal(t, 1, c.Waiters())
				})
			})
		}
	}
}

// F11.
// Bug C16.
func TestCond_PredicateThatLeavesPassesOnTheNotification(t *testing.T) {
	for _, leave := range []string{"panic", "Goexit"} {
		for _, when := range []string{"at first", "when notified"} {
			t.Run(leave+" "+when, func(t *testing.T) {
				condBubble(t, func(t *testing.T, c *condvar.Cond, l *chanLock) {
					ctx, cancel := context.WithCancel(condBackground)
					defer cancel()
					var value any
					var ended, held bool
					pred := func() bool {
						if leave == "panic" {
							panic("pred")
						}
						runtime.Goexit()
						return true
					}
					if when != "at first" {
						last := pred
						first := condFirstFalse()
						pred = func() bool { return first() && last() }
					}
					a := start(func() error {
						l.Lock()
						defer func() {
							value = recover()
							ended, held = true, l.locked()
							l.Unlock()
						}()
						return c.WaitFor(ctx, pred)
					})
					calls := condStartWaits(condBackground, c, 2)
					if when == "when notified" {
						require.False(t, ended)
						require.Equal(t, 3, c.Waiters())
						require.True(t, c.Notify())
					}
					synctest.Wait()
					require.True(t, ended)
					require.True(t, held)
					if leave == "panic" {
						require.Equal(t, "pred", value)
					} else {
						require.Nil(t, value)
						require.False(t, a.done.Load(), "the goroutine has gone on")
					}
					if when == "when notified" {
						require.Equal(t, []int{0}, condReturned(calls...))
						require.Equal(t, 1, c.NotifyAll())
					} else {
						require.Empty(t, condReturned(calls...))
						require.Equal(t, 2, c.NotifyAll())
					}
					require.Equal(t, 0, c.Waiters())
				})
			})
		}
	}
}

// A WaitFor that fails passes its notification on to a Listener too, and Stop
// passes it on further.
func TestCond_NotificationIsPassedOnAsOftenAsNeeded(t *testing.T) {
	condBubble(t, func(t *testing.T, c *condvar.Cond, l *chanLock) {
		ctx, cancel := context.WithCancel(condBackground)
		a := condStartWaitFor(ctx, c, condNever)
		listener := c.Listen()
		b := condStartWaitFor(ctx, c, condNever)
		last := startWait(condBackground, c)
		l.Lock()
		require.True(t, c.Notify())
		synctest.Wait()
		cancel()
		l.Unlock()
		synctest.Wait()
		a.requireDone(t, context.Canceled)
		b.requireDone(t, context.Canceled)
		require.Len(t, listener.C, 1)
		last.requireParked(t)
		require.False(t, listener.Stop())
		synctest.Wait()
		last.requireDone(t, nil)
	})
}

// NotifyAll has reached all waiters that were in line. So if one of them
// leaves, its notification is not passed on: waiters that joined later must not
// get it. Any other notification goes to the next waiter in line, even if it
// joined later.
func TestCond_OnlyTheNotificationOfNotifyAllIsNotPassedOn(t *testing.T) {
	type leaver struct {
		name string
		// join starts a waiter that gets the notification and cannot use it.
		// leave, called with L held, makes that waiter leave as soon as L is
		// free.
		join func(c *condvar.Cond, l *chanLock) (leave func())
	}
	leavers := []leaver{
		{"WaitFor, canceled", func(c *condvar.Cond, l *chanLock) func() {
			ctx, cancel := context.WithCancel(condBackground)
			condStartWaitFor(ctx, c, condNever)
			return cancel
		}},
		{"WaitFor, pred panics", func(c *condvar.Cond, l *chanLock) func() {
			first := condFirstFalse()
			start(func() error {
				l.Lock()
				defer l.Unlock()
				defer func() { recover() }()
				return c.WaitFor(condBackground, func() bool { return first() && condThrow() })
			})
			return func() {}
		}},
		{"Wait, Lock panics", func(c *condvar.Cond, l *chanLock) func() {
			fail := condFirst(func() {
				l.ch <- struct{}{} // once L is free
				<-l.ch
				panic("thrown")
			})
			l.beforeUnlock = condFirst(func() { l.beforeLock = fail })
			start(func() error {
				l.Lock()
				defer func() { recover() }()
				return c.Wait(condBackground)
			})
			return func() {}
		}},
		{"Stop", func(c *condvar.Cond, l *chanLock) func() {
			listener := c.Listen()
			return func() { listener.Stop() }
		}},
	}
	for _, n := range condNotifiers {
		for _, who := range leavers {
			t.Run(n.name+"/"+who.name, func(t *testing.T) {
				condBubble(t, func(t *testing.T, c *condvar.Cond, l *chanLock) {
					leave := who.join(c, l)
					l.ch <- struct{}{} // L is locked, whatever its hooks do
					require.Equal(t, 1, n.notify(c))
					late := c.Listen()
					synctest.Wait()
					leave()
					<-l.ch
					synctest.Wait()
					require.Len(t, late.C, condInt(n.name != "NotifyAll"))
					require.Equal(t, condInt(n.name == "NotifyAll"), c.Waiters())
				})
			})
		}
	}
}

func condThrow() bool { panic("thrown") }

// Bug C21. The number of later calls of NotifyAll makes no difference.
func TestCond_ANotificationOfNotifyAllIsNotPassedOnAfterAnotherNotifyAll(t *testing.T) {
	condBubble(t, func(t *testing.T, c *condvar.Cond, l *chanLock) {
		relock := make(chan struct{})
		l.beforeUnlock = condFirst(func() {
			l.beforeLock = condFirst(func() {
				<-relock
				panic("thrown")
			})
		})
		first := start(func() error {
			l.Lock()
			defer func() { recover() }()
			return c.Wait(condBackground)
		})
		require.Equal(t, 1, c.NotifyAll())
		synctest.Wait()
		first.requireParked(t) // in L.Lock
		second := c.Listen()
		require.Equal(t, 1, c.NotifyAll())
		third := c.Listen()
		close(relock)
		synctest.Wait()
		require.True(t, first.done.Load())
		require.Len(t, second.C, 1)
		require.Empty(t, third.C)
		require.True(t, third.Stop())
	})
}

// NotifyN is not NotifyAll, however large n is.
func TestCond_NotificationOfNotifyNIsPassedOnEvenIfNIsTheLargestThereIs(t *testing.T) {
	for _, n := range []int{1, 2, math.MaxInt - 1, math.MaxInt} {
		t.Run(fmt.Sprint(n), func(t *testing.T) {
			c := condvar.NewCond(new(sync.Mutex))
			listener := c.Listen()
			require.Equal(t, 1, c.NotifyN(n))
			late := c.Listen()
			require.False(t, listener.Stop())
			require.Len(t, late.C, 1)
		})
	}
}

// A waiter that got a notification of NotifyAll passes on a later one of
// Notify.
func TestCond_NotificationAfterOneOfNotifyAllIsPassedOn(t *testing.T) {
	condBubble(t, func(t *testing.T, c *condvar.Cond, l *chanLock) {
		ctx, cancel := context.WithCancel(condBackground)
		a := condStartWaitFor(ctx, c, condNever)
		require.Equal(t, 1, c.NotifyAll())
		synctest.Wait()
		next := c.Listen()
		l.Lock()
		require.True(t, c.Notify())
		cancel()
		l.Unlock()
		synctest.Wait()
		a.requireDone(t, context.Canceled)
		require.Len(t, next.C, 1)
	})
}

// Both cases of the select are ready. Whichever it takes, exactly one goroutine
// gets the notification.
func TestListener_SelectThatTakesTheOtherCasePassesTheNotificationOn(t *testing.T) {
	condBubble(t, func(t *testing.T, c *condvar.Cond, l *chanLock) {
		for range 300 {
			other := make(chan struct{}, 1)
			received := false
			a := start(func() error {
				listener := c.Listen()
				defer listener.Stop()
				select {
				case <-listener.C:
					received = true
				case <-other:
				}
				return nil
			})
			b := startWait(condBackground, c)
			l.Lock()
			require.True(t, c.Notify())
			other <- struct{}{}
			l.Unlock()
			synctest.Wait()
			a.requireDone(t, nil)
			require.Equal(t, !received, b.done.Load())
			require.Equal(t, received, c.NotifyAll() == 1)
		}
	})
}

// F23. The items put in are those taken out and those left, and no call waits
// forever, although every other wait is canceled at about the time of its
// wake-up.
func TestCond_BoundedBufferLosesNothingToCancellations(t *testing.T) {
	const workers, items, size = 3, 200, 2
	for seed := range uint64(5) {
		t.Run(fmt.Sprintf("seed=%d", seed), func(t *testing.T) {
			condBubble(t, func(t *testing.T, notFull *condvar.Cond, l *chanLock) {
				notEmpty := condvar.NewCond(l)
				var buffer []int
				var put, taken, gaveUp int
				// work calls do until it has succeeded the given number of
				// times.
				work := func(id uint64, c, next *condvar.Cond, pred func() bool, do func()) {
					rng := rand.New(rand.NewPCG(seed, id))
					pause := func() time.Duration { return time.Duration(rng.IntN(3)) * time.Millisecond }
					for done := 0; done < items; {
						ctx, cancel := condBackground, func() {}
						if rng.IntN(2) == 0 {
							ctx, cancel = context.WithTimeout(ctx, pause())
						}
						l.Lock()
						if c.WaitFor(ctx, pred) == nil {
							do()
							done++
							next.Notify()
						} else {
							gaveUp++
						}
						l.Unlock()
						cancel()
						time.Sleep(pause())
					}
				}
				var wg sync.WaitGroup
				for i := range uint64(workers) {
					wg.Go(func() {
						work(i, notFull, notEmpty, func() bool { return len(buffer) < size },
							func() { put++; buffer = append(buffer, put) })
					})
					wg.Go(func() {
						work(workers+i, notEmpty, notFull, func() bool { return len(buffer) > 0 },
							func() { taken++; buffer = buffer[1:] })
					})
				}
				wg.Wait()
				require.Equal(t, workers*items, put)
				require.Equal(t, put, taken+len(buffer))
				require.NotZero(t, gaveUp)
				require.Equal(t, 0, notFull.Waiters()+notEmpty.Waiters())
			})
		})
	}
}
