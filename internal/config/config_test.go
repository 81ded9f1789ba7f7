package config

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// The files of testdata that hold tokens are private, but for one: git keeps no
// such modes.
func TestMain(m *testing.M) {
	for path, mode := range map[string]fs.FileMode{
		"good/admin.token": 0o640, "good/valkey.password": 0o600, "bad/two-lines.password": 0o600, "bad/short.token": 0o600, "bad/words.token": 0o600, "bad/open.token": 0o644,
	} {
		if err := os.Chmod(filepath.Join("testdata", path), mode); err != nil {
			panic(err)
		}
	}
	os.Exit(m.Run())
}

// TestBad reads each file of testdata/bad, which has one mistake and names it,
// and compares its one error with the line `# want: …` at its top.
func TestBad(t *testing.T) {
	for _, path := range glob(t, "testdata/bad/*.yaml") {
		t.Run(filepath.Base(path), func(t *testing.T) {
			want := wanted(t, path)
			_, err := Load(path)
			if err == nil {
				t.Fatal("no error")
			}
			got := strings.ReplaceAll(err.Error(), "testdata/bad/", "")
			if got != want {
				t.Errorf("got:\n%s\nwant:\n%s", got, want)
			}
		})
	}
}

// wanted is the error that a bad file expects.
func wanted(t *testing.T, path string) string {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	first, rest, _ := strings.Cut(string(data), "\n")
	want, ok := strings.CutPrefix(first, "# want: ")
	if !ok || strings.Contains(rest, "# want:") {
		t.Fatalf("%s does not begin with its one line # want: …", path)
	}
	return want
}

func TestGood(t *testing.T) {
	for _, path := range glob(t, "testdata/good/*.yaml") {
		t.Run(filepath.Base(path), func(t *testing.T) {
			if _, err := Load(path); err != nil {
				t.Error(err)
			}
		})
	}
}

func glob(t testing.TB, pattern string) []string {
	t.Helper()
	paths, err := filepath.Glob(pattern)
	if err != nil || len(paths) == 0 {
		t.Fatalf("no files %s: %v", pattern, err)
	}
	return paths
}

// All mistakes are told at once, in the order of the file and not of the keys,
// those of a list's file last; what follows from one of them is not told.
func TestSeveralErrors(t *testing.T) {
	const text = `rules:
  - at: conect
    reply: Wait {retry_afer}
    then: reject
  - name: quota
    at: mail
    if: {series: by_user, windows: 0-9, mask: 24, above: 1.5}
    when: sendr == ""
    then: tempfial
  - name: slow
    at: connect
    if: {series: by_user, windows: 0-9, above: 5}
    then: tempfail
    delay: 9
  - name: echoes
    at: connect
    if: {series: by_host, windows: 0-9, mask: 24, above: 5}
    then: tempfail
series:
  by_user: {type: string, interval: 1h, windows: 6, add: {at: mail, key: [sasl_username, recipient]}, persist: true}
  by_host: {type: ipp, interval: 1y, add: {at: connect, key: helo_name}}
lists:
  bulk: {string: [], file: bulk.txt}
  near: {cidr: [], file: near.txt}
listen: 127.0.0.1:9900
`
	const want = `audit.yaml:2:5: rule 1: name is missing; write for example name: connection-flood
audit.yaml:2:9: rule 1: unknown stage "conect"; did you mean connect?
audit.yaml:3:17: rule 1: unknown placeholder "retry_afer"; did you mean retry_after?
audit.yaml:7:36: rule "quota": the series has windows 0-5; 9 is beyond
audit.yaml:7:47: rule "quota": series "by_user" is of type string and has no masks
audit.yaml:7:58: rule "quota": above needs a whole number, a share such as 50%, or a multiple such as 5x, not "1.5"
audit.yaml:8:11: rule "quota": when: unknown attribute "sendr"; did you mean sender?
audit.yaml:9:11: rule "quota": unknown verdict "tempfial"; did you mean tempfail?
audit.yaml:12:36: rule "slow": the series has windows 0-5; 9 is beyond
audit.yaml:14:12: rule "slow": delay must be 1s to 8s, not 9
audit.yaml:20:74: series "by_user": recipient is not known at mail; it is known at rcpt, rcpt_refused, refused
audit.yaml:20:112: series "by_user": persist needs a directory to keep the counts in; write for example state_dir: ./state at the top
audit.yaml:21:12: series "by_host": windows is missing; write for example windows: 6
audit.yaml:21:19: series "by_host": unknown type "ipp"; did you mean ip?
audit.yaml:21:34: series "by_host": interval is not a length of time: "1y"; write seconds, such as 300, or one whole number with a unit: 30s, 5m, 1h, 2d
audit.yaml:23:28: list "bulk": cannot read bulk.txt: there is no such file
audit.yaml:25:9: "127.0.0.1:9900" begins with neither inet:, inet6:, unix: nor local:; write inet:127.0.0.1:9900
near.txt:1:3: list "near": 192.0.2.1/24 has bits beyond its mask; the network is 192.0.2.0/24
near.txt:3:1: list "near": "mx#1" is not a network; write 192.0.2.0/24, 2001:db8::/32 or a single address`

	files := map[string]string{"near.txt": "  192.0.2.1/24\n# fine\nmx#1 # not a comment and one\n"}
	_, err := parse("audit.yaml", []byte(text), readMap(files))
	if err == nil || err.Error() != want {
		t.Errorf("got:\n%v\nwant:\n%s", err, want)
	}
	var all Errors
	if !errors.As(err, &all) || all[0].Line != 2 || all[0].Column != 5 {
		t.Errorf("the error is %T; its first one is at %v", err, all[0])
	}
}

