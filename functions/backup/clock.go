package backup

import "time"

// MostAhead is how far our clock may be ahead of the cloud's. Further, and nothing
// is decided by it: restore points would be too old, and periods over, too soon.
const MostAhead = 5 * time.Minute

// Ahead says whether our own time is too far ahead of the cloud's to be believed.
// One that is behind only makes things late.
func Ahead(ours, clouds time.Time) bool { return ours.Sub(clouds) > MostAhead }
