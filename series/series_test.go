package series

import (
	"fmt"
	"math"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"
)

func define(t testing.TB, typ Type, interval time.Duration, windows int) *Series {
	t.Helper()
	s, err := Define(Definition{Name: "test", Type: typ, Interval: interval, Windows: windows})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// key reads an address where there is one, and a text otherwise.
func key(s string) Key {
	if a, err := netip.ParseAddr(s); err == nil {
		return AddrKey(a)
	}
	return TextKey(s)
}

func TestDefineSaysWhatIsWrong(t *testing.T) {
	good := Definition{Name: "connections", Type: IP, Interval: 5 * time.Minute, Windows: 6}
	tests := []struct {
		change func(*Definition)
		want   string
	}{
		{func(d *Definition) { d.Name = "" }, "a series needs a name"},
		{func(d *Definition) { d.Type = 9 }, "type 9: must be one of cidr, cidr_ipv6, string, ip"},
		{func(d *Definition) { d.Interval = 0 }, "interval 0s: must be whole seconds, 1s to 31d"},
		{func(d *Definition) { d.Interval = 1500 * time.Millisecond }, "interval 1.5s: must be whole seconds, 1s to 31d"},
		{func(d *Definition) { d.Interval = MaxInterval + time.Second }, "interval 744h0m1s: must be whole seconds, 1s to 31d"},
		{func(d *Definition) { d.Windows = 0 }, "windows 0: must be 1 to 1024"},
		{func(d *Definition) { d.Windows = MaxWindows + 1 }, "windows 1025: must be 1 to 1024"},
		{func(d *Definition) { d.MaxKeys = -1 }, "max_keys -1: must be 1 to 1000000000"},
		{func(d *Definition) { d.MaxKeys = MaxMaxKeys + 1 }, "max_keys 1000000001: must be 1 to 1000000000"},
	}
	for _, test := range tests {
		d := good
		test.change(&d)
		if _, err := Define(d); err == nil || err.Error() != test.want {
			t.Errorf("%+v: error %v; want %s", d, err, test.want)
		}
	}
	s, err := Define(good)
	if good.MaxKeys = 1_000_000; err != nil || s.Definition() != good {
		t.Errorf("%+v: %v, error %v", good, s.Definition(), err)
	}
}

func TestTypesHaveNames(t *testing.T) {
	for _, name := range TypeNames() {
		if typ, ok := ParseType(name); !ok || typ.String() != name || typ.IsAddress() != (name != "string") {
			t.Errorf("%s: %v, %v", name, typ, ok)
		}
	}
	if _, ok := ParseType("cidr6"); ok {
		t.Error("cidr6 is a type")
	}
}

func TestWindowRanges(t *testing.T) {
	s := define(t, String, 5*time.Minute, 6)
	k := key("user")
	// Window 6 at the time of the counts is one too many.
	for _, add := range []struct {
		now string
		n   int64
	}{
		{"10:00:00", 1000000}, {"10:05:00", 100000}, {"10:10:00", 10000}, {"10:14:59.999999999", 1000},
		{"10:20:00", 100}, {"10:25:00", 10}, {"10:30:00", 1}, {"10:34:59.999999999", 1},
	} {
		s.Add(k, add.n, at(add.now))
	}
	tests := []struct {
		name     string
		from, to int
		now      string
		want     int64
	}{
		{"the current window", 0, 0, "10:34:59.999999999", 2},
		{"the one before it", 1, 1, "10:34:59.999999999", 10},
		{"an empty one", 3, 3, "10:34:59.999999999", 0},
		{"the oldest one", 5, 5, "10:34:59.999999999", 100000},
		{"all", 0, 5, "10:34:59.999999999", 111112},
		{"the earlier ones", 1, 5, "10:34:59.999999999", 111110},
		{"a range beyond the windows ends with them", 0, 100, "10:34:59.999999999", 111112},
		{"a range wholly beyond the windows", 6, 100, "10:34:59.999999999", 0},
		{"a range that begins before the current window", -3, 0, "10:34:59.999999999", 2},
		{"a range that ends before the current window", -3, -1, "10:34:59.999999999", 0},
		{"a range that ends before it begins", 2, 1, "10:34:59.999999999", 0},
		{"at the boundary every window moves up", 0, 0, "10:35:00", 0},
		{"and the current one is window 1", 1, 1, "10:35:00", 2},
		{"and the oldest has gone", 0, 5, "10:35:00", 11112},
		{"the last moment of the last count", 0, 5, "10:59:59.999999999", 2},
		{"nothing is left", 0, 5, "11:00:00", 0},
	}
	for _, test := range tests {
		if got := s.Count(k, Mask{}, test.from, test.to, at(test.now)); got != test.want {
			t.Errorf("%s: windows %d-%d at %s: %d; want %d", test.name, test.from, test.to, test.now, got, test.want)
		}
	}
}

func TestOneWindow(t *testing.T) {
	s := define(t, CIDR, time.Second, 1)
	k := key("192.0.2.1")
	s.Add(k, 3, at("10:00:00"))
	s.Add(k, 4, at("10:00:00.9"))
	if got := s.Count(k, Host, 0, 0, at("10:00:00.999")); got != 7 {
		t.Errorf("in the same second: %d; want 7", got)
	}
	if got := s.Count(k, Host, 0, 0, at("10:00:01")); got != 0 {
		t.Errorf("in the next second: %d; want 0", got)
	}
}

func TestClockStepsLoseAndFreezeNothing(t *testing.T) {
	s := define(t, IP, 5*time.Minute, 3)
	k := key("192.0.2.1")
	now := at("10:00:00")
	steps := []struct {
		name string
		step time.Duration
		add  int64
		want []int64
	}{
		{"the first add", 0, 1, []int64{1, 0, 0}},
		{"five minutes later", 5 * time.Minute, 2, []int64{2, 1, 0}},
		{"a minute back", -time.Minute, 4, []int64{6, 1, 0}},
		{"an hour back", -time.Hour, 8, []int64{14, 1, 0}},
		{"the next window comes", 5 * time.Minute, 16, []int64{16, 14, 1}},
		{"an hour on", time.Hour, 32, []int64{32, 0, 0}},
		{"ten years on", 87660 * time.Hour, 64, []int64{64, 0, 0}},
		{"and back", -87660 * time.Hour, 128, []int64{192, 0, 0}},
		{"the next window comes again", 5 * time.Minute, 256, []int64{256, 192, 0}},
	}
	for _, step := range steps {
		now = now.Add(step.step)
		s.Add(k, step.add, now)
		for _, m := range []Mask{Host, {24, 64}, {}} {
			if got, _ := s.Counts(nil, k, m, now); !slices.Equal(got, step.want) {
				t.Errorf("%s, /%d: %d; want %d", step.name, m.IPv4, got, step.want)
			}
		}
	}
}

func TestCountsAreEveryWindow(t *testing.T) {
	s := define(t, IP, time.Minute, 4)
	s.Add(key("192.0.2.1"), 1, at("10:00:00"))
	s.Add(key("192.0.2.2"), 2, at("10:01:00"))
	s.Add(key("192.0.2.2"), -5, at("10:03:00"))
	tests := []struct {
		key  string
		mask Mask
		want []int64
	}{
		{"192.0.2.1", Host, []int64{0, 0, 0, 1}},
		{"192.0.2.2", Host, []int64{-5, 0, 2, 0}},
		{"192.0.2.2", Mask{IPv4: 24}, []int64{-5, 0, 2, 1}},
		{"203.0.113.1", Mask{}, []int64{-5, 0, 2, 1}},
		{"2001:db8::1", Mask{}, []int64{0, 0, 0, 0}},
		{"text", Mask{}, []int64{0, 0, 0, 0}},
	}
	dst := []int64{9, 9, 9, 9, 9, 9}
	for _, test := range tests {
		dst, _ = s.Counts(dst, key(test.key), test.mask, at("10:03:30"))
		if !slices.Equal(dst, test.want) {
			t.Errorf("%s %v: %d; want %d", test.key, test.mask, dst, test.want)
		}
	}
}

func TestMasks(t *testing.T) {
	s := define(t, IP, time.Minute, 2)
	now := at("10:00:00")
	for i, k := range []string{
		"10.0.0.0", "10.0.0.1", "10.0.0.255", "10.0.1.0", "10.128.0.0", "11.0.0.0", "0.0.0.0", "255.255.255.255",
		"2001:db8::", "2001:db8::1", "2001:db8:0:1::1", "2001:db8:1::1", "::", "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff",
		"::ffff:10.0.0.1",
	} {
		s.Add(key(k), 1<<i, now)
	}
	tests := []struct {
		block string
		want  int64
	}{
		{"10.0.0.0/32", 1 << 0},
		{"10.0.0.1/32", 1<<1 | 1<<14},
		{"10.0.0.0/31", 1<<0 | 1<<1 | 1<<14},
		{"10.0.0.0/24", 1<<0 | 1<<1 | 1<<2 | 1<<14},
		{"10.0.1.77/24", 1 << 3},
		{"10.0.0.0/23", 1<<0 | 1<<1 | 1<<2 | 1<<3 | 1<<14},
		{"10.0.0.0/9", 1<<0 | 1<<1 | 1<<2 | 1<<3 | 1<<14},
		{"10.0.0.0/8", 1<<0 | 1<<1 | 1<<2 | 1<<3 | 1<<4 | 1<<14},
		{"10.0.0.0/7", 1<<0 | 1<<1 | 1<<2 | 1<<3 | 1<<4 | 1<<5 | 1<<14},
		{"128.0.0.0/1", 1 << 7},
		{"1.2.3.4/0", 1<<8 - 1 | 1<<14},
		{"192.0.2.0/24", 0},
		{"2001:db8::/128", 1 << 8},
		{"2001:db8::/127", 1<<8 | 1<<9},
		{"2001:db8::/64", 1<<8 | 1<<9},
		{"2001:db8::/63", 1<<8 | 1<<9 | 1<<10},
		{"2001:db8::/48", 1<<8 | 1<<9 | 1<<10},
		{"2001:db8::/32", 1<<8 | 1<<9 | 1<<10 | 1<<11},
		{"::/1", 1<<8 | 1<<9 | 1<<10 | 1<<11 | 1<<12},
		{"::/0", 1<<8 | 1<<9 | 1<<10 | 1<<11 | 1<<12 | 1<<13},
		{"2001:db9::/32", 0},
	}
	for _, test := range tests {
		p := netip.MustParsePrefix(test.block)
		bits := uint8(p.Bits())
		if got := s.Count(AddrKey(p.Addr()), Mask{bits, bits}, 0, 0, now); got != test.want {
			t.Errorf("%s: %#x; want %#x", test.block, got, test.want)
		}
	}
}

func TestOnlyItsOwnKeysAreTaken(t *testing.T) {
	tests := []struct {
		key   string
		taken map[Type]bool
	}{
		{"192.0.2.1", map[Type]bool{CIDR: true, IP: true}},
		{"::ffff:192.0.2.1", map[Type]bool{CIDR: true, IP: true}},
		{"2001:db8::1", map[Type]bool{CIDR6: true, IP: true}},
		{"fe80::1%eth0", map[Type]bool{CIDR6: true, IP: true}},
		{"user@example.com", map[Type]bool{String: true}},
		{"", map[Type]bool{}},
	}
	now := at("10:00:00")
	for _, test := range tests {
		for _, typ := range []Type{CIDR, CIDR6, String, IP} {
			s := define(t, typ, time.Minute, 2)
			k, want := key(test.key), int64(0)
			if test.taken[typ] {
				want = 3
			}
			if got := s.Takes(k); got != test.taken[typ] {
				t.Errorf("%s takes %q: %v", typ, test.key, got)
			}
			w := s.Add(k, 1, now)
			if got := s.AddTo(k, 2, w); got != test.taken[typ] {
				t.Errorf("%s adds %q to its window: %v", typ, test.key, got)
			}
			if got := s.Count(k, Host, 0, 1, now); got != want || s.Len() != int(min(want, 1)) {
				t.Errorf("%s counts %q: %d, of %d keys; want %d", typ, test.key, got, s.Len(), want)
			}
			if got := s.Remove(k); got != test.taken[typ] {
				t.Errorf("%s removes %q: %v", typ, test.key, got)
			}
		}
	}
}

func TestAddToAnEarlierWindow(t *testing.T) {
	for _, k := range []Key{key("192.0.2.1"), key("user")} {
		typ := CIDR
		if k.addr == (netip.Addr{}) {
			typ = String
		}
		s := define(t, typ, time.Minute, 3)
		first := s.Add(k, 5, at("10:00:59"))
		s.Add(k, 7, at("10:01:00"))
		if !s.AddTo(k, -5, first) {
			t.Errorf("%s: taking back from the window before: false", typ)
		}
		if got, _ := s.Counts(nil, k, Host, at("10:01:00")); !slices.Equal(got, []int64{7, 0, 0}) {
			t.Errorf("%s: after taking back: %d", typ, got)
		}
		s.Count(TextKey("x"), Host, 0, 0, at("10:03:00")) // the clock goes on
		if s.AddTo(k, 1, first) {
			t.Errorf("%s: adding to a window that has gone: true", typ)
		}
		if s.AddTo(k, 1, first+4) {
			t.Errorf("%s: adding to a window that is to come: true", typ)
		}
		if got, _ := s.Counts(nil, k, Host, at("10:03:00")); !slices.Equal(got, []int64{0, 0, 7}) {
			t.Errorf("%s: at the end: %d", typ, got)
		}
	}
}

func TestRemoveTakesAnAddressOutOfEveryBlock(t *testing.T) {
	s := define(t, CIDR, time.Minute, 3)
	var keys []Key
	for i := range 200 {
		keys = append(keys, key(fmt.Sprintf("10.0.%d.%d", i/100, i)))
		s.Add(keys[i], 1, at("10:00:00"))
	}
	for _, k := range keys {
		s.Add(k, 10, at("10:01:00"))
	}
	if s.Remove(key("10.0.0.222")) || s.Remove(key("192.0.2.1")) {
		t.Error("removed what was never there")
	}
	for i := 0; i < 200; i += 2 {
		if !s.Remove(keys[i]) {
			t.Errorf("%v was not there", keys[i])
		}
		if s.Remove(keys[i]) {
			t.Errorf("%v was there twice", keys[i])
		}
	}
	now := at("10:01:00")
	for i, k := range keys {
		if got, want := s.Count(k, Host, 0, 2, now), int64(i%2*11); got != want {
			t.Errorf("%v: %d; want %d", k, got, want)
		}
	}
	if got, _ := s.Counts(nil, keys[0], Mask{IPv4: 24}, now); !slices.Equal(got, []int64{500, 50, 0}) {
		t.Errorf("the /24: %d", got)
	}
	if got, _ := s.Counts(nil, keys[0], Mask{}, now); !slices.Equal(got, []int64{1000, 100, 0}) {
		t.Errorf("the /0: %d", got)
	}
	if s.Len() != 100 {
		t.Errorf("%d keys are left", s.Len())
	}
}

func TestWhatHasExpiredCannotBeRemoved(t *testing.T) {
	for _, k := range []Key{key("192.0.2.1"), key("user")} {
		typ := IP
		if k.text != "" {
			typ = String
		}
		s := define(t, typ, time.Minute, 2)
		s.Add(k, 1, at("10:00:00"))
		s.Count(TextKey("x"), Host, 0, 0, at("10:02:00"))
		if s.Remove(k) {
			t.Errorf("%v was there", k)
		}
		if s.Len() != 0 {
			t.Errorf("%v still is", k)
		}
	}
}

func TestZeroCountsStay(t *testing.T) {
	s := define(t, String, time.Minute, 2)
	k := key("user")
	s.Add(k, 0, at("10:00:00"))
	if s.Len() != 0 {
		t.Error("adding nothing made a key")
	}
	s.Add(k, 2, at("10:00:00"))
	s.Add(k, -2, at("10:00:00"))
	if s.Len() != 1 {
		t.Error("a key left when its count became zero")
	}
	if s.Remove(k) {
		t.Error("there was something to take out")
	}
}

func TestCountsStopAtTheLimit(t *testing.T) {
	now := at("10:00:00")
	tests := []struct {
		name string
		adds []int64
		want int64
		cut  uint64
	}{
		{"up to the limit", []int64{math.MaxInt64 - 1, 1}, math.MaxInt64, 0},
		{"beyond it", []int64{math.MaxInt64, 1, 5}, math.MaxInt64, 2},
		{"down from it", []int64{math.MaxInt64, 1, -5}, math.MaxInt64 - 5, 1},
		{"down to the limit", []int64{-math.MaxInt64 + 1, -1}, -math.MaxInt64, 0},
		{"below it", []int64{-math.MaxInt64, -1}, -math.MaxInt64, 1},
		{"the one number that has no opposite", []int64{math.MinInt64}, -math.MaxInt64, 1},
		{"and again", []int64{-1, math.MinInt64}, -math.MaxInt64, 1},
	}
	for _, test := range tests {
		for _, k := range []Key{key("192.0.2.1"), key("user")} {
			typ := CIDR
			if k.text != "" {
				typ = String
			}
			s := define(t, typ, time.Minute, 2)
			for _, n := range test.adds {
				s.Add(k, n, now)
			}
			if got := s.Count(k, Host, 0, 1, now); got != test.want || s.Stats().Saturated != test.cut {
				t.Errorf("%s: %s: %d, %d cut; want %d, %d", typ, test.name, got, s.Stats().Saturated, test.want, test.cut)
			}
		}
	}
}

func TestStatsCountAdds(t *testing.T) {
	s := define(t, IP, time.Minute, 2)
	now := at("10:00:00")
	for _, step := range []struct {
		name string
		do   func()
		adds uint64 // in all
	}{
		{"a new key is added", func() { s.Add(key("192.0.2.1"), 1, now) }, 1},
		{"one of the other family too", func() { s.Add(key("2001:db8::1"), 5, now) }, 2},
		{"it is added again", func() { s.Add(key("192.0.2.1"), 1, now) }, 3},
		{"an amount is taken back", func() { s.AddTo(key("192.0.2.1"), -1, s.Add(key("192.0.2.1"), 1, now)) }, 5},
		{"nothing is added", func() { s.Add(key("192.0.2.1"), 0, now) }, 5},
		{"a key is not taken", func() { s.Add(key("user"), 1, now) }, 5},
		{"another series tells of one", func() { s.Merge(Delta{Key: key("192.0.2.1"), Bits: 32, Start: now.Unix(), Amount: 1}, now) }, 5},
		{"a key is removed", func() { s.Remove(key("192.0.2.1")) }, 5},
	} {
		if step.do(); s.Stats() != (Stats{Adds: step.adds}) {
			t.Errorf("%s: %+v; want %d adds", step.name, s.Stats(), step.adds)
		}
	}
}

func TestSumsStopAtTheLimit(t *testing.T) {
	s := define(t, CIDR, time.Minute, 2)
	for i := range 2 * leafCap { // more than one leaf
		s.Add(key(fmt.Sprint("10.0.0.", i)), math.MaxInt64/2, at("10:00:00"))
	}
	s.Add(key("10.0.0.0"), math.MaxInt64, at("10:01:00"))
	now := at("10:01:00")
	for _, m := range []Mask{{0, 0}, {24, 0}, {27, 0}, {30, 0}, {31, 0}, {32, 0}} {
		if got := s.Count(key("10.0.0.0"), m, 0, 1, now); got != math.MaxInt64 {
			t.Errorf("/%d: %d; want %d", m.IPv4, got, int64(math.MaxInt64))
		}
	}
	if got := s.Count(key("10.0.0.9"), Host, 0, 1, now); got != math.MaxInt64/2 {
		t.Errorf("one address: %d", got)
	}
	if s.Stats().Saturated == 0 {
		t.Error("no cut was counted")
	}
	// The window leaves, and with it what was not exact.
	s.Add(key("10.0.0.9"), 1, at("10:02:00"))
	s.Add(key("10.0.0.9"), 1, at("10:03:00"))
	if got := s.Count(key("10.0.0.9"), Mask{}, 0, 1, at("10:03:00")); got != 2 {
		t.Errorf("later: %d; want 2", got)
	}
}

func TestTextsOfEveryLength(t *testing.T) {
	s := define(t, String, time.Minute, 2)
	now, long := at("10:00:00"), strings.Repeat("x", 1<<10)
	for round := range int64(3) {
		for n := range len(long) {
			k := TextKey(long[:n])
			if taken := n > 0 && n <= 255; s.Takes(k) != taken {
				t.Fatalf("takes a text of %d bytes: %v", n, !taken)
			}
			s.Add(k, int64(n), now)
			if got := s.Count(k, Host, 0, 0, now); s.Takes(k) && got != int64(n)*(round%2+1) {
				t.Fatalf("a text of %d bytes: %d", n, got)
			}
		}
		for n := 1; n <= 255 && round == 1; n++ {
			s.Remove(TextKey(long[:n]))
		}
		checkStructure(t, s)
	}
}

func TestSteadyStateDoesNotAllocate(t *testing.T) {
	now := at("10:00:00")
	for _, k := range []Key{key("192.0.2.1"), key("2001:db8::1"), key("user@example.com")} {
		typ := IP
		if k.text != "" {
			typ = String
		}
		s := define(t, typ, time.Minute, 6)
		dst := make([]int64, 6)
		allocs := testing.AllocsPerRun(100, func() {
			now = now.Add(time.Second)
			s.AddTo(k, -1, s.Add(k, 2, now))
			s.Count(k, Mask{24, 64}, 0, 5, now)
			dst, _ = s.Counts(dst, k, Mask{}, now)
		})
		if allocs != 0 {
			t.Errorf("%v: %v allocations", k, allocs)
		}
	}
}
