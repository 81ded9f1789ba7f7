package admin_test

import (
	"fmt"
	"math"
	"net/http"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/audit-milter/audit-milter/series"
)

func (s *served) add(name string, key series.Key, n int64) {
	s.engine.Counter(name).(*series.Series).Add(key, n, s.now)
}

func TestTop(t *testing.T) {
	s := serve(t, plain, "")
	for i := range 3000 {
		s.add("users", series.TextKey(fmt.Sprintf("user%04d", i)), int64(1+i%1500))
	}
	s.add("users", series.TextKey("owing"), -5)
	s.now = s.now.Add(10 * time.Minute)
	s.add("users", series.TextKey("user0000"), 2000)
	client := s.bySocket()
	for _, row := range []struct{ name, params, want string }{
		{"the current window alone", "series=users", `"from":0,"to":0,"top":[{"key":"user0000","count":2000}]}`},
		{"a range, keys of one count by their names", "series=users&windows=0-5&limit=4",
			`"from":0,"to":5,"top":[{"key":"user0000","count":2001},{"key":"user1499","count":1500},{"key":"user2999","count":1500},{"key":"user1498","count":1499}]}`},
		{"a window that is empty", "series=users&windows=5", `"from":5,"to":5,"top":[]}`},
		{"a series that is empty", "series=connections&mask=24,48", `"top":[]}`},
	} {
		if got := s.request(client, "GET /api/v1/top?"+row.params); !strings.HasPrefix(got, "200 ") || !strings.HasSuffix(got, row.want) {
			t.Errorf("%s: got %s\nwant %s", row.name, got, row.want)
		}
	}
	if got := s.request(client, "GET /api/v1/top?series=users&windows=0-5&limit=1000"); strings.Count(got, `"key"`) != 1000 || strings.Contains(got, "owing") {
		t.Errorf("%d keys", strings.Count(got, `"key"`))
	}
}

// A sum over windows stops at the limit, as that of count does.
func TestTopStopsAtTheLimit(t *testing.T) {
	s := serve(t, plain, "")
	for range 2 {
		s.add("users", series.TextKey("huge"), math.MaxInt64)
		s.now = s.now.Add(10 * time.Minute)
	}
	client := s.bySocket()
	for _, path := range []string{"/api/v1/top?series=users&windows=0-5", "/api/v1/count?series=users&key=huge&windows=0-5"} {
		if got := s.request(client, "GET "+path); !strings.Contains(got, `"count":9223372036854775807`) {
			t.Errorf("%s: %s", path, got)
		}
	}
}

// What one series exports, another loads; all of a key that is there is there once.
func TestExportIsLoaded(t *testing.T) {
	s := serve(t, plain, "")
	const keys = 2500
	for i := range keys {
		s.add("users", series.TextKey(fmt.Sprintf(`o"brien, %d | \\`, i)), int64(i+1))
	}
	s.now = s.now.Add(30 * time.Minute)
	s.add("users", series.TextKey("alice"), -7)
	client := s.bySocket()
	exported := s.request(client, "GET /api/v1/export?series=users")
	if got := strings.Count(exported, "\n"); got != keys+1 {
		t.Fatalf("%d lines", got)
	}

	other := serve(t, plain, "")
	other.now = s.now
	rows := readAll(t, strings.TrimPrefix(exported, "200 "))
	for len(rows) > 0 {
		n := min(len(rows), 1000)
		got := other.request(other.bySocket(), "POST /api/v1/load "+loadOf("users", rows[:n]), asJSON)
		if want := fmt.Sprintf(`200 {"series":"users","loaded":%d,"too_old":[]}`, n); got != want {
			t.Fatalf("got %s", got)
		}
		rows = rows[n:]
	}
	again := other.request(other.bySocket(), "GET /api/v1/export")
	if sorted(again) != sorted(exported) {
		t.Error("what was loaded is not what was exported")
	}
}

