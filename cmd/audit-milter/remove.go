package main

import (
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"github.com/audit-milter/audit-milter/internal/admin"
	"github.com/audit-milter/audit-milter/policy"
)

func removeCommand() *cobra.Command {
	var c console
	var rule string
	cmd := c.answersJSON(&cobra.Command{
		Use:   "remove SERIES KEY",
		Short: "Forget a key's counts, or its penalty",
		Long: `Removes a key, or every key of a block, from all windows of a series. With
--penalty RULE it ends the penalty that the rule has given to a key, which is spelt as
the log has it. In a cluster every node takes back what it has counted; what those have
that have not done so yet is told.
` + aKey,
		Example: `  audit-milter remove connections 192.0.2.7
  audit-milter remove connections 192.0.2.0/24
  audit-milter remove --penalty directory-harvest 192.0.2.7`,
		Args: between(1, 2, "remove takes a series and a key, such as connections 192.0.2.7"),
		ValidArgsFunction: func(cmd *cobra.Command, args []string, begun string) ([]string, cobra.ShellCompDirective) {
			if rule != "" { // then the first argument is the key
				return nil, cobra.ShellCompDirectiveNoFileComp
			}
			return c.completeSeries(cmd, args, begun)
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			what := admin.Remove{Rule: rule, Key: keyInUTF8(args[len(args)-1])}
			switch {
			case rule == "" && len(args) == 2:
				what.Series = args[0]
			case rule == "":
				return usageError{errors.New("remove takes a series and a key, such as connections 192.0.2.7")}
			case len(args) == 2:
				return usageError{errors.New("with --penalty RULE remove takes a key alone, since a rule has its series")}
			}
			return alter(cmd, &c, "/api/v1/remove", what, printRemoved)
		},
	})
	cmd.Flags().StringVar(&rule, "penalty", "", "end the penalty that this `rule` has given")
	c.completeFlag(cmd, "penalty", func(r admin.Rule) bool { return r.PenaltySeconds > 0 })
	return cmd
}

func printRemoved(out io.Writer, r admin.Removed) {
	key := policy.Printable(r.Key)
	switch {
	case r.Rule != "" && r.Removed == 0:
		fmt.Fprintf(out, "%s runs no penalty for %s; nothing was removed\n", r.Rule, key)
	case r.Rule != "":
		fmt.Fprintf(out, "the penalty of %s for %s has ended\n", r.Rule, key)
	case r.Removed == 0:
		fmt.Fprintf(out, "%s does not hold %s; nothing was removed\n", r.Series, key)
	case r.Removed == 1:
		fmt.Fprintf(out, "1 key was removed from %s: %s\n", r.Series, key)
	default:
		fmt.Fprintf(out, "%d keys were removed from %s, those of %s\n", r.Removed, r.Series, key)
	}
	switch {
	case r.Penalties == 1 && r.Rule != "":
		fmt.Fprintf(out, "a penalty of %s runs on for %s: remove --penalty %[1]s %[2]s ends it\n", r.Rule, others(r))
	case r.Penalties > 1 && r.Rule != "":
		fmt.Fprintf(out, "%d penalties of %s run on, for %s: remove --penalty %[2]s KEY ends one\n", r.Penalties, r.Rule, others(r))
	case r.Penalties == 1:
		fmt.Fprintf(out, "a penalty runs on for %s: show penalties has it, and remove --penalty RULE KEY ends it\n", key)
	case r.Penalties > 1:
		fmt.Fprintf(out, "%d penalties run on for %s: show penalties has them, and remove --penalty RULE KEY ends one\n", r.Penalties, key)
	}
	for _, l := range r.Left {
		when := "which takes it back within a second"
		if l.Away {
			when = "away"
		}
		fmt.Fprintf(out, "still %d from %s, %s\n", l.Count, l.Node, when)
	}
}

// others are the keys for which penalties of the rule run on.
func others(r admin.Removed) string {
	keys := strings.Join(r.Others, ", ")
	if more := r.Penalties - len(r.Others); more > 0 {
		keys += fmt.Sprintf(" and %d more", more)
	}
	return policy.Printable(keys)
}
