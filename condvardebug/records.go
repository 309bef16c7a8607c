package condvardebug

import (
	"bytes"
	"container/list"
	"math/rand/v2"
	"runtime"
	"runtime/pprof"
	"slices"
	"strconv"
	"sync"
	"time"
	"weak"

	"example.com/condvar"
)

// profileName is the name of the profile of holders.
const profileName = "condvar_holders"

// SetHolderProfileFraction controls the fraction of acquisitions that are
// recorded until their release: on average 1/rate of them, all if rate is 1,
// none if it is 0, the default. It returns the previous rate. To just read the
// current rate, pass rate < 0. It affects only resources whose hooks were made
// while the rate was above 0; for these it may be changed at any time.
//
// Records of Do and of Permits are exact: each ends with the release of its
// permits. A Permit that is garbage collected without Release is recorded as
// leaked from then on.
//
// Records of Acquire are a guess, because those permits have no owner. A
// Release ends the latest records of the goroutine that releases. If another
// goroutine had acquired, it ends the oldest records, but only while the
// records have more permits than are in use. There are never more permits in
// records than in use. If no guesses are left to end, a Release ends the oldest
// leak.
//
// A resource has at most 4,096 records. Acquisitions beyond that are not
// recorded; the old records stay.
//
// The profile condvar_holders of runtime/pprof has the stacks of the recorded
// acquisitions. net/http/pprof serves it as /debug/pprof/condvar_holders. The
// first call with a rate above 0 creates it, and all Debuggers share it. The
// page shows the same stacks, with the names of the resources.
func (d *Debugger) SetHolderProfileFraction(rate int) (old int) {
	if rate < 0 {
		return int(d.fraction.Load())
	}
	if rate > 0 {
		holderProfile()
	}
	return int(d.fraction.Swap(int64(rate)))
}

// holderProfile returns the profile, and creates it if there is none.
func holderProfile() (p *pprof.Profile) {
	defer func() {
		if recover() != nil { // another goroutine has created it since Lookup
			p = pprof.Lookup(profileName)
		}
	}()
	if p = pprof.Lookup(profileName); p == nil {
		p = pprof.NewProfile(profileName)
	}
	return p
}

// maxHolds is how many acquisitions of a resource are recorded at a time.
const maxHolds = 4096

// records is what the hooks of one resource record. Neither it nor the profile
// refers to the resource.
//
// The hooks, and so calls of the resource, lock mu. While it is held, nothing
// is formatted, only the lock of the profile is taken, and the page copies only
// pointers and numbers.
//
// Invariant: the permits of all records are at most inUse, unless a ReleaseN
// has released permits that Do or a Permit still holds. A record of a pair or a
// leak that would break this has ended, or is a wrong guess. trimLocked removes
// the oldest.
type records struct {
	name    string
	profile *pprof.Profile // nil if holders are not recorded

	mu    sync.Mutex
	waits map[*wait]struct{}

	// Permits whose acquisition was reported and whose release was not.
	inUse    int64
	recorded int64 // permits of all records
	count    int   // of all records

	// Acquired by Do or as a Permit.
	exact map[weak.Pointer[condvar.Hold]]*hold

	leaks list.List // of *hold, the oldest first
	pairs list.List // of *hold, the oldest first

	// The pairs of each goroutine, the latest last.
	byGoroutine map[uint64][]*hold
}

// A wait is the record of a call that waits. It does not change.
type wait struct {
	n         int64
	since     time.Time
	deadline  time.Time // of its context; zero if there is none
	goroutine uint64    // 0 if holders are not recorded
	stack     []uintptr
}

// A hold is the record of one acquisition, and its key in the profile.
type hold struct {
	since     time.Time
	goroutine uint64
	stack     []uintptr

	// These are guarded by records.mu.
	n int64 // permits that are not released yet

	// Of a pair: permits that its goroutine acquired later, without a record.
	passed int64

	element *list.Element   // in leaks or pairs
	cleanup runtime.Cleanup // for Do and Permits
}

func (s *records) addWait(w *wait) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.waits == nil {
		s.waits = map[*wait]struct{}{}
	}
	s.waits[w] = struct{}{}
}

func (s *records) removeWait(w *wait) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.waits, w)
}

// nearestWait removes and returns the wait for n permits that began nearest to
// a time, or nil if there is none.
func (s *records) nearestWait(n int64, began time.Time) (nearest *wait) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for w := range s.waits {
		if w.n == n && (nearest == nil || w.since.Sub(began).Abs() < nearest.since.Sub(began).Abs()) {
			nearest = w
		}
	}
	delete(s.waits, nearest)
	return nearest
}

// look reports whether there are pairs, and whether there is room for a record.
func (s *records) look() (pairs, room bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.byGoroutine) > 0, s.count < maxHolds
}

// acquired records 1 of rate acquisitions.
func (s *records) acquired(n int64, id *condvar.Hold, rate int) {
	if n == 0 {
		return
	}
	pairs, room := s.look()
	var h *hold
	if room && (rate == 1 || rate > 1 && rand.IntN(rate) == 0) {
		h = &hold{since: time.Now(), goroutine: goroutineID(), stack: callers(0), n: n}
		s.profile.Add(h, skipToCaller())
	}
	// The release of unrecorded permits must not end an older record of this
	// goroutine. Only this goroutine could have added one since look.
	var passing uint64
	if h == nil && id == nil && pairs {
		passing = goroutineID()
	}

	s.mu.Lock()
	defer s.mu.Unlock()
	s.inUse += n
	// Other calls have taken the room since look.
	if h != nil && s.count == maxHolds {
		s.profile.Remove(h)
		h = nil
	}
	if h != nil {
		s.addLocked(h, id)
		s.trimLocked() // its release may have been reported first
	} else if all := s.byGoroutine[passing]; len(all) > 0 {
		all[len(all)-1].passed += n
	}
}

