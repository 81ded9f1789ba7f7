package policy

import "net/netip"

// SetClient sets what the MTA says of the client. A name of "" means that the
// MTA knows none.
func (ev *Event) SetClient(addr netip.Addr, port int, name string) {
	ev.ClientAddr, ev.ClientAddress = normalIP(addr)
	ev.ClientPort = port
	ev.ClientName = normalHost(name)
}

// SetServer sets the address at which the MTA took the connection.
func (ev *Event) SetServer(addr netip.Addr) {
	ev.ServerAddr, ev.ServerAddress = normalIP(addr)
}

// SetHelo sets the argument of HELO or EHLO.
func (ev *Event) SetHelo(name string) { ev.HeloName = normalHost(name) }

// SetSender sets the sender from the argument of MAIL as the client wrote it.
func (ev *Event) SetSender(arg string) {
	ev.SenderRaw = arg
	ev.Sender, ev.SenderDomain = normalAddress(arg)
	if ev.Sender == "" {
		ev.Sender = nullSender
	}
}

// nullSender is the key of the empty reverse-path.
const nullSender = "<>"

// SetRecipient sets the recipient from the argument of RCPT as the client
// wrote it.
func (ev *Event) SetRecipient(arg string) {
	ev.RecipientRaw = arg
	ev.RcptTo.Recipient, ev.RecipientDomain = normalAddress(arg)
}

// SetHeader notes one received header field. Name is canonical; the last value
// counts.
func (ev *Event) SetHeader(name, value string) {
	if ev.Content.Header == nil {
		ev.Content.Header = make(map[string]string)
	}
	ev.Content.Header[name] = value
	if name == "From" {
		ev.FromDomain = fromDomain(value)
	}
}

// SetText sets a text attribute that an MTA gives as a macro.
func (ev *Event) SetText(a Attribute, value string) {
	switch a {
	case ReverseClientName:
		ev.ReverseClientName = normalHost(value)
	case DaemonName:
		ev.DaemonName = normalText(value)
	case EncryptionProtocol:
		ev.EncryptionProtocol = normalText(value)
	case EncryptionCipher:
		ev.EncryptionCipher = normalText(value)
	case SASLUsername:
		ev.SASLUsername = normalText(value)
	case SASLMethod:
		ev.SASLMethod = normalText(value)
	case SASLSender:
		ev.SASLSender, _ = plainAddress(value)
	case QueueID:
		ev.QueueID = value
		ev.state.message.noteQueueID(value)
	case RefusedStatus:
		ev.RefusedStatus = normalText(value)
	case RefusedText:
		ev.RefusedText = value
	default:
		panic("policy: SetText has no attribute " + a.String())
	}
}

// Reset makes the event that of a new session. Room that the engine took for the one
// before stays.
func (ev *Event) Reset() {
	was := &ev.state
	was.answers.forget(perSession)
	clear(was.counted[:cap(was.counted)]) // a series that a reload has dropped stays for nobody
	*ev = Event{state: state{answers: was.answers, counted: was.counted[:0], counts: was.counts, vm: was.vm}}
}

// ResetGreeting forgets HELO, as a new one begins.
func (ev *Event) ResetGreeting() {
	ev.Greeting = Greeting{}
	ev.state.answers.forget(perGreeting)
}

// ResetMessage forgets the message and what the engine remembered for it.
func (ev *Event) ResetMessage() {
	ev.MailFrom = MailFrom{}
	ev.RcptTo = RcptTo{}
	ev.Content = Content{}
	ev.state.message = messageState{}
	ev.state.answers.forget(perMessage)
}

// ResetRecipient forgets the recipient in hand.
func (ev *Event) ResetRecipient() { ev.RcptTo = RcptTo{} }
