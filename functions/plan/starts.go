package plan

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"time"

	"staffeln/functions/backup"
)

// due are the projects in which a volume's turn has come at at.
func (s Settings) due(f *Facts, at time.Time) []string {
	in := map[string]bool{}
	p := s.protect(f, at)
	p.recall(f)
	for _, v := range p.volumes {
		if turn(s.Classes.Strictest(v.Enrolments, at), &v, f.Read, at).Now {
			in[v.Project] = true
		}
	}
	return slices.Sorted(maps.Keys(in))
}

// turn says whether a volume's slot has come at at. Of one that is not behind at the
// time of reading, the slots that come and go between the two are taken as done:
// they were not missed.
func turn(p backup.Policy, v *backup.Protected, read, at time.Time) backup.Turn {
	if at.After(read) && !backup.WhoseTurn(p, v.Volume, v.State, read).Now {
		before := p.Schedule.Slot(p.Schedule.Slot(at).Add(-time.Second))
		if before.After(v.State.LastSlot) {
			v.State.LastSlot, v.State.LastComplete = before, before
		}
	}
	return backup.WhoseTurn(p, v.Volume, v.State, at)
}

// candidate is a volume whose turn it is.
type candidate struct {
	backup.Protected
	policy backup.Policy
	turn   backup.Turn
	row    Backup
}

// starts are all protected volumes and what their turn comes to.
func (j *judge) starts() []Backup {
	j.protected.recall(&j.Facts)
	j.count = map[string][]backup.Protected{}
	for _, id := range j.protected.ids {
		if v := j.protected.volumes[id]; v.Skip == "" {
			j.count[v.Project] = append(j.count[v.Project], v)
		}
	}
	var rows []Backup
	var turns []*candidate
	for _, id := range j.protected.ids {
		c := &candidate{Protected: j.protected.volumes[id]}
		c.policy = j.Classes.Strictest(c.Enrolments, j.at)
		c.turn = turn(c.policy, &c.Protected, j.Read, j.at)
		c.row = j.row(c)
		if j.early(c) {
			rows = append(rows, c.row)
		} else {
			turns = append(turns, c)
		}
	}
	slices.SortStableFunc(turns, func(a, b *candidate) int {
		return cmp.Or(a.row.Due.Compare(b.row.Due), cmp.Compare(a.Volume, b.Volume))
	})
	for _, group := range backup.ByProject(turns, func(c *candidate) string { return c.Project }) {
		j.project(group)
	}
	j.admit(turns)
	for _, c := range turns {
		rows = append(rows, c.row)
	}
	return rows
}

func (j *judge) row(c *candidate) Backup {
	b := Backup{
		Project: c.Project, Volume: c.Volume, VolumeName: c.Name, Size: c.Size, Class: c.policy.Class,
		Slot: c.turn.Slot, Due: c.turn.Next, Why: c.turn.Why,
	}
	if len(c.Enrolments) > 0 {
		b.Server, b.ServerName = c.Enrolments[0].Server, c.Enrolments[0].Name
	}
	return b
}

// early settles the volumes that are not looked at further: those under way, those
// whose turn has not come, and those that lie in a blackout.
func (j *judge) early(c *candidate) bool {
	row, s := &c.row, c.State
	if why := j.underWay(c.Protected); why != "" {
		row.Do, row.Why = Running, why
		return true
	}
	if c.Skip != "" {
		row.Do, row.Why, row.Theirs = Skip, c.Skip, true
		return true
	}
	if !c.turn.Now {
		row.Do = Later
		return true
	}
	row.Due = j.came(c)
	if end, why, dark := c.policy.Blackouts.Until(j.at, c.policy.Schedule.Zone()); dark {
		row.Do, row.Due, row.Why = Wait, end, why
		return true
	}
	if tried := s.Waiting.Equal(c.turn.Slot) || s.Retry.Equal(c.turn.Slot); tried && s.Due.After(j.at) {
		row.Do, row.Due, row.Theirs, row.Why = Wait, s.Due, s.Theirs, s.Why
		return true
	}
	return false
}

