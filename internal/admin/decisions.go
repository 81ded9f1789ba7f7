package admin

import (
	"fmt"
	"net/http"
	"slices"
	"time"

	"github.com/audit-milter/audit-milter/policy"
)

// Decisions is the answer of /api/v1/explain for a message or a session: the
// decisions as they were taken, the first one first.
type Decisions struct {
	Decisions []Decision `json:"decisions"`
}

// Decision is one of them, with what was known of the dialogue then.
type Decision struct {
	Time              time.Time `json:"time"`
	Stage             string    `json:"stage"`
	Verdict           string    `json:"verdict"`
	Rule              string    `json:"rule"`
	Shadow            bool      `json:"shadow"`
	Session           string    `json:"session"`
	QueueID           string    `json:"queue_id,omitempty"`
	ClientAddress     string    `json:"client_address,omitempty"`
	HeloName          string    `json:"helo_name,omitempty"`
	SASLUsername      string    `json:"sasl_username,omitempty"`
	Sender            string    `json:"sender,omitempty"`
	Recipient         string    `json:"recipient,omitempty"`
	Reply             string    `json:"reply,omitempty"` // or why the message was held
	DelaySeconds      float64   `json:"delay_seconds,omitempty"`
	Reading           *Reading  `json:"reading,omitempty"`             // of the condition that fired
	PenaltySeconds    int64     `json:"penalty_seconds,omitempty"`     // for how long it still ran, where only it fired the rule
	RetryAfterSeconds int64     `json:"retry_after_seconds,omitempty"` // where a text of the rule tells it
}

func (q *question) decisions(of string, query policy.Query) (*Decisions, error) {
	recent := &q.engine.Stats().Recent
	found := recent.Find(query)
	if len(found) == 0 {
		return nil, fail(http.StatusNotFound, q.noDecision(of, recent))
	}
	answer := &Decisions{}
	for _, d := range slices.Backward(found) {
		answer.Decisions = append(answer.Decisions, decision(d))
	}
	return answer, nil
}

// noDecision says how far back decisions are kept.
func (q *question) noDecision(of string, recent *policy.Recent) string {
	since, any := recent.Since()
	if !any {
		return fmt.Sprintf("no rule has decided about %s, nor about anything else since the daemon began", of)
	}
	return fmt.Sprintf("no rule has decided about %s as far back as decisions are kept, which is %s, to %s",
		of, policy.DurationText(q.now.Sub(since)), since.UTC().Format(time.RFC3339))
}

func decision(d policy.Decision) Decision {
	a := Decision{
		Time: d.Time.UTC(), Stage: d.Stage.String(), Verdict: d.Action.String(), Rule: d.Rule, Shadow: d.Shadow,
		Session: d.Session, QueueID: d.QueueID, ClientAddress: d.ClientAddress, HeloName: d.HeloName,
		SASLUsername: d.SASLUsername, Sender: d.Sender, Recipient: d.Recipient,
		Reply: d.Reason, DelaySeconds: d.Delay.Seconds(),
		PenaltySeconds: seconds(policy.FullSeconds(d.Penalty)), RetryAfterSeconds: seconds(policy.FullSeconds(d.RetryAfter)),
	}
	if d.Reply.Code != 0 {
		a.Reply = d.Reply.String()
	}
	if d.Series != "" {
		a.Reading = readingOf(d.Measure)
	}
	return a
}
