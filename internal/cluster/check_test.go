package cluster

import (
	"fmt"
	"io"
	"net"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"
)

// A user who lacks a right is told which one; nothing is left on the server.
func TestCheckNamesTheRightThatIsMissing(t *testing.T) {
	s := newServer(t)
	rights := documentedRights(t)
	o := Options{Name: "test", Node: "x", Addresses: []string{s.path}, Username: "audit-milter", Password: "secret"}
	tried := 0
	for i, right := range rights {
		want, isRight := strings.CutPrefix(right, "+")
		switch {
		case right == "~audit-milter:*":
			want = "del, set, get, hset, pexpire, hmget, hgetall, hdel, xadd, xread, xrange, xtrim"
		case right == "+@connection":
			want = "ping"
		case !isRight || right == "+role": // which only a server behind Sentinels is sent
			continue
		}
		s.give(slices.Delete(slices.Clone(rights), i, i+1))
		if _, err := o.Check(t.Context()); err == nil || !strings.Contains(err.Error(), "refuses "+want+": NOPERM") {
			t.Errorf("without %s: got %v", right, err)
		}
		tried++
	}
	if tried < 15 {
		t.Errorf("of %v only %d were tried", rights, tried)
	}
	s.give(rights)
	if _, err := o.Check(t.Context()); err != nil {
		t.Error(err)
	}
	if left, err := s.do("KEYS", "*").AsStrSlice(); err != nil || len(left) > 0 {
		t.Errorf("left on the server: %v (%v)", left, err)
	}
}

// What the check tells of a server.
func TestCheckDescribesTheServer(t *testing.T) {
	s := newServer(t)
	s.do("CONFIG", "SET", "maxmemory-policy", "allkeys-lru")
	o := Options{Name: "test", Node: "x", Addresses: []string{s.path}, Now: func() time.Time { return time.Now().Add(time.Minute) }}
	got, err := o.Check(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if (got.Ahead - time.Minute).Abs() > got.Margin+time.Millisecond {
		t.Errorf("the clock is ahead by %v ± %v, want 1m", got.Ahead, got.Margin)
	}
	if got.Eviction != "allkeys-lru" {
		t.Errorf("maxmemory-policy is %q", got.Eviction)
	}
	if name, version, _ := strings.Cut(got.Software, " "); name == "" || isOlder(version, oldest) {
		t.Errorf("the server is %q", got.Software)
	}
	s.give(documentedRights(t)) // which has no right to ask for the policy
	o.Username, o.Password = "audit-milter", "secret"
	if got, err := o.Check(t.Context()); err != nil || got.Eviction != "" {
		t.Errorf("got %+v, %v", got, err)
	}
}

// A real server, whose answer to HELLO has another version on its way.
func TestCheckRefusesAnOldServer(t *testing.T) {
	s := newServer(t)
	version := regexp.MustCompile(`(version\r\n)\$[0-9]+\r\n[0-9.]+\r\n`)
	for says, want := range map[string]string{"6.0.16": "6.0.16, which is too old: it must be Redis 6.2 or a later one", "6.2.0": ""} {
		path := between(t, s, func(answer []byte) []byte {
			return version.ReplaceAll(answer, fmt.Appendf(nil, "${1}$$%d\r\n%s\r\n", len(says), says))
		})
		_, err := Options{Name: "test", Node: "x", Addresses: []string{path}}.Check(t.Context())
		if got := fmt.Sprint(err); want == "" && err != nil || !strings.Contains(got, want) {
			t.Errorf("of a server that says %s: got %v, want %q", says, err, want)
		}
	}
}

// between is the path of a socket that leads to the server and changes what it answers.
func between(t *testing.T, s *server, change func([]byte) []byte) (path string) {
	path = filepath.Join(s.dir, "between"+freePort(t))
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			client, err := l.Accept()
			if err != nil {
				return
			}
			server, err := net.Dial("unix", s.path)
			if err != nil {
				client.Close()
				continue
			}
			go func() {
				io.Copy(server, client)
				server.Close()
			}()
			go func() {
				defer client.Close()
				answer := make([]byte, 64<<10)
				for {
					n, err := server.Read(answer)
					if err != nil {
						return
					}
					client.Write(change(answer[:n]))
				}
			}()
		}
	}()
	return path
}
