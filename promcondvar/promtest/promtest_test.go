package promtest_test

import (
	"context"
	"encoding/json"
	"log/slog"
	"math"
	"os"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/model/rulefmt"
	"github.com/prometheus/prometheus/promql"
	"github.com/prometheus/prometheus/promql/parser"
	"github.com/prometheus/prometheus/storage"
	"github.com/prometheus/prometheus/util/annotations"
	"github.com/stretchr/testify/require"

	"example.com/condvar"
	"example.com/condvar/promcondvar"
)

const (
	interval = 15 * time.Second // between scrapes
	length   = 15 * time.Minute // of what is recorded
)

// A recording is what Prometheus has stored after scraping a program for some
// time.
type recording struct {
	series map[model.Fingerprint]*promql.Series
	end    time.Time // of the last scrape
}

// record records a program whose resources are named by their state.
func record(t *testing.T) *recording {
	rec := &recording{series: make(map[model.Fingerprint]*promql.Series)}
	synctest.Test(t, func(t *testing.T) {
		collector := promcondvar.New(promcondvar.Opts{})
		registry := prometheus.NewPedanticRegistry()
		require.NoError(t, registry.Register(collector))
		resources := make(map[string]*condvar.CapacityResource)
		for name, capacity := range map[string]int64{"busy": 2, "stuck": 2, "paused": 2, "large": 10, "saturated": 10} {
			resources[name] = condvar.NewCapacityResource(capacity, condvar.WithHooks(collector.Hooks(name)))
			collector.Track(name, resources[name])
		}
		ctx, cancel := context.WithCancel(t.Context())
		var calls sync.WaitGroup
		wait := func(name string, n int64) {
			calls.Go(func() { _ = resources[name].AcquireN(ctx, n) })
		}

		require.NoError(t, resources["busy"].AcquireN(ctx, 2))
		require.NoError(t, resources["stuck"].AcquireN(ctx, 2))
		wait("stuck", 1)
		require.NoError(t, resources["paused"].Acquire(ctx))
		resources["paused"].Resize(0)
		wait("paused", 1)
		require.NoError(t, resources["large"].AcquireN(ctx, 5))
		wait("large", 6)
		for range 14 { // 10 permits, each for 1 s, and of the 4 others some lose patience
			calls.Go(func() {
				for ctx.Err() == nil {
					short, stop := context.WithTimeout(ctx, 900*time.Millisecond)
					_ = resources["saturated"].Do(short, func(context.Context) error {
						time.Sleep(time.Second)
						return nil
					})
					stop()
				}
			})
		}

		time.Sleep(interval / 2)
		for range length / interval {
			time.Sleep(interval)
			rec.scrape(t, registry)
		}
		cancel()
		calls.Wait()
		runtime.KeepAlive(resources) // the collector does not
	})
	return rec
}

// scrape stores the samples of the registry, with the time of now.
func (r *recording) scrape(t *testing.T, registry *prometheus.Registry) {
	families, err := registry.Gather()
	require.NoError(t, err)
	r.end = time.Now()
	samples, err := expfmt.ExtractSamples(&expfmt.DecodeOptions{Timestamp: model.TimeFromUnixNano(r.end.UnixNano())}, families...)
	require.NoError(t, err)
	for _, sample := range samples {
		sample.Metric["instance"] = "host:1234"
		id := sample.Metric.Fingerprint()
		if r.series[id] == nil {
			set := labels.NewBuilder(labels.EmptyLabels())
			for name, value := range sample.Metric {
				set.Set(string(name), string(value))
			}
			r.series[id] = &promql.Series{Metric: set.Labels()}
		}
		r.series[id].Floats = append(r.series[id].Floats, promql.FPoint{T: int64(sample.Timestamp), F: float64(sample.Value)})
	}
}

// Select is a query of the stored series.
func (r *recording) Select(_ bool, _ *storage.SelectHints, matchers ...*labels.Matcher) storage.SeriesSet {
	found := &seriesSet{}
	for _, series := range r.series {
		if !slices.ContainsFunc(matchers, func(m *labels.Matcher) bool { return !m.Matches(series.Metric.Get(m.Name)) }) {
			found.series = append(found.series, promql.NewStorageSeries(*series))
		}
	}
	return found
}

// A seriesSet is an iterator, which stands before the first of series.
type seriesSet struct {
	current storage.Series
	series  []storage.Series
}

func (s *seriesSet) Next() bool {
	if len(s.series) == 0 {
		return false
	}
	s.current, s.series = s.series[0], s.series[1:]
	return true
}

func (s *seriesSet) At() storage.Series                { return s.current }
func (s *seriesSet) Err() error                        { return nil }
func (s *seriesSet) Warnings() annotations.Annotations { return nil }

