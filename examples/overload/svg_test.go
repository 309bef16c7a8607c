package main

import (
	"bytes"
	"encoding/xml"
	"errors"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// made returns results in which the variants differ.
func made() []result {
	var results []result
	for _, load := range []int{50, shown, 300} {
		r := result{load: load}
		for i := range variants() {
			r.by = append(r.by, summary{goodput: float64(10 * i), p99: time.Duration(i+1) * 250 * time.Millisecond})
		}
		results = append(results, r)
	}
	return results
}

// texts checks that data is an SVG document, and returns its texts by the name
// of their element.
func texts(t *testing.T, data []byte) map[string][]string {
	t.Helper()
	found := make(map[string][]string)
	var open []string
	d := xml.NewDecoder(bytes.NewReader(data))
	for {
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
	require.Empty(t, open)
	return found
}

func TestThePictureIsASelfContainedSVG(t *testing.T) {
	data := picture(made())
	found := texts(t, data)
	require.Equal(t, []string{"Requests answered in time, and latency, against load"}, found["title"])
	require.Equal(t, []string{"Two plots against the load, from 50 to 300 % of what can be served. " +
		"At 150 % the work for requests answered before the client left, of what could be done: " +
		"no bound 0 %, FIFO() 10 %, MaxWaiting(50) 20 %, MaxWait(500ms) 30 % and x/sync/semaphore 40 %. " +
		"The latency of those served, 99th percentile: " +
		"no bound 0.25 s, FIFO() 0.50 s, MaxWaiting(50) 0.75 s, MaxWait(500ms) 1.00 s and x/sync/semaphore 1.25 s. " +
		"A client leaves after 1 s."}, found["desc"])
	for _, name := range []string{"no bound", "FIFO()", "MaxWaiting(50)", "MaxWait(500ms)", "x/sync/semaphore"} {
		require.Contains(t, found["text"], name)
	}
	require.Contains(t, found["style"][0], "prefers-color-scheme: dark")
	require.NotContains(t, string(data), "href", "it has no external references")
	require.NotContains(t, string(data), "NaN")
}

func TestEachVariantHasALineInEachPlotAndInTheLegend(t *testing.T) {
	data := string(picture(made()))
	for i, class := range []string{"v0", "v1", "v2", "v3", "v4"} {
		require.Equal(t, 3, strings.Count(data, `<path class="line `+class+`"`), variants()[i].name)
	}
	// From 20 % of the goodput, at 50, 150 and 300 %.
	require.Contains(t, data, `<path class="line v2" d="M56.0 156.0L219.2 156.0L464.0 156.0"/>`)
}

func TestThePictureEscapesText(t *testing.T) {
	require.Equal(t, "a &lt; b &amp; c", escape("a < b & c"))
}
