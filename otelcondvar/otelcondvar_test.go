package otelcondvar_test

import (
	"context"
	"errors"
	"fmt"
	"math"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"
	sdkmetric "go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"
	"go.opentelemetry.io/otel/trace"

	"example.com/condvar"
	"example.com/condvar/keyed"
	"example.com/condvar/otelcondvar"
)

// newProvider returns a provider, and the reader that collects its metrics.
func newProvider() (metric.MeterProvider, *sdkmetric.ManualReader) {
	reader := sdkmetric.NewManualReader()
	return sdkmetric.NewMeterProvider(sdkmetric.WithReader(reader)), reader
}

// newObserver returns an Observer with opts and a new provider.
func newObserver(opts otelcondvar.Opts) (*otelcondvar.Observer, *sdkmetric.ManualReader) {
	provider, reader := newProvider()
	opts.MeterProvider = provider
	return otelcondvar.New(opts), reader
}

func gather(t *testing.T, reader sdkmetric.Reader) []metricdata.Metrics {
	var collected metricdata.ResourceMetrics
	require.NoError(t, reader.Collect(t.Context(), &collected))
	var metrics []metricdata.Metrics
	for _, scope := range collected.ScopeMetrics {
		metrics = append(metrics, scope.Metrics...)
	}
	return metrics
}

// collect returns a line for each data point: its metric, attributes and value.
func collect(t *testing.T, reader sdkmetric.Reader) []string {
	var lines []string
	for _, m := range gather(t, reader) {
		add := func(kind string, attrs attribute.Set, value any) {
			name, ok := strings.CutPrefix(m.Name, "condvar.resource.")
			require.True(t, ok, m.Name)
			set := strings.ReplaceAll(attrs.Encoded(attribute.DefaultEncoder()), "condvar.resource.", "")
			lines = append(lines, fmt.Sprintf("%s %s (%s) [%s] %v", kind, name, m.Unit, set, value))
			require.NotEmpty(t, m.Description)
		}
		switch data := m.Data.(type) {
		case metricdata.Sum[float64]:
			kind := "updown"
			if data.IsMonotonic {
				kind = "counter"
			}
			for _, p := range data.DataPoints {
				add(kind, p.Attributes, p.Value)
			}
		case metricdata.Gauge[float64]:
			for _, p := range data.DataPoints {
				add("gauge", p.Attributes, p.Value)
			}
		case metricdata.Histogram[float64]:
			for _, p := range data.DataPoints {
				add("histogram", p.Attributes, fmt.Sprint(p.Count, " in ", p.Sum, "s"))
			}
		default:
			t.Fatalf("%s is a %T", m.Name, m.Data)
		}
	}
	return lines
}

// series is how many series a name has, apart from histograms.
const series = 12

