// Package otelcondvar exports what a [condvar.CapacityResource] knows of itself
// to OpenTelemetry.
//
// [Register] makes asynchronous instruments, which ask the resource for its
// [condvar.Stats] once at each collection and cost it nothing in between. [Hooks]
// makes a histogram of how long each wait took, from the hooks of the resource.
// Both are independent: one works without the other.
//
// The names are parallel to the semantic conventions for the connection pools of
// database clients, db.client.connection.*. All measurements have the attribute
// condvar.resource.name.
//
//	condvar.resource.permit.count      {permit}   UpDownCounter  permits that are held, and that are free
//	condvar.resource.permit.max        {permit}   UpDownCounter  Stats.Capacity
//	condvar.resource.pending_requests  {request}  UpDownCounter  Stats.Waiting
//	condvar.resource.pending_permits   {permit}   UpDownCounter  Stats.WaitingN
//	condvar.resource.oldest_wait_time  s          Gauge          Stats.OldestWait, 0 if nobody waits
//	condvar.resource.closed            1          Gauge          Stats.Closed, 1 or 0
//	condvar.resource.waits             {wait}     Counter        Stats.WaitCount
//	condvar.resource.total_wait_time   s          Counter        Stats.WaitDuration
//	condvar.resource.timeouts          {timeout}  Counter        Stats.Canceled: a deadline or a cancellation
//	condvar.resource.rejections        {rejection} Counter       Stats.Rejected: MaxWaiting or MaxWait
//	condvar.resource.wait_time         s          Histogram      the time that each wait took, from the hooks
//
// permit.count has the attribute condvar.resource.permit.state: used for
// Stats.InUse, and idle for what is left of the capacity, which is 0 if after a
// decrease more is held.
//
// wait_time has the attribute error.type if the wait ended without permits:
// canceled (by the context of the call), closed, too_large (after a Resize),
// overloaded (by MaxWait, or as the line filled up during WaitStart), or _OTHER. It also counts calls that were about to wait and then found room at once,
// as [condvar.Hooks] explains, so its count can be larger than waits. It does not
// count calls that did not wait.
package otelcondvar

import (
	"context"
	"errors"
	"time"
	"weak"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"

	"example.com/condvar"
)

const (
	prefix   = "condvar.resource."
	nameKey  = attribute.Key(prefix + "name")
	stateKey = attribute.Key(prefix + "permit.state")
	errorKey = attribute.Key("error.type")
)

