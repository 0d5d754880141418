package simulate

import (
	"context"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/google/go-cmp/cmp"

	"staffeln/functions"
	"staffeln/functions/backup"
	"staffeln/functions/plan"
	"staffeln/testutil/simcloud"
)

// A span is the time between two moments.
type span struct{ from, until time.Time }

// truth is what the promises are held against, beside the cloud itself.
type truth struct {
	// known are the policies that were ever in force.
	known []backup.Classes
	names int
	// left is when volumes were deleted or given away, failing how many failures a
	// volume had, drifted which backups have a child too many.
	left    map[string]time.Time
	failing map[string]int
	drifted []string
	// asked are the backups that we asked Cinder to remove and how often.
	asked map[string]int
	makers
	// wanted is since when each volume has been protected without a break.
	wanted map[string]time.Time
	// failed are the runs that the ledger ever held as failed.
	failed map[string]time.Time
	// losses are when Redis lost something; gone is when it lost everything, until it
	// has been rebuilt; changes count what makes a slot begin anew.
	losses []time.Time
	gone   bool
	// unserved are the times without any cinder-backup service, the present one whole.
	unserved []span
	changes  int
	// jumped says that the clock was once wrong by more than a period: what was done in
	// that time under an older slot's name is not held against the service.
	jumped bool
	// skewed says that the service's clock is wrong, stalling that one process of two
	// stands still.
	skewed, stalling bool
}

func (t *truth) init(p *play) {
	t.left, t.failing = map[string]time.Time{}, map[string]int{}
	t.asked, t.copied = map[string]int{}, map[string]time.Time{}
	t.delayed = map[int64]time.Duration{}
	t.wanted, t.failed = map[string]time.Time{}, map[string]time.Time{}
	p.remember()
}

// remember notes the policies that are in force.
func (p *play) remember() { p.known = append(p.known, maps.Clone(p.Policies())) }

// forget notes that Redis has lost something.
func (p *play) forget() { p.losses = append(p.losses, p.Now()) }

// lost says whether Redis has lost everything and has not been rebuilt.
func (p *play) lost() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.gone {
		return false
	}
	for shard := range p.ledger.Shards() {
		if ok, err := p.ledger.Ready(p.ctx, shard); err != nil || !ok {
			return true
		}
	}
	p.gone = false
	return false
}

// A witness stands between the functions and the cloud.
type witness struct {
	functions.Cloud
	p *play
}

func (w witness) DeleteBackup(ctx context.Context, project, id string) error {
	w.p.removing(id)
	return w.Cloud.DeleteBackup(ctx, project, id)
}

// removing checks what can be said of a removal by the truth, at the moment in which
// Cinder is asked for it.
func (p *play) removing(id string) {
	if p.lost() {
		p.fail("I7", "backup %s was to be deleted before the ledger was rebuilt", id)
	}
	b, same, there := p.Cloud.Backup(id)
	if !there {
		return
	}
	switch {
	case !p.made(b):
		p.fail("I3", "backup %s (%s) was to be deleted, and the service did not make it", id, b.Name)
	case p.unverified(b):
		p.fail("I7", "backup %s (%s) was to be deleted, and nobody can know that the service made it", id, b.Name)
	}
	p.mu.Lock()
	p.asked[id]++
	times, now := p.asked[id], p.Now()
	outage := p.outage(b.Created, now)
	p.mu.Unlock()
	// Soon at first, then more and more seldom, by two functions each; and while there
	// is no cinder-backup, one removal every five minutes says whether there is again.
	if most := 20 + 2*int(now.Sub(b.Created)/time.Hour) + int(outage/(5*time.Minute)); times > most*(1+len(p.losses)) {
		p.fail("I4", "backup %s (%s) was to be deleted %d times", id, b.Status, times)
	}
	blind := p.request.on.Load() != nil || p.stalling
	holding := p.holding(b.Project, b.Volume, same)
	keeps := true
	for _, policy := range p.candidates() {
		holding.Policy = policy
		for _, f := range backup.Retain(holding, now) {
			if f.Backup.ID == id {
				keeps = keeps && f.Keep && !f.Broken && !(blind && f.Hostage)
			}
		}
	}
	if keeps {
		p.fail("I3", "backup %s (%s, %s) was to be deleted, and every policy keeps it", id, b.Name, b.Status)
	}
	for _, child := range same {
		if child.Parent == id && !blind {
			p.fail("I4", "backup %s was to be deleted before its child %s (%s)", id, child.ID, child.Status)
		}
	}
	if v, lives := p.Cloud.Volume(b.Volume); !lives || v.Project != b.Project || b.Status != "available" {
		return
	}
	for _, other := range same {
		if other.ID != id && other.Status == "available" && p.made(other) && other.Created.After(b.Created) {
			return
		}
	}
	p.fail("I3", "backup %s (%s) was to be deleted, and is the newest restore point of a volume that lives", id, b.Name)
}

