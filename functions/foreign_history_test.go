package functions_test

import (
	"maps"
	"strings"
	"testing"
	"time"

	"staffeln/functions/backup"
	"staffeln/runtime/openstack"
	"staffeln/testutil/simcloud"
	"staffeln/testutil/world"
)

// forgeAs makes a backup as a member of the project, with the metadata of another.
func (s *tale) forgeAs(user string, like simcloud.Backup) string {
	s.Helper()
	env := map[string]string{"OS_AUTH_URL": s.Cloud.AuthURL(), "OS_USERNAME": user, "OS_PASSWORD": simcloud.Password,
		"OS_USER_DOMAIN_NAME": "Default", "OS_PROJECT_DOMAIN_NAME": "Default"}
	o, err := openstack.FromEnv(func(name string) (string, bool) { v, ok := env[name]; return v, ok })
	s.check(err)
	o.Transport, o.Now = s.Cloud.Transport(), s.Now
	thief, err := openstack.Connect(s.ctx, o)
	s.check(err)
	id, err := thief.CreateBackup(s.ctx, like.Project, backup.Request{Volume: like.Volume, Name: "forged <b>", Metadata: maps.Clone(like.Metadata)})
	s.check(err)
	return id
}

// The owner is told of a forged backup in every digest, and gets one that would not come
// otherwise only when there is a new one. The operators are told for as long as it is there.
func TestForgedBackupsAreTold(t *testing.T) {
	c := write(t, world.Options{Environ: []string{"STAFFELN_REPORT_OPERATORS=ops@example.org", "STAFFELN_BACKUP_PERIOD=daily@02:00"}})
	c.quiet()
	c.optIn("web-1")
	day := func() { c.Helper(); c.pass(24*time.Hour, 10*time.Minute) }
	day()
	all := c.Cloud.Backups()
	like := all[len(all)-1]
	id := c.forgeAs("alice", like)
	day()
	day()
	c.want("alice", c.subjects(alice), "Mon 06:00 alpha: 2 backups complete", "Tue 06:00 alpha: 1 backup complete, 1 forged backup", "Wed 06:00 alpha: 1 backup complete")
	for n, want := range map[int]string{1: "<b>forged &lt;b&gt;</b>, new<br>", 2: "<b>forged &lt;b&gt;</b><br>"} {
		if html := c.to(alice)[n].HTML; !strings.Contains(html, want) || !strings.Contains(html, "of volume web-1-data; "+id) || !strings.Contains(html, "somebody else has your credentials") {
			t.Errorf("letter %d does not tell of it", n)
		}
	}
	c.want("operators", c.subjects("ops@example.org"), "Tue 06:10 Backups: 1 backup forged", "Wed 06:10 Backups: 1 backup forged")
	if text := c.to("ops@example.org")[0].Text; !strings.Contains(text, "1 backup with our metadata that somebody else made") {
		t.Error(text)
	}

	// Nothing is protected any more.
	c.quiet()
	day()
	c.forgeAs("alice", like)
	day()
	day()
	c.want("alice in the end", c.subjects(alice)[3:], "Fri 06:00 alpha: nothing is protected, 1 forged backup")
	c.accounts(alice)
}

// Where Cinder does not show who made a backup, the owner is told of what nobody can
// tell, and after adoption of nothing.
func TestUnverifiedBackupsAreTold(t *testing.T) {
	c := write(t, world.Options{User: "backup-min", Environ: []string{"STAFFELN_REPORT_OPERATORS=ops@example.org", "STAFFELN_BACKUP_PERIOD=daily@02:00"}})
	c.quiet()
	c.optIn("web-1")
	c.pass(24*time.Hour, 10*time.Minute)
	all := c.Cloud.Backups()
	id := c.forgeAs("alice", all[len(all)-1])
	c.pass(24*time.Hour, 10*time.Minute)
	c.want("alice", c.subjects(alice), "Mon 06:00 alpha: 2 backups complete", "Tue 06:00 alpha: 1 backup complete")
	if html := c.to(alice)[1].HTML; !strings.Contains(html, "Nobody can say who made them") || !strings.Contains(html, id) || strings.Contains(html, "Not made by the backup service") {
		t.Error("she is not told of it, or otherwise")
	}
	c.want("operators", c.subjects("ops@example.org"), "Tue 06:10 Backups: 1 backup unverified")
	if text := c.to("ops@example.org")[0].Text; !strings.Contains(text, "(staffeln adopt)") {
		t.Error(text)
	}
}
