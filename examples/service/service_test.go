package main

import (
	"bytes"
	"context"
	"html"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"regexp"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

// newTestService returns a service and its log.
func newTestService() (*service, *bytes.Buffer) {
	var logs bytes.Buffer
	return newService(slog.New(slog.NewTextHandler(&logs, nil)), 100*time.Millisecond), &logs
}

// get sends a request to a handler, without a network.
func get(t *testing.T, h http.Handler, url string) *httptest.ResponseRecorder {
	w := httptest.NewRecorder()
	h.ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), http.MethodGet, url, nil))
	return w
}

func TestLoadUsesAllConnectionsUntilItIsOver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, _ := newTestService()
		require.Equal(t, "9 clients for 2 s\n", get(t, s.public(), "/load?clients=9&seconds=2").Body.String())

		synctest.Wait()
		stats := s.db.Stats()
		require.Equal(t, int64(connections), stats.InUse)
		require.Equal(t, int64(9-connections), stats.Waiting)
		metrics := get(t, s.debug(), "/metrics").Body.String()
		require.Contains(t, metrics, `condvar_resource_in_use_permits{resource="db"} 4`)
		require.Contains(t, metrics, `condvar_resource_waiting_calls{resource="db"} 5`)

		start := time.Now()
		s.clients.Wait()
		require.InDelta(t, 2*time.Second, time.Since(start), float64(10*time.Millisecond), "the load is over, but for the last queries")
		require.Zero(t, s.db.Stats().InUse)
		require.Contains(t, get(t, s.debug(), "/metrics").Body.String(), `condvar_resource_wait_seconds_count{resource="db",result="acquired"}`)
	})
}

func TestEveryTenthClientOfTheLoadMakesReports(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, _ := newTestService()
		for range connections {
			get(t, s.public(), "/leak")
		}
		get(t, s.public(), "/load?clients=10&seconds=1")
		synctest.Wait()
		require.Equal(t, int64(9*1+1*3), s.db.Stats().WaitingN)
		s.clients.Wait()
	})
}

func TestLoadRefusesNonsense(t *testing.T) {
	s, _ := newTestService()
	for _, query := range []string{"", "?clients=1", "?clients=x&seconds=1", "?clients=0&seconds=1", "?clients=1001&seconds=1", "?clients=1&seconds=0", "?clients=1&seconds=3601"} {
		require.Equal(t, http.StatusBadRequest, get(t, s.public(), "/load"+query).Code, query)
	}
}

func TestOverloadIsAnswered503(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, _ := newTestService()
		for range connections {
			get(t, s.public(), "/leak")
		}
		var waiting sync.WaitGroup
		for range maxWaiting {
			waiting.Go(func() { get(t, s.public(), "/work") })
		}
		synctest.Wait()
		answer := get(t, s.public(), "/work")
		require.Equal(t, http.StatusServiceUnavailable, answer.Code)
		require.Equal(t, "1", answer.Header().Get("Retry-After"))
		require.Contains(t, get(t, s.debug(), "/metrics").Body.String(), `condvar_resource_rejected_calls_total{resource="db"} 1`)
		get(t, s.public(), "/heal")
		waiting.Wait()
		require.Equal(t, "ok\n", get(t, s.public(), "/work").Body.String())
		require.Contains(t, get(t, s.debug(), "/metrics").Body.String(), `condvar_resource_hold_seconds_count{resource="db"} 51`)
	})
}

func TestNestedCallsAreADeadlockThatThePageShows(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, _ := newTestService()
		ctx, cancel := context.WithCancel(t.Context())
		var calls sync.WaitGroup
		for range connections {
			calls.Go(func() {
				w := httptest.NewRecorder()
				s.public().ServeHTTP(w, httptest.NewRequestWithContext(ctx, http.MethodGet, "/nested", nil))
			})
		}
		time.Sleep(time.Second)
		page := get(t, s.debug(), "/debug/condvar?format=text").Body.String()
		require.Contains(t, page, `"db" (deadlock, 500ms)`)
		require.Contains(t, page, "Deadlock: every holder of permits waits for more permits of the same resource.")
		cancel() // as when the clients go away
		calls.Wait()
		require.Zero(t, s.db.Stats().InUse)
	})
}

func TestTheCapacityIsSet(t *testing.T) {
	s, _ := newTestService()
	require.Equal(t, "from 4 to 0\n", get(t, s.public(), "/resize?capacity=0").Body.String())
	require.Contains(t, get(t, s.debug(), "/debug/condvar?format=text").Body.String(), `"db"      0       0 `)
	require.Equal(t, "from 0 to 4\n", get(t, s.public(), "/resize?capacity=4").Body.String())
	for _, bad := range []string{"", "?capacity=x", "?capacity=-1"} {
		require.Equal(t, http.StatusBadRequest, get(t, s.public(), "/resize"+bad).Code, bad)
	}
}

