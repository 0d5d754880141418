package plan_test

import (
	"errors"
	"net/http"
	"os"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"staffeln/functions/backup"
	"staffeln/functions/plan"
	"staffeln/testutil/simcloud"
)

// night is the slot that the facts below are about, now an hour after it.
var (
	night = time.Date(2026, 11, 22, 2, 30, 0, 0, time.UTC)
	now   = night.Add(time.Hour)
)

// factsOf is a server with one volume, last backed up the night before, and an
// expired backup, with a ledger that knows both.
func factsOf() plan.Facts {
	v := backup.Volume{ID: "vol", Name: "web-1-data", Project: "p", Status: "in-use", Size: 2, Created: night.AddDate(0, -1, 0)}
	e := backup.Enrolment{Server: "srv", Name: "web-1", Project: "p", Class: "default", Volumes: []string{"vol"}}
	made := func(id string, slot time.Time) backup.CinderBackup {
		run := backup.Run{Volume: "vol", Slot: slot, Attempt: 1, Kind: backup.Full}
		return backup.CinderBackup{ID: id, Name: id, Project: "p", Volume: "vol", Status: "available", Origin: backup.OriginService, Size: 2, Created: slot,
			Metadata: backup.Metadata(run, backup.Policy{Retention: backup.Age{Weeks: 1}}, e, slot)}
	}
	yesterday := night.AddDate(0, 0, -1)
	return plan.Facts{
		Read: now, Clock: now,
		Servers: []backup.Server{{ID: "srv", Name: "web-1", Project: "p", Metadata: map[string]string{"backup": "yes"}, Volumes: []string{"vol"}}},
		Volumes: []backup.Volume{v}, Backups: []backup.CinderBackup{made("old", night.AddDate(0, 0, -12)), made("new", yesterday)},
		Projects: map[string]backup.Project{"p": {ID: "p", Name: "alpha"}},
		Quotas:   map[string]backup.Quota{"p": {Backups: backup.Usage{Limit: 10, Used: 2}, Gigabytes: backup.Usage{Limit: 100, Used: 4}}},
		Services: backup.Services{Known: true, Up: 1},
		Memory: &plan.Memory{
			Ready: map[string]bool{"p": true},
			Volumes: map[string]backup.Protected{"vol": {Volume: "vol", Project: "p", Enrolments: []backup.Enrolment{e},
				State: backup.State{LastSlot: yesterday, LastComplete: yesterday, Due: night}}},
			Runs: map[string]backup.Run{}, Records: map[string][]backup.Record{}, Retention: map[string]backup.Retention{},
		},
	}
}

