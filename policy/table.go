package policy

import (
	"fmt"
	"net/netip"
	"slices"
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
	networks map[netip.Prefix]int64
	lengths  [2][]int // the distinct prefix lengths, IPv4 and IPv6, the longest first
	exact    map[string]int64
	domains  map[string]int64 // of @example.com
}

// NewTable makes an empty table.
func NewTable(name string) *Table {
	t := &Table{name: name}
	t.rows.Store(&tableRows{
		networks: make(map[netip.Prefix]int64),
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
	n := len(rows.exact) + len(rows.domains) + len(rows.networks)
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
		return rows.addNetwork(network, n)
	case isPrefix(key):
		return err
	case isDomain:
		return addRow(rows.domains, normalHost(domain), key, n)
	}
	return addRow(rows.exact, boundedKey(normalEntry(key)), key, n)
}

func isPrefix(text string) bool {
	_, err := netip.ParsePrefix(text)
	return err == nil
}

// addNetwork adds a network, or a single address.
func (r *tableRows) addNetwork(p netip.Prefix, n int64) error {
	if err := addRow(r.networks, p, p.String(), n); err != nil {
		return err
	}
	lengths := &r.lengths[family(p.Addr())]
	at, known := slices.BinarySearchFunc(*lengths, p.Bits(), func(have, bits int) int { return bits - have })
	if !known {
		*lengths = slices.Insert(*lengths, at, p.Bits())
	}
	return nil
}

func addRow[K comparable](rows map[K]int64, key K, text string, n int64) error {
	switch _, known := rows[key]; {
	case known:
		return fmt.Errorf("%q is in the table already, perhaps in another spelling", text)
	case text == "" || text == "@":
		return fmt.Errorf("%q is not a key; write a text, @example.com or a network", text)
	}
	rows[key] = n
	return nil
}

// number is what the table has for a key: the number of the most specific
// network that holds the whole block of an address under the mask, or an address
// that is a text; else of the text, else of its domain.
func (t *Table) number(key series.Key, m series.Mask) (n int64, ok bool) {
	rows := t.rows.Load()
	if addr := key.Addr(); addr.IsValid() {
		return rows.ofBlock(m.Of(addr))
	}
	text := key.String()
	if len(rows.networks) > 0 && looksLikeAddr(text) {
		if addr, err := netip.ParseAddr(text); err == nil {
			n, ok = rows.ofBlock(series.Host.Of(addr))
		}
	}
	if !ok {
		n, ok = rows.exact[text]
	}
	if !ok {
		n, ok = rows.domains[text[strings.LastIndexByte(text, '@')+1:]]
	}
	return n, ok
}

// looksLikeAddr keeps the other texts from being parsed, whose errors take memory.
func looksLikeAddr(text string) bool {
	return strings.ContainsAny(text, ".:") && strings.Trim(text, "0123456789abcdef.:") == ""
}

func (r *tableRows) ofBlock(block netip.Prefix) (n int64, ok bool) {
	for _, bits := range r.lengths[family(block.Addr())] {
		if bits > block.Bits() {
			continue
		}
		p, _ := block.Addr().Prefix(bits)
		if n, ok = r.networks[p]; ok {
			return n, ok
		}
	}
	return 0, false
}
