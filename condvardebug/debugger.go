package condvardebug

import (
	"context"
	"log/slog"
	"runtime"
	"runtime/trace"
	"strings"
	"sync"
	"sync/atomic"
	"time"
	"unicode/utf8"
	"weak"

	"example.com/condvar"
	"example.com/condvar/internal/watch"
)

// A Debugger shows waiting calls and holders of the resources that it watches.
// It is a [net/http.Handler] that serves a page about them.
//
// The zero value is ready to use. A Debugger must not be copied. Its methods
// may be called by multiple goroutines simultaneously.
type Debugger struct {
	fraction atomic.Int64
	slowWait callback[SlowWait]
	slowHold callback[SlowHold]
	stacks   stackCache

	resources watch.Set[string] // by name; has a mutex of its own

	// mu guards the fields below. No other lock is taken while it is held, and
	// no call of a resource takes it.
	mu sync.Mutex
	// Of the hooks whose resource has not been garbage collected.
	records   map[*records]struct{}
	histories map[string]*history // by name
}

// maxName is how many characters of a name are kept.
const maxName = 100

// cut shortens a name to valid UTF-8 of at most maxName characters and an
// ellipsis.
func cut(name string) string {
	runes := 0
	for i := range name {
		if runes++; runes > maxName {
			return strings.ToValidUTF8(strings.Clone(name[:i]), "\uFFFD") + "…"
		}
	}
	if utf8.ValidString(name) {
		return name
	}
	return strings.ToValidUTF8(name, "\uFFFD")
}

// Watch returns an option for [condvar.NewCapacityResource] that does what
// Track and Hooks do.
func (d *Debugger) Watch(name string) condvar.Option {
	return condvar.Observe(func(r *condvar.CapacityResource) *condvar.Hooks {
		d.Track(name, r)
		return d.Hooks(name)
	})
}

// Track makes the page show r under name. Resources with the same name are
// added up. A second Track of r under the same name has no effect. Track panics
// if r is nil.
//
// The Debugger has only a weak pointer to r. When r is garbage collected, the
// Debugger drops its records of r. All methods cut names to 100 characters.
func (d *Debugger) Track(name string, r *condvar.CapacityResource) {
	if r == nil {
		panic("condvardebug: nil resource")
	}
	d.resources.Add(cut(name), r, nil)
}

// TrackShared makes the page show a resource that several processes share, such
// as one of module etcdcondvar. stats returns its state: the capacity is that of
// all processes, and the rest is of this one. So the page does not say whether
// permits are free, and reports no deadlock in resources of that name. Each call
// adds a resource. TrackShared panics if stats is nil.
//
// The Debugger refers to stats until Untrack. It calls stats for each view and,
// in Run, each second, possibly by several goroutines at the same time. stats
// must not block, and its counters must not decrease.
func (d *Debugger) TrackShared(name string, stats func() condvar.Stats) {
	if stats == nil {
		panic("condvardebug: nil function")
	}
	d.resources.AddShared(cut(name), stats)
}

// Untrack undoes Track and TrackShared for all resources with that name. It
// does nothing if there are none. Their hooks continue to call the callbacks of
// [Debugger.OnSlowWait] and [Debugger.OnSlowHold].
func (d *Debugger) Untrack(name string) { d.resources.Remove(cut(name)) }

// Run samples every resource once a second until ctx ends, so that the page can
// show the last five minutes. One call is enough; a second one only takes more
// samples.
func (d *Debugger) Run(ctx context.Context) {
	ticker := time.NewTicker(samplePeriod)
	defer ticker.Stop()
	for {
		select {
		case <-ticker.C:
			d.sample(time.Now())
		case <-ctx.Done():
			return
		}
	}
}

func (d *Debugger) sample(now time.Time) {
	sums := d.resources.Sums()
	d.mu.Lock()
	defer d.mu.Unlock()
	for name := range d.histories {
		if sums[name] == nil {
			delete(d.histories, name)
		}
	}
	if d.histories == nil {
		d.histories = map[string]*history{}
	}
	for name, sum := range sums {
		if d.histories[name] == nil {
			d.histories[name] = &history{}
		}
		d.histories[name].add(now, sum)
	}
}

