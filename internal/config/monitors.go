package config

import (
	"fmt"
	"time"

	"github.com/audit-milter/audit-milter/policy"
	"github.com/audit-milter/audit-milter/series"
)

// decodeMonitors decodes a monitor or a list of them. Each makes three series,
// which are named after its interval: no two have the same.
func (d *decoder) decodeMonitors(n node) {
	lines := make(map[time.Duration]int)
	for i, item := range n.items() {
		m := d.monitor(item.about(fmt.Sprintf("monitor %d", i+1)))
		first, again := lines[m.Interval]
		switch {
		case item.containsBad():
		case again:
			item.about("").errorf("there is a monitor of %s in line %d; an interval has one, so give it the larger number of windows", policy.DurationText(m.Interval), first)
		default:
			lines[m.Interval] = item.Line
			d.policy.Series = append(d.policy.Series, policy.Monitor(m)...)
		}
	}
}

// monitor decodes a monitor: connections/300 counts at connect, receptions/300 at
// accepted, rejections/300 at refused and rcpt_refused, the number being the
// interval in seconds. All are of type ip and keyed by client_address.
//
//	key        default   what, and what follows
//	interval   required  as a series has it
//	windows    required  as a series has it
//	max_keys   1000000   as a series has it, for each of the three
//	persist    false     as a series has it
//	serialize  false     as a series has it
//	replicate  none      as a series has it
func (d *decoder) monitor(n node) policy.Series {
	m := policy.Series{Definition: series.Definition{Type: series.IP, MaxKeys: series.DefaultMaxKeys}}
	n.name = "a monitor"
	n.mapping("a mapping such as {interval: 5m, windows: 6}", d.extent(&m)...)
	return m
}
