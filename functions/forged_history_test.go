package functions_test

import (
	"bytes"
	"encoding/json"
	"io"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"staffeln/functions/backup"
	"staffeln/testutil/simcloud"
	"staffeln/testutil/world"
)

// A member of a project can write any metadata on a backup of the project's, so also
// those of our backups. These tales are of such members.

// rights are what the service user may see: an admin sees who made a backup, a user with
// the least rights does where Cinder's policy has the line for it.
var rights = map[string]struct {
	user   string
	shown  bool // by Cinder's policy
	hidden bool // who made a backup
}{
	"as an admin":                             {user: "backup-svc"},
	"with the least rights, the maker shown":  {user: "backup-min", shown: true},
	"with the least rights, the maker hidden": {user: "backup-min", hidden: true},
}

// attacked is the volume that the tales are of, tenant the host that a member asks.
const attacked, tenant = "db-1-data", "tenant.invalid"

// hostile is a world of hourly slots in which only db-1 is protected, and its first slot
// is done.
func hostile(t *testing.T, who string, environ ...string) *tale {
	t.Helper()
	dir := t.TempDir()
	const facts = "{{range .Digest.Runs}}run {{.VolumeID}}@{{.Slot.UTC.Format \"20060102T150405Z\"}} {{if .OK}}ok{{else}}failed{{end}}\n{{end}}"
	if err := os.WriteFile(filepath.Join(dir, "digest.txt"), []byte(facts), 0o600); err != nil {
		t.Fatal(err)
	}
	s := tell(t, world.Options{User: rights[who].user, Mail: &world.Mailbox{}, Environ: append([]string{
		"STAFFELN_BACKUP_PERIOD=1h", "STAFFELN_FULL_BACKUP_DEPTH=0", "STAFFELN_RETENTION_TIME=2d", "STAFFELN_RECONCILE_PERIOD=10m",
		"STAFFELN_BACKUPS_PERIOD=10m", "STAFFELN_TEMPLATES=" + dir, "STAFFELN_REPORT_PERIOD=3h", "STAFFELN_REPORT_RECIPIENTS=owner@example.org"}, environ...)}).quiet()
	s.Cloud.SetQuota(s.Seeded.Projects["alpha"], simcloud.Quota{Volumes: -1, Gigabytes: -1, Backups: -1, BackupGigabytes: -1})
	if rights[who].shown {
		s.check(s.Cloud.SetPolicy(`"backup:backup_project_attribute": "rule:admin_api or user_id:` + s.Seeded.Users["backup-min"] + `"`))
	}
	s.step(5 * time.Second)
	s.optIn("db-1")
	s.pass(20*time.Minute, time.Minute)
	s.wantMakers("after the first slot", "ours")
	return s
}

// member sends a request to Cinder as a member of project alpha.
func (s *tale) member(method, path string, in, out any) {
	s.Helper()
	send := func(method, path, token string, in any) (*http.Response, []byte) {
		body, err := json.Marshal(in)
		s.check(err)
		r, err := http.NewRequestWithContext(s.ctx, method, "http://"+tenant+path, bytes.NewReader(body))
		s.check(err)
		r.Header = http.Header{"Content-Type": {"application/json"}, "X-Auth-Token": {token}, "Openstack-Api-Version": {"volume 3.64"}}
		resp, err := s.Cloud.Transport().RoundTrip(r)
		s.check(err)
		text, err := io.ReadAll(resp.Body)
		s.check(err)
		if resp.StatusCode >= 300 {
			s.Fatalf("%s %s: %d %s", method, path, resp.StatusCode, text)
		}
		return resp, text
	}
	project := s.Seeded.Projects["alpha"]
	resp, _ := send("POST", "/identity/v3/auth/tokens", "", map[string]any{"auth": map[string]any{
		"identity": map[string]any{"methods": []string{"password"}, "password": map[string]any{"user": map[string]any{
			"name": "alice", "password": simcloud.Password, "domain": map[string]any{"id": simcloud.DefaultDomain}}}},
		"scope": map[string]any{"project": map[string]any{"id": project}}}})
	_, text := send(method, "/volume/v3/"+project+"/"+path, resp.Header.Get("X-Subject-Token"), in)
	if out != nil {
		s.check(json.Unmarshal(text, out))
	}
}