// A request with one wrong row changes nothing, and tells which one it is.
func TestLoadIsAllOrNothing(t *testing.T) {
	s := serve(t, plain, "")
	good := `{"key":"192.0.2.7","window_start":"2026-01-01T12:00:00Z","interval_seconds":300,"count":1}`
	client := s.bySocket()
	for _, row := range []struct{ name, bad, want string }{
		{"a key of another type", `{"key":"alice","window_start":"2026-01-01T12:00:00Z","interval_seconds":300,"count":1}`,
			`series connections: \"alice\" is not an address; write one such as 192.0.2.7 or 2001:db8::7, or a block such as 192.0.2.0/24`},
		{"a block", `{"key":"192.0.2.0/24","window_start":"2026-01-01T12:00:00Z","interval_seconds":300,"count":1}`,
			`series connections: 192.0.2.0/24 is a block; its counts are those of its addresses`},
		{"a longer window", `{"key":"192.0.2.7","window_start":"2026-01-01T12:00:00Z","interval_seconds":600,"count":1}`,
			`its window of 600 seconds does not fit into those of the series connections, of 300 seconds`},
		{"a window that no clock can measure", `{"key":"192.0.2.7","window_start":"1970-01-01T00:00:00Z","interval_seconds":36028797018963968,"count":1}`,
			`its window of 36028797018963968 seconds does not fit into those of the series connections, of 300 seconds`},
		{"no window", `{"key":"192.0.2.7","count":1}`,
			`its window of 0 seconds does not fit into those of the series connections, of 300 seconds`},
		{"a window that begins where none does", `{"key":"192.0.2.7","window_start":"2026-01-01T11:58:00Z","interval_seconds":300,"count":1}`,
			`no window of 300 seconds begins at 2026-01-01T11:58:00Z`},
		{"a window to come", `{"key":"192.0.2.7","window_start":"2026-01-01T12:05:00Z","interval_seconds":300,"count":1}`,
			`its window begins at 2026-01-01T12:05:00Z, which is to come`},
	} {
		got := s.request(client, `POST /api/v1/load {"series":"connections","rows":[`+good+`,`+row.bad+`]}`, asJSON)
		if want := `400 {"error":"` + row.want + `","row":1}`; got != want {
			t.Errorf("%s: got  %s\nwant %s", row.name, got, want)
		}
	}
	many := `POST /api/v1/load {"series":"connections","rows":[` + strings.Repeat(good+",", 1000) + good + `]}`
	if got := s.request(client, many, asJSON); got != `400 {"error":"a request has at most 1000 rows"}` {
		t.Errorf("got %s", got)
	}
	if n := s.engine.Counter("connections").Len(); n != 0 {
		t.Errorf("the series holds %d keys", n)
	}
	shorter := `{"key":"192.0.2.7","window_start":"2026-01-01T11:59:00Z","interval_seconds":60,"count":4}`
	old := `{"key":"192.0.2.7","window_start":"1969-12-31T23:55:00Z","interval_seconds":300,"count":4}`
	got := s.request(client, `POST /api/v1/load {"series":"connections","rows":[`+good+`,`+old+`,`+shorter+`]}`, asJSON)
	if got != `200 {"series":"connections","loaded":2,"too_old":[1]}` {
		t.Errorf("got %s", got)
	}
	got = s.request(client, "GET /api/v1/ip?address=192.0.2.7")
	if want := `200 {"address":"192.0.2.7","series":[{"series":"open_sessions","interval_seconds":0,"counts":[0]},{"series":"connections","interval_seconds":300,"counts":[1,4,0,0,0,0]},{"series":"clients4","interval_seconds":3600,"counts":[0,0]}]}`; got != want {
		t.Errorf("got %s", got)
	}
}

// Of as many rows as a request has room for, no more are made than there may be.
func TestLoadOfTooManyRowsTakesLittleMemory(t *testing.T) {
	s := serve(t, plain, "")
	client := s.bySocket()
	many := `POST /api/v1/load {"series":"connections","rows":[` + strings.Repeat("{},", 690_000) + `{}]}`
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	got := s.request(client, many, asJSON)
	runtime.ReadMemStats(&after)
	if got != `400 {"error":"a request has at most 1000 rows"}` {
		t.Errorf("got %s", got)
	}
	if took := (after.TotalAlloc - before.TotalAlloc) >> 20; took > 30 {
		t.Errorf("it took %d MiB", took)
	}
}

