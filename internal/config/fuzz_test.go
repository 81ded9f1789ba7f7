package config

import (
	"fmt"
	"net/netip"
	"os"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/audit-milter/audit-milter/policy"
)

// fuzzedList is the one file that a fuzzed configuration can read.
const fuzzedList = "192.0.2.0/24\nmx # a comment\n\n2001:db8::/32\na@example.com\n@example.net\n.example.org\n"

// FuzzParse: no file panics, every error stands in the text that it is about,
// and what loads describes itself, passes the policy's own check and makes an
// engine that decides. What is read twice is the same both times.
func FuzzParse(f *testing.F) {
	for _, pattern := range []string{"testdata/bad/*.yaml", "testdata/good/*.yaml", "../../*.yaml", "../../examples/*.yaml"} {
		for _, path := range glob(f, pattern) {
			data, err := os.ReadFile(path)
			if err != nil {
				f.Fatal(err)
			}
			f.Add(data)
		}
	}
	files := map[string]string{"lists/networks.txt": fuzzedList}
	f.Fuzz(func(t *testing.T, data []byte) {
		if len(data) > 64<<10 {
			return // longer ones only take longer
		}
		// A run of limited time would not notice an input without an end.
		defer time.AfterFunc(10*time.Second, func() { panic("no end in sight") }).Stop()
		c, err := parse("audit.yaml", data, readMap(files))
		again, errAgain := parse("audit.yaml", data, readMap(files))
		if got, want := fmt.Sprint(errAgain), fmt.Sprint(err); got != want {
			t.Fatalf("read again, it says\n%s\nand not\n%s", got, want)
		}
		if err != nil {
			checkErrors(t, err.(Errors), map[string]string{"audit.yaml": string(data), "lists/networks.txt": fuzzedList})
			return
		}
		if got, want := described(again), described(c); got != want {
			t.Fatalf("read again, it means\n%s\nand not\n%s", got, want)
		}
		checkLoaded(t, c)
	})
}

// checkErrors looks at what an editor needs to show the errors.
func checkErrors(t *testing.T, errs Errors, files map[string]string) {
	t.Helper()
	if len(errs) == 0 {
		t.Error("an error that says nothing")
	}
	for _, e := range errs {
		text, known := files[e.File]
		lines := strings.Split(strings.TrimPrefix(text, string(byteOrderMark)), "\n")
		switch {
		case !known || e.Msg == "" || strings.ContainsAny(e.Msg, "\r\n"):
			t.Errorf("no error to show: %+v", e)
		case e.Line < 1 || e.Line > len(lines):
			t.Errorf("%v: there are %d lines", e, len(lines))
		case e.Column < 1 || e.Column > 1+utf8.RuneCountInString(lines[e.Line-1]):
			t.Errorf("%v: the line is %q", e, lines[e.Line-1])
		}
	}
}

// described is what a configuration says of itself.
func described(c *Config) string {
	p := c.Policy
	var b strings.Builder
	fmt.Fprintln(&b, c.Listen, c.Log, c.StateDir, c.History, c.Lists, p.Shadow, p.OnError, p.LogRepeats, c.MaxDelayed)
	for _, s := range p.Series {
		fmt.Fprintln(&b, s.Definition, s.Persist, s.Serialize, s.Adds)
	}
	for _, r := range p.Rules {
		fmt.Fprintln(&b, r)
	}
	fmt.Fprintln(&b, p.Notes())
	return b.String()
}

func checkLoaded(t *testing.T, c *Config) {
	t.Helper()
	if errs := c.Policy.Check(); len(errs) > 0 {
		t.Errorf("loaded in spite of %v", errs[0])
	}
	if len(c.Listen) == 0 {
		t.Error("loaded without a socket")
	}
	engine, err := policy.NewEngine(c.Policy, policy.Options{})
	if err != nil {
		t.Fatalf("loaded, but has no engine: %v", err)
	}
	defer engine.Close()
	if !loops(c.Policy) {
		checkDecisions(t, engine)
	}
}

// loops reports whether an expression makes long lists of its own: what it does
// with them may take as long as it likes.
func loops(p *policy.Policy) bool {
	long := func(w *policy.When) bool {
		return w != nil && (strings.Contains(w.String(), "..") || strings.Contains(w.String(), "repeat"))
	}
	for _, s := range p.Series {
		for _, a := range s.Adds {
			if long(a.When) {
				return true
			}
		}
	}
	for _, r := range p.Rules {
		if long(r.When) {
			return true
		}
	}
	return false
}

// checkDecisions lets the engine decide a message's way, twice, from two
// clients. An expression that cannot be evaluated, such as a division by
// zero, is an error that a loaded policy may have.
func checkDecisions(t *testing.T, engine *policy.Engine) {
	t.Helper()
	now := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	for _, client := range []string{"192.0.2.1", "192.0.2.1", "2001:db8::1"} {
		ev := &policy.Event{}
		ev.SetClient(netip.MustParseAddr(client), 4711, "mx.example.com")
		ev.SetHelo("mx.example.com")
		ev.SetSender("<A@Example.com>")
		ev.SetText(policy.SASLUsername, "alice")
		ev.SetRecipient("<b@example.org>")
		ev.SetHeader("From", "Alice <a@example.com>")
		for stage := policy.Connect; stage <= policy.EOM; stage++ {
			v, _ := engine.Decide(ev, stage, now)
			if v.Delay < 0 || v.Delay > policy.MaxDelay {
				t.Errorf("at %s the answer waits %s", stage, v.Delay)
			}
			if refuses := v.Refuses() && v.Action != policy.Discard; refuses != (v.Reply.Code > 0) {
				t.Errorf("at %s %s is answered %q", stage, v.Action, v.Reply)
			}
			if v.RefusesAt(stage) {
				engine.Refuse(ev, v, now)
			}
		}
		for outcome := policy.RcptRefused; outcome <= policy.End; outcome++ {
			engine.Count(ev, outcome, now)
		}
	}
}
