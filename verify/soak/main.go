// Command soak runs a mixed load on all types of package condvar concurrently,
// and counts calls and results. The exit status is 0 only if all counts agree.
//
//	go run ./soak                      ten seconds
//	go run ./soak -duration 10m        some billions of operations
//	go run ./soak -plant lost          a planted fault, which it has to find
//
// Goroutines use each type, with cancellations, deadlines, resizes, panics and
// Goexit, while GOMAXPROCS changes. The load consists of rounds of some
// milliseconds. At the end of each round everything is at rest, and the counts
// of notifications, permits and waiters must be exact. A round that does not
// end means a lost wake-up. The memory after a quarter of the time is compared
// with the memory at the end. An unplanned panic ends the run with its stack.
//
// An operation is a call of a method of the library. One “that could wait” is a
// Wait, WaitFor or Listen that may have to wait, or an acquisition that did
// wait.
//
// An interrupt ends the run, with a verdict on the rounds so far. A second one
// kills it. Built with GOEXPERIMENT=goroutineleakprofile it looks for
// goroutines that wait on something unreachable.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"slices"
	"strings"
	"syscall"
	"time"
)

func main() {
	var c config
	flag.DurationVar(&c.duration, "duration", 10*time.Second, "how long to run")
	flag.Uint64Var(&c.seed, "seed", 1, "seed of the random choices of the workers")
	flag.DurationVar(&c.hangsAfter, "hangs-after", 20*time.Second, "time without progress after which a part hangs")
	flag.StringVar(&c.plant, "plant", "", "fault to plant: "+strings.Join(plants(), ", "))
	flag.Parse()
	if flag.NArg() > 0 || c.duration <= 0 || c.hangsAfter <= 0 || c.plant != "" && !slices.Contains(plants(), c.plant) {
		flag.Usage()
		os.Exit(2)
	}

	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop) // the next signal kills
	info, err := os.Stdout.Stat()
	terminal := err == nil && info.Mode()&os.ModeCharDevice != 0
	fmt.Printf("soak of %v, seed %d\n", c.duration, c.seed)
	if !run(ctx, c, os.Stdout, terminal) {
		os.Exit(1)
	}
}