// What only the ledger and the clocks know changes the plan.
func TestWhatOnlyTheLedgerKnows(t *testing.T) {
	state := func(f *plan.Facts, set func(*backup.State)) {
		v := f.Memory.Volumes["vol"]
		set(&v.State)
		f.Memory.Volumes["vol"] = v
	}
	retention := func(f *plan.Facts, r backup.Retention) { f.Memory.Retention["p"] = r }
	for _, tc := range []struct {
		name string
		tell func(f *plan.Facts)
		// at is how long after now the moment is.
		at time.Duration
		// want is "DO: WHY" of the volume, then "VERDICT STEP: WHY / BLOCKED" of the old
		// backup.
		want, fate string
	}{
		{name: "a slot that has come", want: "start: slot 20261122T023000Z; incremental 1 of 6 on full new", fate: "remove 1: older than 1w / "},
		{name: "no ledger at all", tell: func(f *plan.Facts) { f.Memory, f.NoMemory = nil, "none" },
			want: "start: slot 20261122T023000Z; incremental 1 of 6 on full new", fate: "remove 1: older than 1w / "},
		{name: "a slot that failed for good", tell: func(f *plan.Facts) {
			state(f, func(s *backup.State) { s.LastSlot = night })
		}, want: "later: slot 20261122T023000Z is done", fate: "remove 1: older than 1w / "},
		{name: "a wait that is not over", tell: func(f *plan.Facts) {
			state(f, func(s *backup.State) {
				s.Waiting, s.Waits, s.Why, s.Due = night, 3, "volume is reserved", now.Add(time.Minute)
			})
		}, want: "wait: volume is reserved", fate: "remove 1: older than 1w / "},
		{name: "a wait that is over by then", at: 2 * time.Minute, tell: func(f *plan.Facts) {
			state(f, func(s *backup.State) {
				s.Waiting, s.Waits, s.Why, s.Due = night, 3, "volume is reserved", now.Add(time.Minute)
			})
		}, want: "start: slot 20261122T023000Z; incremental 1 of 6 on full new", fate: "remove 1: older than 1w / "},
		{name: "a second attempt", tell: func(f *plan.Facts) {
			state(f, func(s *backup.State) { s.Retry, s.Why, s.Due = night, "cinder: rados: timed out", now })
		}, want: "start: second attempt: cinder: rados: timed out; second attempt, as full: cinder: rados: timed out", fate: "remove 1: older than 1w / "},
		{name: "a request that is still under way to Cinder", tell: func(f *plan.Facts) {
			f.Memory.Runs["vol"] = backup.Run{Volume: "vol", Project: "p", Slot: night, Started: now.Add(-time.Second)}
		}, want: "running: run 20261122T023000Z is under way since 2026-11-22T03:29:59Z", fate: "keep 0: a run of its volume is under way / "},
		{name: "an earlier slot that was waited for in vain", tell: func(f *plan.Facts) {
			state(f, func(s *backup.State) {
				s.LastSlot = night.AddDate(0, 0, -2)
				s.Waiting, s.Why = night.AddDate(0, 0, -1), "volume is reserved"
			})
		}, want: "start: slot 20261122T023000Z; incremental 1 of 6 on full new; slot 20261121T023000Z has failed: could not start within its slot: volume is reserved",
			fate: "remove 1: older than 1w / "},
		{name: "a pause", tell: func(f *plan.Facts) {
			f.Memory.Flight = backup.InFlight{Paused: now.Add(time.Minute), PausedWhy: "Cinder is under strain"}
		}, want: "wait: nothing starts until 2026-11-22T03:31:00Z: Cinder is under strain", fate: "remove 1: older than 1w / "},
		{name: "limits that others use up", tell: func(f *plan.Facts) {
			f.Memory.Flight = backup.InFlight{Total: 10, ByProject: map[string]int{"q": 10}}
		}, want: "queue: cloud limit: 10 of 10 running; slot 20261122T023000Z; incremental 1 of 6 on full new", fate: "remove 1: older than 1w / "},
		{name: "a ledger that is not complete", tell: func(f *plan.Facts) { f.Memory.Ready["p"] = false },
			want: "start: slot 20261122T023000Z; incremental 1 of 6 on full new",
			fate: "remove 1: older than 1w / the ledger is not complete: nothing is removed before the next reconcile"},
		{name: "a removal that Cinder refuses", tell: func(f *plan.Facts) {
			retention(f, backup.Retention{Removals: map[string]backup.Removal{"old": {Trouble: "Cinder refuses: no"}}})
		}, want: "start: slot 20261122T023000Z; incremental 1 of 6 on full new", fate: "remove 1: older than 1w / Cinder refuses: no"},
		{name: "our clock ahead of the cloud's", tell: func(f *plan.Facts) { f.Clock = now.Add(-time.Hour) },
			want: "start: slot 20261122T023000Z; incremental 1 of 6 on full new", fate: "remove 1: older than 1w / this machine's clock is 1h0m0s ahead of the cloud's"},
		{name: "a cloud without a clock", tell: func(f *plan.Facts) { f.Clock = time.Time{} },
			want: "start: slot 20261122T023000Z; incremental 1 of 6 on full new", fate: "remove 1: older than 1w / what time it is by the cloud's own clock is not known"},
		{name: "a project that Keystone has no more", tell: func(f *plan.Facts) { f.Gone = map[string]bool{"p": true} },
			want: "wait: OpenStack has no such project any more", fate: "remove 1: older than 1w / OpenStack has no such project any more, and gives no token for it"},
		{name: "a quota that cannot be read", tell: func(f *plan.Facts) {
			f.Quotas, f.QuotaErrors = nil, map[string]string{"p": "internal error"}
		}, want: "wait: OpenStack did not answer: internal error", fate: "remove 1: older than 1w / "},
		{name: "another night, and what lies between is not missed", at: 3 * 24 * time.Hour, tell: func(f *plan.Facts) {
			state(f, func(s *backup.State) { s.LastSlot, s.LastComplete, s.Due = night, night, night.AddDate(0, 0, 1) })
		}, want: "start: slot 20261125T023000Z; incremental 1 of 6 on full new", fate: "remove 1: older than 1w / "},
	} {
		t.Run(tc.name, func(t *testing.T) {
			s := settingsOf(t, nights, "STAFFELN_SPREAD_WINDOW=0s", "STAFFELN_RETENTION_TIME=1w")
			f := factsOf()
			if tc.tell != nil {
				tc.tell(&f)
			}
			p := plan.Make(s, f, now.Add(tc.at))
			if len(p.Backups) != 1 || len(p.Retention) != 2 {
				t.Fatalf("%+v", p)
			}
			b, old := p.Backups[0], p.Retention[0]
			if got := string(b.Do) + ": " + b.Why; got != tc.want {
				t.Errorf("got  %s\nwant %s", got, tc.want)
			}
			if got := old.Verdict + " " + string('0'+rune(old.Step)) + ": " + old.Why + " / " + old.Blocked; got != tc.fate {
				t.Errorf("got  %s\nwant %s", got, tc.fate)
			}
		})
	}
}

