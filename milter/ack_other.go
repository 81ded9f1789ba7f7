//go:build !linux

package milter

import "net"

// acker does what it is for on Linux only; elsewhere acknowledgements may wait
// for an answer that carries them.
type acker struct{}

func newAcker(net.Conn) acker { return acker{} }

func (acker) now() {}