func TestACollectionReportsEverything(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		metrics, reader := newObserver(otelcondvar.Opts{Attributes: []attribute.KeyValue{attribute.String("zone", "a")}})
		db := condvar.NewCapacityResource(9, metrics.Watch("db"))
		// Without hooks.
		disk := condvar.NewCapacityResource(7, condvar.MaxWaiting(0))
		metrics.Track("disk", disk)
		require.True(t, disk.TryAcquire())
		require.ErrorIs(t, disk.AcquireN(t.Context(), 7), condvar.ErrOverloaded)
		disk.Release()
		require.NoError(t, disk.Close())

		require.NoError(t, db.AcquireN(t.Context(), 6))
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		require.ErrorIs(t, db.AcquireN(ctx, 5), context.DeadlineExceeded)
		var calls sync.WaitGroup
		calls.Go(func() { _ = db.AcquireN(t.Context(), 4) })
		synctest.Wait()
		db.ReleaseN(6)
		calls.Wait()
		require.NoError(t, db.AcquireN(t.Context(), 2))
		for range 2 {
			calls.Go(func() { _ = db.AcquireN(t.Context(), 4) })
			time.Sleep(500 * time.Millisecond)
		}
		require.ElementsMatch(t, []string{
			"updown permit.count ({permit}) [name=db,permit.state=used,zone=a] 6",
			"updown permit.count ({permit}) [name=db,permit.state=idle,zone=a] 3",
			"updown permit.count ({permit}) [name=disk,permit.state=used,zone=a] 0",
			"updown permit.count ({permit}) [name=disk,permit.state=idle,zone=a] 7",
			"updown permit.max ({permit}) [name=db,zone=a] 9",
			"updown permit.max ({permit}) [name=disk,zone=a] 7",
			"updown pending_requests ({request}) [name=db,zone=a] 2",
			"updown pending_requests ({request}) [name=disk,zone=a] 0",
			"updown pending_permits ({permit}) [name=db,zone=a] 8",
			"updown pending_permits ({permit}) [name=disk,zone=a] 0",
			"gauge oldest_wait_time (s) [name=db,zone=a] 1",
			"gauge oldest_wait_time (s) [name=disk,zone=a] 0",
			"updown instance.count ({instance}) [instance.state=open,name=db,zone=a] 1",
			"updown instance.count ({instance}) [instance.state=closed,name=db,zone=a] 0",
			"updown instance.count ({instance}) [instance.state=open,name=disk,zone=a] 0",
			"updown instance.count ({instance}) [instance.state=closed,name=disk,zone=a] 1",
			"counter finished_waits ({wait}) [name=db,zone=a] 2",
			"counter finished_waits ({wait}) [name=disk,zone=a] 0",
			"counter finished_wait_time (s) [name=db,zone=a] 10",
			"counter finished_wait_time (s) [name=disk,zone=a] 0",
			"counter cancellations ({cancellation}) [name=db,zone=a] 1",
			"counter cancellations ({cancellation}) [name=disk,zone=a] 0",
			"counter rejections ({rejection}) [name=db,zone=a] 0",
			"counter rejections ({rejection}) [name=disk,zone=a] 1",
			"histogram wait_time (s) [name=db,error.type=canceled,zone=a] 1 in 10s",
			"histogram wait_time (s) [name=db,zone=a] 1 in 0s",
		}, collect(t, reader))

		db.Resize(5) // less than in use
		lines := collect(t, reader)
		require.Contains(t, lines, "updown permit.count ({permit}) [name=db,permit.state=used,zone=a] 6")
		require.Contains(t, lines, "updown permit.count ({permit}) [name=db,permit.state=idle,zone=a] 0")
		db.ReleaseN(6)
		synctest.Wait()
		db.ReleaseN(4)
		calls.Wait()
		runtime.KeepAlive(disk)
		runtime.KeepAlive(db)
	})
}

// The rules of OpenTelemetry's naming guide for metrics: names are in lower
// case, with dots and underscores; no name has "total" or the unit in it; a
// name is in the plural only if the unit is in braces. pending_requests and
// pending_permits are nevertheless UpDownCounters in the plural, as
// db.client.connection.pending_requests is. A gauge in the unit 1 is translated
// to a ratio for Prometheus.
func TestNamesFollowTheGuide(t *testing.T) {
	metrics, reader := newObserver(otelcondvar.Opts{HoldTime: true})
	r := waitOnce(t, metrics, "db")
	require.NoError(t, r.Do(t.Context(), func(context.Context) error { return nil }))
	found := gather(t, reader)
	require.Len(t, found, 12)
	for _, m := range found {
		require.Regexp(t, `^condvar\.resource(\.[a-z]+(_[a-z]+)*)+$`, m.Name)
		require.NotContains(t, m.Name, "total")
		require.NotContains(t, m.Name, "second")
		require.Regexp(t, `^(s|\{[a-z]+\})$`, m.Unit)
		plural := strings.HasSuffix(m.Name, "s")
		require.True(t, !plural || m.Unit != "s", m.Name)
		if sum, ok := m.Data.(metricdata.Sum[float64]); ok && !sum.IsMonotonic {
			require.True(t, !plural || strings.HasPrefix(m.Name, "condvar.resource.pending_"), m.Name)
		}
	}
	runtime.KeepAlive(r)
}

// waitOnce returns a resource of which one wait was canceled, and another call
// had to wait for no time.
func waitOnce(t *testing.T, metrics *otelcondvar.Observer, name string) *condvar.CapacityResource {
	ctx, cancel := context.WithCancel(t.Context())
	r := condvar.NewCapacityResource(1, metrics.Watch(name), condvar.WithHooks(&condvar.Hooks{
		WaitStart: func(ctx context.Context, _ int64) context.Context {
			cancel()
			return ctx
		},
	}))
	require.True(t, r.TryAcquire())
	require.ErrorIs(t, r.Acquire(ctx), context.Canceled)
	r.Release()
	return r
}

