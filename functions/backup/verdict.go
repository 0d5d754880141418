package backup

import (
	"fmt"
	"time"
)

// Deadline is when a backup counts as failed if it is not complete: base plus perGiB for each
// GiB of the volume, after its start.
func Deadline(start time.Time, sizeGiB int, base, perGiB time.Duration) time.Time {
	return start.Add(base + time.Duration(sizeGiB)*perGiB)
}

// NextLook is when to look at a running backup again if no notification comes: after a quarter
// of its age, between 10 seconds and 5 minutes. So the delay until an end is seen is at most a
// quarter of the time that the backup took.
func NextLook(started, now time.Time) time.Time {
	return now.Add(min(max(now.Sub(started)/4, 10*time.Second), 5*time.Minute)).Truncate(time.Second)
}

// Ending is what has become of a run.
type Ending int

// The endings of a [Verdict].
const (
	// Open: it goes on.
	Open Ending = iota
	// Succeeded: Cinder says available.
	Succeeded
	// Again: the attempt has failed, and another one follows within the slot.
	Again
	// Lost: the run has failed for good.
	Lost
	// Unasked: the request never reached Cinder, so the volume's turn comes again.
	Unasked
)

// A Verdict says what has become of a run.
type Verdict struct {
	Ending Ending
	// Backup is the id of the backup in Cinder; Kind is what Cinder made, which can differ from
	// what was asked for.
	Backup string
	Kind   Kind
	// Remove says that the backup is broken and is to be removed. Watch says that it may still
	// become complete.
	Remove, Watch bool
	// NoService says that no cinder-backup service was up: nothing is wrong with the volume,
	// and no backup should start until a service is up again.
	NoService bool
	Why       string
}

// VerdictOn decides what has become of an open run. seen is its backup, nil if Cinder was asked
// directly and has none. Only the status counts, never a notification: Cinder sends
// backup.create.end for an aborted backup too, and nothing for a failed one. slotEnds is the
// next slot; grace is how long after its start a request can still reach Cinder.
func VerdictOn(r Run, seen *CinderBackup, slotEnds, now time.Time, grace time.Duration) Verdict {
	failed := func(v Verdict) Verdict {
		v.Ending = Lost
		if r.Attempt < 2 && now.Before(slotEnds) || v.NoService {
			v.Ending = Again
		}
		return v
	}
	if seen == nil {
		if r.Backup == "" {
			if now.Before(r.Started.Add(grace)) {
				return Verdict{Why: "not seen in Cinder yet"}
			}
			return Verdict{Ending: Unasked, Why: "the request never reached Cinder"}
		}
		return failed(Verdict{Backup: r.Backup, Why: "backup disappeared before it was complete"})
	}
	v := Verdict{Backup: seen.ID, Kind: r.Kind}
	switch seen.Status {
	case "available", "restoring": // only an available backup can be restored
		v.Ending, v.Kind = Succeeded, Full
		if seen.Incremental {
			v.Kind = Incremental
		}
		v.Why = string(v.Kind) + " backup is available"
		if v.Kind != r.Kind && r.Kind != "" {
			v.Why += ", though " + string(r.Kind) + " was asked for"
		}
		return v
	case "error":
		v.Remove = true
		v.Why = "cinder: " + or(seen.FailReason, "status error without a reason")
		v.NoService = seen.unserved()
		return failed(v)
	case "deleting", "deleted", "error_deleting":
		v.Why = "backup was deleted before it was complete"
		return failed(v)
	}
	if !now.Before(r.Deadline) {
		v.Ending, v.Watch = Lost, true
		v.Why = fmt.Sprintf("not complete within %s (Cinder says %s)", r.Deadline.Sub(r.Started), seen.Status)
		return v
	}
	v.Why = "Cinder says " + seen.Status
	return v
}
