package condvar_test

import (
	"context"
	"errors"
	"fmt"
	"math"
	"reflect"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"example.com/condvar"
)

// Two bugs of this kind of library have no test here. Bug C9, a cancellation
// that broadcasts without the lock and so can be missed, is impossible by
// design: each waiter selects on its own context. F20, a panic if a bubble ends
// with a blocked goroutine, is how every test below detects a waiter that
// nothing will wake.

var (
	condBackground = context.Background()
	errCondBoom    = errors.New("boom")
)

// condNotifiers are the ways to wake a waiter that is the only one.
var condNotifiers = []struct {
	name   string
	notify func(c *condvar.Cond) int
}{
	{"Notify", func(c *condvar.Cond) int { return condInt(c.Notify()) }},
	{"NotifyN", func(c *condvar.Cond) int { return c.NotifyN(1) }},
	{"NotifyAll", (*condvar.Cond).NotifyAll},
}

// condWaits are the ways to wait forever.
var condWaits = []struct {
	name string
	wait func(c *condvar.Cond, ctx context.Context) error
}{
	{"Wait", (*condvar.Cond).Wait},
	{"WaitFor", func(c *condvar.Cond, ctx context.Context) error { return c.WaitFor(ctx, condNever) }},
}

func condNever() bool { return false }

func condAlways() bool { return true }

// condBubble runs f in a bubble with a Cond whose L is a chanLock.
func condBubble(t *testing.T, f func(t *testing.T, c *condvar.Cond, l *chanLock)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		l := newChanLock()
		f(t, condvar.NewCond(l), l)
	})
}

// condStartWaits starts n Waits, one after the other.
func condStartWaits(ctx context.Context, c *condvar.Cond, n int) []*asyncCall {
	var calls []*asyncCall
	for range n {
		calls = append(calls, startWait(ctx, c))
	}
	return calls
}

// condStartWaitFor starts c.WaitFor(ctx, pred) with c.L held, and settles.
func condStartWaitFor(ctx context.Context, c *condvar.Cond, pred func() bool) *asyncCall {
	return start(func() error {
		c.L.Lock()
		defer c.L.Unlock()
		return c.WaitFor(ctx, pred)
	})
}

// condReturned settles, and returns which of the calls have returned.
func condReturned(calls ...*asyncCall) []int {
	synctest.Wait()
	returned := []int{}
	for i, a := range calls {
		if a.done.Load() {
			returned = append(returned, i)
		}
	}
	return returned
}

// condFirst returns a function that calls f the first time.
func condFirst(f func()) func() {
	var called atomic.Bool
	return func() {
		if called.CompareAndSwap(false, true) {
			f()
		}
	}
}

// condFirstFalse returns a predicate that is false the first time.
func condFirstFalse() func() bool {
	calls := 0
	return func() bool { calls++; return calls > 1 }
}

// condPanic returns the value that f panics with, or nil.
func condPanic(f func()) (value any) {
	defer func() { value = recover() }()
	f()
	return nil
}

// condInt is 1 for true.
func condInt(b bool) int {
	if b {
		return 1
	}
	return 0
}

// condWaiting returns when n goroutines are in line, each of which has locked
// L, sent on ready and then waits.
func condWaiting(c *condvar.Cond, ready <-chan struct{}, n int) {
	for range n {
		<-ready
	}
	c.L.Lock() // not before the last of them waits and has unlocked it
	defer c.L.Unlock()
}

// condGoroutine identifies the running goroutine.
func condGoroutine() string {
	buf := make([]byte, 64)
	return strings.Fields(string(buf[:runtime.Stack(buf, false)]))[1]
}

