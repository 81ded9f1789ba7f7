package integration

import (
	"bufio"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

// proxy stands between a node and the server, and is as bad as the test wants.
type proxy struct {
	listener net.Listener

	mu    sync.Mutex // owns what follows
	open  map[net.Conn]bool
	delay time.Duration // of each direction
	cut   bool          // nothing passes, and nobody is told
	again bool          // what was told is told once more, later and in another order
	told  [][]byte      // to be told again
}

func openProxy(address string) (*proxy, error) {
	l, err := net.Listen("tcp", address)
	if err != nil {
		return nil, err
	}
	p := &proxy{listener: l, open: make(map[net.Conn]bool)}
	go p.serve()
	return p, nil
}

func (p *proxy) serve() {
	for {
		node, err := p.listener.Accept()
		if err != nil {
			return
		}
		server, err := net.Dial("tcp", valkeyAddress)
		if err != nil {
			node.Close()
			continue
		}
		p.mu.Lock()
		p.open[node], p.open[server] = true, true
		p.mu.Unlock()
		go p.requests(server, node)
		go p.replies(node, server)
	}
}

// set changes how bad the proxy is.
func (p *proxy) set(change func(*proxy)) {
	p.mu.Lock()
	defer p.mu.Unlock()
	change(p)
}

// partition cuts the node off: what it sends and waits for is lost without a word.
func (p *proxy) partition() { p.set(func(p *proxy) { p.cut = true }) }

// heal lets connections through again. Those of before are gone: what was lost in
// them cannot follow.
func (p *proxy) heal() {
	p.set(func(p *proxy) { p.cut = false })
	p.reset()
}

// reset breaks all connections in the middle of whatever they do.
func (p *proxy) reset() {
	p.set(func(p *proxy) {
		for c := range p.open {
			c.Close()
		}
		clear(p.open)
	})
}

// close ends the proxy.
func (p *proxy) close() {
	p.listener.Close()
	p.reset()
}

// passes waits as long as the proxy is slow, and reports whether it lets anything
// through.
func (p *proxy) passes() bool {
	p.mu.Lock()
	delay := p.delay
	p.mu.Unlock()
	time.Sleep(delay)
	p.mu.Lock()
	defer p.mu.Unlock()
	return !p.cut
}

// replies passes on what the server says.
func (p *proxy) replies(node, server net.Conn) {
	defer node.Close()
	buf := make([]byte, 64<<10)
	for {
		n, err := server.Read(buf)
		if err != nil {
			return
		}
		if !p.passes() {
			continue
		}
		if _, err := node.Write(buf[:n]); err != nil {
			return
		}
	}
}

// requests passes on what the node says, command by command.
func (p *proxy) requests(server, node net.Conn) {
	defer server.Close()
	r := bufio.NewReader(node)
	for {
		command, name, err := readCommand(r)
		if err != nil {
			return
		}
		if r.Buffered() == 0 && !p.passes() || p.isCut() {
			continue
		}
		if _, err := server.Write(command); err != nil {
			return
		}
		if name == "XADD" || name == "EVALSHA" || name == "EVAL" {
			p.remember(command)
		}
	}
}

func (p *proxy) isCut() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.cut
}

// remember keeps what tells a batch, if it is to be told again.
func (p *proxy) remember(command []byte) {
	p.set(func(p *proxy) {
		if p.again {
			p.told = append(p.told, command)
		}
	})
}

// replay tells all batches that went through once more, in any order, as from
// connections that were thought dead, and says how many that were. It breaks those that
// the node has, so that it tells again itself what was under way.
func (p *proxy) replay() (n int, err error) {
	p.reset()
	p.mu.Lock()
	told := p.told
	p.told = nil
	p.mu.Unlock()
	rand.Shuffle(len(told), func(i, j int) { told[i], told[j] = told[j], told[i] })
	c, err := net.Dial("tcp", valkeyAddress)
	if err != nil {
		return 0, err
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(patience))
	fmt.Fprintf(c, "AUTH %s %s\r\n", valkeyUser, valkeyPassword)
	if _, err := c.Write(slices.Concat(told...)); err != nil {
		return 0, err
	}
	c.(*net.TCPConn).CloseWrite()
	answers, err := io.ReadAll(c)
	if strings.Contains(string(answers), "-NO") { // NOPERM, NOAUTH, NOSCRIPT
		err = fmt.Errorf("the server refuses what it is told again: %.200s", answers)
	}
	return len(told), err
}

// readCommand reads one command and says which it is.
func readCommand(r *bufio.Reader) (command []byte, name string, err error) {
	line, err := r.ReadSlice('\n')
	if err != nil {
		return nil, "", err
	}
	command = append(command, line...)
	words, err := strconv.Atoi(strings.TrimSpace(string(line[1:])))
	if err != nil || line[0] != '*' {
		return nil, "", fmt.Errorf("%q is no command", line)
	}
	for i := range words {
		if line, err = r.ReadSlice('\n'); err != nil {
			return nil, "", err
		}
		command = append(command, line...)
		size, err := strconv.Atoi(strings.TrimSpace(string(line[1:])))
		if err != nil {
			return nil, "", err
		}
		word := make([]byte, size+2)
		if _, err := io.ReadFull(r, word); err != nil {
			return nil, "", err
		}
		if command = append(command, word...); i == 0 {
			name = strings.ToUpper(string(word[:size]))
		}
	}
	return command, name, nil
}
