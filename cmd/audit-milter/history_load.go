package main

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/audit-milter/audit-milter/internal/admin"
	"github.com/audit-milter/audit-milter/internal/history"
	"github.com/audit-milter/audit-milter/series"
)

// historyLoading is what history load was told.
type historyLoading struct {
	historyPlace
	node, kind string
	distinct   bool
}

func historyLoadCommand() *cobra.Command {
	var h historyLoading
	cmd := h.uses(&cobra.Command{
		Use:   "load SERIES FILE",
		Short: "Add exported windows to a history",
		Long: `Adds the counts of a file that history export, export or show all wrote to a series of a
history, each to the window that it was counted in. Only the lines of that series are
taken, all of them or, if one is wrong, none; a kill at the very end, while the files of
all days get their names, may leave some of the days. What is loaded twice counts twice. A
line with an empty key counts for those that have no lines of their own.`,
		Example:           `  audit-milter history load connections connections.csv --dir /var/lib/audit-milter/history`,
		Args:              exactly(2, "history load takes a series and a file, such as connections connections.csv"),
		ValidArgsFunction: h.completeSeriesAndFile,
		RunE: func(cmd *cobra.Command, args []string) error {
			n, err := h.load(args[0], args[1])
			if err == nil {
				fmt.Fprintf(cmd.OutOrStdout(), "%d lines were loaded into %s\n", n, args[0])
			}
			return err
		},
	})
	f := cmd.Flags()
	f.StringVar(&h.node, "node", "", "the `node` that counted this; otherwise this host")
	f.StringVar(&h.kind, "type", "", "the `type` of a series that the history does not have yet: cidr, cidr_ipv6, string or ip")
	f.BoolVar(&h.distinct, "distinct", false, "such a series counts different values")
	return cmd
}

func (h *historyLoading) completeSeriesAndFile(cmd *cobra.Command, args []string, begun string) ([]string, cobra.ShellCompDirective) {
	if len(args) == 1 {
		return nil, cobra.ShellCompDirectiveDefault
	}
	return h.completeSeries(cmd, args, begun)
}

// load loads all lines of the series or, after a mistake, none.
func (h *historyLoading) load(name, path string) (lines int, err error) {
	l, err := h.loader(name)
	if err != nil {
		return 0, err
	}
	if err := checkExport(name, path); err != nil {
		return 0, err
	}
	records := func(yield func(history.Record, error) bool) {
		err := eachRecord(path, func(r admin.Record) error {
			if r.Series != name {
				return nil
			}
			record := history.Record{Row: history.Row{Key: r.Key, Start: r.Start.Unix(), Count: r.Count}, IntervalSeconds: r.IntervalSeconds}
			if err := l.Check(record); err != nil {
				return fmt.Errorf("%s: line %d: %w", path, r.Line, err)
			}
			lines++
			if !yield(record, nil) {
				return errStopped
			}
			return nil
		})
		if err != nil && !errors.Is(err, errStopped) {
			yield(history.Record{}, err)
		}
	}
	err = l.Load(records)
	return lines, err
}

var errStopped = errors.New("nobody wants more")

// loader is one for the series, of which the history tells more if it has it.
func (h *historyLoading) loader(name string) (*history.Loader, error) {
	dir, err := h.find()
	if err != nil {
		return nil, err
	}
	names, err := history.Names(dir)
	if err != nil {
		return nil, err
	}
	meta := history.Meta{Series: name, Node: h.node, Distinct: h.distinct}
	if meta.Node == "" {
		if meta.Node, err = os.Hostname(); err != nil {
			return nil, err
		}
		meta.Node = strings.ToLower(meta.Node) // as the daemon's
	}
	known := slices.Contains(names, name)
	switch of, ok := series.ParseType(h.kind); {
	case known && (h.kind != "" || h.distinct):
		return nil, usageError{fmt.Errorf("the history has the series %s already, so that --type and --distinct are not needed", name)}
	case !known && h.kind == "":
		return nil, usageError{fmt.Errorf("the history has no series %s yet; --type has to say of which type it is", name)}
	case !known && !ok:
		return nil, usageError{fmt.Errorf("--type %s: must be cidr, cidr_ipv6, string or ip", h.kind)}
	default:
		meta.Type = of
	}
	return history.NewLoader(dir, meta, known)
}
