package admin

import (
	"cmp"
	"slices"
	"strings"

	"github.com/audit-milter/audit-milter/policy"
)

// IP is the answer of /api/v1/ip: the counts of an address or a block in every
// series that takes it, the built-in ones first.
type IP struct {
	Address string     `json:"address"`
	Node    string     `json:"node,omitempty"` // whose counts; missing: those of all
	Series  []IPCounts `json:"series"`
}

// IPCounts are the counts in one series.
type IPCounts struct {
	Series          string  `json:"series"`
	IntervalSeconds int64   `json:"interval_seconds"`
	Counts          []int64 `json:"counts"` // of each window, the current one first
}

func ip(q *question) (IP, error) {
	t, err := policy.ParseBlock(q.form.Get("address"))
	if err != nil {
		return IP{}, err
	}
	node, err := q.node()
	if err != nil {
		return IP{}, err
	}
	answer := IP{Address: t.String(), Node: node, Series: []IPCounts{}}
	for _, c := range builtInFirst(q.parts(node)) {
		if d := c.Definition(); c.Takes(t.Key) {
			counts, _ := c.Counts(nil, t.Key, t.Mask, q.now)
			answer.Series = append(answer.Series, IPCounts{d.Name, seconds(d.Interval), counts})
		}
	}
	return answer, nil
}

// builtIn are the kinds of built-in series in the order in which they are shown.
var builtIn = []string{"connections/", "receptions/", "rejections/", "open_sessions"}

// builtInFirst puts the built-in series in their order and the others behind them.
func builtInFirst(counters []policy.Counter) []policy.Counter {
	sorted := slices.Clone(counters)
	slices.SortStableFunc(sorted, func(a, b policy.Counter) int { return cmp.Compare(rank(a), rank(b)) })
	return sorted
}

func rank(c policy.Counter) int {
	for i, kind := range builtIn {
		if strings.HasPrefix(c.Definition().Name, kind) {
			return i
		}
	}
	return len(builtIn)
}
