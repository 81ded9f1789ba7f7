package main

import (
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"github.com/audit-milter/audit-milter/internal/admin"
)

func reloadCommand() *cobra.Command {
	var c console
	return c.answersJSON(&cobra.Command{
		Use:   "reload",
		Short: "Let the daemon read its configuration again",
		Long: `Lets the running daemon read its configuration again, as SIGHUP does, and says what
became of the series. When anything is wrong with the file nothing is changed, the
mistakes are told, and the exit status is 1.`,
		Args: exactly(0, "write audit-milter reload"),
		RunE: func(cmd *cobra.Command, _ []string) error {
			return alter(cmd, &c, "/api/v1/reload", admin.Reload{}, printReloaded)
		},
	})
}

func printReloaded(out io.Writer, r admin.Reloaded) {
	for _, sentence := range r.Done {
		fmt.Fprintln(out, sentence)
	}
}
