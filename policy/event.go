package policy

import "net/netip"

// Event is what is known of a dialogue at the step in hand. One Event lives as
// long as its session; the milter room updates it frame by frame and hands it
// to [Engine.Decide]. It belongs to its session's goroutine.
//
// Every attribute of the configuration is a field here, under the name in its
// expr tag. The embedded parts are its scopes: each is emptied when a new one
// of its kind begins, and none outlives the one above it. Those that connect,
// helo and mail bring are complete when that stage is decided, and stay so; but
// for QueueID and RecipientCount, which go on.
type Event struct {
	Connection
	Greeting
	MailFrom
	RcptTo
	Content
	Outcome

	state // what the engine remembers between the steps
}

// Connection is known from connect to the end of the session.
type Connection struct {
	Session           string     `expr:"session"` // made by the milter room, unique on this node
	Node              string     `expr:"node"`
	ClientAddr        netip.Addr `expr:"-"` // unmapped, without zone; the zero Addr when unknown
	ClientAddress     string     `expr:"client_address"`
	ClientPort        int        `expr:"client_port"`
	ClientName        string     `expr:"client_name"`
	ReverseClientName string     `expr:"reverse_client_name"`
	ServerAddr        netip.Addr `expr:"-"`
	ServerAddress     string     `expr:"server_address"`
	ServerPort        int        `expr:"server_port"`
	DaemonName        string     `expr:"daemon_name"`

	// Unheard are the stages at which rules answer and the MTA does not wait:
	// the session has negotiated for an earlier policy.
	Unheard StageSet `expr:"-"`

	// Unknown are attributes that the policy reads and that this session has not
	// asked the MTA for, since it negotiated for an earlier policy. An add whose
	// `when` reads one does not count; of such rules an accept is taken to hold,
	// and no other: nobody is refused for what is not known of him.
	Unknown AttributeSet `expr:"-"`
}

// Greeting is known from helo on; a repeated EHLO replaces it.
type Greeting struct {
	HeloName           string `expr:"helo_name"`
	EncryptionProtocol string `expr:"encryption_protocol"`
	EncryptionCipher   string `expr:"encryption_cipher"`
}

// MailFrom is one message's, from mail on.
type MailFrom struct {
	Sender         string `expr:"sender"` // "<>" is the null sender, "" an unknown one
	SenderRaw      string `expr:"sender_raw"`
	SenderDomain   string `expr:"sender_domain"`
	Size           int    `expr:"size"` // the declared SIZE in bytes, 0 when absent
	SASLUsername   string `expr:"sasl_username"`
	SASLMethod     string `expr:"sasl_method"`
	SASLSender     string `expr:"sasl_sender"`
	QueueID        string `expr:"queue_id"`
	RecipientCount int    `expr:"recipient_count"`
}

// RcptTo is one recipient's, at rcpt and rcpt_refused.
type RcptTo struct {
	Recipient       string `expr:"recipient"`
	RecipientRaw    string `expr:"recipient_raw"`
	RecipientDomain string `expr:"recipient_domain"`
	RefusedStatus   string `expr:"refused_status"`
	RefusedText     string `expr:"refused_text"`
}

// Content is one message's header and size, complete at eoh and eom.
type Content struct {
	Header      map[string]string `expr:"header"` // canonical name to the last value received
	FromDomain  string            `expr:"from_domain"`
	MessageSize int               `expr:"message_size"` // bytes of header and body
}

// Outcome is what this filter decided, known at refused only.
type Outcome struct {
	Verdict string `expr:"verdict"`
	Rule    string `expr:"rule"`
	Stage   string `expr:"stage"`
}
