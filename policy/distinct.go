package policy

import (
	"fmt"
	"net/netip"
	"strings"
	"time"

	"github.com/audit-milter/audit-milter/series"
)

// Distinct is the value of an event of which a series counts the different ones.
type Distinct struct {
	Of   Term
	Mask series.Mask // of an address, whose network is then the value; series.Host: the address
}

func (d *Distinct) masked() bool { return d.Mask != series.Host }

// network is the value where there is a mask; not valid when the address is absent.
func (d *Distinct) network(ev *Event) (p netip.Prefix) {
	if addr := (Key{d.Of}).addr(ev); addr.IsValid() {
		p = d.Mask.Of(addr)
	}
	return p
}

// show adds the event's value to a distinct series. An absent value is none.
func (e *Engine) show(ev *Event, s Stage, a *add, key series.Key, now time.Time) {
	if !a.Of.masked() {
		e.showValue(ev, s, a, key, boundedKey(a.Of.Of.keyText(ev)), now)
		return
	}
	if p := a.Of.network(ev); p.IsValid() {
		var text [64]byte
		e.showValue(ev, s, a, key, string(p.AppendTo(text[:0])), now)
	}
}

// showValue keeps nothing of the value, so that a short one needs no memory.
func (e *Engine) showValue(ev *Event, s Stage, a *add, key series.Key, value string, now time.Time) {
	if value == "" {
		return
	}
	a.Show(key, value, now)
	if e.log.adds {
		e.log.add(ev, s, a.Definition.Name, key, clientText("value", strings.Clone(value)))
	}
}

// masks are those under which rules read the series.
func (p *Policy) masks(name string) (masks []series.Mask) {
	for _, r := range p.Rules {
		for c := range r.conditions() {
			for _, read := range c.readings() {
				if read.Series == name && read.Masked {
					masks = append(masks, read.Mask)
				}
			}
		}
	}
	return masks
}

// String tells what is counted as `check` shows it.
func (d *Distinct) String() string {
	if networks := networksText(d.Mask); networks != "" {
		return fmt.Sprintf("different %s by %s", d.Of, networks)
	}
	return fmt.Sprintf("different %s", d.Of)
}
