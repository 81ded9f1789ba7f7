package main

import "github.com/spf13/cobra"

func showAllCommand() *cobra.Command {
	var c console
	var node string
	cmd := c.speaks(&cobra.Command{
		Use:   "all",
		Short: "Write all series as CSV",
		Long: `Writes every count of every series to standard output as CSV, as export does with
one of them. With --node of another node, series that do not replicate are left out.`,
		Args: exactly(0, "write audit-milter show all"),
		RunE: func(cmd *cobra.Command, _ []string) error { return c.export(cmd, params("node", node)) },
	})
	nodeFlag(cmd, &node)
	return cmd
}
