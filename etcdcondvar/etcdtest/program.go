package etcdtest

import (
	"fmt"
	"os"
	"slices"
	"sync"
)

// A Program is the TB of a program that is not a test. Fatalf panics.
type Program struct {
	mu       sync.Mutex
	cleanups []func()
}

// Helper does nothing.
func (*Program) Helper() {}

// Fatalf panics with the message.
func (*Program) Fatalf(format string, args ...any) { panic(fmt.Sprintf(format, args...)) }

// Cleanup makes Close call f.
func (p *Program) Cleanup(f func()) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.cleanups = append(p.cleanups, f)
}

// TempDir returns a new folder that Close removes.
func (p *Program) TempDir() string {
	dir, err := os.MkdirTemp("", "condvar-etcdtest-")
	if err != nil {
		p.Fatalf("%v", err)
	}
	p.Cleanup(func() { _ = os.RemoveAll(dir) })
	return dir
}

// Close calls the functions of Cleanup, the last one first.
func (p *Program) Close() {
	p.mu.Lock()
	cleanups := p.cleanups
	p.cleanups = nil
	p.mu.Unlock()
	for _, f := range slices.Backward(cleanups) {
		f()
	}
}