func TestTheScopeIsThePackage(t *testing.T) {
	metrics, reader := newObserver(otelcondvar.Opts{})
	r := condvar.NewCapacityResource(1, metrics.Watch("db"))
	var collected metricdata.ResourceMetrics
	require.NoError(t, reader.Collect(t.Context(), &collected))
	require.Len(t, collected.ScopeMetrics, 1)
	require.Equal(t, "example.com/condvar/otelcondvar", collected.ScopeMetrics[0].Scope.Name)
	runtime.KeepAlive(r)
}

func TestWithoutAProviderTheGlobalOneIsUsed(t *testing.T) {
	provider, reader := newProvider()
	otel.SetMeterProvider(provider)
	metrics := otelcondvar.New(otelcondvar.Opts{})
	r := condvar.NewCapacityResource(3, metrics.Watch("db"))
	require.Contains(t, collect(t, reader), "updown permit.max ({permit}) [name=db] 3")
	runtime.KeepAlive(r)
}

// An ownContext ends with its own error when done is closed.
type ownContext struct {
	context.Context
	done chan struct{}
}

func (c ownContext) Done() <-chan struct{} { return c.done }

func (c ownContext) Err() error {
	select {
	case <-c.done:
		return errors.New("an error of its own")
	default:
		return nil
	}
}

func TestTheHistogramTellsHowAWaitEnded(t *testing.T) {
	for end, attrs := range map[string]string{
		"release": "name=db",
		"cancel":  "name=db,error.type=canceled",
		"close":   "name=db,error.type=closed",
		"resize":  "name=db,error.type=too_large",
		"MaxWait": "name=db,error.type=overloaded",
		"other":   "name=db,error.type=_OTHER",
	} {
		t.Run(end, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				metrics, reader := newObserver(otelcondvar.Opts{})
				opts := []condvar.Option{condvar.WithHooks(metrics.Hooks("db"))}
				if end == "MaxWait" {
					opts = append(opts, condvar.MaxWait(time.Second))
				}
				r := condvar.NewCapacityResource(2, opts...)
				require.NoError(t, r.Acquire(t.Context()))

				ctx, cancel := context.WithCancelCause(t.Context())
				defer cancel(nil)
				own := ownContext{ctx, make(chan struct{})}
				if end == "other" {
					ctx = own
				}
				var call sync.WaitGroup
				call.Go(func() { _ = r.AcquireN(ctx, 2) })
				time.Sleep(time.Second)
				switch end {
				case "release":
					r.Release()
				case "cancel":
					cancel(condvar.ErrClosed)
				case "close":
					require.NoError(t, r.Close())
				case "resize":
					r.Resize(1)
				case "MaxWait":
					// It ends the wait now.
				case "other":
					close(own.done)
				}
				call.Wait()
				require.Equal(t, []string{"histogram wait_time (s) [" + attrs + "] 1 in 1s"}, collect(t, reader))
			})
		})
	}
}

func TestAWaitIsRecordedInItsSpan(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		metrics, reader := newObserver(otelcondvar.Opts{})
		r := condvar.NewCapacityResource(1, condvar.WithHooks(metrics.Hooks("db")))
		r.Resize(0)
		span := trace.NewSpanContext(trace.SpanContextConfig{
			TraceID: trace.TraceID{1}, SpanID: trace.SpanID{2}, TraceFlags: trace.FlagsSampled,
		})
		ctx, cancel := context.WithTimeout(trace.ContextWithSpanContext(t.Context(), span), 2*time.Second)
		defer cancel()
		require.ErrorIs(t, r.Acquire(ctx), context.DeadlineExceeded)

		found := gather(t, reader)
		require.Len(t, found, 1)
		points := found[0].Data.(metricdata.Histogram[float64]).DataPoints
		require.Len(t, points, 1)
		require.Equal(t, []float64{1e-4, 3e-4, 1e-3, 3e-3, .01, .03, .1, .3, 1, 3, 10, 30}, points[0].Bounds)
		require.Len(t, points[0].Exemplars, 1)
		require.Equal(t, trace.TraceID{1}, trace.TraceID(points[0].Exemplars[0].TraceID))
	})
}

