package functions_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"staffeln/events"
	"staffeln/functions/backup"
	"staffeln/runtime"
	"staffeln/testutil/services"
	"staffeln/testutil/simcloud"
	"staffeln/testutil/world"
)

// The histories here are those of docs/pitfalls.md that no other test tells.

// unlimited is a quota that nobody comes up against.
var unlimited = &simcloud.Quota{Volumes: -1, Gigabytes: -1, Backups: -1, BackupGigabytes: -1}

// A postman stands before the functions, and treats notifications badly: change
// makes of each what is delivered now; what it keeps is delivered before a tick.
type postman struct {
	runtime.Invoker
	mu     sync.Mutex
	change func(e events.Event) []events.Event
	kept   []func(ctx context.Context)
	rnd    *rand.Rand
}

// by makes a world's invoker of a postman.
func (p *postman) by(all []runtime.Function) runtime.Invoker {
	p.Invoker = runtime.NewInProcess(slog.New(slog.DiscardHandler), all)
	return p
}

func (p *postman) Invoke(ctx context.Context, function string, e events.Event) error {
	if strings.HasPrefix(e.Type, "tick.") {
		p.mu.Lock()
		kept := p.kept
		p.kept = nil
		p.mu.Unlock()
		if p.rnd != nil {
			p.rnd.Shuffle(len(kept), func(i, j int) { kept[i], kept[j] = kept[j], kept[i] })
		}
		for _, deliver := range kept {
			deliver(ctx)
		}
		return p.Invoker.Invoke(ctx, function, e)
	}
	p.mu.Lock()
	all := p.change(e)
	p.mu.Unlock()
	for _, e := range all {
		if err := p.Invoker.Invoke(ctx, function, e); err != nil {
			return err
		}
	}
	return nil
}

// keep has an event delivered later.
func (p *postman) keep(e events.Event) {
	p.kept = append(p.kept, func(ctx context.Context) {
		for _, name := range []string{"enroll", "track", "retention"} {
			_ = p.Invoker.Invoke(ctx, name, e) // whoever does not take it, does nothing
		}
	})
}

// Lost, doubled, late, in any order: after one reconcile the ledger is what a
// lossless run would have made of it, and no slot has two backups.
func TestNotificationsThatAreLostDoubledLateAndOutOfOrder(t *testing.T) {
	for seed := range uint64(4) {
		t.Run(fmt.Sprint("seed ", seed), func(t *testing.T) {
			rnd := rand.New(rand.NewPCG(seed, 1))
			p := &postman{rnd: rand.New(rand.NewPCG(seed, 2))}
			lost, twice, late := 0, 0, 0
			p.change = func(e events.Event) []events.Event {
				switch rnd.IntN(8) {
				case 0, 1, 2, 3:
					lost++
					return nil
				case 4:
					twice++
					return []events.Event{e, e}
				case 5, 6:
					late++
					p.keep(e)
					return nil
				}
				return []events.Event{e}
			}
			s := tell(t, world.Options{Invoker: p.by, Cloud: simcloud.Options{Quota: unlimited}}).quiet()
			servers := []string{"web-1", "db-1", "app-1", "app-2", "mail-1", "batch-1"}
			in := map[string]bool{}
			for range 40 {
				name := servers[rnd.IntN(len(servers))]
				if in[name] = rnd.IntN(3) > 0; in[name] {
					s.optIn(name)
				} else {
					s.Cloud.SetServerMetadata(s.Seeded.Servers[name], map[string]string{})
				}
				s.step(time.Duration(rnd.IntN(20)) * time.Second)
			}
			if lost == 0 || twice == 0 || late == 0 {
				t.Fatalf("%d lost, %d twice, %d late: nothing was tried", lost, twice, late)
			}
			s.pass(11*time.Minute, time.Minute)
			var want, got []string
			for _, name := range servers {
				if in[name] {
					server, _ := s.Cloud.Server(s.Seeded.Servers[name])
					want = append(want, server.Volumes...)
				}
			}
			for shard := range s.Home.Ledger.Shards() {
				all, err := s.Home.Ledger.Volumes(s.ctx, shard)
				s.check(err)
				for _, v := range all {
					got = append(got, v.Volume)
				}
			}
			slices.Sort(want)
			slices.Sort(got)
			s.want("what is protected", got, want...)
			for run, same := range s.Cloud.Duplicates(backup.MetaRun) {
				if len(same) > 1 {
					t.Errorf("%s has %d backups", run, len(same))
				}
			}
			for _, id := range want {
				i := slices.IndexFunc(s.Cloud.Backups(), func(b simcloud.Backup) bool { return b.Volume == id && b.Status == "available" })
				if v, _ := s.Cloud.Volume(id); i < 0 && v.Metadata["skip-volume-backup"] == "" {
					t.Errorf("volume %s has no backup", v.Name)
				}
			}
		})
	}
}

// Each format of Nova's notifications does alone; a versioned payload of a major
// version that is not known makes the server be looked at, whatever it says.
func TestFormatsOfNotifications(t *testing.T) {
	newer := func(e events.Event) []events.Event {
		data := bytes.ReplaceAll(e.Data, []byte(`"nova_object.version":"1.`), []byte(`"nova_object.version":"9.`))
		data = bytes.ReplaceAll(data, []byte(`"nova_object.version":"2.`), []byte(`"nova_object.version":"9.`))
		data = bytes.ReplaceAll(data, []byte(`"metadata"`), []byte(`"moved_elsewhere"`))
		if strings.HasPrefix(e.Type, "instance.") && bytes.Equal(data, e.Data) {
			panic("nothing was changed")
		}
		e.Data = data
		return []events.Event{e}
	}
	for name, o := range map[string]struct {
		format simcloud.Format
		change func(events.Event) []events.Event
	}{
		"legacy alone":    {simcloud.Legacy, nil},
		"versioned alone": {simcloud.Versioned, nil},
		"versioned of a major version that is not known": {simcloud.Versioned, newer},
	} {
		t.Run(name, func(t *testing.T) {
			w := world.Options{Cloud: simcloud.Options{Notifications: o.format}, Environ: []string{"STAFFELN_RECONCILE_PERIOD=24h"}}
			if o.change != nil {
				w.Invoker = (&postman{change: o.change}).by
			}
			s := tell(t, w).quiet()
			s.step(5 * time.Second)
			s.optIn("web-1")
			s.step(5 * time.Second)
			s.want("at once", s.backups("web-1-data"), "full creating")
			s.Cloud.SetServerMetadata(s.Seeded.Servers["web-1"], map[string]string{})
			s.step(5 * time.Second)
			all, err := s.Home.Ledger.VolumesOf(s.ctx, s.Seeded.Projects["alpha"], []string{s.Seeded.Volumes["web-1-data"]})
			s.check(err)
			if len(all) != 0 {
				t.Errorf("opted out, and still protected: %+v", all)
			}
		})
	}
}

