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

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"example.com/condvar"
	"example.com/condvar/condvardebug"
)

// profiled returns how many holders are in the profile, if there is one yet.
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

func TestHoldersAreShownUntilTheyRelease(t *testing.T) {
	d, r := newWatched(t, 1, 9)
	_, before := profile(t)
	require.NoError(t, holdHere(t.Context(), r, 2))
	require.NoError(t, holdHere(t.Context(), r, 3))
	require.True(t, holdThere(r))

	text, count := profile(t)
	require.Equal(t, before+3, count)
	frames := strings.Split(text, "\n")
	first := func(name string) bool { // whether a stack of the profile begins with it
		for i := range frames[1:] {
			if strings.Contains(frames[i], " @ ") && strings.Contains(frames[i+1], name) {
				return true
			}
		}
		return false
	}
	require.True(t, first("condvardebug_test.holdHere+"), text)
	require.True(t, first("condvardebug_test.holdThere+"), text)

	v := look(t, d)
	require.Equal(t, 1, v.Fraction)
	require.Len(t, v.Holders, 3, "by the line of the call")
	var permits int64
	for _, site := range v.Holders {
		permits += site.Permits
		require.Equal(t, "pool", site.Resource)
		require.Equal(t, 1, site.Count)
		require.Equal(t, []uint64{condvardebug.GoroutineID()}, site.Goroutines)
		require.Regexp(t, `\A[^\n]*/condvardebug_test\.hold(H|Th)ere\n\t`, site.Stack)
	}
	require.EqualValues(t, 6, permits)

	r.ReleaseN(2) // what was taken last, and one of three
	permits = 0
	for _, site := range look(t, d).Holders {
		permits += site.Permits
	}
	require.EqualValues(t, 4, permits)
	_, count = profile(t)
	require.Equal(t, before+2, count)

	r.ReleaseN(4)
	require.Empty(t, look(t, d).Holders)
	_, count = profile(t)
	require.Equal(t, before, count)
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
		v := look(t, d)
		require.Len(t, v.Holders, 1)
		require.Equal(t, 3, v.Holders[0].Count)
		require.EqualValues(t, 6, v.Holders[0].Permits)
		require.Len(t, v.Holders[0].Goroutines, 3)
		close(release)
		all.Wait()
		require.Empty(t, look(t, d).Holders)
	})
}

func TestAReleaseElsewhereForgetsNothingUntilTheResourceIsIdle(t *testing.T) {
	d, r := newWatched(t, 1, 3)
	elsewhere := func(f func()) {
		var other sync.WaitGroup
		other.Go(f)
		other.Wait()
	}
	hold(t, r, 1)
	elsewhere(func() { hold(t, r, 1) })
	elsewhere(r.Release)
	require.Len(t, look(t, d).Holders, 2, "nobody knows which")
	elsewhere(r.Release)
	require.Empty(t, look(t, d).Holders)
}

func TestWhatIsAcquiredAfterTheResourceWasIdleIsNotForgotten(t *testing.T) {
	d, r := newWatched(t, 1, 3)
	require.NoError(t, holdHere(t.Context(), r, 1))
	require.True(t, holdThere(r))
	d.ForgetUpTo(1)
	v := look(t, d)
	require.Len(t, v.Holders, 1)
	require.Contains(t, v.Holders[0].Stack, "holdThere")
	r.ReleaseN(2)
}

func TestIdleIsOnlyWhatIsTrackedUnderTheName(t *testing.T) {
	var d condvardebug.Debugger
	d.SetHolderProfileFraction(1)
	r := condvar.NewCapacityResource(3, condvar.WithHooks(d.Hooks("pool")))
	busy := condvar.NewCapacityResource(3, condvar.WithHooks(d.Hooks("busy")))
	d.Track("busy", busy)
	hold(t, busy, 1)
	lose := func() {
		hold(t, r, 1)
		var other sync.WaitGroup
		other.Go(r.Release)
		other.Wait()
	}
	lose()
	require.Len(t, look(t, &d).Holders, 2, "pool is not tracked")
	d.Track("pool", r)
	lose()
	v := look(t, &d)
	require.Len(t, v.Holders, 1)
	require.Equal(t, "busy", v.Holders[0].Resource, "which is in use")
	busy.Release()
}