// Rows 31, 43.
func TestCond_NotifyWakesTheLongestWaiter(t *testing.T) {
	// A wait that cannot be canceled does not select.
	for _, cancellable := range []bool{false, true} {
		t.Run(fmt.Sprintf("cancellable=%t", cancellable), func(t *testing.T) {
			condBubble(t, func(t *testing.T, c *condvar.Cond, l *chanLock) {
				ctx := condBackground
				if cancellable {
					var cancel func()
					ctx, cancel = context.WithCancel(ctx)
					defer cancel()
				}
				calls := condStartWaits(ctx, c, 3)
				for _, want := range [][]int{{0}, {0, 1}, {0, 1, 2}} {
					require.True(t, c.Notify())
					require.Equal(t, want, condReturned(calls...))
				}
				require.False(t, c.Notify())
				for _, a := range calls {
					a.requireDone(t, nil)
				}
			})
		})
	}
}

// Rows 8, 45, 46.
func TestCond_NotifyNWakesTheFirstN(t *testing.T) {
	for _, test := range []struct{ n, want int }{
		{math.MinInt, 0}, {-1, 0}, {0, 0}, {1, 1}, {2, 2}, {3, 3}, {4, 3}, {2048, 3}, {math.MaxInt, 3},
	} {
		t.Run(fmt.Sprint(test.n), func(t *testing.T) {
			condBubble(t, func(t *testing.T, c *condvar.Cond, l *chanLock) {
				calls := condStartWaits(condBackground, c, 3)
				require.Equal(t, test.want, c.NotifyN(test.n))
				require.Equal(t, []int{0, 1, 2}[:test.want], condReturned(calls...))
				require.Equal(t, 3-test.want, c.Waiters())
				require.Equal(t, 3-test.want, c.NotifyAll())
			})
		})
	}
}

// Row 8.
func TestCond_NotifyNWithMoreThanAreLeftWakesTheRest(t *testing.T) {
	condBubble(t, func(t *testing.T, c *condvar.Cond, l *chanLock) {
		calls := condStartWaits(condBackground, c, 3)
		require.True(t, c.Notify())
		require.Equal(t, 2, c.NotifyN(2048))
		require.Equal(t, []int{0, 1, 2}, condReturned(calls...))
		require.Equal(t, 0, c.NotifyN(2048))
	})
}

// Rows 9, 31.
func TestCond_NotifyAllWakesEverybodyWhoIsInLine(t *testing.T) {
	condBubble(t, func(t *testing.T, c *condvar.Cond, l *chanLock) {
		calls := condStartWaits(condBackground, c, 2)
		require.Equal(t, 2, c.NotifyAll())
		require.Equal(t, []int{0, 1}, condReturned(calls...))
		late := startWait(condBackground, c)
		late.requireParked(t)
		require.Equal(t, 1, c.NotifyAll())
		synctest.Wait()
		late.requireDone(t, nil)
		require.Equal(t, 0, c.NotifyAll())
	})
}

// Row 9.
// Bug C10.
func TestCond_NotifyAllReachesNobodyWhoJoinsAgainDuringIt(t *testing.T) {
	// With this many, the first are back in line before the last get their
	// token.
	const n, rounds = 2000, 20
	for _, again := range []string{"Wait", "WaitFor"} {
		t.Run(again, func(t *testing.T) {
			condBubble(t, func(t *testing.T, c *condvar.Cond, l *chanLock) {
				var woken [n]int
				over := false
				for i := range n {
					go func() {
						l.Lock()
						defer l.Unlock()
						if again == "Wait" {
							for !over && c.Wait(condBackground) == nil {
								woken[i]++
							}
							return
						}
						woken[i]-- // for the call before any notification
						c.WaitFor(condBackground, func() bool { woken[i]++; return over })
					}()
				}
				for round := range rounds {
					synctest.Wait()
					require.Equal(t, slices.Repeat([]int{round}, n), woken[:])
					require.Equal(t, n, c.NotifyAll())
				}
				synctest.Wait()
				require.Equal(t, slices.Repeat([]int{rounds}, n), woken[:])
				over = true
				require.Equal(t, n, c.NotifyAll())
			})
		})
	}
}

