package admin

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"time"

	"golang.org/x/net/netutil"

	"github.com/audit-milter/audit-milter/internal/cluster"
	"github.com/audit-milter/audit-milter/policy"
)

// The bounds of a listener and its requests; doc.go says the same.
const (
	maxConnections = 16
	maxBody        = 2 << 20 // bytes
	maxHeader      = 16 << 10
	headerTime     = 5 * time.Second  // for a request's header to come
	requestTime    = 30 * time.Second // for all of it, and for its answer to be taken
	idleTime       = time.Minute
)

// Server answers questions about the engine in force. Its fields are set before
// the first Serve and not changed after that.
type Server struct {
	Engine func() *policy.Engine // the one in force
	Token  func() string         // what TCP asks for; "" serves only /metrics and /health there
	Now    func() time.Time      // for tests; nil for the time itself

	// Cluster is how the cluster looks from here; nil where there is none.
	Cluster func() cluster.Status

	// Metrics are served at /metrics; nil for none.
	Metrics http.Handler

	// Reload reads the configuration again and says what that did, in sentences;
	// nil where there is none. After an error nothing has changed.
	Reload func() (done []string, err error)

	Log *slog.Logger // required; hears what was changed by hand

	mu      sync.Mutex // owns servers and closed
	servers []*http.Server
	closed  bool
}

// ServeSocket answers everything that comes by a unix socket: who may connect to
// it may ask. It returns nil after Shutdown.
func (s *Server) ServeSocket(l net.Listener) error {
	return s.serve(l, http.HandlerFunc(s.answer))
}

// ServeTCP answers what comes by TCP and is allowed to. It returns nil after
// Shutdown.
func (s *Server) ServeTCP(l net.Listener) error {
	return s.serve(l, s.guard(http.HandlerFunc(s.answer)))
}

func (s *Server) serve(l net.Listener, h http.Handler) error {
	server := &http.Server{
		Handler:           h,
		ReadHeaderTimeout: headerTime,
		ReadTimeout:       requestTime,
		WriteTimeout:      requestTime,
		IdleTimeout:       idleTime,
		MaxHeaderBytes:    maxHeader,
		ErrorLog:          slog.NewLogLogger(s.Log.Handler(), slog.LevelWarn),
	}
	if !s.add(server) {
		return l.Close()
	}
	err := server.Serve(netutil.LimitListener(l, maxConnections))
	if errors.Is(err, http.ErrServerClosed) {
		return nil
	}
	return err
}

func (s *Server) add(server *http.Server) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.closed {
		s.servers = append(s.servers, server)
	}
	return !s.closed
}

// Shutdown closes the listeners, lets questions in hand be answered until ctx
// ends, and cuts off the rest.
func (s *Server) Shutdown(ctx context.Context) {
	s.mu.Lock()
	s.closed = true
	servers := s.servers
	s.mu.Unlock()
	for _, server := range servers {
		if server.Shutdown(ctx) != nil {
			server.Close()
		}
	}
}
