package main

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

const head = "What it is.\nBugs: C1\nKilled-by: TestA\n\n"

func TestParseReadsWhatAPatchFileSays(t *testing.T) {
	m, err := parse("bug", `Two
lines.
Bugs: C1, C2
Killed-by: TestA, TestB
Methods: linear explore=Scene

--- a/a.go
+++ b/a.go
@@
 one
-two
+three
@@

-four
--- a/b.go
+++ b/b.go
@@
-five
+six
`)
	require.NoError(t, err)
	require.Equal(t, &mutant{
		name: "bug", prose: "Two\nlines.", rows: []string{"C1", "C2"},
		killedBy: []string{"TestA", "TestB"}, methods: []string{"linear", "explore=Scene"},
		hunks: []hunk{
			{"a.go", []string{"one", "two"}, []string{"one", "three"}},
			{"a.go", []string{"", "four"}, []string{""}},
			{"b.go", []string{"five"}, []string{"six"}},
		},
	}, m)
}

func TestParseFindsWhatIsWrongWithAPatchFile(t *testing.T) {
	const diff = "--- a/a.go\n+++ b/a.go\n@@\n-one\n"
	for text, want := range map[string]string{
		head:                                            "no line ---",
		"Bugs: C1\nKilled-by: A\n" + diff:               "does not say",
		"It.\nKilled-by: A\n" + diff:                    "no line Bugs",
		"It.\nBugs: C1\n" + diff:                        "no line Killed-by",
		"It.\nBugs: C1\nKilled-by: none\n" + diff:       "nothing is to kill it",
		head + "--- a/../a.go\n+++ b/../a.go\n@@\n":     "not of the package",
		head + "--- a/a_test.go\n+++ b/a_test.go\n@@\n": "not of the package",
		head + "--- a/a.go\n+++ b/b.go\n@@\n":           "no +++ b/a.go",
		head + "--- a/a.go\n+++ b/a.go\n-one\n":         "no +++ b/a.go",
		head + diff + "*two\n":                          "not a line of a hunk",
	} {
		_, err := parse("bug", text)
		require.ErrorContains(t, err, want, text)
	}
}

func TestApplyReplacesLinesThatAreThereOnce(t *testing.T) {
	const text = "one\ntwo\none\nthree\n"
	for _, test := range []struct {
		old, new  []string
		want, err string
	}{
		{old: []string{"two"}, new: []string{"2", "ii"}, want: "one\n2\nii\none\nthree\n"},
		{old: []string{"one", "three"}, new: []string{"one"}, want: "one\ntwo\none\n"},
		{old: []string{"one"}, new: []string{"1"}, err: "applies at lines 1 and 3"},
		{old: []string{"four"}, new: []string{"4"}, err: "does not apply"},
		{old: []string{"tw"}, new: []string{"2"}, err: "does not apply"},
		{old: []string{"two"}, new: []string{"two"}, err: "changes nothing"},
		{old: nil, new: []string{"zero"}, err: "applies at lines"},
	} {
		got, err := hunk{"a.go", test.old, test.new}.apply(text)
		if test.err == "" {
			require.NoError(t, err)
		} else {
			require.ErrorContains(t, err, test.err)
		}
		require.Equal(t, test.want, got)
	}
}

func TestTheKillerIsTheFirstThatFailedOrTheLastThatRan(t *testing.T) {
	const (
		run = `{"Action":"run","Test":"TestA"}
{"Action":"pass","Test":"TestA"}
{"Action":"run","Test":"TestB"}
{"Action":"run","Test":"TestB/sub"}
`
		fail = `{"Action":"fail","Test":"TestB/sub"}
{"Action":"fail","Test":"TestB"}
{"Action":"fail"}
`
	)
	require.Equal(t, "TestB", killer([]byte(run+fail)))
	require.Equal(t, "TestB", killer([]byte(run+`{"Action":"fail"}`)))
	require.Equal(t, "after TestB", killer([]byte(run+`{"Action":"pass","Test":"TestB"}`)))
}

func TestKillersAreOfTheSuiteUnlessTheyNameAMethod(t *testing.T) {
	m := &mutant{killedBy: []string{"TestA", "hammer=TestB", "TestC"}}
	require.Equal(t, map[string][]string{suite: {"TestA", "TestC"}, "hammer": {"TestB"}}, m.killers())
	require.Equal(t, []trial{{m, "hammer", []string{"TestB"}}, {m, suite, []string{"TestA", "TestC"}}},
		trialsOf([]*mutant{m}, true, false))
	require.Equal(t, []trial{{mutant: m, method: suite}}, trialsOf([]*mutant{m}, false, false))

	only := &mutant{killedBy: []string{"hammer=TestB"}}
	require.Equal(t, []trial{{only, "hammer", []string{"TestB"}}}, trialsOf([]*mutant{only}, false, false))
	require.Empty(t, (&mutant{killedBy: []string{none}}).killers())
	require.Empty(t, (&mutant{killedBy: []string{unknown}}).killers())

	m.name, m.hunks = "bug", []hunk{{"cond.go", []string{"package condvar"}, []string{"package condvar // bug"}}}
	require.ErrorContains(t, check([]*mutant{m}, filepath.Join("..", ".."), false), "there is no test TestB of hammer")
}

