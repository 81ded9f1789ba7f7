package admin_test

import (
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/audit-milter/audit-milter/policy"
	"github.com/audit-milter/audit-milter/series"
)

const ruled = plain + `
rules:
  - {name: flood, at: connect, if: {series: connections, mask: {ipv4: 24, ipv6: 64}, windows: 0-1, above: 10}, then: tempfail, penalty: 1h}
  - {name: fast, at: connect, if: {series: connections, above: 3x, baseline: {windows: 1-2}, min: 5}, then: tempfail, mode: shadow}
  - {name: crowd, at: connect, if: {series: open_sessions, above: 1}, then: tempfail}
  - {name: user, at: mail, any: [{series: users, above: 10}, {series: connections, above: 100}], then: tempfail}
`

func TestExplain(t *testing.T) {
	s := serve(t, ruled, "")
	s.add("connections", series.AddrKey(netip.MustParseAddr("192.0.2.7")), 3)
	s.add("users", series.TextKey("alice"), 3)
	s.now = s.now.Add(10 * time.Minute)
	s.add("connections", series.AddrKey(netip.MustParseAddr("192.0.2.7")), 9)
	s.add("open_sessions", series.AddrKey(netip.MustParseAddr("192.0.2.7")), 2)
	client := s.bySocket()
	for _, row := range []struct{ name, params, want string }{
		{"an address and its network", "key=192.0.2.7", `{"series":"connections","distinct":false,"key":"192.0.2.0/24","interval_seconds":300,"counts":[9,0,3,0,0,0],"total":12}`},
		{"a multiple and its mean, in shadow", "key=192.0.2.7", `"does":"tempfail","shadow":true,"fires":"yes","if":[{"condition":"connections for client_address in windows 0 above 3x the mean of windows 1-2, from 5 on","holds":"yes","reading":{"series":"connections","key":"192.0.2.7","interval_seconds":300,"from":0,"to":0,"count":9,"compare":"above","threshold":"3x","mean":1.5,"percent":200}}]`},
		{"what is open has no end that is known", "key=192.0.2.7", `"rule":"crowd","at":"connect","does":"tempfail","shadow":false,"fires":"yes","if":[{"condition":"open_sessions for client_address in windows 0 above 1","holds":"yes","reading":{"series":"open_sessions","key":"192.0.2.7","interval_seconds":0,`},
		{"a user, on whom alone it does not depend", "key=alice", `"rule":"user","at":"mail","does":"tempfail","shadow":false,"fires":"depends"`},
		{"nothing to explain", "", `400 {"error":"one of key, queue_id and session is needed"}`},
		{"two things", "key=alice&session=s1", `400 {"error":"one of key, queue_id and session is needed"}`},
		{"all, in another way", "key=alice&all=1", `400 {"error":"all must be true, or be left out, not \"1\""}`},
		{"nobody", "key=bob", `404 {"error":"no series holds bob"}`},
		{"nobody, with what a terminal obeys", "key=bob%1B]0%0A", `404 {"error":"no series holds bob�]0�"}`},
		{"a message, the same", "queue_id=4Z%1B]0%0A", `404 {"error":"no rule has decided about queue id 4Z�]0�, nor`},
		{"a session, the same", "session=s%C2%9B", `404 {"error":"no rule has decided about session s�, nor`},
	} {
		if got := s.request(client, "GET /api/v1/explain?"+row.params); !strings.Contains(got, row.want) {
			t.Errorf("%s: got %s\nwant %s", row.name, got, row.want)
		}
	}
	got := s.request(client, "GET /api/v1/limits?rule=floods")
	if want := `404 {"error":"unknown rule \"floods\"; did you mean flood?"}`; got != want {
		t.Errorf("got %s", got)
	}
}

// Of a message all decisions are told, the first one first; where none is, how far
// back they are kept.
func TestExplainDecisions(t *testing.T) {
	s := serve(t, ruled, "")
	client := s.bySocket()
	refuse := func(session string) {
		ev := &policy.Event{}
		ev.Session = session
		ev.SetClient(netip.MustParseAddr("192.0.2.7"), 40000, "")
		if _, err := s.engine.Decide(ev, policy.Connect, s.now); err != nil {
			t.Fatal(err)
		}
	}
	if got, want := s.request(client, "GET /api/v1/explain?session=s1"), `404 {"error":"no rule has decided about session s1, nor about anything else since the daemon began"}`; got != want {
		t.Errorf("got %s", got)
	}
	s.add("connections", series.AddrKey(netip.MustParseAddr("192.0.2.7")), 10)
	refuse("s1")
	s.now = s.now.Add(20 * time.Minute)
	refuse("s1") // by the penalty alone
	got := s.request(client, "GET /api/v1/explain?session=s1")
	first, second := strings.Index(got, `"time":"2026-01-01T12:00:00Z"`), strings.Index(got, `"time":"2026-01-01T12:20:00Z"`)
	if first < 0 || second < first || !strings.Contains(got[second:], `"penalty_seconds":2400`) || strings.Count(got, `"rule":"flood"`) != 2 {
		t.Errorf("got %s", got)
	}
	if got, want := s.request(client, "GET /api/v1/explain?session=s2"), `404 {"error":"no rule has decided about session s2 as far back as decisions are kept, which is 20 minutes, to 2026-01-01T12:00:00Z"}`; got != want {
		t.Errorf("got %s", got)
	}
}
