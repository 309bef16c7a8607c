// Command soak puts a mixed load on all types of package condvar at once, and
// counts what it does and what comes of it. It ends with exit status 0 only if
// all adds up.
//
//	go run ./soak                      ten seconds
//	go run ./soak -duration 10m        some billions of operations
//	go run ./soak -plant lost          something wrong, which it has to find
//
// Each type is used by real goroutines, with cancellations, deadlines, resizes,
// panics and Goexit, at changing values of GOMAXPROCS. The load is made of
// rounds of some milliseconds. At the end of each round nothing moves, and
// notifications, permits and waiters have to add up exactly. A round that does
// not end is a lost wake-up. Memory after a quarter of the time is compared
// with memory at the end. A panic that nobody planned ends the run with its
// stack.
//
// An operation is a call of a method of the library, and one “that could wait”
// is a Wait, WaitFor or Listen where something could be waited for, or an
// acquisition that did wait.
//
// An interrupt ends the run, with a verdict on what was done; a second one
// kills it. Built with GOEXPERIMENT=goroutineleakprofile it looks for
// goroutines that wait where nobody can reach them.
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
	flag.Uint64Var(&c.seed, "seed", 1, "what the workers do follows from it")
	flag.DurationVar(&c.hangsAfter, "hangs-after", 20*time.Second, "how long a part may be without progress")
	flag.StringVar(&c.plant, "plant", "", "something wrong to plant: "+strings.Join(plants(), ", "))
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