// underWay says that a backup of the volume is; "" where none is.
func (j *judge) underWay(v backup.Protected) string {
	if j.Memory != nil {
		if r, ok := j.Memory.Runs[v.Volume]; ok && r.Project == v.Project {
			return fmt.Sprintf("run %s is under way since %s", r.Slot.UTC().Format(backup.Stamp), r.Started.UTC().Format(time.RFC3339))
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
func (j *judge) came(c *candidate) time.Time {
	s, slot := c.State, c.turn.Slot
	if s.Retry.Equal(slot) && !s.Due.IsZero() {
		return s.Due
	}
	before := c.policy.Schedule.Slot(slot.Add(-time.Second))
	if !s.LastSlot.Equal(before) {
		if c.Created.After(slot) && !c.Created.After(j.at) {
			return c.Created.UTC()
		}
		return slot
	}
	place := backup.WhoseTurn(c.policy, c.Volume, backup.State{LastSlot: before, LastComplete: before}, slot)
	if place.Now {
		return slot
	}
	return place.Next
}

// project decides about the volumes of one project whose turn it is, in the order
// in which they became due, each with the quota that those before it leave.
func (j *judge) project(group []*candidate) {
	id := group[0].Project
	quota, known := j.Quotas[id]
	why := ""
	switch {
	case j.Gone[id]:
		why = "OpenStack has no such project any more"
	case !known:
		why = "OpenStack did not answer: " + cmp.Or(j.QuotaErrors[id], "the quota was not asked for")
	}
	complete := map[string]bool{}
	if j.Memory != nil {
		for _, r := range j.Memory.Records[id] {
			complete[r.ID] = r.Status == "available"
		}
	}
	limit, rank, total := j.ranks(id)
	for _, c := range group {
		if why != "" {
			c.row.Do, c.row.Why = Wait, why
			continue
		}
		v := j.protected.cinder[c.Volume]
		start := backup.WhatToStart(c.policy, j.Keys, c.State, c.turn, backup.Facts{
			Volume: v, Backups: j.backups[key{id, c.Volume}], Known: complete, Quota: quota,
			Rank: rank[c.Volume], Limit: limit, Total: total, Enrolled: c.Protected, Unserved: j.unserved[id],
		}, j.at)
		c.row.Theirs, c.row.Why = start.Theirs, start.Why
		switch start.Do {
		case backup.Go:
			c.row.Do, c.row.Kind, c.row.Attempt, c.row.Container = Start, start.Kind, start.Attempt, c.policy.Container
			if c.row.Archived = start.Archived; start.Archived != "" {
				c.row.Container = c.policy.Archive.Container
			}
			c.row.Why = c.turn.Why + "; " + start.Why
			quota = quota.Charge(v.Size)
		case backup.Adopt:
			c.row.Do, c.row.Attempt, c.row.Archived = Adopt, start.Attempt, start.Archived
		case backup.Done:
			c.row.Do = Later
		case backup.Skip:
			c.row.Do = Skip
		case backup.Fail:
			c.row.Do, c.row.Attempt = Fail, start.Attempt
		default:
			c.row.Do = Wait
		}
		if !c.turn.Lost.IsZero() {
			c.row.Why += fmt.Sprintf("; slot %s has failed: could not start within its slot: %s", c.turn.Lost.UTC().Format(backup.Stamp), c.State.Why)
		}
	}
}

// ranks are the places of a project's volumes among those that count for its
// volume limit, the oldest first. limit is 0 for any number.
func (j *judge) ranks(project string) (limit int, rank map[string]int, total int) {
	limit = j.VolumeLimit
	for _, k := range []string{j.Projects[project].Name, project} {
		if n, ok := j.VolumeLimits[k]; ok && k != "" {
			limit = n
		}
	}
	count := j.count[project]
	slices.SortFunc(count, func(a, b backup.Protected) int {
		return cmp.Or(a.Created.Compare(b.Created), cmp.Compare(a.Volume, b.Volume))
	})
	rank = map[string]int{}
	for i, v := range count {
		rank[v.Volume] = i
	}
	return limit, rank, len(count)
}

// admit holds those that would start against the limits of what may be under way
// at once.
func (j *judge) admit(turns []*candidate) {
	flight := j.flight()
	nothing := ""
	switch {
	case j.Services.Known && j.Services.Up == 0:
		nothing = "nothing starts: no cinder-backup service is up"
	case j.at.Before(flight.Paused):
		nothing = fmt.Sprintf("nothing starts until %s: %s", flight.Paused.UTC().Format(time.RFC3339), flight.PausedWhy)
	}
	var want []backup.Protected
	rows := map[string]*Backup{}
	for _, c := range turns {
		row := &c.row
		if row.Do != Start && row.Do != Adopt {
			continue
		}
		if nothing != "" {
			row.Do, row.Kind, row.Attempt, row.Container, row.Archived, row.Why = Wait, "", 0, "", "", nothing
			continue
		}
		want = append(want, c.Protected)
		rows[c.Volume] = row
	}
	limits := backup.Bounds(j.Limits, j.Services, j.PerService, flight.Halvings)
	for _, p := range limits.Pick(want, flight) {
		row := rows[p.Volume.Volume]
		if !p.OK && row.Do == Start {
			row.Do = Queue
			row.Why = p.Why + "; " + row.Why
		}
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
