// Package promcondvar exports what a [condvar.CapacityResource] knows of itself
// to Prometheus.
//
// A [Collector] has two sources. Those resources that it is told to
// [Collector.Track] it asks for their [condvar.Stats] at each scrape, which costs
// the resources nothing in between. The resources that were made with its
// [Collector.Hooks] tell it how long each wait took. Both are independent: one
// works without the other.
//
// All metrics have a label resource, the name that was given to Track or Hooks.
// With the namespace condvar, which [Opts] can change, they are these:
//
//   - condvar_resource_capacity_permits: Stats.Capacity
//   - condvar_resource_in_use_permits: Stats.InUse; after a decrease of the
//     capacity it can exceed it
//   - condvar_resource_waiting_calls: Stats.Waiting
//   - condvar_resource_waiting_permits: Stats.WaitingN
//   - condvar_resource_oldest_wait_seconds: Stats.OldestWait, 0 if nobody waits
//   - condvar_resource_closed: Stats.Closed, 1 or 0
//   - condvar_resource_waits_total: Stats.WaitCount
//   - condvar_resource_wait_duration_seconds_total: Stats.WaitDuration
//   - condvar_resource_canceled_waits_total: Stats.Canceled
//   - condvar_resource_rejected_calls_total: Stats.Rejected
//   - condvar_resource_wait_seconds: from the hooks, a histogram of the time that
//     waits took, with a label result: acquired, canceled (by the context of the
//     call), closed, too_large (after a Resize), overloaded (by MaxWait, or as
//     the line filled up during WaitStart), or other
//
// What one scrape says of one resource is of one moment, the histogram
// excepted. The histogram also counts calls that were about to wait and then
// found room at once, as [condvar.Hooks] explains, so its count can be larger
// than waits_total.
//
// The folders grafana and rules, beside this file, have a dashboard and alert
// rules that use these metrics.
package promcondvar

import (
	"context"
	"errors"
	"maps"
	"sync"
	"time"
	"unicode/utf8"
	"weak"

	"github.com/prometheus/client_golang/prometheus"

	"example.com/condvar"
)

// Opts are the options of [New]. The zero value is good to use.
type Opts struct {
	// Namespace is what the names of all metrics begin with; "condvar" if it is
	// empty. The dashboard and the alert rules know no other.
	Namespace string

	// ConstLabels are labels that all metrics have, always with the same values.
	ConstLabels prometheus.Labels

	// Buckets are the upper bounds of the buckets of the histogram, in seconds;
	// from 100 µs to 30 s, each about three times the one before, if it is empty.
	Buckets []float64

	// NativeHistogramBucketFactor, if greater than 1, makes the histogram a native
	// one in addition: see [prometheus.HistogramOpts].
	NativeHistogramBucketFactor float64
}

// A Collector is a [prometheus.Collector] of the metrics of resources. [New] makes
// one; the zero value is not usable. All methods may be called by several
// goroutines at the same time.
type Collector struct {
	capacity, inUse, waitingCalls, waitingPermits, oldestWait, closed *prometheus.Desc // gauges
	waits, waitDuration, canceled, rejected                           *prometheus.Desc // counters

	wait *prometheus.HistogramVec

	mu      sync.Mutex
	tracked map[string]weak.Pointer[condvar.CapacityResource] // by name; guarded by mu
}

// New returns a Collector that tracks nothing yet. It does not check opts: names
// and labels that are not valid, or are there already, make the registration of
// the Collector fail, and buckets that do not increase make Hooks panic.
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
	return &Collector{
		capacity:       desc("capacity_permits", "Permits there are."),
		inUse:          desc("in_use_permits", "Permits held."),
		waitingCalls:   desc("waiting_calls", "Calls that wait for permits."),
		waitingPermits: desc("waiting_permits", "Permits that the waiting calls ask for."),
		oldestWait:     desc("oldest_wait_seconds", "How long the first in line has been waiting."),
		closed:         desc("closed", "Whether the resource is closed."),
		waits:          desc("waits_total", "Waits that have ended, with permits or without."),
		waitDuration:   desc("wait_duration_seconds_total", "How long the waits that have ended took together."),
		canceled:       desc("canceled_waits_total", "Waits that were ended by their context."),
		rejected:       desc("rejected_calls_total", "Calls that failed because of MaxWaiting or MaxWait."),
		wait: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Namespace:                   opts.Namespace,
			Subsystem:                   "resource",
			Name:                        "wait_seconds",
			Help:                        "How long a wait took, by its result.",
			ConstLabels:                 opts.ConstLabels,
			Buckets:                     opts.Buckets,
			NativeHistogramBucketFactor: opts.NativeHistogramBucketFactor,
		}, []string{"resource", "result"}),
		tracked: make(map[string]weak.Pointer[condvar.CapacityResource]),
	}
}

