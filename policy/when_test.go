package policy

import (
	"errors"
	"fmt"
	"net/netip"
	"reflect"
	"slices"
	"strings"
	"testing"
)

func testLists(t *testing.T) map[string]*List {
	t.Helper()
	trusted, bulk := NewList(CIDRList), NewList(StringList)
	if err := errors.Join(trusted.Add("192.0.2.0/24"), bulk.Add("@bulk.test")); err != nil {
		t.Fatal(err)
	}
	return map[string]*List{"trusted": trusted, "bulk": bulk}
}

func TestWhen(t *testing.T) {
	ev := &Event{}
	ev.SetClient(netip.MustParseAddr("192.0.2.7"), 40000, "Mail.Bulk.Test.")
	ev.SetHelo("Client.Example")
	ev.SetSender("<Someone@Bulk.test>")
	ev.Size = 5000
	ev.SetHeader("X-Spam-Flag", "YES")
	for source, want := range map[string]bool{
		`client_address in trusted`:                         true,
		`client_address not in trusted`:                     false,
		`not (client_address in trusted)`:                   false,
		`sender in bulk and size > 4000`:                    true,
		`sender_domain in bulk`:                             true,
		`server_address in trusted`:                         false,
		`sasl_username != ""`:                               false,
		`helo_name == "client.example"`:                     true,
		`client_name endsWith ".bulk.test"`:                 true,
		`client_address startsWith "192.0.2."`:              true,
		`client_address startsWith "192.0"`:                 true, // no other network begins so
		`client_address startsWith "198.51.100"`:            false,
		`client_address startsWith "2001:db8:"`:             false,
		`client_address startsWith "fe80"`:                  false,
		`helo_name in ["x", "client.example"]`:              true,
		`header["x-spam-flag"] == "YES"`:                    true,
		`header["X-Missing"] == ""`:                         true,
		`sender_raw == "<Someone@Bulk.test>"`:               true,
		`sender_raw matches "^<Some"`:                       true,
		`helo_name matches "(?i)^CLI[A-Z]+\\."`:             true,
		`helo_name matches "^(Client|client)\\."`:           true, // the other half can hold
		`find(["a", "b"], # == sender) == nil`:              true, // a function may say so
		`helo_name matches "^(WIN-)?[Cc]lient"`:             true,
		`helo_name matches "^(X|Y){0,2}[^A-Z]"`:             true,
		`server_address == "" and client_name != "unknown"`: true,
		`client_port >= 1024 && client_port < 65536`:        true,
		`let d = sender_domain; d == "bulk.test"`:           true,
		`helo_name matches "^client\\."`:                    true,
		`len(helo_name) > 3 ? true : false`:                 true,
		`any(["a", "bulk.test"], {# == sender_domain})`:     true,
		`encryption_protocol == "" or size == 0`:            true,
		`lower(header["X-Spam-Flag"]) == "yes" and size>0`:  true,
		`recipient == "" && refused_status startsWith "5."`: false,
	} {
		w, err := CompileWhen(source, testLists(t))
		if err != nil {
			t.Errorf("%s: %v", source, err)
			continue
		}
		if got, err := w.holds(ev); err != nil || got != want {
			t.Errorf("%s = %v, %v; want %v", source, got, err, want)
		}
	}
}

func TestWhenTermsAreFound(t *testing.T) {
	w, err := CompileWhen(`client_address in trusted and header["list-id"] == "" and (size > 1 or size > 2) and sender not in bulk`, testLists(t))
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, term := range w.terms() {
		got = append(got, term.String())
	}
	slices.Sort(got)
	if want := `client_address header["List-Id"] sender size`; strings.Join(got, " ") != want {
		t.Errorf("terms are %v, want %s", got, want)
	}
}