func TestTheTimeThatPermitsAreHeldIsAHistogramOnRequest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		metrics, reader := newObserver(otelcondvar.Opts{HoldTime: true})
		r := condvar.NewCapacityResource(3, metrics.Watch("db"))
		p, err := r.AcquirePermit(t.Context(), 2)
		require.NoError(t, err)
		require.NoError(t, r.Acquire(t.Context()))
		time.Sleep(3 * time.Second)
		r.Release() // it is unknown when that was acquired
		p.Release()
		require.NoError(t, r.Do(t.Context(), func(context.Context) error {
			time.Sleep(time.Second)
			return nil
		}))
		require.Contains(t, collect(t, reader), "histogram hold_time (s) [name=db] 2 in 4s")
		runtime.KeepAlive(r)
	})
}

func TestWithoutHoldTimeCallsThatDoNotWaitCostNothing(t *testing.T) {
	metrics, _ := newObserver(otelcondvar.Opts{})
	hooks := metrics.Hooks("db")
	require.NotNil(t, hooks.WaitDone)
	require.Nil(t, hooks.Acquired)
	require.Nil(t, hooks.Released)
}

func TestResourcesOfOneNameAreAddedUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		metrics, reader := newObserver(otelcondvar.Opts{})
		full := condvar.NewCapacityResource(3, metrics.Watch("db"), condvar.MaxWaiting(1))
		metrics.Track("db", full) // again
		require.True(t, full.TryAcquireN(3))
		go full.AcquireN(t.Context(), 2)
		time.Sleep(time.Minute)
		require.ErrorIs(t, full.Acquire(t.Context()), condvar.ErrOverloaded)
		closed := condvar.NewCapacityResource(4, metrics.Watch("db"))
		require.NoError(t, closed.Close())

		require.ElementsMatch(t, []string{
			"updown permit.count ({permit}) [name=db,permit.state=used] 3",
			"updown permit.count ({permit}) [name=db,permit.state=idle] 4",
			"updown permit.max ({permit}) [name=db] 7",
			"updown pending_requests ({request}) [name=db] 1",
			"updown pending_permits ({permit}) [name=db] 2",
			"gauge oldest_wait_time (s) [name=db] 60",
			"updown instance.count ({instance}) [instance.state=open,name=db] 1",
			"updown instance.count ({instance}) [instance.state=closed,name=db] 1",
			"counter finished_waits ({wait}) [name=db] 0",
			"counter finished_wait_time (s) [name=db] 0",
			"counter cancellations ({cancellation}) [name=db] 0",
			"counter rejections ({rejection}) [name=db] 1",
		}, collect(t, reader))
		require.NoError(t, full.Close())
		synctest.Wait()
		require.Contains(t, collect(t, reader), "histogram wait_time (s) [name=db,error.type=closed] 1 in 60s")
		runtime.KeepAlive(full)
		runtime.KeepAlive(closed)
	})
}

func TestTheKeysOfAKeyedResourceAreOneSetOfSeries(t *testing.T) {
	metrics, reader := newObserver(otelcondvar.Opts{})
	hosts := keyed.New[string](2, metrics.Watch("hosts"))
	require.True(t, hosts.TryAcquire("a"))
	require.True(t, hosts.TryAcquireN("b", 2))
	lines := collect(t, reader)
	require.Len(t, lines, series)
	require.Contains(t, lines, "updown permit.max ({permit}) [name=hosts] 4")
	require.Contains(t, lines, "updown permit.count ({permit}) [name=hosts,permit.state=used] 3")
	runtime.KeepAlive(hosts)
}

func TestCapacitiesThatOverflowTogetherAreAddedUp(t *testing.T) {
	metrics, reader := newObserver(otelcondvar.Opts{})
	a := condvar.NewCapacityResource(math.MaxInt64, metrics.Watch("db"))
	b := condvar.NewCapacityResource(math.MaxInt64, metrics.Watch("db"))
	require.Contains(t, collect(t, reader), fmt.Sprint("updown permit.max ({permit}) [name=db] ", 2*float64(math.MaxInt64)))
	runtime.KeepAlive(a)
	runtime.KeepAlive(b)
}