// outage is how long between two moments there was no cinder-backup service.
func (t *truth) outage(from, until time.Time) (all time.Duration) {
	for _, s := range t.unserved {
		if from.After(s.from) {
			s.from = from
		}
		if until.Before(s.until) {
			s.until = until
		}
		all += max(s.until.Sub(s.from), 0)
	}
	return all
}

// candidates are the policies that a volume may have: any that ever was, and none.
func (p *play) candidates() (all []*backup.Policy) {
	all = append(all, nil)
	for _, classes := range p.known {
		for _, name := range slices.Sorted(maps.Keys(classes)) {
			policy := classes[name]
			all = append(all, &policy)
		}
	}
	return all
}

// holding is the truth about a volume's backups in a project.
func (p *play) holding(project, volume string, all []simcloud.Backup) backup.Holding {
	h := backup.Holding{Project: project, Volume: volume, Orphan: p.Settings.Orphan}
	if v, lives := p.Cloud.Volume(volume); !lives || v.Project != project {
		h.Gone = p.history.Start
	}
	children := map[string]bool{}
	for _, b := range all {
		children[b.Parent] = children[b.Parent] || b.Status != "deleted"
	}
	for _, b := range all {
		if b.Volume == volume && b.Project == project && b.Status != "deleted" {
			h.Backups = append(h.Backups, backup.CinderBackup{ID: b.ID, Name: b.Name, Project: b.Project, Volume: b.Volume, Status: b.Status,
				FailReason: b.FailReason, Size: b.Size, Incremental: b.Parent != "", Dependents: children[b.ID], Container: b.Container,
				Created: b.Created, Metadata: b.Metadata, Maker: b.Maker, Origin: p.origin(b)})
		}
	}
	return h
}

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
			each = append(each, fmt.Sprintf("%s attempt %s %s %q", b.Created.Format("2006-01-02T15:04:05"), b.Metadata[backup.MetaAttempt], b.Status, b.FailReason))
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
				p.fail("I8", "volume %s is overdue at %s, and the digest does not say so:\n%s", name, l.At.Format(time.RFC3339), l.Text)
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

