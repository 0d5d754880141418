package reconcile

import (
	"maps"
	"slices"
	"time"

	"staffeln/functions/backup"
)

// Known is what the ledger says of one project, read before OpenStack was.
type Known struct {
	Project    string
	Enrolments map[string]backup.Enrolment // by server
	Volumes    map[string]backup.Protected // by volume
	Runs       map[string]backup.Run       // open runs, by volume
	Foreign    []backup.Foreign
	// Rebuild says that the ledger was found empty and a class is locked: how volumes were
	// protected is then read from their backups.
	Rebuild bool
	// Records, by backup, and Retention are read where [Seen.Swept]. Retention is nil where
	// it could not be read.
	Records   map[string]backup.Record
	Retention *backup.Retention
}

// Seen is what OpenStack shows of one project.
type Seen struct {
	Servers []backup.Server
	// Volumes, by id, may hold those of other projects.
	Volumes map[string]backup.Volume
	// Backups is the complete list where Swept; else it was not read.
	Backups []backup.CinderBackup
	Swept   bool
	// Excluded says that the operator does not want the project looked at. It is asked
	// where a server is there that the list did not show.
	Excluded bool
	// Asked are the answers to direct [Questions], by id.
	Asked map[string]Answer
}

// An Answer to a direct question. The zero Answer says nothing: nobody could tell.
type Answer struct {
	Found bool
	// Gone is how many passes in a row have found it gone.
	Gone int
}

// gone says whether something counts as gone: one look may be wrong, so it takes two.
func (a Answer) gone() bool { return a.Gone >= 2 }

// What a [Question] can be about.
const (
	AboutServer = "server"
	AboutVolume = "volume"
	AboutBackup = "backup"
)

// A Question is what OpenStack is to be asked directly before anything is decided by its
// absence from a list: lists can come back short.
type Question struct{ About, ID string }

// A Repair is one change that makes the ledger say what OpenStack shows: one of the types
// below.
type Repair any

type (
	// Enroll stores an opted-in server and what it protects.
	Enroll struct {
		Enrolment backup.Enrolment
		Volumes   []backup.Protected
		// Missed says that the server was not enrolled. Changed says that its owner would
		// notice: not only facts such as names have changed.
		Missed, Changed bool
		// Attempt says that a lock holds back what the server wishes, and that this was seen
		// for the first time. Tried are the volumes of which the same is true.
		Attempt bool
		Tried   []backup.Protected
		Why     string
	}
	// Withdraw ends the protection of a server's volumes.
	Withdraw struct {
		Enrolment backup.Enrolment
		Why       string
	}
	// Adopt opens a run for a backup that is under way.
	Adopt struct{ Run backup.Run }
	// Discard has a broken backup removed.
	Discard struct{ Backup, Why string }
	// Remember stores records of backups.
	Remember struct {
		Records []backup.Record
		Why     string
	}
	// Raise tells a volume of newer slots and restore points than the ledger knew.
	Raise struct {
		Volume string
		State  backup.State
	}
	// Forget drops the records of backups that are gone. Lost are the restore points among
	// them that the service did not remove.
	Forget struct{ Gone, Lost []backup.Record }
	// Disown remembers which backups carry our metadata and do not count as ours. New are
	// those that were not known as such.
	Disown struct{ All, New []backup.Foreign }
	// Stamp notes the time of its newest backup for a server that does not show it.
	Stamp struct {
		Server string
		At     time.Time
	}
	// Due makes a volume due no later than then.
	Due struct {
		Project, Volume string
		At              time.Time
	}
)

// A Warning is trouble that no repair of the ledger ends, as the log is told.
type Warning struct {
	What string
	Args []any
}

// trails are how volumes were protected when they were last backed up; nil where the ledger
// knows better.
func trails(k Known, s Seen) map[string]backup.Trail {
	if !k.Rebuild {
		return nil
	}
	return backup.Trails(s.Backups)
}

// verdict is what a server that is there wishes, and what is decided about it.
type verdict struct {
	backup.Decision
	server   backup.Server
	before   backup.Enrolment
	enrolled bool
}

// verdicts decides about every server that was seen, in the order of their ids.
func verdicts(k Known, s Seen, set backup.Settings, now time.Time) []verdict {
	trails := trails(k, s)
	servers := map[string]backup.Server{} // lists can show one twice
	for _, server := range s.Servers {
		servers[server.ID] = server
	}
	out := make([]verdict, 0, len(servers))
	for _, id := range slices.Sorted(maps.Keys(servers)) {
		server := servers[id]
		v := verdict{server: server}
		v.before, v.enrolled = k.Enrolments[server.ID]
		if s.Excluded && s.Asked[server.ID].Found {
			v.Withdraw, v.Wish.Why = v.enrolled, "its project is excluded"
		} else {
			wish := backup.ReadWish(server.Metadata, server.Tags, set.Keys, set.Classes)
			r := backup.Remembered{Enrolment: v.before, Enrolled: v.enrolled, Volumes: k.Volumes, Trails: trails}
			v.Decision = set.Classes.Decide(server, wish, r, set.Keys, now)
		}
		out = append(out, v)
	}
	return out
}

