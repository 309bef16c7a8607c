// Package otelcondvar exports the state of a [condvar.CapacityResource] to
// OpenTelemetry.
//
//	metrics := otelcondvar.New(otelcondvar.Opts{})
//	db := condvar.NewCapacityResource(10, metrics.Watch("db"))
//
// Most programs need only [Observer.Watch]. It does what [Observer.Track] and
// [Observer.Hooks] do. Each collection reports the [condvar.Stats] of each
// tracked resource, which costs nothing between collections. The hooks report
// how long each wait took. For a resource that several processes share, such as
// one of module etcdcondvar, use Hooks and [Observer.TrackShared].
//
// # Metrics
//
// All metrics have the attribute condvar.resource.name: the name given to
// Watch, Track, TrackShared or Hooks. Their names begin with condvar.resource
// and follow the semantic conventions for connection pools of database clients,
// db.client.connection.
//
//   - permit.count, an UpDownCounter in {permit}: Stats.InUse, and
//     Stats.Capacity minus Stats.InUse (at least 0), with the attribute
//     condvar.resource.permit.state, used or idle
//   - permit.max, an UpDownCounter in {permit}: Stats.Capacity
//   - pending_requests, an UpDownCounter in {request}: Stats.Waiting
//   - pending_permits, an UpDownCounter in {permit}: Stats.WaitingN
//   - oldest_wait_time, a Gauge in s: Stats.OldestWait; 0 if no call waits
//   - instance.count, an UpDownCounter in {instance}: the number of resources
//     with the name, with the attribute condvar.resource.instance.state, open
//     or closed
//   - finished_waits, a Counter in {wait}: Stats.WaitCount
//   - finished_wait_time, a Counter in s: Stats.WaitDuration
//   - cancellations, a Counter in {cancellation}: Stats.Canceled
//   - rejections, a Counter in {rejection}: Stats.Rejected
//   - wait_time, a Histogram in s: the durations of waits, from the hooks; a
//     wait that ended without permits has the attribute error.type: canceled
//     (by the context of the call), closed, too_large (after a Resize),
//     overloaded (by MaxWait, or because the line filled up during WaitStart),
//     or _OTHER
//   - hold_time, a Histogram in s: with Opts.HoldTime, the time for which Do or
//     a Permit held permits, from the hooks
//
// The values of one resource in a collection, except for the histograms, are of
// a single moment. wait_time also counts calls that were about to wait and then
// got permits without waiting (see [condvar.Hooks]), so its count can exceed
// finished_waits. It does not count other calls that did not wait.
//
// After OpenTelemetry's Prometheus exporter has translated the names, none is
// equal to a name of promcondvar, so one registry can have both.
//
// # Resources of one name
//
// Resources with the same name are added up, except that oldest_wait_time is
// the longest. So a pool that is recreated, and the resources of a
// keyed.Resource, are one set of series. The counters do not decrease when one
// of several resources is garbage collected.
package otelcondvar

import (
	"context"
	"errors"
	"math"
	"reflect"
	"slices"
	"time"
	"unicode/utf8"

	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"

	"example.com/condvar"
	"example.com/condvar/internal/watch"
)

const (
	prefix        = "condvar.resource."
	nameKey       = attribute.Key(prefix + "name")
	permitState   = attribute.Key(prefix + "permit.state")
	instanceState = attribute.Key(prefix + "instance.state")
	errorKey      = attribute.Key("error.type")
)

// Opts are the options of [New]. The zero value has the defaults.
type Opts struct {
	// MeterProvider creates the instruments; if it is nil,
	// [otel.GetMeterProvider] is used.
	MeterProvider metric.MeterProvider

	// Attributes are attributes that all measurements have. The attributes of
	// this package take precedence.
	Attributes []attribute.KeyValue

	// HoldTime adds the histogram of the time for which permits were held. Its
	// hooks make every call of a resource lock a mutex, and Do make an
	// allocation.
	HoldTime bool
}

// An Observer reports the metrics of resources to OpenTelemetry. [New] makes
// one; the zero value is not usable. All methods may be called by multiple
// goroutines simultaneously.
type Observer struct {
	attributes []attribute.KeyValue // must not be changed
	reports    []report             // what a collection observes of each name

	waitTime, holdTime metric.Float64Histogram // nil if not used

	resources watch.Set[string] // by name
}

// A report is one series of each name: an instrument, its own attribute if it
// has one, and its value. Values are float64 because a sum of int64 can
// overflow.
type report struct {
	instrument metric.Float64Observable
	state      attribute.KeyValue
	value      func(*watch.Sum) float64 // NaN if it is not known
}

