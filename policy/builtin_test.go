package policy_test

import (
	"testing"

	"github.com/audit-milter/audit-milter/policy"
)

func TestNamesThatCanBeChosen(t *testing.T) {
	for name, want := range map[string]string{
		"connections":     "",
		"":                "a series needs a name",
		"connections/300": `a series' name has no slash: "connections/300"`,
		"open_sessions":   "open_sessions is the name of a built-in series; choose another",
	} {
		got := ""
		if err := policy.CheckName(name); err != nil {
			got = err.Error()
		}
		if got != want {
			t.Errorf("%q: %q; want %q", name, got, want)
		}
	}
}