// The brake holds until it is released, for as long and as many as that is for.
func TestTheBrakeIsReleased(t *testing.T) {
	s := settingsOf(t, nights, "STAFFELN_RETENTION_TIME=1w", "STAFFELN_BRAKE_PERCENT=10", "STAFFELN_BRAKE_FROM=1")
	held := func(r backup.Retention, cloud time.Time, most int) (string, plan.Plan) {
		f := factsOf()
		f.Memory.Retention["p"], f.Memory.Released, f.Memory.Most = r, cloud, most
		p := plan.Make(s, f, now)
		return p.Projects[0].Held, p
	}
	if why, p := held(backup.Retention{Held: "brake: earlier"}, time.Time{}, 0); !strings.HasPrefix(why, "brake of the project: 1 of 2 backups would be removed") ||
		p.Projects[0].HeldNow != "brake: earlier" || p.Retention[0].Blocked != why {
		t.Errorf("%s: %+v", why, p)
	}
	if why, p := held(backup.Retention{Released: now.Add(time.Hour), Most: 1}, time.Time{}, 0); why != "" || p.Projects[0].ReleasedFor != 1 || p.Projects[0].Brake == "" {
		t.Errorf("released: %q %+v", why, p.Projects)
	}
	if why, _ := held(backup.Retention{Released: now, Most: 1}, time.Time{}, 0); why == "" {
		t.Error("a release that is over counts")
	}
	if why, _ := held(backup.Retention{Released: now.Add(time.Hour)}, time.Time{}, 0); why == "" {
		t.Error("a release for fewer counts")
	}
	// The cloud's asks from twice as many on.
	f := factsOf()
	f.Backups = append(f.Backups, f.Backups[0])
	f.Backups[2].ID, f.Backups[2].Created = "older", f.Backups[2].Created.Add(-time.Hour)
	f.Memory.Retention["p"] = backup.Retention{Released: now.Add(time.Hour), Most: 5}
	if p := plan.Make(s, f, now); !p.Cloud.Held() || !strings.HasPrefix(p.Projects[0].Held, "brake of the cloud: ") {
		t.Errorf("%+v", p.Cloud)
	}
	f.Memory.Released, f.Memory.Most = now.Add(time.Hour), 2
	if p := plan.Make(s, f, now); p.Cloud.Held() || p.Projects[0].Held != "" {
		t.Errorf("%+v", p.Cloud)
	}
}

// A backup of the ledger's that the list lacks is told of.
func TestAShortListIsToldOf(t *testing.T) {
	f := factsOf()
	f.Memory.Records["p"] = []backup.Record{{ID: "old", Volume: "vol"}, {ID: "lost", Volume: "vol"}}
	p := plan.Make(settingsOf(t, nights), f, now)
	if len(p.Warnings) != 1 || !strings.HasPrefix(p.Warnings[0].Why, "Cinder's list lacks 1 backups") {
		t.Errorf("%+v", p.Warnings)
	}
}

