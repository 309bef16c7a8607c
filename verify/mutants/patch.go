package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
)

// A mutant is a bug, as a patch file describes it:
//
//	A few lines that say what the bug is.
//	Bugs: C1, C2
//	Killed-by: TestA, TestB
//	Methods: linear explore=Scene
//
//	--- a/cond.go
//	+++ b/cond.go
//	@@
//	 context
//	-removed
//	+added
//
// Bugs are rows of docs/bugs.md, or "none". Killed-by names tests of the root
// package; it is "?" if they are not known yet, and "none" if only the methods
// find the bug. The line Methods may be missing. Hunks have no line numbers:
// the old text of a hunk must be in the file exactly once.
//
// A test of another package is named with its method, as in hammer=TestA.
type mutant struct {
	name     string
	prose    string
	rows     []string
	killedBy []string
	methods  []string
	hunks    []hunk
}

// A hunk replaces lines of a file.
type hunk struct {
	file     string
	old, new []string
}

const (
	none    = "none"
	unknown = "?"
)

func (m *mutant) bugs() string { return strings.Join(m.rows, " ") }

// leftToMethods reports whether only the methods must find m.
func (m *mutant) leftToMethods() bool { return slices.Equal(m.killedBy, []string{none}) }

func (m *mutant) killersKnown() bool { return !slices.Contains(m.killedBy, unknown) }

// killers returns the tests that must fail, by method.
func (m *mutant) killers() map[string][]string {
	killers := make(map[string][]string)
	if m.leftToMethods() || !m.killersKnown() {
		return killers
	}
	for _, word := range m.killedBy {
		method, test, found := strings.Cut(word, "=")
		if !found {
			method, test = suite, word
		}
		killers[method] = append(killers[method], test)
	}
	return killers
}

// readMutants reads the patches of a folder, or only those with the given
// names.
func readMutants(dir string, names []string) ([]*mutant, error) {
	if len(names) == 0 {
		files, err := filepath.Glob(filepath.Join(dir, "*.patch"))
		if err != nil {
			return nil, err
		}
		for _, file := range files {
			names = append(names, strings.TrimSuffix(filepath.Base(file), ".patch"))
		}
	}
	var mutants []*mutant
	var errs []error
	for _, name := range names {
		text, err := os.ReadFile(filepath.Join(dir, name+".patch"))
		if err != nil {
			return nil, err
		}
		m, err := parse(name, string(text))
		mutants, errs = append(mutants, m), append(errs, err)
	}
	return mutants, errors.Join(errs...)
}

func parse(name, text string) (*mutant, error) {
	m := &mutant{name: name}
	head, diff, found := strings.Cut(text, "\n--- a/")
	if !found {
		return nil, fmt.Errorf("%s: no line --- a/FILE", name)
	}
	for line := range strings.Lines(head) {
		switch key, value, _ := strings.Cut(line, ":"); key {
		case "Bugs":
			m.rows = fields(value)
		case "Killed-by":
			m.killedBy = fields(value)
		case "Methods":
			m.methods = fields(value)
		default:
			m.prose += line
		}
	}
	m.prose = strings.TrimSpace(m.prose)
	switch {
	case m.prose == "":
		return nil, fmt.Errorf("%s: it does not say what the bug is", name)
	case len(m.rows) == 0:
		return nil, fmt.Errorf("%s: no line Bugs", name)
	case len(m.killedBy) == 0:
		return nil, fmt.Errorf("%s: no line Killed-by", name)
	case m.leftToMethods() && len(m.methods) == 0:
		return nil, fmt.Errorf("%s: nothing is to kill it", name)
	}
	for part := range strings.SplitSeq(strings.TrimSuffix(diff, "\n"), "\n--- a/") {
		if err := m.parseFile(part); err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
	}
	return m, nil
}

func fields(s string) []string { return strings.Fields(strings.ReplaceAll(s, ",", " ")) }

// parseFile parses the hunks of one file, from the file's name on.
func (m *mutant) parseFile(diff string) error {
	lines := strings.Split(diff, "\n")
	file := lines[0]
	base := strings.TrimPrefix(strings.TrimPrefix(file, "keyed/"), "internal/bubble/")
	if base != filepath.Base(base) || strings.HasSuffix(base, "_test.go") {
		return fmt.Errorf("%s is not of the package", file)
	}
	if len(lines) < 3 || lines[1] != "+++ b/"+file || lines[2] != "@@" {
		return fmt.Errorf("no +++ b/%s and @@ after --- a/%[1]s", file)
	}
	for _, line := range lines[2:] {
		if line == "@@" {
			m.hunks = append(m.hunks, hunk{file: file})
			continue
		}
		h := &m.hunks[len(m.hunks)-1]
		switch {
		case line == "": // an editor removed the space of an empty line
			h.old, h.new = append(h.old, ""), append(h.new, "")
		case line[0] == ' ':
			h.old, h.new = append(h.old, line[1:]), append(h.new, line[1:])
		case line[0] == '-':
			h.old = append(h.old, line[1:])
		case line[0] == '+':
			h.new = append(h.new, line[1:])
		default:
			return fmt.Errorf("not a line of a hunk: %q", line)
		}
	}
	return nil
}

// apply returns the changed contents of the files in root that m changes.
func (m *mutant) apply(root string) (map[string]string, error) {
	files := make(map[string]string)
	for _, h := range m.hunks {
		text, ok := files[h.file]
		if !ok {
			b, err := os.ReadFile(filepath.Join(root, h.file))
			if err != nil {
				return nil, fmt.Errorf("%s: %w", m.name, err)
			}
			text = string(b)
		}
		text, err := h.apply(text)
		if err != nil {
			return nil, fmt.Errorf("%s: %s: %w", m.name, h.file, err)
		}
		files[h.file] = text
	}
	return files, nil
}

func (h hunk) apply(text string) (string, error) {
	if slices.Equal(h.old, h.new) {
		return "", errors.New("a hunk changes nothing")
	}
	lines := strings.Split(text, "\n")
	found := -1
	for i := 0; i+len(h.old) <= len(lines); i++ {
		if !slices.Equal(lines[i:i+len(h.old)], h.old) {
			continue
		}
		if found >= 0 {
			return "", fmt.Errorf("a hunk applies at lines %d and %d:\n%s", found+1, i+1, strings.Join(h.old, "\n"))
		}
		found = i
	}
	if found < 0 {
		return "", fmt.Errorf("a hunk does not apply:\n%s", strings.Join(h.old, "\n"))
	}
	return strings.Join(slices.Replace(lines, found, found+len(h.old), h.new...), "\n"), nil
}

// moduleDir returns the folder of the current module.
func moduleDir(ctx context.Context) (string, error) {
	out, err := exec.CommandContext(ctx, "go", "env", "GOMOD").Output()
	return filepath.Dir(string(out)), err
}

// testsOf returns the names of the tests of the package in dir.
func testsOf(dir string) ([]string, error) {
	files, err := filepath.Glob(filepath.Join(dir, "*_test.go"))
	if err != nil {
		return nil, err
	}
	declaration := regexp.MustCompile(`(?m)^func ((?:Test|Fuzz|Example)\w*)\(`)
	var tests []string
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			return nil, err
		}
		for _, match := range declaration.FindAllStringSubmatch(string(text), -1) {
			tests = append(tests, match[1])
		}
	}
	return tests, nil
}
