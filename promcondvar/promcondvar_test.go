package promcondvar_test

import (
	"context"
	"errors"
	"io"
	"math"
	"net/http"
	"net/http/httptest"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"github.com/prometheus/client_golang/prometheus/testutil"
	dto "github.com/prometheus/client_model/go"
	"github.com/stretchr/testify/require"

	"example.com/condvar"
	"example.com/condvar/keyed"
	"example.com/condvar/promcondvar"
)

// newRegistry returns a pedantic registry of the collector.
func newRegistry(t *testing.T, c *promcondvar.Collector) *prometheus.Registry {
	registry := prometheus.NewPedanticRegistry()
	require.NoError(t, registry.Register(c))
	return registry
}

// scrape returns the result of a scrape of the registry, without comments.
func scrape(registry *prometheus.Registry) string {
	recorder := httptest.NewRecorder()
	promhttp.HandlerFor(registry, promhttp.HandlerOpts{ErrorHandling: promhttp.HTTPErrorOnError}).
		ServeHTTP(recorder, httptest.NewRequest(http.MethodGet, "/metrics", nil))
	var samples strings.Builder
	for line := range strings.Lines(recorder.Body.String()) {
		if !strings.HasPrefix(line, "#") {
			samples.WriteString(line)
		}
	}
	return samples.String()
}

// gather returns the values of all gauges and counters of the resource.
func gather(t *testing.T, g prometheus.Gatherer, resource string) map[string]float64 {
	families, err := g.Gather()
	require.NoError(t, err)
	values := make(map[string]float64)
	for _, family := range families {
		for _, m := range family.GetMetric() {
			if family.GetType() == dto.MetricType_HISTOGRAM || m.GetLabel()[0].GetValue() != resource {
				continue
			}
			// One of them is nil, and its value 0.
			values[family.GetName()] = m.GetGauge().GetValue() + m.GetCounter().GetValue()
		}
	}
	return values
}