// untilTracked waits until the cleanups of collected resources have run, so
// that n are left.
func untilTracked(t *testing.T, metrics *otelcondvar.Observer, n int) {
	t.Helper()
	require.Eventually(t, func() bool {
		runtime.GC()
		return metrics.Tracked() == n
	}, 10*time.Second, time.Millisecond)
}

func TestCountersDoNotDecreaseIfOneOfTheNameIsGone(t *testing.T) {
	metrics, reader := newObserver(otelcondvar.Opts{})
	reject := func() *condvar.CapacityResource {
		r := condvar.NewCapacityResource(1, metrics.Watch("db"), condvar.MaxWaiting(0))
		require.True(t, r.TryAcquire())
		require.ErrorIs(t, r.Acquire(t.Context()), condvar.ErrOverloaded)
		return r
	}
	kept, gone := reject(), reject()
	require.Contains(t, collect(t, reader), "counter rejections ({rejection}) [name=db] 2")
	runtime.KeepAlive(gone)
	untilTracked(t, metrics, 1)
	lines := collect(t, reader)
	require.Contains(t, lines, "counter rejections ({rejection}) [name=db] 2")
	require.Contains(t, lines, "updown permit.max ({permit}) [name=db] 1")
	again := reject()
	require.Contains(t, collect(t, reader), "counter rejections ({rejection}) [name=db] 3")
	runtime.KeepAlive(kept)
	runtime.KeepAlive(again)
}

// A meterProvider is one whose meters can be changed.
type meterProvider struct {
	metric.MeterProvider
	change func(metric.Meter) metric.Meter
}

func (p meterProvider) Meter(name string, opts ...metric.MeterOption) metric.Meter {
	return p.change(p.MeterProvider.Meter(name, opts...))
}

// A countingMeter counts the callbacks.
type countingMeter struct {
	metric.Meter
	callbacks *int
}

func (m countingMeter) RegisterCallback(f metric.Callback, instruments ...metric.Observable) (metric.Registration, error) {
	*m.callbacks++
	return m.Meter.RegisterCallback(f, instruments...)
}

// Bug M2.
func TestNothingIsKeptOfResourcesThatAreGone(t *testing.T) {
	provider, reader := newProvider()
	callbacks := 0
	metrics := otelcondvar.New(otelcondvar.Opts{MeterProvider: meterProvider{provider, func(m metric.Meter) metric.Meter {
		return countingMeter{m, &callbacks}
	}}})
	shortLived := func(names func(i int) string) {
		for i := range 10_000 {
			condvar.NewCapacityResource(1, metrics.Watch(names(i)))
		}
		runtime.KeepAlive(waitOnce(t, metrics, "pool"))
		untilTracked(t, metrics, 0)
	}
	heap := func() int64 {
		var m runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&m)
		return int64(m.HeapAlloc)
	}
	// In the first run a map grows, which does not shrink.
	shortLived(strconv.Itoa)
	before := heap()
	shortLived(func(i int) string { return strconv.Itoa(10_000 + i) })
	shortLived(func(int) string { return "pool" })
	require.Less(t, heap()-before, int64(1<<20)) // 50 bytes a resource
	require.Equal(t, []string{"histogram wait_time (s) [name=pool,error.type=canceled] 3 in"},
		cutTimes(collect(t, reader)))
	require.Equal(t, 1, callbacks)
	runtime.KeepAlive(metrics)
}

// cutTimes removes the sums of histograms.
func cutTimes(lines []string) []string {
	for i := range lines {
		before, _, _ := strings.Cut(lines[i], " in ")
		lines[i] = before + " in"
	}
	return lines
}

func TestAnObserverDoesNotKeepResourcesAlive(t *testing.T) {
	metrics, reader := newObserver(otelcondvar.Opts{HoldTime: true})
	kept := condvar.NewCapacityResource(1, metrics.Watch("kept"))
	dropped := condvar.NewCapacityResource(1, metrics.Watch("dropped"))
	require.Len(t, collect(t, reader), 2*series)
	runtime.KeepAlive(dropped)

	runtime.GC()
	lines := collect(t, reader)
	require.Len(t, lines, series)
	require.Contains(t, lines, "updown permit.max ({permit}) [name=kept] 1")
	runtime.KeepAlive(kept)
}

