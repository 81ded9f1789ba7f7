package main

import (
	"fmt"
	"log/slog"
	"time"

	"github.com/spf13/cobra"

	"github.com/audit-milter/audit-milter/internal/config"
	"github.com/audit-milter/audit-milter/internal/history"
)

// upkeep is what history maintain was told.
type upkeep struct {
	historyPlace
	retention, maxSize string
	minCount           int64
}

func historyMaintainCommand() *cobra.Command {
	var u upkeep
	cmd := u.uses(&cobra.Command{
		Use:   "maintain",
		Short: "Make few files of many, and delete the oldest",
		Long: `Does once what the daemon does every five minutes, for a history that no daemon writes
to, or from cron. All files of a day that is over become one; those that it replaces are
deleted by the next run, at least four minutes later, so that no question that is
answered just now misses them. The bounds are those of the configuration, if --config
names one, unless they are given here.
While another process does this, there is nothing to do, and the exit status is 1.`,
		Example: `  audit-milter history maintain --config /etc/audit-milter/config.yaml
  audit-milter history maintain --dir /var/lib/audit-milter/history --retention 90d`,
		Args: exactly(0, "write audit-milter history maintain --dir DIR"),
		RunE: func(cmd *cobra.Command, _ []string) error {
			m, err := u.maintainer(cmd.Flags().Changed)
			if err != nil {
				return err
			}
			m.Log = slog.New(slog.NewTextHandler(cmd.ErrOrStderr(), nil))
			if err := m.Once(cmd.Context(), time.Now()); err != nil {
				return err
			}
			s := m.Stats()
			fmt.Fprintf(cmd.OutOrStdout(), "%d files were merged, %d were too old, %d too much\n", s.Merged, s.Expired, s.Oversize)
			return nil
		},
	})
	f := cmd.Flags()
	f.StringVar(&u.retention, "retention", "30d", "delete files whose windows all began before this `time`")
	f.StringVar(&u.maxSize, "max-size", "10GiB", "delete the oldest files of more than so many `bytes`")
	f.Int64Var(&u.minCount, "min-count", 1, "keep keys of a window below this `number` as one, without a key")
	return cmd
}

// maintainer has the bounds of the flags that are given, else the configuration's, else
// the flags' defaults.
func (u *upkeep) maintainer(given func(flag string) bool) (*history.Maintainer, error) {
	m, err := u.bounds()
	if err != nil {
		return nil, usageError{err}
	}
	h, err := u.configured()
	if err != nil {
		return nil, err
	}
	if h != nil && !given("retention") {
		m.Retention = h.Retention
	}
	if h != nil && !given("max-size") {
		m.MaxSize = h.MaxSize
	}
	if h != nil && !given("min-count") {
		m.MinCount = h.MinCount
	}
	m.Dir, err = u.find()
	return m, err
}

// bounds are those of the flags.
func (u *upkeep) bounds() (m *history.Maintainer, err error) {
	m = &history.Maintainer{MinCount: u.minCount}
	if u.minCount < 1 {
		return nil, fmt.Errorf("--min-count %d: must be 1 or more", u.minCount)
	}
	if m.Retention, err = config.ParseDuration(u.retention); err == nil && m.Retention < time.Hour {
		err = fmt.Errorf("must be 1h or more, not %s", u.retention)
	}
	if err != nil {
		return nil, fmt.Errorf("--retention: %w", err)
	}
	if m.MaxSize, err = config.ParseSize(u.maxSize); err == nil && m.MaxSize < 1<<20 {
		err = fmt.Errorf("must be 1MiB or more, not %s", u.maxSize)
	}
	if err != nil {
		return nil, fmt.Errorf("--max-size: %w", err)
	}
	return m, nil
}