// forge makes a full backup of the volume as a member of its project: with the metadata
// of our newest one, and these on top. It is complete when it returns.
func (s *tale) forge(more map[string]string) (id string) {
	s.Helper()
	all := s.ours()
	m := maps.Clone(all[len(all)-1].Metadata)
	maps.Copy(m, more)
	var made struct {
		Backup struct {
			ID string `json:"id"`
		} `json:"backup"`
	}
	s.member("POST", "backups", map[string]any{"backup": map[string]any{"volume_id": s.Seeded.Volumes[attacked], "name": "forged",
		"force": true, "metadata": m}}, &made)
	s.pass(4*time.Minute, time.Minute)
	return made.Backup.ID
}

// made says whether the service made a backup.
func (s *tale) made(b simcloud.Backup) bool {
	return b.Maker == s.Seeded.Users["backup-svc"] || b.Maker == s.Seeded.Users["backup-min"]
}

// ours are the volume's backups that the service made.
func (s *tale) ours() []simcloud.Backup {
	return slices.DeleteFunc(s.backupsOf(attacked), func(b simcloud.Backup) bool { return !s.made(b) })
}

// wantMakers compares whose the volume's backups are, oldest first: "ours", "forged";
// "gone" behind it where it is not there any more, and "increment" where it is one.
func (s *tale) wantMakers(what string, want ...string) {
	s.Helper()
	var got []string
	for _, b := range s.backupsOf(attacked) {
		words := "forged"
		if s.made(b) {
			words = "ours"
		}
		if b.Parent != "" {
			words += " increment"
		}
		if b.Status == "deleted" {
			words += " gone"
		}
		got = append(got, words)
	}
	s.want(what, got, want...)
}

// slot lets the time of the next slot come, and half an hour pass.
func (s *tale) slot() {
	s.Helper()
	next := s.Policies()[backup.Default].Schedule.Next(s.Now())
	s.pass(next.Sub(s.Now()), 5*time.Minute)
	s.pass(30*time.Minute, time.Minute)
}

// nextRun is the name of the run that is still to come.
func (s *tale) nextRun() string {
	return backup.RunID(s.Seeded.Volumes[attacked], s.Policies()[backup.Default].Schedule.Next(s.Now()))
}

// wantForeign compares what the metrics say of backups with our metadata that do not
// count as ours.
func (s *tale) wantForeign(what string, forged, unverified int) {
	s.Helper()
	s.check(s.Home.Ledger.AskReconcile(s.ctx))
	s.step(time.Minute)
	totals, err := s.Home.Ledger.Totals(s.ctx)
	s.check(err)
	if totals["forged"] != forged || totals["unverified"] != unverified {
		s.Errorf("%s: %d forged and %d unverified, want %d and %d", what, totals["forged"], totals["unverified"], forged, unverified)
	}
}

func each(t *testing.T, do func(t *testing.T, who string)) {
	for who := range rights {
		t.Run(who, func(t *testing.T) { do(t, who) })
	}
}

func TestForgedRestorePointsPushOutNoneOfOurs(t *testing.T) {
	each(t, func(t *testing.T, who string) {
		s := hostile(t, who, "STAFFELN_ARCHIVE_RULES=last=2", "STAFFELN_RETENTION_TIME=30s")
		s.slot()
		s.slot()
		s.wantMakers("after three slots", "ours gone", "ours", "ours")
		first, second := s.forge(nil), s.forge(map[string]string{backup.MetaRun: s.nextRun()})
		s.wantMakers("after two forged ones", "ours gone", "ours", "ours", "forged", "forged")
		if rights[who].hidden {
			s.wantForeign("two forged", 0, 2)
		} else {
			s.wantForeign("two forged", 2, 0)
		}
		s.slot()
		s.wantMakers("after the next slot", "ours gone", "ours gone", "ours", "forged", "forged", "ours")
		if s.said.times("does not count as ours", first) != 1 || s.said.times("does not count as ours", second) != 1 {
			t.Error("the operator was not told once of each")
		}
	})
}

func TestOursBuildOnNothingForged(t *testing.T) {
	each(t, func(t *testing.T, who string) {
		s := hostile(t, who, "STAFFELN_FULL_BACKUP_DEPTH=6")
		s.slot()
		s.wantMakers("a chain", "ours", "ours increment")
		s.forge(nil)
		s.slot()
		s.wantMakers("after a forged full backup, of which Cinder would make ours an increment", "ours", "ours increment", "forged", "ours")
		s.slot()
		s.wantMakers("and then on our own", "ours", "ours increment", "forged", "ours", "ours increment")
	})
}

