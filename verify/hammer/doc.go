// Package hammer has tests with real goroutines, at several values of
// GOMAXPROCS, and tests of the memory that is kept after many waits. It has
// tests only. CONDVAR_HAMMER is how long each of some thirty cases lasts:
//
//	CONDVAR_HAMMER=1m go test -race -timeout 0 ./hammer
package hammer
