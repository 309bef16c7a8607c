package main

import (
	"bytes"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"example.com/condvar/internal/terminal"
)

// crowded returns a round of three workers on one slot. From 30 to 40 two
// workers hold it, and for one nanosecond all three do.
func crowded() *trace {
	return &trace{round: 7, slots: 1, laps: [][]lap{
		{{0, 0, 20}, {24, 30, 50}},
		{{0, 20, 40}},
		{{5, 39, 40}, {60, 70, 80}},
	}}
}

func TestTheTimelineShowsWhoWaitsAndWhoHolds(t *testing.T) {
	var out bytes.Buffer
	crowded().draw(&out, 10+40, false)
	require.Equal(t, strings.TrimPrefix(`
worker 1  ██████████  ░░░██████████
worker 2  ░░░░░░░░░░██████████
worker 3     ░░░░░░░░░░░░░░░░█          ░░░░░█████
holders   1111111111111112222311111000000000011111
too many                 ^^^^^
          |0        |20ns     |40ns     |60ns
`, "\n"), out.String())
}

func TestTheTimelineInColorMarksWhatIsTooMuch(t *testing.T) {
	var out bytes.Buffer
	crowded().draw(&out, 10+40, true)
	lines := strings.Split(out.String(), "\n")
	require.Equal(t, "worker 2  \x1b[2m░░░░░░░░░░\x1b[0m\x1b[32m█████\x1b[0m\x1b[1;31m█████\x1b[0m", lines[1])
	require.Equal(t, "holders   111111111111111\x1b[1;31m22223\x1b[0m11111000000000011111", lines[3])
	require.Equal(t, "too many                 \x1b[1;31m^^^^^\x1b[0m", lines[4])
}

func TestTheTimelineWithoutExcessHasNoRowForIt(t *testing.T) {
	var out bytes.Buffer
	fine := &trace{slots: 2, laps: [][]lap{{{0, 0, 20}}, {{0, 10, 20}}}}
	fine.draw(&out, 40, true)
	require.NotContains(t, out.String(), "too many")
	require.NotContains(t, out.String(), string(terminal.Red))
}

func TestExcessBetweenTwoColumnsIsNotLost(t *testing.T) {
	var out bytes.Buffer
	brief := &trace{slots: 1, laps: [][]lap{{{0, 0, 511}}, {{0, 510, 1000}}}}
	brief.draw(&out, 10+30, false)
	require.Contains(t, out.String(), "holders   111111111111111211111111111111\n")
}

func TestMoreThanNineHoldersAreAPlus(t *testing.T) {
	var out bytes.Buffer
	many := &trace{slots: 2, laps: make([][]lap, 12)}
	for i := range many.laps {
		many.laps[i] = []lap{{0, 0, time.Microsecond}}
	}
	many.draw(&out, 40, false)
	require.Contains(t, out.String(), "worker 9   █")
	require.Contains(t, out.String(), "worker 12  █")
	require.Contains(t, out.String(), "holders    +++")
}

func TestARoundThatTookNoTimeCanBeDrawn(t *testing.T) {
	for _, laps := range [][][]lap{{{}}, {{{0, 0, 0}}}, {{{0, 0, 1}}}} {
		var out bytes.Buffer
		(&trace{slots: 1, laps: laps}).draw(&out, 40, false)
		require.Contains(t, out.String(), "holders")
	}
}

func TestARoundIsOverCapacityFromTheFirstTooManyToTheLast(t *testing.T) {
	require.Equal(t, []span{{30, 40}}, crowded().over())
	require.Equal(t, 10.0/80, crowded().shareOver())
	require.Equal(t, []step{{0, 1}, {20, 1}, {30, 2}, {39, 3}, {40, 1}, {50, 0}, {70, 1}, {80, 0}}, crowded().steps())
}

func TestAHandOverIsNoOverlap(t *testing.T) {
	handOver := &trace{slots: 1, laps: [][]lap{{{0, 10, 20}}, {{0, 0, 10}}}}
	require.Empty(t, handOver.over())
}
