package backup

import (
	"fmt"
	"time"
)

// Deadline is when to give up on a backup: base plus perGiB for each GiB of the
// volume.
func Deadline(start time.Time, sizeGiB int, base, perGiB time.Duration) time.Time {
	return start.Add(base + time.Duration(sizeGiB)*perGiB)
}

// NextLook is when to look at a running backup again where no notification says
// that something happened: a quarter of its age later, between 10 seconds and 5
// minutes, so that an end is seen late by a quarter of the time it took at most.
func NextLook(started, now time.Time) time.Time {
	return now.Add(min(max(now.Sub(started)/4, 10*time.Second), 5*time.Minute)).Truncate(time.Second)
}

// Ending is what has become of a run.
type Ending int

// The endings of a [Verdict].
const (
	// Open: it is still under way.
	Open Ending = iota
	// Succeeded: Cinder says available.
	Succeeded
	// Again: the attempt has failed and another follows within the slot.
	Again
	// Lost: the run has failed for good.
	Lost
	// Unasked: Cinder never got the request; the volume's turn comes again.
	Unasked
)

// A Verdict is what a look at a run came to.
type Verdict struct {
	Ending Ending
	// Backup is the id found; Kind what it really is.
	Backup string
	Kind   Kind
	// Remove says that the backup is broken and to be removed; Watch that it may
	// still end some day.
	Remove, Watch bool
	// NoService says that no cinder-backup service took it: nothing is wrong with the
	// volume, and nothing should start until one is back.
	NoService bool
	Why       string
}

// Settle decides what has become of an open run, from what Cinder says of its
// backup: nil where Cinder, asked directly, says that there is none. It reads the
// status and never the name of a notification: Cinder sends backup.create.end for
// an aborted create, too, and nothing for one that failed. slotEnds is when the
// next slot takes over; grace is how long after its start a request can still
// arrive at Cinder.
func Settle(r Run, seen *CinderBackup, slotEnds, now time.Time, grace time.Duration) Verdict {
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
	case "available", "restoring": // only what was available is restored
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
