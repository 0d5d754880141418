package ledger

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/redis/go-redis/v9"

	"staffeln/functions/backup"
)

// Volume is what is remembered of a protected volume, with its enrolments and its
// state; ok is false where it is not protected. Due is zero while a run is open.
func (l *Ledger) Volume(ctx context.Context, project, volume string) (v backup.Protected, ok bool, err error) {
	if !goodID(project) || !goodID(volume) {
		return v, false, nil
	}
	v, ok, err = l.volume(ctx, project, volume)
	if err != nil {
		err = fmt.Errorf("ledger: volume %s: %w", volume, err)
	}
	return v, ok, err
}

func (l *Ledger) volume(ctx context.Context, project, volume string) (backup.Protected, bool, error) {
	s := l.of(project)
	var found *redis.StringCmd
	var due *redis.FloatCmd
	_, err := l.rdb.Pipelined(ctx, func(p redis.Pipeliner) error {
		found, due = p.HGet(ctx, s.volumes(), volume), p.ZScore(ctx, s.due(), volume)
		return nil
	})
	if errors.Is(found.Err(), redis.Nil) {
		return backup.Protected{}, false, nil
	}
	if err != nil && !errors.Is(err, redis.Nil) {
		return backup.Protected{}, false, err
	}
	v, servers, err := readVolume(volume, found.Val())
	if err != nil || v.Project != project {
		return backup.Protected{}, false, err
	}
	v.State.Due = scoreTime(due.Val())
	if len(servers) == 0 {
		return v, true, nil
	}
	rows, err := l.rdb.HMGet(ctx, s.servers(), servers...).Result()
	if err != nil {
		return v, false, err
	}
	for i, r := range rows {
		if text, ok := r.(string); ok {
			e, _, err := readServer(servers[i], text)
			if err != nil {
				return v, false, err
			}
			v.Enrolments = append(v.Enrolments, e)
		}
	}
	sortEnrolments(v.Enrolments)
	return v, true, nil
}

// Discard notes a broken backup that is to be removed, from that moment on. One
// that is noted already stays as it is.
func (l *Ledger) Discard(ctx context.Context, d backup.Discard, at time.Time) error {
	err := errors.Join(badID("project", d.Project), badID("backup", d.Backup))
	if err == nil {
		s := l.of(d.Project)
		_, err = l.yes(ctx, discardScript, []string{s.discarding(), s.discards(), s.projects()}, d.Backup, d.Project, micros(at))
	}
	if err != nil {
		return fmt.Errorf("ledger: discard %s: %w", d.Backup, err)
	}
	return nil
}

// Mark remembers when something of the whole cloud was last done; see
// [Ledger.Marked].
func (l *Ledger) Mark(ctx context.Context, what string, at time.Time) error {
	if err := l.rdb.Set(ctx, l.keys.mark(what), micros(at), 0).Err(); err != nil {
		return fmt.Errorf("ledger: mark %s: %w", what, err)
	}
	return nil
}

// Marked is when something was last done; ok is false where that is not known.
func (l *Ledger) Marked(ctx context.Context, what string) (at time.Time, ok bool, err error) {
	s, err := l.rdb.Get(ctx, l.keys.mark(what)).Result()
	if errors.Is(err, redis.Nil) {
		return time.Time{}, false, nil
	}
	if err == nil {
		at, err = readMicros(s)
	}
	if err != nil {
		return time.Time{}, false, fmt.Errorf("ledger: marked %s: %w", what, err)
	}
	return at, true, nil
}

// Total remembers a number of the whole cloud, for the metrics of every process.
func (l *Ledger) Total(ctx context.Context, what string, n int) error {
	if err := l.rdb.HSet(ctx, l.keys.totals(), what, n).Err(); err != nil {
		return fmt.Errorf("ledger: total of %s: %w", what, err)
	}
	return nil
}

// Totals are the numbers as last counted.
func (l *Ledger) Totals(ctx context.Context) (map[string]int, error) {
	found, err := l.rdb.HGetAll(ctx, l.keys.totals()).Result()
	if err != nil {
		return nil, fmt.Errorf("ledger: totals: %w", err)
	}
	totals := map[string]int{}
	for what, s := range found {
		n, err := strconv.Atoi(s)
		if err != nil {
			return nil, fmt.Errorf("ledger: total of %s: %w", what, err)
		}
		totals[what] = n
	}
	return totals, nil
}

// OweStamp notes a last-backup-time that a server has not been told, to be written
// from that moment on. One that is noted already stays, unless this one is newer.
func (l *Ledger) OweStamp(ctx context.Context, d backup.StampDue, at time.Time) error {
	err := errors.Join(badID("project", d.Project), badID("server", d.Server))
	if err == nil {
		s := l.of(d.Project)
		_, err = l.yes(ctx, oweStampScript, []string{s.stamping(), s.stamps(), s.projects()}, d.Server, d.Project, micros(d.At), micros(at))
	}
	if err != nil {
		return fmt.Errorf("ledger: owe stamp of %s: %w", d.Server, err)
	}
	return nil
}

// Asked counts how often [Ledger.AskReconcile] was called: a pass that finds it
// moved since it began has to be followed by another.
func (l *Ledger) Asked(ctx context.Context) (int64, error) {
	n, err := l.rdb.Get(ctx, l.keys.asked()).Int64()
	if err != nil && !errors.Is(err, redis.Nil) {
		return 0, fmt.Errorf("ledger: asked: %w", err)
	}
	return n, nil
}
