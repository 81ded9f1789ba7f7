package deltas

import (
	"fmt"
	"net/netip"
	"testing"
	"time"

	"github.com/audit-milter/audit-milter/policy"
	"github.com/audit-milter/audit-milter/series"
)

func TestOrdersAreReadAsTheyWereWritten(t *testing.T) {
	address := series.AddrKey(netip.MustParseAddr("198.51.100.7"))
	network := policy.Subject{Network: netip.MustParsePrefix("198.51.100.0/24")}
	until := time.Unix(2_000_000_000, 0)
	whole := Orders{
		Imposed: []policy.Penalty{{Rule: "flood", Subject: policy.Subject{Text: "alice"}, Since: until.Add(-time.Hour), Until: until}},
		Ended:   []policy.Penalty{{Rule: "flood", Shadow: true, Subject: network, Since: until.Add(time.Nanosecond)}},
		Wishes: []Wish{
			{Node: "mx1", Life: "1f", Number: 1, Until: until, Series: "users", Delta: series.Wish(series.TextKey("alice"), 0)},
			{Node: "mx2", Number: 1, Until: until.Add(time.Hour), Series: "clients", Delta: series.Wish(address, 32)},
			{Node: "mx2", Number: 3, Until: until, Series: "clients", Delta: series.Wish(address, 24)},
			{Node: "mx2", Number: 1 << 60, Until: until, Series: "clients", Delta: series.Wish(series.AddrKey(netip.MustParseAddr("2001:db8::")), 64)},
		},
	}
	for _, want := range []Orders{{}, {Imposed: whole.Imposed}, {Ended: whole.Ended}, {Wishes: whole.Wishes}, whole} {
		payload := AppendOrders(nil, &want)
		got, err := DecodeOrders(payload)
		if err != nil || fmt.Sprint(got) != fmt.Sprint(want) {
			t.Errorf("got %v, %v, want %v", got, err, want)
		}
		for cut := range payload {
			if _, err := DecodeOrders(payload[:cut]); err != ErrPayload {
				t.Errorf("%d of %d bytes: got %v", cut, len(payload), err)
			}
		}
	}
	if size, want := whole.Wishes[0].Size(), 9+len(AppendOrders(nil, &Orders{Wishes: whole.Wishes[:1]}))-3; size != want {
		t.Errorf("a wish takes %d bytes, want %d", size, want)
	}
}
