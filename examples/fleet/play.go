//go:build unix

package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"

	"example.com/condvar/etcdcondvar"
)

// requestTimeout is the timeout of a request to etcd.
const requestTimeout = 4 * time.Second

// A stage has the state of a run.
type stage struct {
	cfg       config
	endpoints []string
	name      string // of the resource
	client    *clientv3.Client
	resource  *etcdcondvar.Resource
	history   *history
	out       *console
	start     time.Time
	processes []*process
	rec       *record
}

// play runs the scenes and returns a record of them.
func play(ctx context.Context, cfg config, endpoints []string, out *console) (*record, error) {
	unreachable := func(err error) error {
		if errors.Is(err, context.DeadlineExceeded) {
			err = fmt.Errorf("no answer in %v", requestTimeout)
		}
		return fmt.Errorf("no etcd at %s: %w", strings.Join(endpoints, ","), err)
	}
	client, err := clientv3.New(clientv3.Config{Endpoints: endpoints, Logger: zap.NewNop()})
	if err != nil {
		return nil, unreachable(err)
	}
	defer func() { _ = client.Close() }()
	s := &stage{
		cfg: cfg, endpoints: endpoints, client: client, out: out,
		// The name is unique, so the history has only keys of this run.
		name: fmt.Sprintf("fleet-%d-%d", os.Getpid(), time.Now().UnixNano()),
	}
	s.resource = etcdcondvar.New(client, s.name, cfg.capacity, etcdcondvar.WithTTL(cfg.ttl))
	if s.history, err = startHistory(ctx, client, s.name); err != nil {
		return nil, unreachable(err)
	}
	defer s.cleanUp()
	out.printf("%d processes share %s. A lease lasts %v.\n\n",
		cfg.workers, count(cfg.capacity, "permit"), cfg.ttl)
	s.start = time.Now()
	s.rec = &record{workers: cfg.workers, capacity: cfg.capacity, start: s.start}
	if err := s.scenes(ctx); err != nil {
		return nil, err
	}
	return s.rec, s.finish(ctx)
}

// cleanUp kills all workers. It deletes all keys if the etcd server is not part
// of this program. It also works after an interrupt.
func (s *stage) cleanUp() {
	for _, p := range s.processes {
		p.kill()
	}
	s.history.stop()
	if s.cfg.endpoints != "" {
		ctx, cancel := context.WithTimeout(context.Background(), requestTimeout)
		defer cancel()
		_, _ = s.client.Delete(ctx, s.history.prefix, clientv3.WithPrefix())
	}
}

// scene writes what happens now. label, if not "", is a mark in the picture.
func (s *stage) scene(label, format string, args ...any) {
	at := time.Since(s.start)
	text := fmt.Sprintf(format, args...)
	s.out.printf("%5.1f s  %s\n", at.Seconds(), text)
	if label != "" {
		s.rec.marks = append(s.rec.marks, mark{at, label})
	}
}

// wait waits for d. It fails if the run is interrupted or a worker has exited.
func (s *stage) wait(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
		return ctx.Err()
	}
	for _, p := range s.processes {
		if err := p.failure(); err != nil {
			return err
		}
	}
	return nil
}

// awaitReturn waits until the permit of p is free, and writes how long that
// took.
func (s *stage) awaitReturn(ctx context.Context, p *process) error {
	last := p.last()
	if last.kind != looks {
		return s.wait(ctx, s.cfg.ttl)
	}
	for began := time.Now(); ; {
		if err := s.wait(ctx, 10*time.Millisecond); err != nil {
			return err
		}
		took := time.Since(began)
		if s.history.isGone(last.token) {
			s.scene("", "its lease has ended, so its permit is free after %.1f s", took.Seconds())
			return nil
		}
		if took > 2*s.cfg.ttl+requestTimeout { // up to a TTL more if the leader of etcd changes
			return fmt.Errorf("the permit of worker %d is still not free", p.row+1)
		}
	}
}

// scenes runs all scenes.
func (s *stage) scenes(ctx context.Context) error {
	for row := range s.cfg.workers {
		if _, err := s.startProcess(row); err != nil {
			return err
		}
	}
	s.scene("", "all workers run")
	if err := s.wait(ctx, 2*time.Second); err != nil {
		return err
	}
	if err := s.killOne(ctx); err != nil {
		return err
	}
	if err := s.stopOne(ctx); err != nil {
		return err
	}
	for _, capacity := range []int64{(s.cfg.capacity + 1) / 2, 0, s.cfg.capacity} {
		if err := s.resize(ctx, capacity); err != nil {
			return err
		}
	}
	s.scene("all workers drain", "all workers drain")
	s.drain(ctx)
	return ctx.Err()
}

