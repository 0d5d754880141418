package simulate

import (
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
	"time"

	"staffeln/functions/backup"
	"staffeln/testutil/simcloud"
)

// check holds the promises against the truth, after an act.
func (p *play) check() {
	all := p.Cloud.Backups()
	p.once(all)
	p.points(all)
	for _, b := range all {
		ours := p.made(b)
		switch {
		case ours && b.Metadata[backup.MetaRun] == "":
			p.fail("I2", "backup %s has lost its metadata", b.ID)
		case ours && b.Status == "deleted" && p.asked[b.ID] == 0:
			p.fail("I2", "backup %s (%s) is gone, and we did not ask for it", b.ID, b.Name)
		}
	}
	for _, project := range p.tenants() {
		runs, err := p.ledger.Finished(p.ctx, project, 10_000)
		p.must(err)
		for _, r := range runs {
			if r.State == backup.Failed {
				p.failed[r.ID()] = p.Now()
			}
		}
	}
	// What the volumes are that somebody wants protected.
	now := map[string]bool{}
	for _, s := range p.servers() {
		if w := backup.ReadWish(s.Metadata, s.Tags, p.Settings.Keys, p.Policies()); !w.In {
			continue
		}
		for _, id := range s.Volumes {
			v, there := p.Cloud.Volume(id)
			now[id] = now[id] || there && v.Metadata[p.Settings.Keys.Skip] == ""
		}
	}
	maps.DeleteFunc(p.wanted, func(v string, _ time.Time) bool { return !now[v] })
	for v, want := range now {
		if _, had := p.wanted[v]; want && !had {
			p.wanted[v] = p.Now()
		}
	}
}

// once checks that the service made no two backups of a slot (I1), and that it tries no
// slot for ever (I4).
//
// Where the maker is hidden, I1 reads weaker: a slot may be made again once nobody can
// know any more who made what is there.
func (p *play) once(all []simcloud.Backup) {
	slots := map[string][]simcloud.Backup{}
	for _, b := range all {
		if run := b.Metadata[backup.MetaRun]; run != "" && p.made(b) {
			slots[run] = append(slots[run], b)
		}
	}
	for _, run := range slices.Sorted(maps.Keys(slots)) {
		good, bad, there := 0, 0, 0
		var each []string
		var before *simcloud.Backup
		for _, b := range slots[run] {
			each = append(each, fmt.Sprintf("%s attempt %s %s %q", b.Created.Format("2006-01-02T15:04:05"),
				b.Metadata[backup.MetaAttempt], b.Status, b.FailReason))
			switch {
			case strings.Contains(b.FailReason, "Service not found"): // taken by nobody, and no attempt
			case b.FailReason == "" && before != nil && p.doubtful(*before, b.Created):
				before = &b
			case b.FailReason == "":
				good++
				before = &b
				if b.Status != "deleted" {
					there++
				}
			default:
				bad++
			}
		}
		if good > 1 && (there > 1 || !p.jumped) {
			p.fail("I1", "%s has %d backups:\n%s", run, good, strings.Join(each, "\n"))
		}
		if bad > 2*(1+p.changes+len(p.losses)) {
			p.fail("I4", "%s was tried %d times:\n%s", run, bad, strings.Join(each, "\n"))
		}
	}
}

// points checks that a volume that lives and ever had a complete restore point of
// ours has one (I3).
func (p *play) points(all []simcloud.Backup) {
	had, have := map[string]bool{}, map[string]bool{}
	for _, b := range all {
		v, lives := p.Cloud.Volume(b.Volume)
		if !p.made(b) || !lives || v.Project != b.Project {
			continue
		}
		have[b.Volume] = have[b.Volume] || b.Status == "available" || b.Status == "restoring"
		had[b.Volume] = had[b.Volume] || b.FailReason == "" && !b.Ended.IsZero()
	}
	for v := range had {
		if had[v] && !have[v] {
			p.fail("I3", "volume %s has lost its last restore point", v)
		}
	}
}

// late are the volumes whose promise is broken without any doubt: protected for four
// periods, and the newest restore point is older than that. They are by their names.
//
// Where the maker is hidden and Redis has lost something, nobody knows the restore points
// from before: the volume counts as one that has just come.
func (p *play) late(project string, at time.Time) (names []string) {
	far := at.Add(-4*p.history.Period - 3*p.history.Pace)
	newest := map[string]time.Time{}
	for _, b := range p.Cloud.Backups() {
		if b.Project == project && p.made(b) && b.FailReason == "" && b.Created.After(newest[b.Volume]) {
			newest[b.Volume] = b.Created
		}
	}
	if p.hidden() && p.lostSince(far) {
		return nil
	}
	for id, since := range p.wanted {
		v, there := p.Cloud.Volume(id)
		if at, had := newest[id]; there && had && v.Project == project && at.Before(far) && since.Before(far) {
			names = append(names, v.Name)
		}
	}
	slices.Sort(names)
	return names
}

