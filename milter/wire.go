package milter

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"

	wire "github.com/emersion/go-milter"
)

// The sizes of the wire, in bytes. A frame is a length of four bytes, a code
// of one, and data; the length counts code and data. No MTA sends more than
// 65535 bytes of data (mail without body and header stays below 8 KiB).
const (
	lengthSize   = 4
	maxFrame     = 65536
	smallBuffer  = 4096
	maxFrameRead = lengthSize + maxFrame
)

// codeUnknown is a command that the MTA itself does not know (SMFIC_UNKNOWN);
// the vocabulary lacks it.
const codeUnknown wire.Code = 'U'

// frame is one message of the MTA.
type frame struct {
	code wire.Code
	data []byte // good until the next frame is read; nil for a body chunk
	size int    // of the data, in bytes
}

// malformed is the error of a peer that does not speak the protocol.
type malformed struct{ what string }

func (e malformed) Error() string { return e.what }

func isMalformed(err error) bool {
	_, ok := errors.AsType[malformed](err)
	return ok
}

func malformedf(format string, args ...any) error {
	return malformed{fmt.Sprintf(format, args...)}
}

// frameReader cuts what it reads from src into frames. Its one buffer begins
// small and grows to the largest frame seen, 64 KiB at most; body chunks,
// which are the large ones, are counted and not kept.
type frameReader struct {
	src io.Reader
	buf []byte // what was received and not yet handed out is buf[pos:end]
	pos int
	end int

	skipping bool
}

// next reads one frame. It returns io.EOF only between two frames.
func (r *frameReader) next() (frame, error) {
	if err := r.need(lengthSize + 1); err != nil {
		return frame{}, err
	}
	length := binary.BigEndian.Uint32(r.buf[r.pos:])
	if length == 0 || length > maxFrame {
		return frame{}, malformedf("a frame of %d bytes; is this an MTA's milter connection?", length)
	}
	f := frame{code: wire.Code(r.buf[r.pos+lengthSize]), size: int(length) - 1}
	if f.code == wire.CodeBody {
		r.pos += lengthSize + 1
		return f, r.skip(f.size)
	}
	if err := r.need(lengthSize + int(length)); err != nil {
		return frame{}, err
	}
	f.data = r.buf[r.pos+lengthSize+1 : r.pos+lengthSize+int(length)]
	r.pos += lengthSize + int(length)
	return f, nil
}

// reset forgets what was read, and a buffer that a large frame has made.
func (r *frameReader) reset(src io.Reader) {
	buf := r.buf
	if len(buf) > smallBuffer {
		buf = nil
	}
	*r = frameReader{src: src, buf: buf}
}

// buffered is how many bytes were received and not yet handed out.
func (r *frameReader) buffered() int { return r.end - r.pos }

// begun reports whether a part of the next frame was received.
func (r *frameReader) begun() bool { return r.skipping || r.buffered() > 0 }

// need reads until n bytes are buffered.
func (r *frameReader) need(n int) error {
	if r.buffered() >= n {
		return nil
	}
	r.makeRoom(n)
	for r.buffered() < n {
		if err := r.fill(); err != nil {
			return err
		}
	}
	return nil
}

// makeRoom lets n bytes stand in one piece from pos on.
func (r *frameReader) makeRoom(n int) {
	buf := r.buf
	if n > len(buf) {
		buf = make([]byte, max(n, smallBuffer, min(2*len(buf), maxFrameRead)))
	}
	r.end = copy(buf, r.buf[r.pos:r.end])
	r.pos, r.buf = 0, buf
}

// fill reads once.
func (r *frameReader) fill() error {
	n, err := r.src.Read(r.buf[r.end:])
	r.end += n
	switch {
	case n > 0:
		return nil
	case err == io.EOF && r.begun():
		return malformedf("the connection ended inside a frame")
	case err == nil:
		return io.ErrNoProgress
	}
	return err
}

// skip reads over n bytes.
func (r *frameReader) skip(n int) error {
	r.skipping = true
	defer func() { r.skipping = false }()
	for n > r.buffered() {
		n -= r.buffered()
		r.pos = r.end
		r.makeRoom(1)
		if err := r.fill(); err != nil {
			return err
		}
	}
	r.pos += n
	return nil
}

// appendFrame appends one frame whose data are the given parts.
func appendFrame(b []byte, code byte, parts ...string) []byte {
	length := 1
	for _, p := range parts {
		length += len(p)
	}
	b = binary.BigEndian.AppendUint32(b, uint32(length))
	b = append(b, code)
	for _, p := range parts {
		b = append(b, p...)
	}
	return b
}
