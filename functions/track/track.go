// Package track follows every run from "asked for" to "complete" or "failed", and
// does what follows from the end: the time on the server, the broken backup
// removed, the second attempt made due.
//
// Set off by: Cinder's backup.* notifications, which only make it look sooner,
// and the tick "track", for each shard. A failed backup sends no notification at
// all (PITFALLS of Cinder: cinder/backup/manager.py notifies on success only), so
// the tick is what everything rests on.
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

// Ledger is what track needs of our own memory.
type Ledger interface {
	// Open are the runs whose time to be looked at has come.
	Open(ctx context.Context, shard int, now time.Time, max int) ([]backup.Run, error)
	// Look makes the run of a backup looked at by then; known says whether it is one
	// of ours.
	Look(ctx context.Context, project, backupID string, at time.Time) (known bool, err error)
	SetParent(ctx context.Context, project, backupID, parent string) error
	Advance(ctx context.Context, run backup.Run, look time.Time) (bool, error)
	Finish(ctx context.Context, c backup.Closing) (bool, error)
	Release(ctx context.Context, run backup.Run) error
	Pause(ctx context.Context, until time.Time, why string) error
	// Volume is what is remembered of a protected volume; ok is false where it is not
	// protected any more.
	Volume(ctx context.Context, project, volume string) (v backup.Protected, ok bool, err error)
	Afterwards
}

// Afterwards is the part of the ledger for what is still to be done after an end.
type Afterwards interface {
	Stamps(ctx context.Context, shard int, now time.Time, max int) ([]backup.StampDue, error)
	// Stamped settles a stamp: written where again is zero, else to be tried then.
	Stamped(ctx context.Context, d backup.StampDue, again time.Time) error
	Discards(ctx context.Context, shard int, now time.Time, max int) ([]backup.Discard, error)
	Discarded(ctx context.Context, d backup.Discard, again time.Time) error
	// Watched are the runs given up on whose backup may still end.
	Watched(ctx context.Context, shard int, now time.Time, max int) ([]backup.Run, error)
	Watch(ctx context.Context, run backup.Run, at time.Time) error
	Unwatch(ctx context.Context, run backup.Run) error
	FinishLate(ctx context.Context, c backup.Closing) (bool, error)
}

// Cloud is what track needs of OpenStack.
type Cloud interface {
	Backup(ctx context.Context, project, id string) (backup.CinderBackup, error)
	BackupsOf(ctx context.Context, project, volume string, since time.Time) ([]backup.CinderBackup, error)
	DeleteBackup(ctx context.Context, project, id string) error
	SetServerMetadata(ctx context.Context, project, server, key, value string) error
	// Clock is what time it is by the cloud's own clock; ok is false where that is not
	// known.
	Clock() (at time.Time, ok bool)
}

// Settings are the operator's.
type Settings struct {
	Classes backup.Classes
	// Grace is how long a request may be under way to Cinder.
	Grace time.Duration
	// StampKey is the server metadata key that the time of the newest backup is
	// written to: "last-backup-time".
	StampKey string
}

// Function is track, ready to run.
type Function struct {
	Ledger   Ledger
	Cloud    Cloud
	Settings Settings
	Log      *slog.Logger
	// Count counts what happened; see the metrics.
	Count func(name string, n float64, labels ...string)
}

// batch is how many of each sort one tick takes on.
const batch = 500

// Told handles Cinder's backup.* notifications: the run is looked at by the next
// tick. Nothing in the notification is believed but the parent's id, which Cinder
// tells nowhere else.
func (f *Function) Told(ctx context.Context, n cinder.Backup) error {
	known, err := f.Ledger.Look(ctx, n.Project, n.ID, n.At)
	if err != nil || !known || n.Parent == "" {
		return err
	}
	return f.Ledger.SetParent(ctx, n.Project, n.ID, n.Parent)
}