// Bug C10.
func TestCond_OneNotifyAllEndsOneOfTwoWaits(t *testing.T) {
	condBubble(t, func(t *testing.T, c *condvar.Cond, l *chanLock) {
		waits := 0
		a := start(func() error {
			l.Lock()
			defer l.Unlock()
			for range 2 {
				if err := c.Wait(condBackground); err != nil {
					return err
				}
				waits++
			}
			return nil
		})
		for want := range 2 {
			require.Equal(t, want, waits)
			a.requireParked(t)
			require.Equal(t, 1, c.NotifyAll())
			synctest.Wait()
		}
		a.requireDone(t, nil)
	})
}

// Rows 32, 42.
func TestCond_ThoseWhoAreNotifiedLeaveTheLineAtOnce(t *testing.T) {
	condBubble(t, func(t *testing.T, c *condvar.Cond, l *chanLock) {
		calls := condStartWaits(condBackground, c, 3)
		l.Lock() // so that no call can return meanwhile
		require.Equal(t, 2, c.NotifyN(2))
		require.Equal(t, 1, c.Waiters())
		require.Equal(t, 1, c.NotifyAll())
		require.Equal(t, 0, c.Waiters())
		require.Empty(t, condReturned(calls...))
		l.Unlock()
		require.Equal(t, []int{0, 1, 2}, condReturned(calls...))
	})
}

// Rows 12, 39.
func TestCond_WaitersCountsThoseInLine(t *testing.T) {
	condBubble(t, func(t *testing.T, c *condvar.Cond, l *chanLock) {
		require.Equal(t, 0, c.Waiters())
		startWait(condBackground, c)
		require.Equal(t, 1, c.Waiters())
		condStartWaitFor(condBackground, c, condFirstFalse())
		require.Equal(t, 2, c.Waiters())
		c.Listen() // counts too
		require.Equal(t, 3, c.Waiters())
		for want := 2; want >= 0; want-- {
			require.True(t, c.Notify())
			require.Equal(t, want, c.Waiters())
		}
	})
}

var condPackageLevel = condvar.NewCond(new(sync.Mutex))

// Row 40.
func TestCond_AtPackageLevelWorks(t *testing.T) {
	require.Equal(t, 0, condPackageLevel.Waiters())
	require.False(t, condPackageLevel.Notify())
	synctest.Test(t, func(t *testing.T) {
		a := startWait(condBackground, condPackageLevel)
		a.requireParked(t)
		require.Equal(t, 1, condPackageLevel.Waiters())
		require.True(t, condPackageLevel.Notify())
		synctest.Wait()
		a.requireDone(t, nil)
	})
	require.Equal(t, 0, condPackageLevel.Waiters())
}

// Row 44.
// Bug C6.
func TestCond_NotificationIsNotRemembered(t *testing.T) {
	for _, n := range condNotifiers {
		for _, used := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s/used=%t", n.name, used), func(t *testing.T) {
				condBubble(t, func(t *testing.T, c *condvar.Cond, l *chanLock) {
					if used {
						a := startWait(condBackground, c)
						c.Notify()
						require.Equal(t, []int{0}, condReturned(a))
					}
					require.Equal(t, 0, n.notify(c))
					a := startWait(condBackground, c)
					a.requireParked(t)
					require.Equal(t, 1, n.notify(c))
					require.Equal(t, []int{0}, condReturned(a))
				})
			})
		}
	}
}

// Bug C6.
func TestCond_TwoNotificationsInARowWakeTwo(t *testing.T) {
	condBubble(t, func(t *testing.T, c *condvar.Cond, l *chanLock) {
		calls := condStartWaits(condBackground, c, 3)
		require.True(t, c.Notify())
		require.True(t, c.Notify())
		require.Equal(t, []int{0, 1}, condReturned(calls...))
		require.True(t, c.Notify())
	})
}

