package condvardebug

import (
	"fmt"
	"reflect"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"time"

	"example.com/condvar"
)

// maxFrames is how much of a stack is looked at.
const maxFrames = 64

// packageOf returns the package of function f, with a dot, in the way in which
// the names of its functions begin in a stack.
func packageOf(f any) string {
	name := runtime.FuncForPC(reflect.ValueOf(f).Pointer()).Name()
	slash := strings.LastIndexByte(name, '/')
	return name[:slash+1+strings.IndexByte(name[slash+1:], '.')+1]
}

// condvarPackage returns the path of condvar, whatever its module is called, with
// a dot.
func condvarPackage() string { return packageOf(condvar.NewCapacityResource) }

// isForeign returns a function that reports whether the function of a given name
// belongs neither to condvar nor to this package.
func isForeign() func(function string) bool {
	library, debugger := condvarPackage(), packageOf(packageOf)
	return func(function string) bool {
		return !strings.HasPrefix(function, library) && !strings.HasPrefix(function, debugger)
	}
}

// callers returns the stack of its caller, without the first frames.
func callers(skip int) []uintptr {
	stack := make([]uintptr, maxFrames)
	return stack[:runtime.Callers(skip+2, stack)]
}

// skipToCaller returns what its caller has to give to [pprof.Profile.Add] as
// skip, for the stack to begin where condvar was called.
func skipToCaller() int {
	foreign := isForeign()
	frames := runtime.CallersFrames(callers(1))
	for skip := 1; ; skip++ {
		if frame, more := frames.Next(); !more || foreign(frame.Function) {
			return skip
		}
	}
}

// formatStack returns a stack as "func\n\tfile:line\n" lines, without the frames
// of condvar and of this package.
func formatStack(stack []uintptr) string {
	var b strings.Builder
	foreign := isForeign()
	frames := runtime.CallersFrames(stack)
	for more := true; more; {
		var frame runtime.Frame
		frame, more = frames.Next()
		if foreign(frame.Function) && (frame.Function != "runtime.goexit" || b.Len() == 0) {
			fmt.Fprintf(&b, "%s\n\t%s:%d\n", frame.Function, frame.File, frame.Line)
		}
	}
	return b.String()
}

// maxDump is how large a dump of all goroutines may be.
const maxDump = 64 << 20

// dumpGoroutines returns a dump of all goroutines, and whether it is cut off at
// limit bytes. The world is stopped meanwhile.
func dumpGoroutines(limit int) (dump string, cut bool) {
	for size := min(1<<16, limit); ; size = min(4*size, limit) {
		buf := make([]byte, size)
		n := runtime.Stack(buf, true)
		if n < size || size == limit {
			return string(buf[:n]), n == size
		}
	}
}

// parseDump returns a site for each goroutine of a dump that is blocked in condvar.
func parseDump(dump string) (blocked []site) {
	library := condvarPackage()
	for text := range strings.SplitSeq(dump, "\n\n") {
		header, frames, _ := strings.Cut(text, "\n")
		g, ok := parseHeader(header)
		if ok {
			g.Method, g.Stack = parseFrames(frames, library)
		}
		if g.Method != "" {
			blocked = append(blocked, g)
		}
	}
	return blocked
}

// parseHeader parses "goroutine 12 [select, 3 minutes, locked to thread]:". It
// returns false for goroutines that are not blocked.
func parseHeader(header string) (g site, ok bool) {
	about, inside, _ := strings.Cut(header, "[")
	words := strings.Fields(about) // GOTRACEBACK=system adds some
	if len(words) < 2 || words[0] != "goroutine" {
		return g, false
	}
	id, err := strconv.ParseUint(words[1], 10, 64)
	inside, _, _ = strings.Cut(strings.TrimSuffix(inside, "]:"), " labels:{")
	parts := strings.Split(inside, ", ")
	g = site{Count: 1, Goroutines: []uint64{id}}
	g.State = strings.TrimSuffix(strings.TrimSuffix(parts[0], " (durable)"), " (scan)")
	if len(parts) > 1 {
		if number, ok := strings.CutSuffix(parts[1], " minutes"); ok {
			minutes, _ := strconv.Atoi(number)
			g.Longest = seconds(time.Duration(minutes) * time.Minute)
		}
	}
	return g, err == nil && !slices.Contains([]string{"running", "runnable", "syscall", "preempted"}, g.State)
}

// parseFrames parses the stack of a goroutine. If it is blocked in one of
// the methods of condvar that wait, and not in foreign code that condvar has
// called, such as a predicate, it returns that method and who called it.
func parseFrames(text, library string) (method, stack string) {
	lines := strings.Split(strings.TrimSuffix(text, "\n"), "\n")
	var b strings.Builder
	for ; len(lines) >= 2 && strings.HasPrefix(lines[1], "\t"); lines = lines[2:] { // until "...12 frames elided..."
		function := functionName(lines[0])
		switch inside, isLibrary := strings.CutPrefix(function, library); {
		case b.Len() > 0 || !isLibrary && method != "":
			file, _, _ := strings.Cut(lines[1], " +0x")
			fmt.Fprintf(&b, "%s\n%s\n", function, file)
		case isLibrary:
			method = strings.NewReplacer("(*", "", ")", "").Replace(inside)
		case !strings.HasPrefix(function, "sync.") && !strings.HasPrefix(function, "internal/") &&
			!strings.HasPrefix(function, "runtime."):
			return "", ""
		}
	}
	_, name, _ := strings.Cut(method, ".")
	if !slices.Contains([]string{"Wait", "WaitFor", "Acquire", "AcquireN", "Do", "DoN", "Drain"}, name) {
		return "", ""
	}
	return method, b.String()
}

// functionName returns the name in "pkg.(*T).f(0xc000010000, ...)" or in
// "created by pkg.f in goroutine 1"; in the latter case with "created by".
func functionName(line string) string {
	if strings.HasPrefix(line, "created by ") {
		name, _, _ := strings.Cut(line, " in goroutine ")
		return name
	}
	if i := strings.LastIndexByte(line, '('); i >= 0 {
		return line[:i]
	}
	return line
}
