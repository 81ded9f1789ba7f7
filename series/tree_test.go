package series

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"slices"
	"sync/atomic"
	"testing"
	"time"
)

// checkStructure fails if a series holds more than it must: an empty leaf, a
// node with one kid, a slot that nobody owns.
func checkStructure(t *testing.T, s *Series) {
	t.Helper()
	keys := 0
	for _, f := range s.families {
		for i := range f.trees {
			checkTree(t, &f.trees[i].tree, s.def.MaxKeys < DefaultMaxKeys)
			keys += int(f.trees[i].keys.Load())
		}
	}
	if s.Len() != keys {
		t.Fatalf("%d keys; the trees have %d", s.Len(), keys)
	}
}

// A tree of which keys were evicted can have nodes with one kid.
func checkTree(t *testing.T, tr *tree, evicted bool) {
	t.Helper()
	var keys, nodes, leaves, sheets, cells int
	var walk func(l link, bits uint8, within address)
	walk = func(l link, bits uint8, within address) {
		if l.isNode() {
			nodes++
			nd := tr.nodes.at(l.index())
			checkNode(t, nd, bits, within, evicted)
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
		sheets += (int(lf.n) + sheetRows - 1) / sheetRows
		checkLeaf(t, tr, l.index(), bits, within)
		for _, n := range namesIn(tr, l.index()) {
			cells += (int(n.length) + cellSize - 1) / cellSize
		}
	}
	if tr.root != none {
		walk(tr.root, 0, address{})
	}
	reached := [5]int{keys, nodes, leaves, sheets, cells}
	taken := [5]int{int(tr.keys.Load()), inUse(&tr.sums.indexes), inUse(&tr.leaves.indexes),
		inUse(&tr.leaves.sheets.indexes), inUse(&tr.leaves.texts.indexes)}
	if reached != taken {
		t.Fatalf("keys, nodes, leaves, sheets, cells: %d are taken and %d reached", taken, reached)
	}
}

func checkNode(t *testing.T, nd *node, bits uint8, within address, evicted bool) {
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
	if delete(kids, none); len(kids) == 0 || len(kids) == 1 && !evicted {
		t.Fatalf("a node with %d kids has nothing to part", len(kids))
	}
}

// namesIn are the names of a leaf's keys, if they have any.
func namesIn(tr *tree, i uint32) []name {
	if !tr.named {
		return nil
	}
	return tr.leaves.names.at(i)[:tr.leaves.at(i).n]
}

func checkLeaf(t *testing.T, tr *tree, i uint32, bits uint8, within address) {
	t.Helper()
	lf := tr.leaves.at(i)
	if lf.n == 0 {
		t.Fatal("a leaf has no keys")
	}
	for place := range int(lf.n) {
		a := tr.leaves.address(i, place)
		if a.shared(within) < bits {
			t.Fatal("an address lies outside its block")
		}
		text := ""
		if names := namesIn(tr, i); names != nil {
			text = string(tr.leaves.texts.append(nil, names[place]))
		}
		if found, j := tr.find(a, text); found != i || j != place {
			t.Fatal("a key is in a leaf that is not on its way")
		}
	}
}

func inUse(s *indexes) int { return int(s.used) - int(s.left) }

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

// capacity is how many keys the leaves of the series ever had room for.
func capacity(s *Series) (n int) {
	for _, f := range s.families {
		for i := range f.trees {
			n += int(f.trees[i].leaves.sheets.used) * sheetRows
		}
	}
	return n
}

func newTestTree(k kind, windows int) *tree {
	tr := new(tree)
	tr.init(k, windows, new(atomic.Int64))
	return tr
}

func TestNothingIsLeftWhenAllHasExpired(t *testing.T) {
	tr := newTestTree(ofIPv4, 5)
	for i := range 5000 {
		tr.add(addressOf(numbered(i, i%2 == 0).addr), "", momentOf(int64(i/1000), 5), 1)
	}
	if tr.keys.Load() != 5000 {
		t.Fatalf("%d keys", tr.keys.Load())
	}
	for oldest := range int64(6) {
		tr.sweep(oldest)
		for tr.left > 0 {
			tr.sweep(oldest)
		}
		if want := 1000 * (5 - oldest); tr.keys.Load() != want {
			t.Errorf("when window %d is the oldest: %d keys; want %d", oldest, tr.keys.Load(), want)
		}
		checkTree(t, tr, false)
	}
	if tr.root != none {
		t.Error("the tree has a root")
	}
}

// Texts that look the same at first sight do not share a count.
func TestTextsOfOneMark(t *testing.T) {
	tr, m := newTestTree(ofTexts, 2), momentOf(100, 2)
	seen := map[uint32]string{}
	var pairs [][2]string
	for i := 0; len(pairs) < 3; i++ {
		text := fmt.Sprint("text ", i)
		mark := tr.leaves.mark(tr.addressOfText(text))
		if other, ok := seen[mark]; ok {
			pairs = append(pairs, [2]string{text, other})
		}
		seen[mark] = text
	}
	add := func(text string, n int64) { tr.add(tr.addressOfText(text), text, m, n) }
	count := func(text string) int64 {
		y := tally{span: span{m, 99}}
		tr.count(&y, tr.addressOfText(text), text, tr.bits)
		return y.sum
	}
	for _, pair := range pairs {
		add(pair[0], 1)
		add(pair[1], 2)
		add(pair[0], 4)
		if a, b := count(pair[0]), count(pair[1]); a != 5 || b != 2 {
			t.Errorf("%q: %d, %d; want 5, 2", pair, a, b)
		}
		for _, want := range []bool{true, false} {
			if tr.remove(tr.addressOfText(pair[0]), pair[0], 99) != want {
				t.Errorf("%s is not removed once", pair[0])
			}
		}
		if a, b := count(pair[0]), count(pair[1]); a != 0 || b != 2 {
			t.Errorf("%q, one removed: %d, %d; want 0, 2", pair, a, b)
		}
	}
	checkTree(t, tr, false)
}

// A leaf's worth of texts can have one hash; one more is not counted, and that is
// all.
func TestTextsOfOneHash(t *testing.T) {
	tr, m := newTestTree(ofTexts, 2), momentOf(100, 2)
	a := address{hi: 1 << 40}
	for range 2 {
		for i := range leafCap + 1 {
			tr.add(a, fmt.Sprint(i), m, 1)
		}
	}
	for i := range leafCap + 1 {
		y := tally{span: span{m, 99}}
		tr.count(&y, a, fmt.Sprint(i), tr.bits)
		if counted := y.sum == 2; counted != (i < leafCap) || !counted && y.sum != 0 {
			t.Errorf("text %d: %d", i, y.sum)
		}
	}
	checkTree(t, tr, false)
}

// The largest rows fill a chunk each, the smallest share one.
func TestRowsOfEverySize(t *testing.T) {
	for _, length := range []int{1, 2, 6, 7, 60, 255, 256, 1000, sheetRows * MaxWindows} {
		s := newSlab[int64](length)
		for n := range int64(300) {
			at := s.reset(s.take())
			if len(at) != length || at[0] != 0 {
				t.Fatalf("%d has %d numbers and begins with %d", length, len(at), at[0])
			}
			at[0], at[length-1] = n, n
		}
		for n := range int64(300) {
			if at := s.at(uint32(n + 1)); at[0] != n || at[length-1] != n {
				t.Fatalf("%d: what is at %d has been overwritten", length, n+1)
			}
		}
	}
}
