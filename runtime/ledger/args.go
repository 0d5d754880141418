package ledger

import (
	"strconv"
	"time"

	"staffeln/functions/backup"
)

// The arguments that scripts read as JSON. All values are text, because Lua's numbers are too
// small for a time.

type runArg struct {
	Project string `json:"project"`
	Slot    string `json:"slot"`
	Attempt string `json:"attempt"`
	Backup  string `json:"backup"`
	Nonce   string `json:"nonce"`
}

func argOfRun(r backup.Run, nonce string) runArg {
	return runArg{Project: r.Project, Slot: slotOf(r), Attempt: strconv.Itoa(r.Attempt), Backup: word(r.Backup), Nonce: nonce}
}

func slotOf(r backup.Run) string { return micros(r.Slot.Truncate(time.Second)) }

type recordArg struct {
	ID      string `json:"id"`
	Volume  string `json:"volume"`
	Project string `json:"project"`
	Parent  string `json:"parent"`
	Facts   string `json:"facts"`
	Policy  string `json:"policy"`
	Proof   string `json:"proof"` // its letter, or ""
	Fresh   bool   `json:"fresh,omitempty"`
}

func argOfRecord(r backup.Record) recordArg {
	return recordArg{ID: r.ID, Volume: r.Volume, Project: r.Project, Parent: word(r.Parent),
		Facts: recordFacts(r), Policy: r.Policy, Proof: proofLetter(r.Proof)}
}

// recordOfRun is the record of a backup as soon as Cinder has given it an id.
func recordOfRun(r backup.Run) recordArg {
	if r.Backup == "" {
		return recordArg{}
	}
	a := argOfRecord(backup.Record{ID: r.Backup, Volume: r.Volume, Project: r.Project, Slot: r.Slot,
		Kind: r.Kind, Status: "creating", Created: r.Started, Size: r.Size, Proof: backup.ByRun})
	a.Fresh = true
	return a
}

type watchArg struct {
	Name    string `json:"name"`
	JSON    string `json:"json"`
	At      string `json:"at"`
	Project string `json:"project"`
	Backup  string `json:"backup"`
}

func argOfWatch(r backup.Run, at time.Time) watchArg {
	return watchArg{Name: watchName(r), JSON: runRow(r), At: micros(at), Project: r.Project, Backup: word(r.Backup)}
}

type closingArg struct {
	runArg
	Volume   string     `json:"volume"`
	Name     string     `json:"name"`
	JSON     string     `json:"json"`
	State    string     `json:"state"`
	Due      string     `json:"due"`
	Ended    string     `json:"ended"`
	Now      string     `json:"now"` // the time of retention's next look
	Final    bool       `json:"final,omitempty"`
	Complete bool       `json:"complete,omitempty"`
	Remove   bool       `json:"remove,omitempty"`
	Keep     string     `json:"keep"`
	Stamp    string     `json:"stamp,omitempty"`
	Servers  []string   `json:"servers,omitempty"`
	Watch    *watchArg  `json:"watch,omitempty"`
	Record   *recordArg `json:"record,omitempty"`
}
