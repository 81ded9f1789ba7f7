package policy

import (
	"fmt"
	"slices"
	"sync/atomic"
	"time"

	"github.com/audit-milter/audit-milter/series"
)

// running is a series that counts. An engine shares those that did not change
// with the one before it.
type running struct {
	def      series.Definition
	series   *series.Series   // nil in a distinct one
	distinct *series.Distinct // nil in any other
	of       *Distinct        // what the distinct one counts
	masks    []series.Mask    // under which the distinct one counts blocks

	told atomic.Uint64 // how many adds were cut at the limit of 64 bits, as far as the log says
	over atomic.Bool   // a reload has left it behind: it takes adds no longer
}

// run makes an empty series.
func (p *Policy) run(s *Series) (r *running, err error) {
	r = &running{def: s.Definition, of: s.Distinct}
	if s.Distinct != nil {
		r.masks = p.masks(s.Name)
		r.distinct, err = series.DefineDistinct(s.Definition, r.masks)
	} else {
		r.series, err = series.Define(s.Definition)
	}
	if err != nil {
		return nil, fmt.Errorf("series %q: %w", s.Name, err)
	}
	r.def = r.counter().Definition()
	return r, nil
}

// counter is the series, whichever kind it is of.
func (r *running) counter() Counter {
	if r.distinct != nil {
		return r.distinct
	}
	return r.series
}

// begin lets the series count from now on, also before its first event.
func (r *running) begin(now time.Time) {
	if r.distinct != nil {
		r.distinct.Begin(now)
		return
	}
	r.series.Begin(now)
}

// serves reports whether the series is as the other one has to be. Blocks of
// different values are counted only under the masks for which it was made.
func (r *running) serves(as *running) bool {
	lacks := func(m series.Mask) bool { return !slices.Contains(r.masks, m) }
	sameValues := r.of == nil && as.of == nil || r.of != nil && as.of != nil && *r.of == *as.of
	return r.def == as.def && sameValues && !slices.ContainsFunc(as.masks, lacks)
}

// carryFrom takes over what it can of the series from before, and says what not.
func (r *running) carryFrom(before *running, now time.Time) (lost string) {
	switch {
	case r.series != nil && before.series != nil:
		return r.series.CarryFrom(before.series, now).Lost()
	case r.distinct != nil && before.distinct != nil && *r.of == *before.of:
		return r.distinct.CarryFrom(before.distinct, now).Lost()
	}
	return "all counts, since something else is counted"
}

// tell logs how many counts stopped at the limit since the last time, and which
// keys had to leave.
func (r *running) tell(log *decisionLog) {
	cut := r.counter().Stats().Saturated
	if told := r.told.Swap(cut); cut > told {
		log.limit(r.def.Name, cut-told)
	}
	if evicted := r.evictions(); evicted != nil {
		log.evicted(r.def, evicted)
	}
}

func (r *running) evictions() []series.Evicted {
	if r.distinct != nil {
		return r.distinct.Evictions()
	}
	return r.series.Evictions()
}
