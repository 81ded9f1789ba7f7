package main

import (
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/spf13/cobra"

	"github.com/audit-milter/audit-milter/internal/config"
	"github.com/audit-milter/audit-milter/internal/history"
)

func historyCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "history",
		Short: "Ask what was counted in windows of the past",
		Long: `Asks what series with "serialize: true" counted in windows of the past. The files of
the history are read directly, whether or not the daemon runs.`,
		Args: cobra.ArbitraryArgs,
		RunE: func(*cobra.Command, []string) error {
			return usageError{errors.New("write audit-milter history available, count, export, load or maintain")}
		},
	}
	cmd.AddCommand(historyAvailableCommand(), historyCountCommand(), historyExportCommand(), historyLoadCommand(), historyMaintainCommand())
	return cmd
}

// historyPlace is where a history is: as --dir says, or the configuration.
type historyPlace struct{ dir, config string }

// uses makes a command one that uses a history.
func (p *historyPlace) uses(cmd *cobra.Command) *cobra.Command {
	cmd.Flags().StringVar(&p.dir, "dir", "", "the `directory` of the history")
	if err := cmd.MarkFlagDirname("dir"); err != nil {
		panic(err)
	}
	configFlag(cmd, &p.config)
	cmd.Flags().Lookup("config").Usage = "the configuration `file` that has a history, unless --dir says where it is"
	cmd.PreRunE = func(cmd *cobra.Command, args []string) error {
		if p.dir == "" && p.config == "" {
			return usageError{errors.New("--dir DIR is needed, the directory of the history, or --config FILE")}
		}
		return noEmptyFlag(cmd, args)
	}
	return cmd
}

// configured is what the configuration says of its history; nil if none is named.
func (p *historyPlace) configured() (*config.History, error) {
	if p.config == "" {
		return nil, nil
	}
	conf, err := config.Load(p.config)
	switch {
	case err != nil:
		return nil, configError{err}
	case conf.History == nil && p.dir == "":
		return nil, fmt.Errorf("%s has no history; --dir DIR says where one is", p.config)
	}
	return conf.History, nil
}

// named is the directory, whether it is there or not.
func (p *historyPlace) named() (string, error) {
	if p.dir != "" {
		return p.dir, nil
	}
	h, err := p.configured()
	if err != nil {
		return "", err
	}
	return h.Dir, nil
}

// find is the directory, which is there.
func (p *historyPlace) find() (string, error) {
	dir, err := p.named()
	if err != nil {
		return "", err
	}
	if _, err := os.ReadDir(dir); err != nil {
		return "", fmt.Errorf("there is no history: %w", err)
	}
	return dir, nil
}

// completeSeries offers the series of the history.
func (p *historyPlace) completeSeries(_ *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
	dir, err := p.find()
	if err != nil {
		return nil, cobra.ShellCompDirectiveError
	}
	names, err := history.Names(dir)
	if err != nil {
		return nil, cobra.ShellCompDirectiveError
	}
	return names, cobra.ShellCompDirectiveNoFileComp
}

// spanFlags adds those that say which time is asked for.
func spanFlags(cmd *cobra.Command, s *history.Span) {
	f := cmd.Flags()
	f.StringVar(&s.From, "from", "", "windows that begin at this `time` or later")
	f.StringVar(&s.To, "to", "", "windows that begin before this `time`, or on this day or before it")
	f.StringVar(&s.On, "on", "", "windows that begin on this `day`")
	f.StringVar(&s.Since, "since", "", "windows that begin at this `time` or later; not with --from and --to")
}

// aTime says what a time may be.
const aTime = `A time is 2026-11-29, 2026-11-29T10:00, 2026-11-29T10:00:30, also with Z or an offset
such as +01:00 behind it, or how long ago it is: 90s, 30m, 12h or 2d. Without an offset
it is of the local zone, whose days these are too (TZ=UTC changes that). A window
counts to the time at which it begins.`

// times are the begin and the end of a span.
func times(s history.Span) (from, to time.Time, err error) {
	if from, to, err = s.Times(time.Now(), time.Local); err != nil {
		return from, to, usageError{err}
	}
	return from, to, nil
}
