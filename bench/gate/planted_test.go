//go:build !condvar_explore

package gate

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// The gate in a build that can count operations: it passes for the code as it
// is, and fails for each regression in testdata.
func TestGate(t *testing.T) {
	t.Run("as it is", func(t *testing.T) {
		out, err := runGate(nil)
		require.NoError(t, err, out)
	})
	patches, err := filepath.Glob("testdata/*.patch")
	require.NoError(t, err)
	require.NotEmpty(t, patches)
	for _, file := range patches {
		t.Run(filepath.Base(file), func(t *testing.T) {
			text, err := os.ReadFile(file)
			require.NoError(t, err)
			killers := regexp.MustCompile(`(?m)^Killed-by: (.+)$`).FindStringSubmatch(string(text))
			require.NotNil(t, killers)
			out, err := runGate([]string{"-overlay", overlay(t, string(text))})
			require.Error(t, err, out)
			for killer := range strings.SplitSeq(killers[1], ", ") {
				require.Contains(t, out, "--- FAIL: "+killer+" ")
			}
		})
	}
}

func runGate(flags []string) (string, error) {
	args := append([]string{"test", "-tags", "condvar_explore", "-count=1", "-timeout=2m"}, flags...)
	out, err := exec.Command("go", append(args, ".")...).CombinedOutput()
	return string(out), err
}

// overlay applies a patch to copies of the files of the root package, and
// returns the file for the flag -overlay. The hunks have no line numbers. The
// old text of each must exist exactly once.
func overlay(t *testing.T, patch string) string {
	dir, replace := t.TempDir(), map[string]string{}
	for _, file := range regexp.MustCompile(`(?m)^--- a/`).Split(patch, -1)[1:] {
		hunks := strings.Split(file, "\n@@\n")
		name, _, _ := strings.Cut(hunks[0], "\n")
		source, err := filepath.Abs(filepath.Join("..", "..", name))
		require.NoError(t, err)
		code, err := os.ReadFile(source)
		require.NoError(t, err)
		text := string(code)
		for _, hunk := range hunks[1:] {
			var before, after strings.Builder
			for line := range strings.Lines(strings.TrimSuffix(hunk, "\n") + "\n") {
				if line[0] != '+' {
					before.WriteString(line[1:])
				}
				if line[0] != '-' {
					after.WriteString(line[1:])
				}
			}
			require.Equal(t, 1, strings.Count(text, before.String()), "%s: %s", name, hunk)
			text = strings.Replace(text, before.String(), after.String(), 1)
		}
		replace[source] = filepath.Join(dir, name)
		require.NoError(t, os.WriteFile(replace[source], []byte(text), 0o644))
	}
	file, err := json.Marshal(map[string]any{"Replace": replace})
	require.NoError(t, err)
	path := filepath.Join(dir, "overlay.json")
	require.NoError(t, os.WriteFile(path, file, 0o644))
	return path
}
