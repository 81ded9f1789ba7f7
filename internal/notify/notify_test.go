package notify_test

import (
	"fmt"
	"strings"
	"testing"
	"time"
)

func TestARuleAndKeyAreToldOncePerEvery(t *testing.T) {
	h := newHook(t, 200)
	inPlace(t, h.everyone(", every: 15m"), func(p *place) {
		for _, row := range []struct {
			after time.Duration
			what  string
			users string
			want  string // key and suppressed of what is told
		}{
			{0, "the first firing is told", "alice", "alice 0"},
			{0, "the next ones are not", "alice alice", ""},
			{0, "another key's first one is", "bob", "bob 0"},
			{15*time.Minute - 1, "just before the time is over, none is", "alice", ""},
			{1, "then the next one is, with the number of those in between", "alice", "alice 3"},
			{0, "which begins anew", "alice", ""},
			{15 * time.Minute, "as long as it fires", "alice bob", "alice 1; bob 0"},
		} {
			p.pass(row.after)
			for user := range strings.FieldsSeq(row.users) {
				p.rcpt(user)
			}
			p.settle()
			if got := h.told(p.T, "key", "suppressed"); got != row.want {
				p.Errorf("%s: told %q, want %q", row.what, got, row.want)
			}
		}
		p.wantNumbers("sent 5, failed 0, dropped 0, suppressed 4, queued 0")
		p.wantLog()
	})
}

// Thousands of keys may fire at one time.
func TestAnHourHasABound(t *testing.T) {
	h := newHook(t, 200)
	inPlace(t, h.everyone(""), func(p *place) {
		for i := range 150 {
			p.rcpt(fmt.Sprintf("user%d", i))
			p.settle()
		}
		if n := len(h.took()); n != 100 {
			p.Errorf("%d were told", n)
		}
		p.wantLog(`level=WARN msg="notifications are dropped" target=chat firings=1 reason="there were as many in this hour as there may be"`)
		p.pass(time.Minute)
		p.rcpt("user120")
		p.wantLog(`level=WARN msg="notifications are dropped" target=chat firings=50 reason="there were as many in this hour as there may be"`)
		p.pass(59 * time.Minute)
		p.rcpt("user120")
		p.rcpt("user121")
		p.settle()
		if got, want := h.told(p.T, "key", "suppressed", "dropped"), "user120 0 51; user121 0 0"; got != want {
			p.Errorf("told %q, want %q", got, want)
		}
	})
}

func TestAFullQueueIsCounted(t *testing.T) {
	h := newHook(t, 503)
	inPlace(t, h.everyone(""), func(p *place) {
		for i := range 70 {
			p.rcpt(fmt.Sprintf("user%d", i))
			p.settle()
		}
		p.wantNumbers("sent 0, failed 0, dropped 5, suppressed 0, queued 64")
		p.wantLog(
			`level=WARN msg="a notification cannot be delivered now; trying again" target=chat rule=quota key=user0 for=1h0m0s error="the webhook answers 503 Service Unavailable: this is 503"`,
			`level=WARN msg="notifications are dropped" target=chat firings=1 reason="the queue is full"`)
		h.took()
		h.answer(200)
		p.pass(time.Second)
		p.wantNumbers("sent 65, failed 0, dropped 5, suppressed 0, queued 0")
		p.rcpt("user69")
		p.settle()
		if got := h.told(p.T, "key", "dropped"); !strings.HasSuffix(got, "user64 0; user69 5") {
			p.Errorf("told %q", got)
		}
	})
}

func TestReplacedTargetsKeepTheirState(t *testing.T) {
	before, after, other := newHook(t, 200), newHook(t, 200), newHook(t, 200)
	inPlace(t, before.everyone(""), func(p *place) {
		p.rcpt("alice")
		p.settle()
		before.took()
		before.answer(503)
		p.rcpt("bob")
		p.settle()

		p.notifier.Replace(p.parse(after.everyone(", every: 2h")).Notify)
		p.rcpt("alice")
		p.rcpt("carol")
		p.pass(time.Second)
		if got, want := after.told(p.T, "key", "suppressed"), "bob 0; carol 0"; got != want {
			p.Errorf("the new address was told %q, want %q", got, want)
		}
		p.wantNumbers("sent 3, failed 0, dropped 0, suppressed 1, queued 0")

		after.answer(503, 200)
		p.rcpt("dave")
		p.settle()
		p.notifier.Replace(p.parse(strings.ReplaceAll(other.everyone(""), "chat", "ops")).Notify)
		p.settle()
		if got, want := after.told(p.T, "key"), "dave; dave"; got != want {
			p.Errorf("the target that goes was told %q, want %q", got, want)
		}
		p.rcpt("erin") // by a policy that names one who is gone
		p.settle()
		if got := after.told(p.T, "key") + other.told(p.T, "key"); got != "" {
			p.Errorf("told %q", got)
		}
		p.wantNumbers("sent 0, failed 0, dropped 0, suppressed 0, queued 0")
	})
}
