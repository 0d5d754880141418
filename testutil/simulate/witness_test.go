package simulate

import (
	"maps"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"staffeln/functions/backup"
	"staffeln/testutil/simcloud"
)

// calm is a history in which nothing happens but what a test does.
var calm = History{
	Start: time.Date(2026, 11, 22, 10, 0, 0, 0, time.UTC), User: "backup-svc", Servers: 4, Pace: 10 * time.Minute,
	Period: 2 * time.Hour,
	Backup: 3 * time.Minute, Deletion: time.Minute,
	Settings: []string{"STAFFELN_SHARDS=1", "STAFFELN_BACKUP_PERIOD=2h", "STAFFELN_REPORT_PERIOD=6h",
		"STAFFELN_RETENTION_TIME=3h", "STAFFELN_FULL_BACKUP_DEPTH=0"},
}

// begin plays it for some hours.
func begin(t *testing.T, hours time.Duration) *play {
	t.Helper()
	return beginAs(t, calm, hours)
}

func beginAs(t *testing.T, h History, hours time.Duration) *play {
	t.Helper()
	p := newPlay(t.Context(), h, Options{})
	t.Cleanup(p.close)
	if err := p.open(); err != nil {
		t.Fatal(err)
	}
	p.pass(hours*time.Hour, p.history.Pace)
	if p.check(); p.broken != nil {
		t.Fatal(p.broken)
	}
	return p
}

func TestTheWitnessNotices(t *testing.T) {
	ours := func(p *play, status string) simcloud.Backup {
		all := slices.DeleteFunc(p.backups(true), func(b simcloud.Backup) bool { return b.Status != status })
		return all[len(all)-1]
	}
	forged := func(p *play) simcloud.Backup {
		p.forge(Act{Do: "forge", What: "next",
			Which: slices.IndexFunc(p.volumes(), func(v simcloud.Volume) bool { return v.ID == ours(p, "available").Volume })})
		p.pass(10*time.Minute, 5*time.Minute)
		all := slices.DeleteFunc(p.backups(false), func(b simcloud.Backup) bool { return !marked(b) })
		return all[len(all)-1]
	}
	for name, tc := range map[string]struct {
		do   func(p *play)
		want string
	}{
		"a second backup of a slot": {func(p *play) {
			b := ours(p, "available")
			_, err := p.Home.Cloud.CreateBackup(p.ctx, b.Project,
				backup.Request{Volume: b.Volume, Name: "twin", Metadata: maps.Clone(b.Metadata)})
			p.must(err)
		}, "I1"},
		"a backup that somebody else removed": {func(p *play) {
			b := ours(p, "available")
			p.must(p.Home.Cloud.DeleteBackup(p.ctx, b.Project, b.ID))
			p.pass(5*time.Minute, time.Minute)
		}, "I2"},
		"metadata that are gone": {func(p *play) { p.Cloud.SetBackupMetadata(ours(p, "available").ID, nil) }, "I2"},
		"a tenant who may delete": {func(p *play) {
			p.must(p.Cloud.SetPolicy(""))
			attack(p, Act{Do: "attack", What: "delete", Which: len(p.backups(true)) - 1})
		}, "I2"},
		"the removal of the newest restore point": {func(p *play) { p.removing(ours(p, "available").ID) }, "I3"},
		"the removal of what a tenant forged":     {func(p *play) { p.removing(forged(p).ID) }, "I3"},
		"a restore point that is only forged": {func(p *play) {
			// Nobody has heard of it: to the owner it looks like one of ours.
			b := forged(p)
			for _, mine := range p.backups(true) {
				if mine.Volume == b.Volume {
					p.asked[mine.ID]++
					p.must(p.Home.Cloud.DeleteBackup(p.ctx, mine.Project, mine.ID))
				}
			}
			p.Cloud.SetInject(func(_ *http.Request, op string) *simcloud.Fault {
				if op == "POST /volume/backups" {
					return simcloud.Refused(500, "no")
				}
				return nil
			})
			p.pass(20*time.Minute, time.Minute)
		}, "I3"},
		"a digest that tells of what is only forged": {func(p *play) {
			b := forged(p)
			p.must(p.box.Take(backup.Letter{Key: "forged", To: []backup.Person{{Address: owner}},
				Text: "run " + b.Metadata[backup.MetaRun] + " ok\n"}, p.Now()))
			p.digests()
		}, "I5"},
		"a tenant who may not delete what is not ours": {func(p *play) {
			b := forged(p)
			p.must(p.ledger.PutRecords(p.ctx, b.Project,
				[]backup.Record{{ID: b.ID, Volume: b.Volume, Project: b.Project, Status: b.Status, Kind: backup.Full,
					Created: b.Created, Slot: b.Created, Size: 1, Proof: backup.ByOperator}}))
			p.forge(Act{Do: "forge", What: "removed"})
		}, "I2"},
		"forged backups that no metric tells of": {func(p *play) {
			forged(p)
			p.must(p.ledger.AskReconcile(p.ctx))
			p.soon()
			p.must(p.ledger.Total(p.ctx, "forged", 0))
			p.fresh(p.Policies()[backup.Default])
		}, "I6"},
		"a removal before the ledger is rebuilt": {func(p *play) {
			p.gone = true
			p.must(p.side.FlushDB(p.ctx).Err())
			p.removing(ours(p, "available").ID)
		}, "I7"},
		"a removal without end": {func(p *play) {
			b := p.backups(true)[0]
			for range 200 {
				p.asked[b.ID]++
			}
			p.removing(b.ID)
		}, "I4"},
		"a run that is in no digest": {func(p *play) {
			p.box.SetTrouble(nil)
			p.must(p.side.FlushDB(p.ctx).Err()) // which nobody has noted as a loss
			p.pass(24*time.Hour, p.history.Pace)
			p.digests()
		}, "I5"},
		"a volume that nobody protects": {func(p *play) {
			// The notification and every look that could tell of it are lost.
			p.Cloud.SetInject(func(_ *http.Request, op string) *simcloud.Fault {
				if strings.HasPrefix(op, "GET /compute") {
					return simcloud.Refused(500, "no")
				}
				return nil
			})
			for _, s := range p.servers() {
				p.Cloud.SetServerMetadata(s.ID, wish("yes"))
			}
			p.pass(3*time.Hour, p.history.Pace)
			p.check()
			p.fresh(p.Policies()[backup.Default])
		}, "I6"},
		"what no policy keeps": {func(p *play) {
			p.Cloud.SetInject(func(_ *http.Request, op string) *simcloud.Fault {
				if strings.HasPrefix(op, "DELETE") {
					return simcloud.Refused(500, "no")
				}
				return nil
			})
			p.pass(9*time.Hour, p.history.Pace)
			p.superfluous()
		}, "I6"},
		"overdue volumes that no metric tells of": {func(p *play) {
			p.Cloud.SetBackupService("", false)
			p.pass(12*time.Hour, p.history.Pace)
			p.must(p.ledger.Total(p.ctx, "overdue", 0))
			p.promised()
		}, "I8"},
	} {
		t.Run(name, func(t *testing.T) {
			p := begin(t, 7)
			tc.do(p)
			p.check()
			if p.broken == nil || p.broken.Promise != tc.want {
				t.Errorf("found %v, want %s broken", p.broken, tc.want)
			}
		})
	}
}

