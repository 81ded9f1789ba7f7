package main

import (
	"fmt"
	"io"
	"strconv"

	"github.com/spf13/cobra"

	"github.com/audit-milter/audit-milter/internal/admin"
	"github.com/audit-milter/audit-milter/policy"
)

func topCommand() *cobra.Command {
	var c console
	var mask, windows, node string
	var limit int
	cmd := c.answersJSON(&cobra.Command{
		Use:   "top SERIES",
		Short: "List the keys or networks with the largest counts",
		Long: `Lists the keys of a series that count most in a window or a range of windows; with
--mask, the networks.`,
		Example: `  audit-milter top connections --mask 24 --windows 0-5
  audit-milter top recipients_by_user --limit 50`,
		Args:              exactly(1, "top takes a series, such as connections"),
		ValidArgsFunction: c.completeSeries,
		RunE: func(cmd *cobra.Command, args []string) error {
			if _, _, err := policy.ParseWindows(windows); err != nil {
				return usageError{fmt.Errorf("--windows %s: %w", windows, err)}
			}
			p := params("series", args[0], "mask", mask, "windows", windows, "limit", strconv.Itoa(limit), "node", node)
			return query(cmd, &c, "/api/v1/top", p, printTop)
		},
	})
	windowsFlag(cmd, &windows)
	nodeFlag(cmd, &node)
	cmd.Flags().StringVar(&mask, "mask", "", "count networks of so many `bits`: 24, or 24,48 for IPv4 and IPv6; with one number IPv6 is by /64")
	cmd.Flags().IntVar(&limit, "limit", 10, "how many, 1 to 1000")
	return cmd
}

func printTop(out io.Writer, top admin.Top) {
	if len(top.Top) == 0 {
		fmt.Fprintf(out, "Nothing counts in %s%s.\n", top.Series, ofNode(top.Node))
		return
	}
	table(out, func(w io.Writer) {
		fmt.Fprintln(w, "COUNT\tKEY")
		for _, e := range top.Top {
			fmt.Fprintf(w, "%d\t%s\n", e.Count, policy.Printable(e.Key))
		}
	})
}