func TestUntrackEndsTheReports(t *testing.T) {
	metrics, reader := newObserver(otelcondvar.Opts{})
	r := waitOnce(t, metrics, "db")
	metrics.Track("disk", r)
	require.Len(t, collect(t, reader), 2*series+1)
	metrics.Untrack("db")
	metrics.Untrack("none")
	lines := collect(t, reader)
	require.Len(t, lines, series+1)
	require.Contains(t, lines, "updown permit.max ({permit}) [name=disk] 1")
	metrics.Track("db", r)
	require.Contains(t, collect(t, reader), "updown permit.max ({permit}) [name=db] 1")
	runtime.KeepAlive(r)
}

func TestASharedResourceIsReportedUntilUntrack(t *testing.T) {
	metrics, reader := newObserver(otelcondvar.Opts{})
	metrics.TrackShared("fleet", func() condvar.Stats {
		return condvar.Stats{Capacity: 50, InUse: 3, Waiting: 2, WaitCount: 7}
	})
	lines := collect(t, reader)
	require.Len(t, lines, series-1)
	require.Contains(t, lines, "updown permit.max ({permit}) [name=fleet] 50")
	require.Contains(t, lines, "updown permit.count ({permit}) [name=fleet,permit.state=used] 3")
	require.NotContains(t, strings.Join(lines, "\n"), "idle", "other processes may use the others")
	require.Contains(t, lines, "updown pending_requests ({request}) [name=fleet] 2")
	require.Contains(t, lines, "counter finished_waits ({wait}) [name=fleet] 7")
	metrics.Untrack("fleet")
	require.Empty(t, collect(t, reader))
}

// A seamMeter calls *seam, if not nil, after each observation.
type seamMeter struct {
	metric.Meter
	seam *func()
}

func (m seamMeter) RegisterCallback(f metric.Callback, instruments ...metric.Observable) (metric.Registration, error) {
	return m.Meter.RegisterCallback(func(ctx context.Context, o metric.Observer) error {
		return f(ctx, seamObserver{o, m.seam})
	}, instruments...)
}

type seamObserver struct {
	metric.Observer
	seam *func()
}

func (o seamObserver) ObserveFloat64(i metric.Float64Observable, v float64, opts ...metric.ObserveOption) {
	o.Observer.ObserveFloat64(i, v, opts...)
	if *o.seam != nil {
		(*o.seam)()
	}
}

func TestACollectionIsOfOneMoment(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		provider, reader := newProvider()
		var seam func()
		metrics := otelcondvar.New(otelcondvar.Opts{MeterProvider: meterProvider{provider, func(m metric.Meter) metric.Meter {
			return seamMeter{m, &seam}
		}}})
		r := condvar.NewCapacityResource(1, condvar.MaxWaiting(1))
		metrics.Track("db", r)
		before := collect(t, reader)

		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		called := false
		seam = func() {
			seam, called = nil, true
			require.NoError(t, r.Acquire(ctx))
			short, cancel := context.WithTimeout(ctx, time.Second)
			defer cancel()
			require.ErrorIs(t, r.Acquire(short), context.DeadlineExceeded)
			r.Resize(5)
			go r.AcquireN(ctx, 5)
			time.Sleep(time.Second)
			require.ErrorIs(t, r.AcquireN(ctx, 5), condvar.ErrOverloaded)
		}
		require.ElementsMatch(t, before, collect(t, reader))
		require.True(t, called)
		for _, line := range collect(t, reader) {
			if !strings.HasPrefix(line, "updown instance.count") {
				require.NotContains(t, before, line)
			}
		}
		runtime.KeepAlive(r)
	})
}

var errMeter = errors.New("the meter's error")

// A failingMeter fails to create some instruments, or to register a callback.
type failingMeter struct {
	metric.Meter
	callback bool
}

func (failingMeter) Float64ObservableGauge(string, ...metric.Float64ObservableGaugeOption) (metric.Float64ObservableGauge, error) {
	return nil, errMeter
}

func (failingMeter) Float64Histogram(string, ...metric.Float64HistogramOption) (metric.Float64Histogram, error) {
	return nil, errMeter
}

