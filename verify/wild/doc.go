// Package wild has tests of bugs from public reports of other projects. Each is
// named after the report. If the mechanism that failed is small, the test
// reimplements it, shows that it fails, and then that condvar does not.
package wild
