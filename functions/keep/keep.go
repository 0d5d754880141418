// Package keep decides which backups stay and which go, and says why.
//
// A [Holding] is everything that is known about the backups of one volume. [Decide] returns the
// [Fate] of each backup, [NextStep] the order of the removals, and [Braked] whether the removals
// look like a mistake. As in package backup, everything here is arithmetic on values.
package keep

import (
	"time"

	"staffeln/functions/backup"
)

// A Holding is everything that is known about the backups of one volume in one project.
type Holding struct {
	Project, Volume string
	// Backups are all of the volume's in the project, in any order, ours and others'.
	Backups []backup.CinderBackup
	// Parents are the parents that notifications named, by the child's id. It may be nil or
	// incomplete: a missing parent is derived from the order of the backups.
	Parents map[string]string
	// Policy is the volume's current one; nil if the volume is not protected now. LastSlot is the
	// volume's newest slot that is over.
	Policy   *backup.Policy
	LastSlot time.Time
	// Gone is since when the volume is confirmed not to exist any more; zero while it
	// exists, and if that is not known.
	Gone time.Time
	// Orphan is how long the newest restore point outlives its volume; zero for as long as its
	// frozen policy says.
	Orphan backup.Age
	// Busy says that a run of the volume is open: none of its backups is removed meanwhile.
	Busy bool
}

// Holdings sorts a project's backups by their volumes. Volumes without any of our backups are left
// out: nothing of them is ever removed. What is known about the volumes themselves is added by
// [Holding.Fill].
func Holdings(project string, backups []backup.CinderBackup, records []backup.Record) map[string]*Holding {
	all := map[string]*Holding{}
	for _, b := range backups {
		if b.Ours() && all[b.Volume] == nil {
			all[b.Volume] = &Holding{Project: project, Volume: b.Volume}
		}
	}
	for _, b := range backups {
		if h := all[b.Volume]; h != nil {
			h.Backups = append(h.Backups, b)
		}
	}
	for _, r := range records {
		if h := all[r.Volume]; h != nil && r.Parent != "" {
			if h.Parents == nil {
				h.Parents = map[string]string{}
			}
			h.Parents[r.ID] = r.Parent
		}
	}
	return all
}

// Fill adds what is known about the volume at now: v is its row if it is protected in this project,
// else nil; missed says how often Cinder did not find it; busy says that it has an open run.
func (h *Holding) Fill(s backup.Settings, v *backup.Protected, missed backup.Absence, busy bool, now time.Time) {
	h.Policy, h.LastSlot, h.Gone, h.Orphan, h.Busy = nil, time.Time{}, time.Time{}, s.Orphan, busy
	switch {
	case v != nil:
		policy := s.Classes.Strictest(v.Enrolments, now)
		h.Policy, h.LastSlot = &policy, v.State.LastSlot
	case missed.Times >= enough:
		h.Gone = missed.Since
	}
}

// enough is how many looks in a row must miss a volume before it counts as gone.
const enough = 2

// Miss counts one more look, at now, that did not find a volume.
func Miss(a backup.Absence, now time.Time) backup.Absence {
	if a.Since.IsZero() {
		a.Since = now
	}
	a.Times = min(a.Times+1, enough)
	return a
}

// Missing says whether one more look decides whether a volume is gone.
func Missing(a backup.Absence) bool { return a.Times > 0 && a.Times < enough }

// DependsOnVolume says whether it makes a difference for any backup whether the volume exists.
func (h Holding) DependsOnVolume(now time.Time) bool {
	there, gone := h, h
	there.Gone, gone.Gone = time.Time{}, time.Date(1800, 1, 1, 0, 0, 0, 0, time.UTC)
	a, b := Decide(there, now), Decide(gone, now)
	for i := range a { // both have the same backups in the same order
		if a[i].Keep != b[i].Keep {
			return true
		}
	}
	return false
}
