package plan

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"staffeln/functions/backup"
)

// Make decides what would be done at at. It asks nobody.
func Make(s backup.Settings, f Facts, at time.Time) Plan {
	at = at.UTC().Truncate(time.Second)
	j := &judge{Settings: s, Facts: f, at: at, protected: protect(s, &f, at),
		backups: map[key][]backup.CinderBackup{}, unserved: map[string]string{}}
	for _, b := range f.Backups {
		k := key{b.Project, b.Volume}
		j.backups[k] = append(j.backups[k], b)
		if j.unserved[b.Project] == "" {
			j.unserved[b.Project] = backup.Unserved([]backup.CinderBackup{b})
		}
	}
	p := Plan{At: at, Read: f.Read.UTC().Truncate(time.Second), Ledger: "asked", Backups: []Backup{}, Retention: []Fate{}, Foreign: j.foreign(), Warnings: []Warning{}, Projects: []Project{}}
	if f.Memory == nil {
		p.Ledger = cmp.Or(f.NoMemory, "none")
	}
	p.Backups = append(p.Backups, j.starts()...)
	j.retention(&p)
	p.Warnings = append(p.Warnings, j.warnings()...)
	j.sortAll(&p)
	return p
}

type key struct{ project, volume string }

// judge is a plan in the making.
type judge struct {
	backup.Settings
	Facts
	at        time.Time
	protected protection
	backups   map[key][]backup.CinderBackup
	// unserved are the ids of backups that no cinder-backup service took, by project.
	unserved map[string]string
}

// protection is what Nova and Cinder say is to be protected, as enroll and
// reconcile see it.
type protection struct {
	// volumes are the protected ones with their enrolments, by id, ids their order.
	volumes map[string]backup.Protected
	ids     []string
	// cinder are all volumes there are.
	cinder   map[string]backup.Volume
	warnings []Warning
}

// recollection is what a look at a server at the time of reading would go by: the
// ledger, or the trails that backups are where that does not know.
func recollection(f *Facts) func(server backup.Server) backup.Remembered {
	enrolments := map[string]backup.Enrolment{}
	if f.Memory != nil {
		for _, v := range f.Memory.Volumes {
			for _, e := range v.Enrolments {
				enrolments[e.Server] = e
			}
		}
	}
	trails := backup.Trails(f.Backups)
	return func(server backup.Server) backup.Remembered {
		if f.Memory == nil || !f.Memory.Ready[server.Project] {
			return backup.Remembered{Trails: trails}
		}
		e, enrolled := enrolments[server.ID]
		return backup.Remembered{Enrolment: e, Enrolled: enrolled, Volumes: f.Memory.Volumes}
	}
}

// protect decides about every server as enroll and reconcile would: at the time of
// reading, when an attempt on a locked class is seen at the latest, and then at at.
func protect(s backup.Settings, f *Facts, at time.Time) protection {
	p := protection{volumes: map[string]backup.Protected{}, cinder: make(map[string]backup.Volume, len(f.Volumes))}
	for _, v := range f.Volumes {
		p.cinder[v.ID] = v
	}
	remembered := recollection(f)
	servers := slices.SortedFunc(slices.Values(f.Servers), func(a, b backup.Server) int { return cmp.Compare(a.ID, b.ID) })
	for _, server := range servers {
		warn := func(volume, why string) {
			p.warnings = append(p.warnings, Warning{Project: server.Project, Server: server.ID, ServerName: server.Name, Volume: volume, Why: why})
		}
		wish := backup.ReadWish(server.Metadata, server.Tags, s.Keys, s.Classes)
		r := remembered(server)
		d := s.Classes.Decide(server, wish, r, s.Keys, f.Read)
		if s.Classes.Locked() && at.After(f.Read) {
			r = after(s, d, server, p.cinder, r, f.Read)
			d = s.Classes.Decide(server, wish, r, s.Keys, at)
		}
		if !d.Attempt.None() {
			warn("", "still protected: "+d.Wish.Why)
		}
		for _, problem := range d.Wish.Problems {
			warn("", problem)
		}
		if !d.Wish.In {
			continue
		}
		e, protected, missing, _ := s.Classes.Enrol(d, server, p.cinder, r, s.Keys, later(f.Read, at))
		for _, v := range protected {
			if !v.Attempt.None() {
				warn(v.Volume, "still protected: "+s.Classes.Of(e).Held(v.Attempt))
			}
		}
		for _, id := range missing {
			warn(id, "volume not protected: not found in the server's project")
		}
		if len(server.Volumes) == 0 {
			warn("", "opted in, and has nothing to protect: no volume is attached")
		}
		for _, v := range protected {
			if before, ok := p.volumes[v.Volume]; ok {
				v.Enrolments = before.Enrolments
			} else {
				p.ids = append(p.ids, v.Volume)
			}
			v.Enrolments = append(v.Enrolments, e)
			p.volumes[v.Volume] = v
		}
	}
	return p
}

