package functions_test

import (
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"staffeln/functions/backup"
	"staffeln/functions/keep"
	"staffeln/testutil/simcloud"
	"staffeln/testutil/world"
)

// hours is a policy of hours: chains of a full and two incrementals, each kept for
// six hours, so that every three hours a whole chain goes.
func hours(more ...string) []string {
	return append([]string{"STAFFELN_BACKUP_PERIOD=1h", "STAFFELN_FULL_BACKUP_DEPTH=2", "STAFFELN_RETENTION_TIME=6h"}, more...)
}

// short tells a volume's backups as one letter each, oldest first: F and I for full
// and incremental ones that are available, f and i for deleted ones, with the status
// behind any other.
func (s *tale) short(volume string) string {
	var out []string
	for _, b := range s.backupsOf(volume) {
		kind := "F"
		if b.Parent != "" {
			kind = "I"
		}
		switch {
		case b.Metadata[backup.MetaRun] == "":
			kind = "M" + strings.ToLower(kind)
		case b.Status == "deleted":
			kind = strings.ToLower(kind)
		}
		if b.Status != "available" && b.Status != "deleted" || b.Status == "deleted" && b.Metadata[backup.MetaRun] == "" {
			kind += ":" + b.Status
		}
		out = append(out, kind)
	}
	return strings.Join(out, " ")
}

func (s *tale) wantShort(what, volume, want string) {
	s.Helper()
	if got := s.short(volume); got != want {
		s.Errorf("%s, at %s:\n got %s\nwant %s", what, s.Now().Format("Mon 15:04:05"), got, want)
	}
}

func (s *tale) deletes() int { return len(s.removing.asked) }

func TestAPolicyOfHoursRemovesWholeChains(t *testing.T) {
	for name, o := range map[string]world.Options{
		"told by notifications":              {},
		"without notifications":              {Deaf: true},
		"while Cinder takes its time":        {Cloud: simcloud.Options{DeleteTime: 40 * time.Second}},
		"and nobody tells":                   {Deaf: true, Cloud: simcloud.Options{DeleteTime: 40 * time.Second}},
		"with least rights":                  {User: "backup-min"},
		"with lists of two backups per page": {Cloud: simcloud.Options{PageLimit: 2}},
	} {
		t.Run(name, func(t *testing.T) {
			o.Environ = hours()
			s := tell(t, o).quiet()
			s.optIn("web-1")
			s.pass(8*time.Hour-time.Minute, time.Minute)
			s.wantShort("before the youngest of the first chain is six hours old", "web-1-data", "F I I F I I F I")
			s.pass(17*time.Minute, 20*time.Second)
			s.wantShort("and after", "web-1-data", "f i i F I I F I I")
			s.want("the leaf first", s.deleted("web-1-data"), "incremental 12:00", "incremental 11:00", "full 10:02")
			s.pass(9*time.Hour, time.Minute)
			s.wantShort("three chains later", "web-1-data", "f i i f i i f i i f i i F I I F I I")
			s.idle()
			s.points()
			s.once()
			if n := s.deletes(); n != 12 {
				t.Errorf("asked for the removal of 12 backups %d times", n)
			}
			if n := s.metric("removals_total", "removed"); n != 12 {
				t.Errorf("%v removals counted, want 12", n)
			}
			s.pass(7*time.Hour, time.Minute) // two sweeps of the backups
			if n := s.metric("backups_lost_total"); n != 0 {
				t.Errorf("%v backups of those that we removed are taken for lost", n)
			}
			if len(s.Errors) > 0 {
				t.Errorf("%d errors, the first: %v", len(s.Errors), s.Errors[0])
			}
		})
	}
}

// young is a tale of one volume, told up to a minute before its first chain of three
// may go.
func young(t *testing.T, o world.Options) *tale {
	t.Helper()
	o.Environ, o.Cloud.Quota = append(hours(), o.Environ...), &simcloud.Quota{Volumes: -1, Gigabytes: -1, Backups: -1, BackupGigabytes: -1}
	s := tell(t, o).quiet()
	s.optIn("web-1")
	s.pass(7*time.Hour+50*time.Minute, 5*time.Minute)
	s.pass(9*time.Minute, time.Minute)
	s.wantShort("to begin with", "web-1-data", "F I I F I I F I")
	return s
}

