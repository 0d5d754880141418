// Package track follows each run to its end, complete or failed, and does what is left to do
// after that: it writes the time of the newest backup to the server, removes a broken backup
// and has a second attempt started.
//
// Set off by: Cinder's backup.* notifications, which only make it look sooner, and the tick
// "track", for each shard. Everything rests on the tick, because Cinder sends no notification
// of a failed backup (cinder/backup/manager.py notifies of success only).
//
// The tick reads the open runs whose time has come and their backups, [backup.VerdictOn] says
// what has become of each run, and [closing] what is written about it.
package track

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"staffeln/events"
	"staffeln/events/cinder"
	"staffeln/functions/backup"
)

// Ledger is the part of the ledger that track uses.
type Ledger interface {
	// Open returns the open runs that are to be looked at by now.
	Open(ctx context.Context, shard int, now time.Time, max int) ([]backup.Run, error)
	// Look brings the next look at the run of a backup forward to at. known is false if no run
	// that is open or watched has made the backup.
	Look(ctx context.Context, project, backupID string, at time.Time) (known bool, err error)
	SetParent(ctx context.Context, project, backupID, parent string) error
	Advance(ctx context.Context, run backup.Run, look time.Time) (bool, error)
	Finish(ctx context.Context, c backup.Closing) (bool, error)
	Release(ctx context.Context, run backup.Run) error
	Pause(ctx context.Context, until time.Time, why string) error
	// Volume returns a protected volume; ok is false if it is not protected any more.
	Volume(ctx context.Context, project, volume string) (v backup.Protected, ok bool, err error)
	Afterwards
}

// Afterwards is the part of the ledger about what is left to do after the end of a run.
type Afterwards interface {
	Stamps(ctx context.Context, shard int, now time.Time, max int) ([]backup.StampDue, error)
	// Stamped drops a stamp if again is zero; otherwise it is tried again at that time. The same
	// goes for Discarded.
	Stamped(ctx context.Context, d backup.StampDue, again time.Time) error
	Discards(ctx context.Context, shard int, now time.Time, max int) ([]backup.Discard, error)
	Discarded(ctx context.Context, d backup.Discard, again time.Time) error
	// Watched returns the runs that failed at their deadline and whose backup may still become
	// complete.
	Watched(ctx context.Context, shard int, now time.Time, max int) ([]backup.Run, error)
	Watch(ctx context.Context, run backup.Run, at time.Time) error
	Unwatch(ctx context.Context, run backup.Run) error
	FinishLate(ctx context.Context, c backup.Closing) (bool, error)
}

// Cloud is the part of OpenStack that track uses.
type Cloud interface {
	Backup(ctx context.Context, project, id string) (backup.CinderBackup, error)
	BackupsOf(ctx context.Context, project, volume string, since time.Time) ([]backup.CinderBackup, error)
	DeleteBackup(ctx context.Context, project, id string) error
	SetServerMetadata(ctx context.Context, project, server, key, value string) error
	// Clock returns the time by the cloud's own clock; ok is false if it is not known.
	Clock() (at time.Time, ok bool)
}

// Function is track, ready to run.
type Function struct {
	Ledger   Ledger
	Cloud    Cloud
	Settings backup.Settings
	Log      *slog.Logger
	// Count adds n to a counter of runtime/metrics.
	Count func(name string, n float64, labels ...string)
}

// batch is how many runs, stamps, discards and watched runs one tick handles at most, each.
const batch = 500

// Told handles Cinder's backup.* notifications: the next tick looks at the run. Only the
// parent's id is taken from the notification itself, because Cinder's API does not show it.
func (f *Function) Told(ctx context.Context, n cinder.Backup) error {
	known, err := f.Ledger.Look(ctx, n.Project, n.ID, n.At)
	if err != nil || !known || n.Parent == "" {
		return err
	}
	return f.Ledger.SetParent(ctx, n.Project, n.ID, n.Parent)
}

// Track handles the tick.
func (f *Function) Track(ctx context.Context, t events.Tick) error {
	return errors.Join(f.runs(ctx, t), f.stamps(ctx, t), f.discards(ctx, t), f.watched(ctx, t))
}

func (f *Function) runs(ctx context.Context, t events.Tick) error {
	open, err := f.Ledger.Open(ctx, t.Shard, t.At, batch)
	if err != nil {
		return err
	}
	if err := f.rebase(ctx, open, t.At); err != nil {
		return err
	}
	var errs []error
	for _, runs := range backup.ByProject(open, func(r backup.Run) string { return r.Project }) {
		if ctx.Err() != nil {
			return errors.Join(append(errs, ctx.Err())...)
		}
		if err := f.project(ctx, runs, t.At); err != nil {
			errs = append(errs, fmt.Errorf("project %s: %w", runs[0].Project, err))
		}
	}
	return errors.Join(errs...)
}

