package retention

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"staffeln/functions/backup"
	"staffeln/functions/keep"
)

const (
	// mostDeleted bounds what one look asks Cinder to remove in a project; the next
	// tick goes on.
	mostDeleted = 100
	// slow is how long Cinder may take for a removal before it is logged.
	slow = time.Hour
	// fewLooks is how many backups are read one by one; more are read with a list.
	fewLooks = 3
)

// act removes what may go, children first. It asks for every backup that nothing builds on, then reads
// it again: if it is gone already, its parent follows at once.
func (l *look) act(ctx context.Context) error {
	l.obstacles(ctx)
	l.asked = map[string]bool{}
	l.r.Held = ""
	ids := l.ids
	var errs []error
	if included, err := l.included(ctx); err != nil || !included {
		return err
	}
	before := l.outlook()
	for len(ids) > 0 && ctx.Err() == nil {
		asked, err := l.ask(ctx, ids)
		if err != nil {
			errs = append(errs, err)
		}
		if h := new(hold); errors.As(err, &h) {
			return err
		}
		done, lerr := l.see(ctx, asked)
		errs = append(errs, lerr)
		ids = done
		if err != nil || lerr != nil {
			break
		}
	}
	if l.only == "" {
		l.r.Outlook = l.outlook()
	} else {
		// If the volume had an open run at the last look at the whole project, its removals were not
		// counted, and cannot be subtracted.
		o := l.r.Outlook.Less(before).Add(l.outlook())
		l.r.Outlook = backup.Outlook{Backups: max(0, o.Backups), Removals: max(0, o.Removals),
			Chains: max(0, o.Chains), Losses: max(0, o.Losses)}
	}
	return errors.Join(errs...)
}

// included asks whether the operator has excluded the project meanwhile. Only a look that may remove
// something needs to know.
func (l *look) included(ctx context.Context) (bool, error) {
	if len(l.r.Removals) == 0 {
		return true, nil
	}
	_, included, err := l.f.Cloud.Project(ctx, l.r.Project)
	if err != nil && backup.FaultOf(err) == backup.Gone {
		return true, nil // deleted since: until then it was included
	}
	if err != nil {
		return false, unlisted(err)
	}
	return included, nil
}

// obstacles logs everything that blocks removals and does not pass by itself, once, when it begins.
func (l *look) obstacles(ctx context.Context) {
	for _, id := range l.ids {
		v := l.volumes[id]
		told := map[string]bool{} // one reason can block a whole chain
		for _, fate := range v.fates {
			b := fate.Backup
			r, planned := l.r.Removals[b.ID]
			why := v.step.Stuck[b.ID]
			switch {
			case !planned:
				continue
			case b.Status == "deleting":
				if !r.Asked.IsZero() && l.now.Sub(r.Asked) >= slow {
					l.trouble(ctx, &r, "stuck", "Cinder has been deleting it for more than "+slow.String(), true)
				}
			case why == "" || l.now.Before(r.Again):
				continue
			case drifted(fate) && r.Tries == 0:
				// Cinder updates the count a moment after a child has gone.
				r.Tries, r.Again = 1, l.now.Add(30*time.Second)
			default:
				// A backup that is stuck only because another one is stuck is not logged.
				r.Tries++
				if told[why] || !fate.Keep && !drifted(fate) && b.Status != "error_deleting" {
					r.Trouble = why
				}
				told[why] = true
				l.trouble(ctx, &r, "stuck", why, b.Status == "error_deleting")
				if drifted(fate) {
					r.Again = l.now // Cinder may have corrected the count: ask it
				}
			}
			l.r.Removals[b.ID] = r
		}
	}
}

// drifted says that Cinder counts a child of the backup, and shows none.
func drifted(fate keep.Fate) bool {
	return !fate.Keep && fate.Backup.Dependents && len(fate.Children) == 0 && fate.Backup.Status != "error_deleting"
}

// trouble notes what blocks a removal, and logs it if it is new.
func (l *look) trouble(ctx context.Context, r *backup.Removal, what, why string, ours bool) {
	r.Again = l.now.Add(retryIn(r.Tries))
	if r.Trouble == why {
		return
	}
	r.Trouble = why
	l.f.Count("removals_total", 1, what)
	tell := l.f.Log.WarnContext
	if ours {
		tell = l.f.Log.ErrorContext
	}
	tell(ctx, "backup cannot be removed now", "project", r.Project, "volume", r.Volume, "backup", r.Backup, "why", why)
}

// retryIn is how long until a removal that failed is tried again: 1 minute after the first time,
// growing up to 6 hours.
func retryIn(tries int) time.Duration { return backup.Growing(tries-1, time.Minute, 6*time.Hour) }

