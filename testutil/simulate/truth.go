package simulate

import (
	"context"
	"maps"
	"slices"
	"time"

	"staffeln/functions"
	"staffeln/functions/backup"
	"staffeln/functions/keep"
	"staffeln/testutil/sentences"
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
	keeps, said := true, true
	for _, policy := range p.candidates() {
		holding.Policy = policy
		facts := sentences.Facts{Backups: holding.Backups, Policy: policy, Gone: holding.Gone, Orphan: holding.Orphan}
		said = said && facts.Stay(now)[id]
		for _, f := range keep.Decide(holding, now) {
			if f.Backup.ID == id {
				keeps = keeps && f.Keep && !f.Broken && !(blind && f.Hostage)
			}
		}
	}
	if keeps {
		p.fail("I3", "backup %s (%s, %s) was to be deleted, and every policy keeps it", id, b.Name, b.Status)
	}
	if said {
		p.fail("I3", "backup %s (%s) was to be deleted, and stays by the rules, whatever the policy", id, b.Name)
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
func (p *play) holding(project, volume string, all []simcloud.Backup) keep.Holding {
	h := keep.Holding{Project: project, Volume: volume, Orphan: p.Settings.Orphan,
		LastSlot: p.Now().AddDate(100, 0, 0)} // as if every slot were over
	if v, lives := p.Cloud.Volume(volume); !lives || v.Project != project {
		h.Gone = p.history.Start
	}
	children := map[string]bool{}
	for _, b := range all {
		children[b.Parent] = children[b.Parent] || b.Status != "deleted"
	}
	for _, b := range all {
		if b.Volume == volume && b.Project == project && b.Status != "deleted" {
			h.Backups = append(h.Backups, backup.CinderBackup{ID: b.ID, Name: b.Name, Project: b.Project,
				Volume: b.Volume, Status: b.Status,
				FailReason: b.FailReason, Size: b.Size, Incremental: b.Parent != "", Dependents: children[b.ID],
				Container: b.Container,
				Created:   b.Created, Metadata: b.Metadata, Maker: b.Maker, Origin: p.origin(b)})
		}
	}
	return h
}
