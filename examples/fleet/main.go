//go:build unix

// Command fleet shows processes that share permits through etcd, and what
// happens when one is killed, when one is stopped and continued, and when the
// capacity changes.
//
//	go run .
//	go run . -workers 8 -capacity 3 -svg fleet.svg
//	go run . -endpoints localhost:2379
//
// It starts an etcd server in a temporary folder, and worker processes that run
// the same program. At the end it compares the times in which the workers
// believed to hold permits with the history of etcd.
//
// The exit status is 0 if all guarantees held, 1 if one was violated or the run
// failed, and 2 if the flags are invalid or the picture cannot be written.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strconv"
	"strings"
	"syscall"
	"time"

	"example.com/condvar/internal/terminal"
)

func main() {
	if args := os.Getenv(workerEnv); args != "" {
		os.Exit(work(args, os.Stdin, os.Stdout, os.Stderr))
	}
	// After SIGPIPE, which means that the output is closed, run cleans up, too.
	ctx, stop := signal.NotifyContext(context.Background(),
		os.Interrupt, syscall.SIGTERM, syscall.SIGHUP, syscall.SIGPIPE)
	defer stop()
	os.Exit(run(ctx, os.Args[1:], os.Stdout, os.Stderr, os.Getenv))
}

// A config has the values of the flags.
type config struct {
	workers   int
	capacity  int64
	ttl       time.Duration
	endpoints string
	svg       string
	plant     string // a bug, for the tests: see work
}

const (
	maxWorkers  = 50
	maxCapacity = 1000
	minTTL      = 2 * time.Second // etcd makes no shorter lease
	maxTTL      = 4 * time.Second
)

// run runs the program and returns the exit status.
func run(ctx context.Context, args []string, stdout, stderr io.Writer, getenv func(string) string) int {
	cfg, err := parse(args, stdout)
	switch {
	case errors.Is(err, flag.ErrHelp):
		return 0
	case err != nil:
		fmt.Fprintf(stderr, "fleet: %v\nThe flag -h lists all flags.\n", err)
		return 2
	}
	cfg.plant = getenv(plantEnv)
	endpoints := strings.Split(cfg.endpoints, ",")
	if cfg.endpoints == "" {
		endpoint, stop, err := startServer(ctx, getenv("TMPDIR"))
		switch {
		case ctx.Err() != nil:
			fmt.Fprintln(stderr, "fleet: interrupted")
			return 1
		case err != nil:
			fmt.Fprintf(stderr, "fleet: cannot start etcd: %v\n", err)
			return 1
		}
		defer stop()
		endpoints = []string{endpoint}
	}
	out := &console{w: stdout, color: terminal.HasColor(stdout, getenv), columns: terminal.Columns(getenv)}
	rec, err := play(ctx, cfg, endpoints, out)
	switch {
	case ctx.Err() != nil:
		fmt.Fprintln(stderr, "fleet: interrupted")
		return 1
	case err != nil:
		fmt.Fprintf(stderr, "fleet: %v\n", err)
		return 1
	}
	v := rec.judge()
	out.chapter(rec, v)
	if cfg.svg != "" {
		if err := os.WriteFile(cfg.svg, picture(rec, v), 0o666); err != nil {
			fmt.Fprintf(stderr, "fleet: cannot write the picture: %v\n", err)
			return 2
		}
	}
	if !v.kept() {
		return 1
	}
	return 0
}

// parse returns the configuration in args, or an error that says what is wrong
// with them. It writes the help to stdout if args ask for it.
func parse(args []string, stdout io.Writer) (config, error) {
	var cfg config
	fs := flag.NewFlagSet("fleet", flag.ContinueOnError)
	fs.SetOutput(io.Discard)
	fs.IntVar(&cfg.workers, "workers", 5, "number of worker processes")
	fs.Int64Var(&cfg.capacity, "capacity", 4, "number of permits")
	fs.DurationVar(&cfg.ttl, "ttl", 2*time.Second, "`duration` of a lease, in whole seconds")
	fs.StringVar(&cfg.endpoints, "endpoints", "", "use the etcd at these `addresses`, separated by commas")
	fs.StringVar(&cfg.svg, "svg", "", "write the timeline to `file` as a picture")

	err := fs.Parse(args)
	switch {
	case errors.Is(err, flag.ErrHelp):
		fmt.Fprint(stdout, "Processes share permits through etcd.\n\nFlags:\n")
		fs.SetOutput(stdout)
		fs.PrintDefaults()
		return cfg, err
	case err != nil:
		return cfg, err
	case fs.NArg() > 0:
		return cfg, fmt.Errorf("unexpected argument %q", fs.Arg(0))
	case cfg.workers < 3 || cfg.workers > maxWorkers:
		return cfg, fmt.Errorf("-workers must be from 3 to %d, not %d: one is killed, one is stopped", maxWorkers, cfg.workers)
	case cfg.capacity < 1 || cfg.capacity > maxCapacity:
		return cfg, fmt.Errorf("-capacity must be from 1 to %d, not %d", maxCapacity, cfg.capacity)
	case cfg.ttl < minTTL || cfg.ttl > maxTTL || cfg.ttl%time.Second != 0:
		return cfg, fmt.Errorf("-ttl must be from %v to %v in whole seconds, not %v", minTTL, maxTTL, cfg.ttl)
	}
	for _, endpoint := range strings.Split(cfg.endpoints, ",") {
		if endpoint == "" && cfg.endpoints != "" {
			return cfg, fmt.Errorf("-endpoints has an empty address: %q", cfg.endpoints)
		}
	}
	return cfg, terminal.CheckWritable(cfg.svg) // before the work
}

// A console writes the output.
type console struct {
	w       io.Writer
	color   bool
	columns int
}

func (c *console) printf(format string, args ...any) { fmt.Fprintf(c.w, format, args...) }

// chapter draws the timeline, and writes which guarantees held.
func (c *console) chapter(rec *record, v verdict) {
	c.printf("\n")
	rec.draw(c.w, v, c.columns, c.color)
	c.printf("\n%s\n\n", terminal.Paint(c.color, terminal.Faint, legend()))
	c.printf("%s\n", v.title)
	for _, p := range v.promises {
		if p.broken == "" {
			c.printf("  %s  %s\n", terminal.Paint(c.color, terminal.Green, "kept  "), p.text)
		} else {
			c.printf("  %s  %s: %s\n", terminal.Paint(c.color, terminal.Red, "BROKEN"), p.text, p.broken)
		}
	}
}

// count returns n and the noun, in the plural unless n is 1.
func count[T int | int64](n T, noun string) string {
	if n != 1 {
		noun += "s"
	}
	return strconv.FormatInt(int64(n), 10) + " " + noun
}
