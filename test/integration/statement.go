package integration

import (
	"errors"
	"fmt"
	"net/netip"
	"net/textproto"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
)

// statements are the words that a dialogue's lines begin with, beside > and
// only.
var statements map[string]func(arg string) (func(*play) error, error)

func init() {
	statements = map[string]func(string) (func(*play) error, error){
		"client":    connects,
		"with":      goesOn,
		"<":         isTold,
		"slow":      wasSlow,
		"starttls":  plain((*client).starttls),
		"auth":      authenticates,
		"closed":    plain((*client).closed),
		"drop":      plain((*client).drop),
		"clock":     movesClock,
		"milter":    changesMilter,
		"delivered": isDelivered,
		"held":      isHeld,
		"discarded": isDiscarded,
	}
}

// plain is a statement that takes no argument and concerns the client alone.
func plain(do func(*client) error) func(string) (func(*play) error, error) {
	return func(arg string) (func(*play) error, error) {
		if arg != "" {
			return nil, fmt.Errorf("nothing stands here but the word itself, not %q", arg)
		}
		return func(p *play) error { return do(p.client) }, nil
	}
}

// connects: client ADDRESS [via SERVICE] [as NAME].
func connects(arg string) (func(*play) error, error) {
	words := strings.Fields(arg)
	if len(words)%2 == 0 {
		return nil, errors.New("write client ADDRESS [via SERVICE] [as NAME]")
	}
	from, err := netip.ParseAddr(words[0])
	if err != nil {
		return nil, err
	}
	service, name := "smtp", ""
	for i := 1; i < len(words); i += 2 {
		switch words[i] {
		case "via":
			service = words[i+1]
		case "as":
			name = words[i+1]
		default:
			return nil, fmt.Errorf("%q; write client ADDRESS [via SERVICE] [as NAME]", words[i])
		}
	}
	return func(p *play) error { return p.connect(from, service, name) }, nil
}

// goesOn: with NAME.
func goesOn(name string) (func(*play) error, error) {
	return func(p *play) error {
		c, ok := p.named[name]
		if !ok {
			return fmt.Errorf("no client is called %q", name)
		}
		p.client = c
		return nil
	}, nil
}

func sends(lines []line) (func(*play) error, error) {
	var text []string
	for _, l := range lines {
		s, err := unquote(strings.TrimPrefix(strings.TrimPrefix(l.text, ">"), " "))
		if err != nil {
			return nil, err
		}
		text = append(text, s)
	}
	return func(p *play) error { return p.client.send(text) }, nil
}

// isTold: < CODE [part of the text].
func isTold(want string) (func(*play) error, error) {
	code, text, _ := strings.Cut(want, " ")
	if !regexp.MustCompile(`^\d{3}$`).MatchString(code) {
		return nil, fmt.Errorf("%q does not begin with a reply code", want)
	}
	return func(p *play) error {
		reply, err := p.client.reply()
		if err != nil {
			return err
		}
		told := p.mta.echo(reply)
		if !strings.HasPrefix(reply, code) || !strings.Contains(told, text) {
			return fmt.Errorf("the server said %q", reply)
		}
		return wellFormed(told)
	}, nil
}

// replyLine is a line of a reply as every client understands it.
var replyLine = regexp.MustCompile(`^\d{3}[ -][ -~]*$`)

// wellFormed holds a reply against RFC 5321: one code on all lines, printable
// ASCII, and 512 bytes a line with its end.
func wellFormed(reply string) error {
	for line := range strings.SplitSeq(reply, "\n") {
		if !replyLine.MatchString(line) || line[:3] != reply[:3] || len(line) > 510 {
			return fmt.Errorf("%q is no line of a reply", line)
		}
	}
	return nil
}

// wasSlow: slow DURATION says that the last reply came at least so long after
// what the client said.
func wasSlow(arg string) (func(*play) error, error) {
	d, err := time.ParseDuration(arg)
	return func(p *play) error {
		if p.client.waited < d {
			return fmt.Errorf("the reply came after %v", p.client.waited)
		}
		return nil
	}, err
}

