//go:build race

package etcdcondvar_test

// raced says that the race detector is on, which makes all slower.
const raced = true
