package plan_test

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"staffeln/events"
	"staffeln/functions/backup"
	"staffeln/functions/dispatch"
	"staffeln/functions/plan"
)

// What the plan says of each volume is what dispatch does in its next tick, whatever the
// cloud and the ledger are like: which volumes start, of which kind, into which container
// and attempt; which fail or wait, and why.
func TestThePlanSaysWhatDispatchDoes(t *testing.T) {
	s := settingsOf(t, nights, "STAFFELN_SPREAD_WINDOW=1h", "STAFFELN_CLASS_GOLD_PERIOD=1h",
		"STAFFELN_CLASS_FULL_FULL_BACKUP_DEPTH=0", "STAFFELN_CLASS_OFFICE_BLACKOUT=03:00-06:00",
		"STAFFELN_CLASS_VAULT_ARCHIVE_CONTAINER=vault", "STAFFELN_CLASS_VAULT_BACKUP_CONTAINER=usual")
	happened := map[string]int{}
	check := func(t *rapid.T) {
		s := s
		s.Limits = backup.Limits{Cloud: rapid.IntRange(0, 8).Draw(t, "cloud limit"),
			Project: rapid.IntRange(0, 4).Draw(t, "project limit"),
			Backend: rapid.IntRange(0, 2).Draw(t, "backend limit")}
		s.VolumeLimit = rapid.IntRange(0, 4).Draw(t, "volume limit")
		if rapid.Bool().Draw(t, "a limit of its own") {
			of := rapid.SampledFrom([]string{"p", "name of p"}).Draw(t, "of")
			s.VolumeLimits = map[string]int{of: rapid.IntRange(0, 3).Draw(t, "own limit")}
		}
		f, silent := someFacts(t, s)
		planned := plan.Make(s, f, f.Read)
		tick := &tick{Facts: f, silent: silent, did: map[string]string{}, backend: map[string]string{}}
		function := dispatch.Function{Ledger: tick, Cloud: tick, Log: slog.New(slog.NewTextHandler(io.Discard, nil)),
			Count:    func(string, float64, ...string) {},
			Settings: s}
		if err := function.Dispatch(t.Context(), events.Tick{At: f.Read}); err != nil && len(silent) == 0 {
			t.Fatal(err)
		}
		for _, row := range planned.Backups {
			want := saidOf(row, f)
			got := tick.did[row.Volume]
			happened[string(row.Do)]++
			if got != want {
				t.Fatalf("%s of %s:\nplanned %s: %s\n   want %s\ndispatch %s", row.Volume, row.Project, row.Do, row.Why, want, got)
			}
		}
	}
	var outcomes []string
	for _, do := range []plan.Do{plan.Start, plan.Queue, plan.Adopt, plan.Wait, plan.Fail, plan.Running, plan.Skip,
		plan.Later} {
		outcomes = append(outcomes, string(do))
	}
	checkAll(t, check, happened, outcomes)
}

// checkAll draws until everything in outcomes has happened: one time is mostly enough.
func checkAll(t *testing.T, check func(*rapid.T), happened map[string]int, outcomes []string) {
	t.Helper()
	lacks := func(what string) bool { return happened[what] == 0 }
	for range 20 {
		if slices.ContainsFunc(outcomes, lacks) {
			rapid.Check(t, check)
		}
	}
	if i := slices.IndexFunc(outcomes, lacks); i >= 0 {
		t.Errorf("%q never happened: this proves little (%v)", outcomes[i], happened)
	}
}

// saidOf is what a row of the plan says that dispatch does: "start full into usual, attempt
// 1", "adopt", "fail: WHY", "wait: WHY"; "" for nothing but a later look.
func saidOf(row plan.Backup, f plan.Facts) string {
	why, lost, _ := strings.Cut(row.Why, "; slot ")
	if lost != "" && strings.Contains(lost, "has failed: ") {
		_, lost, _ = strings.Cut(lost, "has failed: ")
		if lost, _, _ = strings.Cut(lost, "; "); f.Memory.Runs[row.Volume].Volume == "" {
			lost = "lost: " + lost + ", "
		} else {
			lost = ""
		}
	} else {
		lost = ""
	}
	switch row.Do {
	case plan.Start:
		return fmt.Sprintf("%sstart %s into %q, attempt %d", lost, row.Kind, row.Container, row.Attempt)
	case plan.Adopt:
		return lost + "adopt"
	case plan.Fail:
		return lost + "fail: " + why
	case plan.Wait:
		early := strings.HasPrefix(why, "blackout") || strings.HasPrefix(why, "nothing starts")
		if !early && !f.Memory.Volumes[row.Volume].State.Due.After(f.Read) {
			return lost + "wait: " + why
		}
	}
	return strings.TrimSuffix(lost, ", ")
}

