package otelcondvar_test

import (
	"context"
	"fmt"

	sdkmetric "go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"

	"example.com/condvar"
	"example.com/condvar/otelcondvar"
)

func Example() {
	// In a program, use a PeriodicReader with an exporter.
	reader := sdkmetric.NewManualReader()
	provider := sdkmetric.NewMeterProvider(sdkmetric.WithReader(reader))

	metrics := otelcondvar.New(otelcondvar.Opts{MeterProvider: provider})
	db := condvar.NewCapacityResource(10, metrics.Watch("db"))

	_ = db.DoN(context.Background(), 3, func(ctx context.Context) error {
		var collected metricdata.ResourceMetrics
		if err := reader.Collect(ctx, &collected); err != nil {
			return err
		}
		for _, m := range collected.ScopeMetrics[0].Metrics {
			if sum, ok := m.Data.(metricdata.Sum[float64]); ok && m.Name == "condvar.resource.permit.max" {
				fmt.Println(m.Name, sum.DataPoints[0].Value)
			}
		}
		return nil
	})
	// Output: condvar.resource.permit.max 10
}
