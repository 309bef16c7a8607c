package oteltest_test

import (
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"github.com/prometheus/otlptranslator"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/model/textparse"
	"github.com/stretchr/testify/require"
	otelprometheus "go.opentelemetry.io/otel/exporters/prometheus"
	sdkmetric "go.opentelemetry.io/otel/sdk/metric"

	"example.com/condvar"
	"example.com/condvar/otelcondvar"
	"example.com/condvar/promcondvar"
)

// The Accept headers of scrapers.
const (
	plain       = "text/plain;version=0.0.4"
	plainUTF8   = "text/plain;version=1.0.0;escaping=allow-utf-8"
	openMetrics = "application/openmetrics-text;version=1.0.0"
)

// An exposition is the result of a scrape, without metrics of other modules.
type exposition struct {
	families []string // in order
	series   []string // in order
}

// scrape scrapes the server with the given Accept header, and parses the result
// as Prometheus does.
func scrape(t *testing.T, server *httptest.Server, accept string) exposition {
	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, server.URL, nil)
	require.NoError(t, err)
	request.Header.Set("Accept", accept)
	response, err := server.Client().Do(request)
	require.NoError(t, err)
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	require.NoError(t, err)
	require.Equal(t, http.StatusOK, response.StatusCode, string(body))
	mediaType, _, _ := strings.Cut(accept, ";")
	require.Contains(t, response.Header.Get("Content-Type"), mediaType)

	var found exposition
	parser, err := textparse.New(body, response.Header.Get("Content-Type"), labels.NewSymbolTable(), textparse.ParserOptions{})
	require.NoError(t, err)
	for {
		entry, err := parser.Next()
		if err == io.EOF {
			return found
		}
		require.NoError(t, err, string(body))
		switch entry {
		case textparse.EntryType:
			family, _ := parser.Type()
			require.NotContains(t, found.families, string(family), "twice")
			found.families = append(found.families, string(family))
		case textparse.EntrySeries:
			var series labels.Labels
			parser.Labels(&series)
			require.NotContains(t, found.series, series.String(), "twice")
			require.True(t, strings.HasPrefix(series.Get("__name__"), found.families[len(found.families)-1]), series)
			found.series = append(found.series, series.String())
		}
	}
}

// watched returns a resource with both observers that has had waits, holders
// and rejections, so that all of its series exist.
func watched(t *testing.T, opts ...condvar.Option) *condvar.CapacityResource {
	ctx, cancel := context.WithCancel(t.Context())
	r := condvar.NewCapacityResource(1, append(opts, condvar.MaxWaiting(1), condvar.WithHooks(&condvar.Hooks{
		WaitStart: func(ctx context.Context, _ int64) context.Context {
			cancel()
			return ctx
		},
	}))...)
	require.NoError(t, r.Do(t.Context(), func(context.Context) error {
		require.ErrorIs(t, r.Acquire(ctx), context.Canceled)
		return nil
	}))
	return r
}

// Bug M1. All names of both modules are listed, so that a new name fails the
// test.
func TestBothExportersInOneRegistry(t *testing.T) {
	for strategy, translated := range map[otlptranslator.TranslationStrategyOption][]string{
		otlptranslator.UnderscoreEscapingWithSuffixes: {
			"condvar_resource_cancellations_total",
			"condvar_resource_finished_wait_time_seconds_total",
			"condvar_resource_finished_waits_total",
			"condvar_resource_hold_time_seconds",
			"condvar_resource_instance_count",
			"condvar_resource_oldest_wait_time_seconds",
			"condvar_resource_pending_permits",
			"condvar_resource_pending_requests",
			"condvar_resource_permit_count",
			"condvar_resource_permit_max",
			"condvar_resource_rejections_total",
			"condvar_resource_wait_time_seconds",
		},
		otlptranslator.UnderscoreEscapingWithoutSuffixes: nil,
		otlptranslator.NoUTF8EscapingWithSuffixes:        nil,
		otlptranslator.NoTranslation:                     nil,
	} {
		t.Run(string(strategy), func(t *testing.T) {
			registry := prometheus.NewRegistry()
			exporter, err := otelprometheus.New(otelprometheus.WithRegisterer(registry), otelprometheus.WithTranslationStrategy(strategy))
			require.NoError(t, err)
			provider := sdkmetric.NewMeterProvider(sdkmetric.WithReader(exporter))
			collector := promcondvar.New(promcondvar.Opts{HoldTime: true})
			require.NoError(t, registry.Register(collector))
			observer := otelcondvar.New(otelcondvar.Opts{MeterProvider: provider, HoldTime: true})
			db := watched(t, collector.Watch("db"), observer.Watch("db"))

			families, err := registry.Gather()
			require.NoError(t, err)
			require.Len(t, families, 13+12+1) // and target_info

			server := httptest.NewServer(promhttp.HandlerFor(registry, promhttp.HandlerOpts{
				ErrorHandling: promhttp.HTTPErrorOnError, EnableOpenMetrics: true,
			}))
			defer server.Close()
			for _, accept := range []string{plain, plainUTF8, openMetrics} {
				found := scrape(t, server, accept)
				require.Len(t, found.families, len(families), accept)
				for _, family := range found.families {
					require.NotContains(t, family, "_ratio")
				}
				if translated != nil && accept == plain {
					require.Equal(t, translated, of(t, found, "otel_scope_name"))
				}
			}
			runtime.KeepAlive(db)
		})
	}
}

// of returns the families that have a series with the label, sorted.
func of(t *testing.T, found exposition, label string) (families []string) {
	for _, family := range found.families {
		if slices.ContainsFunc(found.series, func(series string) bool {
			name, ok := strings.CutPrefix(series, `{__name__="`+family)
			return ok && strings.Contains(name, label) && !strings.HasPrefix(name, "_info")
		}) {
			families = append(families, family)
		}
	}
	require.True(t, slices.IsSorted(families))
	return families
}
