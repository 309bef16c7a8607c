package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log"
	"os"
	"path/filepath"
	"runtime/trace"
	"sync/atomic"
	"time"

	"example.com/condvar"
	"example.com/condvar/condvardebug"
)

// The flight recorder keeps the trace of the last seconds in memory. The first
// slow wait writes it to a file: it shows what happened before and during the
// wait.
func Example_flightRecorder() {
	recorder := trace.NewFlightRecorder(trace.FlightRecorderConfig{MinAge: 5 * time.Second, MaxBytes: 16 << 20})
	if err := recorder.Start(); err != nil {
		log.Fatal(err)
	}
	defer recorder.Stop()

	file := filepath.Join(os.TempDir(), fmt.Sprintf("slow-wait-%d.trace", os.Getpid()))
	var written atomic.Bool
	var debugger condvardebug.Debugger
	debugger.OnSlowWait(10*time.Millisecond, func(w condvardebug.SlowWait) {
		if !written.CompareAndSwap(false, true) {
			// One file is enough, and WriteTo must not be called concurrently.
			return
		}
		f, err := os.Create(file)
		if err == nil {
			_, err = recorder.WriteTo(f)
			err = errors.Join(err, f.Close())
		}
		fmt.Println("slow wait for", w.Resource, "- trace written:", err == nil)
	})

	// The only permit is held until the call that waits for it is canceled.
	db := condvar.NewCapacityResource(1, debugger.Watch("db"))
	db.Acquire(context.Background())
	ctx, cancel := context.WithCancel(context.Background())
	go func() {
		for db.Stats().OldestWait < 20*time.Millisecond {
			time.Sleep(time.Millisecond)
		}
		cancel()
	}()
	fmt.Println(db.Acquire(ctx))

	b, err := os.ReadFile(file)
	fmt.Println("shows the wait:", err == nil && bytes.Contains(b, []byte("condvar wait db")))
	os.Remove(file)
	// Output:
	// slow wait for db - trace written: true
	// context canceled
	// shows the wait: true
}