func TestTheIndexLinksToWhatThereIs(t *testing.T) {
	s, _ := newTestService()
	s.debugAddr = "localhost:1"
	page := get(t, s.public(), "/").Body.String()
	links := regexp.MustCompile(`href="(http://localhost:1)?([^"]*)"`).FindAllStringSubmatch(page, -1)
	require.Len(t, links, 14)
	for _, link := range links {
		if strings.HasPrefix(link[2], "/load") { // it would go on
			continue
		}
		handler := s.public()
		if link[1] != "" {
			handler = s.debug()
		}
		require.Equal(t, http.StatusOK, get(t, handler, html.UnescapeString(link[2])).Code, link[2])
	}
	require.Equal(t, http.StatusNotFound, get(t, s.public(), "/other").Code)
}

func TestWhoWaitsForLeakedConnectionsIsSeenAndHealed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, logs := newTestService()
		for range connections {
			require.Equal(t, http.StatusOK, get(t, s.public(), "/leak").Code)
		}
		var answer *httptest.ResponseRecorder
		go func() { answer = get(t, s.public(), "/work") }()
		time.Sleep(3 * time.Second) // of the bubble
		synctest.Wait()
		require.Nil(t, answer)
		require.Equal(t, 3*time.Second, s.db.Stats().OldestWait)
		require.Contains(t, get(t, s.debug(), "/debug/condvar?format=text").Body.String(), "(*service).query")
		require.Empty(t, logs.String(), "the wait is not over")

		require.Equal(t, "gave back 4\n", get(t, s.public(), "/heal").Body.String())
		time.Sleep(time.Second)
		synctest.Wait()
		require.Equal(t, http.StatusOK, answer.Code)
		require.Zero(t, s.db.Stats().InUse)
		require.Contains(t, logs.String(), "slow wait")
		require.Contains(t, logs.String(), "(*service).query")
		require.Equal(t, "gave back 0\n", get(t, s.public(), "/heal").Body.String())
	})
}

func TestDrainTurnsAwayWhoWaitsAndWaitsForWhoHolds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, logs := newTestService()
		for range connections {
			get(t, s.public(), "/leak")
		}
		var answer *httptest.ResponseRecorder
		go func() { answer = get(t, s.public(), "/report") }()
		synctest.Wait()

		drained := make(chan error, 1)
		go func() { drained <- s.drain(t.Context()) }()
		synctest.Wait()
		require.Equal(t, http.StatusServiceUnavailable, answer.Code)
		require.Empty(t, drained)

		get(t, s.public(), "/heal")
		require.NoError(t, <-drained)
		require.Contains(t, logs.String(), "msg=drained waited_for=4 turned_away=1 took=0s")
	})
}

func TestDrainSaysWhatIsStillHeldWhenItsTimeIsOver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, _ := newTestService()
		get(t, s.public(), "/leak")
		ctx, cancel := context.WithTimeout(t.Context(), drainTimeout)
		defer cancel()
		err := s.drain(ctx)
		require.ErrorIs(t, err, context.DeadlineExceeded)
		require.ErrorContains(t, err, "permits still held: 1")
	})
}

func TestServeStopsAcceptingAtOnceAndAnswersWhoIsThere(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, logs := newTestService()
		public, debug := newPipes(), newPipes()
		client := &http.Client{Transport: &http.Transport{DialContext: public.dial}}
		defer client.CloseIdleConnections()
		ctx, cancel := context.WithCancel(t.Context())
		served := make(chan error, 1)
		go func() { served <- s.serve(ctx, public, debug) }()

		for range connections {
			require.Equal(t, "ok\n", fetch(client, "http://service/leak"))
		}
		answer := make(chan string, 1)
		go func() { answer <- fetch(client, "http://service/work") }()
		synctest.Wait()
		require.Equal(t, int64(1), s.db.Stats().Waiting)

		cancel()
		require.Equal(t, "condvar: resource is closed\n", <-answer)
		synctest.Wait()
		require.Empty(t, served, "it waits for what is leaked")
		_, err := client.Get("http://service/work")
		require.ErrorIs(t, err, net.ErrClosed)

		s.db.ReleaseN(connections)
		require.NoError(t, <-served)
		require.Contains(t, logs.String(), "msg=drained")
	})
}

// fetch returns the body of an answer, or the error.
func fetch(client *http.Client, url string) string {
	res, err := client.Get(url)
	if err != nil {
		return err.Error()
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	if err != nil {
		return err.Error()
	}
	return string(body)
}

// pipes is an in-memory listener for bubbles.
type pipes struct {
	conns  chan net.Conn
	closed context.Context
	close  context.CancelFunc
}

func newPipes() *pipes {
	p := &pipes{conns: make(chan net.Conn)}
	p.closed, p.close = context.WithCancel(context.Background())
	return p
}

func (p *pipes) dial(context.Context, string, string) (net.Conn, error) {
	client, server := net.Pipe()
	select {
	case p.conns <- server:
		return client, nil
	case <-p.closed.Done():
		return nil, net.ErrClosed
	}
}

func (p *pipes) Accept() (net.Conn, error) {
	select {
	case conn := <-p.conns:
		return conn, nil
	case <-p.closed.Done():
		return nil, net.ErrClosed
	}
}

func (p *pipes) Close() error {
	p.close()
	return nil
}

func (p *pipes) Addr() net.Addr { return &net.TCPAddr{} }
