package plan

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"time"

	"staffeln/functions/backup"
	"staffeln/functions/dispatch"
)

// due are the projects in which a volume's turn has come at at.
func due(s backup.Settings, f *Facts, at time.Time) []string {
	in := map[string]bool{}
	p := protect(s, f, at)
	p.recall(f)
	for _, v := range p.volumes {
		if look(s, v, f.Read, at).Turn.Now {
			in[v.Project] = true
		}
	}
	return slices.Sorted(maps.Keys(in))
}

// look is dispatch's look at a volume at at. If the volume is not behind at the time of
// reading, the slots that come and go between the two count as done: they were not missed.
func look(s backup.Settings, v backup.Protected, read, at time.Time) *dispatch.Decision {
	p := s.Classes.Strictest(v.Enrolments, at)
	if at.After(read) && !backup.WhoseTurn(p, v.Volume, v.State, read).Now {
		before := p.Schedule.Slot(p.Schedule.Slot(at).Add(-time.Second))
		if before.After(v.State.LastSlot) {
			v.State.LastSlot, v.State.LastComplete = before, before
		}
	}
	return dispatch.Look(v, s.Classes, at)
}

// starts are all protected volumes, and what dispatch decides about each.
func (j *judge) starts() []Backup {
	j.protected.recall(&j.Facts)
	var rows []Backup
	var turns []*dispatch.Decision
	count := map[string][]backup.Protected{}
	for _, id := range j.protected.ids {
		v := j.protected.volumes[id]
		count[v.Project] = append(count[v.Project], v)
		d := look(j.Settings, v, j.Read, j.at)
		row, why := j.row(d), j.running(v)
		switch {
		case why != "":
			row.Do, row.Theirs, row.Why = Running, false, why
		case d.Start.Do == backup.Go:
			turns = append(turns, d)
			continue
		case v.Skip != "":
			skip(&row, d)
		default:
			row.Due = d.Next.Due
		}
		rows = append(rows, row)
	}
	slices.SortStableFunc(turns, func(a, b *dispatch.Decision) int {
		return cmp.Or(j.order(a).Compare(j.order(b)), cmp.Compare(a.Volume, b.Volume))
	})
	ask := j.answers(count)
	flight := j.flight()
	limits := backup.Bounds(j.Limits, j.Services, j.PerService, flight.Halvings)
	facts := dispatch.Facts{Now: j.at, Keys: j.Keys, Flight: flight, Room: backup.NewRoom(limits, flight),
		Paused: dispatch.Paused(j.Services, flight, j.at), Ask: ask}
	for d := range dispatch.Choose(turns, facts) {
		row := j.row(d)
		row.Due, row.Container = j.came(d), d.Container
		switch do := d.Start.Do; {
		case d.Skip != "" && (do == backup.Skip || do == backup.Queue || facts.Paused != ""):
			skip(&row, d)
		case do == backup.Go:
			row.Kind, row.Attempt, row.Archived = d.Start.Kind, d.Start.Attempt, d.Start.Archived
			row.Why = d.Turn.Why + "; " + row.Why
		case do == backup.Adopt || do == backup.Fail:
			row.Attempt, row.Archived = d.Start.Attempt, d.Start.Archived
		case do == backup.Queue:
			j.foretell(&row, d, ask(d))
		}
		rows = append(rows, row)
	}
	return rows
}

// skip says that a volume is left out, whatever else would become of it.
func skip(row *Backup, d *dispatch.Decision) {
	row.Do, row.Due, row.Theirs, row.Why = Skip, d.Turn.Next, true, d.Skip+lost(d)
}

// verbs are the plan's words for what dispatch does.
var verbs = map[backup.Action]Do{backup.Go: Start, backup.Queue: Queue, backup.Adopt: Adopt, backup.Wait: Wait,
	backup.Fail: Fail, backup.Skip: Skip, backup.Later: Later, backup.Done: Later}

// foretell adds to a queued volume what would be done if there were room.
func (j *judge) foretell(row *Backup, d *dispatch.Decision, a dispatch.Answer) {
	if a.Why != "" {
		row.Why += "; " + a.Why
		return
	}
	would := backup.WhatToStart(d.Policy, j.Keys, d.State, d.Turn, a.Facts, j.at)
	if would.Do != backup.Go {
		row.Why += "; " + would.Why
		return
	}
	row.Kind, row.Attempt, row.Archived, row.Container = would.Kind, would.Attempt, would.Archived, d.Policy.Container
	if would.Archived != "" {
		row.Container = d.Policy.Archive.Container
	}
	row.Why += "; " + d.Turn.Why + "; " + would.Why
}

// row is what the plan says of a volume.
func (j *judge) row(d *dispatch.Decision) Backup {
	b := Backup{
		Project: d.Project, Volume: d.Volume, VolumeName: d.Name, Size: d.Size, Class: d.Policy.Class,
		Slot: d.Turn.Slot, Due: d.Turn.Next, Do: verbs[d.Start.Do], Theirs: d.Start.Theirs, Why: d.Start.Why + lost(d),
	}
	if len(d.Enrolments) > 0 {
		b.Server, b.ServerName = d.Enrolments[0].Server, d.Enrolments[0].Name
	}
	return b
}

