package condvardebug_test

import (
	"context"
	"encoding/json"
	"encoding/xml"
	"errors"
	"fmt"
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

// evil is a name with characters that must be escaped.
const evil = `<script>alert("1")</script>&'` + "\x1b[2J\n\x00"

// full returns a Debugger with a resource called evil that is full and held,
// has a waiting call, and has samples.
func full(ctx context.Context, t *testing.T) *condvardebug.Debugger {
	t.Helper()
	d := &condvardebug.Debugger{}
	d.SetHolderProfileFraction(1)
	r := condvar.NewCapacityResource(3, d.Watch(evil), condvar.MaxWaiting(1))
	go d.Run(ctx)
	time.Sleep(2500 * time.Millisecond)
	require.NoError(t, r.Acquire(ctx)) // so that one sample has it
	time.Sleep(time.Second)
	r.Release()
	time.Sleep(6600 * time.Millisecond)
	require.NoError(t, holdHere(ctx, r, 3))
	t.Cleanup(func() { r.ReleaseN(3) }) // ctx has ended by then
	go waitHere(ctx, r, 2)
	synctest.Wait()
	require.ErrorIs(t, r.Acquire(ctx), condvar.ErrOverloaded)
	time.Sleep(4800 * time.Millisecond) // until 14.9 s after the bubble began
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
	w = httptest.NewRecorder()
	d.ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/?view=heap", nil))
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
		require.Contains(t, body, `<a href="?refresh=0">Stop refreshing</a>`)
	}
	body := get(t, &d, "/?refresh=0").Body.String()
	require.NotContains(t, body, `http-equiv="refresh"`)
	require.Contains(t, body, `data-refresh="0"`)
	require.Contains(t, body, `<a href="?">Refresh every 5 s</a>`)
}

func TestThePageShowsEverything(t *testing.T) {
	bubble(t, func(t *testing.T, ctx context.Context) {
		d := full(ctx, t)
		body := get(t, d, "/").Body.String()
		require.NotContains(t, body, "<script>", "the name is escaped")
		require.NotContains(t, body, "\x1b", "the name is quoted")
		const name = `&#34;&lt;script&gt;alert(\&#34;1\&#34;)&lt;/script&gt;&amp;&#39;\x1b[2J\n\x00&#34;`
		require.Contains(t, body, `<p class="headline attention"><span>`+name+` (1 call waits, 4.8s)</span></p>`)
		require.Contains(t, body, "<title>"+name+" (1 call waits, 4.8s) · condvardebug.test")
		require.Regexp(t, `<h2 id="resource-[0-9a-f]+">`+regexp.QuoteMeta(name)+`</h2>`, body)
		require.Contains(t, body, `<p class="words">1 call waits, the longest for 4.8s: 3 of 3 permits are in use. </p>`)
		require.Contains(t, body, `<dd>3 of 3</dd>`)
		require.Contains(t, body, `<dd class="hot">1 for 2</dd>`)
		require.Contains(t, body, `<dd class="hot">4.8s</dd>`)
		require.Contains(t, body, `aria-label="Permits in the last five minutes: at most 3 in use, capacity at most 3"`)
		require.Contains(t, body, `aria-label="Calls in the last five minutes: at most 1 waiting, 1 rejected"`)
		require.Contains(t, body, `<path class="capacity" d="M285 0.0H290L290 0.0H295L295 0.0H300"/>`)
		require.Contains(t, body, `<path class="inuse" d="M285 40V26.7h5V40zM295 40V0.0h5V40z"/>`)
		require.Contains(t, body, `<path class="waiting" d="M295 40V0.0h5V40z"/>`)
		require.Contains(t, body, `<path class="rejected" d="M295 -8h4v5h-4z"/>`)
		require.Contains(t, body, `3 permits probably held, acquired 4.8s ago <code>condvardebug_test.holdHere records_test.go:`)
		require.Contains(t, body, "<h3>Probably held by</h3>")
		require.Contains(t, body, "1 call waits for 2 permits, for 4.8s, no deadline <code>condvardebug_test.waitHere debugger_test.go:")
		requireBalanced(t, body)
	})
}

// requireBalanced checks that each element of the page is closed.
func requireBalanced(t *testing.T, body string) {
	t.Helper()
	// The script is not XML.
	body = regexp.MustCompile(`(?s)<script.*</script>`).ReplaceAllString(body, "")
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
		const name = `"<script>alert(\"1\")</script>&'\x1b[2J\n\x00"`
		require.Contains(t, body, "condvar at 2000-01-01T00:00:14Z: "+name+" (1 call waits, 4.8s)\n")
		require.Regexp(t, `(?m)^`+regexp.QuoteMeta(name)+` +3 +3 +1 +4.8s +1 +▃▁█$`, body)
		require.Contains(t, body, "\n"+name+": 1 call waits, the longest for 4.8s: 3 of 3 permits are in use.\n")
		require.Contains(t, body, "\n  A guess by goroutine, as Acquire and Release say nothing of who holds:\n\n  3 permits probably held, acquired 4.8s ago\n    goroutines ")
		require.Contains(t, body, "/condvardebug_test.holdHere\n    \t")
		require.Contains(t, body, "  1 call waits for 2 permits, for 4.8s, no deadline\n    goroutines ")
		require.Contains(t, body, "/condvardebug_test.waitHere\n    \t")
	})
}

