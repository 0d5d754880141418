package ledger

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"staffeln/functions/backup"
)

// moment is the score of a time at which something becomes due; a zero time is long ago, with room
// for smaller scores below it.
func moment(t time.Time) string {
	if t.IsZero() {
		return "1000000"
	}
	return micros(t)
}

// retentionRows returns the two rows of a project's retention: "LOOKED BACKUPS CHAINS REMOVALS
// LOSSES RELEASED MOST" without zeros at the end, which follows the version, and the rest as
// JSON, "" if all of that is empty.
func retentionRows(r backup.Retention) (row, doing string) {
	o := r.Outlook
	row = fmt.Sprintf("%s %d %d %d %d %s %d", micros(r.Looked), o.Backups, o.Chains, o.Removals, o.Losses, micros(r.Released), r.Most)
	for strings.HasSuffix(row, " 0") {
		row = strings.TrimSuffix(row, " 0")
	}
	r.Outlook, r.Looked, r.Released, r.Most = backup.Outlook{}, time.Time{}, time.Time{}, 0
	r.Announced = utc(r.Announced)
	removals, gone := r.Removals, r.Gone
	r.Removals, r.Gone = nil, nil
	for id, g := range removals {
		if r.Removals == nil {
			r.Removals = make(map[string]backup.Removal, len(removals))
		}
		r.Removals[id] = sound(g)
	}
	for id, a := range gone {
		if r.Gone == nil {
			r.Gone = make(map[string]backup.Absence, len(gone))
		}
		a.Since = utc(a.Since)
		r.Gone[id] = a
	}
	if doing = toJSON(r); doing == "{}" {
		doing = ""
	}
	return row, doing
}

// sound is a removal with times that JSON can hold.
func sound(g backup.Removal) backup.Removal {
	g.Created, g.Asked, g.Ended, g.Again = utc(g.Created), utc(g.Asked), utc(g.Ended), utc(g.Again)
	return g
}

// readRetention reads "VERSION.NONCE LOOKED BACKUPS CHAINS REMOVALS LOSSES RELEASED MOST"
// and the JSON of what is being done.
func readRetention(project, row, doing string) (r backup.Retention, err error) {
	if doing != "" {
		if err := fromJSON(doing, &r); err != nil {
			return r, fmt.Errorf("project %s: %w", named(project), err)
		}
	}
	r.Project = project
	var n [8]int64
	f := strings.Fields(row)
	if len(f) > len(n) {
		return r, fmt.Errorf("project %s: not a row: %.60q", named(project), row)
	}
	for i, s := range f {
		if i == 0 {
			s, _, _ = strings.Cut(s, ".")
		}
		if n[i], err = readNumber(s); err != nil {
			return r, fmt.Errorf("project %s: %w", named(project), err)
		}
		// The brake adds these up: a negative number would lift the brake for other projects.
		if (i >= 2 && i <= 5 || i == 7) && (n[i] < 0 || n[i] > maxCount) {
			return r, fmt.Errorf("project %s: not a count: %.40q", named(project), s)
		}
	}
	at := func(n int64) time.Time { return scoreTime(float64(n)) }
	r.Version, r.Looked = n[0], at(n[1])
	r.Outlook = backup.Outlook{Backups: int(n[2]), Chains: int(n[3]), Removals: int(n[4]), Losses: int(n[5])}
	r.Released, r.Most = at(n[6]), int(n[7])
	return r, nil
}

// isRetention says why a retention that was read cannot be used; nil if it can.
func isRetention(r backup.Retention) error {
	for id, g := range r.Removals {
		if !goodID(id) || g.Backup != id {
			return fmt.Errorf("project %s: a removal of %.40q under %.40q", named(r.Project), g.Backup, id)
		}
	}
	for id := range r.Gone {
		if !goodID(id) {
			return fmt.Errorf("project %s: %.40q is missed, but is not the id of a volume", named(r.Project), id)
		}
	}
	return nil
}

// reportingRow is the state of a project's digests as JSON, "{}" if it is empty.
func reportingRow(r backup.Reporting) string {
	r.Last, r.Failing, r.Errors = utc(r.Last), soundTimes(r.Failing), soundRuns(r.Errors)
	r.Alarms = maps.Clone(r.Alarms)
	for id, a := range r.Alarms {
		a.Since, a.Done, a.Again = utc(a.Since), utc(a.Done), utc(a.Again)
		r.Alarms[id] = a
	}
	if r.Pending != nil {
		p := *r.Pending
		p.Digest, p.Failing, p.Again = soundDigest(p.Digest), soundTimes(p.Failing), utc(p.Again)
		r.Pending = &p
	}
	return toJSON(r)
}

func soundTimes(times map[string]time.Time) map[string]time.Time {
	out := maps.Clone(times)
	for id, t := range out {
		out[id] = utc(t)
	}
	return out
}

func soundRuns(runs []backup.DigestRun) []backup.DigestRun {
	out := slices.Clone(runs)
	for i := range out {
		r := &out[i]
		r.Slot, r.Started, r.Ended, r.FailingSince = utc(r.Slot), utc(r.Started), utc(r.Ended), utc(r.FailingSince)
	}
	return out
}

// soundDigest is a digest with times that JSON can hold.
func soundDigest(d backup.Digest) backup.Digest {
	d.From, d.To = utc(d.From), utc(d.To)
	d.Backups.Full, d.Gigabytes.Full = utc(d.Backups.Full), utc(d.Gigabytes.Full)
	d.Runs, d.Removed = soundRuns(d.Runs), slices.Clone(d.Removed)
	for i := range d.Removed {
		d.Removed[i] = sound(d.Removed[i])
	}
	return d
}

// readReporting reads "VERSION.NONCE ASIDE" and the JSON.
func readReporting(project, row string) (r backup.Reporting, err error) {
	head, body, _ := strings.Cut(row, "\n")
	version, _, _ := strings.Cut(head, " ")
	version, _, _ = strings.Cut(version, ".")
	if r.Version, err = readNumber(version); err == nil {
		err = fromJSON(body, &r)
	}
	if err != nil {
		return r, fmt.Errorf("project %s: %w", named(project), err)
	}
	r.Project = project
	return r, nil
}

func removalRow(g backup.Removal) string { return toJSON(sound(g)) }

func readRemoval(row string) (g backup.Removal, err error) {
	err = fromJSON(row, &g)
	return g, err
}
