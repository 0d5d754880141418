package ledger

import (
	"context"
	"crypto/rand"
	"fmt"

	"staffeln/functions/backup"
)

// Reports is what is remembered of the digests of a shard's projects, by project;
// those that nothing is remembered of are not in it.
func (l *Ledger) Reports(ctx context.Context, shard int) (map[string]backup.Reporting, error) {
	all := map[string]backup.Reporting{}
	err := l.each(ctx, l.keys.shard(shard).reports(), func(project, row string) error {
		r, err := readReporting(project, row)
		all[project] = r
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("ledger: reports: %w", err)
	}
	return all, nil
}

// CutDigest puts the finished runs and the removals of a project that no digest has
// told of aside, and returns them, oldest first. They stay aside until
// [Ledger.SaveReport] says that they were told. While a digest is pending it returns
// those it was made of, and no more: what ends meanwhile waits for the next.
//
// Where somebody has cut before and no digest came of it, what has ended since is
// added, once, and the version of the [backup.Reporting] goes up: a digest that was
// made of less is not saved, and the caller has to read it anew, too.
func (l *Ledger) CutDigest(ctx context.Context, project string) ([]backup.Run, []backup.Removal, error) {
	runs, removals, err := l.cutDigest(ctx, project)
	if err != nil {
		return nil, nil, fmt.Errorf("ledger: cut digest of %s: %w", project, err)
	}
	return runs, removals, nil
}

func (l *Ledger) cutDigest(ctx context.Context, project string) (runs []backup.Run, removals []backup.Removal, err error) {
	if err := badID("project", project); err != nil {
		return nil, nil, err
	}
	s := l.of(project)
	answer, err := cutDigestScript.Run(ctx, l.rdb, []string{s.reports(), s.finished(project), s.removed(project),
		s.cut(project), s.cutRemoved(project), s.projects()}, project, -FinishedKept, -RemovedKept).Slice()
	if err != nil {
		return nil, nil, err
	}
	if len(answer) != 2 {
		return nil, nil, fmt.Errorf("an answer of %d parts", len(answer))
	}
	rows := func(part any) (rows []string) {
		list, _ := part.([]any)
		for _, row := range list {
			text, _ := row.(string)
			rows = append(rows, text)
		}
		return rows
	}
	for _, row := range rows(answer[0]) {
		r, err := readRun(row)
		if err != nil {
			return nil, nil, err
		}
		runs = append(runs, r)
	}
	for _, row := range rows(answer[1]) {
		g, err := readRemoval(row)
		if err != nil {
			return nil, nil, err
		}
		removals = append(removals, g)
	}
	return runs, removals, nil
}

// SaveReport writes what is remembered of a project's digests. saved is false where
// somebody else has written since r was read: then nothing was. told drops in the
// same step what [Ledger.CutDigest] had put aside. After a save, r with its Version
// one higher is what was written, for a further save.
//
// Of a project that nothing is remembered of, an r that says nothing is not written.
func (l *Ledger) SaveReport(ctx context.Context, r backup.Reporting, told bool) (saved bool, err error) {
	// Should the answer be lost, the client asks again by itself: the nonce tells
	// that from somebody else's writing.
	saved, err = l.saveReport(ctx, r, told, rand.Text()[:4])
	if err != nil {
		return false, fmt.Errorf("ledger: save report of %s: %w", r.Project, err)
	}
	return saved, nil
}

func (l *Ledger) saveReport(ctx context.Context, r backup.Reporting, told bool, nonce string) (bool, error) {
	if err := badID("project", r.Project); err != nil {
		return false, err
	}
	s := l.of(r.Project)
	return l.yes(ctx, saveReportScript, []string{s.reports(), s.cut(r.Project), s.cutRemoved(r.Project), s.projects()},
		r.Project, r.Version, nonce, r.Pending != nil, told, reportingRow(r))
}
