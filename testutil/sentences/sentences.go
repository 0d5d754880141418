// Package sentences is the four sentences about archive rules in docs/operators.md, written down once
// more in the plainest way. Tests hold functions/keep against it, and so does the simulator.
package sentences

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"time"

	"staffeln/functions/backup"
)

// A made is a restore point and what it was made under.
type made struct {
	backup.CinderBackup
	under     string // rules and zone
	rules     backup.Rules
	zone      *time.Location
	retention backup.Age
	until     time.Time // kept until then at least
	readable  bool
}

// A Facts is what is known of one volume's backups.
type Facts struct {
	Backups []backup.CinderBackup
	// Policy is the volume's current one; nil if it is not protected.
	Policy *backup.Policy
	// Gone is since when the volume does not exist any more, zero while it does. Orphan is how long
	// its newest restore point outlives it.
	Gone   time.Time
	Orphan backup.Age
	// Busy says that the volume has an open run.
	Busy bool
}

// Stay returns the ids of the restore points that stay at now, without regard to chains.
func (h Facts) Stay(now time.Time) map[string]bool {
	var points []made // newest first
	for _, b := range slices.SortedFunc(slices.Values(h.Backups), func(a, b backup.CinderBackup) int {
		full := func(b backup.CinderBackup) int { // comes before an incremental of the same second
			if b.Incremental {
				return 0
			}
			return 1
		}
		return cmp.Or(b.Created.Compare(a.Created), cmp.Compare(full(a), full(b)), cmp.Compare(b.ID, a.ID))
	}) {
		if !b.Ours() || b.Status != "available" && b.Status != "restoring" {
			continue
		}
		m := made{CinderBackup: b}
		var errs [4]error
		m.rules, errs[0] = backup.ParseRules(b.Metadata[backup.MetaRules])
		m.retention, errs[1] = backup.ParseAge(b.Metadata[backup.MetaRetention])
		m.zone, errs[2] = time.LoadLocation(b.Metadata[backup.MetaZone])
		if until, dated := b.Metadata[backup.MetaKeepUntil]; dated {
			m.until, errs[3] = time.Parse(time.RFC3339, until)
		}
		if m.readable = errors.Join(errs[:]...) == nil && b.Metadata[backup.MetaZone] != ""; !m.readable {
			m.rules, m.zone = backup.Rules{}, time.UTC
		}
		m.under = m.rules.String() + " in " + m.zone.String()
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
		newest := i == 0 && (h.Gone.IsZero() || now.Before(h.Orphan.After(latest(h.Gone, m.Created))))
		if newest || m.Held() || m.Status == "restoring" || h.Busy || !m.readable {
			stays[m.ID] = true
		}
		// 1. Its own retention time, or the volume's of today.
		if m.readable {
			if now.Before(m.until) || now.Before(m.retention.After(m.Created.In(m.zone))) {
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
			if rule == "last" {
				continue // see below
			}
			within := slices.DeleteFunc(slices.Clone(group), func(m made) bool {
				return n >= 0 && !now.Before(span(rule, n).After(m.Created.In(m.zone)))
			})
			restic(rule, n, group[0].zone, within, stays)
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

// span is how long a rule keeps a backup.
func span(rule string, n int) backup.Age {
	return map[string]backup.Age{"hourly": {Hours: n}, "daily": {Days: n}, "weekly": {Weeks: n}, "monthly": {Months: n},
		"yearly": {Years: n}}[rule]
}

func latest(a, b time.Time) time.Time {
	if b.After(a) {
		return b
	}
	return a
}

func numbers(r backup.Rules) map[string]int {
	return map[string]int{"last": r.Last, "hourly": r.Hourly, "daily": r.Daily, "weekly": r.Weekly,
		"monthly": r.Monthly, "yearly": r.Yearly}
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
