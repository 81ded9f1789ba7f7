package cluster

import (
	"maps"
	"testing"
	"time"

	"github.com/audit-milter/audit-milter/internal/history"
)

// kept is what a history has of clients, by node and key.
func kept(t *testing.T, dir string) map[string]int64 {
	t.Helper()
	sums := make(map[string]int64)
	for _, node := range []string{"mx1", "mx2", "manager"} {
		for r, err := range history.Export(dir, "clients", time.Time{}, time.Time{}, node) {
			if err != nil {
				t.Fatal(err)
			}
			sums[node+" "+r.Key] += r.Count
		}
	}
	return sums
}

// The manager is stopped twice, and in between the server loses what it has.
func TestAManagersHistoryHasOnceWhatAllNodesHaveCounted(t *testing.T) {
	s := newServer(t)
	dir := t.TempDir()
	mx1, mx2 := newNode(t, s.path, "mx1", nodeOptions{}), newNode(t, s.path, "mx2", nodeOptions{})
	manager := func() *node {
		m := newNode(t, s.path, "manager", nodeOptions{manager: true, history: dir})
		m.others(2)
		return m
	}
	m := manager()
	for i, n := range []*node{mx1, mx2, m} {
		n.add(1, int64(1+i))
	}
	expect(t, []*node{m}, map[int]int64{1: 6})
	m.settled()
	m.stop()
	want := map[string]int64{"mx1 " + addr(1).String(): 1, "mx2 " + addr(1).String(): 2, "manager " + addr(1).String(): 3}
	if got := kept(t, dir); !maps.Equal(got, want) {
		t.Errorf("after the first stop the history has %v, want %v", got, want)
	}

	mx1.add(1, 10) // while nobody writes
	mx2.add(2, 20)
	m = manager()
	expect(t, []*node{mx1, mx2, m}, map[int]int64{1: 16, 2: 20})
	s.kill()
	s.wipe()
	mx1.add(1, 100)
	s.start()
	expect(t, []*node{mx1, mx2, m}, map[int]int64{1: 116, 2: 20})
	m.stop()
	want["mx1 "+addr(1).String()] = 111
	want["mx2 "+addr(2).String()] = 20
	if got := kept(t, dir); !maps.Equal(got, want) {
		t.Errorf("at the end the history has %v, want %v", got, want)
	}
}