// authenticates: auth USER PASSWORD.
func authenticates(arg string) (func(*play) error, error) {
	user, password, ok := strings.Cut(arg, " ")
	if !ok {
		return nil, errors.New("write auth USER PASSWORD")
	}
	return func(p *play) error { return p.client.auth(user, password) }, nil
}

func movesClock(how string) (func(*play) error, error) {
	return func(p *play) error { return p.clock.move(how) }, nil
}

// changesMilter: milter idle, sessions N, reload FILE [fails], drain, stop, kill once KEY
// counts, or start.
func changesMilter(how string) (func(*play) error, error) {
	if n, ok := strings.CutPrefix(how, "sessions "); ok {
		n, err := strconv.Atoi(n)
		return func(p *play) error { return p.milter.sessions(n) }, err
	}
	if key, ok := strings.CutSuffix(how, " counts"); ok && strings.HasPrefix(key, "kill once ") {
		key = strings.TrimPrefix(key, "kill once ")
		return func(p *play) error { return p.milter.killOnce(key) }, nil
	}
	if file, ok := strings.CutPrefix(how, "reload "); ok {
		says := reloaded
		if bad, fails := strings.CutSuffix(file, " fails"); fails {
			file, says = bad, notReloaded
		}
		return func(p *play) error { return p.milter.reload(file, says) }, nil
	}
	do, ok := map[string]func(*daemon) error{
		"idle":  (*daemon).idle,
		"drain": (*daemon).drain,
		"stop":  (*daemon).stop,
		"start": (*daemon).start,
	}[how]
	if !ok {
		return nil, fmt.Errorf("%q; write milter idle, sessions N, reload FILE [fails], drain, stop, kill once KEY counts, or start", how)
	}
	return func(p *play) error { return do(p.milter) }, nil
}

// isDelivered: delivered [with NAME: VALUE | without NAME | in order NAME ...].
func isDelivered(arg string) (func(*play) error, error) {
	if names, ok := strings.CutPrefix(arg, "in order "); ok {
		return inOrder(strings.Fields(names)), nil
	}
	how, field, _ := strings.Cut(arg, " ")
	name, value, found := strings.Cut(field, ": ")
	name = textproto.CanonicalMIMEHeaderKey(name)
	var want []string
	switch {
	case arg == "":
		return func(p *play) error {
			_, err := p.sink.await(p.client.queued)
			return err
		}, nil
	case how == "with" && found:
		want = []string{value}
	case how != "without" || found:
		return nil, errors.New("write delivered, delivered with NAME: VALUE, delivered without NAME, or delivered in order and the names")
	}
	return func(p *play) error {
		d, err := p.sink.await(p.client.queued)
		if err != nil {
			return err
		}
		got := slices.Clone(d.header[name])
		for i := range got {
			got[i] = strings.ReplaceAll(got[i], p.client.queued, "{queued}")
		}
		if !slices.Equal(got, want) {
			err = fmt.Errorf("the message's %s is %q", name, got)
		}
		return err
	}, nil
}

// inOrder: the named fields, and no more of these names, from the top.
func inOrder(names []string) func(*play) error {
	return func(p *play) error {
		d, err := p.sink.await(p.client.queued)
		if err != nil {
			return err
		}
		got := slices.DeleteFunc(slices.Clone(d.fields), func(f string) bool { return !slices.Contains(names, f) })
		if !slices.Equal(got, names) {
			return fmt.Errorf("the message's fields are %q", d.fields)
		}
		return nil
	}
}

// isHeld: the message lies in quarantine.
func isHeld(string) (func(*play) error, error) {
	return func(p *play) error {
		_, err := os.Stat(p.mta.held(p.mta, p.client.queued))
		return err
	}, nil
}

// isDiscarded: the server was content and threw the message away.
func isDiscarded(string) (func(*play) error, error) {
	return func(p *play) error {
		id := p.client.queued
		_, err := p.mta.log.await("a line that says that "+id+" was discarded", func(line string) bool {
			return strings.Contains(line, id) && strings.Contains(strings.ToLower(line), "discard")
		})
		return err
	}, nil
}
