package history

import (
	"container/heap"
	"iter"
)

// merger goes through several sorted sources at a time.
type merger struct{ heads heads }

// head is the row of a source that is next.
type head struct {
	row  Row
	next func() (Row, error, bool)
	stop func()
}

// newMerger reads the first row of each.
func newMerger(sources []iter.Seq2[Row, error]) (*merger, error) {
	m := new(merger)
	for _, rows := range sources {
		next, stop := iter.Pull2(rows)
		row, err, more := next()
		if err != nil {
			stop()
			return m, err
		}
		if more {
			m.heads = append(m.heads, head{row, next, stop})
		}
	}
	heap.Init(&m.heads)
	return m, nil
}

// advance goes on to the next row.
func (m *merger) advance() error {
	h := &m.heads[0]
	row, err, more := h.next()
	if err != nil {
		return err
	}
	if !more {
		heap.Pop(&m.heads)
		return nil
	}
	h.row = row
	heap.Fix(&m.heads, 0)
	return nil
}

func (m *merger) stop() {
	for _, h := range m.heads {
		h.stop()
	}
}

// heads is a heap with the lowest row on top.
type heads []head

func (h heads) Len() int           { return len(h) }
func (h heads) Less(i, j int) bool { return h[i].row.Compare(h[j].row) < 0 }
func (h heads) Swap(i, j int)      { h[i], h[j] = h[j], h[i] }
func (h *heads) Push(x any)        { *h = append(*h, x.(head)) }
func (h *heads) Pop() any {
	last := (*h)[len(*h)-1]
	*h = (*h)[:len(*h)-1]
	return last
}