func TestANameThatIsTakenBeforeItsSlot(t *testing.T) {
	each(t, func(t *testing.T, who string) {
		s := hostile(t, who)
		run := s.nextRun()
		s.forge(map[string]string{backup.MetaRun: run, backup.MetaKeepUntil: "2126-01-01T00:00:00Z"})
		s.slot()
		s.wantMakers("the slot is made", "ours", "forged", "ours")
		if got := s.ours()[1].Metadata[backup.MetaRun]; got != run {
			t.Errorf("made for %s, want %s", got, run)
		}
		for range 5 {
			s.slot()
		}
		told := map[string]int{}
		for _, l := range s.box.Letters() {
			for _, m := range regexp.MustCompile(`(?m)^run (\S+) ok$`).FindAllStringSubmatch(l.Text, -1) {
				told[m[1]]++
			}
		}
		if told[run] != 1 {
			t.Errorf("the run is complete in %d digests, want 1: %v", told[run], told)
		}
		for run := range told {
			if !slices.ContainsFunc(s.ours(), func(b simcloud.Backup) bool { return b.Metadata[backup.MetaRun] == run }) {
				t.Errorf("run %s is told as complete, and the service did not make it", run)
			}
		}
	})
}

func TestAHoldOnWhatIsForgedHoldsNothingElse(t *testing.T) {
	each(t, func(t *testing.T, who string) {
		s := hostile(t, who, "STAFFELN_RETENTION_TIME=1h30min")
		s.forge(map[string]string{backup.MetaHold: "yes"})
		s.slot()
		s.slot()
		s.slot()
		s.wantMakers("ours go when their time has come, the held one is the tenant's", "ours gone", "forged", "ours gone", "ours", "ours")
	})
}

// unheard lets Cinder take the next request for a backup and the answer be lost, and no
// list be seen until done is called.
func (s *tale) unheard() (done func()) {
	s.Cloud.SetInject(func(r *http.Request, op string) *simcloud.Fault {
		switch {
		case r.Host == tenant:
		case op == "POST /volume/backups":
			return simcloud.Lost()
		case op == "GET /volume/backups/detail" && s.posts() > 0:
			return simcloud.Refused(500, "Unexpected API Error.")
		}
		return nil
	})
	s.Cloud.Reset()
	s.slot()
	return func() { s.Cloud.SetInject(nil) }
}

func TestALostAnswerWithANonce(t *testing.T) {
	each(t, func(t *testing.T, who string) {
		s := hostile(t, who)
		done := s.unheard()
		s.wantMakers("Cinder has made it, and nobody has heard of it", "ours", "ours")
		if s.ours()[1].Metadata[backup.MetaNonce] == "" {
			t.Error("it has no nonce")
		}
		done()
		s.pass(10*time.Minute, time.Minute)
		s.wantMakers("it is adopted", "ours", "ours")
		s.wantForeign("it is known", 0, 0)
		if n := s.said.times("backup complete", s.ours()[1].ID); n != 1 {
			t.Errorf("it is told as complete %d times, want 1", n)
		}
		s.slot()
		s.wantMakers("the next slot is as ever", "ours", "ours", "ours")
	})
}

func TestALostAnswerWhoseNonceIsCopied(t *testing.T) {
	each(t, func(t *testing.T, who string) {
		s := hostile(t, who)
		done := s.unheard()
		forged := s.forge(nil)
		done()
		s.pass(20*time.Minute, time.Minute)
		if !rights[who].hidden {
			s.wantMakers("Cinder says which of the two is ours", "ours", "ours", "forged")
			s.wantForeign("one is", 1, 0)
			return
		}
		s.wantMakers("nobody knows which of the two is ours: the slot is made again", "ours", "ours", "forged", "ours")
		s.wantForeign("both may be", 0, 2)
		for _, id := range []string{forged, s.ours()[1].ID} {
			if s.said.times("backup complete", id) > 0 {
				t.Errorf("backup %s is told as complete", id)
			}
		}
		if s.ours()[1].Metadata[backup.MetaRun] != s.ours()[2].Metadata[backup.MetaRun] {
			t.Error("another slot was made")
		}
		s.slot()
		s.wantMakers("the next slot is as ever", "ours", "ours", "forged", "ours", "ours")
	})
}

