// Command story shows why “check an Event, then count” is a wrong way to share
// a limited resource, and that a CapacityResource is a right one.
//
// A few workers compete for fewer slots, first with a resource that is built on
// an Event, then with a CapacityResource. Both play the same rounds. The number
// of actual holders at a time is counted independently.
//
//	go run ./examples/story
//	go run ./examples/story -slow
//	GOMAXPROCS=1 go run ./examples/story
//
// The exit status is 0 if the CapacityResource kept its promise, 1 if it did
// not, and 2 if the flags are invalid.
package main

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"runtime"
	"strconv"
	"strings"
	"time"

	"example.com/condvar/internal/terminal"
)

func main() {
	os.Exit(run(os.Args[1:], os.Stdout, os.Stderr, os.Getenv))
}

// A config is the values of the flags.
type config struct {
	workers int
	slots   int
	hold    time.Duration
	rounds  int
	budget  time.Duration // for the rounds of one resource; 0 is no limit
	slow    bool
	svg     string
}

const (
	maxWorkers = 1000
	maxHold    = time.Minute

	// defaultBudget is the budget if the number of rounds is not given: a busy
	// machine plays fewer rounds rather than take longer.
	defaultBudget = 4 * time.Second
)

// run is main without access to the process. It returns the exit status.
func run(args []string, stdout, stderr io.Writer, getenv func(string) string) int {
	cfg, err := parse(args, stdout)
	switch {
	case errors.Is(err, flag.ErrHelp):
		return 0
	case err != nil:
		fmt.Fprintf(stderr, "story: %v\nThe flag -h lists all flags.\n", err)
		return 2
	}

	out := &console{
		w:       stdout,
		color:   terminal.HasColor(stdout, getenv),
		columns: terminal.Columns(getenv),
	}
	status := &progress{w: stderr, live: terminal.Is(stderr, getenv)}

	out.intro(cfg)
	event := measure(cfg, func() sharedResource { return newEventResource(cfg.slots, cfg.slow) },
		status.reporter("Event", cfg.rounds))
	status.clear()
	event.title = "Counter and Event: check, then count"
	if cfg.slow {
		event.title = "Counter and Event: check, yield, then count"
	}
	out.chapter(event)
	capacity := measure(cfg, func() sharedResource { return newCapacityResource(cfg.slots) },
		status.reporter("CapacityResource", cfg.rounds))
	status.clear()
	capacity.title = "CapacityResource: check and count in one step"
	out.chapter(capacity)
	out.verdict(cfg, event, capacity)

	if cfg.svg != "" {
		if err := os.WriteFile(cfg.svg, picture(event, capacity), 0o666); err != nil {
			fmt.Fprintf(stderr, "story: cannot write the picture: %v\n", err)
			return 2
		}
	}
	if !capacity.keptPromise() {
		return 1
	}
	return 0
}

// parse parses args. The error says what is wrong with them. If they request
// help, parse writes it to stdout.
func parse(args []string, stdout io.Writer) (config, error) {
	var cfg config
	fs := flag.NewFlagSet("story", flag.ContinueOnError)
	fs.SetOutput(io.Discard)
	fs.IntVar(&cfg.workers, "workers", 5, "how many workers compete")
	fs.IntVar(&cfg.slots, "slots", 2, "how many slots there are")
	fs.DurationVar(&cfg.hold, "hold", 5*time.Microsecond, "how long a worker holds a slot")
	fs.IntVar(&cfg.rounds, "rounds", 40000, "how many rounds to play with each resource; by default fewer if they take long")
	fs.BoolVar(&cfg.slow, "slow", false, "yield the processor between check and count: nearly every round of the Event fails")
	fs.StringVar(&cfg.svg, "svg", "", "write the timelines to `file` as a picture")

	err := fs.Parse(args)
	switch {
	case errors.Is(err, flag.ErrHelp):
		fmt.Fprint(stdout, "Workers compete for slots: an Event against a CapacityResource.\n\nFlags:\n")
		fs.SetOutput(stdout)
		fs.PrintDefaults()
		return cfg, err
	case err != nil:
		return cfg, err
	case fs.NArg() > 0:
		return cfg, fmt.Errorf("unexpected argument %q", fs.Arg(0))
	case cfg.workers < 1 || cfg.workers > maxWorkers:
		return cfg, fmt.Errorf("-workers must be from 1 to %d, not %d", maxWorkers, cfg.workers)
	case cfg.slots < 1:
		return cfg, fmt.Errorf("-slots must be at least 1, not %d", cfg.slots)
	case cfg.hold < 0 || cfg.hold > maxHold:
		return cfg, fmt.Errorf("-hold must be from 0 to %v, not %v", maxHold, cfg.hold)
	case cfg.rounds < 1:
		return cfg, fmt.Errorf("-rounds must be at least 1, not %d", cfg.rounds)
	}
	cfg.budget = defaultBudget
	fs.Visit(func(f *flag.Flag) {
		if f.Name == "rounds" {
			cfg.budget = 0
		}
	})
	return cfg, terminal.CheckWritable(cfg.svg) // before the work
}

