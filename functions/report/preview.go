package report

import (
	"context"
	"fmt"
	"time"

	"staffeln/functions/backup"
	"staffeln/functions/report/words"
)

// Untold is the part of the ledger that a preview uses besides [Ledger]: what no digest has
// reported, without setting it aside.
type Untold interface {
	Shard(project string) int
	Finished(ctx context.Context, project string, max int) ([]backup.Run, error)
	Removals(ctx context.Context, project string, max int) ([]backup.Removal, error)
}

// mostUntold is how many runs and removals a preview reads at most.
const mostUntold = 10_000

// Preview is what a project's digest would be if its period ended now. It changes
// nothing. If the error is the theme's, as with [words.Theme.Write], the mail is valid all the
// same.
func (f *Function) Preview(ctx context.Context, untold Untold, project string, now time.Time) (backup.Digest,
	words.Written, error) {
	number := untold.Shard(project)
	s := &shard{}
	if err := f.fill(ctx, s, number); err != nil {
		return backup.Digest{}, words.Written{}, err
	}
	reports, err := f.Ledger.Reports(ctx, number)
	if err != nil {
		return backup.Digest{}, words.Written{}, err
	}
	r := reports[project]
	r.Project = project
	switch {
	case r.Pending != nil:
		// The preview is of the digest after the pending one.
		r.Last, r.Guessed, r.Failing = r.Pending.Digest.To, false, r.Pending.Failing
		r.Foreign = r.Pending.Digest.ForeignIDs()
	case r.Last.IsZero() || r.Last.After(now):
		r.Last, r.Guessed = f.Digests.Schedule.Slot(now), true
	}
	removals, err := f.Ledger.Retention(ctx, project)
	if err != nil {
		return backup.Digest{}, words.Written{}, err
	}
	runs, err := untold.Finished(ctx, project, mostUntold)
	if err != nil {
		return backup.Digest{}, words.Written{}, err
	}
	removed, err := untold.Removals(ctx, project, mostUntold)
	if err != nil {
		return backup.Digest{}, words.Written{}, err
	}
	digest, _, err := f.summarise(ctx, r, s, removals, now, runs, removed)
	if err != nil {
		return backup.Digest{}, words.Written{}, err
	}
	written, err := f.Theme.Write(digest)
	return digest, written, err
}

// PreviewLetter is the mail with a preview to one address. Each has a key of its own.
func PreviewLetter(d backup.Digest, w words.Written, to string, now time.Time) backup.Letter {
	return backup.Letter{
		Key: fmt.Sprintf("preview/%s/%d/%s", d.ID, now.UnixNano(), to), At: now, To: []backup.Person{{Address: to}},
		Subject: "[preview] " + w.Subject, HTML: w.HTML, Text: w.Text, List: d.Project,
	}
}
