package ledger

import (
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"

	"staffeln/functions/backup"
)

// RemovedKept is how many removed backups of a project are kept for its next digest;
// the oldest go.
const RemovedKept = 1000

// RetentionDue is the projects whose removals are to be looked at, the longest due
// first, at most max.
//
// The end of any run makes its project due, and so does [Ledger.PutRecords] for one
// that would not be looked at at all. It stays due until [Ledger.SaveRetention].
//
// A time more than [MostAhead] from now was planned by a clock that was wrong
// then, and counts as come: such projects are the last.
func (l *Ledger) RetentionDue(ctx context.Context, shard int, now time.Time, max int) ([]string, error) {
	due, err := l.come(ctx, l.keys.shard(shard).retention(), now, max)
	if err != nil {
		return nil, fmt.Errorf("ledger: retention due: %w", err)
	}
	return due, nil
}

// LookRetention makes a project due no later than then, for a project that is known
// here; see [Ledger.Projects].
func (l *Ledger) LookRetention(ctx context.Context, project string, at time.Time) error {
	err := badID("project", project)
	if err == nil {
		s := l.of(project)
		_, err = l.yes(ctx, lookRetentionScript, []string{s.retention(), s.projects()}, project, moment(at))
	}
	if err != nil {
		return fmt.Errorf("ledger: look at retention of %s: %w", project, err)
	}
	return nil
}

// Retention is what is remembered of a project's removals; nothing but its name
// where it was never looked at.
func (l *Ledger) Retention(ctx context.Context, project string) (backup.Retention, error) {
	if !goodID(project) {
		return backup.Retention{Project: project}, nil
	}
	s := l.of(project)
	var row, doing *redis.StringCmd
	var due *redis.FloatCmd
	_, err := l.rdb.TxPipelined(ctx, func(p redis.Pipeliner) error {
		row, doing = p.HGet(ctx, s.outlook(), project), p.HGet(ctx, s.removals(), project)
		due = p.ZScore(ctx, s.retention(), project)
		return nil
	})
	var r backup.Retention
	if err == nil || errors.Is(err, redis.Nil) {
		// An absent member has the score 0, which is no time.
		if r, err = readRetention(project, row.Val(), doing.Val()); err == nil {
			err = isRetention(r)
		}
		r.Due = scoreTime(due.Val())
	}
	if err != nil {
		return backup.Retention{}, fmt.Errorf("ledger: retention: %w", err)
	}
	return r, nil
}

// SaveRetention writes what [Ledger.Retention] had read and a look has changed, in
// one step with what was seen to be gone: the records of those are dropped, and they
// join [Ledger.Removals]. saved is false where somebody else has written since:
// then nothing was. A release of the brake that is over at r.Looked is forgotten.
//
// The project is looked at again at next, at most [MostAhead] from now (zero:
// not until something makes it due).
// If something did so since r was read, it is looked at again at once, with the
// time of r.Looked. After a save, r with its Version one higher and next for its Due
// is what was written, for a further save of the same look.
func (l *Ledger) SaveRetention(ctx context.Context, r backup.Retention, gone []backup.Removal, next time.Time) (saved bool, err error) {
	// Should the answer be lost, the client asks again by itself: the nonce tells
	// that from somebody else's writing.
	saved, err = l.saveRetention(ctx, r, gone, next, rand.Text()[:4])
	if err != nil {
		return false, fmt.Errorf("ledger: save retention of %s: %w", r.Project, err)
	}
	return saved, nil
}

func (l *Ledger) saveRetention(ctx context.Context, r backup.Retention, gone []backup.Removal, next time.Time, nonce string) (bool, error) {
	err := badID("project", r.Project)
	for _, g := range gone {
		err = errors.Join(err, badID("backup", g.Backup))
	}
	if err != nil {
		return false, err
	}
	if !r.Released.IsZero() && !r.Released.After(r.Looked) {
		r.Released, r.Most = time.Time{}, 0
	}
	row, doing := retentionRows(r)
	args := []any{r.Project, r.Version, nonce, micros(r.Due), micros(next), micros(r.Looked), row, doing, -RemovedKept}
	for _, g := range gone {
		args = append(args, g.Backup, removalRow(g))
	}
	s := l.of(r.Project)
	return l.yes(ctx, saveRetentionScript, []string{s.retention(), s.outlook(), s.removals(), s.records(),
		s.backups(), s.holding(r.Project), s.removed(r.Project), s.projects()}, args...)
}

// Removals is the backups of a project that were removed and that no digest was made
// of yet (see [Ledger.CutDigest]), the newest max of them, in the order they were
// seen to be gone. [RemovedKept] are kept.
func (l *Ledger) Removals(ctx context.Context, project string, max int) ([]backup.Removal, error) {
	if !goodID(project) || max <= 0 {
		return nil, nil
	}
	rows, err := l.rdb.LRange(ctx, l.of(project).removed(project), int64(-max), -1).Result()
	if err != nil {
		return nil, fmt.Errorf("ledger: removals: %w", err)
	}
	var out []backup.Removal
	for _, row := range rows {
		g, err := readRemoval(row)
		if err != nil {
			return nil, fmt.Errorf("ledger: removals: %w", err)
		}
		out = append(out, g)
	}
	return out, nil
}