// promised checks that what is late is in the metrics (I8).
func (p *play) promised() {
	count := 0
	var names []string
	for _, project := range p.tenants() {
		late := p.late(project, p.Now())
		count += len(late)
		names = append(names, late...)
	}
	totals, err := p.ledger.Totals(p.ctx)
	p.must(err)
	if totals["overdue"] < count && !p.lost() {
		p.fail("I8", "%d volumes are overdue (%q), and the metrics say %d", count, names, totals["overdue"])
	}
}

// told checks that what is late is in a digest (I8), when it is sent.
func (p *play) told(l backup.Letter) {
	if p.skewed || p.stalling || !p.sound() {
		return
	}
	for _, project := range p.tenants() {
		if l.List != project {
			continue
		}
		for _, name := range p.late(project, l.At) {
			if !strings.Contains(l.Text, "overdue "+name+"\n") {
				p.fail("I8", "volume %s is overdue at %s, and the digest does not say so:\n%s", name,
					l.At.Format(time.RFC3339), l.Text)
			}
		}
	}
}

// sound says that Redis has lost nothing for so long that every volume's past is
// known again.
func (p *play) sound() bool {
	return len(p.losses) == 0 || p.Now().Sub(p.losses[len(p.losses)-1]) > 2*p.history.Period && !p.lost()
}

var line = regexp.MustCompile(`(?m)^run (\S+) (ok|failed)$`)

// digests checks that every run that ended is told in exactly one digest (I5).
func (p *play) digests() {
	type place struct {
		key, how string
		at       time.Time
	}
	in := map[string][]place{}
	same := map[string]backup.Letter{}
	for _, l := range p.box.Handed() {
		// An older copy of Redis can make the same digest a second time.
		if first, again := same[l.Key]; again && len(p.losses) == 0 && (first.Text != l.Text || first.Subject != l.Subject) {
			p.fail("I5", "letter %s came in other words:\n%s\nthen\n%s", l.Key, first.Text, l.Text)
		}
		same[l.Key] = l.Letter
	}
	p.tally.Digests = len(same)
	for _, l := range p.box.Letters() {
		p.say("letter %s at %s for %s:\n%s", l.Key, l.At.Format(time.RFC3339), l.Letter.At.Format(time.RFC3339), l.Text)
	}
	for _, l := range p.box.Letters() {
		for _, m := range line.FindAllStringSubmatch(l.Text, -1) {
			in[m[1]] = append(in[m[1]], place{l.Key, m[2], l.At})
		}
	}
	excused := func(at time.Time) bool {
		return slices.ContainsFunc(p.losses, func(loss time.Time) bool { return !loss.Before(at.Add(-time.Hour)) })
	}
	// The last period whose digest cannot wait for anything any more.
	settled := p.Settings.Report.Schedule.Slot(p.Now().Add(-p.Settings.Report.Patience - 3*p.history.Pace))
	good := map[string]simcloud.Backup{}
	for _, b := range p.Cloud.Backups() {
		run := b.Metadata[backup.MetaRun]
		if !p.made(b) || b.Ended.IsZero() || b.FailReason != "" {
			continue
		}
		good[run] = b
		if len(in[run]) == 0 && b.Ended.Before(settled) && !excused(b.Ended) && !p.doubtful(b, p.Now()) {
			p.fail("I5", "run %s was complete at %s, and is in no digest", run, b.Ended.Format(time.RFC3339))
		}
	}
	for run, seen := range p.failed {
		if len(in[run]) == 0 && seen.Before(settled) && !excused(seen) {
			p.fail("I5", "run %s failed by %s, and is in no digest", run, seen.Format(time.RFC3339))
		}
	}
	for run, places := range in {
		// What was given up on and is complete later is told a second time, and rightly.
		late := len(places) == 2 && places[0].how == "failed" && places[1].how == "ok"
		vain := p.jumped && !slices.ContainsFunc(places, func(at place) bool { return at.how == "ok" })
		if len(places) > 1 && !late && !vain && len(p.losses) == 0 {
			p.fail("I5", "run %s is in %d digests: %v", run, len(places), places)
		}
		if _, complete := good[run]; !complete && places[len(places)-1].how == "ok" {
			p.fail("I5", "run %s is told as complete, and is not", run)
		}
	}
}
