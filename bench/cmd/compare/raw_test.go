package main

import (
	"os"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"example.com/condvar/bench/load"
)

func TestRawIsReadAsItWasWritten(t *testing.T) {
	many, few := subject{"W/a=1", load.OursFIFO, 2}, subject{"W/a=1/lines=2", "x", 1}
	s := samples{[]subject{many, few}, map[subject]*sample{
		many: {n: 12, figures: []map[string]float64{
			{perOp: 1.5, load.P999: 2e9, allocs: 0}, {perOp: 0.25, load.P999: 123456, allocs: 1},
		}},
		// In fewer rounds.
		few: {n: 1, figures: []map[string]float64{{perOp: 4, load.PerWaiter: 2.5}}},
	}}
	var raw strings.Builder
	s.writeRaw(&raw)
	read, err := readRaw(strings.NewReader("goos: linux\n\n" + raw.String()))
	require.NoError(t, err)
	require.Equal(t, s, read)
}

func TestRawFileIsWrittenAsItWasRead(t *testing.T) {
	data, err := os.ReadFile("../../results/raw.txt")
	require.NoError(t, err)
	s, err := readRaw(strings.NewReader(string(data)))
	require.NoError(t, err)
	var raw strings.Builder
	s.writeRaw(&raw)
	at := strings.Index(string(data), rawPrefix)
	require.Positive(t, at)
	require.True(t, string(data[at:]) == raw.String()) // a diff would be long
}

func TestRawWithErrors(t *testing.T) {
	for _, line := range []string{
		"W-2\t1\t5 ns/op",        // no implementation
		"a-b/impl=x\t1\t5 ns/op", // no GOMAXPROCS
		"W/impl=x-2",             // no operations
		"W/impl=x-y\t1\t5 ns/op",
		"W/impl=x-2\tone\t5 ns/op",
		"W/impl=x-2\t1\tfive ns/op",
	} {
		_, err := readRaw(strings.NewReader("\n" + rawPrefix + line + "\n"))
		require.ErrorContains(t, err, "line 2: ", line)
	}
}
