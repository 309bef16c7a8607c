// Package promcondvar exports the state of a [condvar.CapacityResource] to
// Prometheus.
//
//	metrics := promcondvar.New(promcondvar.Opts{})
//	prometheus.MustRegister(metrics)
//	db := condvar.NewCapacityResource(10, metrics.Watch("db"))
//
// Most programs need only [Collector.Watch]. It does what [Collector.Track] and
// [Collector.Hooks] do. Each scrape reports the [condvar.Stats] of each tracked
// resource, which costs nothing between scrapes. The hooks report how long each
// wait took. For a resource that several processes share, such as one of module
// etcdcondvar, use Hooks and [Collector.TrackShared].
//
// All metrics have the label resource: the name given to Watch, Track,
// TrackShared or Hooks. With the default namespace, condvar, they are:
//
//   - condvar_resource_capacity_permits: Stats.Capacity
//   - condvar_resource_in_use_permits: Stats.InUse; may exceed the capacity
//     after a shrink
//   - condvar_resource_waiting_calls: Stats.Waiting
//   - condvar_resource_waiting_permits: Stats.WaitingN
//   - condvar_resource_oldest_wait_seconds: Stats.OldestWait; 0 if no call
//     waits
//   - condvar_resource_closed: 1 if Stats.Closed, otherwise 0
//   - condvar_resource_instances: the number of resources with the name
//   - condvar_resource_waits_total: Stats.WaitCount
//   - condvar_resource_wait_duration_seconds_total: Stats.WaitDuration
//   - condvar_resource_canceled_waits_total: Stats.Canceled
//   - condvar_resource_rejected_calls_total: Stats.Rejected
//   - condvar_resource_wait_seconds: a histogram of the durations of waits,
//     from the hooks, with the label result: acquired, canceled (by the context
//     of the call), closed, too_large (after a Resize), overloaded (by MaxWait,
//     or because the line filled up during WaitStart), or other
//   - condvar_resource_hold_seconds: with Opts.HoldTime, a histogram of the
//     time for which Do or a Permit held permits, from the hooks
//
// Resources with the same name are added up, except that oldest_wait is the
// longest, and closed is 1 if all are closed. So a pool that is recreated, and
// the resources of a keyed.Resource, are one series. The counters do not
// decrease when one of several resources is garbage collected.
//
// The values of one resource in a scrape, except for the histograms, are of a
// single moment. The histogram of waits also counts calls that were about to
// wait and then got permits without waiting (see [condvar.Hooks]), so its count
// can exceed waits_total.
//
// The directories grafana and rules of this module have a dashboard and alert
// rules for these metrics.
package promcondvar

import (
	"context"
	"errors"
	"time"
	"unicode/utf8"

	"github.com/prometheus/client_golang/prometheus"

	"example.com/condvar"
	"example.com/condvar/internal/watch"
)

// Opts are the options of [New]. The zero value has the defaults.
type Opts struct {
	// Namespace is the prefix of the names of all metrics; "condvar" if it is
	// empty. The dashboard and the alert rules work only with the default.
	Namespace string

	// ConstLabels are labels with fixed values for all metrics.
	ConstLabels prometheus.Labels

	// Buckets are the upper bounds of the buckets of the histograms, in
	// seconds. If it is empty, they are from 100 µs to 30 s, each about three
	// times the previous one.
	Buckets []float64

	// NativeHistogramBucketFactor, if greater than 1, adds native histograms:
	// see [prometheus.HistogramOpts].
	NativeHistogramBucketFactor float64

	// HoldTime adds the histogram of the time for which permits were held. Its
	// hooks make every call of a resource lock a mutex, and Do make an
	// allocation.
	HoldTime bool
}

// A Collector is a [prometheus.Collector] of the metrics of resources. [New]
// makes one; the zero value is not usable. All methods may be called by
// multiple goroutines simultaneously.
type Collector struct {
	// gauges
	capacity, inUse, waitingCalls, waitingPermits, oldestWait, closed, instances *prometheus.Desc

	// counters
	waits, waitDuration, canceled, rejected *prometheus.Desc

	wait, hold *prometheus.HistogramVec // hold is nil without Opts.HoldTime

	resources watch.Set[string] // by name
}

