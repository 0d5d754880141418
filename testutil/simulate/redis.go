package simulate

import (
	"fmt"

	"github.com/redis/go-redis/v9"
)

// A row is one key of Redis and its value.
type row struct {
	key, kind string
	text      string
	list      []string
	hash      map[string]string
	sorted    []redis.Z
}

// snapshot copies everything but claims, which end by themselves.
func (p *play) snapshot() (rows []row) {
	keys, err := p.side.Keys(p.ctx, "*").Result()
	p.must(err)
	for _, key := range keys {
		kind, err := p.side.Type(p.ctx, key).Result()
		p.must(err)
		left, err := p.side.PTTL(p.ctx, key).Result()
		p.must(err)
		if kind == "none" || left > 0 {
			continue
		}
		r := row{key: key, kind: kind}
		switch kind {
		case "string":
			r.text, err = p.side.Get(p.ctx, key).Result()
		case "hash":
			r.hash, err = p.side.HGetAll(p.ctx, key).Result()
		case "set":
			r.list, err = p.side.SMembers(p.ctx, key).Result()
		case "list":
			r.list, err = p.side.LRange(p.ctx, key, 0, -1).Result()
		case "zset":
			r.sorted, err = p.side.ZRangeWithScores(p.ctx, key, 0, -1).Result()
		default:
			err = fmt.Errorf("key %s is a %s", key, kind)
		}
		p.must(err)
		rows = append(rows, r)
	}
	return rows
}

// restore makes Redis what it was.
func (p *play) restore(rows []row) {
	p.must(p.side.FlushDB(p.ctx).Err())
	for _, r := range rows {
		var err error
		switch r.kind {
		case "string":
			err = p.side.Set(p.ctx, r.key, r.text, 0).Err()
		case "hash":
			err = p.side.HSet(p.ctx, r.key, r.hash).Err()
		case "set":
			err = p.side.SAdd(p.ctx, r.key, r.list).Err()
		case "list":
			err = p.side.RPush(p.ctx, r.key, r.list).Err()
		case "zset":
			err = p.side.ZAdd(p.ctx, r.key, r.sorted...).Err()
		}
		p.must(err)
	}
}

// unclaim ends every claim, as time does.
func (p *play) unclaim() {
	keys, err := p.side.Keys(p.ctx, "*:claim:*").Result()
	p.must(err)
	if len(keys) > 0 {
		p.must(p.side.Del(p.ctx, keys...).Err())
	}
}
