// Command overload simulates a server that gets more requests than it can
// serve, with different bounds on the line of waiting requests.
//
// The server has a few slots. The work of a request cannot be stopped, and a
// client leaves one second after its arrival. So a server without a bound on
// the line works for clients that have left. The clock is fake, and all
// variants get the same requests.
//
//	cd examples/overload && go run .
//	go run . -seed 2 -svg ""
//
// It prints tables and draws the picture of the README. The exit status is 0,
// or 2 if the flags are invalid or the picture cannot be written.
package main

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"example.com/condvar"
	"example.com/condvar/internal/terminal"
)

// main runs everything as a test, because the fake clock of testing/synctest
// needs a *testing.T. The test ends the process, so that its result is not
// printed.
func main() {
	_ = flag.CommandLine.Parse(nil) // the flags of tests must not be parsed
	testing.Main(
		func(_, _ string) (bool, error) { return true, nil },
		[]testing.InternalTest{{Name: "overload", F: func(t *testing.T) {
			os.Exit(run(os.Args[1:], fakeClock(t), os.Stdout, os.Stderr, os.Getenv))
		}}}, nil, nil)
}

// A bubble calls f with a fake clock, and returns when f and the goroutines
// that it has started are done.
type bubble func(f func())

func fakeClock(t *testing.T) bubble {
	return func(f func()) { synctest.Test(t, func(*testing.T) { f() }) }
}

// run is main without access to the process. It returns the exit status.
func run(args []string, b bubble, stdout, stderr io.Writer, getenv func(string) string) int {
	cfg, err := parse(args, stdout)
	switch {
	case errors.Is(err, flag.ErrHelp):
		return 0
	case err != nil:
		fmt.Fprintf(stderr, "overload: %v\nThe flag -h lists all flags.\n", err)
		return 2
	}

	status := &progress{w: stderr, live: terminal.Is(stderr, getenv), runs: len(loads())*len(variants()) + boundRuns}
	results := compare(cfg.seed, loads(), b, status.show)
	bounds := compareBounds(cfg.seed, b, status.show)
	status.clear()
	printLoads(stdout, results)
	printFates(stdout, results)
	printBounds(stdout, bounds)
	printWeaknesses(stdout, results, bounds)

	if cfg.svg != "" {
		if err := os.WriteFile(cfg.svg, picture(results), 0o666); err != nil {
			fmt.Fprintf(stderr, "overload: cannot write the picture: %v\n", err)
			return 2
		}
	}
	return 0
}

// A config is the values of the flags.
type config struct {
	seed uint64
	svg  string
}

// parse parses args. The error says what is wrong with them. If they request
// help, parse writes it to stdout.
func parse(args []string, stdout io.Writer) (config, error) {
	var cfg config
	fs := flag.NewFlagSet("overload", flag.ContinueOnError)
	fs.SetOutput(io.Discard)
	fs.Uint64Var(&cfg.seed, "seed", 1, "where the random arrivals and work times start")
	fs.StringVar(&cfg.svg, "svg", "../../docs/overload.svg", "write the picture to `file`; none if empty")

	err := fs.Parse(args)
	switch {
	case errors.Is(err, flag.ErrHelp):
		fmt.Fprint(stdout, "A server gets more requests than it can serve: which line is best?\n\nFlags:\n")
		fs.SetOutput(stdout)
		fs.PrintDefaults()
		return cfg, err
	case err != nil:
		return cfg, err
	case fs.NArg() > 0:
		return cfg, fmt.Errorf("unexpected argument %q", fs.Arg(0))
	}
	return cfg, terminal.CheckWritable(cfg.svg) // before the work
}

// loads returns the loads that are compared, in percent.
func loads() []int { return []int{50, 75, 90, 100, 110, 125, 150, 200, 300} }

// shown is the load that the text explains.
const shown = 150

// A result is the summaries of the variants at one load.
type result struct {
	load int
	by   []summary // indexed as variants
}

