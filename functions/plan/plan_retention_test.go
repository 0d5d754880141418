package plan_test

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"staffeln/events"
	"staffeln/functions/backup"
	"staffeln/functions/plan"
	"staffeln/functions/retention"
)

// What the plan says of each backup is what retention does next: which go and why, which stay, and what holds the others back.
func TestThePlanSaysWhatRetentionDoes(t *testing.T) {
	s := settingsOf(t, nights, "STAFFELN_RETENTION_TIME=10d", "STAFFELN_CLASS_GOLD_RETENTION_TIME=3d",
		"STAFFELN_CLASS_GOLD_ARCHIVE_RULES=daily=7 monthly=2", "STAFFELN_CLASS_LAST_ARCHIVE_RULES=last=2",
		"STAFFELN_CLASS_LAST_RETENTION_TIME=1d")
	happened := map[string]int{}
	rapid.Check(t, func(t *rapid.T) {
		s := s
		s.Brake = backup.Brake{Percent: rapid.SampledFrom([]int{0, 30, 50, 100}).Draw(t, "percent"),
			From: rapid.SampledFrom([]int{0, 2, 4}).Draw(t, "from")}
		s.Orphan = rapid.SampledFrom([]backup.Age{{}, {Days: 20}}).Draw(t, "orphan")
		k := &keeping{Facts: someKeeping(t, s), removed: map[string]backup.Removal{}}
		function := retention.Function{Ledger: k, Cloud: k, Log: slog.New(slog.NewTextHandler(io.Discard, nil)),
			Count: func(string, float64, ...string) {}, Settings: s}
		look := func() {
			if err := function.Retention(t.Context(), events.Tick{At: k.Read}); err != nil {
				t.Fatal(err)
			}
		}
		look() // what is to go is announced, and every project's share of the whole cloud is known
		k.Memory.Outlook, _ = k.Outlook(t.Context())
		planned := plan.Make(s, k.Facts, k.Read)
		before := maps.Clone(k.Memory.Retention)
		look()
		if len(k.Projects) == 1 { // of several, what one removes can end the cloud's brake on another
			look()
			look()
		}
		for _, one := range planned.Projects {
			held := k.Memory.Retention[one.ID].Held
			held = strings.Replace(strings.Replace(held, "cloud brake: ", "brake of the cloud: ", 1), "brake: ", "brake of the project: ", 1)
			if held != one.Held {
				t.Fatalf("project %s: planned to be held by %q, and is by %q", one.ID, one.Held, held)
			}
			name, _, _ := strings.Cut(held, ":")
			happened[name]++
			if r := before[one.ID]; one.Held == "" && one.Brake != "" && k.Read.Before(r.Released) {
				happened["released"]++
			}
		}
		for _, row := range planned.Retention {
			gone, there := k.removed[row.Backup], slices.ContainsFunc(k.Backups, func(b backup.CinderBackup) bool { return b.ID == row.Backup })
			goes := row.Verdict == plan.Remove && row.Blocked == ""
			if goes == there || goes && gone.Why != row.Why {
				t.Fatalf("%s: planned to %s (%s), blocked by %q: there %v, removed since %s", row.Backup, row.Verdict, row.Why,
					row.Blocked, there, gone.Why)
			}
			outcome := row.Verdict
			if !goes && row.Verdict == plan.Remove {
				outcome = "blocked"
			}
			happened[outcome]++
			for _, why := range []string{"its slot is not over", "its volume gone since", "hold", "builds on it", "current policy", "a run of its volume"} {
				if strings.Contains(row.Why, why) {
					happened[why]++
				}
			}
		}
	})
	if testing.Short() {
		return // too few to have seen everything
	}
	for _, what := range []string{plan.Keep, plan.Remove, "blocked", "", "brake of the project", "brake of the cloud", "released",
		"its slot is not over", "its volume gone since", "hold", "builds on it", "current policy", "a run of its volume"} {
		if happened[what] == 0 {
			t.Errorf("%q never happened: this proves little (%v)", what, happened)
		}
	}
}

