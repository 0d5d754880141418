package report

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	"staffeln/functions/backup"
	"staffeln/functions/keep"
)

// steady caches how many backups a policy keeps in the long run, which takes long to compute.
// All digests of a period need it for the same moment and few policies.
type steady struct {
	mu     sync.Mutex
	at     time.Time
	counts map[string]int
}

func (m *steady) of(p backup.Policy, now time.Time) int {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.counts == nil || !m.at.Equal(now) {
		m.at, m.counts = now, map[string]int{}
	}
	n, known := m.counts[keep.Words(p)]
	if !known {
		n = keep.Steady(p, now)
		m.counts[keep.Words(p)] = n
	}
	return n
}

// make makes the digest of a period that is over and stores it, so that its facts stay the same
// however often it is sent. made is false if there is nothing to report, or not yet.
func (f *Function) make(ctx context.Context, r *backup.Reporting, s *shard, now time.Time) (made bool, err error) {
	if r.Last.IsZero() || f.impossible(r.Last, now) {
		if _, wrong := f.wrongClock(now); wrong {
			return false, nil // checked again, because this process may have been suspended
		}
		// This is the project's first digest, or Redis was lost, or a clock was wrong: begin with
		// the current period.
		r.Last, r.Guessed = f.Digests.Schedule.Slot(now), true
		_, err := f.Ledger.SaveReport(ctx, *r, false)
		return false, err
	}
	removals, err := f.Ledger.Retention(ctx, r.Project)
	if err != nil {
		return false, err
	}
	due, to, why := backup.ReportDue(f.Digests.Schedule, *r, s.runs[r.Project], s.volumes[r.Project], removals,
		f.Digests.Patience, now)
	if !due {
		return false, nil
	}
	runs, removed, err := f.Ledger.CutDigest(ctx, r.Project)
	if err != nil {
		return false, err
	}
	digest, failing, err := f.summarise(ctx, *r, s, removals, to, runs, removed)
	if err != nil {
		return false, err
	}
	if digest.Quiet() {
		r.Last, r.Guessed, r.Failing, r.Errors = to, false, nil, nil
		r.Foreign = digest.ForeignIDs()
		_, err := f.Ledger.SaveReport(ctx, *r, true)
		return false, err
	}
	r.Pending = &backup.Pending{Digest: digest.Trimmed(), Failing: failing, Again: now.Add(sending)}
	saved, err := f.Ledger.SaveReport(ctx, *r, false)
	if err != nil || !saved {
		return false, err
	}
	r.Version++
	f.Log.InfoContext(ctx, "digest made", "project", r.Project, "project_name", digest.Name, "digest", digest.ID,
		"complete", digest.Complete, "failed", digest.Failed, "why", why)
	return true, nil
}

// summarise reads the remaining facts and makes a digest of them. It changes nothing.
func (f *Function) summarise(ctx context.Context, r backup.Reporting, s *shard, removals backup.Retention,
	to time.Time, runs []backup.Run, removed []backup.Removal) (
	backup.Digest, map[string]time.Time, error) {
	in := backup.DigestInput{
		Runs: runs, Removed: removed,
		Project: backup.Project{ID: r.Project}, From: r.Last, To: to, Zone: f.Digests.Schedule.Zone(),
		Held: removals.Held, Failing: r.Failing,
		Volumes: s.volumes[r.Project], Enrolments: s.enrolments[r.Project],
		Classes: f.Settings.Classes, Keys: f.Settings.Keys,
		Deadline: f.Settings.Deadline,
	}
	var err error
	if in.Records, err = f.Ledger.Records(ctx, r.Project); err != nil {
		return backup.Digest{}, nil, err
	}
	in.ForeignTold = r.Foreign
	if in.Foreign, err = f.Ledger.Foreign(ctx, r.Project); err != nil {
		return backup.Digest{}, nil, err
	}
	if r.Guessed {
		// A run that is missing here will never be reported, so a failure delays the digest.
		if err := f.readBack(ctx, &in, s.runs[r.Project]); err != nil && !f.gone(ctx, r.Project) {
			return backup.Digest{}, nil, err
		}
	}
	// The digest does not wait for what OpenStack cannot say now, and shows it as unknown.
	project, _, err := f.Cloud.Project(ctx, r.Project)
	if err != nil {
		f.Log.WarnContext(ctx, "digest without the project's name", "project", r.Project, "err", err)
	}
	in.Project = backup.Project{ID: r.Project, Name: project.Name}
	quota, err := f.Cloud.Quota(ctx, r.Project)
	if err != nil {
		in.QuotaUnknown = "OpenStack did not answer: " + backup.Said(err)
	}
	if in.Servers, err = f.Cloud.Servers(ctx, r.Project); err != nil {
		in.Servers = nil
		f.Log.WarnContext(ctx, "digest without a look at the servers", "project", r.Project, "err", err)
	}
	digest, failing := backup.Summarise(in)
	if in.QuotaUnknown == "" {
		digest.Backups, digest.Gigabytes = keep.Forecast(quota, in.Volumes, in.Records, in.Classes, f.steady.of, to)
	}
	return digest, failing, nil
}

// readBack adds the complete runs of the period that were lost with Redis, from the metadata of
// their backups. open are the runs that were open before the finished ones were set aside: this
// digest or the next one reports them anyway, even if their backups are complete by now.
func (f *Function) readBack(ctx context.Context, in *backup.DigestInput, open []backup.Run) error {
	// Finished runs that are not set aside are in the next digest. There can be some, because the
	// runs set aside may be those of an earlier attempt to make this digest.
	later, err := f.Ledger.Finished(ctx, in.Project.ID, mostUntold)
	if err != nil {
		return err
	}
	known := map[string]bool{}
	for _, r := range slices.Concat(in.Runs, open, later) {
		known[r.ID()] = true
	}
	all, err := f.Cloud.BackupsOf(ctx, in.Project.ID, "", time.Time{})
	if err != nil {
		return fmt.Errorf("which backups there are: %w", err)
	}
	names := map[string]string{}
	for _, v := range in.Volumes {
		names[v.Volume] = v.Name
	}
	for _, b := range all {
		slot, attempt, ok := b.Run()
		if !ok || b.Status != "available" || b.Created.Before(in.From) || !b.Created.Before(in.To) ||
			known[backup.RunID(b.Volume, slot)] {
			continue
		}
		record := backup.RecordOf(b)
		in.Runs = append(in.Runs, backup.Run{
			Volume: b.Volume, Project: b.Project, Slot: slot, Attempt: attempt, Kind: record.Kind,
			State: backup.Complete, Backup: b.ID, Started: b.Created, Ended: b.Updated, VolumeName: names[b.Volume],
			ServerName: b.Metadata[backup.MetaServerName], Class: b.Metadata[backup.MetaClass], Size: b.Size,
			Why: "read back from Cinder",
		})
	}
	return nil
}
