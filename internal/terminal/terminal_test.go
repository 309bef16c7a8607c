package terminal

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

type environment map[string]string

func (e environment) get(name string) string { return e[name] }

func TestColorsAreForTerminalsWithoutNO_COLOR(t *testing.T) {
	// A character device is the closest thing to a terminal in a test.
	null, err := os.OpenFile(os.DevNull, os.O_WRONLY, 0)
	require.NoError(t, err)
	defer null.Close()
	file, err := os.Create(filepath.Join(t.TempDir(), "out"))
	require.NoError(t, err)
	defer file.Close()

	require.True(t, HasColor(null, environment{"TERM": "xterm"}.get))
	require.True(t, HasColor(null, environment{"NO_COLOR": ""}.get))
	require.False(t, HasColor(null, environment{"NO_COLOR": "1"}.get))
	require.False(t, HasColor(null, environment{"TERM": "dumb"}.get))
	require.False(t, HasColor(file, environment{}.get))
	require.False(t, HasColor(&bytes.Buffer{}, environment{}.get))
}

func TestTheWidthComesFromCOLUMNS(t *testing.T) {
	for value, want := range map[string]int{"": 72, "x": 72, "100": 100, "-5": 40, "3": 40, "100000": 240} {
		require.Equal(t, want, Columns(environment{"COLUMNS": value}.get), "COLUMNS=%q", value)
	}
}

func TestAPictureIsWrittenWhereAFileCanBe(t *testing.T) {
	dir := t.TempDir()
	require.NoError(t, CheckWritable(""))
	require.NoError(t, CheckWritable(filepath.Join(dir, "picture.svg")))
	require.ErrorContains(t, CheckWritable(filepath.Join(dir, "no", "picture.svg")), "cannot write the picture: ")
}

func TestTicksAreRound(t *testing.T) {
	require.Equal(t, 10*time.Microsecond, Tick(47*time.Microsecond, 1, 5))
	require.Equal(t, 20*time.Microsecond, Tick(51*time.Microsecond, 1, 5))
	require.Equal(t, time.Nanosecond, Tick(0, 1, 5))
	require.Equal(t, 50*time.Second, Tick(4*time.Minute, 1, 5))
	require.Equal(t, time.Second, Tick(2*time.Second, time.Second, 5))
}

func TestAnAxisHasTheLabelsThatFit(t *testing.T) {
	require.Equal(t, "|0  |5s", Axis(10*time.Second, 5*time.Second, 8))
	require.Equal(t, "|0", Axis(10*time.Second, 9*time.Second, 8))
}

func TestARowIsPaintedInRunsWithoutTrailingBlanks(t *testing.T) {
	row := Row([]int{1, 2, 12, 0}, true, func(n int) (rune, Style) {
		switch n {
		case 0:
			return ' ', Plain
		case 1:
			return Digit(n), Plain
		}
		return Digit(n), Red
	})
	require.Equal(t, "1\x1b[1;31m2+\x1b[0m", row)
}