// compare serves the same requests with each variant, at each load. It calls
// report before each run.
func compare(seed uint64, loads []int, b bubble, report func(what string)) []result {
	var results []result
	for _, load := range loads {
		r := result{load: load}
		all := demand{seed, load, meanWork}.arrivals()
		for _, v := range variants() {
			report(fmt.Sprintf("%d %% load, %s", load, v.name))
			r.by = append(r.by, measure(b, v.make, all))
		}
		results = append(results, r)
	}
	return results
}

func measure(b bubble, limit func() limiter, all []arrival) (s summary) {
	b(func() { s = summarize(serve(limit(), all)) })
	return s
}

// at returns the summaries of the variants at a load.
func at(results []result, load int) []summary {
	i := slices.IndexFunc(results, func(r result) bool { return r.load == load })
	return results[i].by
}

// A bound is a MaxWaiting and a MaxWait that are equal at full load, and the
// goodput with each: at a load of 100 %, of 150 %, and of 150 % with work that
// takes twice as long.
type bound struct {
	n                       int
	d                       time.Duration
	byMaxWaiting, byMaxWait [3]float64
}

const boundRuns = 5 * 3 * 2

// compareBounds shows the effect of the value of a bound.
func compareBounds(seed uint64, b bubble, report func(what string)) []bound {
	var bounds []bound
	for _, n := range []int{5, 25, 50, 75, 95} {
		bounds = append(bounds, bound{n: n, d: time.Duration(n) * meanWork / slots})
	}
	for i, d := range []demand{{seed, 100, meanWork}, {seed, 150, meanWork}, {seed, 150, 2 * meanWork}} {
		all := d.arrivals()
		for j := range bounds {
			bound := &bounds[j]
			report(fmt.Sprintf("MaxWaiting(%d)", bound.n))
			bound.byMaxWaiting[i] = measure(b, resource(condvar.MaxWaiting(bound.n)), all).goodput
			report(fmt.Sprintf("MaxWait(%v)", bound.d))
			bound.byMaxWait[i] = measure(b, resource(condvar.MaxWait(bound.d)), all).goodput
		}
	}
	return bounds
}

// printLoads prints the data of the picture.
func printLoads(w io.Writer, results []result) {
	fmt.Fprintf(w, "%d slots, work of %d ms ±20 %% that cannot be stopped, clients that leave after %v.\n"+
		"Measured for %v on a fake clock, after a warm-up of %v. The same requests for all.\n",
		slots, meanWork.Milliseconds(), leave, window, warmUp)
	head := func(title string) {
		fmt.Fprintf(w, "\n%s\n\n  load", title)
		for _, v := range variants() {
			fmt.Fprintf(w, "%*s", column(v), v.name)
		}
		fmt.Fprintln(w)
	}
	head("Goodput: work for requests answered before the client left, in % of what could be done")
	for _, r := range results {
		fmt.Fprintf(w, "%4d %%", r.load)
		for i, v := range variants() {
			fmt.Fprintf(w, "%*.0f %%", column(v)-2, r.by[i].goodput)
		}
		fmt.Fprintln(w)
	}
	head("99th percentile of the latency of those served, in time or not")
	for _, r := range results {
		fmt.Fprintf(w, "%4d %%", r.load)
		for i, v := range variants() {
			fmt.Fprintf(w, "%*d ms", column(v)-3, r.by[i].p99.Milliseconds())
		}
		fmt.Fprintln(w)
	}
}

// column returns how wide the column of a variant is.
func column(v variant) int { return max(len(v.name), 8) + 3 }

