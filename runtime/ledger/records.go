package ledger

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"

	"staffeln/functions/backup"
)

// page is how many rows are asked for at a time.
const page = 500

// Record is what is remembered of one automated backup.
func (l *Ledger) Record(ctx context.Context, project, id string) (backup.Record, bool, error) {
	if !goodID(project) || !goodID(id) {
		return backup.Record{}, false, nil
	}
	row, err := l.rdb.HGet(ctx, l.of(project).records(), id).Result()
	if errors.Is(err, redis.Nil) {
		return backup.Record{}, false, nil
	}
	var r backup.Record
	if err == nil {
		r, err = readRecord(id, row)
	}
	if err != nil {
		return backup.Record{}, false, fmt.Errorf("ledger: record: %w", err)
	}
	if r.Project != project {
		return backup.Record{}, false, nil
	}
	return r, true, nil
}

// Find is the same where the project is not known: it asks all shards at once.
func (l *Ledger) Find(ctx context.Context, backupID string) (backup.Record, bool, error) {
	if !goodID(backupID) {
		return backup.Record{}, false, nil
	}
	cmds := make([]*redis.StringCmd, l.Shards())
	_, err := l.rdb.Pipelined(ctx, func(p redis.Pipeliner) error {
		for i := range cmds {
			cmds[i] = p.HGet(ctx, l.keys.shard(i).records(), backupID)
		}
		return nil
	})
	// A record in one shard counts, even if another shard did not answer.
	for _, c := range cmds {
		row, e := c.Result()
		switch {
		case e == nil:
			r, err := readRecord(backupID, row)
			if err != nil {
				return backup.Record{}, false, fmt.Errorf("ledger: find: %w", err)
			}
			return r, true, nil
		case !errors.Is(e, redis.Nil):
			err = e
		}
	}
	if err != nil && !errors.Is(err, redis.Nil) {
		return backup.Record{}, false, fmt.Errorf("ledger: find backup %s: %w", backupID, err)
	}
	return backup.Record{}, false, nil
}

// PutRecords remembers backups of a project as ours. What a record does not say
// (its parent, its policy) but was known before, stays. A project whose removals
// would not be looked at at all is due at once: by the time of the newest of these.
func (l *Ledger) PutRecords(ctx context.Context, project string, records []backup.Record) error {
	if err := badID("project", project); err != nil {
		return err
	}
	var args []any
	var newest time.Time
	for _, r := range records {
		if err := errors.Join(badID("backup", r.ID), badID("volume", r.Volume)); err != nil {
			return err
		}
		r.Project = project
		if args = append(args, toJSON(argOfRecord(r))); r.Created.After(newest) {
			newest = r.Created
		}
	}
	s := l.of(project)
	for part := range slices.Chunk(args, page) {
		if err := putRecordsScript.Run(ctx, l.rdb, []string{s.records(), s.backups(), s.holding(project), s.projects(), s.retention()},
			append([]any{project, moment(newest)}, part...)...).Err(); err != nil {
			return fmt.Errorf("ledger: put records: %w", err)
		}
	}
	return nil
}

// SetParent remembers which backup an incremental builds on, if it is ours.
func (l *Ledger) SetParent(ctx context.Context, project, backupID, parent string) error {
	if err := errors.Join(badID("project", project), badID("backup", backupID, parent)); err != nil {
		return err
	}
	_, err := l.yes(ctx, setParentScript, []string{l.of(project).records()}, backupID, word(parent), project)
	if err != nil {
		return fmt.Errorf("ledger: set parent of %s: %w", backupID, err)
	}
	return nil
}

// DropRecords forgets backups of a project.
func (l *Ledger) DropRecords(ctx context.Context, project string, ids []string) error {
	if err := errors.Join(badID("project", project), badID("backup", ids...)); err != nil {
		return err
	}
	s := l.of(project)
	for part := range slices.Chunk(ids, page) {
		args := []any{project}
		for _, id := range part {
			args = append(args, id)
		}
		if err := dropRecordsScript.Run(ctx, l.rdb, []string{s.records(), s.backups(), s.holding(project)}, args...).Err(); err != nil {
			return fmt.Errorf("ledger: drop records: %w", err)
		}
	}
	return nil
}

// recordRows reads records by their ids, those of the project.
func (l *Ledger) recordRows(ctx context.Context, project string, ids []string) ([]backup.Record, error) {
	var out []backup.Record
	for part := range slices.Chunk(ids, page) {
		rows, err := l.rdb.HMGet(ctx, l.of(project).records(), part...).Result()
		if err != nil {
			return nil, err
		}
		for i, row := range rows {
			s, ok := row.(string)
			if !ok {
				continue
			}
			r, err := readRecord(part[i], s)
			if err != nil {
				return nil, err
			}
			if r.Project == project {
				out = append(out, r)
			}
		}
	}
	return out, nil
}

// Records is all that is remembered of a project's backups, by time, then id.
func (l *Ledger) Records(ctx context.Context, project string) ([]backup.Record, error) {
	if !goodID(project) {
		return nil, nil
	}
	volumes, err := l.rdb.ZRange(ctx, l.of(project).holding(project), 0, -1).Result()
	if err != nil {
		return nil, fmt.Errorf("ledger: records: %w", err)
	}
	return l.recordsOf(ctx, project, volumes)
}

// RecordsOf is what is remembered of a volume's backups, by time, then id.
func (l *Ledger) RecordsOf(ctx context.Context, project, volume string) ([]backup.Record, error) {
	if !goodID(project) || !goodID(volume) {
		return nil, nil
	}
	return l.recordsOf(ctx, project, []string{volume})
}

func (l *Ledger) recordsOf(ctx context.Context, project string, volumes []string) ([]backup.Record, error) {
	s := l.of(project)
	var out []backup.Record
	for part := range slices.Chunk(volumes, page) {
		rows, err := l.rdb.HMGet(ctx, s.backups(), part...).Result()
		if err != nil {
			return nil, fmt.Errorf("ledger: records: %w", err)
		}
		var ids []string
		for _, row := range rows {
			if text, ok := row.(string); ok {
				ids = append(ids, strings.Fields(text)...)
			}
		}
		records, err := l.recordRows(ctx, project, ids)
		if err != nil {
			return nil, fmt.Errorf("ledger: records: %w", err)
		}
		out = append(out, records...)
	}
	slices.SortFunc(out, func(a, b backup.Record) int {
		return cmp.Or(a.Created.Compare(b.Created), cmp.Compare(a.ID, b.ID))
	})
	return out, nil
}
