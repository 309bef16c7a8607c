//go:build chromium

package main

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/chromedp"
	"github.com/stretchr/testify/require"

	"example.com/condvar"
	"example.com/condvar/condvardebug"
)

var screenshot = flag.Bool("screenshot", false, "save screenshots of the page in docs/debugging")

// A browser is a tab of headless Chromium. The test fails if anything is
// written to its console or a script fails.
type browser struct {
	t   *testing.T
	ctx context.Context
}

const limit = 20 * time.Second // limit for changes of the page

// newBrowser starts Chromium, as Debian packages it.
func newBrowser(t *testing.T) *browser {
	path, err := exec.LookPath("chromium")
	require.NoError(t, err, "the tag chromium requires Chromium: apt-get install chromium")
	options := append(chromedp.DefaultExecAllocatorOptions[:], chromedp.ExecPath(path), chromedp.WindowSize(1000, 800))
	if os.Geteuid() == 0 {
		options = append(options, chromedp.NoSandbox)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	t.Cleanup(cancel)
	ctx, cancel = chromedp.NewExecAllocator(ctx, options...)
	t.Cleanup(cancel)
	ctx, cancel = chromedp.NewContext(ctx)
	t.Cleanup(cancel)
	b := &browser{t, ctx}
	b.do(emulate("prefers-color-scheme", "light"))
	return b
}

// silent subscribes to the console. The function that it returns requires that
// nothing was written there.
func (b *browser) silent() (check func()) {
	messages := chromedp.Console(b.ctx)
	return func() {
		const last = "the test is over"
		eval[any](b, fmt.Sprintf("console.log(%q)", last))
		for message, err := range messages {
			require.NoError(b.t, err)
			if message.Text == last {
				return
			}
			require.Fail(b.t, "console", "%s", message)
		}
	}
}

func (b *browser) do(steps ...chromedp.Action[chromedp.Void]) {
	b.t.Helper()
	require.NoError(b.t, chromedp.Do(b.ctx, steps...))
}

// eval evaluates JavaScript in the page.
func eval[T any](b *browser, js string) T {
	b.t.Helper()
	value, err := chromedp.Run(b.ctx, chromedp.Evaluate[T](js))
	require.NoError(b.t, err, js)
	return value
}

// until waits until JavaScript says true.
func (b *browser) until(js string) {
	b.t.Helper()
	b.wait(js, func() bool { return eval[bool](b, js) })
}

// wait polls until yes returns true.
func (b *browser) wait(what string, yes func() bool) {
	b.t.Helper()
	deadline := time.Now().Add(limit)
	for !yes() {
		if time.Now().After(deadline) {
			html, _ := chromedp.Run(b.ctx, chromedp.OuterHTML(chromedp.CSS("body")))
			require.FailNow(b.t, "not within "+limit.String(), "%s\n%s", what, html)
		}
		time.Sleep(50 * time.Millisecond)
	}
}

// emulate sets a media feature, such as prefers-color-scheme.
func emulate(name, value string) chromedp.Action[chromedp.Void] {
	return chromedp.Func(func(ctx context.Context, _ *chromedp.Target) error {
		_, err := chromedp.Call(ctx, emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{
			Features: []*emulation.MediaFeature{{Name: name, Value: value}},
		})
		return err
	})
}

// get sends a request to the service.
func (p *process) get(t *testing.T, path string) {
	t.Helper()
	res, err := http.Get(p.public + path)
	require.NoError(t, err)
	res.Body.Close()
	require.Equal(t, http.StatusOK, res.StatusCode, path)
}

// getStuck leaks all connections, and makes one more request, which hangs.
func (p *process) getStuck(t *testing.T) {
	for range connections {
		p.get(t, "/leak")
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		if res, err := http.Get(p.public + "/work"); err == nil {
			res.Body.Close()
		}
	}()
	t.Cleanup(func() {
		p.get(t, "/heal")
		<-done
	})
}

// TestBrowser opens the page of the command in Chromium. Each subtest has its
// own service and browser.
func TestBrowser(t *testing.T) {
	path := build(t)
	for name, test := range map[string]func(*testing.T, *process, *browser){
		"numbers move under load":                        numbersMove,
		"who is stuck appears, and where":                stuckAppears,
		"the keyboard opens details, and they stay open": keyboard,
		"without JavaScript it shows everything":         withoutJavaScript,
		"names are escaped":                              escaped,
		"texts have contrast in light and dark":          contrast,
		"screenshots":                                    screenshots,
	} {
		t.Run(name, func(t *testing.T) { test(t, startProcess(t, path), newBrowser(t)) })
	}
}

func numbersMove(t *testing.T, p *process, b *browser) {
	p.get(t, "/load?clients=20&seconds=60")
	silent := b.silent()
	b.do(chromedp.Navigate(p.debug + "/debug/condvar?refresh=1"))
	eval[any](b, `window.loadedOnce = true`)
	for range 3 {
		before := eval[string](b, `document.querySelector("main").innerText`)
		require.Contains(t, before, "db")
		b.until(fmt.Sprintf(`document.querySelector("main").innerText !== %q`, before))
	}
	require.True(t, eval[bool](b, `window.loadedOnce === true`), "the page refreshes itself without a reload")
	b.until(`document.querySelector("main svg") !== null`)
	b.until(`document.querySelector("main").textContent.includes("main.(*service).query")`)
	b.until(`document.title.startsWith('"db" (')`)
	silent()
}

func stuckAppears(t *testing.T, p *process, b *browser) {
	silent := b.silent()
	b.do(chromedp.Navigate(p.debug + "/debug/condvar?refresh=1"))
	require.NotContains(t, eval[string](b, `document.body.textContent`), "(*service).query")
	p.getStuck(t)
	b.until(`document.body.textContent.includes("main.(*service).query")`)
	b.until(`/main\.go:\d+/.test(document.body.innerText)`)
	silent()
}

func keyboard(t *testing.T, p *process, b *browser) {
	p.getStuck(t)
	silent := b.silent()
	b.do(chromedp.Navigate(p.debug + "/debug/condvar?refresh=1"))
	const details = `document.activeElement.closest("details")`
	b.until(`document.querySelector("details") !== null`)
	for range 30 {
		b.do(chromedp.KeyEvent("\t"))
		if eval[bool](b, details+` !== null`) {
			break
		}
	}
	require.True(t, eval[bool](b, details+` !== null`), "Tab reaches the details")
	require.False(t, eval[bool](b, details+`.open`))
	require.NotEqual(t, "none", eval[string](b, `getComputedStyle(document.activeElement).outlineStyle`), "the focus is visible")
	b.do(chromedp.KeyEvent("\r"))
	b.until(details + `.open`)
	for range 2 { // refreshes: the oldest wait has grown
		before := eval[string](b, `document.querySelector("main").innerText`)
		b.until(fmt.Sprintf(`document.querySelector("main").innerText !== %q`, before))
		require.True(t, eval[bool](b, details+` !== null && `+details+`.open`), "it is still open, and has the focus")
	}
	silent()
}

func withoutJavaScript(t *testing.T, p *process, b *browser) {
	p.getStuck(t)
	_, err := chromedp.Call(b.ctx, emulation.SetScriptExecutionDisabled, emulation.SetScriptExecutionDisabledParams{Value: true})
	require.NoError(t, err)
	b.do(chromedp.Navigate(p.debug + "/debug/condvar?refresh=1"))
	html := func() string {
		html, err := chromedp.Run(b.ctx, chromedp.OuterHTML(chromedp.CSS("main")))
		if err != nil {
			return "" // it is loading
		}
		return html
	}
	first := html()
	for _, want := range []string{"db", "<svg", "main.(*service).query", "main.(*service).leak"} {
		b.wait(want, func() bool { return strings.Contains(html(), want) })
	}
	b.wait("the page is loaded again", func() bool { h := html(); return h != "" && h != first })
}

func escaped(t *testing.T, _ *process, b *browser) {
	const name = `<img src=x onerror="document.title='broken'"><script>document.title='broken'</script>&amp;"'`
	var d condvardebug.Debugger
	r := condvar.NewCapacityResource(1)
	d.Track(name, r)
	server := httptest.NewServer(&d)
	defer server.Close()
	silent := b.silent()
	b.do(chromedp.Navigate(server.URL + "?refresh=1"))
	quoted := strconv.Quote(name)
	require.Contains(t, eval[string](b, `document.querySelector("main").innerText`), quoted)
	before := eval[string](b, `document.querySelector("main").outerHTML`)
	require.NoError(t, r.Acquire(t.Context()))
	b.until(fmt.Sprintf(`document.querySelector("main").outerHTML !== %q`, before))
	require.Contains(t, eval[string](b, `document.querySelector("main").innerText`), quoted, "after a refresh by script, too")
	require.NotEqual(t, "broken", eval[string](b, `document.title`))
	require.Zero(t, eval[int](b, `document.querySelectorAll("main img, main script").length`))
	silent()
	// Otherwise r would be collected and not be on the page.
	runtime.KeepAlive(r)
}

// poorContrast lists the texts whose contrast to what is behind them is less
// than 4.5, as WCAG 2 defines it.
const poorContrast = `(() => {
	const probe = document.createElement("canvas").getContext("2d", {willReadFrequently: true});
	const canvas = document.createElement("div"); // the background of the page
	canvas.style.backgroundColor = "Canvas";
	document.body.append(canvas);
	const behindAll = getComputedStyle(canvas).backgroundColor;
	canvas.remove();
	const paint = (...colors) => {
		for (const color of colors) { probe.fillStyle = color; probe.fillRect(0, 0, 1, 1); }
		return probe.getImageData(0, 0, 1, 1).data;
	};
	const luminance = ([r, g, b]) => {
		const [x, y, z] = [r, g, b].map(v => v / 255).map(v => v <= .04045 ? v / 12.92 : ((v + .055) / 1.055) ** 2.4);
		return .2126 * x + .7152 * y + .0722 * z;
	};
	const poor = [];
	const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
	let texts = 0;
	while (walker.nextNode()) {
		const text = walker.currentNode, element = text.parentElement;
		if (!text.data.trim() || element.closest("script, style, noscript") || !element.checkVisibility()) continue;
		texts++;
		const behind = [];
		for (let e = element; e; e = e.parentElement) {
			const style = getComputedStyle(e);
			if (style.opacity !== "1") poor.push("opacity: " + text.data);
			behind.unshift(style.backgroundColor);
		}
		behind.unshift(behindAll);
		const style = getComputedStyle(element);
		const color = element.namespaceURI.endsWith("svg") ? style.fill : style.color;
		const a = luminance(paint(...behind)), b = luminance(paint(...behind, color));
		const contrast = (Math.max(a, b) + .05) / (Math.min(a, b) + .05);
		if (contrast < 4.5) poor.push(contrast.toFixed(2) + ": " + color + ": " + text.data);
	}
	return {texts, poor, light: luminance(paint(behindAll)) > .5};
})()`

func contrast(t *testing.T, p *process, b *browser) {
	p.getStuck(t)
	silent := b.silent()
	b.do(chromedp.Navigate(p.debug + "/debug/condvar?refresh=1"))
	b.until(`document.querySelector("details") !== null && document.querySelector("main svg") !== null`)
	for _, scheme := range []string{"light", "dark"} {
		b.do(emulate("prefers-color-scheme", scheme))
		eval[any](b, `document.querySelectorAll("details").forEach(d => d.open = true)`)
		result := eval[struct {
			Texts int
			Poor  []string
			Light bool
		}](b, poorContrast)
		require.Equal(t, scheme == "light", result.Light)
		require.Greater(t, result.Texts, 10)
		require.Empty(t, result.Poor, scheme)
	}
	silent()
}

// screenshots takes the pictures of docs/debugging.md if the flag is set.
// Otherwise it only checks that the pages fit into a window.
func screenshots(t *testing.T, p *process, b *browser) {
	if *screenshot { // minutes of load, for the charts
		for _, clients := range []int{3, 12, 24, 6, 90, 12} {
			p.get(t, fmt.Sprintf("/load?clients=%d&seconds=15", clients))
			b.wait("the load is over", func() bool { return p.resource(t).InUse == 0 })
		}
	}
	// Without reports, which would delay the leaks.
	p.get(t, "/load?clients=9&seconds=60")
	p.getStuck(t)
	for _, view := range []string{"", "?view=stacks"} {
		for _, width := range []int64{400, 700, 1600, 1000} {
			b.do(chromedp.EmulateViewport(width, 1100), chromedp.Navigate(p.debug+"/debug/condvar"+view))
			require.LessOrEqual(t, eval[int64](b, `document.documentElement.scrollWidth`), width, "nothing is cut off")
		}
	}
	b.do(chromedp.EmulateViewport(400, 1100), chromedp.Navigate(p.public))
	require.LessOrEqual(t, eval[int64](b, `document.documentElement.scrollWidth`), int64(400), "nothing is cut off")
	if !*screenshot {
		return
	}
	p.collectGarbage(t)
	b.wait("all are stuck, and the leak is found", func() bool { r := p.resource(t); return r.OldestWait > 8 && r.Leaked > 0 })
	b.do(chromedp.EmulateViewport(1000, 900), chromedp.Navigate(p.debug+"/debug/condvar"))
	eval[any](b, `[...document.querySelectorAll("details")].filter(d => /leaked/.test(d.textContent)).forEach(d => d.open = true)`)
	for scheme, name := range map[string]string{"light": "page.png", "dark": "page-dark.png"} {
		b.do(emulate("prefers-color-scheme", scheme))
		png, err := chromedp.Run(b.ctx, chromedp.CaptureScreenshot())
		require.NoError(t, err)
		require.Less(t, len(png), 200_000)
		require.NoError(t, os.WriteFile(filepath.Join("..", "..", "docs", "debugging", name), png, 0o644))
	}
}

// collectGarbage makes the process run a garbage collection.
func (p *process) collectGarbage(t *testing.T) {
	res, err := http.Get(p.debug + "/debug/pprof/heap?gc=1")
	require.NoError(t, err)
	res.Body.Close()
}

// A resource is an entry of the page in JSON.
type resource struct {
	InUse      int     `json:"in_use"`
	OldestWait float64 `json:"oldest_wait_seconds"`
	Leaked     float64 `json:"leaked_permits"`
}

func (p *process) resource(t *testing.T) resource {
	res, err := http.Get(p.debug + "/debug/condvar?format=json")
	require.NoError(t, err)
	defer res.Body.Close()
	var page struct{ Resources []resource }
	require.NoError(t, json.NewDecoder(res.Body).Decode(&page))
	require.Len(t, page.Resources, 1)
	return page.Resources[0]
}
