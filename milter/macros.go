package milter

import (
	"bytes"
	"encoding/binary"
	"math/bits"
	"slices"
	"strconv"
	"strings"

	wire "github.com/emersion/go-milter"

	"github.com/audit-milter/audit-milter/policy"
)

// macro is one of the MTA's macros that an attribute is read from.
type macro uint8

const (
	clientPtr macro = iota
	ifAddr
	daemonAddr
	daemonPort
	daemonName
	tlsVersion
	tlsCipher
	authAuthen
	authType
	authAuthor
	queueID
	rcptMailer
	rcptHost
	rcptAddr

	numMacros
)

var macroNames = [numMacros]string{
	clientPtr:  "{client_ptr}",
	ifAddr:     "{if_addr}",
	daemonAddr: "{daemon_addr}",
	daemonPort: "{daemon_port}",
	daemonName: "{daemon_name}",
	tlsVersion: "{tls_version}",
	tlsCipher:  "{cipher}",
	authAuthen: "{auth_authen}",
	authType:   "{auth_type}",
	authAuthor: "{auth_author}",
	queueID:    "i",
	rcptMailer: "{rcpt_mailer}",
	rcptHost:   "{rcpt_host}",
	rcptAddr:   "{rcpt_addr}",
}

// macroSet is a set of macros.
type macroSet uint16

func macros(list ...macro) (set macroSet) {
	for _, m := range list {
		set |= 1 << m
	}
	return set
}

func (set macroSet) has(m macro) bool { return set&(1<<m) != 0 }

// all yields the members in the order of their declaration.
func (set macroSet) all(yield func(macro) bool) {
	for rest := set; rest != 0; rest &= rest - 1 {
		if !yield(macro(bits.TrailingZeros16(uint16(rest)))) {
			return
		}
	}
}

// macroSource is where an attribute comes from: the first of the macros that
// has a value, asked for and read at the given stages.
type macroSource struct {
	attribute policy.Attribute
	stages    policy.StageSet
	macros    []macro
}

// macroSources are all attributes that come from macros. Sendmail alone has
// {if_addr}, and not on loopback; Postfix has the queue id only from the first
// accepted recipient on.
var macroSources = []macroSource{
	{policy.ReverseClientName, policy.Stages(policy.Connect), []macro{clientPtr}},
	{policy.ServerAddress, policy.Stages(policy.Connect), []macro{ifAddr, daemonAddr}},
	{policy.ServerPort, policy.Stages(policy.Connect), []macro{daemonPort}},
	{policy.DaemonName, policy.Stages(policy.Connect), []macro{daemonName}},
	{policy.EncryptionProtocol, policy.Stages(policy.Helo), []macro{tlsVersion}},
	{policy.EncryptionCipher, policy.Stages(policy.Helo), []macro{tlsCipher}},
	{policy.SASLUsername, policy.Stages(policy.Mail), []macro{authAuthen}},
	{policy.SASLMethod, policy.Stages(policy.Mail), []macro{authType}},
	{policy.SASLSender, policy.Stages(policy.Mail), []macro{authAuthor}},
	{policy.QueueID, policy.Stages(policy.Mail, policy.Rcpt, policy.Data, policy.EOH, policy.EOM), []macro{queueID}},
}

// isMacro reports whether an attribute comes from a macro.
func isMacro(a policy.Attribute) bool {
	return slices.ContainsFunc(macroSources, func(src macroSource) bool { return src.attribute == a })
}

// refusedMacros tell a recipient that the MTA refused, and why.
var refusedMacros = macros(rcptMailer, rcptHost, rcptAddr)

// macroStages are the stages that have macros, in the order of the dialogue,
// with their numbers in a list of macros to send.
var macroStages = [...]wire.Stage{
	policy.Connect: wire.StageConnect,
	policy.Helo:    wire.StageHelo,
	policy.Mail:    wire.StageMailFrom,
	policy.Rcpt:    wire.StageRcptTo,
	policy.Data:    wire.StageData,
	policy.EOH:     wire.StageEOH,
	policy.EOM:     wire.StageEOM,
}

// macroDemand is what a policy needs of the MTA's macros.
type macroDemand struct {
	wanted  macroSet
	sources [len(macroStages)][]macroSource // by the stage at which they are read
	lists   string                          // as the negotiation asks for them
}

func newMacroDemand(uses *policy.Uses) macroDemand {
	var d macroDemand
	var ask [len(macroStages)]macroSet
	shown := framesOf(uses.Shown)
	for _, src := range macroSources {
		if !uses.Attributes.Has(src.attribute) {
			continue
		}
		for s := range (src.stages & shown).All {
			d.sources[s] = append(d.sources[s], src)
			ask[s] |= macros(src.macros...)
		}
	}
	if uses.Shown.Has(policy.RcptRefused) {
		ask[policy.Rcpt] |= refusedMacros
	}
	// Sendmail 8.17 honours the list of eom only beside one of eoh.
	ask[policy.EOH] |= ask[policy.EOM]
	var lists []byte
	for s, set := range ask {
		d.wanted |= set
		lists = appendList(lists, macroStages[s], set)
	}
	d.lists = string(lists)
	return d
}

