package admin

import (
	"fmt"
	"iter"
	"net/http"
	"time"

	"github.com/audit-milter/audit-milter/internal/cluster"
	"github.com/audit-milter/audit-milter/policy"
	"github.com/audit-milter/audit-milter/series"
)

// whole stands for all nodes.
const whole = ""

// node is the node whose counts are asked for; whole where none is named.
func (q *question) node() (name string, err error) {
	if name = q.form.Get("node"); name == whole {
		return whole, nil
	}
	if q.Cluster == nil {
		return "", errNoCluster
	}
	s := q.Cluster()
	if _, known := s.Of(name); name != s.Node && !known {
		return "", failure{http.StatusNotFound, policy.UnknownError{What: "node", Name: name, Known: nodeNames(s)}}
	}
	return name, nil
}

func nodeNames(s cluster.Status) []string {
	names := []string{s.Node}
	for _, n := range s.Nodes {
		names = append(names, n.Name)
	}
	return names
}

// part is what a node has counted in a series, as far as it is known here. It is an
// error that the node does not tell this one of the series.
func (q *question) part(l *policy.Lasting, node string) (policy.Counter, error) {
	if node == whole {
		return l.Counter, nil
	}
	s := q.Cluster()
	if node == s.Node {
		return l.Share(""), nil
	}
	switch name := l.Definition.Name; {
	case q.replicates(l) == policy.None:
		return nil, fmt.Errorf("the series %s does not replicate; only %s knows what it has counted", name, node)
	case q.replicates(l) == policy.Manager && s.Role != "manager":
		return nil, fmt.Errorf("the series %s replicates to managers only, and %s is none; ask one, or %s", name, s.Node, node)
	}
	if c := l.Share(node); c != nil {
		return c, nil
	}
	return nothing{l.Counter}, nil
}

// replicates says to whom a series does; open_sessions goes to all.
func (q *question) replicates(l *policy.Lasting) policy.Replicate {
	for _, k := range q.engine.Kept() {
		if k.Lasting == l {
			return k.Replicate
		}
	}
	return policy.Cluster
}

// parts are those that the node tells this one of, of all series.
func (q *question) parts(node string) (parts []policy.Counter) {
	for _, c := range q.engine.Counters() {
		if part, err := q.part(q.engine.Lasting(c.Definition().Name), node); err == nil {
			parts = append(parts, part)
		}
	}
	return parts
}

// nothing is a series in which a node has counted nothing.
type nothing struct{ policy.Counter }

func (nothing) Count(series.Key, series.Mask, int, int, time.Time) int64 { return 0 }

func (n nothing) Counts([]int64, series.Key, series.Mask, time.Time) ([]int64, time.Duration) {
	return make([]int64, n.Definition().Windows), 0
}

func (nothing) All(time.Time) iter.Seq2[series.Key, []int64] {
	return func(func(series.Key, []int64) bool) {}
}
