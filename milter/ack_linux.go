package milter

import (
	"net"
	"syscall"
)

// acker makes TCP acknowledge what was read without waiting for an answer to
// carry the acknowledgement. Sendmail writes a command's macros and the command
// one after the other, and its TCP holds the second back (Nagle) until the
// first is acknowledged, for which ours would wait 40 ms: at each command. So
// does Postfix's behind a DATA that is not waited for.
type acker struct{ raw syscall.RawConn }

func newAcker(conn net.Conn) acker {
	tcp, ok := conn.(*net.TCPConn)
	if !ok {
		return acker{}
	}
	raw, err := tcp.SyscallConn()
	if err != nil {
		return acker{} // the connection is closed already
	}
	return acker{raw}
}

// now acknowledges what was read so far. The option does not last, so it is
// set anew each time; where that fails, the acknowledgement only comes later.
func (a acker) now() {
	if a.raw != nil {
		a.raw.Control(quickAck)
	}
}

func quickAck(fd uintptr) {
	syscall.SetsockoptInt(int(fd), syscall.IPPROTO_TCP, syscall.TCP_QUICKACK, 1)
}
