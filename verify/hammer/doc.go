// Package hammer has tests with real goroutines, at several values of
// GOMAXPROCS, and tests of the memory that is kept after many waits. It
// contains only tests. CONDVAR_HAMMER is the duration of each of about thirty
// cases:
//
//	CONDVAR_HAMMER=1m go test -race -timeout 0 ./hammer
package hammer