func TestWhenMistakes(t *testing.T) {
	for _, row := range []struct {
		source string
		offset int
		want   string
	}{
		{`sendr == "a"`, 0, `unknown attribute "sendr"; did you mean sender?`},
		{`size > 1 and sendr == "a"`, 13, `unknown attribute "sendr"; did you mean sender?`},
		{`client_address in trustd`, 18, `unknown list "trustd"; did you mean trusted?`},
		{`size`, 0, `expected bool, but got int`},
		{`size == "big"`, 5, `invalid operation: == (mismatched types int and string); write a number without quotes`},
		{`sender in trusted`, 0, `trusted is a list of networks; only an address, such as client_address, can be in it`},
		{`bulk == "a"`, 0, `bulk is a list; write ... in bulk`},
		{`header == "a"`, 0, `header needs a name; write header["Name"]`},
		{`header[sender] == "a"`, 0, `header needs a name; write header["Name"]`},
		{`helo_name == "Client"`, 13, `helo_name is always lower case; write "client"`},
		{`encryption_protocol in ["tlsv1.2", "TLSv1.3"]`, 35, `encryption_protocol is always lower case; write "tlsv1.3"`},
		{`"Client" == helo_name`, 0, `helo_name is always lower case; write "client"`},
		{`client_address == "2001:DB8:0::1"`, 18, `client_address is spelled otherwise; write "2001:db8::1"`},
		{`encryption_protocol startsWith "TLSv1"`, 31, `encryption_protocol is always lower case; write "tlsv1"`},
		{`sender == "@example.com"`, 10, `"@example.com" is no sender; write sender_domain == "example.com"`},
		{`client_name != ""`, 15, `client_name is "unknown", not "", where there is none; write that`},
		{`sender == "<Alice@example.com>"`, 10, `sender is spelled otherwise; write "alice@example.com"`},
		{`sender_domain == "example.com."`, 17, `sender_domain is spelled otherwise; write "example.com"`},
		{`sasl_username == "corp\\alice"`, 17, `sasl_username is spelled otherwise; write "corp\\\\alice"`},
		{`client_address == "192.0.2.0/24"`, 18, `"192.0.2.0/24" is not an address; for a network make a list, and write client_address in NAME`},
		{`client_address in "192.0.2.0/24"`, 18, `"192.0.2.0/24" is not an address; for a network make a list, and write client_address in NAME`},
		{`lower(header["X-Spam-Flag"]) == "YES"`, 32, `what lower has made is lower case; write "yes"`},
		{`helo_name matches "^WIN-"`, 18, `helo_name is always lower case; write small letters, or (?i) in front`},
		{`helo_name matches "(WIN|PC)-[0-9]"`, 18, `helo_name is always lower case; write small letters, or (?i) in front`},
		{`helo_name matches "^[A-Z]+$"`, 18, `helo_name is always lower case; write small letters, or (?i) in front`},
		{`sender_domain == "alice@example.com"`, 17, `sender_domain is what is behind the @, and "alice@example.com" has one; write sender == "alice@example.com"`},
		{`from_domain in ["example.com", "a@example.com"]`, 31, `from_domain is what is behind the @, and "a@example.com" has one; write from_domain == "example.com"`},
		{`sender_domain != "*@Example.com"`, 17, `sender_domain is what is behind the @, and "*@example.com" has one; write sender_domain != "example.com"`},
		{`from_domain startsWith "Alice@"`, 23, `from_domain is what is behind the @, and "alice@" has one; write lower(header["From"]) contains "alice@"`},
		{`recipient_domain endsWith "@example.com"`, 26, `recipient_domain is what is behind the @, and "@example.com" has one; write recipient endsWith "@example.com"`},
		{`size > 1 and sasl_username != nil`, 30, `sasl_username is never nil; where it is not there it is ""`},
		{`nil == header["List-Id"]`, 0, `header["List-Id"] is never nil; where it is not there it is ""`},
		{`size == nil`, 8, `size is never nil; where it is not there it is 0`},
		{`client_name == "*.example.com"`, 15, `"*.example.com": there are no wildcards; write client_name endsWith ".example.com"`},
		{`sender in ["a@example.com", "*@example.com"]`, 28, `"*@example.com": there are no wildcards; write sender endsWith "@example.com"`},
		{`refused_status startsWith "550"`, 26, `refused_status is an enhanced status code, such as 5.1.1, not "550"`},
		{`client_address startsWith "192.0.2"`, 26, `other networks begin with "192.0.2" too; make a list of this one, and write client_address in NAME`},
		{`client_address startsWith "2001:db8"`, 26, `other networks begin with "2001:db8" too; make a list of this one, and write client_address in NAME`},
		{`client_address startsWith "10"`, 26, `other networks begin with "10" too; make a list of this one, and write client_address in NAME`},
		{`verdict == "tmpfail"`, 11, `unknown verdict "tmpfail"; did you mean tempfail?`},
		{`stage in ["mail", "rcpt_refused"]`, 18, `unknown stage "rcpt_refused"; there are connect, helo, mail, rcpt, data, eoh, eom`},
		{`sender ==`, 8, `unexpected token EOF; the expression is not complete`},
		{``, 0, `unexpected token EOF; the expression is not complete`},
		{`sender = "a"`, 7, `unexpected token Operator("="); write == to compare, or matches with a regular expression`},
		{`size > 1 AND size < 3`, 9, `unexpected token Identifier("AND"); write and in small letters`},
		{`size > 10M`, 9, `bad number syntax: "10M"; write the number without a unit, such as 10000000`},
		{`sender == alice@example.com`, 15, `unrecognized character: U+0040 '@'; put a text in quotes, such as "alice@example.com"`},
		{`refused_status == 5.1.1`, 21, `unexpected token Number(".1"); put a text in quotes, such as "5.1.1"`},
		{`refused_status startsWith 5.1.`, 29, `unexpected token Operator("."); put a text in quotes, such as "5.1.1"`},
		{`refused_status startsWith 5.1`, 15, `invalid operation: startsWith (mismatched types string and float64); put a text in quotes, such as "5.1.1"`},
		{`sasl_username == 100`, 14, `invalid operation: == (mismatched types string and int); put a text in quotes, such as "5.1.1"`},
		{`client_address == 2001:db8::1`, 22, `unexpected token Operator(":"); put a text in quotes, such as "5.1.1"`},
		{`not helo_name contains "."`, 0, `invalid operation: not (mismatched type string); put what is behind it in brackets, as in not (helo_name contains ".")`},
		{`é`, 0, ``},
		{`"é" == sender and sendr == ""`, 19, `unknown attribute "sendr"; did you mean sender?`},
		{`now().Hour() > 3`, 0, ``},
		{`SetHelo("x")`, 0, ``},
	} {
		_, err := CompileWhen(row.source, testLists(t))
		var at *SyntaxError
		if !errors.As(err, &at) {
			t.Errorf("%s: %v, want a mistake", row.source, err)
			continue
		}
		if row.want != "" && (at.Error() != row.want || at.Offset != row.offset) {
			t.Errorf("%s: at %d %q; want at %d %q", row.source, at.Offset, at.Error(), row.offset, row.want)
		}
		if strings.Contains(at.Error(), "\n") {
			t.Errorf("%s: more than one line: %q", row.source, at.Error())
		}
	}
}

