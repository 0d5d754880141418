package backup

import (
	"fmt"
	"slices"
	"strings"
	"time"
)

// Action is what to do about a volume whose turn it is.
type Action int

// The actions of a [Start].
const (
	// Go: ask Cinder for a backup.
	Go Action = iota
	// Adopt: a backup of this run is there already, under way or done.
	Adopt
	// Done: the backup of this run is there, complete and told of. That the slot is done
	// was forgotten, since the clock was wrong or the owner had opted out and in again.
	Done
	// Skip: the owner wants the volume left out; not before its next slot.
	Skip
	// Wait: it cannot start now; look again within the slot.
	Wait
	// Fail: the slot is lost, for a reason that waiting does not mend.
	Fail
)

// A Start is the decision about a volume whose turn it is.
type Start struct {
	Do      Action
	Kind    Kind // for Go
	Attempt int
	// Archived says that it goes, or has gone, to the archive container, as the first
	// of that span; "" for the usual container.
	Archived Span
	// Backup is the one to adopt.
	Backup CinderBackup
	// Broken are the earlier backups of this run that ended in error and are to be
	// removed.
	Broken []CinderBackup
	// Theirs says that the reason is for the owner to act on.
	Theirs bool
	Why    string
}

// Facts are what is known about a volume at the moment of starting, read fresh.
type Facts struct {
	Volume Volume
	// Backups are all of this volume in this project, any order, ours and others'.
	Backups []CinderBackup
	Quota   Quota
	// Rank is the volume's place among the project's protected volumes, oldest
	// first, from 0; Limit how many may be protected, 0 for any number.
	Rank, Limit, Total int
	// Known are the ids of backups that the ledger has seen complete.
	Known map[string]bool
	// Enrolled is what the ledger remembers of the volume: a lock may hold its skip key
	// back.
	Enrolled Protected
	// Unserved is the id of a backup of the project's that no cinder-backup service
	// took and that is still there; "" for none.
	Unserved string
}

// WhatToStart decides what a volume's turn comes to.
func WhatToStart(p Policy, keys Keys, s State, t Turn, f Facts, now time.Time) Start {
	if why, _ := p.LeaveOut(Skips(f.Volume.Metadata, keys), f.Enrolled, now); why != "" {
		return Start{Do: Skip, Theirs: true, Why: why}
	}
	start := Start{Attempt: 1}
	reason := ""
	if s.Retry.Equal(t.Slot) {
		start.Attempt, reason = 2, s.Why
	}
	// What is there of this run already? Cinder is asked, not the ledger, which may
	// have been lost or be an older copy.
	quota := f.Quota // once what is broken has gone
	for _, b := range f.Backups {
		slot, attempt, ok := b.Run()
		if !ok || !slot.Equal(t.Slot) {
			continue
		}
		switch b.Status {
		case "error":
			start.Broken = append(start.Broken, b)
			quota = quota.Refund(b.Size)
			if attempt >= start.Attempt && !b.unserved() {
				start.Attempt, reason = attempt+1, "cinder: "+or(b.FailReason, "status error")
			}
		case "deleting":
			quota = quota.Refund(b.Size) // the run's broken backup on its way out
		case "error_deleting", "deleted":
		default:
			if start.Do != Adopt || b.Status == "available" {
				start.Do, start.Backup = Adopt, b
			}
		}
	}
	if b := start.Backup; start.Do == Adopt {
		// Whatever attempt it was made in, it ends the one that is due.
		_, attempt, _ := b.Run()
		start.Attempt, start.Archived = min(max(start.Attempt, attempt), 2), b.Archived()
		start.Why = fmt.Sprintf("backup %s of this run is there already (%s)", b.ID, b.Status)
		if b.Status == "available" && f.Known[b.ID] {
			start.Do, start.Why = Done, start.Why+", and known"
		}
		return start
	}
	if start.Attempt > 2 {
		start.Do, start.Attempt, start.Why = Fail, 2, reason
		return start
	}
	if f.Limit > 0 && f.Rank >= f.Limit {
		start.Do, start.Theirs = Fail, true
		start.Why = fmt.Sprintf("volume limit exceeded: %d of %d volumes", f.Total, f.Limit)
		return start
	}
	if st := f.Volume.Status; st != "available" && st != "in-use" {
		start.Do, start.Theirs = Wait, true
		start.Why = "volume is " + or(st, "in no known status")
		return start
	}
	if f.Unserved != "" {
		// Without a service broken backups cannot be removed either, and would fill the
		// owner's quota one by one. That this one has gone shows that there is one again.
		start.Do, start.Why = Wait, "until backup "+f.Unserved+" is removed, which no cinder-backup service took"
		return start
	}
	switch why := f.Quota.lacks(f.Volume.Size); {
	case why == "":
	case quota.lacks(f.Volume.Size) == "":
		// Cinder counts a broken backup until it is deleted.
		start.Do, start.Why = Wait, "until the broken backup of this run is removed: "+why
		return start
	default:
		start.Do, start.Theirs, start.Why = Fail, true, why
		return start
	}
	start.Kind, start.Why = WhichKind(p, f.Volume, f.Backups, now)
	if start.Attempt == 2 {
		start.Kind, start.Why = Full, "second attempt, as full: "+reason
	} else if span := toArchive(p, s, t, f.Backups); span != "" {
		start.Archived, start.Kind = span, Full
		start.Why = fmt.Sprintf("the first of %s, archived in container %s", span.Key(t.Slot.In(p.Schedule.Zone())), p.Archive.Container)
	}
	return start
}

