package policy

import (
	"fmt"
	"net/netip"
	"regexp"
	"strings"
	"sync/atomic"

	"github.com/audit-milter/audit-milter/series"
)

// Table is a threshold for each of some keys. It is filled at load, and from
// then on only read, or replaced as a whole: then also while it is read.
type Table struct {
	name string
	rows atomic.Pointer[tableRows]
}

// tableRows are what a table holds.
type tableRows struct {
	networks networks[int64]
	exact    map[string]int64
	domains  map[string]int64 // of @example.com
}

// NewTable makes an empty table.
func NewTable(name string) *Table {
	t := &Table{name: name}
	t.rows.Store(&tableRows{
		networks: newNetworks[int64](),
		exact:    make(map[string]int64),
		domains:  make(map[string]int64),
	})
	return t
}

// Name is the table's in the configuration.
func (t *Table) Name() string { return t.name }

// String tells how many keys the table has.
func (t *Table) String() string {
	rows := t.rows.Load()
	n := len(rows.exact) + len(rows.domains) + len(rows.networks.values)
	if n == 1 {
		return "1 key"
	}
	return fmt.Sprintf("%d keys", n)
}

// Replace makes the table hold what the other one does. The other one is not
// filled any further.
func (t *Table) Replace(by *Table) { t.rows.Store(by.rows.Load()) }

// Add puts a key into the table: a network or an address, a text, or
// @example.com for the domain that a text is or ends in. Texts are normalised
// as keys are.
func (t *Table) Add(key string, n int64) error {
	rows := t.rows.Load()
	network, err := ParseNetwork(key)
	domain, isDomain := strings.CutPrefix(key, "@")
	switch {
	case err == nil:
		if err := free(rows.networks.values, network, network.String()); err != nil {
			return err
		}
		rows.networks.set(network, n)
		return nil
	case looksLikeNetwork(key):
		return err
	case strings.HasPrefix(strings.TrimPrefix(key, "*"), "."):
		return fmt.Errorf("%q: a table has no domains with all below them; write \"@example.com\", a key for each", key)
	case isDomain:
		if err := checkEntry(key); err != nil {
			return err
		}
		return addRow(rows.domains, normalHost(domain), key, n)
	}
	text, err := normalRow(key)
	if err != nil {
		return err
	}
	return addRow(rows.exact, boundedKey(text), key, n)
}

// looksLikeNetwork reports whether a key is a network or an address, perhaps with a
// mistake in it. A login may be 12.34, and a refused_status is 5.1.1.
func looksLikeNetwork(key string) bool {
	if strings.Count(key, ":") > 1 {
		return strings.Trim(strings.ToLower(key), "0123456789abcdef:./") == ""
	}
	dots := strings.Count(key, ".")
	return strings.Trim(key, "0123456789./*") == "" && !IsStatus(key) &&
		(dots > 1 || dots == 1 && strings.ContainsAny(key, "/*"))
}

var status = regexp.MustCompile(`\A[45]\.[0-9]{1,3}\.[0-9]{1,3}\z`)

// IsStatus reports whether a text is the enhanced status code of a refusal, such as 5.1.1
// (RFC 3463).
func IsStatus(text string) bool { return status.MatchString(text) }

// normalRow normalises a text, or each part of a composite key.
func normalRow(key string) (string, error) {
	parts := splitComposite(key)
	for i, part := range parts {
		if err := checkEntry(part); err != nil {
			return "", err
		}
		if _, err := netip.ParseAddr(part); err != nil && looksLikeNetwork(part) {
			return "", fmt.Errorf("%q: a part of a key is one address, and %q is none", key, part)
		}
		if part == "" && len(parts) > 1 {
			return "", fmt.Errorf("%q has an empty part, and such a key is never counted", key)
		}
		parts[i] = normalEntry(part)
		if len(parts) > 1 {
			parts[i] = strings.ReplaceAll(parts[i], "|", `\|`)
		}
	}
	return strings.Join(parts, "|"), nil
}

func addRow(rows map[string]int64, key, text string, n int64) error {
	if text == "" || text == "@" {
		return fmt.Errorf("%q is not a key; write a text, @example.com or a network", text)
	}
	err := free(rows, key, text)
	if err == nil {
		rows[key] = n
	}
	return err
}

// free makes it an error that a key has a number already.
func free[K comparable](rows map[K]int64, key K, text string) error {
	if _, known := rows[key]; known {
		return fmt.Errorf("%q is in the table already, perhaps in another spelling", text)
	}
	return nil
}

// number is what the table has for a key: the number of the most specific
// network that holds the whole block of an address under the mask, or an address
// that is a text; else of the text, else of its domain.
func (t *Table) number(key series.Key, m series.Mask) (n int64, ok bool) {
	rows := t.rows.Load()
	if addr := key.Addr(); addr.IsValid() {
		return rows.networks.holding(m.Of(addr))
	}
	text := key.String()
	if len(rows.networks.values) > 0 && looksLikeAddr(text) {
		if addr, err := netip.ParseAddr(text); err == nil {
			n, ok = rows.networks.holding(series.Host.Of(addr))
		}
	}
	if !ok {
		n, ok = rows.exact[text]
	}
	if !ok {
		n, ok = rows.domains[domainOf(text)]
	}
	return n, ok
}

// texts yields the keys that are no networks, as they are normalised.
func (t *Table) texts(yield func(string) bool) {
	rows := t.rows.Load()
	_ = yieldTexts(rows.exact, "", yield) && yieldTexts(rows.domains, "@", yield)
}

// looksLikeAddr keeps the other texts from being parsed, whose errors take memory.
func looksLikeAddr(text string) bool {
	return strings.ContainsAny(text, ".:") && strings.Trim(text, "0123456789abcdef.:") == ""
}