// With least rights the lists are taken project by project, and one project's
// trouble is not another's.
func TestLeastRights(t *testing.T) {
	s := newStage(t, nights)
	alpha, beta := s.project("alpha"), s.project("beta")
	s.server(alpha, "web-1", "yes", "data")
	s.server(beta, "app-1", "yes", "data")
	r := plan.Reader{Cloud: s.connect("backup-min", "")}
	volumes := func(p plan.Plan) (out []string) {
		for _, b := range p.Backups {
			out = append(out, b.VolumeName+" "+string(b.Do))
		}
		return out
	}
	p, err := s.plan(r, "", at("22 12:00"), at("22 12:00"))
	s.check(err)
	if got := volumes(p); !slices.Equal(got, []string{"web-1-data start", "app-1-data start"}) {
		t.Error(got)
	}
	p, err = s.plan(r, "beta", at("22 12:00"), at("22 12:00"))
	s.check(err)
	if got := volumes(p); !slices.Equal(got, []string{"app-1-data start"}) {
		t.Error(got)
	}
	if _, err = s.plan(r, "nobody", at("22 12:00"), at("22 12:00")); !errors.Is(err, plan.ErrNoProject) {
		t.Error(err)
	}
	s.cloud.SetInject(func(r *http.Request, op string) *simcloud.Fault {
		if op == "GET /volume/volumes/detail" && strings.Contains(r.URL.Path, alpha) {
			return simcloud.Refused(503, "Cinder is restarting")
		}
		return nil
	})
	p, err = s.plan(r, "", at("22 12:00"), at("22 12:00"))
	s.check(err)
	if got := volumes(p); !slices.Equal(got, []string{"app-1-data start"}) {
		t.Error(got)
	}
	if len(p.Warnings) != 1 || p.Warnings[0].Project != alpha || !strings.Contains(p.Warnings[0].Why, "Cinder is restarting") {
		t.Errorf("%+v", p.Warnings)
	}
}

// As an admin, one list that fails is no plan.
func TestAListThatFails(t *testing.T) {
	for _, op := range []string{"GET /compute/servers/detail", "GET /volume/volumes/detail", "GET /volume/backups/detail", "GET /volume/os-services"} {
		s := newStage(t, nights)
		s.server(s.project("alpha"), "web-1", "yes", "data")
		s.cloud.SetInject(func(_ *http.Request, asked string) *simcloud.Fault {
			if asked == op {
				return simcloud.Refused(503, "not now")
			}
			return nil
		})
		if p, err := s.plan(plan.Reader{}, "", at("22 12:00"), at("22 12:00")); err == nil || !strings.Contains(err.Error(), "not now") {
			t.Errorf("%s: %v %+v", op, err, p)
		}
	}
}

// Projects are named by id or by name; a name of two is not enough.
func TestOneProject(t *testing.T) {
	s := newStage(t, nights)
	one, two, beta := s.project("alpha"), s.project("alpha"), s.project("beta")
	for _, p := range []string{one, two, beta} {
		s.server(p, "web-1", "yes", "data")
	}
	for _, only := range []string{beta, "beta"} {
		p, err := s.plan(plan.Reader{}, only, at("22 12:00"), at("22 12:00"))
		s.check(err)
		if len(p.Projects) != 1 || p.Projects[0].ID != beta || len(p.Backups) != 1 {
			t.Errorf("%s: %+v", only, p)
		}
	}
	if _, err := s.plan(plan.Reader{}, "alpha", at("22 12:00"), at("22 12:00")); err == nil || !strings.Contains(err.Error(), "several of that name") || !strings.Contains(err.Error(), one) {
		t.Error(err)
	}
	for _, only := range []string{"nobody", "no such project", "00000000000000000000000000000000"} {
		if _, err := s.plan(plan.Reader{}, only, at("22 12:00"), at("22 12:00")); !errors.Is(err, plan.ErrNoProject) {
			t.Errorf("%s: %v", only, err)
		}
	}
	empty := s.project("empty")
	if p, err := s.plan(plan.Reader{}, empty, at("22 12:00"), at("22 12:00")); err != nil || len(p.Backups) != 0 {
		t.Errorf("%v %+v", err, p)
	}
}