func TestAChainGoesInOnePassWhereCinderIsQuick(t *testing.T) {
	s := young(t, world.Options{Deaf: true})
	steps := 0
	for ; ; steps++ {
		s.step(5 * time.Second)
		if s.metric("removals_total", "removed") > 0 {
			break
		}
		if steps > 200 {
			t.Fatal("nothing was removed")
		}
	}
	s.wantShort("at once", "web-1-data", "f i i F I I F I I")
}

func TestTheTenantsOwnIncrementalOnOurChain(t *testing.T) {
	s := young(t, world.Options{})
	// The chain that is open now: F I, and what the tenant builds on it.
	_, err := s.Home.Cloud.CreateBackup(s.ctx, s.Seeded.Projects["alpha"],
		backup.Request{Volume: s.Seeded.Volumes["web-1-data"], Name: "mine", Incremental: true})
	s.check(err)
	s.pass(12*time.Hour, time.Minute)
	s.wantShort("what it builds on stays", "web-1-data", "f i i f i i F I Mi f i i f i i F I I F I I")
	if n := s.said.times("backup cannot be removed now", "which is not ours"); n != 1 {
		t.Errorf("told %d times, want once", n)
	}
	s.idleBut("web-1-data", 2)
	asked := s.deletes()
	s.pass(24*time.Hour, 5*time.Minute)
	if n := s.said.times("backup cannot be removed now"); n != 1 {
		t.Errorf("told %d times a day later, want once", n)
	}
	if got := s.deletes() - asked; got != 24 {
		t.Errorf("asked %d times in a day with 24 backups to remove", got)
	}
	for _, b := range s.backupsOf("web-1-data") {
		if b.Name == "mine" {
			s.check(s.Home.Cloud.DeleteBackup(s.ctx, b.Project, b.ID)) // as its owner
		}
	}
	s.pass(6*time.Hour+time.Minute, time.Minute)
	if got := s.short("web-1-data"); !strings.HasPrefix(got, "f i i f i i f i Mi:deleted f") {
		t.Errorf("after the tenant has deleted it, ours stay: %s", got)
	}
	s.idle()
	if n := s.metric("backups_lost_total"); n != 0 {
		t.Errorf("%v backups are taken for lost", n)
	}
}

// idleBut checks that nothing is left to be removed but n hostages of a volume.
func (s *tale) idleBut(volume string, n int) {
	s.Helper()
	for _, f := range keep.Decide(s.holding(s.Seeded.Volumes[volume]), s.Now().Add(-2*time.Minute)) {
		if f.Hostage {
			n--
		}
	}
	if n != 0 {
		s.Errorf("%d hostages less than there should be", n)
	}
	s.idle()
}