func TestAScrapeReportsEverything(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		collector := promcondvar.New(promcondvar.Opts{Buckets: []float64{1, 100}})
		registry := newRegistry(t, collector)
		db := condvar.NewCapacityResource(5, condvar.WithHooks(collector.Hooks("db")))
		collector.Track("db", db)
		// Without hooks.
		disk := condvar.NewCapacityResource(7, condvar.MaxWaiting(0))
		collector.Track("disk", disk)
		require.True(t, disk.TryAcquire())
		require.ErrorIs(t, disk.AcquireN(t.Context(), 7), condvar.ErrOverloaded)
		disk.Release()
		require.NoError(t, disk.Close())

		require.NoError(t, db.AcquireN(t.Context(), 5))
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		require.ErrorIs(t, db.AcquireN(ctx, 4), context.DeadlineExceeded)
		var calls sync.WaitGroup
		for range 2 {
			calls.Go(func() { _ = db.AcquireN(t.Context(), 2) })
			time.Sleep(500 * time.Millisecond)
		}
		require.Equal(t, `condvar_resource_canceled_waits_total{resource="db"} 1
condvar_resource_canceled_waits_total{resource="disk"} 0
condvar_resource_capacity_permits{resource="db"} 5
condvar_resource_capacity_permits{resource="disk"} 7
condvar_resource_closed{resource="db"} 0
condvar_resource_closed{resource="disk"} 1
condvar_resource_in_use_permits{resource="db"} 5
condvar_resource_in_use_permits{resource="disk"} 0
condvar_resource_instances{resource="db"} 1
condvar_resource_instances{resource="disk"} 1
condvar_resource_oldest_wait_seconds{resource="db"} 1
condvar_resource_oldest_wait_seconds{resource="disk"} 0
condvar_resource_rejected_calls_total{resource="db"} 0
condvar_resource_rejected_calls_total{resource="disk"} 1
condvar_resource_wait_duration_seconds_total{resource="db"} 10
condvar_resource_wait_duration_seconds_total{resource="disk"} 0
condvar_resource_wait_seconds_bucket{resource="db",result="acquired",le="1"} 0
condvar_resource_wait_seconds_bucket{resource="db",result="acquired",le="100"} 0
condvar_resource_wait_seconds_bucket{resource="db",result="acquired",le="+Inf"} 0
condvar_resource_wait_seconds_sum{resource="db",result="acquired"} 0
condvar_resource_wait_seconds_count{resource="db",result="acquired"} 0
condvar_resource_wait_seconds_bucket{resource="db",result="canceled",le="1"} 0
condvar_resource_wait_seconds_bucket{resource="db",result="canceled",le="100"} 1
condvar_resource_wait_seconds_bucket{resource="db",result="canceled",le="+Inf"} 1
condvar_resource_wait_seconds_sum{resource="db",result="canceled"} 10
condvar_resource_wait_seconds_count{resource="db",result="canceled"} 1
condvar_resource_waiting_calls{resource="db"} 2
condvar_resource_waiting_calls{resource="disk"} 0
condvar_resource_waiting_permits{resource="db"} 4
condvar_resource_waiting_permits{resource="disk"} 0
condvar_resource_waits_total{resource="db"} 1
condvar_resource_waits_total{resource="disk"} 0
`, scrape(registry))

		db.ReleaseN(5)
		calls.Wait()
		samples := scrape(registry)
		require.Contains(t, samples, `condvar_resource_in_use_permits{resource="db"} 4`)
		require.Contains(t, samples, `condvar_resource_waits_total{resource="db"} 3`)
		require.Contains(t, samples, `condvar_resource_canceled_waits_total{resource="db"} 1`)
		require.Contains(t, samples, `condvar_resource_wait_seconds_bucket{resource="db",result="acquired",le="1"} 2`)
		require.Contains(t, samples, `condvar_resource_wait_seconds_sum{resource="db",result="acquired"} 1.5`)
		runtime.KeepAlive(disk)
		runtime.KeepAlive(db)
	})
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
	for _, result := range []string{"acquired", "canceled", "closed", "too_large", "overloaded", "other"} {
		t.Run(result, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				collector := promcondvar.New(promcondvar.Opts{})
				registry := newRegistry(t, collector)
				opts := []condvar.Option{condvar.WithHooks(collector.Hooks("db"))}
				if result == "overloaded" {
					opts = append(opts, condvar.MaxWait(time.Second))
				}
				r := condvar.NewCapacityResource(2, opts...)
				require.NoError(t, r.Acquire(t.Context()))

				ctx, cancel := context.WithCancelCause(t.Context())
				defer cancel(nil)
				own := ownContext{ctx, make(chan struct{})}
				if result == "other" {
					ctx = own
				}
				var call sync.WaitGroup
				call.Go(func() { _ = r.AcquireN(ctx, 2) })
				time.Sleep(time.Second)
				switch result {
				case "acquired":
					r.Release()
				case "canceled":
					cancel(condvar.ErrClosed)
				case "closed":
					require.NoError(t, r.Close())
				case "too_large":
					r.Resize(1)
				case "overloaded":
					// MaxWait ends the wait now.
				case "other":
					close(own.done)
				}
				call.Wait()
				require.Contains(t, scrape(registry), `condvar_resource_wait_seconds_sum{resource="db",result="`+result+`"} 1`+"\n")
			})
		})
	}
}

func TestResourcesOfOneNameAreAddedUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		collector := promcondvar.New(promcondvar.Opts{})
		registry := newRegistry(t, collector)
		full := condvar.NewCapacityResource(3, collector.Watch("db"), condvar.MaxWaiting(1))
		collector.Track("db", full) // again
		require.True(t, full.TryAcquireN(3))
		go full.AcquireN(t.Context(), 2)
		time.Sleep(time.Minute)
		require.ErrorIs(t, full.Acquire(t.Context()), condvar.ErrOverloaded)
		closed := condvar.NewCapacityResource(4, collector.Watch("db"))
		require.NoError(t, closed.Close())

		require.Equal(t, map[string]float64{
			"condvar_resource_instances":                   2,
			"condvar_resource_capacity_permits":            7,
			"condvar_resource_in_use_permits":              3,
			"condvar_resource_waiting_calls":               1,
			"condvar_resource_waiting_permits":             2,
			"condvar_resource_oldest_wait_seconds":         60,
			"condvar_resource_closed":                      0,
			"condvar_resource_waits_total":                 0,
			"condvar_resource_wait_duration_seconds_total": 0,
			"condvar_resource_canceled_waits_total":        0,
			"condvar_resource_rejected_calls_total":        1,
		}, gather(t, registry, "db"))
		require.NoError(t, full.Close())
		got := gather(t, registry, "db")
		require.EqualValues(t, 1, got["condvar_resource_closed"])
		require.EqualValues(t, 1, got["condvar_resource_waits_total"])
		require.EqualValues(t, 60, got["condvar_resource_wait_duration_seconds_total"])
		require.EqualValues(t, 7, got["condvar_resource_capacity_permits"])
		runtime.KeepAlive(full)
		runtime.KeepAlive(closed)
	})
}

func TestCapacitiesThatOverflowTogetherAreAddedUp(t *testing.T) {
	collector := promcondvar.New(promcondvar.Opts{})
	registry := newRegistry(t, collector)
	a := condvar.NewCapacityResource(math.MaxInt64, collector.Watch("db"))
	b := condvar.NewCapacityResource(math.MaxInt64, collector.Watch("db"))
	require.InEpsilon(t, 2*float64(math.MaxInt64), gather(t, registry, "db")["condvar_resource_capacity_permits"], 1e-9)
	runtime.KeepAlive(a)
	runtime.KeepAlive(b)
}

// untilTracked waits until the cleanups of collected resources have run, so
// that n are left.
func untilTracked(t *testing.T, collector *promcondvar.Collector, n int) {
	t.Helper()
	require.Eventually(t, func() bool {
		runtime.GC()
		return collector.Tracked() == n
	}, 10*time.Second, time.Millisecond)
}

func TestCountersDoNotDecreaseIfOneOfTheNameIsGone(t *testing.T) {
	collector := promcondvar.New(promcondvar.Opts{})
	registry := newRegistry(t, collector)
	reject := func() *condvar.CapacityResource {
		r := condvar.NewCapacityResource(1, collector.Watch("db"), condvar.MaxWaiting(0))
		require.True(t, r.TryAcquire())
		require.ErrorIs(t, r.Acquire(t.Context()), condvar.ErrOverloaded)
		return r
	}
	kept, gone := reject(), reject()
	require.EqualValues(t, 2, gather(t, registry, "db")["condvar_resource_rejected_calls_total"])
	runtime.KeepAlive(gone)
	untilTracked(t, collector, 1)
	got := gather(t, registry, "db")
	require.EqualValues(t, 2, got["condvar_resource_rejected_calls_total"])
	require.EqualValues(t, 1, got["condvar_resource_instances"])
	require.EqualValues(t, 1, got["condvar_resource_capacity_permits"])
	again := reject()
	require.EqualValues(t, 3, gather(t, registry, "db")["condvar_resource_rejected_calls_total"])
	runtime.KeepAlive(kept)
	runtime.KeepAlive(again)
}

// Bug M2.
func TestNothingIsKeptOfResourcesThatAreGone(t *testing.T) {
	collector := promcondvar.New(promcondvar.Opts{HoldTime: true})
	registry := newRegistry(t, collector)
	for i := range 10_000 {
		r := condvar.NewCapacityResource(1, collector.Watch(strconv.Itoa(i)))
		require.NoError(t, r.Do(t.Context(), func(context.Context) error { return nil }))
	}
	untilTracked(t, collector, 0)
	require.Empty(t, scrape(registry))
}

