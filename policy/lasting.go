package policy

import (
	"fmt"
	"slices"
	"sync/atomic"
	"time"

	"github.com/audit-milter/audit-milter/series"
)

// Lasting is a series that counts. It can outlast its engine, since engines that
// follow one another share those that did not change: as long as it is the same
// pointer, it is the same series. Its fields are not to be changed.
type Lasting struct {
	Definition series.Definition
	Of         *Distinct     // what different values are counted of; nil: events or amounts
	Masks      []series.Mask // under which a distinct one counts blocks
	Counter    Counter       // series or distinct: the total of all nodes
	Own        Counter       // the ledger of what this node has told of it; nil where the series does not replicate

	series   *series.Series   // nil in a distinct one
	distinct *series.Distinct // nil in any other
	parts    parts            // of the total

	told atomic.Uint64 // how many adds were cut at the limit of 64 bits, as far as the log says
	over atomic.Bool   // a reload has left it behind: it takes adds no longer
}

// NewLasting makes an empty series: of events or amounts, or of the different
// values that of names. Masks are for the latter. It is an error that the
// definition is none.
func NewLasting(def series.Definition, of *Distinct, masks []series.Mask) (l *Lasting, err error) {
	if of == nil {
		var s *series.Series
		if s, err = series.Define(def); err == nil {
			l = lasting(s)
		}
	} else {
		var d *series.Distinct
		if d, err = series.DefineDistinct(def, masks); err == nil {
			l = &Lasting{Definition: d.Definition(), Of: of, Masks: masks, Counter: d, distinct: d}
		}
	}
	if err != nil {
		return nil, fmt.Errorf("series %q: %w", def.Name, err)
	}
	return l, nil
}

// lasting is one of events or amounts, or a gauge.
func lasting(s *series.Series) *Lasting {
	return &Lasting{Definition: s.Definition(), Counter: s, series: s}
}

// takes is the counter's Takes, without a call through an interface.
func (l *Lasting) takes(k series.Key) bool {
	if l.distinct != nil {
		return l.distinct.Takes(k)
	}
	return l.series.Takes(k)
}

// serves reports whether the series is as the other one has to be. Blocks of
// different values are counted only under the masks for which it was made.
func (l *Lasting) serves(as *Lasting) bool {
	lacks := func(m series.Mask) bool { return !slices.Contains(l.Masks, m) }
	if (l.Own == nil) != (as.Own == nil) {
		return false
	}
	sameValues := l.Of == nil && as.Of == nil || l.Of != nil && as.Of != nil && *l.Of == *as.Of
	return l.Definition == as.Definition && sameValues && !slices.ContainsFunc(as.Masks, lacks)
}

// CarryFrom takes over what it can of a series from before that had another
// definition, as a reload does, and says in words what not; "" for nothing.
//
// Of a series that replicates it takes this node's own part: the definition has changed,
// so the other nodes' counts are read anew.
func (l *Lasting) CarryFrom(before *Lasting, now time.Time) (lost string) {
	switch own := before.ledger(); {
	case l.series != nil && before.series != nil:
		lost = l.series.CarryFrom(own.(*series.Series), now).Lost()
	case l.distinct != nil && before.distinct != nil && *l.Of == *before.Of:
		lost = l.distinct.CarryFrom(own.(*series.Distinct), now).Lost()
	default:
		return "all counts, since something else is counted"
	}
	if l.Own != nil {
		l.replicate() // it owns all that it has now
	}
	return lost
}

// tell logs how many counts stopped at the limit since the last time, and which
// keys had to leave.
func (l *Lasting) tell(log *decisionLog) {
	cut := l.Counter.Stats().Saturated
	if told := l.told.Swap(cut); cut > told {
		log.limit(l.Definition.Name, cut-told)
	}
	if evicted := l.evictions(); evicted != nil {
		log.evicted(l.Definition, evicted)
	}
}

func (l *Lasting) evictions() []series.Evicted {
	if l.distinct != nil {
		return l.distinct.Evictions()
	}
	return l.series.Evictions()
}

// Kept is a series with what its configuration wants of it.
type Kept struct {
	*Lasting
	Persist   bool // to be there again after a restart
	Serialize bool // to be written to the history
	Replicate Replicate
}

// Kept are the engine's series, in the order of the configuration, without
// open_sessions; also those that neither persist nor serialize.
func (e *Engine) Kept() []Kept {
	kept := make([]Kept, len(e.series))
	for i, s := range e.policy.Series {
		kept[i] = Kept{e.series[i], s.Persist, s.Serialize, s.Replicate}
	}
	return kept
}