// What an editor puts at a file's beginning is no part of its text.
func TestByteOrderMark(t *testing.T) {
	const text = "\ufefflists: {near: {cidr: [], file: near.txt}, bulk: {string: [], file: bulk.txt}}\n"
	files := map[string]string{"near.txt": "\ufeff192.0.2.1\n", "bulk.txt": "\ufeff# a comment\na@example.com\n"}
	c, err := parse("audit.yaml", []byte(text), readMap(files))
	if err != nil {
		t.Fatal(err)
	}
	same(t, []string{c.Lists["near"].String(), c.Lists["bulk"].String()}, []string{"1 network", "1 text"})

	const bad = "\ufeffrules: [{name: a, at: mail, then: reject, reply: 'Wait {x}'}]\n"
	if _, err := Parse("f", []byte(bad)); err == nil || !strings.HasPrefix(err.Error(), "f:1:56: ") {
		t.Errorf("got %v, want it at f:1:56", err)
	}
}

// A file that an editor saved as UTF-16 is told so, and not what YAML makes of it.
func TestUTF16(t *testing.T) {
	for _, text := range []string{"\xff\xfes\x00:\x00", "\xfe\xff\x00s\x00:"} {
		if _, err := Parse("f", []byte(text)); err == nil || err.Error() != "f:1:1: the file is UTF-16; save it as UTF-8" {
			t.Errorf("%q: %v", text, err)
		}
		const list = `lists: {bulk: {string: [], file: bulk.txt}}`
		_, err := parse("f", []byte(list), readMap(map[string]string{"bulk.txt": text}))
		if want := `bulk.txt:1:1: list "bulk": the file is UTF-16; save it as UTF-8`; err == nil || err.Error() != want {
			t.Errorf("a list of %q: %v", text, err)
		}
	}
}

// readMap reads files that are not on a disk.
func readMap(files map[string]string) func(string) ([]byte, error) {
	return func(path string) ([]byte, error) {
		if text, ok := files[path]; ok {
			return []byte(text), nil
		}
		return nil, &fs.PathError{Op: "open", Path: path, Err: fs.ErrNotExist}
	}
}

func TestLoadUnreadable(t *testing.T) {
	dir := t.TempDir()
	locked := filepath.Join(dir, "locked.yaml")
	if err := os.WriteFile(locked, []byte("series: {}\n"), 0); err != nil {
		t.Fatal(err)
	}
	for _, row := range []struct{ name, path, want string }{
		{"a file that is not there", filepath.Join(dir, "none.yaml"), "there is no such file"},
		{"a directory", dir, "is a directory"},
		{"a file of somebody else", locked, "this user may not"},
	} {
		t.Run(row.name, func(t *testing.T) {
			if row.path == locked && os.Geteuid() == 0 {
				t.Skip("root may read everything")
			}
			if _, err := Load(row.path); err == nil || err.Error() != row.path+": cannot read the configuration: "+row.want {
				t.Errorf("got %v, want %s", err, row.want)
			}
		})
	}
}
