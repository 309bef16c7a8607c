package etcdtest

import (
	"bytes"
	"net"
	"sync"
)

// A Proxy forwards TCP connections to a server. It can hold the data.
type Proxy struct {
	Endpoint string // for clients, as host:port

	target   string
	listener net.Listener

	mu          sync.Mutex
	changed     *sync.Cond
	toServer    bool // data to the server is held
	toClient    bool
	cut         string // data of connections whose first request is from this peer is held
	connections map[net.Conn]struct{}
	held        int // bytes received, not forwarded
	passed      int // bytes forwarded
	closed      bool
	goroutines  sync.WaitGroup
}

// NewProxy starts a proxy to the endpoint, which ends with the test.
func NewProxy(tb TB, endpoint string) *Proxy {
	tb.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		tb.Fatalf("%v", err)
	}
	p := &Proxy{
		Endpoint: listener.Addr().String(), target: endpoint, listener: listener,
		connections: map[net.Conn]struct{}{},
	}
	p.changed = sync.NewCond(&p.mu)
	p.goroutines.Go(p.accept)
	tb.Cleanup(p.close)
	return p
}

// Hold holds data to the server, to the client, or both, like a network that
// loses packets until it sends them again.
func (p *Proxy) Hold(toServer, toClient bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.toServer, p.toClient = toServer, toClient
	p.changed.Broadcast()
}

// Heal forwards the held data, and all later data.
func (p *Proxy) Heal() { p.Hold(false, false) }

// Cut holds data in both directions of connections whose first request is from
// the member with that id, in hexadecimal. Heal does not undo it; Cut("") does.
func (p *Proxy) Cut(peer string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.cut = peer
	p.changed.Broadcast()
}

// Reset closes all connections and drops the held data.
func (p *Proxy) Reset() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.resetLocked()
}

func (p *Proxy) resetLocked() {
	for c := range p.connections {
		if tcp, ok := c.(*net.TCPConn); ok {
			_ = tcp.SetLinger(0)
		}
		_ = c.Close()
	}
	clear(p.connections)
	p.changed.Broadcast()
}

// Bytes returns how many bytes the proxy holds, and how many it has forwarded.
func (p *Proxy) Bytes() (held, passed int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.held, p.passed
}

func (p *Proxy) close() {
	p.mu.Lock()
	p.closed = true
	_ = p.listener.Close()
	p.resetLocked()
	p.mu.Unlock()
	p.goroutines.Wait()
}

func (p *Proxy) accept() {
	for {
		client, err := p.listener.Accept()
		if err != nil {
			return
		}
		server, err := net.Dial("tcp", p.target)
		if err != nil {
			_ = client.Close()
			continue
		}
		p.mu.Lock()
		if p.closed {
			p.mu.Unlock()
			_, _ = client.Close(), server.Close()
			return
		}
		p.connections[client], p.connections[server] = struct{}{}, struct{}{}
		p.mu.Unlock()
		var peer string // mu guards it
		p.goroutines.Go(func() { p.pass(client, server, &p.toServer, &peer) })
		p.goroutines.Go(func() { p.pass(server, client, &p.toClient, &peer) })
	}
}

// pass copies from one connection to another, unless held.
func (p *Proxy) pass(from, to net.Conn, held *bool, peer *string) {
	defer func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		delete(p.connections, from)
		delete(p.connections, to)
		_, _ = from.Close(), to.Close()
	}()
	buf := make([]byte, 64<<10)
	for {
		n, err := from.Read(buf)
		if err != nil {
			return
		}
		p.mu.Lock()
		if *peer == "" && held == &p.toServer {
			*peer = peerOf(buf[:n])
		}
		p.held += n
		p.changed.Broadcast()
		for (*held || p.cut != "" && p.cut == *peer) && p.live(from) {
			p.changed.Wait()
		}
		p.held -= n
		live := p.live(from)
		p.mu.Unlock()
		if !live {
			return
		}
		if _, err := to.Write(buf[:n]); err != nil {
			return
		}
		p.mu.Lock()
		p.passed += n
		p.changed.Broadcast()
		p.mu.Unlock()
	}
}

// peerOf returns the id of the member that makes the request, or "-".
func peerOf(request []byte) string {
	const header = "X-Server-From: "
	_, rest, ok := bytes.Cut(request, []byte(header))
	id, _, _ := bytes.Cut(rest, []byte("\r\n"))
	if !ok {
		return "-"
	}
	return string(id)
}

func (p *Proxy) live(c net.Conn) bool {
	_, ok := p.connections[c]
	return ok
}
