package condvardebug_test

import (
	"context"
	"encoding/json"
	"encoding/xml"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"regexp"
	"runtime"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"example.com/condvar"
	"example.com/condvar/condvardebug"
)

// evil is a name that nobody should give.
const evil = `<script>alert("1")</script>&'` + "\x1b[2J\n\x00"

// full returns a Debugger with a resource called evil that is full and held, for
// which somebody waits, and that has samples.
func full(ctx context.Context, t *testing.T) *condvardebug.Debugger {
	t.Helper()
	d := &condvardebug.Debugger{}
	d.SetHolderProfileFraction(1)
	r := condvar.NewCapacityResource(3, condvar.WithHooks(d.Hooks(evil)))
	d.Track(evil, r)
	go d.Run(ctx)
	time.Sleep(2500 * time.Millisecond)
	require.NoError(t, r.Acquire(ctx)) // to be seen in one sample
	time.Sleep(time.Second)
	r.Release()
	time.Sleep(7 * time.Second)
	require.NoError(t, holdHere(ctx, r, 3))
	t.Cleanup(func() { r.ReleaseN(3) }) // ctx has ended by then
	go r.AcquireN(ctx, 2)
	time.Sleep(5 * time.Second)
	return d
}

func TestOnlyGetAndHeadAreAnswered(t *testing.T) {
	var d condvardebug.Debugger
	for _, method := range []string{http.MethodPost, http.MethodPut, http.MethodDelete, http.MethodPatch, http.MethodOptions} {
		w := httptest.NewRecorder()
		d.ServeHTTP(w, httptest.NewRequest(method, "/", nil))
		require.Equal(t, http.StatusMethodNotAllowed, w.Code, method)
		require.Equal(t, "GET, HEAD", w.Header().Get("Allow"))
	}
	for _, format := range []string{"html", "json", "text"} {
		w := httptest.NewRecorder()
		d.ServeHTTP(w, httptest.NewRequest(http.MethodHead, "/?format="+format, nil))
		require.Equal(t, http.StatusOK, w.Code)
		require.Zero(t, w.Body.Len())
		require.Equal(t, get(t, &d, "/?format="+format).Header().Get("Content-Type"), w.Header().Get("Content-Type"))
		require.NotEmpty(t, w.Header().Get("Content-Length"))
	}
}

func TestTheFormatIsWhatWasAskedFor(t *testing.T) {
	var d condvardebug.Debugger
	for _, test := range []struct{ target, accept, want string }{
		{"/", "", "text/html; charset=utf-8"},
		{"/", "*/*", "text/html; charset=utf-8"},
		{"/", "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8", "text/html; charset=utf-8"},
		{"/", "application/json", "application/json"},
		{"/", "Application/JSON; charset=utf-8, text/html", "application/json"},
		{"/", "image/png, text/plain;q=0.5, */*", "text/plain; charset=utf-8"},
		{"/debug/condvar?format=json", "text/html", "application/json"},
		{"/?format=text", "text/html", "text/plain; charset=utf-8"},
		{"/?format=html", "application/json", "text/html; charset=utf-8"},
	} {
		req := httptest.NewRequest(http.MethodGet, test.target, nil)
		req.Header.Set("Accept", test.accept)
		w := httptest.NewRecorder()
		d.ServeHTTP(w, req)
		require.Equal(t, http.StatusOK, w.Code)
		require.Equal(t, test.want, w.Header().Get("Content-Type"), test)
		require.Equal(t, "Accept", w.Header().Get("Vary"))
		require.Equal(t, "no-store", w.Header().Get("Cache-Control"))
		require.Equal(t, "nosniff", w.Header().Get("X-Content-Type-Options"))
	}
	w := httptest.NewRecorder()
	d.ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/?format=yaml", nil))
	require.Equal(t, http.StatusBadRequest, w.Code)
}

