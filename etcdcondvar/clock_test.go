package etcdcondvar_test

import (
	"context"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"example.com/condvar/etcdcondvar"
)

// Fleet test 39: only the wall clock shows a suspend.
func TestPermit_ErrReadsBothClocks(t *testing.T) {
	for name, c := range map[string]struct {
		mono, wall time.Duration
		lost       bool
	}{
		"suspended":    {0, ttl, true},
		"set back":     {time.Millisecond, -time.Hour, false},
		"set forward":  {0, time.Hour, true},
		"just before":  {ttl - etcdcondvar.Margin(ttl) - time.Millisecond, 0, false},
		"just after":   {ttl - etcdcondvar.Margin(ttl), 0, true},
		"wall forward": {0, ttl - etcdcondvar.Margin(ttl), true},
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(t *testing.T, b *bench) {
				var mu sync.Mutex
				var mono, wall time.Duration
				start := time.Now()
				r := b.resource(1)
				r.SetClock(func() (time.Duration, time.Duration) {
					mu.Lock()
					defer mu.Unlock()
					return time.Since(start) + mono, time.Since(start) + wall
				})
				p := b.acquire(r, 1)
				ctx := p.Context(context.Background())
				mu.Lock()
				mono, wall = c.mono, c.wall
				mu.Unlock()
				if c.lost {
					require.Equal(t, context.Canceled, ctx.Err())
					require.Equal(t, etcdcondvar.ErrLost, context.Cause(ctx))
					require.Equal(t, etcdcondvar.ErrLost, p.Err())
				} else {
					require.NoError(t, ctx.Err())
					require.NoError(t, p.Err())
				}
				p.Release()
				q := b.acquire(r, 1) // a new session is valid
				require.NoError(t, q.Err())
				q.Release()
			})
		})
	}
}

// Fleet test 39: a clock that runs 2 % fast or slow.
func TestClock_drifts(t *testing.T) {
	for _, percent := range []time.Duration{98, 102} {
		inBubble(t, func(t *testing.T, b *bench) {
			start := time.Now()
			r := b.resource(1)
			r.SetClock(func() (time.Duration, time.Duration) {
				d := time.Since(start) * percent / 100
				return d, d
			})
			p := b.acquire(r, 1)
			time.Sleep(time.Minute)
			require.NoError(t, p.Err(), "the lease is renewed in time")
			ended := p.Context(context.Background())
			b.cut(b.links[r], time.Hour)
			cut := time.Now()
			<-ended.Done()
			require.Equal(t, 1, b.tickets(), "the permit is lost before its ticket is deleted")
			require.Greater(t, time.Since(cut), ttl/2)
			time.Sleep(ttl/5 + 2*etcdcondvar.Margin(ttl))
			require.Zero(t, b.tickets())
			b.cut(b.links[r], 0)
			time.Sleep(time.Hour)
			p.Release()
		})
	}
}
