// Package oteltest tests otelcondvar together with promcondvar, OpenTelemetry's
// Prometheus exporter and the parser of Prometheus. It is a separate module, so
// that importers of otelcondvar do not depend on these.
package oteltest
