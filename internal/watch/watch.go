// Package watch keeps resources by name, for packages that export the Stats of
// resources. The Stats of resources with the same name are added up.
package watch

import (
	"runtime"
	"sync"
	"time"
	"weak"

	"example.com/condvar"
)

// A Set has resources by keys, such as names. It does not keep them alive. The
// zero value is empty. All methods may be called by multiple goroutines
// simultaneously.
type Set[K comparable] struct {
	mu     sync.Mutex
	groups map[K]*group // guarded by mu, and so are the groups
}

// A group is the resources with the same key.
type group struct {
	// last is as of the last Sums.
	last map[weak.Pointer[condvar.CapacityResource]]Counters

	gone Counters // of the resources whose cleanup has run
}

// counters returns the totals of all resources, including collected ones whose
// cleanup has not run yet.
func (g *group) counters() Counters {
	sum := g.gone
	for _, c := range g.last {
		sum.add(c)
	}
	return sum
}

// Counters are the totals of [condvar.Stats].
type Counters struct {
	WaitCount, Canceled, Rejected int64
	WaitDuration                  time.Duration
}

func (c *Counters) add(d Counters) {
	c.WaitCount += d.WaitCount
	c.Canceled += d.Canceled
	c.Rejected += d.Rejected
	c.WaitDuration += d.WaitDuration
}

// after reports whether c was read from a resource after d.
func (c *Counters) after(d Counters) bool {
	return c.WaitCount > d.WaitCount || c.Rejected > d.Rejected
}

// A Sum is the Stats of all resources of a key.
type Sum struct {
	// Counters do not decrease while there is a resource of the key. They do
	// not include what a collected resource counted after the last Sums.
	Counters

	// Resources counts all resources. Paused ones are open with capacity 0.
	Resources, Closed, Paused int

	// These are float64 because a sum of int64 may overflow. ClosedInUse is the
	// part of InUse of closed resources.
	Capacity, InUse, Waiting, WaitingN, ClosedInUse float64

	// Oldest is of the resource whose head has waited longest. It is zero if no
	// call waits.
	Oldest condvar.Stats
}

func (sum *Sum) add(s condvar.Stats) {
	sum.Resources++
	switch {
	case s.Closed:
		sum.Closed++
		sum.ClosedInUse += float64(s.InUse)
	case s.Capacity == 0:
		sum.Paused++
	}
	if s.Waiting > 0 && (sum.Oldest.Waiting == 0 || s.OldestWait > sum.Oldest.OldestWait) {
		sum.Oldest = s
	}
	sum.Capacity += float64(s.Capacity)
	sum.InUse += float64(s.InUse)
	sum.Waiting += float64(s.Waiting)
	sum.WaitingN += float64(s.WaitingN)
}

func countersOf(s condvar.Stats) Counters {
	return Counters{s.WaitCount, s.Canceled, s.Rejected, s.WaitDuration}
}

// Add adds r, unless the Set has it already. When the last resource of the key
// has been garbage collected, empty is called, unless it is nil, and no method
// of the Set runs during that call. empty must not refer to r; it may refer to
// the Set.
func (s *Set[K]) Add(key K, r *condvar.CapacityResource, empty func()) {
	w := weak.Make(r)
	s.mu.Lock()
	defer s.mu.Unlock()
	g := s.groups[key]
	if g == nil {
		if s.groups == nil {
			s.groups = make(map[K]*group)
		}
		g = &group{last: make(map[weak.Pointer[condvar.CapacityResource]]Counters)}
		s.groups[key] = g
	}
	if _, again := g.last[w]; again {
		return
	}
	g.last[w] = Counters{}
	set := weak.Make(s)
	runtime.AddCleanup(r, func(w weak.Pointer[condvar.CapacityResource]) {
		s := set.Value()
		if s == nil {
			return
		}
		s.mu.Lock()
		defer s.mu.Unlock()
		g.gone.add(g.last[w])
		delete(g.last, w)
		if len(g.last) == 0 && s.groups[key] == g { // otherwise it was removed
			delete(s.groups, key)
			if empty != nil {
				empty()
			}
		}
	}, w)
}

// Remove removes the resources of key.
func (s *Set[K]) Remove(key K) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.groups, key)
}

// Len returns the number of resources, including collected ones whose cleanup
// has not run yet.
func (s *Set[K]) Len() (n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, g := range s.groups {
		n += len(g.last)
	}
	return n
}

// Sums calls Stats once for each resource, while no lock is held, and adds up
// the results of each key.
func (s *Set[K]) Sums() map[K]*Sum {
	type source struct {
		key K
		*group
		r *condvar.CapacityResource
	}
	var sources []source
	s.mu.Lock()
	for key, g := range s.groups {
		for w := range g.last {
			if r := w.Value(); r != nil {
				sources = append(sources, source{key, g, r})
			}
		}
	}
	s.mu.Unlock()

	stats := make([]condvar.Stats, len(sources))
	for i, source := range sources {
		stats[i] = source.r.Stats()
	}

	s.mu.Lock()
	defer s.mu.Unlock()
	for i, source := range sources {
		now, w := countersOf(stats[i]), weak.Make(source.r)
		if now.after(source.last[w]) { // otherwise another Sums was later
			source.last[w] = now
		}
	}
	sums := make(map[K]*Sum)
	for i, source := range sources {
		if sums[source.key] == nil {
			sums[source.key] = &Sum{Counters: source.counters()}
		}
		sums[source.key].add(stats[i])
	}
	return sums
}
