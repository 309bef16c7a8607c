// Package promtest tests the dashboard and the alert rules of promcondvar with
// the parsers and the query engine of Prometheus. It is a separate module, so
// that importers of promcondvar do not depend on Prometheus.
package promtest
