package cluster

import (
	"bytes"
	"fmt"
	"io"
	"math"
	"math/rand/v2"
	"net"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// proxy stands between nodes and a server, and does what networks do.
type proxy struct {
	listener net.Listener
	server   string

	closed  atomic.Bool  // nobody comes through
	delay   atomic.Int64 // of each piece, in nanoseconds
	rate    atomic.Int64 // bytes a second in each direction; 0: any
	cuts    atomic.Bool  // connections end after some bytes
	repeats atomic.Bool  // what came through one that was cut comes again later

	wasCut, repeated atomic.Int64 // connections

	mu    sync.Mutex
	conns map[net.Conn]bool
	rand  *rand.Rand
}

var proxies atomic.Int64

func newProxy(t testing.TB, server *server) *proxy {
	path := filepath.Join(server.dir, fmt.Sprint("p", proxies.Add(1)))
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	p := &proxy{listener: l, server: server.path, conns: make(map[net.Conn]bool), rand: rand.New(rand.NewPCG(1, 2))}
	t.Cleanup(func() {
		l.Close()
		p.cut()
	})
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go p.serve(c)
		}
	}()
	return p
}

func (p *proxy) address() string { return p.listener.Addr().String() }

// cut ends all connections.
func (p *proxy) cut() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for c := range p.conns {
		c.Close()
	}
}

func (p *proxy) hold(c net.Conn) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.conns[c] = true
}

func (p *proxy) letGo(c net.Conn) {
	c.Close()
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.conns, c)
}

func (p *proxy) random(n int) int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.rand.IntN(n)
}

func (p *proxy) serve(client net.Conn) {
	p.hold(client)
	defer p.letGo(client)
	if p.closed.Load() {
		return
	}
	server, err := net.Dial("unix", p.server)
	if err != nil {
		return
	}
	p.hold(server)
	defer p.letGo(server)
	var asked bytes.Buffer
	done := make(chan struct{}, 2)
	go p.pass(server, io.TeeReader(client, &asked), done)
	go p.pass(client, server, done)
	<-done
	client.Close()
	server.Close()
	<-done
	if p.repeats.Load() {
		p.repeat(asked.Bytes())
	}
}

// pass copies until the connection ends, or is cut.
func (p *proxy) pass(to io.Writer, from io.Reader, done chan<- struct{}) {
	defer func() { done <- struct{}{} }()
	left := math.MaxInt
	if p.cuts.Load() {
		left = 1000 + p.random(5000)
	}
	piece := make([]byte, 32<<10)
	for {
		n, err := from.Read(piece)
		if d := p.delay.Load(); d > 0 {
			time.Sleep(time.Duration(d))
		}
		if rate := p.rate.Load(); rate > 0 {
			time.Sleep(time.Duration(n) * time.Second / time.Duration(rate))
		}
		n = min(n, left)
		if _, failed := to.Write(piece[:n]); failed != nil || err != nil {
			return
		}
		if left -= n; left == 0 {
			p.wasCut.Add(1)
			return
		}
	}
}

// repeat lets the server have again what it had before.
func (p *proxy) repeat(asked []byte) {
	server, err := net.Dial("unix", p.server)
	if err != nil {
		return
	}
	p.hold(server)
	defer p.letGo(server)
	go io.Copy(io.Discard, server)
	if n, _ := server.Write(asked); n > 0 {
		p.repeated.Add(1)
	}
	time.Sleep(10 * time.Millisecond) // it may answer meanwhile: a connection that ends is not read to its end
}
