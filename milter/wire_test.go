package milter

import (
	"bytes"
	"fmt"
	"io"
	"strings"
	"testing"
	"testing/iotest"

	wire "github.com/emersion/go-milter"
)

// stream is the bytes of frames, each a code and its data.
func stream(frames ...string) []byte {
	var b []byte
	for _, f := range frames {
		b = appendFrame(b, f[0], f[1:])
	}
	return b
}

// readAll reads frames to the end and tells them: the code and the data, or
// for a body its size.
func readAll(src io.Reader) (told []string, err error) {
	r := &frameReader{src: src}
	for {
		f, err := r.next()
		if err == io.EOF {
			return told, nil
		}
		if err != nil {
			return told, err
		}
		if f.code == wire.CodeBody {
			told = append(told, fmt.Sprintf("B %d", f.size))
		} else {
			told = append(told, string(f.code)+string(f.data))
		}
	}
}

func TestFramesAreReadHoweverTheyArrive(t *testing.T) {
	header := "LX-Long\x00" + strings.Repeat("x", 60000) + "\x00"
	sent := stream("DH", "Hc\x00", header, "T", "B"+strings.Repeat("y", 65535), "B", "E", "A", "Q")
	want := []string{"DH", "Hc\x00", header, "T", "B 65535", "B 0", "E", "A", "Q"}
	for name, src := range map[string]io.Reader{
		"in large pieces":  bytes.NewReader(sent),
		"byte by byte":     iotest.OneByteReader(bytes.NewReader(sent)),
		"in half of asked": iotest.HalfReader(bytes.NewReader(sent)),
		"with the end":     iotest.DataErrReader(bytes.NewReader(sent)),
	} {
		got, err := readAll(src)
		if err != nil || strings.Join(got, "|") != strings.Join(want, "|") {
			t.Errorf("%s: got %d frames, %v", name, len(got), err)
		}
	}
}

func TestReadingAllocatesNothingInTheLongRun(t *testing.T) {
	stream := bytes.NewReader(stream("DMi\x00ABC\x00", "M<a@b>\x00", "B"+strings.Repeat("x", 20000), "E"))
	r := &frameReader{src: stream}
	allocs := testing.AllocsPerRun(100, func() {
		stream.Seek(0, io.SeekStart)
		for range 4 {
			if _, err := r.next(); err != nil {
				t.Fatal(err)
			}
		}
	})
	if allocs > 0 {
		t.Errorf("%v allocations for four frames", allocs)
	}
}

func TestABodyDoesNotGrowTheBuffer(t *testing.T) {
	r := &frameReader{src: bytes.NewReader(stream("M<a@b>\x00", "B"+strings.Repeat("x", 65535), "E"))}
	for range 3 {
		if _, err := r.next(); err != nil {
			t.Fatal(err)
		}
	}
	if len(r.buf) != smallBuffer {
		t.Errorf("the buffer has grown to %d bytes", len(r.buf))
	}
}
