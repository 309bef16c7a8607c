package condvardebug

import (
	"bytes"
	"crypto/rand"
	_ "embed" // for page.html
	"encoding/json"
	"fmt"
	"html/template"
	"io"
	"net/http"
	"strconv"
	"strings"
	"text/tabwriter"
)

//go:embed page.html
var pageHTML string

// refreshSeconds is the default period of the refresh of the page.
const refreshSeconds = 5

// ServeHTTP serves the page: the watched resources, those that need attention
// first, with the call sites that wait and that hold. The page refreshes itself
// every five seconds, with or without JavaScript. With ?refresh=N it does so
// every N seconds, with ?refresh=0 never.
//
// With ?view=stacks it serves the call sites of all goroutines that are blocked
// in condvar instead. These include waits for a [condvar.Cond], a
// [condvar.Event] and resources that are not watched. Stacks are taken at most
// once a second for all viewers, and not if there are more than 250,000
// goroutines.
//
// ?format=json, ?format=text or ?format=html selects the format. Without it,
// the format is the first of application/json, text/plain and text/html in the
// Accept header, regardless of q-values, or else HTML, also for curl, which
// accepts anything. In text, names are quoted as in Go.
//
// Methods other than GET and HEAD get status 405, and other formats and views
// status 400. The package comment documents the JSON, the cost of the page, and
// why it must not be public.
func (d *Debugger) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	header := w.Header()
	header.Set("Cache-Control", "no-store")
	header.Set("X-Content-Type-Options", "nosniff")
	header.Set("Vary", "Accept")
	if req.Method != http.MethodGet && req.Method != http.MethodHead {
		header.Set("Allow", "GET, HEAD")
		http.Error(w, "only GET and HEAD", http.StatusMethodNotAllowed)
		return
	}
	format, view := formatOf(req), req.URL.Query().Get("view")
	if format != "json" && format != "text" && format != "html" {
		http.Error(w, "format is html, json or text", http.StatusBadRequest)
		return
	}
	if view != "" && view != "stacks" {
		http.Error(w, "view is stacks or nothing", http.StatusBadRequest)
		return
	}
	var shown page
	if view == "stacks" {
		shown.Stacks = d.stacks.get()
	} else {
		shown.Snapshot = d.snapshot()
	}
	var body bytes.Buffer
	var err error
	switch format {
	case "json":
		header.Set("Content-Type", "application/json")
		err = json.NewEncoder(&body).Encode(shown)
	case "text":
		header.Set("Content-Type", "text/plain; charset=utf-8")
		err = shown.writeText(&body)
	default:
		shown.Nonce, shown.Refresh = rand.Text(), refreshOf(req)
		header.Set("Content-Type", "text/html; charset=utf-8")
		header.Set("Content-Security-Policy", "default-src 'none'; connect-src 'self'; script-src 'nonce-"+shown.Nonce+
			"'; style-src 'nonce-"+shown.Nonce+"'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'")
		err = shown.writeHTML(&body)
	}
	if err != nil { // a bug in the template
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	header.Set("Content-Length", strconv.Itoa(body.Len()))
	if req.Method == http.MethodGet {
		_, _ = body.WriteTo(w) // the client may have gone
	}
}

// refreshOf returns the period of the refresh in seconds.
func refreshOf(req *http.Request) int {
	if n, err := strconv.Atoi(req.URL.Query().Get("refresh")); err == nil && n >= 0 {
		return min(n, 86400) // setTimeout takes no more than 24 days
	}
	return refreshSeconds
}

// formatOf returns "html", "json", "text", or another requested format.
func formatOf(req *http.Request) string {
	if format := req.URL.Query().Get("format"); format != "" {
		return format
	}
	for kind := range strings.SplitSeq(strings.Join(req.Header.Values("Accept"), ","), ",") {
		kind, _, _ = strings.Cut(kind, ";")
		switch strings.ToLower(strings.TrimSpace(kind)) {
		case "text/html":
			return "html"
		case "application/json":
			return "json"
		case "text/plain":
			return "text"
		}
	}
	return "html"
}

// A page is the data of page.html: a snapshot or stacks.
type page struct {
	Snapshot *snapshot
	Stacks   *stacks
	Nonce    string
	Refresh  int
}

// MarshalJSON returns the snapshot or the stacks.
func (p page) MarshalJSON() ([]byte, error) {
	if p.Stacks != nil {
		return json.Marshal(p.Stacks)
	}
	return json.Marshal(p.Snapshot)
}

const (
	// How many resources are shown with their pictures and call sites.
	maxCards = 50
	// How many resources are shown so even if they need no attention.
	maxCalmCards = 10
)