func (m failingMeter) RegisterCallback(f metric.Callback, instruments ...metric.Observable) (metric.Registration, error) {
	if m.callback {
		return nil, errMeter
	}
	return m.Meter.RegisterCallback(f, instruments...)
}

func TestErrorsOfTheMeterGoToTheHandler(t *testing.T) {
	var handled []error
	otel.SetErrorHandler(otel.ErrorHandlerFunc(func(err error) { handled = append(handled, err) }))
	defer otel.SetErrorHandler(otel.ErrorHandlerFunc(func(err error) { panic(err) }))
	for _, callback := range []bool{false, true} {
		handled = nil
		provider, reader := newProvider()
		metrics := otelcondvar.New(otelcondvar.Opts{
			MeterProvider: meterProvider{provider, func(m metric.Meter) metric.Meter { return failingMeter{m, callback} }},
			HoldTime:      true,
		})
		// The gauge and two histograms.
		want := []error{errMeter, errMeter, errMeter}
		if callback {
			want = append(want, errMeter)
		}
		require.Equal(t, want, handled)

		r := waitOnce(t, metrics, "db")
		require.NoError(t, r.Do(t.Context(), func(context.Context) error { return nil }))
		lines := collect(t, reader)
		if callback {
			require.Empty(t, lines)
		} else {
			require.Len(t, lines, series-1)
			require.Contains(t, lines, "updown permit.max ({permit}) [name=db] 1")
		}
		require.Len(t, handled, len(want))
		runtime.KeepAlive(r)
	}
}

func TestMisusePanics(t *testing.T) {
	metrics, _ := newObserver(otelcondvar.Opts{})
	r := condvar.NewCapacityResource(1)
	require.PanicsWithValue(t, "otelcondvar: nil resource", func() { metrics.Track("db", nil) })
	const message = "otelcondvar: name is not valid UTF-8"
	require.PanicsWithValue(t, "otelcondvar: nil function", func() { metrics.TrackShared("db", nil) })
	require.PanicsWithValue(t, message, func() { metrics.Track("\xff", r) })
	require.PanicsWithValue(t, message, func() { metrics.TrackShared("\xff", r.Stats) })
	require.PanicsWithValue(t, message, func() { metrics.Watch("\xff") })
	require.PanicsWithValue(t, message, func() { metrics.Hooks("\xff") })
}

func TestAttributesOfTheCallerAreLeftAlone(t *testing.T) {
	attrs := append(make([]attribute.KeyValue, 0, 8), attribute.Int("shard", 1), attribute.String("condvar.resource.name", "other"))
	given := slices.Clone(attrs)
	metrics, reader := newObserver(otelcondvar.Opts{Attributes: attrs})
	first := waitOnce(t, metrics, "first")
	second := condvar.NewCapacityResource(2, metrics.Watch("second"))
	require.Equal(t, given, attrs)
	require.Equal(t, make([]attribute.KeyValue, 6), attrs[2:8])
	attrs[0] = attribute.Int("shard", 2)
	lines := collect(t, reader)
	require.Contains(t, lines, "updown permit.max ({permit}) [name=first,shard=1] 1")
	require.Contains(t, lines, "updown permit.max ({permit}) [name=second,shard=1] 2")
	require.Contains(t, cutTimes(lines), "histogram wait_time (s) [name=first,error.type=canceled,shard=1] 1 in")
	runtime.KeepAlive(first)
	runtime.KeepAlive(second)
}

func TestAllMethodsAtTheSameTime(t *testing.T) {
	metrics, reader := newObserver(otelcondvar.Opts{HoldTime: true})
	r := condvar.NewCapacityResource(1, metrics.Watch("db"))
	var calls sync.WaitGroup
	for range 4 {
		calls.Go(func() {
			for i := range 200 {
				_ = r.Do(t.Context(), func(context.Context) error { runtime.Gosched(); return nil })
				condvar.NewCapacityResource(1, metrics.Watch("short"))
				if i%10 == 0 {
					metrics.Untrack("short")
				}
			}
		})
	}
	for range 50 {
		require.Contains(t, collect(t, reader), "updown permit.max ({permit}) [name=db] 1")
	}
	calls.Wait()
	require.Contains(t, cutTimes(collect(t, reader)), "histogram hold_time (s) [name=db] 800 in")
	runtime.KeepAlive(r)
}
