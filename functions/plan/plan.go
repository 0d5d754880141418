// Package plan tells what the service would do at a moment, and why, and does
// nothing of it: which backups would start, which would go, and what stands in the
// way.
//
// Set off by: nobody but the operator, with `staffeln plan`. It is no function of
// the catalogue, but decides by dispatch's own code and by retention's rules.
//
// It simulates nothing. For a moment that lies ahead it takes the cloud as it is
// now (servers, volumes, backups, quotas, what is under way) and judges it as if
// nothing happened until then: a backup that would be made meanwhile is not there,
// and one that would be removed meanwhile still is. So a plan for tomorrow shows
// what tomorrow's rules make of today's cloud, not tomorrow's cloud. Two things are
// taken otherwise, since they would tell of troubles that nobody expects: slots that
// come and go meanwhile count as done, where the volume is not behind now; and a
// volume that Cinder does not list counts as gone from the moment of reading, since
// that will have been confirmed by then. In a plan for now it counts as gone only
// if the ledger has missed it before: retention's next look confirms that.
//
// OpenStack alone is enough. A ledger adds what only it knows: slots that failed
// for good, second attempts, waits and pauses, runs whose request is still under
// way to Cinder, parents that notifications told of, and the brake's release.
package plan

import (
	"time"

	"staffeln/functions/backup"
)

// A Plan is what would be done at a moment. It is also the JSON that `staffeln
// plan --json` prints: fields are added in later versions, and none is renamed or
// taken away. All times are RFC 3339 in UTC, and left out where there is none; all
// sizes are GiB; all lists are there even when empty, in the order given below.
type Plan struct {
	// At is the moment that is judged, Read when the lists were read.
	At   time.Time `json:"at"`
	Read time.Time `json:"read"`
	// Ledger says whether a ledger was asked, too: "asked", "none", or why not.
	Ledger string `json:"ledger"`
	// Cloud sums up all projects. With only one project asked for, the others count as
	// retention last saw them, and it is empty without a ledger.
	Cloud Sum `json:"cloud"`
	// Projects are those that anything below is about, by name, then by id.
	Projects []Project `json:"projects"`
	// Backups are the protected volumes and what their turn comes to, by project,
	// server, volume.
	Backups []Backup `json:"backups"`
	// Retention are the automated backups and what becomes of them, by project and
	// volume, oldest first.
	Retention []Fate `json:"retention"`
	// Foreign are the backups that carry the metadata of automated ones and do not count
	// as such, by project and volume, oldest first.
	Foreign []Foreign `json:"foreign"`
	// Warnings are what somebody should know.
	Warnings []Warning `json:"warnings"`
}

// A Sum is how much of what there is would be removed, and what the brake says.
type Sum struct {
	// RestorePoints are the complete automated backups, Removals how many of them
	// would be removed.
	RestorePoints int `json:"restore_points"`
	Removals      int `json:"removals"`
	// Chains and ChainsRemoved are the same in chains, a part of one as its share:
	// that is what the brake counts.
	Chains        float64 `json:"chains"`
	ChainsRemoved float64 `json:"chains_removed"`
	// Brake is why the brake holds the removals back; "" if it does not.
	Brake string `json:"brake"`
	// Released is until when the operator has lifted the brake, for at most
	// ReleasedFor removals. It is left out where that is not so at the moment judged,
	// or does not cover what would be removed.
	Released    time.Time `json:"released,omitzero"`
	ReleasedFor int       `json:"released_for,omitempty"`
}

// Held says whether the brake holds the removals back.
func (s Sum) Held() bool { return s.Brake != "" && s.Released.IsZero() }

// A Project is one project, summed up.
type Project struct {
	ID string `json:"id"`
	// Name is "" where Keystone does not tell.
	Name string `json:"name"`
	Sum
	// Held is why nothing of the project would be removed: a brake, the ledger not
	// being ready, a list that is short; "" where nothing holds.
	Held string `json:"held"`
	// HeldNow is why retention held the removals back when it last looked, as the
	// ledger says; "" for nothing.
	HeldNow string `json:"held_now"`
	// Quota is that of backups; nil where nothing is due and it was not asked for.
	Quota *Quota `json:"quota,omitempty"`
}

// A Quota is a project's quota of backups, -1 being no limit. Used counts what is
// reserved, too.
type Quota struct {
	Backups       int `json:"backups"`
	BackupsUsed   int `json:"backups_used"`
	Gigabytes     int `json:"gigabytes"`
	GigabytesUsed int `json:"gigabytes_used"`
}

// Do is what a volume's turn comes to.
type Do string

