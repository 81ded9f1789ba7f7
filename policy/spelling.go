package policy

import (
	"errors"
	"fmt"
	"net/netip"
	"regexp/syntax"
	"slices"
	"strconv"
	"strings"
	"unicode"
)

// A value of an attribute has one spelling (normal.go), so what is written otherwise in
// an expression compares with none. That is a mistake, which says what would be right.

// checkLower is about what a function of the language has made of a value.
func checkLower(function, text, operator string) error {
	if function != "lower" || operator == "matches" || text == strings.ToLower(text) {
		return nil
	}
	return fmt.Errorf("what lower has made is lower case; write %q", strings.ToLower(text))
}

// isWhole reports whether an operator compares whole texts.
func isWhole(operator string) bool {
	return operator == "==" || operator == "!=" || operator == "in"
}

// words are all values of the attributes that have few.
var words = map[Attribute][]string{
	VerdictName: {Tempfail.String(), Reject.String(), Disconnect.String(), Discard.String()},
	StageName:   stageNames[:EOM+1],
}

// ofDomain are the attributes that hold the domain alone.
var ofDomain = map[Attribute]Attribute{
	Sender: SenderDomain, SenderDomain: SenderDomain, Recipient: RecipientDomain, RecipientDomain: RecipientDomain, FromDomain: FromDomain,
}

// checkSpelling refuses a text with which no value of the attribute compares.
func (a Attribute) checkSpelling(text, operator string) error {
	whole := isWhole(operator)
	spelt, lower := text, strings.ToLower(text)
	switch {
	case operator == "matches":
		if re, err := syntax.Parse(text, syntax.Perl); err == nil && needsCapitals(re) {
			return fmt.Errorf("%s is always lower case; write small letters, or (?i) in front", a)
		}
		return nil
	case whole && text == "" && a == ClientName:
		return errors.New(`client_name is "unknown", not "", where there is none; write that`)
	case whole && text != "" && a.Kind() == Address && parsed(text) == "":
		return fmt.Errorf("%q is not an address; for a network make a list, and write %s in NAME", text, a)
	case operator == "startsWith" && a.Kind() == Address && parsed(text) == "" && endsInside(text):
		return fmt.Errorf("other networks begin with %q too; make a list of this one, and write %s in NAME", text, a)
	case whole && text != "" && words[a] != nil && !slices.Contains(words[a], lower):
		return UnknownError{a.String(), text, words[a]}
	case whole && strings.HasPrefix(text, "@") && ofDomain[a] != 0:
		return fmt.Errorf("%q is no %s; write %s == %q", text, a, ofDomain[a], text[1:])
	case a.isDomain() && len(text) > 1 && strings.Contains(text, "@"):
		return a.checkDomain(lower, operator)
	case whole && (strings.HasPrefix(text, "*@") || strings.HasPrefix(text, "*.")):
		return fmt.Errorf("%q: there are no wildcards; write %s endsWith %q", text, a, lower[1:])
	case a == RefusedStatus && (whole || operator == "startsWith") && len(text) > 1 && text[1] != '.':
		return fmt.Errorf("%s is an enhanced status code, such as 5.1.1, not %q", a, text)
	case whole:
		spelt = Term{Attribute: a}.respell(unspell(text))
	default:
		spelt = lower
	}
	switch {
	case spelt == text:
		return nil
	case spelt == lower:
		return fmt.Errorf("%s is always lower case; write %q", a, spelt)
	}
	return fmt.Errorf("%s is spelled otherwise; write %q", a, spelt)
}

// checkDomain is about an address that is written where its domain alone is compared.
func (a Attribute) checkDomain(text, operator string) error {
	whole := isWhole(operator)
	if whole && operator != "!=" {
		operator = "=="
	}
	address := map[Attribute]Attribute{SenderDomain: Sender, RecipientDomain: Recipient}[a]
	var right string
	switch domain := domainOf(text); {
	case whole && domain != "" && (address == 0 || strings.HasPrefix(text, "*@")):
		right = fmt.Sprintf("%s %s %q", a, operator, domain)
	case address == 0:
		right = fmt.Sprintf(`lower(header["From"]) contains %q`, text)
	default:
		right = fmt.Sprintf("%s %s %q", address, operator, text)
	}
	return fmt.Errorf("%s is what is behind the @, and %q has one; write %s", a, text, right)
}

// endsInside reports whether the last number of an address's beginning may go on: 2
// may, and 200 may not.
func endsInside(text string) bool {
	last := text[strings.LastIndexAny(text, ".:")+1:]
	if strings.Contains(text, ":") {
		return last != "" && len(last) < 4
	}
	n, err := strconv.Atoi(last)
	return err == nil && n > 0 && n*10 <= 255
}

// parsed is an address in its one spelling; "" when it is none.
func parsed(text string) string {
	addr, _ := netip.ParseAddr(text)
	_, spelt := normalIP(addr)
	return spelt
}

// needsCapitals reports whether a regular expression matches only texts with capitals.
func needsCapitals(re *syntax.Regexp) bool {
	switch re.Op {
	case syntax.OpLiteral:
		return re.Flags&syntax.FoldCase == 0 && slices.ContainsFunc(re.Rune, isCapital)
	case syntax.OpCharClass:
		for i := 0; i < len(re.Rune); i += 2 {
			for r := re.Rune[i]; r <= re.Rune[i+1]; r++ {
				if !isCapital(r) {
					return false
				}
			}
		}
		return len(re.Rune) > 0
	case syntax.OpAlternate:
		return !slices.ContainsFunc(re.Sub, func(sub *syntax.Regexp) bool { return !needsCapitals(sub) })
	case syntax.OpStar, syntax.OpQuest:
		return false
	case syntax.OpRepeat:
		return re.Min > 0 && needsCapitals(re.Sub[0])
	}
	return slices.ContainsFunc(re.Sub, needsCapitals)
}

func isCapital(r rune) bool { return unicode.ToLower(r) != r }
