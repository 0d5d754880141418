package backup

import (
	"strings"
	"testing"
	"time"
)

func TestATenantsScheduleIsNotMoreFrequentThanAllowed(t *testing.T) {
	keys := Keys{OptIn: "backup", Schedule: "backup-schedule", Overrides: true, MinPeriod: time.Hour}
	for _, tc := range []struct{ name, schedule, want, problem string }{
		{"an hour is the least allowed", "1h", "1h", ""},
		{"a second is refused, and the class's own counts", "1s", "", "more frequent than every 1h0m0s"},
		{"so is a cron line that comes every ten minutes", "*/10 * * * *", "", "more frequent than every 1h0m0s"},
		{"and one that comes twice in a row once a day", "0,30 2 * * *", "", "more frequent than every 1h0m0s"},
		{"once a day is fine", "daily@02:30", "daily@02:30", ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			w := ReadWish(map[string]string{"backup": "yes", "backup-schedule": tc.schedule}, nil, keys, Classes{Default: {}})
			if !w.In || w.Schedule != tc.want || tc.problem == "" != (len(w.Problems) == 0) {
				t.Fatalf("in %v, schedule %q, problems %q", w.In, w.Schedule, w.Problems)
			}
			if tc.problem != "" && !strings.Contains(w.Problems[0], tc.problem) {
				t.Errorf("problem %q, want %q in it", w.Problems[0], tc.problem)
			}
		})
	}
}

func TestNothingStartsWhileAnUnservedBackupIsThere(t *testing.T) {
	v := Volume{ID: "v", Status: "in-use", Size: 1}
	none := Quota{Usage{Limit: -1}, Usage{Limit: -1}}
	broken := judged(CinderBackup{ID: "b", Volume: "other", Status: "error", FailReason: "Service not found for creating backup.",
		Metadata: map[string]string{MetaAutomated: "True"}})
	for _, tc := range []struct {
		name   string
		change func(*CinderBackup)
		want   Action
	}{
		{"it waits for it", func(*CinderBackup) {}, Wait},
		{"also while it is being removed", func(b *CinderBackup) { b.Status = "deleting" }, Wait},
		{"one that failed for another reason does not matter", func(b *CinderBackup) { b.FailReason = "rados" }, Go},
		{"nor one of the tenant's own", func(b *CinderBackup) { b.Origin = OriginTenant }, Go},
		{"nor one that the tenant has forged", func(b *CinderBackup) { b.Origin = OriginForged }, Go},
	} {
		t.Run(tc.name, func(t *testing.T) {
			b := broken
			tc.change(&b)
			got := WhatToStart(Policy{}, Keys{}, State{}, Turn{Now: true}, Facts{Volume: v, Quota: none, Unserved: Unserved([]CinderBackup{b})}, time.Time{})
			if got.Do != tc.want || tc.want == Wait && got.Theirs {
				t.Errorf("%+v", got)
			}
		})
	}
}

func TestByProjectKeepsTheOrder(t *testing.T) {
	got := ByProject([]string{"b1", "a1", "b2", "c1", "a2"}, func(s string) string { return s[:1] })
	var words []string
	for _, group := range got {
		words = append(words, strings.Join(group, " "))
	}
	if s := strings.Join(words, ", "); s != "b1 b2, a1 a2, c1" {
		t.Error(s)
	}
}

func TestAdoptingInTheSecondAttempt(t *testing.T) {
	slot := time.Date(2026, 11, 22, 2, 0, 0, 0, time.UTC)
	b := judged(CinderBackup{ID: "b", Volume: "v", Status: "available", Metadata: map[string]string{
		MetaAutomated: "True", MetaRun: RunID("v", slot), MetaAttempt: "1"}})
	got := WhatToStart(Policy{}, Keys{}, State{Retry: slot}, Turn{Now: true, Slot: slot}, Facts{Backups: []CinderBackup{b}}, slot)
	if got.Do != Adopt || got.Attempt != 2 {
		t.Errorf("a first attempt's backup that is there after all: %+v, want it adopted as the second's", got)
	}
}
