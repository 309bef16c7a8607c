// Command compare measures package condvar and its rivals, in turns, and writes
// the results to a folder: the raw figures for benchstat, the ratios with their
// limits, and pictures.
//
//	go run ./cmd/compare            everything
//	go run ./cmd/compare -short     a few rounds, to see that it works
//	go run ./cmd/compare -draw      no measurements: only redraws
package main

import (
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"strconv"
	"strings"
	"time"

	"example.com/condvar/bench/load"
)

func main() {
	var p plan
	pattern := flag.String("run", "", "measure only the workloads whose name matches this `regexp`")
	cpus := flag.String("cpu", "2,1", "the values of GOMAXPROCS; the first, which gets the most rounds, is that of the bars and pictures")
	dir := flag.String("out", "results", "the `folder` for the results")
	flag.IntVar(&p.rounds, "rounds", 10, "how many times to measure each")
	flag.DurationVar(&p.slice, "benchtime", 100*time.Millisecond, "how long to measure, each time")
	short := flag.Bool("short", false, "three rounds, short ones, without crowds of a million, with one value of GOMAXPROCS")
	redraw := flag.Bool("draw", false, "draw the pictures from raw.txt in the folder for the results, without measuring")
	flag.Parse()
	var err error
	if p.pattern, err = regexp.Compile(*pattern); err == nil {
		p.cpus, err = parseInts(*cpus)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "compare:", err)
		os.Exit(2)
	}
	p.most = hugeCrowd
	if *short {
		p.rounds, p.slice, p.cpus, p.most = 3, 20*time.Millisecond, p.cpus[:1], hugeCrowd-1
	}
	if *redraw {
		err = draw(*dir, p.cpus[0])
	} else {
		err = run(p, *dir)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "compare:", err)
		os.Exit(1)
	}
}

func run(p plan, dir string) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	workloads := load.Workloads()
	start := time.Now()
	s := measure(workloads, p, progress)
	about := fmt.Sprintf("%score to core: %v\nrounds: %d\nduration: %v\n", machine(), coreToCore(), p.rounds, time.Since(start).Round(time.Second))

	var raw, summary strings.Builder
	fmt.Fprint(&raw, about, "\n")
	s.writeRaw(&raw)
	fmt.Fprint(&summary, about, "\n")
	writeBars(&summary, s, p.cpus[0])
	writeRatios(&summary, s, workloads, p.cpus)
	fmt.Print(summary.String())
	for name, text := range map[string]string{"raw.txt": raw.String(), "summary.txt": summary.String()} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			return err
		}
	}
	return draw(dir, p.cpus[0]) // of the rounded figures, as -draw does
}

// draw draws the pictures in dir from raw.txt there.
func draw(dir string, cpus int) error {
	file := filepath.Join(dir, "raw.txt")
	raw, err := os.Open(file)
	if err != nil {
		return err
	}
	defer raw.Close() //nolint:errcheck // it is only read
	s, err := readRaw(raw)
	if err != nil {
		return fmt.Errorf("%s: %w", file, err)
	}
	for name, svg := range pictures(s, load.Workloads(), cpus) {
		if err := os.WriteFile(filepath.Join(dir, name), svg, 0o644); err != nil {
			return err
		}
	}
	return nil
}

// progress keeps a line on the terminal up to date.
func progress(done, all int, what string) {
	fmt.Fprintf(os.Stderr, "\r\x1b[K%d of %d  %s", done, all, what)
	if done == all {
		fmt.Fprintln(os.Stderr)
	}
}

// machine says where this runs, in the form that benchstat reads.
func machine() string {
	var b strings.Builder
	fmt.Fprintf(&b, "goos: %s\ngoarch: %s\npkg: example.com/condvar/bench\n", runtime.GOOS, runtime.GOARCH)
	if info, err := os.ReadFile("/proc/cpuinfo"); err == nil {
		if m := regexp.MustCompile(`(?m)^model name\s*: (.*)$`).FindSubmatch(info); m != nil {
			fmt.Fprintf(&b, "cpu: %s\n", m[1])
		}
	}
	fmt.Fprintf(&b, "cores: %d\ngo: %s\ndate: %s\n", runtime.NumCPU(), runtime.Version(), time.Now().UTC().Format(time.DateOnly))
	if commit, err := exec.Command("git", "describe", "--always", "--dirty").Output(); err == nil {
		fmt.Fprintf(&b, "commit: %s", commit)
	}
	return b.String()
}

func parseInts(list string) (ints []int, err error) {
	for field := range strings.SplitSeq(list, ",") {
		n, err := strconv.Atoi(field)
		if err != nil || n < 1 {
			return nil, fmt.Errorf("bad -cpu %q", list)
		}
		ints = append(ints, n)
	}
	return ints, nil
}