func (s *stage) startProcess(row int) (*process, error) {
	p, err := startProcess(row, s.name, s.cfg, s.endpoints)
	if err == nil {
		s.processes = append(s.processes, p)
	}
	return p, err
}

// killOne kills a process that holds a permit, and restarts it when the permit
// is free.
func (s *stage) killOne(ctx context.Context) error {
	p, err := s.freezeHolder(ctx)
	if err != nil {
		return err
	}
	p.kill()
	s.scene(fmt.Sprintf("worker %d is killed", p.row+1), "worker %d is killed", p.row+1)
	if err := s.awaitReturn(ctx, p); err != nil {
		return err
	}
	if err := s.wait(ctx, time.Second/2); err != nil {
		return err
	}
	if _, err := s.startProcess(p.row); err != nil {
		return err
	}
	s.scene("", "worker %d is restarted", p.row+1)
	return s.wait(ctx, time.Second)
}

// stopOne stops a process that holds a permit, and continues it when the permit
// is free.
func (s *stage) stopOne(ctx context.Context) error {
	p, err := s.freezeHolder(ctx)
	if err != nil {
		return err
	}
	s.scene(fmt.Sprintf("worker %d is stopped", p.row+1), "worker %d is stopped", p.row+1)
	if err := s.awaitReturn(ctx, p); err != nil {
		return err
	}
	if err := s.wait(ctx, time.Second); err != nil {
		return err
	}
	p.resume()
	s.rec.stopped = p
	s.scene(fmt.Sprintf("worker %d continues", p.row+1), "worker %d continues; its permit is lost", p.row+1)
	return s.wait(ctx, 3*time.Second/2)
}

// freezeHolder stops a process that has reported that it holds a permit, and
// has not begun to release it. If it finds none for 2 s, it stops any process,
// so that the run can continue.
func (s *stage) freezeHolder(ctx context.Context) (*process, error) {
	for began := time.Now(); time.Since(began) < 2*time.Second; {
		for _, p := range s.processes {
			if !p.holds() {
				continue
			}
			p.stop()
			if err := s.wait(ctx, 30*time.Millisecond); err != nil { // until its output is read
				return nil, err
			}
			if p.holds() {
				return p, nil
			}
			p.resume()
			p.stoppedAt = time.Time{} // too short for the timeline
		}
		if err := s.wait(ctx, 5*time.Millisecond); err != nil {
			return nil, err
		}
	}
	for _, p := range s.processes {
		if p.killedAt.IsZero() {
			s.scene("", "no worker holds a permit")
			p.stop()
			return p, nil
		}
	}
	return nil, errors.New("no process is left")
}

func (s *stage) resize(ctx context.Context, capacity int64) error {
	limited, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	if err := s.resource.Resize(limited, capacity); err != nil {
		return fmt.Errorf("cannot resize: %w", err)
	}
	note := ""
	if capacity == 0 {
		note = ": holders continue, and no call is admitted"
	}
	s.scene(fmt.Sprintf("Resize(%d)", capacity), "Resize(%d)%s", capacity, note)
	return s.wait(ctx, time.Second)
}

// drain makes all processes drain and exit.
func (s *stage) drain(ctx context.Context) {
	for _, p := range s.processes {
		_ = p.stdin.Close()
	}
	timer := time.NewTimer(s.cfg.ttl + 3*time.Second)
	defer timer.Stop()
	for _, p := range s.processes {
		select {
		case <-p.done:
		case <-timer.C:
			timer.Reset(0)
		case <-ctx.Done():
		}
	}
	s.rec.end = time.Since(s.start)
	for _, p := range s.processes {
		p.end()
	}
}

// finish adds the state and the history of etcd to the record.
func (s *stage) finish(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	var err error
	if s.rec.fleet, err = s.resource.Fleet(ctx); err != nil {
		return fmt.Errorf("cannot read the fleet: %w", err)
	}
	changes, err := s.history.all(ctx)
	if err != nil {
		return fmt.Errorf("cannot read the history: %w", err)
	}
	s.rec.processes = s.processes
	s.rec.replay(changes)
	s.rec.findBeliefs()
	return nil
}
