package report

import (
	"context"
	"log/slog"
	"testing"
	"time"

	"staffeln/functions/backup"
)

// oneBackup is a cloud with one available backup of ours, and a ledger that
// remembers none.
type oneBackup struct {
	Ledger
	Cloud
	backup backup.CinderBackup
	later  []backup.Run // finished, and not put aside
}

func (oneBackup) Records(context.Context, string) ([]backup.Record, error) { return nil, nil }

func (oneBackup) Foreign(context.Context, string) ([]backup.Foreign, error) { return nil, nil }

func (o oneBackup) BackupsOf(context.Context, string, string, time.Time) ([]backup.CinderBackup, error) {
	return []backup.CinderBackup{o.backup}, nil
}

func (oneBackup) Project(_ context.Context, id string) (backup.Project, bool, error) {
	return backup.Project{ID: id}, true, nil
}

func (o oneBackup) Finished(context.Context, string, int) ([]backup.Run, error) { return o.later, nil }

func (oneBackup) Quota(context.Context, string) (backup.Quota, error) { return backup.Quota{}, nil }

func (oneBackup) Servers(context.Context, string) ([]backup.Server, error) { return nil, nil }

func TestARunIsReadBackFromItsBackupOnlyWhereTheLedgerHasForgottenIt(t *testing.T) {
	slot := time.Date(2026, 11, 22, 3, 0, 0, 0, time.UTC)
	run := backup.Run{Project: "p", Volume: "v", Slot: slot, State: backup.Complete, Ended: slot.Add(time.Minute)}
	cloud := oneBackup{backup: backup.CinderBackup{
		ID: "b", Project: "p", Volume: "v", Status: "available", Origin: backup.OriginService, Created: slot.Add(time.Second), Updated: slot.Add(time.Minute),
		Metadata: map[string]string{backup.MetaAutomated: "True", backup.MetaRun: run.ID()},
	}}
	for _, c := range []struct {
		name        string
		open, ended []backup.Run
		later       []backup.Run
		guessed     bool
		want        int
	}{
		{"forgotten: its backup tells", nil, nil, nil, true, 1},
		{"known to be over: once", nil, []backup.Run{run}, nil, true, 1},
		{"still open, though Cinder is done: the next digest tells", []backup.Run{run}, nil, nil, true, 0},
		{"open when looked at, over when put aside: once", []backup.Run{run}, []backup.Run{run}, nil, true, 1},
		{"over, and not put aside since something else is: the next digest tells", nil, nil, []backup.Run{run}, true, 0},
		{"told by an earlier digest, as the ledger knows: not again", nil, nil, nil, false, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			cloud := cloud
			cloud.later = c.later
			f := &Function{Ledger: cloud, Cloud: cloud, Log: slog.New(slog.DiscardHandler)}
			r := backup.Reporting{Project: "p", Last: slot.Add(-time.Hour), Guessed: c.guessed}
			s := &shard{runs: map[string][]backup.Run{"p": c.open}}
			d, _, err := f.summarise(t.Context(), r, s, backup.Retention{}, slot.Add(time.Hour), c.ended, nil)
			if err != nil {
				t.Fatal(err)
			}
			if len(d.Runs) != c.want || d.Complete != c.want {
				t.Errorf("the digest tells of %+v, want %d runs", d.Runs, c.want)
			}
		})
	}
}
