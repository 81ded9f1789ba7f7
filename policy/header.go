package policy

import (
	"github.com/emersion/go-message/mail"
)

// fromDomain is the domain of the first address of a header From, "" when the
// field has none that can be read.
func fromDomain(value string) string {
	list, err := mail.ParseAddressList(value)
	if err != nil || len(list) == 0 {
		return ""
	}
	_, domain := normalAddress(list[0].Address)
	return domain
}
