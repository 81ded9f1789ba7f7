package policy

import (
	"fmt"
	"strings"

	"github.com/audit-milter/audit-milter/series"
)

// String tells the add as `check` shows it.
func (a Add) String() string {
	var b strings.Builder
	b.WriteString(a.Amount.String())
	if len(a.Key) > 0 {
		fmt.Fprintf(&b, " for %s", a.Key)
	}
	fmt.Fprintf(&b, " at %s", a.At)
	if a.When != nil {
		fmt.Fprintf(&b, " when %s", a.When)
	}
	if a.Leaky {
		b.WriteString(", leaky")
	}
	return b.String()
}

func (a Amount) String() string {
	switch {
	case a.From:
		return a.Attr.String()
	case a.N == 0:
		return "a value"
	}
	return fmt.Sprintf("%+d", a.N)
}

// String tells the rule as `check` shows it, on several lines.
func (r *Rule) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s at %s: %s", r.Name, r.At, r.Does())
	if r.Shadow {
		b.WriteString(" (shadow)")
	}
	if r.When != nil {
		fmt.Fprintf(&b, "\nwhen %s", r.When)
	}
	for i := range r.If {
		fmt.Fprintf(&b, "\nif %s", r.If[i])
	}
	for i := range r.Any {
		fmt.Fprintf(&b, "\nany %s", r.Any[i])
	}
	if r.AllowSharedKey {
		b.WriteString("\nallow_shared_key")
	}
	if r.Reply != nil {
		fmt.Fprintf(&b, "\nreply %s", r.Reply)
	}
	return b.String()
}

// Does lists what the rule does when it fires.
func (r *Rule) Does() string {
	var does []string
	if r.Then != Continue {
		does = append(does, r.Then.String())
	}
	if r.Delay > 0 {
		does = append(does, "delay "+DurationText(r.Delay))
	}
	if r.Penalty > 0 {
		does = append(does, "penalty "+DurationText(r.Penalty))
	}
	for _, h := range r.Headers {
		does = append(does, "header "+h.Name)
	}
	if len(r.Notify) > 0 {
		does = append(does, "notify "+strings.Join(r.Notify, " and "))
	}
	return strings.Join(does, ", ")
}

// String tells the condition in one line.
func (c Condition) String() string {
	var b strings.Builder
	b.WriteString(c.Series)
	if len(c.Key) > 0 {
		fmt.Fprintf(&b, " for %s", c.Key)
	}
	b.WriteString(c.Reading.where())
	if c.Sliding {
		b.WriteString(" sliding")
	}
	fmt.Fprintf(&b, " %s %s", c.Op.Words(), c.Threshold)
	if c.Table != nil {
		fmt.Fprintf(&b, ", or what table %s has for the key", c.Table.Name())
	}
	switch c.Threshold.Unit {
	case Percent:
		fmt.Fprintf(&b, " of %s%s, from %d on", c.Of.Series, c.Of.where(), c.Min)
	case Times:
		fmt.Fprintf(&b, " the mean of windows %s, from %d on", windowsText(c.Baseline.From, c.Baseline.To), c.Min)
	}
	return b.String()
}

// where tells the networks and the windows.
func (r *Reading) where() string {
	by := ""
	if networks := networksText(r.Mask); r.Masked && networks != "" {
		by = " by " + networks
	}
	where := by + " in windows " + windowsText(r.From, r.To)
	if r.Scope == NodeScope {
		where += " on this node"
	}
	return where
}

// networksText names the masks that make networks of addresses. That of the
// family which a series does not have never does.
func networksText(m series.Mask) string {
	var networks []string
	if m.IPv4 < series.Host.IPv4 {
		networks = append(networks, fmt.Sprintf("/%d (IPv4)", m.IPv4))
	}
	if m.IPv6 < series.Host.IPv6 {
		networks = append(networks, fmt.Sprintf("/%d (IPv6)", m.IPv6))
	}
	return strings.Join(networks, ", ")
}
