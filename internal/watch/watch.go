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

// A Set has resources by keys, such as names. It does not keep resources of Add
// alive. The zero value is empty. All methods may be called by multiple
// goroutines simultaneously.
type Set[K comparable] struct {
	mu     sync.Mutex
	groups map[K]*group // guarded by mu, and so are the groups
}

// A source is a resource of Add or, if shared is not nil, of AddShared.
type source struct {
	resource weak.Pointer[condvar.CapacityResource]
	shared   *func() condvar.Stats
}

// A group is the sources with the same key.
type group struct {
	// last is as of the last Sums.
	last map[source]Counters

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

// raise sets what is larger in d. Counters only increase, so of two readings
// the later one is larger, in whatever order they are raised.
func (c *Counters) raise(d Counters) {
	c.WaitCount = max(c.WaitCount, d.WaitCount)
	c.Canceled = max(c.Canceled, d.Canceled)
	c.Rejected = max(c.Rejected, d.Rejected)
	c.WaitDuration = max(c.WaitDuration, d.WaitDuration)
}

// A Sum is the Stats of all resources of a key.
type Sum struct {
	// Counters do not decrease while there is a resource of the key. They do
	// not include what a collected resource counted after the last Sums.
	Counters

	// Resources counts all resources. Paused ones are open with capacity 0.
	// Shared ones are of AddShared.
	Resources, Closed, Paused, Shared int

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
// has been garbage collected, and there is no shared one, empty is called,
// unless it is nil, and no method of the Set runs during that call. empty must
// not refer to r; it may refer to the Set.
func (s *Set[K]) Add(key K, r *condvar.CapacityResource, empty func()) {
	added := source{resource: weak.Make(r)}
	s.mu.Lock()
	defer s.mu.Unlock()
	g := s.groupLocked(key)
	if _, again := g.last[added]; again {
		return
	}
	g.last[added] = Counters{}
	set := weak.Make(s)
	runtime.AddCleanup(r, func(added source) {
		s := set.Value()
		if s == nil {
			return
		}
		s.mu.Lock()
		defer s.mu.Unlock()
		g.gone.add(g.last[added])
		delete(g.last, added)
		if len(g.last) == 0 && s.groups[key] == g { // otherwise it was removed
			delete(s.groups, key)
			if empty != nil {
				empty()
			}
		}
	}, added)
}

// AddShared adds a resource that processes share. stats returns its Stats: the
// capacity is that of all processes, and the rest is of this one. The Set refers
// to stats until Remove.
func (s *Set[K]) AddShared(key K, stats func() condvar.Stats) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.groupLocked(key).last[source{shared: &stats}] = Counters{}
}

// groupLocked returns the group of key, and makes it if there is none.
func (s *Set[K]) groupLocked(key K) *group {
	g := s.groups[key]
	if g == nil {
		if s.groups == nil {
			s.groups = make(map[K]*group)
		}
		g = &group{last: make(map[source]Counters)}
		s.groups[key] = g
	}
	return g
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
	type reading struct {
		key   K
		group *group
		from  source
		r     *condvar.CapacityResource // keeps it alive; nil if it is shared
	}
	var readings []reading
	s.mu.Lock()
	for key, g := range s.groups {
		for from := range g.last {
			if r := from.resource.Value(); r != nil || from.shared != nil {
				readings = append(readings, reading{key, g, from, r})
			}
		}
	}
	s.mu.Unlock()

	stats := make([]condvar.Stats, len(readings))
	for i, read := range readings {
		if read.r != nil {
			stats[i] = read.r.Stats()
		} else {
			stats[i] = (*read.from.shared)()
		}
	}

	s.mu.Lock()
	defer s.mu.Unlock()
	for i, read := range readings {
		last := read.group.last[read.from]
		last.raise(countersOf(stats[i]))
		read.group.last[read.from] = last
	}
	sums := make(map[K]*Sum)
	for i, read := range readings {
		sum := sums[read.key]
		if sum == nil {
			sum = &Sum{Counters: read.group.counters()}
			sums[read.key] = sum
		}
		sum.add(stats[i])
		if read.from.shared != nil {
			sum.Shared++
		}
	}
	runtime.KeepAlive(readings)
	return sums
}
