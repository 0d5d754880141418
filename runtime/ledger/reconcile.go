package ledger

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/redis/go-redis/v9"

	"staffeln/functions/backup"
)

// day is how long a withdrawal and an absence are remembered.
const day = 24 * time.Hour

// each goes through a hash in pages. A row may be met twice.
func (l *Ledger) each(ctx context.Context, key string, row func(field, value string) error) error {
	var cursor uint64
	for {
		pairs, next, err := l.rdb.HScan(ctx, key, cursor, "", page).Result()
		if err != nil {
			return err
		}
		for i := 0; i+1 < len(pairs); i += 2 {
			if err := row(pairs[i], pairs[i+1]); err != nil {
				return err
			}
		}
		if cursor = next; cursor == 0 {
			return nil
		}
	}
}

func (l *Ledger) enrolments(ctx context.Context, shard int) (map[string]backup.Enrolment, error) {
	all := map[string]backup.Enrolment{}
	err := l.each(ctx, l.keys.shard(shard).servers(), func(id, row string) error {
		e, _, err := readServer(id, row)
		all[id] = e
		return err
	})
	return all, err
}

func sortEnrolments(all []backup.Enrolment) {
	slices.SortFunc(all, func(a, b backup.Enrolment) int { return cmp.Compare(a.Server, b.Server) })
}

// Enrolments is all opted-in servers of a shard, by id.
func (l *Ledger) Enrolments(ctx context.Context, shard int) ([]backup.Enrolment, error) {
	all, err := l.enrolments(ctx, shard)
	if err != nil {
		return nil, fmt.Errorf("ledger: enrolments: %w", err)
	}
	out := slices.Collect(maps.Values(all))
	sortEnrolments(out)
	return out, nil
}