// A console prints the story.
type console struct {
	w       io.Writer
	color   bool
	columns int
}

func (c *console) printf(format string, args ...any) { fmt.Fprintf(c.w, format, args...) }

func (c *console) intro(cfg config) {
	c.printf("%s compete for %s on %s. In a round each takes a slot,\n",
		count(cfg.workers, "worker"), count(cfg.slots, "slot"), count(runtime.GOMAXPROCS(0), "processor"))
	c.printf("holds it for %v, gives it back and rests for %v, %d times.\n",
		cfg.hold, rest(cfg.hold), lapsPerRound)
}

// chapter prints the result of one resource, and a round.
func (c *console) chapter(r result) {
	c.printf("\n%s\n", terminal.Paint(c.color, terminal.Bold, r.title))
	switch {
	case r.over == 1:
		c.printf("The one round that went over capacity, number %s:\n\n", thousands(r.shown.round))
	case r.over > 1:
		c.printf("The worst of the %s rounds that went over capacity, number %s:\n\n",
			thousands(r.over), thousands(r.shown.round))
	default:
		c.printf("No round went over capacity. This is the last one, number %s:\n\n", thousands(r.shown.round))
	}
	r.shown.draw(c.w, c.columns, c.color)
	c.printf("\n%s\n", terminal.Paint(c.color, terminal.Faint, fmt.Sprintf("%c waits   %c holds", waits, holds)))
	if r.over > 0 {
		c.printf("Between the check and the count of one worker others pass the check as well.\n")
	}
}

func (c *console) verdict(cfg config, event, capacity result) {
	c.printf("\nEvent:            %s\n", c.paintVerdict(event))
	c.printf("CapacityResource: %s\n", c.paintVerdict(capacity))
	if event.over > 0 {
		return
	}
	c.printf("\n")
	switch {
	case cfg.workers <= cfg.slots:
		c.printf("There is a slot for every worker, so nobody ever has to wait.\n")
	case runtime.GOMAXPROCS(0) == 1:
		c.printf("Why nothing shows: with GOMAXPROCS=1 one goroutine runs at a time, and it is\n" +
			"hardly ever interrupted in the nanoseconds between check and count. In asyncio\n" +
			"that is the rule: a task switches only at an await. In Go it is luck. Give it\n" +
			"more processors, or try -slow.\n")
	default:
		c.printf("It did not show this time, but nothing rules it out: try more -rounds, or -slow.\n")
	}
}

func (c *console) paintVerdict(r result) string {
	s := terminal.Green
	if !r.keptPromise() {
		s = terminal.Red
	}
	return terminal.Paint(c.color, s, r.verdict()+".")
}

// A progress shows the progress: on a terminal in a line that changes,
// otherwise in a line for each quarter.
type progress struct {
	w    io.Writer
	live bool
}

// reporter returns a function for measure to call.
func (p *progress) reporter(name string, rounds int) func(result) {
	var last time.Time
	quarters := 0
	return func(r result) {
		line := func() string {
			return fmt.Sprintf("%s: round %s of %s, %s over capacity",
				name, thousands(r.rounds), thousands(rounds), thousands(r.over))
		}
		switch {
		case p.live && time.Since(last) >= 50*time.Millisecond:
			last = time.Now()
			fmt.Fprintf(p.w, "\r%s\x1b[K", line())
		case !p.live && r.rounds*4/rounds > quarters:
			quarters = r.rounds * 4 / rounds
			fmt.Fprintln(p.w, line())
		}
	}
}

// clear removes the line.
func (p *progress) clear() {
	if p.live {
		fmt.Fprint(p.w, "\r\x1b[K")
	}
}

// count returns n and the noun, in the plural if necessary.
func count(n int, noun string) string {
	if n != 1 {
		noun += "s"
	}
	return thousands(n) + " " + noun
}

// percent returns n as a percentage of all. Only n = all gives 100, and only n
// = 0 gives 0.
func percent(n, all int) string {
	p := 100 * float64(n) / float64(all)
	switch {
	case n == all:
		return "100 %"
	case p > 99.9:
		return "over 99.9 %"
	case p < 0.001:
		return "under 0.001 %"
	case p < 0.1:
		return fmt.Sprintf("%.3f %%", p)
	case p < 10:
		return fmt.Sprintf("%.2f %%", p)
	}
	return fmt.Sprintf("%.1f %%", p)
}

// thousands returns n with a comma between groups of three digits.
func thousands(n int) string {
	s := strconv.Itoa(n)
	var groups []string
	for ; len(s) > 3; s = s[:len(s)-3] {
		groups = append([]string{s[len(s)-3:]}, groups...)
	}
	return strings.Join(append([]string{s}, groups...), ",")
}