// someKeeping draws projects with backups of every age and kind, and the ledger that knows them.
func someKeeping(t *rapid.T, s backup.Settings) plan.Facts {
	now := night.Add(10 * time.Hour)
	f := plan.Facts{Read: now, Clock: now, Projects: map[string]backup.Project{},
		Services: backup.Services{Known: true, Up: 1},
		Memory: &plan.Memory{Ready: map[string]bool{}, Volumes: map[string]backup.Protected{}, Runs: map[string]backup.Run{},
			Records: map[string][]backup.Record{}, Retention: map[string]backup.Retention{},
			Flight: backup.InFlight{ByProject: map[string]int{}, ByBackend: map[string]int{}}}}
	release := func(of string) (until time.Time, most int) {
		if rapid.IntRange(0, 2).Draw(t, "release of "+of) == 0 {
			return now.Add(time.Duration(rapid.IntRange(-1, 1).Draw(t, "until")) * time.Hour), rapid.IntRange(0, 12).Draw(t, "most")
		}
		return time.Time{}, 0
	}
	f.Memory.Released, f.Memory.Most = release("the cloud")
	projects := []string{"p", "q", "r"}[:rapid.IntRange(1, 3).Draw(t, "projects")]
	for _, p := range projects {
		f.Projects[p], f.Memory.Ready[p] = backup.Project{ID: p}, true
		r := backup.Retention{Project: p, Gone: map[string]backup.Absence{}, Looked: now.Add(-time.Hour),
			Held: rapid.SampledFrom([]string{"", "", "brake: earlier", "cloud brake: earlier", "list: earlier"}).Draw(t, "held")}
		r.Released, r.Most = release(p)
		for i := range rapid.IntRange(1, 3).Draw(t, "volumes") {
			id := fmt.Sprint(p, i)
			switch rapid.SampledFrom([]string{"protected", "protected", "there", "gone"}).Draw(t, id) {
			case "protected":
				someProtected(t, s, &f, p, id)
			case "there":
				f.Volumes = append(f.Volumes, backup.Volume{ID: id, Project: p, Status: "in-use"})
			case "gone":
				// Several projects that lose volumes between two looks know each other's share late.
				r.Gone[id] = backup.Absence{Since: now.AddDate(0, 0, -rapid.IntRange(1, 30).Draw(t, "gone since")),
					Times: rapid.IntRange(1, 2).Draw(t, "missed")}
				if len(projects) == 1 && rapid.Bool().Draw(t, "never missed") {
					delete(r.Gone, id)
				}
			}
			someBackups(t, s, &f, p, id)
		}
		f.Memory.Retention[p] = r
	}
	return f
}

// someProtected draws a protected volume with its server.
func someProtected(t *rapid.T, s backup.Settings, f *plan.Facts, project, id string) {
	class := rapid.SampledFrom([]string{"default", "gold", "last"}).Draw(t, "class")
	server := backup.Server{ID: "of-" + id, Project: project, Metadata: map[string]string{"backup": class}, Volumes: []string{id}}
	if class == "default" {
		server.Metadata["backup"] = "yes"
	}
	v := backup.Volume{ID: id, Project: project, Size: 1, Metadata: map[string]string{}, Status: "in-use"}
	f.Servers, f.Volumes = append(f.Servers, server), append(f.Volumes, v)
	e := backup.Enrolment{Server: server.ID, Project: project, Class: class, Volumes: server.Volumes}
	slot := s.Classes.Of(e).Schedule.Slot(f.Read)
	f.Memory.Volumes[id] = backup.Protected{Volume: id, Project: project, Size: 1, Enrolments: []backup.Enrolment{e},
		State: backup.State{LastSlot: slot.AddDate(0, 0, -rapid.IntRange(0, 2).Draw(t, "slots behind"))}}
	if rapid.IntRange(0, 9).Draw(t, "open run") == 0 {
		f.Memory.Runs[id] = backup.Run{Volume: id, Project: project, Slot: slot, Started: f.Read.Add(-time.Minute)}
	}
}

