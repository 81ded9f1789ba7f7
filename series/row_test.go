package series

import (
	"slices"
	"testing"
	"time"
)

// owned is a row with its newest window, as a node or a leaf has it.
type owned struct {
	newest int64
	row    row
}

func (o *owned) add(window, n int64) {
	if m := momentOf(window, len(o.row)); reach(&o.newest, o.row, len(o.row), m) {
		o.row.add(m.place, n)
	}
}

// A session that has read the clock just before a window ended can come to a
// row after one that has read it later.
func TestRow(t *testing.T) {
	type add struct{ window, n int64 }
	const windows = 3
	tests := []struct {
		name           string
		adds           []add
		newest, oldest int64 // of the count
		want           []int64
	}{
		{"an empty row", nil, 10, 8, []int64{0, 0, 0}},
		{"one window", []add{{10, 1}}, 10, 8, []int64{1, 0, 0}},
		{"all windows", []add{{8, 1}, {9, 2}, {10, 4}}, 10, 8, []int64{4, 2, 1}},
		{"some of them", []add{{8, 1}, {9, 2}, {10, 4}}, 9, 8, []int64{2, 1}},
		{"the oldest is overwritten", []add{{8, 1}, {9, 2}, {10, 4}, {11, 8}}, 11, 9, []int64{8, 4, 2}},
		{"windows without adds are empty", []add{{8, 1}, {10, 4}}, 10, 8, []int64{4, 0, 1}},
		{"after a long time all are", []add{{8, 1}, {9, 2}, {10, 4}, {100, 8}}, 100, 98, []int64{8, 0, 0}},
		{"a late add goes to its own window", []add{{10, 1}, {9, 2}, {8, 4}}, 10, 8, []int64{1, 2, 4}},
		{"a late add to a window that has gone", []add{{10, 1}, {7, 2}, {4, 4}}, 10, 8, []int64{1, 0, 0}},
		{"counted later, the old windows are out of range", []add{{8, 1}, {9, 2}}, 11, 9, []int64{0, 0, 2}},
		{"counted much later", []add{{8, 1}, {9, 2}}, 50, 48, []int64{0, 0, 0}},
		{"counted by a session that is behind", []add{{8, 1}, {9, 2}, {10, 4}}, 9, 7, []int64{2, 1, 0}},
		{"counted by one that is far behind", []add{{8, 1}, {9, 2}, {10, 4}}, 7, 5, []int64{0, 0, 0}},
		{"below zero", []add{{-4, 1}, {-2, 2}, {-1, 4}, {0, 8}}, 0, -2, []int64{8, 4, 2}},
	}
	for _, test := range tests {
		o := owned{8, make(row, windows)}
		if len(test.adds) > 0 {
			o.newest = test.adds[0].window
		}
		for _, a := range test.adds {
			o.add(a.window, a.n)
		}
		var sum int64
		for _, n := range test.want {
			sum += n
		}
		s := span{momentOf(test.newest, windows), test.oldest}
		got := make([]int64, len(test.want))
		if o.row.tally(o.newest, got, s); !slices.Equal(got, test.want) || o.row.sum(o.newest, s) != sum {
			t.Errorf("%s: windows %d, sum %d; want %d, %d", test.name, got, o.row.sum(o.newest, s), test.want, sum)
		}
		if o.row.counts(o.newest, s) != (sum > 0) {
			t.Errorf("%s: counts anything: %v", test.name, sum == 0)
		}
	}
}

// The rows of one owner share their windows.
func TestAWindowComesForAllRows(t *testing.T) {
	newest, rows := int64(10), []int64{1, 2, 3, 10, 20, 30} // windows 9, 10, 8 of two rows
	for _, step := range []struct {
		window int64
		kept   bool
		want   []int64
	}{
		{8, true, []int64{1, 2, 3, 10, 20, 30}},
		{7, false, []int64{1, 2, 3, 10, 20, 30}},
		{11, true, []int64{1, 2, 0, 10, 20, 0}},
		{13, true, []int64{0, 0, 0, 0, 0, 0}},
	} {
		if kept := reach(&newest, rows, 3, momentOf(step.window, 3)); kept != step.kept || !slices.Equal(rows, step.want) {
			t.Errorf("window %d: %d, kept %v; want %d", step.window, rows, kept, step.want)
		}
	}
}

func TestMergingRows(t *testing.T) {
	const windows = 3
	all := span{momentOf(10, windows), 8}
	tests := []struct {
		name         string
		into, merged int64 // the newest windows: 1 in it, 10 in the one before, 100 in the oldest
		want         []int64
	}{
		{"at the same window", 10, 10, []int64{2, 20, 200}},
		{"an older one", 10, 9, []int64{1, 11, 110}},
		{"a newer one", 9, 10, []int64{1, 11, 110}},
		{"one that has nothing left", 10, 7, []int64{1, 10, 100}},
		{"one that leaves nothing", 7, 10, []int64{1, 10, 100}},
	}
	for _, test := range tests {
		filled := func(newest int64) *owned {
			o := &owned{newest - 2, make(row, windows)}
			for w, n := newest-2, int64(100); w <= newest; w, n = w+1, n/10 {
				o.add(w, n)
			}
			return o
		}
		into, merged := filled(test.into), filled(test.merged)
		reach(&into.newest, into.row, windows, momentOf(merged.newest, windows))
		into.row.merge(into.newest, merged.row, merged.newest, 1)
		got := make([]int64, windows)
		if into.row.tally(into.newest, got, all); !slices.Equal(got, test.want) {
			t.Errorf("%s: %d; want %d", test.name, got, test.want)
		}
		into.row.merge(into.newest, merged.row, merged.newest, -1)
		again := make([]int64, windows)
		original := filled(test.into)
		original.row.tally(original.newest, again, all)
		got = make([]int64, windows)
		if into.row.tally(into.newest, got, all); test.into >= test.merged && !slices.Equal(got, again) {
			t.Errorf("%s, and taken out: %d; want %d", test.name, got, again)
		}
	}
}

// A session that comes with an add for a window which has left the series while
// it waited for the lock loses it; nothing else is touched.
func TestAnAddThatCameTooLate(t *testing.T) {
	for _, k := range []Key{key("192.0.2.1"), key("user")} {
		typ := IP
		if k.text != "" {
			typ = String
		}
		s := define(t, typ, time.Minute, 2)
		late := int64(s.Add(k, 1, at("10:00:00")))
		s.Add(k, 2, at("10:02:00"))
		s.add(k, 4, late, late, asAdded)
		if got, _ := s.Counts(nil, k, Mask{}, at("10:02:00")); !slices.Equal(got, []int64{2, 0}) {
			t.Errorf("%v: %d", k, got)
		}
	}
}
