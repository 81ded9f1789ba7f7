package bench

import (
	"encoding/hex"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"
	"unsafe"

	"gopkg.in/yaml.v3"
)

// server is a milter in a process of its own.
type server struct {
	name             string
	network, address string
	cmd              *exec.Cmd
}

// startServers starts a server of each program for the dialogue, all idle.
func startServers(b *testing.B, programs []program, network string, d *dialogue) (servers []*server) {
	b.Helper()
	for _, p := range programs {
		s := &server{name: p.name, network: network, address: freeAddress(b, network)}
		s.cmd = exec.Command(p.path, p.args(b, s, d)...)
		s.cmd.Stderr = os.Stderr
		s.start(b)
		servers = append(servers, s)
	}
	return servers
}

func auditMilterArgs(b *testing.B, s *server, d *dialogue) []string {
	text, err := os.ReadFile(d.policy)
	if err != nil {
		b.Fatal(err)
	}
	config := make(map[string]any)
	if err := yaml.Unmarshal(text, &config); err != nil {
		b.Fatal(err)
	}
	config["listen"] = "inet:" + s.address
	if s.network == "unix" {
		config["listen"] = "unix:" + s.address
	}
	config["log"] = map[string]string{"level": "warn"}
	if text, err = yaml.Marshal(config); err != nil {
		b.Fatal(err)
	}
	path := filepath.Join(b.TempDir(), "config.yaml")
	if err := os.WriteFile(path, text, 0o644); err != nil {
		b.Fatal(err)
	}
	return []string{"serve", "--config", path}
}

func loopArgs(_ *testing.B, s *server, d *dialogue) []string {
	return []string{s.network, s.address, d.recording}
}

func echoArgs(_ *testing.B, s *server, d *dialogue) []string {
	address := s.address
	if s.network == "tcp" {
		_, address, _ = net.SplitHostPort(s.address)
	}
	return []string{s.network, address, hex.EncodeToString(d.negotiation().Bytes()), d.answered()}
}

func libmilterArgs(_ *testing.B, s *server, d *dialogue) []string {
	socket := "unix:" + s.address
	if s.network == "tcp" {
		host, port, _ := net.SplitHostPort(s.address)
		socket = "inet:" + port + "@" + host
	}
	return []string{socket, d.protocolBits()}
}

// freeAddress is where nobody listens yet.
func freeAddress(b *testing.B, network string) string {
	b.Helper()
	if network == "unix" {
		return filepath.Join(b.TempDir(), "socket")
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

// start returns when the server takes connections. It ends with the benchmark.
func (s *server) start(b *testing.B) {
	b.Helper()
	if err := s.cmd.Start(); err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		s.cmd.Process.Kill()
		s.cmd.Wait()
	})
	for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		conn, err := net.Dial(s.network, s.address)
		if err == nil {
			conn.Close()
			return
		}
		if time.Now().After(deadline) {
			b.Fatalf("%s does not serve: %v", s.name, err)
		}
	}
}

// cpu is the CPU time that the server has used so far. The number of a
// process's own clock is made as clock_getcpuclockid(3) makes it.
func (s *server) cpu() (time.Duration, error) {
	const schedulerClock = 2
	var t syscall.Timespec
	clock := ^s.cmd.Process.Pid<<3 | schedulerClock
	if _, _, errno := syscall.Syscall(syscall.SYS_CLOCK_GETTIME, uintptr(clock), uintptr(unsafe.Pointer(&t)), 0); errno != 0 {
		return 0, fmt.Errorf("the CPU time of %s: %w", s.name, errno)
	}
	return time.Duration(t.Nano()), nil
}
