package functions_test

import (
	"fmt"
	"testing"
	"time"

	"staffeln/events"
	"staffeln/functions/backup"
	"staffeln/functions/dispatch"
	"staffeln/testutil/services"
	"staffeln/testutil/world"
)

// Planning 10,000 due volumes of 1,000 projects: whose turn it is, who may start,
// and what to start, from facts at hand. Reported per 10,000 volumes.
func BenchmarkPlan(b *testing.B) {
	now := sunday
	sched, err := backup.ParseSchedule("daily@02:30")
	if err != nil {
		b.Fatal(err)
	}
	classes := backup.Classes{backup.Default: {Class: backup.Default, Schedule: sched, Spread: time.Hour, Depth: 6,
		Retention: backup.Age{Days: 30}}}
	var due []backup.Protected
	for i := range 10000 {
		due = append(due, backup.Protected{
			Volume: fmt.Sprintf("v%05d", i), Project: fmt.Sprintf("p%04d", i%1000), Size: 10,
			Enrolments: []backup.Enrolment{{Class: backup.Default}},
			State:      backup.State{LastSlot: now.Add(-48 * time.Hour), LastComplete: now.Add(-48 * time.Hour)},
		})
	}
	quota := backup.Quota{Backups: backup.Usage{Limit: -1}, Gigabytes: backup.Usage{Limit: -1}}
	b.ReportAllocs()
	for b.Loop() {
		started := 0
		var turns []*dispatch.Decision
		for _, v := range due {
			if d := dispatch.Look(v, classes, now); d.Start.Do == backup.Go {
				turns = append(turns, d)
			}
		}
		facts := dispatch.Facts{Now: now, Room: backup.NewRoom(backup.Limits{Cloud: 20000, Project: 20}, backup.InFlight{}),
			Ask: func(d *dispatch.Decision) dispatch.Answer {
				return dispatch.Answer{Facts: backup.Facts{Volume: backup.Volume{ID: d.Volume, Status: "in-use", Size: 10},
					Quota: quota}}
			}}
		for d := range dispatch.Choose(turns, facts) {
			if d.Start.Do == backup.Go {
				started++
			}
		}
		if started != 10000 {
			b.Fatalf("%d of 10,000 started", started)
		}
	}
	b.ReportMetric(float64(b.Elapsed().Milliseconds())/float64(b.N), "ms/10k-volumes")
}

// One reconcile of 10,000 protected volumes in 1,000 projects that finds nothing
// new, beside merely reading the same lists over HTTP.
func BenchmarkReconcile(b *testing.B) {
	ctx := b.Context()
	redis := services.RedisServer(b)
	w, err := world.New(ctx, world.Options{Start: sunday, Environ: []string{
		"STAFFELN_REDIS_URL=redis://" + redis.Addr() + "/0", "STAFFELN_SHARDS=16",
		"STAFFELN_RECONCILE_PERIOD=10s", "STAFFELN_BACKUPS_PERIOD=1m", "STAFFELN_API_RATE=1000000"}})
	if err != nil {
		b.Fatal(err)
	}
	defer w.Close()
	for p := range 1000 {
		id := w.Cloud.AddProject(fmt.Sprintf("p%04d", p))
		for v := range 5 {
			w.Cloud.AddServer(id, fmt.Sprintf("s%d", v), map[string]string{"backup": "yes"},
				w.Cloud.AddVolume(id, fmt.Sprintf("a%d", v), 1, nil), w.Cloud.AddVolume(id, fmt.Sprintf("b%d", v), 1, nil))
		}
	}
	reconcile := func() {
		w.Jump(w.Now().Add(time.Minute))
		if err := w.Deliver(ctx, events.NewTick("reconcile", 0, w.Now())); err != nil {
			b.Fatal(err)
		}
	}
	began := time.Now()
	reconcile()
	first := time.Since(began)
	var lists time.Duration
	for b.Loop() {
		reconcile()
		began := time.Now()
		if _, err := w.Home.Cloud.Servers(ctx, ""); err != nil {
			b.Fatal(err)
		}
		if _, err := w.Home.Cloud.Volumes(ctx, ""); err != nil {
			b.Fatal(err)
		}
		lists += time.Since(began)
	}
	each := b.Elapsed() - lists
	b.ReportMetric(first.Seconds(), "s/first")
	b.ReportMetric(each.Seconds()/float64(b.N), "s/steady")
	b.ReportMetric(each.Seconds()/lists.Seconds(), "x-lists-alone")
}