// someFacts draws a cloud and the ledger that knows it. silent are the projects that do
// not answer.
func someFacts(t *rapid.T, s backup.Settings) (f plan.Facts, silent map[string]bool) {
	now := rapid.SampledFrom([]time.Time{night.Add(10 * time.Minute), night.Add(time.Hour), night.Add(9 * time.Hour),
		night.AddDate(0, 0, -21).Add(time.Hour), night.AddDate(0, 0, 9).Add(5 * time.Hour)}).Draw(t, "now")
	f = plan.Facts{Read: now, Clock: now, Projects: map[string]backup.Project{},
		Quotas: map[string]backup.Quota{}, QuotaErrors: map[string]string{},
		Services: backup.Services{Known: true, Up: rapid.SampledFrom([]int{0, 1, 1, 1, 2, 2, 2}).Draw(t, "up")},
		Memory: &plan.Memory{Ready: map[string]bool{}, Volumes: map[string]backup.Protected{}, Runs: map[string]backup.Run{},
			Records: map[string][]backup.Record{}, Retention: map[string]backup.Retention{},
			Flight: backup.InFlight{ByProject: map[string]int{}, ByBackend: map[string]int{},
				Halvings: rapid.SampledFrom([]int{0, 0, 0, 1}).Draw(t, "halvings")}}}
	silent = map[string]bool{}
	if rapid.IntRange(0, 9).Draw(t, "pause") == 0 {
		f.Memory.Flight.Paused, f.Memory.Flight.PausedWhy = now.Add(time.Minute), "strain"
	}
	for _, p := range []string{"p", "q", "r"} {
		f.Projects[p], f.Memory.Ready[p] = backup.Project{ID: p, Name: "name of " + p}, true
		f.Quotas[p] = backup.Quota{Backups: backup.Usage{Limit: rapid.SampledFrom([]int{-1, 0, 3, 4}).Draw(t, "quota"),
			Used: rapid.IntRange(0, 4).Draw(t, "used")},
			Gigabytes: backup.Usage{Limit: rapid.SampledFrom([]int{-1, -1, 20}).Draw(t, "gigabytes"), Used: 10}}
		if silent[p] = rapid.IntRange(0, 9).Draw(t, "silent") == 0; silent[p] {
			delete(f.Quotas, p)
			f.QuotaErrors[p] = backup.Said(errSilent)
		} else {
			delete(silent, p)
		}
		f.Memory.Flight.ByProject[p] = rapid.IntRange(0, 1).Draw(t, "running")
		f.Memory.Flight.Total += f.Memory.Flight.ByProject[p]
		for i := range rapid.IntRange(0, 4).Draw(t, "volumes") {
			someVolume(t, s, &f, p, fmt.Sprint(p, i))
		}
	}
	return f, silent
}

// errSilent is what a silent project answers.
var errSilent = &backup.CloudError{Fault: backup.Retry, Status: 503, Message: "not now"}