func TestTheKeysOfAKeyedResourceAreOneSeries(t *testing.T) {
	collector := promcondvar.New(promcondvar.Opts{})
	registry := newRegistry(t, collector)
	hosts := keyed.New[string](2, collector.Watch("hosts"))
	require.True(t, hosts.TryAcquire("a"))
	require.True(t, hosts.TryAcquireN("b", 2))
	got := gather(t, registry, "hosts")
	require.EqualValues(t, 2, got["condvar_resource_instances"])
	require.EqualValues(t, 4, got["condvar_resource_capacity_permits"])
	require.EqualValues(t, 3, got["condvar_resource_in_use_permits"])
	runtime.KeepAlive(hosts)
}

func TestTheTimeThatPermitsAreHeldIsAHistogramOnRequest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		collector := promcondvar.New(promcondvar.Opts{HoldTime: true, Buckets: []float64{1}})
		registry := newRegistry(t, collector)
		r := condvar.NewCapacityResource(3, collector.Watch("db"))
		p, err := r.AcquirePermit(t.Context(), 2)
		require.NoError(t, err)
		require.NoError(t, r.Acquire(t.Context()))
		time.Sleep(3 * time.Second)
		r.Release() // its holder is unknown
		p.Release()
		require.NoError(t, r.Do(t.Context(), func(context.Context) error {
			time.Sleep(time.Second)
			return nil
		}))
		samples := scrape(registry)
		require.Contains(t, samples, `condvar_resource_hold_seconds_count{resource="db"} 2`)
		require.Contains(t, samples, `condvar_resource_hold_seconds_sum{resource="db"} 4`)
		collector.Untrack("db")
		require.NotContains(t, scrape(registry), `"db"`)
		runtime.KeepAlive(r)
	})
}

func TestWithoutHoldTimeCallsThatDoNotWaitCostNothing(t *testing.T) {
	hooks := promcondvar.New(promcondvar.Opts{}).Hooks("db")
	require.Nil(t, hooks.Acquired)
	require.Nil(t, hooks.Released)
}

func TestUntrackForgetsTheName(t *testing.T) {
	collector := promcondvar.New(promcondvar.Opts{})
	registry := newRegistry(t, collector)
	r := condvar.NewCapacityResource(1, condvar.WithHooks(collector.Hooks("db")))
	collector.Track("db", r)
	collector.Track("disk", r)
	collector.Untrack("db")
	collector.Untrack("none")
	samples := scrape(registry)
	require.NotContains(t, samples, `"db"`)
	require.Contains(t, samples, `condvar_resource_capacity_permits{resource="disk"} 1`)
	runtime.KeepAlive(r)
}

func TestASharedResourceIsReportedUntilUntrack(t *testing.T) {
	collector := promcondvar.New(promcondvar.Opts{})
	registry := newRegistry(t, collector)
	collector.TrackShared("fleet", func() condvar.Stats {
		return condvar.Stats{Capacity: 50, InUse: 3, Waiting: 2, WaitCount: 7}
	})
	r := condvar.NewCapacityResource(1)
	collector.Track("fleet", r)
	got := gather(t, registry, "fleet")
	require.EqualValues(t, 51, got["condvar_resource_capacity_permits"])
	require.EqualValues(t, 3, got["condvar_resource_in_use_permits"])
	require.EqualValues(t, 2, got["condvar_resource_waiting_calls"])
	require.EqualValues(t, 7, got["condvar_resource_waits_total"])
	require.EqualValues(t, 2, got["condvar_resource_instances"])
	runtime.KeepAlive(r)
	collector.Untrack("fleet")
	require.Empty(t, gather(t, registry, "fleet"))
}

