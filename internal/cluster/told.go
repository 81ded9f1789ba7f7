package cluster

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"
)

// AwayAfter is how long a node may be silent before it counts as away.
const AwayAfter = 5 * time.Second

// IsAway reports whether there was no sign of life for so long.
func (n NodeStatus) IsAway(now time.Time) bool { return now.Sub(n.Seen) > AwayAfter }

// Age is how old what is known of the node is, at least 0; ok is false when not all that
// it had counted has come yet.
func (n NodeStatus) Age(now time.Time) (age time.Duration, ok bool) {
	if n.UpTo.IsZero() {
		return 0, false
	}
	return max(0, now.Sub(n.UpTo)), true
}

// State says what is wrong with the node, or that it is ok.
func (n NodeStatus) State(now time.Time) string {
	var wrong []string
	if n.IsAway(now) {
		wrong = append(wrong, "away")
	}
	if n.Skewed {
		wrong = append(wrong, "its clock differs")
	}
	if len(n.Differs) > 0 {
		wrong = append(wrong, "other definition of "+topics(n.Differs))
	}
	if len(n.Behind) > 0 {
		wrong = append(wrong, "waiting for "+topics(n.Behind))
	}
	return cmp.Or(strings.Join(wrong, "; "), "ok")
}

// titleOf is the name of a series or, where it is empty, the penalties.
func titleOf(name string) string { return cmp.Or(name, "penalties") }

func topics(names []string) string {
	names = slices.Clone(names)
	for i, name := range names {
		names[i] = titleOf(name)
	}
	return strings.Join(names, ", ")
}

// Of is what is known of a node, and whether anything is.
func (s Status) Of(node string) (NodeStatus, bool) {
	at := slices.IndexFunc(s.Nodes, func(n NodeStatus) bool { return n.Name == node })
	if at < 0 {
		return NodeStatus{}, false
	}
	return s.Nodes[at], true
}

// IsReachable reports whether the server has answered the last time.
func (s Status) IsReachable() bool { return s.Error == "" && !s.Contact.IsZero() }

// Remote says how much of the cluster the counts have, and how old the oldest part of it
// is, as in "2 of 3 nodes, oldest 4 s": of all nodes, this one among them, those that are
// not away; the age is that of what any of the others has told last, also one that is away.
func (s Status) Remote(now time.Time) string {
	if len(s.Nodes) == 0 {
		return "no other node"
	}
	here, oldest, known := 1, time.Duration(0), false
	for _, n := range s.Nodes {
		age, ok := n.Age(now)
		if ok && !n.IsAway(now) {
			here++
		}
		oldest, known = max(oldest, age), known || ok
	}
	text := fmt.Sprintf("%d of %d nodes", here, 1+len(s.Nodes))
	if known {
		text += ", oldest " + AgeText(oldest)
	}
	return text
}

// AgeText is a length of time in one unit, as in 4 s, 3 min or 12 h, rounded down.
func AgeText(age time.Duration) string {
	switch {
	case age < 2*time.Minute:
		return fmt.Sprintf("%d s", age/time.Second)
	case age < 2*time.Hour:
		return fmt.Sprintf("%d min", age/time.Minute)
	}
	return fmt.Sprintf("%d h", age/time.Hour)
}
