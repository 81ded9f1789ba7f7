package policy

import (
	"fmt"
	"time"

	"github.com/audit-milter/audit-milter/series"
)

// Monitor are the three series of a monitor: how often an address connected,
// had a message received, and was refused, by this filter or by the MTA. They are
// as defined but for their names, such as connections/300 for an interval of 5
// minutes.
func Monitor(d series.Definition) (three []*Series) {
	for _, m := range []struct {
		counts string
		at     StageSet
	}{
		{"connections", Stages(Connect)},
		{"receptions", Stages(Accepted)},
		{"rejections", Stages(Refused, RcptRefused)},
	} {
		d.Name = fmt.Sprintf("%s/%d", m.counts, d.Interval/time.Second)
		three = append(three, &Series{Definition: d, Adds: []Add{{At: m.at, Amount: Amount{N: 1}}}})
	}
	return three
}