// New creates the instruments, and one callback for all of them. The name of
// their scope is the import path of this package. They exist as long as the
// MeterProvider does, so create one Observer for each MeterProvider. Two
// Observers of one MeterProvider need different Attributes or names of
// resources.
//
// Errors of the MeterProvider go to [otel.Handle]. An instrument that could not
// be created is left out.
func New(opts Opts) *Observer {
	provider := opts.MeterProvider
	if provider == nil {
		provider = otel.GetMeterProvider()
	}
	meter := provider.Meter(reflect.TypeFor[Observer]().PkgPath())
	o := &Observer{attributes: slices.Clone(opts.Attributes)}

	none := attribute.KeyValue{}
	counter := func(name, unit, description string) metric.Float64Observable {
		return made[metric.Float64Observable](meter.Float64ObservableCounter(prefix+name,
			metric.WithUnit(unit), metric.WithDescription(description)))
	}
	upDownCounter := func(name, unit, description string) metric.Float64Observable {
		return made[metric.Float64Observable](meter.Float64ObservableUpDownCounter(prefix+name,
			metric.WithUnit(unit), metric.WithDescription(description)))
	}
	observe := func(instrument metric.Float64Observable, state attribute.KeyValue, value func(*watch.Sum) float64) {
		if instrument != nil {
			o.reports = append(o.reports, report{instrument, state, value})
		}
	}
	permits := upDownCounter("permit.count", "{permit}", "Permits in the state of the attribute.")
	observe(permits, permitState.String("used"), func(s *watch.Sum) float64 { return s.InUse })
	observe(permits, permitState.String("idle"), func(s *watch.Sum) float64 {
		if s.Shared > 0 { // other processes may use them
			return math.NaN()
		}
		return max(0, s.Capacity-s.InUse)
	})
	observe(upDownCounter("permit.max", "{permit}", "Total permits."),
		none, func(s *watch.Sum) float64 { return s.Capacity })
	observe(upDownCounter("pending_requests", "{request}", "Calls that wait for permits."),
		none, func(s *watch.Sum) float64 { return s.Waiting })
	observe(upDownCounter("pending_permits", "{permit}", "Permits that the waiting calls ask for."),
		none, func(s *watch.Sum) float64 { return s.WaitingN })
	observe(made[metric.Float64Observable](meter.Float64ObservableGauge(prefix+"oldest_wait_time", metric.WithUnit("s"),
		metric.WithDescription("How long the longest wait has lasted so far."))),
		none, func(s *watch.Sum) float64 { return s.Oldest.OldestWait.Seconds() })
	instances := upDownCounter("instance.count", "{instance}", "Resources of the name in the state of the attribute.")
	observe(instances, instanceState.String("open"), func(s *watch.Sum) float64 { return float64(s.Resources - s.Closed) })
	observe(instances, instanceState.String("closed"), func(s *watch.Sum) float64 { return float64(s.Closed) })
	observe(counter("finished_waits", "{wait}", "Finished waits, with permits or without."),
		none, func(s *watch.Sum) float64 { return float64(s.WaitCount) })
	observe(counter("finished_wait_time", "s", "Total time spent in finished waits."),
		none, func(s *watch.Sum) float64 { return s.WaitDuration.Seconds() })
	observe(counter("cancellations", "{cancellation}", "Finished waits that were ended by their context."),
		none, func(s *watch.Sum) float64 { return float64(s.Canceled) })
	observe(counter("rejections", "{rejection}", "Calls that failed because of MaxWaiting or MaxWait."),
		none, func(s *watch.Sum) float64 { return float64(s.Rejected) })

	histogram := func(name, description string) metric.Float64Histogram {
		return made[metric.Float64Histogram](meter.Float64Histogram(prefix+name, metric.WithUnit("s"), metric.WithDescription(description),
			metric.WithExplicitBucketBoundaries(1e-4, 3e-4, 1e-3, 3e-3, .01, .03, .1, .3, 1, 3, 10, 30)))
	}
	o.waitTime = histogram("wait_time", "Duration of waits, by result.")
	if opts.HoldTime {
		o.holdTime = histogram("hold_time", "Time for which permits were held.")
	}

	var observed []metric.Observable
	for _, r := range o.reports {
		observed = append(observed, r.instrument)
	}
	if _, err := meter.RegisterCallback(o.collect, observed...); err != nil {
		otel.Handle(err)
	}
	return o
}

// made returns an instrument, which is nil if the meter did not create one. The
// SDK may return both an error and an instrument that works for some of its
// readers.
func made[T any, I any](instrument I, err error) (made T) {
	if err != nil {
		otel.Handle(err)
	}
	made, _ = any(instrument).(T)
	return made
}

