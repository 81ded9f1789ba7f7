package state

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"slices"
	"time"

	"github.com/audit-milter/audit-milter/internal/deltas"
	"github.com/audit-milter/audit-milter/policy"
	"github.com/audit-milter/audit-milter/series"
)

// restore replays the directory's segments, from the newest on whose snapshot is
// whole.
func restore(dir string, o Options) ([]segment, Restored, error) {
	segments, err := list(dir)
	if err != nil {
		return nil, Restored{}, fmt.Errorf("state directory: %w", err)
	}
	start := 0
	for i := range slices.Backward(segments) {
		if err := segments[i].survey(dir); err != nil {
			return nil, Restored{}, fmt.Errorf("state: %w", err)
		}
		if segments[i].complete {
			start = i
			break
		}
	}
	r := newReplay(o)
	fromNothing := start < len(segments) && segments[start].complete
	if i := slices.IndexFunc(segments, func(s segment) bool { return s.ended }); !fromNothing && i >= 0 {
		start, fromNothing = i, true
	}
	if o.Replayed != nil {
		if err := retell(segments[:start], dir, o); err != nil {
			return nil, Restored{}, fmt.Errorf("state: %w", err)
		}
	}
	for i := start; i < len(segments); i++ {
		skip := series.Newer
		if i == start && fromNothing {
			skip = series.Older
		}
		if err := r.segment(&segments[i], dir, skip); err != nil {
			return nil, Restored{}, fmt.Errorf("state: %w", err)
		}
	}
	restored := r.restored()
	if restored.Node, err = nodeOf(dir); err != nil {
		return nil, Restored{}, fmt.Errorf("state directory: %w", err)
	}
	restored.Unfinished = max(0, len(segments)-start-1)
	return segments, restored, nil
}

// retell tells batches whose counts are in the snapshot.
func retell(segments []segment, dir string, o Options) error {
	r := newReplay(o)
	r.tellsOnly = true
	for i := range segments {
		if err := r.segment(&segments[i], dir, series.Newer); err != nil {
			return err
		}
	}
	return nil
}

// replay is what the batches so far have made.
type replay struct {
	log      *slog.Logger
	replayed func(*deltas.Batch)

	tellsOnly bool // nothing is merged

	series    map[string]*restoring
	names     []string // of series, in the order in which they came
	penalties policy.PenaltySet
	number    uint64
	until     time.Time
	bytes     int64
}

type restoring struct {
	*policy.Lasting
	shape string
}

func newReplay(o Options) *replay {
	return &replay{
		log:       o.Log,
		replayed:  o.Replayed,
		series:    make(map[string]*restoring),
		penalties: make(policy.PenaltySet),
	}
}

// segment replays what is good of a segment.
func (r *replay) segment(s *segment, dir string, skip series.For) error {
	f, err := os.Open(s.path(dir))
	if err != nil {
		return err
	}
	defer f.Close()
	r.number = max(r.number, s.number)
	file := records{file: f, size: s.size}
	if _, err := file.open(f.Name()); err != nil {
		return err
	}
	for b := range file.decoded() {
		switch {
		case b.err != nil:
			return unread(f.Name(), b.err)
		case b.bytes == 0:
			return r.torn(f, s, b.skipped)
		case b.skipped > 0:
			r.lost(f.Name(), b.skipped, b.Now)
			r.keep(f.Name())
		}
		r.bytes += b.bytes
		r.apply(&b.Decoded, skip)
	}
	return nil
}

// torn says how much a segment's end lacks; a crash while it was written does that. Of
// one without any batch nobody knows how much: its first one is written at once.
func (r *replay) torn(f *os.File, s *segment, bytes int64) error {
	if bytes == 0 && s.size > headerLen {
		return nil
	}
	info, err := f.Stat()
	if err != nil {
		return err
	}
	if bytes == 0 {
		r.log.Warn("state: a file of the journal has no batch: what was counted since the last one before it, if anything, is lost",
			"file", f.Name(), "after", r.until, "until", info.ModTime())
		return nil
	}
	r.lost(f.Name(), bytes, info.ModTime())
	return nil
}

// lost says that what was counted between the last good batch and the one at that time
// is not there.
func (r *replay) lost(path string, bytes int64, until time.Time) {
	r.log.Warn("state: a torn or damaged part of the journal is left out: what was counted meanwhile is lost",
		"file", path, "bytes", bytes, "after", r.until, "until", until)
}

// keep gives a damaged segment a second name, which stays when the segment goes.
func (r *replay) keep(path string) {
	if err := os.Link(path, path+".damaged"); err != nil && !errors.Is(err, os.ErrExist) {
		r.log.Warn("state: the damaged file will be removed once a snapshot is complete", "file", path, "error", err)
	}
}

// apply merges a batch without the deltas that are not for this beginning.
func (r *replay) apply(b *deltas.Decoded, skip series.For) {
	whole := deltas.Batch{Number: b.Number, Now: b.Now, Begin: b.Begin, End: b.End, Penalties: b.Penalties}
	if b.Begin {
		r.forget(b.Series)
	}
	for i := range b.Series {
		s := &b.Series[i]
		l := r.resolve(s, b.Now)
		if l == nil {
			continue
		}
		if b.Begin {
			l.Counter.Since(s.Begun, b.Now)
		}
		for _, d := range s.Deltas {
			if d.For != skip && !r.tellsOnly {
				l.Counter.Merge(d, b.Now)
			}
		}
		whole.Series = append(whole.Series, deltas.Series{
			Kept:   policy.Kept{Lasting: l, Persist: true, Serialize: s.Serialize},
			Begun:  s.Begun,
			Deltas: s.Deltas,
		})
	}
	for _, p := range b.Penalties {
		r.penalties.Merge(p)
	}
	r.number, r.until = max(r.number, b.Number), b.Now
	if r.replayed != nil {
		r.replayed(&whole)
	}
}

// forget forgets what a snapshot no longer has: it tells all series and all penalties.
func (r *replay) forget(there []deltas.Section) {
	clear(r.penalties)
	r.names = slices.DeleteFunc(r.names, func(name string) bool {
		gone := !slices.ContainsFunc(there, func(s deltas.Section) bool { return s.Name == name })
		if gone {
			delete(r.series, name)
		}
		return gone
	})
}

// resolve is the series that a section is of. One that has changed takes over what it
// can, as in a reload; one whose shape nothing has told is unknown: nil.
func (r *replay) resolve(s *deltas.Section, now time.Time) *policy.Lasting {
	before := r.series[s.Name]
	switch {
	case before != nil && (s.Shape == "" || s.Shape == before.shape):
		return before.Lasting
	case s.Shape == "":
		return nil
	}
	l, err := r.make(s)
	if err != nil {
		r.log.Warn("state: a series was of a kind that this version does not know: its counts are lost", "series", s.Name, "error", err)
		return nil
	}
	l.Counter.Begin(now)
	if before == nil {
		r.names = append(r.names, s.Name)
	} else {
		l.CarryFrom(before.Lasting, now)
	}
	r.series[s.Name] = &restoring{l, s.Shape}
	return l
}

func (r *replay) make(s *deltas.Section) (*policy.Lasting, error) {
	def, of, masks, err := deltas.ReadShape(s.Name, s.Shape)
	if err != nil {
		return nil, err
	}
	return policy.NewLasting(def, of, masks)
}

func (r *replay) restored() Restored {
	all := Restored{Number: r.number, Until: r.until, Bytes: r.bytes}
	for _, name := range r.names {
		all.Series = append(all.Series, r.series[name].Lasting)
	}
	all.Penalties = r.penalties.Running(r.until)
	return all
}
