package condvardebug_test

import (
	"context"
	"runtime"
	"runtime/pprof"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"example.com/condvar"
	"example.com/condvar/condvardebug"
)

// profiled returns how many holders are in the profile, if it exists.
func profiled() int {
	if p := pprof.Lookup("condvar_holders"); p != nil {
		return p.Count()
	}
	return 0
}

//go:noinline
func holdHere(ctx context.Context, r *condvar.CapacityResource, n int64) error {
	return r.AcquireN(ctx, n)
}

//go:noinline
func holdThere(r *condvar.CapacityResource) bool { return r.TryAcquire() }

//go:noinline
func permitHere(t *testing.T, r *condvar.CapacityResource, n int64) *condvar.Permit {
	p, err := r.AcquirePermit(t.Context(), n)
	require.NoError(t, err)
	return p
}

// elsewhere calls f on another goroutine.
func elsewhere(f func()) {
	var other sync.WaitGroup
	other.Go(f)
	other.Wait()
}

func TestHoldersAreShownUntilTheyRelease(t *testing.T) {
	d, r := newWatched(t, 1, 9)
	_, before := profile(t)
	require.NoError(t, holdHere(t.Context(), r, 2))
	require.NoError(t, holdHere(t.Context(), r, 3))
	require.True(t, holdThere(r))

	text, count := profile(t)
	require.Equal(t, before+3, count)
	frames := strings.Split(text, "\n")
	// Whether a stack of the profile begins with name.
	first := func(name string) bool {
		for i := range frames[1:] {
			if strings.Contains(frames[i], " @ ") && strings.Contains(frames[i+1], name) {
				return true
			}
		}
		return false
	}
	require.True(t, first("condvardebug_test.holdHere+"), text)
	require.True(t, first("condvardebug_test.holdThere+"), text)

	require.Equal(t, 1, look(t, d).Fraction)
	sites := holders(t, d)
	require.Len(t, sites, 3, "by the line of the call")
	var permits float64
	for _, site := range sites {
		permits += site.Permits
		require.Equal(t, "guess", site.By)
		require.Equal(t, 1, site.Holds)
		require.Equal(t, []uint64{condvardebug.GoroutineID()}, site.Goroutines)
		require.Regexp(t, `\A[^\n]*/condvardebug_test\.hold(H|Th)ere\n\t`, site.Stack)
	}
	require.EqualValues(t, 6, permits)

	r.ReleaseN(2) // the latest, and one of three
	permits = 0
	for _, site := range holders(t, d) {
		permits += site.Permits
	}
	require.EqualValues(t, 4, permits)
	_, count = profile(t)
	require.Equal(t, before+2, count)

	r.ReleaseN(4)
	require.Empty(t, holders(t, d))
	_, count = profile(t)
	require.Equal(t, before, count)
}

func TestDoAndPermitsAreExact(t *testing.T) {
	bubble(t, func(t *testing.T, ctx context.Context) {
		d, r := newWatched(t, 1, 9)
		_, before := profile(t)
		p := permitHere(t, r, 2)
		time.Sleep(time.Second)
		require.NoError(t, r.DoN(ctx, 3, func(context.Context) error {
			q, ok := r.TryAcquirePermit(1)
			require.True(t, ok)
			time.Sleep(time.Second)
			elsewhere(p.Release) // the oldest, by another goroutine
			sites := holders(t, d)
			require.Len(t, sites, 2)
			for _, site := range sites {
				require.Equal(t, "exact", site.By)
				require.Equal(t, 1.0, site.Longest)
			}
			require.EqualValues(t, 4, sites[0].Permits+sites[1].Permits)
			_, count := profile(t)
			require.Equal(t, before+2, count)
			q.Release()
			q.Release()
			return nil
		}))
		require.Empty(t, holders(t, d))
		_, count := profile(t)
		require.Equal(t, before, count)
	})
}

// A Do that ends with a panic or Goexit has released.
func TestADoThatPanicsIsOver(t *testing.T) {
	d, r := newWatched(t, 1, 2)
	require.Panics(t, func() { _ = r.Do(t.Context(), func(context.Context) error { panic("the work") }) })
	elsewhere(func() { _ = r.Do(t.Context(), func(context.Context) error { runtime.Goexit(); return nil }) })
	require.Empty(t, holders(t, d))
}

//go:noinline
func leakHere(t *testing.T, r *condvar.CapacityResource, n int64) { permitHere(t, r, n) }