// The manual shows what is printed, and names every field of the JSON.
func TestManual(t *testing.T) {
	raw, err := os.ReadFile("../../docs/plan.md")
	if err != nil {
		t.Fatal(err)
	}
	manual := string(raw)
	example, err := os.ReadFile("testdata/the-example-of-the-manual.txt")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(example)) {
		if line = strings.TrimSpace(line); line != "" && !strings.Contains(manual, "    "+line) && !strings.Contains(manual, line+"\n") {
			t.Errorf("docs/plan.md lacks the line %q", line)
		}
	}
	var fields func(of reflect.Type)
	fields = func(of reflect.Type) {
		for f := range of.Fields() {
			name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
			if name != "" && !strings.Contains(manual, "`"+name+"`") && !strings.Contains(manual, "`"+name+"[]`") {
				t.Errorf("docs/plan.md lacks the field %s of %s", name, of)
			}
			in := f.Type
			for in.Kind() == reflect.Slice || in.Kind() == reflect.Pointer {
				in = in.Elem()
			}
			if in.Kind() == reflect.Struct && in.PkgPath() == of.PkgPath() {
				fields(in)
			}
		}
	}
	fields(reflect.TypeFor[plan.Plan]())
}

// A server whose owner takes it out of a locked class is still protected, and its
// volumes, too, until the lock's time is over.
func TestALockedServerIsStillProtected(t *testing.T) {
	s := settingsOf(t, nights, "STAFFELN_LOCK=7d")
	out := func(f *plan.Facts) { f.Servers[0].Metadata = map[string]string{"backup": "no"} }
	for _, tc := range []struct {
		name string
		tell func(f *plan.Facts)
		at   time.Duration
		want string
	}{
		{"nothing was tried", func(*plan.Facts) {}, 0, "start"},
		{"it opted out just now", out, 0, "start, still protected: metadata backup=no is not in force before 2026-11-29T03:30:00Z: class default is locked"},
		{"and how that looks in six days", out, 6 * 24 * time.Hour, "start, still protected: metadata backup=no is not in force before 2026-11-29T03:30:00Z: class default is locked"},
		{"and in a week", out, 7 * 24 * time.Hour, ""},
		{"it was seen to opt out two days ago", func(f *plan.Facts) {
			out(f)
			v := f.Memory.Volumes["vol"]
			v.Enrolments[0].Attempt = backup.Attempt{Since: now.AddDate(0, 0, -2), Why: "metadata backup=no"}
		}, 0, "start, still protected: metadata backup=no is not in force before 2026-11-27T03:30:00Z: class default is locked"},
		{"of a ledger that is not complete its backups tell", func(f *plan.Facts) {
			out(f)
			f.Memory.Ready["p"] = false
			f.Backups[1].Metadata[backup.MetaClass] = "default"
		}, 0, "start, still protected: metadata backup=no is not in force before 2026-11-29T03:30:00Z: class default is locked"},
		{"a server that was not enrolled is not protected", func(f *plan.Facts) { out(f); delete(f.Memory.Volumes, "vol") }, 0, ""},
		{"its volume was given the skip key", func(f *plan.Facts) {
			f.Volumes[0].Metadata = map[string]string{"skip-volume-backup": "yes"}
		}, 0, "start, still protected: volume metadata skip-volume-backup=yes is not in force before 2026-11-29T03:30:00Z: class default is locked"},
		{"and in a week", func(f *plan.Facts) {
			f.Volumes[0].Metadata = map[string]string{"skip-volume-backup": "yes"}
		}, 7 * 24 * time.Hour, "skip"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			f := factsOf()
			tc.tell(&f)
			p := plan.Make(s, f, now.Add(tc.at))
			var got []string
			for _, b := range p.Backups {
				got = append(got, string(b.Do))
			}
			for _, w := range p.Warnings {
				got = append(got, w.Why)
			}
			if got := strings.Join(got, ", "); got != tc.want {
				t.Errorf("got %s, want %s", got, tc.want)
			}
		})
	}
}
