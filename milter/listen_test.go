package milter_test

import (
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/audit-milter/audit-milter/milter"
)

func TestParseAddressTakesBothMTAsSpellings(t *testing.T) {
	for _, row := range []struct{ spelt, network, address string }{
		{"inet:127.0.0.1:9900", "tcp", "127.0.0.1:9900"},
		{"inet:localhost:9900", "tcp", "localhost:9900"},
		{"inet:[::1]:9900", "tcp", "[::1]:9900"},
		{"inet6:[2001:db8::7]:9900", "tcp", "[2001:db8::7]:9900"},
		{"inet:0.0.0.0:9900", "tcp", "0.0.0.0:9900"},
		{"inet:9900@127.0.0.1", "tcp", "127.0.0.1:9900"},
		{"inet:9900@localhost", "tcp", "localhost:9900"},
		{"inet6:9900@::1", "tcp", "[::1]:9900"},
		{"inet6:9900@[::1]", "tcp", "[::1]:9900"},
		{"inet:127.0.0.1:0", "tcp", "127.0.0.1:0"},
		{"unix:/run/audit-milter/milter.sock", "unix", "/run/audit-milter/milter.sock"},
		{"local:/run/m.sock", "unix", "/run/m.sock"},
		{"unix:./state/m.sock", "unix", "./state/m.sock"},
		{"/run/m.sock", "unix", "/run/m.sock"},
	} {
		l, err := milter.ParseAddress(row.spelt)
		if err != nil || l.Network != row.network || l.Address != row.address {
			t.Errorf("%s: got %s %s, %v; want %s %s", row.spelt, l.Network, l.Address, err, row.network, row.address)
			continue
		}
		if again, err := milter.ParseAddress(l.String()); err != nil || again.Address != l.Address {
			t.Errorf("%s prints as %s, which is read as %s, %v", row.spelt, l, again.Address, err)
		}
	}
}

func TestParseAddressSaysWhatWouldBeRight(t *testing.T) {
	for _, row := range []struct{ spelt, want string }{
		{"", "write inet:127.0.0.1:9900 or unix:"},
		{"9900", "write inet:127.0.0.1:9900 or unix:"},
		{"127.0.0.1:9900", "write inet:127.0.0.1:9900"},
		{"[::1]:9900", "write inet:[::1]:9900"},
		{"tcp:127.0.0.1:9900", "neither inet:, inet6:, unix: nor local:"},
		{"inet:9900", "no host; write inet:127.0.0.1:9900, which this machine alone can reach"},
		{"inet::9900", "no host; write inet:127.0.0.1:9900"},
		{"inet6:9900", "no host; write inet6:[::1]:9900"},
		{"inet:127.0.0.1", "no port; write inet:127.0.0.1:9900"},
		{"inet:::1:9900", "an IPv6 address stands in brackets; write inet:[::1]:9900"},
		{"inet:2001:db8::7:9900", "write inet:[2001:db8::7]:9900"},
		{"inet:[2001:db8::7]", "no port; write inet:[2001:db8::7]:9900"},
		{"inet:[127.0.0.1]:9900", "only an IPv6 address stands in brackets; write inet:127.0.0.1:9900"},
		{"inet:9900@[127.0.0.1]", "only an IPv6 address stands in brackets; write inet:9900@127.0.0.1"},
		{"inet:9900@", "no host; write inet:9900@127.0.0.1"},
		{"inet6:127.0.0.1:9900", "an IPv4 address; write inet:127.0.0.1:9900"},
		{"inet:127.0.0.1:smtp", `port "smtp" is not a number up to 65535`},
		{"inet:127.0.0.1:65536", `port "65536" is not a number up to 65535`},
		{"inet:a b:9900", `"a b" is not a host`},
		{"unix:", "needs a path; write unix:/run"},
		{"local:", "needs a path; write local:/run"},
	} {
		l, err := milter.ParseAddress(row.spelt)
		if err == nil || !strings.Contains(err.Error(), row.want) {
			t.Errorf("%q: got %v, %v; want an error with %q", row.spelt, l, err, row.want)
		}
	}
}

func TestCheck(t *testing.T) {
	somewhere := []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24")}
	for _, row := range []struct {
		listen milter.Listen
		want   string // "" for none
	}{
		{milter.Listen{Network: "tcp", Address: "127.0.0.1:9900"}, ""},
		{milter.Listen{Network: "tcp", Address: "127.7.7.7:9900"}, ""},
		{milter.Listen{Network: "tcp", Address: "[::1]:9900"}, ""},
		{milter.Listen{Network: "tcp", Address: "localhost:9900"}, ""},
		{milter.Listen{Network: "tcp", Address: "127.0.0.1:9900", Allow: somewhere}, ""},
		{milter.Listen{Network: "tcp", Address: "0.0.0.0:9900", Allow: somewhere}, ""},
		{milter.Listen{Network: "tcp", Address: "0.0.0.0:9900"}, "can be reached from other machines"},
		{milter.Listen{Network: "tcp", Address: "[::]:9900"}, "give the MTAs' networks in allow"},
		{milter.Listen{Network: "tcp", Address: "milter.example.com:9900"}, "can be reached from other machines"},
		{milter.Listen{Network: "tcp", Address: "127.0.0.1:9900", Mode: 0o660}, "mode belongs to a unix socket"},
		{milter.Listen{Network: "tcp", Address: "127.0.0.1:9900", Group: "postfix"}, "group belongs to a unix socket"},
		{milter.Listen{Network: "unix", Address: "/run/m.sock", Mode: 0o660, Group: "postfix"}, ""},
		{milter.Listen{Network: "unix", Address: "/run/m.sock", Allow: somewhere}, "allow belongs to an inet socket"},
		{milter.Listen{Network: "unix", Address: "/run/m.sock", Mode: 0o4660}, "mode 04660 has more than permissions"},
		{milter.Listen{Network: "unix", Address: "/" + strings.Repeat("x", 107)}, "has 108 bytes; the system allows 107"},
	} {
		err := row.listen.Check()
		if row.want == "" && err != nil || row.want != "" && (err == nil || !strings.Contains(err.Error(), row.want)) {
			t.Errorf("%+v: got %v, want %q", row.listen, err, row.want)
		}
	}
}

