package history

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strconv"
	"strings"
	"time"
)

// Name is a file's name, which tells enough to leave the file alone: those of windows
// that nobody asks for, and, after a restart, what is written already.
type Name struct {
	First, Last time.Time // when the earliest and the latest window in it begin
	Through     uint64    // the number of the last batch that is in it; 0 for what did not come in batches
	Level       int       // how often it was merged; 0 for what was counted
	Part        int64     // tells files apart whose names would be the same; see [freshPart]
	Node        string
}

const (
	suffix     = ".parquet"
	temporary  = ".tmp" // behind the suffix, so that no *.parquet matches it, and before a random number
	nameTime   = "20060102T150405Z"
	nameFields = 6
)

// String is such as 20261129T000000Z-20261129T235500Z-1764377528123-1-0-mx1.parquet.
func (n Name) String() string {
	return fmt.Sprintf("%s-%s-%d-%d-%d-%s%s", n.First.UTC().Format(nameTime), n.Last.UTC().Format(nameTime),
		n.Through, n.Level, n.Part, escape(n.Node), suffix)
}

// freshPart is one that no file has had: a merged file goes on to name those that it
// replaced, so that a name that came again would not count. The names that a [Writer]
// gives differ by the number of the batch.
func freshPart() int64 { return time.Now().UnixNano() }

// ParseName is the inverse of [Name.String].
func ParseName(text string) (n Name, err error) {
	wrong := fmt.Errorf("%q is not the name of a history file, such as %s", text, Name{Node: "mx1"})
	base, ok := strings.CutSuffix(text, suffix)
	fields := strings.SplitN(base, "-", nameFields)
	if !ok || len(fields) != nameFields {
		return Name{}, wrong
	}
	var errs [6]error
	n.First, errs[0] = time.Parse(nameTime, fields[0])
	n.Last, errs[1] = time.Parse(nameTime, fields[1])
	n.Through, errs[2] = strconv.ParseUint(fields[2], 10, 64)
	n.Level, errs[3] = strconv.Atoi(fields[3])
	n.Part, errs[4] = strconv.ParseInt(fields[4], 10, 64)
	n.Node, errs[5] = unescape(fields[5])
	// One name has one spelling.
	if errors.Join(errs[:]...) != nil || n.Last.Before(n.First) || n.Level < 0 || n.Part < 0 || n.String() != text {
		return Name{}, wrong
	}
	return n, nil
}

// escape makes any text a name of a file or directory: what is not a letter, a digit,
// or one of . _ - becomes % and two hexadecimal digits, as does a . at the begin.
func escape(text string) string {
	var b strings.Builder
	for i := range len(text) {
		c := text[i]
		if isPlain(c) && (c != '.' || i > 0) {
			b.WriteByte(c)
		} else {
			fmt.Fprintf(&b, "%%%02X", c)
		}
	}
	return b.String()
}

func isPlain(c byte) bool {
	return 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' || strings.IndexByte("._-", c) >= 0
}

// unescape is the inverse of escape.
func unescape(name string) (string, error) {
	var b []byte
	for i := 0; i < len(name); i++ {
		c := name[i]
		if c == '%' && i+2 < len(name) {
			x, err := strconv.ParseUint(name[i+1:i+3], 16, 8)
			if err != nil {
				return "", err
			}
			c, i = byte(x), i+2
		}
		b = append(b, c)
	}
	if text := string(b); escape(text) == name {
		return text, nil
	}
	return "", fmt.Errorf("%q is not escaped as it would be here", name)
}

// list is the files of a series' directory, by time, and links in the place of any; none
// where there is no such directory. What else there is is passed over.
func list(dir string) ([]Name, error) {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	var names []Name
	for _, e := range entries {
		isFile := e.Type().IsRegular() || e.Type() == fs.ModeSymlink
		if n, err := ParseName(e.Name()); err == nil && isFile {
			names = append(names, n)
		}
	}
	return names, err
}