func TestWhatCannotBeDeleted(t *testing.T) {
	t.Run("error_deleting waits for an admin", func(t *testing.T) {
		s := young(t, world.Options{})
		leaf := s.backupsOf("web-1-data")[2].ID
		s.Cloud.SetBackupStatus(leaf, "error_deleting")
		s.pass(10*time.Hour, time.Minute)
		if got := s.short("web-1-data"); !strings.HasPrefix(got, "F I I:error_deleting f i i f i i") {
			t.Errorf("the chains after it do not go on: %s", got)
		}
		if n := s.said.times("backup cannot be removed now", "level=ERROR", "error_deleting"); n != 1 {
			t.Errorf("told %d times, want once", n)
		}
		if n := s.said.times("backup cannot be removed now"); n != 1 {
			t.Errorf("%d lines, want one for it and none for what it builds on", n)
		}
		if slices.Contains(s.removing.asked, leaf) {
			t.Error("Cinder was asked, which can only refuse")
		}
		s.Cloud.SetBackupStatus(leaf, "available")
		s.pass(6*time.Hour+time.Minute, time.Minute)
		if got := s.short("web-1-data"); !strings.HasPrefix(got, "f i i f i i") {
			t.Errorf("after an admin has reset it: %s", got)
		}
		s.idle()
	})
	t.Run("dependents that are only counted are tried", func(t *testing.T) {
		s := young(t, world.Options{})
		s.Cloud.DriftDependents(s.backupsOf("web-1-data")[2].ID, 1)
		s.pass(30*time.Minute, time.Minute)
		s.wantShort("the real Cinder looks for children", "web-1-data", "f i i F I I F I I")
		if n := s.said.times("backup cannot be removed now", "has_dependent_backups"); n != 1 {
			t.Errorf("told %d times, want once", n)
		}
		if n := s.deletes(); n != 3 {
			t.Errorf("asked %d times for three", n)
		}
	})
	t.Run("a refusal is told once and tried again less and less often", func(t *testing.T) {
		s := young(t, world.Options{Environ: []string{"STAFFELN_BRAKE_PERCENT=100"}}) // so much would be a matter for it
		s.Cloud.SetInject(func(_ *http.Request, op string) *simcloud.Fault {
			if op == "DELETE /volume/backups/ID" {
				return simcloud.Refused(403, "Policy doesn't allow backup:delete to be performed.")
			}
			return nil
		})
		s.pass(24*time.Hour, time.Minute)
		if got := s.short("web-1-data"); strings.Contains(got, "i") || strings.Contains(got, "f") {
			t.Errorf("removed all the same: %s", got)
		}
		leaves := 8 // of the chains that have grown too old in that day
		if n := s.said.times("backup cannot be removed now", "level=ERROR", "Policy doesn't allow"); n != leaves {
			t.Errorf("told %d times, want once for each of %d leaves", n, leaves)
		}
		if n := s.deletes(); n > leaves*12 {
			t.Errorf("asked %d times in a day", n)
		}
		s.Cloud.SetInject(nil)
		s.pass(6*time.Hour+time.Minute, time.Minute)
		s.idle()
	})
	t.Run("no cinder-backup service: everything waits", func(t *testing.T) {
		s := young(t, world.Options{})
		s.pass(3*time.Minute, time.Minute)
		s.services(false)
		s.pass(3*time.Hour, time.Minute)
		if got := s.short("web-1-data"); !strings.HasPrefix(got, "F I I F I I") {
			t.Errorf("without a service: %s", got)
		}
		if n := s.said.times("nothing is removed", "Service cinder-backup could not be found"); n != 1 {
			t.Errorf("told %d times, want once", n)
		}
		if n := s.deletes(); n > 3*60/5+2 {
			t.Errorf("asked %d times in three hours", n)
		}
		s.services(true)
		s.pass(4*time.Hour, time.Minute)
		s.idle()
	})
}

func TestBrokenBackupsGoAndTakeNothingWithThem(t *testing.T) {
	s := tell(t, world.Options{Environ: hours()}).quiet()
	s.optIn("web-1")
	for range 2 {
		s.pass(4*time.Hour, time.Minute)
		s.Cloud.FailNextBackup(s.Seeded.Volumes["web-1-data"], "rados: timed out")
		s.Cloud.FailNextBackup(s.Seeded.Volumes["web-1-data"], "rados: timed out")
	}
	s.pass(3*time.Hour, time.Minute)
	for _, b := range s.backupsOf("web-1-data") {
		if b.FailReason != "" && b.Status != "deleted" {
			t.Errorf("broken backup of %s is still there: %s", b.Created.Format(time.RFC3339), b.Status)
		}
	}
	s.want("both attempts were counted", s.failures("alpha"), "web-1-data: cinder: rados: timed out", "web-1-data: cinder: rados: timed out")
	s.once()
	s.idle()
	s.points()
}