// Hooks returns hooks for [condvar.WithHooks] of one resource, which report to
// the Debugger. The name must be the one given to Track. Most programs use
// [Debugger.Watch] instead.
//
// The hooks record each wait while it lasts, make a region of the type "condvar
// wait NAME" around it while runtime/trace runs, and call the callback of
// [Debugger.OnSlowWait] when it is over. They cost nothing to calls that do not
// wait.
//
// If the rate of [Debugger.SetHolderProfileFraction] is above 0 at the time of
// this call, the hooks record holders, too. Then every call of the resource
// locks two mutexes, even if the rate changes later.
func (d *Debugger) Hooks(name string) *condvar.Hooks {
	h := &hooks{debugger: d, records: &records{name: cut(name)}}
	told := &condvar.Hooks{WaitStart: h.waitStart, WaitDone: h.waitDone}
	if d.fraction.Load() > 0 {
		h.records.profile = holderProfile()
		told.Acquired, told.Released = h.acquired, h.released
	}

	d.mu.Lock()
	defer d.mu.Unlock()
	if d.records == nil {
		d.records = map[*records]struct{}{}
	}
	d.records[h.records] = struct{}{}
	// d may refer to the resource, through a callback of OnSlowWait.
	debugger := weak.Make(d)
	runtime.AddCleanup(h, func(s *records) {
		s.forgetHolds()
		if d := debugger.Value(); d != nil {
			d.mu.Lock()
			defer d.mu.Unlock()
			delete(d.records, s)
		}
	}, h.records)
	return told
}

// hooks is the state of the hooks of one resource. The resource refers to it.
// The Debugger does not, except through a function of TrackShared. When it is
// garbage collected, its records are removed.
type hooks struct {
	debugger *Debugger
	records  *records
}

// A waitContext is the context that waitStart passes to waitDone. The Debugger
// refers to its wait, but never to the context: that could hide a goroutine
// from the goroutine leak profile.
type waitContext struct {
	context.Context // of the call, or the waitContext of another Debugger
	hooks           *hooks
	wait            *wait
	region          *trace.Region // nil if there is none
}

type waitKey struct{}

func (c *waitContext) Value(key any) any {
	if key == (waitKey{}) {
		return c
	}
	return c.Context.Value(key)
}

func (h *hooks) waitStart(ctx context.Context, n int64) context.Context {
	w := &wait{n: n, since: time.Now(), stack: callers(0)}
	w.deadline, _ = ctx.Deadline()
	if h.records.profile != nil { // holders are recorded, by goroutine
		w.goroutine = goroutineID()
	}
	c := &waitContext{Context: ctx, hooks: h, wait: w}
	// If a resource has hooks of two Debuggers, there is one region: two
	// overlapping ones would make the trace unreadable.
	if trace.IsEnabled() && ctx.Value(waitKey{}) == nil {
		c.region = trace.StartRegion(ctx, "condvar wait "+h.records.name)
	}
	h.records.addWait(w)
	return c
}

func (h *hooks) waitDone(ctx context.Context, n int64, waited time.Duration, err error) {
	c, _ := ctx.Value(waitKey{}).(*waitContext)
	own := c
	for own != nil && own.hooks != h {
		own, _ = own.Context.Value(waitKey{}).(*waitContext)
	}
	if own == nil { // another observer has replaced the context
		own = &waitContext{Context: ctx, wait: h.records.nearestWait(n, time.Now().Add(-waited))}
		if own.wait == nil {
			return
		}
	}
	h.records.removeWait(own.wait)
	if own.region != nil {
		own.region.End()
	}
	h.debugger.slowWait.call(waited, func(suppressed int) SlowWait {
		ctx := own.Context
		for {
			other, ok := ctx.(*waitContext)
			if !ok {
				break
			}
			ctx = other.Context
		}
		return SlowWait{
			Resource: h.records.name, N: n, Waited: waited, Err: err, Ctx: ctx,
			Stack: newFrames().format(own.wait.stack), Suppressed: suppressed,
		}
	})
}

func (h *hooks) acquired(_ context.Context, n int64, hold *condvar.Hold) {
	h.records.acquired(n, hold, int(h.debugger.fraction.Load()))
}

func (h *hooks) released(n int64, hold *condvar.Hold, held time.Duration) {
	over := h.records.released(n, hold)
	if hold == nil {
		return
	}
	h.debugger.slowHold.call(held, func(suppressed int) SlowHold {
		told := SlowHold{Resource: h.records.name, N: n, Held: held, Suppressed: suppressed}
		if over != nil {
			told.Stack = newFrames().format(over.stack)
		}
		return told
	})
}

