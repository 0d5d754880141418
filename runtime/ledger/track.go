package ledger

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"

	"staffeln/functions/backup"
)

// MostAhead is how far ahead a look, a stamp or a discard can be planned. A time that is further
// ahead was written by a wrong clock, and counts as past.
const MostAhead = 48 * time.Hour

// come is the members of a zset whose time has come, the longest waiting first, and
// then those that are more than [MostAhead] away; at most max.
func (l *Ledger) come(ctx context.Context, set string, now time.Time, max int) ([]string, error) {
	if max <= 0 {
		return nil, nil
	}
	var due, ahead *redis.StringSliceCmd
	_, err := l.rdb.Pipelined(ctx, func(p redis.Pipeliner) error {
		due = p.ZRangeByScore(ctx, set, &redis.ZRangeBy{Min: "-inf", Max: micros(now), Count: int64(max)})
		ahead = p.ZRangeByScore(ctx, set, &redis.ZRangeBy{Min: "(" + micros(now.Add(MostAhead)), Max: "+inf", Count: int64(max)})
		return nil
	})
	if err != nil {
		return nil, err
	}
	all := append(due.Val(), ahead.Val()...)
	return all[:min(len(all), max)], nil
}

// waiting calls each for the members of a zset whose time has come, with their fields of a hash.
// A member without a field is left out.
func (l *Ledger) waiting(ctx context.Context, set, rows string, now time.Time, max int, each func(id, row string) error) error {
	ids, err := l.come(ctx, set, now, max)
	if err != nil || len(ids) == 0 {
		return err
	}
	found, err := l.rdb.HMGet(ctx, rows, ids...).Result()
	if err != nil {
		return err
	}
	var bad error
	for i, f := range found {
		if row, ok := f.(string); ok {
			if err := each(ids[i], row); err != nil {
				bad = errors.Join(bad, fmt.Errorf("%s: %w", named(ids[i]), err))
			}
		}
	}
	return bad
}

// Open is the open runs whose look time has come, the longest waiting first.
func (l *Ledger) Open(ctx context.Context, shard int, now time.Time, max int) (runs []backup.Run, err error) {
	s := l.keys.shard(shard)
	err = l.waiting(ctx, s.open(), s.runs(), now, max, func(volume, row string) error {
		r, err := readOpenRun(row)
		if err == nil {
			err = isRun(r, volume, r.Volume)
		}
		if err == nil {
			runs = append(runs, r)
		}
		return err
	})
	if err != nil {
		err = fmt.Errorf("ledger: open: %w", err)
	}
	return runs, err
}

// LookAt sets when the open run is looked at next, sooner or later; it does
// nothing if the open run is another's.
func (l *Ledger) LookAt(ctx context.Context, run backup.Run, at time.Time) error {
	err := badRun(run)
	if err == nil {
		s := l.of(run.Project)
		_, err = l.yes(ctx, lookAtScript, []string{s.runs(), s.open()}, run.Volume, toJSON(argOfRun(run, "")), micros(at))
	}
	if err != nil {
		return fmt.Errorf("ledger: look at %s: %w", run.ID(), err)
	}
	return nil
}

// Look brings forward when the run of a backup is looked at, never puts it off;
// known says that the backup is an open or a watched run's.
func (l *Ledger) Look(ctx context.Context, project, backupID string, at time.Time) (known bool, err error) {
	if !goodID(project) || !goodID(backupID) {
		return false, nil
	}
	s := l.of(project)
	known, err = l.yes(ctx, lookScript, []string{s.tracked(), s.open(), s.watched()}, backupID, micros(at))
	if err != nil {
		return false, fmt.Errorf("ledger: look at backup %s: %w", backupID, err)
	}
	return known, nil
}

// Watched is the runs that were given up on but may end after all, and are to be
// looked at again, the longest waiting first.
func (l *Ledger) Watched(ctx context.Context, shard int, now time.Time, max int) (runs []backup.Run, err error) {
	s := l.keys.shard(shard)
	err = l.waiting(ctx, s.watched(), s.watching(), now, max, func(name, row string) error {
		r, err := readRun(row)
		if err == nil {
			err = isRun(r, name, watchName(r))
		}
		if err == nil {
			runs = append(runs, r)
		}
		return err
	})
	if err != nil {
		err = fmt.Errorf("ledger: watched: %w", err)
	}
	return runs, err
}