// someVolume draws a server with one volume, its backups, and its state in the ledger.
func someVolume(t *rapid.T, s backup.Settings, f *plan.Facts, project, id string) {
	now := f.Read
	pick := func(name string, of ...string) string { return rapid.SampledFrom(of).Draw(t, name) }
	v := backup.Volume{ID: id, Name: "name of " + id, Project: project, Size: rapid.IntRange(2, 3).Draw(t, "size"),
		Metadata: map[string]string{},
		Status:   pick("status", "in-use", "in-use", "in-use", "reserved"), Backend: pick("backend", "", "ceph", "lvm"),
		Created: now.AddDate(0, -2, rapid.IntRange(0, 3).Draw(t, "created"))}
	if rapid.IntRange(0, 7).Draw(t, "skip") == 0 {
		v.Metadata["skip-volume-backup"] = "yes"
	}
	class := pick("class", "default", "gold", "office", "vault", "full")
	server := backup.Server{ID: "of-" + id, Name: "server of " + id, Project: project,
		Metadata: map[string]string{"backup": class}, Volumes: []string{id}}
	if class == "default" {
		server.Metadata["backup"] = "yes"
	}
	f.Servers, f.Volumes = append(f.Servers, server), append(f.Volumes, v)
	e := backup.Enrolment{Server: server.ID, Name: server.Name, Project: project, Class: class, Volumes: server.Volumes}
	policy := s.Classes.Of(e)
	slot := policy.Schedule.Slot(now)
	before := policy.Schedule.Slot(slot.Add(-time.Second))
	earlier := policy.Schedule.Slot(before.Add(-time.Second))
	moment := func(name string) time.Time {
		return rapid.SampledFrom([]time.Time{{}, slot, before, earlier}).Draw(t, name)
	}
	last := []time.Time{{}, slot, before, before, before, earlier, policy.Schedule.Next(now)}
	st := backup.State{LastSlot: rapid.SampledFrom(last).Draw(t, "last"), LastComplete: moment("complete"),
		Due: slot.Add(time.Duration(rapid.IntRange(0, 5).Draw(t, "due")) * time.Minute), Why: "it says so"}
	switch pick("put off", "", "", "waiting", "retry") {
	case "waiting":
		st.Waiting, st.Waits = rapid.SampledFrom([]time.Time{slot, before}).Draw(t, "waiting"), 1
	case "retry":
		st.Retry = rapid.SampledFrom([]time.Time{slot, before}).Draw(t, "retry")
	}
	if (st.Waiting.Equal(slot) || st.Retry.Equal(slot)) && rapid.Bool().Draw(t, "not over") {
		st.Due = now.Add(time.Minute)
	}
	if st.Due.After(now) && !st.Waiting.Equal(slot) && !st.Retry.Equal(slot) {
		st.Due = now
	}
	protected := backup.Protected{Volume: id, Project: project, Name: v.Name, Size: v.Size,
		Backend: v.Backend, Created: v.Created,
		Skip: backup.Skips(v.Metadata, s.Keys), Enrolments: []backup.Enrolment{e}, State: st}
	f.Memory.Volumes[id] = protected
	if rapid.IntRange(0, 9).Draw(t, "open run") == 0 {
		f.Memory.Runs[id] = backup.Run{Volume: id, Project: project, Slot: slot, Started: now.Add(-time.Minute)}
	}
	for i := range rapid.IntRange(0, 4).Draw(t, "backups") {
		at := rapid.SampledFrom([]time.Time{slot, before, earlier, earlier, earlier.AddDate(0, -1, 0)}).Draw(t, "of")
		kind := rapid.SampledFrom([]backup.Kind{backup.Full, backup.Incremental}).Draw(t, "kind")
		run := backup.Run{Volume: id, Slot: at, Attempt: rapid.IntRange(1, 2).Draw(t, "attempt"), Kind: kind}
		b := backup.CinderBackup{ID: fmt.Sprint(id, "-", i), Project: project, Volume: id, Origin: backup.OriginService,
			Size: v.Size, Created: at.Add(time.Duration(i) * time.Second),
			Status:      pick("backup", "available", "available", "available", "error", "creating", "deleting"),
			Incremental: kind == backup.Incremental,
			Container:   pick("container", "usual", "vault"), Metadata: backup.Metadata(run, policy, e, at)}
		if rapid.IntRange(0, 5).Draw(t, "the tenant's own") == 0 {
			b.Origin, b.Metadata = backup.OriginTenant, map[string]string{}
		}
		f.Backups = append(f.Backups, b)
		if b.Ours() && rapid.Bool().Draw(t, "known") {
			f.Memory.Records[project] = append(f.Memory.Records[project],
				backup.Record{ID: b.ID, Volume: id, Project: project, Slot: at, Status: b.Status})
		}
	}
}

// A tick is the world for one tick of dispatch: it answers from a plan's facts, and notes
// what is done with each volume.
type tick struct {
	plan.Facts
	silent  map[string]bool
	room    *backup.Room
	did     map[string]string
	backend map[string]string
}

// note adds what was done with a volume.
func (k *tick) note(volume, did string) {
	if k.did[volume] != "" {
		did = k.did[volume] + ", " + did
	}
	k.did[volume] = did
}

func (k *tick) Ready(context.Context, int) (bool, error) { return true, nil }

func (k *tick) Due(_ context.Context, _ int, now time.Time, _ int) (due []backup.Protected, err error) {
	for id, v := range k.Memory.Volumes {
		if _, open := k.Memory.Runs[id]; !open && !v.State.Due.After(now) {
			due = append(due, v)
		}
	}
	slices.SortFunc(due, func(a, b backup.Protected) int {
		return cmp.Or(a.State.Due.Compare(b.State.Due), cmp.Compare(a.Volume, b.Volume))
	})
	return due, nil
}

func (k *tick) Postpone(_ context.Context, _, volume string, s backup.State) (bool, error) {
	if before := k.Memory.Volumes[volume].State; s.Waits > before.Waits ||
		s.Waits > 0 && !s.Waiting.Equal(before.Waiting) {
		k.note(volume, "wait: "+s.Why)
	}
	return true, nil
}

