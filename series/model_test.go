package series

import (
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/audit-milter/audit-milter/internal/short"
)

// model is a series written down in the plainest way: a list of all adds, and a
// clock that walks.
type model struct {
	def    Definition
	adds   []added
	newest time.Time
	window Window
}

type added struct {
	key    Key
	n      int64
	window Window
}

func (m *model) read(now time.Time) Window {
	number := func(t time.Time) Window {
		return Window(floorDiv(t.Unix(), int64(m.def.Interval/time.Second)))
	}
	switch {
	case m.newest.IsZero():
		m.window, m.newest = number(now), now
	case !now.Before(m.newest):
		m.window += number(now) - number(m.newest)
		m.newest = now
	case m.newest.Sub(now) >= m.def.Interval:
		m.newest = now
	}
	return m.window
}

func (m *model) takes(k Key) bool {
	switch m.def.Type {
	case CIDR:
		return k.addr.Is4()
	case CIDR6:
		return k.addr.Is6()
	case IP:
		return k.addr.IsValid()
	}
	return k.text != ""
}

func (m *model) add(k Key, n int64, now time.Time) Window {
	w := m.read(now)
	if m.takes(k) && n != 0 {
		m.adds = append(m.adds, added{k, n, w})
	}
	return w
}

func (m *model) addTo(k Key, n int64, w Window) bool {
	if !m.takes(k) || !m.covers(w) {
		return false
	}
	if n != 0 {
		m.adds = append(m.adds, added{k, n, w})
	}
	return true
}

func (m *model) addAt(k Key, n int64, age int, now time.Time) bool {
	w := m.read(now)
	return age >= 0 && m.addTo(k, n, w-Window(age))
}

func (m *model) covers(w Window) bool {
	return !m.newest.IsZero() && w <= m.window && w > m.window-Window(m.def.Windows)
}

func (m *model) counts(k Key, mask Mask, now time.Time) []int64 {
	m.read(now)
	counts := make([]int64, m.def.Windows)
	for _, a := range m.adds {
		if m.covers(a.window) && m.takes(k) && m.within(a.key, k, mask) {
			counts[m.window-a.window] += a.n
		}
	}
	return counts
}

func (m *model) within(have, asked Key, mask Mask) bool {
	if !asked.addr.IsValid() {
		return have == asked
	}
	return mask.Of(asked.addr).Contains(have.addr)
}

func (m *model) count(k Key, mask Mask, from, to int, now time.Time) (sum int64) {
	for i, n := range m.counts(k, mask, now) {
		if from <= i && i <= to {
			sum += n
		}
	}
	return sum
}

func (m *model) remove(k Key) bool {
	windows := map[Window]int64{}
	m.adds = slices.DeleteFunc(m.adds, func(a added) bool {
		if a.key == k && m.covers(a.window) {
			windows[a.window] += a.n
		}
		return a.key == k
	})
	return anyCount(windows)
}

func (m *model) removeBlock(block netip.Prefix) (n int) {
	seen := map[Key]bool{}
	for _, a := range slices.Clone(m.adds) {
		if block.Contains(a.key.addr) && !seen[a.key] {
			seen[a.key] = true
			if m.remove(a.key) {
				n++
			}
		}
	}
	return n
}

func anyCount(windows map[Window]int64) bool {
	for _, n := range windows {
		if n != 0 {
			return true
		}
	}
	return false
}

func (m *model) elapsed(now time.Time) time.Duration {
	m.read(now)
	past := time.Duration(m.newest.UnixNano()) % m.def.Interval
	if past < 0 {
		past += m.def.Interval
	}
	return past
}

// live is how many keys have a count in the present windows.
func (m *model) live() int {
	keys := map[Key]map[Window]int64{}
	for _, a := range m.adds {
		if !m.covers(a.window) {
			continue
		}
		if keys[a.key] == nil {
			keys[a.key] = map[Window]int64{}
		}
		keys[a.key][a.window] += a.n
	}
	n := 0
	for _, windows := range keys {
		if anyCount(windows) {
			n++
		}
	}
	return n
}

// script reads bytes as what happens to a series, and does it to the model too.
// When the bytes are used up it reads zeros.
type script struct {
	t     *testing.T
	bytes []byte
	s     *Series
	m     *model
	now   time.Time
	calm  bool // the clock seldom moves, so that many keys live at a time
	full  bool // keys are evicted: only what is counted of all addresses is compared, and nothing is removed
	log   []string
}

// maxScript bounds a script, since the model takes time in its square.
const maxScript = 1 << 13

