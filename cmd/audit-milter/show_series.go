package main

import (
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"

	"github.com/audit-milter/audit-milter/internal/admin"
	"github.com/audit-milter/audit-milter/policy"
)

func showSeriesCommand() *cobra.Command {
	var c console
	return c.answersJSON(&cobra.Command{
		Use:   "series",
		Short: "List the running daemon's series",
		Long:  `Lists the running daemon's series, and how many keys each holds.`,
		Args:  exactly(0, "write audit-milter show series"),
		RunE: func(cmd *cobra.Command, _ []string) error {
			return query(cmd, &c, "/api/v1/series", nil, printSeries)
		},
	})
}

func printSeries(out io.Writer, list admin.SeriesList) {
	table(out, func(w io.Writer) {
		fmt.Fprintln(w, "SERIES\tTYPE\tWINDOWS\tKEYS\tMAX_KEYS")
		for _, s := range list.Series {
			fmt.Fprintf(w, "%s\t%s\t%s\t%d\t%d\n", s.Name, kind(s), covered(s), s.Keys, s.MaxKeys)
		}
	})
}

// kind is what a series is keyed by, and what it counts if that is not events.
func kind(s admin.Series) string {
	if s.Distinct {
		return s.Type + ", distinct"
	}
	return s.Type
}

// covered is the time that a series covers.
func covered(s admin.Series) string {
	if s.IntervalSeconds == 0 {
		return "at present"
	}
	return fmt.Sprintf("%d x %s", s.Windows, duration(s.IntervalSeconds))
}

// duration spells a length of time.
func duration(seconds int64) string {
	return policy.DurationText(time.Duration(seconds) * time.Second)
}
