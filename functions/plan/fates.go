package plan

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"time"

	"staffeln/functions/backup"
	"staffeln/functions/keep"
)

// retention decides about all backups of ours, and sums up.
func (j *judge) retention(p *Plan) {
	backups := map[string][]backup.CinderBackup{}
	projects := map[string]bool{}
	for _, b := range j.Facts.Backups {
		backups[b.Project] = append(backups[b.Project], b)
		projects[b.Project] = projects[b.Project] || b.Ours()
	}
	maps.DeleteFunc(projects, func(_ string, ours bool) bool { return !ours })
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
		var all []keep.Fate
		for _, h := range keep.Holdings(project, backups[project], j.records(project)) {
			j.fill(h)
			fates := keep.Decide(*h, j.at)
			all = append(all, fates...)
			rows[project] = append(rows[project], j.rows(*h, fates)...)
		}
		sums[project] = keep.OutlookOf(all)
		cloud = cloud.Add(sums[project])
	}
	whole := j.cloud(cloud)
	if whole.Name != "" {
		p.Cloud = sum(whole, "", j.at)
	}
	for project := range projects {
		one := Project{ID: project, Name: j.Facts.Projects[project].Name}
		r := j.remembered(project)
		brake := keep.OfProject(j.Brake, r, sums[project])
		one.Sum = sum(brake, r.Held, j.at)
		one.HeldNow = r.Held
		one.Held = j.held(project, brake, whole, r.Held)
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

// remembered is what the ledger says of a project's removals.
func (j *judge) remembered(project string) backup.Retention {
	if j.Memory == nil {
		return backup.Retention{}
	}
	return j.Memory.Retention[project]
}

// records are those of a project in the ledger.
func (j *judge) records(project string) []backup.Record {
	if j.Memory == nil {
		return nil
	}
	return j.Memory.Records[project]
}

// cloud is the brake of the whole cloud, which would lose what o says. With one project asked for,
// the others are as retention last saw them; without a ledger they are not known, and the brake has
// no name.
func (j *judge) cloud(o backup.Outlook) keep.Braking {
	switch {
	case j.Memory == nil && j.Only != "":
		return keep.Braking{Brake: backup.Brake{Percent: 100}}
	case j.Memory == nil:
		return keep.OfCloud(j.Brake, o, time.Time{}, 0)
	case j.Only != "":
		o = j.Memory.Outlook.Less(j.remembered(j.Only).Outlook).Add(o)
	}
	return keep.OfCloud(j.Brake, o, j.Memory.Released, j.Memory.Most)
}

// held says why nothing of a project would be removed.
func (j *judge) held(project string, brake, cloud keep.Braking, before string) string {
	switch {
	case j.Gone[project]:
		return "OpenStack has no such project any more, and gives no token for it"
	case j.Memory != nil && !j.Memory.Ready[project]:
		return "the ledger is not complete: nothing is removed before the next reconcile"
	case j.Clock.IsZero():
		return "what time it is by the cloud's own clock is not known"
	case backup.Ahead(j.Read, j.Clock):
		return fmt.Sprintf("this machine's clock is %s ahead of the cloud's", j.Read.Sub(j.Clock).Round(time.Second))
	}
	switch name, why := keep.Braked(brake, cloud, before, j.at); name {
	case keep.ProjectBrake:
		return "brake of the project: " + why
	case keep.CloudBrake:
		return "brake of the cloud: " + why
	}
	return ""
}

func sum(b keep.Braking, held string, at time.Time) Sum {
	o := b.Outlook
	s := Sum{RestorePoints: o.Backups, Removals: o.Removals,
		Chains: float64(o.Chains) / 1000, ChainsRemoved: float64(o.Losses) / 1000}
	var released bool
	if s.Brake, released = b.Ask(held, at); released {
		s.Released, s.ReleasedFor = b.Released.UTC(), b.Most
	}
	return s
}

// fill adds what is known about the volume of a holding.
func (j *judge) fill(h *keep.Holding) {
	v, ok := j.protected.volumes[h.Volume]
	if ok && v.Project == h.Project {
		h.Fill(j.Settings, &v, backup.Absence{}, j.running(v) != "", j.at)
		return
	}
	v = backup.Protected{Project: h.Project, Volume: h.Volume}
	h.Fill(j.Settings, nil, j.missed(h.Project, h.Volume), j.running(v) != "", j.at)
}

// missed says how often a volume has been missed once retention has looked at the moment judged.
func (j *judge) missed(project, volume string) backup.Absence {
	if v, ok := j.protected.cinder[volume]; ok && v.Project == project {
		return backup.Absence{}
	}
	missed := j.remembered(project).Gone[volume]
	if j.at.After(j.Read) {
		missed = keep.Miss(missed, j.Read) // by an earlier look
	}
	return keep.Miss(missed, j.at)
}

// rows are the fates of a volume's backups of ours.
func (j *judge) rows(h keep.Holding, fates []keep.Fate) []Fate {
	removals := j.remembered(h.Project).Removals
	step, stuck := steps(fates)
	rows := []Fate{}
	for _, f := range fates {
		b := f.Backup
		if !b.Ours() {
			continue
		}
		row := Fate{
			Project: h.Project, Volume: h.Volume, Backup: b.ID, Name: b.Name, Kind: backup.Full, Status: b.Status,
			Container: b.Container, Size: b.Size, Created: b.Created.UTC(),
			Verdict: Keep, Why: f.Why, Until: f.Until, Newest: f.Newest, Broken: f.Broken,
			Chain: f.Chain, Children: append([]string{}, f.Children...),
		}
		if !f.Until.IsZero() {
			row.Until = f.Until.UTC()
		}
		if b.Incremental {
			row.Kind = backup.Incremental
		}
		if v, ok := j.protected.cinder[h.Volume]; ok && v.Project == h.Project {
			row.VolumeName = v.Name
		}
		if !f.Keep {
			row.Verdict, row.Step = Remove, step[b.ID]
			row.Blocked = cmp.Or(stuck[b.ID], removals[b.ID].Trouble)
		}
		rows = append(rows, row)
	}
	return rows
}

// steps is the order in which the removals of a volume go, from 1, and what stands
// in the way of the others. Those of a step are taken for gone before the next is
// looked for.
func steps(fates []keep.Fate) (step map[string]int, stuck map[string]string) {
	step, stuck = map[string]int{}, map[string]string{}
	fates = slices.Clone(fates)
	for n := 1; ; n++ {
		next := keep.NextStep(fates)
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