func TestAPermitThatWasCollectedIsALeakWithItsCallSite(t *testing.T) {
	d, r := newWatched(t, 1, 9)
	kept := permitHere(t, r, 1)
	leakHere(t, r, 2)
	eventually(t, func() bool {
		sites := holders(t, d)
		return len(sites) > 0 && sites[0].By == "leaked"
	})
	v := look(t, d).of(t, "pool")
	require.EqualValues(t, 2, v.Leaked)
	require.True(t, v.Attention)
	require.Equal(t, "2 permits are leaked: a Permit was collected that was never released.", v.Words[0])
	require.Len(t, v.HeldAt, 2)
	require.Contains(t, v.HeldAt[0].Stack, "condvardebug_test.leakHere\n")
	require.Equal(t, "exact", v.HeldAt[1].By, "this one is still there")
	require.Contains(t, look(t, d).Headline, `"pool" (2 permits leaked)`)
	kept.Release()

	r.ReleaseN(2) // as the finder of the leak may do
	require.Empty(t, holders(t, d))
	require.Equal(t, "Nobody waits.", look(t, d).Headline)
}

func TestAPermitThatWasReleasedIsNoLeakWhenItIsCollected(t *testing.T) {
	d, r := newWatched(t, 1, 9)
	marker := permitHere(t, r, 1)
	for range 100 {
		permitHere(t, r, 1).Release()
	}
	leakHere(t, r, 1)
	eventually(t, func() bool { return look(t, d).of(t, "pool").Leaked > 0 })
	require.EqualValues(t, 1, look(t, d).of(t, "pool").Leaked)
	marker.Release()
}

func TestHoldersOfOneSiteAreOneEntry(t *testing.T) {
	bubble(t, func(t *testing.T, ctx context.Context) {
		d, r := newWatched(t, 1, 9)
		release := make(chan struct{})
		var all sync.WaitGroup
		for range 3 {
			all.Go(func() {
				holdHere(ctx, r, 2)
				<-release
				r.ReleaseN(2)
			})
		}
		synctest.Wait()
		sites := holders(t, d)
		require.Len(t, sites, 1)
		require.Equal(t, 3, sites[0].Holds)
		require.EqualValues(t, 6, sites[0].Permits)
		require.Len(t, sites[0].Goroutines, 3)
		close(release)
		all.Wait()
		require.Empty(t, holders(t, d))
	})
}

// Bug P4: whichever goroutine releases, there are never more permits in records
// than in use.
func TestAReleaseElsewhereEndsTheOldestGuess(t *testing.T) {
	d, r := newWatched(t, 1, 4)
	require.NoError(t, holdHere(t.Context(), r, 2))
	require.True(t, holdThere(r))
	p := permitHere(t, r, 1)
	elsewhere(r.Release)
	sites := holders(t, d)
	require.Len(t, sites, 3)
	var permits float64
	for _, site := range sites {
		permits += site.Permits
	}
	require.EqualValues(t, 3, permits)
	elsewhere(r.Release)
	sites = holders(t, d)
	require.Len(t, sites, 2)
	require.Equal(t, "exact", sites[0].By, "exact records stay")
	require.Equal(t, "holdThere", sites[1].caller(), "the oldest guess is over")
	elsewhere(r.Release)
	require.Len(t, holders(t, d), 1)
	p.Release()
	require.Empty(t, holders(t, d))
}

// Bug P4: a dispatcher acquires, and other goroutines release. Ended records do
// not fill the room for records.
func TestALeakIsFoundAfterManyPairsThatChangeHands(t *testing.T) {
	d, r := newWatched(t, 1, 4)
	for range condvardebug.MaxHolds + 1 {
		hold(t, r, 1)
		elsewhere(r.Release)
	}
	require.Empty(t, holders(t, d))
	leakHere(t, r, 1)
	eventually(t, func() bool { return look(t, d).of(t, "pool").Leaked == 1 })
}

// The hooks of a release may run before those of the acquisition, if another
// goroutine releases at once.
func TestAReleaseThatIsReportedFirstLeavesNoRecord(t *testing.T) {
	d := &condvardebug.Debugger{}
	d.SetHolderProfileFraction(1)
	var hooks *condvar.Hooks
	r := condvar.NewCapacityResource(1, condvar.Observe(func(r *condvar.CapacityResource) *condvar.Hooks {
		d.Track("pool", r)
		hooks = d.Hooks("pool")
		return nil
	}))
	elsewhere(func() { hooks.Released(1, nil, 0) })
	hooks.Acquired(t.Context(), 1, nil)
	// So that the page itself leaves nothing out.
	require.True(t, r.TryAcquire())
	require.Empty(t, holders(t, d))
	r.Release()
	runtime.KeepAlive(hooks)
}

