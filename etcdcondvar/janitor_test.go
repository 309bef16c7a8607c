package etcdcondvar_test

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// If the outcome of a delete is unknown, it may be applied later. Then it must
// not delete another ticket.
func TestResource_aLateDeleteFindsNothing(t *testing.T) {
	for _, lost := range []step{{hold: ttl / 2}, {loseAnswer: true}} {
		inBubble(t, func(t *testing.T, b *bench) {
			r := b.resource(1)
			p := b.acquire(r, 1)
			b.then("delete", lost)
			p.Release()
			next := b.acquire(r, 1)
			require.Equal(t, ticketOf(p), ticketOf(next))
			time.Sleep(ttl)
			require.NoError(t, next.Err())
			require.Equal(t, 1, b.tickets())
			next.Release()
		})
	}
}

func TestResource_withoutSpace(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bench) {
		r, other := b.resource(1), b.resource(1)
		p := b.acquire(r, 1)
		b.setNoSpace(true)
		done := b.start(context.Background(), other, 1)
		time.Sleep(time.Minute)
		require.NoError(t, p.Err())
		p.Release()
		fleet, err := r.Fleet(context.Background())
		require.NoError(t, err)
		require.Zero(t, fleet.InUse)
		b.setNoSpace(false)
		b.await(done).Release()
	})
}