// Register makes the meter report the Stats of r at each collection, under the
// given name and with the given attributes. What one collection says of r is of one
// moment. Name and attributes together must not be those of another resource that
// is registered, for OpenTelemetry does not say what becomes of two observations
// of the same thing.
//
// The meter does not keep r alive: once the program has no other reference to it,
// it is reported no more. Unregister of the registration ends the reports, too, and
// frees the little that is left of a resource which is gone.
//
// The errors are those of the meter. Register panics if r is nil.
func Register(meter metric.Meter, name string, r *condvar.CapacityResource, attrs ...attribute.KeyValue) (metric.Registration, error) {
	if r == nil {
		panic("otelcondvar: nil resource")
	}
	permits, err1 := meter.Int64ObservableUpDownCounter(prefix+"permit.count", metric.WithUnit("{permit}"),
		metric.WithDescription("The number of permits that are in the state described by the attribute."))
	limit, err2 := meter.Int64ObservableUpDownCounter(prefix+"permit.max", metric.WithUnit("{permit}"),
		metric.WithDescription("The number of permits there are."))
	requests, err3 := meter.Int64ObservableUpDownCounter(prefix+"pending_requests", metric.WithUnit("{request}"),
		metric.WithDescription("The number of calls that wait for permits."))
	wanted, err4 := meter.Int64ObservableUpDownCounter(prefix+"pending_permits", metric.WithUnit("{permit}"),
		metric.WithDescription("The number of permits that the waiting calls ask for."))
	oldest, err5 := meter.Float64ObservableGauge(prefix+"oldest_wait_time", metric.WithUnit("s"),
		metric.WithDescription("How long the first in line has been waiting."))
	closed, err6 := meter.Int64ObservableGauge(prefix+"closed", metric.WithUnit("1"),
		metric.WithDescription("Whether the resource is closed."))
	waits, err7 := meter.Int64ObservableCounter(prefix+"waits", metric.WithUnit("{wait}"),
		metric.WithDescription("The number of waits that have ended, with permits or without."))
	total, err8 := meter.Float64ObservableCounter(prefix+"total_wait_time", metric.WithUnit("s"),
		metric.WithDescription("How long the waits that have ended took together."))
	timeouts, err9 := meter.Int64ObservableCounter(prefix+"timeouts", metric.WithUnit("{timeout}"),
		metric.WithDescription("The number of waits that were ended by their context."))
	rejections, err10 := meter.Int64ObservableCounter(prefix+"rejections", metric.WithUnit("{rejection}"),
		metric.WithDescription("The number of calls that failed because of MaxWaiting or MaxWait."))
	if err := errors.Join(err1, err2, err3, err4, err5, err6, err7, err8, err9, err10); err != nil {
		return nil, err
	}

	all, used, idle := with(name, attrs), with(name, attrs, stateKey.String("used")), with(name, attrs, stateKey.String("idle"))
	resource := weak.Make(r)
	return meter.RegisterCallback(func(_ context.Context, o metric.Observer) error {
		r := resource.Value()
		if r == nil {
			return nil
		}
		s := r.Stats()
		isClosed := int64(0)
		if s.Closed {
			isClosed = 1
		}
		o.ObserveInt64(permits, s.InUse, used)
		o.ObserveInt64(permits, max(0, s.Capacity-s.InUse), idle)
		o.ObserveInt64(limit, s.Capacity, all)
		o.ObserveInt64(requests, s.Waiting, all)
		o.ObserveInt64(wanted, s.WaitingN, all)
		o.ObserveFloat64(oldest, s.OldestWait.Seconds(), all)
		o.ObserveInt64(closed, isClosed, all)
		o.ObserveInt64(waits, s.WaitCount, all)
		o.ObserveFloat64(total, s.WaitDuration.Seconds(), all)
		o.ObserveInt64(timeouts, s.Canceled, all)
		o.ObserveInt64(rejections, s.Rejected, all)
		return nil
	}, permits, limit, requests, wanted, oldest, closed, waits, total, timeouts, rejections)
}

// Hooks returns hooks, for [condvar.WithHooks], that record the waits of a resource
// in a histogram, under the given name and with the given attributes. They cost
// nothing to calls that do not wait, and one Record to those that do; its context
// is that of the call, so exemplars find the span. Several resources may have hooks
// of the same name: they share the measurements. The boundaries of the buckets
// are from 100 µs to 30 s, each about three times the one before; a view can
// change them. The error is that of the meter.
func Hooks(meter metric.Meter, name string, attrs ...attribute.KeyValue) (*condvar.Hooks, error) {
	waitTime, err := meter.Float64Histogram(prefix+"wait_time", metric.WithUnit("s"),
		metric.WithDescription("The time that a wait took, by how it ended."),
		metric.WithExplicitBucketBoundaries(1e-4, 3e-4, 1e-3, 3e-3, .01, .03, .1, .3, 1, 3, 10, 30))
	if err != nil {
		return nil, err
	}
	acquired := with(name, attrs)
	return &condvar.Hooks{
		WaitDone: func(ctx context.Context, _ int64, waited time.Duration, err error) {
			measured := acquired
			if err != nil {
				measured = with(name, attrs, errorKey.String(errorType(err)))
			}
			waitTime.Record(ctx, waited.Seconds(), measured)
		},
	}, nil
}

// with returns the attributes of a measurement. The name outweighs one in attrs.
func with(name string, attrs []attribute.KeyValue, own ...attribute.KeyValue) metric.MeasurementOption {
	set := append(attrs[:len(attrs):len(attrs)], nameKey.String(name))
	return metric.WithAttributeSet(attribute.NewSet(append(set, own...)...))
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
