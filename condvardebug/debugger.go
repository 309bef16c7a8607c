package condvardebug

import (
	"context"
	"log/slog"
	"runtime"
	"runtime/trace"
	"slices"
	"sync"
	"sync/atomic"
	"time"
	"weak"

	"example.com/condvar"
)

// A Debugger shows what waits and who holds. It is a [net/http.Handler], which
// serves a page about the resources that were given to [Debugger.Track] and
// about the goroutines that are blocked in package condvar.
//
// The zero value is ready. A Debugger must not be copied. Its methods may be
// called by several goroutines at the same time.
type Debugger struct {
	fraction atomic.Int64
	slow     atomic.Pointer[slowWaits]

	// mu guards what follows. It is held while the lock of a resource is taken,
	// and never the other way round.
	mu      sync.Mutex
	tracked []*tracked
	holders map[*holders]struct{}
}

// A tracked is a resource that was given to Track.
type tracked struct {
	name     string
	resource weak.Pointer[condvar.CapacityResource]
	history  history
}

// slowWaits is what OnSlowWait was given.
type slowWaits struct {
	threshold time.Duration
	f         func(SlowWait)
}

// Track makes the page show r under name. The Debugger has a weak pointer to r
// only: when r is collected it disappears. The same name may be given twice; it
// is shown twice then. A nil r is not shown.
func (d *Debugger) Track(name string, r *condvar.CapacityResource) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.tracked = append(d.tracked, &tracked{name: name, resource: weak.Make(r)})
}

// eachLocked calls f for the tracked resources that have not been collected, in
// the order of the calls of Track, and forgets the others.
func (d *Debugger) eachLocked(f func(t *tracked, r *condvar.CapacityResource)) {
	d.tracked = slices.DeleteFunc(d.tracked, func(t *tracked) bool {
		r := t.resource.Value()
		if r != nil {
			f(t, r)
		}
		return r == nil
	})
}

// Run takes a sample of every tracked resource each second, for the page to
// show the last five minutes, and returns when ctx ends. It should run once: if
// it runs twice, there are two samples a second, and the times that the page
// says are wrong.
func (d *Debugger) Run(ctx context.Context) {
	ticker := time.NewTicker(samplePeriod)
	defer ticker.Stop()
	for {
		select {
		case <-ticker.C:
			d.sample()
		case <-ctx.Done():
			return
		}
	}
}

func (d *Debugger) sample() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.eachLocked(func(t *tracked, r *condvar.CapacityResource) {
		if len(t.history) == maxSamples {
			t.history = slices.Delete(t.history, 0, 1)
		}
		s := r.Stats()
		t.history = append(t.history, sample{s.Capacity, s.InUse, s.Waiting})
	})
}

// Hooks returns hooks for [condvar.WithHooks] of one resource, which tell the
// Debugger of what happens to it. Give the name that is given to Track as well.
//
// They make a region of the type "condvar wait NAME" around each wait while
// runtime/trace runs, and call what was given to [Debugger.OnSlowWait]. If the
// fraction of [Debugger.SetHolderProfileFraction] is above 0 at the time of
// this call, they record holders, too; then every call of the resource takes
// a mutex, whatever becomes of the fraction. Else the calls that do not wait
// cost what they cost without hooks.
func (d *Debugger) Hooks(name string) *condvar.Hooks {
	h := &hooks{debugger: d, name: name}
	told := &condvar.Hooks{WaitStart: h.waitStart, WaitDone: h.waitDone}
	if d.fraction.Load() > 0 {
		h.holders = d.newHolders(name)
		debugger := weak.Make(d) // which may know the resource by way of what is given to OnSlowWait
		runtime.AddCleanup(h, func(s *holders) { forget(debugger.Value(), s) }, h.holders)
		told.Acquired, told.Released = h.acquired, h.released
	}
	return told
}

// hooks is what the hooks of one resource work on. The resource has it, the
// Debugger does not: when it is collected, its holders are forgotten.
type hooks struct {
	debugger *Debugger
	name     string
	holders  *holders // or nil, if none are recorded
}

// A wait is what waitStart hands to waitDone in the context, if there is a
// region.
type wait struct {
	hooks  *hooks          // whose region it is
	ctx    context.Context // of the call
	region *trace.Region   // nil once it has ended
}

type waitKey struct{}

func (h *hooks) waitStart(ctx context.Context, _ int64) context.Context {
	// If a resource has hooks of two Debuggers, there is one region: two would
	// overlap, which makes a trace unreadable.
	if !trace.IsEnabled() || ctx.Value(waitKey{}) != nil {
		return nil
	}
	return context.WithValue(ctx, waitKey{}, &wait{h, ctx, trace.StartRegion(ctx, "condvar wait "+h.name)})
}

func (h *hooks) waitDone(ctx context.Context, n int64, waited time.Duration, err error) {
	if w, ok := ctx.Value(waitKey{}).(*wait); ok {
		if w.hooks == h && w.region != nil {
			w.region.End()
			w.region = nil
		}
		ctx = w.ctx
	}
	if slow := h.debugger.slow.Load(); slow != nil && waited >= slow.threshold {
		slow.f(SlowWait{Resource: h.name, N: n, Waited: waited, Err: err, Ctx: ctx, Stack: formatStack(callers(0))})
	}
}

// OnSlowWait makes the hooks of the Debugger call f after each wait of at least
// threshold, whether it succeeded or not; nil turns that off. It replaces what
// was given before. f is called on the goroutine of the waiter, which goes on
// when f returns, while no lock is held. If f panics, the panic goes on to
// the caller of Acquire, and the permits are put back. The Debugger keeps f,
// and so what f refers to.
func (d *Debugger) OnSlowWait(threshold time.Duration, f func(SlowWait)) {
	if f == nil {
		d.slow.Store(nil)
		return
	}
	d.slow.Store(&slowWaits{threshold, f})
}

// A SlowWait is a wait that is over and took long.
type SlowWait struct {
	Resource string          // the name that was given to Hooks
	N        int64           // the permits asked for
	Waited   time.Duration   // how long it took
	Err      error           // what Acquire is about to return; nil if it has the permits
	Ctx      context.Context // that of the call, for the functions of slog
	Stack    string          // who called Acquire: "func\n\tfile:line\n" lines, innermost first, without condvar itself
}

// LogValue returns the fields as a group, but for Ctx, and Err if it is nil.
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
	return slog.GroupValue(attrs...)
}
