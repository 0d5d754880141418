package plan_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"flag"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"

	"staffeln/functions/backup"
	"staffeln/functions/plan"
	"staffeln/runtime/openstack"
	"staffeln/runtime/process"
	"staffeln/testutil/simcloud"
)

var update = flag.Bool("update", false, "write the golden files instead of comparing")

// A stage is a simulated cloud on a clock that is set, as the service sees it.
type stage struct {
	*testing.T
	cloud    *simcloud.Cloud
	service  *openstack.Cloud
	settings backup.Settings
	now      atomic.Int64
}

var base = time.Date(2026, 11, 1, 0, 0, 0, 0, time.UTC)

func newStage(t *testing.T, environ ...string) *stage {
	t.Helper()
	s := &stage{T: t}
	s.set(base)
	s.cloud = simcloud.New(simcloud.Options{Now: s.time, BackupTime: func(v simcloud.Volume, _ bool) time.Duration {
		if v.Metadata["slow"] != "" {
			return 1000 * time.Hour
		}
		return 0
	}})
	t.Cleanup(s.cloud.Close)
	id := s.cloud.AddProject("backups")
	s.cloud.AddUser("backup-svc", simcloud.Password, simcloud.On(id, "admin"), simcloud.Inherited("admin"))
	s.cloud.AddUser("backup-min", simcloud.Password, simcloud.Inherited("member"), simcloud.System("reader"))
	s.service = s.connect("backup-svc", "backups")
	s.settings = settingsOf(t, environ...)
	return s
}

// connect is the service's own adapter, in no network.
func (s *stage) connect(user, project string) *openstack.Cloud {
	s.Helper()
	env := map[string]string{"OS_AUTH_URL": s.cloud.AuthURL(), "OS_USERNAME": user, "OS_PASSWORD": simcloud.Password,
		"OS_USER_DOMAIN_NAME": "Default", "OS_PROJECT_DOMAIN_NAME": "Default", "OS_PROJECT_NAME": project}
	if project == "" {
		delete(env, "OS_PROJECT_NAME")
		delete(env, "OS_PROJECT_DOMAIN_NAME")
	}
	o, err := openstack.FromEnv(func(name string) (string, bool) { v, ok := env[name]; return v, ok })
	s.check(err)
	o.Transport, o.Now = s.cloud.Transport(), s.time
	c, err := openstack.Connect(s.Context(), o)
	s.check(err)
	return c
}

func settingsOf(t *testing.T, environ ...string) backup.Settings {
	t.Helper()
	s, err := process.Read(append([]string{"OS_AUTH_URL=http://127.0.0.1/", "OS_USERNAME=u", "OS_PASSWORD=p", "OS_USER_DOMAIN_NAME=Default"}, environ...))
	if err != nil {
		t.Fatal(err)
	}
	return s.Rules()
}

func (s *stage) check(err error) {
	s.Helper()
	if err != nil {
		s.Fatal(err)
	}
}

func (s *stage) time() time.Time  { return time.Unix(0, s.now.Load()).UTC() }
func (s *stage) set(at time.Time) { s.now.Store(at.UnixNano()) }

// at reads "22 14:05" as a time of November 2026, UTC.
func at(day string) time.Time {
	t, err := time.Parse("2006-01-02 15:04", "2026-11-"+day)
	if err != nil {
		panic(err)
	}
	return t
}

// project makes one with room for many backups.
func (s *stage) project(name string) string {
	id := s.cloud.AddProject(name)
	s.cloud.SetQuota(id, simcloud.Quota{Volumes: -1, Gigabytes: -1, Backups: 100, BackupGigabytes: 1000})
	return id
}

// server makes one with volumes named after it, of 2 GiB each: "web-1" with "data
// logs" has web-1-data and web-1-logs.
func (s *stage) server(project, name, wish string, volumes string) (server string, ids []string) {
	for v := range strings.FieldsSeq(volumes) {
		ids = append(ids, s.cloud.AddVolume(project, name+"-"+v, 2, nil))
	}
	metadata := map[string]string{}
	if wish != "" {
		metadata["backup"] = wish
	}
	return s.cloud.AddServer(project, name, metadata, ids...), ids
}

