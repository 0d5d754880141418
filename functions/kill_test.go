package functions_test

import (
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"pgregory.net/rapid"

	"staffeln/functions/backup"
	"staffeln/runtime"
	"staffeln/runtime/cloudevents"
	"staffeln/testutil/simcloud"
	"staffeln/testutil/world"
)

// The process dies after every single one of its calls to Redis and OpenStack in
// turn, with and without the answer to the last, while a backup is being started
// and while it is being brought to its end.
func TestKilledAtEveryStep(t *testing.T) {
	for _, deaf := range []bool{false, true} {
		steps := 0
		for n := 0; ; n += stride {
			s := tell(t, world.Options{}).quiet()
			s.step(5 * time.Second)
			s.optIn("web-1")
			s.Kill(n, deaf)
			before := s.Effects()
			s.pass(5*time.Minute, time.Minute) // dead for most of it
			lived := s.Effects() - before
			s.Restart()
			s.pass(5*time.Minute, 30*time.Second)
			s.pass(25*time.Minute, 5*time.Minute)
			s.want("backups", s.backups("web-1-data"), "full available")
			s.want("failures", s.failures("alpha"))
			s.once()
			s.Jump(sunday.Add(14*time.Hour - time.Minute)) // nothing happens until midnight
			s.pass(20*time.Minute, 5*time.Minute)
			s.want("and in the next slot", s.backups("web-1-data"), "full available", "incremental available")
			sv, _ := s.Cloud.Server(s.Seeded.Servers["web-1"])
			if sv.Metadata["last-backup-time"] == "" {
				t.Error("no last-backup-time")
			}
			s.Close()
			if t.Failed() {
				t.Fatalf("killed after %d calls (answer lost: %v)", n, deaf)
			}
			// The steps of interest are over when a run without a kill would have ended.
			if steps++; n > 60 || lived < n {
				break
			}
		}
		t.Logf("killed at %d steps", steps)
	}
}

