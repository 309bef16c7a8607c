//go:build race

package etcdcondvar_test

// raced reports whether the race detector is on, which makes tests slower.
const raced = true
