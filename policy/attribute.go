package policy

import (
	"fmt"
	"math/bits"
	"net/textproto"
	"strconv"
	"strings"
)

// Attribute is a fact of the dialogue that a configuration can name. Names are
// those of the Postfix policy delegation protocol wherever it has one.
type Attribute uint8

// The attributes, in the order of docs/attributes.md.
const (
	Session Attribute = iota
	Node
	ClientAddress
	ClientPort
	ClientName
	ReverseClientName
	ServerAddress
	ServerPort
	DaemonName
	HeloName
	EncryptionProtocol
	EncryptionCipher
	Sender
	SenderRaw
	SenderDomain
	Size
	SASLUsername
	SASLMethod
	SASLSender
	QueueID
	RecipientCount
	Recipient
	RecipientRaw
	RecipientDomain
	RefusedStatus
	RefusedText
	Header // one header's last value; a [Term] says which
	FromDomain
	MessageSize
	VerdictName
	RuleName
	StageName

	numAttributes
)

// Kind is the type of an attribute's value.
type Kind uint8

// The kinds of attributes.
const (
	Text Kind = iota
	Number
	Address // an IP address; text in an expression
)

// Where attributes are known. Refused happens at any stage, so everything may
// be known there; what is not is empty.
const (
	fromConnect  = StageSet(1<<numStages - 1)
	fromHelo     = fromConnect &^ (1 << Connect)
	inMessage    = fromHelo &^ (1<<Helo | 1<<End)
	fromRcpt     = inMessage &^ (1 << Mail)
	atRcpt       = StageSet(1<<Rcpt | 1<<RcptRefused | 1<<Refused)
	atRefusedTo  = StageSet(1 << RcptRefused)
	fromEOH      = StageSet(1<<EOH | 1<<EOM | 1<<Accepted | 1<<Refused)
	atEOM        = StageSet(1<<EOM | 1<<Accepted | 1<<Refused)
	atRefused    = StageSet(1 << Refused)
	messageStage = StageSet(1<<Mail | 1<<Rcpt | 1<<Data | 1<<EOH | 1<<EOM)
)

// attributes is the one table of what can be named: where it is known, which
// stages the MTA must show for it elsewhere (an attribute that every stage
// brings along, or only the stage where it is known, has no source), and how
// it is read.
var attributes = [numAttributes]struct {
	name   string
	kind   Kind
	known  StageSet
	source StageSet
	text   func(*Event) string // nil for a Number
	number func(*Event) int    // nil for the others
}{
	Session:            {"session", Text, fromConnect, 0, func(e *Event) string { return e.Session }, nil},
	Node:               {"node", Text, fromConnect, 0, func(e *Event) string { return e.Node }, nil},
	ClientAddress:      {"client_address", Address, fromConnect, Stages(Connect), func(e *Event) string { return e.ClientAddress }, nil},
	ClientPort:         {"client_port", Number, fromConnect, Stages(Connect), nil, func(e *Event) int { return e.ClientPort }},
	ClientName:         {"client_name", Text, fromConnect, Stages(Connect), func(e *Event) string { return e.ClientName }, nil},
	ReverseClientName:  {"reverse_client_name", Text, fromConnect, Stages(Connect), func(e *Event) string { return e.ReverseClientName }, nil},
	ServerAddress:      {"server_address", Address, fromConnect, Stages(Connect), func(e *Event) string { return e.ServerAddress }, nil},
	ServerPort:         {"server_port", Number, fromConnect, Stages(Connect), nil, func(e *Event) int { return e.ServerPort }},
	DaemonName:         {"daemon_name", Text, fromConnect, Stages(Connect), func(e *Event) string { return e.DaemonName }, nil},
	HeloName:           {"helo_name", Text, fromHelo, Stages(Helo), func(e *Event) string { return e.HeloName }, nil},
	EncryptionProtocol: {"encryption_protocol", Text, fromHelo, Stages(Helo), func(e *Event) string { return e.EncryptionProtocol }, nil},
	EncryptionCipher:   {"encryption_cipher", Text, fromHelo, Stages(Helo), func(e *Event) string { return e.EncryptionCipher }, nil},
	Sender:             {"sender", Text, inMessage, Stages(Mail), func(e *Event) string { return e.Sender }, nil},
	SenderRaw:          {"sender_raw", Text, inMessage, Stages(Mail), func(e *Event) string { return e.SenderRaw }, nil},
	SenderDomain:       {"sender_domain", Text, inMessage, Stages(Mail), func(e *Event) string { return e.SenderDomain }, nil},
	Size:               {"size", Number, inMessage, Stages(Mail), nil, func(e *Event) int { return e.Size }},
	SASLUsername:       {"sasl_username", Text, inMessage, Stages(Mail), func(e *Event) string { return e.SASLUsername }, nil},
	SASLMethod:         {"sasl_method", Text, inMessage, Stages(Mail), func(e *Event) string { return e.SASLMethod }, nil},
	SASLSender:         {"sasl_sender", Text, inMessage, Stages(Mail), func(e *Event) string { return e.SASLSender }, nil},
	QueueID:            {"queue_id", Text, inMessage, 0, func(e *Event) string { return e.QueueID }, nil},
	RecipientCount:     {"recipient_count", Number, fromRcpt, Stages(Mail, Rcpt), nil, func(e *Event) int { return e.RecipientCount }},
	Recipient:          {"recipient", Text, atRcpt, 0, func(e *Event) string { return e.Recipient }, nil},
	RecipientRaw:       {"recipient_raw", Text, atRcpt, 0, func(e *Event) string { return e.RecipientRaw }, nil},
	RecipientDomain:    {"recipient_domain", Text, atRcpt, 0, func(e *Event) string { return e.RecipientDomain }, nil},
	RefusedStatus:      {"refused_status", Text, atRefusedTo, 0, func(e *Event) string { return e.RefusedStatus }, nil},
	RefusedText:        {"refused_text", Text, atRefusedTo, 0, func(e *Event) string { return e.RefusedText }, nil},
	Header:             {"header", Text, fromEOH, 0, nil, nil},
	FromDomain:         {"from_domain", Text, fromEOH, 0, func(e *Event) string { return e.FromDomain }, nil},
	MessageSize:        {"message_size", Number, atEOM, 0, nil, func(e *Event) int { return e.MessageSize }},
	VerdictName:        {"verdict", Text, atRefused, 0, func(e *Event) string { return e.Verdict }, nil},
	RuleName:           {"rule", Text, atRefused, 0, func(e *Event) string { return e.Rule }, nil},
	StageName:          {"stage", Text, atRefused, 0, func(e *Event) string { return e.Stage }, nil},
}