// Volumes is all protected volumes of a shard, by id, with their enrolments and
// state. Due is zero for one with an open run.
func (l *Ledger) Volumes(ctx context.Context, shard int) ([]backup.Protected, error) {
	s := l.keys.shard(shard)
	all, servers := map[string]backup.Protected{}, map[string][]string{}
	err := l.each(ctx, s.volumes(), func(id, row string) error {
		v, of, err := readVolume(id, row)
		all[id], servers[id] = v, of
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("ledger: volumes: %w", err)
	}
	enrolments, err := l.enrolments(ctx, shard)
	if err != nil {
		return nil, fmt.Errorf("ledger: volumes: %w", err)
	}
	ids := slices.Sorted(maps.Keys(all))
	out := make([]backup.Protected, 0, len(ids))
	for part := range slices.Chunk(ids, page) {
		// An absent member has the score 0, which is no time.
		scores, err := l.rdb.ZMScore(ctx, s.due(), part...).Result()
		if err != nil {
			return nil, fmt.Errorf("ledger: volumes: %w", err)
		}
		for i, id := range part {
			v := all[id]
			v.State.Due = scoreTime(scores[i])
			for _, server := range servers[id] {
				if e, ok := enrolments[server]; ok {
					v.Enrolments = append(v.Enrolments, e)
				}
			}
			sortEnrolments(v.Enrolments)
			out = append(out, v)
		}
	}
	return out, nil
}

// Runs is all open runs of a shard, by volume.
func (l *Ledger) Runs(ctx context.Context, shard int) ([]backup.Run, error) {
	all := map[string]backup.Run{}
	err := l.each(ctx, l.keys.shard(shard).runs(), func(volume, row string) error {
		r, err := readOpenRun(row)
		if err == nil {
			err = isRun(r, volume, r.Volume)
		}
		if err != nil {
			return fmt.Errorf("%s: %w", named(volume), err)
		}
		all[volume] = r
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("ledger: runs: %w", err)
	}
	out := slices.Collect(maps.Values(all))
	slices.SortFunc(out, func(a, b backup.Run) int { return cmp.Compare(a.Volume, b.Volume) })
	return out, nil
}

// Raise makes LastSlot and LastComplete of a protected volume at least these; the
// rest of s does not count.
func (l *Ledger) Raise(ctx context.Context, project, volume string, s backup.State) error {
	err := errors.Join(badID("project", project), badID("volume", volume))
	if err == nil {
		_, err = l.yes(ctx, raiseScript, []string{l.of(project).volumes()}, volume, project, micros(s.LastSlot), micros(s.LastComplete))
	}
	if err != nil {
		return fmt.Errorf("ledger: raise %s: %w", volume, err)
	}
	return nil
}

// SetDue makes a protected volume without an open run due no later than then.
func (l *Ledger) SetDue(ctx context.Context, project, volume string, at time.Time) error {
	err := errors.Join(badID("project", project), badID("volume", volume))
	if err == nil && at.IsZero() {
		err = errors.New("due at no time")
	}
	if err == nil {
		s := l.of(project)
		_, err = l.yes(ctx, setDueScript, []string{s.volumes(), s.due(), s.runs()}, volume, project, micros(at))
	}
	if err != nil {
		return fmt.Errorf("ledger: set due %s: %w", volume, err)
	}
	return nil
}

// Projects is the projects of a shard that have anything in the ledger: servers,
// open or watched runs, stamps, discards, records, removals to be carried out, finished
// runs or removals to be told, or a digest on its way. Sorted. Others are forgotten,
// not looked at again, and when a digest told of them last is no longer known.
func (l *Ledger) Projects(ctx context.Context, shard int) ([]string, error) {
	s := l.keys.shard(shard)
	var out, empty []string
	err := l.each(ctx, s.projects(), func(project, count string) error {
		n, err := readNumber(count)
		if err != nil {
			return fmt.Errorf("%s: %w", named(project), err)
		}
		if err := badID("project", project); err != nil {
			return err
		}
		if n > 0 {
			out = append(out, project)
		} else {
			empty = append(empty, project)
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("ledger: projects: %w", err)
	}
	for part := range slices.Chunk(empty, page) {
		calls := make([]call, len(part))
		for i, project := range part {
			calls[i] = call{[]string{s.projects(), s.holding(project), s.finished(project), s.removed(project),
				s.cut(project), s.cutRemoved(project), s.retention(), s.outlook(), s.removals(), s.reports()}, []any{project}}
		}
		forgotten, err := l.many(ctx, forgetProjectScript, calls)
		if err != nil {
			return nil, fmt.Errorf("ledger: projects: %w", err)
		}
		for i, yes := range forgotten {
			if yes == 0 {
				out = append(out, part[i])
			}
		}
	}
	slices.Sort(out)
	return slices.Compact(out), nil
}

// Missing notes that something ("server ID") is not there, by a direct answer of
// the cloud's, and says for how many looks in a row. Two looks at the same moment
// are one; after a day without any it starts over.
func (l *Ledger) Missing(ctx context.Context, project, what string, now time.Time) (times int, err error) {
	if err := badID("project", project); err != nil {
		return 0, err
	}
	n, err := missingScript.Run(ctx, l.rdb, []string{l.of(project).missing()}, project+" "+what, micros(now), day.Microseconds()).Int()
	if err != nil {
		return 0, fmt.Errorf("ledger: missing %s: %w", what, err)
	}
	return n, nil
}

// Present ends the counting of [Ledger.Missing].
func (l *Ledger) Present(ctx context.Context, project, what string) error {
	if err := l.rdb.HDel(ctx, l.of(project).missing(), project+" "+what).Err(); err != nil {
		return fmt.Errorf("ledger: present %s: %w", what, err)
	}
	return nil
}

// Reconciled marks every shard as compared with the cloud at that time, and clears
// away withdrawals and absences older than a day.
func (l *Ledger) Reconciled(ctx context.Context, at time.Time) error {
	var calls []call
	for i := range l.Shards() {
		s := l.keys.shard(i)
		calls = append(calls, call{[]string{s.reconciled(), s.withdrawn(), s.missing()}, []any{micros(at), micros(at.Add(-day))}})
	}
	if _, err := l.many(ctx, reconciledScript, calls); err != nil {
		return fmt.Errorf("ledger: reconciled: %w", err)
	}
	return nil
}

// LastReconciled is when the shard that was longest ago was compared with the
// cloud. It is not ok if one was not since it was last empty: then nothing is
// known for sure. It is ok with a zero time after [Ledger.AskReconcile]: what is
// known stands, but is to be compared anew as soon as possible.
func (l *Ledger) LastReconciled(ctx context.Context) (at time.Time, ok bool, err error) {
	cmds := make([]*redis.StringCmd, l.Shards())
	_, err = l.rdb.Pipelined(ctx, func(p redis.Pipeliner) error {
		for i := range cmds {
			cmds[i] = p.Get(ctx, l.keys.shard(i).reconciled())
		}
		return nil
	})
	if err != nil && !errors.Is(err, redis.Nil) {
		return time.Time{}, false, fmt.Errorf("ledger: last reconciled: %w", err)
	}
	for i, c := range cmds {
		s, err := c.Result()
		if errors.Is(err, redis.Nil) {
			return time.Time{}, false, nil
		}
		var t time.Time
		if err == nil {
			t, err = readMicros(s)
		}
		if err != nil {
			return time.Time{}, false, fmt.Errorf("ledger: last reconciled: %w", err)
		}
		if i == 0 || t.Before(at) {
			at = t
		}
	}
	return at, true, nil
}

// AskReconcile says that notifications may have been lost: every shard that was
// reconciled is to be so anew, see [Ledger.LastReconciled]. It stays ready.
func (l *Ledger) AskReconcile(ctx context.Context) error {
	_, err := l.rdb.Pipelined(ctx, func(p redis.Pipeliner) error {
		p.Incr(ctx, l.keys.asked()) // for a pass that is under way; see [Ledger.Asked]
		for i := range l.Shards() {
			p.SetXX(ctx, l.keys.shard(i).reconciled(), "0", 0)
		}
		return nil
	})
	if err != nil && !errors.Is(err, redis.Nil) {
		return fmt.Errorf("ledger: ask reconcile: %w", err)
	}
	return nil
}

// A Count is what there is in one shard at one moment, for metrics.
type Count struct {
	// Servers are enrolled, Volumes protected by them.
	Servers, Protected int
	// Due volumes wait for dispatch; OldestDue is since when the first of them
	// does, zero for none. Overdue is how many have for more than [Late].
	Due, Overdue int
	OldestDue    time.Time
	// Open runs are under way; Stuck are those whose look is more than [Late] behind.
	Open, Stuck int
	// Watched runs may still end; Stamps are to be written, Discards removed.
	Watched, Stamps, Discards int
	// Records are remembered backups.
	Records int
}

// Late is from when on something that waits counts as overdue or stuck: nothing
// but a system that is down, or far too narrow limits, makes it so.
const Late = time.Hour

// Count counts what there is in a shard.
func (l *Ledger) Count(ctx context.Context, shard int, now time.Time) (Count, error) {
	s := l.keys.shard(shard)
	soon, late := micros(now), micros(now.Add(-Late))
	var servers, protected, due, overdue, open, stuck, watched, stamps, discards, records *redis.IntCmd
	var first *redis.ZSliceCmd
	_, err := l.rdb.Pipelined(ctx, func(p redis.Pipeliner) error {
		servers, protected, records = p.HLen(ctx, s.servers()), p.HLen(ctx, s.volumes()), p.HLen(ctx, s.records())
		due, overdue = p.ZCount(ctx, s.due(), "-inf", soon), p.ZCount(ctx, s.due(), "-inf", late)
		first = p.ZRangeByScoreWithScores(ctx, s.due(), &redis.ZRangeBy{Min: "-inf", Max: soon, Count: 1})
		open, stuck = p.HLen(ctx, s.runs()), p.ZCount(ctx, s.open(), "-inf", late)
		watched, stamps, discards = p.ZCard(ctx, s.watched()), p.ZCard(ctx, s.stamps()), p.ZCard(ctx, s.discards())
		return nil
	})
	if err != nil {
		return Count{}, fmt.Errorf("ledger: count: %w", err)
	}
	c := Count{
		Servers: int(servers.Val()), Protected: int(protected.Val()), Records: int(records.Val()),
		Due: int(due.Val()), Overdue: int(overdue.Val()), Open: int(open.Val()), Stuck: int(stuck.Val()),
		Watched: int(watched.Val()), Stamps: int(stamps.Val()), Discards: int(discards.Val()),
	}
	if z := first.Val(); len(z) > 0 {
		c.OldestDue = scoreTime(z[0].Score)
	}
	return c, nil
}
