package admin_test

import (
	"strings"
	"testing"
	"time"
)

// What is asked wrongly is an error that says what would be right, never a 0.
func TestMistakes(t *testing.T) {
	s := serve(t, plain, "")
	client := s.bySocket()
	for _, row := range []struct{ name, request, want string }{
		{"an unknown path", "GET /api/v1/cuont", `404 unknown path "/api/v1/cuont"; did you mean /api/v1/count?`},
		{"a question as a change", "POST /api/v1/count {}", `405 /api/v1/count takes GET`},
		{"a change as a question", "GET /api/v1/add?series=users&key=a", `405 /api/v1/add takes POST`},
		{"no series", "GET /api/v1/count?key=a", `400 series is missing; it names one`},
		{"a cluster where there is none", "GET /api/v1/cluster", `404 this daemon is in no cluster; the key cluster of its configuration joins one`},
		{"an unknown series", "GET /api/v1/count?series=user&key=a", `404 unknown series \"user\"; did you mean users?`},
		{"an unknown rule", `POST /api/v1/remove {"rule":"flood","key":"192.0.2.7"}`, `404 unknown rule with a penalty \"flood\"; there is none`},
		{"no key", "GET /api/v1/count?series=users", `400 series users: the key \"\", or a part of it, is empty, and so is never counted`},
		{"a text for an address", "GET /api/v1/count?series=connections&key=alice", `400 series connections: \"alice\" is not an address; write one such as 192.0.2.7 or 2001:db8::7, or a block such as 192.0.2.0/24`},
		{"an address of the other family", "GET /api/v1/count?series=clients4&key=2001:db8::7", `400 series clients4: it is of type cidr and does not take 2001:db8::7`},
		{"an unknown parameter", "GET /api/v1/count?series=users&key=a&window=3", `400 unknown parameter \"window\"; did you mean windows?`},
		{"a parameter given twice", "GET /api/v1/count?series=users&key=a&key=b", `400 the parameter key is given 2 times; once is right`},
		{"parameters that cannot be read", "GET /api/v1/count?series=%zz", `400 the parameters cannot be read: invalid URL escape \"%zz\"`},
		{"a window beyond the last", "GET /api/v1/count?series=users&key=a&windows=0-6", `400 the series users has windows 0-5; 6 is beyond`},
		{"windows the wrong way round", "GET /api/v1/count?series=users&key=a&windows=5-0", `400 windows begins with the newest one; write 0-5`},
		{"an unknown field", `POST /api/v1/add {"series":"users","key":"a","amount":5}`, `400 the JSON is not what is needed here: unknown field \"amount\"`},
		{"a fraction", `POST /api/v1/add {"series":"users","key":"a","count":1.5}`, `400 the JSON is not what is needed here: cannot unmarshal number 1.5 into Go struct field Add.count of type int64`},
		{"nothing at all", `POST /api/v1/add`, `400 the JSON is not what is needed here: EOF`},
		{"two values", `POST /api/v1/add {"series":"users","key":"a"}{}`, `400 the JSON is not what is needed here: something stands behind it`},
		{"other bytes than UTF-8", "POST /api/v1/add {\"series\":\"users\",\"key\":\"m\xfcller\"}", `400 the JSON is not what is needed here: it is not UTF-8; other bytes of a key are spelt as the log has them`},
		{"an add of nothing", `POST /api/v1/add {"series":"users","key":"a","count":0}`, `400 a count of 0 changes nothing`},
		{"an add to a block", `POST /api/v1/add {"series":"connections","key":"192.0.2.0/24"}`, `400 nothing can be added to the block 192.0.2.0/24; name one address`},
	} {
		t.Run(row.name, func(t *testing.T) {
			status, why, _ := strings.Cut(row.want, " ")
			want := status + ` {"error":"` + strings.ReplaceAll(strings.ReplaceAll(why, `\"`, `"`), `"`, `\"`) + `"}`
			if got := s.request(client, row.request, asJSON); got != want {
				t.Errorf("got  %s\nwant %s", got, want)
			}
		})
	}
	for _, c := range s.engine.Counters() {
		if c.Len() > 0 {
			t.Errorf("%s holds %d keys", c.Definition().Name, c.Len())
		}
	}
}

func TestCountsByHand(t *testing.T) {
	s := serve(t, plain, "")
	client := s.bySocket()
	for _, row := range []struct {
		name, request, want string
		wait                time.Duration // before
	}{
		{"an add counts 1", `POST /api/v1/add {"series":"connections","key":"192.0.2.7"}`, `200 {"series":"connections","key":"192.0.2.7","count":1}`, 0},
		{"or as much as it says", `POST /api/v1/add {"series":"connections","key":"192.0.2.9","count":40}`, `200 {"series":"connections","key":"192.0.2.9","count":40}`, 0},
		{"or less, in the window that is then current", `POST /api/v1/add {"series":"connections","key":"192.0.2.7","count":-3}`, `200 {"series":"connections","key":"192.0.2.7","count":-3}`, 5 * time.Minute},
		{"a count is of the current window", "GET /api/v1/count?series=connections&key=192.0.2.7",
			`200 {"series":"connections","key":"192.0.2.7","interval_seconds":300,"from":0,"to":0,"count":-3,"windows":[{"window":0,"window_start":"2026-01-01T12:05:00Z","count":-3}]}`, 0},
		{"or of the block over a range", "GET /api/v1/count?series=connections&key=192.0.2.7/24&windows=1-2",
			`200 {"series":"connections","key":"192.0.2.0/24","interval_seconds":300,"from":1,"to":2,"count":41,"windows":[{"window":1,"window_start":"2026-01-01T12:00:00Z","count":41},{"window":2,"window_start":"2026-01-01T11:55:00Z","count":0}]}`, 0},
		{"a text is in lower case", `POST /api/v1/add {"series":"users","key":"Alice","count":2}`, `200 {"series":"users","key":"alice","count":2}`, 0},
		{"a key is removed", `POST /api/v1/remove {"series":"users","key":"ALICE"}`, `200 {"series":"users","key":"alice","removed":1}`, 0},
		{"once", `POST /api/v1/remove {"series":"users","key":"ALICE"}`, `200 {"series":"users","key":"alice","removed":0}`, 0},
		{"an address is removed", `POST /api/v1/remove {"series":"connections","key":"192.0.2.9"}`, `200 {"series":"connections","key":"192.0.2.9","removed":1}`, 0},
		{"and leaves its block", "GET /api/v1/count?series=connections&key=192.0.2.0/24&windows=1",
			`200 {"series":"connections","key":"192.0.2.0/24","interval_seconds":300,"from":1,"to":1,"count":1,"windows":[{"window":1,"window_start":"2026-01-01T12:00:00Z","count":1}]}`, 0},
	} {
		s.now = s.now.Add(row.wait)
		if got := s.request(client, row.request, asJSON); got != row.want {
			t.Errorf("%s:\ngot  %s\nwant %s", row.name, got, row.want)
		}
	}
	if want := `msg="added by hand" series=connections key=192.0.2.7 amount=-3`; !strings.Contains(s.log.String(), want) {
		t.Errorf("the log has no %s:\n%s", want, &s.log)
	}
}
