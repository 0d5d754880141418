package backup

import (
	"cmp"
	"maps"
	"slices"
	"time"
)

// A Digest is the facts that the owner of a project is told about one period, and
// nothing of the words or of the sending. Every list is in the order to be shown
// in.
type Digest struct {
	// ID names the digest: "PROJECT@20261122T060000Z", after the end of its period.
	ID string `json:"id"`
	// Project is the project's id, Name its name.
	Project string `json:"project"`
	Name    string `json:"name"`
	// From and To bound the period; Zone is the IANA name of the zone to show all
	// times in.
	From time.Time `json:"from"`
	To   time.Time `json:"to"`
	Zone string    `json:"zone"`
	// Runs are what became of the slots that ended in it: failures first, then by
	// server, volume and slot. Complete and Failed count them; they add up.
	Runs     []DigestRun `json:"runs,omitempty"`
	Complete int         `json:"complete"`
	Failed   int         `json:"failed"`
	// Backups and Gigabytes are the two quotas as they are now; QuotaUnknown is why
	// they are not known, "" where they are.
	Backups      QuotaFact `json:"backups"`
	Gigabytes    QuotaFact `json:"gigabytes"`
	QuotaUnknown string    `json:"quota_unknown,omitempty"`
	// Removed are the backups that the policy no longer keeps, oldest first. Held is
	// why some that may go are still there; "" where none are held back.
	Removed []Removal `json:"removed,omitempty"`
	// Removals counts them, also those that are not in the list for want of room.
	Removals int    `json:"removals,omitempty"`
	Held     string `json:"held,omitempty"`
	// Overdue are volumes past their promise, Recovered those that failed last time and
	// are well now.
	Overdue   []DigestNote `json:"overdue,omitempty"`
	Recovered []DigestNote `json:"recovered,omitempty"`
	// Locked are changes of what is protected that a lock holds back.
	Locked []DigestNote `json:"locked,omitempty"`
	// Skipped are volumes left out by their owner's wish, Empty opted-in servers
	// without volumes, Invalid values that were refused, Outside servers that have not
	// opted in.
	Skipped []DigestNote `json:"skipped,omitempty"`
	Empty   []DigestNote `json:"empty,omitempty"`
	Invalid []DigestNote `json:"invalid,omitempty"`
	Outside []DigestNote `json:"outside,omitempty"`
	// Protected counts the volumes that are backed up now.
	Protected int `json:"protected"`
	// Foreign are backups that carry our metadata and are not ours, the new ones first.
	Foreign []DigestForeign `json:"foreign,omitempty"`
}

// A DigestRun is one finished run as the owner is told of it.
type DigestRun struct {
	// Server and Volume are names, or ids where there is no name; VolumeID is the id.
	Server   string `json:"server"`
	Volume   string `json:"volume"`
	VolumeID string `json:"volume_id"`
	Class    string `json:"class,omitempty"`
	Kind     Kind   `json:"kind,omitempty"`
	Size     int    `json:"size"` // GiB
	// Slot is the planned moment, Started and Ended those of the run.
	Slot    time.Time `json:"slot"`
	Started time.Time `json:"started"`
	Ended   time.Time `json:"ended"`
	OK      bool      `json:"ok"`
	// Why is the reason of a failure, and of what was unusual about a success.
	Why string `json:"why,omitempty"`
	// Theirs says that the owner must act on the failure; else the operator has been
	// told of it.
	Theirs bool `json:"theirs,omitempty"`
	// FailingSince is the slot since which every run of the volume has failed, where
	// this is not the first; zero otherwise.
	FailingSince time.Time `json:"failing_since,omitzero"`
}

// A DigestNote is something about a server or a volume that is no run.
type DigestNote struct {
	// Server and Volume are names, or ids where there is no name; "" where it is not
	// about one.
	Server string `json:"server,omitempty"`
	Volume string `json:"volume,omitempty"`
	Why    string `json:"why,omitempty"`
}

// A Level says how full a quota is.
type Level string

// The levels: up to 50 %, up to 80 %, and above. No limit is low.
const (
	Low    Level = "low"
	Middle Level = "middle"
	High   Level = "high"
)

// A QuotaFact is one quota in figures: backups, or GiB.
type QuotaFact struct {
	// Limit is -1 for none. Used counts what is reserved, too.
	Limit int `json:"limit"`
	Used  int `json:"used"`
	// Percent is rounded up, so that it never says less than Level; 100 for any use of
	// a limit of 0, and 0 without a limit.
	Percent int   `json:"percent"`
	Level   Level `json:"level"`
	// Needs is what there will be when the policies of now have run their course.
	Needs int `json:"needs"`
	// Full is the day on which the limit will be reached; zero where it will not be, or
	// not within a year.
	Full time.Time `json:"full,omitzero"`
}

