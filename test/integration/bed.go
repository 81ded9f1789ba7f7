// Package integration runs the built binary behind a real Postfix and a real
// Sendmail and plays SMTP dialogues against them; README.md says how, and how
// a dialogue is written. It holds no code that the program uses.
//
// The tests need root and the bed that test/mta/setup makes. They run in
// network, mount, process and host name namespaces of their own, so that they
// touch nothing of the machine and leave nothing behind.
package integration

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
)

// bed is the surroundings of the tests: a network of its own with both mail
// servers in it, and the program under test.
type bed struct {
	dir     string // in memory; gone with the namespaces
	sink    *sink
	mtas    []*mta
	another *mta   // of a cluster; nil until there is one
	binary  string // audit-milter
}

// envBed tells the test binary, started again, that it stands inside the
// namespaces, and which directory is the bed's.
const envBed = "AUDIT_MILTER_BED"

// systems is where test/mta/setup leaves the two systems.
const systems = "../mta/root"

// unavailable says why there can be no bed here, nil if there can.
func unavailable() error {
	const how = "; run: sudo test/mta/setup && sudo env PATH=\"$PATH\" go test ./test/integration"
	script, err := os.ReadFile("../mta/setup")
	if err != nil {
		return err
	}
	stamp, err := os.ReadFile(filepath.Join(systems, "stamp"))
	switch {
	case err != nil:
		return errors.New("the mail servers of test/mta are not set up" + how)
	case !strings.HasPrefix(string(stamp), fmt.Sprintf("%x ", sha256.Sum256(script))):
		return errors.New("the mail servers of test/mta were set up by another version of test/mta/setup" + how)
	case os.Getuid() != 0:
		return errors.New("the integration tests need root for their own network" + how)
	}
	if _, err := os.Stat("/proc/net/if_inet6"); err != nil {
		return errors.New("the integration tests need a kernel with IPv6; this one has none")
	}
	return nil
}

// enter builds the program and runs this test binary again, with the same
// arguments, inside the namespaces. It returns that run's exit status.
func enter() (int, error) {
	dir, err := os.MkdirTemp("", "audit-milter-bed-")
	if err != nil {
		return 0, err
	}
	defer os.RemoveAll(dir)
	binary, err := buildDaemon(dir)
	if err != nil {
		return 0, err
	}
	self, err := os.Executable()
	if err != nil {
		return 0, err
	}
	inner := exec.Command(self, os.Args[1:]...)
	inner.Env = append(os.Environ(), envBed+"="+dir, envBinary+"="+binary)
	inner.Stdin, inner.Stdout, inner.Stderr = os.Stdin, os.Stdout, os.Stderr
	inner.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags: syscall.CLONE_NEWNET | syscall.CLONE_NEWNS | syscall.CLONE_NEWPID | syscall.CLONE_NEWUTS | syscall.CLONE_NEWIPC,
		Pdeathsig:  syscall.SIGKILL, // when this run is killed, so is everything inside
	}
	runtime.LockOSThread() // the death signal is the thread's, not the process's
	err = inner.Run()
	if exit := new(exec.ExitError); errors.As(err, &exit) {
		return exit.ExitCode(), nil
	}
	return 0, err
}

// openBed makes the network and starts the mail servers, inside the
// namespaces.
func openBed(dir string) (*bed, error) {
	syscall.Umask(0o022) // the mail servers' users read what is made here
	b := &bed{dir: filepath.Join(dir, "bed"), binary: os.Getenv(envBinary)}
	for _, step := range []func() error{b.mounts, b.network, b.servers} {
		if err := step(); err != nil {
			return nil, err
		}
	}
	return b, nil
}

// mounts detaches this namespace's mounts from the machine's and gives the
// bed a directory in memory.
func (b *bed) mounts() error {
	if err := os.Mkdir(b.dir, 0o755); err != nil {
		return err
	}
	if err := os.Chmod(filepath.Dir(b.dir), 0o755); err != nil { // the mail servers' users pass through
		return err
	}
	return errors.Join(
		syscall.Mount("", "/", "", syscall.MS_REC|syscall.MS_PRIVATE, ""),
		syscall.Mount("proc", "/proc", "proc", 0, ""),
		syscall.Mount("tmpfs", b.dir, "tmpfs", 0, "mode=0755"),
	)
}

// Clients may have any address of the networks that are kept for
// documentation: they are routed here, and a client binds to the one it
// wants. Only the mail servers' addresses are this host's own.
var network = `
link set lo up
addr add ` + postfixIPv4 + `/32 dev lo
addr add ` + sendmailIPv4 + `/32 dev lo
addr add ` + postfix2IPv4 + `/32 dev lo
addr add ` + postfixIPv6 + `/128 dev lo nodad
addr add ` + sendmailIPv6 + `/128 dev lo nodad
addr add ` + postfix2IPv6 + `/128 dev lo nodad
route add local 192.0.2.0/24 dev lo
route add local 198.51.100.0/24 dev lo
route add local 203.0.113.0/24 dev lo
-6 route add local 2001:db8::/32 dev lo
`

func (b *bed) network() error {
	if err := syscall.Sethostname([]byte(hostName)); err != nil {
		return err
	}
	if err := os.WriteFile("/proc/sys/net/ipv6/ip_nonlocal_bind", []byte("1"), 0); err != nil {
		return err
	}
	for line := range strings.Lines(strings.TrimSpace(network)) {
		if err := run("ip", strings.Fields(line)...); err != nil {
			return err
		}
	}
	return nil
}

// servers starts both mail servers.
func (b *bed) servers() (err error) {
	if b.sink, err = openSink(); err != nil {
		return err
	}
	for _, m := range []*mta{postfix(), sendmail()} {
		if err := b.serve(m); err != nil {
			return err
		}
		b.mtas = append(b.mtas, m)
	}
	return nil
}

// serve starts a mail server on an overlay over its system.
func (b *bed) serve(m *mta) error {
	if err := b.overlay(m); err != nil {
		return fmt.Errorf("%s: %w", m.name, err)
	}
	if err := m.start(); err != nil {
		return fmt.Errorf("%s: %w\n%s", m.name, err, strings.Join(m.log.all(), "\n"))
	}
	return nil
}

// overlay gives the mail server a root of its own to write to.
func (b *bed) overlay(m *mta) error {
	lower, err := filepath.Abs(filepath.Join(systems, m.system))
	if err != nil {
		return err
	}
	m.root = filepath.Join(b.dir, m.name)
	upper, work := m.root+".upper", m.root+".work"
	for _, dir := range []string{m.root, upper, work} {
		if err := os.Mkdir(dir, 0o755); err != nil {
			return err
		}
	}
	options := fmt.Sprintf("lowerdir=%s,upperdir=%s,workdir=%s", lower, upper, work)
	if err := syscall.Mount("overlay", m.root, "overlay", 0, options); err != nil {
		return fmt.Errorf("overlay over %s: %w", lower, err)
	}
	return errors.Join(
		syscall.Mount("proc", m.path("proc"), "proc", 0, ""),
		copyFile(m.path("usr/local/bin/audit-milter"), b.binary),
	)
}

// run executes a command and puts what it said into the error.
func run(name string, args ...string) error {
	out, err := exec.Command(name, args...).CombinedOutput()
	if err != nil {
		return fmt.Errorf("%s %s: %w\n%s", name, strings.Join(args, " "), err, out)
	}
	return nil
}

// copyFile copies a program.
func copyFile(to, from string) error {
	data, err := os.ReadFile(from)
	if err != nil {
		return err
	}
	return os.WriteFile(to, data, 0o755)
}