// Rows 10, 11, 23.
func TestCond_NotifyWorksWithAndWithoutTheLockAndDoesNotTouchIt(t *testing.T) {
	for _, n := range condNotifiers {
		for _, held := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s/held=%t", n.name, held), func(t *testing.T) {
				condBubble(t, func(t *testing.T, c *condvar.Cond, l *chanLock) {
					a := startWait(condBackground, c)
					if held {
						l.Lock()
					}
					locks := l.locks
					require.Equal(t, 1, n.notify(c))
					if held {
						a.requireParked(t)
						l.Unlock()
					}
					synctest.Wait()
					a.requireDone(t, nil)
					require.Equal(t, locks+1, l.locks, "the waiter alone should have locked L")
				})
			})
		}
	}
}

// Row 24.
func TestCond_ThreePhasesOfTwoWaitsEach(t *testing.T) {
	condBubble(t, func(t *testing.T, c *condvar.Cond, l *chanLock) {
		for range 2 { // the second time on the same Cond
			var phase int
			var first, second []int
			for range 5 {
				go func() {
					l.Lock()
					defer l.Unlock()
					c.Wait(condBackground)
					first = append(first, phase)
					c.Wait(condBackground)
					second = append(second, phase)
				}()
			}
			step := func(notify func() int, woken int) {
				synctest.Wait()
				l.Lock()
				require.Equal(t, woken, notify())
				phase++
				l.Unlock()
				synctest.Wait()
			}
			step(func() int { return c.NotifyN(3) }, 3)
			require.Equal(t, []int{1, 1, 1}, first)
			require.Empty(t, second)
			step(func() int { return c.NotifyN(5) }, 5)
			require.Equal(t, []int{1, 1, 1, 2, 2}, first)
			require.Equal(t, []int{2, 2, 2}, second)
			step(c.NotifyAll, 2)
			require.Equal(t, []int{1, 1, 1, 2, 2}, first)
			require.Equal(t, []int{2, 2, 2, 3, 3}, second)
		}
	})
}

// F2.
// Bugs C5, C15.
func TestCond_NotifyBetweenUnlockAndParkingIsNotLost(t *testing.T) {
	for _, n := range condNotifiers {
		t.Run(n.name, func(t *testing.T) {
			condBubble(t, func(t *testing.T, c *condvar.Cond, l *chanLock) {
				woken := 0
				l.afterUnlock = condFirst(func() { woken = n.notify(c) })
				a := startWait(condBackground, c)
				require.Equal(t, 1, woken)
				a.requireDone(t, nil)
			})
		})
	}
}

// F2.
func TestCond_WaiterIsInLineBeforeItUnlocks(t *testing.T) {
	for _, w := range condWaits {
		t.Run(w.name, func(t *testing.T) {
			condBubble(t, func(t *testing.T, c *condvar.Cond, l *chanLock) {
				ctx, cancel := context.WithCancel(condBackground)
				inLine := 0
				l.beforeUnlock = condFirst(func() { inLine = c.Waiters() })
				a := start(func() error {
					l.Lock()
					defer l.Unlock()
					return w.wait(c, ctx)
				})
				require.Equal(t, 1, inLine)
				a.requireParked(t)
				cancel()
				synctest.Wait()
				a.requireDone(t, context.Canceled)
			})
		})
	}
}

// Bugs C5, C7.
func TestCond_NotifyDoesNotWaitUntilTheWaiterHasParked(t *testing.T) {
	for _, n := range condNotifiers {
		t.Run(n.name, func(t *testing.T) {
			condBubble(t, func(t *testing.T, c *condvar.Cond, l *chanLock) {
				goOn := make(chan struct{})
				l.afterUnlock = condFirst(func() { <-goOn })
				a := startWait(condBackground, c)
				// Otherwise all are blocked, and the bubble panics.
				require.Equal(t, 1, n.notify(c))
				synctest.Wait()
				a.requireParked(t)
				close(goOn)
				synctest.Wait()
				a.requireDone(t, nil)
			})
		})
	}
}

