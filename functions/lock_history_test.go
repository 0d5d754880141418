package functions_test

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"staffeln/functions"
	"staffeln/functions/backup"
	"staffeln/testutil/world"
)

// gold is a class with a slot every six hours, whose changes wait for two days.
func gold(t *testing.T) *correspondence { t.Helper(); return goldFor(t, "") }

// goldFor is the same with another service user.
func goldFor(t *testing.T, user string) *correspondence {
	t.Helper()
	c := write(t, world.Options{User: user, Environ: []string{"STAFFELN_CLASS_GOLD_PERIOD=6h", "STAFFELN_CLASS_GOLD_LOCK=2d", "STAFFELN_LOCK_MAIL=true",
		"STAFFELN_REPORT_RECIPIENTS=owner@example.org", "STAFFELN_REPORT_OPERATORS=ops@example.org"}})
	c.quiet()
	c.set("web-1", "backup=gold")
	c.pass(10*time.Minute, time.Minute)
	c.want("the first backup", c.backups("web-1-data"), "full available")
	return c
}

// set is what somebody with the tenant's rights makes of a server's metadata.
func (s *tale) set(server string, pairs ...string) {
	metadata := map[string]string{}
	for _, p := range pairs {
		k, v, _ := strings.Cut(p, "=")
		metadata[k] = v
	}
	s.Cloud.SetServerMetadata(s.Seeded.Servers[server], metadata)
}

// alarms are the letters about attempts that somebody has.
func (c *correspondence) alarms(address string) (out []world.Handed) {
	for _, l := range c.to(address) {
		if strings.HasPrefix(l.Key, "lock/") {
			out = append(out, l)
		}
	}
	return out
}

// retentions are what the volume's backups were told to stay for, oldest first.
func (c *correspondence) retentions(volume string) (out []string) {
	for _, b := range c.backupsOf(volume) {
		out = append(out, b.Metadata[backup.MetaClass]+" "+b.Metadata[backup.MetaRetention])
	}
	return out
}

func (c *correspondence) restorePoints(volume string) int {
	n := 0
	for _, b := range c.backupsOf(volume) {
		if b.Status == "available" {
			n++
		}
	}
	return n
}

func TestAThiefOptsAServerOutOfALockedClass(t *testing.T) {
	c := gold(t)
	id := c.Seeded.Servers["web-1"]
	c.set("web-1", "backup=gold", "backup-retention=1s", "backup-schedule=300d")
	c.step(5 * time.Second)
	c.step(5 * time.Second)
	for _, who := range []string{"owner@example.org", "ops@example.org"} {
		got := c.alarms(who)
		if len(got) != 1 {
			t.Fatalf("%s has %d letters ten seconds later, want one: %v", who, len(got), c.Errors)
		}
		for _, want := range []string{"web-1: metadata backup-schedule=300d and metadata backup-retention=1s is not in force before 2026-11-24 10:10: class gold is locked",
			"somebody else has your credentials", "everything is backed up as before"} {
			if !strings.Contains(got[0].Text, want) {
				t.Errorf("it lacks %q:\n%s", want, got[0].Text)
			}
		}
		if want := "lock/" + id + "@20261122T101000Z/" + who; got[0].Key != want || got[0].Subject != "Backups of web-1: a change is being held back" {
			t.Errorf("the letter is %s %q, want %s", got[0].Key, got[0].Subject, want)
		}
	}
	c.pass(2*time.Hour, time.Minute)
	c.set("web-1", "backup=no")
	c.pass(2*time.Hour, time.Minute)
	c.want("the next slot is made all the same", c.backups("web-1-data"), "full available", "incremental available")
	c.want("as if nothing had been set", c.retentions("web-1-data"), "gold 30d", "gold 30d")
	v := c.Cloud.AddVolume(c.Seeded.Projects["alpha"], "later", 3, nil)
	c.Seeded.Volumes["later"] = v
	c.Cloud.Attach(id, v)
	c.pass(10*time.Minute, time.Minute)
	c.want("a volume attached meanwhile", c.backups("later"), "full available")

	c.Jump(time.Date(2026, 11, 24, 10, 0, 0, 0, time.UTC).Add(-28 * time.Hour)) // the morning after
	c.pass(28*time.Hour, 20*time.Minute)
	letters := c.to("owner@example.org")
	if !slices.ContainsFunc(letters, func(l world.Handed) bool {
		return strings.Contains(l.HTML, "metadata backup=no is not in force before 2026-11-24 12:10: class gold is locked")
	}) {
		t.Error("no digest tells of it")
	}
	if n := len(c.alarms("owner@example.org")); n != 2 {
		t.Errorf("%d letters about two attempts", n)
	}
	c.pass(3*time.Hour, 20*time.Minute) // the second attempt began two hours after the first
	made := c.restorePoints("web-1-data")
	if made < 6 {
		t.Errorf("%d backups in two days", made)
	}
	c.pass(24*time.Hour, 20*time.Minute)
	if now := c.restorePoints("web-1-data"); now != made {
		t.Errorf("%d backups after the lock was over", now-made)
	}
	if n := c.said.times("attempt on a locked class", "server="+id); n != 2 {
		t.Errorf("the log tells of it %d times", n)
	}
	c.once()
}

