package condvardebug

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"strconv"
	"time"
)

// A process identifies the process of the page.
type process struct {
	Host    string  `json:"host"`
	PID     int     `json:"pid"`
	Program string  `json:"program"`
	Version string  `json:"version"` // of the main module, empty if unknown
	Go      string  `json:"go"`
	Uptime  seconds `json:"uptime_seconds"` // 0 if unknown
}

// String is in the form "api 1.2.3, process 12 on db1, go1.26.8, up 3h0m0s".
func (p process) String() string {
	text := p.Program
	if p.Version != "" {
		text += " " + p.Version
	}
	text = fmt.Sprintf("%s, process %d on %s, %s", text, p.PID, p.Host, p.Go)
	if p.Uptime > 0 {
		text += fmt.Sprintf(", up %v", p.Uptime)
	}
	return text
}

func thisProcess(now time.Time) process {
	p := process{PID: os.Getpid(), Program: cut(filepath.Base(os.Args[0])), Go: runtime.Version()}
	p.Host, _ = os.Hostname()
	if info, ok := debug.ReadBuildInfo(); ok && info.Main.Version != "(devel)" {
		p.Version = info.Main.Version
	}
	if started, ok := processStart(); ok {
		p.Uptime = seconds(max(0, now.Sub(started)))
	}
	return p
}

// processStart returns when the process started, if the system has /proc of
// Linux. The runtime does not report it.
func processStart() (started time.Time, ok bool) {
	stat, err1 := os.ReadFile("/proc/self/stat")
	system, err2 := os.ReadFile("/proc/stat")
	if err1 != nil || err2 != nil {
		return started, false
	}
	return parseStart(stat, system)
}

// parseStart parses /proc/self/stat, whose field 22 is the start in hundredths
// of a second after the boot of the system, and /proc/stat, which has the boot
// time.
func parseStart(stat, system []byte) (started time.Time, ok bool) {
	_, boot, ok := bytes.Cut(system, []byte("\nbtime "))
	// The name of the program may have any characters.
	fields := bytes.Fields(stat[bytes.LastIndexByte(stat, ')')+1:])
	const start = 22 - 3
	if !ok || len(fields) <= start {
		return started, false
	}
	boot, _, _ = bytes.Cut(boot, []byte("\n"))
	booted, err1 := strconv.ParseInt(string(boot), 10, 64)
	ticks, err2 := strconv.ParseInt(string(fields[start]), 10, 64)
	if err1 != nil || err2 != nil {
		return started, false
	}
	return time.Unix(booted, 0).Add(time.Duration(ticks) * 10 * time.Millisecond), true
}