func TestTheFractionIsReadAndSet(t *testing.T) {
	var d condvardebug.Debugger
	require.Zero(t, d.SetHolderProfileFraction(-1), "off by default")
	require.Zero(t, d.SetHolderProfileFraction(5))
	require.Equal(t, 5, d.SetHolderProfileFraction(-1))
	require.Equal(t, 5, d.SetHolderProfileFraction(0))
	require.Zero(t, d.SetHolderProfileFraction(-1))
}

func TestTheFractionIsKeptToOnAverage(t *testing.T) {
	d, r := newWatched(t, 4, 4000)
	for range 2000 {
		hold(t, r, 1)
	}
	recorded := 0
	for _, site := range look(t, d).Holders {
		recorded += site.Count
	}
	// 500 on average, with a standard deviation of less than 20.
	require.InDelta(t, 500, recorded, 200)
	r.ReleaseN(2000)
	require.Empty(t, look(t, d).Holders)
}

// A leak whose record were ended by the next release of the same goroutine, whose
// acquisition is not recorded, would never be found.
func TestWhatIsNotRecordedEndsNoRecord(t *testing.T) {
	d, r := newWatched(t, 10, 1<<20)
	for range 2000 {
		hold(t, r, 1) // and leak
		for range 9 {
			hold(t, r, 2)
			r.ReleaseN(2)
		}
	}
	recorded := 0
	for _, site := range look(t, d).Holders {
		recorded += site.Count
	}
	// 200 on average, with a standard deviation of less than 14.
	require.InDelta(t, 200, recorded, 100)
}

func TestTheFractionCanBeChangedAtAnyTime(t *testing.T) {
	d, r := newWatched(t, 1, 9)
	hold(t, r, 1)
	d.SetHolderProfileFraction(0)
	hold(t, r, 1)
	require.Len(t, look(t, d).Holders, 1)
	d.SetHolderProfileFraction(1)
	hold(t, r, 1)
	require.Len(t, look(t, d).Holders, 2)
	d.SetHolderProfileFraction(0)
	r.ReleaseN(3)
	require.Empty(t, look(t, d).Holders, "they are forgotten when it is off, too")
}

func TestNoMoreIsRecordedThanThereIsRoomFor(t *testing.T) {
	d, r := newWatched(t, 1, condvardebug.MaxHolders+10)
	for range condvardebug.MaxHolders + 10 {
		hold(t, r, 1)
	}
	require.Equal(t, condvardebug.MaxHolders, look(t, d).Holders[0].Count)
	r.ReleaseN(r.Stats().InUse)
	require.Empty(t, look(t, d).Holders)
	hold(t, r, 1)
	require.Len(t, look(t, d).Holders, 1, "there is room again")
	r.Release()
	require.Zero(t, d.Sizes()[2])
}

func TestAReleaseEndsTheLatestAcquisitionOfItsGoroutine(t *testing.T) {
	d, r := newWatched(t, 1, 9)
	require.NoError(t, holdHere(t.Context(), r, 2))
	hold(t, r, 0) // is none
	hold(t, r, 1)
	require.True(t, holdThere(r))
	holders := func() (functions []string) {
		for _, site := range look(t, d).Holders {
			function, _, _ := strings.Cut(site.Stack, "\n")
			functions = append(functions, function[strings.LastIndex(function, ".")+1:]+" "+strconv.FormatInt(site.Permits, 10))
		}
		return functions
	}
	require.ElementsMatch(t, []string{"holdHere 2", "hold 1", "holdThere 1"}, holders())
	r.Release()
	require.ElementsMatch(t, []string{"holdHere 2", "hold 1"}, holders())
	r.Release()
	require.Equal(t, []string{"holdHere 2"}, holders())
	r.Release()
	require.Equal(t, []string{"holdHere 1"}, holders())
	r.Release()
	require.Empty(t, holders())
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
	for range 8 {
		all.Go(func() {
			id := condvardebug.GoroutineID()
			for range 1000 {
				hold(t, r, 1)
				assert.True(t, d.IsRecorded(id), "others find the resource idle, but not later than this")
				r.Release()
			}
		})
	}
	all.Go(func() {
		for range 20 {
			look(t, d)
		}
	})
	all.Wait()
	require.Empty(t, look(t, d).Holders)
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