// lost says that an earlier slot of the volume was lost; "" where none was.
func lost(d *dispatch.Decision) string {
	if d.Lost == nil {
		return ""
	}
	return fmt.Sprintf("; slot %s has failed: %s", d.Lost.Slot.UTC().Format(backup.Stamp), d.Lost.Why)
}

// order is by when dispatch orders volumes: when the ledger says that they became due, or
// when their turn came where it does not say.
func (j *judge) order(d *dispatch.Decision) time.Time {
	if due := j.protected.volumes[d.Volume].State.Due; !due.IsZero() && !due.After(j.at) {
		return due
	}
	return j.came(d)
}

// running says that a run of the volume is open, as dispatch sees it; "" where none is. A
// complete ledger knows them all: dispatch adopts or waits for any other backup that is
// being made.
func (j *judge) running(v backup.Protected) string {
	if j.Memory == nil || !j.Memory.Ready[v.Project] {
		return j.underWay(v)
	}
	if r, ok := j.Memory.Runs[v.Volume]; ok && r.Project == v.Project {
		return j.underWay(v)
	}
	return ""
}

// underWay says that a backup of the volume is; "" where none is.
func (j *judge) underWay(v backup.Protected) string {
	if j.Memory != nil {
		if r, ok := j.Memory.Runs[v.Volume]; ok && r.Project == v.Project {
			return fmt.Sprintf("run %s is under way since %s",
				r.Slot.UTC().Format(backup.Stamp), r.Started.UTC().Format(time.RFC3339))
		}
	}
	for _, b := range j.backups[key{v.Project, v.Volume}] {
		if slot, _, ok := b.Run(); ok && b.Status == "creating" {
			return fmt.Sprintf("run %s is under way since %s", slot.Format(backup.Stamp), b.Created.UTC().Format(time.RFC3339))
		}
	}
	return ""
}

// came is when the turn of a volume came: at its place in the window of its slot,
// or with the slot or the volume itself where it is late or new.
func (j *judge) came(d *dispatch.Decision) time.Time {
	s, slot := d.State, d.Turn.Slot
	if s.Retry.Equal(slot) && !s.Due.IsZero() {
		return s.Due
	}
	before := d.Policy.Schedule.Slot(slot.Add(-time.Second))
	if !s.LastSlot.Equal(before) {
		if d.Created.After(slot) && !d.Created.After(j.at) {
			return d.Created.UTC()
		}
		return slot
	}
	place := backup.WhoseTurn(d.Policy, d.Volume, backup.State{LastSlot: before, LastComplete: before}, slot)
	if place.Now {
		return slot
	}
	return place.Next
}

// answers answers dispatch's questions from what was read.
func (j *judge) answers(count map[string][]backup.Protected) func(*dispatch.Decision) dispatch.Answer {
	complete := map[string]bool{}
	if j.Memory != nil {
		for _, records := range j.Memory.Records {
			for _, r := range records {
				complete[r.ID] = r.Status == "available"
			}
		}
	}
	ranks := map[string]map[string]int{}
	return func(d *dispatch.Decision) dispatch.Answer {
		id := d.Project
		quota, known := j.Quotas[id]
		switch {
		case j.Gone[id]:
			return dispatch.Answer{Why: "OpenStack has no such project any more"}
		case !known:
			why := cmp.Or(j.QuotaErrors[id], "the quota was not asked for")
			return dispatch.Answer{Why: "OpenStack did not answer: " + why}
		}
		if ranks[id] == nil {
			ranks[id] = backup.Ranks(count[id])
		}
		limit := backup.VolumeLimit(j.VolumeLimit, j.VolumeLimits, backup.Project{ID: id, Name: j.Projects[id].Name})
		return dispatch.Answer{Facts: backup.Facts{
			Volume: j.protected.cinder[d.Volume], Backups: j.backups[key{id, d.Volume}], Known: complete, Quota: quota,
			Rank: ranks[id][d.Volume], Total: len(ranks[id]), Limit: limit,
			Enrolled: d.Protected, Unserved: j.unserved[id],
		}}
	}
}

// flight is what is under way, as the ledger or, without one, Cinder says.
func (j *judge) flight() backup.InFlight {
	if j.Memory != nil {
		return j.Memory.Flight
	}
	f := backup.InFlight{ByProject: map[string]int{}, ByBackend: map[string]int{}}
	for _, b := range j.Facts.Backups {
		if b.Ours() && b.Status == "creating" {
			f.Total++
			f.ByProject[b.Project]++
			if v := j.protected.cinder[b.Volume]; v.Backend != "" {
				f.ByBackend[v.Backend]++
			}
		}
	}
	return f
}