func (s *records) addLocked(h *hold, id *condvar.Hold) {
	s.count++
	s.recorded += h.n
	if id == nil {
		h.element = s.pairs.PushBack(h)
		if s.byGoroutine == nil {
			s.byGoroutine = map[uint64][]*hold{}
		}
		s.byGoroutine[h.goroutine] = append(s.byGoroutine[h.goroutine], h)
		return
	}
	if s.exact == nil {
		s.exact = map[weak.Pointer[condvar.Hold]]*hold{}
	}
	key := weak.Make(id)
	s.exact[key] = h
	h.cleanup = runtime.AddCleanup(id, s.leaked, key)
}

// leaked is called after a recorded Permit was garbage collected.
func (s *records) leaked(key weak.Pointer[condvar.Hold]) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if h := s.exact[key]; h != nil {
		delete(s.exact, key)
		h.element = s.leaks.PushBack(h)
		s.trimLocked()
	}
}

// released records a release, and returns the record of the acquisition, if
// there is one.
func (s *records) released(n int64, id *condvar.Hold) (over *hold) {
	if n == 0 {
		return nil
	}
	var goroutine uint64
	if id == nil {
		// Only this goroutine could add a pair of its own.
		if pairs, _ := s.look(); pairs {
			goroutine = goroutineID()
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.inUse -= n
	if id == nil {
		s.releasePairsLocked(goroutine, n)
	} else if over = s.exact[weak.Make(id)]; over != nil {
		delete(s.exact, weak.Make(id))
		over.cleanup.Stop()
		s.endLocked(over)
	}
	s.trimLocked()
	return over
}

// releasePairsLocked takes n permits from the pairs of a goroutine, the latest
// first.
func (s *records) releasePairsLocked(goroutine uint64, n int64) {
	for _, h := range slices.Backward(s.byGoroutine[goroutine]) {
		passed := min(n, h.passed)
		h.passed -= passed
		taken := min(n-passed, h.n)
		n -= passed + taken
		s.takeLocked(h, taken)
		if n == 0 {
			return
		}
	}
}

// takeLocked takes n permits from a pair, and ends it if none is left.
func (s *records) takeLocked(h *hold, n int64) {
	h.n -= n
	s.recorded -= n
	if h.n > 0 {
		return
	}
	s.pairs.Remove(h.element)
	all := slices.DeleteFunc(s.byGoroutine[h.goroutine], func(other *hold) bool { return other == h })
	if s.byGoroutine[h.goroutine] = all; len(all) == 0 {
		delete(s.byGoroutine, h.goroutine)
	}
	s.endLocked(h)
}

// trimLocked removes records that break the invariant.
func (s *records) trimLocked() {
	for s.recorded > s.inUse && s.pairs.Len() > 0 {
		h := s.pairs.Front().Value.(*hold)
		s.takeLocked(h, min(h.n, s.recorded-s.inUse))
	}
	for s.recorded > s.inUse && s.leaks.Len() > 0 {
		h := s.leaks.Remove(s.leaks.Front()).(*hold)
		s.endLocked(h)
	}
}

// endLocked ends a record that is no longer in any of the collections.
func (s *records) endLocked(h *hold) {
	s.recorded -= h.n
	s.count--
	s.profile.Remove(h)
}

// forgetHolds removes all records from the profile.
func (s *records) forgetHolds() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, h := range s.exact {
		h.cleanup.Stop()
		s.profile.Remove(h)
	}
	for _, l := range []*list.List{&s.leaks, &s.pairs} {
		for e := l.Front(); e != nil; e = e.Next() {
			s.profile.Remove(e.Value)
		}
		l.Init()
	}
	s.exact, s.byGoroutine = nil, nil
}

// A heldBy is how certain a record of a holder is.
type heldBy string

// The values of heldBy, as in the JSON.
const (
	exact  heldBy = "exact"  // by Do or a Permit
	leaked heldBy = "leaked" // by a Permit that was collected
	// By Acquire, probably without a Release yet.
	guess heldBy = "guess"
)

// A heldNow is a copy of a hold.
type heldNow struct {
	*hold // only its constant fields are read
	by    heldBy
	n     int64
}

// now returns a copy of the records.
func (s *records) now() (waits []*wait, holds []heldNow) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for w := range s.waits {
		waits = append(waits, w)
	}
	for _, h := range s.exact {
		holds = append(holds, heldNow{h, exact, h.n})
	}
	for e := s.leaks.Front(); e != nil; e = e.Next() {
		h := e.Value.(*hold)
		holds = append(holds, heldNow{h, leaked, h.n})
	}
	for e := s.pairs.Front(); e != nil; e = e.Next() {
		h := e.Value.(*hold)
		holds = append(holds, heldNow{h, guess, h.n})
	}
	return waits, holds
}

// goroutineID returns the ID of this goroutine in dumps of the runtime. IDs are
// not reused. It takes microseconds.
func goroutineID() uint64 {
	var buf [64]byte
	header := buf[:runtime.Stack(buf[:], false)]
	digits, _, _ := bytes.Cut(bytes.TrimPrefix(header, []byte("goroutine ")), []byte(" "))
	// A test checks that it is a number.
	id, _ := strconv.ParseUint(string(digits), 10, 64)
	return id
}
