// Mutants puts bugs into package condvar, one at a time, and checks that its
// tests find them. A bug is a patch in the folder patches, which is applied
// with an overlay, so that the tree never changes. Run it in the folder above:
//
//	go run ./mutants            the whole suite of the root package, until a test fails
//	go run ./mutants -quick     only the tests that a patch names, each of which must fail
//	go run ./mutants -quick -times 20   the same, each as often: no test fails by chance only
//	go run ./mutants -methods   the methods of this module that a patch names
//	go run ./mutants -methods -passed   the same, if the unmodified code is known to pass
//	go run ./mutants -bugs      only those that put back a bug of docs/bugs.md
//	go run ./mutants -list      what there is
//
// Names of mutants may follow, to try only these. It fails if a mutant
// survives, if one does not compile, if a patch does not apply in exactly one
// place, and if the unmodified code fails the same tests.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"time"
)

func main() {
	quick := flag.Bool("quick", false, "run only the tests that a patch names")
	methods := flag.Bool("methods", false, "run the methods that a patch names, and not the suite")
	bugs := flag.Bool("bugs", false, "leave out those that put back no bug of docs/bugs.md")
	list := flag.Bool("list", false, "print the mutants, and run nothing")
	passed := flag.Bool("passed", false, "do not try the code as it is: it has passed the same tests before")
	times := flag.Int("times", 1, "with -quick, how often to run each test, which must fail every time")
	jobs := flag.Int("j", runtime.NumCPU(), "how many mutants to try at a time")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	err := run(ctx, *quick, *methods, *bugs, *list, *passed, *times, *jobs, flag.Args())
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "mutants:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, quick, methods, bugs, list, passed bool, times, jobs int, names []string) error {
	verify, err := moduleDir(ctx)
	if err != nil {
		return err
	}
	mutants, err := readMutants(filepath.Join(verify, "mutants", "patches"), names)
	if err != nil {
		return err
	}
	if bugs {
		mutants = slices.DeleteFunc(mutants, func(m *mutant) bool { return m.bugs() == none })
	}
	if list {
		for _, m := range mutants {
			fmt.Printf("%s (%s)\n\t%s\n", m.name, m.bugs(), strings.ReplaceAll(m.prose, "\n", "\n\t"))
		}
		return nil
	}
	root := filepath.Dir(verify)
	if err := check(mutants, root, quick); err != nil {
		return err
	}
	scratch, err := os.MkdirTemp("", "mutants")
	if err != nil {
		return err
	}
	defer func() { _ = os.RemoveAll(scratch) }()
	test2json, err := exec.CommandContext(ctx, "go", "tool", "-n", "test2json").Output()
	if err != nil {
		return err
	}
	lab := &laboratory{
		root: root, verify: verify, scratch: scratch, times: max(1, times),
		test2json: strings.TrimSpace(string(test2json)),
	}
	begin := time.Now()
	trials := trialsOf(mutants, quick, methods)
	if !passed {
		if err := lab.tryOriginal(ctx, trials); err != nil {
			return err
		}
	}
	if survivors := lab.tryAll(ctx, trials, max(1, jobs)); len(survivors) > 0 {
		return fmt.Errorf("%d of %d not killed:\n%w", len(survivors), len(trials), errors.Join(survivors...))
	}
	fmt.Printf("all %d killed in %.0f s\n", len(trials), time.Since(begin).Seconds())
	return nil
}

// check looks for errors in the mutants before any test runs.
func check(mutants []*mutant, root string, quick bool) error {
	lab := &laboratory{root: root, verify: filepath.Join(root, "verify")}
	tests := make(map[string][]string) // by method
	var errs []error
	for _, m := range mutants {
		if _, err := m.apply(root); err != nil {
			errs = append(errs, err)
		}
		if quick && !m.killersKnown() {
			errs = append(errs, fmt.Errorf("%s: nobody knows yet which test kills it", m.name))
		}
		for method, killers := range m.killers() {
			if tests[method] == nil {
				how, err := lab.method(method)
				if err != nil {
					return fmt.Errorf("%s: %w", m.name, err)
				}
				if tests[method], err = testsOf(how.dir); err != nil {
					return err
				}
			}
			for _, test := range killers {
				if !slices.Contains(tests[method], test) {
					errs = append(errs, fmt.Errorf("%s: there is no test %s of %s", m.name, test, method))
				}
			}
		}
	}
	return errors.Join(errs...)
}

