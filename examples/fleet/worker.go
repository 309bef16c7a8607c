//go:build unix

package main

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"

	"example.com/condvar/etcdcondvar"
)

// workerEnv makes the program a worker. plantEnv adds a bug to the workers,
// which the run must report: "release" never releases, "belief" ignores that a
// permit was lost, "crash" panics.
const (
	workerEnv = "CONDVAR_FLEET_WORKER"
	plantEnv  = "CONDVAR_FLEET_PLANT"
)

// A report of a worker is a line with one of these letters, the token of the
// permit, and the time.
const (
	asks    = 'a' // calls Acquire
	looks   = 'h' // a check says that it holds its permit
	returns = 'f' // is about to release it
	gave    = 'r' // has released it
	lost    = 'l' // its permit was lost
)

// work runs a worker until stdin ends. The worker acquires a permit, holds it
// for a while, checks every 5 ms whether it is lost, releases it, and repeats.
// work returns the exit status.
func work(args string, stdin io.Reader, stdout, stderr io.Writer) int {
	fields := strings.Split(args, "|")
	capacity, _ := strconv.ParseInt(fields[2], 10, 64)
	ttl, _ := time.ParseDuration(fields[3])
	client, err := clientv3.New(clientv3.Config{Endpoints: strings.Split(fields[4], ","), Logger: zap.NewNop()})
	if err != nil {
		fmt.Fprintln(stderr, err)
		return 1
	}
	defer func() { _ = client.Close() }()
	r := etcdcondvar.New(client, fields[1], capacity, etcdcondvar.WithTTL(ttl), etcdcondvar.WithLabel(fields[0]))
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	go func() {
		_, _ = io.Copy(io.Discard, stdin)
		cancel()
	}()

	report := func(kind rune, p *etcdcondvar.Permit, at time.Time) {
		var token int64
		if p != nil {
			token = p.Token()
		}
		fmt.Fprintf(stdout, "%c %d %d\n", kind, token, at.UnixNano())
	}
	plant := fields[5]
	for ctx.Err() == nil {
		report(asks, nil, time.Now())
		p, err := r.Acquire(ctx)
		if ctx.Err() != nil {
			p.Release()
			break
		}
		if err != nil {
			fmt.Fprintln(stderr, err)
			return 1
		}
		if plant == "crash" {
			panic("planted")
		}
		end := time.Now().Add(time.Duration(100+rand.IntN(300)) * time.Millisecond)
		for {
			looked := time.Now()
			if p.Err() != nil && plant != "belief" {
				break
			}
			report(looks, p, looked)
			if looked.After(end) { // after a check, even if this process was stopped
				break
			}
			time.Sleep(5 * time.Millisecond)
		}
		report(returns, p, time.Now())
		if plant != "release" {
			p.Release()
		}
		if p.Err() == nil || plant == "belief" {
			report(gave, p, time.Now())
		} else {
			report(lost, p, time.Now())
		}
		time.Sleep(time.Duration(rand.IntN(30)) * time.Millisecond)
	}
	ctx, cancel = context.WithTimeout(context.Background(), ttl+2*time.Second)
	defer cancel()
	if err := r.Drain(ctx); err != nil {
		fmt.Fprintln(stderr, err)
		return 1
	}
	return 0
}

// An entry is a report of a worker.
type entry struct {
	kind  rune
	token int64
	at    time.Time
}

// A process is the parent's side of a worker.
type process struct {
	row    int // 0 is worker 1; a process that replaces another has the same row
	cmd    *exec.Cmd
	stdin  io.WriteCloser
	stderr bytes.Buffer  // complete once done is closed
	done   chan struct{} // closed when the process has ended
	status error         // the result of Wait, once done is closed

	// Only the goroutine of the scenes uses these fields.
	stoppedAt, resumedAt time.Time
	killedAt             time.Time
	overdue              bool // it was killed because it did not exit

	mu      sync.Mutex
	entries []entry
}

func startProcess(row int, name string, cfg config, endpoints []string) (*process, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	p := &process{row: row, cmd: exec.Command(self), done: make(chan struct{})}
	p.cmd.Env = append(os.Environ(), fmt.Sprintf("%s=worker %d|%s|%d|%v|%s|%s",
		workerEnv, row+1, name, cfg.capacity, cfg.ttl, strings.Join(endpoints, ","), cfg.plant))
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // an interrupt reaches only the parent
	p.cmd.Stderr = &p.stderr
	if p.stdin, err = p.cmd.StdinPipe(); err != nil {
		return nil, err
	}
	stdout, err := p.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := p.cmd.Start(); err != nil {
		return nil, err
	}
	go func() {
		p.read(stdout)
		p.status = p.cmd.Wait()
		close(p.done)
	}()
	return p, nil
}

func (p *process) read(stdout io.Reader) {
	for lines := bufio.NewScanner(stdout); lines.Scan(); {
		var e entry
		var nano int64
		if _, err := fmt.Sscanf(lines.Text(), "%c %d %d", &e.kind, &e.token, &nano); err != nil {
			continue // cut off by a kill
		}
		e.at = time.Unix(0, nano)
		p.mu.Lock()
		p.entries = append(p.entries, e)
		p.mu.Unlock()
	}
}

// last returns the last entry.
func (p *process) last() entry {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.entries) == 0 {
		return entry{}
	}
	return p.entries[len(p.entries)-1]
}

// holds reports whether the last report of the process says that it holds a
// permit.
func (p *process) holds() bool {
	select {
	case <-p.done:
		return false
	default:
		return p.last().kind == looks
	}
}

func (p *process) signal(sig syscall.Signal) { _ = p.cmd.Process.Signal(sig) }

// failure returns why the process has ended, or nil if it runs or was killed.
func (p *process) failure() error {
	select {
	case <-p.done:
	default:
		return nil
	}
	if !p.killedAt.IsZero() {
		return nil
	}
	return fmt.Errorf("worker %d has ended: %w: %s", p.row+1, p.status, bytes.TrimSpace(p.stderr.Bytes()))
}

// stop stops the process until resume.
func (p *process) stop() {
	p.signal(syscall.SIGSTOP)
	p.stoppedAt = time.Now()
}

func (p *process) resume() {
	p.resumedAt = time.Now()
	p.signal(syscall.SIGCONT)
}

// kill kills the process unless it has ended.
func (p *process) kill() {
	select {
	case <-p.done:
		return
	default:
	}
	p.killedAt = time.Now()
	p.signal(syscall.SIGKILL)
	<-p.done
}

// end kills a process that should have ended by now, and marks it as overdue.
func (p *process) end() {
	select {
	case <-p.done:
	default:
		p.overdue = true
		p.kill()
	}
}
