// Package dispatch starts backups: it takes the volumes whose slot has come,
// chooses those that limits and quotas leave room for, and asks Cinder.
//
// Set off by: the tick "dispatch", for each shard.
//
// gather.go gathers, choose.go decides and start.go acts. functions/plan decides with
// choose.go, too.
package dispatch

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"staffeln/events"
	"staffeln/functions/backup"
)

// Ledger is what dispatch needs of the ledger.
type Ledger interface {
	// Ready says whether the shard has been reconciled since it was last empty.
	Ready(ctx context.Context, shard int) (bool, error)
	// Due are the volumes to look at, the longest due first, max at most.
	Due(ctx context.Context, shard int, now time.Time, max int) ([]backup.Protected, error)
	Postpone(ctx context.Context, project, volume string, s backup.State) (bool, error)
	Ranks(ctx context.Context, project string, volumes []string) (rank map[string]int, total int, err error)
	// RecordsOf are the automated backups that the ledger knows of a volume.
	RecordsOf(ctx context.Context, project, volume string) ([]backup.Record, error)
	Runs
	Admission
}

// Runs is the part of the ledger in which a run begins and ends.
type Runs interface {
	// Begin claims the volume for a run; false where another one is open or the
	// volume is no longer protected.
	Begin(ctx context.Context, run backup.Run, look time.Time) (bool, error)
	Advance(ctx context.Context, run backup.Run, look time.Time) (bool, error)
	Finish(ctx context.Context, c backup.Closing) (bool, error)
	Discard(ctx context.Context, d backup.Discard, at time.Time) error
}

// Admission is the part of the ledger that all shards share.
type Admission interface {
	InFlight(ctx context.Context, now time.Time) (backup.InFlight, error)
	Admit(ctx context.Context, run backup.Run, lim backup.Limits, now, until time.Time) (bool, string, error)
	Release(ctx context.Context, run backup.Run) error
	Strain(ctx context.Context, now time.Time) error
	Pause(ctx context.Context, until time.Time, why string) error
}

// Cloud is what dispatch needs of OpenStack.
type Cloud interface {
	Services(ctx context.Context) (backup.Services, error)
	Project(ctx context.Context, id string) (p backup.Project, included bool, err error)
	Quota(ctx context.Context, project string) (backup.Quota, error)
	Volume(ctx context.Context, project, id string) (backup.Volume, error)
	// Volumes is the complete list of a project.
	Volumes(ctx context.Context, project string) ([]backup.Volume, error)
	Backup(ctx context.Context, project, id string) (backup.CinderBackup, error)
	// BackupsOf is the list of a project's or a volume's backups, newest first.
	BackupsOf(ctx context.Context, project, volume string, since time.Time) ([]backup.CinderBackup, error)
	CreateBackup(ctx context.Context, project string, r backup.Request) (id string, err error)
}

// Function is dispatch, ready to run.
type Function struct {
	Ledger   Ledger
	Cloud    Cloud
	Settings backup.Settings
	Log      *slog.Logger
	// Count counts what happened; see the metrics.
	Count func(name string, n float64, labels ...string)
}

// batch is how many due volumes of a shard one tick looks at.
const batch = 500

// Dispatch handles the tick.
func (f *Function) Dispatch(ctx context.Context, t events.Tick) error {
	ready, err := f.Ledger.Ready(ctx, t.Shard)
	if err != nil || !ready {
		return err // an emptied ledger decides nothing: reconcile fills it first
	}
	due, err := f.Ledger.Due(ctx, t.Shard, t.At, batch)
	if err != nil || len(due) == 0 {
		return err
	}
	turns, err := f.look(ctx, due, t.At)
	if err != nil || len(turns) == 0 {
		return err
	}
	g, err := f.gather(ctx, turns, t.At)
	if err != nil || g.facts.Paused != "" {
		return err
	}
	limits := g.facts.Room.Limits
	var errs []error
	for d := range Choose(turns, g.facts) {
		if ctx.Err() != nil {
			return errors.Join(append(append(errs, g.errs...), ctx.Err())...)
		}
		if d.Start.Do == backup.Queue && len(due) == batch {
			// Waiting volumes step back, so that they cannot fill every batch and starve the rest.
			d.Start.Do, d.Next = backup.Later, d.crowded(t.At)
		}
		taken, err := f.act(ctx, d, limits, t.At)
		if err != nil {
			errs = append(errs, fmt.Errorf("project %s: volume %s: %w", d.Project, d.Volume, err))
		}
		d.Refused = !taken
	}
	return errors.Join(append(errs, g.errs...)...)
}

// look returns the volumes whose turn has come, and puts off the others.
func (f *Function) look(ctx context.Context, due []backup.Protected, now time.Time) (turns []*Decision, err error) {
	var errs []error
	for _, v := range due {
		d := Look(v, f.Settings.Classes, now)
		if d.Lost != nil {
			recorded, err := f.lose(ctx, d, now)
			errs = append(errs, err)
			if err != nil || !recorded {
				continue
			}
		}
		if d.Start.Do == backup.Go {
			turns = append(turns, d)
			continue
		}
		_, err := f.Ledger.Postpone(ctx, d.Project, d.Volume, d.Next)
		errs = append(errs, err)
	}
	return turns, errors.Join(errs...)
}
