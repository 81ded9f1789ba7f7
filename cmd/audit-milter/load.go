package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"slices"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/audit-milter/audit-milter/internal/admin"
	"github.com/audit-milter/audit-milter/policy"
)

func loadCommand() *cobra.Command {
	var c console
	return c.answersJSON(&cobra.Command{
		Use:   "load SERIES FILE",
		Short: "Add the counts of an exported series",
		Long: `Adds the counts of a file that export, show all or history export wrote to a series,
each in the window that it was counted in. Only the lines of that series are taken. Lines
whose windows the series does not cover any more are skipped, and told, and so are those
with an empty key: nobody knows any more which keys they counted. What is loaded twice
counts twice; who interrupts it is told where it stopped.`,
		Args:              exactly(2, "load takes a series and a file, such as connections connections.csv"),
		ValidArgsFunction: c.completeSeriesAndFile,
		RunE: func(cmd *cobra.Command, args []string) error {
			return c.load(cmd, args[0], args[1])
		},
	})
}

func (c *console) completeSeriesAndFile(cmd *cobra.Command, args []string, begun string) ([]string, cobra.ShellCompDirective) {
	if len(args) == 1 {
		return nil, cobra.ShellCompDirectiveDefault
	}
	return c.completeSeries(cmd, args, begun)
}

// load reads the file twice, so that nothing is sent of one with a mistake.
func (c *console) load(cmd *cobra.Command, series, path string) error {
	d, err := c.daemon()
	if err != nil {
		return err
	}
	if err := checkExport(series, path); err != nil {
		return err
	}
	interrupt, stop := interruptible(cmd.Context())
	defer stop()
	l := loading{cmd: cmd, daemon: d, path: path, interrupt: interrupt, loaded: loaded{Series: series, Skipped: []int{}, Keyless: []int{}}}
	if err := eachRecord(path, l.add); err != nil {
		return err
	}
	if err := l.send(); err != nil {
		return err
	}
	if c.json {
		return json.NewEncoder(cmd.OutOrStdout()).Encode(l.loaded)
	}
	printLoaded(cmd.OutOrStdout(), l.loaded)
	return nil
}

// checkExport looks for mistakes in a file, and for lines of the series.
func checkExport(series, path string) error {
	var others []string
	found := false
	err := eachRecord(path, func(r admin.Record) error {
		found = found || r.Series == series
		if !slices.Contains(others, r.Series) {
			others = append(others, r.Series)
		}
		return nil
	})
	if err == nil && !found {
		return fmt.Errorf("%s: %w", path, policy.UnknownError{What: "series", Name: series, Known: others})
	}
	return err
}

// eachRecord is for a file only, since who loads one reads it twice: the second time a pipe
// would be empty.
func eachRecord(path string, do func(admin.Record) error) error {
	info, err := os.Stat(path)
	if err != nil {
		return err
	}
	if !info.Mode().IsRegular() {
		return fmt.Errorf("%s is not a file, and one is needed, since it is read twice; write what comes from a pipe into a file first", path)
	}
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	for r, err := range admin.ReadExport(f) {
		if err != nil {
			return fmt.Errorf("%s: %w", path, err)
		}
		if err := do(r); err != nil {
			return err
		}
	}
	return nil
}

// loading is a file on its way into a series, a batch at a time.
type loading struct {
	cmd    *cobra.Command
	daemon *running
	path   string
	rows   []admin.Row
	lines  []int // theirs in the file
	loaded loaded

	interrupt context.Context // done when no further batch is to be sent
}

// loaded is what became of a file's lines.
type loaded struct {
	Series  string `json:"series"`
	Loaded  int    `json:"loaded"`  // how many
	Skipped []int  `json:"skipped"` // which, since their windows are too old
	Keyless []int  `json:"keyless"` // which, since they count keys that nobody knows
}

func (l *loading) add(r admin.Record) error {
	if r.Series != l.loaded.Series {
		return nil
	}
	if r.Key == "" {
		l.loaded.Keyless = append(l.loaded.Keyless, r.Line)
		return nil
	}
	if len(l.rows) == admin.MaxRows {
		if err := l.send(); err != nil {
			return err
		}
	}
	l.rows, l.lines = append(l.rows, r.Row), append(l.lines, r.Line)
	return nil
}

func (l *loading) send() error {
	if l.interrupt.Err() != nil {
		return l.told(errInterrupted)
	}
	data, err := l.daemon.Post(l.cmd.Context(), "/api/v1/load", admin.Load{Series: l.loaded.Series, Rows: l.rows})
	if err != nil {
		return l.told(err)
	}
	var answer admin.Loaded
	if err := json.Unmarshal(data, &answer); err != nil {
		return err
	}
	l.loaded.Loaded += answer.Loaded
	for _, row := range answer.TooOld {
		if !l.has(row) {
			return fmt.Errorf("the answer of %s is not that of this version: row %d of %d is too old", l.daemon.Address(), row, len(l.rows))
		}
		l.loaded.Skipped = append(l.loaded.Skipped, l.lines[row])
	}
	l.rows, l.lines = l.rows[:0], l.lines[:0]
	return nil
}

// has reports whether a row is one of those that were sent.
func (l *loading) has(row int) bool { return 0 <= row && row < len(l.lines) }

// told adds to an error which line it is about, and what happened before.
func (l *loading) told(err error) error {
	if e, ok := errors.AsType[admin.Error](err); ok && e.Row != nil && l.has(*e.Row) {
		err = fmt.Errorf("%s: line %d: %w", l.path, l.lines[*e.Row], e)
	}
	switch {
	case l.loaded.Loaded > 0:
		err = fmt.Errorf("%w; %d lines before line %d were loaded", err, l.loaded.Loaded, l.lines[0])
	case err == errInterrupted:
		err = fmt.Errorf("%w; nothing was loaded", err)
	}
	return l.daemon.told(err)
}

// interruptible is done with an interrupt; who cannot wait for the batch in hand interrupts
// again. A process that is to ignore it, as one in the background, goes on to.
func interruptible(ctx context.Context) (interrupt context.Context, stop context.CancelFunc) {
	if signal.Ignored(os.Interrupt) {
		return ctx, func() {}
	}
	interrupt, stop = signal.NotifyContext(ctx, os.Interrupt)
	context.AfterFunc(interrupt, stop)
	return interrupt, stop
}

// errInterrupted is that a signal came before the end.
var errInterrupted = errors.New("interrupted")

// endInterrupted ends the process as the signal would have, so that a shell's loop around
// it ends too.
func endInterrupted() (status int) {
	signal.Reset(os.Interrupt)
	syscall.Kill(syscall.Getpid(), syscall.SIGINT)
	time.Sleep(time.Second) // it may reach another thread than this one
	return 1
}

func printLoaded(out io.Writer, l loaded) {
	fmt.Fprintf(out, "%d lines were loaded into %s\n", l.Loaded, l.Series)
	printSkipped(out, l.Skipped, "its window is too old", "their windows are too old")
	printSkipped(out, l.Keyless, "it has no key", "they have no key")
}

func printSkipped(out io.Writer, lines []int, why, whyAll string) {
	switch n := len(lines); {
	case n == 1:
		fmt.Fprintf(out, "line %d was skipped: %s\n", lines[0], why)
	case n > 1:
		fmt.Fprintf(out, "%d lines were skipped, from line %d to line %d: %s\n", n, lines[0], lines[n-1], whyAll)
	}
}
