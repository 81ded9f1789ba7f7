package main

import (
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"

	"github.com/audit-milter/audit-milter/internal/admin"
	"github.com/audit-milter/audit-milter/policy"
)

// aKey says what KEY may be.
const aKey = `KEY is an address, a block (192.0.2.0/24) or a text; the parts of a composite key
are written with | between them.`

func countCommand() *cobra.Command {
	var c console
	var windows, node string
	cmd := c.answersJSON(&cobra.Command{
		Use:   "count SERIES KEY",
		Short: "Tell one count",
		Long:  "Tells the count of a key in a window, or the sum over a range of windows.\n" + aKey,
		Example: `  audit-milter count connections 192.0.2.7
  audit-milter count connections 192.0.2.0/24 --windows 0-5`,
		Args:              exactly(2, "count takes a series and a key, such as connections 192.0.2.7"),
		ValidArgsFunction: c.completeSeries,
		RunE: func(cmd *cobra.Command, args []string) error {
			if _, _, err := policy.ParseWindows(windows); err != nil {
				return usageError{fmt.Errorf("--windows %s: %w", windows, err)}
			}
			return query(cmd, &c, "/api/v1/count", params("series", args[0], "key", args[1], "windows", windows, "node", node), printCount)
		},
	})
	windowsFlag(cmd, &windows)
	nodeFlag(cmd, &node)
	return cmd
}

func windowsFlag(cmd *cobra.Command, windows *string) {
	cmd.Flags().StringVar(windows, "windows", "0", "a window or a `range`, such as 0-5; 0 is the current one")
}

func nodeFlag(cmd *cobra.Command, node *string) {
	cmd.Flags().StringVar(node, "node", "", "only what this `node` of the cluster has counted")
}

// printCount prints a count, and what it is the sum of.
func printCount(out io.Writer, a admin.Count) {
	fmt.Fprintf(out, "%s in %s%s: %d\n", policy.Printable(a.Key), a.Series, ofNode(a.Node), a.Count)
	if len(a.Windows) < 2 {
		return
	}
	fmt.Fprintln(out)
	table(out, func(w io.Writer) {
		fmt.Fprintf(w, "WINDOW\tBEGAN\tCOUNT IN %s\n", duration(a.IntervalSeconds))
		for _, x := range a.Windows {
			fmt.Fprintf(w, "%d\t%s\t%d\n", x.Window, local(x.Start), x.Count)
		}
	})
}

// ofNode says whose counts are told, where that is one node.
func ofNode(node string) string {
	if node == "" {
		return ""
	}
	return " on " + node
}

// local is a time as people here write it.
func local(t time.Time) string { return t.Local().Format("2006-01-02 15:04:05") }
