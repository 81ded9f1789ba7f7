// Package milter is the MTA's door: frames of the Sendmail mail filter
// protocol in, a [policy.Event] out to the engine; its verdict in, reply frames
// out. It is the only room that knows the protocol, and it never touches a
// counter: what is counted and judged is the policy room's.
//
// The dialogue of an MTA with a milter is one connection for each SMTP client.
// A [session] is that connection's goroutine and the whole of the hot path:
// read a frame, update the event, [policy.Engine.Decide], write the answer. No
// channel, no second goroutine, and one reading of the clock besides the one that
// tells how long it took.
//
// # What is negotiated
//
// Protocol versions 2 to 6, and of the MTA's offer only what the loaded policy
// uses (negotiate.go):
//
//   - a stage that nothing uses is switched off (SMFIP_NO…); unknown commands
//     always are, and the body but for message_size;
//   - a stage that is used but where no rule may refuse or delay is not waited
//     for (SMFIP_NR_…);
//   - refused recipients are asked for where the policy counts them
//     (SMFIP_RCPT_REJ);
//   - headers are shown where they are read or replaced;
//   - adding and removing headers and quarantine are asked for where a rule
//     does so.
//
// The macros that the policy's attributes come from are asked for by name
// (SMFIR_SETSYMLIST); macros.go has the table of attributes, macros and
// stages. What an MTA does not offer is done without and logged once for each
// listener. SMFIR_SKIP is never sent: at MAIL and RCPT it would silence
// Sendmail for the rest of the connection.
//
// # What is answered
//
// Before the end of the message only continue or a refusal with its reply:
// accept would hide the rest of the connection or message from the counters,
// and discard makes Postfix show the message a second time. What rules decide
// earlier comes out at the end of the message. A recipient that the MTA itself
// refused is always answered continue.
//
// # Outcomes
//
// accepted, refused, rcpt_refused, abort and end come from the session's own
// books and not from single frames, since Postfix sends an abort behind nearly
// everything and Sendmail behind next to nothing. A message ends with its
// answer at the end of the message, an abort, the next MAIL or HELO, or the
// session. After a refused MAIL there is no message; a refusal at DATA or at
// the end of headers is the message's outcome, so it is no abort, even where
// Postfix lets the client try again. A refused recipient is none of the
// message's. A session ends once, however its connection does.
//
// # When something fails
//
//   - Garbage, a frame too long or too short, a command before the
//     negotiation: the connection is closed and the log says why. Commands out
//     of order are answered continue and count nothing. Of its input a
//     session keeps half a MiB at most: a frame, which has 64 KiB, and 2 KiB of
//     each argument and macro (8 where no byte is UTF-8, which takes four). A
//     policy that reads headers adds 64 KiB for each, and 256 for from_domain.
//   - Nothing comes, or answers are not taken: [Timeouts].
//   - More connections come than MaxSessions: on_error is their answer at
//     connect, and they count nothing (overflow.go).
//   - The engine fails: on_error is the answer to this command, and the next
//     one is judged again.
//   - The code panics: on_error is the answer if one is due, the log has the
//     stack, that connection is closed and no other.
//   - Accepting fails, for want of file descriptors for instance: it is tried
//     again.
//   - The daemon is told to stop: [Server.Shutdown].
//
// For the MTA a closed connection is a failed milter: it does what its own
// default action says for the rest of that client's session.
package milter
