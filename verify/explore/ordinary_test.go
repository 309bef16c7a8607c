//go:build !condvar_explore

package explore

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

// hookCalls are the calls of hooks, and two versions of the source without
// them. The first has nothing instead. The second has a call or an assignment
// without effect: the compiler then numbers its values differently, and where
// two instructions may come in either order, the number decides.
var hookCalls = []struct {
	with    string
	without [2]string
}{
	{"primitives.Bubble(p.probe.Inside())", [2]string{"p.probe.Inside()", "p.probe.Inside()"}},
	{"\tprimitives.Send(w.ch)\n", [2]string{"\n", "\t_ = w.ch\n"}},
	{"\tprimitives.Look(w.ch)\n", [2]string{"\n", "\t_ = w.ch\n"}},
	{"\tprimitives.Look(done)\n", [2]string{"\n", "\tfunc(<-chan struct{}) {}(done)\n"}},
	{"\ttoken, _ := primitives.Select(w.ch, nil)\n\t<-token\n", [2]string{"\t<-w.ch\n", "\t<-w.ch\n"}},
	{"\ttoken, done := primitives.Select(w.ch, w.done)\n", [2]string{
		"\tvar token, done <-chan struct{} = w.ch, w.done\n",
		"\ttoken, done := func(a, b <-chan struct{}) (_, _ <-chan struct{}) { return a, b }(w.ch, w.done)\n",
	}},
	{"\ttoken, done, late := primitives.TimedSelect(w.ch, w.done, w.timer.C)\n", [2]string{
		"\tvar token, done <-chan struct{} = w.ch, w.done\n\tlate := w.timer.C\n",
		"\ttoken, done, late := func(a, b <-chan struct{}, c <-chan time.Time) (_, _ <-chan struct{}, _ <-chan time.Time) {" +
			" return a, b, c }(w.ch, w.done, w.timer.C)\n",
	}},
}

// In ordinary builds the compiler generates the same instructions as without
// hooks, and inlines the methods of the atomics although their types are
// aliases.
func TestHooksCompileToNothing(t *testing.T) {
	dir := strings.TrimSpace(run(t, "", "list", "-m", "-f", "{{.Dir}}", "example.com/condvar"))
	files, err := filepath.Glob(filepath.Join(dir, "*.go"))
	require.NoError(t, err)
	var overlays [2]string
	for way := range overlays {
		tmp := t.TempDir()
		replace := map[string]string{}
		calls := make([]int, len(hookCalls))
		for _, file := range files {
			name := filepath.Base(file)
			if strings.HasSuffix(name, "_test.go") {
				continue
			}
			source, err := os.ReadFile(file)
			require.NoError(t, err)
			text := string(source)
			for i, c := range hookCalls {
				calls[i] += strings.Count(text, c.with)
				text = strings.ReplaceAll(text, c.with, c.without[way])
			}
			require.NotRegexp(t, `primitives\.[A-Z]\w*\(`, text, "a call that is not in hookCalls")
			if strings.Contains(text, `/internal/primitives"`) {
				text += "\nvar _ primitives.Mutex\n" // the import may have no other use
			}
			replace[file] = filepath.Join(tmp, name)
			require.NoError(t, os.WriteFile(replace[file], []byte(text), 0o666))
		}
		require.NotContains(t, calls, 0, "a call of hookCalls that is not in the source")
		overlay, err := json.Marshal(map[string]any{"Replace": replace})
		require.NoError(t, err)
		overlays[way] = filepath.Join(tmp, "overlay.json")
		require.NoError(t, os.WriteFile(overlays[way], overlay, 0o666))
	}
	for _, arch := range []string{"amd64", "arm64", "386"} {
		t.Run(arch, func(t *testing.T) {
			t.Setenv("GOARCH", arch)
			with := assembly(t, dir)
			without := assembly(t, dir, "-overlay", overlays[0])
			numbered := assembly(t, dir, "-overlay", overlays[1])
			require.Greater(t, len(with), 50)
			for name, code := range with {
				require.NotRegexp(t, `\b(CALL|BL)\s+sync/atomic\.\(`, code, "a method of primitives is not inlined")
				if without[name] != code && numbered[name] != code { // a line-by-line diff would take minutes
					t.Errorf("the code of %s with hooks:\n%s\nand without:\n%s", name, code, without[name])
				}
			}
		})
	}
}

// No scene has enough waiters for a broadcast to send tokens after it unlocks.
// With maxSentLocked = 0, it sends all tokens then, except those of Listeners.
func TestScenesWithTokensSentAfterUnlocking(t *testing.T) {
	dir := strings.TrimSpace(run(t, "", "list", "-m", "-f", "{{.Dir}}", "example.com/condvar"))
	source, err := os.ReadFile(filepath.Join(dir, "cond.go"))
	require.NoError(t, err)
	const bound = "const maxSentLocked = 1000\n"
	require.Contains(t, string(source), bound)
	tmp := t.TempDir()
	changed := filepath.Join(tmp, "cond.go")
	text := strings.Replace(string(source), bound, "const maxSentLocked = 0\n", 1)
	require.NoError(t, os.WriteFile(changed, []byte(text), 0o666))
	overlay, err := json.Marshal(map[string]any{"Replace": map[string]string{filepath.Join(dir, "cond.go"): changed}})
	require.NoError(t, err)
	file := filepath.Join(tmp, "overlay.json")
	require.NoError(t, os.WriteFile(file, overlay, 0o666))
	out := run(t, "", "test", "-count=1", "-tags", "condvar_explore", "-overlay", file, "-v",
		"-run", "TestScenes/(CondBroadcastAndPanickingP|CondNotifyAllL|CondPanickingUnlockR|CondWaiterR|CondPassed|ListenerStop|EventP)", ".")
	require.Greater(t, strings.Count(out, "--- PASS: TestScenes/"), 8, out)
}

// assembly compiles the package and returns the instructions of its functions,
// without positions and without the numbers of the compiler's own variables.
func assembly(t *testing.T, dir string, args ...string) map[string]string {
	t.Helper()
	out := run(t, dir, append([]string{"build", "-gcflags=-S", "-o", os.DevNull}, args...)...)
	function := regexp.MustCompile(`^(\S.*) STEXT .*`)
	instruction := regexp.MustCompile(`^\t0x[0-9a-f]+ \d+ \([^)]*\)\t(.*)`)
	number := regexp.MustCompile(`autotmp_\d+`)
	code := map[string]string{}
	name := ""
	for line := range strings.Lines(out) {
		if m := function.FindStringSubmatch(line); m != nil {
			name = m[1]
		} else if m := instruction.FindStringSubmatch(line); m != nil {
			code[name] += number.ReplaceAllString(m[1], "autotmp") + "\n"
		}
	}
	return code
}

// run runs the go command in dir and returns what it prints.
func run(t *testing.T, dir string, args ...string) string {
	t.Helper()
	cmd := exec.Command("go", args...)
	cmd.Dir = dir
	out, err := cmd.CombinedOutput()
	require.NoError(t, err, "%s", out)
	return string(out)
}