func play(t *testing.T, data []byte) {
	p := &script{t: t, bytes: data[:min(len(data), maxScript)], now: at("10:00:00")}
	if p.next(20) == 0 {
		p.now = time.Unix(0, 0) // numbers of windows below zero are near
	}
	def := Definition{
		Name:     "script",
		Type:     Type(p.next(4)),
		Interval: []time.Duration{time.Second, time.Minute, 7 * time.Second, MaxInterval}[p.next(4)],
		Windows:  []int{1, 2, 3, 6, 7, 60}[p.next(6)],
		MaxKeys:  []int{0, 0, 0, 40}[p.next(4)],
	}
	s, err := Define(def)
	if err != nil {
		t.Fatal(err)
	}
	p.s, p.m, p.calm, p.full = s, &model{def: def}, p.next(2) == 0, def.MaxKeys > 0
	p.did("%+v at %v", def, p.now)
	for len(p.bytes) > 0 {
		p.step()
	}
	p.end()
}

// next is a number from 0 to n-1, n ≤ 256.
func (p *script) next(n int) int {
	if len(p.bytes) == 0 {
		return 0
	}
	b := p.bytes[0]
	p.bytes = p.bytes[1:]
	return int(b) % n
}

func (p *script) did(format string, args ...any) {
	p.log = append(p.log, fmt.Sprintf(format, args...))
}

// same fails with the last steps if the series does not answer as the model.
func same[T comparable](p *script, got, want T) {
	p.t.Helper()
	if got != want {
		p.t.Fatalf("%v; want %v, after\n%q", got, want, p.log[max(0, len(p.log)-20):])
	}
}

func (p *script) step() {
	switch p.next(16) {
	default:
		k, n := p.key(), p.amount()
		p.did("add %v %d", k, n)
		same(p, p.s.Add(k, n, p.now), p.m.add(k, n, p.now))
	case 0:
		k, n, age := p.key(), p.amount(), p.next(p.m.def.Windows+3)-1
		if n%2 == 0 {
			p.did("add %v %d at %d", k, n, age)
			same(p, p.s.AddAt(k, n, age, p.now), p.m.addAt(k, n, age, p.now))
			return
		}
		w := p.m.window - Window(age)
		p.did("add %v %d to %d", k, n, w)
		same(p, p.s.AddTo(k, n, w), p.m.addTo(k, n, w))
	case 1:
		k := p.key()
		if p.full {
			return
		}
		if k.addr.IsValid() && len(p.bytes)%4 == 0 {
			block := Mask{uint8(len(p.bytes) % 33), uint8(len(p.bytes) % 129)}.Of(k.addr)
			p.did("remove %v", block)
			same(p, p.s.RemoveBlock(block), p.m.removeBlock(block))
			return
		}
		p.did("remove %v", k)
		same(p, p.s.Remove(k), p.m.remove(k))
	case 2:
		p.tick()
	case 3, 4:
		p.count()
	case 5:
		k, m := p.key(), p.mask()
		p.did("counts %v %v", k, m)
		p.sameCounts(k, m)
	case 6:
		p.did("elapsed")
		same(p, elapsedOf(p.s, p.now), p.m.elapsed(p.now))
		if len(p.bytes)%8 == 0 {
			p.did("walk")
			p.walk()
		}
	}
}

func (p *script) count() {
	k, m := p.key(), p.mask()
	from, to := p.next(p.m.def.Windows+2)-1, p.next(p.m.def.Windows+3)-1
	if !p.comparable(m) {
		return
	}
	p.did("count %v %v %d-%d", k, m, from, to)
	same(p, p.s.Count(k, m, from, to, p.now), p.m.count(k, m, from, to, p.now))
}

func (p *script) sameCounts(k Key, m Mask) {
	p.t.Helper()
	if !p.comparable(m) {
		return
	}
	if got, want := countsOf(p.s, k, m, p.now), p.m.counts(k, m, p.now); !slices.Equal(got, want) {
		p.t.Fatalf("%v under %v: %d; want %d, after\n%q", k, m, got, want, p.log[max(0, len(p.log)-20):])
	}
}

// comparable reports whether the model's count of a block is the series' too.
func (p *script) comparable(m Mask) bool {
	return !p.full || p.m.def.Type != String && m == Mask{}
}

