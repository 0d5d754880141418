package plan

import (
	"bufio"
	"fmt"
	"io"
	"slices"
	"time"

	"staffeln/functions/backup"
)

// An Explanation says of one backup whether its owner may delete it, and whether retention does,
// and why. It is also the JSON that `staffeln plan --backup ID --json` prints.
type Explanation struct {
	// At is the moment that is judged, Read when the lists were read.
	At   time.Time `json:"at"`
	Read time.Time `json:"read"`
	// Ledger says whether a ledger was asked: see [Plan].
	Ledger  string    `json:"ledger"`
	Backup  string    `json:"backup"`
	Name    string    `json:"name"`
	Project string    `json:"project"`
	Volume  string    `json:"volume"`
	Status  string    `json:"status"`
	Created time.Time `json:"created"`
	// OwnerMay says that Cinder's policy check lets the project's members delete and change it;
	// OwnerWhy is the check's reason.
	OwnerMay bool   `json:"owner_may"`
	OwnerWhy string `json:"owner_why"`
	// Foreign is set if the backup carries the metadata of an automated one and does not count as
	// one, Fate if it counts as one. A project's own backup has neither, and is kept.
	Foreign *Foreign `json:"foreign,omitempty"`
	Fate    *Fate    `json:"fate,omitempty"`
}

// Explain decides about one backup of the facts at a moment, as [Make] does. It returns false
// if the facts do not hold the backup. check are the rules of Cinder's policy check.
func Explain(s backup.Settings, f Facts, at time.Time, id string, check backup.CheckRules) (Explanation, bool) {
	i := slices.IndexFunc(f.Backups, func(b backup.CinderBackup) bool { return b.ID == id })
	if i < 0 {
		return Explanation{}, false
	}
	b, p := f.Backups[i], Make(s, f, at)
	e := Explanation{At: p.At, Read: p.Read, Ledger: p.Ledger, Backup: b.ID, Name: b.Name, Project: b.Project,
		Volume: b.Volume, Status: b.Status, Created: b.Created.UTC()}
	d := check.Decide(b.DeleteByOwner(), f.known(b))
	e.OwnerMay, e.OwnerWhy = d.Allow, d.Why
	if i := slices.IndexFunc(p.Foreign, func(f Foreign) bool { return f.Backup == id }); i >= 0 {
		e.Foreign = &p.Foreign[i]
	}
	if i := slices.IndexFunc(p.Retention, func(f Fate) bool { return f.Backup == id }); i >= 0 {
		e.Fate = &p.Retention[i]
	}
	return e, true
}

// known is what the policy check would learn of the backup from the ledger.
func (f Facts) known(b backup.CinderBackup) backup.CheckEvidence {
	switch {
	case f.Memory == nil:
		return backup.CheckEvidence{Ledger: backup.NoAnswer}
	case slices.ContainsFunc(f.Memory.Records[b.Project], func(r backup.Record) bool { return r.ID == b.ID }):
		return backup.CheckEvidence{Ledger: backup.Automated}
	}
	return backup.CheckEvidence{Ledger: backup.Manual}
}

// Text writes the explanation in sentences. Names are tenants' input: control characters are
// replaced.
func (e Explanation) Text(to io.Writer) error {
	out := bufio.NewWriter(to)
	t := table{out: out}
	say := func(format string, args ...any) { t.sentence(fmt.Sprintf(format, args...)) }
	say("Backup %s (%s) of volume %s in project %s, made at %s, is %s.", e.Backup, e.Name, e.Volume, e.Project,
		clock(e.Created), e.Status)
	if e.Ledger != "asked" {
		say("No ledger was read (%s): only it knows some automated backups whose metadata were changed, "+
			"and what holds removals back.", e.Ledger)
	}
	may := "may not"
	if e.OwnerMay {
		may = "may"
	}
	say("Its owner %s delete or change it: %s.", may, e.OwnerWhy)
	switch {
	case e.Foreign != nil:
		say("Retention never removes it: it carries the metadata of an automated backup, and %s.", e.Foreign.Why)
	case e.Fate == nil:
		say("Retention never removes it: it is the project's own.")
	default:
		e.Fate.say(say)
	}
	return out.Flush()
}

// say tells what becomes of an automated backup.
func (f Fate) say(say func(format string, args ...any)) {
	if f.Verdict == Keep {
		say("Retention keeps it: %s.", f.Why)
		if !f.Until.IsZero() {
			say("Time alone may change that at %s.", clock(f.Until))
		}
	} else {
		say("Retention removes it: %s.", f.Why)
		if f.Blocked != "" {
			say("It is still there: %s.", f.Blocked)
		}
	}
	if f.Chain != f.Backup && f.Chain != "" {
		say("Its chain begins with %s.", f.Chain)
	}
	if len(f.Children) == 0 {
		say("No other backup depends on it.")
	}
	for _, child := range f.Children {
		say("Backup %s depends on it.", child)
	}
}
