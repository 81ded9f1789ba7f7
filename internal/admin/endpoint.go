package admin

import (
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/audit-milter/audit-milter/policy"
)

// endpoint is what one path answers. One that changes something takes POST with
// JSON, the others GET with parameters.
type endpoint struct {
	changes bool
	handle  func(*question, http.ResponseWriter, *http.Request) error
}

// endpoints are all paths, in the words of the commands.
var endpoints = map[string]endpoint{
	"/health":           {false, health},
	"/metrics":          {false, metrics},
	"/api/v1/series":    {false, get(listSeries)},
	"/api/v1/count":     {false, get(count, "series", "key", "windows", "node")},
	"/api/v1/top":       {false, get(top, "series", "mask", "windows", "limit", "node")},
	"/api/v1/ip":        {false, get(ip, "address", "node")},
	"/api/v1/explain":   {false, get(explain, "key", "all", "queue_id", "session")},
	"/api/v1/limits":    {false, get(limits, "rule", "limit")},
	"/api/v1/rules":     {false, get(listRules)},
	"/api/v1/penalties": {false, get(penalties)},
	"/api/v1/cluster":   {false, get(showCluster)},
	"/api/v1/export":    {false, export},
	"/api/v1/add":       {true, post(add)},
	"/api/v1/remove":    {true, post(remove)},
	"/api/v1/load":      {true, post(load)},
	"/api/v1/reload":    {true, post(reload)},
}

func (e endpoint) methods() []string {
	if e.changes {
		return []string{http.MethodPost}
	}
	return []string{http.MethodGet, http.MethodHead}
}

// answer answers a request that is permitted.
func (s *Server) answer(w http.ResponseWriter, r *http.Request) {
	r.Body = http.MaxBytesReader(w, r.Body, maxBody)
	if err := s.route(w, r); err != nil {
		writeError(w, err)
	}
}

func (s *Server) route(w http.ResponseWriter, r *http.Request) error {
	e, known := endpoints[r.URL.Path]
	switch {
	case !known:
		return failure{http.StatusNotFound, policy.UnknownError{What: "path", Name: r.URL.Path, Known: slices.Sorted(maps.Keys(endpoints))}}
	case !slices.Contains(e.methods(), r.Method):
		w.Header().Set("Allow", strings.Join(e.methods(), ", "))
		return fail(http.StatusMethodNotAllowed, fmt.Sprintf("%s takes %s", r.URL.Path, e.methods()[0]))
	case e.changes:
		if err := permitChange(r); err != nil {
			return err
		}
	}
	return e.handle(&question{Server: s, engine: s.Engine(), now: s.time()}, w, r)
}

func (s *Server) time() time.Time {
	if s.Now != nil {
		return s.Now()
	}
	return time.Now()
}

// Health is the answer of /health.
type Health struct {
	Status string `json:"status"` // "ok"
}

func health(_ *question, w http.ResponseWriter, _ *http.Request) error {
	writeJSON(w, http.StatusOK, Health{Status: "ok"})
	return nil
}

func metrics(q *question, w http.ResponseWriter, r *http.Request) error {
	if q.Metrics == nil {
		return fail(http.StatusNotFound, "this daemon has no metrics")
	}
	q.Metrics.ServeHTTP(w, r)
	return nil
}
