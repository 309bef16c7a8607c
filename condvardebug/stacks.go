package condvardebug

import (
	"cmp"
	"encoding/binary"
	"fmt"
	"iter"
	"reflect"
	"runtime"
	"slices"
	"strings"
	"sync"
	"time"

	"example.com/condvar"
)

// maxFrames is how many frames of a stack are used.
const maxFrames = 64

// callers returns the stack of its caller, without the first frames.
func callers(skip int) []uintptr {
	var stack [maxFrames]uintptr
	return slices.Clone(stack[:runtime.Callers(skip+2, stack[:])])
}

// frames distinguishes functions of condvar from others, even if its module is
// renamed.
type frames struct {
	condvar string    // prefix of the names of functions of package condvar
	own     [4]string // those of all packages whose frames are left out
}

func newFrames() *frames {
	library := packageOf(condvar.NewCapacityResource)
	module := strings.TrimSuffix(library, ".")
	return &frames{library, [...]string{
		library, module + "/keyed.", module + "/etcdcondvar.", packageOf(packageOf),
	}}
}

// packageOf returns the prefix that the names of functions of f's package have
// in a stack, with the dot.
func packageOf(f any) string {
	name := runtime.FuncForPC(reflect.ValueOf(f).Pointer()).Name()
	slash := strings.LastIndexByte(name, '/')
	return name[:slash+1+strings.IndexByte(name[slash+1:], '.')+1]
}

func (f *frames) isForeign(function string) bool {
	return !slices.ContainsFunc(f.own[:], func(prefix string) bool {
		return strings.HasPrefix(function, prefix)
	})
}

// noCaller is the stack of a goroutine that a go statement has started in a
// method of condvar.
const noCaller = "(called by a go statement)\n"

// format returns a stack as "func\n\tfile:line\n" lines, without the frames of
// the packages of f.own.
func (f *frames) format(stack []uintptr) string {
	var b strings.Builder
	for frame := range each(stack) {
		f.write(&b, frame)
	}
	return cmp.Or(b.String(), noCaller)
}

// calledDo reports whether a stack begins with Do of a resource.
func (f *frames) calledDo(stack []uintptr) bool {
	for frame := range each(stack) {
		if f.isForeign(frame.Function) {
			break
		}
		if frame.Function == f.condvar+"(*CapacityResource).DoN" {
			return true
		}
	}
	return false
}

// each iterates over the frames of a stack.
func each(stack []uintptr) iter.Seq[runtime.Frame] {
	return func(yield func(runtime.Frame) bool) {
		frames := runtime.CallersFrames(stack)
		for more := len(stack) > 0; more; {
			var frame runtime.Frame
			if frame, more = frames.Next(); !yield(frame) {
				return
			}
		}
	}
}

func (f *frames) write(b *strings.Builder, frame runtime.Frame) {
	if f.isForeign(frame.Function) && frame.Function != "runtime.goexit" {
		fmt.Fprintf(b, "%s\n\t%s:%d\n", frame.Function, frame.File, frame.Line)
	}
}

// skipToCaller returns the skip that its caller must pass to
// [pprof.Profile.Add], so that the stack begins where condvar was called.
func skipToCaller() (skip int) {
	f := newFrames()
	skip = 1
	for frame := range each(callers(1)) {
		if f.isForeign(frame.Function) {
			break
		}
		skip++
	}
	return skip
}

// stackKey returns a key that is the same for the same stack.
func stackKey(stack []uintptr) string {
	key := make([]byte, 0, 8*len(stack))
	for _, pc := range stack {
		key = binary.NativeEndian.AppendUint64(key, uint64(pc))
	}
	return string(key)
}

// A blocked is a place in the code where goroutines are blocked in a method of
// condvar.
type blocked struct {
	Method string `json:"method"` // such as "CapacityResource.Acquire"
	Count  int    `json:"count"`
	Stack  string `json:"stack"` // in the form of SlowWait.Stack
}

// Where returns where condvar was called.
func (b *blocked) Where() string { return where(b.Stack) }

