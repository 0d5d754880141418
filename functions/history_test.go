package functions_test

import (
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"staffeln/functions"
	"staffeln/functions/backup"
	"staffeln/testutil/services"
	"staffeln/testutil/simcloud"
	"staffeln/testutil/world"
)

var sunday = time.Date(2026, 11, 22, 10, 0, 0, 0, time.UTC)

// A tale is a world and the means to tell what happened in it.
type tale struct {
	*testing.T
	*world.World
	ctx context.Context
	// emptied is how often Redis lost everything, or somebody opted out: that a slot
	// has failed is known to nobody else.
	emptied int
	said    *lines
	// box is where letters end, where there are any.
	box *world.Mailbox
	// removing checks every removal against what the rules say of the truth.
	removing *witness
}

func tell(t *testing.T, o world.Options) *tale {
	t.Helper()
	if o.Start.IsZero() {
		o.Start = sunday
	}
	if !slices.ContainsFunc(o.Environ, func(s string) bool { return strings.HasPrefix(s, "STAFFELN_REDIS_URL=") }) {
		o.Environ = append(slices.Clone(o.Environ), "STAFFELN_REDIS_URL="+services.RedisURL(t))
	}
	s := &tale{T: t, ctx: t.Context(), said: &lines{}, box: o.Mail}
	s.removing = &witness{tale: s}
	o.Log = slog.New(slog.NewTextHandler(s.said, nil))
	o.Wrap = func(c functions.Cloud) functions.Cloud { s.removing.Cloud = c; return s.removing }
	if o.Cloud.BackupTime == nil {
		o.Cloud.BackupTime = func(simcloud.Volume, bool) time.Duration { return 3 * time.Minute }
	}
	w, err := world.New(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(w.Close)
	s.World = w
	return s
}

// quiet opts everybody out, so that a tale begins with nobody protected.
func (s *tale) quiet() *tale {
	for _, id := range s.Seeded.Servers {
		s.Cloud.SetServerMetadata(id, map[string]string{})
	}
	return s
}

func (s *tale) check(err error) {
	s.Helper()
	if err != nil {
		s.Fatal(err)
	}
}

func (s *tale) step(d time.Duration)       { s.Helper(); s.check(s.Step(s.ctx, d)) }
func (s *tale) pass(d, step time.Duration) { s.Helper(); s.check(s.Pass(s.ctx, d, step)) }

func (s *tale) empty() { s.Helper(); s.emptied++; s.check(s.Empty(s.ctx)) }

func (s *tale) optIn(server string) {
	s.Cloud.SetServerMetadata(s.Seeded.Servers[server], map[string]string{"backup": "yes"})
}

// backups tells a volume's backups, oldest first: "full available", "incremental
// creating".
func (s *tale) backups(volume string) (out []string) {
	for _, b := range s.backupsOf(volume) {
		kind := "full"
		if b.Parent != "" {
			kind = "incremental"
		}
		out = append(out, kind+" "+b.Status)
	}
	return out
}

func (s *tale) backupsOf(volume string) (out []simcloud.Backup) {
	for _, b := range s.Cloud.Backups() {
		if b.Volume == s.Seeded.Volumes[volume] {
			out = append(out, b)
		}
	}
	return out
}

func (s *tale) want(what string, got []string, want ...string) {
	s.Helper()
	if !slices.Equal(got, want) {
		s.Errorf("%s at %s:\n got %q\nwant %q", what, s.Now().Format(time.RFC3339), got, want)
	}
}

// failures tells a project's failed runs: "web-1-data: reason".
func (s *tale) failures(project string) (out []string) {
	s.Helper()
	runs, err := s.Home.Ledger.Finished(s.ctx, s.Seeded.Projects[project], 1000)
	s.check(err)
	for _, r := range runs {
		if r.State == backup.Failed {
			out = append(out, r.VolumeName+": "+r.Why)
		}
	}
	slices.Sort(out)
	return out
}

func (s *tale) posts() int { return s.Cloud.Calls()["POST /volume/backups"] }

// once checks I1: no slot has two backups, but for a broken one that was removed
// before the second attempt.
func (s *tale) once() {
	s.Helper()
	for run, same := range s.Cloud.Duplicates(backup.MetaRun) {
		good, unserved := 0, 0
		for _, b := range same {
			switch {
			case strings.Contains(b.FailReason, "Service not found"):
				unserved++ // taken by nobody, and not an attempt
			case b.FailReason == "":
				good++
			}
		}
		if good > 1 || len(same)-unserved > 2*(1+s.emptied) {
			var each []string
			for _, b := range same {
				each = append(each, fmt.Sprintf("%s attempt %s %s %q", b.Created.Format("15:04:05"), b.Metadata[backup.MetaAttempt], b.Status, b.FailReason))
			}
			s.Fatalf("%s has %d backups:\n%s", run, len(same), strings.Join(each, "\n"))
		}
	}
}

// services lets every cinder-backup service go down or come up.
func (s *tale) services(up bool) { s.Cloud.SetBackupService("", up) }

// manual makes a full backup of the tenant's own; a volume that is busy has none.
func (s *tale) manual(volume string) {
	_, err := s.Home.Cloud.CreateBackup(s.ctx, s.Seeded.Projects["alpha"], backup.Request{Volume: s.Seeded.Volumes[volume], Name: "manual"})
	if err != nil && backup.FaultOf(err) != backup.Busy {
		s.check(err)
	}
}

func TestFromOptingInToTheSecondSlot(t *testing.T) {
	s := tell(t, world.Options{}).quiet()
	s.step(5 * time.Second)
	s.optIn("db-1")
	s.step(5 * time.Second)
	s.want("five seconds after opting in", s.backups("db-1-data"), "full creating")
	s.want("the skipped volume", s.backups("db-1-scratch"))

	b := s.backupsOf("db-1-data")[0]
	if b.Project != s.Seeded.Projects["alpha"] {
		t.Errorf("the backup belongs to project %s, not to the tenant's", b.Project)
	}
	if want := "db-1-data-20261122T100010Z"; b.Name != want {
		t.Errorf("named %q, want %q", b.Name, want)
	}
	volume, server := s.Seeded.Volumes["db-1-data"], s.Seeded.Servers["db-1"]
	for key, want := range map[string]string{
		backup.MetaAutomated: "True", backup.MetaRun: volume + "@20261122T000000Z", backup.MetaAttempt: "1",
		backup.MetaServer: server, backup.MetaServerName: "db-1", backup.MetaClass: "default",
		backup.MetaRetention: "30d", backup.MetaKind: "full", backup.MetaKeepUntil: "2026-12-22T10:00:10Z",
	} {
		if got := b.Metadata[key]; got != want {
			t.Errorf("metadata %s is %q, want %q", key, got, want)
		}
	}

	s.pass(4*time.Minute, 5*time.Second)
	s.want("four minutes later", s.backups("db-1-data"), "full available")
	sv, _ := s.Cloud.Server(server)
	if got, want := sv.Metadata["last-backup-time"], "2026-11-22T10:00:10Z"; got != want {
		t.Errorf("last-backup-time is %q, want %q", got, want)
	}
	s.pass(14*time.Hour+5*time.Minute, 5*time.Minute)
	s.want("after midnight", s.backups("db-1-data"), "full available", "incremental available")
	s.pass(24*time.Hour+10*time.Minute, 10*time.Minute)
	s.want("a day later", s.backups("db-1-data"), "full available", "incremental available", "incremental available")
	s.want("failures", s.failures("alpha"))
	s.once()
}

func TestAServerTagOptsIn(t *testing.T) {
	s := tell(t, world.Options{Environ: []string{"STAFFELN_CLASS_GOLD_PERIOD=1h"}}).quiet()
	s.step(5 * time.Second)
	s.Cloud.SetServerTags(s.Seeded.Servers["web-1"], "backup:gold", "other")
	s.step(5 * time.Second)
	s.want("at once", s.backups("web-1-data"), "full creating")
	s.pass(time.Hour+5*time.Minute, time.Minute)
	s.want("an hour later", s.backups("web-1-data"), "full available", "incremental available")
	s.Cloud.SetServerTags(s.Seeded.Servers["web-1"], "other")
	s.pass(3*time.Hour, time.Minute)
	s.want("after the tag is gone", s.backups("web-1-data"), "full available", "incremental available")
}

func TestAVolumeAttachedLaterIsBackedUp(t *testing.T) {
	s := tell(t, world.Options{}).quiet()
	s.optIn("web-1")
	s.pass(10*time.Minute, 5*time.Second)
	v := s.Cloud.AddVolume(s.Seeded.Projects["alpha"], "later", 3, nil)
	s.Seeded.Volumes["later"] = v
	s.Cloud.Attach(s.Seeded.Servers["web-1"], v)
	s.step(5 * time.Second)
	s.want("at once", s.backups("later"), "full creating")
	s.Cloud.Detach(s.Seeded.Servers["web-1"], v)
	s.pass(48*time.Hour, 10*time.Minute)
	s.want("after it was detached", s.backups("later"), "full available")
	if got := len(s.backups("web-1-data")); got != 3 {
		t.Errorf("the volume that stayed has %d backups, want 3", got)
	}
}

func TestLiftingTheSkipKeyIsSeenByReconcile(t *testing.T) {
	s := tell(t, world.Options{}).quiet()
	s.optIn("db-1")
	s.pass(30*time.Minute, time.Minute)
	s.want("skipped", s.backups("db-1-scratch"))
	s.Cloud.SetVolumeMetadata(s.Seeded.Volumes["db-1-scratch"], nil) // Cinder tells nobody
	s.pass(15*time.Minute, time.Minute)
	s.want("one reconcile period later", s.backups("db-1-scratch"), "full available")
}

func TestOverQuota(t *testing.T) {
	s := tell(t, world.Options{Environ: []string{"STAFFELN_BACKUP_PERIOD=1h"}})
	s.pass(30*time.Minute, 5*time.Second)
	s.want("gamma's failures", s.failures("gamma"), failure("erp-*: quota exceeded: 2 of 2 backups", s.failures("gamma"), 2)...)
	if got := len(s.gamma()); got != 2 {
		t.Errorf("gamma has %d backups, want its quota of 2", got)
	}
	for _, v := range []string{"web-1-data", "app-1-logs", "mail-1-data"} {
		s.want("the others go on: "+v, s.backups(v), "full available")
	}
	s.Cloud.Reset()
	s.pass(20*time.Minute, 5*time.Second)
	if n := s.posts(); n != 0 {
		t.Errorf("%d requests for backups within the slot, want none", n)
	}
}

func (s *tale) gamma() (out []simcloud.Backup) {
	for _, b := range s.Cloud.Backups() {
		if b.Project == s.Seeded.Projects["gamma"] {
			out = append(out, b)
		}
	}
	return out
}

// failure stands for n failures of which only the reason is known, since any of a
// project's volumes can be the ones that find no room.
func failure(like string, got []string, n int) (out []string) {
	_, reason, _ := strings.Cut(like, "*")
	for _, g := range got {
		_, why, _ := strings.Cut(g, ":")
		if ":"+why == reason {
			out = append(out, g)
		}
	}
	for len(out) < n {
		out = append(out, like)
	}
	return out[:n]
}

func TestARaceForTheQuotaEndsWithCindersReason(t *testing.T) {
	s := tell(t, world.Options{}).quiet()
	s.Cloud.SetInject(func(r *http.Request, op string) *simcloud.Fault {
		if op == "POST /volume/backups" {
			return simcloud.Refused(413, "BackupLimitExceeded: Maximum number of backups allowed (10) exceeded")
		}
		return nil
	})
	s.optIn("web-1")
	s.pass(6*time.Hour, time.Minute)
	s.want("alpha's failures", s.failures("alpha"),
		"web-1-data: quota exceeded: BackupLimitExceeded: Maximum number of backups allowed (10) exceeded")
	if n := s.posts(); n != 1 {
		t.Errorf("asked %d times, want once", n)
	}
}

func TestAFailedBackupIsTriedOnceMoreAsFull(t *testing.T) {
	s := tell(t, world.Options{}).quiet()
	s.optIn("web-1")
	s.pass(15*time.Hour, 5*time.Minute)
	s.want("two slots", s.backups("web-1-data"), "full available", "incremental available")
	s.Cloud.FailNextBackup(s.Seeded.Volumes["web-1-data"], "rados: timed out")
	s.pass(24*time.Hour, 5*time.Minute)
	s.want("the slot after", s.backups("web-1-data"),
		"full available", "incremental available", "incremental deleted", "full available")
	s.want("failures", s.failures("alpha"))
	for range 2 {
		s.Cloud.FailNextBackup(s.Seeded.Volumes["web-1-data"], "rados: timed out")
	}
	s.pass(24*time.Hour, 5*time.Minute)
	s.want("twice in a slot", s.backups("web-1-data"),
		"full available", "incremental available", "incremental deleted", "full available", "incremental deleted", "full deleted")
	s.want("failures", s.failures("alpha"), "web-1-data: cinder: rados: timed out")
	s.pass(24*time.Hour, 5*time.Minute)
	if got := s.backups("web-1-data"); got[len(got)-1] != "incremental available" {
		t.Errorf("the slot after is %q, want an incremental on the last good one", got)
	}
	s.once()
}

func TestWithoutNotificationsItComesAReconcileLater(t *testing.T) {
	s := tell(t, world.Options{Deaf: true}).quiet()
	s.step(5 * time.Second)
	s.optIn("web-1")
	s.pass(10*time.Minute+5*time.Second, 5*time.Second)
	s.want("ten minutes later", s.backups("web-1-data"), "full creating")
	s.pass(5*time.Minute, 5*time.Second)
	s.want("and done", s.backups("web-1-data"), "full available")
	sv, _ := s.Cloud.Server(s.Seeded.Servers["web-1"])
	if sv.Metadata["last-backup-time"] == "" {
		t.Error("no last-backup-time")
	}
}

func TestRedisEmptiedInTheMiddle(t *testing.T) {
	s := tell(t, world.Options{})
	s.pass(time.Minute, 5*time.Second)
	before := len(s.Cloud.Backups())
	if before == 0 {
		t.Fatal("nothing had begun")
	}
	s.empty()
	s.pass(time.Hour, 5*time.Second)
	s.want("nothing is made twice", s.backups("web-1-data"), "full available")
	s.once()
	s.pass(16*time.Hour, time.Minute)
	s.want("and the next slot comes", s.backups("web-1-data"), "full available", "incremental available")
	s.want("nothing failed", s.failures("alpha"))
	sv, _ := s.Cloud.Server(s.Seeded.Servers["web-1"])
	if sv.Metadata["last-backup-time"] == "" {
		t.Error("no last-backup-time")
	}
}

func TestAnAnswerLostAfterAcceptance(t *testing.T) {
	for name, fault := range map[string]*simcloud.Fault{
		"connection cut": simcloud.Lost(), "500 from a proxy": {Status: 500}, "HTML instead of JSON": {Body: "<html>", Status: 502},
		"a body cut short": simcloud.Truncated(), "nothing at all": simcloud.Emptied(), "accepted a minute later": simcloud.Later(time.Minute),
	} {
		t.Run(name, func(t *testing.T) {
			s := tell(t, world.Options{}).quiet()
			var done atomic.Bool
			s.Cloud.SetInject(func(r *http.Request, op string) *simcloud.Fault {
				if op == "POST /volume/backups" && done.CompareAndSwap(false, true) {
					return fault
				}
				return nil
			})
			s.optIn("web-1")
			s.pass(time.Hour, 5*time.Second)
			s.want("backups", s.backups("web-1-data"), "full available")
			s.want("failures", s.failures("alpha"))
		})
	}
}

func TestARequestThatNeverArrivedIsMadeAgain(t *testing.T) {
	s := tell(t, world.Options{}).quiet()
	var n atomic.Int32
	s.Cloud.SetInject(func(r *http.Request, op string) *simcloud.Fault {
		if op == "POST /volume/backups" && n.Add(1) <= 2 {
			return simcloud.Unheard()
		}
		return nil
	})
	s.optIn("web-1")
	s.pass(time.Hour, 5*time.Second)
	s.want("backups", s.backups("web-1-data"), "full available")
}

func TestNoBackupServiceUp(t *testing.T) {
	for _, user := range []string{"backup-svc", "backup-min"} {
		t.Run(user, func(t *testing.T) {
			s := tell(t, world.Options{User: user}).quiet()
			s.step(5 * time.Second)
			s.services(false)
			s.optIn("web-1")
			s.optIn("app-1")
			s.pass(2*time.Hour, 5*time.Second)
			s.want("alpha's failures", s.failures("alpha"))
			s.want("beta's failures", s.failures("beta"))
			if n := s.posts(); n > 3 {
				t.Errorf("asked %d times while no service was up", n)
			}
			s.services(true)
			s.pass(30*time.Minute, 5*time.Second)
			for _, v := range []string{"web-1-data", "app-1-data", "app-1-logs"} {
				if got := s.backups(v); len(got) == 0 || got[len(got)-1] != "full available" {
					t.Errorf("%s after the service came back: %q", v, got)
				}
			}
			s.once()
		})
	}
}

func TestALockedServerGetsItsTimeLater(t *testing.T) {
	s := tell(t, world.Options{}).quiet()
	s.optIn("web-1")
	s.step(5 * time.Second)
	s.Cloud.SetServerLocked(s.Seeded.Servers["web-1"], true)
	s.pass(30*time.Minute, 5*time.Second)
	s.want("the backup is none the worse", s.backups("web-1-data"), "full available")
	s.Cloud.SetServerLocked(s.Seeded.Servers["web-1"], false)
	s.pass(time.Hour, time.Minute)
	sv, _ := s.Cloud.Server(s.Seeded.Servers["web-1"])
	if sv.Metadata["last-backup-time"] == "" {
		t.Error("no last-backup-time after it was unlocked")
	}
	s.want("and no further backup", s.backups("web-1-data"), "full available")
}

func TestAShortListIsNoDeletion(t *testing.T) {
	s := tell(t, world.Options{Deaf: true})
	s.pass(20*time.Minute, time.Minute)
	s.Cloud.SetInject(func(r *http.Request, op string) *simcloud.Fault {
		if op == "GET /compute/servers/detail" {
			return simcloud.Short(100)
		}
		return nil
	})
	s.pass(48*time.Hour, 10*time.Minute)
	if got := len(s.backups("web-1-data")); got != 3 {
		t.Errorf("%d backups while Nova's list was empty, want 3", got)
	}
	s.Cloud.SetInject(nil)
	s.Cloud.DeleteServer(s.Seeded.Servers["web-1"])
	s.pass(48*time.Hour, 10*time.Minute)
	if got := len(s.backups("web-1-data")); got != 3 {
		t.Errorf("%d backups after the server was deleted, want the 3 there were", got)
	}
}

func TestLimits(t *testing.T) {
	t.Run("no more under way than allowed, and every project has its share", func(t *testing.T) {
		s := tell(t, world.Options{Environ: []string{"STAFFELN_MAX_RUNNING=2"}})
		most := 0
		for range 300 {
			s.step(5 * time.Second)
			running, projects := 0, map[string]bool{}
			for _, b := range s.Cloud.Backups() {
				if b.Status == "creating" {
					running++
					projects[b.Project] = true
				}
			}
			most = max(most, running)
			if running > 2 || running == 2 && len(projects) < 2 && s.Now().Before(sunday.Add(6*time.Minute)) {
				t.Fatalf("%d under way in %d projects", running, len(projects))
			}
		}
		if most != 2 {
			t.Errorf("at most %d under way, want 2", most)
		}
		s.want("in the end all are done", s.backups("mail-1-data"), "full available")
	})
	t.Run("the oldest volumes are within the volume limit", func(t *testing.T) {
		s := tell(t, world.Options{Environ: []string{"STAFFELN_VOLUME_LIMITS=beta=2"}})
		s.pass(30*time.Minute, 10*time.Second)
		s.want("beta's failures", s.failures("beta"),
			"app-2-data: volume limit exceeded: 4 of 2 volumes", "mail-1-data: volume limit exceeded: 4 of 2 volumes")
	})
	t.Run("nothing starts in a blackout", func(t *testing.T) {
		s := tell(t, world.Options{Environ: []string{"STAFFELN_BLACKOUT=09:00-11:00"}})
		s.pass(59*time.Minute, time.Minute)
		if n := len(s.Cloud.Backups()); n != 0 {
			t.Fatalf("%d backups in the blackout", n)
		}
		s.pass(10*time.Minute, time.Minute)
		s.want("after it", s.backups("web-1-data"), "full available")
	})
}

func TestAVolumeThatCannotBeBackedUp(t *testing.T) {
	s := tell(t, world.Options{Environ: []string{"STAFFELN_BACKUP_PERIOD=2h"}}).quiet()
	s.Cloud.SetVolumeStatus(s.Seeded.Volumes["web-1-data"], "error")
	s.optIn("web-1")
	s.pass(110*time.Minute, time.Minute)
	s.want("within the slot it is waited for", s.failures("alpha"))
	s.pass(20*time.Minute, time.Minute)
	s.want("at its end it is a failure", s.failures("alpha"), "web-1-data: could not start within its slot: volume is error")
	s.Cloud.SetVolumeStatus(s.Seeded.Volumes["web-1-data"], "in-use")
	s.pass(30*time.Minute, time.Minute)
	s.want("and when it can be", s.backups("web-1-data"), "full available")
}

func TestABackupThatDoesNotEnd(t *testing.T) {
	slow := 3 * time.Hour
	s := tell(t, world.Options{Cloud: simcloud.Options{BackupTime: func(simcloud.Volume, bool) time.Duration { return slow }}}).quiet()
	s.optIn("web-1")
	s.pass(70*time.Minute, time.Minute)
	s.want("given up on after an hour and a minute", s.failures("alpha"),
		"web-1-data: not complete within 1h1m0s (Cinder says creating)")
	s.pass(3*time.Hour, time.Minute)
	s.want("it ends all the same", s.backups("web-1-data"), "full available")
	sv, _ := s.Cloud.Server(s.Seeded.Servers["web-1"])
	if sv.Metadata["last-backup-time"] == "" {
		t.Error("no last-backup-time for the late backup")
	}
	s.pass(14*time.Hour, 10*time.Minute)
	if got := s.backups("web-1-data"); len(got) != 2 || !strings.HasPrefix(got[1], "incremental") {
		t.Errorf("then %q, want an incremental on it", got)
	}
}

func TestTheTenantsOwnBackups(t *testing.T) {
	s := tell(t, world.Options{Environ: []string{"STAFFELN_BACKUP_PERIOD=1h"}}).quiet()
	s.optIn("web-1")
	s.pass(66*time.Minute, time.Minute)
	s.want("a chain", s.backups("web-1-data"), "full available", "incremental available")
	s.manual("web-1-data")
	s.pass(time.Hour, time.Minute)
	got := s.backups("web-1-data")
	if len(got) != 4 || got[3] != "full available" {
		t.Errorf("after a manual backup: %q, want a full one of ours at the end", got)
	}
}

func TestEveryHistoryCostsLittle(t *testing.T) {
	few, many := 20, 200
	if testing.Short() {
		few, many = 5, 40
	}
	per := map[int]float64{}
	redis := services.RedisServer(t)
	for _, projects := range []int{few, many} {
		redis.FlushAll()
		s := tell(t, world.Options{
			Environ: []string{"STAFFELN_REDIS_URL=" + redis.URL(), "STAFFELN_BACKUP_PERIOD=24h", "STAFFELN_RECONCILE_PERIOD=24h", "STAFFELN_BACKUPS_PERIOD=24h", "STAFFELN_MAX_RUNNING=5000",
				// Every backup takes the place of one that goes.
				"STAFFELN_FULL_BACKUP_DEPTH=0", "STAFFELN_RETENTION_TIME=13h"},
			Cloud: simcloud.Options{Workers: -1, DeleteTime: 10 * time.Second, Quota: &simcloud.Quota{Volumes: -1, Gigabytes: -1, Backups: -1, BackupGigabytes: -1}},
		}).quiet()
		for p := range projects {
			id := s.Cloud.AddProject(fmt.Sprintf("p%03d", p))
			for v := range 5 {
				s.Cloud.AddServer(id, fmt.Sprintf("s%d", v), map[string]string{"backup": "yes"},
					s.Cloud.AddVolume(id, fmt.Sprintf("a%d", v), 1, nil), s.Cloud.AddVolume(id, fmt.Sprintf("b%d", v), 1, nil))
			}
		}
		s.pass(20*time.Minute, 20*time.Second)
		volumes := projects * 10
		if got := len(s.Cloud.Backups()); got != volumes {
			t.Fatalf("%d first backups, want %d", got, volumes)
		}
		s.pass(sunday.Add(14*time.Hour-time.Minute).Sub(s.Now()), time.Hour)
		s.Cloud.Reset()
		s.pass(20*time.Minute, 20*time.Second)
		shared, own := 0, 0
		for op, n := range s.Cloud.Calls() {
			switch op {
			case "POST /volume/backups", "PUT /compute/servers/ID/metadata/KEY", "DELETE /volume/backups/ID":
				own += n
			default:
				shared += n
			}
			t.Logf("%d projects: %-50s %d", projects, op, n)
		}
		if got := len(s.Cloud.Backups()); got != 2*volumes {
			t.Fatalf("%d backups after the second slot, want %d", got, 2*volumes)
		}
		if got := s.deletes(); got != volumes {
			t.Errorf("%d backups were to be deleted, want %d", got, volumes)
		}
		if own > 3*volumes {
			t.Errorf("%d calls for %d backups, want three each at most: made, told, removed", own, volumes)
		}
		per[projects] = float64(own+shared) / float64(volumes)
		t.Logf("%d volumes: %.2f calls per backup in all, %.2f of its own", volumes, per[projects], float64(own)/float64(volumes))
	}
	if per[many] > 6 {
		t.Errorf("%.2f calls per backup in all, want 6 at most", per[many])
	}
	if per[many] > per[few]*1.1 {
		t.Errorf("%.2f calls per backup with %d projects, %.2f with %d: not linear", per[many], many, per[few], few)
	}
}

func TestProjectsThatAreNotOursToLookAt(t *testing.T) {
	for _, tc := range []struct {
		name, user string
		environ    []string
	}{
		{"the service user has no role there", "backup-min", nil},
		{"the operator left it out", "backup-svc", []string{"STAFFELN_EXCLUDE_PROJECTS=theirs"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			s := tell(t, world.Options{User: tc.user, Environ: tc.environ}).quiet()
			project := s.Cloud.AddProjectIn(s.Cloud.AddDomain("elsewhere"), "theirs")
			s.step(5 * time.Second)
			server := s.Cloud.AddServer(project, "x", nil, s.Cloud.AddVolume(project, "x-data", 1, nil))
			s.Cloud.SetServerMetadata(server, map[string]string{"backup": "yes"})
			s.pass(30*time.Minute, time.Minute)
			if n := len(s.Cloud.Backups()); n != 0 {
				t.Errorf("%d backups", n)
			}
			if n := len(s.Errors); n != 0 {
				t.Errorf("%d events were not taken, the first: %v", n, s.Errors[0])
			}
		})
	}
}

func TestASlotThatNoServiceTookIsTold(t *testing.T) {
	s := tell(t, world.Options{User: "backup-min", Environ: []string{"STAFFELN_BACKUP_PERIOD=2h"}}).quiet()
	s.step(5 * time.Second)
	s.services(false)
	s.optIn("web-1")
	s.pass(130*time.Minute, time.Minute)
	s.want("alpha's failures", s.failures("alpha"),
		"web-1-data: could not start within its slot: until backup "+s.backupsOf("web-1-data")[0].ID+" is removed, which no cinder-backup service took")
	if n := len(s.Cloud.Backups()); n > 1 {
		t.Errorf("%d broken backups fill the owner's quota, want one at most", n)
	}
}

func TestAStampLostWithRedisIsWrittenAllTheSame(t *testing.T) {
	s := tell(t, world.Options{}).quiet()
	s.optIn("web-1")
	s.Cloud.SetInject(func(_ *http.Request, op string) *simcloud.Fault {
		if op == "PUT /compute/servers/ID/metadata/KEY" {
			return simcloud.Refused(409, "Cannot 'update_server_metadata' instance while it is in task_state rebooting")
		}
		return nil
	})
	s.pass(10*time.Minute, 10*time.Second)
	s.want("the backup", s.backups("web-1-data"), "full available")
	s.empty()
	s.Cloud.SetInject(nil)
	s.pass(5*time.Minute, 10*time.Second)
	sv, _ := s.Cloud.Server(s.Seeded.Servers["web-1"])
	if got, want := sv.Metadata["last-backup-time"], s.backupsOf("web-1-data")[0].Created.Format(time.RFC3339); got != want {
		t.Errorf("last-backup-time is %q, want %q", got, want)
	}
}

func TestAReconcileAskedForDuringOneIsNotLost(t *testing.T) {
	s := tell(t, world.Options{Deaf: true}).quiet()
	var once atomic.Bool
	s.Cloud.SetInject(func(_ *http.Request, op string) *simcloud.Fault {
		if op == "GET /volume/volumes/detail" && once.CompareAndSwap(false, true) {
			// The servers have been listed: what happens now is not in this pass.
			s.optIn("web-1")
			s.check(s.Home.Ledger.AskReconcile(s.ctx))
		}
		return nil
	})
	s.pass(30*time.Second, 5*time.Second)
	s.want("half a minute later, a period being ten", s.backups("web-1-data"), "full creating")
}

func TestASecondAttemptThatCouldNotStartIsAFailureAndNoMore(t *testing.T) {
	s := tell(t, world.Options{Environ: []string{"STAFFELN_BACKUP_PERIOD=2h"}}).quiet()
	s.Cloud.FailNextBackup(s.Seeded.Volumes["web-1-data"], "rados: timed out")
	s.optIn("web-1")
	s.step(5 * time.Second)
	s.step(5 * time.Second)
	s.want("the first attempt", s.backups("web-1-data"), "full creating")
	s.Cloud.SetInject(func(_ *http.Request, op string) *simcloud.Fault {
		if op == "POST /volume/backups" {
			return simcloud.Refused(400, `Invalid volume: Volume to be backed up must be available or in-use, but the current status is "maintenance".`)
		}
		return nil
	})
	s.pass(2*time.Hour, time.Minute)
	s.Cloud.SetInject(nil)
	s.pass(30*time.Minute, time.Minute)
	if got := s.failures("alpha"); len(got) != 1 || !strings.Contains(got[0], "could not start within its slot") {
		t.Errorf("failures: %q, want the slot that was lost", got)
	}
	s.want("the next slot", s.backups("web-1-data"), "full deleted", "full available")
}

func TestAClockThatJumps(t *testing.T) {
	for name, jump := range map[string]time.Duration{"a year ahead and back": 365 * 24 * time.Hour, "a year back and ahead": -365 * 24 * time.Hour} {
		t.Run(name, func(t *testing.T) {
			s := tell(t, world.Options{}).quiet()
			s.optIn("web-1")
			s.pass(15*time.Minute, time.Minute)
			s.want("before", s.backups("web-1-data"), "full available")
			there := s.Now()
			s.Jump(there.Add(jump))
			s.pass(15*time.Minute, time.Minute)
			s.Jump(there.Add(15 * time.Minute))
			s.pass(15*time.Minute, time.Minute)
			during := len(s.backups("web-1-data"))
			if during > 2 {
				t.Errorf("%d backups after the jumps: %q", during, s.backups("web-1-data"))
			}
			s.pass(15*time.Hour, 10*time.Minute)
			if got := len(s.backups("web-1-data")); got != during+1 {
				t.Errorf("%d backups after the next slot, want one more than %d", got, during)
			}
			s.pass(24*time.Hour, 10*time.Minute)
			if got := len(s.backups("web-1-data")); got != during+2 {
				t.Errorf("%d backups after the slot after that, want two more than %d", got, during)
			}
			s.want("failures", s.failures("alpha"))
			s.once()
		})
	}
}

func TestAShortListOfBackupsAfterOptingInAnew(t *testing.T) {
	s := tell(t, world.Options{}).quiet()
	s.optIn("web-1")
	s.pass(10*time.Minute, 30*time.Second)
	s.want("before", s.backups("web-1-data"), "full available")
	s.Cloud.SetServerMetadata(s.Seeded.Servers["web-1"], map[string]string{})
	s.pass(time.Minute, 10*time.Second)
	s.Cloud.SetInject(func(_ *http.Request, op string) *simcloud.Fault {
		if op == "GET /volume/backups/detail" {
			return simcloud.Short(10)
		}
		return nil
	})
	s.optIn("web-1")
	s.pass(10*time.Minute, 30*time.Second)
	s.want("the slot has its backup already", s.backups("web-1-data"), "full available")
}
