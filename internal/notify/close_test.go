package notify_test

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

func TestCloseTriesWhatWaitsOnceMore(t *testing.T) {
	h := newHook(t, 503)
	synctest.Test(t, func(t *testing.T) {
		p := open(t, h.everyone(""))
		for _, user := range []string{"alice", "bob", "carol"} {
			p.rcpt(user)
		}
		p.settle()
		p.log.take()
		h.took()
		h.answer(200, 503)
		begin := time.Now()
		p.notifier.Close(3 * time.Second)
		if got, want := h.told(t, "key"), "alice; bob; carol"; got != want || time.Now() != begin {
			t.Errorf("told %q after %v, want %q at once", got, time.Since(begin), want)
		}
		p.wantNumbers("sent 1, failed 2, dropped 0, suppressed 0, queued 0")
		p.wantLog(
			`level=ERROR msg="a notification was not delivered" target=chat rule=quota key=bob error="the webhook answers 503 Service Unavailable: this is 503"`,
			`level=ERROR msg="a notification was not delivered" target=chat rule=quota key=carol error="the webhook answers 503 Service Unavailable: this is 503"`)
		p.rcpt("dave") // too late, and no harm
	})
}

// A server that takes the connection and never answers holds nobody up. Outside
// of a bubble, since there no time passes as long as a server is waited for.
func TestCloseHasABound(t *testing.T) {
	h, asked := newHangingHook(t, func(http.ResponseWriter) {})
	p := open(t, h.everyone(""))
	p.rcpt("alice")
	<-asked
	p.rcpt("bob")
	p.notifier.Close(10 * time.Millisecond)
	log := p.log.take()
	if strings.Count(log, `a notification was not delivered`) != 2 || strings.Count(log, `error="audit-milter is stopping"`) < 2 {
		t.Errorf("logged %s", log)
	}
}

// refusedWithoutEnd is what is logged when a webhook answers and its text does not come.
func refusedWithoutEnd(t *testing.T, answer func(http.ResponseWriter)) string {
	h, asked := newHangingHook(t, func(w http.ResponseWriter) {
		answer(w)
		w.(http.Flusher).Flush()
	})
	p := open(t, h.everyone(""))
	p.rcpt("alice")
	<-asked
	p.notifier.Close(time.Second)
	return p.log.take()
}

// A refusal is one as soon as its status is there, whatever becomes of its text.
func TestARefusalWhoseTextDoesNotEnd(t *testing.T) {
	for _, code := range []int{http.StatusNotFound, http.StatusServiceUnavailable} {
		log := refusedWithoutEnd(t, func(w http.ResponseWriter) { w.WriteHeader(code) })
		if want := fmt.Sprintf(`error="the webhook answers %d %s: "`, code, http.StatusText(code)); !strings.Contains(log, want) {
			t.Errorf("logged %s, want %s", log, want)
		}
	}
}

// Behind an answer of 101 the connection is no more HTTP's, whose time-outs end nothing then.
func TestAWebhookThatSwitchesProtocols(t *testing.T) {
	log := refusedWithoutEnd(t, func(w http.ResponseWriter) {
		w.Header().Set("Connection", "Upgrade")
		w.Header().Set("Upgrade", "chat")
		w.WriteHeader(http.StatusSwitchingProtocols)
	})
	if !strings.Contains(log, `msg="a notification was not delivered"`) || !strings.Contains(log, `error="the webhook answers 101 Switching Protocols: "`) {
		t.Errorf("logged %s", log)
	}
}
