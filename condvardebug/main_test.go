package condvardebug_test

import (
	"context"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"runtime"
	"runtime/pprof"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"example.com/condvar"
	"example.com/condvar/condvardebug"
)

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m)
}

// A view is the page in JSON.
type view struct {
	Resources []struct {
		Name, State    string
		Full           bool
		Capacity       int64
		InUse          int64   `json:"in_use"`
		Waiting        int64   `json:"waiting"`
		WaitingPermits int64   `json:"waiting_permits"`
		OldestWait     float64 `json:"oldest_wait_seconds"`
		WaitCount      int64   `json:"wait_count"`
		WaitDuration   float64 `json:"wait_duration_seconds"`
		Canceled       int64
		History        struct {
			Interval float64 `json:"interval_seconds"`
			Capacity []int64
			InUse    []int64 `json:"in_use"`
			Waiting  []int64
		}
	}
	Fraction   int `json:"holder_profile_fraction"`
	Holders    []siteView
	Blocked    []siteView
	Incomplete bool `json:"blocked_incomplete"`
}

type siteView struct {
	Resource, Method, State, Stack string
	Permits                        int64
	Count                          int
	Longest                        float64 `json:"longest_seconds"`
	Goroutines                     []uint64
}

// get asks for the page and requires that it is there. It collects garbage first:
// a test that does not keep its resource fails each time, not now and then.
func get(t *testing.T, d *condvardebug.Debugger, target string) *httptest.ResponseRecorder {
	t.Helper()
	runtime.GC()
	w := httptest.NewRecorder()
	d.ServeHTTP(w, httptest.NewRequest(http.MethodGet, target, nil))
	require.Equal(t, http.StatusOK, w.Code, w.Body.String())
	return w
}

// look returns what the page says.
func look(t *testing.T, d *condvardebug.Debugger) (v view) {
	t.Helper()
	require.NoError(t, json.Unmarshal(get(t, d, "/?format=json").Body.Bytes(), &v))
	return v
}

// hold acquires n permits, which are free.
func hold(t *testing.T, r *condvar.CapacityResource, n int64) {
	t.Helper()
	require.NoError(t, r.AcquireN(t.Context(), n))
}

// profile returns the text of the profile of holders, and how many there are.
func profile(t *testing.T) (text string, count int) {
	t.Helper()
	p := pprof.Lookup("condvar_holders")
	require.NotNil(t, p)
	var b strings.Builder
	require.NoError(t, p.WriteTo(&b, 1))
	return b.String(), p.Count()
}

// newWatched returns a Debugger that records 1 of rate acquisitions, and
// a resource that it tracks. The resource is not collected before t ends, and
// what it has in the profile then does not stay there.
func newWatched(t *testing.T, rate int, capacity int64) (*condvardebug.Debugger, *condvar.CapacityResource) {
	d, r := newCollectable(rate, capacity)
	t.Cleanup(func() { r.ReleaseN(r.Stats().InUse) })
	return d, r
}

// newCollectable returns the same for tests in which the resource is collected.
func newCollectable(rate int, capacity int64) (*condvardebug.Debugger, *condvar.CapacityResource) {
	d := &condvardebug.Debugger{}
	d.SetHolderProfileFraction(rate)
	r := condvar.NewCapacityResource(capacity, condvar.WithHooks(d.Hooks("pool")))
	d.Track("pool", r)
	return d, r
}

// bubble runs f in a bubble with a context that ends with it, before the bubble
// is looked at for goroutines that are left.
func bubble(t *testing.T, f func(t *testing.T, ctx context.Context)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		f(t, ctx)
	})
}

// eventually looks until ok, which another goroutine makes true.
func eventually(t *testing.T, ok func() bool) {
	t.Helper()
	deadline := time.Now().Add(10 * time.Second)
	for !ok() {
		require.True(t, time.Now().Before(deadline), "it does not become true")
		runtime.Gosched()
	}
}
