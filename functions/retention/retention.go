// Package retention removes the backups that no policy keeps any more, newest child first, and none
// whose fate is in doubt.
//
// Set off by: the tick "retention" for each shard, which looks at the projects whose runs are done or
// whose time has come, and Cinder's backup.delete.end notifications, after which the next removal of
// the chain follows at once.
package retention

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

// Ledger is what retention needs of the ledger.
type Ledger interface {
	Shard(project string) int
	// Ready says that a reconcile has ended since the shard was found empty.
	Ready(ctx context.Context, shard int) (bool, error)
	// RetentionDue are the projects to be looked at, the longest due first.
	RetentionDue(ctx context.Context, shard int, now time.Time, max int) ([]string, error)
	// Retention is the ledger's row about a project's removals.
	Retention(ctx context.Context, project string) (backup.Retention, error)
	// SaveRetention writes it. In the same step the records of the backups in gone are dropped and
	// handed to the digest. next is when the project is looked at again, unless something has made it
	// due since r was read; zero: not until something makes it due. saved is false, and nothing is
	// written, if somebody else has written since r was read.
	SaveRetention(ctx context.Context, r backup.Retention, gone []backup.Removal, next time.Time) (
		saved bool, err error)
	// Outlook is the whole cloud's, as last looked at.
	Outlook(ctx context.Context) (backup.Outlook, error)
	// CloudRelease is the operator's release of the brake on the whole cloud.
	CloudRelease(ctx context.Context) (until time.Time, most int, err error)
	// Runs are the open runs.
	Runs(ctx context.Context, shard int) ([]backup.Run, error)
	Records(ctx context.Context, project string) ([]backup.Record, error)
	// VolumesOf returns the protected volumes among the ids, by id.
	VolumesOf(ctx context.Context, project string, ids []string) (map[string]backup.Protected, error)
}

// Cloud is what retention needs of OpenStack.
type Cloud interface {
	// Project says whether a project is one to look at.
	Project(ctx context.Context, id string) (p backup.Project, included bool, err error)
	// BackupsOf with neither volume nor since is the project's complete list, or an error.
	BackupsOf(ctx context.Context, project, volume string, since time.Time) ([]backup.CinderBackup, error)
	Backup(ctx context.Context, project, id string) (backup.CinderBackup, error)
	Volume(ctx context.Context, project, id string) (backup.Volume, error)
	DeleteBackup(ctx context.Context, project, id string) error
	// Clock is the time by the cloud's own clock; ok is false if it is not known.
	Clock() (at time.Time, ok bool)
}

// Function is retention, ready to run.
type Function struct {
	Ledger   Ledger
	Cloud    Cloud
	Settings backup.Settings
	Log      *slog.Logger
	// Count counts what happened; see the metrics.
	Count func(name string, n float64, labels ...string)
}

const (
	// batch is how many due projects of a shard one tick takes on.
	batch = 500
	// patience is how long a due project waits for its open runs, so that one look serves them all.
	patience = 15 * time.Minute
	// longest is the longest time between two looks at a project.
	longest = 24 * time.Hour
)

// Retention handles the tick.
func (f *Function) Retention(ctx context.Context, t events.Tick) error {
	ready, err := f.Ledger.Ready(ctx, t.Shard)
	if err != nil || !ready {
		// The ledger was emptied: nothing is decided before reconcile has rebuilt it.
		return err
	}
	due, err := f.Ledger.RetentionDue(ctx, t.Shard, t.At, batch)
	if err != nil || len(due) == 0 {
		return err
	}
	busy, err := f.busy(ctx, t.Shard)
	if err != nil {
		return err
	}
	sum := &sum{ledger: f.Ledger}
	var errs []error
	for _, project := range due {
		if ctx.Err() != nil {
			return errors.Join(append(errs, ctx.Err())...)
		}
		err := f.project(ctx, project, busy[project], sum, t.At)
		if errors.Is(err, errNoService) {
			break // the other projects would not get one either
		}
		if err != nil {
			errs = append(errs, fmt.Errorf("project %s: %w", project, err))
		}
	}
	return errors.Join(errs...)
}

// errNoService ends a tick: no cinder-backup service is up to remove anything.
var errNoService = errors.New("no cinder-backup service")

// busy is the volumes with open runs, by project.
func (f *Function) busy(ctx context.Context, shard int) (map[string]map[string]bool, error) {
	runs, err := f.Ledger.Runs(ctx, shard)
	if err != nil {
		return nil, err
	}
	busy := map[string]map[string]bool{}
	for _, r := range runs {
		if busy[r.Project] == nil {
			busy[r.Project] = map[string]bool{}
		}
		busy[r.Project][r.Volume] = true
	}
	return busy, nil
}

// project looks at all of a project's backups with one list.
func (f *Function) project(ctx context.Context, project string, busy map[string]bool, sum *sum, now time.Time) error {
	r, err := f.Ledger.Retention(ctx, project)
	if err != nil {
		return err
	}
	if len(busy) > 0 && len(r.Removals) == 0 && now.Before(r.Due.Add(patience)) {
		return nil // it stays due for the next tick
	}
	l := &look{f: f, before: r, r: r, busy: busy, now: now}
	if err := l.gather(ctx); err != nil {
		return l.held(ctx, err)
	}
	l.decide()
	if err := l.mayGo(ctx, sum); err != nil {
		return l.held(ctx, err)
	}
	aerr := l.act(ctx)
	if h := new(hold); errors.As(aerr, &h) {
		return l.held(ctx, aerr)
	}
	return errors.Join(aerr, l.save(ctx, l.next()))
}

// Told handles Cinder's backup.delete.end notifications: if the removal of the backup was planned, the
// next one of its volume follows at once. Nothing else in the notification is believed. Without it, the
// tick notices the same.
func (f *Function) Told(ctx context.Context, n cinder.Backup) error {
	r, err := f.Ledger.Retention(ctx, n.Project)
	if err != nil {
		return err
	}
	gone, ok := r.Removals[n.ID]
	if !ok || r.Held != "" || !follows(r, gone) {
		return nil
	}
	shard := f.Ledger.Shard(n.Project)
	ready, err := f.Ledger.Ready(ctx, shard)
	if err != nil || !ready {
		return err
	}
	busy, err := f.busy(ctx, shard)
	if err != nil {
		return err
	}
	// Only announced removals go on, and for these the brakes have been asked already.
	l := &look{f: f, before: r, r: r, busy: busy[n.Project], now: n.At, only: gone.Volume, told: n.ID}
	if err := l.gather(ctx); err != nil {
		return errOf(err) // the tick reports why nothing is removed
	}
	l.decide()
	aerr := l.act(ctx)
	if h := new(hold); errors.As(aerr, &h) {
		aerr = errOf(aerr)
	}
	return errors.Join(aerr, l.save(ctx, l.next()))
}

// follows says whether the volume has another planned removal. If not, the tick is soon enough to notice
// that this one is done.
func follows(r backup.Retention, gone backup.Removal) bool {
	for id, next := range r.Removals {
		if id != gone.Backup && next.Volume == gone.Volume {
			return true
		}
	}
	return false
}

// errOf is the error to answer: a hold is not an error, but its cause may be one.
func errOf(err error) error {
	h, ok := errors.AsType[*hold](err)
	switch {
	case !ok:
		return err
	case errors.Is(h.err, errNoService):
		return nil
	}
	return h.err
}
