package policy

import "testing"

func TestFromDomain(t *testing.T) {
	for value, want := range map[string]string{
		"a@B.test":                              "b.test",
		"Alice <a@b.test>":                      "b.test",
		"Alice <a@b.test>, Bob <b@c.test>":      "b.test",
		"Alice\r\n <a@b.test>":                  "b.test",
		"\"Doe, J.\"\n\t<j@b.test>":             "b.test",
		"=?windows-1252?Q?J=F6rg?= <j@b.test>":  "b.test",
		"=?gb2312?B?1tDOxA==?= <j@b.test>":      "b.test",
		"=?utf-8?q?J=C3=B6rg?= <j@b.test>":      "b.test",
		"J\xf6rg <j@b.test>":                    "b.test",
		"info@shop.test <a@b.test>":             "b.test",
		"Alice <a@b.test.>":                     "b.test",
		"a@b.test (Alice)":                      "b.test",
		"undisclosed: a@b.test b@c.test; (odd":  "c.test",
		"Alice <a@b.test":                       "b.test",
		`"a<x@evil.test>("@b.test`:              "b.test",
		"Alice":                                 "",
		"":                                      "",
		"<>":                                    "",
		"=?windows-1252?Q?only_a_name?= =?x?y?": "",
	} {
		if got := fromDomain(value); got != want {
			t.Errorf("fromDomain(%q) = %q, want %q", value, got, want)
		}
	}
}