func TestACollectorDoesNotKeepResourcesAlive(t *testing.T) {
	collector := promcondvar.New(promcondvar.Opts{})
	registry := newRegistry(t, collector)
	kept := condvar.NewCapacityResource(1, condvar.WithHooks(collector.Hooks("kept")))
	dropped := condvar.NewCapacityResource(1, condvar.WithHooks(collector.Hooks("dropped")))
	collector.Track("kept", kept)
	collector.Track("dropped", dropped)
	require.NotEmpty(t, gather(t, registry, "dropped"))
	runtime.KeepAlive(dropped)

	untilTracked(t, collector, 1)
	require.Empty(t, gather(t, registry, "dropped"))
	require.NotEmpty(t, gather(t, registry, "kept"))
	runtime.KeepAlive(kept)
}

func TestAScrapeIsOfOneMoment(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		collector := promcondvar.New(promcondvar.Opts{})
		registry := newRegistry(t, collector)
		r := condvar.NewCapacityResource(1, condvar.MaxWaiting(1))
		collector.Track("db", r)
		before := gather(t, registry, "db")

		metrics := make(chan prometheus.Metric)
		go func() {
			collector.Collect(metrics)
			close(metrics)
		}()
		synctest.Wait() // until Collect is about to send the first metric
		require.NoError(t, r.Acquire(t.Context()))
		short, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		require.ErrorIs(t, r.Acquire(short), context.DeadlineExceeded)
		r.Resize(2)
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		go r.AcquireN(ctx, 2)
		time.Sleep(time.Second)
		require.ErrorIs(t, r.AcquireN(ctx, 2), condvar.ErrOverloaded)

		var values, same []float64
		for m := range metrics {
			var out dto.Metric
			require.NoError(t, m.Write(&out))
			values = append(values, out.GetGauge().GetValue()+out.GetCounter().GetValue())
		}
		for _, v := range before {
			same = append(same, v)
		}
		require.ElementsMatch(t, same, values)
		for name, v := range gather(t, registry, "db") {
			require.True(t, v != before[name] || name == "condvar_resource_closed" || name == "condvar_resource_instances", "%s did not change", name)
		}
		runtime.KeepAlive(r)
	})
}

func TestAllMethodsAtTheSameTime(t *testing.T) {
	collector := promcondvar.New(promcondvar.Opts{})
	registry := newRegistry(t, collector)
	var others sync.WaitGroup
	for range 4 {
		others.Go(func() {
			for range 100 {
				r := condvar.NewCapacityResource(1, condvar.WithHooks(collector.Hooks("db")))
				r.Resize(0)
				collector.Track("db", r)
				ctx, cancel := context.WithTimeout(t.Context(), time.Microsecond)
				_ = r.Acquire(ctx)
				cancel()
				if _, err := registry.Gather(); err != nil {
					t.Error(err)
				}
				collector.Untrack("db")
			}
		})
	}
	others.Wait()
	require.Empty(t, scrape(registry))
}

// lively returns a registry in which every metric has a sample.
func lively(t *testing.T, opts promcondvar.Opts) *prometheus.Registry {
	collector := promcondvar.New(opts)
	registry := newRegistry(t, collector)
	r := condvar.NewCapacityResource(1, condvar.WithHooks(collector.Hooks("db")))
	collector.Track("db", r)
	t.Cleanup(func() { runtime.KeepAlive(r) })
	return registry
}

func TestNamesAreAsPrometheusWantsThem(t *testing.T) {
	problems, err := testutil.GatherAndLint(lively(t, promcondvar.Opts{}))
	require.NoError(t, err)
	require.Empty(t, problems)
}

