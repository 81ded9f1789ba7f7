package deltas

import (
	"fmt"
	"net/netip"
	"testing"
	"time"

	"github.com/audit-milter/audit-milter/policy"
	"github.com/audit-milter/audit-milter/series"
)

func TestWishesAreReadAsTheyWereWritten(t *testing.T) {
	address := series.AddrKey(netip.MustParseAddr("198.51.100.7"))
	until := time.Unix(2_000_000_000, 0)
	penalties := []policy.Penalty{{Rule: "flood", Subject: policy.Subject{Text: "alice"}, Until: until}}
	wishes := []Wish{
		{Number: 1, Until: until, Series: "users", Delta: series.Wish(series.TextKey("alice"), 0)},
		{Number: 2, Until: until.Add(time.Hour), Series: "clients", Delta: series.Wish(address, 32)},
		{Number: 3, Until: until, Series: "clients", Delta: series.Wish(address, 24)},
		{Number: 1 << 60, Until: until, Series: "clients", Delta: series.Wish(series.AddrKey(netip.MustParseAddr("2001:db8::")), 64)},
		{Number: 1<<60 + 1, Until: until, Penalty: policy.Penalty{Rule: "flood", Shadow: true, Subject: policy.Subject{Network: netip.MustParsePrefix("198.51.100.0/24")}}},
	}
	for n := range len(wishes) + 1 {
		payload := AppendWishes(AppendPenalties(nil, penalties), wishes[:n])
		gotPenalties, gotWishes, err := DecodeTold(payload)
		if got, want := fmt.Sprint(gotPenalties, gotWishes), fmt.Sprint(penalties, wishes[:n]); err != nil || got != want {
			t.Errorf("got %s, %v, want %s", got, err, want)
		}
		for cut := range payload {
			if _, _, err := DecodeTold(payload[:cut]); err != ErrPayload {
				t.Errorf("%d of %d bytes: got %v", cut, len(payload), err)
			}
		}
	}
}
