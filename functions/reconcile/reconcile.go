// Package reconcile compares the ledger with the complete lists of Nova and Cinder and
// repairs it: it finds what notifications missed, and rebuilds everything after Redis
// was lost. The ledger is right because of reconcile; notifications only make it right
// sooner.
//
// Set off by: the tick "reconcile". It comes often and mostly finds nothing to do yet. A
// pass runs once in a period, and at once when the ledger is empty or an operator or a
// reconnected broker asks for one.
//
// A pass gathers what the ledger knows and what OpenStack shows (gather.go), [Repairs]
// decides for each project (repairs.go), and act.go carries that out.
package reconcile

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"staffeln/events"
	"staffeln/functions/backup"
)

// Ledger is what reconcile needs of our own memory.
type Ledger interface {
	Shards() int
	Shard(project string) int
	Claim(ctx context.Context, name string, ttl time.Duration) (bool, error)
	// LastReconciled is when the last pass ended; ok is false where a shard has none.
	LastReconciled(ctx context.Context) (at time.Time, ok bool, err error)
	Reconciled(ctx context.Context, at time.Time) error
	// AskReconcile asks for another pass at once; Asked counts how often that was done.
	AskReconcile(ctx context.Context) error
	Asked(ctx context.Context) (int64, error)
	// Mark and Marked remember when something was last done.
	Mark(ctx context.Context, what string, at time.Time) error
	Marked(ctx context.Context, what string) (at time.Time, ok bool, err error)
	// Total remembers a number for the metrics of every process.
	Total(ctx context.Context, what string, n int) error
	Servers
	Backups
}

// Servers is the part of the ledger about what is protected.
type Servers interface {
	TicketsAll(ctx context.Context) ([]int64, error)
	Enrolments(ctx context.Context, shard int) ([]backup.Enrolment, error)
	Volumes(ctx context.Context, shard int) ([]backup.Protected, error)
	Enroll(ctx context.Context, ticket int64, e backup.Enrolment, volumes []backup.Protected, now time.Time) (
		backup.Change, error)
	Withdraw(ctx context.Context, ticket int64, project, server string, now time.Time) (backup.Change, error)
	// Missing counts how often in a row something was confirmed to be gone; Present ends
	// the counting.
	Missing(ctx context.Context, project, what string, now time.Time) (times int, err error)
	Present(ctx context.Context, project, what string) error
	// OweStamp notes the time of a backup that is still to be written to a server.
	OweStamp(ctx context.Context, d backup.StampDue, at time.Time) error
	SetDue(ctx context.Context, project, volume string, at time.Time) error
}

// Backups is the part of the ledger about runs and their backups.
type Backups interface {
	Runs(ctx context.Context, shard int) ([]backup.Run, error)
	Restore(ctx context.Context, run backup.Run, look time.Time) (bool, error)
	Raise(ctx context.Context, project, volume string, s backup.State) error
	KeepLeases(ctx context.Context, runs []backup.Run) error
	PutRecords(ctx context.Context, project string, records []backup.Record) error
	Records(ctx context.Context, project string) ([]backup.Record, error)
	DropRecords(ctx context.Context, project string, ids []string) error
	Projects(ctx context.Context, shard int) ([]string, error)
	Discard(ctx context.Context, d backup.Discard, at time.Time) error
	// Retention is what retention removes in a project, and when it looks next.
	Retention(ctx context.Context, project string) (backup.Retention, error)
	// SetForeign remembers the backups of a project that carry our metadata and do not
	// count as ours; Foreigns reads those of all projects of a shard.
	SetForeign(ctx context.Context, project string, all []backup.Foreign) error
	Foreigns(ctx context.Context, shard int) (map[string][]backup.Foreign, error)
}

// Cloud is what reconcile needs of OpenStack.
type Cloud interface {
	// Scopes are what the complete lists are asked for: "" alone with an admin's
	// rights, else the projects one by one.
	Scopes(ctx context.Context) ([]string, error)
	// Servers, Volumes and Backups are complete lists, or errors.
	Servers(ctx context.Context, scope string) ([]backup.Server, error)
	Volumes(ctx context.Context, scope string) ([]backup.Volume, error)
	Backups(ctx context.Context, scope string) ([]backup.CinderBackup, error)
	Server(ctx context.Context, project, id string) (backup.Server, error)
	Volume(ctx context.Context, project, id string) (backup.Volume, error)
	Backup(ctx context.Context, project, id string) (backup.CinderBackup, error)
	Project(ctx context.Context, id string) (p backup.Project, included bool, err error)
}

// Function is reconcile, ready to run.
type Function struct {
	Ledger   Ledger
	Cloud    Cloud
	Settings backup.Settings
	Log      *slog.Logger
	// Count counts what happened; see the metrics.
	Count func(name string, n float64, labels ...string)
}

// tryAgain is how long a pass may take before another process may begin one, and
// how soon a pass that failed is repeated.
const tryAgain = time.Minute

// The marks of reconcile. A zero time counts as no mark.
const (
	// backupsMark is when the list of backups was last read.
	backupsMark = "backups"
	// askedMark is when somebody asked for the list of backups to be read at once; zero
	// after a pass has done so.
	askedMark = "backups-asked"
	// rebuildMark is since when the ledger is being rebuilt; zero where it is whole.
	rebuildMark = "rebuild"
)

