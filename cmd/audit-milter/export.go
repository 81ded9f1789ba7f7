package main

import (
	"fmt"
	"io"
	"net/url"

	"github.com/spf13/cobra"
)

func exportCommand() *cobra.Command {
	var c console
	var node string
	cmd := c.speaks(&cobra.Command{
		Use:   "export SERIES",
		Short: "Write a series as CSV",
		Long: `Writes every count of a series to standard output as CSV, a line for each window in
which a key counts something. load reads it.`,
		Example:           `  audit-milter export connections > connections.csv`,
		Args:              exactly(1, "export takes a series, such as connections; show all writes them all"),
		ValidArgsFunction: c.completeSeries,
		RunE: func(cmd *cobra.Command, args []string) error {
			return c.export(cmd, params("series", args[0], "node", node))
		},
	})
	nodeFlag(cmd, &node)
	return cmd
}

// export copies the daemon's CSV to standard output while it comes.
func (c *console) export(cmd *cobra.Command, params url.Values) error {
	d, err := c.daemon()
	if err != nil {
		return err
	}
	body, err := d.Stream(cmd.Context(), "/api/v1/export", params)
	if err != nil {
		return d.told(err)
	}
	defer body.Close()
	if _, err := io.Copy(cmd.OutOrStdout(), body); err != nil {
		return fmt.Errorf("what was written is not all: %w", err)
	}
	return nil
}
