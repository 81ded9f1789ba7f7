package main

import (
	"log/slog"
	"time"

	"github.com/audit-milter/audit-milter/internal/deltas"
	"github.com/audit-milter/audit-milter/internal/state"
	"github.com/audit-milter/audit-milter/policy"
	"github.com/audit-milter/audit-milter/series"
)

// perBatch is how many keys of a snapshot a batch has.
const perBatch = 20_000

// journal syncs by itself. Its snapshot is written under the load, as a part of it.
type journal struct {
	dir    string
	store  *state.Store
	kept   policy.Kept
	start  int64
	number uint64
	ahead  []uint32 // keys that the snapshot has still to tell, in the order of addresses
}

func newJournal(dir string) way {
	store, _, err := state.Open(dir, state.Options{Log: slog.Default()})
	check(err)
	l, err := policy.NewLasting(definition, nil, nil)
	check(err)
	return &journal{
		dir:   dir,
		store: store,
		kept:  policy.Kept{Lasting: l, Persist: true},
		start: time.Now().Truncate(definition.Interval).Unix(),
	}
}

func (j *journal) fill() { j.ahead = inOrder(everyKey()) }

func (j *journal) tick(changed []uint32) {
	j.number++
	b := &deltas.Batch{Number: j.number, Now: time.Now().Round(0), Begin: j.number == 1}
	told := make([]series.Delta, 0, len(changed)+perBatch)
	for _, key := range changed {
		told = append(told, series.Delta{Key: seriesKey(key), Bits: 32, Start: j.start, Amount: 1})
	}
	if len(j.ahead) > 0 {
		for _, key := range j.ahead[:perBatch] {
			told = append(told, series.Delta{Key: seriesKey(key), Bits: 32, For: series.Newer, Start: j.start, Amount: 1})
		}
		j.ahead = j.ahead[perBatch:]
		b.End = len(j.ahead) == 0
	}
	b.Series = []deltas.Series{{Kept: j.kept, Begun: b.Now, Deltas: told}}
	j.store.Take(b)
}

func (j *journal) sync()  {}
func (j *journal) close() { check(j.store.Close()) }

func (j *journal) read() int {
	store, restored, err := state.Open(j.dir, state.Options{Log: slog.Default()})
	check(err)
	n := restored.Series[0].Counter.Len()
	check(store.Close())
	return n
}