// backUp makes a backup of a volume as the service does: for a slot, three seconds
// after it. Kinds are "full" and "incremental".
func (s *stage) backUp(volume string, slot time.Time, kind backup.Kind) string {
	s.Helper()
	v, ok := s.cloud.Volume(volume)
	if !ok {
		s.Fatal("no volume", volume)
	}
	policy, server := s.settings.Classes[backup.Default], backup.Enrolment{}
	for _, id := range v.Servers {
		sv, _ := s.cloud.Server(id)
		wish := backup.ReadWish(sv.Metadata, sv.Tags, s.settings.Keys, s.settings.Classes)
		server = backup.Enrolment{Server: sv.ID, Name: sv.Name, Class: wish.Class, Retention: wish.Retention}
		policy = s.settings.Classes.Of(server)
	}
	made := slot.Add(3 * time.Second)
	s.set(made)
	run := backup.Run{Volume: volume, Project: v.Project, Slot: slot, Attempt: 1, Kind: kind}
	id, err := s.service.CreateBackup(s.Context(), v.Project, backup.Request{
		Volume: volume, Name: backup.Name("{VOLUME_NAME}-{BACKUP_DATE}", backup.Volume{ID: v.ID, Name: v.Name}, server.Name, slot),
		Incremental: kind == backup.Incremental, Metadata: backup.Metadata(run, policy, server, made),
	})
	s.check(err)
	s.cloud.Advance()
	return id
}

// nightly backs a volume up every night at 02:30 from one day of November to
// another, a full one every seventh night.
func (s *stage) nightly(volume string, from, to int) (ids []string) {
	for day := from; day <= to; day++ {
		kind := backup.Incremental
		if (day-from)%7 == 0 {
			kind = backup.Full
		}
		ids = append(ids, s.backUp(volume, time.Date(2026, 11, day, 2, 30, 0, 0, time.UTC), kind))
	}
	return ids
}

// own makes a backup of a tenant's.
func (s *stage) own(volume string, made time.Time, name string, incremental bool) string {
	s.Helper()
	s.set(made)
	v, _ := s.cloud.Volume(volume)
	id, err := s.service.CreateBackup(s.Context(), v.Project, backup.Request{Volume: volume, Name: name, Incremental: incremental, Metadata: map[string]string{}})
	s.check(err)
	s.cloud.Advance()
	return id
}

// forge makes a backup as a member of the project, with the metadata of another.
func (s *stage) forge(like string, made time.Time, name string) string {
	s.Helper()
	s.set(made)
	b, _, _ := s.cloud.Backup(like)
	s.cloud.AddUser("mallory", simcloud.Password, simcloud.On(b.Project, "member"))
	id, err := s.connect("mallory", "").CreateBackup(s.Context(), b.Project, backup.Request{Volume: b.Volume, Name: name, Metadata: maps.Clone(b.Metadata)})
	s.check(err)
	s.cloud.Advance()
	return id
}

// plan makes one, and proves on the way that it asked for nothing to be changed.
func (s *stage) plan(r plan.Reader, only string, moment, now time.Time) (plan.Plan, error) {
	s.Helper()
	s.set(now)
	if r.Cloud == nil {
		r.Cloud = s.service
	}
	r.Settings = s.settings
	s.cloud.Advance()
	s.cloud.Reset()
	f, err := r.Read(s.Context(), only, moment, now)
	for call := range s.cloud.Calls() {
		if !strings.HasPrefix(call, "GET ") && call != "POST /identity/auth/tokens" {
			s.Errorf("the plan asked for %s", call)
		}
	}
	if log := s.cloud.Log(); len(log) > 0 {
		s.Errorf("the plan changed something: %v", log)
	}
	if err != nil {
		return plan.Plan{}, err
	}
	return plan.Make(r.Settings, f, moment), nil
}

const nights = "STAFFELN_BACKUP_PERIOD=daily@02:30"

