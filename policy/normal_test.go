package policy

import (
	"strings"
	"testing"
	"unicode/utf8"
)

func TestNormalAddress(t *testing.T) {
	for _, row := range []struct{ raw, addr, domain string }{
		{"<Sender@Example.COM>", "sender@example.com", "example.com"},
		{"User@local.test", "user@local.test", "local.test"},
		{"<user>", "user", ""},
		{"<>", "", ""},
		{"", "", ""},
		{" <a@b.test> ", "a@b.test", "b.test"},
		{`<@relay.test,@r2.test:"joe smith"@Ex.test>`, `"joe smith"@ex.test`, "ex.test"},
		{`<"joe"@ex.test>`, "joe@ex.test", "ex.test"},
		{`<"j\oe"@ex.test>`, "joe@ex.test", "ex.test"},
		{`<"a@b"@ex.test>`, `"a@b"@ex.test`, "ex.test"},
		{`<"a@b">`, "a@b", "b"},
		{"<a@ex.test.>", "a@ex.test", "ex.test"},
		{"<Jos\xe9@ex.test>", `jos\xe9@ex.test`, "ex.test"},
		{"<JOSÉ@Ex.test>", "josé@ex.test", "ex.test"},
		{`<a\b@ex.test>`, "ab@ex.test", "ex.test"},
		{"<@>", "", ""},
		{"< >", "", ""},
		{`<"">`, "", ""},
		{"<(c)>", "", ""},
		{`<""@ex.test>`, `""@ex.test`, "ex.test"},
		{"< a@b.test >", "a@b.test", "b.test"},
		{"\ta @ b. test", "a@b.test", "b.test"},
		{"<<a@b.test>>", "a@b.test", "b.test"},
		{"<a@b.test>;", "a@b.test", "b.test"},
		{"<a@b.test>x", "a@b.test", "b.test"},
		{`(\)<x@y.test>)<a@b.test>`, "a@b.test", "b.test"},
		{"<a (c) (d) @b.test>", "a@b.test", "b.test"},
		{"<a  b@c.test>", "a.b@c.test", "c.test"},
		{`<"a  b @"@c.test>`, `"a  b @"@c.test`, "c.test"},
		{"a@b.test>", "a@b.test", "b.test"},
		{"<Joe <a@b.test>>", "a@b.test", "b.test"},
		{`<"Joe <x@y.test>" <a@b.test>>`, "a@b.test", "b.test"},
		{"<<a@b.test>x@y.test>", "a@b.test", "b.test"},
		{`<(x\)(y)z)a(")@(c)b.test (d)>`, "a@b.test", "b.test"},
		{"<@x.test, @y.test : a@b.test>", "a@b.test", "b.test"},
		{"<group:a@b.test;>", "a@b.test", "b.test"},
		{"<:;,a@b.test>", "a@b.test", "b.test"},
		{`<a@b\.test>`, "a@b.test", "b.test"},
		{`<"a@b.test">`, "a@b.test", "b.test"},
		{`<"a" @b.test>`, "a@b.test", "b.test"},
		{`<"<a>(b):c\" d"@b.test>`, `"<a>(b):c\\" d"@b.test`, "b.test"},
		{"<a@[IPv6:2001:db8::1]>", "a@[ipv6:2001:db8::1]", "[ipv6:2001:db8::1]"},
		{"<(a@b.test>", "", ""},
		{`<"a @b.test>`, `"a @b.test`, "b.test"},
		{`<a@b.test\>`, "a@b.test", "b.test"},
		{"<>a@b.test>", "a@b.test", "b.test"},
		{"< <> a@b.test>", "a@b.test", "b.test"},
		{"<a@b.test><x@y.test>", "x@y.test", "y.test"},
		{"<x <a@b.test> <x@y.test>>", "x@y.test", "y.test"},
		{"<a@b.test><>", "", ""},
		{`<"jo"."e"@b.test>`, "jo.e@b.test", "b.test"},
		{`<j"o"e@b.test>`, "joe@b.test", "b.test"},
		{`<"jo" "e"@b.test>`, "joe@b.test", "b.test"},
		{`<joe@"b.test">`, "joe@b.test", "b.test"},
		{`<"joe"@"b".test>`, "joe@b.test", "b.test"},
		{`<joe@b.\"test>`, "joe@b.test", "b.test"},
		{`<"<joe@b.test>">`, "joe@b.test", "b.test"},
		{`<"joe."@b.test>`, "joe.@b.test", "b.test"},
		{"<\rjoe\v@\fb\n.test\r>", "joe@b.test", "b.test"},
		{"<jo(c)e@b test>", "jo.e@b.test", "b.test"},
		{"<@x.test>:joe@b.test>", "joe@b.test", "b.test"},
		{"<joe@ [ 192.0.2.1 ]>", "joe@[192.0.2.1]", "[192.0.2.1]"},
		{"<joe@b.test..>", "joe@b.test", "b.test"},
		{`<joe\ @b.test>`, `"joe "@b.test`, "b.test"},
		{`<j\(oe@b.test>`, `"j(oe"@b.test`, "b.test"},
		{`<j\\oe@b.test>`, `"j\\\\oe"@b.test`, "b.test"},
		{`<j\"oe@b.test>`, `"j\\"oe"@b.test`, "b.test"},
		{"<:joe@b.test>", `":joe"@b.test`, "b.test"},
		{"<x@y.test:joe@b.test>", `"x@y.test:joe"@b.test`, "b.test"},
		{"<@x.test:@y.test:joe@b.test>", "joe@b.test", "b.test"},
	} {
		addr, domain := normalAddress(row.raw)
		if addr != row.addr || domain != row.domain {
			t.Errorf("normalAddress(%q) = %q, %q; want %q, %q", row.raw, addr, domain, row.addr, row.domain)
		}
	}
}

func TestNormalHost(t *testing.T) {
	for raw, want := range map[string]string{
		"Mail.Example.COM.": "mail.example.com",
		"[192.0.2.1]":       "[192.0.2.1]",
		"weird\x80name":     `weird\x80name`,
		"":                  "",
	} {
		if got := normalHost(raw); got != want {
			t.Errorf("normalHost(%q) = %q, want %q", raw, got, want)
		}
	}
}

func TestLongKeysAreCutAndStayApart(t *testing.T) {
	if key := strings.Repeat("a", 255); boundedKey(key) != key {
		t.Error("a key of 255 bytes was cut")
	}
	long := strings.Repeat("é", 200)
	cut := boundedKey(long)
	if len(cut) != 217 || cut[:200] != long[:200] || cut[200] != '~' {
		t.Errorf("a key of 400 bytes became %q", cut)
	}
	if odd := boundedKey("x" + long); !utf8.ValidString(odd) {
		t.Errorf("a character was cut in two: %q", odd)
	}
	if boundedKey(long+"1") == boundedKey(long+"2") {
		t.Error("two long keys became one")
	}
}
