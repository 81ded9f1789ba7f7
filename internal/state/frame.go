package state

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"io"

	"github.com/audit-milter/audit-milter/internal/deltas"
)

// format is the version of all that stands in a segment.
const format = 1

const (
	headerLen = 16 // magic, format, CRC of both
	magic     = "\xf7audit\r\n"

	frameLen = 12 // mark, length, CRC of the length and what follows
	mark     = "\xf7\xba\x7c\x11"
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// headerOf is the header of a segment that has this format.
func headerOf(format uint32) []byte {
	h := binary.LittleEndian.AppendUint32([]byte(magic), format)
	return binary.LittleEndian.AppendUint32(h, crc32.Checksum(h, castagnoli))
}

// FormatError is a segment that a version with another format has written.
type FormatError struct {
	Path   string
	Format uint32
}

func (e FormatError) Error() string {
	return fmt.Sprintf("%s has format %d, and this version of audit-milter reads %d: use the version that wrote it, or move the file away to begin without what it counted", e.Path, e.Format, format)
}

// frame fills in what stands before a record's payload, for which there is room.
func frame(r []byte) {
	copy(r, mark)
	binary.LittleEndian.PutUint32(r[4:], uint32(len(r)-frameLen))
	binary.LittleEndian.PutUint32(r[8:], checksum(r))
}

func checksum(r []byte) uint32 {
	return crc32.Update(crc32.Checksum(r[4:8], castagnoli), castagnoli, r[frameLen:])
}

// records reads the records of a segment one by one.
type records struct {
	file io.ReaderAt
	size int64
	at   int64 // where the next record is looked for

	buf  []byte // what was read ahead
	from int64  // where that stands in the file
}

// readAhead is how much is read at a time.
const readAhead = 1 << 20

// open reads the header. One that is damaged or torn is no error: records have marks.
func (r *records) open(path string) (ok bool, err error) {
	h, err := r.peek(headerLen)
	if h == nil || err != nil {
		return false, err
	}
	ok = string(h[:8]) == magic && binary.LittleEndian.Uint32(h[12:]) == crc32.Checksum(h[:12], castagnoli)
	if v := binary.LittleEndian.Uint32(h[8:]); ok && v != format {
		return false, FormatError{path, v}
	}
	if ok {
		r.at = headerLen
	}
	return ok, nil
}

// next is the payload of the next good record, which is good until the next call, and
// how many bytes before it are not one; nil when no good one follows.
func (r *records) next() (payload []byte, skipped int64, err error) {
	from := r.at
	for {
		payload, err = r.record()
		if payload != nil || err != nil {
			return payload, r.at - int64(frameLen+len(payload)) - from, err
		}
		if more, err := r.seek(); !more {
			return nil, r.size - from, err
		}
	}
}

// found is a good record, or that an error or nothing more comes.
type found struct {
	deltas.Decoded
	bytes   int64 // of the record; 0: there is none
	skipped int64 // bytes before it that are not good
	err     error
}

// decoded are the records that follow and at last what is found behind them, which has
// to be taken too. They are decoded while the receiver is busy with the ones before: a
// restart does not wait for one thread alone.
func (r *records) decoded() <-chan found {
	all := make(chan found, 2)
	go func() {
		defer close(all)
		for more := true; more; {
			var next found
			var payload []byte
			payload, next.skipped, next.err = r.next()
			if payload != nil {
				next.bytes = int64(frameLen + len(payload))
				next.Decoded, next.err = deltas.Decode(payload)
			}
			more = payload != nil && next.err == nil
			all <- next
		}
	}()
	return all
}

// record is the payload of the good record that stands here; nil if there is none.
func (r *records) record() ([]byte, error) {
	h, err := r.peek(frameLen)
	if h == nil || err != nil || string(h[:4]) != mark {
		return nil, err
	}
	length := int64(binary.LittleEndian.Uint32(h[4:]))
	if length > maxWaiting {
		return nil, nil
	}
	whole, err := r.peek(frameLen + length)
	if whole == nil || err != nil || binary.LittleEndian.Uint32(whole[8:]) != checksum(whole) {
		return nil, err
	}
	r.at += int64(len(whole))
	return whole[frameLen:], nil
}

// seek goes on to the next mark behind this place.
func (r *records) seek() (more bool, err error) {
	r.at++
	for r.at+frameLen <= r.size {
		if _, err := r.peek(frameLen); err != nil {
			return false, err
		}
		ahead := r.buf[r.at-r.from:]
		if i := bytes.Index(ahead, []byte(mark)); i >= 0 {
			r.at += int64(i)
			return true, nil
		}
		r.at += int64(len(ahead) - len(mark) + 1) // the mark may begin in what is left
	}
	return false, nil
}

// peek is the n bytes that stand here; nil when the file has not that many.
func (r *records) peek(n int64) ([]byte, error) {
	if r.at+n > r.size {
		return nil, nil
	}
	if i := r.at - r.from; i < 0 || i+n > int64(len(r.buf)) {
		want := min(max(n, readAhead), r.size-r.at)
		if int64(cap(r.buf)) < want {
			r.buf = make([]byte, want)
		}
		r.buf, r.from = r.buf[:want], r.at
		if _, err := r.file.ReadAt(r.buf, r.at); err != nil {
			r.buf = r.buf[:0]
			return nil, err
		}
	}
	return r.buf[r.at-r.from:][:n], nil
}