// New returns a Collector that tracks no resources. It does not check opts:
// with invalid or duplicate names and labels the registration of the Collector
// fails, and with buckets that do not increase Hooks panics.
func New(opts Opts) *Collector {
	if opts.Namespace == "" {
		opts.Namespace = "condvar"
	}
	if len(opts.Buckets) == 0 {
		opts.Buckets = []float64{1e-4, 3e-4, 1e-3, 3e-3, .01, .03, .1, .3, 1, 3, 10, 30}
	}
	desc := func(name, help string) *prometheus.Desc {
		name = prometheus.BuildFQName(opts.Namespace, "resource", name)
		return prometheus.NewDesc(name, help, []string{"resource"}, opts.ConstLabels)
	}
	histogram := func(name, help string, labels ...string) *prometheus.HistogramVec {
		return prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Namespace:                   opts.Namespace,
			Subsystem:                   "resource",
			Name:                        name,
			Help:                        help,
			ConstLabels:                 opts.ConstLabels,
			Buckets:                     opts.Buckets,
			NativeHistogramBucketFactor: opts.NativeHistogramBucketFactor,
		}, labels)
	}
	c := &Collector{
		capacity:       desc("capacity_permits", "Total permits."),
		inUse:          desc("in_use_permits", "Permits held."),
		waitingCalls:   desc("waiting_calls", "Calls that wait for permits."),
		waitingPermits: desc("waiting_permits", "Permits that the waiting calls ask for."),
		oldestWait:     desc("oldest_wait_seconds", "How long the longest wait has lasted so far."),
		closed:         desc("closed", "Whether the resource is closed."),
		instances:      desc("instances", "Resources of this name."),
		waits:          desc("waits_total", "Finished waits, with permits or without."),
		waitDuration:   desc("wait_duration_seconds_total", "Total time spent in finished waits."),
		canceled:       desc("canceled_waits_total", "Finished waits that were ended by their context."),
		rejected:       desc("rejected_calls_total", "Calls that failed because of MaxWaiting or MaxWait."),
		wait:           histogram("wait_seconds", "Duration of waits, by result.", "resource", "result"),
	}
	if opts.HoldTime {
		c.hold = histogram("hold_seconds", "Time for which permits were held.", "resource")
	}
	return c
}

// Watch returns an option for [condvar.NewCapacityResource] that does what
// Track and Hooks do. The Collector drops a name when its last resource is
// garbage collected. Watch panics if the name is not valid UTF-8.
func (c *Collector) Watch(name string) condvar.Option {
	mustBeName(name)
	return condvar.Observe(func(r *condvar.CapacityResource) *condvar.Hooks {
		c.Track(name, r)
		return c.Hooks(name)
	})
}

// Track makes each scrape report the Stats of r under the given name. Resources
// with the same name are added up. A second Track of r under the same name has
// no effect.
//
// The Collector does not keep r alive. When r is garbage collected, the
// Collector drops its state of r, and with the last resource of a name its
// histograms. Track panics if r is nil or the name is not valid UTF-8.
func (c *Collector) Track(name string, r *condvar.CapacityResource) {
	mustBeName(name)
	if r == nil {
		panic("promcondvar: nil resource")
	}
	c.resources.Add(name, r, func() { c.deleteHistograms(name) })
}

// TrackShared makes each scrape report, under the given name, a resource that
// several processes share, such as one of module etcdcondvar. stats returns its
// state: the capacity is that of all processes, and the rest is of this one.
// Each call adds a resource. TrackShared panics if stats is nil or the name is
// not valid UTF-8.
//
// The Collector refers to stats until Untrack. Scrapes call it, possibly several
// at the same time. stats must not block, and its counters must not decrease.
func (c *Collector) TrackShared(name string, stats func() condvar.Stats) {
	mustBeName(name)
	if stats == nil {
		panic("promcondvar: nil function")
	}
	c.resources.AddShared(name, stats)
}

// Untrack undoes Track and TrackShared for all resources with that name, and
// removes its histograms. If a resource has hooks with that name, its next wait
// starts a new histogram. Untrack does nothing if the name is unknown.
func (c *Collector) Untrack(name string) {
	c.resources.Remove(name)
	c.deleteHistograms(name)
}

