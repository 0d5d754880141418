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
func (s Settings) Make(f Facts, at time.Time) Plan {
	at = at.UTC().Truncate(time.Second)
	j := &judge{Settings: s, Facts: f, at: at, protected: s.protect(&f, at),
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
	Settings
	Facts
	at        time.Time
	protected protection
	backups   map[key][]backup.CinderBackup
	// count are the protected volumes that are not skipped, by project.
	count map[string][]backup.Protected
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

// remembered is what a look at a server at the time of reading would go by: the
// ledger, or the trails that backups are where that does not know.
func (s Settings) remembered(f *Facts) func(server backup.Server) backup.Remembered {
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
func (s Settings) protect(f *Facts, at time.Time) protection {
	p := protection{volumes: map[string]backup.Protected{}, cinder: make(map[string]backup.Volume, len(f.Volumes))}
	for _, v := range f.Volumes {
		p.cinder[v.ID] = v
	}
	remembered := s.remembered(f)
	servers := slices.SortedFunc(slices.Values(f.Servers), func(a, b backup.Server) int { return cmp.Compare(a.ID, b.ID) })
	for _, server := range servers {
		warn := func(volume, why string) {
			p.warnings = append(p.warnings, Warning{Project: server.Project, Server: server.ID, ServerName: server.Name, Volume: volume, Why: why})
		}
		wish := backup.ReadWish(server.Metadata, server.Tags, s.Keys, s.Classes)
		r := remembered(server)
		d := s.Classes.Decide(server, wish, r, s.Keys, f.Read)
		if s.Classes.Locked() && at.After(f.Read) {
			r = s.after(d, server, p.cinder, r, f.Read)
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
func (s Settings) after(d backup.Decision, server backup.Server, cinder map[string]backup.Volume, r backup.Remembered, read time.Time) backup.Remembered {
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
func (s Settings) about(f *Facts, at time.Time) []string {
	in := map[string]bool{}
	p := s.protect(f, at)
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

// retention decides about all backups of ours, and sums up.
func (j *judge) retention(p *Plan) {
	volumes := map[string][]string{} // with backups of ours, by project
	for k, all := range j.backups {
		if slices.ContainsFunc(all, backup.CinderBackup.Ours) {
			volumes[k.project] = append(volumes[k.project], k.volume)
		}
	}
	projects := map[string]bool{}
	for project := range volumes {
		projects[project] = true
	}
	for _, b := range p.Backups {
		projects[b.Project] = true
	}
	for _, f := range p.Foreign {
		projects[f.Project] = true
	}
	for _, w := range j.protected.warnings {
		projects[w.Project] = true
	}
	cloud := backup.Outlook{}
	rows := map[string][]Fate{}
	sums := map[string]backup.Outlook{}
	for project := range projects {
		var all []backup.Fate
		for _, volume := range volumes[project] {
			fates, made := j.volume(project, volume)
			all = append(all, fates...)
			rows[project] = append(rows[project], made...)
		}
		sums[project] = backup.OutlookOf(all)
		cloud = cloud.Add(sums[project])
	}
	whole := j.Brake
	whole.From *= 2
	p.Cloud = sum(cloud, whole, time.Time{}, 0, j.at)
	if j.Memory != nil {
		if j.Only != "" {
			cloud = j.Memory.Outlook
		}
		p.Cloud = sum(cloud, whole, j.Memory.Released, j.Memory.Most, j.at)
	} else if j.Only != "" {
		p.Cloud = Sum{}
	}
	for project := range projects {
		one := Project{ID: project, Name: j.Facts.Projects[project].Name}
		r := backup.Retention{}
		if j.Memory != nil {
			r = j.Memory.Retention[project]
		}
		one.Sum = sum(sums[project], j.Brake, r.Released, r.Most, j.at)
		one.HeldNow = r.Held
		one.Held = j.held(one, p.Cloud)
		if q, ok := j.Quotas[project]; ok {
			one.Quota = &Quota{
				Backups: q.Backups.Limit, BackupsUsed: q.Backups.Used + q.Backups.Reserved,
				Gigabytes: q.Gigabytes.Limit, GigabytesUsed: q.Gigabytes.Used + q.Gigabytes.Reserved,
			}
		}
		p.Projects = append(p.Projects, one)
		for _, row := range rows[project] {
			if row.Verdict == Remove && row.Blocked == "" {
				row.Blocked = one.Held
			}
			p.Retention = append(p.Retention, row)
		}
	}
}

// held says why nothing of a project would be removed.
func (j *judge) held(p Project, cloud Sum) string {
	switch {
	case j.Gone[p.ID]:
		return "OpenStack has no such project any more, and gives no token for it"
	case j.Memory != nil && !j.Memory.Ready[p.ID]:
		return "the ledger is not complete: nothing is removed before the next reconcile"
	case j.Clock.IsZero():
		return "what time it is by the cloud's own clock is not known"
	case backup.Ahead(j.Read, j.Clock):
		return fmt.Sprintf("this machine's clock is %s ahead of the cloud's", j.Read.Sub(j.Clock).Round(time.Second))
	case p.Sum.Held():
		return "brake of the project: " + p.Brake
	case cloud.Held():
		return "brake of the cloud: " + cloud.Brake
	}
	return ""
}

func sum(o backup.Outlook, brake backup.Brake, released time.Time, most int, at time.Time) Sum {
	s := Sum{RestorePoints: o.Backups, Removals: o.Removals, Chains: float64(o.Chains) / 1000, ChainsRemoved: float64(o.Losses) / 1000}
	if trips, why := brake.Trips(o); trips {
		s.Brake = why
		if at.Before(released) && o.Removals <= most {
			s.Released, s.ReleasedFor = released.UTC(), most
		}
	}
	return s
}

// volume decides about the backups of one volume.
func (j *judge) volume(project, volume string) ([]backup.Fate, []Fate) {
	h := backup.Holding{Project: project, Volume: volume, Backups: j.backups[key{project, volume}], Orphan: j.Orphan,
		Parents: map[string]string{}, Gone: j.goneSince(project, volume)}
	if v, ok := j.protected.volumes[volume]; ok && v.Project == project {
		p := j.Classes.Strictest(v.Enrolments, j.at)
		h.Policy = &p
		h.Busy = j.underWay(v) != ""
	} else {
		h.Busy = j.underWay(backup.Protected{Project: project, Volume: volume}) != ""
	}
	removals := map[string]backup.Removal{}
	if j.Memory != nil {
		for _, r := range j.Memory.Records[project] {
			if r.Volume == volume && r.Parent != "" {
				h.Parents[r.ID] = r.Parent
			}
		}
		removals = j.Memory.Retention[project].Removals
	}
	fates := j.retain(h)
	step, stuck := steps(fates)
	rows := []Fate{}
	for _, f := range fates {
		b := f.Backup
		if !b.Ours() {
			continue
		}
		row := Fate{
			Project: project, Volume: volume, Backup: b.ID, Name: b.Name, Kind: backup.Full, Status: b.Status, Container: b.Container,
			Size: b.Size, Created: b.Created.UTC(), Verdict: Keep, Why: f.Why, Until: f.Until, Newest: f.Newest, Broken: f.Broken,
			Chain: f.Chain, Children: append([]string{}, f.Children...),
		}
		if !f.Until.IsZero() {
			row.Until = f.Until.UTC()
		}
		if b.Incremental {
			row.Kind = backup.Incremental
		}
		if v, ok := j.protected.cinder[volume]; ok && v.Project == project {
			row.VolumeName = v.Name
		}
		if !f.Keep {
			row.Verdict, row.Step = Remove, step[b.ID]
			row.Blocked = cmp.Or(stuck[b.ID], removals[b.ID].Trouble)
		}
		rows = append(rows, row)
	}
	return fates, rows
}

// goneSince is since when a volume is not there any more; zero while it is, and
// where that is not known.
func (j *judge) goneSince(project, volume string) time.Time {
	if v, ok := j.protected.cinder[volume]; ok && v.Project == project {
		return time.Time{}
	}
	if j.Memory != nil {
		if a, ok := j.Memory.Retention[project].Gone[volume]; ok && (a.Times >= 2 || j.at.After(j.Read)) {
			return a.Since
		}
	}
	if j.at.After(j.Read) {
		return j.Read
	}
	return time.Time{}
}

// retain applies the rules, and the one that retention adds to them: dispatch counts
// a slot's attempts by what is left of them in Cinder, and so a broken one stays
// until its slot is over.
func (j *judge) retain(h backup.Holding) []backup.Fate {
	fates := backup.Retain(h, j.at)
	v, ok := j.protected.volumes[h.Volume]
	for i, f := range fates {
		slot, _, isRun := f.Backup.Run()
		if f.Broken && !f.Keep && isRun && ok && v.Project == h.Project && slot.After(v.State.LastSlot) {
			fates[i].Keep, fates[i].Why = true, "its slot is not over"
		}
	}
	return fates
}

// steps is the order in which the removals of a volume go, from 1, and what stands
// in the way of the others. Those of a step are taken for gone before the next is
// looked for.
func steps(fates []backup.Fate) (step map[string]int, stuck map[string]string) {
	step, stuck = map[string]int{}, map[string]string{}
	fates = slices.Clone(fates)
	for n := 1; ; n++ {
		next := backup.NextStep(fates)
		if len(next.Delete) == 0 {
			for _, f := range next.Wait {
				stuck[f.Backup.ID] = "Cinder is still removing what builds on it"
				if f.Backup.Status == "deleting" {
					stuck[f.Backup.ID] = "Cinder is removing it"
				}
			}
			maps.Copy(stuck, next.Stuck)
			return step, stuck
		}
		for _, f := range next.Delete {
			step[f.Backup.ID] = n
		}
		for i, f := range fates {
			if step[f.Backup.ID] == n {
				fates[i].Backup.Status = "deleted"
			}
		}
	}
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
