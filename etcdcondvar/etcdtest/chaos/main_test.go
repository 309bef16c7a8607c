package main

import (
	"bytes"
	"os"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"example.com/condvar/etcdcondvar/etcdtest"
)

func TestMain(m *testing.M) {
	etcdtest.RunChild()
	os.Exit(m.Run())
}

// Test 49, short form. The command is the long form.
func TestChaos(t *testing.T) {
	var out bytes.Buffer
	ok := run(config{duration: 20 * time.Second, ttl: 2 * time.Second, workers: 6, seed: uint64(time.Now().UnixNano())}, &out)
	t.Log(out.String())
	require.True(t, ok)
}