// end puts everything right that is somebody's to put right, and checks that then
// everything is as if nothing had ever been wrong (I6), also with an empty Redis (I7).
func (p *play) end() {
	p.hostile = nil
	p.say("%s  the end begins", p.Now().Format("2006-01-02 15:04:05"))
	for _, s := range p.servers() {
		p.Cloud.SetServerLocked(s.ID, false)
	}
	for _, project := range p.tenants() {
		p.Cloud.SetQuota(project, simcloud.Quota{Volumes: -1, Gigabytes: -1, Backups: -1, BackupGigabytes: -1})
	}
	for _, id := range p.drifted {
		if b, _, there := p.Cloud.Backup(id); there && b.Status != "deleting" {
			p.Cloud.DriftDependents(id, -1)
		}
	}
	p.bring()
	for range 3 {
		p.mend()
		p.pass(max(p.history.Period, 3*time.Hour), 2*p.history.Pace)
	}
	p.mend()
	policy := p.Policies()[backup.Default]
	slot := policy.Schedule.Slot(p.Now())
	if over := slot.Add(policy.Schedule.Next(slot).Sub(slot) * 7 / 10); over.After(p.Now()) {
		p.pass(over.Sub(p.Now()), p.history.Pace)
	} else {
		next := policy.Schedule.Next(p.Now())
		p.pass(next.Add(policy.Schedule.Next(next).Sub(next)*7/10).Sub(p.Now()), p.history.Pace)
	}
	p.must(p.ledger.AskReconcile(p.ctx))
	p.soon()
	p.soon()
	if p.check(); p.broken != nil || p.ctx.Err() != nil {
		return
	}
	p.fresh(policy)
	p.superfluous()
	p.digests()
	// Both are decided for one moment: time alone lets something go.
	then := p.Now().Add(3 * (10*time.Second + 4*time.Minute))
	before := p.decisions(then)
	p.say("%s  Redis is emptied for the last time", p.Now().Format("2006-01-02 15:04:05"))
	p.mu.Lock()
	p.gone = true
	p.mu.Unlock()
	p.forget()
	// Where the maker is hidden, the new ledger cannot know what only the old one vouched
	// for: an operator has to say so, and then the same is decided again.
	vouched := p.vouched()
	p.must(p.side.FlushDB(p.ctx).Err())
	for _, project := range p.tenants() {
		p.adopt(project, func(b simcloud.Backup) bool { return vouched[b.ID] })
	}
	for range 3 {
		p.soon()
	}
	if p.lost() {
		p.fail("I7", "the ledger is not rebuilt after three looks")
	}
	after := p.decisions(then)
	for _, b := range p.Cloud.Backups() {
		if v, lives := p.Cloud.Volume(b.Volume); !lives || v.Project != b.Project {
			// That its volume is gone has to be seen twice again before its last restore
			// point may go.
			delete(before, "backup "+b.ID)
			delete(after, "backup "+b.ID)
		}
	}
	for _, b := range p.Cloud.Backups() {
		if b.Status == "deleted" { // some of them meanwhile
			for _, m := range []map[string]string{before, after} {
				delete(m, "backup "+b.ID)
				delete(m, "record "+b.ID)
			}
		}
	}
	if diff := cmp.Diff(before, after); diff != "" && p.broken == nil {
		p.fail("I7", "decisions are others after Redis was emptied (-before +after):\n%s", diff)
	}
	p.check()
	for _, b := range p.Cloud.Backups() {
		if !p.made(b) {
			if marked(b) {
				p.tally.Forged++
			}
			continue
		}
		p.tally.Backups++
		if b.Status == "deleted" {
			p.tally.Removals++
		}
	}
}

// mend does what operators and tenants do about what is stuck.
func (p *play) mend() {
	for _, b := range p.backups(true) {
		if b.Status == "error_deleting" {
			p.Cloud.SetBackupStatus(b.ID, "available")
		}
	}
	manual := slices.DeleteFunc(p.backups(false), marked) // the forged ones stay to the end
	slices.Reverse(manual)
	for _, b := range manual {
		p.ask(p.whose(b.Project), "DELETE", "backups/"+b.ID, nil, nil)
	}
	for _, project := range p.tenants() {
		_ = p.ledger.ReleaseBrake(p.ctx, project, p.Now().Add(30*day), 10_000) // which may know nothing of the project
		p.must(p.ledger.LookRetention(p.ctx, project, p.Now()))
	}
	p.must(p.ledger.ReleaseCloud(p.ctx, p.Now().Add(30*day), 10_000))
}

// fresh checks that what is to be protected is, and has the backup of its slot.
func (p *play) fresh(policy backup.Policy) {
	slot := policy.Schedule.Slot(p.Now())
	newest := map[string]simcloud.Backup{}
	for _, b := range p.Cloud.Backups() {
		if b.Status == "available" && p.made(b) && b.Created.After(newest[b.Volume].Created) {
			newest[b.Volume] = b
		}
	}
	for id, since := range p.wanted {
		v, _ := p.Cloud.Volume(id)
		if b := newest[id]; since.Before(slot) && (b.Created.Before(slot) || b.Project != v.Project) {
			var all []string
			for _, b := range p.Cloud.Backups() {
				if b.Volume == id {
					all = append(all, b.Created.Format("2006-01-02T15:04:05 ")+b.Status+" "+b.FailReason)
				}
			}
			p.fail("I6", "volume %s (%s) has no backup of slot %s:\n%s", v.Name, id, slot.Format(time.RFC3339), strings.Join(all, "\n"))
		}
	}
	protected := map[string]bool{}
	for shard := range p.ledger.Shards() {
		volumes, err := p.ledger.Volumes(p.ctx, shard)
		p.must(err)
		for _, v := range volumes {
			protected[v.Volume] = v.Skip == ""
		}
		count, err := p.ledger.Count(p.ctx, shard, p.Now())
		p.must(err)
		if count.Open+count.Stuck+count.Overdue > 0 {
			p.fail("I6", "in shard %d %d runs are open, %d stuck, %d volumes overdue", shard, count.Open, count.Stuck, count.Overdue)
		}
	}
	for id := range p.wanted {
		if !protected[id] {
			p.fail("I6", "volume %s is to be protected, and is not", id)
		}
	}
	for id, is := range protected {
		if _, wanted := p.wanted[id]; is && !wanted {
			p.fail("I6", "volume %s is protected, and nobody wants it", id)
		}
	}
	totals, err := p.ledger.Totals(p.ctx)
	p.must(err)
	if totals["overdue"] > 0 {
		p.fail("I8", "the metrics say that %d volumes are overdue, and none is", totals["overdue"])
	}
	for origin, want := range p.foreign() {
		if totals[string(origin)] != want {
			p.fail("I6", "the metrics say that %d backups are %s, and %d are", totals[string(origin)], origin, want)
		}
	}
}

