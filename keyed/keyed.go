// Package keyed limits how much of something is in use for each key: requests
// per host, queries per tenant, jobs per user.
//
// A [Resource] has a [condvar.CapacityResource], a weighted semaphore, for each
// key. It makes one when a key is first used, and drops it when no permits of
// the key are held and no call waits for it. So a Resource uses memory only for
// keys that are in use.
package keyed

import (
	"context"

	"example.com/condvar"
	"example.com/condvar/internal/primitives"
)

// A Resource has the same capacity for each key. A method with a key does what
// the method of [condvar.CapacityResource] of the same name does, for that key
// only. The errors are those of package condvar.
//
// [New] makes a Resource; the zero value is not usable. A Resource must not be
// copied. All methods may be called by multiple goroutines simultaneously. A
// call for one key never waits for a call for another, except that calls
// briefly lock a mutex that all keys share, when they begin and when they
// return. A key must be equal to itself; NaN is not. As with a map, an
// interface key whose value is not comparable panics.
//
// In the terminology of the Go memory model, a call to Release “synchronizes
// before” the return of any call for the same key that acquires the permits
// that it put back.
type Resource[K comparable] struct {
	opts  []condvar.Option
	first int64 // the capacity that was given to New

	// resizing is held by Resize, so that all keys get the capacities of
	// concurrent calls in the same order. It is locked before mu.
	resizing primitives.Mutex

	// mu guards the fields below and those of the entries. It is not held while
	// a method of a CapacityResource, an option or a hook runs, except for
	// Stats of an entry that is not in use.
	mu       primitives.Mutex
	capacity int64
	entries  map[K]*entry // those in use; see enter and leave
	idle     []*entry     // for later keys; they have the capacity
}

// An entry is the state of a key that is in use.
type entry struct {
	resource *condvar.CapacityResource
	calls    int           // calls that use resource at the moment
	held     int64         // permits of Acquires that have returned
	before   condvar.Stats // of resource, before this key used it
}

// maxIdle is how many entries are kept for later keys.
const maxIdle = 16

// New returns a Resource with the given capacity for each key. The options
// apply to each key: with [condvar.MaxWaiting](n), n calls may wait for each
// key. Hooks and observers see a CapacityResource for each key, which may be
// reused for another key later. New panics if capacity < 1.
func New[K comparable](capacity int64, opts ...condvar.Option) *Resource[K] {
	if capacity < 1 {
		condvar.NewCapacityResource(capacity) // panics
	}
	return &Resource[K]{opts: opts, first: capacity, capacity: capacity, entries: map[K]*entry{}}
}

// Acquire is [Resource.AcquireN] with n = 1.
func (r *Resource[K]) Acquire(ctx context.Context, key K) error { return r.AcquireN(ctx, key, 1) }

// AcquireN is [condvar.CapacityResource.AcquireN] for key.
func (r *Resource[K]) AcquireN(ctx context.Context, key K, n int64) (err error) {
	e, acquired := r.enter(key), int64(0)
	defer func() { r.leave(key, e, acquired) }()
	if err = e.resource.AcquireN(ctx, n); err == nil {
		acquired = n
	}
	return err
}

// TryAcquire is [Resource.TryAcquireN] with n = 1.
func (r *Resource[K]) TryAcquire(key K) bool { return r.TryAcquireN(key, 1) }

// TryAcquireN is [condvar.CapacityResource.TryAcquireN] for key.
func (r *Resource[K]) TryAcquireN(key K, n int64) (ok bool) {
	e, acquired := r.enter(key), int64(0)
	defer func() { r.leave(key, e, acquired) }()
	if ok = e.resource.TryAcquireN(n); ok {
		acquired = n
	}
	return ok
}

// Release is [Resource.ReleaseN] with n = 1.
func (r *Resource[K]) Release(key K) { r.ReleaseN(key, 1) }

// ReleaseN puts back n permits of key that AcquireN or TryAcquireN took. It
// panics, and changes nothing, if n < 0 or fewer than n are held for key.
// ReleaseN of 0 permits does nothing.
func (r *Resource[K]) ReleaseN(key K, n int64) {
	if n == 0 {
		return
	}
	e := r.startRelease(key, n)
	defer r.leave(key, e, 0)
	e.resource.ReleaseN(n)
}

// Do is [Resource.DoN] with n = 1.
func (r *Resource[K]) Do(ctx context.Context, key K, fn func(context.Context) error) error {
	return r.DoN(ctx, key, 1, fn)
}

// DoN is [condvar.CapacityResource.DoN] for key.
func (r *Resource[K]) DoN(ctx context.Context, key K, n int64, fn func(context.Context) error) error {
	e := r.enter(key)
	defer r.leave(key, e, 0)
	return e.resource.DoN(ctx, n, fn)
}

