package main

import (
	"bytes"
	"encoding/xml"
	"errors"
	"io"
	"regexp"
	"strconv"
	"testing"

	"github.com/stretchr/testify/require"
)

// requireWellFormed checks that data is an SVG document, and returns its texts
// by the name of their element.
func requireWellFormed(t *testing.T, data []byte) map[string][]string {
	t.Helper()
	texts := make(map[string][]string)
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
				texts[name] = append(texts[name], string(token))
			}
		}
	}
	return texts
}

func TestThePictureIsASelfContainedSVG(t *testing.T) {
	event := result{title: "Event", rounds: 1000, over: 20, peak: 3, shown: crowded()}
	capacity := result{title: "CapacityResource", rounds: 1000, peak: 1,
		shown: &trace{round: 1000, slots: 1, laps: [][]lap{{{0, 0, 40}}, {{0, 40, 100}}, {}}}}
	data := picture(event, capacity)
	texts := requireWellFormed(t, data)

	require.Equal(t, []string{"3 workers compete for 1 slot"}, texts["title"])
	require.Equal(t, []string{"Two timelines, one row for each worker, with the number of holders below. " +
		"Event: over capacity in 2.00 % of 1,000 rounds, up to 3 holders. " +
		"CapacityResource: never over capacity in 1,000 rounds, up to 1 holder."}, texts["desc"])
	for _, line := range []string{
		"Over capacity in 2.00 % of 1,000 rounds, up to 3 holders.", "Shown: round 7, the worst.",
		"Never over capacity in 1,000 rounds, up to 1 holder.", "Shown: round 1,000, the last.",
	} {
		require.Contains(t, texts["text"], line)
	}
	require.Contains(t, texts["text"], "worker 3")
	require.Contains(t, string(data), `<rect class="band"`)
	require.Contains(t, texts["style"][0], "prefers-color-scheme: dark")
	require.NotContains(t, string(data), "href", "it refers to nothing outside")
}

func TestThePictureOfAGoodRoundHasNoRed(t *testing.T) {
	c := &canvas{end: 100}
	c.panel(result{title: "fine", rounds: 1, peak: 1, shown: &trace{round: 1, slots: 1, laps: [][]lap{{{0, 0, 40}}, {{0, 40, 100}}}}})
	require.Contains(t, c.b.String(), `<rect class="holds"`)
	require.NotContains(t, c.b.String(), `<rect class="over"`)
	require.NotContains(t, c.b.String(), `<rect class="band"`)
}

func TestThePictureEscapesText(t *testing.T) {
	r := result{title: `a < b & "c"`, rounds: 1, shown: crowded()}
	texts := requireWellFormed(t, picture(r, r))
	require.Contains(t, texts["text"], `a < b & "c"`)
}

func TestARoundThatTookNoTimeHasAPicture(t *testing.T) {
	r := result{title: "quick", rounds: 1, shown: &trace{slots: 1, laps: [][]lap{{}}}}
	data := picture(r, r)
	requireWellFormed(t, data)
	require.NotContains(t, string(data), "NaN")
}

func TestTheLegendStaysInThePicture(t *testing.T) {
	c := &canvas{}
	c.legend()
	at := regexp.MustCompile(`<text class="soft" x="([0-9.]+)" y="([0-9.]+)">([^<]+)`).FindAllStringSubmatch(c.b.String(), -1)
	require.Len(t, at, 3)
	for _, m := range at {
		x, err := strconv.ParseFloat(m[1], 64)
		require.NoError(t, err)
		require.Less(t, x+7.5*float64(len(m[3])), float64(width), m[3])
	}
	require.Equal(t, at[0][2], at[1][2])
	require.NotEqual(t, at[1][2], at[2][2], "it does not fit into one line")
}