// ask asks Cinder to delete every backup of these volumes that may go now. An error ends the look,
// because the next request would fail in the same way.
func (l *look) ask(ctx context.Context, volumes []string) (asked []keep.Fate, err error) {
	for _, id := range volumes {
		v := l.volumes[id]
		leaves := v.step.Delete
		for _, fate := range v.fates {
			if v.step.Stuck[fate.Backup.ID] != "" && drifted(fate) {
				leaves = append(slices.Clip(leaves), fate)
			}
		}
		for _, fate := range leaves {
			if !l.may(v, fate) {
				continue
			}
			if len(l.asked) >= mostDeleted {
				l.more = true
				return asked, nil
			}
			if ctx.Err() != nil {
				l.more = true
				return asked, ctx.Err()
			}
			l.asked[fate.Backup.ID] = true
			err := l.delete(ctx, fate)
			asked = append(asked, fate)
			if err != nil {
				return asked, err
			}
		}
	}
	return asked, nil
}

// may says whether Cinder may be asked to delete a backup: an earlier look has announced it, its time
// has come, and none of its children is left.
func (l *look) may(v *volume, fate keep.Fate) bool {
	b := fate.Backup
	_, announced := l.before.Removals[b.ID]
	r, planned := l.r.Removals[b.ID]
	if !announced || !planned || fate.Keep || l.asked[b.ID] || l.now.Before(r.Again) {
		return false
	}
	// NextStep decides the order of backups made in the same second.
	return !slices.ContainsFunc(v.fates, func(c keep.Fate) bool {
		return c.Backup.Created.After(b.Created) && slices.Contains(fate.Children, c.Backup.ID)
	})
}

// delete asks Cinder for the removal of one backup.
func (l *look) delete(ctx context.Context, fate keep.Fate) error {
	b, f := fate.Backup, l.f
	r := l.r.Removals[b.ID]
	again := !r.Asked.IsZero()
	defer func() { l.r.Removals[b.ID] = r }()
	err := f.Cloud.DeleteBackup(ctx, r.Project, b.ID)
	switch fault := backup.FaultOf(err); {
	case err == nil:
		if again {
			// Cinder accepted the removal before, and did not do it.
			r.Tries++
		}
		r.Asked, r.Again = l.now, l.now.Add(max(30*time.Second, retryIn(r.Tries)/2))
		f.Log.InfoContext(ctx, "backup to be removed", "project", r.Project, "volume", r.Volume, "backup", r.Backup,
			"why", r.Why)
		f.Count("removals_total", 1, "asked")
		if l.now.Before(l.r.Released) && !again {
			l.r.Most = max(l.r.Most-1, 0)
		}
		return nil
	case fault == backup.Gone:
		return nil // see notices it
	case fault == backup.NoService:
		return &hold{what: "service", why: backup.Said(err), wait: unserved, err: errNoService}
	case fault == backup.Busy:
		// Its status has changed since the list.
		r.Again = l.now.Add(retryIn(1))
		return nil
	case fault == backup.Dependents, fault == backup.Owner, fault == backup.NeedsFull:
		r.Tries++
		l.trouble(ctx, &r, "refused", "Cinder refuses: "+backup.Said(err), false)
		return nil
	case fault == backup.Operator:
		r.Tries++
		l.trouble(ctx, &r, "refused", "Cinder refuses: "+backup.Said(err), true)
		l.more = true
		return fmt.Errorf("backup %s: %w", b.ID, err)
	default: // Retry, Doubt
		r.Tries++
		f.Count("removals_total", 1, "refused")
		r.Again = l.now.Add(max(retryIn(r.Tries), backup.RetryAfter(err)))
		if fault == backup.Doubt {
			r.Asked = l.now // Cinder may have accepted it
		}
		return fmt.Errorf("backup %s: %w", b.ID, err)
	}
}

// see reads the backups that were asked for again, and returns the volumes that have lost one: their
// next step follows.
func (l *look) see(ctx context.Context, asked []keep.Fate) (volumes []string, err error) {
	if len(asked) == 0 {
		return nil, nil
	}
	ctx = context.WithoutCancel(ctx) // the result of the requests must be saved
	var list []backup.CinderBackup
	if len(asked) > fewLooks {
		if list, err = l.f.Cloud.BackupsOf(ctx, l.r.Project, l.only, time.Time{}); err != nil {
			return nil, err
		}
	}
	changed := map[string]bool{}
	var errs []error
	for _, fate := range asked {
		id, v := fate.Backup.ID, l.volumes[fate.Backup.Volume]
		i := slices.IndexFunc(v.fates, func(f keep.Fate) bool { return f.Backup.ID == id })
		changed[v.Volume] = true
		if n := slices.IndexFunc(list, func(b backup.CinderBackup) bool { return b.ID == id }); n >= 0 {
			v.fates[i].Backup = list[n]
			continue
		}
		switch b, err := l.f.Cloud.Backup(ctx, l.r.Project, id); {
		case err == nil:
			v.fates[i].Backup = b
		case backup.FaultOf(err) == backup.Gone:
			l.ended(l.r.Removals[id])
			v.fates = slices.Delete(v.fates, i, i+1)
			volumes = append(volumes, v.Volume)
		default:
			errs = append(errs, err)
		}
	}
	// Removals do not change other decisions, so nothing is decided anew: see [keep.Decide].
	for id := range changed {
		l.volumes[id].step = keep.NextStep(l.volumes[id].fates)
	}
	slices.Sort(volumes)
	return slices.Compact(volumes), errors.Join(errs...)
}
