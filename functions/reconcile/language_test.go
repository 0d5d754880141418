package reconcile

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"staffeln/functions/backup"
)

// The settings of all stories. Class gold is locked for a week.
var set = func() backup.Settings {
	daily, err := backup.ParseSchedule("daily@02:30")
	age, err2 := backup.ParseAge("2w")
	lock, err3 := backup.ParseAge("7d")
	if err != nil || err2 != nil || err3 != nil {
		panic(fmt.Sprint(err, err2, err3))
	}
	return backup.Settings{
		Classes: backup.Classes{
			backup.Default: {Class: backup.Default, Schedule: daily, Retention: age},
			"gold":         {Class: "gold", Schedule: daily, Retention: age, Lock: lock},
		},
		Keys: backup.Keys{OptIn: "backup", Skip: "skip-volume-backup", Schedule: "backup-schedule",
			Retention: "backup-retention"},
		Deadline: backup.TimeLimit{Base: time.Hour},
	}
}()

// noon is when all stories are told.
var noon = day("22T12:00")

// day reads "22T12:00", of November 2026.
func day(s string) time.Time {
	t, err := time.Parse("2006-01-02T15:04", "2026-11-"+s)
	if err != nil {
		panic(err)
	}
	return t
}

// story reads what is known and what is seen. Both are entries with a semicolon between:
//
//	server web v1,v2 backup=yes    a server, its volumes, its metadata
//	volume v1 name=x               what else is known or seen of a volume: name, project,
//	                               skip, slot and point
//	backup b1 v1 22T02:30 STATUS   a backup of ours for that slot, made a minute later;
//	                               foreign: not ours; server=web class=gold: its metadata
//	asked web found|gone N|unsure  an answer
//	excluded                       the project is
//	run v1 22T02:30 b1             an open run, its backup if it has one
//	record b1 v1 22T02:30 STATUS   what is remembered of a backup
//	removing b1                    retention is
//	foreign f1                     is known to be
//	emptied                        the ledger was found empty
//	unswept                        the list of backups was not read
//	forgotten                      retention does not look at the project
//	unread                         nobody could read what retention does
func story(known, seen string) (k Known, s Seen) {
	k = Known{Project: "p", Enrolments: map[string]backup.Enrolment{}, Volumes: map[string]backup.Protected{},
		Runs: map[string]backup.Run{}, Records: map[string]backup.Record{},
		Retention: &backup.Retention{Due: noon, Removals: map[string]backup.Removal{}}}
	s = Seen{Volumes: map[string]backup.Volume{}, Asked: map[string]Answer{}, Swept: true}
	entries(seen, func(what string, w []string, more map[string]string) {
		switch what {
		case "server":
			server := backup.Server{ID: w[0], Name: w[0], Project: "p", Volumes: split(w[1]), Metadata: more}
			s.Servers = append(s.Servers, server)
			for _, v := range server.Volumes {
				s.Volumes[v] = volume(v)
			}
		case "volume":
			v := s.Volumes[w[0]]
			v.Name, v.Project = or(more["name"], v.Name), or(more["project"], v.Project)
			if more["skip"] != "" {
				v.Metadata = map[string]string{set.Keys.Skip: more["skip"]}
			}
			if s.Volumes[w[0]] = v; more["unlisted"] != "" {
				delete(s.Volumes, w[0])
			}
		case "backup":
			s.Backups = append(s.Backups, made(w, more))
		case "asked":
			a := Answer{Found: w[1] == "found"}
			if w[1] == "gone" {
				a.Gone, _ = strconv.Atoi(w[2])
			}
			s.Asked[w[0]] = a
		case "excluded":
			s.Excluded = true
		case "unswept":
			s.Swept = false
		}
	})
	entries(known, func(what string, w []string, more map[string]string) {
		switch what {
		case "server":
			server := backup.Server{ID: w[0], Name: w[0], Project: "p", Volumes: split(w[1]), Metadata: more}
			all := map[string]backup.Volume{}
			for _, v := range server.Volumes {
				all[v] = volume(v)
			}
			e, protected, _ := backup.Enrol(server, backup.ReadWish(more, nil, set.Keys, set.Classes), all, set.Keys)
			store(&k, e, protected)
		case "volume":
			v := k.Volumes[w[0]]
			if v.Name = or(more["name"], v.Name); more["slot"] != "" {
				v.State.LastSlot = day(more["slot"])
			}
			if more["point"] != "" {
				v.State.LastComplete = day(more["point"])
			}
			k.Volumes[w[0]] = v
		case "run":
			k.Runs[w[0]] = backup.Run{Volume: w[0], Slot: day(w[1]), Backup: strings.Join(w[2:], "")}
		case "record":
			k.Records[w[0]] = backup.RecordOf(made(w, more))
		case "removing":
			k.Retention.Removals[w[0]] = backup.Removal{Backup: w[0], Asked: noon}
		case "foreign":
			k.Foreign = append(k.Foreign, backup.ForeignOf(made([]string{w[0], "v1", "22T02:30", "available", "foreign"}, nil)))
		case "emptied":
			k.Rebuild = true
		case "forgotten":
			k.Retention.Due = time.Time{}
		case "unread":
			k.Retention = nil
		}
	})
	return k, s
}