// after is what is remembered of a server after a decision.
func after(s backup.Settings, d backup.Decision, server backup.Server, cinder map[string]backup.Volume, r backup.Remembered, read time.Time) backup.Remembered {
	e, protected, _, _ := s.Classes.Enrol(d, server, cinder, r, s.Keys, read)
	out := backup.Remembered{Enrolment: e, Enrolled: d.Wish.In, Volumes: map[string]backup.Protected{}}
	for _, v := range protected {
		v.Enrolments = r.Volumes[v.Volume].Enrolments
		out.Volumes[v.Volume] = v
	}
	return out
}

func later(a, b time.Time) time.Time {
	if b.After(a) {
		return b
	}
	return a
}

// recall fills in how far the volumes' runs have come: by what the ledger remembers,
// which is what dispatch goes by, or else by what the backups' own metadata tell, of
// which reconcile rebuilds a ledger.
func (p *protection) recall(f *Facts) {
	known := func(project string) bool { return f.Memory != nil && f.Memory.Ready[project] }
	for id, v := range p.volumes {
		if known(v.Project) && f.Memory.Volumes[id].Project == v.Project {
			v.State = f.Memory.Volumes[id].State
			p.volumes[id] = v
		}
	}
	for _, b := range f.Backups {
		v, ok := p.volumes[b.Volume]
		slot, _, isRun := b.Run()
		if !ok || known(v.Project) || !isRun || b.Project != v.Project || b.Status != "available" && b.Status != "restoring" {
			continue
		}
		if slot.After(v.State.LastSlot) && !slot.After(f.Read) { // not one that a wrong clock planned
			v.State.LastSlot = slot
		}
		if b.Created.After(v.State.LastComplete) {
			v.State.LastComplete = b.Created
		}
		p.volumes[b.Volume] = v
	}
}

// about are the projects that a plan says anything of: those with opted-in servers
// or with backups that carry our metadata.
func about(s backup.Settings, f *Facts, at time.Time) []string {
	in := map[string]bool{}
	p := protect(s, f, at)
	for _, v := range p.volumes {
		in[v.Project] = true
	}
	for _, w := range p.warnings {
		in[w.Project] = true
	}
	for _, b := range f.Backups {
		if b.Ours() || b.Foreign() {
			in[b.Project] = true
		}
	}
	delete(in, "")
	return slices.Sorted(maps.Keys(in))
}

// warnings are what somebody should know.
func (j *judge) warnings() []Warning {
	out := slices.Clone(j.protected.warnings)
	for id, why := range j.Unread {
		out = append(out, Warning{Project: id, Why: "not read, and left out: " + why})
	}
	if j.Services.Known && j.Services.Up == 0 {
		out = append(out, Warning{Why: "no cinder-backup service is up: nothing starts"})
	}
	out = append(out, j.believed()...)
	if j.Memory == nil {
		return out
	}
	listed := map[string]bool{}
	for _, b := range j.Facts.Backups {
		listed[b.ID] = true
	}
	for project, records := range j.Memory.Records {
		n := 0
		for _, r := range records {
			if !listed[r.ID] {
				n++
			}
		}
		if n > 0 {
			out = append(out, Warning{Project: project, Why: fmt.Sprintf(
				"Cinder's list lacks %d backups that the ledger knows: retention asks for each by its id, and removes nothing while one is still there", n)})
		}
	}
	return out
}

// sortAll puts names to projects and everything in order.
func (j *judge) sortAll(p *Plan) {
	name := func(id string) string { return j.Facts.Projects[id].Name }
	for i := range p.Backups {
		p.Backups[i].ProjectName = name(p.Backups[i].Project)
	}
	for i := range p.Retention {
		p.Retention[i].ProjectName = name(p.Retention[i].Project)
	}
	for i := range p.Foreign {
		p.Foreign[i].ProjectName = name(p.Foreign[i].Project)
	}
	sortForeign(p.Foreign)
	for i := range p.Warnings {
		p.Warnings[i].ProjectName = name(p.Warnings[i].Project)
	}
	slices.SortFunc(p.Projects, func(a, b Project) int {
		return cmp.Or(strings.Compare(a.Name, b.Name), strings.Compare(a.ID, b.ID))
	})
	slices.SortFunc(p.Backups, func(a, b Backup) int {
		return cmp.Or(strings.Compare(a.ProjectName, b.ProjectName), strings.Compare(a.Project, b.Project),
			strings.Compare(a.ServerName, b.ServerName), strings.Compare(a.Server, b.Server),
			strings.Compare(a.VolumeName, b.VolumeName), strings.Compare(a.Volume, b.Volume))
	})
	slices.SortFunc(p.Retention, func(a, b Fate) int {
		return cmp.Or(strings.Compare(a.ProjectName, b.ProjectName), strings.Compare(a.Project, b.Project),
			strings.Compare(a.VolumeName, b.VolumeName), strings.Compare(a.Volume, b.Volume),
			a.Created.Compare(b.Created), strings.Compare(a.Backup, b.Backup))
	})
	slices.SortFunc(p.Warnings, func(a, b Warning) int {
		return cmp.Or(strings.Compare(a.ProjectName, b.ProjectName), strings.Compare(a.Project, b.Project),
			strings.Compare(a.ServerName, b.ServerName), strings.Compare(a.Server, b.Server),
			strings.Compare(a.Volume, b.Volume), strings.Compare(a.Why, b.Why))
	})
}
