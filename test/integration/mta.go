package integration

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"text/template"
)

const hostName = "mx.test" // both mail servers greet with it

// mta is a mail server in a system of its own, in which audit-milter runs
// beside it. What differs between the two is here and nowhere else.
type mta struct {
	name       string
	system     string // which one of test/mta/root it runs in
	IPv4, IPv6 string
	inet       string   // where audit-milter listens for it
	sockets    string   // directory of unix sockets, as both programs see it
	group      string   // whose members may connect there
	serve      []string // stays in the foreground

	configure func(m *mta) error
	ready     string                                // what it logs when it takes mail
	pasted    func(printed, name string) string     // a milter in the server's configuration, as audit-milter prints it
	echo      func(reply string) string             // the reply without what this server puts into it
	held      func(m *mta, id string) (path string) // where a quarantined message lies

	root    string
	account *syscall.Credential // audit-milter's
	Milters milterLines
	log     *feed[string]
}

// milterLines is what the server's configuration says of the milters.
type milterLines struct {
	Inet    string // takes the mail of port 25; when it is away, mail is tempfailed
	Unix    string // takes that of port 587; when it is away, mail passes
	Scanner string // stands before Inet on port 26, behind it on port 27
}

// start configures the server and returns when it takes mail.
func (m *mta) start() (err error) {
	if m.log, err = listenSyslog(m.root); err != nil {
		return err
	}
	for _, step := range []func() error{m.common, m.housing, m.ask, func() error { return m.configure(m) }} {
		if err := step(); err != nil {
			return err
		}
	}
	cmd := exec.Command(m.serve[0], m.serve[1:]...)
	m.inside(cmd)
	if err := cmd.Start(); err != nil {
		return err
	}
	_, err = m.log.await(m.name+" to start", contains(m.ready))
	return err
}

// inside makes cmd run in the server's system.
func (m *mta) inside(cmd *exec.Cmd) {
	cmd.Dir = "/"
	cmd.Env = []string{"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL=C.UTF-8"}
	cmd.SysProcAttr = &syscall.SysProcAttr{Chroot: m.root}
}

// run executes a shell command in the server's system.
func (m *mta) run(command string) error {
	return run("chroot", m.root, "/bin/sh", "-ec", command)
}

// path is where a file of the server's system is for the test.
func (m *mta) path(name string) string { return filepath.Join(m.root, name) }

// write puts the template testdata/mta/from into the server's system.
func (m *mta) write(to, from string, data any) error {
	t, err := template.ParseFiles(filepath.Join("testdata/mta", from))
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(m.path(to)), 0o755); err != nil {
		return err
	}
	f, err := os.Create(m.path(to))
	if err != nil {
		return err
	}
	defer f.Close()
	return t.Execute(f, data)
}

// common is what both systems need: names, accounts, a certificate.
func (m *mta) common() error {
	if err := m.write("etc/hosts", "hosts", m); err != nil {
		return err
	}
	if err := m.write("etc/resolv.conf", "resolv.conf", nil); err != nil {
		return err
	}
	return m.run(`
		for account in alice:secret bob:hunter2; do
			printf %s "${account#*:}" | saslpasswd2 -p -c -u ` + hostName + ` "${account%:*}"
		done
		openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 3650 \
			-subj /CN=` + hostName + ` -keyout /etc/ssl/mx.key -out /etc/ssl/mx.pem
		chmod 600 /etc/ssl/mx.key`)
}

// housing gives audit-milter an account without rights, as a member of the
// group that may connect, and a directory for its socket.
func (m *mta) housing() error {
	const nobody = 65534
	out, err := exec.Command("chroot", m.root, "getent", "group", m.group).Output()
	if err != nil {
		return fmt.Errorf("group %s: %w", m.group, err)
	}
	gid, err := strconv.ParseUint(strings.Split(string(out), ":")[2], 10, 32)
	if err != nil {
		return err
	}
	m.account = &syscall.Credential{Uid: nobody, Gid: nobody, Groups: []uint32{uint32(gid)}}
	return m.run("install -d -o nobody -g " + m.group + " -m 750 " + m.sockets)
}

// stateDir is where audit-milter may keep what persists, as on an installed system.
const stateDir = "/var/lib/audit-milter"

// forget gives audit-milter an empty state directory.
func (m *mta) forget() error {
	return m.run("rm -rf " + stateDir + "; install -d -o nobody " + stateDir)
}

// ask lets audit-milter itself print what the configuration must say.
func (m *mta) ask() error {
	for _, milter := range []struct {
		line    *string
		name    string
		listen  any
		onError string
	}{
		{&m.Milters.Inet, "audit-inet", m.inet, "tempfail"},
		{&m.Milters.Unix, "audit-unix", m.unixSocket(), "accept"},
		{&m.Milters.Scanner, "scanner", scannerSocket, "tempfail"},
	} {
		printed, err := m.printed(milter.listen, milter.onError)
		if err != nil {
			return err
		}
		if *milter.line = m.pasted(printed, milter.name); *milter.line == "" {
			return fmt.Errorf("audit-milter printed nothing for %s, but:\n%s", m.name, printed)
		}
	}
	return nil
}

// printed is what audit-milter prints when it serves.
func (m *mta) printed(listen any, onError string) (string, error) {
	clock := clock{path: m.path(clockFile)}
	if err := clock.set(noon); err != nil {
		return "", err
	}
	policy := map[string]string{"policy.yaml": "on_error: " + onError}
	d, err := newDaemon(m, "printed", policy, "policy.yaml", listen)
	if err != nil {
		return "", err
	}
	if err := d.start(); err != nil {
		return "", err
	}
	err = d.stop()
	return d.printed.String(), err
}

// unixSocket is the configuration of the socket that the server reaches from
// its chroot and with its group.
func (m *mta) unixSocket() any {
	return map[string]string{"socket": "unix:" + m.sockets + socketName, "mode": "0660", "group": m.group}
}

// lineWith is the first line of text that begins with prefix, and what follows
// that.
func lineWith(text, prefix string) (rest string) {
	for line := range strings.Lines(text) {
		if rest, ok := strings.CutPrefix(line, prefix); ok {
			return strings.TrimSpace(rest)
		}
	}
	return ""
}