// stacks is the data of the view of all goroutines; in JSON, it is the view.
type stacks struct {
	Version    int       `json:"version"`
	Time       time.Time `json:"time"`
	Goroutines int       `json:"goroutines"`
	TooMany    bool      `json:"too_many"` // so Blocked is empty
	Blocked    []blocked `json:"blocked"`
}

const (
	maxGoroutines = 250_000     // limit for taking stacks; 400 bytes each
	stackPeriod   = time.Second // minimum time between two passes
)

// A stackCache has the latest stacks.
type stackCache struct {
	mu    sync.Mutex // also held during a pass, so that there is one at a time
	last  *stacks
	taken int // how often stacks were taken, for tests
}

// get returns stacks that are not older than stackPeriod.
func (c *stackCache) get() *stacks {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.last == nil || time.Since(c.last.Time) >= stackPeriod {
		c.last = takeStacks(maxGoroutines)
		c.taken++
	}
	return c.last
}

// takeStacks takes the stacks of all goroutines in one pass, unless there are
// more than limit. It stops the world twice for a moment, not during the pass.
func takeStacks(limit int) *stacks {
	s := &stacks{Version: jsonVersion, Goroutines: runtime.NumGoroutine(), Blocked: []blocked{}}
	counts := map[[32]uintptr]int{}
	// Some may be started during the pass.
	room := min(s.Goroutines+s.Goroutines/8+64, limit)
	all := make([]runtime.StackRecord, room)
	n, ok := runtime.GoroutineProfile(all)
	s.Goroutines, s.TooMany = n, !ok
	if ok {
		for i := range all[:n] {
			counts[all[i].Stack0]++
		}
	}
	f := newFrames()
	for stack, count := range counts {
		record := runtime.StackRecord{Stack0: stack}
		if method, callers := f.blockedIn(record.Stack()); method != "" {
			s.Blocked = append(s.Blocked, blocked{method, count, callers})
		}
	}
	s.Blocked = mergeBlocked(s.Blocked)
	s.Time = time.Now()
	return s
}

// mergeBlocked merges equal entries, and sorts the most frequent first.
func mergeBlocked(all []blocked) []blocked {
	slices.SortFunc(all, func(a, b blocked) int {
		return strings.Compare(a.Method+"\n"+a.Stack, b.Method+"\n"+b.Stack)
	})
	merged := all[:0]
	for _, b := range all {
		if last := len(merged) - 1; last >= 0 && merged[last].Method == b.Method && merged[last].Stack == b.Stack {
			merged[last].Count += b.Count
			continue
		}
		merged = append(merged, b)
	}
	slices.SortStableFunc(merged, func(a, b blocked) int { return b.Count - a.Count })
	return merged
}

// isWaiting reports whether method is one that can wait.
func isWaiting(method string) bool {
	_, name, _ := strings.Cut(method, ".")
	return slices.Contains([]string{"Wait", "WaitFor", "Acquire", "AcquireN", "AcquirePermit", "Do", "DoN", "Drain"}, name)
}

// blockedIn returns the method of condvar in which a goroutine with the given
// stack is blocked, and the stack of its caller. It returns "" if the goroutine
// runs, or is in other code that condvar has called, such as a predicate.
func (f *frames) blockedIn(stack []uintptr) (method, callers string) {
	var b strings.Builder
	parked := false
	for frame := range each(stack) {
		inside, isLibrary := strings.CutPrefix(frame.Function, f.condvar)
		switch {
		case isLibrary && b.Len() == 0:
			method = strings.NewReplacer("(*", "", ")", "").Replace(inside)
		case method != "":
			f.write(&b, frame)
		case frame.Function == "runtime.gopark":
			parked = true
		case !strings.HasPrefix(frame.Function, "runtime.") && !strings.HasPrefix(frame.Function, "sync.") &&
			!strings.HasPrefix(frame.Function, "internal/"):
			return "", ""
		}
	}
	if !parked || !isWaiting(method) {
		return "", ""
	}
	return method, cmp.Or(b.String(), noCaller)
}
