package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/audit-milter/audit-milter/internal/history"
	"github.com/audit-milter/audit-milter/policy"
)

func historyAvailableCommand() *cobra.Command {
	var p historyPlace
	var asJSON bool
	cmd := p.uses(&cobra.Command{
		Use:   "available",
		Short: "List the series of the history, and the time that each covers",
		Long:  `Lists the series of the history, and the time that each covers.`,
		Args:  exactly(0, "write audit-milter history available --dir DIR"),
		RunE: func(cmd *cobra.Command, _ []string) error {
			dir, err := p.find()
			if err != nil {
				return err
			}
			all, err := history.Available(dir)
			if asJSON {
				return errors.Join(json.NewEncoder(cmd.OutOrStdout()).Encode(availableJSON(all)), err)
			}
			if err == nil || len(all) > 0 {
				printAvailable(cmd.OutOrStdout(), all)
			}
			return err
		},
	})
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON, for programs")
	return cmd
}

type availableSeries struct {
	Series          string    `json:"series"`
	Type            string    `json:"type"`
	Distinct        bool      `json:"distinct"`
	IntervalSeconds int64     `json:"interval_seconds"`
	Nodes           []string  `json:"nodes"`
	From            time.Time `json:"from"`
	To              time.Time `json:"to"`
	Files           int       `json:"files"`
	Bytes           int64     `json:"bytes"`
}

func availableJSON(all []history.Series) any {
	list := make([]availableSeries, len(all))
	for i, s := range all {
		list[i] = availableSeries{
			s.Name, s.Type.String(), s.Distinct, int64(s.Interval / time.Second), s.Nodes, s.From.UTC(), s.To.UTC(), s.Files, s.Bytes,
		}
	}
	return map[string]any{"series": list}
}

func printAvailable(out io.Writer, all []history.Series) {
	if len(all) == 0 {
		fmt.Fprintf(out, "No series has been written yet; %s.\n", history.WhenThere)
		return
	}
	table(out, func(w io.Writer) {
		fmt.Fprintln(w, "SERIES\tTYPE\tINTERVAL\tFROM\tTO\tNODES\tFILES\tBYTES")
		for _, s := range all {
			of := s.Type.String()
			if s.Distinct {
				of += ", distinct"
			}
			fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%s\t%d\t%d\n", policy.Printable(s.Name), of, policy.DurationText(s.Interval),
				local(s.From), local(s.To), policy.Printable(strings.Join(s.Nodes, ", ")), s.Files, s.Bytes)
		}
	})
}
