package retention

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"time"

	"staffeln/functions/backup"
	"staffeln/functions/keep"
)

// A look is one pass over a project, or over one volume of it.
type look struct {
	f    *Function
	now  time.Time
	busy map[string]bool // volumes with an open run
	only string          // the one volume that is looked at; "" for all
	told string          // the backup whose removal Cinder notified us of; "" for none

	// before is what the ledger holds, r what this look will write. An earlier look announced the
	// removals in before; this one may carry them out.
	before, r backup.Retention

	volumes map[string]*volume
	ids     []string // of volumes, sorted
	gone    []backup.Removal
	asked   map[string]bool // to be deleted, in this look
	more    bool            // there is more to do than one look may
}

// A volume is what a look knows and decides about one volume's backups.
type volume struct {
	*keep.Holding
	fates []keep.Fate
	step  keep.Step
}

// again is how soon a volume that was not found is looked for once more.
const again = 10 * time.Minute

// mostAsked bounds how many backups one look asks for by id because a list does not show them. There
// are many only if somebody else removes ours, and then reconcile reports it.
const mostAsked = 100

// gather reads everything needed to decide, or finds a reason not to decide.
func (l *look) gather(ctx context.Context) error {
	f, project := l.f, l.r.Project
	l.r.Removals = maps.Clone(l.before.Removals)
	if err := f.clock(l.now, false); err != nil {
		return err
	}
	// The records are read before the list, so every one of them has to be in it.
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
	l.volumes = map[string]*volume{}
	for id, h := range keep.Holdings(project, list, records) {
		l.volumes[id] = &volume{Holding: h}
	}
	l.ids = slices.Sorted(maps.Keys(l.volumes))
	protected, err := f.Ledger.VolumesOf(ctx, project, l.ids)
	if err != nil {
		return err
	}
	return l.absences(ctx, protected)
}

// unlisted is the hold for a list that could not be read.
func unlisted(err error) error {
	wait := max(5*time.Minute, backup.RetryAfter(err))
	if fault := backup.FaultOf(err); fault == backup.Operator || fault == backup.Gone {
		wait = time.Hour // asking again soon cannot help
	}
	return &hold{what: "list", why: backup.Said(err), wait: wait, err: err}
}

// complete checks the list against the ledger: if it does not show a backup of ours, Cinder must say
// that the backup is gone when asked by its id.
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
			return &hold{what: "short list", wait: unserved,
				why: "Cinder's list lacks backup " + id + ", which is there"}
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

// find asks for a backup by its id. If Cinder notified us that it is gone, and the list does not show
// it, there is no need to ask.
func (l *look) find(ctx context.Context, id string) error {
	if id == l.told {
		return &backup.CloudError{Fault: backup.Gone}
	}
	_, err := l.f.Cloud.Backup(ctx, l.r.Project, id)
	return err
}

// absences finds out which volumes are gone, and completes what is known about each. Volumes that
// are not protected are asked about once a day, and whenever it makes a difference.
func (l *look) absences(ctx context.Context, protected map[string]backup.Protected) error {
	known := l.r.Gone
	l.r.Gone = maps.Clone(known)
	daily := l.only == "" && l.before.Looked.Truncate(longest).Before(l.now.Truncate(longest))
	for id := range known {
		if l.only == "" && l.volumes[id] == nil {
			delete(l.r.Gone, id)
		}
	}
	for _, id := range l.ids {
		v, missed := l.volumes[id], known[id]
		if p, ok := protected[id]; ok {
			delete(l.r.Gone, id)
			v.Fill(l.f.Settings, &p, backup.Absence{}, l.busy[id], l.now)
			continue
		}
		v.Fill(l.f.Settings, nil, missed, l.busy[id], l.now)
		if l.only != "" || !daily && !keep.Missing(missed) && !v.DependsOnVolume(l.now) {
			continue
		}
		found, err := l.f.Cloud.Volume(ctx, l.r.Project, id)
		switch {
		case err == nil && (found.Project == "" || found.Project == l.r.Project):
			delete(l.r.Gone, id)
			missed = backup.Absence{}
		case err != nil && backup.FaultOf(err) != backup.Gone:
			return unlisted(err)
		default: // a volume that was given to another project is gone here
			missed = keep.Miss(missed, l.now)
			if l.r.Gone == nil {
				l.r.Gone = map[string]backup.Absence{}
			}
			l.r.Gone[id] = missed
		}
		v.Fill(l.f.Settings, nil, missed, l.busy[id], l.now)
	}
	return nil
}

// decide applies the rules, and plans the removals.
func (l *look) decide() {
	plan := map[string]backup.Removal{}
	for _, v := range l.volumes {
		v.fates = keep.Decide(*v.Holding, l.now)
		v.step = keep.NextStep(v.fates)
	}
	for id, r := range l.r.Removals {
		// The removals of volumes that this look leaves out, or that are busy, stay planned.
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

// removal plans the removal of a backup, if it is to go, or would be but for an obstacle.
func (l *look) removal(v *volume, fate keep.Fate) (r backup.Removal, goes bool) {
	b := fate.Backup
	r, known := l.r.Removals[b.ID]
	switch {
	case !b.Ours():
		return r, false
	case b.Status == "deleting":
		return r, known // if it is not known, somebody else deletes it
	case fate.Keep && v.step.Stuck[b.ID] == "":
		return r, false
	}
	if !known {
		r = backup.Removal{Backup: b.ID, Volume: b.Volume, Project: l.r.Project, Name: b.Name,
			Kind: backup.RecordOf(b).Kind, Size: b.Size, Created: b.Created}
	}
	r.Why = fate.Why
	return r, true
}

// outlook sums up all volumes of the look.
func (l *look) outlook() (o backup.Outlook) {
	for _, v := range l.volumes {
		o = o.Add(keep.OutlookOf(v.fates))
	}
	return o
}

// ended notes that a backup is gone. It is logged once that is saved.
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
		if keep.Missing(a) {
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
		return time.Time{} // no backup of ours is left here
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
		same := func(d keep.Fate) bool { return d.Backup.ID == b.ID }
		switch {
		case planned && !announced:
			sooner(l.now)
		case (b.Status == "deleting" || b.Status == "restoring") && b.Ours(): // whoever started it
			sooner(l.now.Add(pause(l.now.Sub(b.Updated))))
		case planned && (v.step.Stuck[b.ID] != "" || slices.ContainsFunc(v.step.Delete, same)):
			if r.Again.After(l.now) {
				sooner(r.Again)
			} else {
				sooner(soon)
			}
		}
	}
}

// pause is how long to wait before looking again at a backup that Cinder has been busy with for sofar.
func pause(sofar time.Duration) time.Duration {
	return min(max(sofar/4, 30*time.Second), 6*time.Hour)
}

// save writes the look to the ledger. If somebody else has written meanwhile, nothing is written, and
// the next look sees the same again.
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
		return err // somebody else has looked meanwhile, and reports what is gone
	}
	for _, r := range l.gone {
		l.f.Count("removals_total", 1, "removed")
		l.f.Log.InfoContext(ctx, "backup removed", "project", r.Project, "volume", r.Volume, "backup", r.Backup,
			"why", r.Why)
	}
	return err
}