// Watch looks at the run's backup again at that time, and until [Ledger.Unwatch]
// or [Ledger.FinishLate].
func (l *Ledger) Watch(ctx context.Context, run backup.Run, at time.Time) error {
	return l.watch(ctx, watchScript, "watch", run, at)
}

// Unwatch looks at the run no more.
func (l *Ledger) Unwatch(ctx context.Context, run backup.Run) error {
	return l.watch(ctx, unwatchScript, "unwatch", run, time.Time{})
}

func (l *Ledger) watch(ctx context.Context, s *redis.Script, what string, run backup.Run, at time.Time) error {
	err := badRun(run)
	if err == nil {
		k := l.of(run.Project)
		_, err = l.yes(ctx, s, []string{k.watching(), k.watched(), k.tracked(), k.projects()}, toJSON(argOfWatch(run, at)))
	}
	if err != nil {
		return fmt.Errorf("ledger: %s %s: %w", what, run.ID(), err)
	}
	return nil
}

// Stamps is the last-backup-times that are to be written now, the longest waiting
// first; one for a server, the newest.
func (l *Ledger) Stamps(ctx context.Context, shard int, now time.Time, max int) (stamps []backup.StampDue, err error) {
	s := l.keys.shard(shard)
	err = l.waiting(ctx, s.stamps(), s.stamping(), now, max, func(server, row string) error {
		f := strings.Split(row, " ")
		if len(f) != 3 {
			return fmt.Errorf("not a row: %.60q", row)
		}
		at, err := readMicros(f[1])
		tries, err2 := readCount(f[2])
		if err := errors.Join(err, err2, badID("server", server), badID("project", f[0])); err != nil {
			return err
		}
		stamps = append(stamps, backup.StampDue{Server: server, Project: f[0], At: at, Tries: tries})
		return nil
	})
	if err != nil {
		err = fmt.Errorf("ledger: stamps: %w", err)
	}
	return stamps, err
}

// Stamped tells what became of a stamp. again zero: it was written (or need not be
// any more): it is the server's last stamp, and is dropped unless a newer one has
// become due meanwhile. Otherwise it is tried again then, and Tries counts one
// more.
func (l *Ledger) Stamped(ctx context.Context, d backup.StampDue, again time.Time) error {
	err := errors.Join(badID("project", d.Project), badID("server", d.Server))
	if err == nil {
		s := l.of(d.Project)
		_, err = l.yes(ctx, stampedScript, []string{s.stamping(), s.stamps(), s.servers(), s.projects()},
			d.Server, micros(d.At), micros(again))
	}
	if err != nil {
		return fmt.Errorf("ledger: stamped %s: %w", d.Server, err)
	}
	return nil
}

// Discards is the broken backups that are to be removed now, the longest waiting
// first.
func (l *Ledger) Discards(ctx context.Context, shard int, now time.Time, max int) (discards []backup.Discard, err error) {
	s := l.keys.shard(shard)
	err = l.waiting(ctx, s.discards(), s.discarding(), now, max, func(id, row string) error {
		project, tries, _ := strings.Cut(row, " ")
		n, err := readCount(tries)
		if err = errors.Join(err, badID("backup", id), badID("project", project)); err == nil {
			discards = append(discards, backup.Discard{Backup: id, Project: project, Tries: n})
		}
		return err
	})
	if err != nil {
		err = fmt.Errorf("ledger: discards: %w", err)
	}
	return discards, err
}

// Discarded tells what became of a discard. again zero: it is gone, or no longer
// to be removed; its record stays until [Ledger.DropRecords], so that it is ours
// as long as there is any doubt. Otherwise it is tried again then, and Tries
// counts one more.
func (l *Ledger) Discarded(ctx context.Context, d backup.Discard, again time.Time) error {
	err := errors.Join(badID("project", d.Project), badID("backup", d.Backup))
	if err == nil {
		s := l.of(d.Project)
		_, err = l.yes(ctx, discardedScript, []string{s.discarding(), s.discards(), s.projects()}, d.Backup, micros(again))
	}
	if err != nil {
		return fmt.Errorf("ledger: discarded %s: %w", d.Backup, err)
	}
	return nil
}