// Our own writing of last-backup-time comes back as an update of that server: it is
// not looked at for that, and nothing is written again.
func TestTheEchoOfTheStampIsNoLoop(t *testing.T) {
	for name, format := range map[string]simcloud.Format{"legacy": simcloud.Legacy, "versioned": simcloud.Versioned, "both": simcloud.Both} {
		t.Run(name, func(t *testing.T) {
			s := tell(t, world.Options{Cloud: simcloud.Options{Notifications: format}, Environ: []string{"STAFFELN_RECONCILE_PERIOD=24h"}}).quiet()
			s.step(5 * time.Second)
			var stamps, looks atomic.Int32
			s.Cloud.SetInject(func(_ *http.Request, op string) *simcloud.Fault {
				switch {
				case op == "PUT /compute/servers/ID/metadata/KEY":
					stamps.Add(1)
				case op == "GET /compute/servers/ID" && stamps.Load() > 0:
					looks.Add(1)
				}
				return nil
			})
			s.optIn("web-1")
			s.pass(20*time.Minute, 10*time.Second)
			if stamps.Load() != 1 || looks.Load() != 0 || s.posts() != 1 {
				t.Errorf("told %d times, looked at %d times since, %d backups; want 1, 0, 1", stamps.Load(), looks.Load(), s.posts())
			}
		})
	}
}

// Cinder tells nobody of the skip key: it is read before each backup.
func TestASkipKeySetInSilence(t *testing.T) {
	s := tell(t, world.Options{Environ: []string{"STAFFELN_BACKUP_PERIOD=2h", "STAFFELN_RECONCILE_PERIOD=24h"}}).quiet()
	s.optIn("web-1")
	s.pass(10*time.Minute, time.Minute)
	s.want("before", s.backups("web-1-data"), "full available")
	s.Cloud.SetVolumeMetadata(s.Seeded.Volumes["web-1-data"], map[string]string{"skip-volume-backup": "yes"})
	s.pass(6*time.Hour, 10*time.Minute)
	s.want("six hours later", s.backups("web-1-data"), "full available")
	s.want("failures", s.failures("alpha"))
}

// The event's name proves nothing, nor does what it says: Cinder is asked.
func TestANotificationThatSaysMoreThanThereIs(t *testing.T) {
	s := tell(t, world.Options{}).quiet()
	s.step(5 * time.Second)
	s.Cloud.FailNextBackup(s.Seeded.Volumes["web-1-data"], "rados: timed out")
	s.optIn("web-1")
	s.step(5 * time.Second)
	b := s.backupsOf("web-1-data")[0]
	data, err := json.Marshal(map[string]any{"backup_id": b.ID, "tenant_id": b.Project, "volume_id": b.Volume, "status": "available", "size": 1})
	s.check(err)
	lie := func() {
		s.check(s.Deliver(s.ctx, events.Event{ID: "lie", Type: "backup.create.end", At: s.Now(), Data: data}))
		s.step(5 * time.Second)
	}
	lie()
	s.want("while it is being made", s.backups("web-1-data"), "full creating")
	for s.backupsOf("web-1-data")[0].Status == "creating" {
		s.Cloud.Advance()
		s.Jump(s.Now().Add(time.Second))
	}
	lie()
	sv, _ := s.Cloud.Server(s.Seeded.Servers["web-1"])
	if n := s.said.times("backup complete"); n != 0 || sv.Metadata["last-backup-time"] != "" {
		t.Errorf("told complete %d times, last-backup-time=%q, while Cinder says %s", n, sv.Metadata["last-backup-time"], s.backupsOf("web-1-data")[0].Status)
	}
	s.pass(10*time.Minute, 10*time.Second)
	s.want("the second attempt", s.backups("web-1-data"), "full deleted", "full available")
}

// A list of what has changed lacks a server whose key was removed: lists are
// complete ones.
func TestAnOptInThatIsTakenBackUnheard(t *testing.T) {
	for _, user := range []string{"backup-svc", "backup-min"} {
		t.Run(user, func(t *testing.T) {
			s := tell(t, world.Options{Deaf: true, User: user, Environ: []string{"STAFFELN_BACKUP_PERIOD=2h"}}).quiet()
			s.optIn("web-1")
			s.pass(30*time.Minute, time.Minute)
			s.want("before", s.backups("web-1-data"), "full available")
			s.Cloud.SetServerMetadata(s.Seeded.Servers["web-1"], map[string]string{})
			s.pass(6*time.Hour, 10*time.Minute)
			s.want("six hours later", s.backups("web-1-data"), "full available")
			s.want("failures", s.failures("alpha"))
		})
	}
}