func TestRedisEmptiedBeforeAndWhileAChainIsRemoved(t *testing.T) {
	end := func(empty func(*tale)) (string, []string) {
		s := young(t, world.Options{Cloud: simcloud.Options{DeleteTime: 40 * time.Second}})
		empty(s)
		s.pass(sunday.Add(17*time.Hour+45*time.Minute).Sub(s.Now()), time.Minute)
		s.idle()
		s.once()
		s.points()
		return s.short("web-1-data"), s.deleted("web-1-data")
	}
	never, order := end(func(*tale) {})
	for name, empty := range map[string]func(*tale){
		"before":           func(s *tale) { s.empty() },
		"as it is planned": func(s *tale) { s.pass(5*time.Minute, time.Minute); s.empty() },
		"while it is removed": func(s *tale) {
			for !strings.Contains(s.short("web-1-data"), "deleting") {
				s.step(10 * time.Second)
			}
			s.empty()
		},
		"and no reconcile ends for two hours": func(s *tale) {
			s.pass(time.Minute, time.Minute)
			s.empty()
			s.Cloud.SetInject(func(_ *http.Request, op string) *simcloud.Fault {
				if op == "GET /compute/servers/detail" {
					return simcloud.Page(503)
				}
				return nil
			})
			asked := s.deletes()
			s.pass(2*time.Hour, time.Minute)
			if s.deletes() != asked {
				t.Errorf("%d removals before the first reconcile", s.deletes()-asked)
			}
			s.Cloud.SetInject(nil)
		},
	} {
		t.Run(name, func(t *testing.T) {
			got, gone := end(empty)
			if name != "and no reconcile ends for two hours" && got != never {
				t.Errorf("\n got %s\nwant %s", got, never)
			}
			if len(gone) >= 3 && !slices.Equal(gone[:3], order[:3]) {
				t.Errorf("removed %q, want %q", gone, order)
			}
		})
	}
}

func TestNothingIsRemovedByAListThatCannotBeTrusted(t *testing.T) {
	for _, tc := range []struct {
		name, why string
		fault     func() *simcloud.Fault
	}{
		{"a short one", "short list: Cinder's list lacks backup", func() *simcloud.Fault { return simcloud.Short(4) }},
		{"an empty one", "short list: Cinder's list lacks backup", func() *simcloud.Fault { return simcloud.Short(1000) }},
		{"none", "list: ", func() *simcloud.Fault { return simcloud.Refused(500, "boom") }},
		{"half a one", "list: ", simcloud.Truncated},
		{"a forbidden one", "list: ", func() *simcloud.Fault { return simcloud.Refused(403, "Policy doesn't allow it.") }},
	} {
		t.Run(tc.name, func(t *testing.T) {
			s := young(t, world.Options{Deaf: true, Environ: []string{"STAFFELN_BACKUPS_PERIOD=24h"}})
			s.Cloud.SetInject(func(_ *http.Request, op string) *simcloud.Fault {
				if op == "GET /volume/backups/detail" {
					return tc.fault()
				}
				return nil
			})
			s.pass(3*time.Hour, time.Minute)
			if n := s.deletes(); n != 0 {
				t.Errorf("%d backups were to be deleted", n)
			}
			if n := s.said.times("nothing is removed", tc.why); n != 1 {
				t.Errorf("told %d times, want once", n)
			}
			what, _, _ := strings.Cut(tc.why, ":")
			if s.metric("retention_held_total", what) == 0 {
				t.Error("not counted")
			}
			s.Cloud.SetInject(nil)
			s.pass(5*time.Hour, time.Minute)
			s.idle()
			if n := s.said.times("removals go on"); n != 1 {
				t.Errorf("told %d times that it goes on, want once", n)
			}
		})
	}
}

