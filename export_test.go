package condvar

import "sync"

// Mu returns the internal mutex of c, for tests that hold it.
func (c *Cond) Mu() *sync.Mutex { return &c.mu }