// Refusals and failures that mean "make it full", and a full one that nobody asked
// for.
func TestBackupsThatCannotBeIncremental(t *testing.T) {
	slots := func(s *tale, n int) { s.Helper(); s.pass(time.Duration(n)*time.Hour, 5*time.Minute) }
	environ := []string{"STAFFELN_BACKUP_PERIOD=1h", "STAFFELN_FULL_BACKUP_DEPTH=1"}
	begin := func(t *testing.T, o simcloud.Options) *tale {
		s := tell(t, world.Options{Environ: environ, Cloud: o}).quiet()
		s.optIn("web-1")
		s.pass(30*time.Minute, 5*time.Minute)
		s.want("before", s.backups("web-1-data"), "full available")
		return s
	}
	t.Run("refused at once, it is asked for as full within the slot", func(t *testing.T) {
		s := begin(t, simcloud.Options{})
		var refused atomic.Int32
		s.Cloud.SetInject(func(r *http.Request, op string) *simcloud.Fault {
			if op != "POST /volume/backups" {
				return nil
			}
			body, _ := io.ReadAll(r.Body)
			r.Body = io.NopCloser(bytes.NewReader(body))
			if !bytes.Contains(body, []byte(`"incremental":true`)) {
				return nil
			}
			refused.Add(1)
			return simcloud.Refused(400, "Invalid backup: No backups available to do an incremental backup.")
		})
		slots(s, 1)
		s.want("a full one", s.backups("web-1-data"), "full available", "full available")
		if n := refused.Load(); n != 1 {
			t.Errorf("asked for as incremental %d times", n)
		}
		s.want("failures", s.failures("alpha"))
	})
	for _, reason := range []string{
		"Volume size increased since the last backup. Do a full backup.",
		"Hash block size has changed since the last backup. New hash block size: 32768. Old hash block size: 16384. Do a full backup.",
	} {
		t.Run("failed: "+reason, func(t *testing.T) {
			s := begin(t, simcloud.Options{})
			s.Cloud.FailNextBackup(s.Seeded.Volumes["web-1-data"], reason)
			slots(s, 1)
			s.want("a full one", s.backups("web-1-data"), "full available", "incremental deleted", "full available")
			s.want("failures", s.failures("alpha"))
		})
	}
	t.Run("a volume that has grown is not tried as incremental", func(t *testing.T) {
		s := begin(t, simcloud.Options{Chunked: true})
		s.Cloud.Extend(s.Seeded.Volumes["web-1-data"], 2)
		slots(s, 1)
		s.want("a full one", s.backups("web-1-data"), "full available", "full available")
	})
	t.Run("one that the driver made full begins a chain", func(t *testing.T) {
		s := begin(t, simcloud.Options{})
		s.Cloud.FullNextBackup(s.Seeded.Volumes["web-1-data"])
		slots(s, 3)
		s.want("then", s.backups("web-1-data"), "full available", "full available", "incremental available", "full available")
		made := s.backupsOf("web-1-data")[1].ID
		r, ok, err := s.Home.Ledger.Find(s.ctx, made)
		s.check(err)
		if !ok || r.Kind != backup.Full {
			t.Errorf("the ledger has the backup as %q", r.Kind)
		}
		runs, err := s.Home.Ledger.Finished(s.ctx, s.Seeded.Projects["alpha"], 100)
		s.check(err)
		if i := slices.IndexFunc(runs, func(r backup.Run) bool { return r.Backup == made }); i < 0 || runs[i].Kind != backup.Full {
			t.Errorf("the ledger has the run as %+v", runs)
		}
	})
}

// A restart of cinder-backup turns what it was making into errors, and tells nobody.
func TestCinderBackupIsRestarted(t *testing.T) {
	for _, deaf := range []bool{false, true} {
		s := tell(t, world.Options{Deaf: deaf}).quiet()
		s.optIn("web-1")
		s.pass(time.Minute, 10*time.Second)
		s.want("before", s.backups("web-1-data"), "full creating")
		s.Cloud.CinderRestarted()
		s.pass(15*time.Minute, 30*time.Second)
		s.want("after", s.backups("web-1-data"), "full deleted", "full available")
		s.want("failures", s.failures("alpha"))
		s.once()
	}
}

// transfer gives a volume that is not attached to another project, as tenants do.
func (s *tale) transfer(volume, fromUser, fromProject, toUser, toProject string) {
	s.Helper()
	s.as(fromUser, fromProject, func(post func(path, body string) map[string]any) {
		made := post("/os-volume-transfer", fmt.Sprintf(`{"transfer": {"volume_id": %q, "name": "gift"}}`, s.Seeded.Volumes[volume]))["transfer"].(map[string]any)
		s.as(toUser, toProject, func(post func(path, body string) map[string]any) {
			post(fmt.Sprintf("/os-volume-transfer/%s/accept", made["id"]), fmt.Sprintf(`{"accept": {"auth_key": %q}}`, made["auth_key"]))
		})
	})
}

// as lets a tenant ask Cinder.
func (s *tale) as(user, project string, do func(post func(path, body string) map[string]any)) {
	s.Helper()
	send := func(address, token, body string) (*http.Response, map[string]any) {
		s.Helper()
		r, err := http.NewRequestWithContext(s.ctx, "POST", address, strings.NewReader(body))
		s.check(err)
		r.Header.Set("Content-Type", "application/json")
		r.Header.Set("X-Auth-Token", token)
		r.Header.Set("OpenStack-API-Version", "volume 3.64")
		resp, err := http.DefaultClient.Do(r)
		s.check(err)
		defer resp.Body.Close()
		var out map[string]any
		if err := json.NewDecoder(resp.Body).Decode(&out); err != nil || resp.StatusCode >= 300 {
			s.Fatalf("%s: %s %v %v", address, resp.Status, out, err)
		}
		return resp, out
	}
	resp, out := send(s.Cloud.AuthURL()+"/auth/tokens", "", fmt.Sprintf(`{"auth": {"identity": {"methods": ["password"],
		"password": {"user": {"name": %q, "domain": {"id": "default"}, "password": "devcloud"}}},
		"scope": {"project": {"name": %q, "domain": {"id": "default"}}}}}`, user, project))
	for _, service := range out["token"].(map[string]any)["catalog"].([]any) {
		if service := service.(map[string]any); service["type"] == "volumev3" {
			base := service["endpoints"].([]any)[0].(map[string]any)["url"].(string)
			do(func(path, body string) map[string]any {
				_, out := send(base+path, resp.Header.Get("X-Subject-Token"), body)
				return out
			})
			return
		}
	}
	s.Fatal("no volumev3 in the catalog")
}