// OnSlowWait makes the hooks of the Debugger call f after each wait of at least
// threshold, whether it succeeded or not. It replaces the previous callback; a
// nil f removes it. f is called at most five times a second, and
// SlowWait.Suppressed counts the calls left out.
//
// f is called on the goroutine of the waiter, which continues when f returns,
// while no lock is held. If f panics, so does Acquire, and the permits are put
// back. The Debugger keeps f, and so what f refers to.
func (d *Debugger) OnSlowWait(threshold time.Duration, f func(SlowWait)) {
	d.slowWait.set(threshold, f)
}

// OnSlowHold makes the hooks of the Debugger call f after the release of
// permits that Do or a Permit has held for at least threshold. It replaces the
// previous callback; a nil f removes it. It only affects resources whose
// holders are recorded: see [Debugger.SetHolderProfileFraction]. The page shows
// permits that are not released yet.
//
// f is called at most five times a second, on the goroutine that releases,
// which continues when f returns, while no lock is held. If f panics, so does
// Do or Release. The permits have been put back by then. For permits that a
// resource of module etcdcondvar has lost, a goroutine of the resource calls f.
func (d *Debugger) OnSlowHold(threshold time.Duration, f func(SlowHold)) {
	d.slowHold.set(threshold, f)
}

// A SlowWait is a finished wait that took long.
type SlowWait struct {
	Resource string          // the name given to Watch or Hooks
	N        int64           // how many permits were asked for
	Waited   time.Duration   // how long it took
	Err      error           // returned by Acquire; nil if it has the permits
	Ctx      context.Context // of the call, for the functions of slog

	// Stack is where Acquire was called: "func\n\tfile:line\n" lines, innermost
	// first, without frames of condvar.
	Stack string

	Suppressed int // slow waits that were not reported since the last report
}

// LogValue returns the fields as a group, except for Ctx, and for Err and
// Suppressed if they are zero.
func (s SlowWait) LogValue() slog.Value {
	attrs := []slog.Attr{
		slog.String("resource", s.Resource),
		slog.Int64("n", s.N),
		slog.Duration("waited", s.Waited),
		slog.String("stack", s.Stack),
	}
	if s.Err != nil {
		attrs = append(attrs, slog.Any("error", s.Err))
	}
	return group(attrs, s.Suppressed)
}

// A SlowHold reports released permits that were held for long.
type SlowHold struct {
	Resource string        // the name given to Watch or Hooks
	N        int64         // how many permits were released
	Held     time.Duration // how long they were held

	// Stack is where they were acquired, as in SlowWait; empty if not recorded.
	Stack string

	Suppressed int // slow holds that were not reported since the last report
}

// LogValue returns the fields as a group, except for Suppressed if it is 0.
func (s SlowHold) LogValue() slog.Value {
	return group([]slog.Attr{
		slog.String("resource", s.Resource),
		slog.Int64("n", s.N),
		slog.Duration("held", s.Held),
		slog.String("stack", s.Stack),
	}, s.Suppressed)
}

func group(attrs []slog.Attr, suppressed int) slog.Value {
	if suppressed > 0 {
		attrs = append(attrs, slog.Int("suppressed", suppressed))
	}
	return slog.GroupValue(attrs...)
}

// maxCalls is how often a callback is called per second, at most.
const maxCalls = 5

// A callback is the function given to OnSlowWait or OnSlowHold.
type callback[T any] struct {
	current atomic.Pointer[setCallback[T]]
}

type setCallback[T any] struct {
	threshold time.Duration
	f         func(T)

	mu         sync.Mutex
	second     time.Time // when the first of the calls began
	calls      int       // since then
	suppressed int       // since the last call
}

func (c *callback[T]) set(threshold time.Duration, f func(T)) {
	if f == nil {
		c.current.Store(nil)
		return
	}
	c.current.Store(&setCallback[T]{threshold: threshold, f: f})
}

// call calls the callback with the result of report, if took is long enough and
// there were not too many calls.
func (c *callback[T]) call(took time.Duration, report func(suppressed int) T) {
	s := c.current.Load()
	if s == nil || took < s.threshold {
		return
	}
	if suppressed, ok := s.admit(time.Now()); ok {
		s.f(report(suppressed))
	}
}

func (s *setCallback[T]) admit(now time.Time) (suppressed int, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if now.Sub(s.second) >= time.Second {
		s.second, s.calls = now, 0
	}
	if s.calls == maxCalls {
		s.suppressed++
		return 0, false
	}
	s.calls++
	suppressed, s.suppressed = s.suppressed, 0
	return suppressed, true
}