// Resize sets the capacity of every key, now and later, and returns the
// previous one. A capacity of 0 pauses all keys. Resize panics, and changes
// nothing, if capacity < 0.
//
// A key that is first used while Resize runs has the old capacity or the new
// one until Resize returns. Resize takes time proportional to the number of
// keys in use and of their waiters. Other calls wait only while it makes a list
// of the keys. Calls of Resize wait for one another, so a Resized hook must not
// call Resize.
func (r *Resource[K]) Resize(capacity int64) (old int64) {
	if capacity < 0 {
		panic("keyed: negative capacity")
	}
	r.resizing.Lock()
	defer r.resizing.Unlock()
	r.mu.Lock()
	old, r.capacity = r.capacity, capacity
	r.idle = nil
	uses := make([]use[K], 0, len(r.entries))
	for key, e := range r.entries {
		e.calls++ // so that it is not dropped with the old capacity
		uses = append(uses, use[K]{key, e})
	}
	r.mu.Unlock()
	r.resize(uses, capacity)
	return old
}

// A use is a call that uses an entry.
type use[K comparable] struct {
	key K
	*entry
}

// resize resizes entries, all of them even if a hook panics, and leaves them.
func (r *Resource[K]) resize(uses []use[K], capacity int64) {
	for len(uses) > 0 {
		u := uses[0]
		uses = uses[1:]
		func() {
			returned := false
			defer func() {
				r.leave(u.key, u.entry, 0)
				if !returned {
					r.resize(uses, capacity)
				}
			}()
			u.resource.Resize(capacity)
			returned = true
		}()
	}
}

// Len returns the number of keys in use: keys with held permits, and keys with
// calls that have not returned.
func (r *Resource[K]) Len() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.entries)
}

// Stats returns a snapshot for key. The totals start at 0 each time an unused
// key is used. For a key that is not in use, all fields except Capacity are
// zero.
func (r *Resource[K]) Stats(key K) condvar.Stats {
	e, capacity := r.find(key)
	if e == nil {
		return condvar.Stats{Capacity: capacity}
	}
	defer r.leave(key, e, 0)
	s := e.resource.Stats()
	s.WaitCount -= e.before.WaitCount
	s.WaitDuration -= e.before.WaitDuration
	s.Canceled -= e.before.Canceled
	s.Rejected -= e.before.Rejected
	return s
}

// enter returns the entry of key, makes one if there is none, and counts a call
// that uses it. The caller must call leave. The CapacityResource is made
// without mu, since that calls options and hooks.
func (r *Resource[K]) enter(key K) *entry {
	e, capacity := r.lookup(key, nil, 0)
	for e == nil {
		made := capacity
		e, capacity = r.lookup(key, r.newEntry(made), made)
	}
	return e
}

// lookup counts a call that uses the entry of key, and returns the entry. If
// there is none, it adds an idle one, or spare, which has the capacity made. If
// neither can be added, it returns nil and the capacity for a new one.
func (r *Resource[K]) lookup(key K, spare *entry, made int64) (*entry, int64) {
	r.mu.Lock()
	defer r.mu.Unlock() // a key that cannot be hashed panics
	if spare != nil && made == r.capacity {
		r.keepLocked(spare)
	}
	e := r.entries[key]
	if e == nil {
		last := len(r.idle) - 1
		if last < 0 {
			return nil, r.capacity
		}
		e = r.idle[last]
		r.idle = r.idle[:last]
		e.before = e.resource.Stats()
		r.entries[key] = e
	}
	e.calls++
	return e, r.capacity
}

func (r *Resource[K]) newEntry(capacity int64) *entry {
	if capacity > 0 {
		return &entry{resource: condvar.NewCapacityResource(capacity, r.opts...)}
	}
	e := &entry{resource: condvar.NewCapacityResource(r.first, r.opts...)}
	e.resource.Resize(0)
	return e
}

// find counts a call that uses the entry of key, and returns the entry. If
// there is none, it returns nil and the capacity.
func (r *Resource[K]) find(key K) (*entry, int64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	e := r.entries[key]
	if e != nil {
		e.calls++
	}
	return e, r.capacity
}

// startRelease subtracts n from the permits that are held for key. It counts a
// call that uses the entry, so that the entry is not used for another key
// before the permits are back.
func (r *Resource[K]) startRelease(key K, n int64) *entry {
	r.mu.Lock()
	defer r.mu.Unlock()
	e := r.entries[key]
	switch {
	case n < 0:
		panic("keyed: negative number of permits")
	case e == nil || n > e.held:
		panic("keyed: released more than held")
	}
	e.held -= n
	e.calls++
	return e
}

// leave ends a call that uses e and has acquired permits that stay held. If e
// is no longer in use, leave drops the key.
func (r *Resource[K]) leave(key K, e *entry, acquired int64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	e.held += acquired
	e.calls--
	if e.calls == 0 && e.held == 0 {
		delete(r.entries, key)
		r.keepLocked(e)
	}
}

func (r *Resource[K]) keepLocked(e *entry) {
	if len(r.idle) < maxIdle {
		r.idle = append(r.idle, e)
	}
}
