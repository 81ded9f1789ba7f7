package policy

import (
	"strings"

	"github.com/emersion/go-message/mail"
)

// fromDomain is the domain of the first address of a header From. Mail readers
// show a sender also where the field breaks RFC 5322 or has a charset that is
// not known here, so what cannot be parsed is searched for its last address in
// angle brackets, else for a bare one. It is "" when there is none.
func fromDomain(value string) string {
	value = strings.NewReplacer("\r", "", "\n", "").Replace(value) // folded lines go on with white space
	list, err := mail.ParseAddressList(value)
	if err == nil && len(list) > 0 {
		_, domain := cutAddress(list[0].Address) // it is free of quotes and comments
		return normalHost(domain)
	}
	_, domain := normalAddress(lastAddress(value))
	return domain
}

// lastAddress is what stands in the last angle brackets, or the last word with
// an @.
func lastAddress(value string) string {
	if open := strings.LastIndexByte(value, '<'); open >= 0 {
		addr, _, _ := strings.Cut(value[open+1:], ">")
		return addr
	}
	words := strings.Fields(value)
	for i := len(words) - 1; i >= 0; i-- {
		if strings.Contains(words[i], "@") {
			return strings.Trim(words[i], `,;()"`)
		}
	}
	return ""
}