func (c *Collector) deleteHistograms(name string) {
	// DeletePartialMatch would visit all names.
	for _, result := range results() {
		c.wait.DeleteLabelValues(name, result)
	}
	if c.hold != nil {
		c.hold.DeleteLabelValues(name)
	}
}

// Hooks returns hooks, for [condvar.WithHooks], that observe the waits of a
// resource in the histogram with the given name. They cost nothing to calls
// that do not wait, except with Opts.HoldTime, and one observation to calls
// that do. Resources whose hooks have the same name share a histogram. The
// series with the result acquired exists from now on, the others from the first
// wait with that result. They stay until Untrack. Hooks panics if the name is
// not valid UTF-8.
func (c *Collector) Hooks(name string) *condvar.Hooks {
	mustBeName(name)
	c.wait.WithLabelValues(name, "acquired")
	hooks := &condvar.Hooks{
		WaitDone: func(_ context.Context, _ int64, waited time.Duration, err error) {
			c.wait.WithLabelValues(name, result(err)).Observe(waited.Seconds())
		},
	}
	if c.hold != nil {
		c.hold.WithLabelValues(name)
		hooks.Released = func(_ int64, hold *condvar.Hold, held time.Duration) {
			if hold != nil {
				c.hold.WithLabelValues(name).Observe(held.Seconds())
			}
		}
	}
	return hooks
}

// results returns all values that result may return.
func results() []string {
	return []string{"acquired", "canceled", "closed", "too_large", "overloaded", "other"}
}

// result returns the label for a wait that ended with err. An error of a
// context comes first, because its cause may be any error, such as ErrClosed.
func result(err error) string {
	switch {
	case err == nil:
		return "acquired"
	case errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		return "canceled"
	case errors.Is(err, condvar.ErrClosed):
		return "closed"
	case errors.Is(err, condvar.ErrTooLarge):
		return "too_large"
	case errors.Is(err, condvar.ErrOverloaded):
		return "overloaded"
	}
	return "other"
}

// Describe implements [prometheus.Collector].
func (c *Collector) Describe(ch chan<- *prometheus.Desc) {
	for _, desc := range []*prometheus.Desc{
		c.capacity, c.inUse, c.waitingCalls, c.waitingPermits, c.oldestWait, c.closed, c.instances,
		c.waits, c.waitDuration, c.canceled, c.rejected,
	} {
		ch <- desc
	}
	c.wait.Describe(ch)
	if c.hold != nil {
		c.hold.Describe(ch)
	}
}

// Collect implements [prometheus.Collector]. It calls Stats once for each
// tracked resource, and holds no lock while it does so or sends to ch.
func (c *Collector) Collect(ch chan<- prometheus.Metric) {
	for name, s := range c.resources.Sums() {
		send := func(desc *prometheus.Desc, t prometheus.ValueType, v float64) {
			ch <- prometheus.MustNewConstMetric(desc, t, v, name)
		}
		closed := 0.0
		if s.Closed == s.Resources {
			closed = 1
		}
		send(c.capacity, prometheus.GaugeValue, s.Capacity)
		send(c.inUse, prometheus.GaugeValue, s.InUse)
		send(c.waitingCalls, prometheus.GaugeValue, s.Waiting)
		send(c.waitingPermits, prometheus.GaugeValue, s.WaitingN)
		send(c.oldestWait, prometheus.GaugeValue, s.Oldest.OldestWait.Seconds())
		send(c.closed, prometheus.GaugeValue, closed)
		send(c.instances, prometheus.GaugeValue, float64(s.Resources))
		send(c.waits, prometheus.CounterValue, float64(s.WaitCount))
		send(c.waitDuration, prometheus.CounterValue, s.WaitDuration.Seconds())
		send(c.canceled, prometheus.CounterValue, float64(s.Canceled))
		send(c.rejected, prometheus.CounterValue, float64(s.Rejected))
	}
	c.wait.Collect(ch)
	if c.hold != nil {
		c.hold.Collect(ch)
	}
}

func mustBeName(name string) {
	if !utf8.ValidString(name) {
		panic("promcondvar: name is not valid UTF-8")
	}
}
