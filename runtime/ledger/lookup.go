package ledger

import (
	"context"
	"sync"

	"github.com/redis/go-redis/v9"
)

// A lookup reads fields of hashes, for callers that each want one and are many at
// a time: every notification of a server begins with one. While some are on their
// way to Redis, those that come up wait and go together as the next pipeline, so
// that under load the price of a round trip is shared, and without load nobody
// waits. Every read is begun after it was asked for.
type lookup struct {
	rdb redis.UniversalClient

	mu      sync.Mutex
	busy    bool
	waiting []*question
}

type question struct {
	key, field string
	value      string
	err        error
	answered   chan struct{}
}

// get is HGET: [redis.Nil] where there is no such field.
func (l *lookup) get(ctx context.Context, key, field string) (string, error) {
	l.mu.Lock()
	if !l.busy {
		l.busy = true
		l.mu.Unlock()
		defer func() {
			if batch := l.next(); len(batch) > 0 {
				go l.answer(batch)
			}
		}()
		return l.rdb.HGet(ctx, key, field).Result()
	}
	q := &question{key: key, field: field, answered: make(chan struct{})}
	l.waiting = append(l.waiting, q)
	l.mu.Unlock()
	select {
	case <-q.answered:
		return q.value, q.err
	case <-ctx.Done():
		return "", ctx.Err()
	}
}

// next takes those that wait, and leaves it to whoever comes up to begin again if
// there are none.
func (l *lookup) next() []*question {
	l.mu.Lock()
	defer l.mu.Unlock()
	batch := l.waiting
	l.waiting, l.busy = nil, len(batch) > 0
	return batch
}

// answer asks Redis until nobody waits. The client's own timeouts bound it: a
// caller whose context ends does not wait for it.
func (l *lookup) answer(batch []*question) {
	ctx := context.Background()
	for ; len(batch) > 0; batch = l.next() {
		cmds := make([]*redis.StringCmd, len(batch))
		_, _ = l.rdb.Pipelined(ctx, func(p redis.Pipeliner) error { // each command has its own error
			for i, q := range batch {
				cmds[i] = p.HGet(ctx, q.key, q.field)
			}
			return nil
		})
		for i, q := range batch {
			q.value, q.err = cmds[i].Result()
			close(q.answered)
		}
	}
}