// unseen are the volumes of a server that no list shows. Nova's list can be newer than
// Cinder's.
func (v verdict) unseen(s Seen) (out []string) {
	for _, id := range v.server.Volumes {
		if _, ok := s.Volumes[id]; v.Wish.In && !ok {
			out = append(out, id)
		}
	}
	return out
}

// absent are the enrolled servers that are not among those seen.
func absent(k Known, s Seen) (out []string) {
	seen := map[string]bool{}
	for _, server := range s.Servers {
		seen[server.ID] = true
	}
	for _, id := range slices.Sorted(maps.Keys(k.Enrolments)) {
		if !seen[id] {
			out = append(out, id)
		}
	}
	return out
}

// unlisted are the records of backups that the complete list does not show, in order.
func unlisted(k Known, s Seen) (out []backup.Record) {
	if !s.Swept || k.Retention == nil {
		return nil
	}
	listed := map[string]bool{}
	for _, b := range s.Backups {
		listed[b.ID] = true
	}
	for _, id := range slices.Sorted(maps.Keys(k.Records)) {
		if !listed[id] {
			out = append(out, k.Records[id])
		}
	}
	return out
}

// Questions are those that are still open: what the ledger or Nova speaks of and no list
// shows. What an answer brings up may be asked about in turn.
func Questions(k Known, s Seen, set backup.Settings, now time.Time) (open []Question) {
	asked := map[string]bool{}
	ask := func(about, id string) {
		if _, ok := s.Asked[id]; !ok && !asked[id] {
			asked[id] = true
			open = append(open, Question{about, id})
		}
	}
	for _, id := range absent(k, s) {
		ask(AboutServer, id)
	}
	for _, v := range verdicts(k, s, set, now) {
		for _, id := range v.unseen(s) {
			ask(AboutVolume, id)
		}
	}
	for _, r := range unlisted(k, s) {
		ask(AboutBackup, r.ID)
	}
	return open
}

// Repairs decides what is to be changed in the ledger of one project so that it says what
// OpenStack shows, in the order in which to do it. Whatever could not be seen for sure is
// left as it is. Once all repairs are done there are none, in whatever order OpenStack
// lists things.
func Repairs(k Known, s Seen, set backup.Settings, now time.Time) (repairs []Repair, warnings []Warning) {
	all := verdicts(k, s, set, now)
	for _, v := range all {
		if s.Asked[v.server.ID].Found && !s.Excluded {
			warnings = append(warnings, Warning{"the list of servers was short",
				[]any{"project", k.Project, "server", v.server.ID, "server_name", v.server.Name}})
		}
	}
	withdrawals, volumes := withdraw(k, s, all)
	enrolments, enrolled, missing := enroll(k, s, all, volumes, set, now)
	repairs = append(withdrawals, enrolments...)
	warnings = append(warnings, missing...)
	newest := map[string]time.Time{}
	if s.Swept {
		repairs = append(repairs, runs(k, s, enrolled, volumes, newest, set, now)...)
		repairs = append(repairs, records(k, s)...)
		repairs = append(repairs, disown(k, s)...)
	}
	return append(repairs, stamps(k, all, enrolled, newest, set)...), warnings
}

// withdraw ends the protection of servers that opted out or are gone. remaining are the
// volumes as the ledger will know them then.
func withdraw(k Known, s Seen, all []verdict) (repairs []Repair, remaining map[string]backup.Protected) {
	remaining = maps.Clone(k.Volumes)
	end := func(e backup.Enrolment, why string) {
		repairs = append(repairs, Withdraw{e, why})
		leave(remaining, e)
	}
	for _, v := range all {
		if v.Withdraw {
			end(v.before, v.Wish.Why)
		}
	}
	for _, id := range absent(k, s) {
		if s.Asked[id].gone() {
			end(k.Enrolments[id], "deleted")
		}
	}
	return repairs, remaining
}

// leave takes a server away from its volumes.
func leave(volumes map[string]backup.Protected, e backup.Enrolment) {
	for _, id := range e.Volumes {
		if v, ok := volumes[id]; ok {
			v.Enrolments = slices.Clone(v.Enrolments)
			v.Enrolments = slices.DeleteFunc(v.Enrolments, func(o backup.Enrolment) bool { return o.Server == e.Server })
			volumes[id] = v
		}
	}
}

