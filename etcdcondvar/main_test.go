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

// "Fleet test N" in a comment is number N in the list of tests of this module.
func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const ttl = 4 * time.Second

// A bench is an engine and its resources, in a bubble. At the end of the test
// the engine may have no lease, and no key except the capacity.
type bench struct {
	*engine
	t         *testing.T
	links     map[*etcdcondvar.Resource]*link
	resources []*etcdcondvar.Resource
}

func inBubble(t *testing.T, f func(t *testing.T, b *bench)) {
	synctest.Test(t, func(t *testing.T) {
		b := &bench{newEngine(1), t, map[*etcdcondvar.Resource]*link{}, nil}
		defer time.Sleep(10 * time.Minute) // until all goroutines of the bubble end
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

// A pending is the result of an AcquireN in a goroutine of its own.
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

func (b *bench) startTry(r *etcdcondvar.Resource) <-chan pending {
	done := make(chan pending, 1)
	go func() {
		p, err := r.TryAcquire(context.Background())
		done <- pending{p, err}
	}()
	return done
}

// await returns the Permit of a call that must succeed within 10*ttl.
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

// ticketOf returns the key of the ticket of p.
func ticketOf(p *etcdcondvar.Permit) string {
	guard := p.Guard()
	return string(guard.KeyBytes())
}

// inThisBubble returns the number of goroutines in the bubble. Unlike
// runtime.NumGoroutine, it never counts goroutines of the runtime.
func inThisBubble() int {
	stack := make([]byte, 8<<20)
	own, _, _ := bytes.Cut(stack[:runtime.Stack(stack, false)], []byte("]:"))
	bubble := slices.Clone(own[bytes.Index(own, []byte("synctest bubble")):])
	return bytes.Count(stack[:runtime.Stack(stack, true)], append(bubble, "]:"...))
}