// query returns what the expression yielded at each scrape from start to the end.
func (r *recording) query(t *testing.T, expr string, start time.Time) promql.Matrix {
	p := parser.NewParser(parser.Options{})
	parsed, err := p.ParseExpr(expr)
	require.NoError(t, err, expr)
	parser.Inspect(parsed, func(node parser.Node, _ []parser.Node) error {
		if selector, ok := node.(*parser.VectorSelector); ok {
			require.True(t, r.Select(false, nil, selector.LabelMatchers...).Next(), "nothing is exported that %s finds", selector)
		}
		return nil
	})
	engine := promql.NewEngine(promql.EngineOpts{MaxSamples: 1e6, Timeout: time.Minute, Parser: p})
	defer engine.Close()
	stored := &storage.MockQueryable{MockQuerier: &storage.MockQuerier{SelectMockFunction: r.Select}}
	query, err := engine.NewRangeQuery(t.Context(), stored, nil, expr, start, r.end, interval)
	require.NoError(t, err, expr)
	defer query.Close()
	result := query.Exec(t.Context())
	require.NoError(t, result.Err, expr)
	require.Empty(t, result.Warnings, expr)
	matrix, err := result.Matrix()
	require.NoError(t, err, expr)
	for i := range matrix { // which are the engine's until Close
		matrix[i].Floats = slices.Clone(matrix[i].Floats)
	}
	return slices.Clone(matrix)
}

func TestAlertsFireWhenTheyShould(t *testing.T) {
	content, err := os.ReadFile("../rules/condvar.yml")
	require.NoError(t, err)
	groups, errs := rulefmt.Parse(content, false, model.LegacyValidation, parser.NewParser(parser.Options{}), slog.Default())
	require.Empty(t, errs)

	rec := record(t)
	firing := make(map[string][]string)
	for _, group := range groups.Groups {
		for _, rule := range group.Rules {
			require.NotEmpty(t, rule.Annotations["summary"])
			require.NotEmpty(t, rule.Annotations["description"])
			require.NotEmpty(t, rule.Labels["severity"])
			pending := time.Duration(rule.For)
			require.Positive(t, pending)
			for _, series := range rec.query(t, rule.Expr, rec.end.Add(-pending)) {
				if len(series.Floats) == int(pending/interval)+1 { // at each moment
					require.Equal(t, "host:1234", series.Metric.Get("instance"), "the description names it")
					firing[rule.Alert] = append(firing[rule.Alert], series.Metric.Get("resource"))
				}
			}
			slices.Sort(firing[rule.Alert])
		}
	}
	require.Equal(t, map[string][]string{
		"CondvarOldestWait": {"large", "paused", "stuck"},
		"CondvarSaturated":  {"saturated", "stuck"},
	}, firing)
}

type dashboard struct {
	Templating struct {
		List []struct{ Name, Type, Definition string }
	}
	Panels []struct {
		ID          int
		Title, Type string
		Datasource  struct{ Type, UID string }
		GridPos     struct{ X, Y, W, H int }
		Targets     []struct {
			RefID, Expr, LegendFormat string
			Datasource                struct{ Type, UID string }
		}
	}
}

func TestEveryPanelOfTheDashboardShowsSomething(t *testing.T) {
	content, err := os.ReadFile("../grafana/condvar.json")
	require.NoError(t, err)
	var d dashboard
	require.NoError(t, json.Unmarshal(content, &d))

	require.Len(t, d.Templating.List, 2)
	require.Equal(t, "datasource", d.Templating.List[0].Name)
	require.Equal(t, "datasource", d.Templating.List[0].Type)
	require.Equal(t, "resource", d.Templating.List[1].Name)
	values, ok := strings.CutPrefix(d.Templating.List[1].Definition, "label_values(")
	require.True(t, ok)
	metric, label, _ := strings.Cut(strings.TrimSuffix(values, ")"), ", ")
	require.Equal(t, "resource", label)

	rec := record(t)
	require.Len(t, rec.query(t, metric, rec.end), 5, "resources to choose from")
	require.NotEmpty(t, d.Panels)
	ids, taken := make(map[int]bool), make(map[[2]int]string)
	for _, panel := range d.Panels {
		require.NotContains(t, ids, panel.ID)
		ids[panel.ID] = true
		for x := panel.GridPos.X; x < panel.GridPos.X+panel.GridPos.W; x++ {
			for y := panel.GridPos.Y; y < panel.GridPos.Y+panel.GridPos.H; y++ {
				require.Less(t, x, 24)
				require.Empty(t, taken[[2]int{x, y}], "%s lies on another panel", panel.Title)
				taken[[2]int{x, y}] = panel.Title
			}
		}
		require.Equal(t, "${datasource}", panel.Datasource.UID)
		require.NotEmpty(t, panel.Targets)
		for _, target := range panel.Targets {
			require.Equal(t, panel.Datasource, target.Datasource)
			for _, resource := range []string{".+", "saturated"} {
				expr := strings.NewReplacer("$resource", resource, "$__rate_interval", "1m").Replace(target.Expr)
				require.NotEqual(t, target.Expr, expr, "the choice of a resource matters")
				matrix := rec.query(t, expr, rec.end)
				require.NotEmpty(t, matrix, "%s: %s", panel.Title, expr)
				for _, series := range matrix {
					if resource == "saturated" {
						require.False(t, math.IsNaN(series.Floats[0].F), expr)
						if panel.Type != "heatmap" {
							require.Equal(t, resource, series.Metric.Get("resource"))
						}
					}
				}
			}
		}
	}
}
