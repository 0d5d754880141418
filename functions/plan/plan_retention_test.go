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

// What the plan says of each backup is what retention does next: which go and why, which stay, and
// what holds the others back.
func TestThePlanSaysWhatRetentionDoes(t *testing.T) {
	s := settingsOf(t, nights, "STAFFELN_RETENTION_TIME=10d", "STAFFELN_CLASS_GOLD_RETENTION_TIME=3d",
		"STAFFELN_CLASS_GOLD_ARCHIVE_RULES=daily=7 monthly=2", "STAFFELN_CLASS_LAST_ARCHIVE_RULES=last=2",
		"STAFFELN_CLASS_LAST_RETENTION_TIME=1d")
	reasons := []string{"its slot is not over", "its volume gone since", "hold", "builds on it", "current policy",
		"a run of its volume"}
	outcomes := append(reasons, "goes", "blocked", "", "brake of the project", "brake of the cloud", "released")
	happened := map[string]int{}
	check := func(t *rapid.T) {
		s := s
		s.Brake = backup.Brake{Percent: rapid.SampledFrom([]int{0, 30, 30, 100}).Draw(t, "percent"),
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
		look()
		helds := maps.Clone(k.Memory.Retention) // what is removed uses up a release, and can end the cloud's brake
		if len(k.Projects) == 1 {
			look() // a volume that was never missed is confirmed to be gone by the look before
		}
		for _, one := range planned.Projects {
			held := helds[one.ID].Held
			if why, ok := strings.CutPrefix(held, "cloud brake: "); ok {
				held = "brake of the cloud: " + why
			} else if why, ok := strings.CutPrefix(held, "brake: "); ok {
				held = "brake of the project: " + why
			}
			if held != one.Held {
				t.Fatalf("project %s: planned to be held by %q, and is by %q", one.ID, one.Held, held)
			}
			name, _, _ := strings.Cut(held, ":")
			happened[name]++
			if !one.Released.IsZero() {
				happened["released"]++
			}
		}
		for _, row := range planned.Retention {
			gone, there := k.removed[row.Backup], k.has(row.Backup)
			goes := row.Verdict == plan.Remove && row.Blocked == ""
			if goes == there || goes && gone.Why != row.Why {
				t.Fatalf("%s: planned to %s (%s), blocked by %q: there %v, removed since %s",
					row.Backup, row.Verdict, row.Why, row.Blocked, there, gone.Why)
			}
			switch {
			case goes:
				happened["goes"]++
			case row.Verdict == plan.Remove:
				happened["blocked"]++
			}
			for _, why := range reasons {
				if strings.Contains(row.Why, why) {
					happened[why]++
				}
			}
		}
	}
	checkAll(t, check, happened, outcomes)
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
		if rapid.Bool().Draw(t, "release of "+of) {
			until := rapid.SampledFrom([]time.Duration{-time.Hour, time.Hour, time.Hour}).Draw(t, "until")
			return now.Add(until), rapid.SampledFrom([]int{1, 4, 40, 40}).Draw(t, "most")
		}
		return time.Time{}, 0
	}
	f.Memory.Released, f.Memory.Most = release("the cloud")
	projects := []string{"p", "q", "r"}[:rapid.SampledFrom([]int{1, 2, 3}).Draw(t, "projects")]
	for _, p := range projects {
		f.Projects[p], f.Memory.Ready[p] = backup.Project{ID: p}, true
		r := backup.Retention{Project: p, Gone: map[string]backup.Absence{}, Looked: now.Add(-time.Hour),
			Held: rapid.SampledFrom([]string{"", "", "brake: earlier", "cloud brake: earlier", "list: earlier"}).Draw(t, "held")}
		r.Released, r.Most = release(p)
		for i := range rapid.SampledFrom([]int{1, 2, 3}).Draw(t, "volumes") {
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
				released := !r.Released.IsZero() || !f.Memory.Released.IsZero()
				if len(projects) == 1 && !released && rapid.Bool().Draw(t, "never missed") {
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
		State: backup.State{LastSlot: slot.AddDate(0, 0, -rapid.SampledFrom([]int{0, 1, 2}).Draw(t, "slots behind"))}}
	if rapid.SampledFrom([]int{0, 1, 2, 3, 4, 5, 6}).Draw(t, "open run") == 0 {
		f.Memory.Runs[id] = backup.Run{Volume: id, Project: project, Slot: slot, Started: f.Read.Add(-time.Minute)}
	}
}

// someBackups draws the backups of a volume, each made under some class.
func someBackups(t *rapid.T, s backup.Settings, f *plan.Facts, project, id string) {
	status := slices.Concat(slices.Repeat([]string{"available"}, 8), []string{"error", "error", "creating", "deleting",
		"error_deleting"})
	special := append(slices.Repeat([]string{""}, 12), "held", "a tenant's")
	age := 0
	for i := range rapid.SampledFrom([]int{1, 5, 7, 9}).Draw(t, "backups") {
		age += rapid.SampledFrom([]int{0, 1, 1, 2, 8, 30}).Draw(t, "days apart")
		class := s.Classes[rapid.SampledFrom([]string{"default", "gold", "last"}).Draw(t, "made under")]
		slot := class.Schedule.Slot(f.Read).AddDate(0, 0, -age)
		kind := rapid.SampledFrom([]backup.Kind{backup.Full, backup.Incremental}).Draw(t, "kind")
		b := backup.CinderBackup{ID: fmt.Sprint(id, "-", i), Project: project, Volume: id, Origin: backup.OriginService, Size: 1,
			Created:     slot.Add(time.Duration(rapid.IntRange(0, 3).Draw(t, "after")) * time.Second),
			Incremental: kind == backup.Incremental,
			Status:      rapid.SampledFrom(status).Draw(t, "status")}
		run := backup.Run{Volume: id, Slot: slot, Attempt: 1, Kind: kind}
		b.Metadata = backup.Metadata(run, class, backup.Enrolment{}, slot)
		switch rapid.SampledFrom(special).Draw(t, "special") {
		case "held":
			b.Metadata[backup.MetaHold] = "yes"
		case "a tenant's":
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

func (k *keeping) has(id string) bool {
	return slices.ContainsFunc(k.Backups, func(b backup.CinderBackup) bool { return b.ID == id })
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
