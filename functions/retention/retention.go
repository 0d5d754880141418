// Package retention removes what the policies no longer keep, newest child first,
// and nothing whose fate is in doubt.
//
// Set off by: the tick "retention" for each shard, which takes on the projects
// whose runs are done or whose time has come, and Cinder's backup.delete.*
// notifications, which bring the next removal of a chain at once.
package retention

import (
	"context"
	"log/slog"
	"time"

	"staffeln/events"
	"staffeln/events/cinder"
	"staffeln/functions/backup"
)

// Ledger is what retention needs of our own memory.
type Ledger interface {
	Shard(project string) int
	// Ready says that a reconcile has ended since the shard was found empty.
	Ready(ctx context.Context, shard int) (bool, error)
	// RetentionDue are the projects to be looked at, the longest due first.
	RetentionDue(ctx context.Context, shard int, now time.Time, max int) ([]string, error)
	// Retention is what is remembered of a project's removals.
	Retention(ctx context.Context, project string) (backup.Retention, error)
	// SaveRetention writes it, in one step with what was seen to be gone: those
	// records are dropped and told to the digest. next is when the project is looked
	// at again, unless something made it due since r was read. saved is false where
	// somebody else has written meanwhile: then nothing was.
	SaveRetention(ctx context.Context, r backup.Retention, gone []backup.Removal, next time.Time) (saved bool, err error)
	// Outlook is the whole cloud's, as last looked at.
	Outlook(ctx context.Context) (backup.Outlook, error)
	// CloudRelease is the operator's release of the brake on the whole cloud.
	CloudRelease(ctx context.Context) (until time.Time, most int, err error)
	// Runs are the open runs.
	Runs(ctx context.Context, shard int) ([]backup.Run, error)
	Records(ctx context.Context, project string) ([]backup.Record, error)
	// VolumesOf are those of the ids that are protected, by id.
	VolumesOf(ctx context.Context, project string, ids []string) (map[string]backup.Protected, error)
}

// Cloud is what retention needs of OpenStack.
type Cloud interface {
	// BackupsOf with neither volume nor since is the project's complete list, or an error.
	BackupsOf(ctx context.Context, project, volume string, since time.Time) ([]backup.CinderBackup, error)
	Backup(ctx context.Context, project, id string) (backup.CinderBackup, error)
	Volume(ctx context.Context, project, id string) (backup.Volume, error)
	DeleteBackup(ctx context.Context, project, id string) error
	// Clock is what time it is by the cloud's own clock; ok is false where that is not
	// known.
	Clock() (at time.Time, ok bool)
}

// Settings are the operator's.
type Settings struct {
	Classes backup.Classes
	// Orphan is how long the newest complete restore point of a volume outlives it;
	// zero for as long as its frozen policy says.
	Orphan backup.Age
	Brake  backup.Brake
}

// Function is retention, ready to run.
type Function struct {
	Ledger   Ledger
	Cloud    Cloud
	Settings Settings
	Log      *slog.Logger
	// Count counts what happened; see the metrics.
	Count func(name string, n float64, labels ...string)
}

// Retention handles the tick.
func (f *Function) Retention(ctx context.Context, t events.Tick) error { return nil }

// Told handles Cinder's backup.delete.* notifications.
func (f *Function) Told(ctx context.Context, n cinder.Backup) error { return nil }
