package keep

import (
	"cmp"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"staffeln/functions/backup"
)

// The four sentences of docs/operators.md, written down once more in the plainest way, without
// regard to chains: Decide keeps exactly what they say, whatever the history.
func TestTheFourSentences(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		_, h := wildHistory(t)
		for i := range h.Backups {
			h.Backups[i].Incremental, h.Backups[i].Dependents = false, false
		}
		h.Parents = nil
		now := aMoment(t, h, "now")
		want := sentences(h, now)
		for _, f := range Decide(h, now) {
			b := f.Backup
			if b.Ours() && (b.Status == "available" || b.Status == "restoring") && f.Keep != want[b.ID] {
				t.Fatalf("at %s, gone %s, by the sentences it stays: %v\n%s", now, h.Gone, want[b.ID], tellFates(Decide(h, now)))
			}
		}
	})
}

// The example of docs/operators.md.
func TestTheExampleOfTheManual(t *testing.T) {
	now := on("18T12:00")
	h := Holding{Project: "p", Volume: theVolume}
	for at := on("2026-09-01T02:00"); at.Before(now); at = at.AddDate(0, 0, 1) {
		p := policy("keep=2d, rules=daily=7 monthly=3")
		if at.After(on("15T12:00")) {
			p = policy("keep=2d, rules=daily=3")
		}
		run := backup.Run{Volume: theVolume, Slot: at, Attempt: 1, Kind: backup.Full}
		h.Backups = append(h.Backups, judged(backup.CinderBackup{ID: at.Format(time.DateOnly), Volume: theVolume, Project: "p",
			Status: "available", Created: at, Metadata: backup.Metadata(run, p, backup.Enrolment{}, at)}))
		h.Policy = &p
	}
	want := "    made         stays because\n"
	for _, f := range Decide(h, now) {
		if f.Keep {
			want += "    " + f.Backup.ID + "   " + f.Why + "\n"
		}
	}
	if page, err := os.ReadFile("../../docs/operators.md"); err != nil || !strings.Contains(string(page), want) {
		t.Errorf("operators.md does not have it: %v\n%s", err, want)
	}
}

// A made is a restore point and what it was made under.
type made struct {
	backup.CinderBackup
	under    string // rules and zone
	rules    backup.Rules
	zone     *time.Location
	readable bool
}

// sentences says which restore points stay.
func sentences(h Holding, now time.Time) map[string]bool {
	var points []made // newest first
	for _, b := range slices.SortedFunc(slices.Values(h.Backups), func(a, b backup.CinderBackup) int {
		return cmp.Or(b.Created.Compare(a.Created), cmp.Compare(b.ID, a.ID))
	}) {
		if !b.Ours() || b.Status != "available" && b.Status != "restoring" {
			continue
		}
		m := made{CinderBackup: b, readable: b.Metadata[backup.MetaRetention] != ""}
		rules, err := backup.ParseRules(b.Metadata[backup.MetaRules])
		m.readable = m.readable && err == nil
		m.rules, m.zone = rules, zone(b.Metadata[backup.MetaZone])
		m.under = rules.String() + " in " + m.zone.String()
		points = append(points, m)
	}
	stays := map[string]bool{}
	today, todays := "", h.Policy != nil && h.Gone.IsZero() && !h.Policy.Rules.IsZero()
	if todays {
		today = h.Policy.Rules.String() + " in " + h.Policy.Schedule.Zone().String()
	}
	var readable []made
	earlier := map[string][]made{}
	for i, m := range points {
		// What comes on top: the newest, a hold, whatever is busy or cannot be read.
		_, held := m.Metadata[backup.MetaHold]
		if i == 0 && (h.Gone.IsZero() || now.Before(h.Orphan.After(latest(h.Gone, m.Created)))) || held || m.Status == "restoring" || h.Busy || !m.readable {
			stays[m.ID] = true
		}
		// 1. Its own retention time, or the volume's of today.
		if m.readable {
			until, _ := time.Parse(time.RFC3339, m.Metadata[backup.MetaKeepUntil])
			if now.Before(until) || now.Before(age(m.Metadata[backup.MetaRetention]).After(m.Created.In(m.zone))) {
				stays[m.ID] = true
			}
			readable = append(readable, m)
			if m.under != today {
				earlier[m.under] = append(earlier[m.under], m)
			}
		}
		if h.Policy != nil && now.Before(h.Policy.Retention.After(m.Created.In(h.Policy.Schedule.Zone()))) {
			stays[m.ID] = true
		}
	}
	// 2. Today's rules judge all together.
	if todays {
		for rule, n := range numbers(h.Policy.Rules) {
			restic(rule, n, h.Policy.Schedule.Zone(), readable, stays)
		}
	}
	// 3. Others are judged by their own, each rule for its span.
	for _, group := range earlier {
		for rule, n := range numbers(group[0].rules) {
			if unit, ok := map[string]string{"hourly": "h", "daily": "d", "weekly": "w", "monthly": "mon", "yearly": "y"}[rule]; ok {
				within := group
				if n > 0 {
					span := age(fmt.Sprint(n, unit))
					within = slices.DeleteFunc(slices.Clone(group), func(m made) bool { return !now.Before(span.After(m.Created.In(m.zone))) })
				}
				restic(rule, n, group[0].zone, within, stays)
			}
		}
	}
	newer := 0
	for _, m := range points {
		if n := m.rules.Last; h.Gone.IsZero() && m.readable && m.under != today && (n < 0 || newer < n) {
			stays[m.ID] = true
		}
		if stays[m.ID] && m.readable {
			newer++
		}
	}
	return stays
}

func latest(a, b time.Time) time.Time {
	if b.After(a) {
		return b
	}
	return a
}

func numbers(r backup.Rules) map[string]int {
	return map[string]int{"last": r.Last, "hourly": r.Hourly, "daily": r.Daily, "weekly": r.Weekly, "monthly": r.Monthly, "yearly": r.Yearly}
}

// restic notes what one rule keeps: one for each name of an hour, day and so on, n of them, and the
// oldest while there are fewer. A month and a year are kept by the archived one.
func restic(rule string, n int, in *time.Location, points []made, stays map[string]bool) {
	name := func(i int, m made) string {
		at := m.Created.In(in)
		switch year, week := at.ISOWeek(); rule {
		case "hourly":
			return at.Format("2006-01-02 15")
		case "daily":
			return at.Format("2006-01-02")
		case "weekly":
			return fmt.Sprint(year, " ", week)
		case "monthly":
			return at.Format("2006-01")
		case "yearly":
			return at.Format("2006")
		}
		return fmt.Sprint(i)
	}
	best := map[string]made{}
	var order []string
	for i, m := range points {
		key := name(i, m)
		have, ok := best[key]
		if !ok {
			order = append(order, key)
		}
		if is := archivedFor(rule, m); !ok || is > archivedFor(rule, have) {
			best[key] = m
		}
	}
	for i, key := range order {
		if n < 0 || i < n {
			stays[best[key].ID] = true
		}
	}
	if len(points) > 0 && (n < 0 || len(order) < n) {
		stays[points[len(points)-1].ID] = true
	}
}

func archivedFor(rule string, m made) int {
	switch span := m.Metadata[backup.MetaArchived]; {
	case rule == "yearly" && span == "year":
		return 2
	case span == "month" && (rule == "monthly" || rule == "yearly"):
		return 1
	}
	return 0
}
