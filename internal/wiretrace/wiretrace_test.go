package wiretrace

import (
	"bytes"
	"reflect"
	"strings"
	"testing"
)

func TestFramesComeBackAsTheyWere(t *testing.T) {
	for _, f := range []Frame{
		{true, 'M', []byte("<a@b>\x00SIZE=100\x00")},
		{true, 'T', nil},
		{false, 'c', nil},
		{false, 'y', []byte("550 5.7.1 100%% \"no\"\r\n\x00")},
		{true, 'C', []byte("localhost\x004\x96@127.0.0.1\x00")},
		{true, 'L', []byte("Subject\x00a·b\x00ü\xff\x00")},
		{true, 'O', []byte{0, 0, 0, 6, 0, 0, 1, 0xff, 0, 0x1f, 0xff, 0xff}},
		{false, 'O', []byte("\x00\x00\x00\x06\x00\x00\x01\x00\x00\x00\x00\x7f\x00\x00\x00\x02i {auth_authen}\x00")},
	} {
		line := f.String()
		trace, err := Parse([]byte(line + "\n"))
		if err != nil {
			t.Errorf("%s: %v", line, err)
			continue
		}
		if got := trace.Frames[0]; got.FromMTA != f.FromMTA || got.Code != f.Code || !bytes.Equal(got.Data, f.Data) {
			t.Errorf("%s came back as %s", line, got)
		}
	}
}

func TestParse(t *testing.T) {
	trace, err := Parse([]byte("# a title\n\n> O 6 0x1ff 0x1fffff\n< O 6 0 0x7f\n> A\n= connections 2\n"))
	if err != nil {
		t.Fatal(err)
	}
	want := &Trace{
		Frames: []Frame{
			{true, 'O', []byte{0, 0, 0, 6, 0, 0, 1, 0xff, 0, 0x1f, 0xff, 0xff}},
			{false, 'O', []byte{0, 0, 0, 6, 0, 0, 0, 0, 0, 0, 0, 0x7f}},
			{true, 'A', nil},
		},
		Counts: []Count{{"connections", 2}},
	}
	if !reflect.DeepEqual(trace, want) {
		t.Errorf("got %+v, want %+v", trace, want)
	}
}

func TestTurns(t *testing.T) {
	trace, err := Parse([]byte("> O 6 0x1ff 0x1fffff\n< O 6 0 0x7f\n> D \"M\"\n> M \"<>·\"\n< q \"x·\"\n< c\n> A\n> Q\n"))
	if err != nil {
		t.Fatal(err)
	}
	var told []string
	for _, turn := range trace.Turns() {
		codes := ""
		for _, f := range turn.Sent {
			codes += string(rune(f.Code))
		}
		codes += ">"
		for _, f := range turn.Answers {
			codes += string(rune(f.Code))
		}
		told = append(told, codes)
	}
	if got, want := strings.Join(told, " "), "O>O DM>qc AQ>"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

func TestParseSaysWhichLineIsWrong(t *testing.T) {
	for _, row := range []struct{ text, want string }{
		{"> A\n* x\n", `line 2: "* x" begins with none of >, <, = and #`},
		{"> M \"abc\n", "line 1: the data \"abc are not quoted as Go quotes strings"},
		{"> O 6 7\n", `line 1: a negotiation has three numbers, not "6 7"`},
		{"= connections many\n", `line 1: "connections many" is not a series and its count`},
	} {
		_, err := Parse([]byte(row.text))
		if err == nil || !strings.Contains(err.Error(), row.want) {
			t.Errorf("%q: %v, want %s", row.text, err, row.want)
		}
	}
}

func TestBytes(t *testing.T) {
	f := Frame{true, 'M', []byte("<>\x00")}
	if got, want := f.Bytes(), []byte("\x00\x00\x00\x04M<>\x00"); !bytes.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}
