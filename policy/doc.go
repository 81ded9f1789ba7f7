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
// # Where to begin
//
//   - event.go: what is known at a step, and attribute.go by which names
//   - rule.go: a policy as declared, and check.go what is wrong with it
//   - engine.go: deciding, by add.go, then judge.go and condition.go
//   - verdict.go: what comes of it, and log.go how that is told
//
// What these call is in files named after it.
package policy
