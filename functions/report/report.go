// Package report sends the owners of a project the digest: one mail for each period, also if
// everything failed. Each finished run is in exactly one digest.
//
// Set off by: the tick "report", for each shard. The tick of shard 0 also sends the operators'
// digest, once in a period and only if there is something for them to do.
//
// report.go decides which projects are due, make.go makes a digest, send.go sends it.
package report

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"staffeln/events"
	"staffeln/functions/backup"
	"staffeln/functions/report/words"
)

// Ledger is the part of the ledger that report uses.
type Ledger interface {
	// Ready says whether a reconcile has ended since the shard was found empty.
	Ready(ctx context.Context, shard int) (bool, error)
	Projects(ctx context.Context, shard int) ([]string, error)
	// Reports returns the state of the digests of a shard's projects, by project.
	Reports(ctx context.Context, shard int) (map[string]backup.Reporting, error)
	// CutDigest sets aside the finished runs and removals that no digest has reported, and
	// returns them. If some are set aside already, it returns only those.
	CutDigest(ctx context.Context, project string) ([]backup.Run, []backup.Removal, error)
	// Finished returns the newest max finished runs that no digest has reported and that are
	// not set aside.
	Finished(ctx context.Context, project string, max int) ([]backup.Run, error)
	// SaveReport writes the state of a project's digests. With told, it drops what was set aside
	// in the same step. saved is false, and nothing is written, if another process has written
	// since r was read.
	SaveReport(ctx context.Context, r backup.Reporting, told bool) (saved bool, err error)
	Runs(ctx context.Context, shard int) ([]backup.Run, error)
	Volumes(ctx context.Context, shard int) ([]backup.Protected, error)
	Enrolments(ctx context.Context, shard int) ([]backup.Enrolment, error)
	Records(ctx context.Context, project string) ([]backup.Record, error)
	Retention(ctx context.Context, project string) (backup.Retention, error)
	// Foreign returns the project's backups that carry our metadata and do not count as ours.
	Foreign(ctx context.Context, project string) ([]backup.Foreign, error)

	// Shards is the number of shards.
	Shards() int
	// Mark and Marked store when something for the whole cloud was last done.
	Mark(ctx context.Context, what string, at time.Time) error
	Marked(ctx context.Context, what string) (at time.Time, ok bool, err error)
	// Held returns the projects of the whole cloud in which removals are held back.
	Held(ctx context.Context) ([]backup.Retention, error)
	// Totals returns the numbers of the whole cloud as last counted.
	Totals(ctx context.Context) (map[string]int, error)
}

// Cloud is the part of OpenStack that report uses.
type Cloud interface {
	Project(ctx context.Context, id string) (p backup.Project, included bool, err error)
	// Servers returns all servers of a project.
	Servers(ctx context.Context, scope string) ([]backup.Server, error)
	BackupsOf(ctx context.Context, project, volume string, since time.Time) ([]backup.CinderBackup, error)
	Quota(ctx context.Context, project string) (backup.Quota, error)
	// Members returns the people with a role in the project, also by groups and inheritance, who
	// have a mail address and are not disabled.
	Members(ctx context.Context, project string) ([]backup.Person, error)
	// Clock returns the time by the cloud's own clock; ok is false if it is not known.
	Clock() (at time.Time, ok bool)
}

// Mail sends letters. An error is a [*backup.MailError].
type Mail interface {
	Send(ctx context.Context, l backup.Letter) error
}

// Settings are the operator's about digests.
type Settings struct {
	// Schedule says when a period ends. Digests show times in its zone.
	Schedule backup.Schedule
	// Patience is how long a digest waits after its period for runs and removals.
	Patience time.Duration
	// Recipients are the addresses of all digests. Without any, the digest goes to
	// {project}@Domain, and without a Domain to the project's members.
	Recipients []string
	Domain     string
	// Blind sends one letter to all, as blind copies, instead of one to each.
	Blind bool
	// Operators are the addresses of the operators' digest; none if empty.
	Operators []string
	// LockMail sends owners and operators a mail at once about an attempt on a locked class.
	LockMail bool
}

// Function is report, ready to run.
type Function struct {
	Ledger   Ledger
	Cloud    Cloud
	Mail     Mail
	Theme    *words.Theme
	Settings backup.Settings
	Digests  Settings
	Log      *slog.Logger
	// Count adds n to a counter of runtime/metrics.
	Count func(name string, n float64, labels ...string)

	steady steady
}