// OpenMetrics removes _total from the names of counters. The rest must not be
// the name of another metric.
func TestOpenMetricsHasEachNameOnce(t *testing.T) {
	registry := lively(t, promcondvar.Opts{})
	server := httptest.NewServer(promhttp.HandlerFor(registry, promhttp.HandlerOpts{EnableOpenMetrics: true}))
	defer server.Close()
	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, server.URL, nil)
	require.NoError(t, err)
	request.Header.Set("Accept", "application/openmetrics-text; version=1.0.0")
	response, err := server.Client().Do(request)
	require.NoError(t, err)
	defer response.Body.Close()
	require.Contains(t, response.Header.Get("Content-Type"), "application/openmetrics-text")
	body, err := io.ReadAll(response.Body)
	require.NoError(t, err)

	types := make(map[string]string)
	for line := range strings.Lines(string(body)) {
		if rest, ok := strings.CutPrefix(line, "# TYPE "); ok {
			name, kind, _ := strings.Cut(strings.TrimSpace(rest), " ")
			require.NotContains(t, types, name)
			types[name] = kind
		}
	}
	require.Equal(t, map[string]string{
		"condvar_resource_canceled_waits":        "counter",
		"condvar_resource_capacity_permits":      "gauge",
		"condvar_resource_closed":                "gauge",
		"condvar_resource_in_use_permits":        "gauge",
		"condvar_resource_instances":             "gauge",
		"condvar_resource_oldest_wait_seconds":   "gauge",
		"condvar_resource_rejected_calls":        "counter",
		"condvar_resource_wait_duration_seconds": "counter",
		"condvar_resource_wait_seconds":          "histogram",
		"condvar_resource_waiting_calls":         "gauge",
		"condvar_resource_waiting_permits":       "gauge",
		"condvar_resource_waits":                 "counter",
	}, types)
}

func TestOptions(t *testing.T) {
	registry := lively(t, promcondvar.Opts{
		Namespace:                   "shop",
		ConstLabels:                 prometheus.Labels{"region": "north"},
		Buckets:                     []float64{5},
		NativeHistogramBucketFactor: 1.1,
	})
	samples := scrape(registry)
	require.Contains(t, samples, `shop_resource_capacity_permits{region="north",resource="db"} 1`)
	require.Contains(t, samples, `shop_resource_wait_seconds_bucket{region="north",resource="db",result="acquired",le="5"} 0`)
	require.NotContains(t, samples, "condvar_")
	families, err := registry.Gather()
	require.NoError(t, err)
	native := 0
	for _, family := range families {
		if family.GetType() == dto.MetricType_HISTOGRAM {
			native++
			require.NotNil(t, family.GetMetric()[0].GetHistogram().Schema)
		}
	}
	require.Equal(t, 1, native)
}

func TestMisuseIsReported(t *testing.T) {
	collector := promcondvar.New(promcondvar.Opts{})
	r := condvar.NewCapacityResource(1)
	require.PanicsWithValue(t, "promcondvar: nil resource", func() { collector.Track("db", nil) })
	require.PanicsWithValue(t, "promcondvar: nil function", func() { collector.TrackShared("db", nil) })
	require.PanicsWithValue(t, "promcondvar: name is not valid UTF-8", func() { collector.Track("\xff", r) })
	require.PanicsWithValue(t, "promcondvar: name is not valid UTF-8", func() { collector.TrackShared("\xff", r.Stats) })
	require.PanicsWithValue(t, "promcondvar: name is not valid UTF-8", func() { collector.Hooks("\xff") })

	registry := newRegistry(t, collector)
	require.Error(t, registry.Register(promcondvar.New(promcondvar.Opts{})), "the same names again")
	require.NoError(t, registry.Register(promcondvar.New(promcondvar.Opts{Namespace: "other"})))
	for _, label := range []string{"resource", "result", "not valid \xff"} {
		c := promcondvar.New(promcondvar.Opts{ConstLabels: prometheus.Labels{label: "x"}})
		require.Error(t, prometheus.NewRegistry().Register(c), label)
	}
	require.Panics(t, func() { promcondvar.New(promcondvar.Opts{Buckets: []float64{2, 1}}).Hooks("db") })
}
