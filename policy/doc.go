// Package policy judges the steps of an SMTP dialogue on what was counted. An
// [Event] is what is known at a step; [Engine.Decide] counts it in the series
// that want it, asks the stage's rules in file order, and returns a [Verdict],
// a value that carries its rule, series, key, windows, count and threshold.
//
// It promises that a decision depends on the event, the counts and the time
// given, and on nothing else; that the event in hand is counted before it is
// judged; that an absent key is never counted and never holds; and that
// whatever a client sent is harmless in a reply, a header or a log line.
//
// It is not for frames, sockets and outcomes, which are the milter room's, nor
// for windows and keys in number, which are series', nor for YAML:
// internal/config makes a [Policy], and [Policy.Check] says where it is wrong.
//
// To add an attribute: its field in event.go, its row in attribute.go, how a macro's
// text becomes it in setters.go, and where the MTA gives it in milter/macros.go. To add
// a verdict: rule.go, verdict.go and milter/answer.go. A stage: stage.go. A comparison:
// rule.go and condition.go.
//
// # Files
//
//   - event.go, setters.go, attribute.go, normal.go: what is known, and its one
//     spelling
//   - rule.go, check.go, notes.go, describe.go: a policy as declared, what is
//     wrong with it, what to know of it
//   - when.go, list.go, table.go, entry.go, template.go, reply.go, key.go: its texts,
//     compiled
//   - answers.go: how long what a `when` said holds
//   - engine.go, add.go, judge.go, condition.go, threshold.go, penalty.go,
//     verdict.go: deciding
//   - explain.go, rulestate.go, limits.go, walk.go: what it makes of a key without an
//     event, and which keys are near a threshold
//   - uses.go: what it needs of the MTA
//   - log.go, clock.go, stats.go, recent.go: what it tells
package policy