// Track handles the tick.
func (f *Function) Track(ctx context.Context, t events.Tick) error {
	return errors.Join(
		f.runs(ctx, t),
		f.stamps(ctx, t),
		f.discards(ctx, t),
		f.watched(ctx, t),
	)
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

// rebase puts runs right that a clock that was ahead had begun: they would be
// waited for until their time comes, and nothing else started meanwhile.
func (f *Function) rebase(ctx context.Context, open []backup.Run, now time.Time) error {
	if theirs, ok := f.Cloud.Clock(); ok && backup.Ahead(theirs, now) {
		return nil // it is our clock that is wrong now
	}
	for i, r := range open {
		right, wrong := backup.Rebase(r, now)
		if !wrong {
			continue
		}
		f.Log.WarnContext(ctx, "run begun by a clock that was ahead", "project", r.Project, "volume", r.Volume, "run", r.ID(), "began", r.Started.UTC().Format(time.RFC3339))
		if _, err := f.Ledger.Advance(ctx, right, now); err != nil {
			return err
		}
		open[i] = right
	}
	return nil
}

// project looks at all runs of a project with one list.
func (f *Function) project(ctx context.Context, runs []backup.Run, now time.Time) error {
	seen, err := f.see(ctx, runs)
	if err != nil {
		// Asked again later, not at every tick: an OpenStack in trouble is left alone.
		for _, r := range runs {
			if _, aerr := f.Ledger.Advance(ctx, r, now.Add(max(30*time.Second, backup.RetryAfter(err)))); aerr != nil {
				return errors.Join(err, aerr)
			}
		}
		return err
	}
	var errs []error
	for _, r := range runs {
		if err := f.settle(ctx, r, seen[r.ID()], now); err != nil {
			errs = append(errs, fmt.Errorf("run %s: %w", r.ID(), err))
		}
	}
	return errors.Join(errs...)
}

// see finds the backup of each run; one that has none is missing from the answer.
// A list that does not show a backup proves nothing: it is asked for by its id.
func (f *Function) see(ctx context.Context, runs []backup.Run) (map[string]*backup.CinderBackup, error) {
	project := runs[0].Project
	found := map[string]*backup.CinderBackup{}
	var list []backup.CinderBackup
	if len(runs) > 1 || runs[0].Backup == "" {
		only, since := "", runs[0].Started
		if len(runs) == 1 {
			only = runs[0].Volume
		}
		for _, r := range runs {
			if r.Started.Before(since) {
				since = r.Started
			}
		}
		var err error
		// Cinder's clock may be behind ours, and a run adopted may be older than it says.
		if list, err = f.Cloud.BackupsOf(ctx, project, only, since.Add(-time.Hour)); err != nil {
			return nil, err
		}
	}
	for _, r := range runs {
		for i, b := range list {
			// Of several, those that no service took are not what became of the run.
			if isOf(b, r) && (found[r.ID()] == nil || found[r.ID()].Status == "error") {
				found[r.ID()] = &list[i]
			}
		}
		if found[r.ID()] != nil || r.Backup == "" {
			continue
		}
		b, err := f.Cloud.Backup(ctx, project, r.Backup)
		switch {
		case err == nil && f.named(ctx, b, r):
			found[r.ID()] = &b
		case err != nil && backup.FaultOf(err) != backup.Gone:
			return nil, err
		}
	}
	return found, nil
}

// named says whether the backup that the ledger names is what the run has made, and logs
// it if not.
func (f *Function) named(ctx context.Context, b backup.CinderBackup, r backup.Run) bool {
	ok := isOf(b, r)
	if !ok {
		f.Log.ErrorContext(ctx, "the ledger names a backup that the run did not make", "project", r.Project,
			"volume", r.Volume, "volume_name", r.VolumeName, "run", r.ID(), "backup", r.Backup, "origin", b.Origin)
	}
	return ok
}

// isOf says whether a backup is what the run has made. The id in the ledger is not
// enough: the backup has to be ours, and of the run's volume.
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

// settle carries out what has become of one run.
func (f *Function) settle(ctx context.Context, r backup.Run, seen *backup.CinderBackup, now time.Time) error {
	ctx = context.WithoutCancel(ctx) // an end is written down whole
	// A volume no longer protected has no state; the ledger keeps none of it then.
	v, _, err := f.Ledger.Volume(ctx, r.Project, r.Volume)
	if err != nil {
		return err
	}
	policy := f.Settings.Classes.Strictest(v.Enrolments, now)
	verdict := backup.Settle(r, seen, policy.Schedule.Next(r.Slot), now, f.Settings.Grace)
	if verdict.Ending == backup.Open {
		adopted := r.Backup == "" && verdict.Backup != ""
		if adopted {
			r.Backup, r.State = verdict.Backup, backup.Running
			f.Count("backups_adopted_total", 1)
			f.Log.InfoContext(ctx, "backup adopted", "project", r.Project, "volume", r.Volume, "backup", r.Backup, "run", r.ID())
		}
		_, err := f.Ledger.Advance(ctx, r, backup.NextLook(r.Started, now))
		return err
	}

	state := v.State
	c := backup.Closing{Run: r, Remove: verdict.Remove}
	c.Run.Ended, c.Run.Why = now, verdict.Why
	if verdict.Backup != "" {
		c.Run.Backup = verdict.Backup
	}
	if seen != nil {
		record := backup.RecordOf(*seen)
		c.Record = &record
	}
	switch verdict.Ending {
	case backup.Succeeded:
		c.Final, c.Run.State, c.Run.Kind, c.Stamp = true, backup.Complete, verdict.Kind, seen.Created
		state.LastComplete = latest(state.LastComplete, seen.Created)
		c.State = state.After(policy, r.Volume, r.Slot, now)
		c.Run.Theirs = false
	case backup.Again:
		c.Run.State = backup.Failed
		state.Why, state.Due = verdict.Why, now.Add(10*time.Second)
		if verdict.NoService {
			err = f.pause(ctx, verdict.Why, now)
			state.Waiting, state.Due = r.Slot, now.Add(unserved)
		} else {
			state.Retry = r.Slot
		}
		c.State = state
	case backup.Lost:
		c.Final, c.Run.State = true, backup.Failed
		if verdict.Watch {
			c.Watch = now.Add(watchEvery)
		}
		c.State = state.After(policy, r.Volume, r.Slot, now)
	case backup.Unasked:
		c.Run.State = backup.Failed
		state.Waiting, state.Why, state.Due = r.Slot, verdict.Why, now
		c.State = state
	}
	done, ferr := f.Ledger.Finish(ctx, c)
	if done {
		f.tell(ctx, c, verdict)
	}
	return errors.Join(err, ferr, f.Ledger.Release(ctx, r))
}

// unserved is how long nothing starts after a backup failed because there was no
// cinder-backup service. With the rights to ask, dispatch knows sooner.
const unserved = 5 * time.Minute

func (f *Function) pause(ctx context.Context, why string, now time.Time) error {
	f.Log.ErrorContext(ctx, "paused: nothing starts", "why", why)
	return f.Ledger.Pause(ctx, now.Add(unserved), why)
}

func latest(a, b time.Time) time.Time {
	if b.After(a) {
		return b
	}
	return a
}

// tell writes the one line about a run's end.
func (f *Function) tell(ctx context.Context, c backup.Closing, v backup.Verdict) {
	r := c.Run
	args := []any{"project", r.Project, "volume", r.Volume, "backup", r.Backup, "run", r.ID(), "kind", r.Kind, "attempt", r.Attempt, "why", r.Why}
	switch {
	case r.State == backup.Complete:
		f.Log.InfoContext(ctx, "backup complete", args...)
		f.Count("runs_finished_total", 1, "complete", "false")
	case c.Final:
		f.Log.WarnContext(ctx, "run failed", args...)
		f.Count("runs_finished_total", 1, "failed", "false")
	case v.Ending == backup.Again:
		f.Log.WarnContext(ctx, "attempt failed, another follows", args...)
	default:
		f.Log.InfoContext(ctx, "run given back", args...)
	}
}

// stamps writes the times of the newest backups to their servers.
func (f *Function) stamps(ctx context.Context, t events.Tick) error {
	due, err := f.Ledger.Stamps(ctx, t.Shard, t.At, batch)
	if err != nil {
		return err
	}
	var errs []error
	for _, d := range due {
		err := f.Cloud.SetServerMetadata(ctx, d.Project, d.Server, f.Settings.StampKey, d.At.UTC().Format(time.RFC3339))
		outcome, again := "written", time.Time{}
		switch {
		case err == nil:
		case backup.FaultOf(err) == backup.Gone:
			outcome = "gone"
		default:
			// Nova refuses while the server is locked, shelved or busy. It never fails the
			// backup: it is tried again until it goes or a newer time takes its place.
			outcome, again = "refused", t.At.Add(backup.Growing(d.Tries, 30*time.Second, 6*time.Hour))
			f.Log.InfoContext(ctx, "server cannot take the time of its backup now", "project", d.Project, "server", d.Server, "err", err)
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

// discard removes one broken backup, after making sure that it is one: ours, and in
// error now.
func (f *Function) discard(ctx context.Context, d backup.Discard, now time.Time) (outcome string, again time.Time) {
	later := now.Add(backup.Growing(d.Tries, 30*time.Second, time.Hour))
	b, err := f.Cloud.Backup(ctx, d.Project, d.Backup)
	switch {
	case backup.FaultOf(err) == backup.Gone && err != nil:
		return "gone", time.Time{}
	case err != nil:
		return "refused", later
	case b.Status == "deleting" || b.Status == "creating":
		return "waiting", later
	case !b.Ours() || b.Status != "error":
		f.Log.WarnContext(ctx, "not removed: no broken backup of ours", "project", d.Project, "backup", d.Backup, "why", "Cinder says "+b.Status)
		return "kept", time.Time{}
	}
	switch err := f.Cloud.DeleteBackup(ctx, d.Project, d.Backup); {
	case err == nil:
		f.Log.InfoContext(ctx, "broken backup removed", "project", d.Project, "volume", b.Volume, "backup", b.ID, "why", "cinder: "+b.FailReason)
		return "removed", time.Time{}
	default:
		f.Log.WarnContext(ctx, "broken backup cannot be removed now", "project", d.Project, "backup", d.Backup, "err", err)
		return "refused", later
	}
}

const (
	// watchEvery is how often a backup is looked at that did not end in time.
	watchEvery = 15 * time.Minute
	// watchFor is how long: a backup that takes longer is left to reconcile.
	watchFor = 30 * 24 * time.Hour
)

// watched looks after the runs that were given up on: one that ends well after all
// is a restore point.
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
		r.Why = fmt.Sprintf("backup is available after %s, later than it should", now.Sub(r.Started).Round(time.Minute))
		f.Log.InfoContext(ctx, "backup complete", "project", r.Project, "volume", r.Volume, "backup", r.Backup, "run", r.ID(), "why", r.Why)
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
		f.Log.ErrorContext(ctx, "backup never ended", "project", r.Project, "volume", r.Volume, "backup", r.Backup, "run", r.ID(), "why", "Cinder says "+b.Status)
		return f.Ledger.Unwatch(ctx, r)
	}
	return f.Ledger.Watch(ctx, r, now.Add(watchEvery))
}
