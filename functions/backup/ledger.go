package backup

import "time"

// An Enrolment is what the ledger remembers of one opted-in server, and what a
// notification is compared with to see whether there is anything new.
type Enrolment struct {
	Server string `json:"id"`
	Name   string `json:"n,omitempty"`
	// Project is the server's project, whose shard everything of it lives in.
	Project string `json:"p"`
	// Class is the name of the policy class it chose.
	Class string `json:"c"`
	// Schedule and Retention are the server's own overrides, as written by the
	// tenant and found to parse; "" for the class's.
	Schedule  string `json:"s,omitempty"`
	Retention string `json:"r,omitempty"`
	// Problems are values of the server's that were refused, in words for its owner.
	Problems []string `json:"x,omitempty"`
	// Words are the metadata values and tags that the above was decided from, or that
	// the Attempt is about: as long as they are the same, so is the decision.
	Words string `json:"w,omitempty"`
	// Attempt is what the server wishes instead, while a lock holds that back.
	Attempt Attempt `json:"a,omitzero"`
	// Volumes are the ids of its attached volumes.
	Volumes []string `json:"v,omitempty"`
}

// A Protected is what the ledger remembers of one volume of an opted-in server.
// Its facts (up to Attempt) come from Nova and Cinder; its state is written by runs.
type Protected struct {
	Volume  string `json:"id"`
	Project string `json:"p"`
	Name    string `json:"n,omitempty"`
	// Size is in GiB.
	Size    int    `json:"g,omitempty"`
	Backend string `json:"b,omitempty"`
	// Created is when Cinder made the volume; the volume limit counts from the oldest.
	Created time.Time `json:"t"`
	// Skip is why the volume is left out by its owner's wish; "" where it is not.
	Skip string `json:"k,omitempty"`
	// Attempt is that its owner wishes it to be left out, while a lock holds that back.
	Attempt Attempt `json:"a,omitzero"`

	// Enrolments are those of the opted-in servers it is attached to, by id.
	Enrolments []Enrolment `json:"-"`
	// State is how far its runs have come.
	State State `json:"-"`
}

// State is how far a volume's runs have come.
type State struct {
	// LastSlot is the newest slot that is over, whether it succeeded or failed for
	// good; zero before the first.
	LastSlot time.Time `json:"ls,omitzero"`
	// LastComplete is when the newest complete backup was made: the restore point.
	LastComplete time.Time `json:"lc,omitzero"`
	// Retry is the slot whose first attempt has failed and whose second is to come.
	Retry time.Time `json:"rs,omitzero"`
	// Waiting is the slot that could not start yet, Waits how often it was put off.
	Waiting time.Time `json:"ws,omitzero"`
	Waits   int       `json:"wn,omitempty"`
	// Why is the reason of the retry or the wait.
	Why string `json:"y,omitempty"`
	// Theirs says that the reason is for the owner to act on, not the operator.
	Theirs bool `json:"o,omitempty"`
	// Due is when the volume is to be looked at next.
	Due time.Time `json:"-"`
}

// RunState is how far a run has come.
type RunState string

// The states of a run. Requested and Running are open, the others over.
const (
	// Requested: claimed in the ledger; Cinder may or may not know of it.
	Requested RunState = "requested"
	// Running: Cinder has given it an id.
	Running RunState = "running"
	// Complete: Cinder said available.
	Complete RunState = "complete"
	// Failed: over without a restore point, for good or to be tried once more.
	Failed RunState = "failed"
)

// A Run is what happens to one slot of one volume.
type Run struct {
	Volume  string `json:"v"`
	Project string `json:"p"`
	// Slot is the planned moment, in UTC and whole seconds.
	Slot time.Time `json:"s"`
	// Attempt is 1, or 2 for the one retry within the slot.
	Attempt int      `json:"a"`
	Kind    Kind     `json:"k"`
	State   RunState `json:"st"`
	// Archived says that it goes to the archive container, as the first restore point
	// of that span.
	Archived Span `json:"ar,omitempty"`
	// Backup is Cinder's id, "" until known.
	Backup string `json:"b,omitempty"`
	// Nonce is what the backup's metadata hold as [MetaNonce]; the ledger keeps it only
	// while the run is open.
	Nonce string `json:"no,omitempty"`
	// Started is when the run was claimed, by the event's time; Deadline is when
	// it is given up on; Ended is when it was seen to be over.
	Started  time.Time `json:"t0"`
	Deadline time.Time `json:"td"`
	Ended    time.Time `json:"te,omitzero"`
	// Why is the reason of the start while open, that of the end when over.
	Why string `json:"y,omitempty"`
	// Theirs says that a failure is for the owner to act on.
	Theirs bool `json:"o,omitempty"`

	// What the digest tells of it, as it was at the time.
	VolumeName string   `json:"vn,omitempty"`
	ServerName string   `json:"sn,omitempty"`
	Servers    []string `json:"sv,omitempty"` // ids to stamp with last-backup-time
	Class      string   `json:"c,omitempty"`
	Size       int      `json:"g,omitempty"` // GiB
	Backend    string   `json:"be,omitempty"`
}

