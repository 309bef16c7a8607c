// Package etcdtest helps to test package etcdcondvar with etcd. It has servers
// and workers in processes of their own, which can be killed and stopped,
// proxies that can hold data, and a history of the keys, to check when workers
// believed to hold permits.
//
// The processes run the test binary itself, so TestMain must begin with
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

// These environment variables have the arguments of a child.
const (
	serverEnv = "CONDVAR_ETCDTEST_SERVER"
	workerEnv = "CONDVAR_ETCDTEST_WORKER"
)

// A TB has the methods of [testing.TB] that this package uses. [Program] is one
// for programs that are not tests.
type TB interface {
	Helper()
	Fatalf(format string, args ...any)
	Cleanup(f func())
	TempDir() string
}

// RunChild runs a server or a worker and exits if this process is a child of a
// test. Otherwise it returns.
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

// serve runs a server until standard input ends, which is when the parent exits
// or is killed.
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
	cfg.BcryptCost = 4 // the least; a password is checked for each new connection
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
	Peer     *Proxy // for requests of other members; nil unless Config.Proxies

	tb   TB
	args []string
	*process
}

// A Config describes the servers to start.
type Config struct {
	Members int   // 0 means 1
	Quota   int64 // maximum size of the database in bytes; 0 is the default of etcd
	Proxies bool  // between the members
	Sync    bool  // sync the disk, for benchmarks; a killed process loses no data without it
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
	for range 5 { // another process may take the port in between
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

// start starts the process and waits until the member is ready.
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
		s.tb.Fatalf("cannot restart etcd: %v", err)
	}
}

// A process is a child, which runs this program.
type process struct {
	cmd   *exec.Cmd
	stdin io.WriteCloser
	lines *bufio.Reader // its standard output
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

// Kill kills the process with SIGKILL. The data of a server is kept.
func (p *process) Kill() {
	if p == nil {
		return
	}
	p.once.Do(func() {
		_ = p.cmd.Process.Kill()
		_ = p.cmd.Wait()
	})
}

// Stop stops the process with SIGSTOP, until Continue. It returns when all
// threads of the process have stopped: a signal that was only sent takes effect
// up to some milliseconds later. The process must run.
func (p *process) Stop() {
	_ = p.cmd.Process.Signal(syscall.SIGSTOP)
	for {
		if _, err := syscall.Wait4(p.cmd.Process.Pid, nil, syscall.WUNTRACED, nil); err != syscall.EINTR {
			return
		}
	}
}

// Continue continues a stopped process.
func (p *process) Continue() { _ = p.cmd.Process.Signal(syscall.SIGCONT) }
