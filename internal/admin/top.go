package admin

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/audit-milter/audit-milter/policy"
	"github.com/audit-milter/audit-milter/series"
)

// Top is the answer of /api/v1/top.
type Top struct {
	Series          string  `json:"series"`
	Node            string  `json:"node,omitempty"` // whose counts; missing: those of all
	IntervalSeconds int64   `json:"interval_seconds"`
	From            int     `json:"from"` // the newest window of the range
	To              int     `json:"to"`   // its oldest window
	Top             []Entry `json:"top"`  // the largest count first
}

// Entry is a key, or a network, and its count.
type Entry struct {
	Key   string `json:"key"`
	Count int64  `json:"count"`
}

const (
	defaultTop = 10
	maxLimit   = 1000
)

func top(q *question) (Top, error) {
	s, err := q.series(q.form.Get("series"))
	if err != nil {
		return Top{}, err
	}
	d := s.Definition
	c, node, nodeErr := q.partOf(s)
	mask, maskErr := parseMask(q.form.Get("mask"), s.Counter)
	from, to, windowsErr := windows(q.form.Get("windows"), s.Counter)
	limit, limitErr := parseLimit(q.form.Get("limit"), defaultTop)
	if err := cmp.Or(nodeErr, maskErr, windowsErr, limitErr); err != nil {
		return Top{}, err
	}
	walks := policy.Walks(c, mask, q.now)
	found := make([]largest, len(walks))
	policy.Concurrently(len(walks), func(i int) {
		found[i].limit = limit
		for t, counts := range walks[i] {
			found[i].offer(t, q.total(c, t, counts, from, to))
		}
	})
	l := largest{limit: limit}
	for _, one := range found {
		for _, k := range one.kept {
			l.offer(k.Target, k.count)
		}
	}
	return Top{d.Name, node, seconds(d.Interval), from, to, l.entries()}, nil
}

// total is the sum over the windows from..to; of different values, their union.
func (q *question) total(c policy.Counter, t policy.Target, counts []int64, from, to int) int64 {
	if _, distinct := c.(*series.Distinct); distinct && from < to {
		return c.Count(t.Key, t.Mask, from, to, q.now)
	}
	return policy.Sum(counts, from, to)
}

// parseMask reads the bits of IPv4 and, behind a comma, those of IPv6; nothing
// stands for single addresses. With one number a series of both families shows
// IPv6 by /64, which is one customer's.
func parseMask(text string, c policy.Counter) (series.Mask, error) {
	d := c.Definition()
	_, distinct := c.(*series.Distinct)
	first, second, both := strings.Cut(text, ",")
	switch {
	case text == "":
		return series.Host, nil
	case !d.Type.IsAddress():
		return series.Host, fmt.Errorf("the series %s is of type %s and has no masks", d.Name, d.Type)
	case distinct:
		return series.Host, fmt.Errorf("the series %s counts different values, and cannot list networks; count tells those of one", d.Name)
	case both && d.Type == series.IP:
	case both:
		return series.Host, fmt.Errorf("mask %s: the series %s has one family; write one number", text, d.Name)
	case d.Type == series.CIDR6:
		first, second = "32", text
	default:
		second = "64"
	}
	ipv4, ok4 := maskBits(first, 32)
	ipv6, ok6 := maskBits(second, 128)
	if !ok4 || !ok6 {
		return series.Host, fmt.Errorf("mask %s: write the bits of IPv4, 0 to 32, those of IPv6, 0 to 128, or both as in 24,64", text)
	}
	return series.Mask{IPv4: ipv4, IPv6: ipv6}, nil
}

func maskBits(text string, most uint64) (uint8, bool) {
	n, err := strconv.ParseUint(text, 10, 8)
	return uint8(n), err == nil && n <= most
}

func parseLimit(text string, fallback int) (int, error) {
	if text == "" {
		return fallback, nil
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < 1 || n > maxLimit {
		return 0, fmt.Errorf("limit must be 1 to %d, not %q", maxLimit, text)
	}
	return n, nil
}

// largest keeps the targets with the largest counts, in order.
type largest struct {
	limit int
	kept  []counted
}

type counted struct {
	policy.Target
	count int64
}

// compare puts the larger count first, and of two that are the same the lower
// address or text.
func (c counted) compare(other counted) int {
	if c.count != other.count {
		return cmp.Compare(other.count, c.count)
	}
	return c.Target.Compare(other.Target)
}

// offer keeps a target if it is among the largest so far; what counts nothing
// never is.
func (l *largest) offer(t policy.Target, n int64) {
	full := len(l.kept) == l.limit
	if n == 0 || full && n < l.kept[l.limit-1].count { // nearly all of a million
		return
	}
	c := counted{t, n}
	at, _ := slices.BinarySearchFunc(l.kept, c, counted.compare)
	if full {
		if at == l.limit {
			return
		}
		l.kept = l.kept[:l.limit-1]
	}
	l.kept = slices.Insert(l.kept, at, c)
}

func (l *largest) entries() []Entry {
	entries := make([]Entry, len(l.kept))
	for i, c := range l.kept {
		entries[i] = Entry{c.String(), c.count}
	}
	return entries
}
