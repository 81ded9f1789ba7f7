package policy

import (
	"errors"
	"fmt"
	"strings"
	"time"
)

// Monitor are the three series of a monitor: how often an address connected,
// had a message received, and was refused, by this filter or by the MTA. They are
// like the one given but for their names, such as connections/300 for an interval of 5
// minutes.
func Monitor(like Series) (three []*Series) {
	for _, m := range []struct {
		counts string
		at     StageSet
	}{
		{"connections", Stages(Connect)},
		{"receptions", Stages(Accepted)},
		{"rejections", Stages(Refused, RcptRefused)},
	} {
		s := like
		s.Name = fmt.Sprintf("%s/%d", m.counts, s.Interval/time.Second)
		s.Adds = []Add{{At: m.at, Amount: Amount{N: 1}}}
		three = append(three, &s)
	}
	return three
}

// CheckName says what is wrong, if anything, with a name that someone chose for a
// series. Those of built-in series are not his to choose.
func CheckName(name string) error {
	switch {
	case name == "":
		return errors.New("a series needs a name")
	case strings.Contains(name, "/"):
		return fmt.Errorf("a series' name has no slash: %q", name)
	case name == OpenSessions:
		return fmt.Errorf("%s is the name of a built-in series; choose another", OpenSessions)
	}
	return nil
}
