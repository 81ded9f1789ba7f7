package deltas

import (
	"encoding/json"
	"fmt"
	"time"

	"github.com/audit-milter/audit-milter/policy"
	"github.com/audit-milter/audit-milter/series"
)

// Shape is what a series is, beside its name.
type Shape struct {
	Type     string        `json:"type"`
	Interval int64         `json:"interval"` // seconds
	Windows  int           `json:"windows"`
	MaxKeys  int           `json:"max_keys"`
	Of       *Values       `json:"of,omitempty"`
	Masks    []series.Mask `json:"masks,omitempty"`
}

// Values are what different ones are counted of.
type Values struct {
	Term string      `json:"term"`
	Mask series.Mask `json:"mask"`
}

// ShapeOf is the shape of a series.
func ShapeOf(l *policy.Lasting) Shape {
	d := l.Definition
	s := Shape{Type: d.Type.String(), Interval: int64(d.Interval / time.Second), Windows: d.Windows, MaxKeys: d.MaxKeys, Masks: l.Masks}
	if l.Of != nil {
		s.Of = &Values{l.Of.Of.String(), l.Of.Mask}
	}
	return s
}

// String is the same text for the same shape.
func (s Shape) String() string {
	text, err := json.Marshal(s)
	if err != nil {
		panic(err) // there is nothing in it that JSON does not have
	}
	return string(text)
}

// ReadShape reads the text of a [Shape] as what makes the series of that name. It is an
// error that the text is none, or that it has a type or term that is not known.
func ReadShape(name, text string) (def series.Definition, of *policy.Distinct, masks []series.Mask, err error) {
	var s Shape
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
