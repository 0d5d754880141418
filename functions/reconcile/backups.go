package reconcile

import (
	"cmp"
	"maps"
	"slices"
	"time"

	"staffeln/functions/backup"
)

// runs makes the ledger know what the runs came to that it has lost, from the metadata of
// their backups. after are the volumes as the enrolments leave them. newest is filled with
// the newest restore points, by volume.
func runs(k Known, s Seen, enrolled map[string]backup.Enrolment, after map[string]backup.Protected,
	newest map[string]time.Time, set backup.Settings, now time.Time) (repairs []Repair) {
	state := map[string]backup.State{}
	for _, b := range newestFirst(s.Backups) {
		slot, attempt, ok := b.Run()
		if !ok {
			continue
		}
		open, isOpen := k.Runs[b.Volume]
		mine := isOpen && (open.Backup == b.ID || open.Backup == "" && open.Slot.Equal(slot))
		switch b.Status {
		case "available", "restoring":
			if mine {
				break // track closes it, with all that belongs to it
			}
			st := state[b.Volume]
			if slot.After(st.LastSlot) && !slot.After(now) { // not one that a wrong clock planned
				st.LastSlot = slot
			}
			if b.Created.After(st.LastComplete) {
				st.LastComplete = b.Created
			}
			state[b.Volume], newest[b.Volume] = st, st.LastComplete
		case "creating":
			if !isOpen { // of several, the ledger takes the first
				repairs = append(repairs, Adopt{lostRun(b, slot, attempt, k.Volumes[b.Volume].Name, set)})
			}
		case "error":
			if !mine {
				repairs = append(repairs, Discard{b.ID, "it has failed, and no run is waiting for it"})
			}
		}
	}
	protected := map[string]bool{}
	for _, e := range enrolled {
		for _, id := range e.Volumes {
			protected[id] = true
		}
	}
	for _, id := range slices.Sorted(maps.Keys(state)) {
		st, before := state[id], k.Volumes[id].State
		if !stays(k.Volumes[id], after[id]) {
			before = backup.State{} // it starts over
		}
		if (protected[id] || len(after[id].Enrolments) > 0) &&
			(later(st.LastSlot, before.LastSlot) || later(st.LastComplete, before.LastComplete)) {
			repairs = append(repairs, Raise{id, st})
		}
	}
	return repairs
}

// stays says whether a volume keeps one of its servers: the ledger forgets the state of a
// volume with its last server, even if another one gets the volume in the same pass.
func stays(before, after backup.Protected) bool {
	return slices.ContainsFunc(before.Enrolments, func(e backup.Enrolment) bool {
		return slices.ContainsFunc(after.Enrolments, func(o backup.Enrolment) bool { return o.Server == e.Server })
	})
}

// later compares times as the ledger keeps them, in microseconds.
func later(a, b time.Time) bool {
	return a.Truncate(time.Microsecond).After(b.Truncate(time.Microsecond))
}

// newestFirst sorts backups. Lists can show one twice.
func newestFirst(all []backup.CinderBackup) []backup.CinderBackup {
	sorted := slices.SortedFunc(slices.Values(all), func(a, b backup.CinderBackup) int {
		return cmp.Or(b.Created.Compare(a.Created), cmp.Compare(a.ID, b.ID))
	})
	return slices.CompactFunc(sorted, func(a, b backup.CinderBackup) bool { return a.ID == b.ID })
}

// lostRun is the run of a backup that is under way and that the ledger has lost.
func lostRun(b backup.CinderBackup, slot time.Time, attempt int, name string, set backup.Settings) backup.Run {
	kind := backup.Full
	if b.Incremental {
		kind = backup.Incremental
	}
	r := backup.Run{
		Volume: b.Volume, Project: b.Project, Slot: slot, Attempt: attempt, Kind: kind, State: backup.Running, Backup: b.ID,
		Started: b.Created, Deadline: backup.Deadline(b.Created, b.Size, set.Deadline.Base, set.Deadline.PerGiB),
		Size: b.Size, Class: b.Metadata[backup.MetaClass], ServerName: b.Metadata[backup.MetaServerName],
		VolumeName: name, Why: "found in Cinder",
	}
	if server := b.Metadata[backup.MetaServer]; server != "" {
		r.Servers = []string{server}
	}
	return r
}

// records makes the ledger remember the backups that there are, and forget those that are
// gone.
func records(k Known, s Seen) (repairs []Repair) {
	var ours, new []backup.Record
	for _, b := range newestFirst(s.Backups) {
		if !b.Ours() {
			continue
		}
		r := backup.RecordOf(b)
		if ours = append(ours, r); !sameRecord(k.Records[r.ID], r) {
			new = append(new, r)
		}
	}
	switch {
	case len(ours) > 0 && (k.Retention == nil || k.Retention.Due.IsZero()):
		// Storing a record makes the project due.
		repairs = append(repairs, Remember{ours, "retention does not look at the project"})
	case len(new) > 0:
		repairs = append(repairs, Remember{new, "found in Cinder"})
	}
	var f Forget
	for _, r := range unlisted(k, s) {
		if !s.Asked[r.ID].gone() {
			continue
		}
		f.Gone = append(f.Gone, r)
		// Broken backups are removed by track, too. One seen being deleted when the ledger was
		// rebuilt may have been deleted by the service.
		if (r.Status == "available" || r.Status == "restoring") && !meant(*k.Retention, r.ID) {
			f.Lost = append(f.Lost, r)
		}
	}
	if len(f.Gone) > 0 {
		repairs = append(repairs, f)
	}
	return repairs
}

// meant says whether retention was removing a backup, or about to.
func meant(r backup.Retention, id string) bool {
	removal, ok := r.Removals[id]
	return ok && (!removal.Asked.IsZero() || r.Held == "" && removal.Trouble == "")
}

// sameRecord says whether storing a record would change nothing. The ledger keeps a policy
// that the new one does not have, and a proof that is better than the new one's.
func sameRecord(known, r backup.Record) bool {
	return known.Volume == r.Volume && known.Status == r.Status && known.Kind == r.Kind && known.Size == r.Size &&
		known.Slot.Equal(r.Slot) && known.Created.Equal(r.Created.Truncate(time.Microsecond)) &&
		(r.Policy == "" || known.Policy == r.Policy) &&
		(known.Proof == r.Proof || r.Proof == backup.ByRun && known.Proof != "")
}

// mostForeign bounds what is remembered of a project's foreign backups.
const mostForeign = 200

// disown remembers the backups that carry our metadata and do not count as ours.
func disown(k Known, s Seen) []Repair {
	d := Disown{}
	for _, b := range s.Backups {
		if b.Foreign() {
			d.All = append(d.All, backup.ForeignOf(b))
		}
	}
	slices.SortFunc(d.All, func(a, b backup.Foreign) int { return cmp.Compare(a.Backup, b.Backup) })
	d.All = slices.Compact(d.All)
	d.All = d.All[:min(len(d.All), mostForeign)]
	if slices.Equal(d.All, k.Foreign) {
		return nil
	}
	for _, b := range d.All {
		known := func(f backup.Foreign) bool { return f.Backup == b.Backup && f.Origin == b.Origin }
		if !slices.ContainsFunc(k.Foreign, known) {
			d.New = append(d.New, b)
		}
	}
	return []Repair{d}
}