// ID is the run's name, made from what it is for: "VOLUME@20261122T020000Z".
func (r Run) ID() string { return RunID(r.Volume, r.Slot) }

// RunID names the run of a volume's slot.
func RunID(volume string, slot time.Time) string {
	return volume + "@" + slot.UTC().Format(Stamp)
}

// Stamp is the format of a time inside names: ISO 8601 basic, UTC, whole seconds.
const Stamp = "20060102T150405Z"

// A Record is what the ledger remembers of one automated backup.
type Record struct {
	ID      string `json:"-"`
	Volume  string `json:"-"`
	Project string `json:"-"`
	// Slot is that of the run it was made for.
	Slot time.Time `json:"s"`
	Kind Kind      `json:"k"`
	// Parent is the id of the backup it builds on, where a notification told; the
	// API never does.
	Parent string `json:"pa,omitempty"`
	// Status is Cinder's, as last seen.
	Status  string    `json:"st"`
	Created time.Time `json:"t"`
	Size    int       `json:"g"` // GiB
	// Policy is the frozen one, as written into the backup's metadata.
	Policy string `json:"po,omitempty"`
	// Proof says how the ledger knows that the service made it; "" for what an older
	// release had believed by metadata alone.
	Proof Proof `json:"-"`
}

// A Proof is how the ledger knows that the service made a backup.
type Proof string

// The proofs.
const (
	// ByMaker: Cinder said so.
	ByMaker Proof = "maker"
	// ByRun: Cinder answered our request with its id, or it was found by the run's nonce.
	ByRun Proof = "run"
	// ByOperator: an operator has adopted it.
	ByOperator Proof = "operator"
)

// A StampDue is a last-backup-time that is still to be written to a server.
type StampDue struct {
	Server, Project string
	// At is the time to write.
	At time.Time
	// Tries counts the refusals so far.
	Tries int
}

// A Discard is a broken backup of ours that is still to be removed.
type Discard struct {
	Backup, Project string
	// Tries counts the refusals so far.
	Tries int
}

// A Closing ends a run in the ledger, in one step.
type Closing struct {
	// Run is over: Complete or Failed, with its end and its reason.
	Run Run
	// State is the volume's from now on, with the moment it is due next.
	State State
	// Final says that the slot is over: the run goes to the project's finished
	// ones. A first attempt that is to be repeated is not final.
	Final bool
	// Stamp is the last-backup-time for the run's servers; zero for none.
	Stamp time.Time
	// Remove says that the run's backup is broken and to be removed.
	Remove bool
	// Watch says that the run's backup has not ended in time but still may: it is
	// looked at now and then, from this moment on; zero for not.
	Watch time.Time
	// Record is what to remember of the backup; nil for nothing.
	Record *Record
}

// A Change is what an enrolment changed.
type Change struct {
	// Stale says that newer facts were already there; nothing was changed.
	Stale bool
	// Protected and Unprotected are the volumes that became so.
	Protected, Unprotected []string
	// Same says that the enrolment was already as it is.
	Same bool
}

// InFlight is how many runs are under way in the whole cloud, as the ledger
// counts them, and what holds new ones back.
type InFlight struct {
	Total     int
	ByProject map[string]int
	ByBackend map[string]int
	// Halvings is how often the limits are halved because Cinder is under strain.
	Halvings int
	// Paused is until when nothing starts at all; zero for not. PausedWhy says why.
	Paused    time.Time
	PausedWhy string
}

// Limits bound the runs under way. Zero means no limit of that sort.
type Limits struct {
	Cloud, Project, Backend int
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

// Less is o without p, which was added to it before.
func (o Outlook) Less(p Outlook) Outlook {
	return Outlook{o.Backups - p.Backups, o.Removals - p.Removals, o.Chains - p.Chains, o.Losses - p.Losses}
}
