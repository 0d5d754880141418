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

func TestATenantsScheduleIsNotRarerThanAllowed(t *testing.T) {
	keys := Keys{OptIn: "backup", Schedule: "backup-schedule", Overrides: true, MaxPeriod: 7 * 24 * time.Hour}
	for _, tc := range []struct{ name, schedule, problem string }{
		{"a week is the most allowed", "7d", ""},
		{"a day more is refused", "8d", "less frequent than every 168h0m0s"},
		{"every Monday is a week", "30 2 * * 1", ""},
		{"twice a week is more often", "30 2 * * 1,4", ""},
		{"once a month is refused", "30 2 1 * *", "less frequent than every 168h0m0s"},
		{"a cron line that comes every minute, but in January alone", "* * * 1 *", "less frequent than every 168h0m0s"},
		{"once a day is fine", "daily@02:30", ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			w := ReadWish(map[string]string{"backup": "yes", "backup-schedule": tc.schedule}, nil, keys, Classes{Default: {}})
			if refused := w.Schedule == ""; !w.In || refused != (tc.problem != "") || refused != (len(w.Problems) == 1) {
				t.Fatalf("in %v, schedule %q, problems %q", w.In, w.Schedule, w.Problems)
			}
			if tc.problem != "" && !strings.Contains(w.Problems[0], tc.problem+": class default counts") {
				t.Errorf("problem %q, want %q in it", w.Problems[0], tc.problem)
			}
		})
	}
	keys.MaxPeriod = 0
	if w := ReadWish(map[string]string{"backup": "yes", "backup-schedule": "300d"}, nil, keys, Classes{Default: {}}); w.Schedule != "300d" {
		t.Error("refused, though nothing bounds it")
	}
}

func TestATenantsRetentionIsNotShorterThanAllowed(t *testing.T) {
	for _, tc := range []struct{ name, floor, retention, problem string }{
		{"nothing bounds it", "", "1s", ""},
		{"as long as the floor", "7d", "1w", ""},
		{"longer", "7d", "1mon", ""},
		{"a second shorter", "7d", "6d23h59min59s", `backup-retention: "6d23h59min59s" is shorter than 7d: class default counts`},
		{"what is no time is told as that", "7d", "soon", "is not a span of time"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			keys := Keys{OptIn: "backup", Retention: "backup-retention", Overrides: true}
			if tc.floor != "" {
				keys.MinRetention = age(tc.floor)
			}
			w := ReadWish(map[string]string{"backup": "yes", "backup-retention": tc.retention}, nil, keys, Classes{Default: {}})
			if refused := w.Retention == ""; !w.In || refused != (tc.problem != "") || refused != (len(w.Problems) == 1) {
				t.Fatalf("in %v, retention %q, problems %q", w.In, w.Retention, w.Problems)
			}
			if tc.problem != "" && !strings.Contains(w.Problems[0], tc.problem) {
				t.Errorf("problem %q, want %q in it", w.Problems[0], tc.problem)
			}
		})
	}
}

// The volumes of a server with an override keep a few of their newest restore points.
func TestAnOverrideKeepsTheNewest(t *testing.T) {
	for _, tc := range []struct{ name, schedule, retention, rules, want string }{
		{"no override", "", "", "daily=7", "daily=7"},
		{"a retention", "", "1h", "daily=7", "last=3 daily=7"},
		{"a schedule", "1h", "", "none", "last=3"},
		{"what the class keeps anyway", "1h", "1h", "last=5", "last=5"},
		{"or all", "1h", "1h", "last=unlimited", "last=unlimited"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			rules, err := ParseRules(tc.rules)
			if err != nil {
				t.Fatal(err)
			}
			p := Classes{Default: {Schedule: mustSchedule("24h"), Rules: rules, OverrideKept: 3}}.Of(Enrolment{Class: Default, Schedule: tc.schedule, Retention: tc.retention})
			if got := p.Rules.String(); got != tc.want {
				t.Errorf("got %s, want %s", got, tc.want)
			}
			if got := Metadata(Run{}, p, Enrolment{}, time.Time{})[MetaRules]; got != tc.want {
				t.Errorf("frozen as %s, want %s", got, tc.want)
			}
		})
	}
}

// The longest time between two slots is never shorter than what the slots themselves
// tell.
func TestLongest(t *testing.T) {
	for words, want := range map[string]time.Duration{
		"6h": 6 * time.Hour, "7d": 7 * 24 * time.Hour, "daily@02:30": 24 * time.Hour, "* * * * *": time.Minute, "0 9-17 * * *": 16 * time.Hour,
		"0 9-17 * * 1-5": 64 * time.Hour, "0 0 1 * *": 31 * 24 * time.Hour, "0 0 31 * *": 61 * 24 * time.Hour, "0 0 1 1 *": 366 * 24 * time.Hour,
		"0 0 1,15 * 1": 7 * 24 * time.Hour, "59 23 31 12 *": 366 * 24 * time.Hour,
	} {
		s := mustSchedule(words)
		if got := s.Longest(); got != want {
			t.Errorf("%s: got %s, want %s", words, got, want)
		}
		at := time.Date(2023, 12, 20, 0, 0, 0, 0, time.UTC)
		for range 50 {
			next := s.Next(at)
			if after := s.Next(next); after.Sub(next) > want {
				t.Errorf("%s: %s between %s and the next slot", words, after.Sub(next), next)
			}
			at = next
		}
	}
}
