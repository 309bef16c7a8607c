package condvardebug_test

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"runtime"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"example.com/condvar"
	"example.com/condvar/condvardebug"
)

// Bug P3: the cost of a release does not depend on the number of watched
// resources. The bound is far below one to a hundred thousand, and far above
// noise.
func TestAReleaseCostsTheSameHoweverManyResourcesAreWatched(t *testing.T) {
	cost := func(watched int) func() time.Duration {
		d := &condvardebug.Debugger{}
		d.SetHolderProfileFraction(1)
		others := make([]*condvar.CapacityResource, watched-1)
		for i := range others {
			others[i] = condvar.NewCapacityResource(1, d.Watch(fmt.Sprint(i)))
		}
		r := condvar.NewCapacityResource(2, d.Watch("pool"))
		t.Cleanup(func() { runtime.KeepAlive(others) })
		return func() time.Duration {
			const calls = 200
			start := time.Now()
			for range calls {
				require.True(t, r.TryAcquire())
				r.Release()
			}
			return time.Since(start) / calls
		}
	}
	one, many := cost(1), cost(100_000)
	var few, lots []time.Duration
	for range 21 {
		few, lots = append(few, one()), append(lots, many())
	}
	slices.Sort(few)
	slices.Sort(lots)
	require.Less(t, lots[10], 10*few[10]) // the medians
}

// busy returns a Debugger that watches resources with waiting goroutines, and a
// function that ends the waits.
func busy(b *testing.B, resources, waiters int) (d *condvardebug.Debugger, stop func()) {
	d = &condvardebug.Debugger{}
	d.SetHolderProfileFraction(1)
	ctx, cancel := context.WithCancel(context.Background())
	var waiting sync.WaitGroup
	all := make([]*condvar.CapacityResource, resources)
	for i := range all {
		all[i] = condvar.NewCapacityResource(1, d.Watch(fmt.Sprint("pool ", i)))
		require.NoError(b, holdHere(ctx, all[i], 1))
		for range waiters / resources {
			waiting.Go(func() { _ = waitHere(ctx, all[i], 1) })
		}
	}
	for _, r := range all {
		for r.Stats().Waiting < int64(waiters/resources) {
			runtime.Gosched()
		}
	}
	d.Sample()
	return d, func() { cancel(); waiting.Wait(); runtime.KeepAlive(all) }
}

func serve(b *testing.B, d *condvardebug.Debugger, target string) {
	w := httptest.NewRecorder()
	d.ServeHTTP(w, httptest.NewRequest(http.MethodGet, target, nil))
	require.Equal(b, http.StatusOK, w.Code)
}

// BenchmarkPage is a view of 1,000 resources with 10,000 waiters. slowest-ns is
// the longest time that an Acquire and Release of another resource took during
// the view, median-ns the median.
func BenchmarkPage(b *testing.B) {
	d, stop := busy(b, 1000, 10_000)
	defer stop()
	for _, format := range []string{"html", "json", "text"} {
		b.Run(format, func(b *testing.B) {
			times := meanwhile(d, func() {
				for b.Loop() {
					serve(b, d, "/?format="+format)
				}
			})
			b.ReportMetric(float64(times[len(times)-1]), "slowest-ns")
			b.ReportMetric(float64(times[len(times)/2]), "median-ns")
		})
	}
}

// meanwhile measures pairs of Acquire and Release of a watched resource while f
// runs.
func meanwhile(d *condvardebug.Debugger, f func()) (times []time.Duration) {
	r := condvar.NewCapacityResource(1, d.Watch("measured"))
	done, measured := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(measured)
		for {
			select {
			case <-done:
				return
			default:
			}
			start := time.Now()
			_ = r.Acquire(context.Background())
			r.Release()
			times = append(times, time.Since(start))
			time.Sleep(10 * time.Microsecond)
		}
	}()
	f()
	close(done)
	<-measured
	slices.Sort(times)
	return times
}

// BenchmarkStacks is one pass over 100,000 goroutines.
func BenchmarkStacks(b *testing.B) {
	for _, goroutines := range []int{1000, 100_000} {
		b.Run(fmt.Sprint(goroutines), func(b *testing.B) {
			d, stop := busy(b, 1, goroutines)
			defer stop()
			times := meanwhile(d, func() {
				for b.Loop() {
					condvardebug.StacksBeyond(1 << 20)
				}
			})
			b.ReportMetric(float64(times[len(times)-1]), "slowest-ns")
			b.ReportMetric(float64(times[len(times)/2]), "median-ns")
		})
	}
}

// BenchmarkAcquire is an Acquire and Release, or a Do, that does not wait.
func BenchmarkAcquire(b *testing.B) {
	for _, rate := range []int{0, 1, 100} {
		for _, how := range []string{"pair", "do"} {
			b.Run(fmt.Sprintf("%s/1 of %d", how, rate), func(b *testing.B) {
				d := &condvardebug.Debugger{}
				d.SetHolderProfileFraction(rate)
				r := condvar.NewCapacityResource(1, d.Watch("pool"))
				ctx := context.Background()
				for b.Loop() {
					if how == "do" {
						_ = r.Do(ctx, func(context.Context) error { return nil })
						continue
					}
					_ = r.Acquire(ctx)
					r.Release()
				}
			})
		}
	}
}

// BenchmarkWait measures the hooks of a wait: a start and an end.
func BenchmarkWait(b *testing.B) {
	for _, rate := range []int{0, 1} {
		b.Run(fmt.Sprint("1 of ", rate), func(b *testing.B) {
			d := &condvardebug.Debugger{}
			d.SetHolderProfileFraction(rate)
			hooks := d.Hooks("pool")
			ctx := context.Background()
			for b.Loop() {
				hooks.WaitDone(hooks.WaitStart(ctx, 1), 1, 0, nil)
			}
		})
	}
}