func TestPruneLeavesWhatTheTestsNeed(t *testing.T) {
	dir := t.TempDir()
	const inside = "package p\n\nvar Inside = 1\n"
	for name, text := range map[string]string{
		"export_test.go": inside,
		"a_test.go": `package p_test

import (
	"fmt"
	r "math/rand/v2"
	"testing"
)

func TestA(t *testing.T) { help(t, "-test.run=^TestChild$") }

func TestB(t *testing.T) {
	fmt.Print(r.Int())
}

func TestChild(t *testing.T) {}
`,
		"b_test.go": `package p_test

import "testing"

type thing[T any] struct{ other }

func (t *thing[T]) do() { also() }

type other int

func also() {}

//go:noinline
func unused() {}

func help(t *testing.T, _ string) { _ = new(thing[int]) }

func TestMain(m *testing.M) { m.Run() }
`,
	} {
		require.NoError(t, os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600))
	}
	// lines returns the lines of a file that are not empty, with their numbers.
	lines := func(text string) string {
		var all []string
		for i, line := range strings.Split(text, "\n") {
			if line = strings.TrimSpace(line); line != "" {
				all = append(all, fmt.Sprint(i+1, " ", line))
			}
		}
		return strings.Join(all, "\n")
	}

	files, err := prune(dir, []string{"TestA"})
	require.NoError(t, err)
	require.Len(t, files, 2, "export_test.go is left as it is")
	require.Equal(t, `1 package p_test
3 import (
4 _ "fmt"
5 _ "math/rand/v2"
6 "testing"
7 )
9 func TestA(t *testing.T) { help(t, "-test.run=^TestChild$") }
15 func TestChild(t *testing.T) {}`, lines(files[filepath.Join(dir, "a_test.go")]))
	require.Equal(t, `1 package p_test
3 import "testing"
5 type thing[T any] struct{ other }
7 func (t *thing[T]) do() { also() }
9 type other int
11 func also() {}
16 func help(t *testing.T, _ string) { _ = new(thing[int]) }
18 func TestMain(m *testing.M) { m.Run() }`, lines(files[filepath.Join(dir, "b_test.go")]))

	files, err = prune(dir, []string{"TestB"})
	require.NoError(t, err)
	require.Equal(t, `1 package p_test
3 import (
4 "fmt"
5 r "math/rand/v2"
6 "testing"
7 )
11 func TestB(t *testing.T) {
12 fmt.Print(r.Int())
13 }`, lines(files[filepath.Join(dir, "a_test.go")]))
	require.Equal(t, `1 package p_test
3 import "testing"
18 func TestMain(m *testing.M) { m.Run() }`, lines(files[filepath.Join(dir, "b_test.go")]))
}

// inexpressible has the reason for each bug that no mutant puts back.
var inexpressible = map[string]string{
	"C9": "no cancellation is broadcast, for each waiter selects on its own context",
}

// The patches apply to the package, name tests that exist, and together put
// back every bug of docs/bugs.md that is not in inexpressible.
func TestPatches(t *testing.T) {
	root := filepath.Join("..", "..")
	mutants, err := readMutants("patches", nil)
	require.NoError(t, err)
	require.NotEmpty(t, mutants)
	require.NoError(t, check(mutants, root, false))

	table, err := os.ReadFile(filepath.Join(root, "docs", "bugs.md"))
	require.NoError(t, err)
	known := map[string]bool{none: true}
	for _, match := range regexp.MustCompile(`(?m)^\| ([CEKR]\d+) \|`).FindAllSubmatch(table, -1) {
		known[string(match[1])] = true
	}
	back := map[string]bool{none: true}
	for _, m := range mutants {
		for _, row := range m.rows {
			require.True(t, known[row], "%s: no bug %s", m.name, row)
			back[row] = true
		}
		for _, word := range m.methods {
			_, err := new(laboratory).method(word)
			require.NoError(t, err, m.name)
			requireExists(t, m, word)
		}
	}
	for row := range known {
		require.NotEqual(t, back[row], inexpressible[row] != "", "bug %s", row)
	}
}

// requireExists checks that the tests or scenes exist that a word of the line
// Methods names. A missing one would find no bug, without an error.
func requireExists(t *testing.T, m *mutant, word string) {
	name, pattern, chosen := strings.Cut(word, "=")
	if !chosen {
		return
	}
	how, err := (&laboratory{root: filepath.Join("..", ".."), verify: ".."}).method(name)
	require.NoError(t, err)
	declared := `func ` + pattern + `\(t `
	if name == "explore" {
		declared = `Name:\s+"` + pattern + `"`
	}
	files, err := filepath.Glob(filepath.Join(how.dir, "*.go"))
	require.NoError(t, err)
	for _, file := range files {
		text, err := os.ReadFile(file)
		require.NoError(t, err)
		if regexp.MustCompile(declared).Match(text) {
			return
		}
	}
	require.Fail(t, "there is no such test", "%s: %s", m.name, word)
}
