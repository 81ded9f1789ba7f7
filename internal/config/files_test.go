package config

import (
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/audit-milter/audit-milter/policy"
)

// A list's file changes in each way that files do. Between two looks nothing but
// what the row says happens.
func TestAListFollowsItsFile(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "near.txt")
	write := func(name, text string) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	// Times are told apart as those of a file system that has whole seconds.
	at := time.Now().Truncate(time.Second)
	touch := func() {
		t.Helper()
		at = at.Add(time.Second)
		if err := os.Chtimes(path, at, at); err != nil {
			t.Fatal(err)
		}
	}
	rename := func(from, to string) {
		t.Helper()
		if err := os.Rename(filepath.Join(dir, from), filepath.Join(dir, to)); err != nil {
			t.Fatal(err)
		}
	}
	const broken = `near.txt:2:3: list "near": 192.0.2.1/24 has bits beyond its mask; the network is 192.0.2.0/24`
	write("near.txt", "198.51.100.0/24\n")
	write("audit.yaml", `lists: {near: {cidr: [127.0.0.1], file: near.txt}}`)
	c, err := Load(filepath.Join(dir, "audit.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	for _, row := range []struct {
		name    string
		do      func()
		want    string // what a look tells
		entries string
	}{
		{"nothing has changed", func() {}, "", "2 networks"},
		{"it is written, perhaps not to its end", func() { write("near.txt", "198.51.100.0/24\n203.0.113.0"); touch() }, "", "2 networks"},
		{"and goes on to be written", func() { write("near.txt", "198.51.100.0/24\n203.0.113.0/24\n2001:db8::/32\n"); touch() }, "", "2 networks"},
		{"it has been left alone", func() {}, "read", "4 networks"},
		{"and is not read once more", func() {}, "", "4 networks"},
		{"another file takes its name", func() { write("new.txt", "192.0.2.0/24\n"); rename("new.txt", "near.txt") }, "", "4 networks"},
		{"", func() {}, "read", "2 networks"},
		{"it gets a mistake", func() { write("near.txt", "192.0.2.0/25\n  192.0.2.1/24\n"); touch() }, "", "2 networks"},
		{"which is told", func() {}, broken, "2 networks"},
		{"once", func() {}, "", "2 networks"},
		{"it is gone", func() { rename("near.txt", "away.txt") }, "", "2 networks"},
		{"which is told", func() {}, `near.txt: list "near": cannot read the file: there is no such file`, "2 networks"},
		{"once", func() {}, "", "2 networks"},
		{"it is there again, and right", func() { write("near.txt", "# nobody\n"); touch() }, "", "2 networks"},
		{"", func() {}, "read", "1 network"},
		{"it becomes a link, as in a ConfigMap", func() {
			write("v1", "192.0.2.0/24\n")
			os.Symlink("v1", filepath.Join(dir, "link"))
			rename("link", "near.txt")
		}, "", "1 network"},
		{"", func() {}, "read", "2 networks"},
		{"the link leads elsewhere", func() {
			write("v2", "192.0.2.0/24\n192.0.3.0/24\n")
			os.Symlink("v2", filepath.Join(dir, "link"))
			rename("link", "near.txt")
		}, "", "2 networks"},
		{"", func() {}, "read", "3 networks"},
		{"it becomes a pipe", func() { syscall.Mkfifo(filepath.Join(dir, "pipe"), 0o600); rename("pipe", "near.txt") }, "", "3 networks"},
		{"which is not waited for", func() {}, `near.txt: list "near": cannot read the file: it is a pipe; a file is needed`, "3 networks"},
		{"and told once", func() {}, "", "3 networks"},
	} {
		row.do()
		changed, errs := c.Files[0].Look()
		told := strings.ReplaceAll(errs.Error(), dir+"/", "")
		if changed {
			told = "read"
		}
		if entries := c.Lists["near"].String(); told != row.want || entries != row.entries {
			t.Errorf("%s: told %q, and there are %s; want %q, %s", row.name, told, entries, row.want, row.entries)
		}
	}
}

