//go:build unix

package main

import (
	"bytes"
	"context"
	"encoding/xml"
	"flag"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	clientv3 "go.etcd.io/etcd/client/v3"
)

// mainEnv makes the test binary run the program with these arguments.
const mainEnv = "CONDVAR_FLEET_MAIN"

func TestMain(m *testing.M) {
	_, isMain := os.LookupEnv(mainEnv)
	if isMain || os.Getenv(workerEnv) != "" {
		os.Args = append(os.Args[:1], strings.Fields(os.Getenv(mainEnv))...)
		main()
	}
	flag.Parse()
	_ = flag.Set("test.parallel", "10") // most tests wait
	os.Exit(m.Run())
}

// An environment has the environment variables of a run.
type environment map[string]string

func (e environment) get(name string) string { return e[name] }

// newEnvironment returns an environment with a temporary folder of its own. The
// test fails if the folder is not empty at the end.
func newEnvironment(t *testing.T, more environment) environment {
	dir := t.TempDir()
	t.Cleanup(func() {
		left, err := os.ReadDir(dir)
		require.NoError(t, err)
		assert.Empty(t, left)
	})
	e := environment{"TMPDIR": dir}
	for name, value := range more {
		e[name] = value
	}
	return e
}

func TestRun_keepsItsPromises(t *testing.T) {
	t.Parallel()
	env := newEnvironment(t, environment{"COLUMNS": "50"})
	svg := filepath.Join(t.TempDir(), "fleet.svg")
	var out, errs bytes.Buffer
	start := time.Now()
	status := run(t.Context(), []string{"-svg", svg}, &out, &errs, env.get)
	require.Equal(t, 0, status, "%s%s", out.String(), errs.String())
	require.Empty(t, errs.String())
	require.Less(t, time.Since(start), 25*time.Second)
	require.NotContains(t, out.String(), "BROKEN")
	require.NotContains(t, out.String(), "\x1b", "no color without a terminal")
	for _, part := range []string{"worker 1", "worker 5", "in use", "▒", "░", "█", "kept    all permits are free at the end"} {
		require.Contains(t, out.String(), part)
	}
	for line := range strings.Lines(out.String()) {
		if strings.HasPrefix(line, "worker") || strings.HasPrefix(line, "in use") {
			require.LessOrEqual(t, utf8.RuneCountInString(strings.TrimSpace(line)), 50)
		}
	}
	requireXML(t, svg)
}

func requireXML(t *testing.T, path string) {
	t.Helper()
	data, err := os.ReadFile(path)
	require.NoError(t, err)
	require.Contains(t, string(data), "<svg")
	for d := xml.NewDecoder(bytes.NewReader(data)); ; {
		_, err := d.Token()
		if err == io.EOF {
			return
		}
		require.NoError(t, err)
	}
}

func TestRun_findsPlantedBugs(t *testing.T) {
	t.Parallel()
	for plant, says := range map[string][]string{
		"release": {"BROKEN  all permits are free at the end", "BROKEN  the other workers drained"},
		"belief": {
			"BROKEN  never too many", "BROKEN  no permit was used after it was deleted",
			"BROKEN  the stopped worker noticed", "too many  ",
		},
		"crash": {"has ended: exit status 2: panic: planted"},
	} {
		t.Run(plant, func(t *testing.T) {
			t.Parallel()
			env := newEnvironment(t, environment{plantEnv: plant})
			var out bytes.Buffer
			require.Equal(t, 1, run(t.Context(), nil, &out, &out, env.get), out.String())
			for _, text := range says {
				require.Contains(t, out.String(), text)
			}
		})
	}
}

func TestRun_usesAnotherEtcd(t *testing.T) {
	t.Parallel()
	env := newEnvironment(t, nil)
	endpoint, stop, err := startServer(t.Context(), t.TempDir())
	require.NoError(t, err)
	defer stop()
	var out bytes.Buffer
	args := []string{"-endpoints", endpoint, "-workers", "3", "-capacity", "1"}
	require.Equal(t, 0, run(t.Context(), args, &out, &out, env.get), out.String())

	client, err := clientv3.New(clientv3.Config{Endpoints: []string{endpoint}})
	require.NoError(t, err)
	defer client.Close()
	resp, err := client.Get(t.Context(), "", clientv3.WithPrefix())
	require.NoError(t, err)
	require.Empty(t, resp.Kvs, "no key is left")
}

func TestRun_flags(t *testing.T) {
	for _, args := range [][]string{
		{"-workers", "2"}, {"-workers", "51"}, {"-capacity", "0"}, {"-capacity", "1001"}, {"-ttl", "1s"}, {"-ttl", "5s"},
		{"-ttl", "2500ms"}, {"-unknown"}, {"argument"}, {"-endpoints", "a,,b"}, {"-svg", "no/such/folder/fleet.svg"},
	} {
		var errs bytes.Buffer
		require.Equal(t, 2, run(t.Context(), args, io.Discard, &errs, os.Getenv), args)
		require.Contains(t, errs.String(), "-h lists all flags")
	}
	var out bytes.Buffer
	require.Equal(t, 0, run(t.Context(), []string{"-h"}, &out, io.Discard, os.Getenv))
	require.Contains(t, out.String(), "-capacity")
}

