package main

import (
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"

	"github.com/audit-milter/audit-milter/internal/admin"
	"github.com/audit-milter/audit-milter/policy"
)

func showPenaltiesCommand() *cobra.Command {
	var c console
	return c.answersJSON(&cobra.Command{
		Use:   "penalties",
		Short: "List the penalties that run",
		Long: `Lists for whom a rule goes on firing although its conditions may not hold any more.
remove --penalty RULE KEY ends one.`,
		Args: exactly(0, "write audit-milter show penalties"),
		RunE: func(cmd *cobra.Command, _ []string) error {
			return query(cmd, &c, "/api/v1/penalties", nil, printPenalties)
		},
	})
}

func printPenalties(out io.Writer, a admin.PenaltyList) {
	if len(a.Penalties) == 0 {
		fmt.Fprintln(out, "No penalty runs.")
		return
	}
	table(out, func(w io.Writer) {
		fmt.Fprintln(w, "RULE\tKEY\tUNTIL\tLEFT")
		for _, p := range a.Penalties {
			shadow := ""
			if p.Shadow {
				shadow = " (shadow)"
			}
			fmt.Fprintf(w, "%s%s\t%s\t%s\t%s\n", p.Rule, shadow, policy.Printable(p.Key), local(p.Until), duration(int64(time.Until(p.Until)/time.Second)))
		}
	})
}
