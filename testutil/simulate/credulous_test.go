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

// A credulous cloud believes the mark: whatever carries it counts as ours.
type credulous struct{ functions.Cloud }

func believe(all []backup.CinderBackup, err error) ([]backup.CinderBackup, error) {
	for i, b := range all {
		if strings.EqualFold(b.Metadata[backup.MetaAutomated], "true") {
			all[i].Origin = backup.OriginService
		}
	}
	return all, err
}

func (c credulous) Backups(ctx context.Context, scope string) ([]backup.CinderBackup, error) {
	return believe(c.Cloud.Backups(ctx, scope))
}

func (c credulous) BackupsOf(ctx context.Context, project, volume string, since time.Time) ([]backup.CinderBackup, error) {
	return believe(c.Cloud.BackupsOf(ctx, project, volume, since))
}

func (c credulous) Backup(ctx context.Context, project, id string) (backup.CinderBackup, error) {
	b, err := c.Cloud.Backup(ctx, project, id)
	one, err := believe([]backup.CinderBackup{b}, err)
	return one[0], err
}

// A service that trusts the mark alone is found out, and soon, whatever its user sees. That
// its metrics are wrong, too, is not asked for.
func TestAServiceThatTrustsTheMarkIsFoundOut(t *testing.T) {
	const most = 12
	url, stop, err := Redis(t.Context(), 1)
	if err != nil {
		t.Fatal(err)
	}
	defer stop()
	for name, user := range map[string]History{
		"an admin": {User: "backup-svc"}, "the least rights, the maker shown": {User: "backup-min", Makers: "shown"},
		"the least rights": {User: "backup-min"},
	} {
		t.Run(name, func(t *testing.T) {
			for seed := range uint64(most) {
				h := Draw(seed)
				h.User, h.Makers = user.User, user.Makers
				p := newPlay(t.Context(), h, Options{Redis: url})
				p.wrap = func(c functions.Cloud) functions.Cloud { return credulous{c} }
				b, broken := errors.AsType[*Broken](p.run())
				if broken && b.Promise != "panic" && b.Promise != "I6" {
					t.Logf("seed %d: %v", seed, b)
					return
				}
			}
			t.Errorf("%d histories of a service that trusts the mark break no promise", most)
		})
	}
}
