package etcdcondvar

import (
	"context"
	"sync"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"example.com/condvar"
)

// A lock is a mutex that runs functions after it has been unlocked.
type lock struct {
	sync.Mutex
	after []func()
}

func (l *lock) Unlock() {
	after := l.after
	l.after = nil
	l.Mutex.Unlock()
	for _, f := range after {
		f()
	}
}

// A worker is a goroutine of a Resource. It runs while there is something to do
// for it. Its function is called with mu held.
type worker struct {
	run  func()
	runs bool
	wake chan struct{} // has a token if it should check again

	// trouble is the error of the last request that failed. It is nil after a
	// success that counts: for the sender that of a transaction with tickets,
	// as others succeed without space, for the watcher a snapshot.
	trouble error
}

// failedLocked remembers the error of a request. That there was no answer says
// less than an answer before it.
func (w *worker) failedLocked(err error) {
	if err != errNoAnswer || w.trouble == nil { //nolint:errorlint // never wrapped
		w.trouble = err
	}
}

// startLocked makes sure that w runs, and checks again.
func (r *Resource) startLocked(w *worker) {
	if w.runs {
		w.wakeLocked()
		return
	}
	w.runs = true
	w.wake = make(chan struct{}, 1)
	w.trouble = nil
	go func() {
		r.mu.Lock()
		defer r.mu.Unlock()
		returned := false
		defer func() {
			w.runs = false
			r.drained.NotifyAll()
			if !returned { // a hook has called runtime.Goexit, or panics
				r.startLocked(w)
			}
		}()
		w.run()
		returned = true
	}()
}

func (w *worker) wakeLocked() {
	select {
	case w.wake <- struct{}{}:
	default:
	}
}

// waitLocked unlocks mu until w is woken, or until d has passed if d is not
// negative.
func (r *Resource) waitLocked(w *worker, d time.Duration) {
	r.mu.Unlock()
	defer r.mu.Lock()
	if d < 0 {
		<-w.wake
		return
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-w.wake:
	case <-timer.C:
	}
}

// pauseLocked unlocks mu for d, before a request that has failed is repeated. A
// wake-up does not end it: callers that come and time out would set the rate of
// the requests to an etcd that is in trouble. Nor does the end of the session
// or Close, as d is 250 ms at most.
func (r *Resource) pauseLocked(d time.Duration) {
	r.mu.Unlock()
	defer r.mu.Lock()
	time.Sleep(d)
}

// request calls f with the context of a request of w, and remembers its error.
// Requests do not use the contexts of calls, so that a canceled call does not
// make an outcome unknown. mu is not held.
func (r *Resource) request(
	w *worker, timeout time.Duration, f func(ctx context.Context) error,
) error {
	ctx, cancel := context.WithTimeout(clientv3.WithRequireLeader(r.base), timeout)
	defer cancel()
	start := time.Now()
	err := f(ctx)
	if err == nil {
		r.lastRoundTrip.Store(int64(time.Since(start)))
		return nil
	}
	err = r.failureOf(ctx, err)
	r.mu.Lock()
	w.failedLocked(err)
	r.mu.Unlock()
	return err
}

// failureOf returns the error of a request with that context that returned err.
func (r *Resource) failureOf(ctx context.Context, err error) error {
	switch {
	case r.base.Err() != nil:
		return errClientClosed
	case ctx.Err() == context.DeadlineExceeded:
		return errNoAnswer
	}
	return err
}

// retry calls f until it succeeds, fails for good, or ctx ends. It is for
// requests of calls that may be repeated.
func (r *Resource) retry(ctx context.Context, f func(ctx context.Context) error) error {
	var last error
	for attempt := 0; ; attempt++ {
		if ctx.Err() != nil {
			return withTrouble(contextError(ctx), last)
		}
		limited, cancel := context.WithTimeout(clientv3.WithRequireLeader(ctx), r.timeout(attempt))
		start := time.Now()
		err := f(limited)
		if err != nil {
			err = r.failureOf(limited, err)
		}
		cancel()
		switch {
		case err == nil:
			r.lastRoundTrip.Store(int64(time.Since(start)))
			return nil
		case err == errClientClosed: //nolint:errorlint // never wrapped
			return err
		case ctx.Err() != nil:
		case faultOf(err) != transient:
			return err
		case err != errNoAnswer || last == nil: //nolint:errorlint // never wrapped
			last = err
		}
		timer := time.NewTimer(backoff(attempt))
		select {
		case <-ctx.Done():
		case <-timer.C:
		}
		timer.Stop()
	}
}

// untilClosed calls f with a context that ends with ctx and at Close.
func (r *Resource) untilClosed(ctx context.Context, f func(ctx context.Context) error) error {
	if ctx.Err() != nil {
		return contextError(ctx)
	}
	if r.closing.Err() != nil {
		return condvar.ErrClosed
	}
	inner, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	defer context.AfterFunc(r.closing, func() { cancel(errClosing) })()
	err := f(inner)
	if err != nil && context.Cause(inner) == errClosing { //nolint:errorlint // never wrapped
		return condvar.ErrClosed
	}
	return err
}

// backoff returns how long to wait before a request is repeated. See timeout.
func backoff(attempt int) time.Duration {
	if attempt%3 == 1 {
		return 0
	}
	return min(10*time.Millisecond<<min(attempt, 10), 250*time.Millisecond)
}

// longTimeout is the longest timeout. A longer TTL does not make it longer.
func (r *Resource) longTimeout() time.Duration { return min(r.ttl/2, 10*time.Second) }

// timeout returns how long to wait for the answer to a request. Every third is
// given more time, as etcd may be slow. The two after it are short, and one
// follows the other at once: a client with several endpoints takes turns, so if
// one of two is silent, one of the two requests gets an answer. With long ones
// alone, another worker may take each turn of the live endpoint.
// Short is twice as long as the last answer took, at least.
func (r *Resource) timeout(attempt int) time.Duration {
	most := r.longTimeout()
	short := min(max(most/16, 100*time.Millisecond, 2*time.Duration(r.lastRoundTrip.Load())), most)
	k := min(attempt/3, 10)
	switch {
	case attempt%3 != 0:
		return short
	case short < most>>k:
		return short << k
	}
	return most
}
