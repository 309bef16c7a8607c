package promtest_test

import (
	"context"
	"encoding/json"
	"log/slog"
	"math"
	"math/rand/v2"
	"os"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
	"unicode"

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

// A recording is the storage of Prometheus after scraping programs for some
// time.
type recording struct {
	series map[model.Fingerprint]*promql.Series
	every  time.Duration // between scrapes
	end    time.Time     // of the last scrape
}

// A program is a target of Prometheus: resources by name.
type program struct {
	metrics  *promcondvar.Collector
	registry *prometheus.Registry
	// Referred to here, since the collector does not keep them alive.
	resources map[string]*condvar.CapacityResource
}

func newProgram(t *testing.T) *program {
	p := &program{
		metrics:   promcondvar.New(promcondvar.Opts{HoldTime: true}),
		registry:  prometheus.NewPedanticRegistry(),
		resources: make(map[string]*condvar.CapacityResource),
	}
	require.NoError(t, p.registry.Register(p.metrics))
	return p
}

// add makes a resource that is observed.
func (p *program) add(name string, capacity int64, opts ...condvar.Option) *condvar.CapacityResource {
	p.resources[name] = condvar.NewCapacityResource(capacity, append(opts, p.metrics.Watch(name))...)
	return p.resources[name]
}

// recordStates records 15 minutes of a program whose resources are named by
// their state, on the instance busy:1234. On the instance idle:1234 the same
// program does nothing.
func recordStates(t *testing.T) *recording {
	rec := &recording{series: make(map[model.Fingerprint]*promql.Series), every: 15 * time.Second}
	synctest.Test(t, func(t *testing.T) {
		busy, idle := newProgram(t), newProgram(t)
		ctx, cancel := context.WithCancel(t.Context())
		var calls sync.WaitGroup

		// full makes a resource of which all permits are held.
		full := func(name string, capacity int64, opts ...condvar.Option) *condvar.CapacityResource {
			r := busy.add(name, capacity, opts...)
			require.True(t, r.TryAcquireN(capacity))
			return r
		}
		paused := func(name string) *condvar.CapacityResource {
			r := busy.add(name, 2)
			r.Resize(0)
			return r
		}
		wait := func(r *condvar.CapacityResource, n int64) {
			calls.Go(func() { _ = r.AcquireN(ctx, n) })
		}
		// try calls Acquire repeatedly, each time for at most d.
		try := func(r *condvar.CapacityResource, first, pause, d time.Duration) {
			calls.Go(func() {
				for time.Sleep(first); ctx.Err() == nil; time.Sleep(pause) {
					short, stop := context.WithTimeout(ctx, d)
					if r.Acquire(short) == nil {
						r.Release()
					}
					stop()
				}
			})
		}
		// work starts n goroutines that each repeatedly hold one permit.
		work := func(r *condvar.CapacityResource, n int, hold, d time.Duration) {
			for range n {
				calls.Go(func() {
					for ctx.Err() == nil {
						short, stop := context.WithTimeout(ctx, d)
						_ = r.Do(short, func(context.Context) error {
							time.Sleep(hold)
							return nil
						})
						stop()
					}
				})
			}
		}

		full("busy", 2) // and no call waits
		wait(full("stuck", 2), 1)
		large := busy.add("large", 10)
		require.True(t, large.TryAcquireN(5))
		wait(large, 6)

		wait(paused("paused"), 1)
		try(paused("paused, short waits"), 0, 35*time.Second, 5*time.Second)
		paused("paused, idle")

		require.NoError(t, full("closed, held", 1).Close())
		closed := paused("closed")
		require.NoError(t, closed.Close())

		work(busy.add("saturated", 10), 14, time.Second, 900*time.Millisecond)
		served := busy.add("served", 2) // 1 of 20 waits is canceled
		work(served, 4, time.Second, time.Hour)
		try(served, time.Second/2, 10*time.Second, time.Second/10)

		try(full("overloaded", 1, condvar.MaxWaiting(0)), 0, time.Second, time.Hour)
		try(full("late", 1, condvar.MaxWait(time.Second/2)), 0, time.Second/2, time.Hour)
		try(full("seldom rejects", 1, condvar.MaxWaiting(0)), 0, 40*time.Second, time.Hour)
		rejects := busy.add("rejects few", 1, condvar.MaxWaiting(2)) // 1 of 50
		work(rejects, 3, time.Second/10, time.Hour)
		try(rejects, time.Second/20, 5*time.Second, time.Hour)

		for name := range busy.resources {
			idle.add(name, 2)
		}
		time.Sleep(7250 * time.Millisecond)
		for range 15 * time.Minute / rec.every {
			time.Sleep(rec.every)
			rec.scrape(t, busy.registry, "busy:1234")
			rec.scrape(t, idle.registry, "idle:1234")
		}
		cancel()
		calls.Wait()
		runtime.KeepAlive(busy)
		runtime.KeepAlive(idle)
	})
	return rec
}

// recordDay records 25 hours of a program whose resources are named by how
// their use changes.
func recordDay(t *testing.T) *recording {
	rec := &recording{series: make(map[model.Fingerprint]*promql.Series), every: time.Minute}
	random := rand.New(rand.NewPCG(1, 2))
	noise := func() int64 { return random.Int64N(40) }
	daily := func(shift float64) func(h float64) int64 {
		return func(h float64) int64 { return int64(45 + 35*math.Sin((h+shift)/12*math.Pi) + float64(noise())/4) }
	}
	uses := map[string]func(h float64) int64{ // of 100 permits, after h hours
		"leak":              func(h float64) int64 { return noise() + int64(h/1.5) },
		"leak without load": func(h float64) int64 { return int64(h) },
		"slow leak":         func(h float64) int64 { return int64(h / 6) },
		"leak that was mended": func(h float64) int64 {
			if h > 20 {
				return 0
			}
			return int64(h)
		},
		"more from noon": func(h float64) int64 {
			if h > 12 {
				return 60
			}
			return 20
		},
		"noise":            func(float64) int64 { return 30 + noise() },
		"daily, from mean": daily(0),
		"daily, from high": daily(6),
		"daily, from fall": daily(12),
		"daily, from low":  daily(18),
		"full":             func(float64) int64 { return 100 },
		"full and growing": func(h float64) int64 { return 100 + int64(h)*10 },
	}
	synctest.Test(t, func(t *testing.T) {
		p := newProgram(t)
		for name := range uses {
			p.add(name, 100)
		}
		for minute := range 25 * 60 {
			time.Sleep(rec.every)
			for name, use := range uses {
				r := p.resources[name]
				want := use(float64(minute) / 60)
				if have := r.Stats().InUse; want < have {
					r.ReleaseN(have - want)
				} else {
					r.Resize(max(100, want))
					require.True(t, r.TryAcquireN(want-have))
				}
			}
			rec.scrape(t, p.registry, "busy:1234")
		}
		runtime.KeepAlive(p)
	})
	return rec
}

// scrape stores the samples of the registry, with the current time.
func (r *recording) scrape(t *testing.T, registry *prometheus.Registry, instance string) {
	families, err := registry.Gather()
	require.NoError(t, err)
	r.end = time.Now()
	samples, err := expfmt.ExtractSamples(&expfmt.DecodeOptions{Timestamp: model.TimeFromUnixNano(r.end.UnixNano())}, families...)
	require.NoError(t, err)
	for _, sample := range samples {
		sample.Metric["job"], sample.Metric["instance"] = "shop", model.LabelValue(instance)
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

// A seriesSet is an iterator that starts before the first of series.
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

// query returns the values of the expression at each scrape from start to end.
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
	query, err := engine.NewRangeQuery(t.Context(), stored, nil, expr, start, r.end, r.every)
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

func readRules(t *testing.T) *rulefmt.RuleGroups {
	content, err := os.ReadFile("../rules/condvar.yml")
	require.NoError(t, err)
	groups, errs := rulefmt.Parse(content, false, model.LegacyValidation, parser.NewParser(parser.Options{}), slog.Default())
	require.Empty(t, errs)
	return groups
}

// firing returns the resources for which each alert fires at the end of the
// recording.
func (r *recording) firing(t *testing.T, groups *rulefmt.RuleGroups) map[string][]string {
	firing := make(map[string][]string)
	for _, group := range groups.Groups {
		for _, rule := range group.Rules {
			pending := time.Duration(rule.For)
			require.Positive(t, pending)
			firing[rule.Alert] = nil
			for _, series := range r.query(t, rule.Expr, r.end.Add(-pending)) {
				// At each moment.
				if len(series.Floats) == int(pending/r.every)+1 {
					require.Equal(t, "shop", series.Metric.Get("job"))
					require.Equal(t, "busy:1234", series.Metric.Get("instance"), "the description names it")
					firing[rule.Alert] = append(firing[rule.Alert], series.Metric.Get("resource"))
				}
			}
			slices.Sort(firing[rule.Alert])
		}
	}
	return firing
}

func TestAlertsFireWhenTheyShould(t *testing.T) {
	require.Equal(t, map[string][]string{
		"CondvarOldestWait":    {"large", "stuck"},
		"CondvarCanceledWaits": {"saturated"},
		"CondvarRejectedCalls": {"late", "overloaded"},
		"CondvarSaturated":     {"late", "rejects few", "saturated", "served", "stuck"},
		"CondvarPaused":        {"paused", "paused, short waits"},
		"CondvarClosedInUse":   {"closed, held"},
		"CondvarLeak":          nil,
	}, recordStates(t).firing(t, readRules(t)))
}

func TestTheLeakAlertFiresForLeaksOnly(t *testing.T) {
	require.Equal(t, map[string][]string{
		"CondvarOldestWait":    nil,
		"CondvarCanceledWaits": nil,
		"CondvarRejectedCalls": nil,
		"CondvarSaturated":     nil,
		"CondvarPaused":        nil,
		"CondvarClosedInUse":   nil,
		"CondvarLeak":          {"leak", "leak without load"},
	}, recordDay(t).firing(t, readRules(t)))
}

// headings returns the anchors of the headings of a file on GitHub.
func headings(t *testing.T, name string) []string {
	content, err := os.ReadFile(name)
	require.NoError(t, err)
	var anchors []string
	code := false
	for line := range strings.Lines(string(content)) {
		if strings.HasPrefix(line, "```") {
			code = !code
		}
		if hashes, heading, ok := strings.Cut(strings.TrimSpace(line), " "); ok && !code && strings.Trim(hashes, "#") == "" {
			anchors = append(anchors, strings.Map(func(c rune) rune {
				switch {
				case c == ' ':
					return '-'
				case c == '-' || c == '_' || unicode.IsLetter(c) || unicode.IsDigit(c):
					return unicode.ToLower(c)
				}
				return -1
			}, heading))
		}
	}
	return anchors
}

func TestEachAlertLeadsToASectionOfTheDocumentation(t *testing.T) {
	anchors := headings(t, "../../docs/debugging.md")
	for _, group := range readRules(t).Groups {
		for _, rule := range group.Rules {
			require.NotEmpty(t, rule.Annotations["summary"], rule.Alert)
			require.NotEmpty(t, rule.Annotations["description"], rule.Alert)
			require.NotEmpty(t, rule.Labels["severity"], rule.Alert)
			page, anchor, _ := strings.Cut(rule.Annotations["runbook_url"], "#")
			require.Equal(t, "https://example.com/condvar/blob/main/docs/debugging.md", page, rule.Alert)
			require.Contains(t, anchors, anchor, rule.Alert)
		}
	}
}

type dashboard struct {
	ID            *int // nil: an import would replace this dashboard
	UID, Title    string
	SchemaVersion int
	Templating    struct {
		List []struct {
			Name, Type, Definition string
			Query                  any
			IncludeAll, Multi      bool
			AllValue               string
		}
	}
	Panels []panel
}

type panel struct {
	ID                       int
	Title, Type, Description string
	Datasource               struct{ Type, UID string }
	GridPos                  struct{ X, Y, W, H int }
	FieldConfig              struct{ Defaults struct{ Unit string } }
	Targets                  []struct {
		RefID, Expr, LegendFormat string
		Datasource                struct{ Type, UID string }
	}
}

func readDashboard(t *testing.T) dashboard {
	content, err := os.ReadFile("../grafana/condvar.json")
	require.NoError(t, err)
	var d dashboard
	require.NoError(t, json.Unmarshal(content, &d))
	return d
}

// choose puts values into the variables of the dashboard.
func choose(expr, job, instance, resource string) string {
	return strings.NewReplacer("$job", job, "$instance", instance, "$resource", resource, "$__rate_interval", "1m").Replace(expr)
}

func TestTheDashboardCanBeImported(t *testing.T) {
	d := readDashboard(t)
	require.Nil(t, d.ID)
	require.NotEmpty(t, d.UID)
	require.NotEmpty(t, d.Title)
	require.Positive(t, d.SchemaVersion)

	rec := recordStates(t)
	var names []string
	for i, v := range d.Templating.List {
		names = append(names, v.Name)
		if i == 0 {
			require.Equal(t, "datasource", v.Type)
			require.Equal(t, "prometheus", v.Query)
			continue
		}
		require.True(t, v.IncludeAll)
		require.True(t, v.Multi)
		require.Equal(t, ".*", v.AllValue)
		require.Equal(t, v.Definition, v.Query.(map[string]any)["query"])
		values, ok := strings.CutPrefix(v.Definition, "label_values(")
		require.True(t, ok)
		selector, label, _ := strings.Cut(strings.TrimSuffix(values, ")"), ", "+v.Name)
		require.Empty(t, label)
		// Its value limits the choice here.
		for _, earlier := range names[1:i] {
			require.Contains(t, selector, earlier+`=~"$`+earlier+`"`)
		}
		found := make(map[string]bool)
		for _, series := range rec.query(t, choose(selector, ".*", ".*", ".*"), rec.end) {
			found[series.Metric.Get(v.Name)] = true
		}
		require.Len(t, found, map[string]int{"job": 1, "instance": 2, "resource": 14}[v.Name], v.Name)
	}
	require.Equal(t, []string{"datasource", "job", "instance", "resource"}, names)
}

func TestEveryPanelOfTheDashboardShowsSomething(t *testing.T) {
	d := readDashboard(t)
	rec := recordStates(t)
	require.NotEmpty(t, d.Panels)
	units := []string{"short", "s", "percentunit", "ops"}
	ids, taken := make(map[int]bool), make(map[[2]int]string)
	for _, panel := range d.Panels {
		require.NotContains(t, ids, panel.ID)
		ids[panel.ID] = true
		require.Contains(t, units, panel.FieldConfig.Defaults.Unit, panel.Title)
		require.NotEmpty(t, panel.Description, panel.Title)
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
			// These are chosen in every query.
			for _, chosen := range []string{"job", "instance", "resource"} {
				require.Equal(t, strings.Count(target.Expr, "condvar_resource_"), strings.Count(target.Expr, chosen+`=~"$`+chosen+`"`), target.Expr)
			}
			require.NotEmpty(t, rec.query(t, choose(target.Expr, ".*", ".*", ".*"), rec.end), "%s: %s", panel.Title, target.Expr)
			expr := choose(target.Expr, "shop", "busy:1234", "saturated")
			matrix := rec.query(t, expr, rec.end)
			require.NotEmpty(t, matrix, "%s: %s", panel.Title, expr)
			for _, series := range matrix {
				require.False(t, math.IsNaN(series.Floats[0].F), expr)
				if panel.Type != "heatmap" {
					require.Equal(t, "saturated", series.Metric.Get("resource"))
				}
				for _, field := range strings.Split(target.LegendFormat, "{{")[1:] {
					label, _, _ := strings.Cut(field, "}}")
					require.NotEmpty(t, series.Metric.Get(label), "%s: the legend has %s", panel.Title, label)
				}
			}
		}
	}
}

// Some panels add up both instances, some show the worst.
func TestPanelsShowWhatTheirTitlesSay(t *testing.T) {
	panels := make(map[string]panel)
	for _, panel := range readDashboard(t).Panels {
		panels[panel.Title] = panel
	}
	rec := recordStates(t)
	for _, test := range []struct {
		title, resource string
		// By instance, if each has its own series.
		want map[string]float64
	}{
		{"Oldest wait", "stuck", map[string]float64{"busy:1234": 907.25, "idle:1234": 0}},
		{"Saturation", "stuck", map[string]float64{"busy:1234": 1, "idle:1234": 0}},
		{"Permits in use", "large", map[string]float64{"": 5}},
		{"Waiting calls", "large", map[string]float64{"": 1}},
		{"Mean wait time", "paused, short waits", map[string]float64{"": 5}},
		{"Canceled waits", "paused, short waits", map[string]float64{"": 1}},
		{"Canceled waits", "late", map[string]float64{"": 0}},
		{"Rejected calls per second", "overloaded", map[string]float64{"": 1}},
		{"Rejected calls per second", "late", map[string]float64{"": 1}},
		{"Rejected calls per second", "saturated", map[string]float64{"": 0}},
		// Of 1 s each: the middle of the bucket from 0.3 s.
		{"Hold time", "saturated", map[string]float64{"": .65}},
		{"Paused", "paused", map[string]float64{"": 1}},
		// Its capacity is 0, but it is closed.
		{"Paused", "closed", map[string]float64{"": 0}},
		{"Paused", "stuck", map[string]float64{"": 0}},
		{"Closed", "closed", map[string]float64{"": 1}},
		{"Closed", "paused", map[string]float64{"": 0}},
		{"Resources of one name", "stuck", map[string]float64{"": 2}},
	} {
		require.Contains(t, panels, test.title)
		expr := choose(panels[test.title].Targets[0].Expr, ".*", ".*", test.resource)
		have := make(map[string]float64)
		for _, series := range rec.query(t, expr, rec.end) {
			have[series.Metric.Get("instance")] = math.Round(series.Floats[0].F*1e6) / 1e6
		}
		require.Equal(t, test.want, have, "%s of %s", test.title, test.resource)
	}
}

// The README has a row for each metric and each alert, and no other rows.
func TestTheREADMENamesEveryMetricAndAlert(t *testing.T) {
	content, err := os.ReadFile("../README.md")
	require.NoError(t, err)
	var rows, want []string
	for line := range strings.Lines(string(content)) {
		if row, ok := strings.CutPrefix(line, "| `"); ok {
			name, _, _ := strings.Cut(row, "`")
			rows = append(rows, name)
		}
	}
	p := newProgram(t)
	r := p.add("db", 1)
	families, err := p.registry.Gather()
	require.NoError(t, err)
	runtime.KeepAlive(r)
	for _, family := range families {
		want = append(want, strings.TrimPrefix(family.GetName(), "condvar_resource_"))
	}
	for _, group := range readRules(t).Groups {
		for _, rule := range group.Rules {
			want = append(want, rule.Alert)
		}
	}
	require.ElementsMatch(t, want, rows)
}
