package functions_test

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"staffeln/functions/backup"
	"staffeln/runtime"
	"staffeln/runtime/cloudevents"
	"staffeln/testutil/world"
)

// The process dies after every single one of its calls to Redis and OpenStack in
// turn, with and without the answer to the last, while a backup is being started
// and while it is being brought to its end.
func TestKilledAtEveryStep(t *testing.T) {
	for _, deaf := range []bool{false, true} {
		steps := 0
		for n := 0; ; n += stride() {
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
		for n := 0; ; n += stride() {
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

// The same functions, the same history: once in this process, once behind HTTP as
// containers.
func TestBothHomes(t *testing.T) {
	clock := time.Now // the world's, once there is one
	homes := map[string]func([]runtime.Function) runtime.Invoker{
		"one process": nil,
		"containers": func(all []runtime.Function) runtime.Invoker {
			mux := http.NewServeMux()
			for _, f := range all {
				mux.Handle("/function/"+f.Name+"/", http.StripPrefix("/function/"+f.Name, cloudevents.Handler(f, cloudevents.Options{Now: func() time.Time { return clock() }})))
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
			clock = s.Now
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
