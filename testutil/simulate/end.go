package simulate

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/google/go-cmp/cmp"
	"staffeln/functions/backup"
	"staffeln/functions/keep"
	"staffeln/functions/plan"
	"staffeln/testutil/simcloud"
)

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
			p.fail("I6", "volume %s (%s) has no backup of slot %s:\n%s", v.Name, id, slot.Format(time.RFC3339),
				strings.Join(all, "\n"))
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
			p.fail("I6", "in shard %d %d runs are open, %d stuck, %d volumes overdue", shard, count.Open, count.Stuck,
				count.Overdue)
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
		kept := map[string]bool{}
		var fates []keep.Fate
		for _, policy := range p.candidates() {
			h.Policy = policy
			fates = keep.Decide(h, before)
			for _, f := range fates {
				kept[f.Backup.ID] = kept[f.Backup.ID] || f.Keep
			}
		}
		for _, f := range fates {
			if !kept[f.Backup.ID] && f.Backup.Status != "deleting" {
				p.fail("I6", "backup %s of %s (%s) is still there: %s", f.Backup.ID,
					f.Backup.Created.Format(time.RFC3339), f.Backup.Status, f.Why)
			}
		}
	}
}

// decisions are everything that would be done at a moment or later, and what it is
// decided from.
func (p *play) decisions(at time.Time) map[string]string {
	out := map[string]string{}
	s := p.Settings
	r := plan.Reader{Cloud: p.Home.Cloud, Ledger: p.ledger,
		Settings: s.Settings}
	facts, err := r.Read(p.ctx, "", at, p.Now())
	p.must(err)
	made := plan.Make(r.Settings, facts, at)
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
			out["ledger "+v.Volume] = fmt.Sprint(v.Project, " ", v.Name, " ", v.Size, " ", v.Skip, " ", servers,
				" newest ", v.State.LastComplete.Format(time.RFC3339), " slot ", slot.Format(time.RFC3339))
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
