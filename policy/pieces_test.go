package policy_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/audit-milter/audit-milter/policy"
)

// A key may be a piece of a longer text of the client. Who keeps the key, such as a
// penalty or the log until its minute is over, does not keep that as well.
func TestAKeyIsKeptWithoutTheTextThatItIsAPieceOf(t *testing.T) {
	w := newWorld(t, `
series:
  domains: {type: string, interval: 1m, windows: 1, max_keys: 1000, add: {at: eoh, key: from_domain}}
rules:
  - {name: r, at: eoh, if: {series: domains, above: 0}, then: reject, penalty: 1h}
`)
	const messages, length = 500, 50_000
	before := heap()
	for i := range messages {
		ev := w.client("198.51.100.7")
		ev.SetSender("<a@b.test>")
		ev.SetHeader("From", strings.Repeat("(", length)+fmt.Sprintf("<a@d%d.test>", i))
		w.decide(ev, policy.EOH)
		w.log.Reset()
		w.text.Reset()
	}
	if kept := heap() - before; len(w.engine.Penalties(w.now)) != messages || kept > messages*length/10 {
		t.Errorf("%d bytes are kept for %d penalties", kept, len(w.engine.Penalties(w.now)))
	}
}