// printFates prints the outcomes of the requests at one load.
func printFates(w io.Writer, results []result) {
	fmt.Fprintf(w, "\nWhat became of the requests at %d %% load\n\n", shown)
	fmt.Fprintf(w, "%-14s%10s%10s%14s%10s%16s%14s\n", "",
		"answered", "too late", "left in line", "rejected", "rejected after", "longest line")
	for i, v := range variants() {
		s := at(results, shown)[i]
		after := "-"
		if s.fates[rejected] > 0 {
			after = fmt.Sprintf("%d ms", s.refusal.Milliseconds())
		}
		fmt.Fprintf(w, "%-14s%8.0f %%%8.0f %%%12.0f %%%8.0f %%%16s%14d\n", v.name,
			s.share(answered), s.share(wasted), s.share(left), s.share(rejected), after, s.longest)
	}
}

// printBounds prints the goodput with other bounds.
func printBounds(w io.Writer, bounds []bound) {
	fmt.Fprintf(w, "\nGoodput with other bounds: at 100 %% load, at %d %%, and at %d %% with work that takes\n"+
		"twice as long as was expected when the bound was chosen\n\n", shown, shown)
	fmt.Fprintf(w, "%14s%8s%8s%8s   %16s%8s%8s%8s\n", "", "100 %", "150 %", "slow", "", "100 %", "150 %", "slow")
	for _, b := range bounds {
		fmt.Fprintf(w, "%-14s", fmt.Sprintf("MaxWaiting(%d)", b.n))
		for _, goodput := range b.byMaxWaiting {
			fmt.Fprintf(w, "%6.0f %%", goodput)
		}
		fmt.Fprintf(w, "   %-16s", fmt.Sprintf("MaxWait(%v)", b.d))
		for _, goodput := range b.byMaxWait {
			fmt.Fprintf(w, "%6.0f %%", goodput)
		}
		fmt.Fprintln(w)
	}
}

// printWeaknesses prints the weakness of each variant.
func printWeaknesses(w io.Writer, results []result, bounds []bound) {
	i := slices.IndexFunc(bounds, func(b bound) bool { return b.n == maxWaiting })
	slow := bounds[i]
	most := results[len(results)-1]
	fmt.Fprintf(w, `
What each is bad at

no bound        Above 100 %%, slots go to requests whose clients are about to leave.
FIFO()          The same. It says who is next, not how many may wait.
MaxWaiting(50)  The number depends on the work: when that takes twice as long, the line
                lasts as long as a client stays, and goodput is %.0f %%. A small number
                rejects in short bursts: MaxWaiting(%d) has %.0f %% at 100 %% load.
MaxWait(500ms)  A client waits %d ms to be rejected, and the line grows with the load: up
                to %d at %d %%, each with a goroutine and a timer.
x/sync          No bound, and so as above. A context that ends after 500 ms, for Acquire
                alone, would be the same as MaxWait.

A bound has to leave time for the work: a wait of %d ms and work of %d ms do not fit
into %d ms. No bound serves more than the slots can: above 100 %% some get no answer.
At 100 %% load the goodput without a bound depends much on -seed: the line grows by chance.
Clients that try again are not simulated. They add to the load.
`, slow.byMaxWaiting[2], bounds[0].n, bounds[0].byMaxWaiting[0],
		most.by[withMaxWait].refusal.Milliseconds(), most.by[withMaxWait].longest, most.load,
		bounds[len(bounds)-1].d.Milliseconds(), meanWork.Milliseconds(), leave.Milliseconds())
}

// A progress shows the progress on a terminal, in a line that changes.
type progress struct {
	w         io.Writer
	live      bool
	run, runs int
}

// show is called before each run.
func (p *progress) show(what string) {
	p.run++
	if p.live {
		fmt.Fprintf(p.w, "\rrun %d of %d: %s\x1b[K", p.run, p.runs, what)
	}
}

// clear removes the line.
func (p *progress) clear() {
	if p.live {
		fmt.Fprint(p.w, "\r\x1b[K")
	}
}

// list joins words as in a sentence.
func list(words []string) string {
	if len(words) < 2 {
		return strings.Join(words, "")
	}
	last := len(words) - 1
	return strings.Join(words[:last], ", ") + " and " + words[last]
}