// appendList asks for one stage's macros. A stage without a list keeps the
// MTA's own.
func appendList(b []byte, s wire.Stage, set macroSet) []byte {
	var names []string
	for m := range set.all {
		names = append(names, macroNames[m])
	}
	if names == nil {
		return b
	}
	b = binary.BigEndian.AppendUint32(b, uint32(s))
	b = append(b, strings.Join(names, " ")...)
	return append(b, 0)
}

// macroTable holds the wanted macros of one session, each stage's in a slot of
// its own: a later stage's win, and a command clears those behind it. A macro
// frame may lack its command (Sendmail sends one for a recipient that it does
// not report); the next one for that stage replaces it.
type macroTable struct {
	said  [len(macroStages)]macroSet          // what holds of the slots
	slots [len(macroStages)][numMacros]string // the rest of them are earlier values, see keep
}

// macroSlot is the stage whose macros come with a command.
func macroSlot(code wire.Code) (policy.Stage, bool) {
	switch code {
	case wire.CodeConn:
		return policy.Connect, true
	case wire.CodeHelo:
		return policy.Helo, true
	case wire.CodeMail:
		return policy.Mail, true
	case wire.CodeRcpt:
		return policy.Rcpt, true
	case wire.CodeData:
		return policy.Data, true
	case wire.CodeHeader, wire.CodeEOH:
		return policy.EOH, true
	case wire.CodeBody, wire.CodeEOB:
		return policy.EOM, true
	}
	return 0, false
}

// set takes the data of a macro frame: the command that it belongs to, then
// names and values in turn.
func (t *macroTable) set(data []byte, wanted macroSet) error {
	if len(data) == 0 {
		return malformedf("a macro frame without a command")
	}
	stage, ok := macroSlot(wire.Code(data[0]))
	if !ok {
		return nil
	}
	t.said[stage] = 0
	for rest := data[1:]; len(rest) > 0; {
		name, value, err := cutPair(&rest)
		if err != nil {
			return err
		}
		if m, ok := wanted.named(name); ok && len(value) > 0 {
			t.slots[stage][m] = t.keep(m, value)
			t.said[stage] |= macros(m)
		}
	}
	return nil
}

// cutPair takes a name and its value from the beginning of b. A name at the
// end without a value has an empty one.
func cutPair(b *[]byte) (name, value []byte, err error) {
	name, rest, ok := bytes.Cut(*b, []byte{0})
	if !ok {
		return nil, nil, malformedf("a macro frame that does not end in NUL")
	}
	if len(rest) == 0 {
		*b = nil
		return name, nil, nil
	}
	value, rest, ok = bytes.Cut(rest, []byte{0})
	if !ok {
		return nil, nil, malformedf("a macro frame that does not end in NUL")
	}
	*b = rest
	return name, value, nil
}

// named finds the set's macro of that name.
func (set macroSet) named(name []byte) (macro, bool) {
	for m := range set.all {
		if string(name) == macroNames[m] {
			return m, true
		}
	}
	return 0, false
}

// keep makes a string of value, or finds the one that a slot has or had: the
// queue id comes again with every frame.
func (t *macroTable) keep(m macro, value []byte) string {
	value = bounded(value)
	for s := range t.slots {
		if t.slots[s][m] == string(value) {
			return t.slots[s][m]
		}
	}
	return string(value)
}

// reset ends all stages. What the slots had is still good to be found again: most
// macros of the MTA itself are the same for each client.
func (t *macroTable) reset() { clear(t.said[:]) }

// enter begins a stage: what later stages had said is over.
func (t *macroTable) enter(s policy.Stage) { clear(t.said[s+1:]) }

// leave ends a stage: its macros are in the event, and none of its next
// command's, which may come without any.
func (t *macroTable) leave(s policy.Stage) { t.said[s] = 0 }

// get is the first of the macros that has a value, as the latest stage says.
func (t *macroTable) get(macros ...macro) string {
	for _, m := range macros {
		for s := len(t.said) - 1; s >= 0; s-- {
			if t.said[s].has(m) {
				return t.slots[s][m]
			}
		}
	}
	return ""
}

// readMacros begins a stage with the attributes that come from its macros. Those
// of rcpt are left with the recipient.
func (s *session) readMacros(stage policy.Stage) {
	s.macros.enter(stage)
	if stage != policy.Rcpt {
		defer s.macros.leave(stage)
	}
	for _, src := range s.by.wants.macros.sources[stage] {
		value := s.macros.get(src.macros...)
		if value == "" {
			continue
		}
		switch src.attribute {
		case policy.ServerAddress:
			s.ev.SetServer(parseAddr(value))
		case policy.ServerPort:
			port, _ := strconv.ParseUint(value, 10, 16)
			s.ev.ServerPort = int(port)
		case policy.ReverseClientName:
			s.ev.SetText(src.attribute, hostName(value))
		default:
			s.ev.SetText(src.attribute, value)
		}
	}
}
