package main

import (
	"fmt"
	"log/slog"
	"os"
	"time"

	"github.com/spf13/cobra"

	"github.com/audit-milter/audit-milter/internal/config"
	"github.com/audit-milter/audit-milter/internal/history"
)

func historyMaintainCommand() *cobra.Command {
	var dir, retention, maxSize string
	var minCount int64
	cmd := &cobra.Command{
		Use:   "maintain --dir DIR",
		Short: "Make few files of many, and delete the oldest",
		Long: `Does once what the daemon does every five minutes, for a history that no daemon writes
to, or from cron. All files of a day that is over become one; those that it replaces are
deleted by the next run, at least four minutes later, so that no question that is
answered just now misses them. The bounds should be those of the daemon, if there is one.
While another process does this, there is nothing to do, and the exit status is 1.`,
		Example: `  audit-milter history maintain --dir /var/lib/audit-milter/history --retention 90d`,
		Args:    exactly(0, "write audit-milter history maintain --dir DIR"),
		RunE: func(cmd *cobra.Command, _ []string) error {
			m, err := aMaintainer(dir, retention, maxSize, minCount)
			if err != nil {
				return usageError{err}
			}
			if _, err := os.ReadDir(dir); err != nil {
				return fmt.Errorf("there is no history to maintain: %w", err)
			}
			m.Log = slog.New(slog.NewTextHandler(cmd.ErrOrStderr(), nil))
			if err := m.Once(cmd.Context(), time.Now()); err != nil {
				return err
			}
			s := m.Stats()
			fmt.Fprintf(cmd.OutOrStdout(), "%d files were merged, %d were too old, %d too much\n", s.Merged, s.Expired, s.Oversize)
			return nil
		},
	}
	f := cmd.Flags()
	f.StringVar(&dir, "dir", "", "the `directory` of the history")
	f.StringVar(&retention, "retention", "30d", "delete files whose windows all began before this `time`")
	f.StringVar(&maxSize, "max-size", "10GiB", "delete the oldest files of more than so many `bytes`")
	f.Int64Var(&minCount, "min-count", 1, "keep keys of a window below this `number` as one, without a key")
	if err := cmd.MarkFlagDirname("dir"); err != nil {
		panic(err)
	}
	return cmd
}

func aMaintainer(dir, retention, maxSize string, minCount int64) (*history.Maintainer, error) {
	m := &history.Maintainer{Dir: dir, MinCount: minCount}
	var err error
	switch {
	case dir == "":
		return nil, fmt.Errorf("--dir DIR is needed, the directory of the history")
	case minCount < 1:
		return nil, fmt.Errorf("--min-count %d: must be 1 or more", minCount)
	}
	if m.Retention, err = config.ParseDuration(retention); err == nil && m.Retention < time.Hour {
		err = fmt.Errorf("must be 1h or more, not %s", retention)
	}
	if err != nil {
		return nil, fmt.Errorf("--retention: %w", err)
	}
	if m.MaxSize, err = config.ParseSize(maxSize); err == nil && m.MaxSize < 1<<20 {
		err = fmt.Errorf("must be 1MiB or more, not %s", maxSize)
	}
	if err != nil {
		return nil, fmt.Errorf("--max-size: %w", err)
	}
	return m, nil
}
