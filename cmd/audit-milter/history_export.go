package main

import (
	"encoding/csv"
	"fmt"
	"io"
	"iter"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"github.com/audit-milter/audit-milter/internal/admin"
	"github.com/audit-milter/audit-milter/internal/history"
)

func historyExportCommand() *cobra.Command {
	var p historyPlace
	var span history.Span
	var node string
	cmd := p.uses(&cobra.Command{
		Use:   "export SERIES",
		Short: "Write windows of the past as CSV",
		Long: `Writes what a series counted to standard output as CSV, in the form of export. A key may
have several lines for one window, which are to be added up. An empty key stands for
those that counted less than min_count. history load reads it, and load does, but for the
lines with an empty key and as far as the running daemon's series covers that time.

` + aTime,
		Example:           `  audit-milter history export connections --on 2026-11-29 > connections.csv`,
		Args:              exactly(1, "history export takes a series, such as connections"),
		ValidArgsFunction: p.completeSeries,
		RunE: func(cmd *cobra.Command, args []string) error {
			from, to, err := times(span)
			if err != nil {
				return err
			}
			dir, err := p.find()
			if err != nil {
				return err
			}
			return writeExport(cmd.OutOrStdout(), args[0], history.Export(dir, args[0], from, to, node))
		},
	})
	spanFlags(cmd, &span)
	cmd.Flags().StringVar(&node, "node", "", "only what this `node` counted")
	return cmd
}

func writeExport(out io.Writer, series string, records iter.Seq2[history.Record, error]) error {
	w := csv.NewWriter(out)
	begun := false
	for r, err := range records {
		if err != nil {
			w.Flush()
			return err
		}
		if !begun {
			begun = true
			w.Write(admin.ExportColumns) // Flush tells of an error, as does the next Write
		}
		err := w.Write([]string{
			series, r.Key, time.Unix(r.Start, 0).UTC().Format(time.RFC3339),
			strconv.FormatInt(r.IntervalSeconds, 10), strconv.FormatInt(r.Count, 10),
		})
		if err != nil {
			return fmt.Errorf("what was written is not all: %w", err)
		}
	}
	if !begun {
		w.Write(admin.ExportColumns)
	}
	w.Flush()
	return w.Error()
}
