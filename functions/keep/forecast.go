package keep

import (
	"strconv"
	"strings"
	"time"

	"staffeln/functions/backup"
)

// horizon is how far ahead a quota is looked at, in days.
const horizon = 366

// Forecast says how full both quotas are, how much of them the current policies need in the long run,
// and on which day a limit is reached. It assumes that everything which is not ours stays as it is.
// steadyOf is [Steady], or a cache of it.
func Forecast(q backup.Quota, volumes []backup.Protected, records []backup.Record, classes backup.Classes,
	steadyOf func(backup.Policy, time.Time) int, now time.Time) (backups, gigabytes backup.QuotaFact) {
	backups, gigabytes = backup.QuotaFactOf(q.Backups), backup.QuotaFactOf(q.Gigabytes)
	have := map[string]int{}
	ours, oursGiB := 0, 0
	for _, r := range records {
		have[r.Volume]++
		ours++
		oursGiB += r.Size
	}
	type pace struct {
		have, most, size int
		perDay           float64
	}
	var paces []pace
	needs, needsGiB := 0, 0
	steady := map[string]int{}
	for _, v := range volumes {
		if v.Skip != "" {
			continue
		}
		p := classes.Strictest(v.Enrolments, now)
		key := Words(p)
		most, ok := steady[key]
		if !ok {
			most = steadyOf(p, now)
			steady[key] = most
		}
		perDay := float64(24*time.Hour) / float64(max(p.Schedule.Interval(now), time.Second))
		paces = append(paces, pace{have: have[v.Volume], most: most, size: v.Size, perDay: perDay})
		needs += most
		needsGiB += most * v.Size
		ours -= have[v.Volume]
		oursGiB -= have[v.Volume] * v.Size
	}
	// Backups of volumes that are not protected any more go in their own time: they are not counted.
	others, othersGiB := backups.Used, gigabytes.Used
	for _, p := range paces {
		others -= p.have
		othersGiB -= p.have * p.size
	}
	others, othersGiB = max(others, 0), max(othersGiB, 0)
	backups.Needs = others - min(max(ours, 0), others) + needs
	gigabytes.Needs = othersGiB - min(max(oursGiB, 0), othersGiB) + needsGiB
	for day := 0; day <= horizon; day++ {
		n, gib := others, othersGiB
		for _, p := range paces {
			// A surplus over what the policy needs goes; a shortage is filled at the schedule's pace.
			there := min(max(p.most, p.have), p.have+int(p.perDay*float64(day)))
			n += there
			gib += there * p.size
		}
		at := now.AddDate(0, 0, day)
		full(&backups, n, at)
		full(&gigabytes, gib, at)
	}
	return backups, gigabytes
}

// full notes the day on which the limit of a quota is reached, if it is the first.
func full(q *backup.QuotaFact, used int, day time.Time) {
	if q.Full.IsZero() && q.Limit >= 0 && used >= q.Limit && q.Needs > q.Limit {
		q.Full = day
	}
}

// Words are everything in a policy that [Steady] depends on: for two policies with the same words
// it returns the same.
func Words(p backup.Policy) string {
	return strings.Join([]string{p.Schedule.String(), p.Retention.String(), p.Rules.String(), p.ChainAge.String(),
		strconv.Itoa(p.Depth), p.Archive.Container, string(p.Archive.Every)}, "|")
}

// mostSynthetic bounds the synthetic backups that a policy is judged by.
const mostSynthetic = 5000

// Steady is how many backups of one volume there are at most under a policy in the long run: it plays
// the schedule far enough and asks [Decide].
func Steady(p backup.Policy, now time.Time) int {
	interval := max(p.Schedule.Interval(now), time.Second)
	var slots []time.Time
	for t := p.Schedule.Slot(now); len(slots) < mostSynthetic; t = p.Schedule.Slot(t.Add(-time.Second)) {
		slots = append(slots, t)
		if t.Before(now.AddDate(-4, 0, 0)) && !reaches(p.Rules, now.Sub(t)) && p.Retention.After(t).Before(now) {
			break
		}
		if p.Rules.IsZero() && p.Retention.After(t).Before(now.Add(-time.Duration(p.Depth+2)*interval)) {
			break
		}
	}
	h := Holding{Volume: "v", Project: "p", Policy: &p}
	v := backup.Volume{ID: "v", Size: 1}
	carried := p.Depth
	span := ""
	for i := len(slots) - 1; i >= 0; i-- {
		b := backup.CinderBackup{ID: strconv.Itoa(len(slots) - i), Volume: v.ID, Project: "p", Status: "available",
			Origin: backup.OriginService, Created: slots[i], Size: 1}
		kind, archived := backup.Incremental, backup.Span("")
		if p.Archive.Container != "" {
			if key := p.Archive.Every.Key(slots[i].In(p.Schedule.Zone())); key != span {
				span, archived = key, p.Archive.Every
			}
		}
		switch {
		case archived != "":
			kind, carried = backup.Full, p.Depth
		case carried >= p.Depth:
			kind, carried = backup.Full, 0
		default:
			carried++
		}
		b.Incremental = kind == backup.Incremental
		run := backup.Run{Volume: v.ID, Project: "p", Slot: slots[i], Attempt: 1, Kind: kind, Archived: archived}
		b.Metadata = backup.Metadata(run, p, backup.Enrolment{}, slots[i])
		h.Backups = append(h.Backups, b)
	}
	// Between two removals there is up to a chain more than right after one.
	most := 0
	for back := 0; back <= min(p.Depth, 20) && back < len(h.Backups); back++ {
		part := h
		part.Backups = h.Backups[:len(h.Backups)-back]
		kept := 0
		now := part.Backups[len(part.Backups)-1].Created.Add(-time.Second) // the new one comes before the old one goes
		for _, f := range Decide(part, now) {
			if f.Keep {
				kept++
			}
		}
		most = max(most, kept)
	}
	return most
}

// reaches says whether rules may keep a backup of that age.
func reaches(r backup.Rules, age time.Duration) bool {
	day := 24 * time.Hour
	span := func(n int, each time.Duration) bool { return n < 0 || age <= time.Duration(min(n+1, 1000))*each }
	return span(r.Hourly, time.Hour) || span(r.Daily, day) || span(r.Weekly, 7*day) || span(r.Monthly, 31*day) ||
		span(r.Yearly, 366*day)
}