// A volume that is given to another project starts a chain of its own there; what
// it had before stays where it is.
func TestAVolumeThatMovesStartsAnewInItsProject(t *testing.T) {
	for _, user := range []string{"backup-svc", "backup-min"} {
		t.Run(user, func(t *testing.T) {
			s := tell(t, world.Options{User: user, Environ: []string{"STAFFELN_BACKUP_PERIOD=2h"}, Cloud: simcloud.Options{Quota: unlimited}}).quiet()
			s.optIn("web-1")
			s.optIn("app-1")
			s.pass(2*time.Hour+20*time.Minute, 10*time.Minute)
			s.want("before", s.backups("web-1-data"), "full available", "incremental available")
			s.Cloud.Detach(s.Seeded.Servers["web-1"], s.Seeded.Volumes["web-1-data"])
			s.transfer("web-1-data", "alice", "alpha", "bob", "beta")
			s.Cloud.Attach(s.Seeded.Servers["app-1"], s.Seeded.Volumes["web-1-data"])
			s.pass(4*time.Hour, 10*time.Minute)
			s.want("after", s.backups("web-1-data"), "full available", "incremental available",
				"full available", "incremental available", "incremental available")
			for i, b := range s.backupsOf("web-1-data") {
				if want := s.Seeded.Projects[map[bool]string{true: "alpha", false: "beta"}[i < 2]]; b.Project != want {
					t.Errorf("backup %d is in project %s", i, b.Project)
				}
			}
			s.want("alpha's failures", s.failures("alpha"))
			s.want("beta's failures", s.failures("beta"))
			s.points()
		})
	}
}

// An encrypted volume of which the service may not have the key is the operator's
// to mend: nobody else's backups wait for it.
func TestAVolumeWhoseKeyIsRefused(t *testing.T) {
	s := tell(t, world.Options{Environ: []string{"STAFFELN_BACKUP_PERIOD=2h"}}).quiet()
	s.refuseBackups("db-1-data", 403, "Policy doesn't allow to read the key of the volume.")
	s.optIn("db-1")
	s.optIn("web-1")
	s.optIn("app-1")
	s.pass(4*time.Hour+20*time.Minute, 5*time.Minute)
	s.want("the same project goes on", s.backups("web-1-data"), "full available", "incremental available", "incremental available")
	s.want("others, too", s.backups("app-1-data"), "full available", "incremental available", "incremental available")
	s.want("the volume", s.backups("db-1-data"))
	if s.said.times("level=ERROR", "read the key of the volume") == 0 && s.said.times("level=WARN", "read the key of the volume") == 0 && !s.erred("read the key of the volume") {
		t.Error("the operator is not told")
	}
	if got := s.failures("alpha"); len(got) != 2 || !strings.Contains(got[0], "read the key of the volume") {
		t.Errorf("failures: %q, want both slots that are over, and why", got)
	}
}

// erred says whether a function answered an error with these words.
func (s *tale) erred(words string) bool {
	return slices.ContainsFunc(s.Errors, func(err error) bool { return strings.Contains(err.Error(), words) })
}

// refuseBackups has Cinder refuse every backup of a volume.
func (s *tale) refuseBackups(volume string, status int, why string) {
	id := []byte(s.Seeded.Volumes[volume])
	s.Cloud.SetInject(func(r *http.Request, op string) *simcloud.Fault {
		if op != "POST /volume/backups" {
			return nil
		}
		body, _ := io.ReadAll(r.Body)
		r.Body = io.NopCloser(bytes.NewReader(body))
		if !bytes.Contains(body, id) {
			return nil
		}
		return simcloud.Refused(status, why)
	})
}

// Absent from a list is not deleted, nor is what a direct question does not find
// once.
func TestAServerThatIsOnlyMissedOnceIsNotGone(t *testing.T) {
	s := tell(t, world.Options{Deaf: true, Environ: []string{"STAFFELN_BACKUP_PERIOD=2h"}}).quiet()
	s.optIn("web-1")
	s.pass(30*time.Minute, time.Minute)
	s.want("before", s.backups("web-1-data"), "full available")
	var asked atomic.Int32
	s.Cloud.SetInject(func(_ *http.Request, op string) *simcloud.Fault {
		switch {
		case op == "GET /compute/servers/detail" && asked.Load() < 1:
			return simcloud.Short(100)
		case op == "GET /compute/servers/ID" && asked.Add(1) == 1:
			return simcloud.Refused(404, "Instance "+s.Seeded.Servers["web-1"]+" could not be found.")
		}
		return nil
	})
	s.pass(4*time.Hour, 5*time.Minute)
	if asked.Load() == 0 {
		t.Fatal("nobody asked for the server")
	}
	if n := s.said.times("server withdrawn"); n != 0 {
		t.Errorf("withdrawn %d times", n)
	}
	s.want("it goes on", s.backups("web-1-data"), "full available", "incremental available", "incremental available")
}

// Tokens end, a role is taken away and given back, a project is disabled for a
// while: what is under way is not lost, and others do not notice.
func TestRightsThatComeAndGo(t *testing.T) {
	for name, both := range map[string][2]func(s *tale){
		"every token is revoked": {func(s *tale) { s.Cloud.RevokeTokens("") }, func(*tale) {}},
		"the project is disabled": {
			func(s *tale) { s.Cloud.SetProjectEnabled(s.Seeded.Projects["alpha"], false); s.Cloud.RevokeTokens("") },
			func(s *tale) { s.Cloud.SetProjectEnabled(s.Seeded.Projects["alpha"], true) }},
		"the role is taken away everywhere": {
			func(s *tale) {
				s.Cloud.Revoke(s.Seeded.Users["backup-min"], simcloud.Inherited("member"))
				s.Cloud.RevokeTokens("")
			},
			func(s *tale) { s.Cloud.Grant(s.Seeded.Users["backup-min"], simcloud.Inherited("member")) }},
	} {
		t.Run(name, func(t *testing.T) {
			s := tell(t, world.Options{User: "backup-min", Environ: []string{"STAFFELN_BACKUP_PERIOD=2h"}}).quiet()
			s.optIn("web-1")
			s.optIn("app-1")
			s.pass(time.Minute, 10*time.Second)
			s.want("under way", s.backups("web-1-data"), "full creating")
			both[0](s)
			s.pass(40*time.Minute, 2*time.Minute)
			if name != "the role is taken away everywhere" {
				s.want("the other project goes on", s.backups("app-1-data"), "full available")
				if sv, _ := s.Cloud.Server(s.Seeded.Servers["app-1"]); sv.Metadata["last-backup-time"] == "" {
					t.Error("the other project's server was not told")
				}
			}
			both[1](s)
			s.check(s.Reconnect(s.ctx))
			s.pass(3*time.Hour, 5*time.Minute)
			for _, v := range []string{"web-1-data", "app-1-data"} {
				s.want(v, s.backups(v), "full available", "incremental available")
			}
			for _, server := range []string{"web-1", "app-1"} {
				if sv, _ := s.Cloud.Server(s.Seeded.Servers[server]); sv.Metadata["last-backup-time"] == "" {
					t.Errorf("%s was not told", server)
				}
			}
			s.once()
		})
	}
}