func TestAnOwnerSetsBackWhatAThiefHasDone(t *testing.T) {
	c := gold(t)
	c.set("web-1", "backup=no")
	c.pass(47*time.Hour, 30*time.Minute)
	c.set("web-1", "backup=gold")
	c.pass(20*time.Minute, 10*time.Minute)
	c.set("web-1", "backup=no") // and once more
	before := c.restorePoints("web-1-data")
	c.pass(47*time.Hour, 30*time.Minute)
	if n := c.restorePoints("web-1-data") - before; n < 7 {
		t.Errorf("%d backups in the two days after the second attempt, which begin anew", n)
	}
	if n := len(c.alarms("owner@example.org")); n != 2 {
		t.Errorf("%d letters, want one for each attempt", n)
	}
	c.set("web-1", "backup=gold")
	c.pass(time.Hour, 10*time.Minute)
	c.set("web-1", "backup=gold", "backup-retention=60d") // longer, which waits, too
	c.pass(24*time.Hour, 30*time.Minute)
	c.set("web-1", "backup=gold")
	c.pass(48*time.Hour, 30*time.Minute)
	if all := c.retentions("web-1-data"); slices.Contains(all, "gold 60d") {
		t.Errorf("it counted at once: %q", all)
	}
	c.once()
}

// Who tries again and again does not bury the owner in letters.
func TestManyAttemptsAreFewLetters(t *testing.T) {
	c := gold(t)
	for range 60 {
		c.set("web-1", "backup=no")
		c.step(30 * time.Second)
		c.set("web-1", "backup=gold")
		c.step(30 * time.Second)
	}
	if n := len(c.alarms("owner@example.org")); n != 1 {
		t.Errorf("%d letters in an hour", n)
	}
	c.set("web-1", "backup=no")
	c.pass(30*time.Minute, time.Minute)
	if n := len(c.alarms("owner@example.org")); n != 2 {
		t.Errorf("%d letters: one that stays is told of when the hour is over", n)
	}
}

func TestTheSkipKeyOfALockedVolume(t *testing.T) {
	c := gold(t)
	c.Cloud.SetVolumeMetadata(c.Seeded.Volumes["web-1-data"], map[string]string{"skip-volume-backup": "yes"}) // Cinder tells nobody
	c.Jump(time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC))
	for _, e := range c.Ticks() {
		if e.Type == "tick.dispatch" { // which reads it before reconcile does
			c.check(c.Deliver(c.ctx, e))
		}
	}
	c.want("the next slot", c.backups("web-1-data"), "full available", "incremental creating")
	c.pass(24*time.Hour, 20*time.Minute)
	if got := c.alarms("owner@example.org"); len(got) != 1 || !strings.Contains(got[0].Text, "web-1 / web-1-data: volume metadata skip-volume-backup=yes is not in force before 2026-11-24 12:") {
		t.Errorf("the owner has %v", got)
	}
	made := c.restorePoints("web-1-data")
	if made < 5 {
		t.Errorf("%d backups in a day", made)
	}
	c.pass(26*time.Hour, 30*time.Minute)
	made = c.restorePoints("web-1-data")
	c.pass(24*time.Hour, 20*time.Minute)
	if now := c.restorePoints("web-1-data"); now != made {
		t.Errorf("%d backups after the lock was over", now-made)
	}
	if n := c.said.times("attempt on a locked class", "volume="+c.Seeded.Volumes["web-1-data"]); n != 1 {
		t.Errorf("the log tells of it %d times", n)
	}
}

// With Redis an attempt is forgotten, and who was enrolled: the backups tell, and the
// lock begins anew.
func TestRedisEmptiedDuringAnAttempt(t *testing.T) {
	c := gold(t)
	c.set("web-1", "backup=no")
	c.Cloud.SetVolumeMetadata(c.Seeded.Volumes["web-1-data"], map[string]string{"skip-volume-backup": "yes"})
	c.pass(24*time.Hour, 20*time.Minute)
	c.empty()
	before := c.restorePoints("web-1-data")
	c.pass(47*time.Hour, 30*time.Minute)
	if n := c.restorePoints("web-1-data") - before; n < 7 {
		t.Errorf("%d backups in two days", n)
	}
	c.pass(2*time.Hour, 10*time.Minute)
	before = c.restorePoints("web-1-data")
	c.pass(24*time.Hour, 20*time.Minute)
	if n := c.restorePoints("web-1-data") - before; n != 0 {
		t.Errorf("%d backups after the lock was over", n)
	}
	if n := c.said.times("attempt on a locked class", "server="+c.Seeded.Servers["web-1"]); n != 4 {
		t.Errorf("the log tells of it %d times, want twice each of the server and the volume", n)
	}
	c.once()
}