// someBackups draws the backups of a volume, each made under some class.
func someBackups(t *rapid.T, s backup.Settings, f *plan.Facts, project, id string) {
	age := 0
	for i := range rapid.IntRange(0, 8).Draw(t, "backups") {
		age += rapid.SampledFrom([]int{0, 1, 1, 2, 8, 30}).Draw(t, "days apart")
		class := s.Classes[rapid.SampledFrom([]string{"default", "gold", "last"}).Draw(t, "made under")]
		slot := class.Schedule.Slot(f.Read).AddDate(0, 0, -age)
		kind := rapid.SampledFrom([]backup.Kind{backup.Full, backup.Incremental}).Draw(t, "kind")
		b := backup.CinderBackup{ID: fmt.Sprint(id, "-", i), Project: project, Volume: id, Origin: backup.OriginService, Size: 1,
			Created: slot.Add(time.Duration(rapid.IntRange(0, 3).Draw(t, "after")) * time.Second), Incremental: kind == backup.Incremental,
			Status:   rapid.SampledFrom([]string{"available", "available", "available", "available", "error", "creating", "deleting", "error_deleting"}).Draw(t, "status"),
			Metadata: backup.Metadata(backup.Run{Volume: id, Slot: slot, Attempt: 1, Kind: kind}, class, backup.Enrolment{}, slot)}
		switch rapid.IntRange(0, 12).Draw(t, "special") {
		case 0:
			b.Metadata[backup.MetaHold] = "yes"
		case 1:
			b.Origin, b.Metadata = backup.OriginTenant, map[string]string{}
		}
		f.Backups = append(f.Backups, b)
		if b.Ours() && rapid.Bool().Draw(t, "known") {
			f.Memory.Records[project] = append(f.Memory.Records[project], backup.RecordOf(b))
		}
	}
}

// A keeping is the world that retention works on: the facts of a plan, changed by what is done.
type keeping struct {
	plan.Facts
	removed map[string]backup.Removal
}

func (k *keeping) Shard(string) int                         { return 0 }
func (k *keeping) Ready(context.Context, int) (bool, error) { return true, nil }

func (k *keeping) RetentionDue(context.Context, int, time.Time, int) ([]string, error) {
	return slices.Sorted(maps.Keys(k.Memory.Retention)), nil
}

func (k *keeping) Retention(_ context.Context, project string) (backup.Retention, error) {
	r := k.Memory.Retention[project]
	r.Removals = maps.Clone(r.Removals)
	return r, nil
}

func (k *keeping) SaveRetention(_ context.Context, r backup.Retention, gone []backup.Removal, _ time.Time) (bool, error) {
	k.Memory.Retention[r.Project] = r
	for _, g := range gone {
		k.removed[g.Backup] = g
		k.Memory.Records[r.Project] = slices.DeleteFunc(k.Memory.Records[r.Project], func(x backup.Record) bool { return x.ID == g.Backup })
	}
	return true, nil
}

func (k *keeping) Outlook(context.Context) (o backup.Outlook, err error) {
	for _, r := range k.Memory.Retention {
		o = o.Add(r.Outlook)
	}
	return o, nil
}

func (k *keeping) CloudRelease(context.Context) (time.Time, int, error) {
	return k.Memory.Released, k.Memory.Most, nil
}

func (k *keeping) Runs(context.Context, int) ([]backup.Run, error) {
	return slices.Collect(maps.Values(k.Memory.Runs)), nil
}

func (k *keeping) Records(_ context.Context, project string) ([]backup.Record, error) {
	return slices.Clone(k.Memory.Records[project]), nil
}

func (k *keeping) VolumesOf(_ context.Context, project string, ids []string) (map[string]backup.Protected, error) {
	of := map[string]backup.Protected{}
	for _, id := range ids {
		if v, ok := k.Memory.Volumes[id]; ok && v.Project == project {
			of[id] = v
		}
	}
	return of, nil
}

func (k *keeping) Project(_ context.Context, id string) (backup.Project, bool, error) {
	return k.Projects[id], true, nil
}

func (k *keeping) BackupsOf(_ context.Context, project, volume string, _ time.Time) (of []backup.CinderBackup, err error) {
	for _, b := range k.Backups {
		if b.Project == project && (volume == "" || b.Volume == volume) {
			of = append(of, b)
		}
	}
	return of, nil
}

func (k *keeping) Backup(_ context.Context, _, id string) (backup.CinderBackup, error) {
	for _, b := range k.Backups {
		if b.ID == id {
			return b, nil
		}
	}
	return backup.CinderBackup{}, &backup.CloudError{Fault: backup.Gone, Status: 404}
}

func (k *keeping) Volume(_ context.Context, _, id string) (backup.Volume, error) {
	for _, v := range k.Facts.Volumes {
		if v.ID == id {
			return v, nil
		}
	}
	return backup.Volume{}, &backup.CloudError{Fault: backup.Gone, Status: 404}
}

func (k *keeping) DeleteBackup(_ context.Context, _, id string) error {
	k.Backups = slices.DeleteFunc(k.Backups, func(b backup.CinderBackup) bool { return b.ID == id })
	return nil
}

func (k *keeping) Clock() (time.Time, bool) { return k.Facts.Clock, true }
