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
	Headline  string
	Fraction  int `json:"holder_profile_fraction"`
	Resources []resourceView
}

type resourceView struct {
	Name           string
	Instances      int
	Attention      bool
	Words          []string
	Capacity       float64
	InUse          float64 `json:"in_use"`
	Waiting        float64 `json:"waiting_calls"`
	WaitingPermits float64 `json:"waiting_permits"`
	OldestWait     float64 `json:"oldest_wait_seconds"`
	Leaked         float64 `json:"leaked_permits"`
	Deadlock       bool
	Shared         int
	Rejected       int64      `json:"rejected_total"`
	WaitingAt      []siteView `json:"waiting_at"`
	MoreWaiting    int        `json:"waiting_at_more"`
	HeldAt         []siteView `json:"held_at"`
	MoreHeld       int        `json:"held_at_more"`
	History        *struct {
		Seconds  float64 `json:"seconds_per_column"`
		Capacity []*float64
		InUse    []*float64 `json:"in_use"`
		Waiting  []*float64 `json:"waiting_calls"`
		Rejected []*float64 `json:"rejected_calls"`
	}
}

type siteView struct {
	By, Stack  string
	Calls      int
	Holds      int
	Permits    float64
	Longest    float64  `json:"longest_seconds"`
	Deadline   *float64 `json:"next_deadline_seconds"`
	WaitsFor   []string `json:"waits_for"`
	Goroutines []uint64
}

// caller is the innermost function of a stack.
func (s siteView) caller() string {
	function, _, _ := strings.Cut(s.Stack, "\n")
	return function[strings.LastIndex(function, ".")+1:]
}

// of returns the entry of the page for a name.
func (v view) of(t *testing.T, name string) resourceView {
	t.Helper()
	for _, r := range v.Resources {
		if r.Name == name {
			return r
		}
	}
	require.FailNow(t, "it is not on the page", name)
	return resourceView{}
}

// holders returns the sites that hold permits of the only resource.
func holders(t *testing.T, d *condvardebug.Debugger) []siteView {
	t.Helper()
	v := look(t, d)
	require.Len(t, v.Resources, 1)
	return v.Resources[0].HeldAt
}

// get requests the page and requires success. It collects garbage first, so
// that a test that does not keep its resource always fails.
func get(t *testing.T, d *condvardebug.Debugger, target string) *httptest.ResponseRecorder {
	t.Helper()
	runtime.GC()
	w := httptest.NewRecorder()
	d.ServeHTTP(w, httptest.NewRequest(http.MethodGet, target, nil))
	require.Equal(t, http.StatusOK, w.Code, w.Body.String())
	return w
}

// look returns the page.
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

// profile returns the text of the profile of holders, and their number.
func profile(t *testing.T) (text string, count int) {
	t.Helper()
	p := pprof.Lookup("condvar_holders")
	require.NotNil(t, p)
	var b strings.Builder
	require.NoError(t, p.WriteTo(&b, 1))
	return b.String(), p.Count()
}

// newWatched returns a Debugger that records 1 of rate acquisitions, and a
// resource that it tracks. The resource is not garbage collected before t ends.
// Its entries of the profile are removed then.
func newWatched(t *testing.T, rate int, capacity int64) (*condvardebug.Debugger, *condvar.CapacityResource) {
	d, r := newCollectable(rate, capacity)
	t.Cleanup(func() { r.ReleaseN(r.Stats().InUse) })
	return d, r
}

// newCollectable returns the same for tests in which the resource is collected.
func newCollectable(rate int, capacity int64) (*condvardebug.Debugger, *condvar.CapacityResource) {
	d := &condvardebug.Debugger{}
	d.SetHolderProfileFraction(rate)
	return d, condvar.NewCapacityResource(capacity, d.Watch("pool"))
}

// bubble runs f in a bubble with a context that ends with f, before the bubble
// is checked for remaining goroutines.
func bubble(t *testing.T, f func(t *testing.T, ctx context.Context)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		f(t, ctx)
	})
}

// eventually polls until ok, which another goroutine makes true.
func eventually(t *testing.T, ok func() bool) {
	t.Helper()
	deadline := time.Now().Add(10 * time.Second)
	for !ok() {
		require.True(t, time.Now().Before(deadline), "it does not become true")
		runtime.Gosched()
	}
}