func TestCond_ThePlaceInLineIsThatOfJoiningNotOfParking(t *testing.T) {
	condBubble(t, func(t *testing.T, c *condvar.Cond, l *chanLock) {
		goOn := make(chan struct{})
		l.afterUnlock = condFirst(func() { <-goOn })
		slow := startWait(condBackground, c)
		quick := startWait(condBackground, c)
		require.True(t, c.Notify())
		close(goOn)
		synctest.Wait()
		slow.requireDone(t, nil)
		quick.requireParked(t)
		require.True(t, c.Notify())
	})
}

// A waiter has no other reason to return nil than a notification of its own.
func TestCond_WaitHasNoSpuriousWakeUps(t *testing.T) {
	condBubble(t, func(t *testing.T, c *condvar.Cond, l *chanLock) {
		ctx, cancel := context.WithCancel(condBackground)
		notified := startWait(condBackground, c)
		canceled := startWait(ctx, c)
		listener := c.Listen()
		a := startWait(condBackground, c)
		b := condvar.NewCond(l)
		for _, event := range []func(){
			func() { c.Notify() },
			cancel,
			func() { listener.Stop() },
			func() { l.Lock(); defer l.Unlock() },
			func() { c.NotifyN(0) },
			func() { c.NotifyN(-1) },
			func() { b.NotifyAll() },
			func() { c.Waiters() },
			func() { time.Sleep(24 * time.Hour) },
		} {
			event()
			synctest.Wait()
			a.requireParked(t)
		}
		notified.requireDone(t, nil)
		canceled.requireDone(t, context.Canceled)
		require.Equal(t, 1, c.NotifyAll())
	})
}

// The only order that the race detector sees is that of Notify before Wait,
// because the notifier never locks L.
func TestCond_NotifySynchronizesBeforeTheReturnOfWait(t *testing.T) {
	for _, n := range condNotifiers {
		t.Run(n.name, func(t *testing.T) {
			condBubble(t, func(t *testing.T, c *condvar.Cond, l *chanLock) {
				data, waited, listened := 0, 0, 0
				a := start(func() error {
					l.Lock()
					defer l.Unlock()
					err := c.Wait(condBackground)
					waited = data
					return err
				})
				data = 1
				require.Equal(t, 1, n.notify(c))
				synctest.Wait()
				a.requireDone(t, nil)
				require.Equal(t, 1, waited)

				listener := c.Listen()
				b := start(func() error {
					<-listener.C
					listened = data
					return nil
				})
				data = 2
				require.Equal(t, 1, n.notify(c))
				synctest.Wait()
				b.requireDone(t, nil)
				require.Equal(t, 2, listened)
			})
		})
	}
}

// Row 28.
func TestCond_NewCondWithoutALockerPanics(t *testing.T) {
	require.PanicsWithValue(t, "condvar: NewCond with a nil Locker", func() { condvar.NewCond(nil) })
}

// condCopy copies a Cond in a way that go vet does not see.
func condCopy(c *condvar.Cond) *condvar.Cond {
	copied := new(condvar.Cond)
	reflect.ValueOf(copied).Elem().Set(reflect.ValueOf(c).Elem())
	return copied
}