func TestAClockThatIsWrong(t *testing.T) {
	t.Run("a year ahead", func(t *testing.T) {
		s := young(t, world.Options{})
		s.Skew(365 * 24 * time.Hour)
		s.pass(2*time.Hour, time.Minute)
		if n := s.deletes(); n != 0 {
			t.Errorf("%d backups were to be deleted", n)
		}
		if n := s.said.times("nothing is removed", "our clock is ahead of the cloud's"); n != 1 {
			t.Errorf("told %d times, want once", n)
		}
		if s.metric("retention_held_total", "clock") == 0 {
			t.Error("not counted")
		}
		s.Skew(0)
		s.pass(6*time.Hour, time.Minute)
		s.idle()
		if got := s.short("web-1-data"); !strings.HasPrefix(got, "f i i f i i") {
			t.Errorf("when it is right again: %s", got)
		}
		s.points()
	})
	t.Run("from the beginning", func(t *testing.T) {
		s := tell(t, world.Options{Environ: hours()}).quiet()
		s.Skew(365 * 24 * time.Hour)
		s.optIn("web-1")
		s.pass(2*time.Hour, time.Minute)
		s.Skew(0)
		s.pass(20*time.Hour, time.Minute)
		s.idle()
		s.points()
	})
	t.Run("a year back", func(t *testing.T) {
		s := young(t, world.Options{})
		s.Skew(-365 * 24 * time.Hour)
		s.pass(2*time.Hour, time.Minute)
		if n := s.deletes(); n != 0 {
			t.Errorf("%d backups were to be deleted", n)
		}
		s.Skew(0)
		s.pass(6*time.Hour, time.Minute)
		s.idle()
		s.points()
	})
}

func TestTheBrake(t *testing.T) {
	release := func(s *tale, most int) {
		alpha := s.Seeded.Projects["alpha"]
		s.check(s.Home.Ledger.ReleaseBrake(s.ctx, alpha, s.Now().Add(24*time.Hour), most))
		s.check(s.Home.Ledger.LookRetention(s.ctx, alpha, s.Now()))
	}
	held := func(s *tale, what string) {
		s.Helper()
		s.pass(2*time.Hour+30*time.Minute, time.Minute)
		if n := s.deletes(); n != 0 {
			s.Errorf("%d backups were to be deleted", n)
		}
		if n := s.said.times("nothing is removed", `why="`+what+`: 3 of 9 backups would be removed, 34 % of all chains: the brake allows 30 %"`); n != 1 {
			s.Errorf("told %d times, want once", n)
		}
		r, err := s.Home.Ledger.Held(s.ctx)
		s.check(err)
		if len(r) != 1 || !strings.HasPrefix(r[0].Held, what+": ") || r[0].Outlook.Removals != 3 {
			s.Errorf("what is held: %+v", r)
		}
	}
	environ := []string{"STAFFELN_BRAKE_PERCENT=30", "STAFFELN_BRAKE_FROM=3"}
	t.Run("holds a project's removals until it is released", func(t *testing.T) {
		s := young(t, world.Options{Environ: environ})
		held(s, "brake")
		release(s, 3)
		s.pass(5*time.Minute, time.Minute)
		s.wantShort("released", "web-1-data", "f i i F I I F I I F I")
		s.pass(time.Hour, time.Minute)
		if n := s.said.times("nothing is removed"); n != 2 {
			t.Errorf("told %d times: the next chain is another matter, which was not released", n)
		}
		s.wantShort("the next chain is held", "web-1-data", "f i i F I I F I I F I I")
	})
	t.Run("the release is for no more than was told", func(t *testing.T) {
		s := young(t, world.Options{Environ: environ})
		held(s, "brake")
		release(s, 2)
		s.pass(5*time.Minute, time.Minute)
		s.wantShort("still held", "web-1-data", "F I I F I I F I I F I")
	})
	t.Run("holds the whole cloud's", func(t *testing.T) {
		s := young(t, world.Options{Environ: []string{"STAFFELN_BRAKE_PERCENT=30", "STAFFELN_BRAKE_FROM=1"}})
		s.pass(10*time.Minute, time.Minute)
		release(s, 3)
		s.pass(30*time.Minute, time.Minute)
		if n := s.deletes(); n != 0 || s.metric("retention_held_total", "cloud brake") == 0 {
			t.Errorf("%d backups were to be deleted", n)
		}
		s.check(s.Home.Ledger.ReleaseCloud(s.ctx, s.Now().Add(24*time.Hour), 3))
		s.pass(15*time.Minute, time.Minute)
		s.wantShort("released", "web-1-data", "f i i F I I F I I")
	})
	t.Run("does not let go by itself because more backups have come", func(t *testing.T) {
		s := young(t, world.Options{Environ: environ})
		held(s, "brake")
		for _, name := range []string{"db-1", "batch-1"} {
			s.optIn(name)
		}
		s.pass(4*time.Hour, time.Minute)
		if n := s.deletes(); n != 0 {
			t.Errorf("%d backups were to be deleted", n)
		}
	})
	t.Run("has nothing to hold once the policy is put right", func(t *testing.T) {
		s := young(t, world.Options{Environ: environ})
		held(s, "brake")
		s.check(s.Reconfigure("STAFFELN_RETENTION_TIME=2d"))
		s.pass(30*time.Minute, time.Minute)
		s.wantShort("they are all to be kept", "web-1-data", "F I I F I I F I I F I")
		if r, err := s.Home.Ledger.Held(s.ctx); err != nil || len(r) > 0 {
			t.Errorf("still held: %+v, %v", r, err)
		}
	})
}