func (a Attribute) String() string { return attributes[a].name }

// Kind is the type of the attribute's value.
func (a Attribute) Kind() Kind { return attributes[a].kind }

// KnownAt is the set of stages and outcomes at which the attribute has a value.
func (a Attribute) KnownAt() StageSet { return attributes[a].known }

// Source is the stages that the MTA must show so that the attribute is known at a
// later one: none where every stage brings it, or only the one where it is known.
func (a Attribute) Source() StageSet { return attributes[a].source }

// AttributeSet is a set of attributes.
type AttributeSet uint64

const _ = uint(64 - numAttributes) // they fit

// Has reports whether a is in the set.
func (set AttributeSet) Has(a Attribute) bool { return set&(1<<a) != 0 }

// With returns the set with a in it.
func (set AttributeSet) With(a Attribute) AttributeSet { return set | 1<<a }

// All yields the members in the order of their declaration.
func (set AttributeSet) All(yield func(Attribute) bool) {
	for rest := set; rest != 0; rest &= rest - 1 {
		if !yield(Attribute(bits.TrailingZeros64(uint64(rest)))) {
			return
		}
	}
}

// ParseAttribute is the inverse of [Attribute.String].
func ParseAttribute(name string) (Attribute, bool) {
	for a := range attributes {
		if attributes[a].name == name {
			return Attribute(a), true
		}
	}
	return 0, false
}

// AttributeNames lists the names of all attributes.
func AttributeNames() []string {
	names := make([]string, numAttributes)
	for a := range attributes {
		names[a] = attributes[a].name
	}
	return names
}

// placed is a term and where it stands in its text, in bytes.
type placed struct {
	Term
	offset int
}

// Term names one value of an event: an attribute, or one header.
type Term struct {
	Attribute Attribute
	Header    string // canonical name, only with the attribute Header
}

// ParseTerm understands an attribute's name and header["Name"].
func ParseTerm(s string) (Term, error) {
	if rest, ok := strings.CutPrefix(s, "header["); ok {
		name, ok := strings.CutSuffix(rest, "]")
		if name, err := strconv.Unquote(name); ok && err == nil && validHeaderName(name) {
			return Term{Header, textproto.CanonicalMIMEHeaderKey(name)}, nil
		}
		return Term{}, fmt.Errorf(`%s is not a header; write header["Name"]`, s)
	}
	a, ok := ParseAttribute(s)
	switch {
	case !ok:
		return Term{}, UnknownError{"attribute", s, AttributeNames()}
	case a == Header:
		return Term{}, fmt.Errorf(`header needs a name; write header["Name"]`)
	}
	return Term{Attribute: a}, nil
}

func (t Term) String() string {
	if t.Attribute == Header {
		return fmt.Sprintf("header[%q]", t.Header)
	}
	return t.Attribute.String()
}

// text is the term's value in the event; "" when there is none.
func (t Term) text(ev *Event) string {
	row := &attributes[t.Attribute]
	switch {
	case t.Attribute == Header:
		return ev.Content.Header[t.Header]
	case row.kind == Number:
		return strconv.Itoa(row.number(ev))
	}
	return row.text(ev)
}

// validHeaderName reports whether name is an RFC 5322 field name.
func validHeaderName(name string) bool {
	for _, c := range []byte(name) {
		if c <= ' ' || c >= 0x7f || c == ':' {
			return false
		}
	}
	return name != ""
}
