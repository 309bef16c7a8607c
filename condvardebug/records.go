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

// SetHolderProfileFraction sets what fraction of the acquisitions is recorded
// until they are released: on average 1/rate of them, all if rate is 1, none if
// it is 0, which is the default. It returns the previous rate; to only read it,
// give a rate < 0. Only the resources whose hooks were made while the rate was
// above 0 are concerned; of these it may be changed at any time.
//
// Of Do and of Permits the records are exact: each ends with the release of
// what it records. A Permit that was collected and never released is recorded
// as leaked from the next garbage collection on.
//
// Of Acquire and Release they are a guess, as permits have no owner then. A
// release is taken to end the latest acquisitions of the goroutine that
// releases. If another goroutine had acquired, it ends the oldest that are
// recorded, but only as far as these have more permits than are in use. There
// are never more permits in records than are in use. If a release goes beyond
// what guesses there are, it ends the oldest leak.
//
// A resource has at most 4,096 records. What is acquired beyond that is not
// recorded; the old records stay.
//
// Where the acquisitions came from is in the profile condvar_holders of
// runtime/pprof, which net/http/pprof serves as /debug/pprof/condvar_holders.
// It is made by the first call with a rate above 0, and is one for all
// Debuggers. The page shows the same, with the names.
func (d *Debugger) SetHolderProfileFraction(rate int) (old int) {
	if rate < 0 {
		return int(d.fraction.Load())
	}
	if rate > 0 {
		holderProfile()
	}
	return int(d.fraction.Swap(int64(rate)))
}

// holderProfile returns the profile, and makes it if there is none.
func holderProfile() (p *pprof.Profile) {
	defer func() {
		if recover() != nil { // between the two, somebody else has made it
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
// mu is taken by the hooks, so by calls of the resource. While it is held,
// nothing is formatted, no lock but that of the profile is taken, and the page
// copies pointers and numbers only.
//
// Invariant: unless permits are held that Do or a Permit has acquired and
// somebody else has released, the permits of all records are at most inUse. A
// record of a pair or a leak that would break it is over, or a guess that
// cannot be right. trimLocked removes the oldest.
type records struct {
	name    string
	profile *pprof.Profile // nil if holders are not recorded

	mu    sync.Mutex
	waits map[*wait]struct{}

	inUse       int64                                // permits whose acquisition was reported and whose release was not
	recorded    int64                                // permits of all records
	count       int                                  // of all records
	exact       map[weak.Pointer[condvar.Hold]]*hold // acquired by Do or as a Permit
	leaks       list.List                            // of *hold, the oldest first
	pairs       list.List                            // of *hold, the oldest first
	byGoroutine map[uint64][]*hold                   // the pairs of each goroutine, the latest last
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
	n       int64           // permits that are not released yet
	passed  int64           // of a pair: permits that its goroutine acquired after it, without a record
	element *list.Element   // in leaks or pairs
	cleanup runtime.Cleanup // of what Do or a Permit has acquired
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

// look returns whether there are pairs, and whether there is room for a record.
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
	// The release of what is not recorded must not end an older record of this
	// goroutine. Only this goroutine could have added one meanwhile.
	var passing uint64
	if h == nil && id == nil && pairs {
		passing = goroutineID()
	}

	s.mu.Lock()
	defer s.mu.Unlock()
	s.inUse += n
	if h != nil && s.count == maxHolds { // others have taken the room meanwhile
		s.profile.Remove(h)
		h = nil
	}
	if h != nil {
		s.addLocked(h, id)
		s.trimLocked() // its release may have been reported before it
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

// leaked is called when a Permit that is recorded was collected.
func (s *records) leaked(key weak.Pointer[condvar.Hold]) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if h := s.exact[key]; h != nil {
		delete(s.exact, key)
		h.element = s.leaks.PushBack(h)
		s.trimLocked()
	}
}

// released notes a release, and returns what was recorded of the acquisition,
// if that is known.
func (s *records) released(n int64, id *condvar.Hold) (over *hold) {
	if n == 0 {
		return nil
	}
	var goroutine uint64
	if id == nil {
		if pairs, _ := s.look(); pairs { // only this goroutine could add one of its own
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

// releasePairsLocked takes n permits from what is recorded of a goroutine, the
// latest first.
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

// trimLocked removes what the invariant forbids.
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

// endLocked ends a record that is in none of the collections any more.
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

// A heldBy says how certain a record of a holder is.
type heldBy string

// The values of heldBy, as the JSON has them.
const (
	exact  heldBy = "exact"  // by Do or a Permit
	leaked heldBy = "leaked" // by a Permit that was collected
	guess  heldBy = "guess"  // by Acquire, and Release has not been called yet as far as can be known
)

// A heldNow is a copy of a hold.
type heldNow struct {
	*hold // of which only what does not change is read
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

// goroutineID returns the number that the runtime gives to this goroutine in
// its dumps. It is never used again for another one. It takes microseconds.
func goroutineID() uint64 {
	var buf [64]byte
	header := buf[:runtime.Stack(buf[:], false)]
	digits, _, _ := bytes.Cut(bytes.TrimPrefix(header, []byte("goroutine ")), []byte(" "))
	id, _ := strconv.ParseUint(string(digits), 10, 64) // that it is a number is tested
	return id
}
