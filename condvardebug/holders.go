package condvardebug

import (
	"bytes"
	"context"
	"math/rand/v2"
	"runtime"
	"runtime/pprof"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"example.com/condvar"
)

// profileName is the name of the profile of holders.
const profileName = "condvar_holders"

// SetHolderProfileFraction sets what fraction of the acquisitions is recorded
// until they are released: on average 1/rate of them, all if rate is 1, none if
// it is 0, which is the default. It returns the previous rate; to only read it,
// give a rate < 0. Only the resources whose [Debugger.Hooks] were made while
// the rate was above 0 are concerned; of these it may be changed at any time.
//
// Where the acquisitions came from is in the profile condvar_holders of
// runtime/pprof, which net/http/pprof serves as /debug/pprof/condvar_holders.
// It is made by the first call with a rate above 0, and is one for all
// Debuggers. The page shows the same, with the names.
//
// Permits have no owner, so a release does not say which acquisition it ends.
// It is taken to end the latest ones of the goroutine that releases, if any of
// them is recorded. If none is, as when another goroutine had acquired, nothing is
// forgotten; but if the resource is idle after the release, and tracked under
// the same name, all its records are, so that errors do not last. Where
// permits change hands and the resource is never idle, the profile has
// acquisitions that are long over. A resource has no more than 4,096 records; what
// is acquired beyond that is not recorded.
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

// maxHolders is how many acquisitions of a resource are recorded at a time.
const maxHolders = 4096

// holders are the recorded acquisitions of the resource of one set of hooks.
// Neither they nor the profile refer to the resource.
type holders struct {
	name    string
	profile *pprof.Profile
	count   atomic.Int64 // of records; changes under mu, and tells without it that there are none

	mu          sync.Mutex
	latest      uint64               // the serial number of the latest record
	byGoroutine map[uint64][]*holder // the latest last
}

// A holder is the record of one acquisition, and its key in the profile.
type holder struct {
	serial    uint64
	goroutine uint64
	n         int64 // permits that are not released yet; guarded by holders.mu
	passed    int64 // permits that its goroutine acquired after it, without a record; guarded by holders.mu
	since     time.Time
	stack     []uintptr
}

func (d *Debugger) newHolders(name string) *holders {
	s := &holders{name: name, profile: holderProfile(), byGoroutine: map[uint64][]*holder{}}
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.holders == nil {
		d.holders = map[*holders]struct{}{}
	}
	d.holders[s] = struct{}{}
	return s
}

// forget is called when the resource of s has been collected, and with it
// perhaps the Debugger, which is nil then.
func forget(d *Debugger, s *holders) {
	s.forget(s.latestSerial())
	if d != nil {
		d.mu.Lock()
		defer d.mu.Unlock()
		delete(d.holders, s)
	}
}

func (h *hooks) acquired(_ context.Context, n int64, _ *condvar.Hold) {
	rate := h.debugger.fraction.Load()
	recorded := h.holders.count.Load()
	if n == 0 || rate <= 0 && recorded == 0 {
		return
	}
	if rate <= 0 || rate > 1 && rand.Int64N(rate) > 0 || recorded >= maxHolders {
		if recorded > 0 { // its release must not end an older acquisition that is recorded
			h.holders.pass(goroutineID(), n)
		}
		return
	}
	h.holders.add(&holder{goroutine: goroutineID(), n: n, since: time.Now(), stack: callers(0)})
}

func (h *hooks) released(n int64, _ *condvar.Hold, _ time.Duration) {
	if h.holders.count.Load() == 0 {
		return
	}
	h.holders.release(goroutineID(), n)
	if h.holders.count.Load() == 0 {
		return
	}
	// A record that was there before the resource was found idle is of an
	// acquisition that is over.
	if latest := h.holders.latestSerial(); h.debugger.idle(h.name) {
		h.holders.forget(latest)
	}
}

// idle reports whether resources are tracked under name, and none is in use.
func (d *Debugger) idle(name string) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	known, inUse := false, false
	d.eachLocked(func(t *tracked, r *condvar.CapacityResource) {
		if t.name == name {
			known = true
			inUse = inUse || r.Stats().InUse > 0
		}
	})
	return known && !inUse
}

func (s *holders) add(a *holder) {
	s.profile.Add(a, skipToCaller())
	s.mu.Lock()
	defer s.mu.Unlock()
	s.latest++
	a.serial = s.latest
	s.byGoroutine[a.goroutine] = append(s.byGoroutine[a.goroutine], a)
	s.count.Add(1)
}

// pass notes n permits of a goroutine that has records, though they are not to be
// recorded: what it releases next are these.
func (s *holders) pass(goroutine uint64, n int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	all := s.byGoroutine[goroutine]
	if len(all) == 0 {
		return
	}
	last := all[len(all)-1]
	last.passed += n
}

// release takes n permits from what is recorded of a goroutine.
func (s *holders) release(goroutine uint64, n int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.filterLocked(goroutine, func(a *holder) (keep bool) {
		passed := min(n, a.passed)
		n -= passed
		a.passed -= passed
		taken := min(n, a.n)
		n -= taken
		a.n -= taken
		return a.n > 0
	})
}

// forget removes the records up to a serial number.
func (s *holders) forget(latest uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for goroutine := range s.byGoroutine {
		s.filterLocked(goroutine, func(a *holder) (keep bool) { return a.serial > latest })
	}
}

// filterLocked removes the records of a goroutine that are not to be kept. The
// latest is asked for first.
func (s *holders) filterLocked(goroutine uint64, keep func(*holder) bool) {
	var kept []*holder
	for _, a := range slices.Backward(s.byGoroutine[goroutine]) {
		if keep(a) {
			kept = append(kept, a)
			continue
		}
		s.profile.Remove(a)
		s.count.Add(-1)
	}
	slices.Reverse(kept)
	s.byGoroutine[goroutine] = kept
	if len(kept) == 0 {
		delete(s.byGoroutine, goroutine)
	}
}

// sites returns one for each record.
func (s *holders) sites() (sites []site) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, all := range s.byGoroutine {
		for _, a := range all {
			sites = append(sites, site{
				Resource: s.name, Permits: a.n, Count: 1, Longest: seconds(time.Since(a.since)),
				Goroutines: []uint64{a.goroutine}, Stack: formatStack(a.stack),
			})
		}
	}
	return sites
}

func (s *holders) latestSerial() uint64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.latest
}

// goroutineID returns the number that the runtime gives to this goroutine in
// its dumps. It is never used again for another one.
func goroutineID() uint64 {
	var buf [64]byte
	header := buf[:runtime.Stack(buf[:], false)]
	digits, _, _ := bytes.Cut(bytes.TrimPrefix(header, []byte("goroutine ")), []byte(" "))
	id, _ := strconv.ParseUint(string(digits), 10, 64) // that it is a number is tested
	return id
}
