//go:build condvar_explore

package keyed

import "example.com/condvar"

type mutex = condvar.ExploreMutex