// adopt is what an operator does who knows that the service made these backups.
func (s *tale) adopt(all ...simcloud.Backup) {
	s.Helper()
	var records []backup.Record
	for _, b := range all {
		r := backup.RecordOf(backup.CinderBackup{ID: b.ID, Project: b.Project, Volume: b.Volume, Status: b.Status, Size: b.Size,
			Incremental: b.Parent != "", Created: b.Created, Metadata: b.Metadata, Origin: backup.OriginService})
		r.Proof = backup.ByOperator
		records = append(records, r)
	}
	s.check(s.Home.Ledger.PutRecords(s.ctx, s.Seeded.Projects["alpha"], records))
	s.check(s.Home.Ledger.AskReconcile(s.ctx))
	s.check(s.Home.Ledger.LookRetention(s.ctx, s.Seeded.Projects["alpha"], s.Now()))
}

func TestRedisEmptiedBesideForgedBackups(t *testing.T) {
	each(t, func(t *testing.T, who string) {
		s := hostile(t, who, "STAFFELN_RETENTION_TIME=2h30min")
		s.slot()
		s.forge(nil)
		s.empty()
		s.pass(20*time.Minute, time.Minute)
		if !rights[who].hidden {
			s.wantMakers("Cinder says what is ours: the slot is done", "ours", "ours", "forged")
			s.wantForeign("one is not", 1, 0)
			s.slot()
			s.slot()
			s.wantMakers("and retention goes on", "ours gone", "ours", "forged", "ours", "ours")
			return
		}
		s.wantMakers("nobody knows what is ours: the slot is made again", "ours", "ours", "forged", "ours")
		s.wantForeign("all from before may be", 0, 3)
		s.slot()
		s.slot()
		s.slot()
		s.slot()
		s.wantMakers("nothing from before is removed", "ours", "ours", "forged", "ours gone", "ours gone", "ours", "ours", "ours")
		s.adopt(s.ours()[:2]...)
		s.pass(40*time.Minute, 5*time.Minute)
		s.wantMakers("what an operator has adopted goes as it should", "ours gone", "ours gone", "forged", "ours gone", "ours gone", "ours gone", "ours", "ours", "ours")
		s.wantForeign("the forged one stays", 0, 1)
	})
}

func TestRecordsOfAnOlderReleaseProveNothing(t *testing.T) {
	each(t, func(t *testing.T, who string) {
		s := hostile(t, who, "STAFFELN_RETENTION_TIME=2h30min")
		s.slot()
		id := s.forge(nil)
		// The older release had a record of everything that carries our metadata.
		s.unproven(id)
		s.slot()
		s.slot()
		if !rights[who].hidden {
			s.wantMakers("Cinder says what is ours", "ours gone", "ours", "forged", "ours", "ours")
			s.wantForeign("one is not", 1, 0)
			return
		}
		s.wantMakers("the slots go on, and nothing from before is removed", "ours", "ours", "forged", "ours", "ours")
		s.wantForeign("all from before may be", 0, 3)
		s.adopt(s.ours()[:2]...)
		s.pass(20*time.Minute, 5*time.Minute)
		s.wantMakers("what an operator has adopted goes as it should", "ours gone", "ours gone", "forged", "ours", "ours")
	})
}

// unproven makes the ledger's records what an older release has left: rows without a
// proof, and one for this backup, too.
func (s *tale) unproven(id string) {
	s.Helper()
	proof := regexp.MustCompile(` [mro]\n`)
	s.adopt(s.backupsOf(attacked)...)
	keys, err := s.Home.Redis.Keys(s.ctx, "*:records").Result()
	s.check(err)
	found := 0
	for _, key := range keys {
		rows, err := s.Home.Redis.HGetAll(s.ctx, key).Result()
		s.check(err)
		for field, row := range rows {
			if field == id {
				found++
			}
			s.check(s.Home.Redis.HSet(s.ctx, key, field, proof.ReplaceAllString(row, "\n")).Err())
		}
	}
	if found != 1 {
		s.Fatalf("%d records of backup %s in %s", found, id, strings.Join(keys, " "))
	}
}
