//go:build unix

package main

import (
	"bufio"
	"bytes"
	"net/http"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"
)

// build builds the command, and returns its path.
func build(t *testing.T) string {
	path := filepath.Join(t.TempDir(), "service")
	out, err := exec.Command("go", "build", "-trimpath", "-o", path, ".").CombinedOutput()
	require.NoError(t, err, "%s", out)
	return path
}

// A process is a running command.
type process struct {
	cmd           *exec.Cmd
	stderr        bytes.Buffer
	public, debug string // its addresses: http://host:port
}

// startProcess starts the command on free ports. It serves when startProcess
// returns, and is killed at the end of the test.
func startProcess(t *testing.T, path string) *process {
	p := &process{cmd: exec.Command(path, "-addr", "localhost:0", "-debug", "localhost:0")}
	p.cmd.Stderr = &p.stderr
	stdout, err := p.cmd.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, p.cmd.Start())
	t.Cleanup(func() {
		p.cmd.Process.Kill()
		p.cmd.Wait()
	})
	urls := regexp.MustCompile(`^(http://[^/]+)(/\S*)`)
	for lines := bufio.NewScanner(stdout); lines.Scan(); {
		match := urls.FindStringSubmatch(lines.Text())
		require.NotNil(t, match, "%q does not say what to open", lines.Text())
		switch match[2] {
		case "/work":
			p.public = match[1]
		case "/metrics": // the last line
			p.debug = match[1]
			return p
		}
	}
	require.FailNow(t, "it ended", p.stderr.String())
	return nil
}

func TestTheCommandServesUntilItIsTerminatedAndDrains(t *testing.T) {
	p := startProcess(t, build(t))
	require.Equal(t, "ok\n", fetch(http.DefaultClient, p.public+"/work"))
	require.Equal(t, "ok\n", fetch(http.DefaultClient, p.public+"/report"))
	require.Equal(t, "ok\n", fetch(http.DefaultClient, p.public+"/leak"))
	for path, want := range map[string]string{
		"/debug/condvar":                       `&#34;db&#34;</h2>`,
		"/debug/vars":                          `"db": {"Capacity":4,"InUse":1,`,
		"/debug/pprof/":                        "condvar_holders",
		"/debug/pprof/condvar_holders?debug=1": "main.(*service).leak",
		"/metrics":                             `condvar_resource_in_use_permits{resource="db"} 1`,
	} {
		require.Contains(t, fetch(http.DefaultClient, p.debug+path), want)
		require.Equal(t, "404 page not found\n", fetch(http.DefaultClient, p.public+path), "not for the public")
	}
	require.Equal(t, "gave back 1\n", fetch(http.DefaultClient, p.public+"/heal"))

	require.NoError(t, p.cmd.Process.Signal(syscall.SIGTERM))
	require.NoError(t, p.cmd.Wait(), "the exit status is 0; standard error: %s", &p.stderr)
	require.Equal(t, 1, strings.Count(p.stderr.String(), "msg=drained"))
}