// Every situation has a table and a JSON beside it in testdata.
func TestSituations(t *testing.T) {
	for _, tc := range []struct {
		name    string
		environ []string
		// only is the project asked for; all is --all.
		only string
		all  bool
		at   string
		now  string
		tell func(s *stage)
	}{
		{name: "an empty cloud has nothing to do", at: "22 12:00", tell: func(*stage) {}},
		{name: "a server that opts in has all its volumes started at once", environ: []string{nights}, at: "22 12:00", tell: func(s *stage) {
			p := s.project("alpha")
			s.server(p, "web-1", "yes", "data logs")
			s.server(p, "idle-1", "", "data")
		}},
		{name: "the next night as the cloud is now", environ: []string{nights, "STAFFELN_SPREAD_WINDOW=1h", "STAFFELN_CLASS_GOLD_PERIOD=6h", "STAFFELN_CLASS_GOLD_FULL_BACKUP_DEPTH=0"},
			now: "22 12:00", at: "23 03:30", tell: func(s *stage) {
				alpha, beta := s.project("alpha"), s.project("beta")
				_, web := s.server(alpha, "web-1", "yes", "data logs")
				s.nightly(web[0], 16, 22) // its chain is complete
				s.nightly(web[1], 20, 22)
				_, db := s.server(beta, "db-1", "gold", "data scratch")
				s.backUp(db[0], at("22 12:00"), backup.Full)
				s.cloud.SetVolumeMetadata(db[1], map[string]string{"skip-volume-backup": "yes"})
			}},
		{name: "everything, also what has not come and what stays", environ: []string{nights}, all: true, at: "22 12:00", tell: func(s *stage) {
			p := s.project("alpha")
			_, web := s.server(p, "web-1", "yes", "data logs scratch")
			s.nightly(web[0], 20, 22)
			s.cloud.SetVolumeMetadata(web[2], map[string]string{"skip-volume-backup": "yes"})
			s.cloud.SetVolumeMetadata(web[1], map[string]string{"slow": "yes"})
			s.backUp(web[1], at("22 02:30"), backup.Full)
		}},
		{name: "what cannot start says why", environ: []string{nights, "STAFFELN_VOLUME_LIMIT=3", "STAFFELN_CLASS_OFFICE_BLACKOUT=08:00-18:00"},
			at: "22 12:00", tell: func(s *stage) {
				full, alpha, office := s.project("full"), s.project("limited"), s.project("office")
				_, v := s.server(full, "erp-1", "yes", "a b c")
				s.cloud.SetQuota(full, simcloud.Quota{Volumes: 10, Gigabytes: 100, Backups: 2, BackupGigabytes: 1000})
				s.backUp(v[0], at("21 02:30"), backup.Full)
				s.server(alpha, "web-1", "yes", "a b c d")
				_, shelved := s.server(office, "desk-1", "yes", "a")
				s.cloud.SetVolumeStatus(shelved[0], "reserved")
				s.server(office, "desk-2", "office", "a")
			}},
		{name: "limits let a few start and the others after them", environ: []string{nights, "STAFFELN_MAX_RUNNING=3", "STAFFELN_MAX_RUNNING_PER_PROJECT=2"},
			at: "22 12:00", tell: func(s *stage) {
				s.server(s.project("alpha"), "web-1", "yes", "a b c d")
				s.server(s.project("beta"), "app-1", "yes", "a b")
			}},
		{name: "a second attempt after a broken backup", environ: []string{nights}, at: "22 02:40", tell: func(s *stage) {
			_, v := s.server(s.project("alpha"), "web-1", "yes", "a b")
			s.nightly(v[0], 20, 21)
			s.nightly(v[1], 20, 21)
			s.cloud.FailNextBackup(v[0], "rados: connection timed out")
			s.backUp(v[0], at("22 02:30"), backup.Incremental)
			s.backUp(v[1], at("22 02:30"), backup.Incremental)
		}},
		{name: "no cinder-backup service is up", environ: []string{nights}, at: "22 12:00", tell: func(s *stage) {
			s.server(s.project("alpha"), "web-1", "yes", "a")
			s.cloud.SetBackupService("sim", false)
		}},
		{name: "servers that meant to opt in and ones with nothing to protect", environ: []string{nights, "STAFFELN_CLASS_GOLD_PERIOD=6h"}, at: "22 12:00", tell: func(s *stage) {
			p := s.project("alpha")
			s.server(p, "typo-1", "glod", "a")
			s.server(p, "empty-1", "yes", "")
			id, v := s.server(p, "odd-1", "gold", "a")
			s.cloud.SetServerMetadata(id, map[string]string{"backup": "gold", "backup-schedule": "whenever", "backup-retention": "1s"})
			s.backUp(v[0], at("22 12:00"), backup.Full)
		}},
		{name: "an expired chain goes leaf first", environ: []string{nights, "STAFFELN_RETENTION_TIME=1w"}, all: true, at: "22 12:00", tell: func(s *stage) {
			p := s.project("alpha")
			_, v := s.server(p, "web-1", "yes", "data")
			s.nightly(v[0], 4, 22)
		}},
		{name: "a tenant's own child, a hold and a broken one", environ: []string{nights, "STAFFELN_RETENTION_TIME=1w"}, all: true, at: "22 12:00", tell: func(s *stage) {
			p := s.project("alpha")
			_, v := s.server(p, "web-1", "yes", "child hold broken")
			s.nightly(v[0], 1, 2)
			s.own(v[0], at("02 09:00"), "by hand", true)
			s.nightly(v[0], 15, 22)
			held := s.nightly(v[1], 1, 3)
			m := maps.Clone(s.show(p, held[1]).Metadata)
			m[backup.MetaHold] = "lawyers"
			s.cloud.SetBackupMetadata(held[1], m)
			s.nightly(v[1], 15, 22)
			s.cloud.FailNextBackup(v[2], "rados: no space left on device")
			s.backUp(v[2], at("14 02:30"), backup.Full)
			s.nightly(v[2], 15, 22)
		}},
		{name: "archive rules keep what the retention time does not", environ: []string{nights, "STAFFELN_RETENTION_TIME=3d", "STAFFELN_ARCHIVE_RULES=daily=2 weekly=3", "STAFFELN_FULL_BACKUP_DEPTH=0"},
			all: true, at: "22 12:00", tell: func(s *stage) {
				_, v := s.server(s.project("alpha"), "web-1", "yes", "data")
				for day := 8; day <= 22; day++ {
					s.backUp(v[0], time.Date(2026, 11, day, 2, 30, 0, 0, time.UTC), backup.Full)
				}
			}},
		{name: "the newest restore point stays when everything fails", environ: []string{nights, "STAFFELN_RETENTION_TIME=1w"}, all: true, at: "29 12:00", tell: func(s *stage) {
			_, v := s.server(s.project("alpha"), "web-1", "yes", "data")
			s.nightly(v[0], 1, 3)
		}},
		{name: "a deleted volume keeps its backups to the end of their time", environ: []string{nights, "STAFFELN_RETENTION_TIME=1w"}, all: true,
			now: "09 12:00", at: "13 12:00", tell: func(s *stage) {
				_, v := s.server(s.project("alpha"), "web-1", "yes", "data")
				s.nightly(v[0], 1, 5)
				s.cloud.DeleteVolume(v[0])
			}},
		{name: "the brake of a project holds everything", environ: []string{nights, "STAFFELN_RETENTION_TIME=1w", "STAFFELN_FULL_BACKUP_DEPTH=0"}, at: "22 12:00", tell: func(s *stage) {
			alpha, beta := s.project("alpha"), s.project("beta")
			_, v := s.server(alpha, "web-1", "yes", "data")
			_, w := s.server(beta, "app-1", "yes", "data")
			for day := 1; day <= 22; day++ {
				slot := time.Date(2026, 11, day, 2, 30, 0, 0, time.UTC)
				if day <= 15 {
					s.backUp(v[0], slot, backup.Full)
				}
				if day >= 14 {
					s.backUp(w[0], slot, backup.Full)
				}
			}
		}},
		{name: "the first of a month goes to the archive container", environ: []string{nights, "STAFFELN_ARCHIVE_CONTAINER=vault"},
			now: "01 12:00", at: "01 12:00", tell: func(s *stage) {
				_, v := s.server(s.project("alpha"), "web-1", "yes", "data logs")
				for day := -2; day <= 0; day++ { // the last nights of October
					s.backUp(v[0], time.Date(2026, 11, day, 2, 30, 0, 0, time.UTC), backup.Full)
				}
			}},
		{name: "the example of the manual", environ: []string{nights, "STAFFELN_RETENTION_TIME=1w"}, now: "22 12:00", at: "23 03:30", tell: func(s *stage) {
			alpha, beta := s.project("alpha"), s.project("beta")
			_, web := s.server(alpha, "web-1", "yes", "data")
			s.nightly(web[0], 8, 22)
			_, db := s.server(alpha, "db-1", "yes", "data")
			s.nightly(db[0], 14, 15)
			s.own(db[0], at("15 09:00"), "before the upgrade", true)
			s.nightly(db[0], 16, 22)
			s.server(beta, "app-1", "glod", "data")
			_, erp := s.server(beta, "erp-1", "yes", "data logs")
			s.cloud.SetQuota(beta, simcloud.Quota{Volumes: -1, Gigabytes: -1, Backups: 2, BackupGigabytes: 1000})
			s.nightly(erp[0], 22, 22)
		}},
		{name: "a tenant's copies of our metadata count for nothing", environ: []string{nights, "STAFFELN_RETENTION_TIME=1d"}, all: true, at: "22 12:00", tell: func(s *stage) {
			p := s.project("alpha")
			_, v := s.server(p, "web-1", "yes", "data")
			made := s.nightly(v[0], 19, 20) // and then none: the service is down
			s.forge(made[1], at("22 02:30"), "web-1-data-20261122T023000Z")
		}},
		{name: "nobody can say who made the backups", environ: []string{nights, "STAFFELN_RETENTION_TIME=1d"}, at: "22 12:00", tell: func(s *stage) {
			p := s.project("alpha")
			_, v := s.server(p, "web-1", "yes", "data")
			s.nightly(v[0], 1, 22)
			s.service = s.connect("backup-min", "")
		}},
		{name: "one project by its name", only: "beta", environ: []string{nights}, at: "22 12:00", tell: func(s *stage) {
			s.server(s.project("alpha"), "web-1", "yes", "data")
			s.server(s.project("beta"), "app-1", "yes", "data")
		}},
		{name: "names that are not for a terminal", environ: []string{nights}, at: "22 12:00", tell: func(s *stage) {
			p := s.project("alpha")
			s.server(p, "\x1b[31mred\x1b[0m", "yes", "a")
			s.server(p, "<b>bold</b>", "no|way", "a")
			s.server(p, "a-server-whose-name-is-much-longer-than-any-column-could-be-and-then-some-more", "yes", "a")
		}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			s := newStage(t, tc.environ...)
			tc.tell(s)
			now := at(tc.at)
			if tc.now != "" {
				now = at(tc.now)
			}
			p, err := s.plan(plan.Reader{}, tc.only, at(tc.at), now)
			s.check(err)
			if !tc.all {
				p = p.Acts()
			}
			golden(t, strings.NewReplacer(" ", "-", "'", "", ",", "").Replace(tc.name), p)
		})
	}
}

