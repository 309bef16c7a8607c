package otelcondvar_test

import (
	"context"
	"runtime"
	"strconv"
	"testing"
	"time"

	"go.opentelemetry.io/otel/sdk/metric/metricdata"

	"example.com/condvar"
	"example.com/condvar/otelcondvar"
)

// The cost of a collection, with a name for each resource and with one name for
// all.
func BenchmarkCollect(b *testing.B) {
	for name, of := range map[string]func(i int) string{
		"own": strconv.Itoa,
		"one": func(int) string { return "db" },
	} {
		b.Run("resources=1000/names="+name, func(b *testing.B) {
			metrics, reader := newObserver(otelcondvar.Opts{})
			resources := make([]*condvar.CapacityResource, 1000)
			for i := range resources {
				resources[i] = condvar.NewCapacityResource(1, metrics.Watch(of(i)))
			}
			var collected metricdata.ResourceMetrics
			b.ReportAllocs()
			for b.Loop() {
				if err := reader.Collect(b.Context(), &collected); err != nil {
					b.Fatal(err)
				}
			}
			runtime.KeepAlive(resources)
		})
	}
}

// The cost of the hooks for a call that waited.
func BenchmarkWaitDone(b *testing.B) {
	for end, err := range map[string]error{"acquired": nil, "canceled": context.Canceled} {
		b.Run("end="+end, func(b *testing.B) {
			metrics, _ := newObserver(otelcondvar.Opts{})
			hooks := metrics.Hooks("db")
			b.ReportAllocs()
			for b.Loop() {
				hooks.WaitDone(context.Background(), 1, time.Millisecond, err)
			}
		})
	}
}