// Reconcile handles the tick.
func (f *Function) Reconcile(ctx context.Context, t events.Tick) error {
	now, again := t.At, min(tryAgain, f.Settings.Period)
	last, whole, err := f.Ledger.LastReconciled(ctx)
	if err != nil {
		return err
	}
	// A last pass in the future was one of a clock that was wrong.
	if whole && now.Before(last.Add(f.Settings.Period)) && !last.After(now) {
		return nil
	}
	asked, err := f.Ledger.Asked(ctx)
	if err != nil {
		return err
	}
	claim := fmt.Sprintf("reconcile/%d/%d/%d", last.Unix(), asked, now.Truncate(again).Unix())
	if mine, err := f.Ledger.Claim(ctx, claim, tryAgain); err != nil || !mine {
		return err
	}
	sweep, sweepAsked, err := f.sweepDue(ctx, whole, now)
	if err != nil {
		return err
	}
	rebuild, err := f.rebuilding(ctx, whole, now)
	if err != nil {
		return err
	}
	p, err := f.begin(ctx, sweep || rebuild, rebuild, now)
	if err != nil {
		return err
	}
	scopes, err := f.Cloud.Scopes(ctx)
	if err != nil {
		return fmt.Errorf("which projects there are: %w", err)
	}
	var errs []error
	done, servers := 0, 0
	for _, name := range scopes {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		n, err := f.scope(ctx, p, name)
		if err != nil {
			// One project's trouble is not another's.
			errs = append(errs, fmt.Errorf("scope %q: %w", name, err))
			continue
		}
		done++
		servers += n
	}
	if done == 0 && len(errs) > 0 {
		return errors.Join(errs...)
	}
	if err := f.finish(ctx, p); err != nil {
		errs = append(errs, err)
	}
	at := now
	switch {
	case len(errs) > 0:
		// What could be compared counts; the rest is tried again soon.
		at = now.Add(again - f.Settings.Period)
	case p.sweep:
		errs = append(errs, f.swept(ctx, sweepAsked, rebuild, now))
	}
	if err := f.Ledger.Reconciled(ctx, at); err != nil {
		return errors.Join(append(errs, err)...)
	}
	// Somebody asked for a pass after the lists were read: they may lack the reason.
	if n, err := f.Ledger.Asked(ctx); err != nil || n != asked {
		errs = append(errs, err, f.Ledger.AskReconcile(ctx))
	}
	if !whole {
		f.Log.InfoContext(ctx, "ledger rebuilt", "scopes", done, "servers", servers)
	}
	return errors.Join(errs...)
}

// scope compares everything that one scope of lists shows, project by project.
func (f *Function) scope(ctx context.Context, p *pass, scope string) (servers int, err error) {
	seen, err := f.list(ctx, p, scope)
	if seen == nil {
		return 0, err
	}
	errs := []error{err}
	questions := mostForgotten
	for project, s := range seen {
		if ctx.Err() != nil {
			return 0, ctx.Err()
		}
		servers += len(s.Servers)
		known := p.of(project)
		errs = append(errs, f.gather(ctx, p, known, s, &questions))
		repairs, warnings := Repairs(*known, *s, f.Settings, p.now)
		errs = append(errs, f.act(ctx, p, known, repairs, warnings))
		known.Records, known.Retention = nil, nil // those of all projects together are too many
	}
	return servers, errors.Join(errs...)
}

// sweepDue says whether this pass reads the list of backups too, and when somebody asked
// for that.
func (f *Function) sweepDue(ctx context.Context, whole bool, now time.Time) (due bool, asked time.Time, err error) {
	last, ok, err := f.Ledger.Marked(ctx, backupsMark)
	if err != nil {
		return false, asked, err
	}
	asked, _, err = f.Ledger.Marked(ctx, askedMark)
	due = !whole || !ok || !asked.IsZero() || f.Settings.BackupsPeriod <= f.Settings.Period ||
		!now.Before(last.Add(f.Settings.BackupsPeriod)) || last.After(now)
	return due, asked, err
}

// swept notes that the list of backups was read. If somebody has asked for it again since
// the pass began, that stays to be done.
func (f *Function) swept(ctx context.Context, asked time.Time, rebuild bool, now time.Time) error {
	errs := []error{f.Ledger.Mark(ctx, backupsMark, now)}
	if current, _, err := f.Ledger.Marked(ctx, askedMark); err != nil {
		errs = append(errs, err)
	} else if !asked.IsZero() && current.Equal(asked) {
		errs = append(errs, f.Ledger.Mark(ctx, askedMark, time.Time{}))
	}
	if rebuild {
		errs = append(errs, f.Ledger.Mark(ctx, rebuildMark, time.Time{}))
	}
	return errors.Join(errs...)
}

// AskBackups asks for a pass at once that reads the list of backups too.
func AskBackups(ctx context.Context, l interface {
	Mark(ctx context.Context, what string, at time.Time) error
	AskReconcile(ctx context.Context) error
}, now time.Time) error {
	if err := l.Mark(ctx, askedMark, now); err != nil {
		return err
	}
	return l.AskReconcile(ctx)
}

// rebuilding says whether this pass rebuilds the ledger: it was found empty, or the
// passes since then have not reached every project. Then only backups tell which servers
// a locked class holds. After a day the rest is not waited for any longer: meanwhile a
// server whose lock is over would be held again.
func (f *Function) rebuilding(ctx context.Context, whole bool, now time.Time) (bool, error) {
	switch {
	case !f.Settings.Classes.Locked():
		return false, nil
	case !whole:
		return true, f.Ledger.Mark(ctx, rebuildMark, now)
	}
	since, ok, err := f.Ledger.Marked(ctx, rebuildMark)
	return ok && !since.IsZero() && now.Before(since.AddDate(0, 0, 1)), err
}
