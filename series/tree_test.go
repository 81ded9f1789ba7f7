package series

import (
	"encoding/binary"
	"net/netip"
	"slices"
	"testing"
	"time"
)

// checkStructure fails if a series holds more than it must: an empty leaf, a
// node with one kid, a slot that nobody owns.
func checkStructure(t *testing.T, s *Series) {
	t.Helper()
	for _, f := range []*family{s.ipv4, s.ipv6} {
		if f == nil {
			continue
		}
		for i := range f.trees {
			checkTree(t, &f.trees[i].tree)
		}
	}
	if s.texts != nil {
		for i := range s.texts.tables {
			checkTable(t, &s.texts.tables[i].table)
		}
	}
}

func checkTree(t *testing.T, tr *tree) {
	t.Helper()
	var keys, nodes, leaves int
	var walk func(l link, bits uint8, within address)
	walk = func(l link, bits uint8, within address) {
		if l.isNode() {
			nodes++
			nd := tr.nodes.at(l.index())
			checkNode(t, nd, bits, within)
			for slot, kid := range nd.kids {
				if i := slices.Index(nd.kids[:], kid); kid != none && i == slot {
					walk(kid, nd.bits, nd.any)
				}
			}
			return
		}
		leaves++
		lf := tr.leaves.at(l.index())
		keys += int(lf.n)
		checkLeaf(t, tr, lf, bits, within)
	}
	if tr.root != none {
		walk(tr.root, 0, address{})
	}
	owned := [4]int{keys, nodes, leaves, keys + nodes}
	taken := [4]int{tr.keys, inUse(&tr.nodes.indexes), inUse(&tr.leaves.indexes), inUse(&tr.rings.indexes)}
	if owned != taken {
		t.Fatalf("keys, nodes, leaves, rings: %d are taken and %d reached", taken, owned)
	}
}

func checkNode(t *testing.T, nd *node, bits uint8, within address) {
	t.Helper()
	if nd.bits < bits || nd.bits%slotBits != 0 || nd.any.shared(within) < bits {
		t.Fatalf("a node of %d bits lies below one of %d", nd.bits, bits)
	}
	kids := map[link]int{}
	for _, kid := range nd.kids {
		kids[kid]++
		if kid.isNode() && kids[kid] > 1 {
			t.Fatal("a node is in several slots")
		}
	}
	if delete(kids, none); len(kids) < 2 {
		t.Fatal("a node has nothing to part")
	}
}

func checkLeaf(t *testing.T, tr *tree, lf *leaf, bits uint8, within address) {
	t.Helper()
	if lf.n == 0 {
		t.Fatal("a leaf is empty")
	}
	for i := range int(lf.n) {
		a := lf.address(i)
		if a.shared(within) < bits {
			t.Fatal("an address lies outside its block")
		}
		if found, j := tr.find(a); found != lf || j != i {
			t.Fatal("an address is in a leaf that is not on its way")
		}
		if newest := tr.rings.at(lf.rings[i])[0]; newest < lf.oldest {
			t.Fatalf("a ring stands at %d in a leaf that has none before %d", newest, lf.oldest)
		}
	}
}

func inUse(s *indexes) int { return int(s.used) - len(s.free) }

func checkTable(t *testing.T, tb *table) {
	t.Helper()
	reached := 0
	for hash, i := range tb.first {
		for ; i != 0; i = tb.texts.at(i).next {
			reached++
			if tb.texts.at(i).hash != hash {
				t.Fatal("an entry is in another one's chain")
			}
		}
	}
	if taken := inUse(&tb.texts.indexes); reached != tb.keys || reached != taken {
		t.Fatalf("%d texts are counted, %d taken and %d reached", tb.keys, taken, reached)
	}
}

// numbered is the i-th of many addresses, near each other or far apart.
func numbered(i int, far bool) Key {
	var b [4]byte
	n := uint32(i)
	if far {
		n = mix(i)
	}
	binary.BigEndian.PutUint32(b[:], n)
	return AddrKey(netip.AddrFrom4(b))
}

