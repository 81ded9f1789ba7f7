package policy

import (
	"net/netip"
	"reflect"
	"testing"
)

func TestAnEventThatIsResetKnowsNothingOfTheSessionBefore(t *testing.T) {
	var ev Event
	all := reflect.ValueOf(&ev).Elem()
	for _, f := range reflect.VisibleFields(all.Type()) {
		if !f.IsExported() || f.Anonymous {
			continue
		}
		switch v := all.FieldByIndex(f.Index); v.Interface().(type) {
		case string:
			v.SetString("theirs")
		case int, StageSet, AttributeSet:
			v.Set(reflect.ValueOf(1).Convert(v.Type()))
		case netip.Addr:
			v.Set(reflect.ValueOf(netip.MustParseAddr("192.0.2.7")))
		case map[string]string:
			v.Set(reflect.ValueOf(map[string]string{"Subject": "theirs"}))
		default:
			t.Fatalf("no value for %s of type %s", f.Name, f.Type)
		}
	}
	ev.state.exempt, ev.state.message.exempt = true, true
	ev.state.message.mark(new(rule), []HeaderField{{"X-Spam", "yes"}})
	for s := range perEvent {
		ev.state.answers.keep(&When{scope: s}, true)
	}
	ev.state.counted = append(ev.state.counted, counted{add: new(add)}, counted{add: new(add)})
	ev.state.counted = ev.state.counted[:0] // by an event that counts nothing

	ev.Reset()

	for _, c := range ev.state.counted[:cap(ev.state.counted)] {
		if c != (counted{}) {
			t.Errorf("an add of it is still there: %v", c)
		}
	}
	for s, said := range ev.state.answers {
		if len(said) > 0 {
			t.Errorf("%d answers of scope %d are still there", len(said), s)
		}
	}
	ev.state.counted, ev.state.answers = nil, answers{} // their room stays
	if !reflect.DeepEqual(ev, Event{}) {
		t.Errorf("left of it: %+v", ev)
	}
}