func TestWhenThatFailsIsAnError(t *testing.T) {
	w, err := CompileWhen(`10 % size > 2`, nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.holds(&Event{}); err == nil || !strings.Contains(err.Error(), "divide by zero") {
		t.Errorf("dividing by zero gave %v", err)
	}
}

// What it quotes of a client goes into the log.
func TestAFailureQuotesAClientHarmlessly(t *testing.T) {
	w, err := CompileWhen(`sender matches helo_name`, nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, helo := range []string{"[\r\nx\x1b\u009b", "[" + strings.Repeat("x", 64<<10)} {
		ev := &Event{}
		ev.SetHelo(helo)
		_, err := w.holds(ev)
		if err == nil || !strings.Contains(err.Error(), "missing closing ]") || len(err.Error()) > 1000 || !isPrintable(err.Error()) {
			t.Errorf("%.20q gave %.300q", helo, err)
		}
	}
}

// An expression reads the same field as the table does.
func TestExpressionsReadEachAttribute(t *testing.T) {
	ev := &Event{}
	v := reflect.ValueOf(ev).Elem()
	for _, f := range reflect.VisibleFields(v.Type()) {
		name := f.Tag.Get("expr")
		switch field := v.FieldByIndex(f.Index); {
		case name == "" || name == "-" || name == "header":
		case field.Kind() == reflect.Int:
			field.SetInt(int64(len(name)))
		default:
			field.SetString("the " + name)
		}
	}
	for a := range numAttributes {
		source := fmt.Sprintf(`%s + "" == "the %s"`, a, a) // no mistake, as some values would be
		switch {
		case a == Header:
			continue
		case a.Kind() == Number:
			source = fmt.Sprintf("%s == %d", a, len(a.String()))
		}
		w, err := CompileWhen(source, nil)
		if err != nil {
			t.Fatal(err)
		}
		if holds, err := w.holds(ev); err != nil || !holds {
			t.Errorf("%s is %v, %v; the table reads %q", source, holds, err, Term{Attribute: a}.text(ev))
		}
	}
}

// The table of attributes and the fields of Event are two views of one thing.
func TestAttributesAreTheEventsFields(t *testing.T) {
	fields := map[string]reflect.Kind{}
	for _, f := range reflect.VisibleFields(reflect.TypeFor[Event]()) {
		if name := f.Tag.Get("expr"); name != "" && name != "-" {
			fields[name] = f.Type.Kind()
		}
	}
	for a := range numAttributes {
		kind, ok := fields[a.String()]
		switch {
		case !ok:
			t.Errorf("%s is no field of Event", a)
		case a == Header:
		case (kind == reflect.Int) != (a.Kind() == Number):
			t.Errorf("%s is of another kind than its field", a)
		case (attributes[a].number != nil) != (a.Kind() == Number) || (attributes[a].text != nil) == (a.Kind() == Number):
			t.Errorf("%s is read in another kind than its own", a)
		}
		if a.KnownAt() == 0 {
			t.Errorf("%s is known nowhere", a)
		}
		delete(fields, a.String())
	}
	for name := range fields {
		t.Errorf("the field %s is no attribute", name)
	}
}