func TestThePolicyAllowsWhatThePageHas(t *testing.T) {
	var d condvardebug.Debugger
	nonces := map[string]bool{}
	for range 2 {
		w := get(t, &d, "/")
		policy := w.Header().Get("Content-Security-Policy")
		match := regexp.MustCompile(`script-src 'nonce-([A-Z2-7]{26,})'; style-src 'nonce-([A-Z2-7]{26,})'`).FindStringSubmatch(policy)
		require.NotNil(t, match, policy)
		require.Contains(t, policy, "default-src 'none'")
		require.Contains(t, policy, "connect-src 'self'")
		require.Contains(t, policy, "frame-ancestors 'none'")
		require.NotContains(t, policy, "unsafe")
		body := w.Body.String()
		require.Equal(t, 1, strings.Count(body, `<script nonce="`+match[1]+`">`))
		require.Equal(t, 1, strings.Count(body, `<style nonce="`+match[2]+`">`))
		require.Equal(t, 1, strings.Count(body, "<script"))
		require.NotRegexp(t, `\s(style|on[a-z]+)="`, body, "which the policy would not allow")
		nonces[match[1]] = true
	}
	require.Len(t, nonces, 2, "a nonce is for one page")
}

func TestThePageRefreshesItselfUnlessItIsTold(t *testing.T) {
	var d condvardebug.Debugger
	for target, seconds := range map[string]string{
		"/": "5", "/?refresh=2": "2", "/?refresh=x": "5", "/?refresh=-1": "5", "/?refresh=99999999": "86400",
	} {
		body := get(t, &d, target).Body.String()
		require.Contains(t, body, `<noscript><meta http-equiv="refresh" content="`+seconds+`"></noscript>`)
		require.Contains(t, body, `data-refresh="`+seconds+`"`)
		require.Contains(t, body, `<a href="?refresh=0">Stop</a>`)
	}
	body := get(t, &d, "/?refresh=0").Body.String()
	require.NotContains(t, body, `http-equiv="refresh"`)
	require.Contains(t, body, `data-refresh="0"`)
	require.Contains(t, body, `<a href="?">Start</a>`)
}

func TestThePageShowsEverything(t *testing.T) {
	bubble(t, func(t *testing.T, ctx context.Context) {
		d := full(ctx, t)
		body := get(t, d, "/").Body.String()
		require.NotContains(t, body, "<script>", "the name is escaped")
		require.Contains(t, body, `<th scope="row">&lt;script&gt;alert(&#34;1&#34;)&lt;/script&gt;&amp;&#39;`)
		require.Contains(t, body, `<tr class="full">`)
		require.Contains(t, body, "<td>full</td>", "and not by looks alone")
		require.Contains(t, body, `<td class="number">5s</td>`, "the oldest wait")
		require.Contains(t, body, `<td class="number">1 (for 2 permits)</td>`)
		require.Contains(t, body, `aria-label="last 15s, capacity 3, in use 0 to 3, waiting 0 to 1"`)
		require.Contains(t, body, `<polyline class="capacity" points="0,1.0 2,1.0 2,1.0 4,1.0 4,1.0 6,1.0"/>`)
		require.Contains(t, body, `<polyline class="inuse" points="0,15.7 2,15.7 2,23.0 4,23.0 4,1.0 6,1.0"/>`)
		require.Contains(t, body, `<polyline class="waiting" points="0,23.0 2,23.0 2,23.0 4,23.0 4,1.0 6,1.0"/>`)
		require.Contains(t, body, "</strong>: permits 3, acquisitions 1, oldest 5s ago: <code>")
		require.Contains(t, body, "/condvardebug_test.holdHere\n\t")
		require.Contains(t, body, "<strong>1</strong> in <strong>CapacityResource.AcquireN</strong> (select), longest time not known yet: <code>")
		require.Contains(t, body, "/condvardebug_test.full\n")
		requireBalanced(t, body)
	})
}

// requireBalanced checks that each element of the page is closed.
func requireBalanced(t *testing.T, body string) {
	t.Helper()
	body = regexp.MustCompile(`(?s)<script.*</script>`).ReplaceAllString(body, "") // is no XML
	decoder := xml.NewDecoder(strings.NewReader(strings.ReplaceAll(body, "\x1b", "")))
	decoder.Strict = false
	decoder.AutoClose = []string{"meta"}
	decoder.Entity = xml.HTMLEntity
	open := 0
	for {
		token, err := decoder.Token()
		if errors.Is(err, io.EOF) {
			break
		}
		require.NoError(t, err)
		switch token.(type) {
		case xml.StartElement:
			open++
		case xml.EndElement:
			open--
		}
	}
	require.Zero(t, open)
	ids := map[string]bool{}
	for _, id := range regexp.MustCompile(` id="([^"]*)"`).FindAllStringSubmatch(body, -1) {
		require.False(t, ids[id[1]], "an id twice: %s", id[1])
		ids[id[1]] = true
	}
}

