// Package promtest tests the dashboard and the alert rules of promcondvar with
// the parsers and the query engine of Prometheus. It is a module of its own, so
// that those who import promcondvar do not depend on Prometheus.
package promtest