// Outlook is the sum of all projects' outlooks, each as last looked at.
func (l *Ledger) Outlook(ctx context.Context) (backup.Outlook, error) {
	cmds := make([]*redis.StringSliceCmd, l.Shards())
	_, err := l.rdb.Pipelined(ctx, func(p redis.Pipeliner) error {
		for i := range cmds {
			cmds[i] = p.HVals(ctx, l.keys.shard(i).outlook())
		}
		return nil
	})
	if err != nil {
		return backup.Outlook{}, fmt.Errorf("ledger: outlook: %w", err)
	}
	var sum backup.Outlook
	for _, c := range cmds {
		for _, row := range c.Val() {
			r, err := readRetention("", row, "")
			if err != nil {
				return backup.Outlook{}, fmt.Errorf("ledger: outlook: %w", err)
			}
			sum = sum.Add(r.Outlook)
		}
	}
	return sum, nil
}

// ReleaseBrake lifts the brake on a project until then, for at most that many
// removals; until zero takes the release back. A look at the project that is under
// way does not count, see [Ledger.SaveRetention]. [Ledger.LookRetention] brings the
// next one at once. It is an error if nothing is known of the project.
func (l *Ledger) ReleaseBrake(ctx context.Context, project string, until time.Time, most int) error {
	err := badID("project", project)
	if err == nil {
		if until.IsZero() {
			most = 0
		}
		s := l.of(project)
		var known bool
		known, err = l.yes(ctx, releaseBrakeScript, []string{s.outlook(), s.projects()}, project, micros(until), most)
		if err == nil && !known {
			err = errors.New("nothing is known of this project")
		}
	}
	if err != nil {
		return fmt.Errorf("ledger: release brake of %s: %w", project, err)
	}
	return nil
}

// ReleaseCloud lifts the brake on the whole cloud until then, for at most that many
// removals; until zero takes the release back.
func (l *Ledger) ReleaseCloud(ctx context.Context, until time.Time, most int) error {
	var err error
	if until.IsZero() {
		err = l.rdb.Del(ctx, l.keys.release()).Err()
	} else {
		err = l.rdb.Set(ctx, l.keys.release(), micros(until)+" "+strconv.Itoa(most), 0).Err()
	}
	if err != nil {
		return fmt.Errorf("ledger: release brake of the cloud: %w", err)
	}
	return nil
}

// CloudRelease is what [Ledger.ReleaseCloud] said last, also when its time is over;
// zero for nothing.
func (l *Ledger) CloudRelease(ctx context.Context) (until time.Time, most int, err error) {
	s, err := l.rdb.Get(ctx, l.keys.release()).Result()
	if errors.Is(err, redis.Nil) {
		return time.Time{}, 0, nil
	}
	if err == nil {
		first, rest, _ := strings.Cut(s, " ")
		if until, err = readMicros(first); err == nil {
			most, err = readCount(rest)
		}
	}
	if err != nil {
		return time.Time{}, 0, fmt.Errorf("ledger: release of the cloud: %w", err)
	}
	return until, most, nil
}

// Retentions is what is remembered of the removals of a shard's projects, by
// project, for looking at: each may be of a slightly different moment.
func (l *Ledger) Retentions(ctx context.Context, shard int) ([]backup.Retention, error) {
	s := l.keys.shard(shard)
	rows, doing := map[string]string{}, map[string]string{}
	collect := func(into map[string]string) func(project, row string) error {
		return func(project, row string) error { into[project] = row; return nil }
	}
	err := l.each(ctx, s.outlook(), collect(rows))
	if err == nil {
		err = l.each(ctx, s.removals(), collect(doing))
	}
	if err != nil {
		return nil, fmt.Errorf("ledger: retentions: %w", err)
	}
	var out []backup.Retention
	for part := range slices.Chunk(slices.Sorted(maps.Keys(rows)), page) {
		scores, err := l.rdb.ZMScore(ctx, s.retention(), part...).Result()
		if err != nil {
			return nil, fmt.Errorf("ledger: retentions: %w", err)
		}
		for i, project := range part {
			r, err := readRetention(project, rows[project], doing[project])
			if err == nil {
				err = isRetention(r)
			}
			if err != nil {
				return nil, fmt.Errorf("ledger: retentions: %w", err)
			}
			r.Due = scoreTime(scores[i])
			out = append(out, r)
		}
	}
	return out, nil
}

// Held is the projects of the whole cloud where something holds the removals back,
// by project.
func (l *Ledger) Held(ctx context.Context) ([]backup.Retention, error) {
	var out []backup.Retention
	for i := range l.Shards() {
		all, err := l.Retentions(ctx, i)
		if err != nil {
			return nil, err
		}
		for _, r := range all {
			if r.Held != "" {
				out = append(out, r)
			}
		}
	}
	slices.SortFunc(out, func(a, b backup.Retention) int { return cmp.Compare(a.Project, b.Project) })
	return out, nil
}
