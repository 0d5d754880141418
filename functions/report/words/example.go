package words

import (
	"time"

	"staffeln/functions/backup"
)

// Example is a digest with something of everything: what templates are tried on,
// and what docs/digest.md shows.
func Example() backup.Digest {
	to := time.Date(2026, 11, 22, 6, 0, 0, 0, time.UTC)
	slot := to.Add(-4 * time.Hour)
	run := func(server, volume string, kind backup.Kind, gib int, took time.Duration) backup.DigestRun {
		return backup.DigestRun{Server: server, Volume: volume, VolumeID: "5c1e7e0e-8f54-4f4b-9a6c-2f5a7f1f0a11", Class: "default", Kind: kind, Size: gib,
			Slot: slot, Started: slot.Add(3 * time.Minute), Ended: slot.Add(3*time.Minute + took), OK: true}
	}
	foreign := func(name, volume string, origin backup.Origin) backup.DigestForeign {
		return backup.DigestForeign{Backup: "2a6a1d43-6c1e-4f35-9d6a-3f1f5e0f9c77", Name: name, Volume: volume, Origin: origin, New: true}
	}
	failed := run("db", "data", backup.Full, 500, 10*time.Second)
	failed.OK, failed.Theirs, failed.Why, failed.FailingSince = false, true, "quota exceeded: 10 of 10 backups", slot.AddDate(0, 0, -3)
	broken := run("web", "logs", backup.Incremental, 20, time.Hour)
	broken.OK, broken.Why = false, "cinder: the backup host went away"
	return backup.Digest{
		ID: "1176721179d74e6b9f16b23e2bb580a3@20261122T060000Z", Project: "1176721179d74e6b9f16b23e2bb580a3", Name: "alpha",
		From: to.AddDate(0, 0, -1), To: to, Zone: "Europe/Berlin",
		Runs:     []backup.DigestRun{failed, broken, run("db", "root", backup.Incremental, 40, 95*time.Second), run("web", "root", backup.Full, 1536, 75*time.Minute), run("web", "uploads", backup.Incremental, 100, 4*time.Minute)},
		Complete: 3, Failed: 2, Protected: 5,
		Backups:   backup.QuotaFact{Limit: 10, Used: 10, Percent: 100, Level: backup.High, Needs: 160, Full: to},
		Gigabytes: backup.QuotaFact{Limit: 10000, Used: 6100, Percent: 61, Level: backup.Middle, Needs: 9000},
		Removed: []backup.Removal{{Backup: "8bd2b617-daa5-4aa3-b199-e5d6bad361fb", Name: "uploads-20261022T020000Z", Kind: backup.Full, Size: 100,
			Created: to.AddDate(0, -1, 0), Ended: to.Add(-2 * time.Hour), Why: "older than 30d"}}, Removals: 1,
		Overdue:   []backup.DigestNote{{Server: "db", Volume: "data", Why: "newest restore point 2026-11-18T02:04:11Z is older than slot 2026-11-22T00:00:00Z"}},
		Recovered: []backup.DigestNote{{Server: "web", Volume: "uploads", Why: "had been failing since 2026-11-20 02:00"}},
		Locked:    []backup.DigestNote{{Server: "mail", Why: "metadata backup=no is not in force before 2026-11-28 17:40: class gold is locked; if you did not do this, somebody else has your credentials"}},
		Skipped:   []backup.DigestNote{{Server: "db", Volume: "scratch", Why: "volume metadata skip-volume-backup=true"}},
		Empty:     []backup.DigestNote{{Server: "bastion", Why: "no volumes attached"}},
		Invalid:   []backup.DigestNote{{Server: "ci", Why: `backup="glod" is neither yes nor a class (default, gold): not protected`}},
		Outside:   []backup.DigestNote{{Server: "sandbox", Why: "no backup metadata nor tag"}},
		Foreign:   []backup.DigestForeign{foreign("root-20261121T020000Z", "root", backup.OriginForged), foreign("uploads-20261018T020000Z", "uploads", backup.OriginUnverified)},
	}
}
