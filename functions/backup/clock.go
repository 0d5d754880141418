package backup

import "time"

// MostAhead is how far our clock may be ahead of the cloud's. Further, and nothing
// is decided by it: restore points would be too old, and periods over, too soon.
const MostAhead = 5 * time.Minute

// Ahead says whether our own time is too far ahead of the cloud's to be believed.
// One that is behind only makes things late.
func Ahead(ours, clouds time.Time) bool { return ours.Sub(clouds) > MostAhead }

// Rebase puts a run right that begins in the future, by a clock that was ahead then:
// it counts as begun now, with as much time as it was given. False where there is
// nothing to put right.
func Rebase(r Run, now time.Time) (Run, bool) {
	if !Ahead(r.Started, now) {
		return r, false
	}
	r.Started, r.Deadline = now, now.Add(r.Deadline.Sub(r.Started))
	return r, true
}
