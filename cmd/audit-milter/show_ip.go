package main

import (
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"github.com/audit-milter/audit-milter/internal/admin"
	"github.com/audit-milter/audit-milter/policy"
)

func showIPCommand() *cobra.Command {
	var c console
	var node string
	cmd := c.answersJSON(&cobra.Command{
		Use:   "ip IP[/MASK]",
		Short: "Show every count of an address or a block",
		Long: `Shows the counts of an address or a block in every series of addresses, a line for
each window: SERIES INTERVAL/WINDOW: COUNT, where window 0 is the current one. With
--node of another node, series that do not replicate are left out.`,
		Example: `  audit-milter show ip 192.0.2.7
  audit-milter show ip 2001:db8::/32`,
		Args: exactly(1, "show ip takes an address or a block, such as 192.0.2.7 or 192.0.2.0/24"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if _, err := policy.ParseBlock(args[0]); err != nil {
				return usageError{err}
			}
			return query(cmd, &c, "/api/v1/ip", params("address", args[0], "node", node), printIP)
		},
	})
	nodeFlag(cmd, &node)
	return cmd
}

func printIP(out io.Writer, ip admin.IP) {
	if len(ip.Series) == 0 {
		fmt.Fprintf(out, "No series takes %s.\n", ip.Address)
	}
	for _, s := range ip.Series {
		for window, n := range s.Counts {
			fmt.Fprintf(out, "%s%s: %d\n", shownName(s.Series), place(s, window), n)
		}
	}
}

// shownName is a series' name; a monitor, such as connections/300, is shown as
// Connections, since its seconds follow.
func shownName(series string) string {
	kind, _, monitor := strings.Cut(series, "/")
	if !monitor || kind == "" {
		return series
	}
	return strings.ToUpper(kind[:1]) + kind[1:]
}

// place is interval/window; what is open at present has none.
func place(s admin.IPCounts, window int) string {
	if s.IntervalSeconds == 0 {
		return ""
	}
	return fmt.Sprintf(" %d/%d", s.IntervalSeconds, window)
}