// collect is the callback.
func (o *Observer) collect(_ context.Context, observer metric.Observer) error {
	for name, sum := range o.resources.Sums() {
		all := o.with(name)
		for _, r := range o.reports {
			value := r.value(sum)
			if math.IsNaN(value) {
				continue
			}
			attributes := all
			if r.state.Valid() {
				attributes = o.with(name, r.state)
			}
			observer.ObserveFloat64(r.instrument, value, attributes)
		}
	}
	return nil
}

// Watch returns an option for [condvar.NewCapacityResource] that does what
// Track and Hooks do. Watch panics if the name is not valid UTF-8.
func (o *Observer) Watch(name string) condvar.Option {
	mustBeName(name)
	return condvar.Observe(func(r *condvar.CapacityResource) *condvar.Hooks {
		o.Track(name, r)
		return o.Hooks(name)
	})
}

// Track makes each collection report the Stats of r under the given name.
// Resources with the same name are added up. A second Track of r under the same
// name has no effect.
//
// The Observer does not keep r alive. When r is garbage collected, the Observer
// drops it. Track panics if r is nil or the name is not valid UTF-8.
func (o *Observer) Track(name string, r *condvar.CapacityResource) {
	mustBeName(name)
	if r == nil {
		panic("otelcondvar: nil resource")
	}
	o.resources.Add(name, r, nil)
}

// TrackShared makes each collection report, under the given name, a resource
// that several processes share, such as one of module etcdcondvar. stats returns
// its state: the capacity is that of all processes, and the rest is of this one.
// How many permits are idle is not known then, and not reported for that name.
// Each call adds a resource. TrackShared panics if stats is nil or the name is
// not valid UTF-8.
//
// The Observer refers to stats until Untrack. Collections call it, possibly
// several at the same time. stats must not block, and its counters must not
// decrease.
func (o *Observer) TrackShared(name string, stats func() condvar.Stats) {
	mustBeName(name)
	if stats == nil {
		panic("otelcondvar: nil function")
	}
	o.resources.AddShared(name, stats)
}

// Untrack undoes Track and TrackShared for all resources with that name. The
// histograms of the name stay in the SDK, which cannot delete them. Untrack
// does nothing if the name is unknown.
func (o *Observer) Untrack(name string) {
	o.resources.Remove(name)
}

// Hooks returns hooks, for [condvar.WithHooks], that record the waits of a
// resource under the given name. They cost nothing to calls that do not wait,
// except with Opts.HoldTime, and one Record to calls that do. The context of
// the Record is that of the call, so exemplars have its span. Resources whose
// hooks have the same name share the series.
//
// The boundaries of the buckets are from 100 µs to 30 s, each about three times
// the previous one. A view of the SDK can change them. The SDK creates the
// series of a name and a result at the first such wait, and keeps it. Hooks
// panics if the name is not valid UTF-8.
func (o *Observer) Hooks(name string) *condvar.Hooks {
	mustBeName(name)
	hooks := &condvar.Hooks{}
	all := []metric.RecordOption{o.with(name)}
	if o.waitTime != nil {
		hooks.WaitDone = func(ctx context.Context, _ int64, waited time.Duration, err error) {
			options := all
			if err != nil {
				options = []metric.RecordOption{o.with(name, errorKey.String(errorType(err)))}
			}
			o.waitTime.Record(ctx, waited.Seconds(), options...)
		}
	}
	if o.holdTime != nil {
		hooks.Released = func(_ int64, hold *condvar.Hold, held time.Duration) {
			if hold != nil {
				o.holdTime.Record(context.Background(), held.Seconds(), all...)
			}
		}
	}
	return hooks
}

// with returns the attributes of a measurement. If two have the same key, the
// last one counts.
func (o *Observer) with(name string, own ...attribute.KeyValue) metric.MeasurementOption {
	set := slices.Concat(o.attributes, []attribute.KeyValue{nameKey.String(name)}, own)
	return metric.WithAttributeSet(attribute.NewSet(set...))
}

// errorType returns the attribute of a wait that ended with err. An error of a
// context comes first, because its cause may be any error, such as ErrClosed.
func errorType(err error) string {
	switch {
	case errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		return "canceled"
	case errors.Is(err, condvar.ErrClosed):
		return "closed"
	case errors.Is(err, condvar.ErrTooLarge):
		return "too_large"
	case errors.Is(err, condvar.ErrOverloaded):
		return "overloaded"
	}
	return "_OTHER"
}

func mustBeName(name string) {
	if !utf8.ValidString(name) {
		panic("otelcondvar: name is not valid UTF-8")
	}
}
