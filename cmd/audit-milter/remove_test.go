package main

import (
	"strings"
	"testing"

	"github.com/audit-milter/audit-milter/internal/admin"
)

func TestRemoveSaysWhatOtherNodesHaveStill(t *testing.T) {
	var out strings.Builder
	printRemoved(&out, admin.Removed{Series: "connections", Key: "192.0.2.7", Removed: 1, Left: []admin.Left{{Node: "mx2", Count: 12}, {Node: "mx3", Count: 40, Away: true}}})
	want := `1 key was removed from connections: 192.0.2.7
still 12 from mx2, which takes it back within a second
still 40 from mx3, away
`
	if out.String() != want {
		t.Errorf("%s; want %s", out.String(), want)
	}
}
