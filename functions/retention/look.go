package retention

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"time"

	"staffeln/functions/backup"
)

// A look is one pass over a project, or over one volume of it.
type look struct {
	f    *Function
	now  time.Time
	busy map[string]bool // volumes with an open run
	only string          // the one volume that is looked at; "" for all
	told string          // the backup that Cinder told to be gone; "" for none

	// before is what was remembered, r what is to be. The removals of before were
	// announced by an earlier look, and may be carried out by this one.
	before, r backup.Retention

	volumes map[string]*volume
	ids     []string // of volumes, sorted
	gone    []backup.Removal
	asked   map[string]bool // to be deleted, in this look
	more    bool            // there is more to do than one look may
}

// A volume is one whose backups are looked at.
type volume struct {
	backup.Holding
	// state is that of its runs; protected is false where there is none.
	state     backup.State
	protected bool
	fates     []backup.Fate
	step      backup.Step
}

// again is how soon a volume that was not found is asked for once more.
const again = 10 * time.Minute

// mostAsked bounds the direct questions of one look about backups that a list does
// not show. There are many of them only where somebody else removes ours, and then
// reconcile tells.
const mostAsked = 100

// gather reads everything that is decided on, or finds a reason not to decide.
func (l *look) gather(ctx context.Context) error {
	f, project := l.f, l.r.Project
	l.r.Removals = maps.Clone(l.before.Removals)
	if err := f.clock(l.now, false); err != nil {
		return err
	}
	// Before the list: what is remembered of earlier has to be in it.
	records, err := f.Ledger.Records(ctx, project)
	if err != nil {
		return err
	}
	list, err := f.Cloud.BackupsOf(ctx, project, l.only, time.Time{})
	if err != nil {
		return unlisted(err)
	}
	if err := f.clock(l.now, true); err != nil {
		return err
	}
	if err := l.complete(ctx, list, records); err != nil {
		return err
	}
	l.sort(list, records)
	protected, err := f.Ledger.VolumesOf(ctx, project, l.ids)
	if err != nil {
		return err
	}
	for id, p := range protected {
		policy := f.Settings.Classes.Strictest(p.Enrolments, l.now)
		v := l.volumes[id]
		v.Policy, v.state, v.protected = &policy, p.State, true
	}
	return l.absences(ctx)
}

// unlisted is the hold for a list that could not be had.
func unlisted(err error) error {
	wait := max(5*time.Minute, backup.RetryAfter(err))
	if fault := backup.FaultOf(err); fault == backup.Operator || fault == backup.Gone {
		wait = time.Hour // asking again soon cannot help
	}
	return &hold{what: "list", why: backup.Said(err), wait: wait, err: err}
}

// complete makes sure of the list by what is remembered: a backup of ours that it
// does not show has to be gone when asked for by its id.
func (l *look) complete(ctx context.Context, list []backup.CinderBackup, records []backup.Record) error {
	listed := make(map[string]bool, len(list))
	for _, b := range list {
		listed[b.ID] = true
	}
	var lacks []string
	for _, r := range records {
		if !listed[r.ID] && (l.only == "" || r.Volume == l.only) {
			lacks = append(lacks, r.ID)
		}
	}
	for id, r := range l.r.Removals {
		if !listed[id] && (l.only == "" || r.Volume == l.only) && !slices.Contains(lacks, id) {
			lacks = append(lacks, id)
		}
	}
	slices.Sort(lacks)
	var gone []backup.Removal
	for i, id := range lacks {
		if i >= mostAsked {
			return &hold{what: "short list", wait: unserved,
				why: fmt.Sprintf("Cinder's list lacks %d backups that are remembered", len(lacks))}
		}
		switch err := l.find(ctx, id); {
		case err == nil:
			return &hold{what: "short list", wait: unserved, why: "Cinder's list lacks backup " + id + ", which is there"}
		case backup.FaultOf(err) != backup.Gone:
			return unlisted(err)
		}
		if r, ok := l.r.Removals[id]; ok {
			gone = append(gone, r)
		}
	}
	slices.SortStableFunc(gone, func(a, b backup.Removal) int { return b.Created.Compare(a.Created) }) // as they went
	for _, r := range gone {
		l.ended(r)
	}
	return nil
}

// find asks for a backup by its id. Of one that Cinder told to be gone, and that a
// list does not show, nobody has to ask once more.
func (l *look) find(ctx context.Context, id string) error {
	if id == l.told {
		return &backup.CloudError{Fault: backup.Gone}
	}
	_, err := l.f.Cloud.Backup(ctx, l.r.Project, id)
	return err
}