func TestADeletedServersBackupsLiveToTheEndOfTheirFrozenPolicy(t *testing.T) {
	for _, user := range []string{"backup-svc", "backup-min"} {
		t.Run(user, func(t *testing.T) {
			s := young(t, world.Options{User: user})
			s.Cloud.DeleteServer(s.Seeded.Servers["web-1"])
			s.pass(5*time.Hour, time.Minute)
			s.wantShort("nothing is gone before its time", "web-1-data", "f i i f i i F I")
			s.pass(48*time.Hour, 30*time.Minute)
			s.wantShort("the volume is still there: its newest restore point stays", "web-1-data", "f i i f i i F I")
			s.Cloud.DeleteVolume(s.Seeded.Volumes["web-1-data"])
			s.pass(25*time.Hour, 30*time.Minute)
			s.wantShort("the volume is not", "web-1-data", "f i i f i i f i")
			if n := s.metric("backups_lost_total"); n != 0 {
				t.Errorf("%v backups are taken for lost", n)
			}
		})
	}
}

func TestADeletedVolumesNewestRestorePointOutlivesItForAsLongAsTheOperatorSays(t *testing.T) {
	s := young(t, world.Options{Environ: []string{"STAFFELN_ORPHAN_RETENTION=5d"}})
	s.Cloud.DeleteServer(s.Seeded.Servers["web-1"])
	s.Cloud.DeleteVolume(s.Seeded.Volumes["web-1-data"])
	s.pass(4*24*time.Hour, 30*time.Minute)
	s.wantShort("four days later", "web-1-data", "f i i f i i F I")
	s.pass(56*time.Hour, 30*time.Minute)
	s.wantShort("a day more, since it was missed on the second", "web-1-data", "f i i f i i f i")
}

func TestAVolumeThatIsOnlyMissedOnceIsNotGone(t *testing.T) {
	s := young(t, world.Options{})
	s.Cloud.SetServerMetadata(s.Seeded.Servers["web-1"], map[string]string{})
	s.pass(20*time.Hour, 30*time.Minute)
	s.wantShort("opted out", "web-1-data", "f i i f i i F I")
	once := true
	s.Cloud.SetInject(func(_ *http.Request, op string) *simcloud.Fault {
		if op == "GET /volume/volumes/ID" && once {
			once = false
			return simcloud.Refused(404, "Volume could not be found.")
		}
		return nil
	})
	s.pass(72*time.Hour, 30*time.Minute)
	if once {
		t.Fatal("nobody asked for the volume")
	}
	s.wantShort("three days later", "web-1-data", "f i i f i i F I")
}