// What is wrong with rows is told as of any other JSON.
func TestRowsThatAreNone(t *testing.T) {
	s := serve(t, plain, "")
	client := s.bySocket()
	const none = "the JSON is not what is needed here: "
	for _, row := range []struct{ rows, want string }{
		{`null`, `200 {"series":"users","loaded":0,"too_old":[]}`},
		{`[]`, `200 {"series":"users","loaded":0,"too_old":[]}`},
		{`{}`, `400 {"error":"` + none + `cannot unmarshal object into Go struct field Load.rows of type []admin.Row"}`},
		{`[1]`, `400 {"error":"` + none + `cannot unmarshal number into Go struct field Load.rows of type admin.Row"}`},
		{`[{"amount":1}]`, `400 {"error":"` + none + `unknown field \"amount\""}`},
		{`[{"key":"a"}`, `400 {"error":"` + none + `invalid character '}' after array element"}`},
	} {
		if got := s.request(client, `POST /api/v1/load {"series":"users","rows":`+row.rows+`}`, asJSON); got != row.want {
			t.Errorf("%s: got  %s\nwant %s", row.rows, got, row.want)
		}
	}
}

// A reader who leaves in the middle of an export ends it.
func TestExportEndsWithItsReader(t *testing.T) {
	s := serve(t, plain, "")
	s.fill(200_000)
	answer, err := s.bySocket().Get("http://daemon/api/v1/export")
	if err != nil || answer.StatusCode != http.StatusOK {
		t.Fatal(answer, err)
	}
	answer.Body.Close()
	s.server.Shutdown(t.Context()) // returns when the export has ended
}

// Different values are asked for as events are, and cannot be made up by hand.
func TestDistinct(t *testing.T) {
	s := serve(t, `
series:
  networks: {type: string, interval: 10m, windows: 6, distinct: {of: client_address, mask: {ipv4: 24, ipv6: 64}}, add: {at: mail, key: sasl_username}}
  logins: {type: ip, interval: 10m, windows: 6, distinct: sasl_username, add: {at: mail}}
`, "")
	networks := s.engine.Counter("networks").(*series.Distinct)
	alice := series.TextKey("alice")
	networks.Add(alice, "192.0.2.0/24", s.now)
	s.now = s.now.Add(10 * time.Minute)
	networks.Add(alice, "192.0.2.0/24", s.now)
	networks.Add(alice, "198.51.100.0/24", s.now)
	client := s.bySocket()
	for _, row := range []struct{ name, request, want string }{
		{"the list says what it counts", "GET /api/v1/series", `{"name":"networks","type":"string","distinct":true,`},
		{"a range is a union", "GET /api/v1/count?series=networks&key=Alice&windows=0-1", `"count":2,"windows":[{"window":0,"window_start":"2026-01-01T12:10:00Z","count":2},{"window":1,"window_start":"2026-01-01T12:00:00Z","count":1}]`},
		{"so it is for the largest", "GET /api/v1/top?series=networks&windows=0-1", `"top":[{"key":"alice","count":2}]`},
		{"no networks are listed", "GET /api/v1/top?series=logins&mask=24", `the series logins counts different values, and cannot list networks; count tells those of one`},
		{"an export has each window", "GET /api/v1/export?series=networks", "networks,alice,2026-01-01T12:10:00Z,600,2\nnetworks,alice,2026-01-01T12:00:00Z,600,1"},
		{"an add", `POST /api/v1/add {"series":"networks","key":"alice"}`, `400 {"error":"the series networks counts different values; no number can be added to that"}`},
		{"a load", `POST /api/v1/load {"series":"networks","rows":[]}`, `400 {"error":"the series networks counts different values; no number can be added to that"}`},
		{"a block is not removed", `POST /api/v1/remove {"series":"logins","key":"192.0.2.0/24"}`, `400 {"error":"the series logins counts different values, of which no block can be removed; name one address"}`},
		{"a key is", `POST /api/v1/remove {"series":"networks","key":"alice"}`, `"removed":1`},
	} {
		if got := s.request(client, row.request, asJSON); !strings.Contains(got, row.want) {
			t.Errorf("%s: got %s\nwant %s", row.name, got, row.want)
		}
	}
}