// What a volume's turn comes to. Those up to Fail are shown without being asked
// for all.
const (
	// Start: a backup is started.
	Start Do = "start"
	// Queue: one is started as soon as others have ended: a limit is reached.
	Queue Do = "queue"
	// Adopt: there is a backup of the slot already, which is taken on.
	Adopt Do = "adopt"
	// Wait: it cannot start; it is looked at again within the slot.
	Wait Do = "wait"
	// Fail: the slot is lost, as in over quota.
	Fail Do = "fail"
	// Running: a backup is under way.
	Running Do = "running"
	// Skip: its owner wants it left out.
	Skip Do = "skip"
	// Later: its turn has not come.
	Later Do = "later"
)

// A Backup is one protected volume and what its turn comes to.
type Backup struct {
	Project     string `json:"project"`
	ProjectName string `json:"project_name"`
	// Server is the opted-in server it is attached to, the first by id where there are
	// several.
	Server     string `json:"server"`
	ServerName string `json:"server_name"`
	Volume     string `json:"volume"`
	VolumeName string `json:"volume_name"`
	Size       int    `json:"size"`
	Class      string `json:"class"`
	// Slot is the planned moment that this is about: the newest one.
	Slot time.Time `json:"slot,omitzero"`
	// Due is when its turn came, or will come.
	Due time.Time `json:"due,omitzero"`
	Do  Do        `json:"do"`
	// Kind is "full" or "incremental" for start and queue, else "".
	Kind backup.Kind `json:"kind"`
	// Attempt is 1, or 2 for the second attempt at a slot; 0 where nothing starts.
	Attempt int `json:"attempt"`
	// Container is the one to ask Cinder for; "" for Cinder's default.
	Container string `json:"container"`
	// Archived is "month" or "year" where it is the first restore point of one and
	// goes to the archive container; else "".
	Archived backup.Span `json:"archived"`
	// Theirs says that the reason is for the project's owner to act on.
	Theirs bool   `json:"theirs"`
	Why    string `json:"why"`
}

// The verdicts of a [Fate].
const (
	Keep   = "keep"
	Remove = "remove"
)

// A Fate is one automated backup and what becomes of it.
type Fate struct {
	Project     string `json:"project"`
	ProjectName string `json:"project_name"`
	Volume      string `json:"volume"`
	// VolumeName is "" where the volume is not there any more.
	VolumeName string      `json:"volume_name"`
	Backup     string      `json:"backup"`
	Name       string      `json:"name"`
	Kind       backup.Kind `json:"kind"`
	// Status is Cinder's.
	Status    string    `json:"status"`
	Container string    `json:"container"`
	Size      int       `json:"size"`
	Created   time.Time `json:"created"`
	// Verdict is "keep" or "remove".
	Verdict string `json:"verdict"`
	Why     string `json:"why"`
	// Until is when time alone may change the verdict.
	Until time.Time `json:"until,omitzero"`
	// Newest says that the volume would have no complete restore point without it.
	Newest bool `json:"newest"`
	// Broken says that it never became a restore point.
	Broken bool `json:"broken"`
	// Chain is the id of the full backup of its chain, its own for a full one.
	Chain string `json:"chain"`
	// Children are the ids of all backups that may build on it.
	Children []string `json:"children"`
	// Step is the order of the removals in its project: those of step 1 go first, then
	// those they were built on. 0 for what stays or is blocked for good.
	Step int `json:"step"`
	// Blocked is what stands in the way of a removal: the brake, a child that is not
	// ours; "" for nothing.
	Blocked string `json:"blocked"`
}

// A Warning is something that somebody should know: a server whose owner meant to
// opt in and has not, values that were refused, a list that could not be read.
type Warning struct {
	// Project is "" where it is about the cloud; Server and Volume where it is not
	// about one.
	Project     string `json:"project"`
	ProjectName string `json:"project_name"`
	Server      string `json:"server"`
	ServerName  string `json:"server_name"`
	Volume      string `json:"volume"`
	Why         string `json:"why"`
}

// Acts is the plan without what is not acted on: volumes whose turn has not come
// or that are left out, backups that stay, and projects without anything else.
func (p Plan) Acts() Plan {
	backups, fates, projects := []Backup{}, []Fate{}, []Project{}
	about := map[string]bool{}
	for _, b := range p.Backups {
		if b.Do.acts() {
			backups = append(backups, b)
			about[b.Project] = true
		}
	}
	for _, f := range p.Retention {
		if f.Verdict == Remove {
			fates = append(fates, f)
			about[f.Project] = true
		}
	}
	for _, f := range p.Foreign {
		about[f.Project] = true
	}
	for _, w := range p.Warnings {
		about[w.Project] = true
	}
	for _, one := range p.Projects {
		if about[one.ID] || one.HeldNow != "" {
			projects = append(projects, one)
		}
	}
	p.Backups, p.Retention, p.Projects = backups, fates, projects
	return p
}

func (d Do) acts() bool {
	switch d {
	case Start, Queue, Adopt, Wait, Fail:
		return true
	}
	return false
}
