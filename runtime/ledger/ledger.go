// Package ledger is what the functions remember between two events, kept in
// Redis: who has opted in, which volumes are due, which runs are open, which
// backups are ours. The functions never call one another; they meet here.
//
// It is an index and no more. Everything in it can be read again from Nova and
// Cinder, and reconcile does: a Redis that was emptied costs one pass, see
// [Ledger.Ready]. The fence against a second backup of one slot is the run's
// name in the backup's own metadata, not anything in here.
//
// Every change is one step: a Lua script (lua/*.lua) whose keys all live in the
// shard of the project, and therefore in one slot of a Redis Cluster. The keys
// are built in keys.go and described in docs/redis.md.
//
// Times are those of events, given by the caller, and kept to the microsecond;
// only the lifetime of a claim uses Redis's own clock. Ids are OpenStack's: up
// to 255 letters, digits and any of "._:@+-"; others are refused.
package ledger

import (
	"context"
	"fmt"
	"hash/fnv"
	"time"

	"github.com/redis/go-redis/v9"
)

// A Ledger is the ledger in Redis. It may be used by several goroutines.
type Ledger struct {
	rdb    redis.UniversalClient
	keys   keys
	lookup *lookup
}

// Options say how the ledger is laid out in Redis. All processes that share one
// must agree on them; [Ledger.Check] compares.
type Options struct {
	// Shards is in how many parts the work is split; 16 if zero, at most 1000.
	Shards int
	// Prefix begins every key; "staffeln" if empty.
	Prefix string
}

// New returns the ledger in rdb. It asks Redis nothing; see [Ledger.Check].
func New(rdb redis.UniversalClient, o Options) *Ledger {
	if o.Shards <= 0 {
		o.Shards = 16
	}
	if o.Prefix == "" {
		o.Prefix = "staffeln"
	}
	return &Ledger{rdb: rdb, keys: keys{prefix: o.Prefix, shards: o.Shards}, lookup: &lookup{rdb: rdb}}
}

// Shards is in how many parts the work is split; they count from 0.
func (l *Ledger) Shards() int { return l.keys.shards }

// Shard is the part a project belongs to, always the same one.
func (l *Ledger) Shard(project string) int {
	h := fnv.New32a()
	h.Write([]byte(project))
	return int(h.Sum32() % uint32(l.keys.shards))
}

// of is the keys of a project's shard.
func (l *Ledger) of(project string) shard { return l.keys.shard(l.Shard(project)) }

// Claim takes a name for a while, by Redis's own clock; false if it is taken. A
// lost answer can make a claim nobody knows to have: the next tick sees the same
// work.
func (l *Ledger) Claim(ctx context.Context, name string, ttl time.Duration) (bool, error) {
	ok, err := l.rdb.SetNX(ctx, l.keys.claim(name), 1, max(ttl, time.Millisecond)).Result()
	if err != nil {
		return false, fmt.Errorf("ledger: claim %s: %w", name, err)
	}
	return ok, nil
}

// Ticket numbers the readings of the cloud in a project's shard. It is taken
// before the reading, so that facts that were read earlier never overwrite those
// read later, however long they took to arrive.
func (l *Ledger) Ticket(ctx context.Context, project string) (int64, error) {
	n, err := l.rdb.Incr(ctx, l.of(project).ticket()).Result()
	if err != nil {
		return 0, fmt.Errorf("ledger: ticket: %w", err)
	}
	return n, nil
}

// TicketsAll takes a ticket of every shard, by shard.
func (l *Ledger) TicketsAll(ctx context.Context) ([]int64, error) {
	cmds := make([]*redis.IntCmd, l.Shards())
	_, err := l.rdb.Pipelined(ctx, func(p redis.Pipeliner) error {
		for i := range cmds {
			cmds[i] = p.Incr(ctx, l.keys.shard(i).ticket())
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("ledger: tickets: %w", err)
	}
	tickets := make([]int64, len(cmds))
	for i, c := range cmds {
		tickets[i] = c.Val()
	}
	return tickets, nil
}