// The same while a chain is removed, from the end of the run that makes it
// superfluous until nothing is left of it.
func TestKilledWhileAChainIsRemoved(t *testing.T) {
	for _, deaf := range []bool{false, true} {
		steps := 0
		for n := 0; ; n += stride {
			s := tell(t, world.Options{Environ: []string{"STAFFELN_BACKUP_PERIOD=1h", "STAFFELN_FULL_BACKUP_DEPTH=1", "STAFFELN_RETENTION_TIME=30min", "STAFFELN_BACKUPS_PERIOD=1h"}}).quiet()
			s.optIn("web-1")
			s.pass(2*time.Hour+2*time.Minute, 20*time.Minute)
			s.wantShort("before", "web-1-data", "F I F:creating")
			s.Kill(n, deaf)
			before := s.Effects()
			s.pass(3*time.Minute, time.Minute) // dead for most of it
			lived := s.Effects() - before
			s.Restart()
			s.pass(5*time.Minute, time.Minute)
			s.pass(10*time.Minute, 5*time.Minute)
			s.wantShort("after", "web-1-data", "f i F")
			s.idle()
			s.points()
			s.once()
			gone, err := s.Home.Ledger.Removals(s.ctx, s.Seeded.Projects["alpha"], 100)
			s.check(err)
			var told []string
			for _, g := range gone {
				told = append(told, string(g.Kind)+g.Created.Format(" 15:04"))
			}
			s.want("told in the digest", told, "incremental 11:20", "full 10:40")
			if d := s.deletes(); d > 4 {
				t.Errorf("asked for two removals %d times", d)
			}
			s.pass(40*time.Minute, 10*time.Minute) // and a sweep of the backups
			if n := s.metric("backups_lost_total"); n != 0 {
				t.Errorf("%v backups are taken for lost", n)
			}
			s.Close()
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

// Whatever happens, in any order: no slot has two backups, nothing is removed that
// is to be kept, and when it is over everybody who asked for it has a restore point
// and nothing is left that should have gone.
func TestRandomHistories(t *testing.T) {
	rapid.Check(t, func(r *rapid.T) {
		s := tell(t, world.Options{
			User: rapid.SampledFrom([]string{"backup-svc", "backup-min"}).Draw(r, "user"),
			Deaf: rapid.Bool().Draw(r, "deaf"),
			Environ: []string{"STAFFELN_BACKUP_PERIOD=2h", "STAFFELN_FULL_BACKUP_DEPTH=2",
				rapid.SampledFrom([]string{"STAFFELN_RETENTION_TIME=5h", "STAFFELN_RETENTION_TIME=30d", "STAFFELN_RETENTION_TIME=1h"}).Draw(r, "retention"),
				rapid.SampledFrom([]string{"STAFFELN_BRAKE_PERCENT=50", "STAFFELN_BRAKE_PERCENT=100"}).Draw(r, "brake"),
				rapid.SampledFrom([]string{"STAFFELN_ARCHIVE_RULES=none", "STAFFELN_ARCHIVE_RULES=last=2 hourly=4"}).Draw(r, "rules"),
				rapid.SampledFrom([]string{"STAFFELN_ORPHAN_RETENTION=0", "STAFFELN_ORPHAN_RETENTION=3h"}).Draw(r, "orphans")},
			Cloud: simcloud.Options{Quota: &simcloud.Quota{Volumes: -1, Gigabytes: -1, Backups: -1, BackupGigabytes: -1},
				DeleteTime: rapid.SampledFrom([]time.Duration{0, 40 * time.Second, 7 * time.Minute}).Draw(r, "a deletion takes")},
		})
		defer s.Close()
		servers := []string{"web-1", "db-1", "app-1", "app-2", "batch-1"}
		faults := map[string]func() *simcloud.Fault{
			"lost": simcloud.Lost, "unheard": simcloud.Unheard, "truncated": simcloud.Truncated, "emptied": simcloud.Emptied,
			"500": func() *simcloud.Fault { return simcloud.Refused(500, "Unexpected API Error.") },
			"429": func() *simcloud.Fault { return simcloud.TooMany(10 * time.Second) },
			"503": func() *simcloud.Fault { return simcloud.Page(503) },
			"401": func() *simcloud.Fault {
				return simcloud.Refused(401, "The request you have made requires authentication.")
			},
			"403":   func() *simcloud.Fault { return simcloud.Refused(403, "Policy doesn't allow it.") },
			"409":   func() *simcloud.Fault { return simcloud.Refused(409, "Cannot do it now.") },
			"short": func() *simcloud.Fault { return simcloud.Short(3) },
			"later": func() *simcloud.Fault { return simcloud.Later(20 * time.Second) },
		}
		names := []string{"lost", "unheard", "truncated", "emptied", "500", "429", "503", "401", "403", "409", "short", "later"}
		failing := 0
		// With the ledger lost and Cinder's list of backups short, nobody is left who
		// knows what was made; either of them alone does no harm.
		redisLost := false
		for range rapid.IntRange(5, 25).Draw(r, "steps") {
			switch rapid.SampledFrom([]string{"pass", "in", "out", "kill", "fault", "empty", "fail", "services", "restarted", "write",
				"write", "unwrite", "leave", "skew", "hold", "error_deleting", "drift"}).Draw(r, "what") {
			case "pass":
				s.pass(time.Duration(rapid.IntRange(1, 150).Draw(r, "minutes"))*time.Minute, 30*time.Second)
			case "in":
				s.wish(rapid.SampledFrom(servers).Draw(r, "server"), map[string]string{"backup": "yes"})
			case "out":
				s.emptied++ // who opts in again begins anew
				s.wish(rapid.SampledFrom(servers).Draw(r, "server"), map[string]string{})
			case "kill":
				s.Kill(rapid.IntRange(0, 60).Draw(r, "after"), rapid.Bool().Draw(r, "answer lost"))
				s.pass(time.Minute, 5*time.Second)
				s.Restart()
			case "fault":
				fault := faults[rapid.SampledFrom(names).Draw(r, "fault")]
				every := rapid.IntRange(1, 5).Draw(r, "every")
				var n atomic.Int64
				s.removing.blind = true // to what a short list does not show
				s.Cloud.SetInject(func(_ *http.Request, op string) *simcloud.Fault {
					if n.Add(1)%int64(every) != 0 || redisLost && op == "GET /volume/backups/detail" || strings.Contains(op, "/identity/") {
						return nil
					}
					return fault()
				})
				s.pass(2*time.Minute, 10*time.Second)
				s.Cloud.SetInject(nil)
				s.removing.blind = false
			case "empty":
				redisLost = true
				s.empty()
			case "fail":
				if failing++; failing > 2 {
					continue // or the volume would have no good slot within the test
				}
				s.Cloud.FailNextBackup(s.Seeded.Volumes["app-1-data"], "rados: timed out")
			case "services":
				s.services(false)
				s.pass(10*time.Minute, 30*time.Second)
				s.services(true)
			case "restarted":
				s.Cloud.CinderRestarted()
			case "write":
				s.build("web-1-data", rapid.Bool().Draw(r, "on ours"))
			case "unwrite":
				s.unbuild()
			case "leave":
				if _, there := s.Cloud.Server(s.Seeded.Servers["batch-1"]); there {
					s.Cloud.DeleteServer(s.Seeded.Servers["batch-1"])
				}
				if rapid.Bool().Draw(r, "and its volume") {
					if _, there := s.Cloud.Volume(s.Seeded.Volumes["batch-1-data"]); there {
						s.Cloud.DeleteVolume(s.Seeded.Volumes["batch-1-data"])
					}
				}
			case "skew":
				s.Skew(rapid.SampledFrom([]time.Duration{year, -year, 4 * time.Minute, -time.Hour}).Draw(r, "by"))
				s.pass(20*time.Minute, time.Minute)
				s.Skew(0)
			case "hold":
				s.hold(rapid.IntRange(0, 100).Draw(r, "which"), rapid.SampledFrom([]string{"yes", "no"}).Draw(r, "hold"))
			case "error_deleting":
				s.reset("deleting", "error_deleting")
			case "drift":
				if all := s.there("available"); len(all) > 0 {
					s.Cloud.DriftDependents(all[rapid.IntRange(0, len(all)-1).Draw(r, "which")].ID, 1)
				}
			}
			s.once()
			s.points()
			if t.Failed() {
				r.FailNow()
			}
		}
		// Everybody puts right what is theirs to put right.
		s.unbuild()
		s.reset("error_deleting", "available")
		for i := range s.there("available") {
			s.hold(i, "no")
		}
		s.services(true)
		for _, name := range servers[:4] {
			s.optIn(name)
		}
		s.pass(5*time.Hour, time.Minute)
		for range 3 { // what had been refused often is tried again after six hours
			for _, project := range []string{"alpha", "beta"} {
				s.check(s.Home.Ledger.ReleaseBrake(s.ctx, s.Seeded.Projects[project], s.Now().Add(48*time.Hour), 1000))
				s.check(s.Home.Ledger.LookRetention(s.ctx, s.Seeded.Projects[project], s.Now()))
			}
			s.check(s.Home.Ledger.ReleaseCloud(s.ctx, s.Now().Add(48*time.Hour), 1000))
			s.unbuild()
			s.pass(4*time.Hour, 5*time.Minute)
		}
		// A slot's removals are over before the next one.
		s.pass(s.Now().Truncate(2*time.Hour).Add(3*time.Hour+40*time.Minute).Sub(s.Now()), 5*time.Minute)
		s.once()
		s.points()
		s.late(time.Minute)
		often := map[string]int{}
		for _, id := range s.removing.asked {
			if often[id]++; often[id] > 12*(1+s.emptied) {
				r.Fatalf("backup %s was to be deleted %d times", id, often[id])
			}
		}
		before := s.deletes()
		for range 2 {
			for _, project := range []string{"alpha", "beta"} {
				s.check(s.Home.Ledger.LookRetention(s.ctx, s.Seeded.Projects[project], s.Now()))
			}
			s.check(s.Tick(s.ctx))
		}
		if n := s.deletes() - before; n != 0 {
			r.Fatalf("looking again removes %d more", n)
		}
		for _, v := range []string{"web-1-data", "db-1-data", "app-1-data", "app-1-logs", "app-2-data"} {
			all := s.backupsOf(v)
			i := len(all) - 1
			for i >= 0 && (all[i].Status != "available" || all[i].Metadata[backup.MetaRun] == "") {
				i--
			}
			if i < 0 || s.Now().Sub(all[i].Created) > 3*time.Hour {
				r.Fatalf("%s has no fresh restore point: %q", v, s.backups(v))
			}
		}
		if t.Failed() {
			r.FailNow()
		}
	})
}

const year = 365 * 24 * time.Hour

// wish sets a server's metadata, if it has not been deleted.
func (s *tale) wish(server string, metadata map[string]string) {
	if _, there := s.Cloud.Server(s.Seeded.Servers[server]); there {
		s.Cloud.SetServerMetadata(s.Seeded.Servers[server], metadata)
	}
}

// there are the backups of ours that have a status, oldest first.
func (s *tale) there(status string) (out []simcloud.Backup) {
	for _, b := range s.Cloud.Backups() {
		if b.Status == status && b.Metadata[backup.MetaRun] != "" {
			out = append(out, b)
		}
	}
	return out
}

// build makes a backup of the tenant's own, on our chain or as a full one; a volume
// that is busy or has none has none.
func (s *tale) build(volume string, incremental bool) {
	_, err := s.Home.Cloud.CreateBackup(s.ctx, s.Seeded.Projects["alpha"],
		backup.Request{Volume: s.Seeded.Volumes[volume], Name: "manual", Incremental: incremental})
	if f := backup.FaultOf(err); err != nil && f != backup.Busy && f != backup.NeedsFull {
		s.check(err)
	}
}

// unbuild deletes the tenant's own backups, newest first.
func (s *tale) unbuild() {
	all := s.Cloud.Backups()
	slices.Reverse(all)
	for _, b := range all {
		if b.Metadata[backup.MetaRun] == "" && (b.Status == "available" || b.Status == "error") {
			_ = s.Home.Cloud.DeleteBackup(s.ctx, b.Project, b.ID) // one that ours build on stays
		}
	}
}

func (s *tale) hold(which int, value string) {
	if all := s.there("available"); len(all) > 0 {
		b := all[which%len(all)]
		b.Metadata[backup.MetaHold] = value
		s.Cloud.SetBackupMetadata(b.ID, b.Metadata)
	}
}

func (s *tale) reset(from, to string) {
	for _, b := range s.there(from) {
		s.Cloud.SetBackupStatus(b.ID, to)
	}
}

// The same functions, the same history: once in this process, once behind HTTP as
// containers.
func TestBothHomes(t *testing.T) {
	homes := map[string]func([]runtime.Function) runtime.Invoker{
		"one process": nil,
		"containers": func(all []runtime.Function) runtime.Invoker {
			mux := http.NewServeMux()
			for _, f := range all {
				mux.Handle("/function/"+f.Name+"/", http.StripPrefix("/function/"+f.Name, cloudevents.Handler(f, cloudevents.Options{})))
			}
			srv := httptest.NewServer(mux)
			t.Cleanup(srv.Close)
			return &cloudevents.Client{Base: srv.URL + "/function/{function}/"}
		},
	}
	ends := map[string]string{}
	for name, home := range homes {
		t.Run(name, func(t *testing.T) {
			s := tell(t, world.Options{Invoker: home})
			s.Cloud.FailNextBackup(s.Seeded.Volumes["app-1-data"], "rados: timed out")
			s.pass(time.Hour, 10*time.Second)
			s.Cloud.SetServerMetadata(s.Seeded.Servers["web-1"], map[string]string{})
			s.optIn("batch-1")
			s.pass(15*time.Hour, time.Minute)
			var end []string
			for _, b := range s.Cloud.Backups() {
				end = append(end, strings.Join([]string{b.Name, b.Status, b.Metadata[backup.MetaKind], b.Metadata[backup.MetaAttempt]}, " "))
			}
			ends[name] = strings.Join(end, "\n")
			s.once()
			if n := len(s.Errors); n > 0 {
				t.Errorf("%d errors, the first: %v", n, s.Errors[0])
			}
		})
	}
	if ends["one process"] != ends["containers"] {
		t.Errorf("in one process:\n%s\nas containers:\n%s", ends["one process"], ends["containers"])
	}
}
