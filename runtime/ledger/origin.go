package ledger

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/redis/go-redis/v9"

	"staffeln/functions/backup"
)

// Evidence is what is known about who made these backups of a project: which of them
// have a record with a proof, and which of their volumes have an open run whose backup
// is not known yet. A row that cannot be read proves nothing.
func (l *Ledger) Evidence(ctx context.Context, project string, backups []backup.CinderBackup) (backup.Evidence, error) {
	e := backup.Evidence{Made: map[string]bool{}, Asked: map[string]backup.Run{}}
	if !goodID(project) {
		return e, nil
	}
	var ids, volumes []string
	for _, b := range backups {
		if goodID(b.ID) && goodID(b.Volume) {
			ids, volumes = append(ids, b.ID), append(volumes, b.Volume)
		}
	}
	s := l.of(project)
	err := errors.Join(
		l.fields(ctx, s.records(), ids, func(id, row string) {
			if r, err := readRecord(id, row); err == nil && r.Project == project && r.Proof != "" {
				e.Made[id] = true
			}
		}),
		l.fields(ctx, s.runs(), volumes, func(volume, row string) {
			_, body, _ := strings.Cut(row, "\n")
			if r, err := readRun(body); err == nil && r.Project == project && r.Volume == volume && r.Backup == "" && r.Nonce != "" {
				e.Asked[volume] = r
			}
		}))
	if err != nil {
		return e, fmt.Errorf("ledger: evidence: %w", err)
	}
	return e, nil
}

// fields reads fields of a hash, those that are there.
func (l *Ledger) fields(ctx context.Context, key string, names []string, read func(name, row string)) error {
	for len(names) > 0 {
		part := names[:min(page, len(names))]
		names = names[len(part):]
		rows, err := l.rdb.HMGet(ctx, key, part...).Result()
		if err != nil {
			return err
		}
		for i, row := range rows {
			if text, ok := row.(string); ok {
				read(part[i], text)
			}
		}
	}
	return nil
}

// SetForeign remembers a project's backups that carry our metadata and do not count as
// ours; with none, the project is forgotten.
func (l *Ledger) SetForeign(ctx context.Context, project string, all []backup.Foreign) error {
	err := badID("project", project)
	switch {
	case err != nil:
	case len(all) == 0:
		err = l.rdb.HDel(ctx, l.of(project).foreign(), project).Err()
	default:
		err = l.rdb.HSet(ctx, l.of(project).foreign(), project, toJSON(all)).Err()
	}
	if err != nil {
		return fmt.Errorf("ledger: foreign backups: %w", err)
	}
	return nil
}

// Foreign is what [Ledger.SetForeign] wrote.
func (l *Ledger) Foreign(ctx context.Context, project string) ([]backup.Foreign, error) {
	var all []backup.Foreign
	if !goodID(project) {
		return nil, nil
	}
	row, err := l.rdb.HGet(ctx, l.of(project).foreign(), project).Result()
	switch {
	case errors.Is(err, redis.Nil):
		return nil, nil
	case err == nil:
		err = fromJSON(row, &all)
	}
	if err != nil {
		return nil, fmt.Errorf("ledger: foreign backups of %s: %w", project, err)
	}
	return all, nil
}

// Foreigns are those of all projects of a shard, by project. A row that cannot be read
// counts as none: the next sweep writes it anew.
func (l *Ledger) Foreigns(ctx context.Context, shard int) (map[string][]backup.Foreign, error) {
	rows, err := l.rdb.HGetAll(ctx, l.keys.shard(shard).foreign()).Result()
	if err != nil {
		return nil, fmt.Errorf("ledger: foreign backups: %w", err)
	}
	out := map[string][]backup.Foreign{}
	for project, row := range rows {
		var all []backup.Foreign
		if fromJSON(row, &all) == nil && goodID(project) {
			out[project] = all
		}
	}
	return out, nil
}