// sort puts the backups to their volumes; volumes without any of ours are nothing
// to us.
func (l *look) sort(list []backup.CinderBackup, records []backup.Record) {
	l.volumes = map[string]*volume{}
	for _, b := range list {
		if b.Ours() && l.volumes[b.Volume] == nil {
			l.volumes[b.Volume] = &volume{Holding: backup.Holding{Project: l.r.Project, Volume: b.Volume,
				Orphan: l.f.Settings.Orphan, Busy: l.busy[b.Volume]}}
		}
	}
	for _, b := range list {
		if v := l.volumes[b.Volume]; v != nil {
			v.Backups = append(v.Backups, b)
		}
	}
	for _, r := range records {
		if v := l.volumes[r.Volume]; v != nil && r.Parent != "" {
			if v.Parents == nil {
				v.Parents = map[string]string{}
			}
			v.Parents[r.ID] = r.Parent
		}
	}
	l.ids = slices.Sorted(maps.Keys(l.volumes))
}

// absences finds out which volumes are gone: Cinder has to say so at two looks.
// Volumes that are not protected are asked about once a day, and whenever something
// hangs on the answer.
func (l *look) absences(ctx context.Context) error {
	known := l.r.Gone
	l.r.Gone = maps.Clone(known)
	daily := l.only == "" && l.before.Looked.Truncate(longest).Before(l.now.Truncate(longest))
	for id := range known {
		if l.only == "" && l.volumes[id] == nil {
			delete(l.r.Gone, id)
		}
	}
	for _, id := range l.ids {
		v, seen := l.volumes[id], known[id]
		if v.protected {
			delete(l.r.Gone, id)
			continue
		}
		v.Gone = confirmed(seen)
		if l.only != "" || !daily && seen.Times != 1 && !l.matters(v) {
			continue
		}
		found, err := l.f.Cloud.Volume(ctx, l.r.Project, id)
		switch {
		case err == nil && (found.Project == "" || found.Project == l.r.Project):
			delete(l.r.Gone, id) // one that was given to another project is gone here
			v.Gone = time.Time{}
			continue
		case err != nil && backup.FaultOf(err) != backup.Gone:
			return unlisted(err)
		}
		if seen.Since.IsZero() {
			seen.Since = l.now
		}
		seen.Times = min(seen.Times+1, 2)
		if l.r.Gone == nil {
			l.r.Gone = map[string]backup.Absence{}
		}
		l.r.Gone[id] = seen
		v.Gone = confirmed(seen)
	}
	return nil
}

func confirmed(a backup.Absence) time.Time {
	if a.Times < 2 {
		return time.Time{}
	}
	return a.Since
}

// matters says whether the fate of a restore point hangs on the volume's being
// there or not.
func (l *look) matters(v *volume) bool {
	there, gone := v.Holding, v.Holding
	there.Gone, gone.Gone = time.Time{}, time.Date(1800, 1, 1, 0, 0, 0, 0, time.UTC)
	a, b := backup.Retain(there, l.now), backup.Retain(gone, l.now)
	return !slices.EqualFunc(a, b, func(a, b backup.Fate) bool { return a.Backup.ID == b.Backup.ID && a.Keep == b.Keep })
}

// decide applies the rules, and plans the removals.
func (l *look) decide() {
	plan := map[string]backup.Removal{}
	for _, id := range l.ids {
		l.settle(l.volumes[id])
	}
	for id, r := range l.r.Removals {
		// What is not looked at, or not to be touched just now, stays planned as it was.
		if v := l.volumes[r.Volume]; l.only != "" && r.Volume != l.only || v != nil && v.Busy {
			plan[id] = r
		}
	}
	for _, v := range l.volumes {
		for _, fate := range v.fates {
			if r, goes := l.removal(v, fate); goes {
				plan[fate.Backup.ID] = r
			}
		}
	}
	l.r.Removals = plan
	if l.only == "" {
		l.r.Outlook = l.outlook()
	}
	switch {
	case len(plan) == 0:
		l.r.Announced = time.Time{}
	case l.r.Announced.IsZero():
		l.r.Announced = l.now
	}
}