func TestRun_saysThatThereIsNoEtcd(t *testing.T) {
	t.Parallel()
	silent, err := net.Listen("tcp", "127.0.0.1:0") // accepts, and never answers
	require.NoError(t, err)
	defer silent.Close()
	for name, endpoint := range map[string]string{"refuses": "127.0.0.1:1", "silent": silent.Addr().String()} {
		t.Run(name, func(t *testing.T) {
			var errs bytes.Buffer
			start := time.Now()
			require.Equal(t, 1, run(t.Context(), []string{"-endpoints", endpoint}, io.Discard, &errs, os.Getenv))
			require.Contains(t, errs.String(), "fleet: no etcd at "+endpoint)
			require.Equal(t, 1, strings.Count(errs.String(), "\n"), "one line")
			require.Less(t, time.Since(start), 5*time.Second)
		})
	}
}

// An interrupt at any time leaves no process and no file.
func TestMain_endsWhenInterrupted(t *testing.T) {
	t.Parallel()
	trials := 4
	if os.Getenv("CONDVAR_VERIFY") == "long" {
		trials = 20
	}
	for range trials {
		after := time.Duration(rand.Int64N(int64(14 * time.Second)))
		t.Run(after.String(), func(t *testing.T) {
			t.Parallel()
			env := newEnvironment(t, nil)
			var out bytes.Buffer
			cmd := exec.Command(os.Args[0])
			cmd.Env = append(os.Environ(), mainEnv+"=", "TMPDIR="+env["TMPDIR"])
			cmd.Stdout, cmd.Stderr = &out, &out
			require.NoError(t, cmd.Start())
			timer := time.AfterFunc(after, func() { _ = cmd.Process.Signal(syscall.SIGINT) })
			defer timer.Stop()
			_ = cmd.Wait()
			switch status := cmd.ProcessState.ExitCode(); status {
			case 0: // it had ended before
			case -1: // it had not started yet
				require.Empty(t, out.String())
			default:
				require.Equal(t, 1, status, out.String())
				require.Contains(t, out.String(), "fleet: interrupted")
			}
			require.Empty(t, workersOf(env["TMPDIR"]))
		})
	}
}

// The program also ends without a trace if its output is closed.
func TestMain_endsWithItsReader(t *testing.T) {
	t.Parallel()
	env := newEnvironment(t, nil)
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), mainEnv+"=", "TMPDIR="+env["TMPDIR"])
	out, err := cmd.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, cmd.Start())
	_, err = out.Read(make([]byte, 1))
	require.NoError(t, err)
	require.NoError(t, out.Close())
	_ = cmd.Wait()
	require.Equal(t, 1, cmd.ProcessState.ExitCode())
	require.Empty(t, workersOf(env["TMPDIR"]))
}

// workersOf returns the processes with that temporary folder. Without /proc it
// returns none.
func workersOf(dir string) (pids []string) {
	paths, _ := filepath.Glob("/proc/[0-9]*/environ")
	for _, path := range paths {
		if data, err := os.ReadFile(path); err == nil && bytes.Contains(data, []byte("TMPDIR="+dir+"\x00")) {
			pids = append(pids, path)
		}
	}
	return pids
}

// recordOf returns a record with one worker for each interval, in which the
// worker believes to hold a permit. The permits are granted one after another,
// at that capacity.
func recordOf(capacity int64, beliefs ...interval) *record {
	start := time.Unix(1000, 0)
	rec := &record{
		workers: len(beliefs), capacity: capacity, start: start, end: 10 * time.Second,
		tickets: map[int64]*ticket{}, stopped: &process{resumedAt: start.Add(5 * time.Second)},
	}
	for i, b := range beliefs {
		token := int64(i+1) * 128
		rec.tickets[token] = &ticket{token: token, granted: int64(i + 1), capacity: capacity}
		rec.processes = append(rec.processes, &process{row: i, entries: []entry{
			{asks, 0, start}, {looks, token, start.Add(b.from)}, {looks, token, start.Add(b.to)}, {gave, token, start.Add(b.to)},
		}})
	}
	rec.findBeliefs()
	return rec
}

func TestJudge_findsTooMany(t *testing.T) {
	second := func(from, to int) interval {
		return interval{time.Duration(from) * time.Second, time.Duration(to) * time.Second}
	}
	t.Run("one after the other", func(t *testing.T) {
		v := recordOf(1, second(1, 3), second(3, 5)).judge()
		require.Empty(t, v.over)
	})
	t.Run("at a time", func(t *testing.T) {
		rec := recordOf(1, second(1, 4), second(3, 5))
		v := rec.judge()
		require.Equal(t, []interval{second(3, 4)}, v.over)
		require.False(t, v.kept())
		var out bytes.Buffer
		rec.draw(&out, v, 40, true)
		require.Contains(t, out.String(), "\x1b[1;31m")
		require.Contains(t, string(picture(rec, v)), `class="over"`)
	})
	t.Run("after a shrink", func(t *testing.T) {
		rec := recordOf(2, second(1, 4), second(2, 5), second(6, 7))
		rec.tickets[3*128].capacity = 1
		require.Empty(t, rec.judge().over)
	})
	t.Run("admitted by the capacity before a shrink", func(t *testing.T) {
		rec := recordOf(2, second(1, 4), second(2, 5))
		rec.tickets[2*128].capacity = 1
		require.NotEmpty(t, rec.judge().over)
	})
	t.Run("never granted", func(t *testing.T) {
		rec := recordOf(2, second(1, 4))
		rec.tickets[128].granted = 0
		require.NotEmpty(t, rec.judge().promises[0].broken)
	})
}

// The end of the context ends the run, too.
func TestRun_endsWithItsContext(t *testing.T) {
	t.Parallel()
	env := newEnvironment(t, nil)
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
	defer cancel()
	var errs bytes.Buffer
	require.Equal(t, 1, run(ctx, nil, io.Discard, &errs, env.get))
	require.Contains(t, errs.String(), "interrupted")
}