// The records are of another moment than Stats. The page then leaves out
// guesses.
func TestGuessesAreNeverMoreThanWhatIsInUse(t *testing.T) {
	d := &condvardebug.Debugger{}
	d.SetHolderProfileFraction(1)
	var hooks *condvar.Hooks
	r := condvar.NewCapacityResource(5, condvar.Observe(func(r *condvar.CapacityResource) *condvar.Hooks {
		d.Track("pool", r)
		hooks = d.Hooks("pool")
		return nil
	}))
	require.True(t, r.TryAcquireN(3))
	for range 5 {
		hooks.Acquired(t.Context(), 1, nil)
	}
	require.EqualValues(t, 3, holders(t, d)[0].Permits)
	r.ReleaseN(3)
	require.Empty(t, holders(t, d))
	runtime.KeepAlive(hooks)
	runtime.KeepAlive(r)
}

func TestTheFractionIsReadAndSet(t *testing.T) {
	var d condvardebug.Debugger
	require.Zero(t, d.SetHolderProfileFraction(-1), "off by default")
	require.Zero(t, d.SetHolderProfileFraction(5))
	require.Equal(t, 5, d.SetHolderProfileFraction(-1))
	require.Equal(t, 5, d.SetHolderProfileFraction(0))
	require.Zero(t, d.SetHolderProfileFraction(-1))
}

// recorded returns how many acquisitions of pool are on the page.
func recorded(t *testing.T, d *condvardebug.Debugger) (n int) {
	for _, site := range holders(t, d) {
		n += site.Holds
	}
	return n
}

func TestTheFractionIsKeptToOnAverage(t *testing.T) {
	d, r := newWatched(t, 4, 4000)
	for range 2000 {
		hold(t, r, 1)
	}
	// 500 on average, with a standard deviation of less than 20.
	require.InDelta(t, 500, recorded(t, d), 200)
	r.ReleaseN(2000)
	require.Empty(t, holders(t, d))
}

// A leak would never be found if its record ended with the next release of the
// same goroutine, whose acquisition is not recorded.
func TestWhatIsNotRecordedEndsNoRecord(t *testing.T) {
	d, r := newWatched(t, 10, 1<<20)
	for range 2000 {
		hold(t, r, 1) // and leak
		for range 9 {
			hold(t, r, 2)
			r.ReleaseN(2)
		}
	}
	// 200 on average, with a standard deviation of less than 14.
	require.InDelta(t, 200, recorded(t, d), 100)
}

func TestTheFractionCanBeChangedAtAnyTime(t *testing.T) {
	d, r := newWatched(t, 1, 9)
	hold(t, r, 1)
	d.SetHolderProfileFraction(0)
	hold(t, r, 1)
	require.Len(t, holders(t, d), 1)
	d.SetHolderProfileFraction(1)
	hold(t, r, 1)
	require.Len(t, holders(t, d), 2)
	d.SetHolderProfileFraction(0)
	r.ReleaseN(3)
	require.Empty(t, holders(t, d), "they are forgotten when it is off, too")
}

func TestWhatIsOldIsKeptWhenThereIsNoRoom(t *testing.T) {
	d, r := newWatched(t, 1, condvardebug.MaxHolds+10)
	require.True(t, holdThere(r))
	for range condvardebug.MaxHolds + 8 {
		hold(t, r, 1)
	}
	require.Equal(t, condvardebug.MaxHolds, recorded(t, d))
	require.Equal(t, "holdThere", holders(t, d)[0].caller())
	r.ReleaseN(r.Stats().InUse)
	require.Empty(t, holders(t, d))
	hold(t, r, 1)
	require.Len(t, holders(t, d), 1, "there is room again")
	r.Release()
	require.Zero(t, d.Sizes()[2])
}

