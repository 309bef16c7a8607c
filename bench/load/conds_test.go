package load

import (
	"context"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
)

type countingCond struct{ waits, broadcasts int }

func (c *countingCond) Wait(context.Context) { c.waits++ }
func (c *countingCond) Signal()              {}
func (c *countingCond) Broadcast()           { c.broadcasts++ }

func TestDividedFillsItsLines(t *testing.T) {
	var lines []*countingCond
	c := divided(3, func(sync.Locker) cond {
		lines = append(lines, &countingCond{})
		return lines[len(lines)-1]
	})(&sync.Mutex{})
	for crowd := 1; crowd <= 2; crowd++ {
		for range 3 * lineLength {
			c.Wait(t.Context())
		}
		c.Broadcast()
		for _, line := range lines {
			require.Equal(t, countingCond{crowd * lineLength, crowd}, *line)
		}
	}
}