// toArchive says which span a slot is the first of, if its backup is to go to the archive
// container; "" where it is not. A month whose first slot has failed or was made elsewhere
// has had its turn: an archive container that does not work costs one attempt a month.
func toArchive(p Policy, s State, t Turn, backups []CinderBackup) Span {
	if p.Archive.Container == "" {
		return ""
	}
	span := p.Archive.Every
	same := func(slot time.Time) bool {
		zone := p.Schedule.Zone()
		return span.Key(slot.In(zone)) == span.Key(t.Slot.In(zone))
	}
	if same(s.LastSlot) {
		return ""
	}
	for _, b := range backups { // the ledger may have been lost
		if slot, _, ok := b.Run(); ok && !slot.Equal(t.Slot) && same(slot) {
			return ""
		}
	}
	return span
}

// unserved says that a backup failed because no cinder-backup service was there to
// take it (cinder/scheduler/manager.py, create_backup): nothing is wrong with the
// volume, and it does not count as an attempt.
func (b CinderBackup) unserved() bool {
	return strings.Contains(b.FailReason, "Service not found for creating backup")
}

// Unserved is the id of one of our backups that failed because no cinder-backup
// service took it, and that is still there; "" where there is none.
func Unserved(backups []CinderBackup) string {
	for _, b := range backups {
		if b.Ours() && b.unserved() && (b.Status == "error" || b.Status == "deleting") {
			return b.ID
		}
	}
	return ""
}

// lacks says what of a quota one more backup of size GiB would exceed; "" where
// it fits. Cinder charges an incremental the whole size of its volume.
func (q Quota) lacks(size int) string {
	over := func(u Usage, more int) bool { return u.Limit >= 0 && u.Used+u.Reserved+more > u.Limit }
	switch {
	case over(q.Backups, 1):
		return fmt.Sprintf("quota exceeded: %d of %d backups", q.Backups.Used+q.Backups.Reserved, q.Backups.Limit)
	case over(q.Gigabytes, size):
		return fmt.Sprintf("quota exceeded: %d of %d GiB of backups, %d more needed", q.Gigabytes.Used+q.Gigabytes.Reserved, q.Gigabytes.Limit, size)
	}
	return ""
}

// Refund is the quota after one backup of size GiB less.
func (q Quota) Refund(size int) Quota {
	q.Backups.Used--
	q.Gigabytes.Used -= size
	return q
}

// Charge is the quota after one more backup of size GiB.
func (q Quota) Charge(size int) Quota {
	q.Backups.Reserved++
	q.Gigabytes.Reserved += size
	return q
}

// WhichKind decides between full and incremental. Cinder takes the newest
// available backup of the volume in the project as the parent of an incremental,
// whoever made it (cinder/backup/api.py, create): on one that is not ours we do
// not build, since its owner could then not delete it, nor we what hangs on it.
func WhichKind(p Policy, v Volume, backups []CinderBackup, now time.Time) (Kind, string) {
	if p.Depth <= 0 {
		return Full, "every backup is a full one"
	}
	var usable []CinderBackup
	for _, b := range backups {
		if b.Status == "available" && b.Volume == v.ID {
			usable = append(usable, b)
		}
	}
	slices.SortStableFunc(usable, func(a, b CinderBackup) int { return b.Created.Compare(a.Created) })
	if len(usable) == 0 {
		return Full, "no earlier backup"
	}
	newest := usable[0]
	// Cinder's times are whole seconds: of two made within one, either may be taken
	// for the parent, so both have to be ours.
	for _, b := range usable {
		if !b.Created.Before(newest.Created) && !b.Ours() {
			return Full, "the newest backup " + b.ID + " is not ours"
		}
		// What is kept for years holds no chain hostage.
		if !b.Created.Before(newest.Created) && b.Archived() != "" {
			return Full, "the newest backup " + b.ID + " is archived"
		}
	}
	if newest.Size != v.Size {
		return Full, fmt.Sprintf("the volume grew from %d to %d GiB", newest.Size, v.Size)
	}
	if p.Container != "" && newest.Container != p.Container ||
		p.Container == "" && p.Archive.Container != "" && newest.Container == p.Archive.Container {
		return Full, fmt.Sprintf("the newest backup is in container %s, not %s", newest.Container, or(p.Container, "the usual one"))
	}
	carried := 0
	for _, b := range usable {
		switch {
		case !b.Ours():
			// An incremental of somebody else's comes between where it was made after our look
			// and before our request.
			return Full, fmt.Sprintf("the chain's %s backup %s is not ours", RecordOf(b).Kind, b.ID)
		case b.Incremental:
			carried++
			continue
		case carried >= p.Depth:
			return Full, fmt.Sprintf("the chain has %d of %d incrementals", carried, p.Depth)
		case !p.ChainAge.IsZero() && !p.ChainAge.After(b.Created).After(now):
			return Full, "the chain is older than " + p.ChainAge.String()
		}
		return Incremental, fmt.Sprintf("incremental %d of %d on full %s", carried+1, p.Depth, b.ID)
	}
	return Full, "the chain has no full backup"
}

func or(s, otherwise string) string {
	if s == "" {
		return otherwise
	}
	return s
}