func TestAReleaseEndsTheLatestAcquisitionOfItsGoroutine(t *testing.T) {
	d, r := newWatched(t, 1, 9)
	require.NoError(t, holdHere(t.Context(), r, 2))
	hold(t, r, 0) // is no holder
	hold(t, r, 1)
	require.True(t, holdThere(r))
	held := func() (functions []string) {
		for _, site := range holders(t, d) {
			functions = append(functions, site.caller()+" "+strconv.FormatFloat(site.Permits, 'f', 0, 64))
		}
		return functions
	}
	require.ElementsMatch(t, []string{"holdHere 2", "hold 1", "holdThere 1"}, held())
	r.Release()
	require.ElementsMatch(t, []string{"holdHere 2", "hold 1"}, held())
	r.Release()
	require.Equal(t, []string{"holdHere 2"}, held())
	r.Release()
	require.Equal(t, []string{"holdHere 1"}, held())
	r.Release()
	require.Empty(t, held())
}

func TestManyDebuggersMakeOneProfile(t *testing.T) {
	var all sync.WaitGroup
	for range 8 {
		all.Go(func() {
			_, r := newWatched(t, 1, 1)
			hold(t, r, 1)
			r.Release()
		})
	}
	all.Wait()
	require.NotNil(t, pprof.Lookup("condvar_holders"))
}

func TestHoldersAreExactWhenManyComeAndGo(t *testing.T) {
	d, r := newWatched(t, 1, 4)
	_, before := profile(t)
	var all sync.WaitGroup
	for i := range 8 {
		all.Go(func() {
			for range 500 {
				switch i % 3 {
				case 0:
					hold(t, r, 1)
					r.Release()
				case 1:
					permitHere(t, r, 1).Release()
				case 2:
					_ = r.Do(t.Context(), func(context.Context) error { return nil })
				}
			}
		})
	}
	all.Go(func() {
		for range 20 {
			v := look(t, d).of(t, "pool")
			guesses := 0.0
			for _, site := range v.HeldAt {
				if site.By == "guess" {
					guesses += site.Permits
				}
			}
			assert.LessOrEqual(t, guesses, v.InUse)
			assert.Zero(t, v.Leaked)
		}
	})
	all.Wait()
	require.Empty(t, holders(t, d))
	_, after := profile(t)
	require.Equal(t, before, after)
}

func TestGoroutineIDIsThatOfTheDump(t *testing.T) {
	buf := make([]byte, 1<<10)
	header := string(buf[:runtime.Stack(buf, false)])
	id := condvardebug.GoroutineID()
	require.NotZero(t, id)
	require.True(t, strings.HasPrefix(header, "goroutine "+strconv.FormatUint(id, 10)+" ["), header)
}

// A Permit that is not recorded has no effect on the pairs of its goroutine.
func TestAPermitThatIsNotRecordedKeepsNoPair(t *testing.T) {
	d, r := newWatched(t, 1, 9)
	hold(t, r, 1)
	d.SetHolderProfileFraction(0)
	elsewhere(func() { hold(t, r, 1) }) // so that more is in use than recorded
	p := permitHere(t, r, 1)
	p.Release()
	r.Release()
	require.Empty(t, holders(t, d))
}

func TestAPermitWhosePermitsWereReleasedByHandIsNoLeak(t *testing.T) {
	d, r := newWatched(t, 1, 9)
	leakHere(t, r, 1)
	r.Release()
	eventually(t, func() bool { return len(holders(t, d)) == 0 })
}

//go:noinline
func leakThere(t *testing.T, r *condvar.CapacityResource) { permitHere(t, r, 1) }

func TestAReleaseByHandEndsTheOldestLeak(t *testing.T) {
	d, r := newWatched(t, 1, 9)
	leakHere(t, r, 1)
	eventually(t, func() bool { return look(t, d).of(t, "pool").Leaked == 1 })
	leakThere(t, r)
	eventually(t, func() bool { return look(t, d).of(t, "pool").Leaked == 2 })
	r.Release()
	sites := holders(t, d)
	require.Len(t, sites, 1)
	require.Contains(t, sites[0].Stack, "leakThere\n")
	require.Regexp(t, `<summary [^>]* class="mark">1 permit leaked, acquired`, get(t, d, "/").Body.String())
	leakHere(t, r, 1)
	eventually(t, func() bool { return look(t, d).of(t, "pool").Leaked == 2 })
	r.ReleaseN(2)
	require.Empty(t, holders(t, d))
}

func TestTheLimitsAreThoseOfTheDocumentation(t *testing.T) {
	require.Equal(t, 4096, condvardebug.MaxHolds)
	require.Equal(t, 250_000, condvardebug.MaxGoroutines)
	require.Equal(t, 30, condvardebug.MaxSites)
}
