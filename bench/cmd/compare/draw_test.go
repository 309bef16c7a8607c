package main

import (
	"bytes"
	"encoding/xml"
	"errors"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"example.com/condvar/bench/load"
)

// committed returns the samples of the last complete run.
func committed(t *testing.T) samples {
	t.Helper()
	raw, err := os.Open("../../results/raw.txt")
	require.NoError(t, err)
	defer raw.Close()
	s, err := readRaw(raw)
	require.NoError(t, err)
	return s
}

// texts checks that data is an SVG document of its own, and returns its texts
// by the name of their element.
func texts(t *testing.T, data []byte) map[string][]string {
	t.Helper()
	found := make(map[string][]string)
	var open []string
	for d := xml.NewDecoder(bytes.NewReader(data)); ; {
		token, err := d.Token()
		if errors.Is(err, io.EOF) {
			break
		}
		require.NoError(t, err)
		switch token := token.(type) {
		case xml.StartElement:
			if len(open) == 0 {
				require.Equal(t, xml.Name{Space: "http://www.w3.org/2000/svg", Local: "svg"}, token.Name)
			}
			open = append(open, token.Name.Local)
		case xml.EndElement:
			open = open[:len(open)-1]
		case xml.CharData:
			if len(open) > 0 {
				name := open[len(open)-1]
				found[name] = append(found[name], string(token))
			}
		}
	}
	require.Len(t, found["title"], 1)
	require.Len(t, found["desc"], 1)
	require.Contains(t, found["style"][0], "prefers-color-scheme: dark")
	require.NotContains(t, string(data), "href") // no external references
	require.NotContains(t, string(data), "NaN")
	require.NotContains(t, string(data), "Inf")
	return found
}

func TestPicturesAreThoseOfTheRawFigures(t *testing.T) {
	files := pictures(committed(t), load.Workloads(), 2)
	require.Len(t, files, 3)
	for name, svg := range files {
		texts(t, svg)
		file, err := os.ReadFile(filepath.Join("../../results", name))
		require.NoError(t, err)
		require.True(t, bytes.Equal(file, svg), "%s is out of date: go run ./cmd/compare -draw", name)
	}
}

func TestDrawReadsTheRawFigures(t *testing.T) {
	dir := t.TempDir()
	require.ErrorIs(t, draw(dir, 1), os.ErrNotExist)
	raw := filepath.Join(dir, "raw.txt")
	require.NoError(t, os.WriteFile(raw, []byte(rawPrefix+"Uncontended/impl=condvar\n"), 0o600))
	require.ErrorContains(t, draw(dir, 1), raw+": line 1: ")
	require.NoError(t, os.WriteFile(raw, []byte(
		rawPrefix+"Uncontended/impl=condvar-1\t1\t5 ns/op\n"+rawPrefix+"Uncontended/impl=xsync-1\t1\t20 ns/op\n"), 0o600))
	require.NoError(t, draw(dir, 1))
	for _, name := range []string{"costs.svg", "ratios.svg"} {
		svg, err := os.ReadFile(filepath.Join(dir, name))
		require.NoError(t, err)
		require.Contains(t, string(svg), "0.25")
	}
	require.NoFileExists(t, filepath.Join(dir, "waits.svg"))
	require.Empty(t, pictures(samples{}, load.Workloads(), 1))
}

// The table of the README, line by line, and the picture below it.
func TestCostsAreThoseOfTheREADME(t *testing.T) {
	readme, err := os.ReadFile("../../../README.md")
	require.NoError(t, err)
	_, table, found := strings.Cut(string(readme), "| per operation | condvar | rival | ratio |\n")
	require.True(t, found)
	table, _, _ = strings.Cut(table, "\n\n")
	var want []string
	for _, m := range regexp.MustCompile(`(?m)\| ([0-9.]+) \|$`).FindAllStringSubmatch(table, -1) {
		want = append(want, m[1])
	}
	var drawn []string
	for _, r := range costs(committed(t), 2) {
		drawn = append(drawn, ratioText(r.ratio))
	}
	require.Len(t, drawn, 10)
	require.Equal(t, want, drawn)
}

