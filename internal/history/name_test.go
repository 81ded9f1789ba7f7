package history

import (
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func TestANameIsReadAsItWasWritten(t *testing.T) {
	for _, n := range []Name{
		{First: someDay, Last: someDay.Add(86100 * time.Second), Through: 1764377528123, Level: 1, Part: 3, Node: "mx1.example.com"},
		{First: someDay, Last: someDay, Through: 1<<64 - 1, Node: "a-b-c%/\x00ü..\xff"},
		{First: someDay, Last: someDay},
	} {
		got, err := ParseName(n.String())
		if err != nil || got != n {
			t.Errorf("%v came back as %v, %v", n, got, err)
		}
	}
	const known = "20261129T000000Z-20261129T235500Z-1764377528123-1-0-mx-1.parquet"
	n, err := ParseName(known)
	if err != nil || n != (Name{someDay, someDay.Add(86100 * time.Second), 1764377528123, 1, 0, "mx-1"}) {
		t.Errorf("%s is %v, %v", known, n, err)
	}
}

func TestOtherNamesAreRefused(t *testing.T) {
	for _, text := range []string{
		"", ".parquet", "x.parquet", "20261129T000000Z-20261129T235500Z-1-1-0-mx1.parquet.tmp",
		"20261129T000000Z-20261128T235500Z-1-1-0-mx1.parquet", // ends before it begins
		"20261129T000000Z-20261129T235500Z-01-1-0-mx1.parquet",
		"20261129T000000Z-20261129T235500Z-1--1-0-mx1.parquet",
		"20261129T000000Z-20261129T235500Z-1-1-0-m x.parquet",
		"20261129T000000Z-20261129T235500Z-1-1-0-m%7.parquet",
		"20261129T000000Z-20261129T235500Z-1-1-0-m%61.parquet",
	} {
		if n, err := ParseName(text); err == nil {
			t.Errorf("%q is %+v", text, n)
		}
	}
}

func TestAnySeriesHasADirectoryOfItsOwn(t *testing.T) {
	for _, name := range []string{"connections", "connections/300", "..", ".", "../x", "ü\x00\\", "%2F", "-"} {
		dir := escape(name)
		if strings.Contains(dir, "/") || strings.HasPrefix(dir, ".") || filepath.Clean(dir) != dir {
			t.Errorf("%q: the directory is %q", name, dir)
		}
		if back, err := unescape(dir); err != nil || back != name {
			t.Errorf("%q came back as %q, %v", name, back, err)
		}
	}
}

func FuzzParseName(f *testing.F) {
	f.Add("20261129T000000Z-20261129T235500Z-1764377528123-1-0-mx-1.parquet")
	f.Add("20261129T000000Z-20261129T000000Z-0-0-0-%2E%FF.parquet")
	f.Fuzz(func(t *testing.T, text string) {
		n, err := ParseName(text)
		if err == nil && n.String() != text {
			t.Errorf("%q is %+v, which is written %q", text, n, n)
		}
		if back, err := unescape(escape(text)); err != nil || back != text {
			t.Errorf("the escaped %q is %q, %v", text, back, err)
		}
	})
}