// enroll stores what the opted-in servers wish. enrolled are all of them, whether there is
// anything new or not; volumes are those that remain after the withdrawals, and get the new
// enrolments. A server is left as it is where nobody could tell whether one of its volumes is
// there.
func enroll(k Known, s Seen, all []verdict, volumes map[string]backup.Protected, set backup.Settings, now time.Time) (
	repairs []Repair, enrolled map[string]backup.Enrolment, warnings []Warning) {
	trails := trails(k, s)
	in := slices.DeleteFunc(slices.Clone(all), func(v verdict) bool {
		return !v.Wish.In || slices.ContainsFunc(v.unseen(s), func(id string) bool { return s.Asked[id].Gone == 0 })
	})
	enrol := func(v verdict) (backup.Enrolment, []backup.Protected, []string, []backup.Protected) {
		r := backup.Remembered{Enrolment: v.before, Enrolled: v.enrolled, Volumes: volumes, Trails: trails}
		return set.Classes.Enrol(v.Decision, v.server, s.Volumes, r, set.Keys, now)
	}
	// What may be done with a volume depends on all its servers. So all servers come to
	// their volumes first, and are looked at after that.
	enrolled = map[string]backup.Enrolment{}
	for _, v := range in {
		e, _, _, _ := enrol(v)
		enrolled[e.Server] = e
		leave(volumes, v.before)
		for _, id := range e.Volumes {
			if p, ok := volumes[id]; ok {
				p.Enrolments = append(slices.Clip(p.Enrolments), e)
				volumes[id] = p
			}
		}
	}
	facts := map[string]backup.Protected{} // by volume
	tried := map[string]bool{}
	var new []Enroll
	for _, v := range in {
		e, protected, missing, attempts := enrol(v)
		for _, id := range missing {
			warnings = append(warnings, Warning{"volume not protected", []any{"project", k.Project, "server", e.Server,
				"server_name", e.Name, "volume", id, "why", "not found in the server's project"}})
		}
		for _, p := range protected {
			// If one server's class is locked, the volume stays in, whatever another's is.
			if had, ok := facts[p.Volume]; !ok || had.Skip != "" {
				facts[p.Volume] = p
			}
		}
		r := Enroll{Enrolment: e, Volumes: protected, Missed: !v.enrolled, Changed: !v.enrolled || changed(v.before, e),
			Attempt: v.First, Why: v.Wish.Why}
		for _, a := range attempts {
			if !tried[a.Volume] {
				tried[a.Volume] = true
				r.Tried = append(r.Tried, a)
			}
		}
		new = append(new, r)
	}
	for _, r := range new {
		same := !r.Missed && r.Enrolment.SameAs(k.Enrolments[r.Enrolment.Server])
		for i, p := range r.Volumes {
			r.Volumes[i] = facts[p.Volume]
			same = same && facts[p.Volume].SameFacts(k.Volumes[p.Volume])
		}
		if !same {
			repairs = append(repairs, r)
		}
	}
	return repairs, enrolled, warnings
}

// changed says whether the owner would notice that an enrolment is another.
func changed(a, b backup.Enrolment) bool {
	return a.Class != b.Class || a.Schedule != b.Schedule || a.Retention != b.Retention ||
		!slices.Equal(a.Problems, b.Problems)
}

// stamps notes the time of its newest backup for each server that does not show it: it was
// lost with Redis before it was written, or somebody took it away.
func stamps(k Known, all []verdict, enrolled map[string]backup.Enrolment, points map[string]time.Time,
	set backup.Settings) (repairs []Repair) {
	for _, v := range all {
		var newest time.Time
		for _, id := range enrolled[v.server.ID].Volumes {
			for _, at := range []time.Time{k.Volumes[id].State.LastComplete, points[id]} {
				if at.After(newest) {
					newest = at
				}
			}
		}
		shown, err := time.Parse(time.RFC3339, v.server.Metadata[backup.StampKey])
		if !newest.IsZero() && (err != nil || shown.Before(newest.Truncate(time.Second))) {
			repairs = append(repairs, Stamp{v.server.ID, newest})
		}
	}
	return repairs
}

// Dues says when volumes are due by the policies of now, and warns of those that have no
// restore point as young as promised.
func Dues(volumes []backup.Protected, runs []backup.Run, set backup.Settings, now time.Time) (
	due []Due, overdue []Warning) {
	busy := map[string]bool{}
	for _, r := range runs {
		busy[r.Volume] = true
	}
	for _, v := range volumes {
		p := set.Classes.Strictest(v.Enrolments, now)
		if late, why := backup.Overdue(p, v, set.Deadline.Of(v.Size), now); late {
			overdue = append(overdue, Warning{"volume overdue",
				[]any{"project", v.Project, "volume", v.Volume, "volume_name", v.Name, "why", why}})
		}
		turn := backup.WhoseTurn(p, v.Volume, v.State, now)
		at := turn.Next
		if turn.Now {
			at = now
		}
		waiting := v.State.Waiting.Equal(turn.Slot) || v.State.Retry.Equal(turn.Slot)
		if !busy[v.Volume] && !waiting && v.Skip == "" && (v.State.Due.IsZero() || v.State.Due.After(at)) {
			due = append(due, Due{v.Project, v.Volume, at})
		}
	}
	return due, overdue
}
