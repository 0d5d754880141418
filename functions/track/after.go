package track

import (
	"context"
	"errors"
	"fmt"
	"time"

	"staffeln/events"
	"staffeln/functions/backup"
)

const (
	// watchEvery is how often track looks at a backup that was not complete at its deadline.
	watchEvery = 15 * time.Minute
	// watchFor is for how long it does so. After that, reconcile finds the backup if it ends.
	watchFor = 30 * 24 * time.Hour
)

// stamps writes the time of its newest backup to each server that does not have it yet.
func (f *Function) stamps(ctx context.Context, t events.Tick) error {
	due, err := f.Ledger.Stamps(ctx, t.Shard, t.At, batch)
	if err != nil {
		return err
	}
	var errs []error
	for _, d := range due {
		err := f.Cloud.SetServerMetadata(ctx, d.Project, d.Server, backup.StampKey, d.At.UTC().Format(time.RFC3339))
		outcome, again := "written", time.Time{}
		switch {
		case err == nil:
		case backup.FaultOf(err) == backup.Gone:
			outcome = "gone"
		default:
			// Nova refuses while the server is locked, shelved or busy. The backup is complete all
			// the same; the write is tried again until it succeeds or a newer time replaces it.
			outcome, again = "refused", t.At.Add(backup.Growing(d.Tries, 30*time.Second, 6*time.Hour))
			f.Log.InfoContext(ctx, "last-backup-time not written", "project", d.Project, "server", d.Server,
				"again", again.UTC().Format(time.RFC3339), "err", err)
		}
		f.Count("stamps_total", 1, outcome)
		errs = append(errs, f.Ledger.Stamped(context.WithoutCancel(ctx), d, again))
	}
	return errors.Join(errs...)
}

// discards removes the broken backups of failed attempts.
func (f *Function) discards(ctx context.Context, t events.Tick) error {
	due, err := f.Ledger.Discards(ctx, t.Shard, t.At, batch)
	if err != nil {
		return err
	}
	var errs []error
	for _, d := range due {
		outcome, again := f.discard(ctx, d, t.At)
		f.Count("discards_total", 1, outcome)
		errs = append(errs, f.Ledger.Discarded(context.WithoutCancel(ctx), d, again))
	}
	return errors.Join(errs...)
}

// discard removes one backup, if the service made it and Cinder says that it is in error now.
func (f *Function) discard(ctx context.Context, d backup.Discard, now time.Time) (outcome string, again time.Time) {
	later := now.Add(backup.Growing(d.Tries, 30*time.Second, time.Hour))
	b, err := f.Cloud.Backup(ctx, d.Project, d.Backup)
	switch {
	case err != nil && backup.FaultOf(err) == backup.Gone:
		return "gone", time.Time{}
	case err != nil:
		return "refused", later
	case b.Status == "deleting" || b.Status == "creating":
		return "waiting", later
	case !b.Ours() || b.Status != "error":
		f.Log.WarnContext(ctx, "not removed: no broken backup of ours", "project", d.Project, "backup", d.Backup,
			"backup_name", b.Name, "origin", b.Origin, "why", "Cinder says "+b.Status)
		return "kept", time.Time{}
	}
	log := f.Log.With("project", d.Project, "volume", b.Volume, "backup", b.ID, "backup_name", b.Name)
	if err := f.Cloud.DeleteBackup(ctx, d.Project, d.Backup); err != nil {
		log.WarnContext(ctx, "broken backup not removed", "again", later.UTC().Format(time.RFC3339), "err", err)
		return "refused", later
	}
	log.InfoContext(ctx, "broken backup removed", "why", "cinder: "+b.FailReason)
	return "removed", time.Time{}
}

// watched looks at the backups of runs that failed at their deadline. A backup that becomes
// complete after all is a restore point.
func (f *Function) watched(ctx context.Context, t events.Tick) error {
	due, err := f.Ledger.Watched(ctx, t.Shard, t.At, batch)
	if err != nil {
		return err
	}
	var errs []error
	for _, r := range due {
		if err := f.late(ctx, r, t.At); err != nil {
			errs = append(errs, fmt.Errorf("run %s: %w", r.ID(), err))
		}
	}
	return errors.Join(errs...)
}

// late writes down what has become of the backup of a watched run.
func (f *Function) late(ctx context.Context, r backup.Run, now time.Time) error {
	b, err := f.Cloud.Backup(ctx, r.Project, r.Backup)
	switch {
	case err != nil && backup.FaultOf(err) == backup.Gone:
		return f.Ledger.Unwatch(ctx, r)
	case err != nil:
		return errors.Join(err, f.Ledger.Watch(ctx, r, now.Add(watchEvery)))
	case !f.named(ctx, b, r):
		return f.Ledger.Unwatch(ctx, r)
	}
	record := backup.RecordOf(b)
	switch b.Status {
	case "available", "restoring":
		r.State, r.Ended = backup.Complete, now
		r.Why = fmt.Sprintf("backup is available after %s, past its deadline", now.Sub(r.Started).Round(time.Minute))
		f.log(r).InfoContext(ctx, "backup complete", "why", r.Why)
		f.Count("runs_finished_total", 1, "late", "false")
		_, err := f.Ledger.FinishLate(ctx, backup.Closing{Run: r, Final: true, Stamp: b.Created, Record: &record})
		return err
	case "error":
		_, err := f.Ledger.FinishLate(ctx, backup.Closing{Run: r, Remove: true, Record: &record})
		return err
	case "deleting", "deleted", "error_deleting":
		return f.Ledger.Unwatch(ctx, r)
	}
	if now.After(r.Started.Add(watchFor)) {
		f.log(r).ErrorContext(ctx, "backup never ended", "why", "Cinder says "+b.Status)
		return f.Ledger.Unwatch(ctx, r)
	}
	return f.Ledger.Watch(ctx, r, now.Add(watchEvery))
}
