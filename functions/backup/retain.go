package backup

import "time"

// A Holding is what is known about one volume's backups in one project, read fresh.
type Holding struct {
	Project, Volume string
	// Backups are all of the volume's in the project, in any order, ours and others'.
	Backups []CinderBackup
	// Policy is the volume's current one; nil where it is not protected now.
	Policy *Policy
	// Gone is since when the volume is confirmed not to exist any more; zero while it
	// lives, and where that is not known.
	Gone time.Time
	// Orphan is how long the newest complete restore point outlives its volume; zero
	// for as long as its frozen policy says.
	Orphan Age
	// Parents are those that notifications told of, by the child's id. It may be nil
	// or lack some: what it does not say is taken from the order of the backups.
	Parents map[string]string
	// Busy says that a run of the volume is open: nothing of it is removed meanwhile.
	Busy bool
}

// A Fate is what is decided about one backup.
type Fate struct {
	Backup CinderBackup
	// Keep says that it stays. One that is not ours always does.
	Keep bool
	// Broken says that it never became a restore point; only such have no restore
	// point to lose.
	Broken bool
	// Why is the reason in words: "younger than 30d", "daily 3 of 7", "incremental ID
	// builds on it", "hold", "the newest complete restore point".
	Why string
	// Until is when time alone may change the decision; zero where it cannot.
	Until time.Time
	// Newest says that the volume would have no complete restore point left without it.
	Newest bool
	// Children are the ids of all backups that may build on it, ours and others'.
	Children []string
	// Chain is the id of the full backup of its chain; its own for a full one.
	Chain string
}

// Retain decides which backups of one volume stay at now, oldest first. What it
// decides to remove may go in any number of steps, children first, without the
// decision about any other changing.
func Retain(h Holding, now time.Time) []Fate {
	_ = now
	return nil
}

// A Removal is a backup that is on its way out.
type Removal struct {
	Backup  string `json:"b"`
	Volume  string `json:"v"`
	Project string `json:"p"`
	Name    string `json:"n,omitempty"`
	Kind    Kind   `json:"k"`
	Size    int    `json:"g"` // GiB
	// Created is when the backup was made.
	Created time.Time `json:"t"`
	// Why is the reason for its removal.
	Why string `json:"y"`
	// Asked is when Cinder was first asked to delete it, zero for not yet; Ended when
	// Cinder was seen to have done so.
	Asked time.Time `json:"ta,omitzero"`
	Ended time.Time `json:"te,omitzero"`
	// Tries counts the refusals so far, Again is when to try next, Trouble what stands
	// in the way: it was told once, when it came up.
	Tries   int       `json:"n#,omitempty"`
	Again   time.Time `json:"ag,omitzero"`
	Trouble string    `json:"x,omitempty"`
}

// A Step is what is to be done next about the removals of a project.
type Step struct {
	// Delete are those that may be asked for now: nothing builds on them.
	Delete []Fate
	// Wait are on their way, or wait for a child of ours that is.
	Wait []Fate
	// Stuck are those that something stands in the way of that will not pass by
	// itself, by id, in words: a child that is not ours, error_deleting, drifted
	// dependents.
	Stuck map[string]string
}

// NextStep orders the removals: children first.
func NextStep(fates []Fate) Step {
	_ = fates
	return Step{}
}

// An Outlook is how much of what there is would be removed. Chains count as one
// each, however long, and a part of one as its share: a whole chain always goes
// at once, so that counted by backups a healthy regime would look like a disaster.
type Outlook struct {
	// Backups are the complete restore points of ours, Removals those to be removed.
	Backups  int `json:"b,omitempty"`
	Removals int `json:"r,omitempty"`
	// Chains and Losses are the same in thousandths of chains.
	Chains int `json:"c,omitempty"`
	Losses int `json:"l,omitempty"`
}

// Add is both together.
func (o Outlook) Add(p Outlook) Outlook {
	return Outlook{o.Backups + p.Backups, o.Removals + p.Removals, o.Chains + p.Chains, o.Losses + p.Losses}
}

// OutlookOf sums up decisions.
func OutlookOf(fates []Fate) Outlook {
	_ = fates
	return Outlook{}
}

// A Brake stops removals that look like a mistake.
type Brake struct {
	// Percent of the chains is what may go at once; 100 is no brake.
	Percent int
	// From is how many backups have to be about to go at least for it to be asked.
	From int
}

// Trips says whether the brake holds the removals back, and why.
func (b Brake) Trips(o Outlook) (bool, string) {
	_ = o
	return false, ""
}

// A Retention is what the ledger remembers of the removals in one project.
type Retention struct {
	Project string `json:"-"`
	// Version counts the writings: one that was read before another's is not written.
	Version int64 `json:"-"`
	// Due is when the project is looked at next, as it was when this was read.
	Due time.Time `json:"-"`
	// Outlook is what the last look came to: what is still to be removed, of what.
	Outlook Outlook `json:"o,omitzero"`
	// Announced is since when removals are planned without a break; zero for none.
	// They begin with the next look, so that the brake sees the whole cloud's.
	Announced time.Time `json:"a,omitzero"`
	// Held is why nothing is removed: the brake, a clock that is wrong, a list that is
	// short; "" where nothing holds.
	Held string `json:"h,omitempty"`
	// Released is until when the operator has lifted the brake, for at most Most
	// removals.
	Released time.Time `json:"u,omitzero"`
	Most     int       `json:"m,omitempty"`
	// Removals are those under way or stuck, by the backup's id.
	Removals map[string]Removal `json:"r,omitempty"`
	// Gone is since when volumes are missed, by id.
	Gone map[string]Absence `json:"g,omitempty"`
	// Looked is when the project was last looked at.
	Looked time.Time `json:"l,omitzero"`
}

// An Absence is a volume that Cinder, asked directly, says does not exist.
type Absence struct {
	// Since is when that was first so, Times how often in a row, at different looks.
	Since time.Time `json:"s"`
	Times int       `json:"n"`
}
