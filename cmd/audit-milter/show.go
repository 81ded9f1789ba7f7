package main

import (
	"errors"

	"github.com/spf13/cobra"
)

func showCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "show",
		Short: "Show what the running daemon counts",
		Args:  cobra.ArbitraryArgs,
		RunE: func(*cobra.Command, []string) error {
			return usageError{errors.New("write audit-milter show series, show ip IP, show limits, show penalties, show cluster or show all")}
		},
	}
	cmd.AddCommand(showSeriesCommand(), showIPCommand(), showLimitsCommand(), showPenaltiesCommand(), showClusterCommand(), showAllCommand())
	return cmd
}