func TestAnEmptyPageHasListsAndSaysHowToFillThem(t *testing.T) {
	var d condvardebug.Debugger
	var v map[string]any
	require.NoError(t, json.Unmarshal(get(t, &d, "/?format=json").Body.Bytes(), &v))
	require.Equal(t, []any{}, v["resources"])
	body := get(t, &d, "/").Body.String()
	require.Contains(t, body, "Nothing is watched.")
	require.Contains(t, body, "SetHolderProfileFraction turns it on")
	require.Contains(t, get(t, &d, "/?format=text").Body.String(), "Nothing is watched")
	requireBalanced(t, body)

	r := condvar.NewCapacityResource(1, d.Watch("pool"))
	body = get(t, &d, "/").Body.String()
	require.Contains(t, body, "No samples yet: Run takes them.")
	requireBalanced(t, body)
	require.Contains(t, get(t, &d, "/?format=json").Body.String(),
		`"waiting_at":[],"waiting_at_more":0,"held_at":[],"held_at_more":0,"history":null`, "lists are never null")
	require.Contains(t, get(t, &d, "/?format=text").Body.String(), "SetHolderProfileFraction turns it on")
	d.SetHolderProfileFraction(10)
	require.Contains(t, get(t, &d, "/?format=text").Body.String(), "1 of 10 acquisitions is recorded")
	require.Contains(t, get(t, &d, "/").Body.String(), "1 of 10 acquisitions is recorded")
	runtime.KeepAlive(r)
}

func TestOfManyResourcesThoseThatNeedNoAttentionAreALineEach(t *testing.T) {
	bubble(t, func(t *testing.T, ctx context.Context) {
		var d condvardebug.Debugger
		var all []*condvar.CapacityResource
		for i := range 100 {
			all = append(all, condvar.NewCapacityResource(1, d.Watch(fmt.Sprintf("pool %02d", i))))
		}
		count := func() (cards, lines int) {
			body := get(t, &d, "/").Body.String()
			requireBalanced(t, body)
			return strings.Count(body, `<h2 id="resource-`), strings.Count(body, `<tr><th scope="row">`)
		}
		cards, lines := count()
		require.Equal(t, [2]int{10, 90}, [2]int{cards, lines})
		for _, r := range all[:20] {
			require.True(t, r.TryAcquire())
			go waitHere(ctx, r, 1)
		}
		synctest.Wait()
		cards, lines = count()
		require.Equal(t, [2]int{20, 80}, [2]int{cards, lines})
		for _, r := range all[20:] {
			require.True(t, r.TryAcquire())
			go waitHere(ctx, r, 1)
		}
		synctest.Wait()
		cards, lines = count()
		require.Equal(t, [2]int{50, 50}, [2]int{cards, lines})
		for _, r := range all {
			r.Release()
		}
	})
}

func TestTheViewOfStacksHasAllFormats(t *testing.T) {
	bubble(t, func(t *testing.T, ctx context.Context) {
		var d condvardebug.Debugger
		var e condvar.Event
		go deep(1, func() { _ = e.Wait(ctx) })
		synctest.Wait()
		html := get(t, &d, "/?view=stacks").Body.String()
		require.Contains(t, html, "<strong>1</strong> in Event.Wait <code>condvardebug_test.")
		require.Contains(t, html, "<title>blocked goroutines · condvar</title>")
		requireBalanced(t, html)
		text := get(t, &d, "/?view=stacks&format=text").Body.String()
		require.Contains(t, text, "\n1 in Event.Wait\n    ")
		require.Contains(t, text, "/condvardebug_test.deep\n    \t")
	})
}

func TestASiteKeepsItsIDWhileOthersComeAndGo(t *testing.T) {
	bubble(t, func(t *testing.T, ctx context.Context) {
		d, r := newWatched(t, 1, 3)
		require.NoError(t, holdHere(ctx, r, 3))
		go waitHere(ctx, r, 1)
		synctest.Wait()
		ids := func() []string {
			return regexp.MustCompile(`<details id="[^"]*"`).FindAllString(get(t, d, "/").Body.String(), -1)
		}
		before := ids()
		require.Len(t, before, 2)
		go waitThere(ctx, r)
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

func TestASiteOfAResourceWithTwoNamesKeepsItsID(t *testing.T) {
	bubble(t, func(t *testing.T, ctx context.Context) {
		var d condvardebug.Debugger
		d.SetHolderProfileFraction(1)
		r := condvar.NewCapacityResource(1, d.Watch("db"), d.Watch("all"))
		ctx, cancel := context.WithCancel(ctx)
		go r.Do(ctx, func(ctx context.Context) error { return waitHere(ctx, r, 1) })
		synctest.Wait()
		for range 20 {
			require.Equal(t, []string{"all", "db"}, look(t, &d).of(t, "db").HeldAt[0].WaitsFor)
		}
		cancel()
		synctest.Wait()
		runtime.KeepAlive(r)
	})
}
