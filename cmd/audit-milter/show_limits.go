package main

import (
	"cmp"
	"fmt"
	"io"
	"strconv"

	"github.com/spf13/cobra"

	"github.com/audit-milter/audit-milter/internal/admin"
	"github.com/audit-milter/audit-milter/policy"
)

func showLimitsCommand() *cobra.Command {
	var c console
	var limit int
	var rule string
	cmd := c.answersJSON(&cobra.Command{
		Use:   "limits",
		Short: "List the keys nearest to a threshold",
		Long: `Lists the keys that are nearest to a threshold, or beyond it, over all rules, in per
cent of the threshold. A key is there once for each condition that reads it; a rule
with several may need the others too, which explain KEY tells.`,
		Example: `  audit-milter show limits
  audit-milter show limits --rule connection-flood --limit 5`,
		Args: exactly(0, "write audit-milter show limits"),
		RunE: func(cmd *cobra.Command, _ []string) error {
			return query(cmd, &c, "/api/v1/limits", params("rule", rule, "limit", strconv.Itoa(limit)), printLimits)
		},
	})
	cmd.Flags().IntVar(&limit, "limit", 20, "how many, 1 to 1000")
	cmd.Flags().StringVar(&rule, "rule", "", "only those of this `rule`")
	c.completeFlag(cmd, "rule", func(admin.Rule) bool { return true })
	return cmd
}

func printLimits(out io.Writer, a admin.Limits) {
	if len(a.Limits) == 0 {
		fmt.Fprintln(out, "Nothing is near a threshold.")
		return
	}
	table(out, func(w io.Writer) {
		fmt.Fprintln(w, "PERCENT\tCOUNT\tTHRESHOLD\tKEY\tRULE\tSERIES\tWINDOWS\tHOLDS")
		for _, n := range a.Limits {
			r := cmp.Or(n.Reading, &admin.Reading{})
			fmt.Fprintf(w, "%d\t%d\t%s\t%s\t%s\t%s\t%s\t%s\n", n.Percent, r.Count, thresholdText(r), policy.Printable(r.Key), n.Rule, r.Series, windowsOf(r), yesNo(n.Holds))
		}
	})
}

// windowsOf is a range of windows, and how long each is.
func windowsOf(r *admin.Reading) string {
	windows := strconv.Itoa(r.From)
	if r.To != r.From {
		windows += fmt.Sprintf("-%d", r.To)
	}
	if r.IntervalSeconds > 0 {
		windows += " of " + duration(r.IntervalSeconds)
	}
	if r.Sliding {
		windows += ", sliding"
	}
	return windows
}

func yesNo(yes bool) string {
	if yes {
		return "yes"
	}
	return "no"
}
