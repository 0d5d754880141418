package backup

import "time"

// A Reporting is what the ledger remembers of the digests of one project.
type Reporting struct {
	Project string `json:"-"`
	// Version counts the writings: one that was read before another's is not written.
	Version int64 `json:"-"`
	// Last is the end of the period that was told of last; zero where that is not
	// known: nothing was told yet, or Redis was lost.
	Last time.Time `json:"l,omitzero"`
	// Guessed says that Last is where a period would have begun, and not what was told:
	// then runs may have been forgotten with Redis, and are read back from their backups.
	Guessed bool `json:"g,omitempty"`
	// Failing is since when volumes have been failing, as of Last, by id.
	Failing map[string]time.Time `json:"f,omitempty"`
	// Errors are the newest failures of that period that their owner can do nothing
	// about, for the operator.
	Errors []DigestRun `json:"x,omitempty"`
	// Foreign are the ids of the backups that only look like ours of which that period's
	// digest told.
	Foreign []string `json:"o,omitempty"`
	// Alarms are the letters about attempts on locked classes, by the server or volume
	// that each is about.
	Alarms map[string]Alarm `json:"k,omitempty"`
	// Pending is the digest that not everybody has been told yet; nil for none.
	Pending *Pending `json:"p,omitempty"`
}

// A Pending is a digest on its way: its facts stay as they are, so that it is the
// same letter however often it is tried.
type Pending struct {
	Digest Digest `json:"d"`
	// Failing becomes that of the [Reporting] when the digest is told.
	Failing map[string]time.Time `json:"f,omitempty"`
	// Told are the addresses that have it.
	Told []string `json:"t,omitempty"`
	// Tries counts the times it did not reach everybody, Again is when to try next, Why
	// what was in the way.
	Tries int       `json:"n,omitempty"`
	Again time.Time `json:"a,omitzero"`
	Why   string    `json:"w,omitempty"`
}

// An Alarm is the letter about one attempt. What it says stays as it is, so that it
// is the same letter however often it is tried.
type Alarm struct {
	// Since is when the attempt was first seen.
	Since time.Time  `json:"t"`
	Note  DigestNote `json:"n"`
	// Told are the addresses that have it, Done when all had.
	Told []string  `json:"o,omitempty"`
	Done time.Time `json:"d,omitzero"`
	// Tries counts the times it did not reach everybody; Again is when to try next.
	Tries int       `json:"r,omitempty"`
	Again time.Time `json:"a,omitzero"`
}

// mostDigestRuns and mostDigestRows bound what a digest on its way holds; the counts
// stay right, and a mail has room for less.
const (
	mostDigestRuns = 500
	mostDigestRows = 200
)

// Trimmed is a digest with no more rows than a mail can show; its counts stay.
func (d Digest) Trimmed() Digest {
	d.Runs = d.Runs[:min(len(d.Runs), mostDigestRuns):len(d.Runs)]
	d.Removed = d.Removed[:min(len(d.Removed), mostDigestRows):len(d.Removed)]
	d.Foreign = d.Foreign[:min(len(d.Foreign), mostDigestRows):len(d.Foreign)]
	for _, list := range []*[]DigestNote{&d.Overdue, &d.Recovered, &d.Locked, &d.Skipped, &d.Empty, &d.Invalid, &d.Outside} {
		*list = (*list)[:min(len(*list), mostDigestRows):len(*list)]
	}
	return d
}

// ReportDue decides whether a project's digest is to be made now: its period is
// over, and what belongs to it is over, too, or overdue by patience.
func ReportDue(s Schedule, r Reporting, runs []Run, volumes []Protected, removals Retention, patience time.Duration, now time.Time) (due bool, to time.Time, why string) {
	to = s.Slot(now)
	if last := r.Last; !last.Before(to) && !last.After(now) {
		return false, to, "told until " + last.Format(time.RFC3339)
	}
	if !now.Before(to.Add(patience)) {
		return true, to, "overdue"
	}
	for _, run := range runs {
		if !run.Slot.After(to) {
			return false, to, "run " + run.ID() + " is under way"
		}
	}
	for _, v := range volumes {
		if v.Skip == "" && !v.State.Due.IsZero() && !v.State.Due.After(to) {
			return false, to, "volume " + v.Volume + " is still to be backed up"
		}
	}
	if removals.Held == "" {
		for _, gone := range removals.Removals {
			if gone.Trouble == "" {
				return false, to, "backup " + gone.Backup + " is being removed"
			}
		}
		if !removals.Due.IsZero() && !removals.Due.After(now) {
			return false, to, "retention is about to look"
		}
	}
	return true, to, "the period is over"
}
