package admin_test

import (
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
)

const (
	asJSON   = "Content-Type: application/json"
	bearer   = "Authorization: Bearer " + secret
	addOne   = `POST /api/v1/add {"series":"users","key":"alice"}`
	listAll  = "GET /api/v1/series"
	onlyOpen = `403 {"error":"only /metrics and /health are served here; admin.token_file in the configuration opens the rest to those who have the token"}`
	noToken  = `401 {"error":"the token is missing or wrong; send Authorization: Bearer TOKEN"}`
	noJSON   = `415 {"error":"what changes something must come as Content-Type: application/json"}`
)

func TestAccess(t *testing.T) {
	for _, row := range []struct {
		name, token string
		socket      bool
		request     string
		headers     []string
		want        string // what the answer begins with
	}{
		{"the socket answers who may connect", "", true, listAll, nil, `200 {"series":[{"name":"connections"`},
		{"the socket changes for who may connect", "", true, addOne, []string{asJSON}, `200 {"series":"users","key":"alice","count":1}`},
		{"the socket needs no token where there is one", secret, true, listAll, nil, `200 `},
		{"the socket changes nothing by a form", "", true, addOne, []string{"Content-Type: application/x-www-form-urlencoded"}, noJSON},

		{"without a token TCP answers health", "", false, "GET /health", nil, `200 {"status":"ok"}`},
		{"without a token TCP answers metrics", "", false, "GET /metrics", nil, `200 audit_milter_up 1`},
		{"without a token TCP lists nothing", "", false, listAll, nil, onlyOpen},
		{"without a token TCP changes nothing", "", false, addOne, []string{asJSON}, onlyOpen},
		{"without a token none is right", "", false, listAll, []string{"Authorization: Bearer "}, onlyOpen},
		{"without a token TCP does not tell which paths there are", "", false, "GET /api/v2", nil, onlyOpen},

		{"with the token TCP answers", secret, false, listAll, []string{bearer}, `200 {"series"`},
		{"with the token TCP changes", secret, false, addOne, []string{bearer, asJSON}, `200 {"series":"users","key":"alice","count":1}`},
		{"the token is needed", secret, false, listAll, nil, noToken},
		{"the token is needed for metrics too", secret, false, "GET /metrics", nil, noToken},
		{"the token is needed for health too", secret, false, "GET /health", nil, noToken},
		{"a wrong token", secret, false, listAll, []string{bearer + "0"}, noToken},
		{"an empty token", secret, false, listAll, []string{"Authorization: Bearer "}, noToken},
		{"a token in another scheme", secret, false, listAll, []string{"Authorization: Basic " + secret}, noToken},
		{"a token as a parameter", secret, false, listAll + "?token=" + secret, nil, noToken},
		{"a change that is no JSON", secret, false, addOne, []string{bearer, "Content-Type: text/plain"}, noJSON},
		{"a change without a content type", secret, false, addOne, []string{bearer}, noJSON},
		{"a change as JSON with its charset", secret, false, addOne, []string{bearer, asJSON + "; charset=utf-8"}, `200 `},
		{"a change with a cookie", secret, false, addOne, []string{bearer, asJSON, "Cookie: session=1"}, `403 {"error":"what changes something must come without cookies"}`},
		{"a question with a cookie", secret, false, listAll, []string{bearer, "Cookie: session=1"}, `200 `},
	} {
		t.Run(row.name, func(t *testing.T) {
			s := serve(t, plain, row.token)
			client := s.byTCP()
			if row.socket {
				client = s.bySocket()
			}
			if got := s.request(client, row.request, row.headers...); !strings.HasPrefix(got, row.want) {
				t.Errorf("got  %s\nwant %s", got, row.want)
			}
			changed := strings.HasPrefix(row.request, "POST") && strings.HasPrefix(row.want, "200")
			if n := s.engine.Counter("users").Len(); (n == 1) != changed {
				t.Errorf("the series holds %d keys", n)
			}
		})
	}
}

// A request's size has a bound, on either listener.
func TestTooLarge(t *testing.T) {
	s := serve(t, plain, secret)
	long := `POST /api/v1/add {"series":"users","key":"` + strings.Repeat("x", 2<<20) + `"}`
	for name, client := range map[string]*http.Client{"socket": s.bySocket(), "tcp": s.byTCP()} {
		if got, want := s.request(client, long, bearer, asJSON), `413 {"error":"a request has at most 2097152 bytes"}`; got != want {
			t.Errorf("%s: got %s", name, got)
		}
	}
}

// So has its header, with the room that net/http leaves for the first line.
func TestLongHeader(t *testing.T) {
	conn, err := net.Dial("tcp", serve(t, plain, secret).tcp)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	const begin = "GET /health HTTP/1.1\r\nX-Long: "
	io.WriteString(conn, begin+strings.Repeat("x", 20<<10-len(begin)))
	answer, err := io.ReadAll(conn)
	if err != nil || !strings.HasPrefix(string(answer), "HTTP/1.1 431 ") {
		t.Errorf("got %q, %v", answer, err)
	}
}