// Unlimited says that there is no limit.
func (q QuotaFact) Unlimited() bool { return q.Limit < 0 }

// QuotaFactOf is what is used of a quota, and how near that is to its limit.
func QuotaFactOf(u Usage) QuotaFact {
	q := QuotaFact{Limit: max(u.Limit, -1), Used: u.Used + u.Reserved, Level: Low}
	switch {
	case q.Limit < 0:
	case q.Limit == 0:
		q.Percent, q.Level = 100, High
	default:
		q.Percent = (q.Used*100 + q.Limit - 1) / q.Limit
		if q.Percent > 80 {
			q.Level = High
		} else if q.Percent > 50 {
			q.Level = Middle
		}
	}
	return q
}

// DigestInput is what a digest is made of.
type DigestInput struct {
	Project  Project
	From, To time.Time
	// Zone is the time zone of the project's digests; UTC if nil.
	Zone *time.Location
	// Runs are the finished runs to tell of, Removed the removals.
	Runs    []Run
	Removed []Removal
	// Held is why retention holds removals back; "" for not so.
	Held string
	// Servers are all of the project's, as Nova shows them; nil where it could not be
	// asked, when Enrolments stand in for them.
	Servers    []Server
	Enrolments []Enrolment
	// Volumes are the protected ones, with their enrolments; Records the backups of
	// ours there are.
	Volumes []Protected
	Records []Record
	// QuotaUnknown is why the quota is not known; "" if it is, and then the forecast is added to
	// the digest.
	QuotaUnknown string
	// Failing is what the digest before found: since when each volume has failed, by id.
	Failing map[string]time.Time
	// Foreign are the project's backups that only look like ours, ForeignTold the ids of
	// those that the digest before told of.
	Foreign     []Foreign
	ForeignTold []string
	Classes     Classes
	Keys        Keys
	// Deadline is how long a backup may run.
	Deadline TimeLimit
}

// Summarise makes the facts of a digest, without the forecast of the quotas, and what the next one needs to know of
// this: since when each volume has been failing.
func Summarise(in DigestInput) (Digest, map[string]time.Time) {
	if in.Zone == nil {
		in.Zone = time.UTC
	}
	d := Digest{
		ID:      in.Project.ID + "@" + in.To.UTC().Format(Stamp),
		Project: in.Project.ID, Name: or(in.Project.Name, in.Project.ID),
		From: in.From, To: in.To, Zone: in.Zone.String(),
		Held: in.Held, QuotaUnknown: in.QuotaUnknown,
	}
	failing := d.tellRuns(in)
	d.tellVolumes(in)
	d.tellServers(in)
	d.tellForeign(in)
	d.Removed = slices.SortedFunc(slices.Values(in.Removed), func(a, b Removal) int {
		return cmp.Or(a.Created.Compare(b.Created), cmp.Compare(a.Backup, b.Backup))
	})
	d.Removals = len(d.Removed)
	return d, failing
}

// tellRuns tells of the runs, and since when volumes have been failing.
func (d *Digest) tellRuns(in DigestInput) map[string]time.Time {
	// A run that was given up on and ended well after all is there twice: the later
	// word counts.
	latest := map[string]Run{}
	for _, r := range in.Runs {
		if old, ok := latest[r.ID()]; !ok || !r.Ended.Before(old.Ended) {
			latest[r.ID()] = r
		}
	}
	runs := slices.SortedFunc(maps.Values(latest), func(a, b Run) int {
		return cmp.Or(a.Slot.Compare(b.Slot), cmp.Compare(a.Volume, b.Volume))
	})
	failing := maps.Clone(in.Failing)
	if failing == nil {
		failing = map[string]time.Time{}
	}
	recovered := map[string]DigestNote{}
	for _, r := range runs {
		t := DigestRun{
			Server: or(r.ServerName, first(r.Servers)), Volume: or(r.VolumeName, r.Volume), VolumeID: r.Volume,
			Class: r.Class, Kind: r.Kind, Size: r.Size, Slot: r.Slot, Started: r.Started, Ended: r.Ended,
			OK: r.State == Complete, Why: r.Why, Theirs: r.Theirs,
		}
		since, was := failing[r.Volume]
		if t.OK {
			d.Complete++
			t.Theirs = false
			if before, ok := in.Failing[r.Volume]; ok && was {
				recovered[r.Volume] = DigestNote{Server: t.Server, Volume: t.Volume, Why: "had been failing since " + before.In(in.Zone).Format("2006-01-02 15:04")}
			}
			delete(failing, r.Volume)
		} else {
			d.Failed++
			delete(recovered, r.Volume)
			t.FailingSince = since
			if !was {
				failing[r.Volume] = r.Slot
			}
		}
		d.Runs = append(d.Runs, t)
	}
	slices.SortStableFunc(d.Runs, func(a, b DigestRun) int {
		return cmp.Or(boolean(a.OK)-boolean(b.OK), cmp.Compare(a.Server, b.Server), cmp.Compare(a.Volume, b.Volume), cmp.Compare(a.VolumeID, b.VolumeID))
	})
	for _, id := range slices.Sorted(maps.Keys(recovered)) {
		d.Recovered = append(d.Recovered, recovered[id])
	}
	sortNotes(d.Recovered)
	protected := map[string]bool{}
	for _, v := range in.Volumes {
		protected[v.Volume] = true
	}
	maps.DeleteFunc(failing, func(v string, _ time.Time) bool { return !protected[v] }) // of those nothing more will come
	return failing
}