// What has expired makes room when other keys are counted, and what comes later
// takes that room.
func TestExpiredKeysLeave(t *testing.T) {
	spread := func(i int) Key { return numbered(100<<24|i<<16, false) } // a /16 each
	tests := []struct {
		name       string
		typ        Type
		key, other func(i int) Key
	}{
		{"addresses in a row", CIDR, func(i int) Key { return numbered(i, false) }, spread},
		{"addresses far apart", CIDR, func(i int) Key { return numbered(i, true) }, spread},
		{"networks of IPv6", CIDR6, kinds[1].key, kinds[1].key},
		{"texts", String, kinds[2].key, kinds[2].key},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			s := define(t, test.typ, time.Minute, 3)
			now, room := at("10:00:00"), 0
			for round := range 4 {
				addAll(s, test.key, 1000+round*5000, 5000, now)
				if round == 0 {
					room = capacity(s)
				}
				now = now.Add(3 * time.Minute)
				for range 100 { // as many adds as the hand needs to come round everywhere
					addAll(s, test.other, 0, 200, now)
				}
				if s.Len() != 200 {
					t.Fatalf("round %d: %d keys when all but 200 have expired", round, s.Len())
				}
				checkStructure(t, s)
				now = now.Add(3 * time.Minute)
			}
			if last := capacity(s); last > room*3/2 {
				t.Errorf("room for %d counters has become %d", room, last)
			}
		})
	}
}

func addAll(s *Series, key func(i int) Key, from, n int, now time.Time) {
	for i := range n {
		s.Add(key(from+i), 1, now)
	}
}

// capacity is how many rings the series has ever had at a time.
func capacity(s *Series) (n int) {
	for _, f := range []*family{s.ipv4, s.ipv6} {
		for i := range partsOf(f) {
			n += int(f.trees[i].rings.used)
		}
	}
	if s.texts != nil {
		for i := range s.texts.tables {
			n += int(s.texts.tables[i].texts.used)
		}
	}
	return n
}

func partsOf(f *family) int {
	if f == nil {
		return 0
	}
	return len(f.trees)
}

func TestNothingIsLeftWhenAllHasExpired(t *testing.T) {
	tr := &tree{rings: newRings(4)}
	for i := range 5000 {
		tr.add(addressOf(numbered(i, i%2 == 0).addr), momentOf(int64(i/1000), 4), 1)
	}
	if tr.keys != 5000 {
		t.Fatalf("%d keys", tr.keys)
	}
	for oldest := range int64(6) {
		for range tr.leaves.used {
			tr.sweep(oldest)
		}
		if want := 1000 * int(5-oldest); tr.keys != want {
			t.Errorf("when window %d is the oldest: %d keys; want %d", oldest, tr.keys, want)
		}
		checkTree(t, tr)
	}
	if tr.root != none {
		t.Error("the tree has a root")
	}
}

// Texts that share a hash do not share a count.
func TestTextsOfOneHash(t *testing.T) {
	tb := &table{first: map[uint32]uint32{}, rings: newRings(2)}
	texts := []string{"a", "b", "c", "d", "e"}
	m := momentOf(100, 2)
	for i, text := range texts {
		tb.add(7, text, m, int64(i+1))
		tb.add(7, text, m, int64(i+1))
	}
	for _, gone := range []int{2, 0, 4} { // in the middle, at the end, at the beginning
		if !tb.remove(7, texts[gone], 99) || tb.remove(7, texts[gone], 99) {
			t.Errorf("%s is not removed once", texts[gone])
		}
		checkTable(t, tb)
	}
	for i, text := range texts {
		j := tb.find(7, text)
		if (j != 0) != (i == 1 || i == 3) {
			t.Errorf("%s: %d", text, j)
		}
		if j != 0 && tb.rings.at(j).sum(span{m, 99}) != int64(2*i+2) {
			t.Errorf("%s: %d", text, tb.rings.at(j).sum(span{m, 99}))
		}
	}
}

// The largest rings fill a chunk each, the smallest share one.
func TestRingsOfEverySize(t *testing.T) {
	for _, windows := range []int{1, 2, 6, 7, 60, 255, 256, 1000, MaxWindows} {
		r := newRings(windows)
		for w := range int64(300) {
			if i := r.take(w); len(r.at(i)) != windows+1 || r.at(i)[0] != w {
				t.Fatalf("%d windows: ring %d has %d numbers", windows, i, len(r.at(i)))
			}
		}
		for w := range int64(300) {
			if r.at(uint32(w + 1))[0] != w {
				t.Fatalf("%d windows: ring %d has been overwritten", windows, w+1)
			}
		}
	}
}
