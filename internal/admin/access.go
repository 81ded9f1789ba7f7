package admin

import (
	"crypto/sha256"
	"crypto/subtle"
	"errors"
	"mime"
	"net/http"
	"strings"
)

// failure is an error with the status that HTTP has for it.
type failure struct {
	status int
	error
}

func (f failure) Unwrap() error { return f.error }

func fail(status int, why string) error { return failure{status, errors.New(why)} }

// guard lets pass what TCP may ask.
func (s *Server) guard(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if err := permit(r, s.Token()); err != nil {
			writeError(w, err)
			return
		}
		next.ServeHTTP(w, r)
	})
}

// permit says why a request that came by TCP may not be answered.
func permit(r *http.Request, token string) error {
	given, bearer := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
	switch {
	case token == "" && isOpen(r.URL.Path):
		return nil
	case token == "":
		return fail(http.StatusForbidden, "only /metrics and /health are served here; admin.token_file in the configuration opens the rest to those who have the token")
	case !bearer || !same(given, token):
		return fail(http.StatusUnauthorized, "the token is missing or wrong; send Authorization: Bearer TOKEN")
	}
	return nil
}

// isOpen reports whether a path is served by TCP where no token is set.
func isOpen(path string) bool { return path == "/metrics" || path == "/health" }

// same compares in a time that tells nothing of how much of the token is right.
func same(given, token string) bool {
	a, b := sha256.Sum256([]byte(given)), sha256.Sum256([]byte(token))
	return subtle.ConstantTimeCompare(a[:], b[:]) == 1
}

// permitChange says why a request may not change anything: a page in somebody's
// browser can send one that is not JSON, and with the browser's cookies.
func permitChange(r *http.Request) error {
	kind, _, err := mime.ParseMediaType(r.Header.Get("Content-Type"))
	switch {
	case err != nil || kind != "application/json":
		return fail(http.StatusUnsupportedMediaType, "what changes something must come as Content-Type: application/json")
	case r.Header.Get("Cookie") != "":
		return fail(http.StatusForbidden, "what changes something must come without cookies")
	}
	return nil
}