// Row 15.
func TestCond_UseOfACopiedCondPanics(t *testing.T) {
	for name, use := range map[string]func(c *condvar.Cond){
		"Wait":       func(c *condvar.Cond) { c.Wait(condBackground) },
		"WaitFor":    func(c *condvar.Cond) { c.WaitFor(condBackground, condNever) },
		"Notify":     func(c *condvar.Cond) { c.Notify() },
		"NotifyN":    func(c *condvar.Cond) { c.NotifyN(2) },
		"NotifyN(0)": func(c *condvar.Cond) { c.NotifyN(0) },
		"NotifyAll":  func(c *condvar.Cond) { c.NotifyAll() },
		"Waiters":    func(c *condvar.Cond) { c.Waiters() },
		"Listen":     func(c *condvar.Cond) { c.Listen() },
	} {
		// Whether a call waits on the original.
		for _, waited := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s/waited=%t", name, waited), func(t *testing.T) {
				var l sync.Mutex
				c := condvar.NewCond(&l)
				c.Notify() // the first use
				if waited {
					defer c.Listen().Stop()
				}
				copied := condCopy(c)
				l.Lock()
				for range 2 { // it panics twice, without a deadlock
					require.PanicsWithValue(t, "condvar: Cond is copied", func() { use(copied) })
				}
				require.False(t, l.TryLock(), "L is unlocked")
				require.Equal(t, condInt(waited), c.Waiters())
			})
		}
	}
}

func TestCond_MayBeCopiedBeforeFirstUse(t *testing.T) {
	condBubble(t, func(t *testing.T, c *condvar.Cond, l *chanLock) {
		for _, c := range []*condvar.Cond{condCopy(c), c} {
			a := startWait(condBackground, c)
			require.True(t, c.Notify())
			require.Equal(t, []int{0}, condReturned(a))
		}
	})
}

// Row 15. go vet looks for a field, held by value, whose address is a Locker.
func TestCond_VetFlagsACopiedCond(t *testing.T) {
	locker := reflect.TypeFor[sync.Locker]()
	flagged := false
	for field := range reflect.TypeFor[condvar.Cond]().Fields() {
		flagged = flagged || field.Type.Kind() == reflect.Struct && reflect.PointerTo(field.Type).Implements(locker)
	}
	require.True(t, flagged)
}

// Not tested here:
//
//   - Row 13: there is no helper that runs a function with L held.
//   - Row 30: goroutines have no identity; locking L twice is a deadlock of the
//     caller.
//   - Row 35: TryLock belongs to the Locker.
//   - Row 48: waiters are not moved to the queue of the lock, which the package
//     does not implement.
//   - Row 49: a Cond has no Close.

func TestCond_NotifyAllIsOneMoment(t *testing.T) {
	const n = 1000
	for range 400 {
		c := condvar.NewCond(new(sync.Mutex))
		for range n {
			c.Listen()
		}
		var wg sync.WaitGroup
		wg.Go(func() { c.NotifyAll() })
		for w := n; w == n; {
			w = c.Waiters()
			require.Contains(t, []int{0, n}, w)
		}
		late := c.Listen()
		wg.Wait()
		require.Empty(t, late.C)
	}
}

// Bug C10. A woken goroutine may cancel others at once. Those have already been
// woken, because NotifyAll and Set take effect at a single moment.
func TestCond_NotifyAllReachesThoseThatItsFirstWaiterCancels(t *testing.T) {
	const n, rounds = 500, 20
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	var failed atomic.Int32
	crowd := func(waiting func() int, wait func(ctx context.Context) error) {
		ctx, cancel = context.WithCancel(context.Background())
		for i := range n {
			own := ctx
			if i == 0 {
				own = context.Background()
			}
			wg.Go(func() {
				if wait(own) != nil {
					failed.Add(1)
				}
				cancel()
			})
			spin(t, waiting, i+1)
		}
	}
	c := condvar.NewCond(new(sync.Mutex))
	var e condvar.Event
	for range rounds {
		crowd(c.Waiters, func(ctx context.Context) error {
			c.L.Lock()
			defer c.L.Unlock()
			return c.Wait(ctx)
		})
		require.Equal(t, n, c.NotifyAll())
		wg.Wait()
		crowd(e.Waiters, e.Wait)
		e.Set()
		e.Clear()
		wg.Wait()
	}
	require.Zero(t, failed.Load())
}
