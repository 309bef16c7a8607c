package otelcondvar_test

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"
	"go.opentelemetry.io/otel/metric/noop"
	sdkmetric "go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"
	"go.opentelemetry.io/otel/trace"

	"example.com/condvar"
	"example.com/condvar/otelcondvar"
)

// newMeter returns a meter, and the reader that collects what it measures.
func newMeter() (metric.Meter, *sdkmetric.ManualReader) {
	reader := sdkmetric.NewManualReader()
	return sdkmetric.NewMeterProvider(sdkmetric.WithReader(reader)).Meter("test"), reader
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
		case metricdata.Sum[int64]:
			for _, p := range data.DataPoints {
				add(sumKind(data.IsMonotonic), p.Attributes, p.Value)
			}
		case metricdata.Sum[float64]:
			for _, p := range data.DataPoints {
				add(sumKind(data.IsMonotonic), p.Attributes, p.Value)
			}
		case metricdata.Gauge[int64]:
			for _, p := range data.DataPoints {
				add("gauge", p.Attributes, p.Value)
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

func gather(t *testing.T, reader sdkmetric.Reader) []metricdata.Metrics {
	var collected metricdata.ResourceMetrics
	require.NoError(t, reader.Collect(t.Context(), &collected))
	var metrics []metricdata.Metrics
	for _, scope := range collected.ScopeMetrics {
		metrics = append(metrics, scope.Metrics...)
	}
	return metrics
}

func sumKind(monotonic bool) string {
	if monotonic {
		return "counter"
	}
	return "updown"
}

func newHooks(t *testing.T, meter metric.Meter, name string, attrs ...attribute.KeyValue) condvar.Option {
	hooks, err := otelcondvar.Hooks(meter, name, attrs...)
	require.NoError(t, err)
	return condvar.WithHooks(hooks)
}

func register(t *testing.T, meter metric.Meter, name string, r *condvar.CapacityResource, attrs ...attribute.KeyValue) metric.Registration {
	registration, err := otelcondvar.Register(meter, name, r, attrs...)
	require.NoError(t, err)
	return registration
}

func TestACollectionReportsEverything(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		meter, reader := newMeter()
		db := condvar.NewCapacityResource(9, newHooks(t, meter, "db", attribute.String("zone", "a")))
		register(t, meter, "db", db, attribute.String("zone", "a"))
		disk := condvar.NewCapacityResource(7, condvar.MaxWaiting(0)) // without hooks
		register(t, meter, "disk", disk)
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
			"updown permit.count ({permit}) [name=disk,permit.state=used] 0",
			"updown permit.count ({permit}) [name=disk,permit.state=idle] 7",
			"updown permit.max ({permit}) [name=db,zone=a] 9",
			"updown permit.max ({permit}) [name=disk] 7",
			"updown pending_requests ({request}) [name=db,zone=a] 2",
			"updown pending_requests ({request}) [name=disk] 0",
			"updown pending_permits ({permit}) [name=db,zone=a] 8",
			"updown pending_permits ({permit}) [name=disk] 0",
			"gauge oldest_wait_time (s) [name=db,zone=a] 1",
			"gauge oldest_wait_time (s) [name=disk] 0",
			"gauge closed (1) [name=db,zone=a] 0",
			"gauge closed (1) [name=disk] 1",
			"counter waits ({wait}) [name=db,zone=a] 2",
			"counter waits ({wait}) [name=disk] 0",
			"counter total_wait_time (s) [name=db,zone=a] 10",
			"counter total_wait_time (s) [name=disk] 0",
			"counter timeouts ({timeout}) [name=db,zone=a] 1",
			"counter timeouts ({timeout}) [name=disk] 0",
			"counter rejections ({rejection}) [name=db,zone=a] 0",
			"counter rejections ({rejection}) [name=disk] 1",
			"histogram wait_time (s) [name=db,error.type=canceled,zone=a] 1 in 10s",
			"histogram wait_time (s) [name=db,zone=a] 1 in 0s",
		}, collect(t, reader))
		db.ReleaseN(6)
		calls.Wait()
		runtime.KeepAlive(disk)
	})
}

func TestIdlePermitsAreNeverNegative(t *testing.T) {
	meter, reader := newMeter()
	r := condvar.NewCapacityResource(5)
	register(t, meter, "db", r)
	require.NoError(t, r.AcquireN(t.Context(), 4))
	for capacity, idle := range map[int64]int64{5: 1, 4: 0, 3: 0, 0: 0, 10: 6} {
		r.Resize(capacity)
		lines := collect(t, reader)
		require.Contains(t, lines, "updown permit.count ({permit}) [name=db,permit.state=used] 4")
		require.Contains(t, lines, fmt.Sprintf("updown permit.count ({permit}) [name=db,permit.state=idle] %d", idle))
		require.Contains(t, lines, fmt.Sprintf("updown permit.max ({permit}) [name=db] %d", capacity))
	}
	runtime.KeepAlive(r)
}

// An ownContext ends with an error of its own when done is closed.
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
				meter, reader := newMeter()
				opts := []condvar.Option{newHooks(t, meter, "db")}
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
		meter, reader := newMeter()
		r := condvar.NewCapacityResource(1, newHooks(t, meter, "db"))
		r.Resize(0)
		span := trace.NewSpanContext(trace.SpanContextConfig{
			TraceID: trace.TraceID{1}, SpanID: trace.SpanID{2}, TraceFlags: trace.FlagsSampled,
		})
		ctx, cancel := context.WithTimeout(trace.ContextWithSpanContext(t.Context(), span), 2*time.Second)
		defer cancel()
		require.ErrorIs(t, r.Acquire(ctx), context.DeadlineExceeded)

		metrics := gather(t, reader)
		require.Len(t, metrics, 1)
		points := metrics[0].Data.(metricdata.Histogram[float64]).DataPoints
		require.Len(t, points, 1)
		require.Equal(t, []float64{1e-4, 3e-4, 1e-3, 3e-3, .01, .03, .1, .3, 1, 3, 10, 30}, points[0].Bounds)
		require.Len(t, points[0].Exemplars, 1)
		require.Equal(t, trace.TraceID{1}, trace.TraceID(points[0].Exemplars[0].TraceID))
	})
}

