package milter

import (
	"encoding/binary"
	"strings"

	wire "github.com/emersion/go-milter"

	"github.com/audit-milter/audit-milter/policy"
)

// The protocol versions that are spoken. A higher offer is answered with the
// highest of them: Postfix takes a higher answer than its own as an error.
const (
	minVersion = 2
	maxVersion = 6
)

// offer is what an MTA offers when it negotiates, or what it is answered.
type offer struct {
	version  uint32
	actions  wire.OptAction
	protocol wire.OptProtocol
}

const offerSize = 12

func parseOffer(data []byte) (offer, error) {
	if len(data) < offerSize {
		return offer{}, malformedf("a negotiation of %d bytes; it has %d", len(data), offerSize)
	}
	o := offer{
		version:  binary.BigEndian.Uint32(data),
		actions:  wire.OptAction(binary.BigEndian.Uint32(data[4:])),
		protocol: wire.OptProtocol(binary.BigEndian.Uint32(data[8:])),
	}
	if o.version < minVersion {
		return offer{}, malformedf("protocol version %d; this milter speaks %d to %d", o.version, minVersion, maxVersion)
	}
	return o, nil
}

// demand is what a policy needs of an MTA. It is worked out once per engine.
type demand struct {
	uses     policy.Uses
	actions  wire.OptAction
	protocol wire.OptProtocol
	macros   macroDemand
}

// switches are, for each stage, the protocol bits that switch it off and that
// spare the MTA the wait for its answer.
var switches = [...]struct {
	stage   policy.Stage
	off     wire.OptProtocol
	noReply wire.OptProtocol
}{
	{policy.Connect, wire.OptNoConnect, wire.OptNoConnReply},
	{policy.Helo, wire.OptNoHelo, wire.OptNoHeloReply},
	{policy.Mail, wire.OptNoMailFrom, wire.OptNoMailReply},
	{policy.Rcpt, wire.OptNoRcptTo, wire.OptNoRcptReply},
	{policy.Data, wire.OptNoData, wire.OptNoDataReply},
	{policy.EOH, wire.OptNoEOH, wire.OptNoEOHReply},
}

func newDemand(uses policy.Uses) *demand {
	d := &demand{uses: uses, macros: newMacroDemand(&uses)}
	d.protocol = stageBits(&uses) | contentBits(&uses)
	d.actions = wire.OptSetSymList
	if len(uses.Replaced) > 0 {
		d.actions |= wire.OptAddHeader | wire.OptChangeHeader
	}
	if uses.Quarantine {
		d.actions |= wire.OptQuarantine
	}
	return d
}

func stageBits(uses *policy.Uses) (bits wire.OptProtocol) {
	shown := framesOf(uses.Shown)
	if shown.Has(policy.RcptRefused) {
		bits |= wire.OptRcptRej
	}
	for _, s := range switches {
		switch {
		case !shown.Has(s.stage):
			bits |= s.off
		case !uses.Answered.Has(s.stage):
			bits |= s.noReply
		}
	}
	return bits
}

// framesOf adds the stage whose frames show the refused recipients.
func framesOf(shown policy.StageSet) policy.StageSet {
	if shown.Has(policy.RcptRefused) {
		return shown.With(policy.Rcpt)
	}
	return shown
}

// contentBits are about the frames that no rule stands at: their answer is
// always continue, so the MTA need not wait for it.
func contentBits(uses *policy.Uses) wire.OptProtocol {
	bits := wire.OptNoUnknown
	if len(uses.Headers) == 0 && len(uses.Replaced) == 0 && !uses.Body {
		bits |= wire.OptNoHeaders
	} else {
		bits |= wire.OptNoHeaderReply
	}
	if !uses.Body {
		return bits | wire.OptNoBody
	}
	return bits | wire.OptNoBodyReply
}

// answer is what an MTA's offer is answered: never more than it offers.
func (d *demand) answer(o offer) offer {
	return offer{
		version:  min(o.version, maxVersion),
		actions:  o.actions & d.actions,
		protocol: o.protocol & d.protocol,
	}
}

// append appends the frame of the answer.
func (d *demand) append(b []byte, answer offer) []byte {
	var bits [offerSize]byte
	binary.BigEndian.PutUint32(bits[:], answer.version)
	binary.BigEndian.PutUint32(bits[4:], uint32(answer.actions))
	binary.BigEndian.PutUint32(bits[8:], uint32(answer.protocol))
	lists := ""
	if answer.actions&wire.OptSetSymList != 0 {
		lists = d.macros.lists
	}
	return appendFrame(b, byte(wire.CodeOptNeg), string(bits[:]), lists)
}

// lacking says in words what the policy needs and the MTA does not offer; the
// session does without. A missing bit that switches off or spares an answer
// costs time only, so it is not named.
func (d *demand) lacking(o offer) string {
	var lacks []string
	for _, n := range []struct {
		missing bool
		what    string
	}{
		{d.actions&^o.actions&wire.OptAddHeader != 0, "adding headers"},
		{d.actions&^o.actions&wire.OptChangeHeader != 0, "removing headers"},
		{d.actions&^o.actions&wire.OptQuarantine != 0, "quarantine"},
		{d.actions&^o.actions&wire.OptSetSymList != 0 && len(d.macros.lists) > 0, "choosing macros"},
		{d.protocol&^o.protocol&wire.OptRcptRej != 0, "refused recipients"},
		{d.uses.Shown.Has(policy.Data) && o.version < dataVersion, "stage data"},
	} {
		if n.missing {
			lacks = append(lacks, n.what)
		}
	}
	return strings.Join(lacks, ", ")
}

// dataVersion is the first protocol version with a stage data.
const dataVersion = 4

// noReply are the bits that spare the MTA the wait for the answer to a frame.
var noReply = [256]wire.OptProtocol{
	wire.CodeConn:   wire.OptNoConnReply,
	wire.CodeHelo:   wire.OptNoHeloReply,
	wire.CodeMail:   wire.OptNoMailReply,
	wire.CodeRcpt:   wire.OptNoRcptReply,
	wire.CodeData:   wire.OptNoDataReply,
	codeUnknown:     wire.OptNoUnknownReply,
	wire.CodeHeader: wire.OptNoHeaderReply,
	wire.CodeEOH:    wire.OptNoEOHReply,
	wire.CodeBody:   wire.OptNoBodyReply,
}

// awaits reports whether the MTA waits for an answer to a frame: for those
// above unless it was told not to, and for the end of the message. An answer
// that nobody waits for would be read as that to the next frame.
func (o offer) awaits(code wire.Code) bool {
	if code == wire.CodeEOB {
		return true
	}
	bit := noReply[code]
	return bit != 0 && o.protocol&bit == 0
}