func TestTextShowsEverything(t *testing.T) {
	bubble(t, func(t *testing.T, ctx context.Context) {
		d := full(ctx, t)
		body := get(t, d, "/?format=text").Body.String()
		require.NotContains(t, body, "\x1b", "the name is quoted")
		require.Regexp(t, `(?m)^"<script>alert\(\\"1\\"\)</script>&'\\x1b\[2J\\n\\x00" +full +3 +3 +1 +5s +▃▁█$`, body)
		require.Contains(t, body, `\x00": permits 3, acquisitions 1, oldest 5s ago, by goroutines [`)
		require.Contains(t, body, "/condvardebug_test.holdHere\n\t")
		require.Contains(t, body, "\n1 in CapacityResource.AcquireN, select, longest time not known yet: goroutines [")
		require.Contains(t, body, "/condvardebug_test.full\n")
	})
}

func TestJSONShowsEverything(t *testing.T) {
	bubble(t, func(t *testing.T, ctx context.Context) {
		d := full(ctx, t)
		v := look(t, d)
		require.Len(t, v.Resources, 1)
		require.Equal(t, evil, v.Resources[0].Name)
		require.Equal(t, 5.0, v.Resources[0].OldestWait)
		require.Len(t, v.Resources[0].History.Waiting, 15)
		require.Len(t, v.Holders, 1)
		require.Equal(t, evil, v.Holders[0].Resource)
		require.EqualValues(t, 3, v.Holders[0].Permits)
		require.Equal(t, 5.0, v.Holders[0].Longest)
		require.Len(t, v.Blocked, 1)
		require.False(t, v.Incomplete)
	})
}

func TestAnEmptyPageHasListsAndSaysHowToFillThem(t *testing.T) {
	var d condvardebug.Debugger
	var v map[string]any
	require.NoError(t, json.Unmarshal(get(t, &d, "/?format=json").Body.Bytes(), &v))
	for _, list := range []string{"resources", "holders", "blocked"} {
		require.Equal(t, []any{}, v[list], list)
	}
	body := get(t, &d, "/").Body.String()
	require.Contains(t, body, "Track makes them known")
	require.Contains(t, body, "SetHolderProfileFraction turns it on")
	require.Contains(t, get(t, &d, "/?format=text").Body.String(), "SetHolderProfileFraction turns it on")
	requireBalanced(t, body)

	r := condvar.NewCapacityResource(1)
	d.Track("pool", r)
	require.Contains(t, get(t, &d, "/").Body.String(), "No samples: Run takes them.")
	runtime.KeepAlive(r)
}

func TestAPageThatIsIncompleteSaysSo(t *testing.T) {
	html, text, err := condvardebug.IncompletePages()
	require.NoError(t, err)
	require.Contains(t, html, "not all were looked at")
	require.Contains(t, text, "not all were looked at")
}

func TestASiteKeepsItsIDWhileOthersComeAndGo(t *testing.T) {
	bubble(t, func(t *testing.T, ctx context.Context) {
		d := full(ctx, t)
		ids := func() []string {
			return regexp.MustCompile(`<details id="[^"]*"`).FindAllString(get(t, d, "/").Body.String(), -1)
		}
		before := ids()
		require.Len(t, before, 2)
		var e condvar.Event
		go e.Wait(ctx)
		synctest.Wait()
		require.Subset(t, ids(), before)
		require.Len(t, ids(), 3)
	})
}

func TestTheDebuggerServesOverHTTP(t *testing.T) {
	var d condvardebug.Debugger
	r := condvar.NewCapacityResource(1)
	d.Track("pool", r)
	server := httptest.NewServer(&d)
	defer server.Close()
	response, err := server.Client().Get(server.URL + "/?format=text")
	require.NoError(t, err)
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	require.NoError(t, err)
	require.Contains(t, string(body), `"pool"`)
	response, err = server.Client().Head(server.URL)
	require.NoError(t, err)
	require.NoError(t, response.Body.Close())
	require.Equal(t, http.StatusOK, response.StatusCode)
	runtime.KeepAlive(r)
}