// Cards returns the resources that are shown in full. The others are a line
// each.
func (p page) Cards() []*resource {
	all := p.Snapshot.Resources
	n := min(maxCalmCards, len(all))
	for n < min(maxCards, len(all)) && all[n].Attention {
		n++
	}
	return all[:n]
}

// Lines returns the other resources.
func (p page) Lines() []*resource { return p.Snapshot.Resources[len(p.Cards()):] }

func (p page) writeHTML(w io.Writer) error {
	t, err := template.New("page").Parse(pageHTML)
	if err != nil {
		return err
	}
	return t.Execute(w, p)
}

// writeText writes p for a terminal. Names are quoted, so that they cannot move
// the cursor.
func (p page) writeText(w io.Writer) error {
	if p.Stacks != nil {
		return p.Stacks.writeText(w)
	}
	return p.Snapshot.writeText(w)
}

func (s *snapshot) writeText(w io.Writer) error {
	fmt.Fprintf(w, "condvar at %s: %s\n", s.Time.Format("2006-01-02T15:04:05Z07:00"), s.Headline)
	fmt.Fprintf(w, "%s\n", s.Process)
	if len(s.Resources) == 0 {
		fmt.Fprintln(w, "\nNothing is watched: Watch, Track and TrackShared make resources known.")
		return nil
	}
	fmt.Fprintln(w)
	table := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(table, "RESOURCE\tIN USE\tCAPACITY\tWAITING\tOLDEST WAIT\tREJECTED\tIN USE, LAST 5 MINUTES")
	for _, r := range s.Resources {
		bars := ""
		if r.Chart != nil {
			bars = r.Chart.Bars()
		}
		fmt.Fprintf(table, "%s\t%v\t%v\t%v\t%v\t%d\t%s\n", r.Quoted(), r.InUse, r.Capacity, r.Waiting, r.OldestWait, r.Rejected, bars)
	}
	if err := table.Flush(); err != nil {
		return err
	}
	if s.Fraction == 0 {
		fmt.Fprintln(w, "\nHolders are not recorded: SetHolderProfileFraction turns it on, before the call of Watch or Hooks.")
	} else if s.Fraction > 1 {
		fmt.Fprintf(w, "\nOf holders, 1 of %d acquisitions is recorded.\n", s.Fraction)
	}
	for _, r := range s.Resources {
		if r.Attention || len(r.WaitingAt)+len(r.HeldAt) > 0 {
			r.writeText(w)
		}
	}
	fmt.Fprintln(w, "\nThe call sites of all blocked goroutines: ?view=stacks")
	return nil
}

func (r *resource) writeText(w io.Writer) {
	fmt.Fprintf(w, "\n%s: %s\n", r.Quoted(), strings.Join(r.Words, " "))
	if r.Unknown() {
		fmt.Fprintln(w, "\n  Who waits is not known: the resource has no hooks. Use Watch or Hooks.")
	}
	for _, s := range r.WaitingAt {
		fmt.Fprintf(w, "\n  %s\n", s.Text())
		writeStack(w, s.Stack, s.Numbers())
	}
	if r.MoreWaiting > 0 {
		fmt.Fprintf(w, "\n  Call sites that wait and are not shown: %d\n", r.MoreWaiting)
	}
	for _, s := range r.Certain() {
		fmt.Fprintf(w, "\n  %s\n", s.Text())
		writeStack(w, s.Stack, s.Numbers())
	}
	if len(r.Guesses()) > 0 {
		fmt.Fprintln(w, "\n  A guess by goroutine, as Acquire and Release say nothing of who holds:")
	}
	for _, s := range r.Guesses() {
		fmt.Fprintf(w, "\n  %s\n", s.Text())
		writeStack(w, s.Stack, s.Numbers())
	}
	if r.MoreHeld > 0 {
		fmt.Fprintf(w, "\n  Call sites that hold and are not shown: %d\n", r.MoreHeld)
	}
}

// writeStack writes the goroutines, if they are known, and the stack.
func writeStack(w io.Writer, stack, goroutines string) {
	if goroutines != "" {
		fmt.Fprintf(w, "    goroutines %s\n", goroutines)
	}
	for line := range strings.Lines(stack) {
		fmt.Fprintf(w, "    %s", line)
	}
}

func (s *stacks) writeText(w io.Writer) error {
	fmt.Fprintf(w, "goroutines blocked in condvar at %s, of %d\n", s.Time.Format("2006-01-02T15:04:05Z07:00"), s.Goroutines)
	if s.TooMany {
		fmt.Fprintln(w, "\nThere are so many goroutines that they were not looked at.")
	}
	for _, b := range s.Blocked {
		fmt.Fprintf(w, "\n%d in %s\n", b.Count, b.Method)
		writeStack(w, b.Stack, "")
	}
	return nil
}
