// Package etcdtest has what tests of package etcdcondvar need of etcd: servers
// in processes of their own, which can be killed and stopped, proxies that hold
// what passes through them, workers in processes of their own, and the history
// of etcd, which judges what they believed.
//
// The processes are the test binary itself, so TestMain must begin with
//
//	etcdtest.RunChild()
package etcdtest

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"net/url"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"go.etcd.io/etcd/server/v3/embed"
)

// These are set to the arguments of a child.
const (
	serverEnv = "CONDVAR_ETCDTEST_SERVER"
	workerEnv = "CONDVAR_ETCDTEST_WORKER"
)

// A TB is what this package needs of a [testing.TB]. Programs that are no tests
// have one of their own.
type TB interface {
	Helper()
	Fatalf(format string, args ...any)
	Cleanup(f func())
	TempDir() string
}

// RunChild runs a server or a worker and exits, if this process is the child of
// a test. Otherwise it returns.
func RunChild() {
	var err error
	if args := os.Getenv(serverEnv); args != "" {
		err = serve(strings.Split(args, "|"))
	} else if args := os.Getenv(workerEnv); args != "" {
		err = work(strings.Split(args, "|"), os.Stdin, os.Stdout)
	} else {
		return
	}
	if err != nil {
		fmt.Println("failed", err)
		os.Exit(1)
	}
	os.Exit(0)
}

// serve runs a server until standard input ends, which it does when the parent
// ends, however it does.
func serve(args []string) error {
	name, dir, client, peer, cluster, state, quota := args[0], args[1], args[2], args[3], args[4], args[5], args[6]
	cfg := embed.NewConfig()
	cfg.Name, cfg.Dir = name, dir
	cfg.LogLevel, cfg.LogOutputs = "fatal", []string{"/dev/null"}
	cfg.UnsafeNoFsync = args[7] == "false"
	cfg.ListenClientUrls, cfg.AdvertiseClientUrls = urls(client), urls(client)
	cfg.ListenPeerUrls, cfg.AdvertisePeerUrls = urls(peer), urls(args[8])
	cfg.InitialCluster, cfg.ClusterState = cluster, state
	cfg.TickMs, cfg.ElectionMs = 50, 500
	cfg.QuotaBackendBytes, _ = strconv.ParseInt(quota, 10, 64)
	server, err := embed.StartEtcd(cfg)
	if err != nil {
		return err
	}
	defer server.Close()
	select {
	case <-server.Server.ReadyNotify():
	case err := <-server.Err():
		return err
	case <-time.After(20 * time.Second):
		return errors.New("not ready")
	}
	fmt.Println("ready")
	_, _ = io.Copy(io.Discard, os.Stdin)
	return nil
}

func urls(s string) []url.URL {
	u, err := url.Parse(s)
	if err != nil {
		panic(err)
	}
	return []url.URL{*u}
}

// A Server is a member of an etcd cluster, in a process of its own.
type Server struct {
	Endpoint string // for clients, as host:port
	Peer     *Proxy // on the way of the other members to this one; nil unless Config.Proxies

	tb   TB
	args []string
	*process
}

// A Config says which servers to start.
type Config struct {
	Members int   // 1 if it is 0
	Quota   int64 // a database that is larger, in bytes, has no space; 0 is the default of etcd
	Proxies bool  // between the members
	Sync    bool  // to the disk, as benchmarks need it; a process that is killed loses nothing without it
}

// Start starts a cluster of one member, which ends with the test.
func Start(tb TB) *Server {
	tb.Helper()
	return StartCluster(tb, Config{})[0]
}

// StartCluster starts the members of a cluster, which end with the test.
func StartCluster(tb TB, cfg Config) []*Server {
	tb.Helper()
	cfg.Members = max(cfg.Members, 1)
	var err error
	for range 5 { // a port may be taken by another process in between
		var servers []*Server
		if servers, err = startCluster(tb, cfg); err == nil {
			return servers
		}
	}
	tb.Fatalf("cannot start etcd: %v", err)
	return nil
}

func startCluster(tb TB, cfg Config) ([]*Server, error) {
	tb.Helper()
	var servers []*Server
	var cluster []string
	for i := range cfg.Members {
		name, client, peer := "m"+strconv.Itoa(i), freePort(tb), freePort(tb)
		s, advertised := &Server{Endpoint: client, tb: tb}, peer
		if cfg.Proxies {
			s.Peer = NewProxy(tb, peer)
			advertised = s.Peer.Endpoint
		}
		cluster = append(cluster, name+"=http://"+advertised)
		servers = append(servers, s)
		s.args = []string{
			name, tb.TempDir(), "http://" + client, "http://" + peer, "", "new", strconv.FormatInt(cfg.Quota, 10), strconv.FormatBool(cfg.Sync), "http://" + advertised,
		}
	}
	failed := make(chan error, cfg.Members)
	for _, s := range servers {
		s.args[4] = strings.Join(cluster, ",")
		go func() { failed <- s.start() }()
	}
	var err error
	for range servers {
		err = errors.Join(err, <-failed)
	}
	for _, s := range servers {
		if err != nil {
			s.Kill()
		} else {
			tb.Cleanup(func() { s.Kill() })
		}
	}
	return servers, err
}

func freePort(tb TB) string {
	tb.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		tb.Fatalf("%v", err)
	}
	defer func() { _ = l.Close() }()
	return l.Addr().String()
}

// start starts the process and waits until the member serves.
func (s *Server) start() error {
	p, err := startChild(serverEnv, s.args)
	if err != nil {
		return err
	}
	s.process = p
	line, err := p.lines.ReadString('\n')
	if line != "ready\n" {
		s.Kill()
		return fmt.Errorf("member %s: %s (%w)", s.args[0], strings.TrimSpace(line), err)
	}
	return nil
}

// Restart starts the member again, with its data.
func (s *Server) Restart() {
	s.tb.Helper()
	s.args[5] = "existing"
	if err := s.start(); err != nil {
		s.tb.Fatalf("cannot start etcd again: %v", err)
	}
}

// A process is a child, which is this program again.
type process struct {
	cmd   *exec.Cmd
	stdin io.WriteCloser
	lines *bufio.Reader // what it prints
	once  sync.Once
}

func startChild(env string, args []string) (*process, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	p := &process{cmd: exec.Command(self)}
	p.cmd.Env = append(os.Environ(), env+"="+strings.Join(args, "|"))
	p.cmd.Stderr = os.Stderr
	if p.stdin, err = p.cmd.StdinPipe(); err != nil {
		return nil, err
	}
	stdout, err := p.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	p.lines = bufio.NewReader(stdout)
	return p, p.cmd.Start()
}

// Kill ends the process at once, as kill -9 does. The data of a server stays.
func (p *process) Kill() {
	if p == nil {
		return
	}
	p.once.Do(func() {
		_ = p.cmd.Process.Kill()
		_ = p.cmd.Wait()
	})
}

// Stop stops the process, which goes on after Continue.
func (p *process) Stop() { _ = p.cmd.Process.Signal(syscall.SIGSTOP) }

// Continue makes a stopped process go on.
func (p *process) Continue() { _ = p.cmd.Process.Signal(syscall.SIGCONT) }
