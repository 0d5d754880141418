package functions_test

import (
	"net/http"
	"net/http/httptest"
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
		for n := 0; ; n++ {
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

// Whatever happens, in any order: no slot has two backups, and when it is over
// everybody who asked for it has a restore point.
func TestRandomHistories(t *testing.T) {
	rapid.Check(t, func(r *rapid.T) {
		s := tell(t, world.Options{
			User:    rapid.SampledFrom([]string{"backup-svc", "backup-min"}).Draw(r, "user"),
			Deaf:    rapid.Bool().Draw(r, "deaf"),
			Environ: []string{"STAFFELN_BACKUP_PERIOD=2h", "STAFFELN_FULL_BACKUP_DEPTH=2"},
			Cloud:   simcloud.Options{Quota: &simcloud.Quota{Volumes: -1, Gigabytes: -1, Backups: -1, BackupGigabytes: -1}},
		})
		defer s.Close()
		servers := []string{"web-1", "db-1", "app-1", "app-2"}
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
			switch rapid.SampledFrom([]string{"pass", "in", "out", "kill", "fault", "empty", "fail", "services", "restarted", "write"}).Draw(r, "what") {
			case "pass":
				s.pass(time.Duration(rapid.IntRange(1, 150).Draw(r, "minutes"))*time.Minute, 30*time.Second)
			case "in":
				s.optIn(rapid.SampledFrom(servers).Draw(r, "server"))
			case "out":
				s.emptied++ // who opts in again begins anew
				s.Cloud.SetServerMetadata(s.Seeded.Servers[rapid.SampledFrom(servers).Draw(r, "server")], map[string]string{})
			case "kill":
				s.Kill(rapid.IntRange(0, 60).Draw(r, "after"), rapid.Bool().Draw(r, "answer lost"))
				s.pass(time.Minute, 5*time.Second)
				s.Restart()
			case "fault":
				fault := faults[rapid.SampledFrom(names).Draw(r, "fault")]
				every := rapid.IntRange(1, 5).Draw(r, "every")
				var n atomic.Int64
				s.Cloud.SetInject(func(_ *http.Request, op string) *simcloud.Fault {
					if n.Add(1)%int64(every) != 0 || redisLost && op == "GET /volume/backups/detail" || strings.Contains(op, "/identity/") {
						return nil
					}
					return fault()
				})
				s.pass(2*time.Minute, 10*time.Second)
				s.Cloud.SetInject(nil)
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
				s.manual("web-1-data")
			}
			s.once()
		}
		for _, name := range servers {
			s.optIn(name)
		}
		s.pass(5*time.Hour, time.Minute)
		s.once()
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
