package deltas

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/audit-milter/audit-milter/policy"
	"github.com/audit-milter/audit-milter/series"
)

// replica is what somebody has who took all batches from a Begin on.
type replica struct {
	t         *testing.T
	complete  bool // its End has come
	series    map[string]*copied
	penalties policy.PenaltySet
}

// copied is a replica's series.
type copied struct {
	*policy.Lasting
	lacks bool // it came or changed behind the begin: what it had then is for others
}

func newReplica(t *testing.T) *replica {
	return &replica{t, false, make(map[string]*copied), make(policy.PenaltySet)}
}

// take reports whether the replica is still of use.
func (r *replica) take(b *Batch) bool {
	if b.Begin {
		if !r.complete && len(r.series) > 0 {
			return false
		}
		r.begin(b)
	}
	skip := series.Newer
	if !r.complete {
		skip = series.Older
	}
	for _, s := range b.Series {
		for _, d := range s.Deltas {
			if s.Persist && d.For != skip {
				r.series[s.Definition.Name].Counter.Merge(d, b.Now)
			}
		}
	}
	for _, p := range b.Penalties {
		r.penalties.Merge(p)
	}
	r.complete = r.complete || b.End
	return true
}

// begin forgets the series that do not persist any more, and makes those that do.
func (r *replica) begin(b *Batch) {
	had := r.series
	r.series = make(map[string]*copied)
	for _, s := range b.Series {
		if !s.Persist {
			continue
		}
		name := s.Definition.Name
		if c := had[name]; c != nil && c.Definition == s.Definition {
			r.series[name] = c
			continue
		}
		l, err := policy.NewLasting(s.Definition, s.Of, s.Masks)
		if err != nil {
			r.t.Fatal(err)
		}
		l.Counter.Begin(b.Now)
		l.Counter.Since(s.Begun, b.Now)
		r.series[name] = &copied{l, r.complete}
	}
	clear(r.penalties)
}

// expect compares all that persists.
func (r *replica) expect(e *policy.Engine, now time.Time) {
	r.t.Helper()
	for _, k := range e.Kept() {
		name := k.Definition.Name
		if c := r.series[name]; k.Persist && !c.lacks {
			if got, want := counts(c.Counter, c.Masks, now), counts(k.Counter, k.Masks, now); got != want {
				r.t.Fatalf("%s has\n%swant\n%s", name, got, want)
			}
			if got, want := c.Counter.Begun(now), k.Counter.Begun(now); !got.Equal(want) {
				r.t.Fatalf("%s counts since %s, want %s", name, got, want)
			}
		}
	}
	if got, want := penalties(r.penalties.Running(now)), penalties(e.Penalties(now)); got != want {
		r.t.Fatalf("penalties are\n%swant\n%s", got, want)
	}
}

// counts are those of all keys, and of their blocks where there are some.
func counts(c policy.Counter, masks []series.Mask, now time.Time) string {
	keys := make(map[string]string)
	for k, n := range c.All(now) {
		keys[k.String()] = fmt.Sprint(n)
		for _, m := range masks {
			of, _ := c.Counts(nil, k, m, now)
			keys[fmt.Sprint(k, m)] = fmt.Sprint(of)
		}
	}
	return lines(maps.All(keys))
}

func penalties(all []policy.Penalty) string {
	ends := make(map[string]string)
	for _, p := range all {
		ends[p.Rule+" "+p.Subject.String()] = p.Until.Format(time.RFC3339Nano)
	}
	return lines(maps.All(ends))
}

func lines(of func(func(string, string) bool)) string {
	var b strings.Builder
	m := maps.Collect(of)
	for _, k := range slices.SortedFunc(maps.Keys(m), cmp.Compare) {
		fmt.Fprintln(&b, k, m[k])
	}
	return b.String()
}