// A year, from a leap day to the next February, in zones whose clocks are put
// forward and back at other times: each volume has one backup for each day of its
// own calendar.
func TestAYearInSeveralZones(t *testing.T) {
	zones := map[string]string{"web-1": "Europe/Berlin", "db-1": "America/New_York", "app-2": "Australia/Lord_Howe", "mail-1": "Asia/Kathmandu", "batch-1": "America/Santiago"}
	environ := []string{"STAFFELN_FULL_BACKUP_DEPTH=0", "STAFFELN_RETENTION_TIME=3d", "STAFFELN_BACKUP_PERIOD=daily@02:30", "STAFFELN_RECONCILE_PERIOD=24h", "STAFFELN_BACKUPS_PERIOD=168h"}
	for server, zone := range zones {
		environ = append(environ, "STAFFELN_CLASS_"+strings.ToUpper(strings.ReplaceAll(server, "-", ""))+"_TIME_ZONE="+zone)
	}
	begin := time.Date(2028, 2, 20, 18, 0, 0, 0, time.UTC)
	redis := services.RedisServer(t) // the embedded one would take longer than all the rest
	redis.FlushAll()
	environ = append(environ, "STAFFELN_REDIS_URL="+redis.URL())
	s := tell(t, world.Options{Start: begin, Environ: environ, Deaf: true, Cloud: simcloud.Options{Quota: unlimited}}).quiet()
	for server := range zones {
		s.Cloud.SetServerMetadata(s.Seeded.Servers[server], map[string]string{"backup": strings.ReplaceAll(server, "-", "")})
	}
	days := 370
	if testing.Short() {
		days = 40 // the leap day and the first changes of the clocks
	}
	// All zones have had the slot of their day by 18:00 UTC, but for Lord Howe's, which
	// is that of the day after.
	for day := range days {
		s.Jump(begin.AddDate(0, 0, day))
		s.step(time.Minute)
		s.step(5 * time.Minute)
	}
	for server, name := range zones {
		zone, err := time.LoadLocation(name)
		s.check(err)
		perDay := map[string]int{}
		for _, b := range s.backupsOf(server + "-data") {
			slot, _, ok := backup.CinderBackup{Volume: b.Volume, Metadata: b.Metadata, Origin: backup.OriginService}.Run()
			if !ok {
				t.Fatalf("%s has a backup without a run: %v", server, b.Metadata)
			}
			local := slot.In(zone)
			perDay[local.Format(time.DateOnly)]++
			if at := local.Format("15:04"); at != "02:30" && at != "03:30" {
				t.Errorf("%s has a slot at %s", server, local)
			}
		}
		if len(perDay) != days {
			t.Errorf("%s in %s: backups of %d days, want %d", server, name, len(perDay), days)
		}
		first := begin.In(zone)
		for i := range days {
			day := time.Date(first.Year(), first.Month(), first.Day()+i, 12, 0, 0, 0, time.UTC).Format(time.DateOnly)
			if perDay[day] != 1 {
				t.Errorf("%s in %s: %d backups of %s", server, name, perDay[day], day)
			}
		}
	}
	for _, project := range []string{"alpha", "beta"} {
		s.want(project+"'s failures", s.failures(project))
	}
}

// Ten thousand servers opt in at once: no more backups are under way than allowed,
// every project has its share, and nobody is forgotten.
func TestTenThousandServersOptIn(t *testing.T) {
	redis := services.RedisServer(t) // with ten thousand of anything, the embedded one is slow
	redis.FlushAll()
	const projects, most = 20, 100
	each := 500
	if testing.Short() {
		each = 100
	}
	s := tell(t, world.Options{Deaf: true, Environ: []string{"STAFFELN_REDIS_URL=" + redis.URL(), "STAFFELN_MAX_RUNNING=100", "STAFFELN_RECONCILE_PERIOD=24h", "STAFFELN_BACKUPS_PERIOD=24h"},
		Cloud: simcloud.Options{Workers: -1, Quota: unlimited, BackupTime: func(simcloud.Volume, bool) time.Duration { return time.Minute }}}).quiet()
	var ids []string
	for p := range projects {
		ids = append(ids, s.Cloud.AddProject(fmt.Sprintf("p%02d", p)))
	}
	for i := range projects * each {
		id := ids[i%projects]
		s.Cloud.AddServer(id, fmt.Sprintf("s%05d", i), map[string]string{"backup": "yes"}, s.Cloud.AddVolume(id, "v", 1, nil))
	}
	s.Cloud.Reset()
	for round := range 6 {
		s.step(10 * time.Second)
		running := map[string]int{}
		n := 0
		for _, b := range s.Cloud.Backups() {
			if b.Status == "creating" {
				running[b.Project]++
				n++
			}
		}
		if n > most {
			t.Fatalf("%d under way, want %d at most", n, most)
		}
		if round < 5 {
			continue
		}
		if n != most {
			t.Errorf("%d under way, want %d", n, most)
		}
		// Whichever shard came first has taken the places; among its projects they are
		// shared evenly.
		for _, id := range ids {
			if share := (most + len(running) - 1) / len(running); running[id] > share {
				t.Errorf("a project has %d of %d places, which %d share", running[id], n, len(running))
			}
		}
	}
	if n := s.posts(); n != most {
		t.Errorf("%d backups were asked for, want %d", n, most)
	}
	protected := 0
	for shard := range s.Home.Ledger.Shards() {
		all, err := s.Home.Ledger.Volumes(s.ctx, shard)
		s.check(err)
		protected += len(all)
	}
	if protected != projects*each {
		t.Errorf("%d volumes are protected, want all %d", protected, projects*each)
	}
	calls := 0
	for _, n := range s.Cloud.Calls() {
		calls += n
	}
	// Lists of a thousand, and a few calls for each backup that was begun.
	if calls > 2*projects*each/1000+10*most+20*projects {
		t.Errorf("%d calls: %v", calls, s.Cloud.Calls())
	}
	s.step(time.Minute)
	s.step(10 * time.Second)
	done := 0
	for _, b := range s.Cloud.Backups() {
		if b.Status == "available" {
			done++
		}
	}
	if done != most || s.posts() != 2*most {
		t.Errorf("a minute later %d are done and %d were asked for, want %d and %d", done, s.posts(), most, 2*most)
	}
}

