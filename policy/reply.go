package policy

import (
	"fmt"
	"regexp"
	"strconv"
)

// replyTemplate is a rule's reply, split at load.
type replyTemplate struct {
	code     int
	enhanced string
	text     *Template // nil: the verdict's sentence
}

// defaultReplies are the codes of a verdict whose reply has none.
var defaultReplies = map[Action]replyTemplate{
	Tempfail:   {451, "4.7.1", nil},
	Reject:     {550, "5.7.1", nil},
	Disconnect: {421, "4.7.0", nil},
}

var replyCode = regexp.MustCompile(`^(?:(\d{3})(?:[ -]+|$))?(?:(\d\.\d{1,3}\.\d{1,3})(?: +|$))?`)

// newReply splits off the code and the enhanced status code of a text and
// checks that they fit the action.
func newReply(text *Template, a Action) (replyTemplate, error) {
	reply, ok := defaultReplies[a]
	switch {
	case text == nil:
		return reply, nil
	case !ok:
		return reply, fmt.Errorf("a reply belongs to tempfail, reject or disconnect")
	}
	m := replyCode.FindStringSubmatch(text.source)
	if m[1] != "" {
		reply.code, _ = strconv.Atoi(m[1])
	}
	if err := fits(reply.code, a); err != nil {
		return reply, err
	}
	if m[2] != "" {
		reply.enhanced = m[2]
	}
	if class := strconv.Itoa(reply.code / 100); reply.enhanced[:1] != class {
		return reply, fmt.Errorf("the enhanced status code %s contradicts %d; it must begin with %s", m[2], reply.code, class)
	}
	rest, err := ParseTemplate(text.source[len(m[0]):])
	if err != nil || len(rest.parts) == 0 {
		return reply, fmt.Errorf("a reply needs a text after its code")
	}
	reply.text = rest
	return reply, nil
}

// fits checks a reply code against the verdict that it answers for.
func fits(code int, a Action) error {
	right := false
	switch a {
	case Tempfail:
		right = code/100 == 4 && code != 421
	case Reject:
		right = code/100 == 5 && code != 521
	case Disconnect:
		right = code == 421
	}
	switch {
	case right:
		return nil
	case code == 421:
		return fmt.Errorf("421 closes the connection, which contradicts then: %s; write then: disconnect or another 4xx code", a)
	case a == Disconnect:
		return fmt.Errorf("%d contradicts then: disconnect, whose code is 421", code)
	case code == 521:
		return fmt.Errorf("521 closes the connection on some MTAs; write then: disconnect, or another 5xx code such as 550")
	}
	return fmt.Errorf("%d contradicts then: %s; write a code such as %d, or leave the code out", code, a, defaultReplies[a].code)
}

// render makes the reply to this verdict.
func (r *replyTemplate) render(ev *Event, v *Verdict) Reply {
	reply := Reply{Code: r.code, Enhanced: r.enhanced}
	if r.text == nil {
		reply.Text = bounded(harmless(v.sentence()))
	} else {
		reply.Text = r.text.render(ev, v)
	}
	return reply
}
