package hammer

import (
	"context"
	"math/rand/v2"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"example.com/condvar"
)

var condBackground = context.Background()

// condNotifiers are the ways to wake one waiter, if there is no other.
var condNotifiers = []struct {
	name   string
	notify func(c *condvar.Cond) int
}{
	{"Notify", func(c *condvar.Cond) int { return condInt(c.Notify()) }},
	{"NotifyN", func(c *condvar.Cond) int { return c.NotifyN(1) }},
	{"NotifyAll", (*condvar.Cond).NotifyAll},
}

// condInt is 1 for true.
func condInt(b bool) int {
	if b {
		return 1
	}
	return 0
}

// condTimeout bounds tests outside bubbles, where a deadlock is not detected.
const condTimeout = 10 * time.Second

// condWaiting returns when n goroutines are in line. Each of them locks L,
// sends on ready and then waits.
func condWaiting(c *condvar.Cond, ready <-chan struct{}, n int) {
	for range n {
		<-ready
	}
	c.L.Lock() // after the last of them has unlocked it in Wait
	defer c.L.Unlock()
}

// Bug C11. A notifier and a second waiter race. The first waiter, which was in
// line before both began, must be notified in any case.
func TestCond_ALaterWaiterDoesNotStealANotification(t *testing.T) {
	ctx, cancel := context.WithTimeout(condBackground, condTimeout)
	defer cancel()
	for _, n := range condNotifiers {
		t.Run(n.name, func(t *testing.T) {
			for range 1000 {
				c := condvar.NewCond(new(sync.Mutex))
				ready, first := make(chan struct{}, 1), make(chan error, 1)
				var wg sync.WaitGroup
				wg.Go(func() {
					c.L.Lock()
					defer c.L.Unlock()
					ready <- struct{}{}
					first <- c.Wait(ctx)
				})
				condWaiting(c, ready, 1)
				over := false
				wg.Go(func() { n.notify(c) })
				wg.Go(func() {
					c.L.Lock()
					defer c.L.Unlock()
					c.WaitFor(ctx, func() bool { return over })
				})
				require.NoError(t, <-first)
				c.L.Lock()
				over = true
				c.NotifyAll()
				c.L.Unlock()
				wg.Wait()
			}
		})
	}
}

// Stop is called while NotifyN runs. The listener behind gets the notification,
// either because Stop was in time or because Stop passed it on.
func TestListener_StopThatRacesWithNotifyLosesNothing(t *testing.T) {
	const n = 1500 // enough for NotifyN to take a while, also after it has unlocked
	for range 600 {
		c := condvar.NewCond(new(sync.Mutex))
		var listeners [n]*condvar.Listener
		for i := range listeners {
			listeners[i] = c.Listen()
		}
		last, next := listeners[n-1], c.Listen()
		begin := make(chan struct{})
		var wg sync.WaitGroup
		wg.Go(func() {
			close(begin)
			c.NotifyN(n)
		})
		<-begin
		for c.Waiters() > 1 { // NotifyN has not begun; Stop must come right after that
			runtime.Gosched()
		}
		last.Stop()
		wg.Wait()
		require.Empty(t, last.C)
		require.Len(t, next.C, 1)
		require.Equal(t, 0, c.Waiters())
	}
}

// Three goroutines change a variable in turn. Only the lock of the Cond
// protects it.
func TestCond_TheLockAndNotificationsOrderWhatGoroutinesDo(t *testing.T) {
	ctx, cancel := context.WithTimeout(condBackground, condTimeout)
	defer cancel()
	for range 100 {
		c := condvar.NewCond(new(sync.Mutex))
		x := 0
		var errs [3]error
		var wg sync.WaitGroup
		for i := range errs {
			wg.Go(func() {
				c.L.Lock()
				defer c.L.Unlock()
				for turn := i; turn < 30; turn += len(errs) {
					if err := c.WaitFor(ctx, func() bool { return x == turn }); err != nil {
						errs[i] = err
					}
					x++
					c.NotifyAll()
				}
			})
		}
		wg.Wait()
		require.Equal(t, 30, x)
		require.Equal(t, [3]error{}, errs)
	}
}

