//go:build !race

package etcdcondvar_test

const raced = false