// A trial is a method that must find a mutant.
type trial struct {
	mutant *mutant
	method string
	tests  []string // all these must fail; if empty, any test
}

func trialsOf(mutants []*mutant, quick, methods bool) []trial {
	var trials []trial
	for _, m := range mutants {
		switch {
		case methods:
			for _, method := range m.methods {
				trials = append(trials, trial{mutant: m, method: method})
			}
		case m.leftToMethods():
		case !quick && (m.killers()[suite] != nil || !m.killersKnown()):
			trials = append(trials, trial{mutant: m, method: suite})
		default: // no test of the suite kills it
			killers := m.killers()
			for _, method := range slices.Sorted(maps.Keys(killers)) {
				trials = append(trials, trial{m, method, killers[method]})
			}
		}
	}
	return trials
}

// tryOriginal checks that the unmodified code passes the tests that must fail
// with a mutant: otherwise their failure shows nothing.
func (l *laboratory) tryOriginal(ctx context.Context, trials []trial) error {
	var methods []string
	tests := make(map[string][]string)
	for _, t := range trials {
		if !slices.Contains(methods, t.method) {
			methods = append(methods, t.method)
		}
		tests[t.method] = append(tests[t.method], t.tests...)
	}
	for _, method := range methods {
		begin := time.Now()
		e, err := l.build(ctx, nil, method, tests[method])
		if err != nil {
			return err
		}
		got, err := e.run(ctx, tests[method])
		if err != nil {
			return err
		}
		if !got.passed {
			return fmt.Errorf("the code as it is fails %s:\n%s", method, got.output)
		}
		fmt.Printf("%s: the code as it is passes in %.1f s\n", method, time.Since(begin).Seconds())
	}
	return nil
}

// tryAll tries all trials, prints a table, and returns an error for each survivor.
func (l *laboratory) tryAll(ctx context.Context, trials []trial, jobs int) []error {
	type verdict struct {
		killer string
		err    error
		took   time.Duration
	}
	verdicts := make([]chan verdict, len(trials))
	for i := range verdicts {
		verdicts[i] = make(chan verdict, 1)
	}
	go func() {
		free := make(chan struct{}, jobs)
		for i, t := range trials {
			free <- struct{}{}
			go func() {
				begin := time.Now()
				killer, err := l.try(ctx, t)
				verdicts[i] <- verdict{killer, err, time.Since(begin)}
				<-free
			}()
		}
	}()
	const row = "%-38s  %-8s  %5s  %s\n"
	fmt.Printf(row, "mutant", "bugs", "s", "killed by")
	var survivors []error
	for i, t := range trials { // print in order
		v := <-verdicts[i]
		if v.err != nil {
			v.killer = "NOT KILLED: " + v.err.Error()
			survivors = append(survivors, fmt.Errorf("%s, by %s: %w", t.mutant.name, t.method, v.err))
		}
		if t.method != suite {
			v.killer = t.method + ": " + v.killer
		}
		fmt.Printf(row, t.mutant.name, t.mutant.bugs(), fmt.Sprintf("%.1f", v.took.Seconds()), v.killer)
	}
	return survivors
}

// try returns the killer of the mutant of t, or an error if it survived.
func (l *laboratory) try(ctx context.Context, t trial) (string, error) {
	e, err := l.build(ctx, t.mutant, t.method, t.tests)
	if err != nil {
		return "", err
	}
	defer func() { _ = os.RemoveAll(e.scratch) }()
	if len(t.tests) == 0 {
		got, err := e.run(ctx, nil)
		if err == nil && got.passed {
			err = errors.New("it survived")
		}
		return got.killer, err
	}
	e.args = append(e.args, "-test.timeout=20s") // a single test takes a second
	var killers []string
	var errs []error
	for _, test := range t.tests { // each in a process of its own, as one may crash it
		var killer string
		survived := 0
		for range l.times {
			got, err := e.run(ctx, []string{test})
			switch {
			case err != nil:
				return "", err
			case got.passed || !strings.HasPrefix(got.killer, test):
				survived++
			default:
				killer = got.killer
			}
		}
		if survived > 0 {
			errs = append(errs, fmt.Errorf("%s passes %d of %d times", test, survived, l.times))
		}
		killers = append(killers, killer)
	}
	return strings.Join(killers, ", "), errors.Join(errs...)
}