func TestCond_GoroutinesAreWokenInTheOrderInWhichTheyBeganToWait(t *testing.T) {
	const n = 100
	cancelable, cancel := context.WithTimeout(condBackground, condTimeout)
	defer cancel()
	c := condvar.NewCond(new(sync.Mutex))
	ready, awake := make(chan struct{}, n), make(chan int, n)
	for i := range n {
		ctx := []context.Context{condBackground, cancelable}[i/3%2]
		go func() {
			c.L.Lock()
			defer c.L.Unlock()
			ready <- struct{}{}
			if c.Wait(ctx) != nil {
				i = -1
			}
			awake <- i
		}()
		condWaiting(c, ready, 1)
	}
	for i := range n {
		require.Equal(t, n-i, c.Waiters())
		require.True(t, c.Notify())
		require.Equal(t, i, <-awake)
	}
	require.False(t, c.Notify())
}

func TestCond_NotifyAllWakesEachOfManyGoroutinesOnceARound(t *testing.T) {
	const n, rounds = 100, 20
	ctx, cancel := context.WithTimeout(condBackground, condTimeout)
	defer cancel()
	c := condvar.NewCond(new(sync.Mutex))
	ready := make(chan struct{}, n)
	var failed atomic.Int32
	var wg sync.WaitGroup
	for range n {
		wg.Go(func() {
			for range rounds {
				c.L.Lock()
				ready <- struct{}{}
				if c.Wait(ctx) != nil {
					failed.Add(1)
				}
				c.L.Unlock()
			}
		})
	}
	for range rounds {
		condWaiting(c, ready, n)
		require.Equal(t, n, c.NotifyAll())
	}
	wg.Wait()
	require.Zero(t, failed.Load())
	require.Equal(t, 0, c.NotifyAll())
}

// F5, F19. In each round all waiters are in line first. Then come concurrent
// notifications, cancels and Stops. If there are Listeners, there are no more
// notifications than waiters that stay: a notification that is passed on always
// finds a waiter, and every one has to arrive.
func TestCond_NotificationsAreNeitherLostNorInvented(t *testing.T) {
	hammerAll(t, func(h *hammer) {
		c := condvar.NewCond(&dawdlingLock{})
		rounds := 0
		for ; !h.over(); rounds++ {
			condRound(h, c)
		}
		h.Log(rounds, "rounds")
	})
}

func condRound(h *hammer, c *condvar.Cond) {
	// These count the outcomes.
	var notified, canceled, stopped, passedOn atomic.Int64
	// leavers end without a notification.
	var all, leavers sync.WaitGroup
	size := 1 + h.IntN(6)
	faithful, fickle, listeners := 1+h.IntN(size), h.IntN(size+1), h.IntN(size)
	total := faithful + fickle + listeners

	wait := func(ctx context.Context) {
		c.L.Lock()
		err := c.Wait(ctx)
		c.L.Unlock()
		if err == nil {
			notified.Add(1)
		} else {
			canceled.Add(1)
		}
	}
	// Two goroutines call the functions of storm.
	var woken atomic.Int64
	var storm []func()
	budget := faithful
	if listeners == 0 {
		budget = h.IntN(total + 2)
	}
	for budget > 0 {
		n := min(1+h.IntN(3), budget)
		budget -= n
		storm = append(storm, func() { woken.Add(int64(c.NotifyN(n))) })
	}
	alive, cancelAlive := context.WithCancel(context.Background())
	defer cancelAlive()
	for i := range faithful {
		ctx := context.Background()
		if i%2 == 1 {
			ctx = alive
		}
		all.Go(func() { wait(ctx) })
	}
	for range fickle {
		ctx, cancel := context.WithCancel(context.Background())
		storm = append(storm, cancel)
		leavers.Go(func() { wait(ctx) })
	}
	h.Shuffle(len(storm), func(i, j int) { storm[i], storm[j] = storm[j], storm[i] })
	begin := make(chan struct{})
	for range listeners {
		l, delay, receives := c.Listen(), h.IntN(5), h.IntN(2) == 0
		leavers.Go(func() {
			<-begin
			for range delay {
				runtime.Gosched()
			}
			received := false
			if receives {
				select {
				case <-l.C:
					received = true
				default:
				}
			}
			switch left := l.Stop(); {
			case received && left:
				h.Error("Stop returned true after a notification was received")
			case received:
				notified.Add(1)
			case left:
				stopped.Add(1)
			default:
				passedOn.Add(1)
			}
			if len(l.C) != 0 || l.Stop() {
				h.Error("the Listener is not stopped after Stop")
			}
		})
	}
	half := h.IntN(len(storm) + 1)
	var other sync.WaitGroup
	other.Go(func() {
		<-begin
		for _, f := range storm[half:] {
			f()
		}
	})
	spin(h, c.Waiters, total)
	close(begin)
	for _, f := range storm[:half] {
		f()
	}
	h.wait(&other)
	h.wait(&leavers)

	// Woken waiters have left the line, also those that passed the notification
	// on.
	left := total - int(woken.Load()+canceled.Load()+stopped.Load()+passedOn.Load())
	require.Equal(h, left, c.Waiters())
	require.Equal(h, left, c.NotifyAll())
	h.wait(&all)
	if listeners > 0 {
		require.EqualValues(h, faithful, woken.Load(), "a notification found no waiter")
	}
	require.Equal(h, woken.Load()+int64(left), notified.Load())
	require.EqualValues(h, total, notified.Load()+canceled.Load()+stopped.Load()+passedOn.Load())
	require.Zero(h, c.Waiters())
}

