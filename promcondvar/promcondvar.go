// Package promcondvar exports the state of a [condvar.CapacityResource] to
// Prometheus.
//
//	metrics := promcondvar.New(promcondvar.Opts{})
//	prometheus.MustRegister(metrics)
//	db := condvar.NewCapacityResource(10, metrics.Watch("db"))
//
// [Collector.Watch] is all that most programs need. It does what
// [Collector.Track] and [Collector.Hooks] do. Of a tracked resource each scrape
// reports the [condvar.Stats], which costs the resource nothing in between. The
// hooks report how long each wait took.
//
// All metrics have the label resource, the name that was given to Watch, Track
// or Hooks. With the namespace condvar, which [Opts] can change, they are
// these:
//
//   - condvar_resource_capacity_permits: Stats.Capacity
//   - condvar_resource_in_use_permits: Stats.InUse; after a shrink it can exceed
//     the capacity
//   - condvar_resource_waiting_calls: Stats.Waiting
//   - condvar_resource_waiting_permits: Stats.WaitingN
//   - condvar_resource_oldest_wait_seconds: Stats.OldestWait, 0 if nobody waits
//   - condvar_resource_closed: 1 if Stats.Closed, otherwise 0
//   - condvar_resource_instances: how many resources have the name
//   - condvar_resource_waits_total: Stats.WaitCount
//   - condvar_resource_wait_duration_seconds_total: Stats.WaitDuration
//   - condvar_resource_canceled_waits_total: Stats.Canceled
//   - condvar_resource_rejected_calls_total: Stats.Rejected
//   - condvar_resource_wait_seconds: from the hooks, a histogram of the time that
//     waits took, with a label result: acquired, canceled (by the context of the
//     call), closed, too_large (after a Resize), overloaded (by MaxWait, or as
//     the line filled up during WaitStart), or other
//   - condvar_resource_hold_seconds: from the hooks if [Opts] asks for it, a
//     histogram of the time that permits were held, by Do or as a Permit
//
// Resources with the same name are added up. Of oldest_wait it is the longest,
// and closed is 1 if all are closed. So a pool that is made anew, and the
// resources of a keyed.Resource, are one series. The counters do not decrease
// when a resource of several is gone.
//
// What one scrape reports of one resource is of one moment, except for the
// histograms. The histogram of waits also counts calls that were about to wait
// and then did not have to: [condvar.Hooks] has WaitStart called before a call
// joins the line. So its count can be larger than waits_total.
//
// The folders grafana and rules, beside this file, have a dashboard and alert
// rules that use these metrics.
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

// Opts are the options of [New]. The zero value is good to use.
type Opts struct {
	// Namespace is what the names of all metrics begin with; "condvar" if it is
	// empty. The dashboard and the alert rules know no other.
	Namespace string

	// ConstLabels are labels that all metrics have, always with the same
	// values.
	ConstLabels prometheus.Labels

	// Buckets are the upper bounds of the buckets of the histogram, in seconds;
	// from 100 µs to 30 s, each about three times the one before, if it is
	// empty.
	Buckets []float64

	// NativeHistogramBucketFactor, if greater than 1, makes the histograms
	// native ones in addition: see [prometheus.HistogramOpts].
	NativeHistogramBucketFactor float64

	// HoldTime adds the histogram of the time that permits were held. Its hooks
	// make every call of a resource lock a mutex, and Do make an allocation.
	HoldTime bool
}

// A Collector is a [prometheus.Collector] of the metrics of resources. [New]
// makes one; the zero value is not usable. All methods may be called by several
// goroutines at the same time.
type Collector struct {
	capacity, inUse, waitingCalls, waitingPermits, oldestWait, closed, instances *prometheus.Desc // gauges
	waits, waitDuration, canceled, rejected                                      *prometheus.Desc // counters

	wait, hold *prometheus.HistogramVec // hold is nil without Opts.HoldTime

	resources watch.Set[string] // by name
}

// New returns a Collector that tracks nothing yet. It does not check opts:
// names and labels that are not valid, or are there already, make the
// registration of the Collector fail, and buckets that do not increase make
// Hooks panic.
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
		capacity:       desc("capacity_permits", "Permits there are."),
		inUse:          desc("in_use_permits", "Permits held."),
		waitingCalls:   desc("waiting_calls", "Calls that wait for permits."),
		waitingPermits: desc("waiting_permits", "Permits that the waiting calls ask for."),
		oldestWait:     desc("oldest_wait_seconds", "How long the first in line has been waiting."),
		closed:         desc("closed", "Whether the resource is closed."),
		instances:      desc("instances", "Resources of this name."),
		waits:          desc("waits_total", "Waits that have ended, with permits or without."),
		waitDuration:   desc("wait_duration_seconds_total", "How long the waits that have ended took together."),
		canceled:       desc("canceled_waits_total", "Waits that were ended by their context."),
		rejected:       desc("rejected_calls_total", "Calls that failed because of MaxWaiting or MaxWait."),
		wait:           histogram("wait_seconds", "How long a wait took, by its result.", "resource", "result"),
	}
	if opts.HoldTime {
		c.hold = histogram("hold_seconds", "How long permits were held.", "resource")
	}
	return c
}

// Watch returns an option for [condvar.NewCapacityResource] that does what
// Track and Hooks do. What the Collector keeps of a name goes with its last
// resource. Watch panics if the name is not valid UTF-8.
func (c *Collector) Watch(name string) condvar.Option {
	mustBeName(name)
	return condvar.Observe(func(r *condvar.CapacityResource) *condvar.Hooks {
		c.Track(name, r)
		return c.Hooks(name)
	})
}

// Track makes each scrape report the Stats of r under the given name. If there
// are several resources of that name, they are added up. To give r again
// changes nothing.
//
// The Collector does not keep r alive. When r is collected, so is what the
// Collector has of it, and with the last resource of a name its histograms.
// Track panics if r is nil or the name is not valid UTF-8.
func (c *Collector) Track(name string, r *condvar.CapacityResource) {
	mustBeName(name)
	if r == nil {
		panic("promcondvar: nil resource")
	}
	c.resources.Add(name, r, func() { c.deleteHistograms(name) })
}

// Untrack ends what Track began for all resources of that name, and removes
// what the histograms have under it. If a resource has hooks of that name, its
// next wait begins the histogram anew. It does nothing if there is nothing of
// that name.
func (c *Collector) Untrack(name string) {
	c.resources.Remove(name)
	c.deleteHistograms(name)
}

func (c *Collector) deleteHistograms(name string) {
	for _, result := range results() { // DeletePartialMatch would look at all names
		c.wait.DeleteLabelValues(name, result)
	}
	if c.hold != nil {
		c.hold.DeleteLabelValues(name)
	}
}

// Hooks returns hooks, for [condvar.WithHooks], that put the waits of a
// resource into the histogram under the given name. They cost nothing to calls
// that do not wait, except with Opts.HoldTime, and one observation to those
// that do. Several resources may have hooks of the same name: they share a
// histogram. The series of the result acquired is there from now on, those of
// other results from the first wait that ends so. They stay until Untrack.
// Hooks panics if the name is not valid UTF-8.
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

// results returns what result may return.
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

// Describe is part of [prometheus.Collector].
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

// Collect is part of [prometheus.Collector]. It calls Stats once for each
// resource that is tracked, and holds no lock while it does so or sends to ch.
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