func entries(s string, each func(what string, words []string, more map[string]string)) {
	for entry := range strings.SplitSeq(s, ";") {
		var words []string
		more := map[string]string{}
		for _, w := range strings.Fields(entry) {
			if key, value, ok := strings.Cut(w, "="); ok {
				more[key] = value
			} else {
				words = append(words, w)
			}
		}
		if len(words) > 0 {
			each(words[0], words[1:], more)
		}
	}
}

func split(s string) []string { return strings.FieldsFunc(s, func(r rune) bool { return r == ',' }) }

func or(a, b string) string {
	if a != "" {
		return a
	}
	return b
}

func volume(id string) backup.Volume {
	return backup.Volume{ID: id, Name: id, Project: "p", Size: 10, Created: day("01T00:00")}
}

// made is a backup: its id, volume, slot and status, and maybe foreign.
func made(w []string, more map[string]string) backup.CinderBackup {
	slot := day(w[2])
	b := backup.CinderBackup{ID: w[0], Name: w[0], Volume: w[1], Project: "p", Status: w[3], Size: 10, Maker: "us",
		Created: slot.Add(time.Minute), Origin: backup.OriginService, Metadata: map[string]string{
			backup.MetaAutomated: "True", backup.MetaRun: backup.RunID(w[1], slot),
			backup.MetaServer: more["server"], backup.MetaClass: more["class"]}}
	if slices.Contains(w, "foreign") {
		b.Origin, b.Maker = backup.OriginForged, "mallory"
	}
	if slices.Contains(w, "manual") {
		b.Origin, b.Metadata = backup.OriginTenant, nil
	}
	return b
}

// tell says in words what a repair does.
func tell(r Repair) string {
	moment := func(t time.Time) string {
		if t.IsZero() {
			return "none"
		}
		return t.Format("02T15:04")
	}
	ids := func(all []backup.Record) (out []string) {
		for _, r := range all {
			out = append(out, r.ID)
		}
		return out
	}
	switch r := r.(type) {
	case Enroll:
		said := fmt.Sprintf("enroll %s %s", r.Enrolment.Server, strings.Join(r.Enrolment.Volumes, ","))
		for _, v := range r.Volumes {
			if v.Skip != "" {
				said += fmt.Sprintf(", %s skipped", v.Volume)
			}
		}
		if !r.Changed {
			said += ", names only"
		}
		if r.Attempt {
			said += ", attempt"
		}
		for _, v := range r.Tried {
			said += ", attempt on " + v.Volume
		}
		return said + ": " + r.Why
	case Withdraw:
		return fmt.Sprintf("withdraw %s: %s", r.Enrolment.Server, r.Why)
	case Adopt:
		return fmt.Sprintf("adopt %s as %s: %s", r.Run.Backup, r.Run.ID(), r.Run.Why)
	case Discard:
		return fmt.Sprintf("discard %s: %s", r.Backup, r.Why)
	case Remember:
		return fmt.Sprintf("remember %s: %s", strings.Join(ids(r.Records), ","), r.Why)
	case Raise:
		return fmt.Sprintf("raise %s to slot %s, point %s", r.Volume, moment(r.State.LastSlot), moment(r.State.LastComplete))
	case Forget:
		return fmt.Sprintf("forget %s, lost %d", strings.Join(ids(r.Gone), ","), len(r.Lost))
	case Disown:
		return fmt.Sprintf("disown %d, new %d", len(r.All), len(r.New))
	case Stamp:
		return fmt.Sprintf("stamp %s %s", r.Server, moment(r.At))
	}
	return fmt.Sprintf("%T", r)
}

