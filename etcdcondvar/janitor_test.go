package etcdcondvar_test

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestResource_withoutSpace(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bench) {
		r, other := b.resource(1), b.resource(1)
		p := b.acquire(r, 1)
		b.mu.Lock()
		b.noSpace = true
		b.mu.Unlock()
		done := b.start(context.Background(), other, 1)
		time.Sleep(time.Minute)
		require.NoError(t, p.Err())
		p.Release()
		fleet, err := r.Fleet(context.Background())
		require.NoError(t, err)
		require.Zero(t, fleet.InUse)
		b.mu.Lock()
		b.noSpace = false
		b.mu.Unlock()
		b.await(done).Release()
	})
}
