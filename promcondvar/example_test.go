package promcondvar_test

import (
	"context"
	"fmt"
	"net/http/httptest"
	"strings"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"example.com/condvar"
	"example.com/condvar/promcondvar"
)

func Example() {
	collector := promcondvar.New(promcondvar.Opts{})
	connections := condvar.NewCapacityResource(10, collector.Watch("db"))

	registry := prometheus.NewRegistry()
	registry.MustRegister(collector)
	// For http.Handle("/metrics", handler).
	handler := promhttp.HandlerFor(registry, promhttp.HandlerOpts{})

	_ = connections.DoN(context.Background(), 3, func(context.Context) error {
		scrape := httptest.NewRecorder()
		handler.ServeHTTP(scrape, httptest.NewRequest("GET", "/metrics", nil))
		for line := range strings.Lines(scrape.Body.String()) {
			if strings.HasPrefix(line, "condvar_resource_in_use") || strings.HasPrefix(line, "condvar_resource_capacity") {
				fmt.Print(line)
			}
		}
		return nil
	})
	// Output:
	// condvar_resource_capacity_permits{resource="db"} 10
	// condvar_resource_in_use_permits{resource="db"} 3
}
