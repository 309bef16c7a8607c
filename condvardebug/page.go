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

// refreshSeconds is how often the page refreshes itself, if it is not told.
const refreshSeconds = 5

// ServeHTTP serves the page: the tracked resources, their holders, and the
// goroutines that are blocked in condvar, grouped by where in the code. It
// refreshes itself every five seconds, with JavaScript or without;
// ?refresh=N is every N seconds, and ?refresh=0 never.
//
// ?format=json, ?format=text and ?format=html say in which form; else the first
// of application/json, text/plain and text/html that the Accept header names,
// whatever their q-values; else it is HTML, also for curl, which names none. In
// JSON, durations are in seconds, as their names say. In text, names are quoted
// as in Go.
//
// It answers GET and HEAD, anything else with status 405, and other formats with
// status 400. The comment of the package says what it costs, and why not
// everybody should reach it.
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
	var body bytes.Buffer
	var err error
	switch formatOf(req) {
	case "json":
		header.Set("Content-Type", "application/json")
		encoder := json.NewEncoder(&body)
		encoder.SetIndent("", "  ")
		err = encoder.Encode(d.snapshot())
	case "text":
		header.Set("Content-Type", "text/plain; charset=utf-8")
		err = writeText(&body, d.snapshot())
	case "html":
		nonce := rand.Text()
		header.Set("Content-Type", "text/html; charset=utf-8")
		header.Set("Content-Security-Policy", "default-src 'none'; connect-src 'self'; script-src 'nonce-"+nonce+
			"'; style-src 'nonce-"+nonce+"'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'")
		err = writeHTML(&body, page{snapshot: d.snapshot(), Nonce: nonce, Refresh: refreshOf(req)})
	default:
		http.Error(w, "format is html, json or text", http.StatusBadRequest)
		return
	}
	if err != nil { // a bug in the template
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	header.Set("Content-Length", strconv.Itoa(body.Len()))
	if req.Method == http.MethodGet {
		_, _ = body.WriteTo(w) // who does not read it does not miss it
	}
}

// refreshOf returns the period of the refresh in seconds.
func refreshOf(req *http.Request) int {
	if n, err := strconv.Atoi(req.URL.Query().Get("refresh")); err == nil && n >= 0 {
		return min(n, 86400) // setTimeout takes no more than 24 days
	}
	return refreshSeconds
}

// formatOf returns "html", "json", "text", or what else was asked for.
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

// A page is what page.html is filled with.
type page struct {
	*snapshot
	Nonce   string
	Refresh int
}

func writeHTML(w io.Writer, p page) error {
	t, err := template.New("page").Parse(pageHTML)
	if err != nil {
		return err
	}
	return t.Execute(w, p)
}

// writeText writes s for a terminal. Names are quoted, so they cannot move the cursor.
func writeText(w io.Writer, s *snapshot) error {
	table := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintf(table, "condvar at %s\n\n", s.Time.Format("2006-01-02T15:04:05Z07:00"))
	fmt.Fprintln(table, "RESOURCE\tSTATE\tIN USE\tCAPACITY\tWAITING\tOLDEST WAIT\tIN USE, LAST MINUTES")
	for _, r := range s.Resources {
		fmt.Fprintf(table, "%q\t%s\t%d\t%d\t%d\t%v\t%s\n", r.Name, r.State, r.InUse, r.Capacity, r.Waiting, r.OldestWait, r.History.Bars())
	}
	if err := table.Flush(); err != nil {
		return err
	}
	if s.Fraction == 0 {
		fmt.Fprintln(w, "\nHOLDERS are not recorded: SetHolderProfileFraction turns it on, before the call of Hooks.")
	} else {
		fmt.Fprintf(w, "\nHOLDERS, recorded: 1 of %d acquisitions\n", s.Fraction)
	}
	for _, h := range s.Holders {
		fmt.Fprintf(w, "\n%q: permits %d, acquisitions %d, oldest %v ago, by goroutines %d\n%s",
			h.Resource, h.Permits, h.Count, h.Longest, h.Goroutines, h.Stack)
	}
	fmt.Fprintln(w, "\nBLOCKED GOROUTINES")
	if s.Incomplete {
		fmt.Fprintln(w, "There are so many goroutines that not all were looked at.")
	}
	for _, b := range s.Blocked {
		fmt.Fprintf(w, "\n%d in %s, %s, longest %s: goroutines %d\n%s", b.Count, b.Method, b.State, b.Blocked(), b.Goroutines, b.Stack)
	}
	return nil
}