func (s *stage) show(project, id string) backup.CinderBackup {
	s.Helper()
	b, err := s.service.Backup(s.Context(), project, id)
	s.check(err)
	return b
}

// golden compares both forms of a plan with what is written down.
func golden(t *testing.T, name string, p plan.Plan) {
	t.Helper()
	var table bytes.Buffer
	if err := p.Table(&table); err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(table.String()) {
		if n := utf8.RuneCountInString(strings.TrimSuffix(line, "\n")); n > plan.Width {
			t.Errorf("a line of %d columns: %s", n, line)
		}
		if strings.TrimRight(line, " \n") != strings.TrimSuffix(line, "\n") {
			t.Errorf("a line ends in blanks: %q", line)
		}
	}
	js, err := json.MarshalIndent(p, "", "  ")
	if err != nil {
		t.Fatal(err)
	}
	var again plan.Plan
	if err := json.Unmarshal(js, &again); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(p, again); diff != "" {
		t.Errorf("the JSON does not hold it all (-plan +read):\n%s", diff)
	}
	for ext, got := range map[string][]byte{".txt": table.Bytes(), ".json": append(js, '\n')} {
		path := filepath.Join("testdata", name+ext)
		if *update {
			if err := errors.Join(os.MkdirAll("testdata", 0o755), os.WriteFile(path, got, 0o644)); err != nil {
				t.Fatal(err)
			}
			continue
		}
		want, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(string(want), string(got)); diff != "" {
			t.Errorf("%s (-want +got; go test -update writes it):\n%s", path, diff)
		}
	}
}
