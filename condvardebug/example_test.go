package condvardebug_test

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"time"

	"example.com/condvar"
	"example.com/condvar/condvardebug"
)

// A service makes its Debugger available on a listener that is not public.
func Example() {
	ctx, stop := context.WithCancel(context.Background())
	defer stop()
	debugger := &condvardebug.Debugger{}
	debugger.SetHolderProfileFraction(1)
	db := condvar.NewCapacityResource(2, debugger.Watch("db"))
	go debugger.Run(ctx)
	mux := http.NewServeMux()
	mux.Handle("/debug/condvar", debugger)

	// A request for the page.
	if err := db.AcquireN(ctx, 2); err != nil {
		fmt.Println(err)
	}
	w := httptest.NewRecorder()
	mux.ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/debug/condvar?format=text", nil))
	for line := range strings.Lines(w.Body.String()) {
		if strings.HasPrefix(line, `"db": `) {
			fmt.Print(line)
		}
	}
	db.ReleaseN(2)
	// Output: "db": All is in use. Nobody waits.
}

// Long waits are logged with their call sites.
func ExampleDebugger_OnSlowWait() {
	var debugger condvardebug.Debugger
	debugger.OnSlowWait(time.Millisecond, func(w condvardebug.SlowWait) {
		function, _, _ := strings.Cut(w.Stack, "\n")
		fmt.Println(w.Resource, w.N, w.Err, "in", function[strings.LastIndex(function, ".")+1:])
		// With slog: slog.WarnContext(w.Ctx, "slow wait", "wait", w)
	})
	db := condvar.NewCapacityResource(1, debugger.Watch("db"))

	ctx, cancel := context.WithCancel(context.Background())
	go func() { // a call is canceled
		for db.Stats().OldestWait < 2*time.Millisecond {
			time.Sleep(time.Millisecond)
		}
		cancel()
	}()
	fmt.Println(db.Acquire(ctx))
	fmt.Println(db.AcquireN(ctx, 1))
	// Output:
	// <nil>
	// db 1 context canceled in ExampleDebugger_OnSlowWait
	// context canceled
}