// Track makes each scrape report the Stats of r under the given name. It replaces
// the resource that was tracked under that name before, if there is one: to
// Prometheus that is a restart, in which the counters begin again. Two resources
// that are to be seen at the same time need two names.
//
// The Collector does not keep r alive: once the program has no other reference to
// it, it is reported no more. Track panics if r is nil or the name is not valid
// UTF-8.
func (c *Collector) Track(name string, r *condvar.CapacityResource) {
	mustBeName(name)
	if r == nil {
		panic("promcondvar: nil resource")
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.tracked[name] = weak.Make(r)
}

// Untrack ends what Track began, and removes what the histogram has under that
// name. If the resource has hooks of that name, its next wait begins the
// histogram anew. It does nothing if there is nothing of that name.
func (c *Collector) Untrack(name string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.tracked, name)
	c.wait.DeletePartialMatch(prometheus.Labels{"resource": name})
}

// Hooks returns hooks, for [condvar.WithHooks], that put the waits of a resource
// into the histogram under the given name. They cost nothing to calls that do not
// wait, and one observation to those that do. Several resources may have hooks of
// the same name: they share a histogram. The series of the result acquired is
// there from now on, those of other results from the first wait that ends so.
// Hooks panics if the name is not valid UTF-8.
func (c *Collector) Hooks(name string) *condvar.Hooks {
	mustBeName(name)
	c.wait.WithLabelValues(name, "acquired")
	return &condvar.Hooks{
		WaitDone: func(_ context.Context, _ int64, waited time.Duration, err error) {
			c.wait.WithLabelValues(name, result(err)).Observe(waited.Seconds())
		},
	}
}

// result returns the label for a wait that ended with err. An error of a context
// comes first, because its cause may be any error, such as ErrClosed.
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
		c.capacity, c.inUse, c.waitingCalls, c.waitingPermits, c.oldestWait, c.closed,
		c.waits, c.waitDuration, c.canceled, c.rejected,
	} {
		ch <- desc
	}
	c.wait.Describe(ch)
}

// Collect is part of [prometheus.Collector]. It calls Stats once for each resource
// that is tracked, and holds no lock while it sends to ch.
func (c *Collector) Collect(ch chan<- prometheus.Metric) {
	for name, r := range c.alive() {
		s := r.Stats()
		closed := 0.0
		if s.Closed {
			closed = 1
		}
		send := func(desc *prometheus.Desc, t prometheus.ValueType, v float64) {
			ch <- prometheus.MustNewConstMetric(desc, t, v, name)
		}
		send(c.capacity, prometheus.GaugeValue, float64(s.Capacity))
		send(c.inUse, prometheus.GaugeValue, float64(s.InUse))
		send(c.waitingCalls, prometheus.GaugeValue, float64(s.Waiting))
		send(c.waitingPermits, prometheus.GaugeValue, float64(s.WaitingN))
		send(c.oldestWait, prometheus.GaugeValue, s.OldestWait.Seconds())
		send(c.closed, prometheus.GaugeValue, closed)
		send(c.waits, prometheus.CounterValue, float64(s.WaitCount))
		send(c.waitDuration, prometheus.CounterValue, s.WaitDuration.Seconds())
		send(c.canceled, prometheus.CounterValue, float64(s.Canceled))
		send(c.rejected, prometheus.CounterValue, float64(s.Rejected))
	}
	c.wait.Collect(ch)
}

// alive returns the resources that are tracked and still there, by name, and
// forgets the others.
func (c *Collector) alive() map[string]*condvar.CapacityResource {
	c.mu.Lock()
	defer c.mu.Unlock()
	alive := make(map[string]*condvar.CapacityResource, len(c.tracked))
	maps.DeleteFunc(c.tracked, func(name string, w weak.Pointer[condvar.CapacityResource]) bool {
		r := w.Value()
		if r != nil {
			alive[name] = r
		}
		return r == nil
	})
	return alive
}

func mustBeName(name string) {
	if !utf8.ValidString(name) {
		panic("promcondvar: name is not valid UTF-8")
	}
}