// removal is that of a backup, if it is to go or something keeps it from going.
func (l *look) removal(v *volume, fate backup.Fate) (r backup.Removal, goes bool) {
	b := fate.Backup
	r, known := l.r.Removals[b.ID]
	switch {
	case !b.Ours():
		return r, false
	case b.Status == "deleting":
		return r, known // else somebody else deletes it
	case fate.Keep && v.step.Stuck[b.ID] == "":
		return r, false
	}
	if !known {
		r = backup.Removal{Backup: b.ID, Volume: b.Volume, Project: l.r.Project, Name: b.Name, Kind: backup.RecordOf(b).Kind, Size: b.Size, Created: b.Created}
	}
	r.Why = fate.Why
	return r, true
}

// outlook is that of what is looked at.
func (l *look) outlook() (o backup.Outlook) {
	for _, v := range l.volumes {
		o = o.Add(backup.OutlookOf(v.fates))
	}
	return o
}

// settle decides about one volume.
func (l *look) settle(v *volume) {
	v.fates = backup.Retain(v.Holding, l.now)
	for i, fate := range v.fates {
		// Dispatch counts a slot's attempts by what is left of them in Cinder: until the
		// slot is over a broken one is left to it, and to track, which knows the same.
		slot, _, ok := fate.Backup.Run()
		if fate.Broken && !fate.Keep && ok && v.protected && slot.After(v.state.LastSlot) {
			v.fates[i].Keep, v.fates[i].Why = true, "its slot is not over"
		}
	}
	v.step = backup.NextStep(v.fates)
}

// ended notes that a backup is gone; it is told once that is written down.
func (l *look) ended(r backup.Removal) {
	r.Ended = l.now
	l.gone = append(l.gone, r)
	delete(l.r.Removals, r.Backup)
}

// next is when the project is looked at again.
func (l *look) next() time.Time {
	next := l.now.Add(longest)
	sooner := func(at time.Time) {
		if at.Before(next) {
			next = at
		}
	}
	for _, v := range l.volumes {
		for _, fate := range v.fates {
			if fate.Keep && fate.Until.After(l.now) {
				sooner(fate.Until)
			}
		}
	}
	for _, v := range l.volumes {
		l.nextOf(v, sooner)
	}
	for _, a := range l.r.Gone {
		if a.Times < 2 {
			sooner(l.now.Add(again))
		}
	}
	if l.more {
		sooner(l.now)
	}
	if l.only != "" && !l.before.Due.IsZero() {
		sooner(l.before.Due)
	}
	if l.only == "" && len(l.volumes) == 0 && len(l.r.Removals) == 0 {
		return time.Time{} // nothing of ours is left here
	}
	return next
}

// nextOf is when the removals of one volume go on.
func (l *look) nextOf(v *volume, sooner func(time.Time)) {
	soon := l.now.Add(30 * time.Second)
	for _, fate := range v.fates {
		b := fate.Backup
		r, planned := l.r.Removals[b.ID]
		_, announced := l.before.Removals[b.ID]
		switch {
		case planned && !announced:
			sooner(l.now)
		case (b.Status == "deleting" || b.Status == "restoring") && b.Ours(): // whoever asked for it
			sooner(l.now.Add(pause(l.now.Sub(b.Updated))))
		case v.step.Stuck[b.ID] != "" && planned, slices.ContainsFunc(v.step.Delete, func(d backup.Fate) bool { return d.Backup.ID == b.ID }) && planned:
			if r.Again.After(l.now) {
				sooner(r.Again)
			} else {
				sooner(soon)
			}
		}
	}
}

// pause is how long to leave Cinder alone with what has taken it so long already.
func pause(sofar time.Duration) time.Duration {
	return min(max(sofar/4, 30*time.Second), 6*time.Hour)
}

// save writes the look down. Where somebody else has looked meanwhile, what is
// missed is seen again by the next look.
func (l *look) save(ctx context.Context, next time.Time) error {
	if l.only == "" {
		l.r.Looked = l.now
	}
	return l.write(ctx, next)
}

func (l *look) write(ctx context.Context, next time.Time) error {
	if l.before.Held != "" && l.r.Held == "" {
		l.f.Log.InfoContext(ctx, "removals go on", "project", l.r.Project, "why", "no longer "+l.before.Held)
	}
	saved, err := l.f.Ledger.SaveRetention(context.WithoutCancel(ctx), l.r, l.gone, next)
	if !saved {
		return err // somebody else has looked meanwhile, and tells of what is gone
	}
	for _, r := range l.gone {
		l.f.Count("removals_total", 1, "removed")
		l.f.Log.InfoContext(ctx, "backup removed", "project", r.Project, "volume", r.Volume, "backup", r.Backup, "why", r.Why)
	}
	return err
}
