package admin

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
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