// superfluous checks that nothing is left that no policy keeps.
func (p *play) superfluous() {
	type place struct{ project, volume string }
	all := p.Cloud.Backups()
	places := map[place]bool{}
	for _, b := range all {
		places[place{b.Project, b.Volume}] = true
	}
	// A chain goes member by member, each after Cinder has done with the one before:
	// where something has gone just now, more is about to.
	before := p.Now().Add(-max(3*p.history.Pace, time.Hour))
	for _, b := range all {
		if b.Status == "deleting" || b.Deleted.After(before) {
			delete(places, place{b.Project, b.Volume})
		}
	}
	for at := range places {
		if when, left := p.left[at.volume]; left && p.Now().Sub(when) < 2*day+4*p.history.Period {
			continue // how long it has been gone is seen late
		}
		h := p.holding(at.project, at.volume, all)
		keep := map[string]bool{}
		var fates []backup.Fate
		for _, policy := range p.candidates() {
			h.Policy = policy
			fates = backup.Retain(h, before)
			for _, f := range fates {
				keep[f.Backup.ID] = keep[f.Backup.ID] || f.Keep
			}
		}
		for _, f := range fates {
			if !keep[f.Backup.ID] && f.Backup.Status != "deleting" {
				p.fail("I6", "backup %s of %s (%s) is still there: %s", f.Backup.ID, f.Backup.Created.Format(time.RFC3339), f.Backup.Status, f.Why)
			}
		}
	}
}

// decisions are everything that would be done at a moment or later, and what it is
// decided from.
func (p *play) decisions(at time.Time) map[string]string {
	out := map[string]string{}
	s := p.Settings
	r := plan.Reader{Cloud: p.Home.Cloud, Ledger: p.ledger, Settings: plan.Settings{Classes: s.Classes, Keys: s.Keys, Limits: s.Limits,
		PerService: s.PerService, VolumeLimit: s.VolumeLimit, VolumeLimits: s.VolumeLimits, Orphan: s.Orphan, Brake: s.Brake}}
	facts, err := r.Read(p.ctx, "", at, p.Now())
	p.must(err)
	made := r.Settings.Make(facts, at)
	for _, b := range made.Backups {
		out["volume "+b.Volume] = fmt.Sprint(b.VolumeName, " ", b.Do, " ", b.Kind, " slot ", b.Slot.Format(time.RFC3339))
	}
	for _, f := range made.Retention {
		out["backup "+f.Backup] = fmt.Sprint(f.Name, " ", f.Verdict, " newest=", f.Newest)
	}
	for shard := range p.ledger.Shards() {
		volumes, err := p.ledger.Volumes(p.ctx, shard)
		p.must(err)
		for _, v := range volumes {
			var servers []string
			for _, e := range v.Enrolments {
				servers = append(servers, e.Server+" "+e.Class)
			}
			slices.Sort(servers)
			slot := v.State.LastSlot
			if v.Skip != "" {
				slot = time.Time{} // nobody asks for it
			}
			out["ledger "+v.Volume] = fmt.Sprint(v.Project, " ", v.Name, " ", v.Size, " ", v.Skip, " ", servers, " newest ", v.State.LastComplete.Format(time.RFC3339), " slot ", slot.Format(time.RFC3339))
		}
	}
	for _, project := range p.tenants() {
		records, err := p.ledger.Records(p.ctx, project)
		p.must(err)
		for _, r := range records {
			out["record "+r.ID] = fmt.Sprint(r.Volume, " ", r.Kind)
		}
	}
	return out
}