// A process that is told of no projects, or of fewer, takes nothing for gone that is
// under way elsewhere.
func TestAProcessThatKnowsNoProjects(t *testing.T) {
	for name, o := range map[string]struct {
		user, op string
		fault    func() *simcloud.Fault
	}{
		"least rights, a list of projects that is short":  {"backup-min", "GET /identity/auth/projects", func() *simcloud.Fault { return simcloud.Short(3) }},
		"least rights, no list of projects":               {"backup-min", "GET /identity/auth/projects", func() *simcloud.Fault { return simcloud.Page(503) }},
		"an admin, a list of projects that is empty":      {"backup-svc", "GET /identity/projects", func() *simcloud.Fault { return simcloud.Short(1000) }},
		"an admin, whom Keystone does not tell a project": {"backup-svc", "GET /identity/projects/ID", func() *simcloud.Fault { return simcloud.Page(503) }},
	} {
		t.Run(name, func(t *testing.T) {
			s := tell(t, world.Options{User: o.user, Cloud: simcloud.Options{Quota: unlimited}})
			s.Cloud.SetQuota(s.Seeded.Projects["gamma"], *unlimited)
			s.pass(time.Minute, 10*time.Second)
			begun := len(s.Cloud.Backups())
			if begun < 9 {
				t.Fatalf("only %d backups have begun", begun)
			}
			s.Cloud.SetInject(func(_ *http.Request, op string) *simcloud.Fault {
				if op == o.op {
					return o.fault()
				}
				return nil
			})
			_ = s.Reconnect(s.ctx) // the second process, which may not even start
			s.check(s.Home.Ledger.AskReconcile(s.ctx))
			s.pass(15*time.Minute, time.Minute)
			if n := s.said.times("server withdrawn"); n != 0 {
				t.Errorf("%d servers are taken for gone", n)
			}
			s.Cloud.SetInject(nil)
			s.check(s.Reconnect(s.ctx))
			s.check(s.Home.Ledger.AskReconcile(s.ctx))
			s.pass(20*time.Minute, time.Minute)
			for _, b := range s.Cloud.Backups() {
				r, ok, err := s.Home.Ledger.Find(s.ctx, b.ID)
				s.check(err)
				if b.Status != "available" || !ok || r.Volume != b.Volume {
					t.Errorf("backup %s is %s, known to the ledger: %v", b.Name, b.Status, ok)
				}
			}
			if n := s.posts(); n != len(s.Cloud.Backups()) {
				t.Errorf("%d backups were asked for, there are %d", n, len(s.Cloud.Backups()))
			}
			for _, server := range []string{"web-1", "db-1", "app-1", "app-2", "mail-1", "erp-1", "erp-2", "erp-3"} {
				if sv, _ := s.Cloud.Server(s.Seeded.Servers[server]); sv.Metadata["last-backup-time"] == "" {
					t.Errorf("%s was not told", server)
				}
			}
			s.once()
		})
	}
}

// A first backup that failed is nothing to build on, in whatever slot, though it
// cannot be removed and stays in every list.
func TestAFirstBackupThatFails(t *testing.T) {
	s := tell(t, world.Options{Environ: []string{"STAFFELN_BACKUP_PERIOD=1h"}}).quiet()
	for range 4 {
		s.Cloud.FailNextBackup(s.Seeded.Volumes["web-1-data"], "rados: timed out")
	}
	var early atomic.Int32
	s.Cloud.SetInject(func(r *http.Request, op string) *simcloud.Fault {
		switch op {
		case "DELETE /volume/backups/ID":
			return simcloud.Refused(403, "Policy doesn't allow backup:delete to be performed.")
		case "POST /volume/backups":
			body, _ := io.ReadAll(r.Body)
			r.Body = io.NopCloser(bytes.NewReader(body))
			if bytes.Contains(body, []byte(`"incremental":true`)) && !slices.Contains(s.backups("web-1-data"), "full available") {
				early.Add(1)
			}
		}
		return nil
	})
	s.optIn("web-1")
	s.pass(3*time.Hour+20*time.Minute, 5*time.Minute)
	s.want("two slots lost, and then a full one", s.backups("web-1-data"), "full error", "full error", "full error", "full error", "full available", "incremental available")
	s.want("each is told", s.failures("alpha"), "web-1-data: cinder: rados: timed out", "web-1-data: cinder: rados: timed out")
	if n := early.Load(); n != 0 {
		t.Errorf("asked for as incremental %d times with nothing to build on", n)
	}
}

