package notify_test

import (
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func TestAWebhookGetsAllNumbers(t *testing.T) {
	h := newHook(t, 200)
	inPlace(t, h.quota(""), func(p *place) {
		p.pass(5 * time.Minute)
		for range 3 {
			p.rcpt("alice")
		}
		p.settle()
		const want = "{\"text\":\"mx1.example.com: rule quota refuses `alice` at rcpt: `3 in recipients for alice over 1 hour, above 2; try again in 55 minutes`.\"," +
			`"node":"mx1.example.com","time":"2000-01-01T00:05:00Z","rule":"quota","verdict":"tempfail","shadow":false,"stage":"rcpt",` +
			`"reply":"451 4.7.1 quota: 3 in recipients for alice over 1 hour, above 2; try again in 55 minutes","key":"alice",` +
			`"series":"recipients","windows":"0-5","count":3,"threshold":2,"retry_after_seconds":3300,` +
			`"client_address":"198.51.100.7","sender":"alice@example.com","recipient":"bob@example.org","session":"s1","queue_id":"4XyZ","suppressed":0,"dropped":0}`
		if got := strings.Join(h.took(), "\n"); got != want {
			p.Errorf("got\n%s\nwant\n%s", got, want)
		}
		if got := h.headers.Get("Content-Type"); got != "application/json" {
			p.Errorf("of type %s", got)
		}
		if h.headers.Values("Authorization") != nil {
			p.Error("with a token")
		}
		p.rcpt("alice")
		p.pass(time.Hour)
		for range 3 {
			p.rcpt("alice")
		}
		p.settle()
		if got := h.told(p.T, "text"); !strings.HasSuffix(got, "`. It fired once more in the 1 hour since the last notification.") {
			p.Errorf("told %s", got)
		}
	})
}

func TestWhatTheTextSays(t *testing.T) {
	h := newHook(t, 200)
	for _, row := range []struct{ rule, want string }{
		{"then: accept", "mx1.example.com: rule r accepts `198.51.100.7` at rcpt."},
		{"then: reject", "mx1.example.com: rule r refuses `198.51.100.7` at rcpt."},
		{"then: disconnect, mode: shadow", "mx1.example.com: rule r would disconnect `198.51.100.7` at rcpt."},
		{"then: discard", "mx1.example.com: rule r discards mail of `198.51.100.7` at rcpt."},
		{"then: quarantine, mode: shadow", "mx1.example.com: rule r would hold mail of `198.51.100.7` at rcpt."},
		{"delay: 1s", "mx1.example.com: rule r fires for `198.51.100.7` at rcpt."},
		{"if: {series: clients, mask: {ipv4: 24, ipv6: 64}, at_least: 1}",
			"mx1.example.com: rule r fires for `198.51.100.0/24` at rcpt: `1 in clients for 198.51.100.0/24 over 10 minutes, at least 1`."},
	} {
		yaml := fmt.Sprintf(`
notify: {chat: {webhook: %q}}
series: {clients: {type: ip, interval: 10m, windows: 6, add: {at: rcpt}}}
rules: [{name: r, at: rcpt, %s, notify: chat}]
`, h.URL, row.rule)
		inPlace(t, yaml, func(p *place) {
			p.rcpt("alice")
			p.settle()
			if got := h.told(p.T, "text"); got != row.want {
				p.Errorf("%s:\n%s\nwant\n%s", row.rule, got, row.want)
			}
		})
	}
}

func TestAWebhookGetsItsToken(t *testing.T) {
	h := newHook(t, 200)
	file := filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(file, []byte("s3cret\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	inPlace(t, h.everyone(", token_file: "+file), func(p *place) {
		p.rcpt("alice")
		p.settle()
		if got := h.headers.Get("Authorization"); got != "Bearer s3cret" {
			p.Errorf("Authorization: %s", got)
		}
	})
}

// The pauses double from a second to five minutes, until an hour is over.
func TestAFailureIsTriedAgainForAnHour(t *testing.T) {
	h := newHook(t, 503)
	inPlace(t, h.everyone(""), func(p *place) {
		p.rcpt("alice")
		p.settle()
		attempts, begin := len(h.took()), time.Now()
		for _, seconds := range []int{1, 2, 4, 8, 16, 32, 64, 128, 256, 300, 300, 300, 300, 300, 300, 300, 300, 300, 300, 300} {
			p.pass(time.Duration(seconds)*time.Second - 1)
			if n := len(h.took()); n != 0 {
				p.Fatalf("%v after the first attempt, there are %d more", time.Since(begin), n)
			}
			p.pass(1)
			if n := len(h.took()); n != 1 {
				p.Fatalf("%v after the first attempt, there are %d more", time.Since(begin), n)
			}
			attempts++
		}
		p.wantNumbers("sent 0, failed 1, dropped 0, suppressed 0, queued 0")
		p.wantLog(
			`level=WARN msg="a notification cannot be delivered now; trying again" target=chat rule=quota key=alice for=1h0m0s error="the webhook answers 503 Service Unavailable: this is 503"`,
			`level=ERROR msg="a notification was not delivered" target=chat rule=quota key=alice error="the webhook answers 503 Service Unavailable: this is 503"`)
		p.pass(time.Hour)
		if n := len(h.took()); n != 0 {
			p.Errorf("after that, there are %d more", n)
		}
		h.answer(200)
		p.rcpt("bob")
		p.settle()
		if got := h.told(p.T, "key"); got != "bob" {
			p.Errorf("then told %q", got)
		}
	})
}

func TestWhichAnswersAreTriedAgain(t *testing.T) {
	for _, row := range []struct {
		code  int
		again bool
	}{
		{http.StatusRequestTimeout, true},
		{http.StatusTooManyRequests, true},
		{http.StatusInternalServerError, true},
		{http.StatusBadGateway, true},
		{http.StatusMovedPermanently, false},
		{http.StatusTemporaryRedirect, false},
		{http.StatusBadRequest, false},
		{http.StatusForbidden, false},
		{http.StatusNotFound, false},
	} {
		h := newHook(t, row.code, 200)
		inPlace(t, h.everyone(""), func(p *place) {
			p.rcpt("alice")
			p.pass(time.Minute)
			if again := len(h.took()) == 2; again != row.again {
				p.Errorf("after %d tried again: %v", row.code, again)
			}
			if log := p.log.take(); !strings.Contains(log, fmt.Sprintf("this is %d", row.code)) || strings.Contains(log, "secret") {
				p.Errorf("after %d logged %s", row.code, log)
			}
		})
	}
}

// Nobody goes there, so that it does not matter what is wrong with it.
func TestARedirectionToNoAddress(t *testing.T) {
	h := newHook(t, http.StatusFound)
	h.location = "http://[::1"
	inPlace(t, h.everyone(""), func(p *place) {
		p.rcpt("alice")
		p.settle()
		p.wantNumbers("sent 0, failed 1, dropped 0, suppressed 0, queued 0")
		p.wantLog(`level=ERROR msg="a notification was not delivered" target=chat rule=quota key=alice error="the webhook answers 302 Found: this is 302"`)
	})
}

func TestAServerThatIsNotThereIsTriedAgain(t *testing.T) {
	h := newHook(t, 200)
	h.Close()
	inPlace(t, h.everyone(""), func(p *place) {
		p.rcpt("alice")
		p.pass(time.Hour)
		p.pass(5 * time.Minute)
		p.wantNumbers("sent 0, failed 1, dropped 0, suppressed 0, queued 0")
		if log := p.log.take(); !strings.Contains(log, "connection refused") || strings.Contains(log, "secret") {
			p.Errorf("logged %s", log)
		}
	})
}