// rebase corrects runs that were begun while our clock was ahead. Without it, nothing of the
// volume would start until the time in the run has come.
func (f *Function) rebase(ctx context.Context, open []backup.Run, now time.Time) error {
	if theirs, ok := f.Cloud.Clock(); ok && backup.Ahead(theirs, now) {
		return nil // our clock is behind now, and the run may be right
	}
	for i, r := range open {
		right, wrong := backup.Rebase(r, now)
		if !wrong {
			continue
		}
		f.log(r).WarnContext(ctx, "run begun by a clock that was ahead", "began", r.Started.UTC().Format(time.RFC3339))
		if _, err := f.Ledger.Advance(ctx, right, now); err != nil {
			return err
		}
		open[i] = right
	}
	return nil
}

// log returns a logger for lines about a run.
func (f *Function) log(r backup.Run) *slog.Logger {
	return f.Log.With("project", r.Project, "volume", r.Volume, "volume_name", r.VolumeName,
		"server_name", r.ServerName, "backup", r.Backup, "run", r.ID())
}

// project follows all runs of a project, with one list of backups.
func (f *Function) project(ctx context.Context, runs []backup.Run, now time.Time) error {
	seen, err := f.find(ctx, runs)
	if err != nil {
		// Not at every tick, because OpenStack is in trouble.
		for _, r := range runs {
			again := now.Add(max(30*time.Second, backup.RetryAfter(err)))
			if _, aerr := f.Ledger.Advance(ctx, r, again); aerr != nil {
				return errors.Join(err, aerr)
			}
		}
		return err
	}
	var errs []error
	for _, r := range runs {
		if err := f.follow(ctx, r, seen[r.ID()], now); err != nil {
			errs = append(errs, fmt.Errorf("run %s: %w", r.ID(), err))
		}
	}
	return errors.Join(errs...)
}

// find returns the backup of each run, by the run's name, if there is one. A backup that is
// missing from the list is asked for by its id, because lists can be short.
func (f *Function) find(ctx context.Context, runs []backup.Run) (map[string]*backup.CinderBackup, error) {
	list, err := f.list(ctx, runs)
	if err != nil {
		return nil, err
	}
	found := map[string]*backup.CinderBackup{}
	for _, r := range runs {
		for i, b := range list {
			// Of several backups, one in error was not taken by any service and does not count.
			if isOf(b, r) && (found[r.ID()] == nil || found[r.ID()].Status == "error") {
				found[r.ID()] = &list[i]
			}
		}
		if found[r.ID()] != nil || r.Backup == "" {
			continue
		}
		b, err := f.Cloud.Backup(ctx, r.Project, r.Backup)
		switch {
		case err == nil && f.named(ctx, b, r):
			found[r.ID()] = &b
		case err != nil && backup.FaultOf(err) != backup.Gone:
			return nil, err
		}
	}
	return found, nil
}

// list reads the backups that can be those of the runs. It reads nothing for a single run
// whose backup is known, since one question is enough then.
func (f *Function) list(ctx context.Context, runs []backup.Run) ([]backup.CinderBackup, error) {
	only, since := "", runs[0].Started
	if len(runs) == 1 {
		if runs[0].Backup != "" {
			return nil, nil
		}
		only = runs[0].Volume
	}
	for _, r := range runs {
		if r.Started.Before(since) {
			since = r.Started
		}
	}
	// Cinder's clock may be behind ours, and the backup of an adopted run may be older than the run.
	return f.Cloud.BackupsOf(ctx, runs[0].Project, only, since.Add(-time.Hour))
}

// named says whether the run has made the backup that the ledger names for it, and logs an
// error if not.
func (f *Function) named(ctx context.Context, b backup.CinderBackup, r backup.Run) bool {
	ok := isOf(b, r)
	if !ok {
		f.log(r).ErrorContext(ctx, "the ledger names a backup that the run did not make", "origin", b.Origin)
	}
	return ok
}

// isOf says whether the run has made the backup. The id in the ledger is not enough: the
// service must have made the backup, and of the run's volume.
func isOf(b backup.CinderBackup, r backup.Run) bool {
	switch {
	case !b.Ours() || b.Volume != r.Volume:
		return false
	case r.Backup != "":
		return b.ID == r.Backup
	}
	slot, attempt, ok := b.Run()
	return ok && slot.Equal(r.Slot) && attempt == r.Attempt
}