// One volume takes longer than any deadline: the others do not wait for it, and when
// it ends it is known, protected and removed in its time as any other.
func TestASlowVolumeHoldsNobodyUp(t *testing.T) {
	var slow atomic.Value
	slow.Store("")
	s := tell(t, world.Options{Environ: hours(), Cloud: simcloud.Options{Quota: unlimited, BackupTime: func(v simcloud.Volume, _ bool) time.Duration {
		if v.ID == slow.Load() {
			return 5 * time.Hour
		}
		return 3 * time.Minute
	}}}).quiet()
	slow.Store(s.Seeded.Volumes["db-1-data"])
	s.optIn("web-1")
	s.optIn("db-1")
	s.pass(30*time.Minute, 5*time.Minute)
	slow.Store("")
	s.wantShort("it is slow", "db-1-data", "F:creating")
	s.pass(4*time.Hour+50*time.Minute, 5*time.Minute)
	s.wantShort("the others go on", "web-1-data", "F I I F I I")
	late := s.backupsOf("db-1-data")[0]
	if r, ok, err := s.Home.Ledger.Find(s.ctx, late.ID); err != nil || !ok || late.Status != "available" || r.Status != "available" {
		t.Errorf("the ledger has the late one as %+v (%v), %v", r, ok, err)
	}
	s.pass(10*time.Hour, 5*time.Minute)
	if got := s.short("db-1-data"); !strings.HasPrefix(got, "f i i f i i F") {
		t.Errorf("ten hours later: %s", got)
	}
	s.idle()
	s.once()
}

// One tenant's nonsense in a retention time is told to that tenant, and ends
// nobody's removals, not even his own.
func TestNonsenseForARetentionTime(t *testing.T) {
	for _, words := range []string{"9999y", "", "fortnight", "1\x00y" + strings.Repeat("9", 200)} {
		t.Run(fmt.Sprintf("%q", words), func(t *testing.T) {
			s := tell(t, world.Options{Environ: []string{"STAFFELN_BACKUP_PERIOD=2h", "STAFFELN_FULL_BACKUP_DEPTH=0", "STAFFELN_RETENTION_TIME=3h"}, Cloud: simcloud.Options{Quota: unlimited}}).quiet()
			s.Cloud.SetServerMetadata(s.Seeded.Servers["db-1"], map[string]string{"backup": "yes", "backup-retention": words})
			s.optIn("web-1")
			s.pass(9*time.Hour, 15*time.Minute)
			for _, v := range []string{"web-1-data", "db-1-data"} {
				if got := s.short(v); !strings.HasPrefix(got, "f f f F") {
					t.Errorf("%s: %s", v, got)
				}
			}
			s.idle()
			d, _, err := s.Home.Needs(s.Home.Cloud).Report().Preview(s.ctx, s.Home.Ledger, s.Seeded.Projects["alpha"], s.Now())
			s.check(err)
			if len(d.Invalid) != 1 || d.Invalid[0].Server != "db-1" || !strings.Contains(d.Invalid[0].Why, "backup-retention") {
				t.Errorf("the owner is told %+v", d.Invalid)
			}
		})
	}
}

// One volume that answers with 500 and one project whose lists answer with 503 are
// nobody else's trouble.
func TestTroubleWithOneIsNotTroubleForAll(t *testing.T) {
	t.Run("a volume of which every backup is refused", func(t *testing.T) {
		s := tell(t, world.Options{}).quiet()
		s.refuseBackups("db-1-data", 500, "The server has either erred or is incapable of performing the requested operation.")
		for _, server := range []string{"web-1", "db-1", "app-1", "mail-1"} {
			s.optIn(server)
		}
		s.pass(time.Hour, time.Minute)
		for _, v := range []string{"web-1-data", "app-1-data", "app-1-logs", "mail-1-data"} {
			s.want(v, s.backups(v), "full available")
		}
	})
	for _, user := range []string{"backup-svc", "backup-min"} {
		t.Run("a project whose lists fail, for "+user, func(t *testing.T) {
			s := tell(t, world.Options{User: user, Deaf: true, Environ: []string{"STAFFELN_BACKUP_PERIOD=2h"}}).quiet()
			alpha := "/" + s.Seeded.Projects["alpha"] + "/"
			for _, server := range []string{"web-1", "db-1", "app-1", "mail-1"} {
				s.optIn(server)
			}
			s.pass(20*time.Minute, time.Minute)
			s.Cloud.SetInject(func(r *http.Request, op string) *simcloud.Fault {
				if strings.HasPrefix(op, "GET /volume/") && strings.Contains(r.URL.Path, alpha) {
					return simcloud.Page(503)
				}
				return nil
			})
			s.pass(4*time.Hour, 5*time.Minute)
			s.want("alpha", s.backups("web-1-data"), "full available")
			for _, v := range []string{"app-1-data", "app-1-logs", "mail-1-data"} {
				s.want(v, s.backups(v), "full available", "incremental available", "incremental available")
			}
			s.Cloud.SetInject(nil)
			s.pass(2*time.Hour, 5*time.Minute)
			if got := s.backups("web-1-data"); len(got) < 2 || got[len(got)-1] != "incremental available" {
				t.Errorf("alpha, when its lists are back: %q", got)
			}
		})
	}
}

// Names of any letters and length are names, also where something fails.
func TestNamesOfAnyLetters(t *testing.T) {
	c := write(t, world.Options{Environ: []string{"STAFFELN_BACKUP_PERIOD=2h", "STAFFELN_REPORT_RECIPIENTS=owner@example.org"}})
	c.quiet()
	name := strings.Repeat("🚀é字", 85)
	v := c.Cloud.AddVolume(c.Seeded.Projects["alpha"], name, 1, nil)
	c.Seeded.Volumes["rocket"] = v
	c.Seeded.Servers["rocket"] = c.Cloud.AddServer(c.Seeded.Projects["alpha"], name, map[string]string{"backup": "yes"}, v)
	c.optIn("web-1")
	for range 2 {
		c.Cloud.FailNextBackup(v, strings.Repeat("💥\x00\r\n", 80))
	}
	c.pass(19*time.Hour, 10*time.Minute)
	if got := c.failures("alpha"); len(got) != 1 || !strings.Contains(got[0], "🚀") {
		t.Errorf("failures: %q", got)
	}
	c.pass(2*time.Hour, 10*time.Minute)
	got := c.backups("rocket")
	if len(got) < 4 || got[0] != "full deleted" || got[1] != "full deleted" || got[2] != "full available" || got[3] != "incremental available" {
		t.Errorf("its backups: %q", got)
	}
	if n := len(c.backups("web-1-data")); n < 10 {
		t.Errorf("another server has %d backups", n)
	}
	if got := c.to("owner@example.org"); len(got) != 1 || !strings.Contains(got[0].HTML, "🚀é字") {
		t.Errorf("%d letters: %q", len(got), c.subjects("owner@example.org"))
	}
	if len(c.Errors) > 0 {
		t.Errorf("%d errors, the first: %v", len(c.Errors), c.Errors[0])
	}
	c.accounts("owner@example.org")
}