func TestTheSocketAsTheMTAsSpellIt(t *testing.T) {
	for _, row := range []struct{ spelt, postfix, sendmail string }{
		{"inet:127.0.0.1:9900", "inet:127.0.0.1:9900", "inet:9900@127.0.0.1"},
		{"inet:0.0.0.0:9900", "inet:127.0.0.1:9900", "inet:9900@127.0.0.1"},
		{"inet:[::]:9900", "inet:[::1]:9900", "inet6:9900@::1"},
		{"inet:[2001:db8::7]:9900", "inet:[2001:db8::7]:9900", "inet6:9900@2001:db8::7"},
		{"inet:localhost:9900", "inet:localhost:9900", "inet:9900@localhost"},
		{"/run/m.sock", "unix:/run/m.sock", "unix:/run/m.sock"},
		{"/var/spool/postfix/audit/m.sock", "unix:audit/m.sock", "unix:/var/spool/postfix/audit/m.sock"},
	} {
		l, err := milter.ParseAddress(row.spelt)
		if err != nil {
			t.Fatal(err)
		}
		if l.Postfix() != row.postfix || l.Sendmail() != row.sendmail {
			t.Errorf("%s: got %s and %s, want %s and %s", row.spelt, l.Postfix(), l.Sendmail(), row.postfix, row.sendmail)
		}
	}
}

// socketIn is a unix socket in a directory of the test.
func socketIn(t testing.TB) milter.Listen {
	return milter.Listen{Network: "unix", Address: filepath.Join(t.TempDir(), "m.sock")}
}

func TestOpenSetsModeAndGroup(t *testing.T) {
	l := socketIn(t)
	l.Mode, l.Group = 0o620, fmt.Sprint(os.Getgid())
	if os.Getuid() == 0 {
		l.Group = "daemon"
	}
	ln, err := l.Open()
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	info, err := os.Stat(l.Address)
	if err != nil {
		t.Fatal(err)
	}
	if got := info.Mode().Perm(); got != 0o620 {
		t.Errorf("the socket has mode %#o, want 0620", got)
	}
	if gid := info.Sys().(*syscall.Stat_t).Gid; os.Getuid() == 0 && gid != 1 {
		t.Errorf("the socket has group %d, want 1 (daemon)", gid)
	}
}

func TestOpenGivesOwnerAndGroupTheSocket(t *testing.T) {
	l := socketIn(t)
	ln, err := l.Open()
	if err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(l.Address)
	if err != nil || info.Mode().Perm() != 0o660 {
		t.Errorf("got %v, %v; want mode 0660", info, err)
	}
	ln.Close()
	if _, err := os.Lstat(l.Address); !os.IsNotExist(err) {
		t.Errorf("the socket is still there after Close: %v", err)
	}
}

func TestOpenReplacesAStaleSocket(t *testing.T) {
	l := socketIn(t)
	stale, err := net.ListenUnix("unix", &net.UnixAddr{Name: l.Address, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	stale.SetUnlinkOnClose(false) // as a killed process leaves it
	stale.Close()
	ln, err := l.Open()
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	conn, err := net.Dial("unix", l.Address)
	if err != nil {
		t.Fatal(err)
	}
	conn.Close()
}

func TestOpenLeavesWhatIsNotItsOwn(t *testing.T) {
	live := socketIn(t)
	ln, err := live.Open()
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	file := socketIn(t)
	if err := os.WriteFile(file.Address, []byte("mail"), 0o600); err != nil {
		t.Fatal(err)
	}
	nowhere := socketIn(t)
	nowhere.Address = filepath.Join(filepath.Dir(nowhere.Address), "none", "m.sock")
	strangers := socketIn(t)
	strangers.Group = "no-such-group"

	for _, row := range []struct {
		listen milter.Listen
		want   string
	}{
		{live, "another process answers at the socket"},
		{file, "is not a socket; remove it, or listen elsewhere"},
		{nowhere, "does not exist"},
		{strangers, "group no-such-group of the socket: this machine has none of that name"},
	} {
		if _, err := row.listen.Open(); err == nil || !strings.Contains(err.Error(), row.want) {
			t.Errorf("%s: got %v, want %q", row.listen.Address, err, row.want)
		}
	}
	if text, _ := os.ReadFile(file.Address); string(text) != "mail" {
		t.Errorf("the file now holds %q", text)
	}
	conn, err := net.Dial("unix", live.Address)
	if err != nil {
		t.Fatalf("the live socket is gone: %v", err)
	}
	conn.Close()
}
