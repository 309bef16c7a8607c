package etcdcondvar_test

import (
	"bytes"
	"context"
	"runtime"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"example.com/condvar/etcdcondvar"
)

// The numbers of "Fleet test N" in comments are those of the list of tests for
// this module.
func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const ttl = 4 * time.Second

// A bench is an engine and resources on it, in a bubble. At the end of the test
// nothing may be left at the engine but the capacity.
type bench struct {
	*engine
	t         *testing.T
	links     map[*etcdcondvar.Resource]*link
	resources []*etcdcondvar.Resource
}

func inBubble(t *testing.T, f func(t *testing.T, b *bench)) {
	synctest.Test(t, func(t *testing.T) {
		b := &bench{newEngine(1), t, map[*etcdcondvar.Resource]*link{}, nil}
		defer time.Sleep(10 * time.Minute) // a bubble must not leave goroutines
		defer b.cancel()
		f(t, b)
		b.set(faults{})
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute)
		defer cancel()
		for _, r := range b.resources {
			require.NoError(t, r.Drain(ctx))
		}
		time.Sleep(time.Minute)
		synctest.Wait()
		b.mu.Lock()
		defer b.mu.Unlock()
		require.LessOrEqual(t, len(b.keys), 1)
		require.Empty(t, b.leases)
	})
}

func (b *bench) resource(capacity int64, opts ...etcdcondvar.Option) *etcdcondvar.Resource {
	client, l := b.client()
	r := etcdcondvar.New(client, "r", capacity, append([]etcdcondvar.Option{etcdcondvar.WithTTL(ttl)}, opts...)...)
	b.resources = append(b.resources, r)
	b.links[r] = l
	return r
}

func (b *bench) acquire(r *etcdcondvar.Resource, n int64) *etcdcondvar.Permit {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Hour)
	defer cancel()
	p, err := r.AcquireN(ctx, n)
	require.NoError(b.t, err)
	return p
}

// A pending call is an AcquireN on a goroutine of its own.
type pending struct {
	p   *etcdcondvar.Permit
	err error
}

func (b *bench) start(ctx context.Context, r *etcdcondvar.Resource, n int64) <-chan pending {
	done := make(chan pending, 1)
	go func() {
		p, err := r.AcquireN(ctx, n)
		done <- pending{p, err}
	}()
	return done
}

// await waits for the Permit of a call that has to succeed by now.
func (b *bench) await(done <-chan pending) *etcdcondvar.Permit {
	b.t.Helper()
	select {
	case got := <-done:
		require.NoError(b.t, got.err)
		return got.p
	case <-time.After(10 * ttl):
		b.t.Fatal("a call hangs")
		return nil
	}
}

// inThisBubble returns how many goroutines the bubble has. Those of the runtime
// are not among them, as they are in runtime.NumGoroutine now and then.
func inThisBubble() int {
	stack := make([]byte, 8<<20)
	own, _, _ := bytes.Cut(stack[:runtime.Stack(stack, false)], []byte("]:"))
	bubble := slices.Clone(own[bytes.Index(own, []byte("synctest bubble")):])
	return bytes.Count(stack[:runtime.Stack(stack, true)], append(bubble, "]:"...))
}