func TestAVolumeGivenToAnotherProject(t *testing.T) {
	s := young(t, world.Options{})
	s.Cloud.SetServerMetadata(s.Seeded.Servers["web-1"], map[string]string{})
	s.pass(20*time.Hour, 30*time.Minute)
	s.Cloud.SetInject(func(_ *http.Request, op string) *simcloud.Fault {
		if op == "GET /volume/volumes/ID" {
			return simcloud.Refused(404, "Volume could not be found.")
		}
		return nil
	})
	s.removing.moved = true
	s.pass(50*time.Hour, 30*time.Minute)
	s.wantShort("here it is gone", "web-1-data", "f i i f i i f i")
}

func TestOptedOutAndInAgain(t *testing.T) {
	s := young(t, world.Options{})
	s.Cloud.SetServerMetadata(s.Seeded.Servers["web-1"], map[string]string{})
	s.pass(40*24*time.Hour, 6*time.Hour)
	s.wantShort("forty days without the tag", "web-1-data", "f i i f i i F I")
	s.optIn("web-1")
	s.pass(20*time.Minute, time.Minute)
	s.wantShort("and with it", "web-1-data", "f i i f i i F I I")
	s.pass(10*time.Hour, 5*time.Minute)
	if got := s.short("web-1-data"); !strings.HasPrefix(got, "f i i f i i f i i") {
		t.Errorf("the old chain is still there: %s", got)
	}
	s.idle()
}

func TestAPolicyThatChanges(t *testing.T) {
	t.Run("shortened counts only for what comes after", func(t *testing.T) {
		s := young(t, world.Options{Environ: []string{"STAFFELN_RETENTION_TIME=2d"}})
		s.check(s.Reconfigure("STAFFELN_RETENTION_TIME=2h"))
		s.pass(20*time.Hour, 5*time.Minute)
		if got := s.short("web-1-data"); !strings.HasPrefix(got, "F I I F I I F I i f i i f i i") {
			t.Errorf("a day later: %s", got)
		}
		s.pass(48*time.Hour, 30*time.Minute)
		if got := s.short("web-1-data"); !strings.HasPrefix(got, "f i i f i i f i i f i i f i i") {
			t.Errorf("three days later: %s", got)
		}
	})
	t.Run("extended counts at once", func(t *testing.T) {
		s := young(t, world.Options{})
		s.check(s.Reconfigure("STAFFELN_RETENTION_TIME=2d"))
		s.pass(24*time.Hour, 5*time.Minute)
		if got := s.short("web-1-data"); strings.ContainsAny(got, "fi") {
			t.Errorf("a day later: %s", got)
		}
		s.pass(48*time.Hour, 30*time.Minute)
		if got := s.short("web-1-data"); !strings.HasPrefix(got, "f i i f i i f i i") {
			t.Errorf("three days later: %s", got)
		}
	})
	t.Run("extended while a chain is being removed keeps what is left of it", func(t *testing.T) {
		s := young(t, world.Options{Cloud: simcloud.Options{DeleteTime: 10 * time.Minute}, Deaf: true})
		for !strings.Contains(s.short("web-1-data"), "deleting") {
			s.step(time.Minute)
		}
		s.check(s.Reconfigure("STAFFELN_RETENTION_TIME=2d"))
		s.pass(24*time.Hour, 5*time.Minute)
		if got := s.short("web-1-data"); !strings.HasPrefix(got, "F I i F I I F I I") {
			t.Errorf("a day later: %s", got)
		}
	})
	t.Run("a class renamed keeps what was promised", func(t *testing.T) {
		s := tell(t, world.Options{Environ: hours("STAFFELN_CLASS_GOLD_RETENTION_TIME=2d", "STAFFELN_CLASS_GOLD_PERIOD=1h")}).quiet()
		s.Cloud.SetServerMetadata(s.Seeded.Servers["web-1"], map[string]string{"backup": "gold"})
		s.pass(7*time.Hour+30*time.Minute, time.Minute)
		s.check(s.Reconfigure("STAFFELN_CLASS_GOLD_RETENTION_TIME=", "STAFFELN_CLASS_GOLD_PERIOD=", "STAFFELN_CLASS_SILVER_RETENTION_TIME=7h"))
		s.pass(24*time.Hour, 10*time.Minute)
		if got := s.short("web-1-data"); !strings.HasPrefix(got, "F I I F I I F I") {
			t.Errorf("a day later: %s", got)
		}
		s.pass(48*time.Hour, 30*time.Minute)
		s.points()
	})
}

