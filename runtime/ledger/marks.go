package ledger

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
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
	found, err := l.volumesOf(ctx, project, []string{volume})
	v, ok := found[volume]
	return v, ok, err
}

// VolumesOf is those of the volumes that are protected in the project, by id; each
// as [Ledger.Volume] would say it.
func (l *Ledger) VolumesOf(ctx context.Context, project string, ids []string) (map[string]backup.Protected, error) {
	all := map[string]backup.Protected{}
	if !goodID(project) {
		return all, nil
	}
	for part := range slices.Chunk(ids, page) {
		found, err := l.volumesOf(ctx, project, part)
		if err != nil {
			return nil, fmt.Errorf("ledger: volumes of %s: %w", project, err)
		}
		maps.Copy(all, found)
	}
	return all, nil
}

// volumesOf asks twice, however many there are: for the volumes, and for their
// servers.
func (l *Ledger) volumesOf(ctx context.Context, project string, ids []string) (map[string]backup.Protected, error) {
	s := l.of(project)
	var rows *redis.SliceCmd
	var due *redis.FloatSliceCmd
	_, err := l.rdb.Pipelined(ctx, func(p redis.Pipeliner) error {
		rows, due = p.HMGet(ctx, s.volumes(), ids...), p.ZMScore(ctx, s.due(), ids...)
		return nil
	})
	if err != nil {
		return nil, err
	}
	out, servers := map[string]backup.Protected{}, map[string][]string{}
	var want []string
	for i, row := range rows.Val() {
		text, ok := row.(string)
		if !ok {
			continue
		}
		v, of, err := readVolume(ids[i], text)
		if err != nil {
			return nil, err
		}
		if v.Project != project {
			continue
		}
		// An absent member has the score 0, which is no time.
		v.State.Due = scoreTime(due.Val()[i])
		out[v.Volume], servers[v.Volume] = v, of
		want = append(want, of...)
	}
	if len(want) == 0 {
		return out, nil
	}
	slices.Sort(want)
	want = slices.Compact(want)
	found, err := l.rdb.HMGet(ctx, s.servers(), want...).Result()
	if err != nil {
		return nil, err
	}
	enrolments := map[string]backup.Enrolment{}
	for i, row := range found {
		if text, ok := row.(string); ok {
			if enrolments[want[i]], _, err = readServer(want[i], text); err != nil {
				return nil, err
			}
		}
	}
	for id, v := range out {
		for _, server := range servers[id] {
			if e, ok := enrolments[server]; ok {
				v.Enrolments = append(v.Enrolments, e)
			}
		}
		sortEnrolments(v.Enrolments)
		out[id] = v
	}
	return out, nil
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
		n, err := readCount(s)
		if err != nil {
			return nil, fmt.Errorf("ledger: total of %.40q: %w", what, err)
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