// halting fails to list the backups of a project a few times.
type halting struct {
	functions.Cloud
	project string
	times   int
}

func (h *halting) Backups(ctx context.Context, scope string) ([]backup.CinderBackup, error) {
	if scope == h.project && h.times > 0 {
		h.times--
		return nil, errors.New("503 Service Unavailable")
	}
	return h.Cloud.Backups(ctx, scope)
}

// What the first pass over an emptied ledger cannot list, a later one judges as that
// would have.
func TestRedisEmptiedWhileAProjectCannotBeListed(t *testing.T) {
	c := goldFor(t, "backup-min")
	// Else nobody knows that the backups are ours, and nothing tells of the class.
	c.check(c.Cloud.SetPolicy(`"backup:backup_project_attribute": "rule:admin_api or user_id:` + c.Seeded.Users["backup-min"] + `"`))
	c.set("web-1", "backup=no")
	c.pass(time.Hour, 10*time.Minute)
	c.empty()
	h := &halting{Cloud: c.removing.Cloud, project: c.Seeded.Projects["alpha"], times: 3}
	c.removing.Cloud = h
	c.pass(2*time.Hour, time.Minute)
	if h.times != 0 {
		t.Fatalf("%d failures are left", h.times)
	}
	c.want("the next slot", c.backups("web-1-data"), "full available", "incremental available")
	if n := c.said.times("attempt on a locked class", "server="+c.Seeded.Servers["web-1"]); n != 2 {
		t.Errorf("the log tells of it %d times", n)
	}
}

// Without a lock the floors are what is left of the owner's wishes.
func TestAThiefOverridesWhatIsNotLocked(t *testing.T) {
	c := write(t, world.Options{Environ: []string{"STAFFELN_BACKUP_PERIOD=1h", "STAFFELN_FULL_BACKUP_DEPTH=0", "STAFFELN_OVERRIDE_MIN_KEPT=3",
		"STAFFELN_OVERRIDE_MIN_RETENTION=1h", "STAFFELN_OVERRIDE_MAX_PERIOD=24h"}})
	c.quiet()
	c.set("web-1", "backup=yes", "backup-retention=1h", "backup-schedule=2h")
	c.set("db-1", "backup=yes", "backup-retention=1min", "backup-schedule=300d")
	c.pass(12*time.Hour, 10*time.Minute)
	if n := c.restorePoints("web-1-data"); n != 3 {
		t.Errorf("%d restore points of a server with overrides, want the newest three", n)
	}
	if n := c.restorePoints("db-1-data"); n < 12 {
		t.Errorf("%d restore points of one whose overrides were refused", n)
	}
	for _, b := range c.backupsOf("db-1-data") {
		if got := b.Metadata[backup.MetaRetention] + " " + b.Metadata[backup.MetaRules]; got != "30d none" {
			t.Errorf("made under %s", got)
		}
	}
}

// A deleted server is deleted, whatever its class.
func TestALockedServerIsDeleted(t *testing.T) {
	c := gold(t)
	c.Cloud.DeleteServer(c.Seeded.Servers["web-1"])
	c.pass(24*time.Hour, 20*time.Minute)
	c.want("after it was deleted", c.backups("web-1-data"), "full available")
}

// Killed at any step of telling, and tried again by another process, the letter is the
// very same one, and is not lost.
func TestKilledWhileAnAttemptIsTold(t *testing.T) {
	for _, deaf := range []bool{false, true} {
		steps := 0
		for n := 0; ; n += stride() {
			c := gold(t)
			c.set("web-1", "backup=no")
			c.Jump(c.Now().Add(time.Minute))
			c.check(c.Hear(c.ctx))
			c.Kill(n, deaf)
			before := c.Effects()
			c.report()
			lived := c.Effects() - before
			c.Restart()
			c.pass(30*time.Minute, time.Minute)
			for _, who := range []string{"owner@example.org", "ops@example.org"} {
				if got := c.alarms(who); len(got) != 1 {
					t.Errorf("%s has %d letters, want one", who, len(got))
				}
			}
			if again := len(c.box.Handed()) - len(c.box.Letters()); again > 1 {
				t.Errorf("%d letters came again", again)
			}
			c.Close()
			if t.Failed() {
				t.Fatalf("killed after %d calls (answer lost: %v)", n, deaf)
			}
			if steps++; lived < n {
				break
			}
		}
		t.Logf("killed at %d steps", steps)
	}
}