// store enrolls a server in what is known, as the ledger does.
func store(k *Known, e backup.Enrolment, volumes []backup.Protected) {
	unstore(k, e.Server)
	k.Enrolments[e.Server] = e
	for _, p := range volumes {
		before := k.Volumes[p.Volume]
		p.State, p.Enrolments = before.State, append(slices.Clone(before.Enrolments), e)
		k.Volumes[p.Volume] = p
	}
	for id, v := range k.Volumes {
		if len(v.Enrolments) == 0 {
			delete(k.Volumes, id)
		}
	}
}

// unstore takes a server from its volumes.
func unstore(k *Known, server string) {
	delete(k.Enrolments, server)
	for id, v := range k.Volumes {
		v.Enrolments = slices.Clone(v.Enrolments)
		v.Enrolments = slices.DeleteFunc(v.Enrolments, func(e backup.Enrolment) bool { return e.Server == server })
		k.Volumes[id] = v
	}
}

// carryOut is what is known and seen after the repairs: the ledger has stored them, and
// the functions that they are for have done their work.
func carryOut(k Known, s Seen, repairs []Repair) (Known, Seen) {
	k.Enrolments, k.Volumes, k.Runs = maps.Clone(k.Enrolments), maps.Clone(k.Volumes), maps.Clone(k.Runs)
	k.Records, s.Servers, s.Backups = maps.Clone(k.Records), slices.Clone(s.Servers), slices.Clone(s.Backups)
	for _, r := range repairs {
		switch r := r.(type) {
		case Enroll:
			store(&k, r.Enrolment, r.Volumes)
		case Withdraw:
			unstore(&k, r.Enrolment.Server)
			store(&k, backup.Enrolment{Server: "none"}, nil)
			delete(k.Enrolments, "none")
		case Adopt:
			if _, open := k.Runs[r.Run.Volume]; !open {
				k.Runs[r.Run.Volume] = r.Run
			}
		case Discard:
			s.Backups = slices.DeleteFunc(s.Backups, func(b backup.CinderBackup) bool { return b.ID == r.Backup })
			delete(k.Records, r.Backup)
		case Remember:
			for _, b := range r.Records {
				k.Records[b.ID] = b
			}
			if k.Retention != nil {
				k.Retention = &backup.Retention{Due: noon, Removals: k.Retention.Removals}
			}
		case Raise:
			if v, ok := k.Volumes[r.Volume]; ok {
				if r.State.LastSlot.After(v.State.LastSlot) {
					v.State.LastSlot = r.State.LastSlot
				}
				if r.State.LastComplete.After(v.State.LastComplete) {
					v.State.LastComplete = r.State.LastComplete
				}
				k.Volumes[r.Volume] = v
			}
		case Forget:
			for _, b := range r.Gone {
				delete(k.Records, b.ID)
			}
		case Disown:
			k.Foreign = r.All
		case Stamp:
			for i, server := range s.Servers {
				if server.ID == r.Server {
					s.Servers[i].Metadata = maps.Clone(server.Metadata)
					s.Servers[i].Metadata[backup.StampKey] = r.At.Format(time.RFC3339)
				}
			}
		}
	}
	return k, s
}