// Everything that can be drawn is, sooner or later, and is known.
func TestEveryActAndFaultIsDrawn(t *testing.T) {
	drawn := map[string]bool{}
	for seed := range uint64(3000) {
		for _, a := range Draw(seed).Acts {
			if acts[a.Do] == nil {
				t.Fatalf("seed %d draws %q, which is no act", seed, a)
			}
			drawn[a.Do], drawn[a.Do+" "+a.What] = true, true
		}
	}
	for do := range acts {
		if !drawn[do] {
			t.Errorf("%q is never drawn", do)
		}
	}
	for _, kind := range requestFaults {
		if !drawn["fault "+kind] {
			t.Errorf("fault %q is never drawn", kind)
		}
	}
}

func TestShorten(t *testing.T) {
	all := []Act{{Do: "pass"}, {Do: "wish"}, {Do: "pass", N: 1}, {Do: "kill"}, {Do: "tag"}, {Do: "pass", N: 2}}
	tries := 0
	got := shorten(t.Context(), all, func(acts []Act) bool {
		tries++
		return slices.Contains(acts, Act{Do: "wish"}) && slices.Contains(acts, Act{Do: "tag"})
	})
	if want := []Act{{Do: "wish"}, {Do: "tag"}}; !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
	if tries > 20 {
		t.Errorf("%d tries", tries)
	}
}

// Where the service user does not see who made a backup: what reads weaker then, and what
// does not.
func TestTheWitnessNoticesWhereTheMakerIsHidden(t *testing.T) {
	for name, tc := range map[string]struct {
		do   func(p *play)
		want string
	}{
		"a removal of what nobody vouches for": {func(p *play) {
			p.forget()
			p.must(p.side.FlushDB(p.ctx).Err())
			p.pass(10*time.Minute, time.Minute)
			p.removing(p.backups(true)[0].ID)
		}, "I7"},
		"a removal of the same, adopted by an operator": {func(p *play) {
			p.pass(2*time.Hour, p.history.Pace)
			b := p.backups(true)[0]
			p.forget()
			p.must(p.side.FlushDB(p.ctx).Err())
			p.pass(10*time.Minute, time.Minute)
			p.adopt(b.Project, p.unverified)
			if !p.proven(b) || p.unverified(b) {
				p.fail("panic", "nobody vouches for it")
			}
		}, ""},
		"a second backup of a slot": {func(p *play) {
			b := p.backups(true)[0]
			_, err := p.Home.Cloud.CreateBackup(p.ctx, b.Project,
				backup.Request{Volume: b.Volume, Name: "twin", Metadata: maps.Clone(b.Metadata)})
			p.must(err)
		}, "I1"},
		"a slot made again after Redis was emptied": {func(p *play) {
			p.forget()
			p.must(p.side.FlushDB(p.ctx).Err())
			p.pass(time.Hour, p.history.Pace)
		}, ""},
		"and a third time": {func(p *play) {
			p.forget()
			p.must(p.side.FlushDB(p.ctx).Err())
			p.pass(30*time.Minute, p.history.Pace)
			b := p.backups(true)[len(p.backups(true))-1]
			_, err := p.Home.Cloud.CreateBackup(p.ctx, b.Project,
				backup.Request{Volume: b.Volume, Name: "twin", Metadata: maps.Clone(b.Metadata)})
			p.must(err)
		}, "I1"},
	} {
		t.Run(name, func(t *testing.T) {
			h := calm
			h.User = "backup-min"
			p := beginAs(t, h, 7)
			tc.do(p)
			p.check()
			found := ""
			if p.broken != nil {
				found = p.broken.Promise
			}
			if found != tc.want {
				t.Errorf("found %v, want %q broken", p.broken, tc.want)
			}
		})
	}
}
