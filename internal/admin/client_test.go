package admin

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// Who takes a connection and says nothing is not waited for without end, be it before or
// behind the TLS handshake.
func TestAClientsPatience(t *testing.T) {
	for _, address := range []string{"http://192.0.2.1:9980", "https://192.0.2.1:9980"} {
		synctest.Test(t, func(t *testing.T) {
			c, err := NewClient(address, "0123456789abcdef")
			if err != nil {
				t.Fatal(err)
			}
			c.http.Transport.(*http.Transport).DialContext = func(context.Context, string, string) (net.Conn, error) {
				here, there := net.Pipe()
				go io.Copy(io.Discard, there)
				return here, nil
			}
			ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
			defer cancel()
			begin := time.Now()
			_, err = c.Get(ctx, "/health", nil)
			if took := time.Since(begin); !errors.Is(err, ErrUnreachable) || took > requestTime {
				t.Errorf("%s: %v after %s", address, err, took)
			}
		})
	}
}

// Who answers without end takes no more memory than the longest answer.
func TestAnAnswerWithoutEnd(t *testing.T) {
	const most = 1000
	for length, ends := range map[int]bool{most: true, most + 1: true, 0: false} {
		server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			io.WriteString(w, strings.Repeat(" ", length))
			for !ends {
				if _, err := io.WriteString(w, strings.Repeat(" ", most)); err != nil {
					return
				}
			}
		}))
		c, err := NewClient(server.URL, "0123456789abcdef")
		if err != nil {
			t.Fatal(err)
		}
		c.most = most
		got, getErr := c.Get(t.Context(), "/", nil)
		posted, postErr := c.Post(t.Context(), "/", nil)
		for _, one := range []struct {
			data []byte
			err  error
		}{{got, getErr}, {posted, postErr}} {
			if fits := length == most; (one.err == nil) != fits || fits && len(one.data) != length {
				t.Errorf("of %d bytes (the end: %t) it takes %d: %v", length, ends, len(one.data), one.err)
			}
		}
		server.Close()
	}
}
