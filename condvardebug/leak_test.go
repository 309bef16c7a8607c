//go:build goexperiment.goroutineleakprofile || go1.27

package condvardebug_test

import (
	"bytes"
	"context"
	"os"
	"os/exec"
	"runtime"
	"runtime/pprof"
	"testing"

	"github.com/stretchr/testify/require"

	"example.com/condvar"
	"example.com/condvar/condvardebug"
)

// The goroutine leak profile finds waiters of a resource that is watched in
// every way. The waiter is leaked in its own process, because it cannot be
// ended.
func TestTheLeakProfileFindsWhoWaitsForWhatIsWatched(t *testing.T) {
	if os.Getenv("CONDVARDEBUG_LEAK") != "" {
		var d condvardebug.Debugger
		watchLeak(&d)
		var b bytes.Buffer
		require.NoError(t, pprof.Lookup("goroutineleak").WriteTo(&b, 1))
		runtime.KeepAlive(&d)
		_, _ = os.Stdout.Write(b.Bytes())
		os.Exit(0)
	}
	leak := exec.Command(os.Args[0], "-test.run=^"+t.Name()+"$")
	leak.Env = append(os.Environ(), "CONDVARDEBUG_LEAK=1")
	out, err := leak.CombinedOutput()
	require.NoError(t, err, "%s", out)
	require.Contains(t, string(out), "goroutineleak profile: total 1\n")
	require.Contains(t, string(out), "condvar.(*CapacityResource).acquireSlow")
}

// watchLeak leaks a waiter of a resource. d has a record of its only permit.
func watchLeak(d *condvardebug.Debugger) {
	d.SetHolderProfileFraction(1)
	r := condvar.NewCapacityResource(1, d.Watch("leaky"))
	// Nothing can end ctx after watchLeak returns.
	ctx, cancel := context.WithCancel(context.Background())
	_ = cancel
	_ = r.Acquire(ctx)
	go func() { _ = r.Acquire(ctx) }()
	for r.Stats().Waiting == 0 {
		runtime.Gosched()
	}
}
