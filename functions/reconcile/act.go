package reconcile

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"staffeln/functions/backup"
)

// act carries out the repairs of a project. One that fails is not another's trouble: the
// next pass decides anew.
func (f *Function) act(ctx context.Context, p *pass, k *Known, repairs []Repair, warnings []Warning) error {
	f.warn(ctx, warnings)
	var errs []error
	for _, r := range repairs {
		errs = append(errs, f.repair(ctx, p, k, r))
	}
	return errors.Join(errs...)
}

func (f *Function) repair(ctx context.Context, p *pass, k *Known, r Repair) error {
	switch r := r.(type) {
	case Enroll:
		return f.enroll(ctx, p, r)
	case Withdraw:
		return f.withdraw(ctx, p, r)
	case Adopt:
		return f.adopt(ctx, r.Run, p.now)
	case Discard:
		return f.Ledger.Discard(ctx, backup.Discard{Backup: r.Backup, Project: k.Project}, p.now)
	case Remember:
		return f.Ledger.PutRecords(ctx, k.Project, r.Records)
	case Raise:
		return f.Ledger.Raise(ctx, k.Project, r.Volume, r.State)
	case Forget:
		return f.forget(ctx, k, r)
	case Disown:
		return f.disown(ctx, k, r)
	case Stamp:
		return f.Ledger.OweStamp(ctx, backup.StampDue{Server: r.Server, Project: k.Project, At: r.At}, p.now)
	case Due:
		return f.Ledger.SetDue(ctx, r.Project, r.Volume, r.At)
	}
	return fmt.Errorf("%T is no repair", r)
}

func (f *Function) warn(ctx context.Context, warnings []Warning) {
	for _, w := range warnings {
		f.Log.WarnContext(ctx, w.What, w.Args...)
	}
}

func (f *Function) enroll(ctx context.Context, p *pass, r Enroll) error {
	e := r.Enrolment
	change, err := f.Ledger.Enroll(ctx, p.tickets[f.Ledger.Shard(e.Project)], e, r.Volumes, p.now)
	if err != nil || change.Stale {
		return err
	}
	log := f.Log.With("project", e.Project, "server", e.Server, "server_name", e.Name, "class", e.Class)
	if r.Attempt {
		f.Count("lock_attempts_total", 1, "server")
		log.WarnContext(ctx, "attempt on a locked class", "why", r.Why)
	}
	for _, v := range r.Tried {
		f.Count("lock_attempts_total", 1, "volume")
		log.WarnContext(ctx, "attempt on a locked class", "volume", v.Volume, "volume_name", v.Name, "why", v.Attempt.Why)
	}
	what := "enrolment changed"
	if r.Missed && !change.Same {
		what = "server enrolled"
		f.Count("reconcile_missed_total", 1, "server enrolled")
	}
	if change.Same || !r.Changed && len(change.Protected)+len(change.Unprotected) == 0 {
		return nil // but for facts such as names
	}
	log.InfoContext(ctx, what, "volumes", len(e.Volumes), "protected", change.Protected, "unprotected", change.Unprotected,
		"problems", e.Problems, "why", "reconcile: "+r.Why)
	return nil
}

func (f *Function) withdraw(ctx context.Context, p *pass, r Withdraw) error {
	e := r.Enrolment
	change, err := f.Ledger.Withdraw(ctx, p.tickets[f.Ledger.Shard(e.Project)], e.Project, e.Server, p.now)
	if err != nil || change.Stale || change.Same {
		return err
	}
	if e.Attempt.None() { // no notification tells that a lock ends
		f.Count("reconcile_missed_total", 1, "server withdrawn")
	}
	f.Log.InfoContext(ctx, "server withdrawn", "project", e.Project, "server", e.Server, "server_name", e.Name,
		"unprotected", change.Unprotected, "why", "reconcile: "+r.Why)
	return nil
}

func (f *Function) adopt(ctx context.Context, r backup.Run, now time.Time) error {
	restored, err := f.Ledger.Restore(ctx, r, now)
	if err == nil && restored {
		f.Count("backups_adopted_total", 1)
		f.Log.InfoContext(ctx, "backup adopted", "project", r.Project, "volume", r.Volume, "volume_name", r.VolumeName,
			"backup", r.Backup, "run", r.ID(), "why", "reconcile: "+r.Why)
	}
	return err
}

func (f *Function) forget(ctx context.Context, k *Known, r Forget) error {
	var ids []string
	for _, b := range r.Gone {
		ids = append(ids, b.ID)
	}
	for _, b := range r.Lost {
		f.Log.ErrorContext(ctx, "a restore point is gone that we did not remove", "project", k.Project, "volume", b.Volume,
			"volume_name", k.Volumes[b.Volume].Name, "backup", b.ID,
			"why", "somebody else has removed the backup of "+b.Created.UTC().Format(time.RFC3339))
	}
	if err := f.Ledger.DropRecords(ctx, k.Project, ids); err != nil {
		return err
	}
	f.Count("backups_lost_total", float64(len(r.Lost)))
	f.Log.InfoContext(ctx, "backups are gone", "project", k.Project, "backups", len(r.Gone), "lost", len(r.Lost))
	return nil
}

func (f *Function) disown(ctx context.Context, k *Known, r Disown) error {
	if err := f.Ledger.SetForeign(ctx, k.Project, r.All); err != nil {
		return err
	}
	k.Foreign = r.All
	for _, b := range r.New {
		todo := "somebody uses the credentials of a member of the project, or copies backups with their metadata"
		if b.Origin == backup.OriginUnverified {
			todo = "let the service user see who made backups (infra/cinder), or run: staffeln adopt"
		}
		f.Log.WarnContext(ctx, "a backup with our metadata does not count as ours", "project", k.Project,
			"volume", b.Volume, "volume_name", k.Volumes[b.Volume].Name, "backup", b.Backup, "backup_name", b.Name,
			"origin", b.Origin, "maker", b.Maker, "why", b.Why(), "todo", todo)
	}
	return nil
}

// finish puts right what follows from the whole, by what the ledger says now: when each
// volume is due, who holds a place among the runs under way, and the totals.
func (f *Function) finish(ctx context.Context, p *pass) error {
	var open []backup.Run
	protected, overdue := 0, 0
	var errs []error
	for shard := range f.Ledger.Shards() {
		runs, err := f.Ledger.Runs(ctx, shard)
		if err != nil {
			return err
		}
		volumes, err := f.Ledger.Volumes(ctx, shard)
		if err != nil {
			return err
		}
		due, late := Dues(volumes, runs, f.Settings, p.now)
		open, protected, overdue = append(open, runs...), protected+len(volumes), overdue+len(late)
		f.warn(ctx, late)
		for _, d := range due {
			errs = append(errs, f.repair(ctx, p, nil, d))
		}
	}
	foreign := map[backup.Origin]int{}
	for _, k := range p.known {
		for _, b := range k.Foreign {
			foreign[b.Origin]++
		}
	}
	errs = append(errs, f.Ledger.Total(ctx, "protected", protected), f.Ledger.Total(ctx, "overdue", overdue))
	for _, o := range []backup.Origin{backup.OriginForged, backup.OriginUnverified} {
		errs = append(errs, f.Ledger.Total(ctx, string(o), foreign[o]))
	}
	slices.SortFunc(open, func(a, b backup.Run) int { return a.Started.Compare(b.Started) })
	return errors.Join(append(errs, f.Ledger.KeepLeases(ctx, open))...)
}