// F19, F23. In each round producers and consumers pass a number of items
// through a small buffer. They have no other way to stop: if a wake-up is lost,
// the round does not end.
func TestCond_ProducersAndConsumersPassOnEveryItem(t *testing.T) {
	hammerAll(t, func(h *hammer) {
		var mu dawdlingLock
		b := &hammerBuffer{notFull: condvar.Cond{L: &mu}, notEmpty: condvar.Cond{L: &mu}}
		rounds := uint64(0)
		for ; !h.over(); rounds++ {
			const workers, quota = 3, 25
			left := h.IntN(3)
			b.mu, b.items, b.size = &mu, 0, left+1+h.IntN(3)
			var produced, consumed atomic.Int64
			var wg sync.WaitGroup
			for i := range uint64(workers) {
				rng := hammerRand(rounds<<8 | i<<1)
				more := quota
				if i == 0 {
					more += left
				}
				wg.Go(func() { b.move(rng, &wg, more, true, &produced) })
				rng2 := hammerRand(rounds<<8 | i<<1 | 1)
				wg.Go(func() { b.move(rng2, &wg, quota, false, &consumed) })
			}
			h.wait(&wg)
			require.EqualValues(h, workers*quota+left, produced.Load())
			require.EqualValues(h, workers*quota, consumed.Load())
			require.Equal(h, left, b.items)
			require.Zero(h, b.notFull.Waiters())
			require.Zero(h, b.notEmpty.Waiters())
		}
		h.Log(rounds, "rounds")
	})
}

// A hammerBuffer counts items. It has room for size items.
type hammerBuffer struct {
	mu                sync.Locker
	items, size       int
	notFull, notEmpty condvar.Cond
}

// move puts quota items into the buffer, or takes them out.
func (b *hammerBuffer) move(rng *rand.Rand, wg *sync.WaitGroup, quota int, put bool, moved *atomic.Int64) {
	mine, theirs := &b.notEmpty, &b.notFull
	possible := func() int { return b.items }
	if put {
		mine, theirs = theirs, mine
		possible = func() int { return b.size - b.items }
	}
	for quota > 0 {
		ctx, cancel := hammerContext(rng, wg)
		b.mu.Lock()
		err := hammerWait(ctx, rng.IntN(3), mine, func() bool { return possible() > 0 })
		n := 0
		if err == nil {
			n = min(possible(), 1+rng.IntN(2), quota)
			if put {
				b.items += n
			} else {
				b.items -= n
			}
			moved.Add(int64(n))
			quota -= n
		}
		// A Notify is allowed with or without the lock.
		if rng.IntN(2) == 0 {
			theirs.NotifyN(n)
			b.mu.Unlock()
		} else {
			b.mu.Unlock()
			theirs.NotifyN(n)
		}
		cancel()
	}
}

// hammerWait waits for pred in one of three ways.
func hammerWait(ctx context.Context, way int, c *condvar.Cond, pred func() bool) error {
	switch way {
	case 0:
		return c.WaitFor(ctx, pred)
	case 1:
		for !pred() {
			if err := c.Wait(ctx); err != nil {
				return err
			}
		}
		return nil
	}
	for !pred() {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		l := c.Listen()
		c.L.Unlock()
		select {
		case <-l.C:
		case <-ctx.Done():
		}
		l.Stop()
		c.L.Lock()
	}
	return nil
}