func TestCostsHaveABarFromOneToTheRatio(t *testing.T) {
	svg := costChart([]row{{label: "a", rival: "r", ratio: 0.25}, {label: "b & c", rival: "r", ratio: 4}})
	found := texts(t, svg)
	require.Equal(t, []string{
		"Horizontal bars on a logarithmic axis. A ratio above 1 means that condvar is slower: a, 0.25 (r); b & c, 4.0 (r).",
	}, found["desc"])
	require.Subset(t, found["text"], []string{"a", "b & c", "0.25", "4.0", "r", "1/8", "8"})
	// From 1/8 to 8 there are 448 pixels, so from 1/4 to 1 and from 1 to 4
	// there are 149.
	require.Contains(t, string(svg), `<rect class="gain" x="90.7" y="98.0" width="149.3"`)
	require.Contains(t, string(svg), `<rect class="loss" x="240.0" y="137.0" width="149.3"`)
	// The number is at the end of its bar.
	require.Contains(t, string(svg), `<text class="end" x="85.7" y="108.0">0.25</text>`)
	require.Contains(t, string(svg), `<text class="" x="394.3" y="147.0">4.0</text>`)
	// No line of the grid crosses it.
	require.Equal(t, 2, strings.Count(string(svg), `class="grid" d="M165.3 `))
	require.Equal(t, 1, strings.Count(string(svg), `class="grid" d="M90.7 `))
	require.Equal(t, 1, strings.Count(string(svg), `class="grid" d="M389.3 `))
	require.Equal(t, 2, strings.Count(string(svg), `class="one"`))
}

func TestRatiosHaveABarForEachWorkloadThatHasARival(t *testing.T) {
	s := committed(t)
	rows := allRatios(s, load.Workloads(), 2)
	var want, got []string
	for _, w := range load.Workloads() {
		if slices.ContainsFunc(w.Subjects, func(s load.Subject) bool { return s.Impl != load.Ours && s.Impl != load.OursFIFO }) {
			want = append(want, w.Name)
		}
	}
	for _, r := range rows {
		got = append(got, r.label)
	}
	require.Equal(t, want, got)

	svg := ratioChart([]row{{label: "a", rival: "r", ratio: 0.5, others: []float64{2, 0.25}}, {label: "b", rival: "r", ratio: 1.03}}, 2)
	found := texts(t, svg)
	require.Contains(t, found["desc"][0], "each of 2 workloads")
	require.Contains(t, found["desc"][0], "as it is in 1 workloads")
	require.Subset(t, found["text"], []string{"a", "b", "r 0.50", "r 1.03"})
	require.Equal(t, 1, strings.Count(string(svg), `<rect class="gain"`))
	require.Equal(t, 1, strings.Count(string(svg), `<rect class="loss"`))
	require.Equal(t, 2, strings.Count(string(svg), `<circle class="other"`))
	// The axis is from 1/8 to 4, 89.6 pixels for a power of two.
	require.Contains(t, string(svg), `<circle class="other" cx="374.4"`)
	require.Contains(t, string(svg), `<circle class="other" cx="105.6"`)
}

func TestWaitsHaveALineOfEachInEachPlot(t *testing.T) {
	s := committed(t)
	svg := drawWaits(s, 2)
	found := texts(t, svg)
	// One of each is in the legend.
	for _, class := range []string{"xsync", "fifo", "ours"} {
		require.Equal(t, 5, strings.Count(string(svg), `<path class="line `+class+`"`))
	}
	require.Subset(t, found["text"], []string{"p50", "p99.9", "x/sync/semaphore", "condvar, FIFO()", "condvar"})
	require.Contains(t, found["desc"][0], "held for 1 ms, asleep, capacity 2, 16 goroutines, x/sync/semaphore: 16.9 ms, 18.8 ms, 18.9 ms, 18.9 ms;")
	delete(s.of, subject{"HandOff/capacity=2", "xsync", 2})
	require.Nil(t, drawWaits(s, 2))
}

func TestTimeTicks(t *testing.T) {
	for _, test := range []struct {
		least, most float64
		want        []float64
	}{
		{40, 12e6, []float64{10, 100, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8}},
		{10, 10_000, []float64{10, 100, 1000, 10_000}}, // on a tick
		{16.8e6, 19.6e6, []float64{10e6, 20e6}},
		{3.9e6, 11.4e6, []float64{2e6, 5e6, 10e6, 20e6}},
		{5, 5, []float64{5, 10}},
		{1, 1, []float64{1, 2}},
	} {
		require.InDeltaSlice(t, test.want, timeTicks(test.least, test.most), 1e-6*test.most)
	}
}

func TestRatioTextIsThatOfTheTables(t *testing.T) {
	for ratio, want := range map[float64]string{0.0889: "0.09", 0.496: "0.50", 1.168: "1.17", 1.949: "1.95", 1.96: "2.0", 2.31: "2.3", 12: "12.0"} {
		require.Equal(t, want, ratioText(ratio))
	}
}