// Report handles the tick.
func (f *Function) Report(ctx context.Context, t events.Tick) error {
	ready, err := f.Ledger.Ready(ctx, t.Shard)
	if err != nil || !ready {
		return err // what is protected is not known yet
	}
	// A fast clock would end periods early; a slow one would repeat digests already sent.
	if theirs, wrong := f.wrongClock(t.At); wrong {
		f.Log.ErrorContext(ctx, "no digests: the clock is not OpenStack's",
			"ours", t.At.UTC().Format(time.RFC3339), "theirs", theirs.UTC().Format(time.RFC3339))
		return nil
	}
	s := &shard{}
	if s.projects, err = f.Ledger.Projects(ctx, t.Shard); err != nil {
		return err
	}
	if s.reports, err = f.Ledger.Reports(ctx, t.Shard); err != nil {
		return err
	}
	slot := f.Digests.Schedule.Slot(t.At)
	var errs []error
	if f.Digests.LockMail && f.Settings.Classes.Locked() {
		if err := f.alarms(ctx, s, t.Shard, t.At); err != nil {
			errs = append(errs, fmt.Errorf("attempts on locked classes: %w", err))
		}
	}
	for _, project := range s.projects {
		if r := s.reports[project]; r.Pending == nil && !r.Last.Before(slot) && !f.impossible(r.Last, t.At) {
			continue // already sent: most ticks end here, and ask for nothing
		}
		if ctx.Err() != nil {
			return errors.Join(append(errs, ctx.Err())...)
		}
		if err := f.fill(ctx, s, t.Shard); err != nil {
			return err
		}
		// One project's trouble does not delay another's.
		if err := f.project(ctx, project, s, t.At); err != nil {
			errs = append(errs, fmt.Errorf("project %s: %w", project, err))
		}
	}
	if t.Shard == 0 && len(f.Digests.Operators) > 0 {
		if err := f.operators(ctx, t.At); err != nil {
			errs = append(errs, fmt.Errorf("operators: %w", err))
		}
	}
	return errors.Join(errs...)
}

// wrongClock says whether now differs from the cloud's own time, and returns the latter.
func (f *Function) wrongClock(now time.Time) (clouds time.Time, wrong bool) {
	clouds, known := f.Cloud.Clock()
	return clouds, known && (backup.Ahead(now, clouds) || backup.Ahead(clouds, now))
}

// impossible says whether the end of the last reported period is so far ahead that a clock was
// wrong then. A little ahead is normal for a late tick: another one has sent the digest of its
// period meanwhile.
func (f *Function) impossible(last, now time.Time) bool {
	return last.After(f.Digests.Schedule.Next(f.Digests.Schedule.Next(now)))
}

// shard is what the ledger has of all projects of one shard.
type shard struct {
	projects   []string
	reports    map[string]backup.Reporting
	runs       map[string][]backup.Run
	volumes    map[string][]backup.Protected
	enrolments map[string][]backup.Enrolment
}

// fill reads the runs, volumes and enrolments of a shard when they are first needed.
func (f *Function) fill(ctx context.Context, s *shard, number int) error {
	if s.runs != nil {
		return nil
	}
	runs, err := f.Ledger.Runs(ctx, number)
	if err != nil {
		return err
	}
	volumes, err := f.Ledger.Volumes(ctx, number)
	if err != nil {
		return err
	}
	enrolments, err := f.Ledger.Enrolments(ctx, number)
	if err != nil {
		return err
	}
	s.runs, s.volumes = map[string][]backup.Run{}, map[string][]backup.Protected{}
	s.enrolments = map[string][]backup.Enrolment{}
	for _, r := range runs {
		s.runs[r.Project] = append(s.runs[r.Project], r)
	}
	for _, v := range volumes {
		s.volumes[v.Project] = append(s.volumes[v.Project], v)
	}
	for _, e := range enrolments {
		s.enrolments[e.Project] = append(s.enrolments[e.Project], e)
	}
	return nil
}

// project makes the project's digest when its time has come, and sends it.
func (f *Function) project(ctx context.Context, id string, s *shard, now time.Time) error {
	r := s.reports[id]
	r.Project = id
	made := false
	if r.Pending == nil {
		var err error
		if made, err = f.make(ctx, &r, s, now); err != nil || !made {
			return err
		}
	}
	if made {
		return f.send(ctx, &r, now) // whoever makes a digest sends it
	}
	if now.Before(r.Pending.Again) && !r.Pending.Again.After(now.Add(mostWait)) {
		return nil
	}
	r.Pending.Again = now.Add(sending)
	saved, err := f.Ledger.SaveReport(ctx, r, false)
	if err != nil || !saved {
		return err // another process sends it
	}
	r.Version++
	return f.send(ctx, &r, now)
}

// sending is how long a digest is reserved for the process that sends it, longer than a tick may
// take. Another process would not know who has the letter already, and mail servers do not
// drop duplicates.
const sending = 11 * time.Minute
