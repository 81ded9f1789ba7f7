package notify

import (
	"fmt"
	"strings"
	"time"

	"github.com/audit-milter/audit-milter/policy"
)

// notice is what a target is told, and as JSON what a webhook gets
// (docs/notify.md). All its texts are printable and on one line.
type notice struct {
	Text    string `json:"text"`
	Node    string `json:"node"`
	Time    string `json:"time"` // RFC 3339, UTC
	Rule    string `json:"rule"`
	Verdict string `json:"verdict"`
	Shadow  bool   `json:"shadow"`
	Stage   string `json:"stage"`
	Reply   string `json:"reply,omitempty"`
	Key     string `json:"key"` // without conditions: the client

	*measure // nil for a rule without conditions

	Client     string `json:"client_address"`
	Sender     string `json:"sender"`
	Recipient  string `json:"recipient"`
	Session    string `json:"session"`
	QueueID    string `json:"queue_id"`
	Suppressed int    `json:"suppressed"`
	Dropped    int    `json:"dropped"`

	at     time.Time
	queued time.Time     // by the clock that attempts go by
	since  time.Duration // the last notification of the rule and key; 0 for the first
	why    string
	id     string // of the mail, the same at each attempt
}

// measure are the numbers that were compared.
type measure struct {
	Series     string           `json:"series"`
	Network    string           `json:"network,omitempty"`
	Windows    string           `json:"windows"`
	Count      int64            `json:"count"`
	Threshold  policy.Threshold `json:"threshold"` // a number, or a text such as 50%
	RetryAfter int64            `json:"retry_after_seconds"`
}

// newNotice copies what is told of a firing, since the event goes on.
func newNotice(f policy.Firing, last *told, dropped int) *notice {
	v := f.Verdict
	n := &notice{
		Node:      f.Text(policy.Node),
		Time:      f.At.UTC().Format(time.RFC3339),
		Rule:      v.Rule,
		Verdict:   v.Action.String(),
		Shadow:    v.Shadow,
		Stage:     v.Stage.String(),
		Key:       policy.Printable(f.Key()),
		Client:    f.Text(policy.ClientAddress),
		Sender:    f.Text(policy.Sender),
		Recipient: f.Text(policy.Recipient),
		Session:   f.Text(policy.Session),
		QueueID:   f.Text(policy.QueueID),
		Dropped:   dropped,
		at:        f.At,
		queued:    time.Now(),
		why:       f.Why(),
	}
	if v.Reply.Code != 0 {
		n.Reply = v.Reply.String()
	}
	if v.Series != "" {
		n.measure = newMeasure(v)
	}
	if last != nil {
		n.Suppressed, n.since = last.suppressed, f.At.Sub(last.at).Abs()
	}
	n.Text = n.chatText()
	return n
}

func newMeasure(v *policy.Verdict) *measure {
	return &measure{
		Series:     v.Series,
		Network:    v.Network,
		Windows:    v.Windows(),
		Count:      v.Count,
		Threshold:  v.Threshold,
		RetryAfter: int64(policy.FullSeconds(v.RetryAfter) / time.Second),
	}
}

// deeds are what a rule does to whom, and would do in shadow.
var deeds = map[string][2]string{
	"continue":   {"fires for", "fire for"},
	"accept":     {"accepts", "accept"},
	"tempfail":   {"refuses", "refuse"},
	"reject":     {"refuses", "refuse"},
	"disconnect": {"disconnects", "disconnect"},
	"discard":    {"discards mail of", "discard mail of"},
	"quarantine": {"holds mail of", "hold mail of"},
}

// headline says in a line what happened to whom.
func (n *notice) headline(whom string) string {
	deed := deeds[n.Verdict][0]
	if n.Shadow {
		deed = "would " + deeds[n.Verdict][1]
	}
	return fmt.Sprintf("%s: rule %s %s %s", n.Node, n.Rule, deed, whom)
}

// chatText tells all of it in a few sentences.
func (n *notice) chatText() string {
	text := n.headline(code(n.Key)) + " at " + n.Stage
	if n.why != "" {
		text += ": " + code(n.why)
	}
	return strings.Join(append([]string{text}, n.untold()...), ". ") + "."
}

// untold says how much was not told since the last time.
func (n *notice) untold() (sentences []string) {
	if n.Suppressed > 0 {
		sentences = append(sentences, fmt.Sprintf("It fired %s more in the %s since the last notification", times(n.Suppressed), policy.DurationText(n.since)))
	}
	if n.Dropped > 0 {
		sentences = append(sentences, fmt.Sprintf("Before this one, rules fired %s without a notification, since there were too many", times(n.Dropped)))
	}
	return sentences
}

func times(n int) string {
	if n == 1 {
		return "once"
	}
	return fmt.Sprintf("%d times", n)
}

// code is a text that a client may have chosen, as a chat shows it and does not
// act on it: no mention, no link, no mark-up.
func code(text string) string {
	return "`" + strings.NewReplacer("`", "'", "<", "‹", ">", "›").Replace(text) + "`"
}
