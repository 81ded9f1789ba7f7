package state

import (
	"encoding/json"
	"fmt"
	"time"

	"github.com/audit-milter/audit-milter/policy"
	"github.com/audit-milter/audit-milter/series"
)

// shape is what a series is, beside its name, as a segment tells it when the series
// shows there for the first time.
type shape struct {
	Type     string        `json:"type"`
	Interval int64         `json:"interval"` // seconds
	Windows  int           `json:"windows"`
	MaxKeys  int           `json:"max_keys"`
	Of       *values       `json:"of,omitempty"`
	Masks    []series.Mask `json:"masks,omitempty"`
}

// values are what different ones are counted of.
type values struct {
	Term string      `json:"term"`
	Mask series.Mask `json:"mask"`
}

// shapeOf is the same text for series that are of the same shape.
func shapeOf(l *policy.Lasting) string {
	d := l.Definition
	s := shape{Type: d.Type.String(), Interval: int64(d.Interval / time.Second), Windows: d.Windows, MaxKeys: d.MaxKeys, Masks: l.Masks}
	if l.Of != nil {
		s.Of = &values{l.Of.Of.String(), l.Of.Mask}
	}
	text, err := json.Marshal(s)
	if err != nil {
		panic(err) // there is nothing in it that JSON does not have
	}
	return string(text)
}

// read is the inverse of shapeOf.
func readShape(name, text string) (def series.Definition, of *policy.Distinct, masks []series.Mask, err error) {
	var s shape
	if err = json.Unmarshal([]byte(text), &s); err != nil {
		return def, nil, nil, err
	}
	t, ok := series.ParseType(s.Type)
	if !ok {
		return def, nil, nil, fmt.Errorf("there is no type %q", s.Type)
	}
	if s.Of != nil {
		term, err := policy.ParseTerm(s.Of.Term)
		if err != nil {
			return def, nil, nil, err
		}
		of = &policy.Distinct{Of: term, Mask: s.Of.Mask}
	}
	def = series.Definition{Name: name, Type: t, Interval: time.Duration(s.Interval) * time.Second, Windows: s.Windows, MaxKeys: s.MaxKeys}
	return def, of, s.Masks, nil
}