func (d *Digest) tellVolumes(in DigestInput) {
	for _, v := range in.Volumes {
		note := DigestNote{Volume: or(v.Name, v.Volume)}
		if len(v.Enrolments) > 0 {
			note.Server = or(v.Enrolments[0].Name, v.Enrolments[0].Server)
		}
		if v.Skip != "" {
			note.Why = v.Skip
			d.Skipped = append(d.Skipped, note)
			continue
		}
		d.Protected++
		if p := in.Classes.Strictest(v.Enrolments, in.To); !v.Attempt.None() && !p.Lock.IsZero() {
			d.Locked = append(d.Locked, DigestNote{Server: note.Server, Volume: note.Volume, Why: p.NotYet(v.Attempt, in.Zone)})
		}
		late := false
		if late, note.Why = Overdue(in.Classes.Strictest(v.Enrolments, in.To), v, in.Deadline.Of(v.Size), in.To); late {
			d.Overdue = append(d.Overdue, note)
		}
	}
	sortNotes(d.Skipped)
	sortNotes(d.Overdue)
}

func (d *Digest) tellServers(in DigestInput) {
	held := map[string]Enrolment{}
	for _, e := range in.Enrolments {
		if p := in.Classes.Of(e); !e.Attempt.None() && !p.Lock.IsZero() {
			held[e.Server] = e
			d.Locked = append(d.Locked, DigestNote{Server: or(e.Name, e.Server), Why: p.NotYet(e.Attempt, in.Zone)})
		}
		if in.Servers == nil {
			d.tellServer(or(e.Name, e.Server), true, len(e.Volumes), e.Problems, "")
		}
	}
	sortNotes(d.Locked)
	for _, s := range in.Servers {
		wish := ReadWish(s.Metadata, s.Tags, in.Keys, in.Classes)
		if e, ok := held[s.ID]; ok {
			// What it shows is not in force, and so neither are the words about it.
			wish.In, wish.Problems = true, e.Problems
		}
		d.tellServer(or(s.Name, s.ID), wish.In, len(s.Volumes), wish.Problems, wish.Why)
	}
	sortNotes(d.Empty)
	sortNotes(d.Invalid)
	sortNotes(d.Outside)
}

func (d *Digest) tellServer(name string, in bool, volumes int, problems []string, why string) {
	for _, p := range problems {
		d.Invalid = append(d.Invalid, DigestNote{Server: name, Why: p})
	}
	switch {
	case in && volumes == 0:
		d.Empty = append(d.Empty, DigestNote{Server: name, Why: "no volumes attached"})
	case !in && len(problems) == 0:
		d.Outside = append(d.Outside, DigestNote{Server: name, Why: why})
	}
}

func sortNotes(notes []DigestNote) {
	slices.SortStableFunc(notes, func(a, b DigestNote) int {
		return cmp.Or(cmp.Compare(a.Server, b.Server), cmp.Compare(a.Volume, b.Volume), cmp.Compare(a.Why, b.Why))
	})
}

// Quiet says that there is nothing to tell: nothing protected, nothing that ran,
// went, failed or was refused, and no new backup that only looks like ours.
func (d Digest) Quiet() bool {
	if slices.ContainsFunc(d.Foreign, func(f DigestForeign) bool { return f.New }) {
		return false
	}
	return len(d.Runs) == 0 && len(d.Removed) == 0 && d.Protected == 0 && len(d.Skipped) == 0 && len(d.Empty) == 0 && len(d.Invalid) == 0 && len(d.Locked) == 0 && d.Held == ""
}

func first(s []string) string {
	if len(s) == 0 {
		return ""
	}
	return s[0]
}

func boolean(b bool) int {
	if b {
		return 1
	}
	return 0
}
