// Package oteltest tests otelcondvar together with promcondvar, OpenTelemetry's
// Prometheus exporter and the parser of Prometheus. It is a module of its own,
// so that those who import otelcondvar do not depend on these.
package oteltest