// tick moves the clock: by fractions of an interval or by several, mostly on.
func (p *script) tick() {
	if p.calm && p.next(16) > 0 {
		return
	}
	d := p.m.def.Interval / 8 * time.Duration(p.next(32))
	switch p.next(8) {
	case 0:
		d = -d
	case 1:
		d = d / 8 * time.Duration(p.m.def.Windows)
	case 2:
		d = -d / 8 * time.Duration(p.m.def.Windows)
	case 3:
		d = time.Duration(p.next(3)-1) * p.m.def.Interval
	case 4:
		d = time.Duration(p.next(3) - 1)
	}
	p.now = p.now.Add(d)
	p.did("clock %v", d)
}

func (p *script) amount() int64 {
	n := int64(p.next(256)) - 64
	if n%7 == 0 {
		n *= 1_000_000_007
	}
	return n
}

// key is mostly one that the series takes, from networks small enough that
// keys come again and large enough that trees branch.
func (p *script) key() Key {
	typ := p.m.def.Type
	kind := p.next(32)
	switch {
	case kind == 0:
		return Key{}
	case kind == 1:
		typ = Type(p.next(4))
	case typ == IP:
		typ = CIDR + Type(kind%2)
	}
	switch typ {
	case String:
		return TextKey(fmt.Sprint("user", p.next(100)))
	case CIDR6:
		return AddrKey(p.ipv6(kind))
	}
	return AddrKey(p.ipv4(kind))
}

func (p *script) ipv4(kind int) netip.Addr {
	b := [4]byte{10, 1, 0, byte(p.next(256))}
	switch kind % 5 {
	case 0:
		b[0] = byte(p.next(256))
	case 1:
		b[1] = byte(p.next(8))
	case 2:
		b[2] = byte(p.next(4))
	case 3:
		return netip.AddrFrom16([16]byte{10: 0xff, 11: 0xff, 12: b[0], 13: b[1], 14: b[2], 15: b[3]})
	}
	return netip.AddrFrom4(b)
}

func (p *script) ipv6(kind int) netip.Addr {
	b := [16]byte{0: 0x20, 1: 0x01, 2: 0x0d, 3: 0xb8}
	b[15] = byte(p.next(64))
	if kind%3 > 0 {
		b[p.next(16)] ^= 1 << p.next(8)
	}
	if kind%3 == 2 {
		binary.BigEndian.PutUint16(b[6:], uint16(p.next(256)))
	}
	return netip.AddrFrom16(b).Unmap()
}

func (p *script) mask() Mask {
	m := Mask{uint8(p.next(33)), uint8(p.next(129))}
	if p.full {
		return Mask{}
	}
	return m
}

// walk compares walks with the counts of everything that was ever added, which are
// compared with the model elsewhere.
func (p *script) walk() {
	var keys []Key
	for _, a := range p.m.adds {
		keys = append(keys, a.key)
	}
	n := len(p.bytes)
	checkWalks(p.t, p.s, Mask{uint8(n % 33), uint8(n % 129)}, keys, p.now)
}

// end compares everything that is left, and looks at how the series stands.
func (p *script) end() {
	p.did("the end")
	p.walk()
	for _, a := range p.m.adds {
		p.sameCounts(a.key, Host)
		p.sameCounts(a.key, Mask{20, 64})
	}
	for _, k := range []Key{key("10.0.0.0"), key("2001:db8::")} {
		p.sameCounts(k, Mask{})
	}
	if got, want := p.s.Len(), p.m.live(); !p.full && got < want || p.full && got > p.m.def.MaxKeys {
		p.t.Fatalf("%d keys, of which %d live", got, want)
	}
	if p.s.Stats().Saturated != 0 {
		p.t.Fatalf("%d adds were cut", p.s.Stats().Saturated)
	}
	checkStructure(p.t, p.s)
}

func TestSeriesIsTheModel(t *testing.T) {
	for seed := range uint64(short.Part(150, 20)) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			t.Parallel()
			play(t, randomScript(seed, 3000))
		})
	}
}

func randomScript(seed uint64, length int) []byte {
	r := rand.New(rand.NewPCG(seed, 0))
	data := make([]byte, length)
	for i := range data {
		data[i] = byte(r.Uint32())
	}
	return data
}

func FuzzSeries(f *testing.F) {
	for seed := range uint64(8) {
		f.Add(randomScript(seed, 100<<(seed%5)))
	}
	f.Fuzz(play)
}

func countsOf(s *Series, k Key, m Mask, now time.Time) []int64 {
	counts, _ := s.Counts(nil, k, m, now)
	return counts
}

func elapsedOf(s *Series, now time.Time) time.Duration {
	_, elapsed := s.Counts(nil, Key{}, Mask{}, now)
	return elapsed
}
