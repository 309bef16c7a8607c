package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"time"
)

// A laboratory builds mutants and runs tests against them.
type laboratory struct {
	root, verify string // where the modules are
	scratch      string // a folder for what is built
	times        int    // how often each test that a patch names must fail
	test2json    string // the program: go tool takes longer than many tests
}

// suite is the method that every mutant has: the tests of the root package.
const suite = "suite"

// A method is a way to find bugs.
type method struct {
	env  []string // for building and running
	dir  string   // of its package
	tags string
	args []string // for running it
	test bool     // it is a package of tests, not a program

	runner []string // the command that runs the binary, if it does not run by itself

	// Tests that take longer panic and print their stacks. A process that has
	// not ended a little later is killed.
	timeout time.Duration
}

// method returns the method for a word of the line Methods: a name, or for
// tests also NAME=PATTERN. The pattern selects tests, or for explore scenes.
func (l *laboratory) method(word string) (method, error) {
	name, pattern, chosen := strings.Cut(word, "=")
	how := method{dir: filepath.Join(l.verify, name), test: true, timeout: 5 * time.Minute}
	switch name {
	case suite:
		how.dir, how.timeout = l.root, time.Minute
	case "clock":
		how.dir, how.tags, how.timeout = filepath.Join(l.verify, "matrix"), "condvar_clock", time.Minute
	case "32bit": // not every Linux runs binaries for 386
		how.dir, how.timeout = l.root, 5*time.Minute
		how.env = []string{"GOARCH=386"}
		if qemu, err := exec.LookPath("qemu-arm"); err == nil {
			how.env, how.runner = []string{"GOARCH=arm"}, []string{qemu}
		}
	case "keyed":
		how.dir, how.timeout = filepath.Join(l.root, "keyed"), time.Minute
	case "explore":
		how.tags = "condvar_explore"
		if chosen {
			pattern = "^TestScenes$/^" + pattern + "$"
		}
	case "linear", "props", "matrix", "hammer":
	case "soak", "leaks":
		how.dir, how.test = filepath.Join(l.verify, "soak"), false
		how.args = []string{"-duration", "5s"}
		if name == "leaks" && strings.HasPrefix(runtime.Version(), "go1.26") { // later releases always have it
			how.env = []string{"GOEXPERIMENT=goroutineleakprofile"}
		}
	default:
		return method{}, fmt.Errorf("there is no method %q", name)
	}
	switch {
	case how.test:
		how.args = []string{"-test.v=test2json", "-test.failfast", fmt.Sprint("-test.timeout=", how.timeout)}
		if chosen {
			how.args = append(how.args, "-test.run="+pattern)
		}
	case chosen:
		return method{}, fmt.Errorf("%s has no tests to choose from", name)
	}
	return how, nil
}

// An experiment is a method that has been built, usually with a mutant.
type experiment struct {
	method
	scratch   string // a folder of its own
	binary    string
	test2json string
}

// build builds a method with m, or with the unmodified code if m is nil. If
// there are tests, only these are to be run. A mutant that does not compile is
// an error; it does not count as killed.
func (l *laboratory) build(ctx context.Context, m *mutant, word string, tests []string) (*experiment, error) {
	how, err := l.method(word)
	if err != nil {
		return nil, err
	}
	dir, err := os.MkdirTemp(l.scratch, "")
	if err != nil {
		return nil, err
	}
	e := &experiment{how, dir, filepath.Join(dir, "binary"), l.test2json}
	args := []string{"build"}
	if e.test {
		args = []string{"test", "-c", "-vet=off"}
	}
	args = append(args, "-o", e.binary, "-tags", e.tags, "-ldflags=-s -w") // no debugger reads it
	files := make(map[string]string)                                       // replacements, by name
	if len(tests) > 0 {
		if files, err = prune(how.dir, tests); err != nil {
			return nil, err
		}
	}
	if m != nil {
		mutated, err := m.apply(l.root)
		if err != nil {
			return nil, err
		}
		for name, text := range mutated {
			files[filepath.Join(l.root, name)] = text
		}
	}
	overlay, err := writeOverlay(dir, files)
	if err != nil {
		return nil, err
	}
	args = append(args, "-overlay", overlay)
	cmd := e.command(ctx, "go", append(args, ".")...)
	if out, err := cmd.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("it does not build: %w\n%s", err, out)
	}
	return e, nil
}

// writeOverlay writes files to dir, and a JSON file for the flag -overlay of
// the go command that replaces those with these names. It returns the name of
// the JSON file.
func writeOverlay(dir string, files map[string]string) (string, error) {
	replace := make(map[string]string)
	for name, text := range files {
		file := filepath.Join(dir, strconv.Itoa(len(replace))+".go")
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			return "", err
		}
		replace[name] = file
	}
	text, err := json.Marshal(map[string]any{"Replace": replace})
	if err != nil {
		return "", err
	}
	overlay := filepath.Join(dir, "overlay.json")
	return overlay, os.WriteFile(overlay, text, 0o600)
}

// command returns a command that runs in the folder of the method's package.
func (e *experiment) command(ctx context.Context, name string, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Dir = e.dir
	// Some bugs need goroutines that run in parallel.
	cmd.Env = append(os.Environ(), fmt.Sprint("GOMAXPROCS=", max(2, runtime.GOMAXPROCS(0))))
	cmd.Env = append(cmd.Env, e.env...)
	cmd.WaitDelay = time.Second // for the children of a killed process
	return cmd
}

// run runs the given tests, or all if none are given.
func (e *experiment) run(ctx context.Context, tests []string) (outcome, error) {
	limited, cancel := context.WithTimeout(ctx, e.timeout+e.timeout/2)
	defer cancel()
	args := slices.Clone(e.args)
	if len(tests) > 0 {
		args = append(args, "-test.run=^("+strings.Join(tests, "|")+")$")
	}
	words := slices.Concat(e.runner, []string{e.binary}, args)
	out, failure := e.command(limited, words[0], words[1:]...).CombinedOutput()
	if ctx.Err() != nil {
		return outcome{}, ctx.Err()
	}
	if exit := new(exec.ExitError); failure != nil && !errors.As(failure, &exit) {
		return outcome{}, failure
	}
	got := outcome{passed: failure == nil, output: string(out)}
	if !got.passed {
		got.killer = failure.Error()
	}
	if e.test && !got.passed {
		convert := e.command(ctx, e.test2json)
		convert.Stdin = bytes.NewReader(out)
		events, err := convert.Output()
		if err != nil {
			return outcome{}, err
		}
		got.killer = killer(events)
	}
	if limited.Err() != nil || strings.Contains(got.output, "panic: test timed out after") {
		got.killer += " (hang)"
	}
	return got, nil
}

// An outcome is the result of a run.
type outcome struct {
	passed bool
	killer string // what failed
	output string
}

// killer returns the first test that failed, or else the one during which the
// process ended. The events are those of go tool test2json.
func killer(events []byte) string {
	running := "after the last test"
	for line := range bytes.Lines(events) {
		var event struct{ Action, Test string }
		if json.Unmarshal(line, &event) != nil || event.Test == "" || strings.Contains(event.Test, "/") {
			continue
		}
		switch event.Action {
		case "run":
			running = event.Test
		case "fail":
			return event.Test
		case "pass", "skip":
			running = "after " + event.Test
		}
	}
	return running
}