// Several processes that all think the turn is theirs, since a lock has run out:
// each thing is done once.
func TestSeveralProcessesWithoutALock(t *testing.T) {
	c := write(t, world.Options{Environ: append(hours(), "STAFFELN_REPORT_RECIPIENTS=owner@example.org", "STAFFELN_REPORT_PERIOD=1h"), Cloud: simcloud.Options{Quota: unlimited}})
	c.quiet()
	for _, server := range []string{"web-1", "db-1", "app-1"} {
		c.optIn(server)
	}
	all := func() {
		c.check(c.Hear(c.ctx))
		var together sync.WaitGroup
		for range 3 {
			for _, f := range c.Home.Functions {
				for shard := range c.Home.Ledger.Shards() {
					if h := f.On["tick."+f.Name]; h != nil {
						together.Go(func() { _ = h(c.ctx, events.NewTick(f.Name, shard, c.Now())) })
					}
				}
			}
		}
		together.Wait()
	}
	c.Home.Build(c.Home.Cloud) // without the witness, who is for one goroutine
	asked := func() int { return c.Cloud.Calls()["DELETE /volume/backups/ID"] }
	for range 9 * 2 {
		c.Jump(c.Now().Add(30 * time.Minute))
		all()
		c.Jump(c.Now().Add(10 * time.Second))
		all()
	}
	c.once()
	for run, same := range c.Cloud.Duplicates(backup.MetaRun) {
		if len(same) > 1 {
			t.Errorf("%s has %d backups", run, len(same))
		}
	}
	for _, v := range []string{"web-1-data", "db-1-data", "app-1-data", "app-1-logs"} {
		if got := c.short(v); !strings.HasPrefix(got, "f i i F I I F") {
			t.Errorf("%s: %s", v, got)
		}
	}
	if n := asked(); n > 3*12 {
		t.Errorf("12 backups were to be deleted %d times", n)
	}
	if handed, letters := len(c.box.Handed()), len(c.box.Letters()); handed != letters || letters < 6 {
		t.Errorf("%d letters were handed over, of which %d are the first of their kind", handed, letters)
	}
}

// A run that ends while a digest is being sent is in the next one.
func TestARunThatEndsWhileTheDigestIsSent(t *testing.T) {
	takes := 3 * time.Minute
	c := write(t, world.Options{Environ: []string{"STAFFELN_REPORT_RECIPIENTS=owner@example.org", "STAFFELN_BACKUP_PERIOD=4h", "STAFFELN_DEADLINE_BASE=4h"},
		Cloud: simcloud.Options{BackupTime: func(simcloud.Volume, bool) time.Duration { return takes }}})
	c.quiet()
	c.optIn("web-1")
	c.pass(19*time.Hour+50*time.Minute, 10*time.Minute)
	c.Jump(sunday.Add(20*time.Hour - time.Minute))
	ended := 0
	c.box.SetTrouble(func(backup.Letter) world.Trouble {
		before := len(c.ended())
		c.Jump(c.Now().Add(35 * time.Minute))
		c.Cloud.Advance()
		for shard := range c.Home.Ledger.Shards() {
			for _, f := range c.Home.Functions {
				if f.Name == "track" {
					_ = f.On["tick.track"](c.ctx, events.NewTick("track", shard, c.Now()))
				}
			}
		}
		ended += len(c.ended()) - before
		return world.Trouble{}
	})
	// Another server of the same project has a run that is open when the digest waits no longer.
	takes = 150 * time.Minute
	c.optIn("db-1")
	c.step(30 * time.Second)
	c.Jump(sunday.Add(22 * time.Hour))
	c.Cloud.Advance()
	c.report()
	c.Jump(sunday.Add(22*time.Hour + 40*time.Minute))
	c.box.SetTrouble(nil)
	takes = 3 * time.Minute
	c.pass(23*time.Hour, 10*time.Minute)
	if ended == 0 {
		t.Error("nothing ended while the digest was sent")
	}
	c.accounts("owner@example.org")
}

// The zone of the host is nobody's: not that of schedules, nor of what is written.
func TestTheHostsZoneDoesNotMatter(t *testing.T) {
	if os.Getenv("TZ") == "Pacific/Kiritimati" {
		if _, offset := time.Now().Zone(); offset != 14*60*60 {
			t.Fatalf("the zone is not that of TZ: %d", offset)
		}
		return
	}
	again := []string{t.Name(), "TestFromOptingInToTheSecondSlot"}
	if !testing.Short() {
		again = append(again, "TestEverythingFailed")
	}
	cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.v", "-test.count=1", "-test.run=^("+strings.Join(again, "|")+")$")
	cmd.Env = append(os.Environ(), "TZ=Pacific/Kiritimati")
	out, err := cmd.CombinedOutput()
	if err != nil || strings.Count(string(out), "--- PASS: Test") != len(again) {
		t.Errorf("%v\n%s", err, out)
	}
}

// The backups of a project that is gone are removed when their time is over.
func TestTheBackupsOfADeletedProject(t *testing.T) {
	s := young(t, world.Options{})
	s.Cloud.DeleteServer(s.Seeded.Servers["web-1"])
	s.Cloud.DeleteVolume(s.Seeded.Volumes["web-1-data"])
	s.Cloud.DeleteProject(s.Seeded.Projects["alpha"])
	s.check(s.Reconnect(s.ctx))
	s.pass(72*time.Hour, 30*time.Minute)
	s.wantShort("three days later", "web-1-data", "f i i f i i f i")
}
