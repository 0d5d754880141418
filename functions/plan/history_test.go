package plan_test

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"staffeln/functions/plan"
	"staffeln/testutil/simcloud"
	"staffeln/testutil/world"
)

// A history is a world in which, before each tick, a plan is made and then held
// against what the functions do.
type history struct {
	*testing.T
	*world.World
	starts, removals int
}

func newHistory(t *testing.T, environ ...string) *history {
	t.Helper()
	w, err := world.New(t.Context(), world.Options{
		Start:   time.Date(2026, 11, 22, 1, 0, 0, 0, time.UTC),
		Environ: environ,
		Cloud: simcloud.Options{
			BackupTime: func(simcloud.Volume, bool) time.Duration { return 4 * time.Minute },
			DeleteTime: 40 * time.Second,
			Quota:      &simcloud.Quota{Volumes: 100, Gigabytes: 10000, Backups: 60, BackupGigabytes: 10000},
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(w.Close)
	return &history{T: t, World: w}
}

func (h *history) check(err error) {
	h.Helper()
	if err != nil {
		h.Fatal(err)
	}
}

// plan makes one for now, with the ledger or without.
func (h *history) plan(l plan.Ledger) plan.Plan {
	h.Helper()
	r := plan.Reader{Cloud: h.Home.Cloud, Ledger: l, Settings: h.World.Settings.Settings}
	f, err := r.Read(h.Context(), "", h.Now(), h.Now())
	h.check(err)
	return plan.Make(r.Settings, f, h.Now())
}

// step lets time pass, plans, ticks, and compares.
func (h *history) step(d time.Duration) {
	h.Helper()
	h.Jump(h.Now().Add(d))
	h.check(h.Hear(h.Context()))
	h.Cloud.Reset()
	planned := h.plan(h.Home.Ledger)
	if log := h.Cloud.Log(); len(log) > 0 {
		h.Fatalf("the plan changed something: %v", log)
	}
	ready := true
	for shard := range h.Home.Ledger.Shards() {
		ok, err := h.Home.Ledger.Ready(h.Context(), shard)
		h.check(err)
		ready = ready && ok
	}
	var want []string
	for _, b := range planned.Backups {
		if b.Do == plan.Start {
			want = append(want, fmt.Sprintf("%s incremental=%v", b.VolumeName, b.Kind == "incremental"))
		}
	}
	mayGo := map[string]string{}
	for _, f := range planned.Retention {
		if f.Verdict == plan.Remove && f.Blocked == "" && f.Step > 0 {
			mayGo[f.Backup] = f.Name
		}
	}
	h.check(h.Tick(h.Context()))
	var got []string
	names := map[string]string{}
	for _, v := range h.Cloud.Volumes() {
		names[v.ID] = v.Name
	}
	for _, line := range h.Cloud.Log() {
		switch {
		case strings.HasPrefix(line, "POST backup vol="):
			volume, rest, _ := strings.Cut(strings.TrimPrefix(line, "POST backup vol="), " ")
			what, _, _ := strings.Cut(rest, " ")
			got = append(got, names[volume]+" "+what)
		case strings.HasPrefix(line, "DELETE /volume/backups/ID "):
			id, _, _ := strings.Cut(strings.TrimPrefix(line, "DELETE /volume/backups/ID "), " ")
			i := slices.IndexFunc(planned.Retention, func(f plan.Fate) bool { return f.Backup == id })
			if i >= 0 && (planned.Retention[i].Broken || strings.Contains(planned.Retention[i].Why, "a run of its volume is under way")) {
				continue // track has ended the run in this tick, and removes what was broken itself
			}
			if _, ok := mayGo[id]; !ok {
				h.Errorf("%s: removed, and the plan did not say so: %s\n%+v", h.Now(), line, planned.Retention[max(i, 0)])
			}
			h.removals++
		}
	}
	slices.Sort(want)
	slices.Sort(got)
	if !ready {
		return // dispatch waits for the first reconcile, and the plan does not
	}
	if diff := cmp.Diff(want, got); diff != "" {
		h.Errorf("%s: backups started (-planned +real):\n%s", h.Now(), diff)
		for _, b := range planned.Backups {
			h.Logf("%+v", b)
		}
	}
	h.starts += len(got)
}

// What the plan says just before a tick is what the functions then do: every backup
// that starts, with its kind, and no removal that it had not said.
func TestThePlanIsWhatIsDone(t *testing.T) {
	h := newHistory(t, "STAFFELN_BACKUP_PERIOD=4h", "STAFFELN_CLASS_GOLD_PERIOD=90m", "STAFFELN_CLASS_GOLD_RETENTION_TIME=3h", "STAFFELN_SPREAD_WINDOW=40m",
		"STAFFELN_RETENTION_TIME=8h", "STAFFELN_FULL_BACKUP_DEPTH=1", "STAFFELN_RECONCILE_PERIOD=10m", "STAFFELN_BACKUPS_PERIOD=3h", "STAFFELN_VOLUME_LIMIT=4")
	random := rand.New(rand.NewPCG(20261122, 1))
	servers := slices.Sorted(maps.Keys(h.Seeded.Servers))
	volumes := slices.Sorted(maps.Keys(h.Seeded.Volumes))
	for end := h.Now().Add(26 * time.Hour); h.Now().Before(end) && !h.Failed(); {
		switch random.IntN(25) {
		case 0:
			server := servers[random.IntN(len(servers))]
			h.Cloud.SetServerMetadata(h.Seeded.Servers[server], map[string]string{"backup": []string{"yes", "yes", "gold", "gold", "no", "maybe"}[random.IntN(6)]})
		case 1:
			h.Cloud.FailNextBackup(h.Seeded.Volumes[volumes[random.IntN(len(volumes))]], "rados: connection timed out")
		case 2:
			skip := map[string]string{}
			if random.IntN(3) == 0 {
				skip["skip-volume-backup"] = "true"
			}
			h.Cloud.SetVolumeMetadata(h.Seeded.Volumes[volumes[random.IntN(len(volumes))]], skip)
			// No notification tells of it: until the next reconcile the plan knows better.
			h.check(h.Home.Ledger.AskReconcile(h.Context()))
			h.check(h.Tick(h.Context()))
		}
		h.step(time.Duration(1+random.IntN(14)) * time.Minute)
	}
	t.Logf("%d backups started, %d removed, as planned", h.starts, h.removals)
	if h.starts < 30 || h.removals < 8 {
		t.Errorf("only %d backups started and %d removed: this history proves nothing", h.starts, h.removals)
	}
	// Left alone, all that may go goes.
	for range 20 {
		h.step(time.Minute)
	}
	for _, f := range h.plan(h.Home.Ledger).Retention {
		if f.Verdict == plan.Remove && f.Blocked == "" {
			t.Errorf("still there: %s: %s", f.Name, f.Why)
		}
	}
	if len(h.Errors) > 0 {
		t.Error(h.Errors[0])
	}
}
