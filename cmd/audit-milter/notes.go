package main

import (
	"fmt"
	"log/slog"
	"slices"

	"github.com/audit-milter/audit-milter/internal/config"
	"github.com/audit-milter/audit-milter/policy"
)

// notes are what an admin should know of a configuration that is right.
func notes(conf *config.Config) []string {
	return slices.Concat(conf.Policy.Notes(), sessionNotes(conf), delayNotes(conf), idleNotes(conf), notifyNotes(conf), historyNotes(conf))
}

// tellNotes logs them, for who starts or reloads without a check.
func tellNotes(conf *config.Config, log *slog.Logger) {
	for _, note := range notes(conf) {
		log.Info("a note on the configuration", "note", note)
	}
}

// sessionNotes name the rules that wait for more open sessions than this node serves.
// After a reload that lowers max_sessions there may be more for a while.
func sessionNotes(conf *config.Config) (notes []string) {
	for _, r := range conf.Policy.Rules {
		for _, c := range slices.Concat(r.If, r.Any) {
			most := int64(conf.MaxSessions)
			if c.Op == policy.Above {
				most--
			}
			switch {
			case c.Series != policy.OpenSessions || c.Threshold.Unit != policy.Plain || c.Table != nil || c.Op != policy.Above && c.Op != policy.AtLeast:
			case conf.Cluster != nil && c.Scope != policy.NodeScope: // all nodes together may have more
			case c.Threshold.N > most:
				notes = append(notes, fmt.Sprintf("rule %s: no more than max_sessions %d are open, so open_sessions is never %s %s", r.Name, conf.MaxSessions, c.Op.Words(), c.Threshold))
			}
		}
	}
	return notes
}

// delayNotes name the rules whose delay has no room.
func delayNotes(conf *config.Config) (notes []string) {
	for _, r := range conf.Policy.Rules {
		if r.Delay > 0 && conf.MaxDelayed == 0 {
			notes = append(notes, fmt.Sprintf("rule %s: max_delayed is 0, so its delay never waits", r.Name))
		}
	}
	return notes
}

// idleNotes name what no series uses: each has to say that it does.
func idleNotes(conf *config.Config) (notes []string) {
	none := func(uses func(*policy.Series) bool) bool { return !slices.ContainsFunc(conf.Policy.Series, uses) }
	penalty := func(r *policy.Rule) bool { return r.Penalty > 0 }
	if conf.StateDir != "" && none(func(s *policy.Series) bool { return s.Persist }) && !slices.ContainsFunc(conf.Policy.Rules, penalty) {
		notes = append(notes, "state_dir: no series has persist: true and no rule a penalty, so nothing is kept there")
	}
	if conf.Cluster != nil && none(func(s *policy.Series) bool { return s.Replicate != policy.None }) {
		notes = append(notes, "cluster: no series has replicate, so each node counts by itself, but for open_sessions and penalties")
	}
	if conf.History != nil && none(func(s *policy.Series) bool { return s.Serialize }) {
		notes = append(notes, "history: no series has serialize: true, so nothing is kept there")
	}
	return notes
}

// notifyNotes name the targets that no rule names.
func notifyNotes(conf *config.Config) (notes []string) {
	for _, t := range conf.Notify {
		if !slices.ContainsFunc(conf.Policy.Rules, func(r *policy.Rule) bool { return slices.Contains(r.Notify, t.Name) }) {
			notes = append(notes, fmt.Sprintf("notify %s: no rule names it, so it is never told anything", t.Name))
		}
	}
	return notes
}

// historyNotes name the series that serialize in vain, or elsewhere.
func historyNotes(conf *config.Config) (notes []string) {
	for _, s := range conf.Policy.Series {
		if s.Serialize && !conf.History.Takes(s.Name) {
			notes = append(notes, fmt.Sprintf("series %s: serialize has no effect, since include and exclude of the history leave it out", s.Name))
		}
		if s.Serialize && s.Replicate != policy.None && conf.Cluster.Role != config.RoleManager {
			notes = append(notes, fmt.Sprintf("series %s: serialize is left to managers, since it replicates and this is a node", s.Name))
		}
	}
	return notes
}