func TestEverythingFailingForAMonthKeepsTheLastGoodPoint(t *testing.T) {
	s := young(t, world.Options{})
	s.check(s.Reconfigure("STAFFELN_BACKUP_PERIOD=6h"))
	s.Cloud.FailBackups(func(string) string { return "rados: timed out" })
	s.pass(30*24*time.Hour, time.Hour)
	if got := s.short("web-1-data"); !strings.HasPrefix(got, "f i i f i i F I i f i f") {
		t.Errorf("a month later: %.80s…", got)
	}
	for _, b := range s.backupsOf("web-1-data") {
		if b.FailReason != "" && b.Status != "deleted" && s.Now().Sub(b.Created) > 7*time.Hour {
			t.Errorf("broken backup of %s is still there", b.Created.Format(time.RFC3339))
		}
	}
	s.Cloud.FailBackups(nil)
	s.pass(3*24*time.Hour, 10*time.Minute)
	s.idle()
	s.points()
}

func TestAHoldKeepsUntilItIsLifted(t *testing.T) {
	s := young(t, world.Options{})
	middle := s.backupsOf("web-1-data")[1]
	held := map[string]string{backup.MetaHold: "court order 12/34"}
	lifted := map[string]string{}
	for k, v := range middle.Metadata {
		held[k], lifted[k] = v, v
	}
	s.Cloud.SetBackupMetadata(middle.ID, held)
	s.pass(30*time.Hour, 5*time.Minute)
	if got := s.short("web-1-data"); !strings.HasPrefix(got, "F I i f i i") {
		t.Errorf("it and what it builds on stay: %s", got)
	}
	s.Cloud.SetBackupMetadata(middle.ID, lifted)
	s.pass(2*time.Hour, time.Minute)
	if got := s.short("web-1-data"); !strings.HasPrefix(got, "f i i f i i") {
		t.Errorf("after it was lifted: %s", got)
	}
}

func TestMetadataStrippedByATenantRemovesNothing(t *testing.T) {
	s := young(t, world.Options{})
	s.Cloud.SetBackupMetadata(s.backupsOf("web-1-data")[1].ID, map[string]string{})
	s.Cloud.SetBackupMetadata(s.backupsOf("web-1-data")[3].ID, map[string]string{backup.MetaAutomated: "True"})
	s.pass(30*time.Hour, 5*time.Minute)
	if got := s.short("web-1-data"); !strings.HasPrefix(got, "F Mi i Mf i i f i i") {
		t.Errorf("%s", got)
	}
}

func TestARestorePointThatSomebodyElseRemoved(t *testing.T) {
	s := young(t, world.Options{Deaf: true, Environ: []string{"STAFFELN_BACKUPS_PERIOD=1h"}})
	leaf := s.backupsOf("web-1-data")[5]
	s.check(s.Home.Cloud.DeleteBackup(s.ctx, leaf.Project, leaf.ID)) // whoever that was
	s.pass(3*time.Hour, time.Minute)
	if n := s.said.times("level=ERROR", "a restore point is gone that we did not remove", leaf.ID); n != 1 {
		t.Errorf("told %d times, want once", n)
	}
	if n := s.metric("backups_lost_total"); n != 1 {
		t.Errorf("%v counted, want 1", n)
	}
	s.pass(20*time.Hour, time.Minute)
	if n := s.metric("backups_lost_total"); n != 1 {
		t.Errorf("%v counted with all that we removed since, want 1", n)
	}
	s.idle()
}
