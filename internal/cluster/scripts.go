package cluster

import (
	"context"
	"crypto/sha1"
	"encoding/hex"
	"strconv"
	"time"

	"github.com/valkey-io/valkey-go"
)

// What the script answers. A negative number says that this node's name was used, up to
// a batch of that number, by another process.
const (
	refused = iota // the predecessor is missing
	written        // now or before
)

// appendScript writes a batch or a part of a snapshot behind its predecessor. The first
// batch of a chain needs none; it must be above all that the node has written in earlier
// lives. With the last part a snapshot is whole, and what nobody starts with goes.
//
// KEYS: batches, snapshot, state. ARGV of a batch: "b", number, payload, milliseconds to
// live, shape, life, number before, whether it starts a chain. ARGV of a part: "p",
// number, payload, milliseconds to live, shape, the number of the first part, index,
// whether it is the last, shape in words, begun.
const appendScript = `
local batches, snapshot, state = KEYS[1], KEYS[2], KEYS[3]
local kind, number, payload, shape = ARGV[1], tonumber(ARGV[2]), ARGV[3], ARGV[5]
local function live(key) redis.call('PEXPIRE', key, ARGV[4]) end
local function append(key, ...)
  local made = redis.pcall('XADD', key, ARGV[2]..'-0', 'd', payload, ...)
  if type(made) == 'string' then return nil end
  if not string.find(made.err, 'equal or smaller') then return made end
  redis.call('DEL', key, state)
  return 0
end
if kind == 'b' then
  local at = redis.call('HMGET', state, 'last', 'life')
  local last, mine, before = tonumber(at[1] or '0'), at[2] == ARGV[6], tonumber(ARGV[7])
  if mine and last >= number then return 1 end
  if ARGV[8] == '1' then
    if last >= number then return -last end
  elseif not mine or last ~= before then
    return 0
  end
  local wrong = append(batches, 'p', ARGV[7], 's', shape)
  if wrong then return wrong end
  redis.call('HSET', state, 'last', ARGV[2], 'life', ARGV[6])
  live(batches)
else
  local begin, index = tonumber(ARGV[6]), tonumber(ARGV[7])
  local at = redis.call('HMGET', state, 'building', 'part', 'end')
  local building, part = tonumber(at[1] or '0'), tonumber(at[2] or '-1')
  if building > begin or (building == begin and part >= index) then return 1 end
  if index > 0 and (building ~= begin or part ~= index - 1) then return 0 end
  local wrong = append(snapshot, 'i', ARGV[7])
  if wrong then return wrong end
  redis.call('HSET', state, 'building', ARGV[6], 'part', ARGV[7])
  if ARGV[8] == '1' then
    redis.call('HSET', state, 'begin', ARGV[6], 'end', ARGV[2], 'parts', index + 1, 'shape', shape, 'words', ARGV[9], 'begun', ARGV[10])
    redis.call('XTRIM', snapshot, 'MINID', ARGV[6]..'-0')
    if at[3] then redis.call('XTRIM', batches, 'MINID', at[3]..'-1') end
    live(batches)
  end
  live(snapshot)
end
live(state)
return 1`

var appendSum = func() string {
	sum := sha1.Sum([]byte(appendScript))
	return hex.EncodeToString(sum[:])
}()

// append lets the server write entries and tells what it answered to each, up to the
// first error, which it may be worth to try again.
func (l *link) append(ctx context.Context, entries []entry) ([]int64, error) {
	results, err := l.do(ctx, func(b valkey.Builder) (all []valkey.Completed) {
		for i := range entries {
			all = append(all, entries[i].evalsha(b))
		}
		return all
	})
	if err != nil {
		return nil, err
	}
	answers := make([]int64, 0, len(results))
	for _, r := range results {
		answer, err := r.AsInt64()
		if server, ok := valkey.IsValkeyErr(err); ok && server.IsNoScript() {
			return answers, l.teach(ctx, &entries[len(answers)])
		}
		if err != nil {
			return answers, err
		}
		answers = append(answers, answer)
	}
	return answers, nil
}

// teach lets the server of an entry know the script, which it forgets when it restarts,
// and others do not learn from it. That also writes the entry: sent again, it is there.
func (l *link) teach(ctx context.Context, e *entry) error {
	results, err := l.do(ctx, func(b valkey.Builder) []valkey.Completed { return []valkey.Completed{e.eval(b)} })
	if err != nil {
		return err
	}
	return results[0].Error()
}

func (e *entry) eval(b valkey.Builder) valkey.Completed {
	return b.Eval().Script(appendScript).Numkeys(3).Key(e.keys.batches, e.keys.snapshot, e.keys.state).Arg(e.args()...).Build()
}

func (e *entry) evalsha(b valkey.Builder) valkey.Completed {
	return b.Evalsha().Sha1(appendSum).Numkeys(3).Key(e.keys.batches, e.keys.snapshot, e.keys.state).Arg(e.args()...).Build()
}

func decimal(n uint64) string             { return strconv.FormatUint(n, 10) }
func milliseconds(d time.Duration) string { return strconv.FormatInt(d.Milliseconds(), 10) }

func flag(is bool) string {
	if is {
		return "1"
	}
	return "0"
}
