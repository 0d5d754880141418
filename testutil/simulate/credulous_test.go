package simulate

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"staffeln/functions"
	"staffeln/functions/backup"
)

// A credulous cloud counts more backups as the service's own than the real one does.
type credulous struct {
	functions.Cloud
	believe func([]backup.CinderBackup)
}

func (c credulous) Backups(ctx context.Context, scope string) ([]backup.CinderBackup, error) {
	all, err := c.Cloud.Backups(ctx, scope)
	c.believe(all)
	return all, err
}

func (c credulous) BackupsOf(
	ctx context.Context, project, volume string, since time.Time,
) ([]backup.CinderBackup, error) {
	all, err := c.Cloud.BackupsOf(ctx, project, volume, since)
	c.believe(all)
	return all, err
}

func (c credulous) Backup(ctx context.Context, project, id string) (backup.CinderBackup, error) {
	b, err := c.Cloud.Backup(ctx, project, id)
	one := []backup.CinderBackup{b}
	c.believe(one)
	return one[0], err
}

// trustMarks believes the mark: every backup that carries it counts as ours.
func trustMarks(*play) func([]backup.CinderBackup) {
	return func(all []backup.CinderBackup) {
		for i, b := range all {
			if strings.EqualFold(b.Metadata[backup.MetaAutomated], "true") {
				all[i].Origin = backup.OriginService
			}
		}
	}
}

// trustNonces judges every backup by the rules, but alone: a backup that carries the nonce
// of an open run counts as ours, also when a second one carries it.
func trustNonces(p *play) func([]backup.CinderBackup) {
	return func(all []backup.CinderBackup) {
		for i, b := range all {
			if b.Origin != backup.OriginUnverified {
				continue
			}
			evidence, err := p.ledger.Evidence(p.ctx, b.Project, all[i:i+1])
			p.must(err)
			backup.Makers(nil).Judge(all[i:i+1], evidence)
		}
	}
}

// playAs plays the history of a number with a service user of the test's choice, and with a
// service that believes too much if believe is set.
func playAs(t *testing.T, url string, seed uint64, as History, believe func(*play) func([]backup.CinderBackup)) (
	Tally, error,
) {
	h := Draw(seed)
	h.User, h.Makers = as.User, as.Makers
	p := newPlay(t.Context(), h, Options{Redis: url})
	if believe != nil {
		p.wrap = func(c functions.Cloud) functions.Cloud { return credulous{c, believe(p)} }
	}
	err := p.run()
	return p.tally, err
}

// foundOut says whether an error is a broken promise about backups. Wrong metrics (I6) are
// not enough to find out a service that believes too much.
func foundOut(err error) bool {
	b, broken := errors.AsType[*Broken](err)
	return broken && b.Promise != "panic" && b.Promise != "I6"
}

func oneDatabase(t *testing.T) (url string) {
	t.Helper()
	url, stop, err := Redis(t.Context(), 1)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(stop)
	return url
}

func TestAServiceThatTrustsTheMarkIsFoundOut(t *testing.T) {
	url := oneDatabase(t)
	for name, as := range map[string]History{
		"an admin":                          {User: "backup-svc"},
		"the least rights, the maker shown": {User: "backup-min", Makers: "shown"},
		"the least rights":                  {User: "backup-min"},
	} {
		t.Run(name, func(t *testing.T) {
			const most = 12
			for seed := range uint64(most) {
				if _, err := playAs(t, url, seed, as, trustMarks); foundOut(err) {
					t.Logf("seed %d: %v", seed, err)
					return
				}
			}
			t.Errorf("%d histories break no promise", most)
		})
	}
}

// Random histories reach the case that is hardest to tell apart: Cinder has made a backup,
// the service has not received the answer, and a tenant copies the nonce while the run is
// open. The service keeps every promise then, and one that does not look for a second
// backup with the nonce is found out. Where Draw changes, other numbers may be needed.
func TestAServiceThatTrustsANonceThatTwoBackupsCarryIsFoundOut(t *testing.T) {
	url, hidden := oneDatabase(t), History{User: "backup-min"}
	reached, found := 0, 0
	for _, seed := range []uint64{2, 21, 23, 24, 25} {
		tally, err := playAs(t, url, seed, hidden, nil)
		if err != nil {
			t.Errorf("seed %d: %v", seed, err)
		}
		if tally.Faults["open nonce copied"] == 0 {
			continue
		}
		reached++
		if _, err := playAs(t, url, seed, hidden, trustNonces); foundOut(err) {
			t.Logf("seed %d: %v", seed, err)
			found++
		}
	}
	if reached == 0 || found == 0 {
		t.Errorf("in %d histories two backups carry the nonce of an open run, and %d of them find out", reached, found)
	}
}