// A rule asks the list as it is now.
func TestARuleAsksAListsNewEntries(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "near.txt")
	if err := os.WriteFile(path, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	text := `{lists: {near: {cidr: [], file: ` + path + `}}, rules: [{name: r, at: connect, when: client_address in near, then: reject}]}`
	c, err := Parse("audit.yaml", []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	engine, err := policy.NewEngine(c.Policy, policy.Options{})
	if err != nil {
		t.Fatal(err)
	}
	refused := func() bool {
		ev := &policy.Event{}
		ev.SetClient(netip.MustParseAddr("192.0.2.7"), 40000, "")
		v, err := engine.Decide(ev, policy.Connect, time.Now())
		if err != nil {
			t.Fatal(err)
		}
		return v.Refuses()
	}
	before := refused()
	if err := os.WriteFile(path, []byte("192.0.2.0/24\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	c.Files[0].Look()
	c.Files[0].Look()
	if after := refused(); before || !after {
		t.Errorf("refused before %v, after %v", before, after)
	}
}

func TestATableFollowsItsFile(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "limits.yaml")
	if err := os.WriteFile(path, []byte("a@b: 1\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	c, err := Parse("audit.yaml", []byte("tables: {limits: {file: "+path+"}}"))
	if err != nil {
		t.Fatal(err)
	}
	for _, row := range []struct{ name, text, told, table string }{
		{"two keys", "a@b: 1\n192.0.2.0/24: 10\n", "", "2 keys"},
		{"a mistake", "a@b: 1\nc@d: many\nx@y: 12\n", path + `:2:6: table "limits": c@d needs a whole number, not "many"`, "2 keys"},
		{"no key", "{}\n", "", "0 keys"},
	} {
		if err := os.WriteFile(path, []byte(row.text), 0o644); err != nil {
			t.Fatal(err)
		}
		c.Files[0].Look()
		_, errs := c.Files[0].Look()
		if table := c.Tables["limits"].String(); errs.Error() != row.told || table != row.table {
			t.Errorf("%s: told %q, and there are %s; want %q, %s", row.name, errs, table, row.told, row.table)
		}
	}
}

// A file that is meant for another program has a mistake in each line: the log, which
// tells them, has other lines to take as well.
func TestOfAFilesMistakesTheFirstAreTold(t *testing.T) {
	for _, row := range []struct{ name, config, line, last string }{
		{"a list", "lists: {near: {cidr: [], file: %s}}", "%d.example.com\n", `:21:1: list "near": from here on 9980 more mistakes`},
		{"a table", "tables: {limits: {file: %s}}", "%d: many\n", `:21:5: table "limits": from here on 9980 more mistakes`},
	} {
		path := filepath.Join(t.TempDir(), "file")
		if err := os.WriteFile(path, nil, 0o644); err != nil {
			t.Fatal(err)
		}
		c, err := Parse("audit.yaml", fmt.Appendf(nil, row.config, path))
		if err != nil {
			t.Fatal(err)
		}
		var text []byte
		for i := range 10_000 {
			text = fmt.Appendf(text, row.line, i)
		}
		if err := os.WriteFile(path, text, 0o644); err != nil {
			t.Fatal(err)
		}
		c.Files[0].Look()
		_, errs := c.Files[0].Look()
		if len(errs) != 21 || errs[20].Error() != path+row.last {
			t.Errorf("%s: %d mistakes are told, the last one as %v", row.name, len(errs), errs[len(errs)-1])
		}
		if _, err := Parse("audit.yaml", fmt.Appendf(nil, row.config, path)); len(err.(Errors)) != 21 {
			t.Errorf("%s: %d mistakes are told at the start", row.name, len(err.(Errors)))
		}
	}
}

// A file without line ends is quoted by its beginning and its end.
func TestAMistakeOfAFileIsToldInALineOfTheLog(t *testing.T) {
	path := filepath.Join(t.TempDir(), "near.txt")
	if err := os.WriteFile(path, []byte(strings.Repeat("é", 10<<20)), 0o644); err != nil {
		t.Fatal(err)
	}
	_, err := Parse("audit.yaml", []byte("lists: {near: {cidr: [], file: "+path+"}}"))
	told, _ := err.(Errors)
	if len(told) != 1 || len(told[0].Msg) > 1000 || !utf8.ValidString(told[0].Msg) ||
		!strings.HasPrefix(told[0].Msg, `list "near": "éé`) || !strings.HasSuffix(told[0].Msg, "or a single address") {
		t.Errorf("told: %.2000v", err)
	}
}
