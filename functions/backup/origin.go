package backup

import (
	"slices"
	"strings"
)

// An Origin says who made a backup, as far as anybody knows. A member of a project can
// write any metadata on a backup of the project's, so metadata alone prove nothing.
type Origin string

// The origins. A backup without one has not been judged; it counts as unverified.
const (
	// OriginService: it carries our metadata, and the service made it.
	OriginService Origin = "service"
	// OriginTenant: it does not carry our metadata. Somebody in the project made it.
	OriginTenant Origin = "tenant"
	// OriginForged: it carries our metadata, and Cinder says that somebody else made it.
	OriginForged Origin = "forged"
	// OriginUnverified: it carries our metadata, and nobody can say who made it.
	OriginUnverified Origin = "unverified"
)

// Makers are the ids of the users who make the service's backups: the service user
// itself, and those of the setting POLICY_USERS.
type Makers []string

// Evidence is what the ledger knows about who made the backups of one project.
type Evidence struct {
	// Made are the ids of the backups that the ledger saw the service make, or that an
	// operator has adopted.
	Made map[string]bool
	// Asked are open runs by volume whose request Cinder has not clearly answered: no
	// backup is known for them yet.
	Asked map[string]Run
}

// Judge sets the origin of each backup of a list.
//
// What Cinder says of the maker decides. Where Cinder does not show it, the ledger does:
// a backup that it saw the service make is ours, and so is the one that carries the nonce
// of a request without an answer. Whoever sees that backup can copy its nonce, so a nonce
// that two backups carry proves nothing for either.
//
// A backup that Cinder says somebody else made, and that the ledger saw the service make,
// is unverified: most likely the service user has changed.
func (m Makers) Judge(all []CinderBackup, e Evidence) {
	answers := e.answers(all)
	for i, b := range all {
		all[i].Origin = m.origin(b, e.Made[b.ID], answers[b.ID])
	}
}

func (m Makers) origin(b CinderBackup, made, answer bool) Origin {
	switch {
	case !marked(b.Metadata[MetaAutomated]):
		return OriginTenant
	case b.Maker != "" && slices.Contains(m, b.Maker):
		return OriginService
	case b.Maker == "" && (made || answer):
		return OriginService
	case b.Maker == "" || made:
		return OriginUnverified
	}
	return OriginForged
}

// answers are the ids of the backups that answer an open request: the only one with the
// nonce of its run.
func (e Evidence) answers(all []CinderBackup) map[string]bool {
	found := map[string]string{} // by volume
	out := map[string]bool{}
	for _, b := range all {
		run, ok := e.Asked[b.Volume]
		if !ok || !b.answers(run) || found[b.Volume] == b.ID { // lists can show a backup twice
			continue
		}
		if other, twice := found[b.Volume]; twice {
			delete(out, other)
			continue
		}
		found[b.Volume], out[b.ID] = b.ID, true
	}
	return out
}

// answers says whether the backup carries the nonce of the run's request. Cinder made it
// after the request, by its own clock, which may be behind ours.
func (b CinderBackup) answers(r Run) bool {
	slot, attempt, ok := b.named()
	return ok && r.Nonce != "" && b.Metadata[MetaNonce] == r.Nonce && b.Project == r.Project &&
		slot.Equal(r.Slot) && attempt == r.Attempt && !b.Created.Before(r.Started.Add(-MostAhead))
}

// Ours says whether the service made the backup, and it carries our metadata.
func (b CinderBackup) Ours() bool { return b.Origin == OriginService }

// Foreign says whether a backup carries our metadata and does not count as ours. It is
// kept, counts for nothing, and is told.
func (b CinderBackup) Foreign() bool {
	return b.Origin != OriginService && b.Origin != OriginTenant
}

// NotOurs says why a backup that is not ours is kept.
func (b CinderBackup) NotOurs() string {
	switch b.Origin {
	case OriginForged:
		return "not ours, though it carries our metadata"
	case OriginUnverified:
		return "nobody knows who made it"
	}
	return "not ours"
}

// marked reads the value of [MetaAutomated].
func marked(value string) bool { return strings.EqualFold(value, "true") }

// A Foreign is what the ledger remembers of a backup that carries our metadata and does
// not count as ours.
type Foreign struct {
	Backup string `json:"b"`
	Volume string `json:"v"`
	Name   string `json:"n,omitempty"`
	// Maker is the id of the user who made it, "" where Cinder does not show it.
	Maker  string `json:"m,omitempty"`
	Origin Origin `json:"o"`
}

// ForeignOf is what to remember of such a backup.
func ForeignOf(b CinderBackup) Foreign {
	return Foreign{Backup: b.ID, Volume: b.Volume, Name: plain(b.Name, 64), Maker: b.Maker, Origin: b.Origin}
}

// Why says in words what the backup is and what follows from it.
func (f Foreign) Why() string {
	if f.Origin == OriginForged {
		return "it carries the metadata of an automated backup, but user " + f.Maker + " made it: it is the project's own and counts for nothing"
	}
	if f.Maker != "" {
		return "the ledger knows it as ours, but user " + f.Maker + " made it, who is not in POLICY_USERS: it is kept and counts for nothing"
	}
	return "it carries the metadata of an automated backup, but nobody can say who made it: it is kept and counts for nothing"
}

// Adoptable says whether an operator may make a backup count as ours, and why not. Only
// where Cinder does not show the maker can the operator know better than Cinder.
func (b CinderBackup) Adoptable() (ok bool, why string) {
	switch {
	case b.Origin == OriginService:
		return false, "it is ours already"
	case b.Origin == OriginTenant:
		return false, "it does not carry the metadata of an automated backup: it is the project's own"
	case b.Maker != "":
		return false, "Cinder says that user " + b.Maker + " made it: if that user is the service's, add it to STAFFELN_POLICY_USERS"
	}
	return true, ""
}

// Adopted is the record that makes a backup count as ours from the next look.
func Adopted(b CinderBackup) Record {
	b.Origin = OriginService // it is from now on, and so its run is read
	r := RecordOf(b)
	r.Proof = ByOperator
	return r
}