func (k *tick) Ranks(_ context.Context, project string, volumes []string) (map[string]int, int, error) {
	var count []backup.Protected
	for _, v := range k.Memory.Volumes {
		if v.Project == project && v.Skip == "" {
			count = append(count, v)
		}
	}
	rank := map[string]int{}
	for _, id := range volumes {
		older := 0
		me := k.Memory.Volumes[id]
		for _, v := range count {
			if v.Created.Before(me.Created) || v.Created.Equal(me.Created) && v.Volume < id {
				older++
			}
		}
		if me.Skip == "" {
			rank[id] = older
		}
	}
	return rank, len(count), nil
}

func (k *tick) RecordsOf(_ context.Context, project, volume string) (of []backup.Record, err error) {
	for _, r := range k.Memory.Records[project] {
		if r.Volume == volume {
			of = append(of, r)
		}
	}
	return of, nil
}

func (k *tick) Begin(context.Context, backup.Run, time.Time) (bool, error) { return true, nil }

func (k *tick) Advance(_ context.Context, run backup.Run, _ time.Time) (bool, error) {
	if !strings.Contains(k.did[run.Volume], "attempt") {
		k.note(run.Volume, "adopt")
	}
	return true, nil
}

func (k *tick) Finish(_ context.Context, c backup.Closing) (bool, error) {
	did := "fail: "
	if strings.HasPrefix(c.Run.Why, "could not start within its slot") {
		did = "lost: "
		v := k.Memory.Volumes[c.Run.Volume]
		v.State = c.State
		k.Memory.Volumes[c.Run.Volume] = v
	}
	k.note(c.Run.Volume, did+c.Run.Why)
	return true, nil
}

func (k *tick) Discard(context.Context, backup.Discard, time.Time) error { return nil }

func (k *tick) InFlight(context.Context, time.Time) (backup.InFlight, error) {
	return k.Memory.Flight, nil
}

// Admit holds the limits, as the ledger does.
func (k *tick) Admit(_ context.Context, run backup.Run, l backup.Limits, _, _ time.Time) (bool, string, error) {
	if k.room == nil {
		k.room = backup.NewRoom(l, k.Memory.Flight)
	}
	v := backup.Protected{Volume: run.Volume, Project: run.Project, Backend: run.Backend}
	if _, again := k.backend[run.Volume]; again {
		return true, "", nil
	}
	if full := k.room.Full(v); full != "" {
		return false, full, nil
	}
	k.backend[run.Volume] = run.Backend
	k.room.Take(v)
	return true, "", nil
}

func (k *tick) Release(context.Context, backup.Run) error         { return nil }
func (k *tick) Strain(context.Context, time.Time) error           { return nil }
func (k *tick) Pause(context.Context, time.Time, string) error    { return nil }
func (k *tick) Services(context.Context) (backup.Services, error) { return k.Facts.Services, nil }
func (k *tick) answers(project string) error {
	if k.silent[project] {
		return errSilent
	}
	return nil
}

func (k *tick) Project(_ context.Context, id string) (backup.Project, bool, error) {
	return k.Projects[id], true, k.answers(id)
}

func (k *tick) Quota(_ context.Context, project string) (backup.Quota, error) {
	return k.Quotas[project], k.answers(project)
}

func (k *tick) Volume(_ context.Context, project, id string) (backup.Volume, error) {
	for _, v := range k.Facts.Volumes {
		if v.ID == id {
			return v, k.answers(project)
		}
	}
	return backup.Volume{}, errors.New("no such volume")
}

func (k *tick) Volumes(_ context.Context, project string) (of []backup.Volume, err error) {
	for _, v := range k.Facts.Volumes {
		if v.Project == project {
			of = append(of, v)
		}
	}
	return of, k.answers(project)
}

func (k *tick) Backup(context.Context, string, string) (backup.CinderBackup, error) {
	return backup.CinderBackup{}, errors.New("every backup is in the lists")
}

func (k *tick) BackupsOf(_ context.Context, project, volume string, _ time.Time) (of []backup.CinderBackup, err error) {
	for _, b := range k.Backups {
		if b.Project == project && (volume == "" || b.Volume == volume) {
			of = append(of, b)
		}
	}
	return of, k.answers(project)
}

func (k *tick) CreateBackup(_ context.Context, project string, r backup.Request) (string, error) {
	kind := backup.Full
	if r.Incremental {
		kind = backup.Incremental
	}
	k.note(r.Volume, fmt.Sprintf("start %s into %q, attempt %s", kind, r.Container, r.Metadata[backup.MetaAttempt]))
	return "new-" + r.Volume, k.answers(project)
}