func TestUnregisterEndsTheReports(t *testing.T) {
	meter, reader := newMeter()
	first, second := condvar.NewCapacityResource(1), condvar.NewCapacityResource(2)
	registration := register(t, meter, "first", first)
	register(t, meter, "second", second)
	require.Len(t, collect(t, reader), 22)
	require.NoError(t, registration.Unregister())
	lines := collect(t, reader)
	require.Len(t, lines, 11)
	require.Contains(t, lines, "updown permit.max ({permit}) [name=second] 2")
	runtime.KeepAlive(first)
	runtime.KeepAlive(second)
}

func TestAMeterDoesNotKeepResourcesAlive(t *testing.T) {
	meter, reader := newMeter()
	kept := condvar.NewCapacityResource(1, newHooks(t, meter, "kept"))
	dropped := condvar.NewCapacityResource(1, newHooks(t, meter, "dropped"))
	register(t, meter, "kept", kept)
	register(t, meter, "dropped", dropped)
	require.Len(t, collect(t, reader), 22)
	runtime.KeepAlive(dropped)

	runtime.GC()
	lines := collect(t, reader)
	require.Len(t, lines, 11)
	require.Contains(t, lines, "updown permit.max ({permit}) [name=kept] 1")
	runtime.KeepAlive(kept)
}

// A seamMeter calls seam, if it is not nil, after each observation.
type seamMeter struct {
	metric.Meter
	seam func()
}

func (m *seamMeter) RegisterCallback(f metric.Callback, instruments ...metric.Observable) (metric.Registration, error) {
	return m.Meter.RegisterCallback(func(ctx context.Context, o metric.Observer) error {
		return f(ctx, seamObserver{o, m})
	}, instruments...)
}

type seamObserver struct {
	metric.Observer
	meter *seamMeter
}

func (o seamObserver) ObserveInt64(i metric.Int64Observable, v int64, opts ...metric.ObserveOption) {
	o.Observer.ObserveInt64(i, v, opts...)
	if o.meter.seam != nil {
		o.meter.seam()
	}
}

func TestACollectionIsOfOneMoment(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		sdk, reader := newMeter()
		meter := &seamMeter{Meter: sdk}
		r := condvar.NewCapacityResource(1, condvar.MaxWaiting(1))
		register(t, meter, "db", r)
		before := collect(t, reader)

		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		meter.seam = func() {
			meter.seam = nil
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
		for _, line := range collect(t, reader) {
			if !strings.HasPrefix(line, "gauge closed") {
				require.NotContains(t, before, line)
			}
		}
		runtime.KeepAlive(r)
	})
}

// A failingMeter cannot make certain instruments.
type failingMeter struct{ noop.Meter }

var errMeter = errors.New("the meter's error")

func (failingMeter) Int64ObservableGauge(string, ...metric.Int64ObservableGaugeOption) (metric.Int64ObservableGauge, error) {
	return nil, errMeter
}

func (failingMeter) Float64Histogram(string, ...metric.Float64HistogramOption) (metric.Float64Histogram, error) {
	return nil, errMeter
}

func TestErrorsOfTheMeterAreReturned(t *testing.T) {
	r := condvar.NewCapacityResource(1)
	registration, err := otelcondvar.Register(failingMeter{}, "db", r)
	require.ErrorIs(t, err, errMeter)
	require.Nil(t, registration)
	hooks, err := otelcondvar.Hooks(failingMeter{}, "db")
	require.ErrorIs(t, err, errMeter)
	require.Nil(t, hooks)
	require.PanicsWithValue(t, "otelcondvar: nil resource", func() { otelcondvar.Register(noop.Meter{}, "db", nil) })
}

func TestAttributesOfTheCallerAreLeftAlone(t *testing.T) {
	meter, reader := newMeter()
	attrs := append(make([]attribute.KeyValue, 0, 8), attribute.Int("shard", 1))
	first, second := condvar.NewCapacityResource(1), condvar.NewCapacityResource(2)
	register(t, meter, "first", first, attrs...)
	register(t, meter, "second", second, attrs...)
	lines := collect(t, reader)
	require.Contains(t, lines, "updown permit.max ({permit}) [name=first,shard=1] 1")
	require.Contains(t, lines, "updown permit.max ({permit}) [name=second,shard=1] 2")
	require.Equal(t, attribute.KeyValue{}, attrs[:2][1])
	runtime.KeepAlive(first)
	runtime.KeepAlive(second)
}

func TestResourcesMayWaitWhileTheyAreCollected(t *testing.T) {
	meter, reader := newMeter()
	r := condvar.NewCapacityResource(1, newHooks(t, meter, "db"))
	register(t, meter, "db", r)
	var calls sync.WaitGroup
	for range 4 {
		calls.Go(func() {
			for range 200 {
				_ = r.Do(t.Context(), func(context.Context) error { runtime.Gosched(); return nil })
			}
		})
	}
	for range 50 {
		lines := collect(t, reader)
		require.Contains(t, lines, "updown permit.max ({permit}) [name=db] 1")
	}
	calls.Wait()
	runtime.KeepAlive(r)
}
