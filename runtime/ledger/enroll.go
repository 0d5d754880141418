package ledger

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/redis/go-redis/v9"

	"staffeln/functions/backup"
)

// Enrolment is what is remembered of a server, and the last-backup-time that was
// last written to it (zero for none known).
func (l *Ledger) Enrolment(ctx context.Context, project, server string) (e backup.Enrolment, lastStamp time.Time, ok bool, err error) {
	if !goodID(project) || !goodID(server) {
		return e, lastStamp, false, nil
	}
	row, err := l.lookup.get(ctx, l.of(project).servers(), server)
	if errors.Is(err, redis.Nil) {
		return e, lastStamp, false, nil
	}
	if err == nil {
		e, lastStamp, err = readServer(server, row)
	}
	if err != nil {
		return backup.Enrolment{}, time.Time{}, false, fmt.Errorf("ledger: server %s: %w", server, err)
	}
	if e.Project != project {
		return backup.Enrolment{}, time.Time{}, false, nil
	}
	return e, lastStamp, true, nil
}

// ServersOf is the enrolled servers that have the volume attached, sorted.
func (l *Ledger) ServersOf(ctx context.Context, project, volume string) ([]string, error) {
	if !goodID(project) || !goodID(volume) {
		return nil, nil
	}
	row, err := l.lookup.get(ctx, l.of(project).volumes(), volume)
	if errors.Is(err, redis.Nil) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("ledger: servers of volume %s: %w", volume, err)
	}
	v, servers, err := readVolume(volume, row)
	if err != nil {
		return nil, fmt.Errorf("ledger: %w", err)
	}
	if v.Project != project {
		return nil, nil
	}
	slices.Sort(servers)
	return servers, nil
}

// Enroll stores an opted-in server and its volumes, in one step. The facts of
// e.Volumes are in vols; for one that is not there the facts known so far stay,
// and a new one is protected all the same, with none. A volume is filed under
// the project of its server.
//
// A newly protected volume is due now, with an empty state; so is every volume of
// a server whose words, class, schedule or retention changed, one that gains a
// server, and one that is no longer to be skipped. While a run of the volume is
// open, or if dispatch has read it before the change, it becomes due with the end
// of the run, or with the writing of its state: a volume is never due and open.
//
// A volume that the server no longer has loses it. The last server takes the
// volume's protection along: facts, state and due go at once, also while a run is
// open, which ends as ever but leaves no state. The records of its backups stay.
//
// The change is stale if a newer ticket was there before. A ticket that is above
// the shard's counter is of a Redis that was lost since, and counts as older.
func (l *Ledger) Enroll(ctx context.Context, ticket int64, e backup.Enrolment, vols []backup.Protected, now time.Time) (backup.Change, error) {
	err := errors.Join(badID("project", e.Project), badID("server", e.Server), badID("volume", e.Volumes...))
	if err != nil {
		return backup.Change{}, err
	}
	facts := make(map[string]backup.Protected, len(vols))
	for _, v := range vols {
		facts[v.Volume] = v
	}
	s := l.of(e.Project)
	args := []any{ticket, e.Server, e.Project, micros(now), enrolmentRow(e)}
	for i, id := range e.Volumes {
		if slices.Contains(e.Volumes[:i], id) {
			continue
		}
		v, known := facts[id]
		rank, read := micros(v.Created), 1
		if !known {
			v, rank, read = backup.Protected{Created: now}, micros(now), 0
		}
		if v.Skip != "" {
			rank = ""
		}
		args = append(args, id, factsRow(v), read, rank)
	}
	c, err := l.change(ctx, enrollScript, []string{s.ticket(), s.servers(), s.withdrawn(), s.volumes(),
		s.due(), s.runs(), s.projects(), s.ranks(e.Project)}, args)
	if err != nil {
		return c, fmt.Errorf("ledger: enroll %s: %w", e.Server, err)
	}
	return c, nil
}

// Withdraw removes a server that opted out or is gone, with the consequences of
// [Ledger.Enroll] for its volumes. It is remembered for a day, so that an
// enrolment with an older ticket does not bring the server back. Same says that
// it was not enrolled.
func (l *Ledger) Withdraw(ctx context.Context, ticket int64, project, server string, now time.Time) (backup.Change, error) {
	if err := errors.Join(badID("project", project), badID("server", server)); err != nil {
		return backup.Change{}, err
	}
	s := l.of(project)
	c, err := l.change(ctx, withdrawScript, []string{s.ticket(), s.servers(), s.withdrawn(), s.volumes(),
		s.due(), s.projects(), s.ranks(project)}, []any{ticket, server, project, micros(now)})
	if err != nil {
		return c, fmt.Errorf("ledger: withdraw %s: %w", server, err)
	}
	return c, nil
}

// change reads what enroll and withdraw answer.
func (l *Ledger) change(ctx context.Context, s *redis.Script, keys []string, args []any) (backup.Change, error) {
	answer, err := s.Run(ctx, l.rdb, keys, args...).Slice()
	if err != nil {
		return backup.Change{}, err
	}
	if len(answer) == 1 {
		return backup.Change{Stale: true}, nil
	}
	if len(answer) != 4 {
		return backup.Change{}, fmt.Errorf("answer of %d parts", len(answer))
	}
	return backup.Change{Same: answer[1] == int64(1), Protected: texts(answer[2]), Unprotected: texts(answer[3])}, nil
}

// texts reads an array of text in a script's answer.
func texts(v any) []string {
	all, _ := v.([]any)
	var out []string
	for _, a := range all {
		if s, ok := a.(string); ok {
			out = append(out, s)
		}
	}
	return out
}

// Ranks says where the volumes stand among those of the project that count for
// its volume limit: by when Cinder made them, then by id, the oldest is 0. Volumes
// that are skipped by their owner's wish, or are not protected, do not count and
// are not in rank. total is how many count.
func (l *Ledger) Ranks(ctx context.Context, project string, volumes []string) (rank map[string]int, total int, err error) {
	rank = make(map[string]int, len(volumes))
	if !goodID(project) {
		return rank, 0, nil
	}
	key := l.of(project).ranks(project)
	var all *redis.IntCmd
	cmds := make([]*redis.IntCmd, len(volumes))
	_, err = l.rdb.Pipelined(ctx, func(p redis.Pipeliner) error {
		all = p.ZCard(ctx, key)
		for i, v := range volumes {
			cmds[i] = p.ZRank(ctx, key, v)
		}
		return nil
	})
	if err != nil && !errors.Is(err, redis.Nil) {
		return nil, 0, fmt.Errorf("ledger: ranks: %w", err)
	}
	for i, c := range cmds {
		switch err := c.Err(); {
		case err == nil:
			rank[volumes[i]] = int(c.Val())
		case !errors.Is(err, redis.Nil):
			return nil, 0, fmt.Errorf("ledger: ranks: %w", err)
		}
	}
	return rank, int(all.Val()), nil
}
